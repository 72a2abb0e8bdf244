//! The configuration before it is written; what `gatepass check` would refuse is taken out again, and named.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::Imported;
use super::rules::{Block, Rule};
use super::texts::{Told, quoted};
use crate::settings::Report;
use crate::{auth, config, serve};

pub struct Draft {
    pub credentials: Vec<Block>,
    pub certificates: Vec<Block>,
    pub certificate_rules: Vec<Block>,
    pub rules: Vec<Rule>,
    pub told: Told,
}

/// Where something stands in the text: its first line, counted from 1.
enum Part {
    Credential(usize),
    Rule(usize),
    /// Not to be judged here: its files are elsewhere.
    Certificate,
}

/// Base64 and a host name at the same time, and long enough for any key.
const DUMMY: &str = "ZHVtbXktdmFsdWUtZm9yLWNoZWNraW5nLW9ubHkx";

/// Each round takes something out that was found wrong.
const ROUNDS: usize = 8;

impl Draft {
    /// What passes the check.
    pub async fn settle(mut self) -> Imported {
        for _ in 0..ROUNDS {
            // What another credential of its request writes over is used by nothing.
            let used: BTreeSet<&String> = self.rules.iter().flat_map(|rule| &rule.auth).collect();
            self.credentials.retain(|block| used.contains(&block.about));
            let (body, parts) = self.body();
            let request = config::Request {
                inline: Some(("imported".to_owned(), body, PathBuf::new())),
                ca_in_memory: true,
                env: self.told.wanted.iter().map(|(name, _)| (name.clone(), DUMMY.to_owned())).collect(),
                auth_types: auth::types(),
                ..config::Request::default()
            };
            let Err(report) = serve::build(&request).await else { break };
            if !self.without(&report, &parts) {
                break;
            }
        }
        self.imported()
    }

    /// Takes out what has mistakes; nothing: `false`.
    fn without(&mut self, report: &Report, parts: &[(usize, Part)]) -> bool {
        let (mut credentials, mut rules) = (BTreeSet::new(), BTreeSet::new());
        // As machines are told of it: with lines, and nothing in it that must not be shown.
        for found in report.listed(usize::MAX).as_array().into_iter().flatten() {
            let text = |key: &str| found[key].as_str().unwrap_or_default();
            // A key is brought later, and so is a file.
            if text("severity") != "error" || matches!(text("code"), "private-key" | "file" | "unset") {
                continue;
            }
            let line = found["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            let (Some(line), reason) = (line, text("message")) else { continue };
            match parts.iter().rev().find(|(first, _)| *first <= line).map(|(_, part)| part) {
                Some(Part::Credential(n)) if credentials.insert(*n) => {
                    self.told.notes.push(format!("`{}`, which `gatepass check` refuses: {reason}", self.credentials[*n].about));
                }
                Some(Part::Rule(n)) if rules.insert(*n) => {
                    let host = self.rules[*n].head.lines().next().unwrap_or_default().trim();
                    self.told.notes.push(format!("a rule ({host}), which `gatepass check` refuses: {reason}"));
                }
                _ => {}
            }
        }
        for n in rules.iter().rev() {
            self.rules.remove(*n);
        }
        for n in credentials.iter().rev() {
            let name = self.credentials.remove(*n).about;
            self.rules.iter_mut().for_each(|rule| rule.auth.retain(|used| *used != name));
        }
        !rules.is_empty() || !credentials.is_empty()
    }

    /// The text after the remarks, and what begins at which line.
    fn body(&self) -> (String, Vec<(usize, Part)>) {
        let mut sections = String::new();
        let mut parts = Vec::new();
        let vars = self.vars();
        let mut section = |title: &str, blocks: Vec<(String, Option<Part>)>| {
            if blocks.is_empty() {
                return;
            }
            sections.push_str(&format!("\n{title}:\n"));
            for (text, part) in blocks {
                // `version: 1` stands above all.
                parts.extend(part.map(|part| (sections.lines().count() + 2, part)));
                sections.push_str(&text);
            }
        };
        section("vars", vars.iter().map(|(name, value)| (format!("  {}: {}\n", quoted(name), quoted(value)), None)).collect());
        let numbered = |blocks: &[Block], part: fn(usize) -> Part| {
            blocks.iter().enumerate().map(|(n, block)| (block.text.clone(), Some(part(n)))).collect::<Vec<_>>()
        };
        section("credentials", numbered(&self.credentials, Part::Credential));
        section("client_certificates", numbered(&self.certificates, |_| Part::Certificate));
        let mut rules = numbered(&self.certificate_rules, |_| Part::Certificate);
        rules.extend(self.rules.iter().enumerate().filter_map(|(n, rule)| Some((rule.written()?, Some(Part::Rule(n))))));
        section("rules", rules);
        (format!("version: 1\n{sections}"), parts)
    }

    fn texts(&self) -> String {
        let blocks = self.credentials.iter().chain(&self.certificates).chain(&self.certificate_rules);
        blocks.map(|block| block.text.clone()).chain(self.rules.iter().filter_map(Rule::written)).collect()
    }

    /// Those that something uses, or that one of those uses.
    fn vars(&self) -> Vec<(String, String)> {
        let mut text = self.texts();
        let mut used: Vec<(String, String)> = Vec::new();
        loop {
            let names = |name: &str| {
                let reference = format!("{{{{{name}}}}}");
                // As it stands in quotes.
                text.contains(&reference) || text.contains(quoted(&reference).trim_matches('"'))
            };
            let more: Vec<_> = self
                .told
                .vars
                .iter()
                .filter(|(name, _)| names(name) && !used.iter().any(|(known, _)| known == name))
                .cloned()
                .collect();
            if more.is_empty() {
                break;
            }
            more.iter().for_each(|(_, value)| text.push_str(value));
            used.extend(more);
        }
        used.sort();
        used
    }

    fn imported(mut self) -> Imported {
        let (body, _) = self.body();
        self.told.wanted.retain(|(name, _)| body.contains(&format!("${{{name}}}")));
        let mut yaml = String::from("# Made by `gatepass import postman`. Secrets were not copied.\n");
        if !self.told.wanted.is_empty() {
            yaml.push_str("#\n# Set these before `gatepass check`:\n");
            for (name, what) in &self.told.wanted {
                yaml.push_str(&format!("#   {name}  {what}\n"));
            }
        }
        if !self.told.notes.is_empty() {
            yaml.push_str("#\n# Not carried over:\n");
            for note in &self.told.notes {
                yaml.push_str(&format!("#   {note}\n"));
            }
        }
        yaml.push_str(&format!("\n{body}"));
        Imported { yaml, wanted: self.told.wanted, notes: self.told.notes }
    }
}
