//! `/metrics`, in the text format of Prometheus (version 0.0.4). Names and subjects, never a secret.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::reload::Reloader;
use crate::exchange::Context;
use crate::gate::{Gate, Held, Kind};
use crate::observe::Handshake;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn text(context: &Context, reloader: &Reloader, ready: bool) -> String {
    let gate = context.gate();
    let counters = &context.observe.counters;
    let mut page = Page(String::new());
    page.one("gatepass_build_info", "gauge", "The version that runs.", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("gatepass_ready", "gauge", "1 while new work is taken.", &[], u64::from(ready));
    page.one("gatepass_rules", "gauge", "Rules in force.", &[], gate.rules().len() as u64);
    let pending = u64::from(reloader.is_pending());
    page.one("gatepass_config_pending", "gauge", "1 while a file that changed could not be taken up.", &[], pending);
    page.head("gatepass_config_reloads_total", "counter", "Reloads, by how they ended.");
    for (result, counter) in [("success", &reloader.succeeded), ("failure", &reloader.failed)] {
        page.sample("gatepass_config_reloads_total", &[("result", result)], load(counter));
    }
    for (name, counter, help) in [
        ("gatepass_connections_total", &counters.connections, "Connections accepted from clients."),
        ("gatepass_exchanges_total", &counters.exchanges, "Requests carried or refused."),
        ("gatepass_failures_total", &counters.failures, "Requests that gatepass answered itself, with an error."),
        ("gatepass_tunnels_total", &counters.tunnels, "Tunnels passed through blindly or refused."),
        ("gatepass_refused_callers_total", &counters.refused, "Callers that a listener did not let in."),
    ] {
        page.one(name, "counter", help, &[], load(counter));
    }
    page.one(
        "gatepass_log_dropped_total",
        "counter",
        "Lines of the access log that were dropped.",
        &[],
        context.observe.dropped(),
    );
    const HANDSHAKES: &str = "gatepass_client_handshake_failures_total";
    page.head(HANDSHAKES, "counter", "TLS handshakes by clients that failed, by reason.");
    for (reason, name) in Handshake::ALL {
        page.sample(HANDSHAKES, &[("reason", name)], load(&counters.handshakes[reason as usize]));
    }
    certificates(&gate, &mut page);
    page.0
}

fn certificates(gate: &Gate, page: &mut Page) {
    const NAME: &str = "gatepass_certificate_expiration_timestamp_seconds";
    page.head(NAME, "gauge", "When a certificate ends, in seconds since 1970.");
    let mut told = HashSet::new();
    for held in gate.certificates() {
        let details = held.details();
        // One file may be named twice; a series may not.
        if told.insert((held.kind, held.name.clone(), details.fingerprint_sha256)) {
            let kind = kind(&held);
            let labels = [
                ("kind", kind),
                ("name", held.name.as_str()),
                ("subject", details.subject.as_str()),
                ("serial", details.serial.as_str()),
            ];
            page.sample(NAME, &labels, seconds(details.not_after));
        }
    }
}

fn kind(held: &Held) -> &'static str {
    match held.kind {
        Kind::InterceptionCa => "interception_ca",
        Kind::ClientCertificate => "client",
        Kind::Ca => "ca",
        Kind::Listener => "listener",
        Kind::CallerCa => "caller_ca",
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.head(name, kind, help);
        self.sample(name, labels, value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("subject", "CN=a \"b\" \\ \n")], 7);
        assert_eq!(page.0, "x{subject=\"CN=a \\\"b\\\" \\\\ \\n\"} 7\n");
    }
}
