//! `oauth2` (RFC 6749, 6750): tokens by every grant, kept, renewed and, by `dpop`, bound to a key.

mod answer;
pub mod authorize;
pub mod device;
pub mod discovery;
mod dpop;
mod fields;
mod request;
pub mod session;
pub mod settings;
pub mod store;

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use self::answer::Wrong;
use self::dpop::{PROOF, Proven};
use self::settings::Settings;
use super::fetch::Client;
use super::{Answer, Authorizer, BodyNeed, BoxFuture, Making, Needs, Round, Scheme, Spot, Verdict, header_value};
use crate::config::{Decode, Node};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::proof::challenge::{self, Challenge};
use crate::secret::Secret;

pub use self::answer::Token;
pub use self::session::{Session, Sessions};
pub use self::settings::Grant;

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
fn patience(making: &Making<'_>) -> std::time::Duration {
    making.ground.limits.credential_fetch * 2
}

fn build(node: &Node, decode: &mut Decode<'_>, making: &Making<'_>) -> Option<Arc<dyn Authorizer>> {
    let settings = Settings::read(node, decode, making)?;
    let client = match Client::new(making, settings.identity.clone(), settings.trust.clone()) {
        Ok(client) => client,
        Err(problem) => {
            decode.report.error(problem.code, node.place, problem.message).help = problem.help;
            return None;
        }
    };
    let session = Arc::new(Session::new(settings, client, patience(making), making.sessions));
    let _ = making.sign_in.set(session.clone());
    Some(Arc::new(OAuth2(session)))
}

struct OAuth2(Arc<Session>);

impl OAuth2 {
    fn token(&self) -> Result<Token, Failure> {
        self.0.state.fresh.now().ok_or_else(|| Failure::new(Cause::Credential, "the token has not been fetched"))
    }

    /// The word before the token: with a proof it is `DPoP`, whatever `prefix` says (RFC 9449 §7.1).
    fn field(&self, token: &Secret) -> Result<HeaderValue, Failure> {
        let prefix = if self.0.settings.dpop { "DPoP" } else { &self.0.settings.prefix };
        let text = if prefix.is_empty() { token.expose().to_owned() } else { format!("{prefix} {}", token.expose()) };
        header_value(&text, "token")
    }

    /// The token that a draft was sent with; another one may have been fetched since.
    fn sent(&self, draft: &Draft) -> Option<Secret> {
        if self.0.settings.in_query {
            let pairs = answer::pairs(draft.query()?);
            return pairs.into_iter().find(|(name, _)| name == PARAMETER).map(|(_, token)| Secret::new(token));
        }
        let field = draft.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        Some(Secret::new(field.rsplit(' ').next().unwrap_or(field)))
    }
}

impl Authorizer for OAuth2 {
    fn needs(&self) -> Needs {
        Needs { prepare: true, answers: true, body: BodyNeed::Spare, own_connection: false }
    }

    fn writes(&self) -> Vec<Spot> {
        let token = match self.0.settings.in_query {
            true => Spot::Query(PARAMETER.to_owned()),
            false => Spot::Header(header::AUTHORIZATION),
        };
        let proof = self.0.settings.dpop.then_some(Spot::Header(PROOF));
        let uncached = self.0.settings.in_query.then_some(Spot::Aside(header::CACHE_CONTROL));
        [Some(token), proof, uncached].into_iter().flatten().collect()
    }

    /// The other place of a token, and the proof of a client's own key.
    fn clears(&self) -> Vec<Spot> {
        let token = match self.0.settings.in_query {
            true => Spot::Header(header::AUTHORIZATION),
            false => Spot::Query(PARAMETER.to_owned()),
        };
        let proof = (!self.0.settings.dpop).then_some(Spot::Header(PROOF));
        [Some(token), proof].into_iter().flatten().collect()
    }

    fn prepare<'a>(&'a self, _: &'a Round<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { self.0.ready().await.map(|_| ()) })
    }

    fn sign(&self, draft: &mut Draft, round: &Round<'_>) -> Result<(), Failure> {
        let token = self.token()?;
        if self.0.settings.in_query {
            draft.set_query(PARAMETER, token.access.expose());
            // RFC 6750 §2.3: what has a token in its URL must not be kept by caches.
            draft.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            draft.headers.remove(header::AUTHORIZATION);
        } else {
            draft.remove_queries(|name| name == PARAMETER);
            draft.headers.insert(header::AUTHORIZATION, self.field(&token.access)?);
        }
        draft.headers.remove(PROOF);
        if self.0.settings.dpop {
            let proven =
                Proven { method: &draft.method, origin: &draft.origin, target: &draft.target, token: Some(&token.access) };
            let nonce = self.0.state.nonces.of(&draft.origin);
            let proof = self.0.key()?.proof(&proven, nonce.as_deref(), round.moment)?;
            draft.headers.insert(PROOF, header_value(&proof, "proof")?);
        }
        Ok(())
    }

    fn answers(&self, answer: &Answer<'_>, round: &Round<'_>) -> Verdict {
        let dpop = self.0.settings.dpop;
        let new = dpop && self.0.state.nonces.learn(&answer.draft.origin, answer.headers);
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
            false => blames_token(&challenges) && self.sent(answer.draft).is_some_and(|token| self.0.refused(&token)),
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
