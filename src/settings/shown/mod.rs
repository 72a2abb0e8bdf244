//! What of a configuration may be shown when something about it is told: in the line of a mistake, and in its words.
//!
//! A value is shown where its key declares it harmless and where it looks like what the key declares; nothing else is, wherever
//! and however it is written. What came from a variable is called by the variable's name.

pub mod forms;
mod judge;
mod line;
mod scalars;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use self::forms::Known;
use self::judge::{Judge, Judgement};
use self::scalars::{Found, Spot};
use super::shape::{Schema, Shape};
use crate::secret::Secret;

/// What stands for something that is not shown.
pub const MASK: &str = "******";

/// A text of the configuration, as far as it may be shown.
pub struct Page {
    chars: Vec<char>,
    read: OnceLock<Option<Spot>>,
    judged: OnceLock<Judgement>,
}

impl Page {
    pub fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), read: OnceLock::new(), judged: OnceLock::new() }
    }

    fn read(&self) -> Option<&Spot> {
        self.read.get_or_init(|| scalars::read(&self.chars.iter().collect::<String>())).as_ref()
    }

    /// The names that it gives to things, behind keys of the root.
    pub fn names(&self, naming: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        let Some(Found::Map(entries)) = self.read().map(|root| &root.value) else { return names };
        for (key, value) in entries {
            if let (Found::Scalar(text), Found::Map(named)) = (&key.value, &value.value)
                && naming.contains(&text.as_str())
            {
                names.extend(named.iter().filter_map(|(name, _)| match &name.value {
                    Found::Scalar(name) if forms::is_given_name(name) => Some(name.clone()),
                    _ => None,
                }));
            }
        }
        names
    }

    fn judged(&self, schema: &Schema, known: &Known) -> Option<&Judgement> {
        let root = self.read()?;
        Some(self.judged.get_or_init(|| Judge::of(root, schema, known)))
    }

    /// A line, from 1, and where the caret for a column, from 1, goes in it.
    pub fn line(&self, (number, column): (usize, usize), schema: &Schema, known: &Known) -> (String, usize) {
        let mut start = 0;
        for _ in 1..number {
            start = (start..self.chars.len()).find(|at| self.chars[*at] == '\n').map_or(self.chars.len(), |at| at + 1);
        }
        let end = (start..self.chars.len()).find(|at| self.chars[*at] == '\n').unwrap_or(self.chars.len());
        let end = if end > start && self.chars[end - 1] == '\r' { end - 1 } else { end };
        let column = column.saturating_sub(1);
        match self.judged(schema, known) {
            Some(judged) => line::judged(&self.chars, (start, end), column, &judged.scalars),
            None => line::unread(&self.chars, (start, end), column, known),
        }
    }

    /// The texts in it that may not be shown.
    pub fn hidden<'p>(&'p self, schema: &Schema, known: &Known) -> &'p [String] {
        self.judged(schema, known).map_or(&[], |judged| &judged.hidden)
    }

    /// The texts in it that stand where secrets are written.
    pub fn secrets<'p>(&'p self, schema: &Schema, known: &Known) -> &'p [String] {
        self.judged(schema, known).map_or(&[], |judged| &judged.secrets)
    }
}

/// A text in quotes where it is of the shape that its place declares; else other words for it.
pub fn quoted(text: &str, shape: Shape, else_say: &str) -> String {
    static NOTHING: OnceLock<Known> = OnceLock::new();
    let known = NOTHING.get_or_init(Known::default);
    if !text.is_empty() && forms::is_harmless(shape, text, known) { format!("`{text}`") } else { else_say.to_owned() }
}

/// A key in quotes, a blank before it, where it is a word or nearly one; else nothing.
pub fn quoted_key(text: &str) -> String {
    if forms::is_key_word(text) { format!(" `{text}`") } else { String::new() }
}

/// What must not be in a message, and what is said instead of it.
#[derive(Default)]
pub struct Unspoken {
    /// In the order of reading.
    texts: Vec<(Secret, String)>,
    known: HashSet<Secret>,
}

impl Unspoken {
    /// `text` came from what is written as `origin`.
    pub fn add(&mut self, text: &Secret, origin: &str) {
        if !text.is_empty() && self.known.insert(text.clone()) {
            self.texts.push((text.clone(), origin.to_owned()));
        }
    }

    /// These, and what documents hide.
    pub fn with<'h>(&'h self, hidden: impl Iterator<Item = &'h str>) -> Sought<'h> {
        let mut sought = Sought::default();
        hidden.for_each(|text| sought.add(text, MASK));
        // A variable by its name.
        self.texts.iter().for_each(|(text, origin)| sought.add(text.expose(), origin));
        sought
    }
}

/// What must not be in messages, found by its length: looking for it costs what the message is long, not what the
/// configuration is.
#[derive(Default)]
pub struct Sought<'h> {
    instead: HashMap<&'h str, &'h str>,
    lengths: BTreeSet<usize>,
}

impl<'h> Sought<'h> {
    fn add(&mut self, text: &'h str, instead: &'h str) {
        if !text.trim().is_empty() {
            self.instead.insert(text, instead);
            self.lengths.insert(text.len());
        }
    }

    /// A message without it. The messages are made not to hold it; this is for those that hold a path, an address or a name
    /// that came from elsewhere than the writer thinks.
    pub fn cleaned(&self, message: &str, known: &Known) -> String {
        let pieces = self
            .lengths
            .range(..=message.len())
            .rev()
            .flat_map(|length| (0..=message.len() - length).filter_map(move |at| message.get(at..at + length)));
        // A whole value before its parts.
        let mut wrong: Vec<(&str, &str)> = Vec::new();
        for piece in pieces.filter(|piece| !known.words.contains(piece)) {
            if let Some((text, instead)) = self.instead.get_key_value(piece)
                && !wrong.iter().any(|(found, _)| found == text)
            {
                wrong.push((text, instead));
            }
        }
        let mut message = message.to_owned();
        for (text, instead) in wrong {
            message = replaced(&message, text, instead);
        }
        message
    }
}

/// Long texts are replaced wherever they stand; short ones where they stand alone; plain words only inside quotes and paths, since
/// our own sentences consist of such.
fn replaced(message: &str, text: &str, instead: &str) -> String {
    let word = text.len() <= 16 && text.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
    let mut done = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(text) {
        let (before, after) = (&rest[..at], &rest[at + text.len()..]);
        done.push_str(before);
        let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !joined(done.chars().next_back()) && !joined(after.chars().next());
        let quoted = done.matches('`').count() % 2 == 1 || done.ends_with('/') || after.starts_with('/');
        let goes = if word { alone && quoted } else { alone || text.len() >= 8 };
        done.push_str(if goes { instead } else { text });
        rest = after;
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests;
