//! What of a document may be shown: every scalar is judged by the shape that the schema declares for its place; where none
//! is declared, it is not shown.

use super::forms::{self, Known};
use super::scalars::{Found, Spot};
use crate::settings::shape::{Definition, Field, SECRET, Schema, Shape};

/// One scalar of a text.
pub struct Judged {
    /// From and to which character.
    pub span: (usize, usize),
    pub shown: bool,
}

/// What is known of a document.
pub struct Judgement {
    /// Its scalars in order, each once, shown only where every alias of it may be.
    pub scalars: Vec<Judged>,
    /// The texts that are not shown.
    pub hidden: Vec<String>,
    /// The texts that stand where secrets are written, as references to them mostly.
    pub secrets: Vec<String>,
}

pub struct Judge<'a> {
    schema: &'a Schema,
    known: &'a Known,
    scalars: Vec<Judged>,
    hidden: Vec<String>,
    secrets: Vec<String>,
}

/// What is declared for a place.
#[derive(Clone, Copy)]
enum Declared {
    Nothing,
    Of(Shape),
}

impl Judge<'_> {
    pub fn of(root: &Spot, schema: &Schema, known: &Known) -> Judgement {
        let mut judge = Judge { schema, known, scalars: Vec::new(), hidden: Vec::new(), secrets: Vec::new() };
        judge.value(root, Declared::Of(schema.root));
        let Judge { mut scalars, mut hidden, secrets, .. } = judge;
        scalars.sort_by_key(|scalar| (scalar.span, scalar.shown));
        scalars.dedup_by_key(|scalar| scalar.span);
        hidden.sort_unstable();
        hidden.dedup();
        Judgement { scalars, hidden, secrets }
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
                // As of a secret, a reference alone is shown.
                let shape = self.shape(declared).unwrap_or(Shape::Secret);
                match shape {
                    Shape::Secret | Shape::Key => self.secrets.push(text.clone()),
                    Shape::Variable => self.secrets.push(format!("${{{text}}}")),
                    _ => {}
                }
                self.scalar(spot, text, forms::is_harmless(shape, text, self.known));
            }
            Found::List(items) => match self.shape(declared) {
                Some(Shape::Command) => {
                    let shape = |n: usize| if n == 0 { Shape::Command } else { Shape::Argument };
                    items.iter().enumerate().for_each(|(n, item)| self.value(item, Declared::Of(shape(n))));
                }
                _ => items.iter().for_each(|item| self.value(item, self.item(declared))),
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
            Declared::Of(shape) => match shape {
                Shape::Defined(name) => self.of_definition(key, name),
                Shape::Block(fields) => self.of_block(key, fields),
                Shape::Secret | Shape::Key => self.of_block(key, SECRET),
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

    fn of_definition(&self, key: &str, name: &str) -> (bool, Declared) {
        let key_of = |definition: &Definition| definition.keys.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape);
        match (self.schema.definition(name).and_then(key_of), self.short(name)) {
            (Some(shape), _) => (true, Declared::Of(shape)),
            (None, Some(short)) => self.entry(key, Declared::Of(short)),
            (None, None) => (self.is_key(key), Declared::Nothing),
        }
    }

    /// What is declared for a place where no map stands.
    fn shape(&self, declared: Declared) -> Option<Shape> {
        match declared {
            Declared::Of(Shape::Defined(name)) => self.short(name),
            Declared::Of(shape) => Some(shape),
            Declared::Nothing => None,
        }
    }

    /// What may stand instead of the map that a definition is.
    fn short(&self, name: &str) -> Option<Shape> {
        self.schema.definition(name).and_then(|definition| definition.short)
    }

    /// What is declared for the items of a list in a place.
    fn item(&self, declared: Declared) -> Declared {
        match declared {
            Declared::Of(Shape::Many(one) | Shape::List(one)) => Declared::Of(*one),
            Declared::Of(Shape::OneOf(shapes)) => {
                let many = shapes.iter().find(|one| matches!(one, Shape::Many(_) | Shape::List(_)));
                many.map_or(Declared::Nothing, |many| self.item(Declared::Of(*many)))
            }
            Declared::Of(Shape::Defined(name)) => {
                self.short(name).map_or(Declared::Nothing, |short| self.item(Declared::Of(short)))
            }
            _ => Declared::Nothing,
        }
    }

    fn is_key(&self, key: &str) -> bool {
        self.known.is_word(key) || forms::is_key_word(key)
    }
}
