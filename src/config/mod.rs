//! The configuration: its files joined into one document, and the document lowered into [`Config`] (names joined, defaults
//! filled). Mistakes do not stop the reading: all of them are collected in a report.

mod describe;
pub mod load;
pub mod meant;
pub mod schema;

pub use load::{Loaded, Request, load, named_files};
pub use meant::*;
