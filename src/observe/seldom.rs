//! What clients can bring about as often as they like: the first is told at once, and those that follow within a minute
//! by their number.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Seldom {
    /// By what happened; as many as there are such places in the code.
    open: Mutex<HashMap<&'static str, Window>>,
}

struct Window {
    since: Instant,
    more: u64,
    last: String,
}

impl Seldom {
    /// A warning, unless there was one of its kind within the last minute; then a debug line, and the number later.
    /// `what` happened is named as in "3 more TLS handshakes by clients failed".
    pub fn warn(&self, what: &'static str, sentence: String) {
        if let Some(sentence) = self.take(what, sentence, Instant::now()) {
            tracing::warn!("{sentence}");
        }
    }

    /// Tells the numbers of the minutes that have ended; all of them at the `end`.
    pub fn settle(&self, end: bool) {
        for sentence in self.settled(Instant::now(), end) {
            tracing::warn!("{sentence}");
        }
    }

    /// The sentence, if it is to be told now.
    fn take(&self, what: &'static str, sentence: String, now: Instant) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        let Some(window) = open.get_mut(what) else {
            open.insert(what, Window { since: now, more: 0, last: String::new() });
            return Some(sentence);
        };
        tracing::debug!("{sentence}");
        window.more += 1;
        window.last = sentence;
        None
    }

    fn settled(&self, now: Instant, end: bool) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        open.retain(|what, window| {
            if !end && now.duration_since(window.since) < WINDOW {
                return true;
            }
            if window.more == 0 {
                return false;
            }
            sentences.push(format!("{} more {what}; the last: {}", window.more, window.last));
            *window = Window { since: now, more: 0, last: String::new() };
            !end
        });
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_a_minute_by_number() {
        let seldom = Seldom::default();
        let now = Instant::now();
        assert_eq!(seldom.take("a", "one".to_owned(), now).as_deref(), Some("one"));
        assert_eq!((2..=9).filter_map(|n| seldom.take("a", n.to_string(), now)).count(), 0);
        assert_eq!(seldom.take("b", "another".to_owned(), now).as_deref(), Some("another"));
        assert_eq!(seldom.settled(now + WINDOW / 2, false), Vec::<String>::new());
        assert_eq!(seldom.settled(now + WINDOW, false), ["8 more a; the last: 9"]);
        // A minute that was told of begins another; a quiet one ends it.
        assert_eq!(seldom.take("a", "x".to_owned(), now + WINDOW), None);
        assert_eq!(seldom.take("b", "y".to_owned(), now + WINDOW).as_deref(), Some("y"));
        assert_eq!(seldom.settled(now + WINDOW, true), ["1 more a; the last: x"]);
        assert_eq!(seldom.take("a", "z".to_owned(), now + WINDOW).as_deref(), Some("z"));
    }
}
