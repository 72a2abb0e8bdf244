//! What is said to a token endpoint (RFC 6749 §3.2, RFC 7523, RFC 8628, RFC 8693). Pure.

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use super::grant::Grant;
use super::settings::{Claim, ClientAuth, Settings};
use crate::auth::header_value;
use crate::auth::jose::Signer;
use crate::failure::{Cause, Failure};
use crate::moment::{Moment, NonceKind, random_hex};
use crate::secret::Secret;
use crate::settings::Text;

/// A form, and the header fields that go with it.
#[derive(Default)]
pub struct Form {
    pairs: Vec<(String, Secret)>,
    pub headers: HeaderMap,
    /// Secrets that stand in the header fields, as they stand there.
    in_headers: Vec<Secret>,
}

/// The secrets of a credential, fetched: by setting; those of `token_params` and `claims` by their own names.
pub struct AtHand<'a> {
    pub of: &'a dyn Fn(&'static str) -> Option<Secret>,
    pub text: &'a dyn Fn(&Text) -> Result<Secret, Failure>,
    pub token_url: &'a str,
    pub moment: &'a Moment,
}

/// How long an assertion is good for: it is used at once, and clocks differ.
const ASSERTION_LIFE: u64 = 120;

impl Form {
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.pairs.push((name.to_owned(), Secret::new(value)));
    }

    fn add_secret(&mut self, name: &str, value: &Secret) {
        self.pairs.push((name.to_owned(), value.clone()));
    }

    /// `application/x-www-form-urlencoded` (RFC 6749 Appendix B).
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (name, value) in &self.pairs {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(&encode(name));
            text.push('=');
            text.push_str(&Zeroizing::new(encode(value.expose())));
        }
        text
    }

    /// Header fields and body.
    pub fn message(mut self) -> (HeaderMap, Bytes) {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.headers.insert(header::CONTENT_TYPE, form);
        self.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        self.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = Bytes::copy_from_slice(self.encode().as_bytes());
        (self.headers, body)
    }

    /// What must not be shown where a server repeats it.
    pub fn secrets(&self) -> Vec<Secret> {
        const PLAIN: [&str; 6] = ["grant_type", "scope", "client_id", "audience", "resource", "redirect_uri"];
        let secret = |(name, value): &&(String, Secret)| !PLAIN.contains(&name.as_str()) && value.expose().len() > 3;
        self.pairs.iter().filter(secret).map(|(_, value)| value.clone()).chain(self.in_headers.clone()).collect()
    }
}

pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The token request of a grant that needs no more than its settings.
///
/// # Errors
/// A secret has not been fetched, or an assertion cannot be signed.
pub fn of_grant(settings: &Settings, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = begin(settings.grant.kind());
    let given = |form: &mut Form, names: &[&'static str]| -> Result<(), Failure> {
        for name in names {
            let secret = (at_hand.of)(name).ok_or_else(|| missing(name))?;
            form.add_secret(name, &secret);
        }
        Ok(())
    };
    match settings.grant {
        Grant::Password => given(&mut form, &["username", "password"])?,
        Grant::JwtBearer if settings.secrets.contains_key("assertion") => given(&mut form, &["assertion"])?,
        Grant::JwtBearer => form.add("assertion", assertion(settings, at_hand)?),
        Grant::TokenExchange => {
            given(&mut form, &["subject_token"])?;
            form.add("subject_token_type", token_type(settings, "subject_token_type"));
            if settings.secrets.contains_key("actor_token") {
                given(&mut form, &["actor_token"])?;
                form.add("actor_token_type", token_type(settings, "actor_token_type"));
            }
            if let Some(kind) = settings.types.get("requested_token_type") {
                form.add("requested_token_type", kind);
            }
        }
        Grant::ClientCredentials | Grant::AuthorizationCode | Grant::DeviceCode | Grant::RefreshToken => {}
    }
    asked(settings, at_hand, &mut form)?;
    authenticate(settings, at_hand, &mut form)?;
    Ok(form)
}

/// RFC 6749 §6. Scopes are left out: those once granted stay.
///
/// # Errors
/// As [`of_grant`].
pub fn refresh(settings: &Settings, refresh: &Secret, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = begin("refresh_token");
    form.add_secret("refresh_token", refresh);
    if settings.grant == Grant::RefreshToken {
        asked(settings, at_hand, &mut form)?;
    } else {
        indicated(settings, &mut form);
    }
    authenticate(settings, at_hand, &mut form)?;
    Ok(form)
}

/// RFC 6749 §4.1.3, RFC 7636 §4.5.
///
/// # Errors
/// As [`of_grant`].
pub fn code(settings: &Settings, code: &str, redirect: &str, verifier: &str, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = begin("authorization_code");
    form.add("code", code);
    form.add("redirect_uri", redirect);
    form.add("code_verifier", verifier);
    indicated(settings, &mut form);
    extra(settings, at_hand, &mut form)?;
    authenticate(settings, at_hand, &mut form)?;
    Ok(form)
}

/// RFC 8628 §3.1.
///
/// # Errors
/// As [`of_grant`].
pub fn device(settings: &Settings, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = Form::default();
    // The other ways to say who the client is have it in the form already.
    if matches!(settings.client_auth, ClientAuth::Basic | ClientAuth::BasicRaw) {
        form.add_secret("client_id", &(at_hand.of)("client_id").ok_or_else(|| missing("client_id"))?);
    }
    authenticate(settings, at_hand, &mut form)?;
    asked(settings, at_hand, &mut form)?;
    Ok(form)
}

/// RFC 8628 §3.4.
///
/// # Errors
/// As [`of_grant`].
pub fn device_poll(settings: &Settings, device_code: &Secret, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = begin(Grant::DeviceCode.kind());
    form.add_secret("device_code", device_code);
    authenticate(settings, at_hand, &mut form)?;
    Ok(form)
}

/// RFC 7009 §2.1.
///
/// # Errors
/// As [`of_grant`].
pub fn revocation(settings: &Settings, token: &Secret, hint: &str, at_hand: &AtHand<'_>) -> Result<Form, Failure> {
    let mut form = Form::default();
    form.add_secret("token", token);
    form.add("token_type_hint", hint);
    authenticate(settings, at_hand, &mut form)?;
    Ok(form)
}

fn begin(grant_type: &str) -> Form {
    let mut form = Form::default();
    form.add("grant_type", grant_type);
    form
}

fn asked(settings: &Settings, at_hand: &AtHand<'_>, form: &mut Form) -> Result<(), Failure> {
    if let Some(scopes) = &settings.scopes {
        form.add("scope", scopes);
    }
    indicated(settings, form);
    extra(settings, at_hand, form)
}

fn indicated(settings: &Settings, form: &mut Form) {
    settings.audience.iter().for_each(|audience| form.add("audience", audience));
    settings.resource.iter().for_each(|resource| form.add("resource", resource));
}

fn extra(settings: &Settings, at_hand: &AtHand<'_>, form: &mut Form) -> Result<(), Failure> {
    for (name, text) in &settings.token_params {
        form.add_secret(name, &(at_hand.text)(text)?);
    }
    Ok(())
}

fn token_type(settings: &Settings, name: &str) -> String {
    settings.types.get(name).cloned().unwrap_or_else(|| "urn:ietf:params:oauth:token-type:access_token".to_owned())
}

fn missing(name: &str) -> Failure {
    Failure::new(Cause::Credential, format!("the secret `{name}` has not been fetched"))
}

/// Says who the client is.
fn authenticate(settings: &Settings, at_hand: &AtHand<'_>, form: &mut Form) -> Result<(), Failure> {
    let id = (at_hand.of)("client_id");
    let secret = || (at_hand.of)("client_secret").ok_or_else(|| missing("client_secret"));
    match settings.client_auth {
        ClientAuth::Basic | ClientAuth::BasicRaw => {
            let (id, secret) = (id.ok_or_else(|| missing("client_id"))?, secret()?);
            let raw = settings.client_auth == ClientAuth::BasicRaw;
            let text = basic(id.expose(), secret.expose(), raw);
            form.headers.insert(header::AUTHORIZATION, header_value(&text, "client secret")?);
            let pair = text.trim_start_matches("Basic ").to_owned();
            form.in_headers = vec![Secret::new(pair), Secret::new(encode(secret.expose())), secret];
        }
        ClientAuth::PrivateKeyJwt | ClientAuth::ClientSecretJwt => {
            let id = id.ok_or_else(|| missing("client_id"))?;
            let secret = if settings.client_auth == ClientAuth::ClientSecretJwt { Some(secret()?) } else { None };
            let signer = settings.signer(secret.as_ref())?;
            form.add_secret("client_id", &id);
            form.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            form.add("client_assertion", client_assertion(settings, &signer, id.expose(), at_hand)?);
        }
        ClientAuth::Post => {
            form.add_secret("client_id", &id.ok_or_else(|| missing("client_id"))?);
            form.add_secret("client_secret", &secret()?);
        }
        ClientAuth::TlsClientAuth | ClientAuth::None => {
            if let Some(id) = id {
                form.add_secret("client_id", &id);
            }
        }
    }
    Ok(())
}

/// RFC 6749 §2.3.1.
fn basic(id: &str, secret: &str, raw: bool) -> Zeroizing<String> {
    let pair = match raw {
        true => format!("{id}:{secret}"),
        false => format!("{}:{}", encode(id), encode(secret)),
    };
    let pair = Zeroizing::new(pair);
    Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
}

/// RFC 7523 §3.
fn client_assertion(settings: &Settings, signer: &Signer, id: &str, at_hand: &AtHand<'_>) -> Result<String, Failure> {
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), id.into());
    claims.insert("sub".to_owned(), id.into());
    stamp(settings, &mut claims, at_hand);
    signer.jwt(&jose_header(settings, signer), &claims)
}

/// The assertion of grant jwt_bearer (RFC 7523 §2.1).
fn assertion(settings: &Settings, at_hand: &AtHand<'_>) -> Result<String, Failure> {
    let mut claims = Map::new();
    for (name, claim) in &settings.claims {
        let value = match claim {
            Claim::Absent => Json::Null,
            Claim::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Claim::Secret(text) => (at_hand.text)(text)?.expose().into(),
        };
        claims.insert(name.clone(), value);
    }
    if let Some(id) = (at_hand.of)("client_id") {
        for name in ["iss", "sub"] {
            claims.entry(name).or_insert_with(|| id.expose().into());
        }
    } else if let Some(issuer) = claims.get("iss").cloned() {
        claims.entry("sub").or_insert(issuer);
    }
    stamp(settings, &mut claims, at_hand);
    claims.retain(|_, value| !value.is_null());
    let signer = settings.signer(None)?;
    signer.jwt(&jose_header(settings, &signer), &claims)
}

fn stamp(settings: &Settings, claims: &mut Map<String, Json>, at_hand: &AtHand<'_>) {
    let (now, moment) = (at_hand.moment.unix(), at_hand.moment);
    let audience = settings.assertion_audience.clone().unwrap_or_else(|| at_hand.token_url.to_owned());
    claims.entry("aud").or_insert_with(|| audience.into());
    claims.entry("iat").or_insert_with(|| now.into());
    claims.entry("exp").or_insert_with(|| (now + ASSERTION_LIFE).into());
    claims.entry("jti").or_insert_with(|| moment.nonce(NonceKind::Jti, random_hex::<16>).into());
}

fn jose_header(settings: &Settings, signer: &Signer) -> Map<String, Json> {
    let mut header = Map::new();
    header.insert("typ".to_owned(), "JWT".into());
    if let Some(id) = settings.key_id.as_deref().or(signer.key().id()) {
        header.insert("kid".to_owned(), id.into());
    }
    header
}
