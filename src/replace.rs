//! Known texts swapped for others in what streams by: across the borders of pieces, in memory no larger
//! than the longest of them. And how a text is written in bodies of each kind.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use memchr::memmem;
use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use crate::draft::UNRESERVED;

/// What is looked for, and what stands there then. Both may be secret.
#[derive(Clone)]
pub struct Replacement {
    pub from: Zeroizing<Vec<u8>>,
    pub to: Zeroizing<Vec<u8>>,
}

impl Replacement {
    pub fn new(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self { from: Zeroizing::new(from.into()), to: Zeroizing::new(to.into()) }
    }
}

/// How a text is written in a place of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    Raw,
    Json,
    /// Percent-encoded, as in a form, a query, a path.
    Form,
    Xml,
}

impl Coding {
    /// Of a media type, lower case and without parameters; `None`: it is left alone.
    pub fn of(kind: &str) -> Option<Self> {
        match kind {
            "application/json" | "application/x-ndjson" | "application/jsonl" | "application/json-seq" => Some(Coding::Json),
            "application/x-www-form-urlencoded" => Some(Coding::Form),
            "application/xml" | "text/xml" => Some(Coding::Xml),
            "application/graphql" | "application/toml" | "application/sql" | "application/x-sh" | "application/http" => {
                Some(Coding::Raw)
            }
            kind if kind.ends_with("+json") => Some(Coding::Json),
            kind if kind.ends_with("+xml") => Some(Coding::Xml),
            kind if ["yaml", "javascript", "ecmascript"].iter().any(|end| kind.ends_with(end)) => Some(Coding::Raw),
            kind => ["text/", "message/", "multipart/"].iter().any(|begin| kind.starts_with(begin)).then_some(Coding::Raw),
        }
    }

    pub fn write(self, text: &str) -> String {
        match self {
            Coding::Raw => text.to_owned(),
            Coding::Form => utf8_percent_encode(text, UNRESERVED).to_string(),
            Coding::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Coding::Xml => {
                let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                escaped.replace('"', "&quot;").replace('\'', "&apos;")
            }
        }
    }
}

/// Every way in which a text is likely to be written by somebody who echoes it.
pub fn spellings(text: &str) -> Vec<String> {
    let [raw, json, form, xml] = [Coding::Raw, Coding::Json, Coding::Form, Coding::Xml].map(|coding| coding.write(text));
    let low: String =
        form.split('%').enumerate().map(|(n, part)| if n == 0 { part.to_owned() } else { lower_hex(part) }).collect();
    let slashed = json.replace('/', "\\/");
    let numbered = xml.replace("&apos;", "&#39;").replace("&quot;", "&#34;");
    let plus = form.replace("%20", "+");
    // A body that is echoed inside JSON is written twice.
    let twice = Coding::Json.write(&json);
    let mut all = vec![raw, json, twice, slashed, form, low, plus, xml, numbered];
    let mut seen = std::collections::HashSet::new();
    all.retain(|spelling| seen.insert(spelling.clone()));
    all
}

/// Shorter texts stand in answers by accident.
const SHORTEST: usize = 8;

/// Asterisks for a secret text, in as many characters as it has, wherever and however it is written.
pub fn masking(secret: &str) -> Vec<Replacement> {
    let spelled = if secret.len() < SHORTEST { Vec::new() } else { spellings(secret) };
    spelled.into_iter().map(|text| Replacement::new(&*text, vec![b'*'; text.len()])).collect()
}

/// What follows a `%`, its two digits in lower case.
fn lower_hex(part: &str) -> String {
    let (digits, rest) = part.split_at(part.len().min(2));
    format!("%{}{rest}", digits.to_ascii_lowercase())
}

/// What is looked for together, in as many streams as there are.
#[derive(Default)]
pub struct Replacements {
    /// Longest first: of two that begin alike, the longer is meant.
    all: Vec<Replacement>,
    /// None of it may get through, in whatever coding or pace it comes.
    pub strict: bool,
}

impl Replacements {
    pub fn new(mut all: Vec<Replacement>) -> Self {
        all.retain(|pair| !pair.from.is_empty());
        all.sort_by_key(|pair| std::cmp::Reverse(pair.from.len()));
        Self { all, strict: false }
    }

    pub fn strictly(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The length of the shortest text that is looked for.
    pub fn shortest(&self) -> usize {
        self.all.last().map_or(usize::MAX, |pair| pair.from.len())
    }
}

impl std::ops::Deref for Replacements {
    type Target = [Replacement];
    fn deref(&self) -> &[Replacement] {
        &self.all
    }
}

/// Swaps in one stream.
pub struct Replacer {
    pairs: Arc<Replacements>,
    /// The end of what came, while it may be the beginning of one of them.
    kept: Vec<u8>,
}

impl Replacer {
    pub fn new(pairs: Vec<Replacement>) -> Self {
        Self::of(Arc::new(Replacements::new(pairs)))
    }

    pub fn of(pairs: Arc<Replacements>) -> Self {
        Self { pairs, kept: Vec::new() }
    }

    /// Does it leave the length as it is, whatever comes?
    pub fn keeps_length(&self) -> bool {
        self.pairs.iter().all(|pair| pair.from.len() == pair.to.len())
    }

    /// How much is kept back.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// What is kept back, which nothing more is waited for to come.
    pub fn release(&mut self) -> Bytes {
        std::mem::take(&mut self.kept).into()
    }

    /// What leaves for the next piece; its end is kept back only while it may be the beginning of a text looked for.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        if self.kept.is_empty() {
            let whole = !self.holds(&piece) && self.tail(&piece) == piece.len();
            if whole {
                return piece;
            }
        }
        let mut text = std::mem::take(&mut self.kept);
        text.extend_from_slice(&piece);
        self.swap(&text, false)
    }

    /// What leaves after the last piece.
    pub fn finish(&mut self) -> Bytes {
        let text = std::mem::take(&mut self.kept);
        self.swap(&text, true)
    }

    /// A text that is here as a whole; `None` when nothing of it is swapped.
    pub fn all(&mut self, text: &[u8]) -> Option<Bytes> {
        self.holds(text).then(|| self.swap(text, true))
    }

    /// In the value of every field.
    pub fn fields(&mut self, headers: &mut HeaderMap) {
        let shortest = self.pairs.shortest();
        for value in headers.values_mut().filter(|value| value.len() >= shortest) {
            if let Some(swapped) = self.all(value.as_bytes())
                && let Ok(swapped) = HeaderValue::from_maybe_shared(swapped)
            {
                *value = swapped;
            }
        }
    }

    fn swap(&mut self, text: &[u8], ended: bool) -> Bytes {
        let mut made = Vec::with_capacity(text.len());
        let mut at = 0;
        // Where each stands next: looked for again only behind that.
        let find = |pair: &Replacement, from: usize| memmem::find(&text[from..], &pair.from).map(|at| from + at);
        let pairs = self.pairs.clone();
        let mut next: Vec<Option<usize>> = pairs.iter().map(|pair| find(pair, 0)).collect();
        loop {
            // What may yet become a text looked for goes before what already is one behind it.
            let end = if ended { text.len() } else { at + self.tail(&text[at..]) };
            for (pair, next) in pairs.iter().zip(&mut next) {
                if next.is_some_and(|next| next < at) {
                    *next = find(pair, at);
                }
            }
            let first = next.iter().zip(pairs.iter()).filter_map(|(next, pair)| next.map(|next| (next, pair)));
            // Of several that begin there, the first in the list is the longest.
            let Some((start, pair)) = first.min_by_key(|(start, _)| *start).filter(|(start, _)| *start < end) else {
                made.extend_from_slice(&text[at..end]);
                self.kept = text[end..].to_vec();
                return made.into();
            };
            made.extend_from_slice(&text[at..start]);
            made.extend_from_slice(&pair.to);
            at = start + pair.from.len();
        }
    }

    /// Is one of them in here as a whole?
    fn holds(&self, text: &[u8]) -> bool {
        self.pairs.iter().any(|pair| memmem::find(text, &pair.from).is_some())
    }

    /// Where the end begins that may be the beginning of a text looked for.
    fn tail(&self, text: &[u8]) -> usize {
        let longest = self.pairs.first().map_or(0, |pair| pair.from.len());
        let begins = |end: &[u8]| self.pairs.iter().any(|pair| pair.from.len() > end.len() && pair.from.starts_with(end));
        (text.len().saturating_sub(longest.saturating_sub(1))..text.len()).find(|at| begins(&text[*at..])).unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn swap() -> Replacer {
        Replacer::new(vec![
            Replacement::new("secret", "dummy"),
            Replacement::new("secret-long", "L"),
            Replacement::new("tes", "T"),
        ])
    }

    fn fed(pieces: &[&[u8]]) -> String {
        let mut swap = swap();
        let mut made = Vec::new();
        for piece in pieces {
            made.extend_from_slice(&swap.feed(Bytes::copy_from_slice(piece)));
        }
        made.extend_from_slice(&swap.finish());
        String::from_utf8(made).unwrap()
    }

    #[test]
    fn a_text_is_found_across_every_border_and_the_longer_one_is_meant() {
        let text = b"a secret, asecrets, secresecret, secret-lon secret-long tes";
        let wanted = "a dummy, adummys, secredummy, dummy-lon L T";
        for at in 0..=text.len() {
            let (one, two) = text.split_at(at);
            for at in 0..=two.len() {
                let (two, three) = two.split_at(at);
                assert_eq!(fed(&[one, two, three]), wanted, "{at}");
            }
        }
    }

    #[test]
    fn a_text_is_known_in_every_spelling_that_an_echo_is_likely_to_have() {
        let all = spellings("a/\"b c'ü&");
        for wanted in [
            "a/\"b c'ü&",
            "a/\\\"b c'ü&",
            "a\\/\\\"b c'ü&",
            "a%2F%22b%20c%27%C3%BC%26",
            "a%2f%22b%20c%27%c3%bc%26",
            "a%2F%22b+c%27%C3%BC%26",
            "a/&quot;b c&apos;ü&amp;",
            "a/&#34;b c&#39;ü&amp;",
        ] {
            assert!(all.iter().any(|text| text == wanted), "{wanted} in {all:?}");
        }
        assert_eq!(spellings("plain-value_1.2~"), ["plain-value_1.2~"]);
    }

    #[test]
    fn what_cannot_be_a_beginning_leaves_at_once() {
        let mut swap = swap();
        assert_eq!(swap.feed(Bytes::from_static(b"data: hello\n\n")), "data: hello\n\n");
        assert_eq!(swap.feed(Bytes::from_static(b"x secr")), "x ");
        assert_eq!(swap.feed(Bytes::from_static(b"ew")), "secrew");
        assert_eq!(swap.feed(Bytes::from_static(b"te")), "");
        assert_eq!(swap.finish(), "te");
    }

    #[test]
    fn every_kind_of_text_is_looked_into_and_nothing_else() {
        for (kind, coding) in [
            ("application/json", Coding::Json),
            ("application/problem+json", Coding::Json),
            ("application/x-ndjson", Coding::Json),
            ("image/svg+xml", Coding::Xml),
            ("application/x-www-form-urlencoded", Coding::Form),
            ("application/yaml", Coding::Raw),
            ("application/x-yaml", Coding::Raw),
            ("application/openapi+yaml", Coding::Raw),
            ("text/yaml", Coding::Raw),
            ("application/toml", Coding::Raw),
            ("message/http", Coding::Raw),
            ("multipart/mixed", Coding::Raw),
            ("multipart/form-data", Coding::Raw),
            ("application/x-javascript", Coding::Raw),
            ("text/html", Coding::Raw),
        ] {
            assert_eq!(Coding::of(kind), Some(coding), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "application/grpc", "application/pdf", "font/woff2"] {
            assert_eq!(Coding::of(kind), None, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn in_pieces_it_is_what_it_is_as_a_whole(pieces in prop::collection::vec("[abx]{0,6}", 0..12)) {
            let make = || Replacer::new(vec![Replacement::new("abab", "<1>"), Replacement::new("bxa", "")]);
            let whole = pieces.concat();
            let wanted = make().all(whole.as_bytes()).map_or(whole.clone().into_bytes(), |made| made.to_vec());
            let mut swap = make();
            let mut made = Vec::new();
            for piece in &pieces {
                made.extend_from_slice(&swap.feed(Bytes::from(piece.clone())));
            }
            made.extend_from_slice(&swap.finish());
            prop_assert_eq!(made, wanted);
        }
    }
}
