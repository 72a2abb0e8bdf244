//! Answers of our own, for failures.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::answer::Reply;
use crate::failure::{Cause, Failure};

/// An answer of our own: one sentence with the hint, and `Proxy-Status` (RFC 9209).
pub fn refusal(failure: &Failure) -> Response<Reply> {
    let mut text = format!("gatepass: {}", failure.details);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!(" ({hint})"));
    }
    if failure.said.is_some() {
        text.push_str("; gatepass's log has what was said about it");
    }
    text.push('\n');
    let mut response = Response::new(Reply::text(text));
    *response.status_mut() = failure.cause.status();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(HeaderName::from_static("proxy-status"), proxy_status(failure));
    match failure.cause {
        Cause::ProxyAuthentication => {
            fields.insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"gatepass\", charset=\"UTF-8\""));
        }
        // What is wrong with the message's framing or destination may go on after it.
        Cause::BadRequest | Cause::Misdirected => close(fields),
        _ => {}
    }
    response
}

/// hyper drops `Connection` on HTTP/2, where it has no meaning.
fn close(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// `gatepass; error=…; details="…"`, a Structured Field (RFC 8941 §3.3.3: strings are printable ASCII).
fn proxy_status(failure: &Failure) -> HeaderValue {
    let text = format!("gatepass; error={}; details={}", failure.cause.error_name(), quoted(&failure.to_string()));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("gatepass; error=proxy_internal_error"))
}

/// A string of a Structured Field (RFC 8941 §3.3.3).
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().take(512) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_refusal_says_why_in_status_text_and_proxy_status() {
        let failure = Failure::new(Cause::Denied, "a rule says \"no\" to münchen").hint("ask");
        let response = refusal(&failure);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            response.headers()["proxy-status"],
            "gatepass; error=http_request_denied; details=\"a rule says \\\"no\\\" to m?nchen; ask\""
        );
    }
}
