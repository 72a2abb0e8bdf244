//! Credentials that a server gives: a role by AWS STS, or the container's endpoint.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use super::credentials::{Credentials, Source, life, read};
use super::{AwsSigv4, Settings};
use crate::draft::{Body, Draft, Held, UNRESERVED};
use crate::failure::{Cause, Failure};
use crate::files;
use crate::moment::Moment;
use crate::origin::{Host, Scheme};
use crate::provided::{Fetching, Provider};
use crate::secret::Secret;
use crate::upstream::fetch::{Client, Fetched, Url};

/// `sts:AssumeRole`, or with the token of a web identity.
pub struct Role {
    pub client: Client,
    pub sts: Url,
    pub region: String,
    pub role_arn: String,
    pub base: Base,
    pub external_id: Option<String>,
    pub session_name: String,
    /// In seconds.
    pub duration: Option<u32>,
}

/// Who asks for the role.
pub enum Base {
    Source(Source),
    /// A file with a web identity token, which others renew.
    Token(PathBuf),
}

/// `AWS_CONTAINER_CREDENTIALS_…`: ECS, and EKS pod identities.
pub struct Container {
    pub client: Client,
    pub url: Url,
    pub token: Option<Token>,
}

pub enum Token {
    Text(Secret),
    File(PathBuf),
}

/// Largest token file.
const TOKEN: usize = 64 * 1024;

type Lived = (Arc<Credentials>, Duration);

impl Provider<Arc<Credentials>> for Role {
    fn fetch(&self) -> Fetching<'_, Arc<Credentials>> {
        Box::pin(self.assume())
    }
}

impl Provider<Arc<Credentials>> for Container {
    fn fetch(&self) -> Fetching<'_, Arc<Credentials>> {
        Box::pin(self.ask())
    }
}

impl Role {
    async fn assume(&self) -> Result<Lived, Failure> {
        let Self { role_arn, session_name, .. } = self;
        let mut form = vec![("Version", "2011-06-15"), ("RoleArn", role_arn), ("RoleSessionName", session_name)];
        let duration = self.duration.map(|seconds| seconds.to_string());
        form.extend(duration.as_deref().map(|seconds| ("DurationSeconds", seconds)));
        let token;
        match &self.base {
            Base::Source(_) => {
                form.push(("Action", "AssumeRole"));
                form.extend(self.external_id.as_deref().map(|id| ("ExternalId", id)));
            }
            Base::Token(path) => {
                token = file(path)?;
                form.extend([("Action", "AssumeRoleWithWebIdentity"), ("WebIdentityToken", token.expose())]);
            }
        }
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, UNRESERVED)));
        let body = Zeroizing::new(pairs.collect::<Vec<_>>().join("&"));
        let draft = self.signed(Bytes::copy_from_slice(body.as_bytes())).await?;
        let sent = Bytes::copy_from_slice(body.as_bytes());
        let answer = self.client.send("AWS STS", Method::POST, &self.sts, draft.headers, sent).await?;
        let text = text(&answer)?;
        if !answer.status.is_success() {
            let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
            let told = tag(text, "Code").filter(plain).map_or_else(|| answer.status.to_string(), str::to_owned);
            let cause = if answer.status.is_server_error() { Cause::CredentialUnavailable } else { Cause::Credential };
            return Err(Failure::new(cause, format!("AWS STS does not give the role {role_arn}: {told}"))
                .said(tag(text, "Message").unwrap_or(""), &[])
                .hint("see the role's trust policy, and whose credentials ask for it"));
        }
        let member = |name| tag(text, name).ok_or_else(|| unread("AWS STS", &format!("it has no {name}")));
        let credentials = Credentials {
            access_key: member("AccessKeyId")?.to_owned(),
            secret_key: Secret::new(member("SecretAccessKey")?),
            session_token: Some(Secret::new(member("SessionToken")?)),
        };
        let end = time::OffsetDateTime::parse(member("Expiration")?, &time::format_description::well_known::Rfc3339);
        let end = end.map_err(|_| unread("AWS STS", "its Expiration is not a time"))?;
        let life = life(Some(end.into()), None, Moment::real().now())
            .ok_or_else(|| unread("AWS STS", "its credentials have expired already"))?;
        Ok((Arc::new(credentials), life))
    }

    /// The request's head, signed by whoever asks; a token speaks for itself.
    async fn signed(&self, body: Bytes) -> Result<Draft, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let host = HeaderValue::from_str(&self.sts.origin.authority());
        headers.insert(header::HOST, host.map_err(|_| unread("AWS STS", "its host cannot be written in a header"))?);
        let mut draft = Draft {
            method: Method::POST,
            origin: self.sts.origin.clone(),
            target: self.sts.target.clone(),
            headers,
            body: Body::Held(Held::Memory(body)),
        };
        if let Base::Source(source) = &self.base {
            // One that is fetched itself may be a role, too.
            let credentials = source.get().await?;
            let settings = Settings { region: Some(self.region.clone()), service: Some("sts".to_owned()), ..Settings::default() };
            AwsSigv4::new(Source::Known(credentials.clone()), settings).sign(&mut draft, &credentials, &Moment::real())?;
        }
        Ok(draft)
    }
}

impl Container {
    async fn ask(&self) -> Result<Lived, Failure> {
        let mut headers = HeaderMap::new();
        let token = match &self.token {
            None => None,
            Some(Token::Text(secret)) => Some(secret.clone()),
            Some(Token::File(path)) => Some(file(path)?),
        };
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, crate::auth::header_value(token.expose(), "token of the container")?);
        }
        let what = "the container's credential endpoint";
        let answer = self.client.send(what, Method::GET, &self.url, headers, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(Failure::new(Cause::Credential, format!("{what} {} answers {}", self.url.shown(), answer.status))
                .hint("see AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN"));
        }
        let now = Moment::real().now();
        let (credentials, end) = read(text(&answer)?, now).map_err(|why| unread(what, &why))?;
        let life = life(end, None, now).ok_or_else(|| unread(what, "its credentials have expired already"))?;
        Ok((Arc::new(credentials), life))
    }
}

/// Where a token may be sent in clear: this machine, and the addresses that ECS and EKS use.
pub fn is_near(url: &Url) -> bool {
    const ADDRESSES: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
    url.origin.scheme == Scheme::Https
        || match &url.origin.host {
            Host::Ip(ip) => ip.is_loopback() || ADDRESSES.iter().any(|text| text.parse::<IpAddr>().is_ok_and(|near| near == *ip)),
            Host::Name(name) => &**name == "localhost",
        }
}

fn text(answer: &Fetched) -> Result<&str, Failure> {
    std::str::from_utf8(&answer.body).map_err(|_| unread("the server", "it is not UTF-8"))
}

fn file(path: &Path) -> Result<Secret, Failure> {
    let text = files::read_text(path, TOKEN).map_err(|cause| Failure::new(Cause::Credential, cause.to_string()))?;
    Ok(Secret::new(text.trim()))
}

fn unread(what: &str, why: &str) -> Failure {
    Failure::new(Cause::Credential, format!("the answer of {what} cannot be used: {why}"))
}

/// The text of the first element of this name.
fn tag<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim()).filter(|inner| !inner.is_empty())
}
