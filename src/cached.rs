//! What is fetched when it is needed, and kept for as long as it lives.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::failure::Failure;
use crate::moment::{Moment, random_bytes};

/// Something that is fetched when needed and kept as long as it lives: one fetch for many who wait,
/// renewed shortly before its end, failures remembered briefly.
pub struct Cached<T> {
    state: Mutex<State<T>>,
    fetching: tokio::sync::Mutex<()>,
}

struct State<T> {
    value: Option<Entry<T>>,
    failure: Option<(Failure, Instant)>,
    /// When a value was last given up before its end.
    dropped: Option<Instant>,
}

struct Entry<T> {
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

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { value: None, failure: None, dropped: None }), fetching: tokio::sync::Mutex::default() }
    }
}

impl<T: Clone> Cached<T> {
    /// The value as last fetched.
    pub fn peek(&self) -> Option<T> {
        self.state().value.as_ref().map(|lived| lived.value.clone())
    }

    /// What [`Cached::get`] would say without fetching.
    pub fn cached(&self) -> Option<Result<T, Failure>> {
        match self.lookup() {
            Lookup::Use(outcome) => Some(outcome),
            Lookup::Renew(_) | Lookup::Fetch => None,
        }
    }

    /// Takes a value that was had otherwise.
    pub fn put(&self, value: T, life: Duration) {
        let _ = self.keep(Ok((value, life)));
    }

    /// Forgets value and failure.
    pub fn clear(&self) {
        let mut state = self.state();
        state.value = None;
        state.failure = None;
    }

    /// The value, by `fetch` if need be, which says how long it lives. While a value is being renewed before
    /// its end, the others go on with the old one; and with it where the renewal fails.
    ///
    /// # Errors
    /// Those of `fetch`, also for a moment after.
    pub async fn get<F>(&self, fetch: impl FnOnce() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<(T, Duration), Failure>>,
    {
        let turn = match self.lookup() {
            Lookup::Use(outcome) => return outcome,
            Lookup::Renew(value) => match self.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(value),
            },
            Lookup::Fetch => self.fetching.lock().await,
        };
        if let Lookup::Use(outcome) = self.lookup() {
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
        let mut state = self.state();
        let again = state.dropped.is_some_and(|at| at.elapsed() < BRIEFLY);
        let gone = !again && state.value.as_ref().is_some_and(|lived| refused(&lived.value));
        if gone {
            state.value = None;
            state.dropped = Some(Instant::now());
        }
        gone
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn lookup(&self) -> Lookup<T> {
        self.lookup_at(Time::now())
    }

    fn lookup_at(&self, now: Time) -> Lookup<T> {
        let state = self.state();
        let failure = state.failure.as_ref().filter(|(_, until)| *until > now.steady).map(|(failure, _)| failure.clone());
        match (state.value.as_ref().filter(|lived| !lived.end.is_past(now)), failure) {
            (Some(lived), failure) if !lived.renew.is_past(now) || failure.is_some() => Lookup::Use(Ok(lived.value.clone())),
            (Some(lived), _) => Lookup::Renew(lived.value.clone()),
            (None, Some(failure)) => Lookup::Use(Err(failure)),
            (None, None) => Lookup::Fetch,
        }
    }

    fn keep(&self, fetched: Result<(T, Duration), Failure>) -> Result<T, Failure> {
        let (now, mut state) = (Time::now(), self.state());
        match fetched {
            Ok((value, life)) => {
                state.failure = None;
                state.value = Some(Entry { value: value.clone(), renew: now.after(life - margin(life)), end: now.after(life) });
                Ok(value)
            }
            Err(failure) => {
                state.failure = Some((failure.clone(), now.steady + BRIEFLY));
                match state.value.as_ref().filter(|lived| !lived.end.is_past(now)) {
                    Some(lived) => Ok(lived.value.clone()),
                    None => Err(failure),
                }
            }
        }
    }
}

enum Lookup<T> {
    Use(Result<T, Failure>),
    /// It still lives, but not for long.
    Renew(T),
    Fetch,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::failure::Cause;

    #[tokio::test(start_paused = true)]
    async fn a_value_ends_by_the_clock_that_says_so_first() {
        let cached = Cached::default();
        cached.put("token", Duration::from_secs(1000));
        let now = Time::now();
        let state = |steady: u64, wall: i64| {
            let wall = match wall >= 0 {
                true => now.wall + Duration::from_secs(wall.unsigned_abs()),
                false => now.wall - Duration::from_secs(wall.unsigned_abs()),
            };
            match cached.lookup_at(Time { steady: now.steady + Duration::from_secs(steady), wall }) {
                Lookup::Use(_) => "use",
                Lookup::Renew(_) => "renew",
                Lookup::Fetch => "fetch",
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
        let (cached, counter) = (Cached::default(), Counter(AtomicUsize::new(0)));
        let life = Duration::from_millis(400);
        assert_eq!(cached.get(|| counter.fetch(life)).await.unwrap(), 1);
        assert_eq!(cached.get(|| counter.fetch(life)).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(370)).await;
        let mut all = futures_util::future::join_all((0..8).map(|_| cached.get(|| counter.fetch(life)))).await;
        all.sort_by_key(|value| *value.as_ref().unwrap());
        assert_eq!(all.iter().map(|value| *value.as_ref().unwrap()).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 1, 2]);
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_leaves_the_value_to_its_end_and_a_failure_is_remembered_briefly() {
        let cached: Cached<usize> = Cached::default();
        let runs = AtomicUsize::new(0);
        let fail = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            Err(Failure::new(Cause::Credential, "no vault"))
        };
        let life = Duration::from_millis(200);
        cached.get(|| async { Ok((7, life)) }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(185)).await;
        assert_eq!(cached.get(fail).await.unwrap(), 7);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(cached.get(fail).await.is_err());
        assert!(cached.get(fail).await.is_err());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_value_is_given_up_once_a_second_and_only_if_it_is_that_one() {
        let (cached, counter) = (Cached::default(), Counter(AtomicUsize::new(0)));
        let life = Duration::from_secs(60);
        cached.get(|| counter.fetch(life)).await.unwrap();
        assert!(!cached.forget(|value| *value == 9));
        assert!(cached.forget(|value| *value == 1));
        assert_eq!(cached.get(|| counter.fetch(life)).await.unwrap(), 2);
        assert!(!cached.forget(|value| *value == 2));
        assert_eq!(cached.get(|| counter.fetch(life)).await.unwrap(), 2);
    }
}
