//! Secrets at hand: known from the start, or fetched when needed and kept for a while.

pub mod helper;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::config::{Command, Text};
use crate::failure::Failure;
use crate::moment::{Moment, random_bytes};
use crate::secret::Secret;
use helper::Run;

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
            Text::Command(command) => Value::Live(Arc::new(Source { command, fresh: Fresh::default() })),
        }
    }
}

impl Value {
    /// The secret as last known.
    pub fn now(&self) -> Option<Secret> {
        match self {
            Value::Fixed(secret) => Some(secret.clone()),
            Value::Live(source) => source.fresh.now(),
        }
    }

    /// The secret, fetched if need be; many who wait share one run.
    ///
    /// # Errors
    /// The command fails; its error stream says why, its output is never shown.
    pub async fn ready(&self) -> Result<Secret, Failure> {
        match self {
            Value::Fixed(secret) => Ok(secret.clone()),
            Value::Live(source) => source.fresh.ready(|| run(&source.command)).await,
        }
    }

    /// Can it be had without waiting?
    pub fn is_at_hand(&self) -> bool {
        match self {
            Value::Fixed(_) => true,
            Value::Live(source) => matches!(source.fresh.at_hand(), Some(Ok(_))),
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
    fresh: Fresh<Secret>,
}

/// The output of a command, or a member of it.
async fn run(command: &Command) -> Result<(Secret, Duration), Failure> {
    fetch(command).await.map_err(|failure| match &command.mend {
        Some(mend) => failure.hint(mend),
        None => failure,
    })
}

async fn fetch(command: &Command) -> Result<(Secret, Duration), Failure> {
    let Command { argv, directory, timeout, .. } = command;
    let run = Run { argv, directory, timeout: *timeout, stdin: "", environment: &[] };
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

/// Something that is fetched when needed and kept as long as it lives: one fetch for many who wait,
/// renewed shortly before its end, failures remembered briefly.
pub struct Fresh<T> {
    kept: Mutex<Kept<T>>,
    fetching: tokio::sync::Mutex<()>,
}

struct Kept<T> {
    value: Option<Lived<T>>,
    failure: Option<(Failure, Instant)>,
    /// When a value was last given up before its end.
    dropped: Option<Instant>,
}

struct Lived<T> {
    value: T,
    renew: Time,
    end: Time,
}

/// A time by both clocks, of which the earlier counts: one stands still while the machine sleeps, the other can be set.
#[derive(Clone, Copy)]
struct Time {
    steady: Instant,
    wall: SystemTime,
}

impl Time {
    fn now() -> Self {
        Self { steady: Instant::now(), wall: Moment::real().now() }
    }

    fn after(self, life: Duration) -> Self {
        Self { steady: self.steady + life, wall: self.wall.checked_add(life).unwrap_or(self.wall) }
    }

    fn is_past(self, now: Self) -> bool {
        self.steady <= now.steady || self.wall <= now.wall
    }
}

/// A failure is remembered this long, so that a burst of requests does not run a broken helper each; and a
/// value that a server refuses is not given up more often than that.
const BRIEFLY: Duration = Duration::from_secs(1);

/// The last part of a life, in which a value is renewed while it can still be used: a tenth, at most a minute; up to
/// half of that more by chance, so that many machines do not renew at once.
fn margin(life: Duration) -> Duration {
    let least = (life / 10).min(Duration::from_secs(60));
    least + least * u32::from(random_bytes::<1>()[0]) / 512
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { value: None, failure: None, dropped: None }), fetching: tokio::sync::Mutex::default() }
    }
}

impl<T: Clone> Fresh<T> {
    /// The value as last fetched.
    pub fn now(&self) -> Option<T> {
        self.kept().value.as_ref().map(|lived| lived.value.clone())
    }

    /// What [`Fresh::ready`] would say without fetching.
    pub fn at_hand(&self) -> Option<Result<T, Failure>> {
        match self.look() {
            Look::Use(outcome) => Some(outcome),
            Look::Renew(_) | Look::Fetch => None,
        }
    }

    /// Takes a value that was had otherwise.
    pub fn put(&self, value: T, life: Duration) {
        let _ = self.keep(Ok((value, life)));
    }

    /// Forgets value and failure.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.value = None;
        kept.failure = None;
    }

    /// The value, by `fetch` if need be, which says how long it lives. While a value is being renewed before
    /// its end, the others go on with the old one; and with it where the renewal fails.
    ///
    /// # Errors
    /// Those of `fetch`, also for a moment after.
    pub async fn ready<F>(&self, fetch: impl FnOnce() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<(T, Duration), Failure>>,
    {
        let turn = match self.look() {
            Look::Use(outcome) => return outcome,
            Look::Renew(value) => match self.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(value),
            },
            Look::Fetch => self.fetching.lock().await,
        };
        if let Look::Use(outcome) = self.look() {
            return outcome;
        }
        let fetched = fetch().await;
        let outcome = self.keep(fetched);
        drop(turn);
        outcome
    }

    /// Gives the value up where `refused` says that it is the one a server refused, and says whether it did.
    /// Not twice within a second: a server that refuses everything must not have the helper run for each request.
    pub fn forget(&self, refused: impl FnOnce(&T) -> bool) -> bool {
        let mut kept = self.kept();
        let again = kept.dropped.is_some_and(|at| at.elapsed() < BRIEFLY);
        let gone = !again && kept.value.as_ref().is_some_and(|lived| refused(&lived.value));
        if gone {
            kept.value = None;
            kept.dropped = Some(Instant::now());
        }
        gone
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn look(&self) -> Look<T> {
        self.look_at(Time::now())
    }

    fn look_at(&self, now: Time) -> Look<T> {
        let kept = self.kept();
        let failure = kept.failure.as_ref().filter(|(_, until)| *until > now.steady).map(|(failure, _)| failure.clone());
        match (kept.value.as_ref().filter(|lived| !lived.end.is_past(now)), failure) {
            (Some(lived), failure) if !lived.renew.is_past(now) || failure.is_some() => Look::Use(Ok(lived.value.clone())),
            (Some(lived), _) => Look::Renew(lived.value.clone()),
            (None, Some(failure)) => Look::Use(Err(failure)),
            (None, None) => Look::Fetch,
        }
    }

    fn keep(&self, fetched: Result<(T, Duration), Failure>) -> Result<T, Failure> {
        let (now, mut kept) = (Time::now(), self.kept());
        match fetched {
            Ok((value, life)) => {
                kept.failure = None;
                kept.value = Some(Lived { value: value.clone(), renew: now.after(life - margin(life)), end: now.after(life) });
                Ok(value)
            }
            Err(failure) => {
                kept.failure = Some((failure.clone(), now.steady + BRIEFLY));
                match kept.value.as_ref().filter(|lived| !lived.end.is_past(now)) {
                    Some(lived) => Ok(lived.value.clone()),
                    None => Err(failure),
                }
            }
        }
    }
}

enum Look<T> {
    Use(Result<T, Failure>),
    /// It still lives, but not for long.
    Renew(T),
    Fetch,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Place;
    use crate::failure::Cause;

    fn command(argv: &[&str], field: Option<&str>) -> Value {
        Value::from(Text::Command(Arc::new(Command {
            place: Place::default(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            directory: std::env::temp_dir(),
            ttl: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            field: field.map(str::to_owned),
            mend: None,
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_ends_by_the_clock_that_says_so_first() {
        let fresh = Fresh::default();
        fresh.put("token", Duration::from_secs(1000));
        let now = Time::now();
        let state = |steady: u64, wall: i64| {
            let wall = match wall >= 0 {
                true => now.wall + Duration::from_secs(wall.unsigned_abs()),
                false => now.wall - Duration::from_secs(wall.unsigned_abs()),
            };
            match fresh.look_at(Time { steady: now.steady + Duration::from_secs(steady), wall }) {
                Look::Use(_) => "use",
                Look::Renew(_) => "renew",
                Look::Fetch => "fetch",
            }
        };
        assert_eq!(state(100, 100), "use");
        assert_eq!(state(990, 990), "renew");
        assert_eq!(state(1000, 1000), "fetch");
        // The machine slept, or its clock was set: either way the token may have ended.
        assert_eq!(state(5, 1001), "fetch");
        assert_eq!(state(5, 990), "renew");
        assert_eq!(state(1001, -5000), "fetch");
        assert_eq!(state(100, -5000), "use");
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
    async fn a_command_that_cannot_be_started_or_prints_nothing_gives_no_secret() {
        let failure = command(&["/no/such/program"], None).ready().await.err().unwrap();
        assert!(failure.details.contains("cannot be started"), "{failure}");
        let failure = command(&["true"], None).ready().await.err().unwrap();
        assert!(failure.details.contains("its output is empty"), "{failure}");
    }

    #[tokio::test]
    async fn a_member_of_json_output_can_be_picked() {
        let value = command(&["echo", r#"{"a": {"b": "t0k"}}"#], Some(".a.b"));
        assert_eq!(value.ready().await.unwrap().expose(), "t0k");
        assert!(command(&["echo", "{}"], Some(".a")).ready().await.is_err());
    }

    /// Fetches 1, 2, 3, …, each living so long.
    struct Counter(AtomicUsize);

    impl Counter {
        async fn fetch(&self, life: Duration) -> Result<(usize, Duration), Failure> {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok((self.0.fetch_add(1, Ordering::SeqCst) + 1, life))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_renewed_before_its_end_by_one_while_the_others_go_on_with_it() {
        let (fresh, counter) = (Fresh::default(), Counter(AtomicUsize::new(0)));
        let life = Duration::from_millis(400);
        assert_eq!(fresh.ready(|| counter.fetch(life)).await.unwrap(), 1);
        assert_eq!(fresh.ready(|| counter.fetch(life)).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(370)).await;
        let mut all = futures_util::future::join_all((0..8).map(|_| fresh.ready(|| counter.fetch(life)))).await;
        all.sort_by_key(|value| *value.as_ref().unwrap());
        assert_eq!(all.iter().map(|value| *value.as_ref().unwrap()).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 1, 2]);
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_leaves_the_value_to_its_end_and_a_failure_is_remembered_briefly() {
        let fresh: Fresh<usize> = Fresh::default();
        let runs = AtomicUsize::new(0);
        let fail = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            Err(Failure::new(Cause::Credential, "no vault"))
        };
        let life = Duration::from_millis(200);
        fresh.ready(|| async { Ok((7, life)) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(185)).await;
        assert_eq!(fresh.ready(fail).await.unwrap(), 7);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(fresh.ready(fail).await.is_err());
        assert!(fresh.ready(fail).await.is_err());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_value_is_given_up_once_a_second_and_only_if_it_is_that_one() {
        let (fresh, counter) = (Fresh::default(), Counter(AtomicUsize::new(0)));
        let life = Duration::from_secs(60);
        fresh.ready(|| counter.fetch(life)).await.unwrap();
        assert!(!fresh.forget(|value| *value == 9));
        assert!(fresh.forget(|value| *value == 1));
        assert_eq!(fresh.ready(|| counter.fetch(life)).await.unwrap(), 2);
        assert!(!fresh.forget(|value| *value == 2));
        assert_eq!(fresh.ready(|| counter.fetch(life)).await.unwrap(), 2);
    }
}
