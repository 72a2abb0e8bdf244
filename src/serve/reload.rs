//! Reads the configuration again and swaps the new one in whole, or keeps the old one and says why.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{Built, build_over, watch};
use crate::config::{self, ListenAddress, Request};
use crate::exchange::Context;
use crate::upstream::Dialer;

/// One reload at a time.
pub struct Reloader {
    pub(super) context: Arc<Context>,
    request: Request,
    dialer: Arc<Dialer>,
    /// The listeners that were bound.
    places: Vec<ListenAddress>,
    config_files: Vec<PathBuf>,
    /// Those of the files in force that say nothing.
    silent: std::sync::Mutex<Vec<PathBuf>>,
    /// Holds the complaint that was told last: a pair that is half written is told of once, however
    /// often it is looked at.
    turn: Mutex<String>,
    /// Something does not work at this moment; its files are worth looking at without being told to.
    pending: AtomicBool,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

/// A file that is being written is looked at again this often, after this long.
const SETTLE_TRIES: u32 = 6;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

impl Reloader {
    pub fn new(
        context: Arc<Context>,
        request: Request,
        dialer: Arc<Dialer>,
        places: Vec<ListenAddress>,
        config_files: Vec<PathBuf>,
        silent: Vec<PathBuf>,
    ) -> Self {
        let silent = std::sync::Mutex::new(silent);
        let (turn, pending) = (Mutex::default(), AtomicBool::new(false));
        let (succeeded, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { context, request, dialer, places, config_files, silent, turn, pending, succeeded, failed }
    }

    pub async fn reload(&self, why: &str) {
        let mut told = self.turn.lock().await;
        match self.build_settled().await {
            Ok(built) => self.put_in_force(built, why, &mut told),
            Err(report) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.pending.store(true, Ordering::Relaxed);
                let complaint = report.render(false);
                if *told != complaint {
                    tracing::error!(why, "the new configuration has mistakes; the old one stays:\n{complaint}");
                    *told = complaint;
                }
            }
        }
    }

    /// Puts in force what workload agents have sent.
    pub async fn renew(&self) {
        let _turn = self.turn.lock().await;
        let (renewed, problems) = self.context.gate().renewed();
        for problem in problems {
            tracing::error!("what a SPIFFE agent sent cannot be used; the old one stays: {problem}");
        }
        if let Some((gate, count)) = renewed {
            self.context.swap(gate);
            tracing::info!(count, "certificates and trust renewed by their SPIFFE agent");
        }
    }

    /// Is something waiting for its files to be mended or written to their end?
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Builds from files that did not change meanwhile. Many editors and scripts truncate a file before they write it, and
    /// an empty configuration would be a valid one: where a file said something and now says nothing, the old one stays.
    async fn build_settled(&self) -> Result<Built, Box<config::Report>> {
        let current = self.context.gate();
        let mut tries = 0;
        loop {
            let before = watch::contents(&self.files());
            let built = build_over(&self.request, self.dialer.clone(), Some(&current)).await;
            let emptied = built.as_ref().map_or_else(|_| Vec::new(), |built| self.emptied(built));
            tries += 1;
            let whole = before == watch::contents(&self.files()) && emptied.is_empty();
            if whole || tries == SETTLE_TRIES {
                return built.and_then(|built| if emptied.is_empty() { Ok(built) } else { Err(refused(built.report, &emptied)) });
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    /// Files of the configuration in force that said something when they were read for it, and say nothing now.
    fn emptied(&self, built: &Built) -> Vec<PathBuf> {
        let before = self.silent.lock().unwrap_or_else(|e| e.into_inner());
        let known = self.files();
        built.silent.iter().filter(|file| known.contains(file) && !before.contains(file)).cloned().collect()
    }

    fn put_in_force(&self, built: Built, why: &str, told: &mut String) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.pending.store(built.gate.pending, Ordering::Relaxed);
        let rules = built.gate.rules().len();
        let complaint = built.report.render(false);
        if *told != complaint {
            if built.report.has_warnings() {
                tracing::warn!("the new configuration has warnings:\n{complaint}");
            }
            *told = complaint;
        }
        if built.listeners.iter().map(|listener| &listener.address).ne(&self.places) {
            tracing::warn!("`listen` and `listeners` are read at the start only; restart gatepass for the new ones");
        }
        let (old, new) = (self.context.gate(), &built.gate);
        if old.authority.certificate() != new.authority.certificate() {
            tracing::warn!(
                ca = new.authority.details().fingerprint_text(),
                "the interception CA is another one; clients must trust it"
            );
        }
        *self.silent.lock().unwrap_or_else(|e| e.into_inner()) = built.silent;
        self.context.observe.set_log(&built.log);
        self.context.swap(built.gate);
        super::fetch_scripts(&self.context);
        tracing::info!(why, rules, "configuration reloaded");
    }

    /// What to watch: the files of the current gate, and those of the configuration itself.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.context.gate().files.clone();
        files.extend(self.config_files.iter().cloned());
        files.sort_unstable();
        files.dedup();
        files
    }
}

fn refused(mut report: config::Report, emptied: &[PathBuf]) -> Box<config::Report> {
    for file in emptied {
        report
            .error("empty-configuration", None, format!("{} says nothing any more", file.display()))
            .help("an empty configuration would let everything pass; restart gatepass if that is what is wanted");
    }
    Box::new(report)
}
