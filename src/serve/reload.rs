//! Reads the configuration again and swaps the new one in whole, or keeps the old one and says why.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::contents::contents;
use super::fixed::Fixed;
use super::{Built, build_over};
use crate::config::Request;
use crate::exchange::Context;
use crate::settings::Report;

/// One reload at a time.
pub struct Reloader {
    pub(super) context: Arc<Context>,
    request: Request,
    /// What is fixed at the start.
    fixed: Fixed,
    config_files: Vec<PathBuf>,
    /// Those of the files in force that say nothing.
    silent: std::sync::Mutex<Vec<PathBuf>>,
    /// Holds the complaint that was told last: a pair that is half written is told of once, however
    /// often it is looked at.
    turn: Mutex<Told>,
    /// Something does not work at this moment; its files are worth looking at without being told to.
    pending: AtomicBool,
    /// It could not even be read, for a reason that may be over in a moment.
    again: AtomicBool,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

/// What was said of the configuration, so that a reload says what is new.
#[derive(Default)]
struct Told {
    mistakes: String,
    warnings: BTreeSet<u64>,
    restarts: Vec<String>,
}

/// A file that is being written is looked at again this often, after this long.
const SETTLE_TRIES: u32 = 6;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

impl Reloader {
    pub fn new(
        context: Arc<Context>,
        request: Request,
        fixed: Fixed,
        report: &Report,
        config_files: Vec<PathBuf>,
        silent: Vec<PathBuf>,
    ) -> Self {
        let silent = std::sync::Mutex::new(silent);
        let mut told = Told::default();
        report.news(&mut told.warnings);
        let (turn, pending, again) = (Mutex::new(told), AtomicBool::new(false), AtomicBool::new(false));
        let (succeeded, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { context, request, fixed, config_files, silent, turn, pending, again, succeeded, failed }
    }

    pub async fn reload(&self, why: &str) {
        let mut told = self.turn.lock().await;
        match self.build_settled().await {
            Ok(built) => self.put_in_force(built, why, &mut told),
            Err(report) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.pending.store(true, Ordering::Relaxed);
                let complaint = report.render(false);
                let want = report.is_want_of_system();
                self.again.store(want, Ordering::Relaxed);
                if told.mistakes != complaint {
                    if want {
                        tracing::error!(
                            why,
                            "the configuration cannot be read at this moment; the old one stays, and it is tried again:\n{complaint}"
                        );
                    } else {
                        tracing::error!(why, "the new configuration has mistakes; the old one stays:\n{complaint}");
                    }
                    told.mistakes = complaint;
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

    /// Is it to be read again though no file changed?
    pub fn is_to_be_tried_again(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }

    /// Builds from files that did not change meanwhile. Many editors and scripts truncate a file before they write it, and
    /// an empty configuration would be a valid one: where a file said something and now says nothing, the old one stays.
    async fn build_settled(&self) -> Result<Built, Box<Report>> {
        let current = self.context.gate();
        let mut tries = 0;
        loop {
            let before = contents(&self.files(), current.limits.file);
            let built = build_over(&self.request, current.durable(), Some(&current)).await;
            let emptied = built.as_ref().map_or_else(|_| Vec::new(), |built| self.emptied(built));
            tries += 1;
            let whole = before == contents(&self.files(), current.limits.file) && emptied.is_empty();
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

    fn put_in_force(&self, built: Built, why: &str, told: &mut Told) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.again.store(false, Ordering::Relaxed);
        told.mistakes.clear();
        self.pending.store(built.gate.pending, Ordering::Relaxed);
        let rules = built.gate.rules().len();
        let warnings = built.report.news(&mut told.warnings);
        if !warnings.is_empty() {
            tracing::warn!("the new configuration has warnings:\n{}", warnings.trim_end());
        }
        let restarts = self.fixed.differences(&built, self.request.instead.is_some());
        for restart in restarts.iter().filter(|restart| !told.restarts.contains(restart)) {
            tracing::warn!("{restart}; restart gatepass for that");
        }
        told.restarts = restarts;
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

fn refused(mut report: Report, emptied: &[PathBuf]) -> Box<Report> {
    for file in emptied {
        report
            .error("empty-configuration", None, format!("{} says nothing any more", file.display()))
            .help("an empty configuration would let everything pass; restart gatepass if that is what is wanted");
    }
    Box::new(report)
}
