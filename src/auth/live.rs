//! Secrets at hand: known from the start, or fetched by a command when needed and kept for a while.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::config::{Command, Text};
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::secret::Secret;

/// A secret that is here, or can be had.
#[derive(Clone)]
pub enum Value {
    Fixed(Secret),
    Live(Arc<Source>),
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        match text {
            Text::Known(secret) => Value::Fixed(secret),
            Text::Command(command) => {
                Value::Live(Arc::new(Source { command, kept: Mutex::default(), running: tokio::sync::Mutex::default() }))
            }
        }
    }
}

impl Value {
    /// The secret as last known.
    pub fn now(&self) -> Option<Secret> {
        match self {
            Value::Fixed(secret) => Some(secret.clone()),
            Value::Live(source) => match &*source.kept() {
                Some(Kept { outcome: Ok(secret), .. }) => Some(secret.clone()),
                _ => None,
            },
        }
    }

    /// The secret, fetched if need be; many who wait share one run.
    ///
    /// # Errors
    /// The command fails; its error stream says why, its output is never shown.
    pub async fn ready(&self) -> Result<Secret, Failure> {
        match self {
            Value::Fixed(secret) => Ok(secret.clone()),
            Value::Live(source) => source.ready().await,
        }
    }

    pub fn fixed(&self) -> Option<&Secret> {
        match self {
            Value::Fixed(secret) => Some(secret),
            Value::Live(_) => None,
        }
    }
}

pub struct Source {
    command: Arc<Command>,
    kept: Mutex<Option<Kept>>,
    running: tokio::sync::Mutex<()>,
}

struct Kept {
    outcome: Result<Secret, Failure>,
    until: Instant,
}

/// A failure is remembered this long, so that a burst of requests does not run a broken helper each.
const FAILED: Duration = Duration::from_secs(1);

impl Source {
    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn fresh(&self) -> Option<Result<Secret, Failure>> {
        self.kept().as_ref().filter(|kept| kept.until > Instant::now()).map(|kept| kept.outcome.clone())
    }

    async fn ready(&self) -> Result<Secret, Failure> {
        if let Some(outcome) = self.fresh() {
            return outcome;
        }
        let _turn = self.running.lock().await;
        if let Some(outcome) = self.fresh() {
            return outcome;
        }
        let outcome = run(&self.command).await;
        let keep = if outcome.is_ok() { self.command.ttl } else { FAILED };
        *self.kept() = Some(Kept { outcome: outcome.clone(), until: Instant::now() + keep });
        outcome
    }
}

async fn run(command: &Command) -> Result<Secret, Failure> {
    let name = command.argv.first().map_or("", String::as_str);
    let failed = |why: String| Failure::new(Cause::Credential, format!("the command `{name}` gave no secret: {why}"));
    let mut child = tokio::process::Command::new(name)
        .args(&command.argv[1..])
        .current_dir(if command.directory.as_os_str().is_empty() { std::path::Path::new(".") } else { &command.directory })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|cause| failed(format!("it cannot be started: {cause}")))?;
    let bound = Limits::default().helper_output as u64;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (mut out, mut err) = (zeroize::Zeroizing::new(Vec::new()), Vec::new());
        let read_out = async {
            if let Some(stdout) = stdout {
                let _ = stdout.take(bound + 1).read_to_end(&mut out).await;
            }
        };
        let read_err = async {
            if let Some(stderr) = stderr {
                let _ = stderr.take(bound).read_to_end(&mut err).await;
            }
        };
        tokio::join!(read_out, read_err);
        (child.wait().await, out, err)
    };
    let (status, out, err) = tokio::time::timeout(command.timeout, work)
        .await
        .map_err(|_| failed(format!("it took longer than {:?}", command.timeout)))?;
    let status = status.map_err(|cause| failed(cause.to_string()))?;
    if !status.success() {
        return Err(failed(format!("{status}{}", first_line(&err))));
    }
    if out.len() as u64 > bound {
        return Err(failed(format!("its output is larger than {bound} bytes")));
    }
    let text = std::str::from_utf8(&out).map_err(|_| failed("its output is not UTF-8 text".to_owned()))?;
    let secret = match &command.field {
        None => Secret::new(text.trim_end_matches(['\n', '\r'])),
        Some(field) => member(text, field).map_err(failed)?,
    };
    if secret.is_empty() { Err(failed("its output is empty".to_owned())) } else { Ok(secret) }
}

fn first_line(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let line: String =
        text.lines().find(|line| !line.trim().is_empty()).unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
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
    use crate::config::Place;

    fn command(argv: &[&str], field: Option<&str>) -> Value {
        Value::from(Text::Command(Arc::new(Command {
            place: Place::default(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            directory: std::env::temp_dir(),
            ttl: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            field: field.map(str::to_owned),
        })))
    }

    #[tokio::test]
    async fn a_command_runs_once_for_many_and_its_output_is_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!("echo x >> {}; sleep 0.1; echo token", count.display());
        let value = command(&["sh", "-c", &script], None);
        let all = futures_util::future::join_all((0..16).map(|_| value.ready())).await;
        assert!(all.into_iter().all(|secret| secret.unwrap().expose() == "token"));
        assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 1);
        assert_eq!(value.now().unwrap().expose(), "token");
    }

    #[tokio::test]
    async fn a_failing_command_tells_its_error_stream_and_never_its_output() {
        let failure = command(&["sh", "-c", "echo s3cret; echo no vault here >&2; exit 3"], None).ready().await.err().unwrap();
        assert!(failure.details.contains("no vault here") && !failure.to_string().contains("s3cret"), "{failure}");
        let failure = command(&["/no/such/program"], None).ready().await.err().unwrap();
        assert!(failure.details.contains("cannot be started"), "{failure}");
    }

    #[tokio::test]
    async fn a_member_of_json_output_can_be_picked() {
        let value = command(&["echo", r#"{"a": {"b": "t0k"}}"#], Some(".a.b"));
        assert_eq!(value.ready().await.unwrap().expose(), "t0k");
        assert!(command(&["echo", "{}"], Some(".a")).ready().await.is_err());
    }
}
