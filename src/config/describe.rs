//! The JSON Schema of the configuration and its reference, from the tables.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::schema::*;
use crate::auth::AuthType;
use crate::limits::Limits;
use crate::settings::Shape;
use crate::settings::shape::SECRET;
use crate::tls::settings::{BUNDLE, CERTIFICATE, SPIFFE};

/// Blocks that stand in several places, by the name of their definition.
const SHARED: [(&str, &[Field]); 3] = [("certificate", CERTIFICATE), ("bundle", BUNDLE), ("proxy", PROXY)];

/// The JSON Schema (draft 2020-12) of a configuration file. It accepts whatever the program reads; a text with `${…}` may
/// stand for any word or number.
pub fn schema(auth: &[AuthType]) -> Value {
    let mut root = block(TOP);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("gatepass configuration");
    let mut definitions = Map::new();
    definitions.insert("reference".to_owned(), json!({ "type": "string", "pattern": "\\$\\{|\\{\\{" }));
    definitions.insert("secret".to_owned(), secret());
    for (name, fields) in SHARED {
        definitions.insert(name.to_owned(), block(fields));
    }
    for kind in auth {
        definitions.insert(format!("auth_{}", kind.name), auth_type(kind));
    }
    definitions.insert("credential".to_owned(), credential(auth));
    definitions.insert("rule".to_owned(), rule(auth));
    root["$defs"] = Value::Object(definitions);
    root
}

/// A text, or exactly one of the forms.
fn secret() -> Value {
    let form = |name: &str, more: &[&str]| {
        let all = SECRET.iter().filter(|field| field.name == name || more.contains(&field.name));
        let properties: Map<String, Value> = all.map(|field| (field.name.to_owned(), described(field))).collect();
        json!({ "type": "object", "properties": properties, "required": [name], "additionalProperties": false })
    };
    let forms = [form("env", &[]), form("file", &[]), form("exec", &["ttl", "timeout", "format", "field"])];
    json!({ "anyOf": [{ "type": "string" }, forms[0], forms[1], forms[2], form("keyring", &["ttl", "timeout"])] })
}

fn auth_type(kind: &AuthType) -> Value {
    let properties: Map<String, Value> = kind
        .settings
        .iter()
        .map(|(name, of, default, doc)| {
            let mut value = shape(*of);
            value["description"] =
                json!(if default.is_empty() { (*doc).to_owned() } else { format!("{doc} (default: {default})") });
            ((*name).to_owned(), value)
        })
        .collect();
    let settings = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    // A map of names is the type's only form: what its table has is no key but what a key is called.
    let mut value = match kind.short {
        Some(Shape::Json) => json!({}),
        Some(short @ Shape::Fields(_)) => shape(short),
        Some(short) => json!({ "anyOf": [shape(short), settings] }),
        None => settings,
    };
    value["description"] = json!(kind.doc);
    value
}

fn type_reference(kind: &AuthType) -> Value {
    json!({ "$ref": format!("#/$defs/auth_{}", kind.name) })
}

fn credential(auth: &[AuthType]) -> Value {
    let properties: Map<String, Value> = auth.iter().map(|kind| (kind.name.to_owned(), type_reference(kind))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1, "maxProperties": 1 })
}

fn rule(auth: &[AuthType]) -> Value {
    let mut rule = block(RULE);
    for kind in auth.iter().filter(|kind| !RULE.iter().any(|field| field.name == kind.name)) {
        rule["properties"][kind.name] = type_reference(kind);
    }
    rule["required"] = json!(["host"]);
    rule
}

fn described(field: &Field) -> Value {
    let mut value = shape(field.shape);
    value["description"] = json!(field.doc);
    value
}

fn block(fields: &'static [Field]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), described(field))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn shape(of: Shape) -> Value {
    let reference = json!({ "$ref": "#/$defs/reference" });
    match of {
        Shape::Secret | Shape::Key => json!({ "$ref": "#/$defs/secret" }),
        Shape::Bool => json!({ "enum": [true, false, "yes", "no", "on", "off"] }),
        Shape::Number => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+$" }, reference] })
        }
        Shape::Time | Shape::Size | Shape::Listen | Shape::Port => json!({ "type": ["string", "integer"] }),
        Shape::Words(words) => {
            let numbers = words.iter().filter_map(|word| word.parse::<f64>().ok()).map(Value::from);
            let all: Vec<Value> = words.iter().map(|word| json!(word)).chain(numbers).collect();
            json!({ "anyOf": [{ "enum": all }, reference] })
        }
        Shape::Many(one) => json!({ "anyOf": [shape(*one), { "type": "array", "items": shape(*one) }] }),
        Shape::List(one) => json!({ "type": "array", "items": shape(*one) }),
        Shape::Command => shape(Shape::Many(&Shape::Text)),
        Shape::Block(fields) => match SHARED.iter().find(|(_, own)| same(own, fields)) {
            Some((name, _)) => json!({ "$ref": format!("#/$defs/{name}") }),
            None => block(fields),
        },
        // A variable is a text to who uses it, however YAML reads it where it is defined.
        Shape::Names(Shape::Text) => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        Shape::Names(one) | Shape::Fields(one) | Shape::Map(one) => {
            json!({ "type": "object", "additionalProperties": shape(*one) })
        }
        Shape::OneOf(shapes) => json!({ "anyOf": shapes.iter().map(|one| shape(*one)).collect::<Vec<_>>() }),
        Shape::Defined("configuration") => json!({ "$ref": "#" }),
        Shape::Defined("limits") => limits(),
        Shape::Defined(name) => json!({ "$ref": format!("#/$defs/{name}") }),
        Shape::Json => json!({}),
        Shape::Text
        | Shape::Plain
        | Shape::Field
        | Shape::Name
        | Shape::Variable
        | Shape::Host
        | Shape::Url
        | Shape::UrlPath
        | Shape::File
        | Shape::Pem
        | Shape::Certificate
        | Shape::TokenUri
        | Shape::Argument
        | Shape::Pin => json!({ "type": "string" }),
    }
}

fn same(a: &[Field], b: &[Field]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name)
}

fn limits() -> Value {
    let row = |(name, _, default, why): (&str, _, String, String)| {
        (name.to_owned(), json!({ "type": ["string", "integer"], "description": why, "default": default }))
    };
    let properties: Map<String, Value> = Limits::table().into_iter().map(row).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// `docs/config.md`: every key, from the same tables.
pub fn reference(auth: &[AuthType]) -> String {
    let mut text = String::from(
        "# Configuration reference\n\nGenerated by `gatepass schema --format markdown`; the tour with examples is `config.example.yaml`.\n\nA SECRET is a text, in which `${NAME}` is a variable or environment variable, `${NAME:-default}`, `${NAME:?message}`, `${file:PATH}`, `{{name}}` and `$${` (a plain `${`) are understood; of what a variable holds, line breaks at the end are cut; or one of `{ env: NAME }`, `{ file: PATH }`, `{ exec: [PROGRAM, ARGUMENT], ttl: 10m, timeout: 10s, format: json, field: .token }`, `{ keyring: SERVICE/USER }` (an entry of the system's keyring, read by `secret-tool`, on macOS by `security`).\n",
    );
    let blocks: [(&str, &'static [Field]); 16] = [
        ("Top level", TOP),
        ("listeners", LISTENER),
        ("listeners: tls", LISTENER_TLS),
        ("listeners: access", ACCESS),
        ("client_certificates", CERTIFICATE),
        ("client_certificates, ca_bundles: spiffe", SPIFFE),
        ("ca_bundles", BUNDLE),
        ("rules", RULE),
        ("rules: headers, query", HEADERS),
        ("rules: tls", TLS),
        ("rules: danger", DANGER),
        ("upstream_proxy, via", PROXY),
        ("ca", CA),
        ("admin", ADMIN),
        ("log", LOG),
        ("egress", EGRESS),
    ];
    for (title, fields) in blocks {
        let _ = write!(text, "\n## {title}\n\n| key | meaning |\n|---|---|\n");
        for field in fields {
            let _ = writeln!(text, "| `{}` | {} |", field.name, field.doc.replace('|', "\\|"));
        }
    }
    text.push_str("\n## limits\n\n| key | default | why |\n|---|---|---|\n");
    for (name, _, default, why) in Limits::table() {
        let _ = writeln!(text, "| `{name}` | {default} | {why} |");
    }
    text.push_str("\n## Authentication types\n\nIn `credentials: { NAME: { TYPE: settings } }`, in a rule's `auth:`, or directly in a rule.\n");
    for kind in auth {
        let _ = write!(text, "\n### {}\n\n{}\n", kind.name, kind.doc);
        if !kind.settings.is_empty() {
            text.push_str("\n| setting | default | meaning |\n|---|---|---|\n");
            for (name, _, default, doc) in kind.settings {
                let _ = writeln!(text, "| `{name}` | {default} | {doc} |");
            }
        }
    }
    text
}
