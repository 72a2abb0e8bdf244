//! The schema accepts what runs and knows what is read; and what it names is read.

use std::path::Path;

use gatepass::auth;
use gatepass::config::schema;
use gatepass::config::{Request, load};
use gatepass::settings::Shape;
use serde_json::Value;

/// JSON Schema, as far as ours goes: where an instance does not fit.
fn misfit(root: &Value, of: &Value, value: &Value, at: &str) -> Option<String> {
    let wrong = |why: &str| Some(format!("{at}: {why}"));
    if let Some(name) = of["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not defined"));
        return misfit(root, target, value, at);
    }
    if let Some(any) = of["anyOf"].as_array() {
        let all: Vec<String> = any.iter().map_while(|one| misfit(root, one, value, at)).collect();
        if all.len() == any.len() {
            return wrong(&format!("none of: {}", all.join("; ")));
        }
    }
    if let Some(words) = of["enum"].as_array()
        && !words.iter().any(|word| word == value || word.as_f64().is_some() && word.as_f64() == value.as_f64())
    {
        return wrong("not one of the words");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other} is not known here"),
    };
    match &of["type"] {
        Value::String(kind) if !is(kind) => return wrong(&format!("not of type {kind}")),
        Value::Array(kinds) if !kinds.iter().any(|kind| is(kind.as_str().unwrap())) => return wrong("of another type"),
        _ => {}
    }
    if let (Some(pattern), Some(text)) = (of["pattern"].as_str(), value.as_str()) {
        let fits = match pattern {
            "^[0-9]+$" => !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
            _ => text.contains("${") || text.contains("{{"),
        };
        if !fits {
            return wrong("not of the pattern");
        }
    }
    if let Some(object) = value.as_object() {
        for required in of["required"].as_array().into_iter().flatten() {
            if !object.contains_key(required.as_str().unwrap()) {
                return wrong(&format!("{required} is missing"));
            }
        }
        for (key, value) in object {
            let at = format!("{at}.{key}");
            let found = match (&of["properties"][key], &of["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => Some(format!("{at}: unknown key")),
                (Value::Null, more @ Value::Object(_)) => misfit(root, more, value, &at),
                (Value::Null, _) => None,
                (property, _) => misfit(root, property, value, &at),
            };
            if found.is_some() {
                return found;
            }
        }
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    items.filter(|_| of["items"].is_object()).find_map(|(n, item)| misfit(root, &of["items"], item, &format!("{at}[{n}]")))
}

fn request(yaml: &str) -> Request {
    let env = ["API_TOKEN", "TENANT", "GITHUB_TOKEN"].map(|name| (name.to_owned(), "t0ken".to_owned()));
    Request {
        inline: Some(("gatepass.yaml".to_owned(), yaml.to_owned(), "/nowhere".into())),
        env: env.into(),
        auth_types: auth::types(),
        ..Request::default()
    }
}

fn loads(yaml: &str) -> bool {
    !load(&request(yaml)).report.has_errors()
}

/// The examples of the documents, and the starter.
fn examples() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut found: Vec<(String, String)> =
        ["config.example.yaml", "src/cli/starter.yaml"].iter().map(|name| ((*name).to_owned(), read(&root.join(name)))).collect();
    let mut pages: Vec<_> = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let text = read(page);
        for block in text.split("```yaml\n").skip(1) {
            found.push((page.display().to_string(), block.split("```").next().unwrap().to_owned()));
        }
    }
    found
}

#[test]
fn the_schema_accepts_every_example_that_loads() {
    let root = schema::schema(&auth::types());
    let mut judged = 0;
    for (name, yaml) in examples() {
        if !loads(&yaml) {
            continue;
        }
        let value: Value = serde_yaml::from_str(&yaml).unwrap();
        if value.is_null() {
            continue;
        }
        judged += 1;
        assert_eq!(misfit(&root, &root, &value, ""), None, "{name}:\n{yaml}");
    }
    assert!(judged > 8, "only {judged} examples load");
}

#[test]
fn the_schema_accepts_what_runs_and_refuses_what_does_not() {
    let root = schema::schema(&auth::types());
    let rule = |more: &str| format!("rules: [{{ host: a.example, {more} }}]");
    for yaml in [
        "listen: 8118".to_owned(),
        "listen: unix:/run/g.sock".to_owned(),
        "upstream_proxy: none".to_owned(),
        "upstream_proxy: { url: \"http://proxy:3128\", username: u, password: { env: API_TOKEN } }".to_owned(),
        "vars: { a: 1, b: true, c: x }".to_owned(),
        "limits: { connect: 5, file: 1MiB, headers: 50 }".to_owned(),
        "listeners: { listen: 127.0.0.1:1 }".to_owned(),
        "resolve: { a.example: 127.0.0.1, b.example: [127.0.0.1, \"::1\"] }".to_owned(),
        "profiles: { p: { listen: 1, rules: [{ host: a }] } }".to_owned(),
        rule("tls: { min_version: 1.3, resumption: off }"),
        rule("tls: { min_version: \"1.2\", alpn: h2 }"),
        rule("port: [443, \"8000-8999\"], scheme: any"),
        rule("bearer: ${API_TOKEN}").replace("${API_TOKEN}", "\"${API_TOKEN}\""),
        rule("auth: { bearer: { token: { exec: [echo, x], ttl: 60 }, prefix: T } }"),
        rule("auth: [{ basic: { username: u, password: p } }]"),
        rule("exec: [echo, x]"),
        rule("auth: { headers: { X-A: a, X-B: { env: API_TOKEN } } }"),
        rule("auth: none"),
    ] {
        assert!(loads(&yaml), "{yaml}: {}", load(&request(&yaml)).report.render(false));
        let value: Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(misfit(&root, &root, &value, ""), None, "{yaml}");
    }
    for yaml in [
        "listen: []".to_owned(),
        "unmatched: tunel".to_owned(),
        "rules: { host: a }".to_owned(),
        rule("basic: { usernam: u, password: p }"),
        rule("oauth2: { grant: client_credential, token_url: \"https://a.example\" }"),
        rule("digest: text"),
        rule("auth: { bearer: { exec: x, file: y } }"),
        rule("upstream_proxy: none"),
    ] {
        let value: Value = serde_yaml::from_str(&yaml).unwrap();
        assert!(misfit(&root, &root, &value, "").is_some(), "{yaml}");
    }
}

#[test]
fn every_key_of_the_tables_is_read_and_nonsense_in_it_is_told() {
    let nonsense = "{ zq: [{ zq: [~] }] }";
    let told = |yaml: &str| load(&request(yaml)).report.has_errors();
    for field in schema::TOP {
        // Names to anything, of which a profile is read when it is asked for.
        if field.name != "profiles" {
            assert!(told(&format!("{}: {nonsense}\n", field.name)), "nobody reads {}", field.name);
        }
    }
    for field in schema::RULE {
        let host = if field.name == "host" { "" } else { "host: a.example, path: /x, " };
        assert!(told(&format!("rules: [{{ {host}{}: {nonsense} }}]\n", field.name)), "nobody reads {} of a rule", field.name);
    }
    for field in schema::LISTENER {
        let listen = if field.name == "listen" { "" } else { "listen: 127.0.0.1:1, " };
        assert!(
            told(&format!("listeners: [{{ {listen}{}: {nonsense} }}]\n", field.name)),
            "nobody reads {} of a listener",
            field.name
        );
    }
}

#[tokio::test]
async fn every_setting_of_an_auth_type_is_read_and_nonsense_in_it_is_told() {
    let mut unread = Vec::new();
    for kind in auth::types() {
        if cfg!(not(feature = "negotiate")) && kind.name == "negotiate" || matches!(kind.short, Some(Shape::Fields(_))) {
            continue;
        }
        for (name, shape, ..) in kind.settings {
            // Claims may be anything; some settings are judged only beside those they go with.
            let beside = [("oauth1", "passphrase"), ("akamai_edgegrid", "edgerc"), ("aws_sigv4", "secret_key")];
            if matches!(shape, Shape::Json) || beside.contains(&(kind.name, *name)) {
                continue;
            }
            // What else must be there, so that the reading comes to it; the nonsense stands last, on lines of its own.
            let needed = kind.settings.iter().filter(|(own, _, default, _)| {
                own != name && default.starts_with("required") && !matches!(*own, "private_key" | "edgerc")
            });
            let needed: String = needed.map(|(own, ..)| format!("      {own}: https://x.example/gp-dummy-1\n")).collect();
            let yaml = format!(
                "credentials:\n  a:\n    {}:\n      zq: 1\n{needed}      {name}:\n        zq: [{{ zq: [~] }}]\n",
                kind.name
            );
            let last = yaml.lines().count() as u64 - 1;
            let request = Request { ca_in_memory: true, ..request(&yaml) };
            let report =
                gatepass::serve::build(&request).await.err().unwrap_or_else(|| panic!("nobody reads {name} of {}", kind.name));
            let lines: Vec<u64> = report.json().as_array().unwrap().iter().filter_map(|one| one["line"].as_u64()).collect();
            if !lines.iter().any(|line| *line >= last) {
                unread.push(format!("{name} of {}", kind.name));
            }
        }
    }
    assert_eq!(unread, [""; 0]);
}

/// A page of the repository is what the program prints; where it is not, the first line that differs is told.
fn is_printed(page: &str, printed: &str, command: &str) {
    let file = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let differs = file.lines().map(Some).chain([None]).zip(printed.lines().map(Some).chain([None])).position(|(a, b)| a != b);
    let Some(line) = differs else { return assert_eq!(file.ends_with('\n'), printed.ends_with('\n'), "the end of {page}") };
    panic!("{page} is not what is printed, from line {} on; `cargo run -q -- {command} > {page}` writes it", line + 1);
}

#[test]
fn the_generated_documents_are_what_the_program_prints() {
    let types = auth::types();
    is_printed("docs/config.md", &schema::reference(&types), "schema --format markdown");
    let json = format!("{}\n", serde_json::to_string_pretty(&schema::schema(&types)).unwrap());
    is_printed("docs/config.schema.json", &json, "schema");
}

/// What stands under a heading, up to the next.
fn section(page: &str, heading: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let (_, below) = text.split_once(heading).unwrap_or_else(|| panic!("{page} has no `{heading}`"));
    below.split("\n#").next().unwrap().to_owned()
}

/// The words in back-ticks that could be names of types, sorted.
fn names(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    let mut names: Vec<String> = words
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[test]
fn the_pages_that_list_auth_types_have_every_type_and_only_those() {
    let mut types: Vec<String> = auth::types().iter().map(|kind| kind.name.to_owned()).collect();
    types.sort();
    assert!(types.len() > 15, "{types:?}");
    assert_eq!(names(&section("README.md", "## Authentication types")), types, "README.md");
    let table = section("docs/auth.md", "# Authentication types");
    let first: String = table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).collect();
    // `api_key` is in the row of `bearer`; `headers` and `none` add what is written, and nothing: there is nothing to check.
    types.retain(|name| !matches!(name.as_str(), "api_key" | "headers" | "none"));
    assert_eq!(names(&first), types, "docs/auth.md");
}
