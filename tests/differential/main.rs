//! Unharmed traffic, judged by difference: generated requests and answers are sent directly and through gatepass,
//! and what the client hears and what the origin hears must be the same, but for what [`allow`] names.
//!
//! Client and origin are scripts that write bytes (HTTP/1.1) and frames (HTTP/2) by hand and read them by hand, so
//! that no library hides its own faults. Cases follow from their number alone:
//!
//! ```text
//! cargo test --test differential                                       # 10,000 cases
//! GATEPASS_CASES=1000000 cargo test --release --test differential     # any number
//! GATEPASS_ALL=1 cargo test --test differential                       # with what is known to be wrong
//! GATEPASS_FIRST=20000 GATEPASS_CASES=5000 cargo test --test differential   # others: from number 20,000 on
//! GATEPASS_CASE=x.txt GATEPASS_CASES=500 cargo test --test differential     # one, again and again
//! ```
//!
//! `-- --nocapture` shows what was counted; `GATEPASS_KEEP=FOLDER` writes each case that differs there. What differs is
//! made as small as it gets and printed as a text; such a text, put into `kept/`, is played first from then on.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod allow;
mod case;
mod client;
mod compare;
mod generate;
mod h1;
mod h2;
mod heard;
mod hpack;
mod known;
mod link;
mod origin;
mod random;
mod shrink;
mod stage;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use case::Case;
use compare::{Difference, Side, What, differences};
use heard::End;
use worker::{Pair, Worker, workers};

/// Cases that are played side by side.
const WORKERS: usize = 12;

/// What has differed so many times is not made smaller again.
const EXAMPLES: usize = 1;

/// Time for making one case small.
const SHRINKING: Duration = Duration::from_secs(30);

/// What is known counts, too.
static ALL: AtomicBool = AtomicBool::new(false);

/// The case that is played again and again.
static ONE: OnceLock<Case> = OnceLock::new();

#[derive(Default)]
struct Tally {
    allowed: BTreeMap<&'static str, u64>,
    known: BTreeMap<&'static str, u64>,
    /// Seen once, and not again when the case was played alone.
    once: Vec<String>,
    /// What it is, how often, and examples.
    found: BTreeMap<(String, Side, What), (u64, Vec<String>)>,
}

impl Tally {
    /// Counts what may be; what may not is left.
    fn judge(&mut self, pair: &Pair) -> Vec<Difference> {
        let mut left = differences(pair);
        left.retain(|difference| {
            if let Some(allowed) = allow::ALLOWED.iter().find(|allowed| (allowed.test)(pair, difference)) {
                *self.allowed.entry(allowed.name).or_default() += 1;
                return false;
            }
            if !ALL.load(Ordering::Relaxed)
                && let Some(known) = known::KNOWN.iter().find(|known| (known.test)(pair, difference))
            {
                *self.known.entry(known.why).or_default() += 1;
                return false;
            }
            true
        });
        left
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for ((pair, side, what), (times, examples)) in &self.found {
            text.push_str(&format!("== {times} × {pair}: {side:?} {what:?}\n{}\n", examples.join("\n")));
        }
        text
    }
}

fn judge(pair: &Pair) -> Vec<Difference> {
    Tally::default().judge(pair)
}

/// Nothing of it is left that could disturb the next case.
fn is_clean(pair: &Pair) -> bool {
    let case = &pair.case;
    let whole = pair.through.client.end == End::Whole && pair.through.origin.iter().all(|heard| heard.end == End::Whole);
    let cut = case.request.cut.is_some() || case.answer.cut.is_some();
    // What is unlike may have left something behind, and what was refused may be on its way to the origin still.
    let refused = |d: &Difference| matches!(d.what, What::Refused | What::Bare | What::Count);
    let sent = pair.case.request.framing != case::Framing::None;
    let unlike = |d: &Difference| refused(d) && sent || !allow::ALLOWED.iter().any(|allowed| (allowed.test)(pair, d));
    if differences(pair).iter().any(unlike) {
        return false;
    }
    whole && !cut && pair.through.client.delimited && origin::ends(case).is_none() && !case.early
}

async fn play(worker: &mut Worker, case: &Case) -> Pair {
    let pair = worker.play(case).await;
    if !is_clean(&pair) {
        worker.renew(case.mode).await;
    }
    pair
}

/// The case alone, with nothing before it.
async fn alone(worker: &mut Worker, case: &Case) -> Pair {
    worker.renew(case.mode).await;
    let pair = worker.play(case).await;
    worker.renew(case.mode).await;
    pair
}

/// The case after others on one connection.
async fn after(worker: &mut Worker, others: &[Case], case: &Case) -> Pair {
    worker.renew(case.mode).await;
    for other in others {
        worker.play(other).await;
    }
    let pair = worker.play(case).await;
    worker.renew(case.mode).await;
    pair
}

/// What must come before the case on its connection for it to differ: one of these, or all. `None`: nothing makes it.
async fn cause(worker: &mut Worker, before: &[Case], case: &Case, kind: &(Side, What)) -> Option<Vec<Case>> {
    let differs = |pair: &Pair| judge(pair).iter().any(|d| (d.side, d.what.clone()) == *kind);
    if before.is_empty() || !differs(&after(worker, before, case).await) {
        return None;
    }
    for one in before.iter().rev().map(std::slice::from_ref) {
        if differs(&after(worker, one, case).await) {
            return Some(one.to_vec());
        }
    }
    Some(before.to_vec())
}

async fn shrunk(worker: &mut Worker, first: Pair, kind: &(Side, What)) -> Pair {
    let mut best = first;
    let started = Instant::now();
    'smaller: loop {
        for next in shrink::simpler(&best.case) {
            if started.elapsed() > SHRINKING {
                return best;
            }
            let pair = alone(worker, &next).await;
            if judge(&pair).iter().any(|d| (d.side, d.what.clone()) == *kind) {
                best = pair;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// What differs, without what distinguishes one field of many from the next.
fn kind(what: &What) -> What {
    match what {
        What::Field(name) if name.starts_with("x-many") => What::Field("x-many".into()),
        what => what.clone(),
    }
}

/// A connection that carries more than so many is not replayed to its beginning.
const REPLAYED: usize = 100;

async fn work(mut worker: Worker, source: fn(u64) -> Case, next: Arc<AtomicU64>, end: u64, tally: Arc<Mutex<Tally>>) {
    // By pair of protocols: what its connection has carried.
    let mut carried: HashMap<String, Vec<Case>> = HashMap::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return;
        }
        let case = source(number);
        let pair = play(&mut worker, &case).await;
        let left = tally.lock().unwrap().judge(&pair);
        let mut before = carried.remove(&case.pair()).filter(|_| pair.through.reused).unwrap_or_default();
        for difference in left {
            let key = (case.pair(), difference.side, kind(&difference.what));
            let first = {
                let mut tally = tally.lock().unwrap();
                let entry = tally.found.entry(key.clone()).or_default();
                entry.0 += 1;
                entry.0 <= EXAMPLES as u64
            };
            if !first {
                continue;
            }
            let example = example(&mut worker, number, &case, &before, &difference).await;
            let mut tally = tally.lock().unwrap();
            match example {
                Ok(example) => tally.found.entry(key).or_default().1.push(example),
                Err(text) => {
                    tally.found.remove(&key);
                    tally.once.push(text);
                }
            }
        }
        before.drain(..before.len().saturating_sub(REPLAYED));
        before.push(case.clone());
        carried.insert(case.pair(), before);
    }
}

/// What makes it differ again: the case alone, or after what its connection had carried.
///
/// # Errors
/// Nothing does.
async fn example(
    worker: &mut Worker,
    number: u64,
    case: &Case,
    before: &[Case],
    difference: &Difference,
) -> Result<String, String> {
    let kind = (difference.side, difference.what.clone());
    let again = alone(worker, case).await;
    if judge(&again).iter().any(|d| (d.side, d.what.clone()) == kind) {
        let small = shrunk(worker, again, &kind).await;
        let told: Vec<String> = judge(&small).iter().map(ToString::to_string).collect();
        keep(number, &small.case, &told);
        let text = small.case.to_text();
        return Ok(format!("case {number}:\n  {difference}\nmade small:\n{text}  {}\n", told.join("\n  ")));
    }
    let texts = |cases: &[Case]| cases.iter().map(Case::to_text).collect::<String>();
    let told = format!("case {number}:\n{}  {difference}\n", case.to_text());
    match cause(worker, before, case, &kind).await {
        Some(cause) => Ok(format!("{told}after\n{}", texts(&cause))),
        None => Err(format!("{told}before it:\n{}", texts(&before[before.len().saturating_sub(1)..]))),
    }
}

/// Writes what differs into the folder that `GATEPASS_KEEP` names.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn keep(number: u64, case: &Case, told: &[String]) {
    if let Ok(folder) = std::env::var("GATEPASS_KEEP") {
        let remarks: String = told.iter().flat_map(|text| text.lines()).map(|line| format!("# {line}\n")).collect();
        std::fs::write(Path::new(&folder).join(format!("{number}.txt")), remarks + &case.to_text()).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn runtime() -> tokio::runtime::Runtime {
    ALL.store(setting("GATEPASS_ALL", 0) > 0, Ordering::Relaxed);
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture")]
fn hold(source: fn(u64) -> Case, first: u64, cases: u64) {
    let tally: Arc<Mutex<Tally>> = Arc::default();
    let started = Instant::now();
    runtime().block_on(async {
        let next = Arc::new(AtomicU64::new(first));
        let workers = workers(WORKERS).await.into_iter();
        let tasks: Vec<_> =
            workers.map(|worker| tokio::spawn(work(worker, source, next.clone(), first + cases, tally.clone()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let tally = tally.lock().unwrap();
    println!("{cases} cases in {:?}", started.elapsed());
    for allowed in allow::ALLOWED {
        let times = tally.allowed.get(allowed.name).unwrap_or(&0);
        println!("{times:>8} × allowed: {} ({}): {}", allowed.name, allowed.section, allowed.why);
    }
    for (why, times) in &tally.known {
        println!("{times:>8} × known: {why}");
    }
    for text in &tally.once {
        println!("not seen again: {text}");
    }
    assert!(tally.found.is_empty(), "{}", tally.report());
    // Neither alone nor after what came before it: time. A busy machine makes one of many late; a fault shows more often.
    let bound = 2 + cases / 50_000;
    assert!(tally.once.len() as u64 <= bound, "more than {bound} differ now and then:\n{}", tally.once.join("\n"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn generated_messages_pass_unharmed() {
    if let Ok(file) = std::env::var("GATEPASS_CASE") {
        let text = std::fs::read_to_string(&file).unwrap();
        ONE.get_or_init(|| Case::from_text(&text).unwrap());
    }
    let source = |number| ONE.get().cloned().unwrap_or_else(|| generate::generate(number));
    hold(source, setting("GATEPASS_FIRST", 0), setting("GATEPASS_CASES", 10_000));
}

#[test]
fn messages_that_break_off_at_any_byte_look_broken() {
    hold(generate::broken, 0, generate::BROKEN);
}

#[test]
fn what_once_differed_does_not_any_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/kept");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = String::new();
    runtime().block_on(async {
        let mut worker = workers(1).await.pop().unwrap();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "txt")) {
            let text = std::fs::read_to_string(file).unwrap();
            let case = Case::from_text(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
            for difference in judge(&alone(&mut worker, &case).await) {
                wrong.push_str(&format!("{}:\n  {difference}\n", file.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_case_is_its_text() {
    for number in 0..2000 {
        let case = generate::generate(number);
        let text = case.to_text();
        assert_eq!(Case::from_text(&text).as_ref(), Ok(&case), "{text}");
    }
}
