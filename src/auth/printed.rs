//! The JSON that credential helpers print, and when what is in it expires.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// # Errors
/// It is none; nothing of it is told.
pub fn object(output: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(output).map_err(|_| "its output is not a JSON object".to_owned())
}

/// When what is described expires: seconds from now, or a point in time: seconds (or milliseconds) since 1970, or RFC 3339.
pub fn expiry(object: &Map<String, Value>, now: SystemTime) -> Result<Option<SystemTime>, String> {
    const AT: [&str; 9] = [
        "expires_at",
        "expiresAt",
        "expires_on",
        "expiration",
        "Expiration",
        "expirationTimestamp",
        "expiry",
        "token_expiry",
        "expires",
    ];
    for name in ["expires_in", "expiresIn"] {
        if let Some(value) = object.get(name).filter(|value| !value.is_null()) {
            let seconds = number(value).ok_or_else(|| format!("its `{name}` is not a number of seconds"))?;
            return Ok(now.checked_add(Duration::from_secs(seconds)));
        }
    }
    match AT.iter().find_map(|name| Some((*name, object.get(*name).filter(|value| !value.is_null())?))) {
        None => Ok(None),
        Some((name, value)) => instant(value).map(Some).ok_or_else(|| {
            format!("its `{name}` is not a time, which is written as 2030-01-31T12:00:00Z or in seconds since 1970")
        }),
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A point in time: seconds (or milliseconds) since 1970, or RFC 3339.
pub fn instant(value: &Value) -> Option<SystemTime> {
    if let Some(number) = number(value) {
        // A number this large is milliseconds: as seconds it would be the year 5138.
        let life = if number > 100_000_000_000 { Duration::from_millis(number) } else { Duration::from_secs(number) };
        return SystemTime::UNIX_EPOCH.checked_add(life);
    }
    OffsetDateTime::parse(value.as_str()?.trim(), &Rfc3339).ok().map(SystemTime::from)
}
