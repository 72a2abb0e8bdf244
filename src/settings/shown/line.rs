//! One line of a document with what may not be shown replaced, and where the caret goes in it.

use super::MASK;
use super::forms::{self, Known};
use super::judge::Judged;

/// The line being written.
struct Writer<'c> {
    chars: &'c [char],
    shown: String,
    /// The character that the caret points at, and where it came to stand.
    wanted: usize,
    caret: Option<usize>,
}

impl Writer<'_> {
    fn copy(&mut self, from: usize, to: usize) {
        if (from..to).contains(&self.wanted) {
            self.caret = Some(self.shown.chars().count() + self.wanted - from);
        }
        // A terminal must not be told what to do by a file.
        self.shown.extend(self.chars[from..to].iter().map(|c| if c.is_control() { ' ' } else { *c }));
    }

    fn mask(&mut self, from: usize, to: usize) {
        let begin = (from..to).find(|at| !self.chars[*at].is_whitespace()).unwrap_or(to);
        self.copy(from, begin);
        let from = begin;
        let end = (from..to).rfind(|at| !self.chars[*at].is_whitespace()).map_or(from, |at| at + 1);
        if from < end {
            if (from..to).contains(&self.wanted) {
                self.caret = Some(self.shown.chars().count());
            }
            if !self.shown.ends_with(MASK) {
                self.shown.push_str(MASK);
            }
        }
        self.copy(end, to);
    }

    fn done(self) -> (String, usize) {
        let end = self.shown.chars().count();
        (self.shown, self.caret.unwrap_or(end))
    }
}

/// The line between two characters of a text whose scalars are judged.
pub fn judged(text: &[char], (start, end): (usize, usize), column: usize, scalars: &[Judged]) -> (String, usize) {
    let mut writer = Writer { chars: &text[..end], shown: String::new(), wanted: start + column, caret: None };
    let mut at = start;
    let first = scalars.partition_point(|scalar| scalar.span.1 <= start);
    for scalar in scalars[first..].iter().take_while(|scalar| scalar.span.0 < end) {
        let (from, to) = (scalar.span.0.clamp(at, end), scalar.span.1.clamp(at, end));
        between(&mut writer, at, from);
        let lines = scalar.span.0 < start || scalar.span.1 > end;
        if scalar.shown && !lines {
            writer.copy(from, to)
        } else {
            writer.mask(from, to)
        }
        at = to;
    }
    between(&mut writer, at, end);
    writer.done()
}

/// What stands between scalars: punctuation, anchors, tags, comments.
fn between(writer: &mut Writer<'_>, from: usize, to: usize) {
    let mut at = from;
    while at < to {
        let c = writer.chars[at];
        if c.is_whitespace() || "-{}[],:?|>".contains(c) {
            writer.copy(at, at + 1);
            at += 1;
            continue;
        }
        let of_word = |n: &usize| writer.chars[*n].is_whitespace() || "{}[],".contains(writer.chars[*n]);
        let end = if c == '#' { to } else { (at..to).find(of_word).unwrap_or(to) };
        let name: String = writer.chars[at + 1..end].iter().collect();
        if matches!(c, '#' | '&' | '*' | '!') {
            writer.copy(at, at + 1);
            at += 1;
        }
        if matches!(c, '&' | '*') && forms::is_key_word(&name) {
            writer.copy(at, end)
        } else {
            writer.mask(at, end)
        }
        at = end;
    }
}

/// A line of a text that could not be read as YAML: known words and punctuation.
pub fn unread(text: &[char], (start, end): (usize, usize), column: usize, known: &Known) -> (String, usize) {
    let mut writer = Writer { chars: &text[..end], shown: String::new(), wanted: start + column, caret: None };
    let parts = |at: usize| text[at].is_whitespace() || "{}[],:\"'".contains(text[at]);
    let mut at = start;
    while at < end {
        let stop = if parts(at) { at + 1 } else { (at..end).find(|n| parts(*n)).unwrap_or(end) };
        let word: String = text[at..stop].iter().collect();
        if text[at] == '#' {
            writer.mask(at, end);
            break;
        }
        if parts(at) || matches!(word.as_str(), "-" | "?" | "---") || known.words.contains(word.as_str()) {
            writer.copy(at, stop);
        } else {
            writer.mask(at, stop);
        }
        at = stop;
    }
    writer.done()
}
