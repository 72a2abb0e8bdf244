//! The secret that a command prints: `exec:`, and the system's keyring, which a command reads.

use std::sync::Arc;
use std::time::Duration;

use super::helper::Run;
use crate::failure::Failure;
use crate::provided::{Fetching, Provider};
use crate::secret::Secret;
use crate::settings::Command;

/// Runs the command when the secret is needed. Why it fails, its error stream says; its output is never shown.
pub struct CommandProvider(pub Arc<Command>);

impl Provider<Secret> for CommandProvider {
    fn fetch(&self) -> Fetching<'_, Secret> {
        Box::pin(async {
            output(&self.0).await.map_err(|failure| match &self.0.mend {
                Some(mend) => failure.hint(mend),
                None => failure,
            })
        })
    }
}

/// The output of the command, or a member of it.
async fn output(command: &Command) -> Result<(Secret, Duration), Failure> {
    let Command { argv, directory, timeout, bound, .. } = command;
    let run = Run { argv, directory, timeout: *timeout, stdin: "", bound: *bound, environment: &[] };
    let text = run.output().await?;
    let secret = match &command.field {
        None => Secret::new(text.trim_end_matches(['\n', '\r'])),
        Some(field) => member(&text, field).map_err(|why| run.failure(&why))?,
    };
    if secret.is_empty() { Err(run.failure("its output is empty")) } else { Ok((secret, command.ttl)) }
}

/// `.a.b` of a JSON text.
fn member(text: &str, field: &str) -> Result<Secret, String> {
    let mut value: serde_json::Value = serde_json::from_str(text).map_err(|_| "its output is not JSON".to_owned())?;
    for part in field.split('.').filter(|part| !part.is_empty()) {
        value = value.get_mut(part).map(serde_json::Value::take).ok_or_else(|| format!("its output has no `{field}`"))?;
    }
    match value {
        serde_json::Value::String(text) => Ok(Secret::new(text)),
        serde_json::Value::Number(number) => Ok(Secret::new(number.to_string())),
        _ => Err(format!("`{field}` of its output is not a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provided::SecretRef;
    use crate::settings::Place;

    fn command(argv: &[&str], field: Option<&str>) -> SecretRef {
        SecretRef::by(CommandProvider(Arc::new(Command {
            place: Place::default(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            directory: std::env::temp_dir(),
            ttl: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            field: field.map(str::to_owned),
            bound: 1 << 20,
            mend: None,
        })))
    }

    #[tokio::test]
    async fn a_command_runs_once_for_many_and_its_output_is_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!("echo x >> {}; sleep 0.1; echo token", count.display());
        let value = command(&["sh", "-c", &script], None);
        let all = futures_util::future::join_all((0..16).map(|_| value.get())).await;
        assert!(all.into_iter().all(|secret| secret.unwrap().expose() == "token"));
        assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 1);
        assert_eq!(value.peek().unwrap().expose(), "token");
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_started_or_prints_nothing_gives_no_secret() {
        let failure = command(&["/no/such/program"], None).get().await.err().unwrap();
        assert!(failure.details.contains("cannot be started"), "{failure}");
        let failure = command(&["true"], None).get().await.err().unwrap();
        assert!(failure.details.contains("its output is empty"), "{failure}");
    }

    #[tokio::test]
    async fn a_member_of_json_output_can_be_picked() {
        let value = command(&["echo", r#"{"a": {"b": "t0k"}}"#], Some(".a.b"));
        assert_eq!(value.get().await.unwrap().expose(), "t0k");
        assert!(command(&["echo", "{}"], Some(".a")).get().await.is_err());
    }
}
