//! Components of a request that a signature covers, and their values (RFC 9421 §2).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use sfv::{Dictionary, FieldType, List, ListEntry, Parser};

use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::settings::Shape;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    QueryParam(String),
    Field(HeaderName, As),
}

/// How a field's value is taken (RFC 9421 §2.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum As {
    /// Lines trimmed and joined.
    Written,
    /// Serialized anew by the rules of Structured Fields.
    Structured,
    /// One member of a dictionary.
    Member(String),
    /// Each line as a byte sequence.
    Bytes,
}

/// A mistake, and the mend.
type Refused = (String, String);

impl Component {
    pub fn field(name: HeaderName) -> Self {
        Self::Field(name, As::Written)
    }

    pub fn is_field(&self, name: &HeaderName) -> bool {
        matches!(self, Self::Field(own, _) if own == name)
    }

    /// `@method`, `content-type`, `cache-control;key=max-age`, `@query-param;name="a"`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let (name, parameters) = text.split_once(';').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let (name, parameters) = (name.trim().trim_matches('"'), parameters.map(parameter).transpose()?);
        let plain = |component: Self| match &parameters {
            None => Ok(component),
            Some(_) => Err((format!("{} has no such parameter", shown(name)), format!("write it as `{name}`"))),
        };
        match name {
            "@method" => plain(Self::Method),
            "@target-uri" => plain(Self::TargetUri),
            "@authority" => plain(Self::Authority),
            "@scheme" => plain(Self::Scheme),
            "@request-target" => plain(Self::RequestTarget),
            "@path" => plain(Self::Path),
            "@query" => plain(Self::Query),
            "@query-param" => match parameters {
                Some(("name", value)) if !value.is_empty() => Ok(Self::QueryParam(value.to_owned())),
                _ => Err((
                    "`@query-param` needs the parameter's name".to_owned(),
                    "write it as `@query-param;name=NAME`".to_owned(),
                )),
            },
            "@status" => Err(("`@status` is of answers, and requests are signed here".to_owned(), "take it out".to_owned())),
            _ if name.starts_with('@') => Err((
                format!("there is no component {}", shown(name)),
                "@method, @target-uri, @authority, @scheme, @request-target, @path, @query and @query-param are there".to_owned(),
            )),
            _ => field(name, parameters),
        }
    }

    /// As it stands in the signature's list: a string and its parameters.
    pub fn identifier(&self) -> String {
        match self {
            Self::Method => "\"@method\"".to_owned(),
            Self::TargetUri => "\"@target-uri\"".to_owned(),
            Self::Authority => "\"@authority\"".to_owned(),
            Self::Scheme => "\"@scheme\"".to_owned(),
            Self::RequestTarget => "\"@request-target\"".to_owned(),
            Self::Path => "\"@path\"".to_owned(),
            Self::Query => "\"@query\"".to_owned(),
            Self::QueryParam(name) => format!("\"@query-param\";name={}", quoted(&encoded(name.as_bytes()))),
            Self::Field(name, As::Written) => format!("\"{name}\""),
            Self::Field(name, As::Structured) => format!("\"{name}\";sf"),
            Self::Field(name, As::Member(key)) => format!("\"{name}\";key={}", quoted(key)),
            Self::Field(name, As::Bytes) => format!("\"{name}\";bs"),
        }
    }

    /// Its value in a request; `None`: the request has no such thing.
    ///
    /// # Errors
    /// It has one that RFC 9421 cannot sign.
    pub fn value(&self, draft: &Draft) -> Result<Option<String>, Failure> {
        Ok(Some(match self {
            Self::Method => draft.method.to_string(),
            Self::TargetUri => draft.url(),
            Self::Authority => draft.origin.authority(),
            Self::Scheme => draft.origin.scheme.to_string(),
            Self::RequestTarget => draft.target.to_string(),
            Self::Path => draft.path().to_owned(),
            Self::Query => format!("?{}", draft.query().unwrap_or("")),
            Self::QueryParam(name) => return query_param(draft.query().unwrap_or(""), name),
            Self::Field(name, way) => return field_value(draft, name, way),
        }))
    }
}

/// A component's name in a message.
fn shown(name: &str) -> String {
    crate::settings::quoted(name, Shape::Field, "as written here")
}

/// The one parameter of a component: its name and value, quoted or not.
fn parameter(text: &str) -> Result<(&str, &str), Refused> {
    let text = text.trim();
    let (name, value) = text.split_once('=').map_or((text, ""), |(name, value)| (name.trim(), value.trim()));
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    if name.contains(';') || value.contains([';', '"', '\\']) {
        return Err((
            "a component has one parameter here".to_owned(),
            "write it as `NAME;key=MEMBER`, `NAME;sf` or `NAME;bs`".to_owned(),
        ));
    }
    Ok((name, value))
}

fn field(name: &str, parameters: Option<(&str, &str)>) -> Result<Component, Refused> {
    let lower = name.to_ascii_lowercase();
    let field = HeaderName::try_from(lower.as_str()).map_err(|_| {
        (format!("{} is not the name of a header field", shown(name)), "write it in lower case, as `content-type`".to_owned())
    })?;
    let way = match parameters {
        None => As::Written,
        Some(("sf", "")) => As::Structured,
        Some(("bs", "")) => As::Bytes,
        Some(("key", key)) if !key.is_empty() => As::Member(key.to_owned()),
        Some(("tr" | "req", _)) => {
            return Err(("trailers and answers are not signed here".to_owned(), "leave `;tr` or `;req` out".to_owned()));
        }
        Some(_) => {
            return Err(("this is no parameter of a field".to_owned(), "those are `;sf`, `;bs` and `;key=MEMBER`".to_owned()));
        }
    };
    Ok(Component::Field(field, way))
}

/// The set of application/x-www-form-urlencoded, but for spaces, which are `%20` (RFC 9421 §2.2.8).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, FORM).to_string()
}

fn query_param(query: &str, name: &str) -> Result<Option<String>, Failure> {
    let decoded = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<u8>>();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(own, _)| decoded(own) == name.as_bytes()).map(|(_, value)| encoded(&decoded(value)));
    let value = values.next();
    if values.next().is_some() {
        let message =
            format!("the query has `{name}` more than once, and `@query-param` cannot sign that (RFC 9421 section 2.2.8)");
        return Err(Failure::new(Cause::BadRequest, message).hint("sign `@query` instead"));
    }
    Ok(value)
}

fn field_value(draft: &Draft, name: &HeaderName, way: &As) -> Result<Option<String>, Failure> {
    let lines: Vec<&[u8]> = draft.headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let unreadable = |what: &str| {
        Failure::new(Cause::BadRequest, format!("the request's `{name}` {what}, and a rule signs it"))
            .hint("send another value, or sign it as `;bs`")
    };
    if *way == As::Bytes {
        let lines: Vec<String> = lines.iter().map(|line| format!(":{}:", BASE64_STANDARD.encode(line))).collect();
        return Ok(Some(lines.join(", ")));
    }
    let lines: Result<Vec<&str>, _> = lines.iter().map(|line| std::str::from_utf8(line)).collect();
    let text = lines.map_err(|_| unreadable("is not text"))?.join(", ");
    match way {
        As::Structured => structured(name, &text).map(Some).ok_or_else(|| unreadable("is not a Structured Field")),
        As::Member(key) => {
            let whole: Dictionary = Parser::new(&text).parse().map_err(|_| unreadable("is not a dictionary"))?;
            Ok(whole.get(key.as_str()).and_then(member))
        }
        As::Written | As::Bytes => Ok(Some(text)),
    }
}

/// A member's value by itself (RFC 9421 §2.1.2).
fn member(entry: &ListEntry) -> Option<String> {
    match entry {
        ListEntry::Item(item) => item.serialize().into(),
        list @ ListEntry::InnerList(_) => vec![list.clone()].serialize(),
    }
}

/// RFC 9421 §2.1.1. Of the registered request fields these are dictionaries; the rest are lists, of one item where
/// they are items.
fn structured(name: &HeaderName, text: &str) -> Option<String> {
    const DICTIONARIES: [&str; 7] = [
        "cache-control",
        "content-digest",
        "priority",
        "repr-digest",
        "signature-input",
        "want-content-digest",
        "want-repr-digest",
    ];
    let dictionary = || Parser::new(text).parse::<Dictionary>().ok()?.serialize();
    if DICTIONARIES.contains(&name.as_str()) {
        return dictionary();
    }
    Parser::new(text).parse::<List>().ok().and_then(|list| list.serialize()).or_else(dictionary)
}

/// A string of a Structured Field (RFC 9651 §4.1.6).
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The members of a dictionary, as written.
pub fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let (one, after) = rest.split_at(end_of_member(rest));
        rest = after;
        Some(one.split_once('=').map_or((one.trim(), "?1"), |(name, value)| (name.trim(), value.trim())))
    })
}

/// Where the comma is that stands in no string.
fn end_of_member(text: &str) -> usize {
    let (mut inside, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            ',' if !inside => return at,
            _ => {}
        }
    }
    text.len()
}
