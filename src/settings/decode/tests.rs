//! Values that come from variables: how they are read, and that they are in no message.

use std::collections::BTreeMap;

use super::*;
use crate::settings::shape::{Schema, Shape};
use crate::settings::yaml;

const PEM: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----\n";

/// What `key_text` makes of a setting, with `K` set; and the report.
fn key(setting: &str, k: &str) -> (Option<Secret>, String) {
    let mut report = Report::of(Schema::of(Shape::Key));
    let file = report.add_file("test.yaml".into(), setting.to_owned());
    let node = yaml::parse(setting, file).ok().unwrap().root;
    let env = BTreeMap::from([("K".to_owned(), k.to_owned())]);
    let scope = Scope { env, bases: vec!["/nowhere".into()], bound: 1 << 20, output: 1 << 20, ..Scope::default() };
    let secret = Decode::new(&mut report, &scope).key_text(&node);
    (secret, report.render(false) + &report.json().to_string())
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

#[test]
fn a_key_in_a_variable_is_taken_in_every_spelling_that_people_have_of_it() {
    for spelling in [PEM.to_owned(), PEM.replace('\n', "\\n"), base64(PEM), format!("{}\n", base64(PEM))] {
        let (secret, report) = key("\"${K}\"", &spelling);
        assert_eq!(secret.map(|secret| secret.expose().trim().to_owned()).as_deref(), Some(PEM.trim()), "{spelling}: {report}");
        let (secret, report) = key("{ env: K }", &spelling);
        assert!(secret.is_some(), "{spelling}: {report}");
    }
    // What is a JSON object, PEM may stand in.
    let jwk = format!("{{\"kty\":\"OKP\",\"pem\":\"{}\"}}", PEM.replace('\n', "\\n"));
    assert_eq!(key("\"${K}\"", &jwk).0.unwrap().expose(), jwk);
}

#[test]
fn a_key_that_is_none_is_called_by_its_variable() {
    let der = base64("\u{30}\u{2e}top secret and more of it, and more of it again, as DER of a key would be");
    for (k, said) in [
        (der.as_str(), "what `${K}` holds is neither PEM or a JWK nor the path of a file"),
        ("line one\nline two", "what `${K}` holds is neither"),
        ("t0pS3cret", "cannot read /nowhere/${K}: there is no such file"),
        ("", "this value is not a private key"),
    ] {
        let (secret, report) = key("\"${K}\"", k);
        let said = if k.is_empty() { "holds is not a private key" } else { said };
        assert!(secret.is_none() && report.contains(said), "{k}: {report}");
        assert!(k.is_empty() || !report.contains(k), "{k}: {report}");
    }
    let (secret, report) = key("{ env: K }", "t0pS3cret");
    assert!(secret.is_none() && report.contains("what `${K}` holds is not a private key"), "{report}");
    let (secret, report) = key("{ file: \"${K}\" }", &der);
    assert!(
        secret.is_none() && report.contains("what `${K}` holds is not the path of a file") && !report.contains(&der),
        "{report}"
    );
    let (secret, report) = key(&der, "");
    assert!(secret.is_none() && !report.contains(&der), "{report}");
    // And a path is a path.
    let (_, report) = key("keys/${K}.pem", "billing");
    assert!(report.contains("cannot read /nowhere/keys/${K}.pem"), "{report}");
}

#[test]
fn the_line_break_that_a_shell_left_is_no_part_of_a_secret() {
    for setting in ["\"${K}\"", "{ env: K }", "\"${K:-x}\"", "\"${K:?x}\""] {
        let mut report = Report::default();
        let file = report.add_file("test.yaml".into(), setting.to_owned());
        let node = yaml::parse(setting, file).ok().unwrap().root;
        let env = BTreeMap::from([("K".to_owned(), "tok\r\n".to_owned())]);
        let scope = Scope { env, bases: vec!["/nowhere".into()], bound: 1 << 20, output: 1 << 20, ..Scope::default() };
        let text = Decode::new(&mut report, &scope).text(&node);
        assert!(matches!(text, Some(Text::Known(secret)) if secret.expose() == "tok"), "{setting}");
    }
}

#[test]
fn what_stands_in_place_of_a_name_is_not_repeated() {
    let (_, report) = key("{ env: ghp_t0pS3cret }", "");
    assert!(report.contains("the name of the variable that holds the value") && !report.contains("t0p"), "{report}");
    let (_, report) = key("{ env: NOT_THERE }", "");
    assert!(report.contains("`NOT_THERE` is not set"), "{report}");
    // A default as shells write it.
    let (_, report) = key("\"${NOT_THERE-hunter}\"", "");
    assert!(report.contains("write `${NOT_THERE:-DEFAULT}`") && !report.contains("hunter"), "{report}");
}

#[test]
fn braces_too_many_and_references_within_names_are_told_as_what_they_are() {
    for (setting, said) in [
        ("\"{{{tenant}}}\"", "two braces on either side are enough: `{{tenant}}`"),
        ("\"{{ {tenant} }}\"", "two braces on either side are enough: `{{tenant}}`"),
        ("\"{{a{{n}}}}\"", "there is no reference within a name"),
        ("\"{{tenant}}\"", "define it under `vars:`"),
    ] {
        let (_, report) = key(setting, "");
        assert!(report.contains(said), "{setting}: {report}");
    }
}
