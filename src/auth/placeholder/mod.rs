//! `placeholder`: the client holds a dummy, and the rule's hosts get the real value in its place. What
//! they answer has the dummy in it again.

mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderValue, header};

use super::{
    Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Locations, Preparation, Round, Scheme, Shape, Signed, fetched,
    scheme_fields,
};
use crate::draft::{Body, BodyTransform, BodyTransformFactory, Draft, Held};
use crate::failure::{Cause, Failure};
use crate::provided::SecretRef;
use crate::replace::{Coding, Replacement, Replacer, spellings};
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Node, Place};

pub static SCHEME: Scheme = Scheme {
    name: "placeholder",
    doc: "The client holds a dummy; the rule's hosts get the real value in its place: in header values (also inside `Basic`), path and query (percent-encoded), and bodies of text, JSON, XML, form or multipart. The value is swapped back in the reason, fields, trailers and text bodies of answers, which are asked for uncompressed. Other hosts get the dummy.",
    short: None,
    settings: &[
        ("match", Shape::Text, "required", "the dummy: 10 or more of letters, digits, `-`, `_`, `.`, `~`, and not a plain word"),
        ("value", Shape::Secret, "required", "what the host gets, a SECRET of 8 characters or more"),
        (
            "in",
            Shape::Many(&Shape::Words(&["header", "query", "path", "body"])),
            "[header, query, path, body]",
            "where it is looked for",
        ),
    ],
    build,
};

/// A shorter dummy could stand in a request by accident, a shorter value in an answer.
const SHORTEST: usize = 10;
const SHORTEST_VALUE: usize = 8;

#[derive(Clone, Copy)]
struct Places {
    header: bool,
    query: bool,
    path: bool,
    body: bool,
}

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let match_node = decode.required(&fields, SCHEME.name, "match");
    let value_node = decode.required(&fields, SCHEME.name, "value");
    let places = match fields.get("in") {
        None => Places { header: true, query: true, path: true, body: true },
        Some(node) => {
            let words = [("header", 0), ("query", 1), ("path", 2), ("body", 3)];
            let items = decode.list(node);
            let said: Vec<i32> =
                items.iter().map(|item| decode.choice(item, "place for a placeholder", &words)).collect::<Option<_>>()?;
            let has = |place| said.contains(&place);
            Places { header: has(0), query: has(1), path: has(2), body: has(3) }
        }
    };
    let (match_node, value_node) = (match_node?, value_node?);
    let dummy = decode.string(match_node)?;
    let value = secrets::reference(decode.text(value_node)?);
    unmistakable(&dummy, match_node.place, decode)?;
    if let Some(why) = value.known().and_then(|value| unfit(value, &dummy)) {
        decode
            .report
            .error("placeholder", value_node.place, why)
            .help("choose another `match`, or send the value by another type");
        return None;
    }
    Some(Arc::new(Placeholder { dummy, value, places }))
}

/// What can stand in a request by accident is no placeholder; and it must read the same however it is encoded.
fn unmistakable(dummy: &str, place: Place, decode: &mut Decode<'_>) -> Option<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    let mut distinct: Vec<char> = dummy.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let why = if !dummy.chars().all(is_plain) {
        "a `match` holds letters, digits, `-`, `_`, `.` and `~` only, which no encoding changes".to_owned()
    } else if dummy.len() < SHORTEST {
        format!("this `match` has {} characters; fewer than {SHORTEST} could stand in a request by accident", dummy.len())
    } else if distinct.len() < 5 || dummy.chars().all(|c| c.is_ascii_alphabetic()) {
        "this `match` is a plain word or too even, and could stand in a request by accident".to_owned()
    } else {
        return Some(());
    };
    decode.report.error("placeholder", place, why).help("make it up, as in gp-dummy-123");
    None
}

/// Why a value cannot be told apart.
fn unfit(value: &Secret, dummy: &str) -> Option<String> {
    if value.expose().contains(dummy) {
        return Some("the value holds its own placeholder".to_owned());
    }
    let short = value.expose().len() < SHORTEST_VALUE;
    short.then(|| format!("this value has fewer than {SHORTEST_VALUE} characters, and could not be told apart in answers"))
}

struct Placeholder {
    dummy: String,
    value: SecretRef,
    places: Places,
}

impl Placeholder {
    fn secret(&self) -> Result<Secret, Failure> {
        let secret = super::prepared(&self.value)?;
        match unfit(&secret, &self.dummy) {
            Some(why) => Err(Failure::new(Cause::Credential, format!("placeholder `{}`: {why}", self.dummy))),
            None => Ok(secret),
        }
    }

    /// How the body is coded, if it is one that is looked into.
    fn coding(&self, draft: &Draft) -> Option<Coding> {
        let coded = draft.headers.contains_key(header::CONTENT_ENCODING);
        self.places.body.then(|| draft.content_type()).flatten().filter(|_| !coded).and_then(|kind| Coding::of(&kind))
    }

    /// Is the body changed as it passes?
    fn transforms(&self, draft: &Draft) -> bool {
        self.coding(draft).is_some() && matches!(&draft.body, Body::Streamed(_) | Body::Held(Held::Spilled(..)))
    }

    fn transform(&self, draft: &Draft, secret: &Secret) -> Option<BodyTransformFactory> {
        let coding = self.coding(draft).filter(|_| self.transforms(draft))?;
        let pair = self.pair(secret, coding);
        let length = match &draft.body {
            Body::Streamed(length) if pair.from.len() == pair.to.len() => *length,
            _ => None,
        };
        Some(Arc::new(move || {
            Box::new(Swapped { replacer: Replacer::new(vec![pair.clone()]), length }) as Box<dyn BodyTransform>
        }))
    }

    fn pair(&self, secret: &Secret, coding: Coding) -> Replacement {
        Replacement::new(self.dummy.clone(), coding.write(secret.expose()))
    }

    fn in_target(&self, draft: &mut Draft, secret: &Secret) -> Result<(), Failure> {
        let value = Coding::Form.write(secret.expose());
        let swap = |text: &str, wanted: bool| if wanted { places::decoded(text, &self.dummy, &value) } else { None };
        let path = swap(draft.path(), self.places.path);
        let query = draft.query().and_then(|query| swap(query, self.places.query));
        if path.is_none() && query.is_none() {
            return Ok(());
        }
        let path = path.unwrap_or_else(|| draft.path().to_owned());
        let query = query.or_else(|| draft.query().map(str::to_owned)).map_or_else(String::new, |query| format!("?{query}"));
        draft.target = format!("{path}{query}")
            .parse()
            .map_err(|_| Failure::new(Cause::BadRequest, "the target is too long with the value in it"))?;
        Ok(())
    }

    fn in_headers(&self, draft: &mut Draft, secret: &Secret) -> Result<(), Failure> {
        let mut swap = Replacer::new(vec![self.pair(secret, Coding::Raw)]);
        for (name, value) in &mut draft.headers {
            if *name == header::HOST || *name == header::CONTENT_LENGTH {
                continue;
            }
            let swapped = swap.all(value.as_bytes());
            let swapped = swapped.or_else(|| places::basic(value.as_bytes(), &mut swap).map(Into::into));
            let Some(swapped) = swapped else { continue };
            let mut new = HeaderValue::from_maybe_shared(swapped).map_err(|_| {
                let why = format!("the value behind placeholder `{}` holds characters that a header cannot carry", self.dummy);
                Failure::new(Cause::Credential, why)
            })?;
            new.set_sensitive(true);
            *value = new;
        }
        Ok(())
    }
}

impl Authorizer for Placeholder {
    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Placeholder(self.dummy.clone()), CredentialLocation::Aside(header::ACCEPT_ENCODING)])
    }
    /// A body of known length that memory holds leaves with its length; any other is swapped as it streams.
    fn body_need(&self, draft: &Draft) -> BodyNeed {
        if self.coding(draft).is_some() { BodyNeed::Spare } else { BodyNeed::None }
    }
    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(self)
    }
}

impl Attempt for Arc<Placeholder> {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.value])
    }
    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        let secret = self.secret()?;
        // A coded answer could not be looked into.
        draft.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.in_target(draft, &secret)?;
        if self.places.header {
            self.in_headers(draft, &secret)?;
        }
        if let (Some(coding), Body::Held(Held::Memory(bytes))) = (self.coding(draft), &draft.body)
            && let Some(swapped) = Replacer::new(vec![self.pair(&secret, coding)]).all(bytes)
        {
            draft.replace_body(swapped);
        } else if self.transforms(draft) {
            // Whether it is in there shows only when the head has left.
            draft.drop_digests();
        }
        Ok(Signed { transform: self.transform(draft, &secret), ..Signed::default() })
    }
    fn masks(&self, draft: &Draft) -> Result<Vec<Replacement>, Failure> {
        let secret = self.secret()?;
        let spelled = spellings(secret.expose()).into_iter();
        let mut pairs: Vec<Replacement> = spelled.map(|real| Replacement::new(real, self.dummy.clone())).collect();
        // As it stands inside the `Basic` that was sent, which some servers echo.
        let mut back = Replacer::new(vec![Replacement::new(secret.expose(), self.dummy.clone())]);
        for field in draft.headers.values() {
            if let Some(was) = places::basic(field.as_bytes(), &mut back) {
                let token = |field: &[u8]| field.split(|b| *b == b' ').next_back().unwrap_or_default().to_vec();
                pairs.push(Replacement::new(token(field.as_bytes()), token(&was)));
            }
        }
        Ok(pairs)
    }
}

/// A body on its way out.
struct Swapped {
    replacer: Replacer,
    length: Option<u64>,
}

impl BodyTransform for Swapped {
    fn feed(&mut self, piece: bytes::Bytes) -> Result<bytes::Bytes, Failure> {
        Ok(self.replacer.feed(piece))
    }
    fn finish(&mut self) -> Result<bytes::Bytes, Failure> {
        Ok(self.replacer.finish())
    }
    fn length(&self) -> Option<u64> {
        self.length
    }
}
