//! What is wrong with a config: every mistake with its place, as rustc shows it. Secret values in
//! the shown line are masked.

use std::path::PathBuf;

/// Where something stands: a file of the report and a node of its YAML tree, counted in the order
/// of reading. Line and column are found only when a mistake is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Place {
    pub file: u16,
    pub node: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Error,
    Warning,
}

pub struct Diagnostic {
    pub severity: Severity,
    /// Short and stable, for `--format json`: `unknown-key`, `dangling-name`, …
    pub code: &'static str,
    /// One sentence without a full stop. Never a secret.
    pub message: String,
    pub place: Option<Place>,
    /// The mend.
    pub help: Option<String>,
}

/// All mistakes of a config, and the files they stand in.
#[derive(Default)]
pub struct Report {
    pub diagnostics: Vec<Diagnostic>,
    files: Vec<(PathBuf, String)>,
}

impl Report {
    pub fn error(&mut self, code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, place.into(), message.into())
    }

    pub fn warning(
        &mut self,
        code: &'static str,
        place: impl Into<Option<Place>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, code, place.into(), message.into())
    }

    fn push(&mut self, severity: Severity, code: &'static str, place: Option<Place>, message: String) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic { severity, code, message, place, help: None });
        self.diagnostics.last_mut().expect("just pushed")
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

impl Diagnostic {
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}
