//! Interim answers (1xx, RFC 9110 §15.2) toward the client. hyper's servers send none of their own but a `100 Continue` on
//! HTTP/1, so they are put between what hyper writes; `listen/stream.rs` and `listen/frames.rs` know where that is possible.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, Request, StatusCode, Version};

use super::context::Activity;
use super::headers;
use crate::replace::Replacements;
use crate::upstream::interim::{Hears, Listener};

/// The field by which a request of HTTP/2 says on which stream it came. It is put in on the client's connection, after
/// whatever the client may have sent under this name, and goes no further.
pub const STREAM: &str = "gatepass-stream";

/// Of one connection; advice that nobody takes in is not worth more memory.
const MOST_WAITING: usize = 16;
const LONGEST: usize = 8 * 1024;

/// What waits to be put between hyper's bytes on one connection.
#[derive(Default)]
pub struct Line {
    is_waiting: AtomicBool,
    waiting: Mutex<VecDeque<Bytes>>,
    reader: AtomicWaker,
}

impl Line {
    fn push(&self, bytes: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
        if waiting.len() < MOST_WAITING && bytes.len() <= LONGEST {
            waiting.push_back(bytes);
            self.is_waiting.store(true, Ordering::Release);
            drop(waiting);
            self.reader.wake();
        }
    }

    pub fn wake(&self) {
        self.reader.wake();
    }

    pub fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    pub fn take(&self) -> Option<Bytes> {
        let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
        let first = waiting.pop_front();
        self.is_waiting.store(!waiting.is_empty(), Ordering::Release);
        first
    }

    /// The connection's task is woken when there is something.
    pub fn register(&self, waker: &Waker) {
        self.reader.register(waker);
    }
}

/// How interim answers to one request are written.
#[derive(Clone, Copy)]
pub enum Form {
    Text,
    /// As frames of this stream.
    Frame(u32),
}

impl Form {
    /// How its client can be sent any, and what was put into it for that is taken out. `None`: it cannot.
    pub fn of<B>(request: &mut Request<B>) -> Option<Self> {
        match request.version() {
            Version::HTTP_11 => Some(Form::Text),
            Version::HTTP_2 => {
                let said = request.headers().get_all(STREAM).iter().next_back()?.to_str().ok()?.parse().ok();
                request.headers_mut().remove(STREAM);
                said.map(Form::Frame)
            }
            _ => None,
        }
    }
}

/// The interim answers to one request, up to its final one.
pub struct Interim {
    activity: Arc<Activity>,
    form: Form,
    /// The final answer has not been given.
    open: Mutex<bool>,
}

/// Ends it with itself.
pub struct Until(Arc<Interim>);

impl Drop for Until {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(|e| e.into_inner()) = false;
    }
}

impl Until {
    pub fn new(activity: &Arc<Activity>, form: Form) -> Self {
        Self(Arc::new(Interim { activity: activity.clone(), form, open: Mutex::new(true) }))
    }

    pub fn interim(&self) -> Arc<Interim> {
        self.0.clone()
    }
}

/// What an exchange needs to know to tell any.
#[derive(Default)]
pub struct Telling {
    form: Option<Form>,
    until: Option<Until>,
}

impl Telling {
    pub fn new(form: Option<Form>) -> Self {
        Self { form, until: None }
    }

    /// Who hears of those of an origin. `None`: its client can be sent none.
    pub fn listener(&self, activity: &Arc<Activity>, masks: Option<&Arc<Replacements>>) -> Option<Listener> {
        let stream = match self.form? {
            Form::Text => None,
            Form::Frame(stream) => Some(stream),
        };
        Some(Listener { client: activity.clone(), stream, masks: masks.cloned() })
    }

    /// Asks for the body of a client that waits to be asked, where hyper does not: on HTTP/2 (RFC 9110 §10.1.1).
    pub fn asking(&mut self, activity: &Arc<Activity>) -> Option<Box<dyn FnOnce() + Send>> {
        let Some(form @ Form::Frame(_)) = self.form else { return None };
        let interim = self.until.get_or_insert_with(|| Until::new(activity, form)).interim();
        Some(Box::new(move || interim.tell(StatusCode::CONTINUE, &HeaderMap::new())))
    }

    /// The final answer is next.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

impl Interim {
    /// Passes one on, if the final answer is still to come.
    pub fn tell(&self, status: StatusCode, fields: &HeaderMap) {
        let open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        if *open {
            pass_on(&self.activity, self.form, status, fields);
        }
    }
}

impl Hears for Activity {
    fn hear(&self, stream: Option<u32>, status: StatusCode, fields: &HeaderMap) {
        pass_on(self, stream.map_or(Form::Text, Form::Frame), status, fields);
    }
}

fn pass_on(activity: &Activity, form: Form, status: StatusCode, fields: &HeaderMap) {
    let mut fields = fields.clone();
    headers::strip(&mut fields);
    fields.remove(http::header::CONTENT_LENGTH);
    activity.line().push(match form {
        // hyper says it itself.
        Form::Text if status == StatusCode::CONTINUE => return,
        Form::Text => text(status, &fields),
        Form::Frame(stream) => frame(stream, status, &fields),
    });
}

fn text(status: StatusCode, fields: &HeaderMap) -> Bytes {
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in fields {
        text.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// A HEADERS frame (RFC 9113 §6.2). Its fields are literals that go into no table (RFC 7541 §6.2.2), so that hyper's encoder
/// and the client's decoder need not hear of it.
fn frame(stream: u32, status: StatusCode, fields: &HeaderMap) -> Bytes {
    // `:status` is the eighth of the static table.
    let mut block = vec![0x08, 3];
    block.extend_from_slice(status.as_str().as_bytes());
    for (name, value) in fields {
        literal(&mut block, name.as_str().as_bytes(), value.as_bytes());
    }
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes();
    const HEADERS: u8 = 1;
    const END_HEADERS: u8 = 4;
    let mut frame = vec![length[1], length[2], length[3], HEADERS, END_HEADERS];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame.into()
}

/// A field of a header block that goes into no table (RFC 7541 §6.2.2).
pub fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        integer(block, text.len());
        block.extend_from_slice(text);
    }
}

/// With a prefix of seven bits (RFC 7541 §5.1).
fn integer(block: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        return block.push(number as u8);
    }
    block.push(127);
    number -= 127;
    while number >= 128 {
        block.push(number as u8 | 128);
        number >>= 7;
    }
    block.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_rfc_7541_appendix_c_1() {
        let written = |number| {
            let mut block = Vec::new();
            integer(&mut block, number);
            block
        };
        assert_eq!(written(10), [10]);
        assert_eq!(written(126), [126]);
        assert_eq!(written(127), [127, 0]);
        assert_eq!(written(127 + 1337 - 31), [127, 0x9a, 0x0a]);
    }

    #[test]
    fn nothing_is_said_after_the_final_answer_and_no_more_than_a_few_wait() {
        let activity = Activity::new(true);
        let until = Until::new(&activity, Form::Frame(3));
        let interim = until.interim();
        for _ in 0..MOST_WAITING * 2 {
            interim.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
        }
        let waiting = std::iter::from_fn(|| activity.line().take()).count();
        assert_eq!(waiting, MOST_WAITING);
        drop(until);
        interim.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
        assert!(!activity.line().is_waiting());
    }
}
