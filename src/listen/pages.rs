//! What the forward port says to a browser that opens it: a small page, the PAC file, the CA.

use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use crate::exchange::{Context, Reply};
use crate::failure::{Cause, Failure};
use crate::gate::Gate;
use crate::origin::{Host, parse_authority};
use crate::pattern::HostPattern;

/// Answers an origin-form request. Nothing is proxied from here.
///
/// # Errors
/// There is nothing here for it.
pub fn answer(context: &Context, request: &Request<Incoming>) -> Result<Response<Reply>, Failure> {
    // A web page whose name points here (DNS rebinding) must not read this.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let local = match parse_authority(host) {
        Ok((Host::Ip(_), _)) => true,
        Ok((Host::Name(name), _)) => &*name == "localhost",
        Err(_) => false,
    };
    if !local {
        return Err(Failure::new(Cause::Misdirected, "this is a proxy, not a web server")
            .hint("set it as the proxy, with the full URL in the request"));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Failure::new(Cause::NotFound, "there is nothing here for this method")
            .hint("this is a proxy; set it as the proxy of the client"));
    }
    let gate = context.gate();
    Ok(match request.uri().path() {
        "/" => typed("text/html; charset=utf-8", page(context, &gate, host)),
        "/proxy.pac" => typed("application/x-ns-proxy-autoconfig", pac(&gate, host)),
        "/ca.pem" => {
            let mut response = typed("application/x-x509-ca-cert", gate.authority.certificate_pem().to_owned());
            response
                .headers_mut()
                .insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"gatepass-ca.pem\""));
            response
        }
        _ => {
            return Err(Failure::new(Cause::NotFound, "this is a proxy; there is only `/`, `/proxy.pac` and `/ca.pem` here")
                .hint("set it as the proxy of the client"));
        }
    })
}

fn typed(kind: &'static str, text: String) -> Response<Reply> {
    let mut response = Response::new(Reply::text(text));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

/// Only the hosts that rules name go to gatepass; everything else goes as before.
fn pac(gate: &Gate, address: &str) -> String {
    let mut tests: Vec<String> = Vec::new();
    for live in gate.rules() {
        for pattern in &live.rule.hosts {
            let test = match pattern {
                HostPattern::Any => "true".to_owned(),
                HostPattern::Exact(Host::Ip(ip)) => format!("host === {}", quoted(&ip.to_string())),
                HostPattern::Exact(Host::Name(name)) => format!("host === {}", quoted(name)),
                HostPattern::Subdomains(suffix) => format!("dnsDomainIs(host, {})", quoted(&format!(".{suffix}"))),
                HostPattern::Glob { text, .. } => format!("shExpMatch(host, {})", quoted(text)),
            };
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
    }
    let lines: String = tests.iter().map(|test| format!("  if ({test}) return proxy;\n")).collect();
    format!(
        "function FindProxyForURL(url, host) {{\n  var proxy = {};\n  host = host.toLowerCase();\n{lines}  return \"DIRECT\";\n}}\n",
        quoted(&format!("PROXY {address}"))
    )
}

/// A JavaScript string; JSON's form is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn page(context: &Context, gate: &Gate, address: &str) -> String {
    let details = gate.authority.details();
    let minutes = context.uptime().as_secs() / 60;
    include_str!("page.html")
        .replace("{address}", &escaped(address))
        .replace("{rules}", &gate.rules().len().to_string())
        .replace("{minutes}", &minutes.to_string())
        .replace("{ca}", &escaped(details.name()))
        .replace("{fingerprint}", &details.fingerprint_text())
        .replace("{expires}", &crate::tls::formats::inspect::day(details.not_after))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
