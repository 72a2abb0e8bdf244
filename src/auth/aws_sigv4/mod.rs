//! `aws_sigv4`: AWS Signature Version 4 and 4A. The client's own signature, made with whatever keys it has, is
//! replaced; host, content-type and x-amz-* are signed, since proxies and clients change the rest.

mod canonical;
mod chunks;
mod claim;
mod credentials;
mod keys;
mod network;
mod place;
mod profile;
mod settings;
mod sources;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, StatusCode, header};
use time::OffsetDateTime;

use self::canonical::PathStyle;
use self::chunks::{Chunks, Seal};
use self::claim::Claim;
use self::credentials::{Credentials, Source};
use self::keys::{Algorithm, Signer};
use super::{
    Answer, Attempt, Authorizer, BodyNeed, CredentialLocation, Facts, Locations, Preparation, Round, Signed, Verdict,
    header_value,
};
use crate::draft::{Body, BodyTransform, BodyTransformFactory, Draft};
use crate::failure::{Cause, Failure};
use crate::moment::Moment;
use crate::origin::{Origin, Scheme as UrlScheme};

use self::settings::{Form, Payload, Settings};

pub use self::credentials::Command;
pub use self::settings::SCHEME;

/// Signs with what a program prints, everything else by the host: `exec` with `format: aws`.
pub fn by_command(command: Command) -> Arc<dyn Authorizer> {
    Arc::new(AwsSigv4::new(Source::by(command), Settings::default()))
}

struct AwsSigv4 {
    source: Source,
    settings: Settings,
    learned: Mutex<HashMap<Arc<Origin>, Learned>>,
}

/// What the answers of an origin told.
#[derive(Clone, Copy, Default)]
struct Learned {
    /// How far its clock is ahead of ours, in seconds.
    ahead: i64,
    /// It reads a `+` in a query as a space, or as itself; a space is then sent as `%20`, which all read alike.
    plus_is_space: bool,
}

/// Origins that are remembered.
const LEARNED: usize = 256;

/// What the signature says of the body.
enum Said {
    /// Its chunks are signed one by one; with trailers?
    Chunks(bool),
    /// What the client says of it, which the server checks: the hash of a body that is not here, or unsigned chunks.
    Client(String),
    Unsigned,
    Hash,
}

/// Where and how to sign.
struct Target {
    algorithm: Algorithm,
    region: String,
    service: String,
}

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const REGIONS: HeaderName = HeaderName::from_static("x-amz-region-set");
const DECODED: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");
/// The session of S3 Express, made with a client's own keys.
const SESSION: HeaderName = HeaderName::from_static("x-amz-s3session-token");
const ERROR: HeaderName = HeaderName::from_static("x-amzn-errortype");

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Every parameter of a presigned URL, in whatever case.
const PARAMETERS: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Region-Set",
    "X-Amz-Signature",
];

/// Names the key in a URL that is signed by version 2, as boto3 and `aws s3 presign` still make them.
const KEY_OF_V2: &str = "AWSAccessKeyId";
/// What goes with it: in S3's URLs, and in those of the Query APIs.
const PARAMETERS_OF_V2: [&str; 6] = ["Signature", "Expires", "SignatureMethod", "SignatureVersion", "Timestamp", "SecurityToken"];

impl AwsSigv4 {
    fn new(source: Source, settings: Settings) -> Self {
        Self { source, settings, learned: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Learned>> {
        self.learned.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn learn(&self, origin: &Arc<Origin>, change: impl FnOnce(&mut Learned)) {
        let mut learned = self.lock();
        if learned.len() >= LEARNED && !learned.contains_key(origin) {
            learned.clear();
        }
        change(learned.entry(origin.clone()).or_default());
    }

    /// Setting, host, client, in this order.
    fn target(&self, draft: &Draft) -> Result<Target, Failure> {
        let (host, claim) = (place::read(&draft.origin.host), Claim::read(draft));
        let (claimed_region, claimed_service) = claim.map_or((None, None), |claim| (claim.region, Some(claim.service)));
        let missing = |what: &str| {
            let host = &draft.origin.host;
            Failure::new(
                Cause::Credential,
                format!("the request to {host} cannot be signed for AWS: its host does not tell the {what}"),
            )
            .hint(format!("set `{what}` in `aws_sigv4`"))
        };
        let service = self.settings.service.clone().or(host.service).or(claimed_service).ok_or_else(|| missing("service"))?;
        let region = self.settings.region.clone().or(host.region).or(claimed_region).or(self.settings.fallback.clone());
        let region = region.ok_or_else(|| missing("region"))?;
        let several = host.global || region.contains(['*', ',']);
        let algorithm = self.settings.algorithm.unwrap_or(if several { Algorithm::V4a } else { Algorithm::V4 });
        if algorithm == Algorithm::V4 && several {
            return Err(Failure::new(
                Cause::Credential,
                format!("Signature Version 4 is for one region, and this is `{region}`"),
            )
            .hint("set `algorithm: v4a`, or name one `region`"));
        }
        Ok(Target { algorithm, region, service })
    }

    fn said(&self, draft: &Draft, service: &str) -> Result<Said, Failure> {
        let client = content(draft).unwrap_or("");
        match client.strip_prefix("STREAMING-") {
            Some("UNSIGNED-PAYLOAD-TRAILER") => return Ok(Said::Client(client.to_owned())),
            Some(kind) if kind.ends_with("-PAYLOAD") => return Ok(Said::Chunks(false)),
            Some(kind) if kind.ends_with("-PAYLOAD-TRAILER") => return Ok(Said::Chunks(true)),
            Some(_) => {
                return Err(Failure::new(
                    Cause::Credential,
                    format!("the client's body is signed in a way that is not supported: {client}"),
                )
                .hint("send events over a WebSocket, or leave this host to the client's own keys (`action: tunnel`)"));
            }
            None => {}
        }
        let named = client.len() == 64 && client.bytes().all(|byte| byte.is_ascii_hexdigit());
        let free = (is_s3(service) && draft.origin.scheme == UrlScheme::Https) || service == "vpc-lattice-svcs";
        Ok(match self.settings.payload {
            Payload::Unsigned => Said::Unsigned,
            _ if self.settings.form == Form::Query && is_s3(service) => Said::Unsigned,
            _ if named => Said::Client(client.to_owned()),
            Payload::Auto if free => Said::Unsigned,
            _ => Said::Hash,
        })
    }

    /// The last line of the canonical request.
    fn payload(&self, said: &Said, algorithm: Algorithm, draft: &Draft) -> Result<String, Failure> {
        match (said, &draft.body) {
            (Said::Chunks(trailer), _) => {
                Ok(format!("STREAMING-{}-PAYLOAD{}", algorithm.name(), if *trailer { "-TRAILER" } else { "" }))
            }
            (Said::Client(text), Body::Streamed(_)) => Ok(text.clone()),
            (Said::Client(text), _) if text.starts_with("STREAMING-") => Ok(text.clone()),
            (Said::Unsigned, Body::Empty) if self.settings.form == Form::Header && self.settings.payload == Payload::Auto => {
                Ok(canonical::EMPTY.to_owned())
            }
            (Said::Unsigned, _) => Ok(UNSIGNED.to_owned()),
            (Said::Client(_) | Said::Hash, body) => hash(body),
        }
    }

    /// Is the payload's line told in a header, too?
    fn shows(&self, said: &Said, service: &str, draft: &Draft) -> bool {
        match (self.settings.form, said) {
            (Form::Query, Said::Client(text)) => text.starts_with("STREAMING-"),
            (Form::Query, said) => matches!(said, Said::Chunks(_)),
            (Form::Header, _) => {
                is_s3(service)
                    || matches!(service, "aoss" | "vpc-lattice-svcs")
                    || self.settings.payload != Payload::Auto
                    || draft.headers.contains_key(CONTENT)
            }
        }
    }

    /// Names of the headers to sign, sorted.
    fn signed(&self, draft: &Draft) -> Vec<String> {
        let names = draft.headers.keys().map(HeaderName::as_str).filter(|name| {
            matches!(*name, "host" | "content-type")
                || name.starts_with("x-amz-")
                || self.settings.extra.iter().any(|n| n == name)
        });
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    fn style(&self, service: &str) -> PathStyle {
        self.settings.path.unwrap_or(if is_s3(service) { PathStyle::AsIs } else { PathStyle::Normalized })
    }

    fn in_header(
        &self,
        draft: &mut Draft,
        credentials: &Credentials,
        target: &Target,
        payload: &str,
        time: &str,
    ) -> Result<String, Failure> {
        let Target { algorithm, region, service } = target;
        draft.headers.insert(DATE, header_value(time, "time")?);
        if let Some(token) = &credentials.session_token {
            draft.headers.insert(TOKEN, header_value(token.expose(), "session token")?);
        }
        if *algorithm == Algorithm::V4a {
            draft.headers.insert(REGIONS, field(region, "region")?);
        }
        let signed = self.signed(draft);
        let scope = algorithm.scope(day(time), region, service);
        let request = canonical::request(draft, &signed, payload, self.style(service));
        let text = canonical::string_to_sign(algorithm.name(), time, &scope, &request);
        let signature = Signer::new(*algorithm, credentials, day(time), region, service)?.sign(&text)?;
        let (name, access_key, signed) = (algorithm.name(), &credentials.access_key, signed.join(";"));
        let value = format!("{name} Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}");
        draft.headers.insert(header::AUTHORIZATION, header_value(&value, "access key")?);
        Ok(signature)
    }

    fn in_query(
        &self,
        draft: &mut Draft,
        credentials: &Credentials,
        target: &Target,
        payload: &str,
        time: &str,
    ) -> Result<String, Failure> {
        let Target { algorithm, region, service } = target;
        let scope = algorithm.scope(day(time), region, service);
        let signed = self.signed(draft);
        draft.set_query("X-Amz-Algorithm", algorithm.name());
        draft.set_query("X-Amz-Credential", &format!("{}/{scope}", credentials.access_key));
        draft.set_query("X-Amz-Date", time);
        draft.set_query("X-Amz-SignedHeaders", &signed.join(";"));
        draft.set_query("X-Amz-Expires", &self.settings.seconds.to_string());
        if *algorithm == Algorithm::V4a {
            draft.set_query("X-Amz-Region-Set", region);
        }
        // MQTT over WebSocket takes the token, and does not want it signed.
        let late = service == "iotdevicegateway";
        let token = credentials.session_token.as_ref().map(|token| token.expose());
        if let (Some(token), false) = (token, late) {
            draft.set_query("X-Amz-Security-Token", token);
        }
        let request = canonical::request(draft, &signed, payload, self.style(service));
        let text = canonical::string_to_sign(algorithm.name(), time, &scope, &request);
        let signature = Signer::new(*algorithm, credentials, day(time), region, service)?.sign(&text)?;
        draft.set_query("X-Amz-Signature", &signature);
        if let (Some(token), true) = (token, late) {
            draft.set_query("X-Amz-Security-Token", token);
        }
        Ok(signature)
    }

    /// Puts a signature by these credentials in place of the client's.
    fn sign(&self, draft: &mut Draft, credentials: &Credentials, moment: &Moment) -> Result<Signed, Failure> {
        let learned = self.lock().get(&draft.origin).copied().unwrap_or_default();
        let target = self.target(draft)?;
        let said = self.said(draft, &target.service)?;
        let payload = self.payload(&said, target.algorithm, draft)?;
        let shows = self.shows(&said, &target.service, draft);
        strip(draft);
        if matches!(said, Said::Chunks(_)) {
            // They are over the chunks with the client's signatures in them; Content-MD5 is over what S3 decodes, and stays.
            draft.drop_digests();
        }
        if shows {
            draft.headers.insert(CONTENT, field(&payload, "payload")?);
        }
        if learned.plus_is_space {
            space_out(draft);
        }
        let time = time(moment.now(), learned.ahead);
        let signature = match self.settings.form {
            Form::Header => self.in_header(draft, credentials, &target, &payload, &time),
            Form::Query => self.in_query(draft, credentials, &target, &payload, &time),
        }?;
        let transform = match said {
            Said::Chunks(trailer) => Some(chunked(draft, credentials, &target, time, signature, trailer)?),
            _ => None,
        };
        Ok(Signed { transform, ..Signed::default() })
    }
}

/// The chunks of the body signed anew, the request's own signature being the first.
fn chunked(
    draft: &Draft,
    credentials: &Credentials,
    target: &Target,
    time: String,
    signature: String,
    trailer: bool,
) -> Result<BodyTransformFactory, Failure> {
    let Target { algorithm, region, service } = target;
    let text = |name| draft.headers.get(name).and_then(|value| value.to_str().ok());
    let seal = Arc::new(Seal {
        algorithm: *algorithm,
        signer: Signer::new(*algorithm, credentials, day(&time), region, service)?,
        scope: algorithm.scope(day(&time), region, service),
        time,
        seed: signature,
        trailer,
        decoded: text(DECODED).and_then(|text| text.trim().parse().ok()),
        trailer_length: text(TRAILER).and_then(chunks::trailer_length),
    });
    Ok(Arc::new(move || Box::new(Chunks::new(seal.clone())) as Box<dyn BodyTransform>))
}

/// Refusals that say in their body why.
const TELLING: &[StatusCode] = &[StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];

impl Authorizer for AwsSigv4 {
    fn facts(&self) -> Facts {
        Facts { answers: true, reads_bodies_of: TELLING, ..Facts::default() }
    }

    fn locations(&self) -> Locations {
        let aside = [DATE, CONTENT, REGIONS].map(CredentialLocation::Aside);
        let (headers, query) = places();
        let (own, other) = if self.settings.form == Form::Header { (headers, query) } else { (query, headers) };
        let others = [KEY_OF_V2, SESSION.as_str()].map(|name| CredentialLocation::Query(name.to_owned()));
        Locations::of(own.into_iter().chain(aside))
            .clearing(other.into_iter().chain(others).chain([CredentialLocation::Header(SESSION)]))
    }

    fn body_need(&self, draft: &Draft) -> BodyNeed {
        let said = self.target(draft).and_then(|target| self.said(draft, &target.service));
        match said {
            Ok(Said::Hash) => BodyNeed::Hash,
            // A retry, for a wrong clock or an expired token, is worth some memory. A mistake is told when signing.
            Ok(_) | Err(_) => BodyNeed::Spare,
        }
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(AwsAttempt { scheme: self, credentials: None })
    }
}

struct AwsAttempt {
    scheme: Arc<AwsSigv4>,
    /// What the request is signed with; others may be fetched meanwhile.
    credentials: Option<Arc<Credentials>>,
}

impl Attempt for AwsAttempt {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        let Self { scheme, credentials } = self;
        if let Some(Ok(known)) = scheme.source.cached() {
            *credentials = Some(known);
            return None;
        }
        Some(Box::pin(async move {
            *credentials = Some(scheme.source.get().await?);
            Ok(())
        }))
    }

    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let credentials = self.credentials.as_ref();
        let missing = || Failure::new(Cause::Credential, "the AWS credentials have not been fetched");
        self.scheme.sign(draft, credentials.ok_or_else(missing)?, round.moment)
    }

    fn on_response(&mut self, answer: &Answer<'_>, body: &[u8], round: &Round<'_>) -> Verdict {
        let scheme = &self.scheme;
        // Each reason once, all in all; the first round may be another scheme's.
        if !TELLING.contains(&answer.status) || round.attempt > 1 {
            return Verdict::Final;
        }
        let text = String::from_utf8_lossy(body);
        let kind = answer.headers.get(ERROR).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is = |codes: &[&str]| codes.iter().any(|code| kind.contains(code) || text.contains(code));
        let Some(claim) = Claim::read(answer.draft) else { return Verdict::Final };
        if is(EXPIRED) && scheme.source.forget(|kept| kept.access_key == claim.access_key) {
            return Verdict::Again;
        }
        let skew = ahead(answer, round.moment.now());
        let known = scheme.lock().get(&answer.draft.origin).copied().unwrap_or_default();
        // A mere refusal is looked at only where the clocks differ by what servers object to.
        let doubt = if is(SKEWED) { 30 } else { 240 };
        if let Some(ahead) = skew.filter(|ahead| (ahead - known.ahead).abs() >= doubt) {
            tracing::warn!(origin = %answer.draft.origin, seconds = ahead, "the server's clock is ahead of ours by so much (behind, if negative); signing by its clock");
            scheme.learn(&answer.draft.origin, |learned| learned.ahead = ahead);
            return Verdict::Again;
        }
        if is(WRONG) {
            if answer.draft.query().is_some_and(|query| query.contains('+')) && !known.plus_is_space {
                scheme.learn(&answer.draft.origin, |learned| learned.plus_is_space = true);
                return Verdict::Again;
            }
            tracing::warn!(origin = %answer.draft.origin, access_key = %claim.access_key, scope = %claim.scope, "the server refuses the signature: check secret_key, and region and service if they are set");
        }
        Verdict::Final
    }

    fn canonical(&self, draft: &Draft) -> Option<String> {
        let scheme = &self.scheme;
        let (claim, target) = (Claim::read(draft)?, scheme.target(draft).ok()?);
        let said = scheme.said(draft, &target.service).ok()?;
        let payload = match content(draft) {
            Some(shown) => shown.to_owned(),
            None => scheme.payload(&said, target.algorithm, draft).ok()?,
        };
        let request = canonical::request(draft, &claim.signed, &payload, scheme.style(&target.service));
        let text = canonical::string_to_sign(target.algorithm.name(), &claim.time, &claim.scope, &request);
        let request = match &self.credentials.as_ref()?.session_token {
            Some(token) => hide(&request, token.expose()),
            None => request,
        };
        Some(format!("{request}\n\n--- string to sign\n{text}"))
    }
}

/// Of credentials that are no longer good; others may be to be had.
const EXPIRED: &[&str] = &[
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidToken",
];
/// Of a clock that is wrong.
const SKEWED: &[&str] =
    &["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "Signature expired", "Signature not yet current"];
/// Of a signature that is not the one the server computes.
const WRONG: &[&str] =
    &["SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed"];

fn is_s3(service: &str) -> bool {
    service == "s3" || service.starts_with("s3-") || service == "s3express"
}

fn content(draft: &Draft) -> Option<&str> {
    draft.headers.get(CONTENT)?.to_str().ok()
}

/// Where a signature may stand: in the head, or in the query.
fn places() -> (Vec<CredentialLocation>, Vec<CredentialLocation>) {
    let query = PARAMETERS.iter().map(|name| CredentialLocation::Query((*name).to_owned())).collect();
    (vec![CredentialLocation::Header(header::AUTHORIZATION), CredentialLocation::Header(TOKEN)], query)
}

/// Takes out every trace of a signature, the client's or that of a round before.
fn strip(draft: &mut Draft) {
    for name in [header::AUTHORIZATION, DATE, TOKEN, REGIONS, CONTENT, SESSION] {
        draft.headers.remove(name);
    }
    // `Expires` and `Signature` by themselves may be anything, as in CloudFront's URLs.
    let version_2 = draft.has_query(KEY_OF_V2);
    draft.remove_queries(|name| {
        PARAMETERS.iter().chain([&SESSION.as_str()]).any(|own| own.eq_ignore_ascii_case(name))
            || (version_2 && (name == KEY_OF_V2 || PARAMETERS_OF_V2.contains(&name)))
    });
}

fn space_out(draft: &mut Draft) {
    let Some(query) = draft.query().filter(|query| query.contains('+')) else { return };
    if let Ok(target) = format!("{}?{}", draft.path(), query.replace('+', "%20")).parse() {
        draft.target = target;
    }
}

fn field(text: &str, what: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text)
        .map_err(|_| Failure::new(Cause::Credential, format!("the {what} holds characters that a header cannot carry")))
}

fn hash(body: &Body) -> Result<String, Failure> {
    let mut sha = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    match body.for_each(|piece| sha.update(piece)) {
        Ok(true) => Ok(canonical::hex(sha.finish().as_ref())),
        Ok(false) => Err(Failure::new(Cause::Credential, "the body must be signed, and this body is streamed")
            .hint("set `payload: unsigned` if the service takes that")),
        Err(cause) => Err(Failure::new(Cause::Internal, format!("cannot read the held body: {cause}"))),
    }
}

/// `20150830T123600Z`, by a clock that is `ahead` of ours.
fn time(now: SystemTime, ahead: i64) -> String {
    let at = OffsetDateTime::from(now).saturating_add(time::Duration::seconds(ahead));
    let (date, clock) = (at.date(), at.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

fn day(time: &str) -> &str {
    time.split('T').next().unwrap_or(time)
}

/// How far the server's clock is ahead of ours, by the `Date` of its answer, in seconds.
fn ahead(answer: &Answer<'_>, now: SystemTime) -> Option<i64> {
    let date = answer.headers.get(header::DATE)?.to_str().ok()?;
    let date = OffsetDateTime::parse(date, &time::format_description::well_known::Rfc2822).ok()?;
    Some((date - OffsetDateTime::from(now)).whole_seconds())
}

/// A session token is a secret, however it is spelt.
fn hide(text: &str, token: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(token, crate::draft::UNRESERVED).to_string();
    text.replace(&encoded, "******").replace(token, "******")
}

#[cfg(test)]
mod tests;
