//! The configuration: its files joined into one document, and the document lowered into [`Config`] (names joined, defaults
//! filled). Mistakes do not stop the reading: all of them are collected in a report.

mod describe;
pub mod load;
pub mod meant;
pub mod schema;
pub mod spiffe;
pub mod token;
mod ways;

pub use load::{Loaded, NEGOTIATE, Request, bundle, certificate, header_name, load, named_files};
pub use meant::*;
pub use schema::{AuthType, Setting};
pub use spiffe::SpiffeId;
pub use token::TokenUri;
