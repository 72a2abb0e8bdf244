//! AWS credentials: given, or fetched from a program or a server and renewed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value as Json};

use super::network::{Container, Role};
use crate::auth::exec::formats;
use crate::cached::Cached;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::secret::Secret;
use crate::secret_ref::SecretRef;
use crate::secrets::helper::Run;

#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

pub enum Source {
    Known(Arc<Credentials>),
    Given { access_key: SecretRef, secret_key: SecretRef, session_token: Option<SecretRef> },
    Fetched(Box<Fetched>),
}

pub struct Fetched {
    from: Provider,
    credentials: Cached<Arc<Credentials>>,
}

pub enum Provider {
    Command(Command),
    Role(Role),
    Container(Container),
}

/// A program that prints credentials as `credential_process` wants them.
pub struct Command {
    pub argv: Vec<String>,
    pub directory: PathBuf,
    pub timeout: Duration,
    /// `None`: until the end it names; where it names none, [`DEFAULT_TTL`].
    pub ttl: Option<Duration>,
}

const DEFAULT_TTL: Duration = Duration::from_secs(600);
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Source {
    /// From settings, each of which may be fetched by a command.
    pub fn given(access_key: SecretRef, secret_key: SecretRef, session_token: Option<SecretRef>) -> Self {
        match (access_key.known(), secret_key.known(), session_token.as_ref().map(SecretRef::known)) {
            (Some(access_key), Some(secret_key), None) => Self::known(access_key, secret_key, None),
            (Some(access_key), Some(secret_key), Some(Some(token))) => Self::known(access_key, secret_key, Some(token)),
            _ => Source::Given { access_key, secret_key, session_token },
        }
    }

    pub fn known(access_key: &Secret, secret_key: &Secret, session_token: Option<&Secret>) -> Self {
        Source::Known(Arc::new(Credentials {
            access_key: access_key.expose().to_owned(),
            secret_key: secret_key.clone(),
            session_token: session_token.filter(|token| !token.is_empty()).cloned(),
        }))
    }

    pub fn fetched(from: Provider) -> Self {
        Source::Fetched(Box::new(Fetched { from, credentials: Cached::default() }))
    }

    /// What [`Source::ready`] would say without fetching.
    pub fn cached(&self) -> Option<Result<Arc<Credentials>, Failure>> {
        match self {
            Source::Known(credentials) => Some(Ok(credentials.clone())),
            Source::Given { .. } => None,
            Source::Fetched(fetched) => fetched.credentials.cached(),
        }
    }

    /// # Errors
    /// A program or server that was to give them did not.
    pub async fn ready(&self, moment: &Moment) -> Result<Arc<Credentials>, Failure> {
        match self {
            Source::Known(credentials) => Ok(credentials.clone()),
            Source::Given { access_key, secret_key, session_token } => {
                let session_token = match session_token {
                    Some(token) => Some(token.get().await?),
                    None => None,
                };
                Ok(Arc::new(Credentials {
                    access_key: access_key.get().await?.expose().to_owned(),
                    secret_key: secret_key.get().await?,
                    session_token: session_token.filter(|token| !token.is_empty()),
                }))
            }
            Source::Fetched(fetched) => fetched.credentials.get(|| fetched.from.fetch(moment)).await,
        }
    }

    /// A server no longer takes the credentials with this access key: can others be had?
    pub fn forget(&self, access_key: &str) -> bool {
        match self {
            Source::Known(_) | Source::Given { .. } => false,
            Source::Fetched(fetched) => fetched.credentials.forget(|kept| kept.access_key == access_key),
        }
    }
}

impl Provider {
    async fn fetch(&self, moment: &Moment) -> Result<(Arc<Credentials>, Duration), Failure> {
        match self {
            Provider::Command(command) => command.fetch(moment).await,
            Provider::Role(role) => role.fetch(moment).await,
            Provider::Container(container) => container.fetch(moment).await,
        }
    }
}

impl Command {
    async fn fetch(&self, moment: &Moment) -> Result<(Arc<Credentials>, Duration), Failure> {
        let Self { argv, directory, timeout, ttl } = self;
        let run = Run { argv, directory, timeout: *timeout, stdin: "", environment: &[] };
        let output = run.output().await?;
        let (credentials, end) = read(&output, moment.now()).map_err(|why| run.failure(&why))?;
        let life = life(end, *ttl, moment).ok_or_else(|| run.failure("the credentials it printed have expired already"))?;
        Ok((Arc::new(credentials), life))
    }
}

/// How long credentials are kept. `None`: they have expired already.
pub fn life(end: Option<SystemTime>, ttl: Option<Duration>, moment: &Moment) -> Option<Duration> {
    match end {
        None => Some(ttl.unwrap_or(DEFAULT_TTL)),
        Some(end) => end.duration_since(moment.now()).ok().map(|left| ttl.map_or(left, |ttl| left.min(ttl))),
    }
}

/// The output of a `credential_process` ("Sourcing credentials with an external process"), or the answer of
/// `aws sts assume-role`, which has the same in `Credentials`.
///
/// # Errors
/// What is missing; nothing of the output but the names of its members.
pub fn read(output: &str, now: SystemTime) -> Result<(Credentials, Option<SystemTime>), String> {
    let mut object = formats::object(output)?;
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
    Ok((credentials, formats::expiry(&object, now)?))
}
