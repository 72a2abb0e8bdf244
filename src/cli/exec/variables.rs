//! What each client needs, found by experiment; `docs/clients.md` tells which client reads which.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::files::Kit;

/// Java opens no PKCS #12 trust store without a password; this one is Java's customary one and guards nothing.
pub const TRUSTSTORE_PASSWORD: &str = "changeit";

/// Variables that replace what a client believes: they name the merged bundle.
const REPLACE_TRUST: [&str; 13] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "PERL_LWP_SSL_CA_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "DENO_CERT",
];

/// Name and value, in the order they are printed.
pub fn table(address: SocketAddr, kit: &Kit, env: &BTreeMap<String, String>, without: &[String]) -> Vec<(String, String)> {
    let proxy = format!("http://{address}");
    let bundle = kit.bundle.display().to_string();
    let no_proxy = env.get("no_proxy").map_or("", String::as_str);
    let mut table: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| table.push((name.to_owned(), value.to_owned()));
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        set(name, &proxy);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        set(name, no_proxy);
    }
    for name in REPLACE_TRUST {
        set(name, &bundle);
    }
    if !without.iter().any(|name| name == "node") {
        // Adds to what Node believes, so our CA alone.
        set("NODE_EXTRA_CA_CERTS", &kit.ca.display().to_string());
        set("NODE_USE_ENV_PROXY", "1");
    }
    if let (Some(truststore), false) = (&kit.truststore, without.iter().any(|name| name == "java")) {
        let (host, port) = (address.ip(), address.port());
        let old = env.get("JAVA_TOOL_OPTIONS").map(|old| format!("{old} ")).unwrap_or_default();
        set(
            "JAVA_TOOL_OPTIONS",
            &format!(
                "{old}-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={TRUSTSTORE_PASSWORD}",
                truststore.display()
            ),
        );
    }
    set("PERL_LWP_ENV_PROXY", "1");
    set("GATEPASS", "1");
    table
}
