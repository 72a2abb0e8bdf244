//! The settings of `oauth2`, read and checked. Two that are equal share their tokens, also across a reload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::SCHEME;
use super::fields::{OF_GRANTS, SECRETS};
use super::grant::Grant;
use crate::auth::jose::{Algorithm, Key, Signer};
use crate::auth::{BuildCx, scheme_fields};
use crate::origin::{Host, Scheme};
use crate::secret::Secret;
use crate::settings::{Command, Decode, Fields, Node, Place, Text, Value as Written};
use crate::tls::out::identity::Identity;
use crate::tls::out::trust::Trust;
use crate::upstream::fetch::Url;

/// How the client says who it is at the token endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientAuth {
    /// RFC 6749 §2.3.1: form-encoded, then Base64.
    Basic,
    /// As some servers want it: not form-encoded.
    BasicRaw,
    Post,
    /// RFC 7523 §2.2, with a key pair.
    PrivateKeyJwt,
    /// RFC 7523 §2.2, with the client secret.
    ClientSecretJwt,
    /// RFC 8705 §2.
    TlsClientAuth,
    None,
}

const CLIENT_AUTH: [(&str, ClientAuth); 7] = [
    ("basic", ClientAuth::Basic),
    ("basic_raw", ClientAuth::BasicRaw),
    ("post", ClientAuth::Post),
    ("private_key_jwt", ClientAuth::PrivateKeyJwt),
    ("client_secret_jwt", ClientAuth::ClientSecretJwt),
    ("tls_client_auth", ClientAuth::TlsClientAuth),
    ("none", ClientAuth::None),
];

/// Where a person's browser comes back to (RFC 8252 §7.3).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Redirect {
    pub host: Host,
    /// `None`: any free one.
    pub port: Option<u16>,
    pub path: String,
    /// As registered, where that is not on this machine: the person brings the address back.
    pub elsewhere: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Claim {
    Absent,
    /// JSON.
    Plain(String),
    Secret(Text),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    pub grant: Grant,
    /// For messages; `None` for one written in a rule.
    pub name: Option<String>,
    /// `None`: the issuer says it.
    pub token_url: Option<Url>,
    pub auth_url: Option<Url>,
    pub device_url: Option<Url>,
    pub revocation_url: Option<Url>,
    pub issuer: Option<String>,
    pub client_auth: ClientAuth,
    /// Those of `SECRETS` that are given.
    pub secrets: BTreeMap<&'static str, Text>,
    pub scopes: Option<String>,
    pub audience: Vec<String>,
    pub resource: Vec<String>,
    /// `subject_token_type` and its kin.
    pub types: BTreeMap<&'static str, String>,
    pub token_params: Vec<(String, Text)>,
    pub auth_params: Vec<(String, String)>,
    pub private_key: Option<Secret>,
    pub passphrase: Option<Secret>,
    pub key_id: Option<String>,
    pub algorithm: Option<&'static str>,
    pub assertion_audience: Option<String>,
    pub claims: Vec<(String, Claim)>,
    pub redirect: Redirect,
    /// The ID token is what is used.
    pub id_token: bool,
    pub in_query: bool,
    pub prefix: String,
    pub dpop: bool,
    pub dpop_key: Option<Secret>,
    pub identity: Option<Arc<Identity>>,
    pub trust: Option<Arc<Trust>>,
    /// Where its tokens are kept, for grants that cannot be had again without a person.
    pub file: Option<PathBuf>,
}

impl Settings {
    pub fn read(node: &Node, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<Self> {
        let fields = scheme_fields(node, decode, &SCHEME)?;
        let grant = fields.get("grant").map_or(Some(Grant::ClientCredentials), |n| decode.choice(n, "grant", &Grant::WORDS))?;
        let before = decode.report.errors();
        check_grant(&fields, decode, grant, cx.name);
        let token_url = url(&fields, decode, "token_url");
        let (auth_url, device_url) = (url(&fields, decode, "auth_url"), url(&fields, decode, "device_url"));
        let revocation_url = url(&fields, decode, "revocation_url");
        if token_url.is_none() {
            url(&fields, decode, "issuer");
        }
        let secrets = secrets(&fields, decode);
        let private_key = fields.get("private_key").and_then(|node| decode.key_text(node));
        let passphrase = fields.get("passphrase").and_then(|node| known(decode, node));
        let dpop_key = fields.get("dpop_key").and_then(|node| decode.key_text(node));
        let client_auth = client_auth(&fields, decode, grant);
        let text = |name: &str, decode: &mut Decode<'_>| fields.get(name).and_then(|node| decode.string(node));
        let algorithm = fields.get("algorithm").and_then(|node| decode.choice(node, "algorithm", &Algorithm::ALL));
        let words = [("header", false), ("query", true)];
        let mut own = Self {
            grant,
            name: cx.name.map(str::to_owned),
            auth_url,
            device_url,
            revocation_url,
            issuer: text("issuer", decode),
            client_auth: client_auth?,
            secrets,
            scopes: list(&fields, decode, "scopes").map(|scopes| scopes.join(" ")),
            audience: list(&fields, decode, "audience").unwrap_or_default(),
            resource: list(&fields, decode, "resource").unwrap_or_default(),
            types: TYPES.iter().filter_map(|name| Some((*name, text(name, decode)?))).collect(),
            token_params: params(&fields, decode, "token_params"),
            auth_params: plain_params(&fields, decode, "auth_params"),
            private_key,
            passphrase,
            key_id: text("key_id", decode),
            algorithm: algorithm.map(Algorithm::name),
            assertion_audience: text("assertion_audience", decode),
            claims: fields.get("claims").and_then(|node| claims(node, decode)).unwrap_or_default(),
            redirect: redirect(&fields, decode),
            id_token: fields.get("token").and_then(|node| decode.choice(node, "token", &TOKENS)).unwrap_or(false),
            in_query: fields.get("in").and_then(|node| decode.choice(node, "place for a token", &words)).unwrap_or(false),
            prefix: text("prefix", decode).unwrap_or_else(|| "Bearer".to_owned()),
            dpop: fields.get("dpop").and_then(|node| decode.boolean(node)).unwrap_or(dpop_key.is_some()),
            dpop_key,
            identity: fields.get("client_certificate").and_then(|node| cx.identity(node, decode)),
            trust: fields.get("ca_bundle").and_then(|node| cx.trust(node, decode)),
            token_url,
            file: None,
        };
        own.check_keys(&fields, decode);
        if decode.report.errors() > before {
            return None;
        }
        if grant.is_sign_in() || grant == Grant::RefreshToken {
            own.file = Some(cx.state.join("tokens").join(own.file_name()));
        }
        Some(own)
    }

    /// What a credential is called in messages.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| "the oauth2 credential of this rule".to_owned(), |name| format!("credential `{name}`"))
    }

    /// The key of assertions, by the client's own or by its secret.
    pub fn signer(&self, secret: Option<&Secret>) -> Result<Signer, crate::auth::jose::Refused> {
        let key = match (self.client_auth, &self.private_key, secret) {
            (ClientAuth::ClientSecretJwt, None, Some(secret)) => Key::secret(secret.expose().as_bytes()),
            (_, Some(text), _) => Key::read(text.expose(), self.passphrase.as_ref())?,
            _ => Key::read("", None)?,
        };
        Signer::new(key, self.algorithm.and_then(Algorithm::named))
    }

    fn check_keys(&self, fields: &Fields<'_>, decode: &mut Decode<'_>) {
        let mut judge = |key: Result<Signer, crate::auth::jose::Refused>, name: &str| {
            let place = fields.get(name).map_or(fields.place, |node| node.place);
            match key {
                Err(refused) => {
                    decode.report.error("private-key", place, refused.message).help(refused.help);
                }
                Ok(signer) if signer.key().public_jwk().is_none() => {
                    decode.report.error("private-key", place, "this is a shared secret, not a private key");
                }
                Ok(_) => {}
            }
        };
        if self.private_key.is_some() && self.client_auth != ClientAuth::ClientSecretJwt {
            judge(self.signer(None), "private_key");
        }
        if let Some(text) = &self.dpop_key {
            judge(Key::read(text.expose(), None).and_then(|key| Signer::new(key, None)), "dpop_key");
        }
    }

    /// The credential's name, and a hash of what makes its tokens other tokens. Not of secrets, which may be
    /// renewed, but for a configured refresh token, which begins a chain of its own.
    fn file_name(&self) -> String {
        let text = |text: &Text| match text {
            Text::Known(secret) => secret.expose().to_owned(),
            Text::Command(command) => command.argv.join("\0"),
        };
        let client = self.secrets.get("client_id").map(&text);
        let begun = self.secrets.get("refresh_token").map(&text);
        let urls = [self.token_url.as_ref(), self.auth_url.as_ref(), self.device_url.as_ref()].map(|url| url.map(Url::to_string));
        let params: Vec<_> =
            self.token_params.iter().map(|(name, _)| name).chain(self.auth_params.iter().map(|p| &p.1)).collect();
        let mut all = serde_json::json!([
            self.grant.word(),
            urls,
            client,
            begun,
            self.scopes,
            self.audience,
            self.resource,
            params,
            self.dpop
        ]);
        if let Some(all) = all.as_array_mut() {
            all.extend(self.id_token.then(|| "id_token".into()));
            all.extend(self.issuer.as_deref().filter(|_| self.token_url.is_none()).map(Into::into));
        }
        let hash = digest(&SHA256, all.to_string().as_bytes());
        let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let name: String = self.name.as_deref().unwrap_or("rule").chars().take(40).collect();
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'), "_");
        format!("{name}-{hash}.json")
    }
}

const TOKENS: [(&str, bool); 2] = [("access_token", false), ("id_token", true)];

const TYPES: [&str; 3] = ["subject_token_type", "actor_token_type", "requested_token_type"];

/// What the grant needs, and what has no use with it.
fn check_grant(fields: &Fields<'_>, decode: &mut Decode<'_>, grant: Grant, name: Option<&str>) {
    let needed: &[&str] = match grant {
        Grant::ClientCredentials => &["token_url", "client_id"],
        Grant::Password => &["token_url", "username", "password"],
        Grant::AuthorizationCode => &["token_url", "auth_url", "client_id"],
        Grant::DeviceCode => &["token_url", "device_url", "client_id"],
        Grant::RefreshToken => &["token_url", "refresh_token"],
        Grant::JwtBearer => &["token_url"],
        Grant::TokenExchange => &["token_url", "subject_token"],
    };
    // Its issuer says where they are.
    let discovered = fields.get("issuer").is_some() && fields.get("token_url").is_none();
    for key in needed.iter().filter(|key| !discovered || !key.ends_with("_url")) {
        decode.required(fields, &format!("oauth2 with grant {}", grant.word()), key);
    }
    if grant == Grant::JwtBearer && fields.get("assertion").is_none() && fields.get("private_key").is_none() {
        decode
            .report
            .error("missing-key", fields.place, "oauth2 with grant jwt_bearer has no assertion")
            .help("add `assertion: SECRET`, or `private_key: FILE` to have one signed");
    }
    for (key, grants) in OF_GRANTS {
        if let Some(node) = fields.get(key)
            && !grants.contains(&grant)
        {
            let message = format!("`{key}` has no use with grant {}", grant.word());
            let fit: Vec<&str> = grants.iter().map(|grant| grant.word()).collect();
            decode.report.error("no-use", node.place, message).help(format!("it belongs to grant {}", fit.join(", ")));
        }
    }
    if grant.is_sign_in() && name.is_none() {
        decode
            .report
            .error("no-name", fields.place, "a credential that a person signs in for needs a name")
            .help("define it under `credentials`, and name it in the rule; then `gatepass login NAME` signs in");
    }
}

fn client_auth(fields: &Fields<'_>, decode: &mut Decode<'_>, grant: Grant) -> Option<ClientAuth> {
    let has = |name: &str| fields.get(name).is_some();
    let said = match fields.get("client_auth") {
        Some(node) => decode.choice(node, "client_auth", &CLIENT_AUTH)?,
        None if has("client_secret") => ClientAuth::Basic,
        None if has("private_key") && grant != Grant::JwtBearer => ClientAuth::PrivateKeyJwt,
        None => ClientAuth::None,
    };
    let needed: &[&str] = match said {
        ClientAuth::Basic | ClientAuth::BasicRaw | ClientAuth::Post | ClientAuth::ClientSecretJwt => {
            &["client_id", "client_secret"]
        }
        ClientAuth::PrivateKeyJwt => &["client_id", "private_key"],
        ClientAuth::TlsClientAuth => &["client_id", "client_certificate"],
        ClientAuth::None => &[],
    };
    for key in needed {
        decode.required(fields, "this client_auth", key);
    }
    Some(said)
}

/// A secret in clear on the way to the token endpoint is worth a warning, but for this machine's own.
fn url(fields: &Fields<'_>, decode: &mut Decode<'_>, key: &str) -> Option<Url> {
    let node = fields.get(key)?;
    let text = decode.string(node)?;
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(why) => {
            decode.report.error("wrong-url", node.place, format!("`{key}` is not a URL: {why}"));
            return None;
        }
    };
    let local = match &url.origin.host {
        Host::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        Host::Ip(ip) => ip.is_loopback(),
    };
    if url.origin.scheme == Scheme::Http && !local {
        decode
            .report
            .warning("plain-http", node.place, format!("`{key}` is plain http: secrets and tokens are readable on the way"))
            .help("use https (RFC 6749 section 3.2)");
    }
    Some(url)
}

fn secrets(fields: &Fields<'_>, decode: &mut Decode<'_>) -> BTreeMap<&'static str, Text> {
    let mut found = BTreeMap::new();
    for name in SECRETS {
        let Some(node) = fields.get(name) else { continue };
        let Some(text) = decode.text(node) else { continue };
        if matches!(&text, Text::Known(secret) if secret.is_empty()) {
            let help = "check the variable or file that it comes from";
            decode.report.error("empty-secret", node.place, format!("`{name}` is empty")).help(help);
        }
        found.insert(name, placeless(text));
    }
    found
}

/// Where a command stands in the file does not make it another one.
fn placeless(text: Text) -> Text {
    match text {
        Text::Command(command) => Text::Command(Arc::new(Command { place: Place::default(), ..(*command).clone() })),
        known => known,
    }
}

fn known(decode: &mut Decode<'_>, node: &Node) -> Option<Secret> {
    match decode.text(node)? {
        Text::Known(secret) => Some(secret),
        Text::Command(_) => {
            decode.report.error("secret-form", node.place, "a passphrase comes from a file or a text here, not from a command");
            None
        }
    }
}

/// A list, or one text with spaces between.
fn list(fields: &Fields<'_>, decode: &mut Decode<'_>, key: &str) -> Option<Vec<String>> {
    let texts = decode.strings(fields.get(key)?)?;
    Some(texts.iter().flat_map(|(text, _)| text.split_whitespace()).map(str::to_owned).collect())
}

fn params(fields: &Fields<'_>, decode: &mut Decode<'_>, key: &str) -> Vec<(String, Text)> {
    let entries = fields.get(key).and_then(|node| decode.map(node, &format!("`{key}`"))).unwrap_or_default();
    entries.iter().filter_map(|(name, node)| Some((name.text.clone(), placeless(decode.text(node)?)))).collect()
}

fn plain_params(fields: &Fields<'_>, decode: &mut Decode<'_>, key: &str) -> Vec<(String, String)> {
    let entries = fields.get(key).and_then(|node| decode.map(node, &format!("`{key}`"))).unwrap_or_default();
    entries.iter().filter_map(|(name, node)| Some((name.text.clone(), decode.string(node)?))).collect()
}

fn claims(node: &Node, decode: &mut Decode<'_>) -> Option<Vec<(String, Claim)>> {
    let entries = decode.map(node, "`claims`")?;
    let mut claims = Vec::new();
    for (key, node) in entries {
        let claim = match &node.value {
            Written::Null => Claim::Absent,
            Written::Bool(value) => Claim::Plain(value.to_string()),
            Written::Number(text) => Claim::Plain(text.clone()),
            _ => Claim::Secret(placeless(decode.text(node)?)),
        };
        claims.push((key.text.clone(), claim));
    }
    Some(claims)
}

fn redirect(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Redirect {
    let host = || Host::Ip([127, 0, 0, 1].into());
    let default = || Redirect { host: host(), port: None, path: "/callback".to_owned(), elsewhere: None };
    let Some(node) = fields.get("redirect_uri") else { return default() };
    let Some(text) = decode.string(node) else { return default() };
    match Url::parse(&text) {
        Ok(url) if is_loopback(&url) && url.origin.scheme == Scheme::Http => {
            // Port 80 is what a URL without a port means; nobody listens there.
            let port = (url.origin.port != 80).then_some(url.origin.port);
            // A URL that was written without a path is registered without one.
            let path = if text.ends_with('/') || url.target.path() != "/" { url.target.path().to_owned() } else { String::new() };
            Redirect { host: url.origin.host.clone(), port, path, elsewhere: None }
        }
        Ok(url) if url.origin.scheme == Scheme::Https => {
            Redirect { host: url.origin.host.clone(), port: None, path: url.target.path().to_owned(), elsewhere: Some(text) }
        }
        _ => {
            decode
                .report
                .error(
                    "redirect",
                    node.place,
                    "the browser comes back to this machine, by an http URL of 127.0.0.1, [::1] or localhost, or to an https URL",
                )
                .help("write it as it is registered, such as `redirect_uri: http://127.0.0.1/callback`");
            default()
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match &url.origin.host {
        Host::Name(name) => &**name == "localhost",
        Host::Ip(ip) => ip.is_loopback(),
    }
}
