//! No secret of a configuration is in what is told of it, whatever is wrong with it and however it is written; and what is
//! harmless is told.
//!
//! Configurations are made up from the tables of keys and settings, with a marked secret wherever one may stand, then damaged as
//! people damage them. `GATEPASS_CASES=100000 cargo test --test behaviour secrets_shown` tries more of them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use gatepass::auth;
use gatepass::auth::AuthType;
use gatepass::config::schema::{RULE, TOP};
use gatepass::config::{Request, load};
use gatepass::observe::Observe;
use gatepass::serve;
use gatepass::settings::Shape;
use tracing_subscriber::fmt::MakeWriter;

/// A sequence of numbers that is the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// A document being made.
#[derive(Clone)]
enum Tree {
    Text(String),
    /// As it is, without quotes.
    Word(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

struct Maker<'d> {
    dice: &'d mut Dice,
    types: Vec<AuthType>,
    /// What must not be told.
    marks: Vec<String>,
    env: Vec<(String, String)>,
    vars: Vec<(String, Tree)>,
    base: &'d Path,
}

impl Maker<'_> {
    /// A secret: one that looks like a token, or like what people make up, or with characters that YAML, JSON and URLs mind.
    fn mark(&mut self) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
        let mut core = |length: usize| -> String { (0..length).map(|_| char::from(*self.dice.pick(LETTERS))).collect() };
        let (a, b) = (format!("Zq7{}", core(5)), format!("Xk9{}", core(4)));
        let long = core(60);
        let text = match self.dice.below(8) {
            0 => format!("{a}: {b}"),
            1 => format!("[{a}, {b}]"),
            2 => format!("{{{a}}}"),
            3 => format!("{a}@{b}/#?&="),
            4 => format!("{a} #{b}\"'"),
            5 => format!("{a}{long}"),
            _ => a.clone(),
        };
        self.marks.push(a);
        if text.contains(&b) {
            self.marks.push(b);
        }
        text
    }

    /// A mark in one of the ways in which a text can come into a setting.
    fn secret(&mut self, forms: bool) -> Tree {
        let mark = self.mark();
        let n = self.env.len();
        match self.dice.below(if forms { 9 } else { 6 }) {
            0 | 1 => Tree::Text(mark.replace("${", "").replace("{{", "")),
            2 => {
                self.env.push((format!("VAR_{n}"), mark));
                Tree::Text(format!("${{VAR_{n}}}"))
            }
            3 => {
                self.vars.push((format!("v{n}{}", self.vars.len()), Tree::Text(mark)));
                Tree::Text(format!("{{{{v{n}{}}}}}", self.vars.len() - 1))
            }
            4 => Tree::Text(format!("${{NOT_SET:-{}}}", mark.replace('}', ""))),
            5 => {
                self.env.push((format!("VAR_{n}"), format!("{mark}\n{mark}\n")));
                Tree::Text(format!("x${{VAR_{n}}}y"))
            }
            6 => {
                self.env.push((format!("VAR_{n}"), mark));
                Tree::Map(vec![("env".into(), Tree::Text(format!("VAR_{n}")))])
            }
            7 => {
                let file = self.base.join(format!("secret{n}"));
                std::fs::write(&file, format!("{mark}\n")).unwrap();
                Tree::Map(vec![("file".into(), Tree::Text(format!("secret{n}")))])
            }
            // The secret in the place of the name that it has elsewhere.
            _ => Tree::Map(vec![("env".into(), Tree::Text(mark))]),
        }
    }

    fn harmless(&mut self, shape: Shape) -> Tree {
        match shape {
            Shape::Bool => Tree::Word(["true", "false", "yes"][self.dice.below(3)].to_owned()),
            Shape::Number => Tree::Word(self.dice.below(9).to_string()),
            Shape::Port => Tree::Word((1 + self.dice.below(60_000)).to_string()),
            _ => Tree::Text(sample(shape).unwrap_or("x").to_owned()),
        }
    }

    fn value(&mut self, shape: Shape, depth: usize) -> Tree {
        match shape {
            Shape::Secret | Shape::Key => self.secret(true),
            Shape::Text | Shape::Json if depth > 6 => self.secret(false),
            Shape::Text => self.secret(false),
            Shape::Json => {
                let (one, two) = (self.secret(true), self.secret(false));
                Tree::Map(vec![("sub".into(), one), ("list".into(), Tree::List(vec![two]))])
            }
            Shape::Url | Shape::Host if self.dice.one_in(6) => {
                let mark = self.marks.len();
                let _ = self.mark();
                Tree::Text(format!("https://user:{}@h.example/", self.marks[mark].clone()))
            }
            // A key or a token where a file is asked for, by a variable.
            Shape::Pem | Shape::File if self.dice.one_in(4) => {
                let mark = self.mark();
                let n = self.env.len();
                let core = self.marks.last().cloned().unwrap_or_default();
                let value = if self.dice.one_in(2) { core } else { BASE64_STANDARD.encode(format!("{mark}{}", "k".repeat(80))) };
                self.marks.push(value.clone());
                self.env.push((format!("VAR_{n}"), value));
                Tree::Text(format!("${{VAR_{n}}}"))
            }
            Shape::Name if self.dice.one_in(3) => Tree::Text(self.mark()),
            Shape::Many(one) if self.dice.one_in(2) => {
                Tree::List((0..1 + self.dice.below(2)).map(|_| self.value(*one, depth + 1)).collect())
            }
            Shape::Many(one) => self.value(*one, depth + 1),
            Shape::List(one) => Tree::List((0..1 + self.dice.below(3)).map(|_| self.value(*one, depth + 1)).collect()),
            Shape::OneOf(shapes) => {
                let one = *self.dice.pick(shapes);
                self.value(one, depth + 1)
            }
            Shape::Block(fields) => {
                let few = self.few(fields.iter().map(|field| (field.name, field.shape)).collect(), depth);
                Tree::Map(few)
            }
            Shape::Names(one) => {
                let name = ["pay", "laptop", "corp", "a.example"][self.dice.below(4)];
                Tree::Map(vec![(name.to_owned(), self.value(*one, depth + 1))])
            }
            Shape::Fields(one) => Tree::Map(vec![("X-Team".to_owned(), self.value(*one, depth + 1))]),
            Shape::Map(one) => {
                let user = self.mark();
                Tree::Map(vec![(user, self.value(*one, depth + 1))])
            }
            Shape::Defined("credential") => {
                let (name, settings) = self.credential(depth);
                Tree::Map(vec![(name, settings)])
            }
            Shape::Defined("rule") => {
                let mut fields = self.few(RULE.iter().map(|field| (field.name, field.shape)).collect(), depth);
                fields.insert(0, ("host".to_owned(), Tree::Text("api.example.com".to_owned())));
                fields.dedup_by(|a, b| a.0 == b.0);
                if self.dice.one_in(2) {
                    fields.push(self.credential(depth));
                }
                Tree::Map(fields)
            }
            Shape::Defined("limits") => Tree::Map(vec![("connect".to_owned(), Tree::Text("5s".to_owned()))]),
            Shape::Defined("configuration") => Tree::Map(Vec::new()),
            plain => self.harmless(plain),
        }
    }

    fn credential(&mut self, depth: usize) -> (String, Tree) {
        let kind = *self.dice.pick(&self.types.clone());
        let settings = match kind.short {
            Some(short) if kind.settings.len() < 2 || self.dice.one_in(2) => self.value(short, depth + 1),
            _ => Tree::Map(self.few(kind.settings.iter().map(|(name, shape, ..)| (*name, *shape)).collect(), depth)),
        };
        (kind.name.to_owned(), settings)
    }

    /// Some of the fields.
    fn few(&mut self, fields: Vec<(&'static str, Shape)>, depth: usize) -> Vec<(String, Tree)> {
        let wanted = 1 + self.dice.below(if depth > 4 { 2 } else { 5 });
        let mut few: Vec<(String, Tree)> = Vec::new();
        for _ in 0..wanted {
            let (name, shape) = *self.dice.pick(&fields);
            if !few.iter().any(|(own, _)| own == name) {
                few.push((name.to_owned(), self.value(shape, depth + 1)));
            }
        }
        few
    }

    fn document(&mut self) -> Tree {
        let skipped = ["include", "profiles", "vars", "rules", "credentials", "log"];
        let top: Vec<_> =
            TOP.iter().filter(|field| !skipped.contains(&field.name)).map(|field| (field.name, field.shape)).collect();
        let mut entries = if self.dice.one_in(2) { self.few(top, 2) } else { Vec::new() };
        if self.dice.one_in(2) {
            let name = if self.dice.one_in(8) { self.mark() } else { "pay".to_owned() };
            let credential = self.value(Shape::Defined("credential"), 1);
            entries.push(("credentials".to_owned(), Tree::Map(vec![(name, credential)])));
        }
        entries.push(("rules".to_owned(), self.value(Shape::List(&Shape::Defined("rule")), 0)));
        for _ in 0..self.dice.below(3) {
            self.damage(&mut entries);
        }
        if !self.vars.is_empty() {
            entries.insert(0, ("vars".to_owned(), Tree::Map(self.vars.clone())));
        }
        Tree::Map(entries)
    }

    /// A mistake somewhere below.
    fn damage(&mut self, entries: &mut Vec<(String, Tree)>) {
        if entries.is_empty() {
            return;
        }
        let at = self.dice.below(entries.len());
        if self.dice.below(4) > 0 {
            match &mut entries[at].1 {
                Tree::Map(inner) => return self.damage(inner),
                Tree::List(items) => {
                    if let Some(Tree::Map(inner)) = items.first_mut() {
                        return self.damage(inner);
                    }
                }
                _ => {}
            }
        }
        match self.dice.below(9) {
            // A key misspelt.
            0 => {
                let key = &mut entries[at].0;
                let n = self.dice.below(key.chars().count().max(1));
                *key = key.chars().enumerate().filter(|(m, _)| *m != n).map(|(_, c)| c).collect();
            }
            // The same key twice.
            1 => {
                let (key, again) = (entries[at].0.clone(), self.secret(false));
                entries.push((key, again));
            }
            // A key that nobody knows.
            2 => {
                let key = ["colour", "passwd", "apiKey", "X-Token"][self.dice.below(4)];
                let value = self.secret(true);
                entries.push((key.to_owned(), value));
            }
            // A secret where a key should be.
            3 => {
                let mark = self.mark();
                entries.push((mark, Tree::Word(String::new())));
            }
            // One value for another.
            4 => entries[at].1 = self.secret(true),
            5 => {
                let (a, b) = (self.secret(true), self.secret(false));
                entries[at].1 = Tree::List(vec![a, Tree::List(vec![b])]);
            }
            6 => {
                let (key, value) = (self.mark(), self.secret(false));
                entries[at].1 = Tree::Map(vec![(key, value), ("token".into(), Tree::Word("~".into()))]);
            }
            7 => {
                let mark = self.mark();
                entries[at].1 = Tree::Text(format!("Bearer {mark}"));
            }
            _ => entries[at].1 = Tree::Word(["~", "12", "true", "1.5", "[]", "{}"][self.dice.below(6)].to_owned()),
        }
    }
}

/// A value of each harmless shape.
fn sample(shape: Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::Plain => "us-east-1",
        Shape::Field => "X-Request-Id",
        Shape::Variable => "API_TOKEN",
        Shape::Host => "api.example.com",
        Shape::Listen => "127.0.0.1:8118",
        Shape::Url => "https://api.example.com/v1",
        Shape::UrlPath => "/v1/**",
        Shape::File | Shape::Pem => "certs/alice.pem",
        Shape::Pin => "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        Shape::Bool => "true",
        Shape::Number => "7",
        Shape::Time => "5x",
        Shape::Size => "64 KiB",
        Shape::Port => "8443",
        Shape::Name => "none",
        Shape::Words(words) => words[0],
        Shape::Many(one) | Shape::List(one) => return sample(*one),
        Shape::OneOf(shapes) => return shapes.iter().find_map(|one| sample(*one)),
        _ => return None,
    })
}

/// How a document is written.
#[derive(Clone, Copy)]
struct Style {
    flow: bool,
    json: bool,
    compact: bool,
    quotes: usize,
    fold: bool,
    block: bool,
    anchor: bool,
}

fn write(tree: &Tree, style: Style, depth: usize, out: &mut String, dice: &mut Dice) {
    let indent = "  ".repeat(depth);
    match tree {
        Tree::Word(word) if style.json && matches!(word.as_str(), "~" | "") => out.push_str("null"),
        Tree::Word(word) => out.push_str(word),
        Tree::Text(text) => scalar(text, style, depth, out, dice),
        Tree::List(items) if style.flow || items.is_empty() => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n == 0 {
                    ""
                } else if style.compact {
                    ","
                } else {
                    ", "
                });
                write(item, style, depth, out, dice);
            }
            out.push(']');
        }
        Tree::Map(entries) if style.flow || entries.is_empty() => {
            out.push('{');
            for (n, (key, value)) in entries.iter().enumerate() {
                out.push_str(if n == 0 {
                    ""
                } else if style.compact {
                    ","
                } else {
                    ", "
                });
                scalar(key, Style { fold: false, block: false, ..style }, depth, out, dice);
                out.push_str(if style.compact { ":" } else { ": " });
                write(value, style, depth, out, dice);
            }
            out.push('}');
        }
        Tree::List(items) => {
            for item in items {
                let _ = write!(out, "\n{indent}- ");
                write(item, style, depth + 1, out, dice);
            }
        }
        Tree::Map(entries) => {
            for (n, (key, value)) in entries.iter().enumerate() {
                if n > 0 || !out.ends_with("- ") {
                    let _ = write!(out, "\n{indent}");
                }
                scalar(key, Style { fold: false, block: false, ..style }, depth, out, dice);
                out.push_str(": ");
                // Some parts in another style, as they are pasted.
                let inner = if dice.one_in(4) { Style { flow: true, fold: false, block: false, ..style } } else { style };
                write(value, inner, depth + 1, out, dice);
            }
        }
    }
}

fn scalar(text: &str, style: Style, depth: usize, out: &mut String, dice: &mut Dice) {
    let json = serde_json::to_string(text).unwrap();
    let plain =
        text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) && !text.is_empty() && !text.starts_with('-');
    if style.anchor && !style.json && dice.one_in(12) {
        let _ = write!(out, "&a{} ", dice.below(1000));
    }
    match style.quotes {
        _ if style.json => out.push_str(&json),
        _ if style.block && !style.flow && dice.one_in(3) && !text.is_empty() && text.trim() == text => {
            let _ = write!(out, "{}\n{}  {}", dice.pick(&["|", ">", "|-", ">-"]), "  ".repeat(depth), text.replace('\n', " "));
        }
        _ if style.fold && text.contains(' ') && dice.one_in(2) => {
            out.push_str(&json.replacen(' ', &format!("\n{}   ", "  ".repeat(depth)), 1))
        }
        1 => out.push_str(&json),
        2 if !text.contains('\n') => {
            let _ = write!(out, "'{}'", text.replace('\'', "''"));
        }
        // Now and then without the quotes that it needs.
        _ if plain || dice.one_in(10) => out.push_str(text),
        _ => out.push_str(&json),
    }
}

struct Case {
    text: String,
    marks: Vec<String>,
    env: Vec<(String, String)>,
}

fn case(seed: u64, base: &Path) -> Case {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    (0..8).for_each(|_| _ = dice.next());
    let mut maker = Maker { dice: &mut dice, types: auth::types(), marks: Vec::new(), env: Vec::new(), vars: Vec::new(), base };
    let tree = maker.document();
    let Maker { mut marks, env, .. } = maker;
    let json = dice.one_in(4);
    let flow = json || dice.one_in(4);
    let style = Style {
        flow,
        json,
        compact: json && dice.one_in(2),
        quotes: dice.below(4),
        fold: dice.one_in(3),
        block: dice.one_in(3),
        anchor: dice.one_in(3),
    };
    let mut text = String::new();
    write(&tree, style, 0, &mut text, &mut dice);
    let mut text = text.trim_start_matches('\n').to_owned() + "\n";
    if dice.one_in(8) {
        marks.push("Zq7comment".to_owned());
        text = text.replacen('\n', " # bearer: Zq7comment\n", 1);
    }
    // A slip of the hand.
    if dice.one_in(6) && text.len() > 4 {
        let lines: Vec<&str> = text.lines().collect();
        let at = dice.below(lines.len());
        let broken = match dice.below(4) {
            0 => format!(" {}", lines[at]),
            1 => format!("\t{}", lines[at]),
            2 => lines[at].replacen(['"', '}', ']', ':'], "", 1),
            _ => lines[at].trim_start().to_owned(),
        };
        let lines: Vec<String> =
            lines.iter().enumerate().map(|(n, line)| if n == at { broken.clone() } else { (*line).to_owned() }).collect();
        text = lines.join("\n");
    }
    Case { text, marks, env }
}

/// What a mark may look like where it comes out.
fn spellings(mark: &str) -> Vec<String> {
    let percent: String = mark.bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        mark.to_owned(),
        BASE64_STANDARD.encode(mark).trim_end_matches('=').to_owned(),
        BASE64_URL_SAFE_NO_PAD.encode(mark),
        percent,
    ]
}

#[track_caller]
fn holds_none(told: &str, what: &str, seed: u64, case: &Case) {
    for mark in &case.marks {
        for spelling in spellings(mark).iter().filter(|spelling| spelling.len() >= 6) {
            let lines: Vec<&str> = told.lines().filter(|line| line.contains(spelling.as_str())).collect();
            assert!(lines.is_empty(), "case {seed}: {what} tells `{spelling}`\n{}\n=== of\n{}", lines.join("\n"), case.text);
        }
    }
}

/// Where logs go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().unwrap())).into_owned()
    }
}

fn request(case: &Case, base: &Path) -> Request {
    let mut env: std::collections::BTreeMap<String, String> = case.env.iter().cloned().collect();
    env.insert("GATEPASS_HOME".to_owned(), base.join("home").display().to_string());
    Request { files: vec![base.join("gatepass.yaml")], ca_in_memory: true, env, auth_types: auth::types(), ..Request::default() }
}

#[expect(clippy::disallowed_methods, reason = "how many cases are tried is a matter of this test alone")]
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_secret_is_in_what_check_run_and_reload_tell() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    let first = number("GATEPASS_FIRST_CASE", 1);
    let (mut good, mut bad) = (0, 0);
    for seed in first..first + number("GATEPASS_CASES", 300) {
        let case = case(seed, base);
        std::fs::write(base.join("gatepass.yaml"), &case.text).unwrap();
        let (report, built) = match runtime.block_on(serve::build(&request(&case, base))) {
            Ok(built) => (built.report.render(false) + &built.report.json().to_string(), true),
            Err(report) => (report.render(true) + &report.json().to_string(), false),
        };
        holds_none(&report, "the report", seed, &case);
        holds_none(&log.take(), "the log", seed, &case);
        if built {
            good += 1
        } else {
            bad += 1
        }
        if seed % 16 == 0 {
            runtime.block_on(reload(&case, base));
            holds_none(&log.take(), "the log of a reload", seed, &case);
        }
        if seed % 64 == 0 {
            commands(seed, &case, base);
        }
    }
    assert!(good > 0 && bad > 0, "{good} good and {bad} bad ones");
}

/// The case comes over a configuration that runs.
async fn reload(case: &Case, base: &Path) {
    let file = base.join("gatepass.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:0\n").unwrap();
    let request = request(case, base);
    let built = serve::build(&request).await.unwrap_or_else(|report| panic!("{}", report.render(false)));
    let Ok(running) = serve::start(built, request, Observe::default()).await else { panic!("it does not run") };
    std::fs::write(&file, &case.text).unwrap();
    running.reload().await;
    running.stop().await;
}

/// The commands themselves.
fn commands(seed: u64, case: &Case, base: &Path) {
    std::fs::write(base.join("gatepass.yaml"), &case.text).unwrap();
    let all: [&[&str]; 6] = [
        &["check"],
        &["check", "--format", "json"],
        &["explain", "https://api.example.com/v1"],
        &["explain", "--format", "json", "https://api.example.com/v1"],
        &["certs", "list"],
        &["certs", "list", "--format", "json"],
    ];
    for args in all {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepass"))
            .args(["-c", "gatepass.yaml"])
            .args(args)
            .current_dir(base)
            .env_clear()
            .env("GATEPASS_HOME", base.join("home"))
            .envs(case.env.iter().cloned())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        holds_none(&told, &args.join(" "), seed, case);
    }
}

/// A line with a harmless value, and what it must show.
fn harmless_lines() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let quoted = |text: &str| format!("\"{text}\"");
    // An unknown key beside it makes the line a line of a mistake.
    for field in RULE {
        if let Some(text) = sample(field.shape) {
            let shown = format!("{}: {}", field.name, quoted(text));
            lines.push((format!("rules: [{{ host: a.example, {shown}, colour: 1 }}]\n"), shown));
        }
    }
    for field in TOP {
        if let Some(text) = sample(field.shape) {
            let shown = format!("{}: {}", field.name, quoted(text));
            lines.push((format!("{{ {shown}, colour: 1 }}\n"), shown));
        }
    }
    for kind in auth::types() {
        for (name, shape, ..) in kind.settings {
            if let Some(text) = sample(*shape) {
                let shown = format!("{name}: {}", quoted(text));
                lines.push((
                    format!("rules: [{{ host: a.example, auth: {{ {}: {{ {shown} }} }}, colour: 1 }}]\n", kind.name),
                    shown,
                ));
            }
        }
    }
    for (name, ..) in gatepass::limits::Limits::table() {
        lines.push((format!("limits: {{ {name}: 5x }}\n"), format!("{name}: 5x")));
    }
    for shown in
        ["access: { same_user: yes }", "tls: { cert: certs/tls.crt, key: certs/tls.key }", "upstream: https://api.example.com"]
    {
        lines.push((format!("listeners: [{{ listen: 127.0.0.1:1, {shown}, colour: 1 }}]\n"), shown.to_owned()));
    }
    lines
}

#[test]
fn what_is_declared_harmless_is_shown() {
    let lines = harmless_lines();
    assert!(lines.len() > 120, "{}", lines.len());
    for (text, shown) in lines {
        let request = Request {
            inline: Some(("gatepass.yaml".to_owned(), text.clone(), "/nowhere".into())),
            auth_types: auth::types(),
            ..Request::default()
        };
        let report = load(&request).report.render(false);
        assert!(report.contains(&shown), "{shown} is not shown in\n{report}");
    }
}
