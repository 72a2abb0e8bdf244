//! AWS credentials: given, or fetched from a program or a server and renewed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value as Json};

use super::network::{Container, Role};
use crate::auth::exec::formats;
use crate::auth::helper::Run;
use crate::auth::live::{Fresh, Value};
use crate::auth::{Round, at_hand};
use crate::failure::{Cause, Failure};
use crate::secret::Secret;

#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

pub enum Source {
    Given { access_key: Value, secret_key: Value, session_token: Option<Value> },
    Fetched(Box<Fetched>),
}

pub struct Fetched {
    from: Provider,
    fresh: Fresh<Arc<Credentials>>,
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
    pub fn is_fixed(&self) -> bool {
        match self {
            Source::Given { access_key, secret_key, session_token } => {
                [Some(access_key), Some(secret_key), session_token.as_ref()]
                    .into_iter()
                    .flatten()
                    .all(|value| value.fixed().is_some())
            }
            Source::Fetched(_) => false,
        }
    }

    pub fn fetched(from: Provider) -> Self {
        Source::Fetched(Box::new(Fetched { from, fresh: Fresh::default() }))
    }

    /// Just these.
    pub fn of(credentials: &Credentials) -> Self {
        Source::Given {
            access_key: Value::Fixed(Secret::new(credentials.access_key.as_str())),
            secret_key: Value::Fixed(credentials.secret_key.clone()),
            session_token: credentials.session_token.clone().map(Value::Fixed),
        }
    }

    /// # Errors
    /// A program or server that was to give them did not.
    pub async fn ready(&self, round: &Round<'_>) -> Result<(), Failure> {
        match self {
            Source::Given { access_key, secret_key, session_token } => {
                access_key.ready().await?;
                secret_key.ready().await?;
                match session_token {
                    Some(token) => token.ready().await.map(|_| ()),
                    None => Ok(()),
                }
            }
            Source::Fetched(fetched) => fetched.fresh.ready(|| fetched.from.fetch(round)).await.map(|_| ()),
        }
    }

    /// # Errors
    /// [`Source::ready`] was not called.
    pub fn now(&self) -> Result<Arc<Credentials>, Failure> {
        match self {
            Source::Given { access_key, secret_key, session_token } => Ok(Arc::new(Credentials {
                access_key: at_hand(access_key)?.expose().to_owned(),
                secret_key: at_hand(secret_key)?,
                session_token: session_token.as_ref().map(at_hand).transpose()?.filter(|token| !token.is_empty()),
            })),
            Source::Fetched(fetched) => {
                fetched.fresh.now().ok_or_else(|| Failure::new(Cause::Credential, "the AWS credentials have not been fetched"))
            }
        }
    }

    /// A server no longer takes the credentials with this access key: can others be had?
    pub fn forget(&self, access_key: &str) -> bool {
        match self {
            Source::Given { .. } => false,
            Source::Fetched(fetched) => fetched.fresh.forget(|kept| kept.access_key == access_key),
        }
    }
}

impl Provider {
    async fn fetch(&self, round: &Round<'_>) -> Result<(Arc<Credentials>, Duration), Failure> {
        match self {
            Provider::Command(command) => command.fetch(round).await,
            Provider::Role(role) => role.fetch(round).await,
            Provider::Container(container) => container.fetch(round).await,
        }
    }
}

impl Command {
    async fn fetch(&self, round: &Round<'_>) -> Result<(Arc<Credentials>, Duration), Failure> {
        let Self { argv, directory, timeout, ttl } = self;
        let run = Run { argv, directory, timeout: *timeout, stdin: "", environment: &[] };
        let output = run.output().await?;
        let (credentials, end) = read(&output, round.moment.now()).map_err(|why| run.failure(&why))?;
        let life = life(end, *ttl, round).ok_or_else(|| run.failure("the credentials it printed have expired already"))?;
        Ok((Arc::new(credentials), life))
    }
}

/// How long credentials are kept. `None`: they have expired already.
pub fn life(end: Option<SystemTime>, ttl: Option<Duration>, round: &Round<'_>) -> Option<Duration> {
    match end {
        None => Some(ttl.unwrap_or(DEFAULT_TTL)),
        Some(end) => end.duration_since(round.moment.now()).ok().map(|left| ttl.map_or(left, |ttl| left.min(ttl))),
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
