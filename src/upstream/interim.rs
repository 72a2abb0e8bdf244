//! Interim answers (1xx, RFC 9110 §15.2) of origins on HTTP/1.1, read in what hyper reads. hyper tells of them as well, but has
//! to be asked anew with each request: five allocations for what hardly an answer has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::body::Hold;
use crate::replace::{Replacements, Replacer};

/// A client's connection, which is told of them.
pub trait Hears: Send + Sync {
    /// `stream`: that of the request on the client's connection, where it has one (HTTP/2).
    fn hear(&self, stream: Option<u32>, status: StatusCode, fields: &HeaderMap);
}

/// Who is told of those to one request.
#[derive(Clone)]
pub struct Listener {
    pub client: Arc<dyn Hears>,
    pub stream: Option<u32>,
    /// What the client must not see.
    pub masks: Option<Arc<Replacements>>,
}

impl Listener {
    fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        let Some(masks) = &self.masks else { return self.client.hear(self.stream, status, fields) };
        let mut fields = fields.clone();
        Replacer::of(masks.clone()).fields(&mut fields);
        self.client.hear(self.stream, status, &fields);
    }
}

/// Whom interim answers on a connection concern.
#[derive(Default)]
pub struct Hearing {
    /// A request is under way, and its final answer has not begun.
    is_open: AtomicBool,
    concerned: Mutex<Concerned>,
}

#[derive(Default)]
struct Concerned {
    listener: Option<Listener>,
    /// Of a body that waits for 100.
    hold: Option<Arc<Hold>>,
}

/// As long as it lives, those to one request are told.
pub struct Heard<'h>(Option<&'h Hearing>);

impl Hearing {
    pub fn listen(&self, listener: Option<Listener>, hold: Option<Arc<Hold>>) -> Heard<'_> {
        if listener.is_none() && hold.is_none() {
            return Heard(None);
        }
        *self.concerned() = Concerned { listener, hold };
        self.is_open.store(true, Ordering::Release);
        Heard(Some(self))
    }

    fn concerned(&self) -> MutexGuard<'_, Concerned> {
        self.concerned.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn tell(&self, status: StatusCode, fields: &HeaderMap) {
        let concerned = self.concerned();
        match &*concerned {
            // The client is asked when its body is.
            Concerned { hold, .. } if status == StatusCode::CONTINUE => hold.iter().for_each(|hold| hold.open()),
            Concerned { listener: Some(listener), .. } => listener.hear(status, fields),
            _ => {}
        }
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if let Some(hearing) = self.0 {
            hearing.is_open.store(false, Ordering::Release);
            *hearing.concerned() = Concerned::default();
        }
    }
}

/// How every interim answer begins, but for the minor version.
const BEGINNING: &[u8; 10] = b"HTTP/1.1 1";
const MINOR: usize = 7;

/// Advice in a longer head, or with more fields, is not passed on. hyper bounds what it reads itself.
const LONGEST: usize = 8 * 1024;
const MOST_FIELDS: usize = 64;

/// Looks for them, from the end of a request to its final answer.
#[derive(Default)]
pub struct Lookout {
    /// The beginning of a head that may be one.
    partial: Vec<u8>,
}

impl Lookout {
    /// Sees what was read.
    pub fn see(&mut self, fresh: &[u8], hearing: &Hearing) {
        if !hearing.is_open.load(Ordering::Acquire) {
            if !self.partial.is_empty() {
                self.partial = Vec::new();
            }
        } else if self.is_final(fresh, |status, fields| hearing.tell(status, fields)) {
            hearing.is_open.store(false, Ordering::Release);
        }
    }

    /// Has the final answer begun, or what cannot be told from one?
    fn is_final(&mut self, fresh: &[u8], mut tell: impl FnMut(StatusCode, &HeaderMap)) -> bool {
        if self.partial.is_empty() && !may_be_interim(fresh) {
            return true;
        }
        self.partial.extend_from_slice(fresh);
        while may_be_interim(&self.partial) {
            let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
            let mut head = httparse::Response::new(&mut fields);
            let length = match head.parse(&self.partial) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if self.partial.len() <= LONGEST => return false,
                _ => break,
            };
            // 101 is final: what follows it is no HTTP.
            let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
            let Some(status) = status.filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS) else { break };
            let fields = head.headers.iter().filter_map(|field| {
                Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
            });
            let mut map = HeaderMap::new();
            fields.for_each(|(name, value)| _ = map.append(name, value));
            tell(status, &map);
            self.partial.drain(..length);
        }
        self.partial = Vec::new();
        true
    }
}

/// As far as there is something of it. Nothing may become one.
fn may_be_interim(bytes: &[u8]) -> bool {
    // Nearly all others are told by this.
    if bytes.get(BEGINNING.len() - 1).is_some_and(|class| *class != b'1') {
        return false;
    }
    bytes.iter().zip(BEGINNING).enumerate().all(|(at, (byte, begins))| byte == begins || at == MINOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of an answer that comes in pieces of this size, and whether its final head was seen to begin.
    fn told(answer: &str, piece: usize) -> (Vec<String>, bool) {
        let mut told = Vec::new();
        let mut lookout = Lookout::default();
        let is_final = answer.as_bytes().chunks(piece).any(|piece| {
            lookout.is_final(piece, |status, fields| {
                let fields = fields.iter().map(|(name, value)| format!(" {name}={}", value.to_str().unwrap()));
                told.push(format!("{}{}", status.as_u16(), fields.collect::<String>()));
            })
        });
        (told, is_final)
    }

    #[test]
    fn interim_answers_are_told_however_they_come_in_and_final_ones_are_not() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n";
        let body = "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n";
        for (answer, expected) in [
            (format!("{hints}{body}"), &["103 link=</a> link=</b>"][..]),
            (
                format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.0 102 \r\n\r\n{body}"),
                &["100", "103 link=</a> link=</b>", "102"],
            ),
            (body.to_owned(), &[]),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nHTTP/1.1 103 \r\n\r\n".to_owned(), &[]),
            ("HTTP/1.1 1\r\n\r\n".to_owned(), &[]),
            (format!("HTTP/1.1 103 Early Hints\r\nLink: {}", "x".repeat(2 * LONGEST)), &[]),
        ] {
            for piece in [1, 7, 1 << 20] {
                let (told, is_final) = told(&answer, piece);
                assert_eq!(
                    (told.as_slice(), is_final),
                    (expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice(), true)
                );
            }
        }
        assert_eq!(told(&hints[..hints.len() - 1], 1), (vec![], false));
    }

    #[test]
    fn nothing_is_told_after_the_request_was_given_up() {
        struct Client(Mutex<Vec<u16>>);
        impl Hears for Client {
            fn hear(&self, _: Option<u32>, status: StatusCode, _: &HeaderMap) {
                self.0.lock().unwrap().push(status.as_u16());
            }
        }
        let client = Arc::new(Client(Mutex::default()));
        let (hearing, mut lookout) = (Hearing::default(), Lookout::default());
        let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        lookout.see(hints, &hearing);
        let heard = hearing.listen(Some(Listener { client: client.clone(), stream: None, masks: None }), None);
        lookout.see(hints, &hearing);
        lookout.see(&hints[..20], &hearing);
        drop(heard);
        lookout.see(&hints[20..], &hearing);
        assert_eq!(*client.0.lock().unwrap(), [103]);
        assert_eq!(Arc::strong_count(&client), 1);
    }
}
