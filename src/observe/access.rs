//! The access log: one line an exchange, text for people or JSON for machines. Lines wait in a
//! bounded queue for a thread of their own; a full queue drops lines and counts them, never a request.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_appender::non_blocking::NonBlocking;

use super::{Kind, Record};
use crate::config::LogFormat;

pub struct AccessLog {
    writer: NonBlocking,
    format: LogFormat,
}

impl AccessLog {
    pub fn new(writer: NonBlocking, format: LogFormat) -> Self {
        Self { writer, format }
    }

    pub(super) fn write(&self, record: &Record) {
        let mut line = match self.format {
            LogFormat::Text => text(record),
            LogFormat::Json => json(record),
        };
        line.push('\n');
        // The queue is lossy by design; there is no other error.
        let _ = self.writer.clone().write_all(line.as_bytes());
    }
}

fn text(record: &Record) -> String {
    let mut line = String::with_capacity(200);
    let time = OffsetDateTime::from(record.at);
    let _ = write!(line, "{:02}:{:02}:{:02}.{:03} ", time.hour(), time.minute(), time.second(), time.millisecond());
    match record.status {
        Some(status) => line.push_str(status.as_str()),
        None => line.push_str("---"),
    }
    match &record.kind {
        Kind::Exchange { method, path, .. } => {
            let _ = write!(line, " {method} {}{}", record.origin, clean(path));
        }
        Kind::Tunnel => {
            let _ = write!(line, " TUNNEL {}:{}", record.origin.host, record.origin.port);
        }
    }
    let _ = write!(line, " {}", milliseconds(record.total));
    let _ = write!(line, " in={} out={}", record.bytes_in, record.bytes_out);
    let _ = write!(line, " rule={} auth={} cert={}", record.rule, record.auth, record.certificate);
    if let Some(near) = &record.near {
        let _ = write!(line, " near=\"{}\"", clean(near).replace('"', "'"));
    }
    if let Some(user) = &record.client.user {
        let _ = write!(line, " user={}", clean(user));
    }
    if let Some(address) = record.upstream {
        let _ = write!(line, " upstream={address}");
    }
    if let Kind::Exchange { downstream, upstream, .. } = &record.kind {
        let _ = write!(line, " {downstream}>{upstream}");
    }
    if let Some(note) = &record.note {
        let _ = write!(line, " note=\"{}\"", clean(note));
    }
    if let Some((name, details)) = &record.error {
        let _ = write!(line, " error={name} \"{}\"", clean(details));
    }
    line
}

fn json(record: &Record) -> String {
    let (kind, method, path, downstream, upstream) = match &record.kind {
        Kind::Exchange { method, path, downstream, upstream } => {
            ("exchange", Some(method.as_str()), Some(&**path), Some(*downstream), Some(*upstream))
        }
        Kind::Tunnel => ("tunnel", None, None, None, None),
    };
    json!({
        "time": OffsetDateTime::from(record.at).format(&Rfc3339).unwrap_or_default(),
        "kind": kind,
        "method": method,
        "origin": record.origin.to_string(),
        "path": path,
        "status": record.status.map(|status| status.as_u16()),
        "rule": &*record.rule,
        "auth": &*record.auth,
        "certificate": &*record.certificate,
        "near": record.near.as_deref(),
        "client": record.client.address.map(|address| address.to_string()),
        "user": record.client.user.as_deref(),
        "upstream": record.upstream.map(|address| address.to_string()),
        "downstream_protocol": downstream,
        "upstream_protocol": upstream,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "connect_ms": ms(record.connect),
        "tls_ms": ms(record.tls),
        "first_byte_ms": record.first_byte.map(ms),
        "total_ms": ms(record.total),
        "error": record.error.as_ref().map(|(name, _)| *name),
        "note": record.note.as_deref(),
        "details": record.error.as_ref().map(|(_, details)| details.as_str()),
    })
    .to_string()
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        0..10 => format!("{:.1}ms", duration.as_secs_f64() * 1e3),
        n => format!("{n}ms"),
    }
}

/// What a client or origin wrote must not forge a line or steer a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) { '\u{fffd}' } else { c }).collect()
}
