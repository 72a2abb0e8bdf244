//! YAML text to a tree that remembers places.
//!
//! The parser tells the place of an error, not of a value. So nodes are only numbered, in the order of
//! reading; when a place must be shown, the text is read once more and made to fail at that number.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

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
    /// As it is written, where YAML would round it; else as it reads.
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

impl Node {
    pub fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// A document that could be read as YAML.
pub struct Document {
    pub root: Node,
    /// Keys that stand twice in one map, at their second place.
    pub duplicates: Vec<(Place, String)>,
}

/// YAML that could not be read.
pub struct SyntaxError {
    pub message: String,
    pub help: Option<String>,
    /// Line and column, from 1.
    pub at: Option<(usize, usize)>,
}

/// Maps and lists nested deeper than this are refused.
const DEPTH: u32 = 64;
/// Nodes of one document; an alias counts as often as it is used.
const NODES: u32 = 4_000_000;

/// Reads a document.
///
/// # Errors
/// It is not YAML; the message is ours, the place the parser's.
pub fn parse(text: &str, file: u16) -> Result<Document, SyntaxError> {
    let mut walk = Walk { file, next: Cell::new(0), goal: None, duplicates: RefCell::default(), floats: RefCell::default() };
    let read = |walk: &Walk| Seed { walk, depth: 0 }.deserialize(serde_yaml::Deserializer::from_str(text));
    let mut root = read(&walk).map_err(|cause| reword(&cause, text))?;
    let floats = walk.floats.get_mut();
    if !floats.seen.is_empty() {
        // Read once more, these as the texts that they are: `1.10` and `12e34` may be a version, a password, an id.
        floats.as_written = true;
        walk.next.set(0);
        walk.duplicates.take();
        root = read(&walk).map_err(|cause| reword(&cause, text))?;
    }
    Ok(Document { root, duplicates: walk.duplicates.into_inner() })
}

/// Line and column, from 1, of a node. The parser reads whatever it is given to its end before it hands out a node, so a
/// large document is given to it by its beginning first.
pub fn locate(text: &str, node: u32) -> Option<(usize, usize)> {
    const BEGINNING: usize = 16 * 1024;
    let mut size = BEGINNING;
    while size < text.len() {
        let found = text.as_bytes()[..size].iter().rposition(|byte| *byte == b'\n').and_then(|end| locate_in(&text[..end], node));
        if found.is_some() {
            return found;
        }
        size *= 8;
    }
    locate_in(text, node)
}

/// `None` also where the text ends, or cannot be read, before the node.
fn locate_in(text: &str, node: u32) -> Option<(usize, usize)> {
    let walk = Walk { file: 0, next: Cell::new(0), goal: Some(node), duplicates: RefCell::default(), floats: RefCell::default() };
    let cause = (Seed { walk: &walk, depth: 0 }).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    // The number stands still at the goal.
    cause.location().filter(|_| walk.next.get() == node).map(|at| (at.line(), at.column()))
}

struct Walk {
    file: u16,
    next: Cell<u32>,
    goal: Option<u32>,
    duplicates: RefCell<Vec<(Place, String)>>,
    floats: RefCell<Floats>,
}

/// Nodes that YAML takes for floating-point numbers, which would lose what was written.
#[derive(Default)]
struct Floats {
    seen: HashSet<u32>,
    /// They are known, and read as texts now.
    as_written: bool,
}

impl Floats {
    fn is_as_written(&self, node: u32) -> bool {
        self.as_written && self.seen.contains(&node)
    }
}

#[derive(Clone, Copy)]
struct Seed<'w> {
    walk: &'w Walk,
    depth: u32,
}

impl Seed<'_> {
    /// Numbers the node being read; fails on purpose at the goal.
    fn place<E: serde::de::Error>(&self) -> Result<Place, E> {
        let node = self.walk.next.get();
        if self.walk.goal == Some(node) {
            return Err(E::custom("here"));
        }
        if node >= NODES {
            return Err(E::custom("the document is too large"));
        }
        if self.depth > DEPTH {
            return Err(E::custom("the document is nested too deeply"));
        }
        self.walk.next.set(node + 1);
        Ok(Place { file: self.walk.file, node })
    }

    fn scalar<E: serde::de::Error>(&self, value: Value) -> Result<Node, E> {
        Ok(Node { place: self.place()?, value })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let as_written = self.walk.floats.borrow().is_as_written(self.walk.next.get());
        match as_written {
            true => deserializer.deserialize_str(self),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.scalar(Value::Null)
    }
    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.scalar(Value::Null)
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Value::Bool(value))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Value::Number(value.to_string()))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(Value::Number(value.to_string()))
    }
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.scalar(Value::Number(value.to_string()))
    }
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.scalar(Value::Number(value.to_string()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        self.walk.floats.borrow_mut().seen.insert(self.walk.next.get());
        self.scalar(Value::Number(value.to_string()))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        let is_float = self.walk.floats.borrow().is_as_written(self.walk.next.get());
        self.scalar(if is_float { Value::Number(value.to_owned()) } else { Value::Text(value.to_owned()) })
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let place = self.place()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed { walk: self.walk, depth: self.depth + 1 })? {
            list.push(item);
        }
        Ok(Node { place, value: Value::List(list) })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let place = self.place()?;
        let inner = Seed { walk: self.walk, depth: self.depth + 1 };
        let mut map: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        while let Some(key) = entries.next_key_seed(inner)? {
            let node = entries.next_value_seed(inner)?;
            let text = match key.value {
                Value::Text(text) | Value::Number(text) => text,
                Value::Bool(value) => value.to_string(),
                _ => return Err(A::Error::custom("a key must be a text")),
            };
            if text == "<<" {
                merged.push(node);
            } else if map.iter().any(|(old, _)| old.text == text) {
                self.walk.duplicates.borrow_mut().push((key.place, text));
            } else {
                map.push((Key { place: key.place, text }, node));
            }
        }
        for node in merged {
            merge(&mut map, node);
        }
        Ok(Node { place, value: Value::Map(map) })
    }
}

/// `<<: *base`: keys that are not there yet (YAML 1.1, "merge").
fn merge(map: &mut Vec<(Key, Node)>, node: Node) {
    match node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                if !map.iter().any(|(old, _)| old.text == key.text) {
                    map.push((key, value));
                }
            }
        }
        Value::List(nodes) => nodes.into_iter().for_each(|node| merge(map, node)),
        _ => {}
    }
}

/// The parser's words, where they would puzzle, in ours.
fn reword(cause: &serde_yaml::Error, text: &str) -> SyntaxError {
    let at = cause.location().map(|at| (at.line(), at.column()));
    let line = at.and_then(|(line, _)| text.lines().nth(line - 1)).unwrap_or("");
    let near: String =
        at.map_or(String::new(), |(line, _)| text.lines().skip(line.saturating_sub(2)).take(2).collect::<Vec<_>>().join("\n"));
    let told = |message: &str, help: Option<&str>| SyntaxError { message: message.to_owned(), help: help.map(str::to_owned), at };
    let close = |n: usize| at.is_none_or(|(line, _)| (n + 1).abs_diff(line) <= 1);
    let tabbed = |line: &str| line.trim_start_matches(' ').starts_with('\t') && !line.trim().is_empty();
    if let Some((tab, _)) = text.lines().enumerate().find(|(n, line)| close(*n) && tabbed(line)) {
        let message = "YAML indents with spaces; this line starts with a tab".to_owned();
        return SyntaxError { message, help: Some("replace the tab by spaces".to_owned()), at: Some((tab + 1, 1)) };
    }
    let raw = cause.to_string();
    if raw.contains("alias") || raw.contains("anchor") {
        return told("a text that starts with `*` must be quoted", Some("write it in quotes, as in `host: \"*.example.com\"`"));
    }
    if near.contains("{ ") && near.contains("${") || line.contains("${") && raw.contains("flow") {
        return told("inside `{ }` a `${…}` must be quoted", Some("write it in quotes, as in `{ bearer: \"${API_TOKEN}\" }`"));
    }
    if raw.contains("more than one document") {
        return told(
            "the file holds more than one YAML document",
            Some("take out the `---` lines, or split the file and use `include:`"),
        );
    }
    for (words, message, help) in WORDS {
        if raw.contains(words) {
            return told(message, Some(help));
        }
    }
    // Our own refusals come with the path of keys that led there, which may be anything.
    const OURS: [&str; 4] = [
        "a key must be a text",
        "the document is too large",
        "the document is nested too deeply",
        "invalid type: enum, expected YAML",
    ];
    let bare = match OURS.iter().find(|own| raw.contains(**own)) {
        Some(own) if own.starts_with("invalid type") => "tags (`!name`) have no meaning here",
        Some(own) => own,
        None => raw.split(" at line ").next().unwrap_or(&raw),
    };
    told(
        &format!("this is not valid YAML: {bare}"),
        Some("put texts with special characters in quotes, and indent a block evenly"),
    )
}

/// Of the parser's words, then ours, then the mend. The first that fits counts.
const WORDS: [(&str, &str, &str); 9] = [
    (
        "mapping values are not allowed",
        "there is a `: ` where no key can stand",
        "put a text that holds `: ` in quotes, or indent this line like its neighbours",
    ),
    (
        "did not find expected ',' or '}'",
        "this `{` is not closed, or a comma is missing",
        "close it with `}`, and put texts with `{`, `}`, `,` or `: ` in quotes",
    ),
    (
        "did not find expected ',' or ']'",
        "this `[` is not closed, or a comma is missing",
        "close it with `]`, and put texts with `[`, `]`, `,` or `: ` in quotes",
    ),
    (
        "did not find expected key",
        "this line is not indented like the others of its block",
        "begin every key of a block in the same column",
    ),
    (
        "did not find expected '-' indicator",
        "this line is not indented like the list that it stands in",
        "begin every item with `- ` in the same column, and its keys two columns further",
    ),
    (
        "could not find expected ':'",
        "a key needs `: ` and a value",
        "write it as `key: value`, with a blank behind the colon; put a text of several lines in quotes",
    ),
    (
        "found unexpected end of stream",
        "a quotation mark is opened here and never closed",
        "close it, or write a text that begins with one in the other kind of quotes",
    ),
    ("cannot start any token", "a text cannot begin with this character", "put it in quotes"),
    (
        "unknown escape character",
        "`\\` is followed by what is no escape",
        "use single quotes, in which `\\` is an ordinary character",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_point_or_an_exponent_stay_as_they_are_written() {
        let text = "a: 1.10\nb: [1e3, 1234e567, '1.10', 12345678901234567890123]\nc: {d: 2.50, d: 3}\ne: &e 0.10\nf: *e\n";
        let document = parse(text, 0).ok().unwrap();
        let number = |node: &Node| match &node.value {
            Value::Number(text) => text.clone(),
            _ => format!("({})", node.kind()),
        };
        let Value::List(items) = &document.root.get("b").unwrap().value else { panic!() };
        let mut all = vec![number(document.root.get("a").unwrap())];
        all.extend(items.iter().map(number));
        all.push(number(document.root.get("c").unwrap().get("d").unwrap()));
        all.extend(["e", "f"].map(|key| number(document.root.get(key).unwrap())));
        // What no floating-point number can hold is a text to YAML.
        assert_eq!(all, ["1.10", "1e3", "(a text)", "(a text)", "12345678901234567890123", "2.50", "0.10", "0.10"]);
        assert_eq!(document.duplicates.len(), 1);
        assert_eq!(locate(text, items[3].place.node), Some((2, 28)));
    }

    #[test]
    fn every_node_is_found_again_by_its_number() {
        let text = "a: 1\nrules:\n  - host: x\n    port: 2\n  - {host: y, path: [p, q]}\n";
        let document = parse(text, 0).ok().unwrap();
        let rules = document.root.get("rules").unwrap();
        let Value::List(items) = &rules.value else { panic!() };
        let at = |node: &Node| locate(text, node.place.node).unwrap();
        assert_eq!(at(items[0].get("host").unwrap()), (3, 11));
        assert_eq!(at(items[0].get("port").unwrap()), (4, 11));
        assert_eq!(at(items[1].get("host").unwrap()), (5, 12));
        let Value::List(paths) = &items[1].get("path").unwrap().value else { panic!() };
        assert_eq!(at(&paths[1]), (5, 25));
        let key = &items[0].as_map().unwrap()[1].0;
        assert_eq!(locate(text, key.place.node), Some((4, 5)));
    }

    #[test]
    fn a_node_is_found_in_a_large_document_wherever_it_stands() {
        let mut text = "base: &b {x: 1.5, y: 2}\nlist:\n".to_owned();
        let each = "  - <<: *b\n    k: |\n      {\n      a: b\n    f: {p: [1, \"a\n      b\"],\n        q: 2}\n";
        let many = 2_000;
        text.push_str(&each.repeat(many));
        let document = parse(&text, 0).ok().unwrap();
        let Value::List(items) = &document.root.get("list").unwrap().value else { panic!() };
        for n in [0, 1, 150, 200, 1_400, many - 1] {
            let first = 3 + n * 7;
            let f = items[n].get("f").unwrap();
            assert_eq!(locate(&text, items[n].place.node), Some((first, 5)), "{n}");
            assert_eq!(locate(&text, f.place.node), Some((first + 4, 8)), "{n}");
            assert_eq!(locate(&text, f.get("q").unwrap().place.node), Some((first + 6, 12)), "{n}");
        }
        assert_eq!(locate(&text, 1_000_000), None);
    }

    #[test]
    fn duplicate_keys_are_told_and_merge_keys_applied() {
        let document = parse("base: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\nc: again\n", 0).ok().unwrap();
        assert_eq!(document.duplicates.len(), 1);
        assert_eq!(document.duplicates[0].1, "c");
        let c = document.root.get("c").unwrap();
        assert!(matches!(&c.get("x").unwrap().value, Value::Number(n) if n == "1"));
        assert!(matches!(&c.get("y").unwrap().value, Value::Number(n) if n == "3"));
    }
}
