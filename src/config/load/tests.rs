//! The likeliest mistakes, by the text they are met with; and that what is right is understood.

use std::path::PathBuf;

use super::*;
use crate::config::{Action, HeaderEdit, Mode};
use crate::origin::{Host, Scheme};
use crate::settings::Text;
use crate::tls::settings::Material;
use crate::upstream::settings::UpstreamProxy;

fn request(yaml: &str, env: &[(&str, &str)]) -> Request {
    Request {
        inline: Some(("gatepass.yaml".to_owned(), yaml.to_owned(), PathBuf::from("/home/a/proj"))),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        auth_types: crate::auth::types(),
        ..Request::default()
    }
}

fn good(yaml: &str, env: &[(&str, &str)]) -> Config {
    let loaded = load(&request(yaml, env));
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.config.unwrap()
}

fn mistakes(yaml: &str) -> String {
    let loaded = load(&request(yaml, &[]));
    assert!(!loaded.report.diagnostics.is_empty(), "no mistake was found in {yaml}");
    loaded.report.render(false)
}

#[track_caller]
fn says(yaml: &str, parts: &[&str]) {
    let text = mistakes(yaml);
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn a_tab_is_named_as_what_it_is() {
    says("rules:\n\t- host: x\n", &["YAML indents with spaces; this line starts with a tab", "gatepass.yaml:2:1"]);
}

#[test]
fn an_unquoted_star_says_to_quote_it() {
    says(
        "rules:\n  - host: *.corp.example.com\n",
        &["a text that starts with `*` must be quoted", "\"*.example.com\"", "gatepass.yaml:2:12"],
    );
}

#[test]
fn a_reference_inside_braces_says_to_quote_it() {
    says("rules:\n  - host: x\n    auth: { bearer: ${X} }\n", &["inside `{ }` a `${…}` must be quoted", "\"${API_TOKEN}\""]);
}

#[test]
fn unknown_keys_types_and_words_name_the_nearest() {
    says(
        "rules:\n  - host: x\n    client_cert: y\n",
        &["unknown rule key `client_cert`; did you mean `client_certificate`?", "gatepass.yaml:3:5"],
    );
    says(
        "credentials:\n  a: { bearer_token: x }\n",
        &["unknown auth type `bearer_token`; did you mean `bearer`?", "gatepass.yaml:2:8"],
    );
    says(
        "unmatched: tunel\n",
        &["unknown word for `unmatched` `tunel`; did you mean `tunnel`?", "one of: tunnel, deny, intercept"],
    );
}

#[test]
fn a_dangling_name_lists_what_is_defined() {
    says(
        "credentials: { payments: { bearer: x } }\nrules:\n  - host: x\n    auth: paymnets\n",
        &["no credential named `paymnets`", "defined: payments; did you mean `payments`?", "gatepass.yaml:4:11"],
    );
    says(
        "rules:\n  - host: x\n    client_certificate: me\n",
        &["no client certificate named `me`", "no client certificate is defined"],
    );
}

#[test]
fn a_url_as_host_says_what_to_write() {
    says(
        "rules:\n  - host: https://api.example.com:8443/v1\n",
        &["a rule's host takes a host name, not a URL", "write `host: api.example.com` and `port: 8443` and `path: /v1`"],
    );
    says("rules:\n  - host: api.example.com:8443\n", &["a rule's host takes no port; write `port: 8443` beside it"]);
}

#[test]
fn an_unset_variable_is_found_at_its_place() {
    says(
        "rules:\n  - host: ${API_HOST}\n",
        &["`API_HOST` is not set", "export API_HOST=…, or ${API_HOST:-} to allow empty", "gatepass.yaml:2:11"],
    );
    says("rules:\n  - host: ${API_HOST:?ask the team}\n", &["`API_HOST` is not set: ask the team"]);
    says("vars: { tenant: a }\nrules:\n  - host: '{{tennant}}'\n", &["there is no variable `tennant`", "did you mean `tenant`?"]);
}

#[test]
fn a_missing_file_says_where_relative_paths_start() {
    let yaml = "rules:\n  - host: x\n    headers: { set: { X-A: { file: secrets/nowhere } } }\n";
    says(yaml, &["cannot read /home/a/proj/secrets/nowhere: there is no such file", "relative paths start at /home/a/proj"]);
}

#[test]
fn text_that_yaml_takes_for_something_else_says_to_quote_it() {
    says(
        "rules:\n  - host: x\n    headers: { set: { X-A: false } }\n",
        &["YAML reads this as false", "put it in quotes if it is text"],
    );
    says("rules:\n  - host: x\n    headers: { set: { X-A: 0123 } }\n  - host: 12\n", &["YAML reads this as a number"]);
}

#[test]
fn structure_mistakes_are_told() {
    says("rules: []\nlisten: 127.0.0.1:1\nrules: []\n", &["`rules` appears twice", "merge the lists", "gatepass.yaml:3:1"]);
    says("rules:\n  host: x\n", &["`rules` is a list, not a map", "`- host: api.example.com`"]);
    says("rules:\n  - bearer: x\n", &["this rule has no `host`"]);
    says("rules:\n  - hosts: x\n    bearer: x\n", &["did you mean `host`?", "1 error"]);
    says("rules:\n  - host: x\n    methods: GET POST\n", &["is not a method", "several as a list: [GET, POST]"]);
    says("egress: { deny: [local] }\n", &["is no kind of address", "write private, link_local, loopback, or a range"]);
    says("egress: { deny: [10.0.0.0/33] }\n", &["is not an address range"]);
    says("credentials: { a: { bearer: x, basic: { username: u, password: p } } }\n", &["a credential has exactly one type"]);
    says(
        "rules:\n  - host: x\n    bearer: a\n    basic: { username: u, password: p }\n",
        &["this rule has two auth types, `bearer` and `basic`"],
    );
    says("client_certificates: { a: { key: k.pem } }\n", &["this client certificate names no file", "add `cert: FILE`"]);
    says("- a\n- b\n", &["a configuration is a map of settings, not a list"]);
}

#[test]
fn risky_things_are_warned_of() {
    says(
        "rules:\n  - host: api.example.com\n    scheme: http\n    bearer: x\n",
        &["warning: this rule sends its credential over plain http"],
    );
    says(
        "rules:\n  - host: localhost\n    bearer: x\n",
        &["warning: Go, Ruby, Java, Chromium and Firefox never send loopback hosts to a proxy"],
    );
    says(
        "rules:\n  - host: a.example\n    bearer: x\n  - host: a.example\n    bearer: y\n",
        &["warning: this rule can never win", "gatepass.yaml:2:5"],
    );
    says(
        "rules:\n  - host: a.example\n    danger: { accept_invalid_certs: true }\n",
        &["warning: certificates are not verified for these hosts"],
    );
}

#[test]
fn what_headers_cannot_carry_is_refused_at_load() {
    for value in ["a\\r\\nX-Evil: 1", "a\\nb", "a\\0b"] {
        let text = mistakes(&format!("rules:\n  - host: x\n    headers: {{ set: {{ X-A: \"{value}\" }} }}\n"));
        assert!(text.contains("holds characters that a header cannot carry"), "{text}");
    }
    for name in ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Proxy-Authorization"] {
        says(&format!("rules:\n  - host: x\n    headers: {{ set: {{ {name}: a }} }}\n"), &["frames or routes the message"]);
    }
    says("rules:\n  - host: x\n    headers: { set: { \"X A\": a } }\n", &["is not a header name"]);
}

#[cfg(not(feature = "openssl"))]
#[test]
fn the_openssl_backend_is_refused_where_the_build_has_none() {
    let says_which = "use the container image, or build with `cargo build --release --features openssl`";
    says("rules:\n  - host: x\n    tls: { backend: openssl }\n", &["gatepass.yaml:3:21", "not in this build", says_which]);
}

#[test]
fn ten_mistakes_at_once_are_ten_located_messages_without_a_secret() {
    let yaml = "listen: 127.0.0.1\nunmatched: tunel\ncredentials:\n  a: { bearer: s3cret1 , basic: { username: u, password: s3cret2 } }\n  b: { bearer_token: s3cret3 }\nrules:\n  - host: https://x.example/\n    auth: nobody\n  - host: b.example\n    port: 99999\n    path: v1\n  - hots: c.example\n    bearer: ${UNSET_FOR_THIS_TEST}\n  - host: d.example\n    headers: { set: { X-Key: \"s3cret4\\n\" } }\n    methods: [\"G ET\"]\n";
    let loaded = load(&request(yaml, &[]));
    let text = loaded.report.render(false);
    let errors = loaded.report.diagnostics.iter().filter(|d| d.severity == crate::settings::Severity::Error).count();
    assert!(errors >= 10, "{text}");
    assert!(text.matches(" --> gatepass.yaml:").count() + text.matches("--> gatepass.yaml:").count() >= 10, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!loaded.report.json().to_string().contains("s3cret"));
}

#[test]
fn the_three_line_config_and_its_defaults() {
    let config = good("rules:\n  - host: api.example.com\n    bearer: ${API_TOKEN}\n", &[("API_TOKEN", "t")]);
    let rule = &config.rules[0];
    assert!(rule.hosts[0].matches(&Host::parse("api.example.com").unwrap()));
    assert!(rule.ports.contains(443, Scheme::Https) && !rule.ports.contains(8443, Scheme::Https));
    assert_eq!(rule.auth.as_ref().unwrap()[0].kind, "bearer");
    assert_eq!(config.listeners.len(), 1);
    assert!(matches!(config.upstream_proxy, UpstreamProxy::Env));
    assert!(good("", &[]).rules.is_empty());
}

#[test]
fn an_entry_of_the_keyring_is_read_by_the_systems_own_command() {
    let yaml = "upstream_proxy: { url: \"http://p:1\", password: { keyring: https://api/v1/svc, ttl: 1h } }";
    let UpstreamProxy::To(via) = good(yaml, &[]).upstream_proxy else { panic!("no proxy") };
    let Some(Text::Command(command)) = &via.password else { panic!("no command") };
    assert!(
        command.argv.contains(&"https://api/v1".to_owned()) && command.argv.contains(&"svc".to_owned()),
        "{:?}",
        command.argv
    );
    assert_eq!(command.ttl, std::time::Duration::from_secs(3600));
    assert!(command.mend.as_ref().is_some_and(|mend| mend.contains("store it with")));
    let proxy = |form: &str| format!("upstream_proxy: {{ url: \"http://p:1\", password: {form} }}\n");
    says(&proxy("{ keyring: nobody }"), &["named by its service and user", "keyring: SERVICE/USER", "gatepass.yaml:1:"]);
    says(&proxy("{ keyring: a/b, field: .x }"), &["`field` belongs to `exec`"]);
    says(&proxy("{ keyring: a/b, env: X }"), &["exactly one of `env`, `file`, `exec`, `keyring`"]);
}

#[test]
fn secrets_come_in_every_form_that_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("s"), "from-file\r\n").unwrap();
    let yaml = "vars: { tenant: acme, both: '${tenant}-{{tenant}}' }\nrules:\n  - host: x\n    headers:\n      set:\n        A: '${tenant}/{{ both }}'\n        B: ${UNSET:-fallback}\n        C: '$${literal} ${ENV}'\n        D: ${file:s}\n        E: { env: ENV }\n        F: { file: s }\n        G: { exec: [echo, hi], ttl: 1m }\n        H: 'a $5 {b}'\n";
    let mut request = request(yaml, &[("ENV", "from-env")]);
    request.inline.as_mut().unwrap().2 = dir.path().to_owned();
    let loaded = load(&request);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let config = loaded.config.unwrap();
    let values: Vec<String> = config.rules[0]
        .headers
        .iter()
        .map(|edit| match edit {
            HeaderEdit::Set(_, Text::Known(secret), ..) => secret.expose().to_owned(),
            HeaderEdit::Set(_, Text::Command(command), ..) => command.argv.join(" "),
            HeaderEdit::Remove(_) => unreachable!(),
        })
        .collect();
    assert_eq!(
        values,
        ["acme/acme-acme", "fallback", "${literal} from-env", "from-file", "from-env", "from-file", "echo hi", "a $5 {b}"]
    );
    assert!(config.files.iter().any(|file| file.ends_with("s")), "secret files are watched");
}

#[test]
fn references_nest() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("api-token"), "from-systemd").unwrap();
    let folder = dir.path().display().to_string();
    let config = good(
        "rules:\n  - host: x\n    headers: { set: { A: '${file:${CREDENTIALS_DIRECTORY}/api-token}', B: 'a${NO:-${D}}x' } }\n",
        &[("CREDENTIALS_DIRECTORY", &folder), ("D", "d")],
    );
    let values: Vec<_> = config.rules[0]
        .headers
        .iter()
        .map(|edit| match edit {
            HeaderEdit::Set(_, Text::Known(secret), ..) => secret.expose().to_owned(),
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(values, ["from-systemd", "adx"]);
}

#[test]
fn a_circle_of_variables_or_includes_is_an_error() {
    says("vars: { a: '${b}', b: '${a}' }\nrules:\n  - host: x\n    headers: { set: { X: '${a}' } }\n", &["in a circle"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, "include: a.yaml\n").unwrap();
    let loaded = load(&Request { inline: None, files: vec![file], ..request("", &[]) });
    assert!(loaded.report.render(false).contains("includes itself"), "{}", loaded.report.render(false));
}

#[test]
fn files_includes_and_profiles_are_laid_over_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "common.yaml",
        "vars: { v: common }\ncredentials: { c: { bearer: a } }\nrules:\n  - host: first.example\n    auth: c\n",
    );
    write(
        "one.yaml",
        "include: [common.yaml]\nvars: { w: one }\nunmatched: deny\nrules:\n  - host: second.example\n    bearer: '${v}-${w}'\nprofiles:\n  staging:\n    vars: { w: staging }\n    rules:\n      - host: third.example\n",
    );
    write("two.yaml", "unmatched: tunnel\nrules:\n  - host: last.example\n");
    let files = ["one.yaml", "two.yaml"].map(|name| dir.path().join(name)).to_vec();
    let loaded = load(&Request { inline: None, files, profile: Some("staging".to_owned()), ..request("", &[]) });
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let config = loaded.config.unwrap();
    let hosts: Vec<String> = config.rules.iter().map(|rule| rule.hosts[0].to_string()).collect();
    assert_eq!(hosts, ["first.example", "second.example", "last.example", "third.example"]);
    assert_eq!(loaded.scope.vars["w"].0, "staging");
    assert_eq!(config.unmatched, crate::config::Unmatched::Tunnel);
    let loaded = load(&Request { profile: Some("stagin".to_owned()), ..request("profiles: { staging: {} }", &[]) });
    assert!(loaded.report.render(false).contains("there is no profile `stagin`"));
}

#[test]
fn everything_a_rule_can_say_is_understood() {
    let config = good(
        "client_certificates:\n  me: { cert: a.crt, key: a.key, host: '*.corp.example', port: 8443 }\n  p: { pfx: a.p12, passphrase: pw }\nca_bundles: { corp: ca.pem, lab: { files: [x.pem, y.pem], system_roots: false } }\nrules:\n  - host: ['{a,b}.example', 10.0.0.1]\n    port: [443, '8000-8999']\n    scheme: any\n    path: /v1/**\n    methods: [get, POST]\n    clients: [ci, 10.0.0.0/8]\n    client_certificate: [me, p]\n    ca_bundle: lab\n    on_existing_auth: keep\n    headers: { set: { X-Team: core }, remove: [X-Debug] }\n    query: { set: { api-version: '2' }, remove: old }\n    connect_to: '[::1]:8443'\n    tls: { server_name: n.example, min_version: '1.3', pins: ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='], resumption: off, alpn: [h2, http/1.1] }\n    via: socks5://u:p@proxy.example:1080\n    action: allow\nlisteners:\n  - listen: 127.0.0.1:9001\n    mode: reverse\n    upstream: https://api.corp.example.com\nlimits: { idle: 2m, body_hold: 2MiB, headers: 50 }\nca: { dir: ca }\nlog: { format: json, level: debug }\negress: { deny: [private, 203.0.113.0/24] }\nadmin: { listen: 127.0.0.1:9118 }\n",
        &[],
    );
    assert_eq!(config.rules.len(), 2);
    assert!(config.rules[0].ports.contains(8443, Scheme::Https), "a certificate with host is a rule");
    let rule = &config.rules[1];
    assert_eq!(rule.hosts.len(), 3);
    assert!(rule.ports.contains(8500, Scheme::Http));
    assert_eq!(rule.client_certificates.as_ref().unwrap().len(), 2);
    assert!(matches!(rule.client_certificates.as_ref().unwrap()[1].material, Material::Pfx { .. }));
    assert!(!rule.ca_bundle.as_ref().unwrap().system_roots);
    assert_eq!(rule.connect_to.as_ref().unwrap().port, Some(8443));
    assert_eq!(rule.tls.resumption, Some(false));
    assert_eq!(rule.action, Some(Action::Allow));
    assert!(matches!(&config.listeners[0].mode, Mode::Reverse(origin) if origin.port == 443));
    assert_eq!((config.limits.headers, config.limits.body_hold), (50, 2 << 20));
}

#[test]
fn the_documented_tour_loads() {
    let text = include_str!("../../../config.example.yaml");
    let config = good(text, &[("GITHUB_TOKEN", "t"), ("HOME", "/home/a")]);
    assert!(config.rules.len() >= 4);
    for field in TOP.iter().chain(schema::RULE).chain(schema::TLS) {
        assert!(text.contains(&format!("{}:", field.name)), "config.example.yaml does not show `{}`", field.name);
    }
}

#[test]
fn twenty_thousand_rules_load() {
    let mut yaml = String::from("rules:\n");
    for n in 0..20_000 {
        yaml.push_str(&format!("  - host: h{n}.example\n    bearer: t\n"));
    }
    assert_eq!(good(&yaml, &[]).rules.len(), 20_000);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("g.yaml");
    std::fs::write(&file, "\u{feff}rules:\r\n  - host: a.example\r\n    bearer: t\r\n").unwrap();
    let loaded = load(&Request { inline: None, files: vec![file], ..request("", &[]) });
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[ -~\\n\\t]{0,200}") {
        let loaded = load(&request(&text, &[]));
        let _ = loaded.report.render(true);
    }
}
