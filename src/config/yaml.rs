//! YAML text to a tree that remembers places.

use super::report::Place;

/// One node of the document.
#[derive(Clone)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written, as far as it can be told.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the order written; keys are unique.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone)]
pub struct Key {
    pub place: Place,
    pub text: String,
}
