//! What stands in for Kerberos in a build without the feature `negotiate`: the configuration is refused before it is asked.

use std::convert::Infallible;

use crate::failure::{Cause, Failure};

pub struct Context(Infallible);

#[derive(Clone)]
pub struct Wish {
    pub service: Service,
    pub delegate: bool,
    pub certificate: Option<Vec<u8>>,
}

#[derive(Clone)]
pub enum Service {
    Host(String),
    Principal(String),
}

/// # Errors
/// Always.
pub async fn begin(_: Wish) -> Result<(Context, Vec<u8>), Failure> {
    Err(Failure::new(Cause::Credential, "Kerberos is not in this build"))
}

impl Context {
    /// # Errors
    /// It cannot come to this.
    pub fn answer(&mut self, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self.0 {}
    }
}
