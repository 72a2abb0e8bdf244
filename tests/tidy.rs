//! The house rules that a compiler does not know.
#![allow(clippy::unwrap_used)]

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

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths_of(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let (mut start, mut depth) = (0, 0);
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let (front, inner) = match part.split_once('{') {
            Some((front, inner)) => (front, inner.strip_suffix('}')),
            None => (part.split(" as ").next().unwrap(), None),
        };
        let path = before.iter().cloned().chain(front.split("::").map(|word| word.trim().to_owned()));
        let path: Vec<String> = path.filter(|word| !word.is_empty()).collect();
        match inner {
            Some(inner) => paths_of(inner, &path, found),
            None => found.push(path),
        }
    }
}

/// Every path that a file names, in `use` lines and elsewhere.
fn paths_in(text: &str) -> Vec<Vec<String>> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    let mut rest = code.as_str();
    let mut elsewhere = String::new();
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rfind('\n').map_or(0, |n| n + 1);
        let lead = rest[line..at].trim();
        let end = rest[at..].find(';').map_or(rest.len(), |n| at + n);
        if lead.is_empty() || lead.starts_with("pub") {
            elsewhere.push_str(&rest[..at]);
            paths_of(&rest[at + 4..end].replace('\n', " "), &[], &mut found);
            rest = &rest[end..];
        } else {
            elsewhere.push_str(&rest[..at + 4]);
            rest = &rest[at + 4..];
        }
    }
    elsewhere.push_str(rest);
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = elsewhere.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    found.extend(words.map(|word| word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()));
    found
}

/// Where each file stands: `src/auth/oauth2/mod.rs` is `auth::oauth2`.
fn modules() -> BTreeMap<Vec<String>, PathBuf> {
    let src = root().join("src");
    let place = |path: &Path| {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let mut words: Vec<String> = relative.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
        words
    };
    sources(&src).into_iter().map(|path| (place(&path), path)).collect()
}

/// The module that a path named in `from` leads into: the longest beginning of it that is one.
fn target(path: &[String], from: &[String], modules: &BTreeMap<Vec<String>, PathBuf>) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" => from.get(..from.len().checked_sub(ups)?)?.to_vec(),
        "self" => from.to_vec(),
        child => {
            let inside = [from, &[child.to_owned()]].concat();
            if !modules.contains_key(&inside) {
                return None;
            }
            from.to_vec()
        }
    };
    let rest = if ups > 0 { &path[ups..] } else { path };
    let mut all: Vec<String> =
        base.into_iter().chain(rest.iter().filter(|word| !matches!(word.as_str(), "crate" | "self")).cloned()).collect();
    while !all.is_empty() && !modules.contains_key(&all) {
        all.pop();
    }
    (!all.is_empty()).then_some(all)
}

/// Files of one room that use one another in a circle cannot be read one after the other. A file and those in the folder of
/// its name count as one: a parent shows what its children hold, and they use what it has for all of them.
#[test]
fn no_files_of_one_room_use_one_another_in_a_circle() {
    // Rooms that are being taken apart: each of these goes when its room is done, and none may be added.
    let allowed = [
        "cli::import::postman: auth oauth2 settings",
        "config: describe schema",
        "config::load: listeners pac parts rules",
        "exchange: answer masked refusal trace",
        "exchange: context interim",
        "exchange: hold send",
        "settings: report yaml",
        "upstream: pac route",
    ];
    let modules = modules();
    let mut edges: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, path) in &modules {
        for named in paths_in(&code(path)) {
            let Some(to) = target(&named, from, &modules) else { continue };
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if shared > 0 && shared < from.len() && shared < to.len() {
                let room = edges.entry(from[..shared].to_vec()).or_default();
                room.entry(from[shared].clone()).or_default().insert(to[shared].clone());
            }
        }
    }
    let mut circles = BTreeSet::new();
    for (room, uses) in &edges {
        let reached = |from: &String| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(at) = next.pop() {
                next.extend(uses.get(at).into_iter().flatten().filter(|to| seen.insert((*to).clone())));
            }
            seen
        };
        let all: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|file| (file, reached(file))).collect();
        for (file, reach) in &all {
            let circle: Vec<&str> = reach
                .iter()
                .filter(|other| all.get(other).is_some_and(|back| back.contains(*file)))
                .map(String::as_str)
                .collect();
            if circle.len() > 1 {
                circles.insert(format!("{}: {}", room.join("::"), circle.join(" ")));
            }
        }
    }
    let new: Vec<&String> = circles.iter().filter(|circle| !allowed.contains(&circle.as_str())).collect();
    assert!(new.is_empty(), "files that use one another in a circle: {new:#?}");
}

#[test]
fn paths_are_found_in_use_lines_and_elsewhere() {
    let text =
        "//! use super::doc::X;\nuse super::a::{self, B, c::D as E};\npub use crate::f::G;\nfn h() { super::i::j(); } // x";
    let found: Vec<String> = paths_in(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["super::a::self", "super::a::B", "super::a::c::D", "crate::f::G", "super::i::j"]);
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
fn the_architecture_page_names_every_room() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rooms: BTreeSet<String> = rooms().into_iter().collect();
    for room in &rooms {
        assert!(page.contains(&format!("`{room}`")), "docs/architecture.md does not name `{room}`");
    }
}

#[test]
fn pages_for_contributors_name_only_files_that_are_there() {
    let places = ["src/", "tests/", "docs/", ".ci/"];
    for name in ["README.md", "docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let page = fs::read_to_string(root().join(name)).unwrap();
        let words = page.split('`').skip(1).step_by(2).map(|word| word.split(' ').next().unwrap());
        let paths: Vec<&str> = words
            .filter(|word| places.iter().any(|place| word.starts_with(place)) && !word.contains("NAME"))
            .chain(
                page.split("](")
                    .skip(1)
                    .filter_map(|link| link.split([')', '#']).next())
                    .filter(|link| link.starts_with("docs/")),
            )
            .collect();
        assert!(paths.len() > 5, "{name}: {paths:?}");
        for path in paths {
            assert!(root().join(path).exists(), "{name} names {path}, which is not there");
        }
    }
}
