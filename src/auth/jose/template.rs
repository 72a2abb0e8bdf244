//! Claims as they are configured: JSON in the order written, secrets, and times that count from now.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::failure::Failure;
use crate::moment::{Moment, NonceKind, random_hex};
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node, parse_duration};

/// Members of a JSON object, in order.
#[derive(Clone, Default)]
pub struct Template(Vec<(String, Part)>);

#[derive(Clone)]
pub enum Part {
    Fixed(Json),
    Secret(SecretRef),
    /// Seconds since 1970, so many seconds from now.
    Now(i64),
    /// A value never used before.
    Unique,
    /// Written as null: it is left out, also where it would be added by default.
    Absent,
}

impl Template {
    /// A map of members. `now`, `now+5m` and `now-10` are times, `null` leaves a member out, `{ exec: … }` and the
    /// other forms of a SECRET stand for their text; all that at the top level only.
    pub fn read(node: &Node, decode: &mut Decode<'_>, what: &str) -> Option<Self> {
        let entries = decode.map(node, what)?;
        let parts: Vec<_> = entries.iter().map(|(key, node)| Some((key.text.clone(), part(node, decode)?))).collect();
        parts.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }

    /// Sets a member, in its place if it is there.
    pub fn set(&mut self, name: &str, part: Part) {
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = part,
            None => self.0.push((name.to_owned(), part)),
        }
    }

    /// Appends a member unless it is there.
    pub fn add_default(&mut self, name: &str, part: Part) {
        if !self.0.iter().any(|(own, _)| own == name) {
            self.0.push((name.to_owned(), part));
        }
    }

    /// Sets all members of another.
    pub fn lay_over(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, part)| self.set(&name, part));
    }

    pub fn get(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, part)| part)
    }

    fn secrets(&self) -> impl Iterator<Item = (&str, &SecretRef)> {
        self.0.iter().filter_map(|(name, part)| match part {
            Part::Secret(value) => Some((name.as_str(), value)),
            _ => None,
        })
    }

    /// The members that hold secrets.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets().map(|(name, _)| name)
    }

    /// The secrets among the members.
    pub fn values(&self) -> impl Iterator<Item = &SecretRef> {
        self.secrets().map(|(_, value)| value)
    }

    /// The object, at a moment.
    ///
    /// # Errors
    /// A secret has not been fetched.
    pub fn fill(&self, moment: &Moment) -> Result<Map<String, Json>, Failure> {
        let mut members = Map::new();
        for (name, part) in &self.0 {
            let value = match part {
                Part::Absent => continue,
                Part::Fixed(json) => json.clone(),
                Part::Secret(value) => crate::auth::prepared(value)?.expose().into(),
                Part::Now(offset) => moment.unix().saturating_add_signed(*offset).into(),
                Part::Unique => moment.nonce(NonceKind::Jti, random_hex::<16>).into(),
            };
            members.insert(name.clone(), value);
        }
        Ok(members)
    }
}

fn part(node: &Node, decode: &mut Decode<'_>) -> Option<Part> {
    const FORMS: [&str; 8] = ["env", "file", "exec", "keyring", "ttl", "timeout", "format", "field"];
    if let Some(entries) = node.as_map()
        && entries.iter().any(|(key, _)| FORMS[..4].contains(&key.text.as_str()))
        && entries.iter().all(|(key, _)| FORMS.contains(&key.text.as_str()))
    {
        return decode.text(node).map(|text| Part::Secret(secrets::reference(text)));
    }
    match json(node, decode)? {
        Json::Null => Some(Part::Absent),
        Json::String(text) => Some(now(&text).map_or(Part::Fixed(Json::String(text)), Part::Now)),
        json => Some(Part::Fixed(json)),
    }
}

/// `now`, `now+300`, `now-5m`: seconds from now.
fn now(text: &str) -> Option<i64> {
    let rest = text.strip_prefix("now")?;
    if rest.is_empty() {
        return Some(0);
    }
    let (sign, rest) = rest.split_at_checked(1)?;
    let seconds = i64::try_from(parse_duration(rest).filter(|_| !rest.is_empty())?.as_secs()).ok()?;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// The node as JSON, its texts expanded.
fn json(node: &Node, decode: &mut Decode<'_>) -> Option<Json> {
    use crate::settings::Value as Written;
    match &node.value {
        Written::Null => Some(Json::Null),
        Written::Bool(value) => Some((*value).into()),
        Written::Number(text) => {
            let number = serde_json::from_str::<serde_json::Number>(text).ok().map(Json::Number);
            if number.is_none() {
                decode.report.error("wrong-number", node.place, "JSON has no such number").help("put it in quotes if it is text");
            }
            number
        }
        Written::Text(_) => decode.string(node).map(Json::String),
        Written::List(items) => {
            let items: Vec<_> = items.iter().map(|item| json(item, decode)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
        }
        Written::Map(entries) => {
            let members: Vec<_> = entries.iter().map(|(key, node)| Some((key.text.clone(), json(node, decode)?))).collect();
            members.into_iter().collect::<Option<Map<_, _>>>().map(Json::Object)
        }
    }
}

/// A length of time as the offset of a claim.
pub fn offset(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_now_and_other_texts_stay() {
        for (text, offset) in [
            ("now", Some(0)),
            ("now+300", Some(300)),
            ("now-60", Some(-60)),
            ("now+5m", Some(300)),
            ("now + 5m", None),
            ("now+", None),
            ("now5", None),
            ("nowé", None),
            ("nowhere", None),
            ("tomorrow", None),
        ] {
            assert_eq!(now(text), offset, "{text}");
        }
    }
}
