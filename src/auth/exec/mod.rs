//! `exec`: a credential helper. It prints a credential in one of the formats that such helpers speak.

pub(super) mod formats;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use self::formats::Format;
use super::aws_sigv4;
use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, scheme_fields,
};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::moment::Moment;
use crate::provided::{Fetching, Provided, Provider};
use crate::secrets::helper::Run;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "exec",
    doc: "What a program prints: run once for all who wait, kept until `ttl` or the end it names, run again shortly before and after a 401. Short form: `exec: [PROGRAM, ARGUMENT]`.",
    short: Some(Shape::Command),
    settings: &[
        ("command", Shape::Command, "required", "program and arguments, run without a shell in the folder of the config file"),
        (
            "format",
            Shape::Words(&["raw", "json", "headers", "kubernetes", "git", "aws"]),
            "raw",
            "raw (a token, or a whole `Authorization` value such as `Basic …`), json (`token` or `access_token`, with `expires_in`, `expires_at` and the like), headers (`Name: value` lines or JSON), kubernetes (ExecCredential), git (credential helper), aws (credential_process: signed as by `aws_sigv4`, region and service by the host)",
        ),
        ("ttl", Shape::Time, "10m", "how long the output is kept; with it left out, an expiry in the output counts instead"),
        ("timeout", Shape::Time, "10s", "how long one run may take"),
        (
            "use_path",
            Shape::Bool,
            "false",
            "format git: tell the helper the repository's path too, as git's credential.useHttpPath does",
        ),
    ],
    build,
};

const DEFAULT_TTL: Duration = Duration::from_secs(600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let bound = decode.scope().output;
    if node.as_map().is_none() {
        let (argv, directory) = decode.argv(node, "exec")?;
        return Some(Arc::new(Exec::new(Helper::new(argv, directory, bound, Format::Raw), false)));
    }
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let command = decode.required(&fields, SCHEME.name, "command").and_then(|node| decode.argv(node, "command"));
    let format = fields.get("format").map_or(Some(Some(Format::Raw)), |node| decode.choice(node, "format", &formats::NAMES));
    let ttl = fields.get("ttl").map_or(Some(None), |node| decode.duration(node).map(Some));
    let timeout = fields.get("timeout").map_or(Some(DEFAULT_TIMEOUT), |node| decode.duration(node));
    let use_path = fields.get("use_path").map_or(Some(false), |node| decode.boolean(node));
    let ((argv, directory), format, ttl, timeout, use_path) = (command?, format?, ttl?, timeout?, use_path?);
    if let (Some(node), true) = (fields.get("use_path"), format != Some(Format::Git)) {
        decode.report.error("no-use", node.place, "`use_path` belongs to `format: git`").help("take it out");
        return None;
    }
    let Some(format) = format else {
        return Some(aws_sigv4::by_command(aws_sigv4::Command { argv, directory, timeout, ttl, bound }));
    };
    Some(Arc::new(Exec::new(Helper { ttl, timeout, ..Helper::new(argv, directory, bound, format) }, use_path)))
}

/// What one run gave: the fields that go into requests.
type Fields = Arc<Vec<(HeaderName, HeaderValue)>>;

struct Exec {
    helper: Arc<Helper>,
    use_path: bool,
    /// By what the helper is asked; one entry but for formats that are told the origin.
    kept: Mutex<HashMap<String, Provided<Fields>>>,
}

/// Origins whose credential is kept; format git only.
const ASKED: usize = 256;

struct Helper {
    argv: Vec<String>,
    directory: PathBuf,
    format: Format,
    /// `None`: the output's own expiry, or [`DEFAULT_TTL`].
    ttl: Option<Duration>,
    timeout: Duration,
    /// `limits.helper_output`.
    bound: usize,
}

impl Helper {
    fn new(mut argv: Vec<String>, directory: PathBuf, bound: usize, format: Format) -> Self {
        // git runs helpers with the operation as the last argument; `git credential` calls it `fill`.
        if format == Format::Git && !argv.last().is_some_and(|last| last == "get" || last == "fill") {
            argv.push("get".to_owned());
        }
        Self { argv, directory, format, ttl: None, timeout: DEFAULT_TIMEOUT, bound }
    }

    async fn answer(&self, question: &str) -> Result<(Fields, Duration), Failure> {
        let environment: &[(&str, &str)] = match self.format {
            Format::Kubernetes => &[("KUBERNETES_EXEC_INFO", formats::EXEC_INFO)],
            _ => &[],
        };
        let Self { argv, directory, timeout, bound, .. } = self;
        let run = Run { argv, directory, timeout: *timeout, stdin: question, bound: *bound, environment };
        let output = run.output().await?;
        let now = Moment::real().now();
        let (fields, end) = self.format.read(&output, now).map_err(|why| run.failure(&why))?;
        let life = match end.map(|end| end.duration_since(now)) {
            None => self.ttl.unwrap_or(DEFAULT_TTL),
            Some(Ok(left)) => self.ttl.map_or(left, |ttl| ttl.min(left)),
            Some(Err(_)) => return Err(run.failure("what it printed has expired already")),
        };
        Ok((Arc::new(fields), life))
    }
}

/// A helper, and what it is asked.
struct Asked {
    helper: Arc<Helper>,
    question: String,
}

impl Provider<Fields> for Asked {
    fn fetch(&self) -> Fetching<'_, Fields> {
        Box::pin(self.helper.answer(&self.question))
    }
}

impl Exec {
    fn new(helper: Helper, use_path: bool) -> Self {
        Self { helper: Arc::new(helper), use_path, kept: Mutex::default() }
    }

    /// What the helper reads: for git, what is asked for.
    fn question(&self, draft: &Draft) -> String {
        if self.helper.format != Format::Git {
            return String::new();
        }
        let path = if self.use_path { repository(draft.path()) } else { None };
        let path = path.map_or_else(String::new, |path| format!("path={path}\n"));
        // git-credential(1): a helper may then give a whole credential, `authtype` and `credential`.
        format!("capability[]=authtype\nprotocol={}\nhost={}\n{path}\n", draft.origin.scheme, draft.origin.authority())
    }

    /// What the helper gives for this request.
    fn fields(&self, draft: &Draft) -> Provided<Fields> {
        let question = self.question(draft);
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if kept.len() >= ASKED && !kept.contains_key(&question) {
            kept.clear();
        }
        let asked = |question: &String| Provided::by(Asked { helper: self.helper.clone(), question: question.clone() });
        kept.entry(question).or_insert_with_key(asked).clone()
    }
}

/// The path of a repository, by git's convention of what follows it.
fn repository(path: &str) -> Option<&str> {
    let path = path.trim_start_matches('/');
    let end =
        ["/info/refs", "/info/lfs", "/git-upload-pack", "/git-receive-pack"].iter().filter_map(|rest| path.find(rest)).min();
    end.map(|end| &path[..end]).or((!path.is_empty()).then_some(path))
}

impl Authorizer for Exec {
    fn facts(&self) -> Facts {
        Facts { answers: true, ..Facts::default() }
    }

    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }

    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Spare
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(ExecAttempt { scheme: self, fields: None })
    }
}

struct ExecAttempt {
    scheme: Arc<Exec>,
    /// What the request is sent with; the helper may be run again meanwhile.
    fields: Option<Fields>,
}

impl Attempt for ExecAttempt {
    fn prepare<'a>(&'a mut self, draft: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        let source = self.scheme.fields(draft);
        if let Some(Ok(fields)) = source.cached() {
            self.fields = Some(fields);
            return None;
        }
        Some(Box::pin(async move {
            self.fields = Some(source.get().await?);
            Ok(())
        }))
    }

    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        let fields = self.fields.as_ref();
        let fields = fields.ok_or_else(|| Failure::new(Cause::Credential, "the credential helper has not been run"))?;
        if self.scheme.helper.format == Format::Headers {
            draft.headers.remove(header::AUTHORIZATION);
        }
        for (name, _) in fields.iter() {
            draft.headers.remove(name);
        }
        for (name, value) in fields.iter() {
            draft.drop_look_alikes(name);
            draft.headers.append(name, value.clone());
        }
        Ok(Signed::default())
    }

    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        if answer.status != StatusCode::UNAUTHORIZED {
            return Verdict::Final;
        }
        let refused = self.scheme.fields(answer.draft).forget(|kept| self.fields.as_ref() == Some(kept));
        if refused && round.attempt == 0 { Verdict::Again } else { Verdict::Final }
    }
}

#[cfg(test)]
mod tests;
