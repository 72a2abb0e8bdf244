//! `oauth2` (RFC 6749, 6750): tokens by every grant, kept, renewed and, by `dpop`, bound to a key.

mod answer;
pub mod authorize;
pub mod device;
pub mod discovery;
mod dpop;
mod endpoints;
mod fields;
mod grant;
mod request;
pub mod session;
pub mod settings;
pub mod store;

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use self::answer::Wrong;
use self::dpop::{PROOF, Proven};
use self::settings::Settings;

use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Signed,
    Verdict, header_value,
};
use crate::challenge::{self, Challenge};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::secret::Secret;
use crate::settings::{Decode, Node};

pub use self::answer::Token;
pub use self::grant::Grant;
pub use self::session::{Session, Sessions};

pub static SCHEME: Scheme = Scheme {
    name: "oauth2",
    doc: "A token from a token endpoint: fetched once for all who wait, renewed before its end and after a 401. Grants that a person signs in for: `gatepass login NAME`. docs/oauth2.md has recipes.",
    short: None,
    settings: &fields::FIELDS,
    build,
};

/// RFC 6750 §2.3.
const PARAMETER: &str = super::bearer::ACCESS_TOKEN;

/// How long a renewal waits for another process to do the same: longer than one takes.
fn patience(cx: &BuildCx<'_>) -> std::time::Duration {
    cx.net.limits.credential_fetch * 2
}

fn build(node: &Node, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let settings = Settings::read(node, decode, cx)?;
    let client = match cx.client(settings.identity.clone(), settings.trust.clone()) {
        Ok(client) => client,
        Err(problem) => {
            decode.report.error(problem.code, node.place, problem.message).help = problem.help;
            return None;
        }
    };
    let session = Arc::new(Session::new(settings, client, patience(cx), cx.sessions));
    let _ = cx.sign_in.set(session.clone());
    Some(Arc::new(OAuth2(session)))
}

struct OAuth2(Arc<Session>);

impl OAuth2 {
    /// The word before the token: with a proof it is `DPoP`, whatever `prefix` says (RFC 9449 §7.1).
    fn field(&self, token: &Secret) -> Result<HeaderValue, Failure> {
        let prefix = if self.0.settings.dpop { "DPoP" } else { &self.0.settings.prefix };
        let text = if prefix.is_empty() { token.expose().to_owned() } else { format!("{prefix} {}", token.expose()) };
        header_value(&text, "token")
    }
}

impl Authorizer for OAuth2 {
    fn facts(&self) -> Facts {
        Facts { answers: true, ..Facts::default() }
    }

    /// Cleared are the other place of a token, and the proof of a client's own key.
    fn locations(&self) -> Locations {
        let (field, parameter) =
            (CredentialLocation::Header(header::AUTHORIZATION), CredentialLocation::Query(PARAMETER.to_owned()));
        let (token, other, uncached) = match self.0.settings.in_query {
            true => (parameter, field, Some(CredentialLocation::Aside(header::CACHE_CONTROL))),
            false => (field, parameter, None),
        };
        let (proof, others_proof) = match self.0.settings.dpop {
            true => (Some(CredentialLocation::Header(PROOF)), None),
            false => (None, Some(CredentialLocation::Header(PROOF))),
        };
        let written = [Some(token), proof, uncached].into_iter().flatten();
        Locations::of(written).clearing([Some(other), others_proof].into_iter().flatten())
    }

    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Spare
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(OAuth2Attempt { scheme: self, token: None })
    }
}

struct OAuth2Attempt {
    scheme: Arc<OAuth2>,
    /// What the request is sent with; another one may be fetched meanwhile.
    token: Option<Token>,
}

impl Attempt for OAuth2Attempt {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        let session = &self.scheme.0;
        if let Some(Ok(token)) = session.cached() {
            self.token = Some(token);
            return None;
        }
        Some(Box::pin(async {
            self.token = Some(session.ready().await?);
            Ok(())
        }))
    }

    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let session = &self.scheme.0;
        let token = self.token.as_ref();
        let token = token.ok_or_else(|| Failure::new(Cause::Credential, "the token has not been fetched"))?;
        if session.settings.in_query {
            draft.set_query(PARAMETER, token.access.expose());
            // RFC 6750 §2.3: what has a token in its URL must not be kept by caches.
            draft.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            draft.headers.remove(header::AUTHORIZATION);
        } else {
            draft.remove_queries(|name| name == PARAMETER);
            draft.headers.insert(header::AUTHORIZATION, self.scheme.field(&token.access)?);
        }
        draft.headers.remove(PROOF);
        if session.settings.dpop {
            let proven =
                Proven { method: &draft.method, origin: &draft.origin, target: &draft.target, token: Some(&token.access) };
            let nonce = session.state.nonces.of(&draft.origin);
            let proof = session.key()?.proof(&proven, nonce.as_deref(), round.moment)?;
            draft.headers.insert(PROOF, header_value(&proof, "proof")?);
        }
        Ok(Signed::default())
    }

    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], round: &Round<'_>) -> Verdict {
        let session = &self.scheme.0;
        let dpop = session.settings.dpop;
        let new = dpop && session.state.nonces.learn(&answer.draft.origin, answer.headers);
        if answer.status != StatusCode::UNAUTHORIZED {
            return Verdict::Final;
        }
        let challenges = challenge::read(answer.headers, &header::WWW_AUTHENTICATE);
        // One round for a nonce, one for a token.
        if round.attempt > u8::from(dpop) {
            return Verdict::Final;
        }
        let again = match dpop::asks_for_nonce(&challenges) {
            true => new,
            false => blames_token(&challenges) && self.token.as_ref().is_some_and(|token| session.refused(&token.access)),
        };
        if again { Verdict::Again } else { Verdict::Final }
    }
}

/// Is it the token that is refused, and may a new one do better (RFC 6750 §3.1)? Servers that say nothing are
/// taken to mean that.
fn blames_token(challenges: &[Challenge]) -> bool {
    let errors: Vec<&str> = challenges
        .iter()
        .filter(|challenge| matches!(challenge.scheme.as_str(), "bearer" | "dpop"))
        .filter_map(|challenge| challenge.get("error"))
        .collect();
    errors.is_empty() || errors.contains(&"invalid_token")
}

/// What mends a refusal.
fn mend(grant: Grant, wrong: &Wrong) -> Option<&'static str> {
    Some(match (wrong.code(), grant) {
        ("invalid_client", _) => "check `client_id`, `client_secret` or the key, and `client_auth`",
        ("invalid_grant", Grant::Password) => "check `username` and `password`",
        ("invalid_grant", Grant::JwtBearer) => "check the assertion: its key, its claims, this machine's clock",
        ("invalid_grant", Grant::TokenExchange) => "check `subject_token`",
        ("invalid_grant", Grant::AuthorizationCode | Grant::DeviceCode) => "sign in again",
        ("invalid_grant", Grant::RefreshToken) => "put a new refresh token into the configuration",
        ("invalid_grant", Grant::ClientCredentials) => {
            "the server may want more of this client, such as `dpop: true` or a `client_certificate`"
        }
        ("unauthorized_client" | "unsupported_grant_type", _) => "have this grant allowed for this client at the server",
        ("invalid_scope", _) => "check `scopes`",
        ("invalid_target", _) => "check `resource` and `audience`",
        ("invalid_dpop_proof", _) => "check this machine's clock, and the kind of `dpop_key`",
        ("", _) => "check `token_url`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
