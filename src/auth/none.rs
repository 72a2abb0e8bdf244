//! `none`: takes away what an earlier rule gave. In a rule it is the word `none`; as a type it adds nothing.

use std::sync::Arc;

use super::{Attempt, Authorizer, Locations, Round, Scheme, Shape, Signed};
use crate::draft::Draft;
use crate::failure::Failure;

pub static SCHEME: Scheme = Scheme {
    name: "none",
    doc: "Adds nothing; takes away what an earlier rule gave.",
    short: Some(Shape::Json),
    settings: &[],
    build: |_, _, _| Some(Arc::new(None)),
};

struct None;

impl Authorizer for None {
    fn locations(&self) -> Locations {
        Locations::default()
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<None> {
    fn sign(&mut self, _: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        Ok(Signed::default())
    }
}
