//! What client and origin of one worker share: the case in hand, and what the origin heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::case::Case;
use super::heard::Heard;

#[derive(Default)]
struct Inner {
    case: Option<Arc<Case>>,
    /// Counts cases, so that what comes late is not taken for the next.
    number: u64,
    heard: Vec<Heard>,
    /// Requests that the origin is still reading or answering.
    active: usize,
    /// Its connections of HTTP/1.1, by their generation.
    open: BTreeMap<u64, usize>,
}

pub struct Stage {
    inner: Mutex<Inner>,
    changed: Notify,
    /// Origin connections older than this end.
    pub generation: watch::Sender<u64>,
}

impl Stage {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), changed: Notify::new(), generation: watch::Sender::new(0) })
    }

    pub fn set(&self, case: Arc<Case>) {
        let mut inner = self.inner.lock().unwrap();
        inner.case = Some(case);
        inner.number += 1;
        inner.active = 0;
        inner.heard.clear();
    }

    /// A request begins at the origin, on a connection of a generation.
    pub fn begin(self: &Arc<Self>, generation: u64) -> Option<Act> {
        if generation != *self.generation.borrow() {
            return None;
        }
        let mut inner = self.inner.lock().unwrap();
        let case = inner.case.clone()?;
        inner.active += 1;
        inner.heard.push(Heard::default());
        let (number, at) = (inner.number, inner.heard.len() - 1);
        self.changed.notify_waiters();
        Some(Act { stage: self.clone(), case, number, at, heard: Heard::default() })
    }

    /// Waits for a first request, for a time.
    pub async fn begun(&self, within: Duration) {
        let begun = async {
            loop {
                let changed = self.changed.notified();
                if !self.inner.lock().unwrap().heard.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(within, begun).await;
    }

    /// What the origin heard, once nothing more is coming; false: it was still at it.
    pub async fn take(&self, within: Duration) -> (Vec<Heard>, bool) {
        let idle = async {
            loop {
                let changed = self.changed.notified();
                if self.inner.lock().unwrap().active == 0 {
                    return;
                }
                changed.await;
            }
        };
        let settled = tokio::time::timeout(within, idle).await.is_ok();
        let mut inner = self.inner.lock().unwrap();
        inner.case = None;
        inner.number += 1;
        (std::mem::take(&mut inner.heard), settled)
    }

    /// Ends every connection of the origin that waits for a request.
    pub fn renew(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// A connection of the origin, for as long as what comes back lives.
    pub fn open(self: &Arc<Self>, generation: u64) -> Open {
        *self.inner.lock().unwrap().open.entry(generation).or_default() += 1;
        Open { stage: self.clone(), generation }
    }

    /// Waits, for a time, until both sides have let go of every connection of an earlier generation.
    pub async fn renewed(&self, within: Duration) {
        let generation = *self.generation.borrow();
        let gone = async {
            loop {
                let changed = self.changed.notified();
                if self.inner.lock().unwrap().open.range(..generation).next().is_none() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(within, gone).await;
    }
}

/// Counts a connection.
pub struct Open {
    stage: Arc<Stage>,
    generation: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut inner = self.stage.inner.lock().unwrap();
        if let Some(open) = inner.open.get_mut(&self.generation) {
            *open -= 1;
            if *open == 0 {
                inner.open.remove(&self.generation);
            }
        }
        drop(inner);
        self.stage.changed.notify_waiters();
    }
}

/// One request at the origin; what was heard is told at its end.
pub struct Act {
    stage: Arc<Stage>,
    pub case: Arc<Case>,
    number: u64,
    at: usize,
    pub heard: Heard,
}

impl Drop for Act {
    fn drop(&mut self) {
        let mut inner = self.stage.inner.lock().unwrap();
        if inner.number == self.number {
            inner.heard[self.at] = std::mem::take(&mut self.heard);
            inner.active -= 1;
        }
        drop(inner);
        self.stage.changed.notify_waiters();
    }
}
