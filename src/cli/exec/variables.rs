//! What each client needs, found by experiment; `docs/clients.md` tells which client reads which.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::ValueEnum;

use super::files::{Kit, TRUSTSTORE_PASSWORD};
use super::no_proxy::is_list;
use super::proxy::Proxy;

/// Clients that need more than the usual variables.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    Node,
    Java,
    Php,
    Perl,
    Wget,
    Apt,
    Git,
}

/// Variables that replace what a client believes: they name the merged bundle.
const REPLACE_TRUST: [&str; 12] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "DENO_CERT",
];

/// Lists of exceptions that every command gets.
const SET_BELOW: [&str; 3] = ["no_proxy", "NO_PROXY", "npm_config_noproxy"];

/// Where single clients look for a proxy first: gRPC, cargo, pip, yarn, global-agent.
const OWN_PROXY: [&str; 7] = [
    "grpc_proxy",
    "CARGO_HTTP_PROXY",
    "PIP_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "GLOBAL_AGENT_HTTP_PROXY",
    "GLOBAL_AGENT_HTTPS_PROXY",
];

/// Name and value, in the order they are printed. `env` is what the command would have had, its `no_proxy` already
/// without the hosts that rules name.
pub fn table(proxy: &Proxy, kit: &Kit, env: &BTreeMap<String, String>, without: &[Family]) -> Vec<(String, String)> {
    let mut table = Table { rows: Vec::new(), env };
    let url = proxy.url();
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        table.set(name, &url);
    }
    let no_proxy = env.get("no_proxy").map_or("", String::as_str);
    for name in ["no_proxy", "NO_PROXY"] {
        table.set(name, no_proxy);
    }
    // Lists and proxies of single clients, which go before those.
    for (name, list) in env.iter().filter(|(name, _)| is_list(name) && !SET_BELOW.contains(&name.as_str())) {
        table.set(name, list);
    }
    for name in OWN_PROXY.into_iter().filter(|name| env.contains_key(*name)) {
        table.set(name, &url);
    }
    let bundle = kit.bundle.display().to_string();
    for name in REPLACE_TRUST {
        table.set(name, &bundle);
    }
    if let Some(folder) = &kit.curl {
        table.set("CURL_HOME", &folder.display().to_string());
    }
    let with = |family| !without.contains(&family);
    if with(Family::Node) {
        // Adds to what Node believes, so our CA alone.
        table.set("NODE_EXTRA_CA_CERTS", &kit.extra_ca.display().to_string());
        table.set("NODE_USE_ENV_PROXY", "1");
        // npm's own setting replaces what Node believes, so a configured one must not stand in the way.
        table.set("npm_config_cafile", &bundle);
        // As must its proxy and exceptions; npm does not look at an empty one.
        for name in ["npm_config_proxy", "npm_config_https_proxy"] {
            table.set(name, &url);
        }
        table.set("npm_config_noproxy", if no_proxy.is_empty() { "none.invalid" } else { no_proxy });
        table.append("NODE_OPTIONS", " ", &format!("--require \"{}\"", kit.preload.display()));
    }
    if let (Some(truststore), true) = (&kit.truststore, with(Family::Java)) {
        let options = java(proxy.address, &truststore.display().to_string(), no_proxy);
        table.append("JAVA_TOOL_OPTIONS", " ", &options);
        // Those go before it, and may name another proxy.
        for name in ["JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "MAVEN_OPTS", "GRADLE_OPTS", "SBT_OPTS"] {
            if env.get(name).is_some_and(|old| old.contains("roxyHost")) {
                table.append(name, " ", &options);
            }
        }
    }
    if with(Family::Perl) {
        table.set("PERL_LWP_ENV_PROXY", "1");
        table.set("PERL_LWP_SSL_CA_FILE", &bundle);
    }
    if with(Family::Php) {
        // An empty part is the folder that was compiled in.
        table.append("PHP_INI_SCAN_DIR", ":", &kit.php.display().to_string());
        table.keep_leading("PHP_INI_SCAN_DIR", ":");
    }
    if with(Family::Wget) {
        table.set("WGETRC", &kit.wgetrc.display().to_string());
    }
    if with(Family::Apt) {
        table.set("APT_CONFIG", &kit.apt.display().to_string());
    }
    if with(Family::Git) {
        // A configured proxy goes before the variables.
        table.git("http.proxy", &url);
        if proxy.token.is_some() {
            table.git("http.proxyAuthMethod", "basic");
        }
    }
    table.set("GATEPASS", "1");
    table.rows
}

struct Table<'a> {
    rows: Vec<(String, String)>,
    env: &'a BTreeMap<String, String>,
}

impl Table<'_> {
    fn set(&mut self, name: &str, value: &str) {
        self.rows.push((name.to_owned(), value.to_owned()));
    }

    /// Behind what was there: such a variable is shared with others.
    fn append(&mut self, name: &str, between: &str, value: &str) {
        match self.env.get(name).filter(|old| !old.is_empty()) {
            Some(old) => self.set(name, &format!("{old}{between}{value}")),
            None => self.set(name, value),
        }
    }

    /// Where nothing was there, begins with the separator.
    fn keep_leading(&mut self, name: &str, separator: &str) {
        if self.env.get(name).is_none_or(String::is_empty)
            && let Some((_, value)) = self.rows.iter_mut().find(|(own, _)| own == name)
        {
            value.insert_str(0, separator);
        }
    }

    /// One more of git's numbered settings (git-config(1), GIT_CONFIG_COUNT).
    fn git(&mut self, key: &str, value: &str) {
        let own = self.rows.iter().rev().find(|(name, _)| name == "GIT_CONFIG_COUNT").map(|(_, count)| count);
        let count: usize = own.or(self.env.get("GIT_CONFIG_COUNT")).and_then(|count| count.parse().ok()).unwrap_or(0);
        self.rows.retain(|(name, _)| name != "GIT_CONFIG_COUNT");
        self.set("GIT_CONFIG_COUNT", &(count + 1).to_string());
        self.set(&format!("GIT_CONFIG_KEY_{count}"), key);
        self.set(&format!("GIT_CONFIG_VALUE_{count}"), value);
    }
}

fn java(proxy: SocketAddr, truststore: &str, no_proxy: &str) -> String {
    let (host, port) = (proxy.ip(), proxy.port());
    format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.nonProxyHosts={} -Djavax.net.ssl.trustStore={truststore} -Djavax.net.ssl.trustStorePassword={TRUSTSTORE_PASSWORD}",
        non_proxy_hosts(no_proxy)
    )
}

/// Java knows no leading dot and no comma; `*.x` is its word for subdomains. What it cannot say (address ranges, ports)
/// is left out.
fn non_proxy_hosts(no_proxy: &str) -> String {
    let mut hosts = Vec::new();
    for entry in no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty() && !entry.contains('/')) {
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        match name {
            "*" => hosts.push("*".to_owned()),
            name if name.parse::<std::net::IpAddr>().is_ok() => hosts.push(name.to_owned()),
            name if name.contains(':') => {}
            name => hosts.extend([name.to_owned(), format!("*.{name}")]),
        }
    }
    hosts.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn kit() -> Kit {
        Kit::at("/kit".into(), true)
    }

    fn value(table: &[(String, String)], name: &str) -> String {
        table.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn shared_variables_keep_what_was_there() {
        let proxy = Proxy { address: "127.0.0.1:8118".parse().unwrap(), token: Some(Secret::new("t0k")) };
        let env: BTreeMap<String, String> = [
            ("NODE_OPTIONS", "--max-old-space-size=100"),
            ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
            ("PHP_INI_SCAN_DIR", "/etc/php"),
            ("GIT_CONFIG_COUNT", "2"),
            ("no_proxy", "localhost,.corp.test,10.0.0.0/8"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let table = table(&proxy, &kit(), &env, &[]);
        assert_eq!(value(&table, "https_proxy"), "http://gatepass:t0k@127.0.0.1:8118");
        assert_eq!(value(&table, "NODE_OPTIONS"), "--max-old-space-size=100 --require \"/kit/preload.cjs\"");
        assert!(value(&table, "JAVA_TOOL_OPTIONS").starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1"));
        assert!(value(&table, "JAVA_TOOL_OPTIONS").contains("nonProxyHosts=localhost|*.localhost|corp.test|*.corp.test "));
        assert!(!value(&table, "JAVA_TOOL_OPTIONS").contains("t0k"));
        assert_eq!(value(&table, "PHP_INI_SCAN_DIR"), "/etc/php:/kit/php");
        assert_eq!(
            (value(&table, "GIT_CONFIG_COUNT"), value(&table, "GIT_CONFIG_KEY_2"), value(&table, "GIT_CONFIG_KEY_3")),
            ("4".into(), "http.proxy".into(), "http.proxyAuthMethod".into())
        );
    }

    #[test]
    fn families_can_be_left_out() {
        let proxy = Proxy { address: "127.0.0.1:8118".parse().unwrap(), token: None };
        let all = [Family::Node, Family::Java, Family::Php, Family::Perl, Family::Wget, Family::Apt, Family::Git];
        let table = table(&proxy, &kit(), &BTreeMap::new(), &all);
        for name in ["NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "PHP_INI_SCAN_DIR", "WGETRC", "APT_CONFIG", "GIT_CONFIG_COUNT"] {
            assert_eq!(value(&table, name), "", "{name}");
        }
        assert_eq!(value(&table, "https_proxy"), "http://127.0.0.1:8118");
        let with = super::table(&proxy, &kit(), &BTreeMap::new(), &[]);
        assert_eq!(value(&with, "PHP_INI_SCAN_DIR"), ":/kit/php");
    }
}
