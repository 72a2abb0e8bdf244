//! The access log: one line a record, text for people or JSON for machines, with the same names. Lines wait in a
//! bounded queue for a thread of their own; a full queue drops lines and counts them, never a request.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking};

use super::line::{Line, timestamp};
use super::{Kind, Record};
use crate::observe::{Log, LogFormat};

pub struct AccessLog {
    writer: NonBlocking,
    json: AtomicBool,
    on: AtomicBool,
    dropped: ErrorCounter,
    /// As many of them as were told.
    told: AtomicU64,
    /// One was dropped.
    lost: Arc<Notify>,
}

impl AccessLog {
    pub fn new(writer: NonBlocking, format: LogFormat) -> Self {
        let dropped = writer.error_counter();
        let json = AtomicBool::new(format == LogFormat::Json);
        Self { writer, json, on: AtomicBool::new(true), dropped, told: AtomicU64::new(0), lost: Arc::default() }
    }

    /// As a configuration says from now on. It is written where the level lets `info` through.
    pub fn set(&self, log: &Log) {
        self.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        self.on.store(!matches!(log.level.as_str(), "error" | "warn" | "off"), Ordering::Relaxed);
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, record: &Record) {
        let line = line(record, self.json.load(Ordering::Relaxed));
        // The queue is lossy by design; there is no other error.
        let _ = self.writer.clone().write_all(line.as_bytes());
        if self.dropped() > self.told.load(Ordering::Relaxed) {
            self.lost.notify_one();
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Returns when lines were dropped that nobody was told of.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// How many lines were dropped since this was asked last.
    pub(super) fn newly_dropped(&self) -> u64 {
        let dropped = self.dropped();
        dropped - self.told.swap(dropped, Ordering::Relaxed)
    }
}

/// `docs/logs.md` tells what each of them means.
fn line(record: &Record, json: bool) -> String {
    let mut line = Line::new(json);
    let (event, method, path, downstream, upstream) = match &record.kind {
        Kind::Exchange { method, path, downstream, upstream } => {
            ("exchange", Some(method.as_str()), Some(&**path), Some(*downstream), Some(*upstream))
        }
        Kind::Tunnel => ("tunnel", None, None, None, None),
        Kind::Connection => ("connection", None, None, None, None),
    };
    if line.is_json() {
        line.field("timestamp", Some(&timestamp(record.at)));
        line.field("level", Some("info"));
        line.field("event", Some(event));
        line.number("status", record.status.map(|status| status.as_u16()));
        line.field("method", method);
        line.field("origin", record.origin.as_ref().map(ToString::to_string).as_deref());
        line.field("path", path);
    } else {
        head(&mut line, record);
    }
    let present = |text: &'static str| (text != "-").then_some(text);
    let given = |text: &std::sync::Arc<str>| (!json || &**text != "-").then(|| text.clone());
    line.milliseconds("total_ms", Some(record.total));
    line.number("bytes_in", Some(record.bytes_in));
    line.number("bytes_out", Some(record.bytes_out));
    line.field("rule", given(&record.rule).as_deref());
    line.field("auth", given(&record.auth).as_deref());
    line.field("certificate", given(&record.certificate).as_deref());
    line.field("near", record.near.as_deref());
    line.field("client", record.client.address.map(|address| address.to_string()).as_deref());
    line.field("user", record.client.user.as_deref());
    line.field("upstream", record.upstream.map(|address| address.to_string()).as_deref());
    line.field("downstream_protocol", downstream);
    line.field("upstream_protocol", upstream.and_then(present));
    let waited = |duration: std::time::Duration| (json || !duration.is_zero()).then_some(duration);
    line.milliseconds("connect_ms", waited(record.connect));
    line.milliseconds("tls_ms", waited(record.tls));
    line.milliseconds("first_byte_ms", record.first_byte);
    line.field("note", record.note.as_deref());
    line.field("error", record.error.as_ref().map(|(name, _)| *name));
    line.field("details", record.error.as_ref().map(|(_, details)| details.as_str()));
    line.finish()
}

/// What people look for first: when, with what success, what was asked for.
fn head(line: &mut Line, record: &Record) {
    line.word(&timestamp(record.at));
    line.word(record.status.as_ref().map_or("---", |status| status.as_str()));
    match (&record.kind, &record.origin) {
        (Kind::Exchange { method, path, .. }, origin) => {
            line.word(method.as_str());
            line.word(&format!("{}{path}", origin.as_ref().map(ToString::to_string).unwrap_or_default()));
        }
        (Kind::Tunnel, origin) => {
            line.word("TUNNEL");
            line.word(&origin.as_ref().map_or_else(|| "-".to_owned(), |origin| format!("{}:{}", origin.host, origin.port)));
        }
        (Kind::Connection, _) => line.word("CONNECTION"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{Method, StatusCode};
    use proptest::prelude::*;

    use super::super::Client;
    use super::super::line::testing::parse;
    use super::*;
    use crate::origin::{Host, Origin, Scheme};

    fn record(hostile: &str) -> Record {
        let text: Arc<str> = hostile.into();
        Record {
            at: SystemTime::UNIX_EPOCH,
            kind: Kind::Exchange { method: Method::GET, path: format!("/{hostile}").into(), downstream: "h1", upstream: "-" },
            client: Client { address: None, user: Some(text.clone()) },
            origin: Some(Arc::new(Origin::new(Scheme::Https, Host::Name("a.test".into()), 443))),
            rule: "good".into(),
            auth: "-".into(),
            certificate: text.clone(),
            near: Some(text),
            upstream: None,
            status: Some(StatusCode::OK),
            bytes_in: 1,
            bytes_out: 2,
            connect: Duration::ZERO,
            tls: Duration::ZERO,
            first_byte: None,
            total: Duration::from_micros(1500),
            error: Some(("dns_error", hostile.to_owned())),
            note: Some(hostile.to_owned()),
        }
    }

    #[test]
    fn a_line_begins_with_what_people_look_for() {
        let line = line(&record("x"), false);
        let begin = "1970-01-01T00:00:00.000Z 200 GET https://a.test/x total_ms=1.5 bytes_in=1 bytes_out=2 rule=good auth=- ";
        assert!(line.starts_with(begin), "{line}");
    }

    proptest! {
        #[test]
        fn no_field_of_a_peer_writes_another(hostile in "(\\PC|[\"\\\\= \n\r\t\u{1b}\u{9b}\u{202e}]| rule=fake|\" rule=fake x=\"){0,12}") {
            let line = line(&record(&hostile), false);
            let fields = parse(&line).map_err(|why| TestCaseError::fail(format!("{why} in {line:?}")))?;
            let values = |name: &str| fields.iter().filter(|(n, v)| n == name && v.is_some()).map(|(_, v)| v.clone().unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(values("rule"), vec!["good"]);
            for name in ["user", "certificate", "near", "note", "details"] {
                prop_assert_eq!(values(name), vec![hostile.clone()], "{} of {}", name, line);
            }
            let read: serde_json::Value = serde_json::from_str(&super::line(&record(&hostile), true)).unwrap();
            prop_assert_eq!(read["details"].as_str(), Some(hostile.as_str()));
            prop_assert_eq!(read["rule"].as_str(), Some("good"));
            prop_assert!(read["auth"].is_null());
        }
    }
}
