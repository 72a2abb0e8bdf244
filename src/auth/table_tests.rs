//! What the table of schemes says is what their readers do.

use serde_json::{Map, Value as Json, json};

use super::testing::{build, sign_ready};
use super::writes_tests::{client, examples, private_key};
use super::{Round, SCHEMES, Scheme};
use crate::moment::Moment;
use crate::settings::Shape;

/// Each scheme with settings that it takes, as a map.
fn all() -> Vec<(&'static Scheme, Map<String, Json>)> {
    let key = format!("{:?}", private_key());
    let mut all = Vec::new();
    for scheme in SCHEMES.iter().filter(|scheme| !["none", "negotiate"].contains(&scheme.name)) {
        for settings in examples(scheme.name) {
            let settings: Json = serde_yaml::from_str(&settings.replace("KEY", &key)).unwrap();
            all.extend(settings.as_object().map(|settings| (*scheme, settings.clone())));
        }
    }
    all
}

#[test]
fn every_setting_of_every_type_is_read() {
    let (all, mut unread) = (all(), Vec::new());
    for scheme in SCHEMES.iter().filter(|scheme| !["none", "negotiate", "headers"].contains(&scheme.name)) {
        for (name, shape, ..) in scheme.settings {
            let nonsense = if matches!(shape, Shape::Json | Shape::Fields(_) | Shape::Map(_)) {
                json!(5)
            } else {
                json!({ "non": "sense" })
            };
            let is_told = |settings: &Map<String, Json>| {
                let mut settings = settings.clone();
                settings.insert((*name).to_owned(), nonsense.clone());
                build(scheme, &Json::Object(settings).to_string()).is_err()
            };
            let mut own = all.iter().filter(|(own, _)| own.name == scheme.name);
            if !own.any(|(_, settings)| is_told(settings)) {
                unread.push(format!("{}.{name}", scheme.name));
            }
        }
    }
    assert!(unread.is_empty(), "in the table, and not read: {}", unread.join(", "));
}

#[test]
fn a_setting_that_is_not_in_the_table_is_told_and_nothing_is_made_of_the_rest() {
    for (scheme, mut settings) in all().into_iter().filter(|(scheme, _)| scheme.name != "headers") {
        settings.insert("sprocket".to_owned(), json!("x"));
        let report = build(scheme, &Json::Object(settings).to_string()).err().unwrap_or_default();
        assert!(report.contains("unknown") && report.contains("sprocket"), "{}: {report}", scheme.name);
    }
}

/// A secret as a command that prints it.
fn printed(secret: &mut Json) {
    *secret = json!({ "exec": ["printf", "%s", secret.as_str().unwrap()] });
}

/// Forgetting to wait for one would show only in a configuration where just that one comes from a command.
#[tokio::test]
async fn every_secret_of_every_type_may_come_from_a_command() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for (scheme, settings) in all().into_iter().filter(|(scheme, _)| scheme.name != "oauth2") {
        for name in settings.keys() {
            let row = scheme.settings.iter().find(|(own, ..)| own == name);
            let mut settings = settings.clone();
            let value = settings.get_mut(name).unwrap();
            match row.map(|(_, shape, ..)| shape) {
                Some(Shape::Secret | Shape::Key) => printed(value),
                Some(Shape::Fields(Shape::Secret)) => value.as_object_mut().unwrap().values_mut().for_each(printed),
                None => printed(value),
                _ => continue,
            }
            let told = Json::Object(settings).to_string();
            let authorizer = match build(scheme, &told) {
                Ok(authorizer) => authorizer,
                Err(report) => {
                    wrong.push(report);
                    continue;
                }
            };
            let (moment, mut draft) = (Moment::real(), client(true));
            let round = Round { moment: &moment, attempt: 0, user: None, peer: None, channel_binding: None };
            let signed = sign_ready(&mut *authorizer.begin(), &mut draft, &round).await;
            wrong.extend(signed.err().map(|failure| format!("{} {told}: {failure}", scheme.name)));
            tried += 1;
        }
    }
    assert!(wrong.is_empty() && tried > 30, "{tried}: {}", wrong.join("\n"));
}
