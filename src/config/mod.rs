//! Text to meaning, in two steps: YAML to a [`Node`] tree that remembers places, then by [`decode`]
//! into [`Config`] (names joined, defaults filled, variables and secrets resolved). Mistakes do not
//! stop the reading: all of them are collected in a [`Report`].

pub mod decode;
mod describe;
mod keyring;
mod literal;
pub mod load;
pub mod meant;
mod programs;
pub mod report;
mod safe;
pub mod schema;
mod shape;
pub mod shown;
pub mod spiffe;
pub mod token;
mod units;
mod ways;
mod withheld;
pub mod yaml;

pub use decode::{Decode, Fields, Scope, nearest};
pub use load::{Loaded, NEGOTIATE, Request, bundle, certificate, header_name, load, named_files};
pub use meant::*;
pub use report::{Diagnostic, Place, Report, Severity};
pub use schema::{AuthType, Setting, Shape};
pub use shown::quoted;
pub use spiffe::SpiffeId;
pub use token::TokenUri;
pub use units::parse_duration;
pub use yaml::{Node, Value};
