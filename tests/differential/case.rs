//! A case: one request and its answer, as scripts for both ends, and their text.

use std::fmt::Write as _;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    H1,
    H2,
}

/// How the request gets to gatepass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// In a tunnel, TLS on both sides.
    Intercepted,
    /// Absolute-form to the forward port, all in clear.
    Forward,
    /// To a reverse listener, all in clear.
    Reverse,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    pub name: Vec<u8>,
    /// What stands between name and value: `: ` mostly.
    pub gap: Vec<u8>,
    pub value: Vec<u8>,
}

impl Field {
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), gap: b": ".to_vec(), value: value.into() }
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// How a body tells its end on HTTP/1.1; on HTTP/2, `Length` says the length and the others do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// No body, nothing said of one.
    #[default]
    None,
    /// By the length of all pieces.
    Length,
    /// Each piece is a chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    pub data: Vec<u8>,
    /// A chunk extension, from its semicolon on.
    pub extension: Vec<u8>,
}

/// How a script breaks off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// An orderly end of the stream (in TLS with close_notify).
    Fin,
    /// The connection goes without close_notify; in clear the same as `Fin`.
    Gone,
    /// A reset: of the connection on HTTP/1.1, of the stream on HTTP/2.
    Reset,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    pub fields: Vec<Field>,
    pub framing: Framing,
    pub pieces: Vec<Piece>,
    pub trailers: Vec<Field>,
    /// After so many bytes (HTTP/2: frames) of the whole message. Beyond its end: after the message.
    pub cut: Option<(usize, How)>,
    /// Bytes to a write; 0: all in one.
    pub step: usize,
}

impl Content {
    pub fn body(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.data.iter().copied()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.is(name))
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.is(name)).map(|field| &field.value[..])
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    pub client: Protocol,
    pub origin: Protocol,
    pub mode: Mode,
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub old_request: bool,
    pub request: Content,
    pub interim: Vec<(u16, Vec<Field>)>,
    /// The answer leaves when the head of the request is there.
    pub early: bool,
    pub status: u16,
    pub reason: Vec<u8>,
    pub old_answer: bool,
    pub answer: Content,
}

impl Case {
    pub fn plain(client: Protocol, origin: Protocol, mode: Mode) -> Self {
        Self {
            client,
            origin,
            mode,
            method: b"GET".to_vec(),
            target: b"/".to_vec(),
            old_request: false,
            request: Content::default(),
            interim: Vec::new(),
            early: false,
            status: 200,
            reason: b"OK".to_vec(),
            old_answer: false,
            answer: Content { framing: Framing::Length, ..Content::default() },
        }
    }

    pub fn pair(&self) -> String {
        format!("{:?}-{:?} {:?}", self.client, self.origin, self.mode).to_lowercase()
    }

    /// The answer ends with its head whatever it says (RFC 9112 §6.3).
    pub fn bodiless(&self) -> bool {
        self.method == b"HEAD" || matches!(self.status, 204 | 304)
    }

    pub fn expects(&self) -> bool {
        self.request.value("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("pair {}\n", self.pair());
        let _ = writeln!(text, "request {} {} {}", quoted(&self.method), quoted(&self.target), version(self.old_request));
        content(&mut text, &self.request);
        for (status, fields) in &self.interim {
            let _ = writeln!(text, "interim {status}");
            fields.iter().for_each(|field| line(&mut text, "field", field));
        }
        let _ = writeln!(text, "answer {} {} {}", self.status, quoted(&self.reason), version(self.old_answer));
        if self.early {
            text.push_str("  early\n");
        }
        content(&mut text, &self.answer);
        text
    }

    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut case = Case::plain(Protocol::H1, Protocol::H1, Mode::Intercepted);
        case.answer.framing = Framing::None;
        // 0: the request, 1: an interim answer, 2: the answer.
        let mut part = 0;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words = words(line)?;
            let word = |n: usize| words.get(n).cloned().ok_or_else(|| format!("too few words in {line:?}"));
            let number = |n: usize| {
                word(n).and_then(|w| String::from_utf8_lossy(&w).parse::<usize>().map_err(|e| format!("{e} in {line:?}")))
            };
            let content = if part == 0 { &mut case.request } else { &mut case.answer };
            match &words[0][..] {
                b"pair" => {
                    let protocol = |text: &[u8]| if text == b"h2" { Protocol::H2 } else { Protocol::H1 };
                    let both = word(1)?;
                    case.client = protocol(&both[..2]);
                    case.origin = protocol(&both[3..]);
                    case.mode = match &word(2)?[..] {
                        b"forward" => Mode::Forward,
                        b"reverse" => Mode::Reverse,
                        _ => Mode::Intercepted,
                    };
                }
                b"request" => (case.method, case.target, case.old_request) = (word(1)?, word(2)?, word(3)? == b"HTTP/1.0"),
                b"interim" => {
                    part = 1;
                    case.interim.push((u16::try_from(number(1)?).unwrap_or(100), Vec::new()));
                }
                b"answer" => {
                    part = 2;
                    (case.status, case.reason) = (u16::try_from(number(1)?).unwrap_or(200), word(2)?);
                    case.old_answer = word(3)? == b"HTTP/1.0";
                }
                b"early" => case.early = true,
                b"field" => {
                    let field = Field { name: word(1)?, gap: word(2)?, value: word(3)? };
                    match (part, case.interim.last_mut()) {
                        (1, Some((_, fields))) => fields.push(field),
                        _ => content.fields.push(field),
                    }
                }
                b"trailer" => content.trailers.push(Field { name: word(1)?, gap: word(2)?, value: word(3)? }),
                b"length" => content.framing = Framing::Length,
                b"chunked" => content.framing = Framing::Chunked,
                b"close" => content.framing = Framing::Close,
                b"piece" => content.pieces.push(Piece { data: word(1)?, extension: word(2).unwrap_or_default() }),
                b"step" => content.step = number(1)?,
                b"cut" => {
                    let how = match &word(2)?[..] {
                        b"reset" => How::Reset,
                        b"gone" => How::Gone,
                        _ => How::Fin,
                    };
                    content.cut = Some((number(1)?, how));
                }
                _ => return Err(format!("unknown line {line:?}")),
            }
        }
        Ok(case)
    }
}

fn version(old: bool) -> &'static str {
    if old { "HTTP/1.0" } else { "HTTP/1.1" }
}

fn line(text: &mut String, word: &str, field: &Field) {
    let _ = writeln!(text, "  {word} {} {} {}", quoted(&field.name), quoted(&field.gap), quoted(&field.value));
}

fn content(text: &mut String, content: &Content) {
    content.fields.iter().for_each(|field| line(text, "field", field));
    match content.framing {
        Framing::None => {}
        Framing::Length => text.push_str("  length\n"),
        Framing::Chunked => text.push_str("  chunked\n"),
        Framing::Close => text.push_str("  close\n"),
    }
    for piece in &content.pieces {
        let _ = writeln!(text, "  piece {} {}", quoted(&piece.data), quoted(&piece.extension));
    }
    content.trailers.iter().for_each(|field| line(text, "trailer", field));
    if content.step > 0 {
        let _ = writeln!(text, "  step {}", content.step);
    }
    if let Some((at, how)) = content.cut {
        let _ = writeln!(text, "  cut {at} {}", format!("{how:?}").to_lowercase());
    }
}

/// Long data is a stretch of the alphabet, so that a case stays readable.
pub fn alphabet(length: usize) -> Vec<u8> {
    b"abcdefghijklmnopqrstuvwxyz".iter().copied().cycle().take(length).collect()
}

fn quoted(bytes: &[u8]) -> String {
    if bytes.len() > 40 && bytes == alphabet(bytes.len()) {
        return format!("alphabet*{}", bytes.len());
    }
    format!("\"{}\"", bytes.escape_ascii())
}

fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let wrong = || format!("unreadable: {line:?}");
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('"') {
            let (word, after) = unquoted(inner).ok_or_else(wrong)?;
            words.push(word);
            rest = after.trim_start();
            continue;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        words.push(match word.strip_prefix("alphabet*") {
            Some(length) => alphabet(length.parse().map_err(|_| wrong())?),
            None => word.as_bytes().to_vec(),
        });
        rest = after.trim_start();
    }
    Ok(words)
}

fn unquoted(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut word = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((word, &text[at + 1..])),
            b'\\' => {
                at += 1;
                word.push(match bytes.get(at)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'x' => {
                        at += 2;
                        u8::from_str_radix(text.get(at - 1..=at)?, 16).ok()?
                    }
                    other => *other,
                });
            }
            byte => word.push(*byte),
        }
        at += 1;
    }
}
