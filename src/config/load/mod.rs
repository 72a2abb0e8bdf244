//! Finds, reads and joins the files of a configuration.

mod hosts;
mod listeners;
mod pac;
mod parts;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::meant::{Config, Listener};
use super::schema::{self, TOP};
use crate::auth::AuthType;
use crate::files;
use crate::limits::{Limits, Unit};
use crate::settings::shown::quoted_key;
use crate::settings::yaml::{self, Key};
use crate::settings::{Decode, Node, Place, Report, Safe, Scope, Value};

/// What to load.
#[derive(Clone, Default)]
pub struct Request {
    /// `-c FILE`, in order; later wins. Empty: `GATEPASS_CONFIG`, `./gatepass.yaml`, … as documented.
    pub files: Vec<PathBuf>,
    /// Instead of files: a document given as text, with the name to show for it and the folder its
    /// relative paths start at (demo, tests, quick rules).
    pub inline: Option<(String, String, PathBuf)>,
    /// A further document laid over the rest, as if it were the last file (`exec --bearer` and the like).
    pub overlay: Option<String>,
    pub profile: Option<String>,
    /// `--listen`: replaces the forward listener's address.
    pub listen: Option<String>,
    /// The one listener, whatever is configured (`exec`).
    pub instead: Option<Listener>,
    /// A command is run beside it, which is not to inherit what is secret.
    pub for_command: bool,
    /// The environment that `${NAME}`, XDG folders and proxy variables are read from.
    pub env: BTreeMap<String, String>,
    /// An interception CA that is kept nowhere (demo, tests).
    pub ca_in_memory: bool,
    /// The auth types, from the table of schemes.
    pub auth_types: Vec<AuthType>,
}

pub struct Loaded {
    /// What could be read, even when the report has errors: certificates and credentials are then
    /// looked at too, so that all mistakes are told at once. Never served in that case.
    pub config: Option<Config>,
    pub report: Report,
    /// What the settings of credentials are read in.
    pub scope: Scope,
    /// The files found, in order; empty when built-in defaults run.
    pub files: Vec<PathBuf>,
    /// Those of them that nobody includes, as they were named or found.
    pub found: Vec<PathBuf>,
    /// Those of them that say nothing: empty, only comments, `null`, `{}`.
    pub silent: Vec<PathBuf>,
}

/// Reads everything and reports every mistake.
pub fn load(request: &Request) -> Loaded {
    let mut loader = Loader {
        report: Report::of(schema::tables(&request.auth_types)),
        scope: Scope {
            env: request.env.clone(),
            bound: Limits::default().file,
            output: Limits::default().helper_output,
            safe: Safe::new(&request.env),
            ..Scope::default()
        },
        files: Vec::new(),
        silent: Vec::new(),
        open: Vec::new(),
    };
    let mut found = Vec::new();
    let mut root = Node { place: Place::default(), value: Value::Map(Vec::new()) };
    match &request.inline {
        Some((name, text, base)) => {
            loader.add_text(PathBuf::from(name), text.clone(), base.clone(), &mut root);
        }
        None => {
            found = find(request, &mut loader.report);
            for path in &found {
                loader.add_file(path, None, &mut root);
                loader.warn_if_silent(path);
            }
        }
    }
    let files = loader.files.clone();
    if let Some(profile) = &request.profile {
        loader.profile(profile, &mut root);
    }
    if let Some(text) = &request.overlay {
        loader.add_text(PathBuf::from("(command line)"), text.clone(), PathBuf::from("."), &mut root);
    }
    let Loader { mut report, mut scope, files: mut watched, silent, .. } = loader;
    collect_vars(&root, &mut scope, &mut report);
    let limits = root.get("limits").map_or_else(Limits::default, |node| limits(&mut Decode::new(&mut report, &scope), node));
    scope.bound = limits.file;
    scope.output = limits.helper_output;
    for path in report.files_over(limits.file) {
        let message = format!("{} is larger than `limits.file` ({} bytes)", path.display(), limits.file);
        report.error("file", None, message).help("raise it there, or split the file with `include:`");
    }
    let mut decode = Decode::new(&mut report, &scope);
    let config = build(&mut decode, &root, request, limits);
    watched.extend(decode.into_files());
    if request.for_command {
        // Also what another profile reads, or a credential that no rule uses.
        report.secrets().for_each(|text| Decode::withhold_named(&scope, text, 0));
    }
    Loaded { config: config.map(|config| Config { files: watched, ..config }), report, scope, files, found, silent }
}

/// The files that a request names, or that are found for it, without reading them.
pub fn named_files(request: &Request) -> Vec<PathBuf> {
    let found = find(request, &mut Report::default());
    found.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
}

/// Where configurations are looked for, in order; only the first place that has one counts.
fn find(request: &Request, report: &mut Report) -> Vec<PathBuf> {
    if !request.files.is_empty() {
        return request.files.clone();
    }
    let env = |name: &str| request.env.get(name).filter(|value| !value.is_empty());
    if let Some(path) = env("GATEPASS_CONFIG") {
        let path = PathBuf::from(path);
        if !files::exists(&path) {
            report.error("file", None, format!("GATEPASS_CONFIG names {}, and there is no such file", path.display()));
            return Vec::new();
        }
        return vec![path];
    }
    let user = env("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| env("HOME").map(|home| Path::new(home).join(".config")));
    let places = [
        Some(PathBuf::from("gatepass.yaml")),
        user.map(|dir| dir.join("gatepass/config.yaml")),
        Some(PathBuf::from("/etc/gatepass/gatepass.yaml")),
    ];
    let places: Vec<PathBuf> = places.into_iter().flatten().collect();
    let found = places.iter().position(|path| files::exists(path));
    for (path, near) in places[..found.unwrap_or(places.len())].iter().filter_map(|path| Some((path, look_alike(path)?))) {
        let message = format!("{} is not read: a configuration is looked for as {}", near.display(), path.display());
        report.warning("look-alike", None, message).help(format!("rename it, or name it with `-c {}`", near.display()));
    }
    found.map(|at| places[at].clone()).into_iter().collect()
}

/// What to do about a configuration that cannot be read.
fn unreadable_help(path: &Path, cause: &files::FileError, included: bool) -> Option<String> {
    use std::io::ErrorKind;
    let shown = path.display();
    match cause.cause.kind() {
        ErrorKind::NotFound if included => Some("relative paths start at the folder of the file that includes it".to_owned()),
        ErrorKind::NotFound => match look_alike(path) {
            Some(near) => Some(format!("there is {}; name that one, or rename it", near.display())),
            None => Some(format!("`gatepass init {shown}` writes a starter configuration")),
        },
        ErrorKind::PermissionDenied => {
            Some(format!("let user {}, whom gatepass runs as, read it: `chown` or `chmod` {shown}", files::own_user()))
        }
        ErrorKind::IsADirectory => Some("name a file in it".to_owned()),
        _ => None,
    }
}

/// The same name with the other ending of YAML files, if that one is there.
pub(super) fn look_alike(path: &Path) -> Option<PathBuf> {
    let others: &[&str] = match path.extension().and_then(|ending| ending.to_str()) {
        Some("yaml") => &["yml", "json", "toml"],
        Some("yml") => &["yaml"],
        _ => return None,
    };
    others.iter().map(|ending| path.with_extension(ending)).find(|other| files::exists(other))
}

struct Loader {
    report: Report,
    scope: Scope,
    files: Vec<PathBuf>,
    silent: Vec<PathBuf>,
    /// Files being read, for circles of `include`.
    open: Vec<PathBuf>,
}

impl Loader {
    fn add_file(&mut self, path: &Path, named_at: Option<Place>, root: &mut Node) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&absolute) {
            self.report.error("include-circle", named_at, format!("{} includes itself", path.display()));
            return;
        }
        if let Some(refused) = self.scope.safe.refuses(path) {
            self.report.error("unsafe-file", named_at, refused.message).help(refused.help);
            return;
        }
        let text = match files::read_text(path, self.scope.bound) {
            Ok(text) => text,
            Err(cause) => {
                let help = unreadable_help(path, &cause, named_at.is_some());
                self.report.error("file", named_at, cause.to_string()).help = help;
                return;
            }
        };
        self.files.push(absolute.clone());
        let base = absolute.parent().map_or_else(PathBuf::new, Path::to_owned);
        self.open.push(absolute.clone());
        if !self.add_text(path.to_owned(), text, base, root) {
            self.silent.push(absolute);
        }
        self.open.pop();
    }

    fn warn_if_silent(&mut self, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if self.silent.contains(&absolute) {
            self.report
                .warning("empty-configuration", None, format!("{} says nothing: there is no setting in it", path.display()))
                .help("every host is tunnelled until a rule names it; `gatepass init` writes a starter configuration");
        }
    }

    /// False when it says nothing.
    fn add_text(&mut self, name: PathBuf, text: String, base: PathBuf, root: &mut Node) -> bool {
        let file = self.report.add_file(name, text.clone());
        self.scope.bases.push(base.clone());
        let document = match yaml::parse(&text, file) {
            Ok(document) => document,
            Err(cause) => {
                let error = self.report.error("yaml", None, cause.message);
                error.at = cause.at.map(|(line, column)| (file, line, column));
                error.help = cause.help;
                return true;
            }
        };
        for (place, key) in document.duplicates {
            let help = if key == "rules" { "merge the lists" } else { "keep one of them" };
            let message = match &*quoted_key(&key) {
                "" => "this key stands twice".to_owned(),
                key => format!("{} appears twice", key.trim_start()),
            };
            self.report.error("duplicate-key", place, message).help(help);
        }
        if matches!(document.root.value, Value::Null) {
            return false;
        }
        let Some(entries) = document.root.as_map() else {
            self.report.error(
                "wrong-kind",
                document.root.place,
                format!("a configuration is a map of settings, not {}", document.root.kind()),
            );
            return true;
        };
        let says_something = entries.iter().any(|(key, node)| key.text != "version" && !matches!(node.value, Value::Null));
        if let Some(include) = document.root.get("include") {
            self.include(include, &base, root);
        }
        overlay(root, document.root);
        says_something
    }

    fn include(&mut self, include: &Node, base: &Path, root: &mut Node) {
        let scope = self.scope.clone();
        let mut decode = Decode::new(&mut self.report, &scope);
        let Some(paths) = decode.plain_strings(include) else { return };
        for (path, place) in paths {
            self.add_file(&base.join(path), Some(place), root);
        }
    }

    fn profile(&mut self, name: &str, root: &mut Node) {
        let profile = root.get("profiles").and_then(|profiles| profiles.get(name)).cloned();
        match profile {
            Some(profile) => overlay(root, profile),
            None => {
                let known: Vec<String> = root
                    .get("profiles")
                    .and_then(Node::as_map)
                    .unwrap_or_default()
                    .iter()
                    .map(|(key, _)| key.text.clone())
                    .collect();
                let help = if known.is_empty() {
                    "the configuration defines none".to_owned()
                } else {
                    format!("defined: {}", known.join(", "))
                };
                self.report.error("dangling-name", None, format!("there is no profile `{name}`")).help(help);
            }
        }
    }
}

/// Lays a later document over an earlier one: rules and listeners are appended, maps of names are
/// merged, everything else is replaced.
fn overlay(root: &mut Node, later: Node) {
    let (Value::Map(base), Value::Map(entries)) = (&mut root.value, later.value) else { return };
    root.place = later.place;
    for (key, node) in entries {
        match base.iter_mut().find(|(old, _)| old.text == key.text) {
            None => base.push((key, node)),
            Some((old, slot)) => match (&mut slot.value, node.value) {
                (Value::List(list), Value::List(more)) if matches!(key.text.as_str(), "rules" | "listeners") => list.extend(more),
                (Value::Map(names), Value::Map(more)) if MERGED.contains(&key.text.as_str()) => names_over(names, more),
                (_, value) => {
                    *old = key;
                    *slot = Node { place: node.place, value };
                }
            },
        }
    }
}

/// Maps of names, in which a later file adds and replaces single ones.
const MERGED: [&str; 8] = ["vars", "credentials", "client_certificates", "ca_bundles", "profiles", "limits", "log", "resolve"];

fn names_over(base: &mut Vec<(Key, Node)>, more: Vec<(Key, Node)>) {
    for (key, node) in more {
        base.retain(|(old, _)| old.text != key.text);
        base.push((key, node));
    }
}

fn collect_vars(root: &Node, scope: &mut Scope, report: &mut Report) {
    let Some(node) = root.get("vars") else { return };
    let Some(entries) = node.as_map() else {
        report.error("wrong-kind", node.place, format!("`vars` is a map of names to texts, not {}", node.kind()));
        return;
    };
    for (key, node) in entries {
        let text = match &node.value {
            Value::Text(text) | Value::Number(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            _ => {
                report.error("wrong-kind", node.place, format!("a variable is a text, not {}", node.kind()));
                continue;
            }
        };
        scope.vars.insert(key.text.clone(), (text, node.place));
    }
}

fn build(decode: &mut Decode<'_>, root: &Node, request: &Request, limits: Limits) -> Option<Config> {
    let top = decode.fields(root, "configuration", &schema::names(TOP))?;
    if let Some(node) = top.get("version") {
        decode.number(node, 1, 1);
    }
    let mut names = parts::Names::read(decode, &top, request.auth_types.iter().map(|kind| kind.name).collect());
    let mut rules = names.certificate_rules(decode);
    if let Some(node) = top.get("rules") {
        rules::read(decode, node, &mut names, &mut rules);
    }
    rules::warn(decode, &rules);
    let listeners = listeners::listeners(decode, &top, request);
    // Of `exec` the one listener has callers of its own.
    if request.instead.is_none() {
        listeners::unknown_callers(decode, &rules, &listeners);
    }
    let upstream_proxy = top.get("upstream_proxy").and_then(|node| parts::proxy(decode, node, &names)).unwrap_or_default();
    listeners::refuse_own_proxy(decode, &listeners, &upstream_proxy, top.get("upstream_proxy").map(|node| node.place));
    Some(Config {
        listeners,
        unmatched: parts::unmatched(decode, &top),
        upstream_proxy,
        resolve: parts::resolve(decode, &top),
        credentials: names.credentials,
        client_certificates: names.certificates,
        ca_bundles: names.bundles,
        rules,
        ca: parts::ca(decode, &top, request.ca_in_memory),
        state: parts::state_dir(decode),
        admin: parts::admin(decode, &top),
        log: parts::log(decode, &top),
        egress: parts::egress(decode, &top),
        limits,
        files: Vec::new(),
    })
}

fn limits(decode: &mut Decode<'_>, node: &Node) -> Limits {
    let mut limits = Limits::default();
    let table = Limits::table();
    let known: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    let Some(fields) = decode.fields(node, "limits", &known) else { return limits };
    for (name, unit, ..) in &table {
        let Some(node) = fields.get(name) else { continue };
        let value = match unit {
            Unit::Time => decode.duration(node).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Unit::Size => decode.size(node),
            Unit::Count => decode.number(node, 1, 1 << 30),
        };
        if let Some(value) = value {
            limits.set(name, value);
        }
    }
    limits
}
