//! What is not the same directly and through gatepass.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter, Result};

use super::case::{How, Protocol};
use super::heard::{End, Heard, values};
use super::hpack::Fields;
use super::worker::Pair;

/// Who heard it otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    Client,
    Origin,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum What {
    /// gatepass answered itself, and says so.
    Refused,
    /// An error instead of the answer, without a word of why; or no answer at all.
    Bare,
    /// Requests that reached the origin.
    Count,
    Interim,
    Method,
    Target,
    Status,
    Reason,
    Version,
    Field(String),
    /// The same field, written in other letters.
    Letters,
    Trailer(String),
    Body,
    End,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    pub side: Side,
    pub what: What,
    pub direct: String,
    pub through: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { side, what, direct, through } = self;
        write!(f, "{side:?} {what:?}\n    directly: {direct}\n    through:  {through}")
    }
}

/// The error that gatepass told, if the answer is its own.
pub fn refusal(heard: &Heard) -> Option<String> {
    let told = heard
        .values("proxy-status")
        .iter()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .find(|v| v.contains("error="))?;
    Some(format!("{} {told}", heard.status()))
}

/// An answer that nobody gave.
fn bare(direct: &Heard, through: &Heard) -> Option<String> {
    let status = through.status();
    let error = through.end == End::Whole && status >= 400 && status != direct.status() && through.body.is_empty();
    let nothing = matches!(through.end, End::Broken | End::Nothing) && status == 0 && direct.status() != 0;
    (error || nothing).then(|| match through.reset {
        Some(code) => format!("stream reset with {code:#x}"),
        None => format!("{status} {:?}", through.end),
    })
}

pub fn differences(pair: &Pair) -> Vec<Difference> {
    let mut found = Vec::new();
    let (direct, through) = (&pair.direct, &pair.through);
    let gone = pair.case.request.cut.is_some_and(|(_, how)| how == How::Reset || pair.case.client == Protocol::H2);
    let refused = refusal(&through.client);
    if let Some(told) = &refused {
        let status = summary(&direct.client);
        found.push(Difference { side: Side::Client, what: What::Refused, direct: status, through: told.clone() });
    } else if let Some(told) = bare(&direct.client, &through.client) {
        let status = summary(&direct.client);
        found.push(Difference { side: Side::Client, what: What::Bare, direct: status, through: told });
    } else if !gone {
        messages(&mut found, Side::Client, &direct.client, &through.client);
    }
    let answered_itself = found.iter().any(|d| matches!(d.what, What::Refused | What::Bare));
    let nothing = Heard::default();
    let heard = |all: &'_ [Heard]| all.last().cloned().unwrap_or_else(|| nothing.clone());
    let (a, b) = (heard(&direct.origin), heard(&through.origin));
    if direct.origin.len() != through.origin.len() && !answered_itself {
        let one = |heard: &Heard| format!("{} {:?}", heard.start[0].escape_ascii(), heard.end);
        let count = |all: &[Heard]| format!("{} requests: {}", all.len(), all.iter().map(one).collect::<Vec<_>>().join(", "));
        found.push(Difference {
            side: Side::Origin,
            what: What::Count,
            direct: count(&direct.origin),
            through: count(&through.origin),
        });
    }
    // A request that was refused may have reached the origin in part; never as another, whole one.
    let compared = !through.origin.is_empty() && (!answered_itself || b.end == End::Whole);
    if compared {
        messages(&mut found, Side::Origin, &a, &b);
    }
    found
}

fn summary(heard: &Heard) -> String {
    format!("{} {:?}, {} bytes", heard.start[0].escape_ascii(), heard.end, heard.body.len())
}

fn messages(found: &mut Vec<Difference>, side: Side, direct: &Heard, through: &Heard) {
    let mut tell = |what: What, direct: String, through: String| {
        if direct != through {
            found.push(Difference { side, what, direct, through });
        }
    };
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let start = match side {
        Side::Client => [What::Status, What::Reason],
        Side::Origin => [What::Method, What::Target],
    };
    tell(What::End, format!("{:?}", direct.end), format!("{:?}", through.end));
    if direct.end == End::Nothing || through.start[0].is_empty() {
        return;
    }
    let interim = |heard: &Heard| {
        heard.interim.iter().map(|(status, fields)| format!("{status} {}", list(fields))).collect::<Vec<_>>().join("; ")
    };
    tell(What::Interim, interim(direct), interim(through));
    for (at, what) in start.into_iter().enumerate() {
        tell(what, text(&direct.start[at]), text(&through.start[at]));
    }
    tell(What::Version, format!("old: {}", direct.old), format!("old: {}", through.old));
    for name in names(&direct.fields, &through.fields) {
        let all = |fields| values(fields, &name).iter().map(|value| text(value)).collect::<Vec<_>>().join(" | ");
        tell(What::Field(name.clone()), all(&direct.fields), all(&through.fields));
    }
    for name in names(&direct.trailers, &through.trailers) {
        let all = |fields| values(fields, &name).iter().map(|value| text(value)).collect::<Vec<_>>().join(" | ");
        tell(What::Trailer(name.clone()), all(&direct.trailers), all(&through.trailers));
    }
    let letters = |own: &Fields, other: &Fields| {
        let both = own.iter().filter(|(name, _)| !values(other, &String::from_utf8_lossy(name)).is_empty());
        let names: BTreeSet<String> = both.map(|(name, _)| text(name)).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    tell(What::Letters, letters(&direct.fields, &through.fields), letters(&through.fields, &direct.fields));
    tell(What::Body, body(&direct.body), body(&through.body));
}

fn names(a: &Fields, b: &Fields) -> BTreeSet<String> {
    a.iter().chain(b).map(|(name, _)| String::from_utf8_lossy(name).to_ascii_lowercase()).collect()
}

fn list(fields: &Fields) -> String {
    let mut all: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}: {}", name.to_ascii_lowercase().escape_ascii(), value.escape_ascii()))
        .collect();
    all.sort();
    all.join(", ")
}

/// Length, a sum of all bytes, and the beginning.
fn body(body: &[u8]) -> String {
    let sum = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{} bytes, {sum:016x}, {}", body.len(), body[..body.len().min(24)].escape_ascii())
}
