//! RSA-SHA1 in builds without OpenSSL: refused, with the build that has it.

use crate::failure::Failure;
use crate::provided::SecretRef;
use crate::settings::{Decode, Fields};

pub enum Sha1Key {}

impl Sha1Key {
    pub fn read(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Self> {
        let place = fields.get("signature_method").map_or(fields.place, |node| node.place);
        decode
            .report
            .error("unsupported", place, "RSA-SHA1 is not supported by this build")
            .help("take RSA-SHA256 if the server knows it, or a build with the feature `openssl`, as the image has it");
        None
    }

    pub fn values(&self) -> std::iter::Empty<&SecretRef> {
        match *self {}
    }

    /// # Errors
    /// Never: there is none.
    pub fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Failure> {
        match *self {}
    }
}
