//! Says daily which certificates are near their end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::exchange::Context;
use crate::gate::Gate;
use crate::moment::Moment;
use crate::tls::out::expiry::{Near, near, words};

const DAILY: Duration = Duration::from_secs(24 * 3600);

/// What was said of each certificate, by fingerprint.
type Said = HashMap<[u8; 32], Near>;

/// Each is told of when its last month, week and day begin; in its last day and after it, daily. What is near
/// at the start, the report of the configuration has said.
pub async fn watch(context: Arc<Context>) {
    let mut said = Said::new();
    news(&context.gate(), &mut said, Moment::real().now());
    loop {
        tokio::select! {
            () = tokio::time::sleep(DAILY) => {}
            () = context.stopping.cancelled() => return,
        }
        for sentence in news(&context.gate(), &mut said, Moment::real().now()) {
            tracing::warn!("{sentence}");
        }
    }
}

fn news(gate: &Gate, said: &mut Said, now: SystemTime) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut current = Said::new();
    for held in gate.certificates() {
        for details in &held.chain {
            let Some(nearness) = near(details, now) else { continue };
            let before = said.get(&details.fingerprint_sha256);
            current.insert(details.fingerprint_sha256, nearness);
            if before != Some(&nearness) || nearness >= Near::Day {
                let used = if held.rules.is_empty() { String::new() } else { format!(", used by {}", held.rules.join(", ")) };
                sentences.push(format!(
                    "the {} {} ({}) {}{used}",
                    held.kind.words(),
                    held.name,
                    details.name(),
                    words(details, now)
                ));
            }
        }
    }
    *said = current;
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Request;

    #[tokio::test]
    async fn each_step_toward_the_end_is_said_once_and_the_last_day_daily() {
        let inline = Some(("test.yaml".to_owned(), "rules: []".to_owned(), std::path::PathBuf::new()));
        let request = Request { inline, ca_in_memory: true, ..Request::default() };
        let gate = crate::serve::build(&request).await.ok().unwrap().gate;
        let ends = gate.authority.details().not_after;
        let mut said = Said::new();
        let mut count = |before: u32| news(&gate, &mut said, ends - DAILY / 2 * before).len();
        assert_eq!([count(80), count(60), count(58), count(14), count(12)], [0, 1, 0, 1, 0]);
        assert_eq!([count(2), count(1), count(0)], [1, 1, 1]);
        let told = news(&gate, &mut said, ends + DAILY);
        assert!(told[0].starts_with("the interception CA gatepass (gatepass CA") && told[0].contains("expired on"), "{told:?}");
    }
}
