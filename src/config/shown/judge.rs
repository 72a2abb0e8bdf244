//! What of a document may be shown: every scalar is judged by the shape that the schema, or the auth type's own table,
//! declares for its place; where none is declared, it is not shown.

use super::forms::{self, Known};
use super::scalars::{Found, Spot};
use crate::config::schema::{RULE, SECRET, Shape, TOP};
use crate::config::shape::{AuthType, Field};

/// One scalar of a text.
pub struct Judged {
    /// From and to which character.
    pub span: (usize, usize),
    pub shown: bool,
}

pub struct Judge<'a> {
    types: &'a [AuthType],
    known: &'a Known,
    scalars: Vec<Judged>,
    hidden: Vec<String>,
}

/// What is declared for a place.
#[derive(Clone, Copy)]
enum Declared {
    Nothing,
    Of(Shape),
    /// The settings of this auth type.
    Type(AuthType),
}

impl Declared {
    /// For the items of a list in its place.
    fn item(self) -> Self {
        match self {
            Self::Of(Shape::Many(one) | Shape::List(one)) => Self::Of(*one),
            Self::Of(Shape::OneOf(shapes)) => {
                let many = shapes.iter().find(|one| matches!(one, Shape::Many(_) | Shape::List(_)));
                many.map_or(Self::Nothing, |many| Self::Of(*many).item())
            }
            Self::Type(AuthType { short: Some(short), .. }) => Self::Of(short).item(),
            _ => Self::Nothing,
        }
    }
}

impl Judge<'_> {
    /// The scalars of a document in order, each once, shown only where every alias of it may be; and the texts that are not
    /// shown.
    pub fn of(root: &Spot, types: &[AuthType], of: Option<AuthType>, known: &Known) -> (Vec<Judged>, Vec<String>) {
        let mut judge = Judge { types, known, scalars: Vec::new(), hidden: Vec::new() };
        judge.value(root, of.map_or(Declared::Of(Shape::Root), Declared::Type));
        let Judge { mut scalars, mut hidden, .. } = judge;
        scalars.sort_by_key(|scalar| (scalar.span, scalar.shown));
        scalars.dedup_by_key(|scalar| scalar.span);
        hidden.sort_unstable();
        hidden.dedup();
        (scalars, hidden)
    }

    fn scalar(&mut self, spot: &Spot, text: &str, shown: bool) {
        if spot.span.0 < spot.span.1 {
            self.scalars.push(Judged { span: spot.span, shown });
        }
        if !shown {
            self.hidden.push(text.to_owned());
        }
    }

    fn value(&mut self, spot: &Spot, declared: Declared) {
        match &spot.value {
            Found::Null => self.scalar(spot, "", true),
            Found::Scalar(text) => {
                let shape = match declared {
                    Declared::Of(shape) | Declared::Type(AuthType { short: Some(shape), .. }) => shape,
                    // As of a secret, a reference alone is shown.
                    Declared::Nothing | Declared::Type(_) => Shape::Secret,
                };
                self.scalar(spot, text, forms::is_harmless(shape, text, self.known));
            }
            Found::List(items) => match declared {
                Declared::Of(Shape::Command) | Declared::Type(AuthType { short: Some(Shape::Command), .. }) => {
                    let shape = |n: usize| if n == 0 { Shape::Command } else { Shape::Argument };
                    items.iter().enumerate().for_each(|(n, item)| self.value(item, Declared::Of(shape(n))));
                }
                _ => items.iter().for_each(|item| self.value(item, declared.item())),
            },
            Found::Map(entries) => {
                for (key, value) in entries {
                    let (shown, within) = match &key.value {
                        Found::Scalar(text) => self.entry(text, declared),
                        _ => (false, Declared::Nothing),
                    };
                    match &key.value {
                        // `{ TOP }` is a map with a key and nothing behind it, which was hardly meant as a key.
                        Found::Scalar(text) => {
                            let bare = matches!(value.value, Found::Null) && !self.known.words.contains(text.as_str());
                            self.scalar(key, text, shown && !bare);
                        }
                        _ => self.value(key, Declared::Nothing),
                    }
                    self.value(value, within);
                }
            }
        }
    }

    /// May this key be shown, and what is declared for its value?
    fn entry(&self, key: &str, declared: Declared) -> (bool, Declared) {
        let of = |shape: Shape| Declared::Of(shape);
        match declared {
            _ if key == "<<" => (true, declared),
            Declared::Nothing => (self.is_key(key), Declared::Nothing),
            Declared::Type(kind) => match kind.settings.iter().find(|(name, ..)| *name == key) {
                Some((_, shape, ..)) => (true, of(*shape)),
                None => kind.short.map_or((self.is_key(key), Declared::Nothing), |short| self.entry(key, of(short))),
            },
            Declared::Of(shape) => match shape {
                Shape::Root => self.of_block(key, TOP),
                Shape::Block(fields) => self.of_block(key, fields),
                Shape::Secret | Shape::Key => self.of_block(key, SECRET),
                Shape::Credential => self.of_type(key),
                Shape::Rule if RULE.iter().any(|field| field.name == key) => self.of_block(key, RULE),
                Shape::Rule => self.of_type(key),
                Shape::Limits if self.known.words.contains(key) => (true, of(Shape::Time)),
                Shape::Names(one) => (forms::is_given_name(key) || self.known.is_name(key), of(*one)),
                Shape::Fields(one) => (forms::is_header(key) || forms::is_key_word(key), of(*one)),
                Shape::Map(one) => (forms::is_key_word(key), of(*one)),
                Shape::Many(one) | Shape::List(one) => self.entry(key, of(*one)),
                Shape::OneOf(shapes) => {
                    let mut all = shapes.iter().map(|one| self.entry(key, of(*one)));
                    let known = |(_, within): &(bool, Declared)| !matches!(within, Declared::Nothing);
                    all.find(known).unwrap_or((self.is_key(key), Declared::Nothing))
                }
                _ => (self.is_key(key), Declared::Nothing),
            },
        }
    }

    fn of_block(&self, key: &str, fields: &'static [Field]) -> (bool, Declared) {
        match fields.iter().find(|field| field.name == key) {
            Some(field) => (true, Declared::Of(field.shape)),
            None => (self.is_key(key), Declared::Nothing),
        }
    }

    fn of_type(&self, key: &str) -> (bool, Declared) {
        match self.types.iter().find(|kind| kind.name == key) {
            Some(kind) => (true, Declared::Type(*kind)),
            None => (self.is_key(key), Declared::Nothing),
        }
    }

    fn is_key(&self, key: &str) -> bool {
        self.known.is_word(key) || forms::is_key_word(key)
    }
}
