//! Text to values: YAML to a [`Node`] tree that remembers places, then by [`Decode`] to texts, numbers, times, paths and
//! secrets, with variables replaced. What is wrong is collected in a [`Report`], which shows each mistake where it stands and
//! nothing that may be secret. What the values are for is no concern of this room: whoever reads a document gives it a
//! [`Schema`].

pub mod decode;
mod literal;
pub mod report;
mod safe;
pub mod shape;
pub mod shown;
mod units;
mod values;
mod withheld;
pub mod yaml;

pub use decode::{Decode, Fields, Scope, nearest};
pub use report::{Diagnostic, Place, Report, Severity};
pub use safe::Safe;
pub use shape::{Definition, Field, Schema, Shape};
pub use shown::quoted;
pub use units::parse_duration;
pub use values::{Command, Pem, Text};
pub use yaml::{Node, Value};
