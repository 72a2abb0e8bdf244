//! The house rules that a compiler does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `x_tests.rs`, `tests.rs` and `testing.rs` stand beside what they test.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.ends_with("_tests") || name == "tests" || name == "testing"
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The modules in the order of `lib.rs`.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned)).collect()
}

/// Everything but the tests of a file.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let cut = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..cut].to_owned()
}

/// The rooms that a path names behind `crate::`: one, or those of `crate::{a::B, c}`.
fn heads(path: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..word(path)]] };
    let (mut depth, mut items, mut begin) = (0_i32, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                let item = group[begin..at].trim();
                items.push(&item[..word(item)]);
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

#[test]
fn imports_are_seen_however_they_are_grouped() {
    assert_eq!(heads("gate::Plan;"), ["gate"]);
    assert_eq!(heads("{auth::{self, Making}, config,\n    serve};\nuse x::{y};"), ["auth", "config", "serve"]);
}

#[test]
fn reading_settings_needs_no_word_of_what_they_are_for() {
    let rooms = rooms();
    let at = rooms.iter().position(|room| room == "settings").unwrap();
    assert_eq!(rooms[at + 1..], ["files", "moment", "secret"]);
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let rooms = rooms();
    assert!(rooms.len() > 15, "{rooms:?}");
    let height: BTreeMap<&str, usize> = rooms.iter().enumerate().map(|(n, room)| (room.as_str(), n)).collect();
    let mut wrong = Vec::new();
    for path in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap().to_owned();
        let room = relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(own) = height.get(room.as_str()) else { continue };
        let text = code(&path);
        for used in text.match_indices("crate::").flat_map(|(n, _)| heads(&text[n + 7..])) {
            if let Some(other) = height.get(used)
                && other < own
            {
                wrong.push(format!("{} uses {used}, which stands above it", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_confined_things_stay_where_they_are_confined() {
    let places: [(&str, &[&str]); 10] = [
        ("std::fs", &["files.rs", "draft.rs", "exchange/hold.rs"]),
        ("std::env::", &["cli/mod.rs", "cli/exec", "cli/browser", "files.rs"]),
        ("println!", &["cli"]),
        // Of hyper's client no more is known than the answers that it gives.
        ("hyper::client", &["upstream/pool", "cli/demo.rs", "workload/agent.rs"]),
        ("hyper::Error", &["upstream/pool", "upstream/unread.rs", "workload/agent.rs"]),
        ("h2::Error", &["upstream/pool"]),
        ("h2::Reason", &["upstream/pool"]),
        (
            "Incoming",
            &[
                "upstream/pool",
                "upstream/unread.rs",
                "listen",
                "exchange/mod.rs",
                "serve/admin.rs",
                "cli/demo.rs",
                "workload/agent.rs",
            ],
        ),
        ("SystemTime::now()", &["moment.rs", "observe", "tls", "exchange/trace.rs", "listen/connect.rs", "cli"]),
        (
            ".expose()",
            &[
                "secret.rs",
                "cli/exec/proxy.rs",
                "auth",
                "cookie",
                "settings/decode",
                "settings/shown/mod.rs",
                "config/load/rules.rs",
                "gate/build.rs",
                "exchange/prepare.rs",
                "listen/access.rs",
                "secrets",
                "upstream/dialogue.rs",
                "upstream/tunnel.rs",
                "tls/formats/key.rs",
                "tls/out/identity/from_files.rs",
                "tls/out/token",
                "tls/out/trust.rs",
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for path in sources(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
        let text = code(&path);
        for (word, allowed) in &places {
            if text.contains(word) && !allowed.iter().any(|place| relative.starts_with(place)) {
                wrong.push(format!("{relative}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "confined things found elsewhere:\n{}", wrong.join("\n"));
}

#[test]
fn what_outlives_a_gate_has_an_owner() {
    let mutable = ["Mutex", "RwLock", "Once", "Lazy", "Atomic", "Cell"];
    let mut wrong = Vec::new();
    for path in ["auth", "cookie", "gate"].iter().flat_map(|room| sources(&root().join("src").join(room))) {
        let lines = code(&path).lines().map(str::trim_start).map(str::to_owned).collect::<Vec<_>>();
        let statics = lines.into_iter().filter(|line| line.starts_with("static ") || line.starts_with("pub static "));
        wrong.extend(
            statics
                .filter(|line| mutable.iter().any(|kind| line.contains(kind)))
                .map(|line| format!("{}: {line}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "two gatepasses in one process would share these; see src/gate/durable.rs:\n{}", wrong.join("\n"));
}

#[test]
fn what_a_scheme_must_say_is_little_and_what_it_keeps_has_a_type() {
    let text = code(&root().join("src/auth/attempt.rs"));
    let count = |name: &str| {
        let from = text.find(&format!("pub trait {name}:")).unwrap_or_else(|| panic!("no trait {name}"));
        let body = &text[from..from + text[from..].find("\n}\n").unwrap()];
        body.lines().filter(|line| line.starts_with("    fn ")).count()
    };
    let (authorizer, attempt) = (count("Authorizer"), count("Attempt"));
    assert!(authorizer > 2 && attempt > 3 && authorizer + attempt < 12, "{authorizer} and {attempt} methods");
    let untyped: Vec<String> = sources(&root().join("src"))
        .iter()
        .filter(|path| code(path).contains("dyn Any"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(untyped.is_empty(), "`dyn Any` in {}", untyped.join(", "));
}

#[test]
fn files_are_short_enough_to_read_in_one_sitting() {
    let long: Vec<String> = sources(&root().join("src"))
        .iter()
        .filter_map(|path| {
            let lines = code(path).lines().count();
            (lines > 550).then(|| format!("{}: {lines}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> = sources(&root().join("src"))
        .iter()
        .filter(|path| !path.ends_with("main.rs") && !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn the_architecture_page_names_every_room_and_only_rooms_that_are() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rooms: BTreeSet<String> = rooms().into_iter().collect();
    for room in &rooms {
        assert!(page.contains(&format!("`{room}`")), "docs/architecture.md does not name `{room}`");
    }
    for word in page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.starts_with("src/") && word.ends_with(".rs") && !word.contains("NAME"))
    {
        assert!(root().join(word).exists(), "docs/architecture.md names {word}, which is not there");
    }
}
