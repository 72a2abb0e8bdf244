//! What is surely not meant is said before anything is served, and the mend with it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gatepass::config::{Request, load};

use crate::support::request;

/// What `check` says of a configuration, with these variables.
fn said(yaml: &str, env: &[(&str, &str)]) -> String {
    load(&request(yaml, env)).report.render(false)
}

fn rule(more: &str) -> String {
    format!("rules:\n  - host: a.test\n    {more}\n")
}

/// Each text is said, of each configuration.
fn tells(cases: &[(&str, &[&str])]) {
    for (yaml, texts) in cases {
        let told = said(yaml, &[("PATH", "/usr/bin:/bin"), ("HOME", "/nowhere")]);
        for text in *texts {
            assert!(told.contains(text), "{yaml}\nsays:\n{told}\nnot: {text}");
        }
    }
}

#[test]
fn secrets_that_are_written_wrongly_are_told_without_being_shown() {
    let variable = &["warning: this is taken as it stands", "`${API_TOKEN}`"][..];
    tells(&[
        (&rule("headers: { set: { X-Key: $SECRET_PW } }"), &["warning: this is taken as it stands"]),
        (&rule("headers: { set: { X-Key: $(cat k) } }"), &["there is no shell here"]),
        (&rule("headers: { set: { X-Key: change-me } }"), &["stand-in of an example"]),
        (&rule("headers: { set: { X-Key: \"%API_TOKEN%\" } }"), variable),
        (&rule("headers: { set: { X-Key: \"{{ env.API_TOKEN }}\" } }"), &["help: write `${API_TOKEN}`"]),
        (&rule("headers: { set: { X-Key: \"${env:API_TOKEN}\" } }"), &["help: write `${API_TOKEN}`"]),
        (
            &rule("headers: { set: { X-Key: { exec: \"vault read x\" } } }"),
            &["error: `exec` names one program", "[PROGRAM, ARGUMENT"],
        ),
        (&rule("headers: { set: { X-Key: { exec: [no-such-helper] } } }"), &["warning: the program of `exec` is not in PATH"]),
        (&rule("headers: { set: { X-Key: { exec: [./none] } } }"), &["warning: the program of `exec` is not there"]),
        (&rule("headers: { set: { X-Key: { exec: [/etc/passwd] } } }"), &["is not executable"]),
    ]);
    assert_eq!(said(&rule("headers: { set: { X-Key: \"$2b$10$x\" } }"), &[]), "");
    assert_eq!(said(&rule("headers: { set: { X-Key: { exec: [cat, x] } } }"), &[("PATH", "/usr/bin:/bin")]), "");
}

#[tokio::test]
async fn a_token_that_brings_its_own_prefix_is_refused() {
    for (yaml, env) in [("bearer: Bearer s3cret", ""), ("bearer: bearer s3cret", ""), ("bearer: ${T}", "Bearer s3cret")] {
        let built = gatepass::serve::build(&request(&rule(yaml), &[("T", env)])).await;
        let told = built.err().expect(yaml).render(false);
        assert!(told.contains("begins with the word `Bearer`") && !told.contains("s3cret"), "{told}");
    }
    let built = gatepass::serve::build(&request(&rule("basic: { username: u, password: $SECRET_PW }"), &[])).await;
    assert!(built.ok().unwrap().report.render(false).contains("this is taken as it stands"));
    let fine = "bearer: { token: Bearer s3cret, prefix: \"\" }";
    assert!(gatepass::serve::build(&request(&rule(fine), &[])).await.is_ok());
}

#[test]
fn hosts_addresses_and_urls_in_the_wrong_place_are_told_with_what_to_write() {
    tells(&[
        ("rules: [{ host: 10.0.0.0/8 }]", &["no address range", "`\"10.0.*\"`"]),
        ("rules: [{ host: \"*example.com\" }]", &["`*example.com` also names", "\"*.example.com\""]),
        (&rule("connect_to: https://b.test"), &["not a URL", "HOST:PORT"]),
        ("listeners: [{ listen: 127.0.0.1:0, mode: reverse, upstream: \"https://h/base\" }]", &["without a path"]),
        ("listeners: [{ listen: 127.0.0.1:9001 }, { listen: 127.0.0.1:9001 }]", &["error: two listeners have this address"]),
        ("listen: 127.0.0.1:9001\nlisteners: [{ listen: 127.0.0.1:9001 }]", &["two listeners"]),
        (
            "listeners:\n  - { listen: 127.0.0.1:9001 }\n  - { listen: 0.0.0.0:9001, access: { cidrs: [10.0.0.0/8] } }",
            &["has this port on every address"],
        ),
        ("upstream_proxy: http://localhost:8118\nlisten: 127.0.0.1:8118", &["names gatepass itself"]),
    ]);
    assert_eq!(said("rules: [{ host: \"*.example.com\" }]", &[]), "");
    assert_eq!(said("listeners: [{ listen: 127.0.0.1:0 }, { listen: 127.0.0.1:0 }]", &[]), "");
    let own = said("listen: 127.0.0.1:8118", &[("HTTPS_PROXY", "http://127.0.0.1:8118")]);
    assert!(own.contains("warning: HTTPS_PROXY names gatepass itself") && own.contains("env -u HTTPS_PROXY"), "{own}");
    assert_eq!(said("listen: 127.0.0.1:8118", &[("HTTPS_PROXY", "http://proxy.test:8118")]), "");
}

#[test]
fn yaml_that_cannot_be_read_is_told_in_plain_words_with_the_mend() {
    for (yaml, words) in [
        ("rules:\n\t- host: a", "starts with a tab"),
        ("rules:\n  - host: a: b\n", "put a text that holds `: ` in quotes"),
        ("rules:\n  - host: a\n   port: 1\n", "column"),
        ("rules: [{ host: a }\nlisten: 1\n", "close"),
        ("rules:\n  - host: \"a\n", "quot"),
        ("rules:\n  - host: @a\n", "quotes"),
        ("rules:\n  - host: a\n    bearer\n", "key"),
    ] {
        let told = said(yaml, &[]);
        assert!(told.contains(words) && told.contains("help:") && told.matches("error:").count() == 1, "{yaml:?}: {told}");
        for foreign in ["did not find", "mapping values", "block mapping", "flow sequence", "simple key"] {
            assert!(!told.contains(foreign), "{yaml:?}: {told}");
        }
    }
}

#[test]
fn after_a_first_mistake_no_second_one_is_told_that_is_none() {
    let told = said("credentials: { k: { beerer: t } }\nrules: [{ host: a.test, auth: k }]", &[]);
    assert!(told.contains("did you mean `bearer`") && !told.contains("no credential named"), "{told}");
    let told = said("include: [none.yaml]\nrules: [{ host: a.test, auth: k }]", &[]);
    assert!(told.contains("none.yaml") && !told.contains("no credential named"), "{told}");
    let told = said("rules: [{ host: a.test, auth: k }]", &[]);
    assert!(told.contains("no credential named `k`"), "{told}");
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) {
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn of_file(folder: &Path, name: &str, env: &[(&str, &str)]) -> String {
    let request = Request { inline: None, files: vec![folder.join(name)], ..request("", env) };
    load(&request).report.render(false)
}

#[test]
fn what_others_can_change_is_not_read_unless_it_is_said_to_be_safe() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    file(folder, "open.yaml", "rules: []\n", 0o666);
    let told = of_file(folder, "open.yaml", &[]);
    assert!(
        told.contains("every user may write to it") && told.contains("chmod o-w") && told.contains("GATEPASS_SAFE="),
        "{told}"
    );
    assert_eq!(of_file(folder, "open.yaml", &[("GATEPASS_SAFE", &folder.display().to_string())]), "");
    file(folder, "includes.yaml", "include: [open.yaml]\n", 0o600);
    assert!(of_file(folder, "includes.yaml", &[]).contains("open.yaml is not read, since others can change it"));
    file(folder, "helper", "#!/bin/sh\necho t\n", 0o777);
    file(folder, "helps.yaml", &rule("headers: { set: { X: { exec: [./helper] } } }"), 0o600);
    assert!(of_file(folder, "helps.yaml", &[]).contains("helper is not read, since others can change it"));
    // What an interpreter runs, by any spelling of its path.
    for script in ["helper".to_owned(), "./helper".to_owned(), folder.join("helper").display().to_string()] {
        file(folder, "helps.yaml", &rule(&format!("headers: {{ set: {{ X: {{ exec: [sh, {script}] }} }} }}")), 0o600);
        assert!(of_file(folder, "helps.yaml", &[]).contains("is not read, since others can change it"), "{script}");
    }
    file(folder, "helps.yaml", &rule("headers: { set: { X: { exec: [sh, ./absent, /dev/null, .] } } }"), 0o600);
    assert_eq!(of_file(folder, "helps.yaml", &[]), "");
    file(folder, "token", "t0k\n", 0o602);
    file(folder, "secret.yaml", &rule("headers: { set: { X: { file: token } } }"), 0o600);
    assert!(of_file(folder, "secret.yaml", &[]).contains("token is not read"));
    file(folder, "token", "t0k\n", 0o644);
    let told = of_file(folder, "secret.yaml", &[]);
    assert!(told.contains("warning: others can read the secret in") && told.contains("chmod 600"), "{told}");
    file(folder, "token", "t0k\n", 0o600);
    assert_eq!(of_file(folder, "secret.yaml", &[]), "");
    let module = "client_certificates: { c: { pkcs11: \"pkcs11:token=a\", module: ./helper, pin: x } }\n";
    file(folder, "module.yaml", module, 0o600);
    assert!(of_file(folder, "module.yaml", &[]).contains("helper is not read"));
}

#[test]
fn certificates_and_programs_that_others_can_change_are_refused_by_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("cas")).unwrap();
    for (name, mode) in [("open.pem", 0o666), ("own.pem", 0o644), ("cas/one.pem", 0o666), ("open.pac", 0o666), ("tool", 0o777)] {
        file(folder, name, "", mode);
    }
    let path = folder.display().to_string();
    let told = |settings: &str| {
        file(folder, "g.yaml", settings, 0o600);
        of_file(folder, "g.yaml", &[("PATH", &path)])
    };
    let absolute = folder.join("open.pem");
    for (settings, named) in [
        ("client_certificates: { c: { cert: open.pem, key: own.pem } }", "open.pem"),
        ("client_certificates: { c: { cert: own.pem, key: open.pem } }", "open.pem"),
        ("client_certificates: { c: { pfx: open.pem } }", "open.pem"),
        ("ca_bundles: { b: [own.pem, open.pem] }", "open.pem"),
        (&format!("ca_bundles: {{ b: {{ files: [{}] }} }}", absolute.display()), "open.pem"),
        ("ca_bundles: { b: cas }", "cas/one.pem"),
        ("listeners: [{ listen: 127.0.0.1:8118, tls: { cert: own.pem, key: own.pem, client_ca: open.pem } }]", "open.pem"),
        #[cfg(feature = "pac")]
        ("upstream_proxy: { pac: open.pac }", "open.pac"),
        (&rule("tls: { crl: open.pem }"), "open.pem"),
        (&rule("headers: { set: { X: { exec: tool } } }"), "tool"),
        (&rule("headers: { set: { X: { exec: [tool, --token=s3cr3t] } } }"), "tool"),
    ] {
        let told = told(settings);
        let wanted = format!("{} is not read, since others can change it", folder.join(named).display());
        assert!(told.contains(&wanted) && !told.contains("s3cr3t"), "{settings}\n{told}");
    }
    for name in ["open.pem", "cas/one.pem", "open.pac", "tool"] {
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for settings in ["ca_bundles: { b: [own.pem, open.pem, cas] }", &rule("headers: { set: { X: { exec: [tool, -x] } } }")] {
        assert_eq!(told(settings), "");
    }
}

#[test]
fn a_configuration_that_is_not_found_is_told_with_what_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(of_file(folder, "g.yaml", &[]).contains("`gatepass init"));
    file(folder, "g.yml", "rules: []\n", 0o600);
    let told = of_file(folder, "g.yaml", &[]);
    assert!(told.contains("there is ") && told.contains("g.yml") && !told.contains("init"), "{told}");
    let told = of_file(folder, "", &[]);
    assert!(told.contains("name a file in it") && !told.contains("init"), "{told}");
}
