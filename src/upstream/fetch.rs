//! One request of gatepass's own (to a token endpoint, say), and its answer. Bounded in time and size, never
//! redirected, with a certificate and trust of its own.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::{Ask, Deadline, NetEnv, Outbound, Reuse, Route, Spec, Upstream};
use crate::failure::{Cause, Failure};
use crate::origin::{Origin, Scheme, parse_authority};
use crate::tls::Problem;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::identity::Identity;
use crate::tls::out::trust::Trust;
use crate::upstream::settings::ConnectTo;

/// An http or https URL without user information and fragment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Url {
    pub origin: Arc<Origin>,
    pub target: PathAndQuery,
}

impl Url {
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return Err("it begins with https:// or http://".to_owned()),
        };
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, port) = parse_authority(&rest[..at]).map_err(|why| why.to_string())?;
        let target = match &rest[at..] {
            "" => "/".to_owned(),
            target if target.contains('#') => return Err("it has no fragment (`#…`)".to_owned()),
            target if target.starts_with('?') => format!("/{target}"),
            target => target.to_owned(),
        };
        let target = PathAndQuery::try_from(target).map_err(|_| "its path holds characters that a URL cannot".to_owned())?;
        Ok(Self { origin: Arc::new(Origin::new(scheme, host, port.unwrap_or(scheme.default_port()))), target })
    }

    /// Without the query, which may hold what is not for the log.
    pub fn shown(&self) -> String {
        format!("{}{}", self.origin, self.target.path())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// A way to such servers. Their addresses are named by the configuration, so that link-local ones may be
/// reached; `egress: deny` holds for them too.
pub struct Client {
    upstream: Arc<Upstream>,
}

/// The head and the whole body.
pub struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    /// `connect_to` dials elsewhere.
    ///
    /// # Errors
    /// The certificate and trust cannot be made into a TLS configuration.
    pub fn over(
        net: &Arc<NetEnv>,
        via: impl Into<Route>,
        connect_to: Option<ConnectTo>,
        identity: Option<Arc<Identity>>,
        trust: Arc<Trust>,
    ) -> Result<Self, Problem> {
        let tls = ClientSpec { identities: identity.into_iter().collect(), ..ClientSpec::plain(trust) };
        let upstream = Upstream::build(Spec { tls, connect_to, via: via.into(), named: true }, net.clone())?;
        Ok(Self { upstream: Arc::new(upstream) })
    }

    /// Sends one request on a connection of its own and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// With what failed: it cannot be reached or does not answer within `limits.credential_fetch`
    /// ([`Cause::CredentialUnavailable`]), TLS (by its own causes), no HTTP, or an answer larger than
    /// `limits.helper_output` ([`Cause::Credential`]). `what` names the server in it ("the token endpoint").
    pub async fn send(&self, what: &str, method: Method, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Fetched, Failure> {
        let bound = self.upstream.limits().credential_fetch;
        let failed = |cause, why: &str, hint: Option<String>| {
            let failure = Failure::new(cause, format!("{what} {} gave no answer: {why}", url.shown()));
            Failure { hint, ..failure }
        };
        match tokio::time::timeout(bound, self.exchange(method, url, headers, body)).await {
            Ok(done) => done.map_err(|failure| failed(cause(failure.cause), &failure.details, failure.hint)),
            Err(_) => {
                let hint = "limits.credential_fetch sets the bound".to_owned();
                Err(failed(Cause::CredentialUnavailable, &format!("it took longer than {bound:?}"), Some(hint)))
            }
        }
    }

    async fn exchange(&self, method: Method, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Fetched, Failure> {
        let pool = self.upstream.pool(&url.origin);
        let mut lease = pool.lease(Ask::Dedicated, Reuse::Never).await?;
        let outbound = if body.is_empty() { Outbound::Empty } else { Outbound::Memory(Some(body)) };
        let mut request = Request::new(outbound);
        *request.method_mut() = method;
        *request.uri_mut() = url.target.clone().into();
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&url.origin.authority())
            .map_err(|_| Failure::new(Cause::Internal, "its host cannot be written in a header"))?;
        request.headers_mut().insert(header::HOST, host);
        let agent = HeaderValue::from_static(concat!("gatepass/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        let response = lease.send(&mut Some(request), &Deadline::none(), || None).await.map_err(|error| error.into_failure())?;
        let (head, body) = response.into_parts();
        let most = self.upstream.limits().helper_output;
        let body = Limited::new(body, most).collect().await.map_err(|cause| {
            let why = if cause.is::<http_body_util::LengthLimitError>() {
                format!("its answer is larger than {most} bytes")
            } else {
                "its answer broke off".to_owned()
            };
            Failure::new(Cause::ResponseInvalid, why)
        })?;
        Ok(Fetched { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// What the failure of such a request means to one that waits for its answer.
fn cause(of: Cause) -> Cause {
    match of {
        Cause::Dns
        | Cause::DnsTimeout
        | Cause::ConnectionRefused
        | Cause::ConnectionTimeout
        | Cause::ConnectionTerminated
        | Cause::ResponseTimeout => Cause::CredentialUnavailable,
        Cause::CertificateError | Cause::TlsProtocol | Cause::TlsAlert | Cause::AddressProhibited => of,
        _ => Cause::Credential,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_strictly_parsed() {
        let url = Url::parse("HTTPS://Login.Example.com/t/oauth2/v2.0/token?x=1").unwrap();
        assert_eq!(url.to_string(), "https://login.example.com/t/oauth2/v2.0/token?x=1");
        assert_eq!(url.shown(), "https://login.example.com/t/oauth2/v2.0/token");
        assert_eq!(Url::parse("http://127.0.0.1:8080").unwrap().to_string(), "http://127.0.0.1:8080/");
        assert_eq!(Url::parse("https://a.example?x").unwrap().to_string(), "https://a.example/?x");
        for wrong in ["a.example/token", "ftp://a.example/", "https://u:p@a.example/", "https://a.example/#f", "https://"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
