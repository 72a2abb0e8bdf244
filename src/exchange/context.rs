//! What all client connections share, and what one tells its watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::interim::Line;
use crate::draft::Room;
use crate::gate::Gate;
use crate::observe::Observe;

/// One for the process.
pub struct Context {
    gate: ArcSwap<Gate>,
    pub observe: Observe,
    /// What held bodies take on disk.
    pub room: Room,
    /// Everything that must end before the process does: connections and tunnels.
    pub tasks: TaskTracker,
    /// Stop taking new work, finish what is there.
    pub stopping: CancellationToken,
    /// The grace period is over.
    pub cut: CancellationToken,
    started: Instant,
}

impl Context {
    pub fn new(gate: Gate, observe: Observe) -> Arc<Self> {
        Arc::new(Self {
            gate: ArcSwap::from_pointee(gate),
            observe,
            room: Room::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            started: Instant::now(),
        })
    }

    /// The current snapshot. A request that has taken one keeps it to its end.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.load_full()
    }

    pub fn swap(&self, gate: Gate) {
        self.gate.store(Arc::new(gate));
    }

    /// gatepass stops, and whoever had connected before has had a moment to say what it wants.
    pub async fn last_call(&self) {
        self.stopping.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(LAST_CALL) => {}
            () = self.cut.cancelled() => {}
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// So many exchanges or tunnels were cut at the end of the grace period.
pub fn count_cut(context: &Context, cut: usize) {
    context.observe.counters.cut.fetch_add(cut as u64, Ordering::Relaxed);
}

/// Long enough for what was on its way when gatepass was told to stop.
pub const LAST_CALL: Duration = Duration::from_secs(1);

/// What one client connection is doing, for the bounds on waiting: written by the connection's
/// reads and exchanges, read by its watchdog. No timer is set or reset for a request.
pub struct Activity {
    started: Instant,
    /// Exchanges in flight.
    busy: AtomicUsize,
    /// Exchanges ever begun.
    begun: AtomicU64,
    /// Milliseconds from `started`, plus one; zero: nothing. When the head now being read began.
    head: AtomicU64,
    /// When it was last of use.
    last: AtomicU64,
    /// Since when the client takes nothing of what is to be written.
    full: AtomicU64,
    /// A head that does not end is only looked for on HTTP/1 and before the first HTTP/2 request.
    multiplexed: bool,
    /// HTTP/2 in clear, which nobody negotiated: the client knows it of the origin (RFC 9113 §3.3).
    prior_knowledge: bool,
    /// Somebody waits for the last exchange to end.
    awaited: AtomicBool,
    /// What is spoken on the connection is HTTP no more.
    handed_over: AtomicBool,
    /// An answer is under way whose end is the connection's: to a client of HTTP/1.0.
    ends_by_close: AtomicBool,
    /// Interim answers on their way to the client.
    line: Line,
}

/// Why a watchdog ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overdue {
    FirstByte,
    Head,
    Idle,
    /// The client does not read.
    Unread,
}

/// Counts one exchange for as long as it lives.
pub struct Busy(Arc<Activity>);

impl Busy {
    pub fn activity(&self) -> &Arc<Activity> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        // In one order with `await_end` and what is asked after it, so that one of the two sees the other.
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        if self.0.awaited.load(Ordering::SeqCst) {
            self.0.line.wake();
        }
    }
}

impl Activity {
    pub fn new(multiplexed: bool) -> Arc<Self> {
        Self::of(multiplexed, false)
    }

    /// For a client that speaks in clear.
    pub fn in_clear(multiplexed: bool) -> Arc<Self> {
        Self::of(multiplexed, multiplexed)
    }

    fn of(multiplexed: bool, prior_knowledge: bool) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            busy: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            head: AtomicU64::new(0),
            last: AtomicU64::new(0),
            full: AtomicU64::new(0),
            multiplexed,
            prior_knowledge,
            awaited: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            ends_by_close: AtomicBool::new(false),
            line: Line::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came from the client.
    pub fn bytes(&self) {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return;
        }
        if self.head.load(Ordering::Relaxed) == 0 {
            self.head.store(self.now(), Ordering::Relaxed);
        } else if self.multiplexed && self.begun.load(Ordering::Relaxed) > 0 {
            // A ping keeps an idle HTTP/2 connection (RFC 9113 §6.7).
            self.last.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Something was to be written; `full`: the client has room for no more.
    pub fn writes(&self, full: bool) {
        let since = self.full.load(Ordering::Relaxed);
        if full != (since > 0) {
            self.full.store(if full { self.now() } else { 0 }, Ordering::Relaxed);
        }
    }

    /// Requests ever begun on it.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Exchanges in flight.
    pub fn in_flight(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// The client speaks HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// The client speaks HTTP/2 in clear.
    pub fn has_prior_knowledge(&self) -> bool {
        self.prior_knowledge
    }

    /// Exchanges ever begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// From now on the connection's task is woken when an exchange ends.
    pub fn await_end(&self) {
        self.awaited.store(true, Ordering::SeqCst);
    }

    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    pub fn end_by_close(&self, under_way: bool) {
        self.ends_by_close.store(under_way, Ordering::Relaxed);
    }

    pub fn ends_by_close(&self) -> bool {
        self.ends_by_close.load(Ordering::Relaxed)
    }

    pub fn line(&self) -> &Line {
        &self.line
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Is a bound on waiting passed?
    pub fn overdue(&self, limits: &crate::limits::Limits) -> Option<Overdue> {
        let waited =
            |since: u64, bound: Duration| self.now().saturating_sub(since) > u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        let full = self.full.load(Ordering::Relaxed);
        if full > 0 && waited(full, limits.stall) {
            return Some(Overdue::Unread);
        }
        if self.is_busy() {
            return None;
        }
        let begun = self.begun.load(Ordering::Relaxed) > 0;
        let head = self.head.load(Ordering::Relaxed);
        if head > 0 && !(self.multiplexed && begun) {
            return waited(head, limits.request_head).then_some(Overdue::Head);
        }
        if !begun {
            return waited(0, limits.first_byte).then_some(Overdue::FirstByte);
        }
        waited(self.last.load(Ordering::Relaxed), limits.idle).then_some(Overdue::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn quick() -> Limits {
        Limits {
            first_byte: Duration::from_millis(20),
            request_head: Duration::from_millis(20),
            idle: Duration::from_millis(20),
            ..Limits::default()
        }
    }

    #[test]
    fn silence_a_slow_head_and_idleness_are_told_apart_and_work_is_never_overdue() {
        let wait = || std::thread::sleep(Duration::from_millis(40));
        let silent = Activity::new(false);
        wait();
        assert_eq!(silent.overdue(&quick()), Some(Overdue::FirstByte));
        let slow = Activity::new(false);
        slow.bytes();
        wait();
        assert_eq!(slow.overdue(&quick()), Some(Overdue::Head));
        let working = Activity::new(false);
        working.bytes();
        let busy = working.busy();
        wait();
        assert_eq!(working.overdue(&quick()), None);
        drop(busy);
        assert_eq!(working.overdue(&quick()), None);
        wait();
        assert_eq!(working.overdue(&quick()), Some(Overdue::Idle));
    }
}
