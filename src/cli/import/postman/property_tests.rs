//! Random collections, environments and dumps with a secret of its own at every place where one can stand: none comes
//! out, everything that went in is carried over or named, and what comes out passes the check.
//! `GATEPASS_CASES` says how many, `GATEPASS_SEED` which is the first.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::Imported;
use super::import;
use super::tests::check;

/// SplitMix64: the same everywhere for a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// A case being made: what must not come out, and what must be told of.
struct Case {
    dice: Dice,
    marks: Vec<String>,
    /// One of each of these must be in the file.
    named: Vec<Vec<String>>,
    variables: BTreeMap<String, Value>,
}

const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

impl Case {
    fn random(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(LETTERS[self.dice.below(LETTERS.len())])).collect()
    }

    /// A secret that is one by its place alone.
    fn weak(&mut self) -> String {
        let mark = format!(
            "{}{}",
            self.dice.pick(&["swordfish", "letmein", "Tr0ub4dor", "correct horse ", "äöü-"]),
            10_000 + self.marks.len()
        );
        self.marks.push(mark.clone());
        mark
    }

    /// A secret that is known by its form.
    fn strong(&mut self) -> String {
        let random = self.random(24);
        let mark = match self.dice.below(6) {
            0 => format!("sk_live_{random}"),
            1 => format!("ghp_{random}{random}"),
            2 => format!("eyJhbGciOiJIUzI1NiJ9.eyJ{random}.{random}"),
            3 => (0..32).map(|_| char::from(b"0123456789abcdef"[self.dice.below(16)])).collect::<String>() + "0a1b2c3d4e5f6071",
            4 => format!("{random}9x8Y7z6W=="),
            _ => format!("xoxb-{random}1a2B3c4D"),
        };
        self.marks.push(mark.clone());
        mark
    }

    /// At the place of a secret: as it is, in a variable, or with something before it.
    fn secret(&mut self) -> String {
        match self.dice.below(6) {
            0 => {
                let value = self.weak();
                self.variable(&value, true)
            }
            1 => format!("pre-{}", self.strong()),
            2 => self.strong(),
            3 => String::new(),
            _ => self.weak(),
        }
    }

    /// `{{name}}`, defined somewhere.
    fn variable(&mut self, value: &str, secret: bool) -> String {
        let name = format!("{}{}", self.dice.pick(&["my var ", "v", "apiKey", "HOST", "x-", "näme"]), self.variables.len());
        let kind = if secret { self.dice.pick(&["secret", "default", "string"]) } else { "default" };
        self.variables.insert(name.clone(), json!({ "key": name, "value": value, "type": kind, "enabled": true }));
        format!("{{{{{name}}}}}")
    }

    /// At a harmless place.
    fn plain(&mut self) -> String {
        let odd = [
            "${HOME}",
            "a\nb: c",
            "\"quoted\"",
            "it's",
            "{{",
            "}}",
            "{{unknown}}",
            "",
            "true",
            "12",
            "- x",
            "#",
            "ü\u{85}\u{2028}",
            "\u{7f}",
        ];
        match self.dice.below(5) {
            0 => self.dice.pick(&odd).to_owned(),
            1 => {
                let value = self.dice.pick(&["core", "eu-west-1", "api://x"]);
                self.variable(value, false)
            }
            _ => self.dice.pick(&["core", "eu-west-1", "read write", "https://api.example.com/.default", "shop/k1"]).to_owned(),
        }
    }

    /// A URL with secrets wherever one can stand.
    fn url(&mut self) -> String {
        let user = if self.dice.one_in(4) { format!("svc:{}@", self.weak().replace(' ', "")) } else { String::new() };
        let host = self.dice.pick(&[
            "idp.example.com",
            "bücher.example",
            "127.0.0.1:8080",
            "[::1]:9000",
            "{{unknown}}",
            "b.example.com:8443",
        ]);
        let path = if self.dice.one_in(4) { self.strong().replace(['=', '.'], "") } else { "token".to_owned() };
        let query = match self.dice.below(4) {
            0 => format!("?key={}&v=2", self.weak().replace(' ', "")),
            1 => format!("?v=2&x={}", self.strong()),
            _ => String::new(),
        };
        format!("https://{user}{host}/oauth/{path}{query}")
    }
}

/// Parameters of each type; the second: what can stand there.
const TYPES: &[(&str, &[(&str, &str)])] = &[
    ("basic", &[("username", "user"), ("password", "secret")]),
    ("bearer", &[("token", "secret")]),
    ("apikey", &[("key", "X-Key|api_key|Authorization|a b"), ("value", "secret"), ("in", "header|query|")]),
    ("digest", &[("username", "user"), ("password", "secret"), ("realm", "plain"), ("nonce", "secret"), ("qop", "auth")]),
    ("ntlm", &[("username", "user"), ("password", "secret"), ("domain", "EXAMPLE|plain"), ("workstation", "plain")]),
    (
        "hawk",
        &[
            ("authId", "user"),
            ("authKey", "secret"),
            ("algorithm", "sha256|sha1|md5"),
            ("extraData", "plain"),
            ("user", "plain"),
            ("delegation", "plain"),
            ("app", "plain"),
        ],
    ),
    (
        "jwt",
        &[
            ("algorithm", "HS256|HS512|none|"),
            ("secret", "secret"),
            ("payload", "json"),
            ("header", "json"),
            ("addTokenTo", "header|queryParam"),
            ("queryParamKey", "token|jwt"),
            ("headerPrefix", "Bearer|JWT||plain"),
            ("privateKey", "secret"),
        ],
    ),
    (
        "oauth1",
        &[
            ("consumerKey", "user"),
            ("consumerSecret", "secret"),
            ("token", "secret"),
            ("tokenSecret", "secret"),
            ("signatureMethod", "HMAC-SHA1|HMAC-SHA256|PLAINTEXT|RSA-SHA1|X"),
            ("version", "1.0|"),
            ("realm", "plain"),
            ("callback", "plain"),
            ("verifier", "secret"),
            ("nonce", "secret"),
            ("addParamsToHeader", "true|false"),
            ("includeBodyHash", "true|false"),
        ],
    ),
    (
        "oauth2",
        &[
            (
                "grant_type",
                "client_credentials|password_credentials|authorization_code|authorization_code_with_pkce|implicit|odd|",
            ),
            ("accessTokenUrl", "url"),
            ("authUrl", "url"),
            ("clientId", "user"),
            ("clientSecret", "secret"),
            ("client_authentication", "body|header"),
            ("scope", "plain"),
            ("username", "user"),
            ("password", "secret"),
            ("redirect_uri", "https://a.example.com/cb|http://localhost:1/x|app://x|"),
            ("accessToken", "secret"),
            ("tokenType", "Bearer|MAC|"),
            ("addTokenTo", "header|queryParams"),
            ("headerPrefix", "Bearer||Token"),
            ("tokenRequestParams", "list"),
            ("authRequestParams", "list"),
            ("refreshRequestParams", "list"),
            ("state", "secret"),
            ("audience", "plain"),
        ],
    ),
    (
        "awsv4",
        &[
            ("accessKey", "secret"),
            ("secretKey", "secret"),
            ("sessionToken", "secret"),
            ("region", "plain"),
            ("service", "plain"),
            ("addAuthDataToQuery", "true|false"),
        ],
    ),
    (
        "edgegrid",
        &[
            ("clientToken", "secret"),
            ("clientSecret", "secret"),
            ("accessToken", "secret"),
            ("headersToSign", "X-One, X-Two|"),
            ("maxBodySize", "1024|0|many|"),
            ("baseURL", "url"),
        ],
    ),
    (
        "asap",
        &[
            ("iss", "plain"),
            ("aud", "plain"),
            ("kid", "plain"),
            ("sub", "plain"),
            ("exp", "60|1h|2 hours|soon|"),
            ("privateKey", "secret"),
            ("claims", "json"),
            ("alg", "RS256|ES256|HS1"),
        ],
    ),
    ("kerberos", &[("ticket", "secret")]),
];

impl Case {
    fn value(&mut self, kind: &str) -> Value {
        match kind {
            "secret" => self.secret().into(),
            "user" if self.dice.one_in(2) => self.strong().into(),
            "user" => self.dice.pick(&["svc", "alice@example.com", "EXAMPLE\\svc", "", "a:b"]).into(),
            "plain" => self.plain().into(),
            "url" => self.url().into(),
            "json" => {
                let object = json!({ "sub": self.plain(), "api_key": self.weak(), "note": self.strong(), "roles": ["a", self.strong()], "in": { "secret": self.weak() }, "n": 3 });
                if self.dice.one_in(2) { object } else { object.to_string().into() }
            }
            "list" => json!([
                { "key": "audience", "value": self.plain(), "enabled": true, "send_as": "request_body" },
                { "key": "assertion", "value": self.weak(), "enabled": true, "send_as": self.dice.pick(&["request_body", "request_url", "request_header"]) },
                { "key": "login_token", "value": self.weak(), "enabled": self.dice.one_in(2), "send_as": "request_url" },
            ]),
            words => {
                let word = self.dice.pick(&words.split('|').collect::<Vec<_>>());
                if word == "plain" { self.plain().into() } else { word.into() }
            }
        }
    }

    /// An auth in the shape of v2.1 or v2.0, of the owner's name.
    fn auth(&mut self, owner: &str, list: bool) -> Value {
        let owner = owner.to_ascii_lowercase();
        let (kind, parameters) = self.dice.pick(TYPES);
        let mut settings: Vec<(String, Value)> = Vec::new();
        for (key, kinds) in parameters {
            if !self.dice.one_in(6) {
                settings.push(((*key).to_owned(), self.value(kinds)));
            }
        }
        if self.dice.one_in(4) {
            settings.push(("futureSetting".to_owned(), self.weak().into()));
            self.named.push(vec![
                "`futureSetting`".to_owned(),
                format!("`{owner}` is of the auth type"),
                format!("`{owner}` (oauth2): `tokenType` is MAC"),
            ]);
        }
        self.named.push(vec![format!("  {owner}: {{ "), format!("`{owner}`")]);
        let settings: Value = if list {
            settings.into_iter().map(|(key, value)| json!({ "key": key, "value": value, "type": "any" })).collect()
        } else {
            Value::Object(settings.into_iter().collect::<Map<_, _>>())
        };
        json!({ "type": kind, kind: settings })
    }

    /// A named thing, switched off now and then: its value is a secret by name, or by form, or none.
    fn entries(&mut self, credentials: &[&str], others: &[&str], off: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for _ in 0..self.dice.below(4) {
            let number = self.dice.below(1000);
            let (name, value) = match self.dice.below(3) {
                0 => (self.dice.pick(credentials).to_owned(), self.secret()),
                1 => (format!("{}{number}", self.dice.pick(others)), self.strong()),
                _ => (format!("{}{number}", self.dice.pick(others)), self.dice.pick(&["1", "core", "a, b"]).to_owned()),
            };
            let is_off = self.dice.one_in(5);
            let shown = match name.to_ascii_lowercase().as_str() {
                "cookie" => vec!["cookies: {".to_owned(), "`Cookie`".to_owned(), "Cookie: ".to_owned()],
                "authorization" => vec!["bearer: {".to_owned(), "Authorization".to_owned()],
                _ => vec![name.clone()],
            };
            self.named.push(shown);
            let (flag, on) = if off == "disabled" { ("disabled", is_off) } else { ("enabled", !is_off) };
            all.push(json!({ "key": name, "value": value, flag: on }));
        }
        all
    }

    fn request(&mut self, name: &str, list: bool) -> Value {
        let host = self.dice.pick(&[
            "a.example.com",
            "b.example.com:8443",
            "bücher.example",
            "127.0.0.1",
            "c.example.com",
            "d.example.com",
        ]);
        let scheme = self.dice.pick(&["https", "http", "wss"]);
        let host = if self.dice.one_in(4) { self.variable(host, false) } else { host.to_owned() };
        let user = if self.dice.one_in(8) { format!("svc:{}@", self.weak().replace(' ', "")) } else { String::new() };
        let path = match self.dice.below(4) {
            0 => format!("bot/{}", self.strong().replace(['=', '.'], "")),
            1 => ":id/things".to_owned(),
            2 => "v1/[x]/{y}".to_owned(),
            _ => "v1/things".to_owned(),
        };
        let query = self.entries(&["api_key", "access_token", "sig", "key_token"], &["page", "filter"], "disabled");
        let pair = |entry: &Value| {
            format!("{}={}", entry["key"].as_str().unwrap(), entry["value"].as_str().unwrap().replace([' ', '#', '&'], ""))
        };
        let sent: Vec<String> = query.iter().filter(|entry| entry["disabled"] == false).map(pair).collect();
        let raw = format!("{scheme}://{user}{host}/{path}{}{}", if sent.is_empty() { "" } else { "?" }, sent.join("&"));
        let mut request = json!({ "method": self.dice.pick(&["GET", "POST", "delete"]), "url": { "raw": raw, "query": query } });
        let names =
            ["Authorization", "X-Api-Key", "x-functions-key", "Ocp-Apim-Subscription-Key", "Cookie", "X-Vault-Token", "apikey"];
        request["header"] = self.entries(&names, &["X-Tenant", "X-Trace"], "disabled").into();
        if self.dice.one_in(2) {
            request["auth"] = self.auth(name, list);
        } else if self.dice.one_in(3) {
            request["auth"] = json!({ "type": "noauth" });
        }
        if self.dice.one_in(3) {
            request["body"] = json!({ "mode": "urlencoded", "urlencoded": [{ "key": "client_secret", "value": self.weak() }], "raw": format!("{{\"password\": {}}}", Value::from(self.weak())) });
            self.named.push(vec!["`client_secret`".to_owned()]);
        }
        if self.dice.one_in(6) {
            request["proxy"] = json!({ "match": self.dice.pick(&["http+https://*/*", "http://*/*", "<all_urls>"]), "host": self.dice.pick(&["proxy.example.com", "no host"]), "port": 3128, "username": "svc", "password": self.weak() });
            self.named.push(vec!["via:".to_owned(), "proxy of ".to_owned()]);
        }
        if self.dice.one_in(6) {
            request["certificate"] = json!({ "name": format!("cert {name}"), "matches": [self.dice.pick(&["<all_urls>", "https://*.example.com/*", "http://*/*", "nonsense://x"])], "pfx": { "src": "a.pfx" }, "passphrase": self.weak() });
            self.named.push(vec![
                format!("cert-{}:", name.to_ascii_lowercase()),
                format!("certificate `cert-{}`", name.to_ascii_lowercase()),
            ]);
        }
        request
    }

    fn item(&mut self, name: &str, list: bool) -> Value {
        let mut item = json!({ "name": name, "request": self.request(name, list) });
        if self.dice.one_in(4) {
            item["event"] = json!([{ "listen": "prerequest", "script": { "exec": [self.weak()] } }]);
            self.named.push(vec!["scripts of `".to_owned()]);
        }
        if self.dice.one_in(4) {
            item["request"]["description"] = self.weak().into();
            item["response"] = json!([{ "body": self.weak() }]);
            self.named.push(vec!["descriptions: ".to_owned()]);
            self.named.push(vec!["saved responses of requests: ".to_owned()]);
        }
        item
    }

    fn collection(&mut self, n: usize) -> Value {
        let list = self.dice.one_in(2);
        let mut all = json!({ "info": { "name": format!("Coll{n}") } });
        let mut items = Vec::new();
        for r in 0..1 + self.dice.below(4) {
            let item = self.item(&format!("R{n}x{r}"), list);
            items.push(if self.dice.one_in(3) {
                let mut folder = json!({ "name": format!("F{n}x{r}"), "item": [item] });
                if self.dice.one_in(4) {
                    folder["auth"] = json!({ "type": "bearer", "bearer": { "token": self.weak() } });
                }
                folder
            } else {
                item
            });
        }
        all["item"] = items.into();
        all
    }

    /// Variables spread over a collection, an environment and globals.
    fn documents(&mut self) -> Vec<Value> {
        let mut collections: Vec<Value> = (0..1 + self.dice.below(2)).map(|n| self.collection(n)).collect();
        let (mut own, mut environment, mut globals) = (Vec::new(), Vec::new(), Vec::new());
        for variable in std::mem::take(&mut self.variables).into_values() {
            match self.dice.below(3) {
                0 => own.push(variable),
                1 => environment.push(variable),
                _ => globals.push(variable),
            }
        }
        environment.push(json!({ "key": "unused", "value": self.weak(), "enabled": self.dice.one_in(2) }));
        for collection in &mut collections {
            collection["variable"] = own.clone().into();
        }
        let environment = json!({ "name": "Env", "values": environment, "_postman_variable_scope": "environment" });
        if self.dice.one_in(3) {
            return vec![json!({ "version": 1, "collections": collections, "environments": [environment], "globals": globals })];
        }
        collections.push(environment);
        collections.push(json!({ "name": "Globals", "values": globals, "_postman_variable_scope": "globals" }));
        collections
    }
}

fn judge(case: &Case, imported: &Imported) -> Result<(), String> {
    let told = format!("{}\n{:?}\n{}", imported.yaml, imported.wanted, imported.notes.join("\n"));
    for mark in &case.marks {
        // As it stands, and as URLs and quotes have it.
        let spelt =
            [mark.clone(), mark.replace(' ', ""), mark.replace(['=', '.'], ""), format!("{mark:?}").trim_matches('"').to_owned()];
        if let Some(found) = spelt.iter().find(|spelt| told.contains(spelt.as_str())) {
            return Err(format!("the secret {found} was copied"));
        }
    }
    for any in &case.named {
        if !any.iter().any(|name| told.contains(name.as_str())) {
            return Err(format!("none of {any:?} is carried over or named"));
        }
    }
    Ok(())
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how many cases are tried is a matter of this test alone")]
async fn random_exports_give_nothing_away_lose_nothing_and_pass_the_check() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (first, cases) = (number("GATEPASS_SEED", 1), number("GATEPASS_CASES", 200));
    let mut wrong = Vec::new();
    for seed in first..first + cases {
        let mut case = Case { dice: Dice(seed), marks: Vec::new(), named: Vec::new(), variables: BTreeMap::new() };
        let documents = case.documents();
        let named: Vec<_> = documents.iter().enumerate().map(|(n, document)| (format!("{n}.json"), document.clone())).collect();
        let imported = import(&named).await.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let verdict = match judge(&case, &imported) {
            Ok(()) => check(&imported).await,
            wrong => wrong,
        };
        let Err(why) = verdict else { continue };
        if cases == 1 {
            println!("{}\n{}", serde_json::to_string_pretty(&documents).unwrap(), imported.yaml);
        }
        wrong.push(format!("GATEPASS_SEED={seed} GATEPASS_CASES=1: {why}"));
    }
    assert!(wrong.is_empty(), "{} of {cases} are wrong; the first:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}
