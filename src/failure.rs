//! Why gatepass answered a request itself. One [`Failure`] carries all that the client, the log and
//! the retry decision need; `exchange::answer` is the only place that turns it into a response.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

/// What went wrong, by the names of RFC 9209 §2.3 where it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Cause {
    /// A rule or `unmatched: deny` says no.
    Denied,
    /// The destination address is one that must not be dialled.
    AddressProhibited,
    /// The request would come back to gatepass.
    Loop,
    /// The caller has not said who it is, or wrongly.
    ProxyAuthentication,
    /// Host, `:authority` or SNI disagree with where the connection goes.
    Misdirected,
    /// The client sent no more of a request that it began.
    RequestTimeout,
    /// The request itself is malformed or of a kind that is not carried.
    BadRequest,
    /// A method that would echo the credential (TRACE).
    MethodNotAllowed,
    /// A body that must be held is larger than the bound.
    BodyTooLarge,
    /// More fields, or longer ones, than a bound allows.
    HeadTooLarge,
    /// A request target that is longer than can be carried.
    TargetTooLong,
    /// Origin-form request for something gatepass does not serve.
    NotFound,
    /// The credential cannot be had.
    Credential,
    /// The server that gives it does not answer, or says that it cannot now.
    CredentialUnavailable,
    /// The client's own credential is refused by `on_existing_auth: reject`.
    ExistingCredential,
    /// The PAC script does not say which way to go.
    Route,
    Dns,
    DnsTimeout,
    ConnectionRefused,
    ConnectionTimeout,
    ConnectionTerminated,
    /// The upstream's certificate does not verify.
    CertificateError,
    /// TLS failed otherwise; `details` names the alert.
    TlsProtocol,
    /// The upstream ended the handshake or connection because of our client certificate.
    TlsAlert,
    ResponseTimeout,
    /// The origin allows no stream on its HTTP/2 connection.
    NoStreams,
    /// The answer cannot be understood.
    ResponseInvalid,
    /// The answer comes in a transfer coding that is not undone.
    TransferCoding,
    /// An answer to an upgrade that is not one.
    UpgradeFailed,
    /// A bound of gatepass's own is reached.
    Overload,
    /// A fault in gatepass.
    Internal,
}

impl Cause {
    /// Status and `Proxy-Status` error name.
    fn row(self) -> (StatusCode, &'static str) {
        use Cause::*;
        match self {
            Denied => (StatusCode::FORBIDDEN, "http_request_denied"),
            AddressProhibited => (StatusCode::FORBIDDEN, "destination_ip_prohibited"),
            Loop => (StatusCode::BAD_GATEWAY, "proxy_loop_detected"),
            ProxyAuthentication => (StatusCode::PROXY_AUTHENTICATION_REQUIRED, "http_request_denied"),
            Misdirected => (StatusCode::MISDIRECTED_REQUEST, "http_request_error"),
            RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "http_request_error"),
            BadRequest => (StatusCode::BAD_REQUEST, "http_request_error"),
            MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "http_request_denied"),
            BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "http_request_error"),
            HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error"),
            TargetTooLong => (StatusCode::URI_TOO_LONG, "http_request_error"),
            NotFound => (StatusCode::NOT_FOUND, "http_request_error"),
            Credential => (StatusCode::BAD_GATEWAY, "proxy_configuration_error"),
            CredentialUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable"),
            ExistingCredential => (StatusCode::FORBIDDEN, "http_request_denied"),
            Route => (StatusCode::BAD_GATEWAY, "proxy_configuration_error"),
            Dns => (StatusCode::BAD_GATEWAY, "dns_error"),
            DnsTimeout => (StatusCode::GATEWAY_TIMEOUT, "dns_timeout"),
            ConnectionRefused => (StatusCode::BAD_GATEWAY, "connection_refused"),
            ConnectionTimeout => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
            ConnectionTerminated => (StatusCode::BAD_GATEWAY, "connection_terminated"),
            CertificateError => (StatusCode::BAD_GATEWAY, "tls_certificate_error"),
            TlsProtocol => (StatusCode::BAD_GATEWAY, "tls_protocol_error"),
            TlsAlert => (StatusCode::BAD_GATEWAY, "tls_alert_received"),
            ResponseTimeout => (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
            NoStreams => (StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable"),
            ResponseInvalid => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
            TransferCoding => (StatusCode::BAD_GATEWAY, "http_response_transfer_coding"),
            UpgradeFailed => (StatusCode::BAD_GATEWAY, "http_upgrade_failed"),
            Overload => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            Internal => (StatusCode::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
        }
    }

    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The `error` parameter of `Proxy-Status` (RFC 9209 §2.3).
    pub fn error_name(self) -> &'static str {
        self.row().1
    }

    /// Nobody was met there: another way may do.
    pub fn is_unreachable(self) -> bool {
        use Cause::*;
        matches!(self, Dns | DnsTimeout | ConnectionRefused | ConnectionTimeout)
    }

    /// Whose fault it is, for the log.
    pub fn blame(self) -> Blame {
        use Cause::*;
        match self {
            Denied | ProxyAuthentication | Misdirected | RequestTimeout | BadRequest | MethodNotAllowed | BodyTooLarge
            | HeadTooLarge | TargetTooLong | NotFound | ExistingCredential | AddressProhibited | Loop => Blame::Client,
            Credential | Route | Overload | Internal => Blame::Gatepass,
            _ => Blame::Upstream,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    Client,
    Gatepass,
    Upstream,
}

/// May the same request be tried again on another connection?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    No,
    /// Nothing of the request reached the origin (a kept connection was closed before it was used).
    NothingSent,
}

/// More of what a helper or server said is not kept, in characters.
const SAID: usize = 200;

/// A request that was not carried.
#[derive(Clone, Debug)]
pub struct Failure {
    pub cause: Cause,
    /// One sentence without a full stop: what was being done, to what, why it failed. Never a secret.
    pub details: String,
    /// The mend, one sentence without a full stop.
    pub hint: Option<String>,
    /// What a helper or server said about it, for the log and the terminal: it may hold what the client must not see.
    pub said: Option<String>,
    pub retry: Retry,
    /// The error that it was told by, where there was one.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub fn new(cause: Cause, details: impl Into<String>) -> Self {
        Self { cause, details: details.into(), hint: None, said: None, retry: Retry::No, source: None }
    }

    /// Adds what a helper or server said: one line without control characters, bounded, and without what was `known` to
    /// be secret.
    pub fn said(mut self, text: &str, known: &[&str]) -> Self {
        let known = known.iter().filter(|secret| secret.len() > 3);
        let text = known.fold(text.to_owned(), |text, secret| text.replace(secret, "******"));
        let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect();
        if line.len() < text.len() {
            line.push('…');
        }
        self.said = Some(line.trim().to_owned()).filter(|line| !line.is_empty());
        self
    }

    /// For the log and the terminal.
    pub fn in_full(&self) -> String {
        let said = self.said.as_ref().map(|said| format!(" (it said: {said})")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}{said}{hint}", self.details)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the rules that nearly applied, unless it tells of them already.
    pub fn near(mut self, near: Option<&str>) -> Self {
        if let Some(near) = near
            && self.cause != Cause::Denied
        {
            self.hint = Some(self.hint.map_or_else(|| near.to_owned(), |hint| format!("{hint}; {near}")));
        }
        self
    }

    /// The error behind it; one that is known already is nearer to what went wrong.
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.source.get_or_insert_with(|| Arc::new(cause));
        self
    }

    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Name, status and `error` of every cause, as `row` has them.
    fn causes() -> BTreeSet<(String, u16, String)> {
        let status = |constant: &str| {
            (100..1000).filter_map(|code| StatusCode::from_u16(code).ok()).find(|status| {
                status.canonical_reason().is_some_and(|reason| reason.to_uppercase().replace(' ', "_") == constant)
            })
        };
        let row = |line: &str| {
            let (name, rest) = line.trim().strip_suffix("\"),")?.split_once(" => (StatusCode::")?;
            let (constant, error) = rest.split_once(", \"")?;
            Some((name.to_owned(), status(constant)?.as_u16(), error.to_owned()))
        };
        include_str!("failure.rs").lines().filter_map(row).collect()
    }

    /// The same as the table of the page has them.
    fn tabled(page: &str) -> Vec<(String, u16, String)> {
        let mut found = Vec::new();
        for line in page.lines() {
            let Some((status, rest)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | `")) else { continue };
            let (Ok(status), Some((error, names))) = (status.parse(), rest.split_once("` | ")) else { continue };
            for link in names.trim_end_matches(" |").split(", ") {
                let (name, anchor) = link.trim_start_matches('[').split_once("](#").unwrap_or_default();
                assert_eq!(anchor.trim_end_matches(')'), name.to_lowercase(), "the link of {name}");
                found.push((name.to_owned(), status, error.to_owned()));
            }
        }
        found
    }

    #[test]
    fn the_page_of_errors_has_every_cause_and_only_those() {
        let page = include_str!("../docs/errors.md");
        let causes = causes();
        assert!(causes.len() > 25, "{causes:?}");
        let tabled = tabled(page);
        assert_eq!(tabled.iter().cloned().collect::<BTreeSet<_>>(), causes, "the table of docs/errors.md");
        assert_eq!(tabled.len(), causes.len(), "a cause stands twice in the table of docs/errors.md");
        let mut sections = BTreeSet::new();
        for section in page.split("\n### ").skip(1) {
            let (name, text) = section.split_once('\n').unwrap();
            assert!(sections.insert(name), "{name} has two sections");
            assert!(text.contains("\n**Do:** ") && text.contains("\n    "), "{name} lacks what to do, or an example");
        }
        assert_eq!(sections, causes.iter().map(|(name, ..)| name.as_str()).collect(), "the sections of docs/errors.md");
    }

    #[test]
    fn every_variant_has_a_row_that_the_page_is_compared_with() {
        let text = include_str!("failure.rs");
        let from = text.find("pub enum Cause {").unwrap();
        let body = &text[from..from + text[from..].find("\n}\n").unwrap()];
        let variants = body.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|line| !line.starts_with('/'));
        let rows: BTreeSet<String> = causes().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(variants.map(str::to_owned).collect::<BTreeSet<_>>(), rows);
    }
}
