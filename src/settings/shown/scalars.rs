//! Where every scalar of a YAML document begins and ends.
//!
//! The parser tells places in its errors only. So each scalar is refused as it is met, its place is read from the
//! refusal, and the reading goes on: all places in one pass, and the parser alone says what is a scalar.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A node with its place in the text.
pub struct Spot {
    /// Of scalars: the characters from and to which it stands, quotes included. The same for each alias of it.
    pub span: (usize, usize),
    pub value: Found,
}

pub enum Found {
    /// Written as nothing at all, or as `null`.
    Null,
    Scalar(String),
    List(Vec<Spot>),
    /// As written: keys may stand twice, and `<<` is one.
    Map(Vec<(Spot, Spot)>),
}

/// As in `yaml.rs`; what is refused there must not be read here for longer.
const DEPTH: u32 = 64;
const NODES: u32 = 4_000_000;

/// `None`: it is not YAML, or its characters and its nodes cannot be matched for certain.
pub fn read(text: &str) -> Option<Spot> {
    // The parser knows more line breaks than are counted here.
    if text.replace("\r\n", "\n").contains(['\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{feff}']) {
        return None;
    }
    let chars: Vec<char> = text.chars().collect();
    let lines: Vec<usize> =
        std::iter::once(0).chain(chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at + 1)).collect();
    let walk = Walk { chars: &chars, lines: &lines, caught: RefCell::default(), nodes: Cell::new(0) };
    (Seed { walk: &walk, depth: 0 }).deserialize(serde_yaml::Deserializer::from_str(text)).ok()
}

struct Walk<'t> {
    chars: &'t [char],
    /// Where each line begins.
    lines: &'t [usize],
    caught: RefCell<Option<Caught>>,
    nodes: Cell<u32>,
}

enum Caught {
    Null,
    /// Its characters are those of the text.
    Text(String),
    /// A number or a truth value, which may be written otherwise.
    Word(String),
}

#[derive(Clone, Copy)]
struct Seed<'w> {
    walk: &'w Walk<'w>,
    depth: u32,
}

impl Seed<'_> {
    fn catch<E: serde::de::Error>(&self, caught: Caught) -> Result<Spot, E> {
        *self.walk.caught.borrow_mut() = Some(caught);
        Err(E::custom("here"))
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.walk.nodes.set(self.walk.nodes.get() + 1);
        if self.walk.nodes.get() > NODES || self.depth > DEPTH { Err(E::custom("too much")) } else { Ok(()) }
    }
}

impl Walk<'_> {
    /// The spot of a scalar that was refused at a place.
    fn spot(&self, refusal: &str, caught: Caught) -> Option<Spot> {
        let start = match refusal.rsplit_once(" at line ") {
            // Where both would be zero, none is told.
            None => 0,
            Some((_, place)) => {
                let (line, column) = place.split_once(" column ")?;
                self.lines.get(line.parse::<usize>().ok()?.checked_sub(1)?)? + column.parse::<usize>().ok()?.checked_sub(1)?
            }
        };
        // Anchors and tags are told of with the scalar, and are none of it.
        let start = self.behind_properties(start);
        let (end, value) = match caught {
            Caught::Null => (self.null_end(start), Found::Null),
            Caught::Word(text) => (self.word_end(start), Found::Scalar(text)),
            Caught::Text(text) => (self.text_end(start, &text)?, Found::Scalar(text)),
        };
        let span = (start, end);
        Some(Spot { span, value })
    }

    fn null_end(&self, start: usize) -> usize {
        let end = self.word_end(start);
        let word: String = self.chars.get(start..end).unwrap_or_default().iter().collect();
        if matches!(word.as_str(), "~" | "null" | "Null" | "NULL") { end } else { start }
    }

    /// Behind `&anchor` and `!tag`.
    fn behind_properties(&self, start: usize) -> usize {
        let mut at = start;
        while matches!(self.chars.get(at), Some('&' | '!')) {
            let blank = |n: &usize| self.chars[*n].is_whitespace();
            at = (at..self.chars.len()).find(blank).unwrap_or(self.chars.len());
            at = (at..self.chars.len()).find(|n| !blank(n)).unwrap_or(self.chars.len());
        }
        at
    }

    fn word_end(&self, start: usize) -> usize {
        let ends = |n: &usize| match self.chars[*n] {
            ',' | ']' | '}' => true,
            ':' => self.chars.get(n + 1).is_none_or(|c| c.is_whitespace()),
            c => c.is_whitespace(),
        };
        (start..self.chars.len()).find(ends).unwrap_or(self.chars.len())
    }

    /// Where a text ends that begins here; `None` where it cannot be found again in the characters.
    fn text_end(&self, start: usize, text: &str) -> Option<usize> {
        match self.chars.get(start) {
            Some('"') => {
                let mut at = start + 1;
                while *self.chars.get(at)? != '"' {
                    at += if self.chars[at] == '\\' { 2 } else { 1 };
                }
                Some(at + 1)
            }
            Some('\'') => {
                let mut at = start + 1;
                loop {
                    match (self.chars.get(at)?, self.chars.get(at + 1)) {
                        ('\'', Some('\'')) => at += 2,
                        ('\'', _) => return Some(at + 1),
                        _ => at += 1,
                    }
                }
            }
            // A block: its first line says how it is meant.
            Some('|' | '>') => {
                let line = (start..self.chars.len()).find(|n| self.chars[*n] == '\n').unwrap_or(self.chars.len());
                self.same(line, text)
            }
            _ => self.same(start, text),
        }
    }

    /// Behind the characters of a text, line breaks and blanks aside.
    fn same(&self, start: usize, text: &str) -> Option<usize> {
        let mut at = start;
        for wanted in text.chars().filter(|c| !c.is_whitespace()) {
            while self.chars.get(at)?.is_whitespace() {
                at += 1;
            }
            if *self.chars.get(at)? != wanted {
                return None;
            }
            at += 1;
        }
        Some(at)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Spot;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Spot, D::Error> {
        let refusal = match deserializer.deserialize_any(self) {
            Ok(spot) => return Ok(spot),
            Err(refusal) => refusal,
        };
        match self.walk.caught.take() {
            Some(caught) => self.walk.spot(&refusal.to_string(), caught).ok_or_else(|| D::Error::custom("not to be matched")),
            None => Err(refusal),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Spot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Spot, E> {
        self.catch(Caught::Null)
    }
    fn visit_none<E: serde::de::Error>(self) -> Result<Spot, E> {
        self.catch(Caught::Null)
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Spot, E> {
        self.catch(Caught::Word(value.to_string()))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Spot, E> {
        self.catch(Caught::Text(value.to_owned()))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Spot, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Spot, A::Error> {
        self.count()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed { depth: self.depth + 1, ..self })? {
            self.count()?;
            list.push(item);
        }
        Ok(Spot { span: (0, 0), value: Found::List(list) })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Spot, A::Error> {
        self.count()?;
        let inner = Seed { depth: self.depth + 1, ..self };
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(inner)? {
            self.count()?;
            map.push((key, entries.next_value_seed(inner)?));
        }
        Ok(Spot { span: (0, 0), value: Found::Map(map) })
    }
}
