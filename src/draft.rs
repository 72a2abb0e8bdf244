//! A request being prepared: what will leave for the origin, before it leaves. Everything that
//! adds to a request (rule edits, authorizers) works on a [`Draft`] and does no IO.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::failure::Failure;
use crate::origin::Origin;
use crate::settings::{Decode, Place};

/// RFC 3986 unreserved characters stay, everything else is percent-encoded.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Digests over the bytes of a body.
const DIGESTS: [HeaderName; 3] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("repr-digest"), HeaderName::from_static("digest")];
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

#[derive(Clone)]
pub struct Draft {
    pub method: Method,
    pub origin: Arc<Origin>,
    /// Path and query byte for byte as the client wrote them, but for what was asked to be added.
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A header that a rule may touch: not one that frames or routes the message.
pub fn header_name(decode: &mut Decode<'_>, text: &str, place: Place) -> Option<HeaderName> {
    const FRAMING: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
    ];
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if FRAMING.contains(&name) => {
            decode.report.error("header-name", place, format!("`{name}` frames or routes the message and is not for rules"));
            None
        }
        Ok(name) => Some(name),
        Err(_) => {
            decode.report.error("header-name", place, "this is not a header name");
            None
        }
    }
}

/// What is known of the request body while signing.
#[derive(Clone)]
pub enum Body {
    Empty,
    /// It will be streamed; its length, when declared. A scheme that needs the bytes says so in its `body_need`.
    Streamed(Option<u64>),
    Held(Held),
}

/// Room on disk that bodies take together.
#[derive(Clone, Default)]
pub struct Room(Arc<AtomicU64>);

impl Room {
    /// Takes more of it, if it is there.
    fn take(&self, more: u64, bound: u64) -> bool {
        let within = |taken: u64| taken.checked_add(more).filter(|taken| *taken <= bound);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    /// How much is taken.
    pub fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A temporary file without a name, and the room that it takes until it is gone.
pub struct Spill {
    file: Mutex<File>,
    room: Room,
    taken: u64,
}

impl Spill {
    pub fn new(file: File, room: &Room) -> Self {
        Self { file: Mutex::new(file), room: room.clone(), taken: 0 }
    }

    /// Makes sure of room for so many bytes more. False: all files together would take more than `bound`.
    pub fn reserve(&mut self, more: u64, bound: u64) -> bool {
        let taken = self.room.take(more, bound);
        self.taken += if taken { more } else { 0 };
        taken
    }

    /// Writes at its end.
    ///
    /// # Errors
    /// The disk is full, mostly.
    pub fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.get_mut().unwrap_or_else(|e| e.into_inner()).write_all(data)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// A body that was read before sending, because something must be computed over it, or it may be sent twice.
#[derive(Clone)]
pub enum Held {
    Memory(Bytes),
    /// Larger than the memory bound: an unnamed temporary file and its length.
    Spilled(Arc<Spill>, u64),
}

impl Held {
    pub fn len(&self) -> u64 {
        match self {
            Held::Memory(bytes) => bytes.len() as u64,
            Held::Spilled(_, len) => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, when they are in memory. Schemes that rewrite a body only do so below the memory bound.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Held::Memory(bytes) => Some(bytes),
            Held::Spilled(..) => None,
        }
    }

    /// Feeds the whole body to `take`, piece by piece; for hashing.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn for_each(&self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Held::Memory(bytes) => take(bytes),
            Held::Spilled(spill, _) => {
                let mut file = spill.file.lock().unwrap_or_else(|e| e.into_inner());
                file.seek(SeekFrom::Start(0))?;
                let mut piece = vec![0; 64 * 1024];
                loop {
                    match file.read(&mut piece)? {
                        0 => break,
                        n => take(&piece[..n]),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Body {
    /// Feeds the body to `take` when it is here (empty counts as here). False: it is streamed.
    ///
    /// # Errors
    /// As [`Held::for_each`].
    pub fn for_each(&self, take: impl FnMut(&[u8])) -> io::Result<bool> {
        match self {
            Body::Empty => Ok(true),
            Body::Streamed(_) => Ok(false),
            Body::Held(held) => held.for_each(take).map(|()| true),
        }
    }
}

/// Changes a body on its way out, piece by piece and in bounded memory: for a scheme that writes into the body but
/// need not have read it before the head leaves.
pub trait BodyTransform: Send {
    /// What leaves for the next piece; nothing while more of it is wanted.
    ///
    /// # Errors
    /// The body is not what it must be; the request is broken off.
    fn feed(&mut self, piece: Bytes) -> Result<Bytes, Failure>;

    /// What leaves after the last piece.
    ///
    /// # Errors
    /// The body ended too early.
    fn finish(&mut self) -> Result<Bytes, Failure>;

    /// The length of all that leaves, in bytes, where it is known beforehand. `None`: on HTTP/1.1 it goes out chunked.
    fn length(&self) -> Option<u64> {
        None
    }
}

/// A fresh [`BodyTransform`] for each sending of one request.
pub type BodyTransformFactory = Arc<dyn Fn() -> Box<dyn BodyTransform> + Send + Sync>;

impl Draft {
    pub fn path(&self) -> &str {
        self.target.path()
    }

    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// `scheme://authority/path?query`, for signatures over the absolute URL.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.target)
    }

    /// Media type of the body, lower case, without parameters.
    pub fn content_type(&self) -> Option<String> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
    }

    /// Replaces the query parameter `name`, or appends it; the rest of the query stays byte for byte.
    pub fn set_query(&mut self, name: &str, value: &str) {
        let pair = format!("{}={}", utf8_percent_encode(name, UNRESERVED), utf8_percent_encode(value, UNRESERVED));
        self.edit_query(name, Some(pair));
    }

    /// Removes every query parameter `name`.
    pub fn remove_query(&mut self, name: &str) {
        self.edit_query(name, None);
    }

    /// Removes every query parameter whose decoded name is one of `which`.
    pub fn remove_queries(&mut self, which: impl Fn(&str) -> bool) {
        let Some(query) = self.query() else { return };
        if query.split('&').any(|pair| which(&name_of(pair))) {
            let kept: Vec<&str> = query.split('&').filter(|pair| !which(&name_of(pair))).collect();
            let query = kept.join("&");
            self.put_query(&query);
        }
    }

    /// Removes a client's fields that an origin may read as `name`: CGI and many frameworks fold `_` and `-` together.
    pub fn drop_look_alikes(&mut self, name: &HeaderName) {
        let alike = |other: &&HeaderName| *other != name && folds_to(other.as_str(), name.as_str());
        let alike: Vec<HeaderName> = self.headers.keys().filter(alike).cloned().collect();
        for name in alike {
            self.headers.remove(name);
        }
    }

    /// Appends `raw` (already encoded) to the query.
    pub fn append_query(&mut self, raw: &str) {
        let query = match self.query() {
            Some(query) if !query.is_empty() => format!("{query}&{raw}"),
            _ => raw.to_owned(),
        };
        self.put_query(&query);
    }

    /// Does the query hold the parameter `name`, however it is encoded?
    pub fn has_query(&self, name: &str) -> bool {
        self.query().is_some_and(|query| query.split('&').any(|pair| names(pair, name)))
    }

    fn edit_query(&mut self, name: &str, pair: Option<String>) {
        let query = self.query().unwrap_or("").to_owned();
        // What is empty between two `&` stays too.
        let kept = query.split('&').filter(|old| !query.is_empty() && !names(old, name));
        let query = kept.chain(pair.as_deref()).collect::<Vec<_>>().join("&");
        self.put_query(&query);
    }

    /// Another body in place of the one there was: what was said of the old bytes goes.
    pub fn replace_body(&mut self, body: Bytes) {
        self.headers.insert(header::CONTENT_LENGTH, body.len().into());
        self.drop_digests();
        self.headers.remove(CONTENT_MD5);
        self.body = Body::Held(Held::Memory(body));
    }

    /// Takes out digests of the bytes of the body as they would be sent, which are about to change (RFC 9530, RFC 3230).
    pub fn drop_digests(&mut self) {
        for name in DIGESTS {
            self.headers.remove(name);
        }
    }

    fn put_query(&mut self, query: &str) {
        let path = self.target.path();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        // Everything added is percent-encoded and the rest was valid before.
        if let Ok(target) = PathAndQuery::try_from(target) {
            self.target = target;
        }
    }

    /// Sets a cookie of this name beside what the client sent; a cookie of the same name is replaced (RFC 6265 §5.4).
    /// False when `value` cannot stand in a `Cookie` field.
    pub fn set_cookie(&mut self, name: &str, value: &str) -> bool {
        let mut pairs: Vec<String> = Vec::new();
        for field in self.headers.get_all(header::COOKIE) {
            let text = String::from_utf8_lossy(field.as_bytes());
            pairs.extend(
                text.split(';').map(str::trim).filter(|p| !p.is_empty() && p.split('=').next() != Some(name)).map(str::to_owned),
            );
        }
        pairs.push(format!("{name}={value}"));
        match HeaderValue::from_str(&pairs.join("; ")) {
            Ok(mut field) => {
                field.set_sensitive(true);
                self.headers.insert(header::COOKIE, field);
                true
            }
            Err(_) => false,
        }
    }
}

/// A number as `Content-Length` has it (RFC 9110 §8.6): digits and nothing else.
pub fn digits(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

/// Is `name` the decoded name of the query pair `pair`?
fn names(pair: &str, name: &str) -> bool {
    name_of(pair) == name
}

/// The decoded name of a query pair; what is no text stays as it is written.
fn name_of(pair: &str) -> Cow<'_, str> {
    let written = pair.split('=').next().unwrap_or(pair);
    if !written.contains(['+', '%']) {
        return Cow::Borrowed(written);
    }
    let decoded = percent_encoding::percent_decode_str(&written.replace('+', " ")).decode_utf8().map(Cow::into_owned);
    decoded.map_or(Cow::Borrowed(written), Cow::Owned)
}

/// Are two names of fields the same where `_` and `-` are?
pub fn folds_to(name: &str, ours: &str) -> bool {
    name.len() == ours.len()
        && name.bytes().zip(ours.bytes()).all(|(a, b)| a == b || (matches!(a, b'_' | b'-') && matches!(b, b'_' | b'-')))
}
