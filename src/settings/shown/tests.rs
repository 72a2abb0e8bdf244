//! Lines as they are shown: by what their keys declare, in every style that YAML has.

use super::*;
use crate::config::schema::tables;

fn page(text: &str) -> (Page, Known) {
    let page = Page::new(text);
    let schema = tables(&crate::auth::types());
    let mut known = Known::new(&schema);
    known.names.extend(page.names(schema.naming));
    (page, known)
}

/// The whole text, as its lines would be shown.
fn shown(text: &str) -> String {
    let (page, known) = page(text);
    let schema = tables(&crate::auth::types());
    (1..=text.lines().count()).map(|n| page.line((n, 1), &schema, &known).0).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn shows(text: &str, expected: &str) {
    assert_eq!(shown(text), expected);
}

#[test]
fn values_are_shown_as_their_keys_declare() {
    shows("limits: { connect: 5x, headers: ten }", "limits: { connect: 5x, headers: ****** }");
    shows("rules: [{ host: a.example, bearer: hunter2 }]", "rules: [{ host: a.example, bearer: ****** }]");
    shows(
        "rules:\n  - host: a\n    tls: { pins: x, min_version: hunter2 }",
        "rules:\n  - host: a\n    tls: { pins: ******, min_version: ****** }",
    );
    shows(
        "listeners:\n  - listen: 127.0.0.1:1\n    access: { same_user: yes }",
        "listeners:\n  - listen: 127.0.0.1:1\n    access: { same_user: yes }",
    );
    shows(
        "credentials:\n  a: { aws_sigv4: { region: eu-west-1, secret_key: top } }",
        "credentials:\n  a: { aws_sigv4: { region: eu-west-1, secret_key: ****** } }",
    );
    shows("rules:\n  - host: a\n    auth: [{ bearer: top }]", "rules:\n  - host: a\n    auth: [{ bearer: ****** }]");
    shows(
        "rules:\n  - host: a\n    client_certificate: [{ pfx: certs/a.p12, passphrase: top }]",
        "rules:\n  - host: a\n    client_certificate: [{ pfx: certs/a.p12, passphrase: ****** }]",
    );
    shows(
        "credentials: { pay: { bearer: x } }\nrules:\n  - host: a\n    auth: pya",
        "credentials: { pay: { bearer: ****** } }\nrules:\n  - host: a\n    auth: pya",
    );
    shows("rules:\n  - host: a\n    auth: Bearer top", "rules:\n  - host: a\n    auth: ******");
    shows("rules:\n  - host: https://user:top@h", "rules:\n  - host: ******");
    shows("upstream_proxy: http://u:p@proxy:3128", "upstream_proxy: ******");
    shows("upstream_proxy: http://proxy:3128", "upstream_proxy: http://proxy:3128");
}

#[test]
fn no_style_of_yaml_shows_what_another_hides() {
    shows(
        r#"{"rules":[{"host":"a.example","bearer":"top","port":443}]}"#,
        r#"{"rules":[{"host":"a.example","bearer":******,"port":443}]}"#,
    );
    shows("rules:\n  - host: a\n    bearer: \"to\n      p: x\"", "rules:\n  - host: a\n    bearer: ******\n      ******");
    shows(
        "rules:\n  - host: a\n    bearer: |\n      top\n      secret\n    port: 1",
        "rules:\n  - host: a\n    bearer: ******\n      ******\n      ******\n    port: 1",
    );
    shows("rules:\n  - host: a\n    bearer: >-\n      top\n", "rules:\n  - host: a\n    bearer: ******\n      ******");
    shows(
        "rules:\n  - host: a\n    bearer: top\n      secret: no\n",
        "rules:\n  - host: ******\n    bearer: ******\n      ******: no",
    );
    shows(
        "rules:\n  - host: a\n    bearer: top\n      secret\n    port: 1",
        "rules:\n  - host: a\n    bearer: ******\n      ******\n    port: 1",
    );
    shows("vars:\n  a: &x top\n  b: *x", "vars:\n  a: &x ******\n  b: *x");
    shows("rules:\n  - host: &h top.example\n    bearer: *h", "rules:\n  - host: &h ******\n    bearer: *h");
    shows("rules:\n  - host: a # bearer: old\n    port: 1", "rules:\n  - host: a # ******\n    port: 1");
    shows("rules:\n  - host: a\n    bearer: !x top", "rules:\n  - host: ******\n    bearer: ****** ******");
    shows("rules:\n  - { host: a, bearer: 'it''s, } top' }", "rules:\n  - { host: a, bearer: ****** }");
    shows("rules:\n  - host: a\n    bearer: \"a\\\"b\"", "rules:\n  - host: a\n    bearer: ******");
    shows(
        "rules:\n  - host: a\n    bearer: 0x1F\n    basic: { password: 12345678 }",
        "rules:\n  - host: a\n    bearer: ******\n    basic: { password: ****** }",
    );
}

#[test]
fn keys_that_are_none_are_not_shown() {
    shows("rules:\n  - host: a\n    basic: { svc: hunter, top }", "rules:\n  - host: a\n    basic: { svc: ******, ****** }");
    shows(
        "listeners:\n  - listen: 1\n    access: { users: { ci: a, Top7x: b } }",
        "listeners:\n  - listen: 1\n    access: { users: { ci: ******, ******: ****** } }",
    );
    shows(
        "rules:\n  - host: a\n    headers: { set: { X-Team: a, 'Bearer top': b } }",
        "rules:\n  - host: a\n    headers: { set: { X-Team: ******, ******: ****** } }",
    );
    shows(
        "rules:\n  - host: a\n    query: { set: [top, api-version] }",
        "rules:\n  - host: a\n    query: { set: [******, ******] }",
    );
    shows("rules:\n  - host: a\n    passwrod: top\n    hots: x", "rules:\n  - host: a\n    passwrod: ******\n    hots: ******");
    shows("rules:\n  - bearer: [top]\n    host: { a: b }", "rules:\n  - bearer: [******]\n    host: { a: ****** }");
    shows("rules:\n  - <<: { bearer: top }\n    host: a", "rules:\n  - <<: { bearer: ****** }\n    host: a");
}

#[test]
fn references_are_shown_and_their_defaults_are_not() {
    shows("rules:\n  - host: a\n    bearer: \"${TOKEN}\"", "rules:\n  - host: a\n    bearer: \"${TOKEN}\"");
    shows("rules:\n  - host: a\n    bearer: ${TOKEN:-top}", "rules:\n  - host: a\n    bearer: ******");
    shows("rules:\n  - host: a\n    bearer: ${A}top${B}", "rules:\n  - host: a\n    bearer: ******");
    shows("rules:\n  - host: a\n    bearer: { env: API_TOKEN }", "rules:\n  - host: a\n    bearer: { env: API_TOKEN }");
    shows("rules:\n  - host: a\n    bearer: { env: ghp_16C7 }", "rules:\n  - host: a\n    bearer: { env: ****** }");
    shows(
        "rules:\n  - host: a\n    bearer: { exec: [curl, top], ttl: 5m }",
        "rules:\n  - host: a\n    bearer: { exec: [curl, ******], ttl: 5m }",
    );
}

#[test]
fn of_what_is_not_yaml_known_words_alone_are_shown() {
    shows("rules:\n  - host: *.corp\n    bearer: top", "rules:\n  - host: ******\n    bearer: ******");
    shows("rules:\n\t- host: a, bearer: top # old", "rules:\n - host: ******, bearer: ****** ******");
}

#[test]
fn the_caret_stays_where_the_mistake_is() {
    let (page, known) = page("{ bearer: abc, colour: red }");
    let at = |line, column| page.line((line, column), &tables(&[]), &known);
    assert_eq!(at(1, 16), ("{ bearer: ******, colour: ****** }".to_owned(), 18));
    assert_eq!(at(1, 11).1, 10);
    assert_eq!(at(1, 28).1, 33);
    assert_eq!(at(2, 1), (String::new(), 0));
}

#[test]
fn messages_hold_nothing_that_is_withheld() {
    let known = Known::new(&tables(&[]));
    let mut withheld = Unspoken::default();
    withheld.add(&Secret::new("LS0tLS1"), "${K}");
    withheld.add(&Secret::new("hunter"), "${F}");
    let clean = |message: &str| withheld.with(["hunter2", "a"].into_iter()).cleaned(message, &known);
    assert_eq!(
        clean("cannot read /home/a/LS0tLS1: there is no such file"),
        "cannot read /home/******/${K}: there is no such file"
    );
    assert_eq!(clean("`hunter2` is not a method"), "`******` is not a method");
    assert_eq!(clean("cannot read /etc/hunter"), "cannot read /etc/${F}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_showing_panic(text in "[\\PC\n]{0,120}", line in 0_usize..9, column in 0_usize..90) {
        let (page, known) = page(&text);
        let _ = page.line((line, column), &tables(&[]), &known);
    }
}
