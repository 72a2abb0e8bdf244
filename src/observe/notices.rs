//! What goes wrong, said once for each host and kind: for `exec`, since many clients hide what a proxy tells them.

use std::collections::HashSet;
use std::sync::Mutex;

use super::Record;

#[derive(Default)]
pub struct Notices {
    said: Mutex<HashSet<(String, &'static str)>>,
}

/// More are not said, lest a client that tries a thousand hosts bury its own output.
const MOST: usize = 32;

impl Notices {
    pub fn hear(&self, record: &Record) {
        let origin = || record.origin.as_ref().map_or_else(|| "a client".to_owned(), ToString::to_string);
        if let Some(note) = &record.note
            && self.is_news(origin(), "noted")
        {
            tracing::warn!("{}: {note}", origin());
        }
        let Some((kind, sentence)) = &record.error else { return };
        // A client that goes away knows that itself.
        let own = record.status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        if own && self.is_news(origin(), kind) {
            tracing::warn!("{}: {sentence}", origin());
        }
    }

    fn is_news(&self, origin: String, kind: &'static str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(|e| e.into_inner());
        said.len() < MOST && said.insert((origin, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_news_once_and_not_for_ever() {
        let notices = Notices::default();
        assert!(notices.is_news("https://a.test".to_owned(), "dns_error"));
        assert!(!notices.is_news("https://a.test".to_owned(), "dns_error"));
        assert!(notices.is_news("https://a.test".to_owned(), "tls_protocol_error"));
        assert_eq!((0..100).filter(|n| notices.is_news(format!("https://{n}.test"), "dns_error")).count(), MOST - 2);
    }
}
