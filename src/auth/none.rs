//! `none`: takes away what an earlier rule gave. In a rule it is the word `none`; as a type it adds nothing.

use super::{Authorizer, Round, Scheme, Shape, Spot};
use crate::draft::Draft;
use crate::failure::Failure;

pub static SCHEME: Scheme = Scheme {
    name: "none",
    doc: "Adds nothing; takes away what an earlier rule gave.",
    short: Some(Shape::Json),
    settings: &[],
    build: |_, _, _| Some(std::sync::Arc::new(None)),
};

struct None;

impl Authorizer for None {
    fn writes(&self) -> Vec<Spot> {
        Vec::new()
    }
    fn sign(&self, _: &mut Draft, _: &Round<'_>) -> Result<(), Failure> {
        Ok(())
    }
}
