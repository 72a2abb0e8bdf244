//! AWS credentials: given, or fetched from a program or a server and renewed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value as Json};

use crate::auth::printed;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::provided::{Fetching, Provided, Provider, SecretRef};
use crate::secret::Secret;
use crate::secrets::helper::Run;

#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

/// Whoever has credentials: settings, a program, a server.
pub type Source = Provided<Arc<Credentials>>;

/// Settings of which some are fetched by a command each.
struct Given {
    access_key: SecretRef,
    secret_key: SecretRef,
    session_token: Option<SecretRef>,
}

/// A program that prints credentials as `credential_process` wants them.
pub struct Command {
    pub argv: Vec<String>,
    pub directory: PathBuf,
    pub timeout: Duration,
    /// `None`: until the end it names; where it names none, [`DEFAULT_TTL`].
    pub ttl: Option<Duration>,
    /// `limits.helper_output`.
    pub bound: usize,
}

const DEFAULT_TTL: Duration = Duration::from_secs(600);
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Credentials of settings.
pub fn given(access_key: SecretRef, secret_key: SecretRef, session_token: Option<SecretRef>) -> Source {
    match (access_key.known(), secret_key.known(), session_token.as_ref().map(SecretRef::known)) {
        (Some(access_key), Some(secret_key), None) => known(access_key, secret_key, None),
        (Some(access_key), Some(secret_key), Some(Some(token))) => known(access_key, secret_key, Some(token)),
        _ => Source::by(Given { access_key, secret_key, session_token }),
    }
}

pub fn known(access_key: &Secret, secret_key: &Secret, session_token: Option<&Secret>) -> Source {
    Source::Known(Arc::new(Credentials {
        access_key: access_key.expose().to_owned(),
        secret_key: secret_key.clone(),
        session_token: session_token.filter(|token| !token.is_empty()).cloned(),
    }))
}

impl Provider<Arc<Credentials>> for Given {
    /// Each of them is kept by itself, for as long as its command says.
    fn fetch(&self) -> Fetching<'_, Arc<Credentials>> {
        Box::pin(async {
            let session_token = match &self.session_token {
                Some(token) => Some(token.get().await?),
                None => None,
            };
            let credentials = Credentials {
                access_key: self.access_key.get().await?.expose().to_owned(),
                secret_key: self.secret_key.get().await?,
                session_token: session_token.filter(|token| !token.is_empty()),
            };
            Ok((Arc::new(credentials), Duration::ZERO))
        })
    }
}

impl Provider<Arc<Credentials>> for Command {
    fn fetch(&self) -> Fetching<'_, Arc<Credentials>> {
        Box::pin(self.run())
    }
}

impl Command {
    async fn run(&self) -> Result<(Arc<Credentials>, Duration), Failure> {
        let Self { argv, directory, timeout, ttl, bound } = self;
        let run = Run { argv, directory, timeout: *timeout, stdin: "", bound: *bound, environment: &[] };
        let output = run.output().await?;
        let now = Moment::real().now();
        let (credentials, end) = read(&output, now).map_err(|why| run.failure(&why))?;
        let life = life(end, *ttl, now).ok_or_else(|| run.failure("the credentials it printed have expired already"))?;
        Ok((Arc::new(credentials), life))
    }
}

/// How long credentials are kept. `None`: they have expired already.
pub fn life(end: Option<SystemTime>, ttl: Option<Duration>, now: SystemTime) -> Option<Duration> {
    match end {
        None => Some(ttl.unwrap_or(DEFAULT_TTL)),
        Some(end) => end.duration_since(now).ok().map(|left| ttl.map_or(left, |ttl| left.min(ttl))),
    }
}

/// The output of a `credential_process` ("Sourcing credentials with an external process"), or the answer of
/// `aws sts assume-role`, which has the same in `Credentials`.
///
/// # Errors
/// What is missing; nothing of the output but the names of its members.
pub fn read(output: &str, now: SystemTime) -> Result<(Credentials, Option<SystemTime>), String> {
    let mut object = printed::object(output)?;
    if let Some(Json::Object(inner)) = object.get_mut("Credentials").map(Json::take) {
        object = inner;
    }
    if let Some(version) = object.get("Version").filter(|version| version.as_u64() != Some(1)) {
        return Err(format!("its `Version` is {version}, and 1 is the one that is known"));
    }
    let text = |object: &Map<String, Json>, name: &str| {
        object.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let needed = |name: &str| text(&object, name).ok_or_else(|| format!("its output has no text member `{name}`"));
    let credentials = Credentials {
        access_key: needed("AccessKeyId")?,
        secret_key: Secret::new(needed("SecretAccessKey")?),
        session_token: text(&object, "SessionToken").or_else(|| text(&object, "Token")).map(Secret::new),
    };
    Ok((credentials, printed::expiry(&object, now)?))
}
