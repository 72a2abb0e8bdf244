//! The table of `oauth2`'s settings.

use super::grant::Grant;
use crate::auth::Setting;
use crate::settings::Shape;
use crate::tls::settings::{BUNDLES, CERTIFICATES};

pub const FIELDS: [Setting; 37] = [
    (
        "grant",
        Shape::Words(&[
            "client_credentials",
            "password",
            "authorization_code",
            "device_code",
            "refresh_token",
            "jwt_bearer",
            "token_exchange",
        ]),
        "client_credentials",
        "client_credentials, password, authorization_code, device_code, refresh_token, jwt_bearer (RFC 7523) or token_exchange (RFC 8693)",
    ),
    ("token_url", Shape::Url, "required, or `issuer`", "the token endpoint"),
    ("auth_url", Shape::Url, "", "authorization_code: where the browser goes; PKCE (S256) is always used"),
    ("device_url", Shape::Url, "", "device_code: the device authorization endpoint"),
    ("revocation_url", Shape::Url, "", "where `gatepass logout` revokes (RFC 7009)"),
    (
        "issuer",
        Shape::Url,
        "",
        "without `token_url`: the endpoints are those of its metadata (OpenID Connect Discovery, RFC 8414). authorization_code: the `iss` that must come back with the code (RFC 9207)",
    ),
    (
        "redirect_uri",
        Shape::Url,
        "http://127.0.0.1/callback",
        "authorization_code: as registered. On this machine (127.0.0.1, [::1], localhost), without a port any free one is used (RFC 8252); an https address of an app works too: `gatepass login` then asks for the address that the browser ends up at",
    ),
    ("client_id", Shape::Secret, "", "a SECRET"),
    ("client_secret", Shape::Secret, "", "a SECRET"),
    (
        "client_auth",
        Shape::Words(&["basic", "basic_raw", "post", "private_key_jwt", "client_secret_jwt", "tls_client_auth", "none"]),
        "basic",
        "basic, basic_raw (not form-encoded, for servers that get that wrong), post, private_key_jwt, client_secret_jwt, tls_client_auth (RFC 8705) or none; without `client_secret` the default is none",
    ),
    (
        "private_key",
        Shape::Key,
        "",
        "PEM or JWK, file or text: signs for private_key_jwt and, without `assertion`, for jwt_bearer",
    ),
    ("passphrase", Shape::Secret, "", "of `private_key`"),
    ("key_id", Shape::Plain, "", "`kid` of what `private_key` signs"),
    (
        "algorithm",
        Shape::Words(&[
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
        ]),
        "by the key",
        "RS256, PS256, ES256, EdDSA, HS256 and so on",
    ),
    ("assertion_audience", Shape::Url, "token_url", "`aud` of what is signed"),
    (
        "claims",
        Shape::Json,
        "",
        "jwt_bearer: claims of the assertion; `iss` and `sub` are the client_id, `aud`, `iat`, `exp` and `jti` are added; null leaves one out",
    ),
    (
        "token",
        Shape::Words(&["access_token", "id_token"]),
        "access_token",
        "which of the server's tokens is used: id_token for services that ask for one, such as Cloud Run and IAP; it is used until its `exp`",
    ),
    ("scopes", Shape::Many(&Shape::Plain), "", "a list, or one text with spaces"),
    ("audience", Shape::Many(&Shape::Plain), "", "a text or list, sent as `audience`"),
    ("resource", Shape::Many(&Shape::Plain), "", "a text or list, sent as `resource` (RFC 8707)"),
    ("username", Shape::Secret, "", "password: a SECRET"),
    ("password", Shape::Secret, "", "password: a SECRET"),
    ("refresh_token", Shape::Secret, "", "refresh_token: a SECRET; where the server rotates it, the newest is kept in a file"),
    ("assertion", Shape::Secret, "", "jwt_bearer: a SECRET"),
    ("subject_token", Shape::Secret, "", "token_exchange: a SECRET"),
    ("subject_token_type", Shape::Plain, "urn:ietf:params:oauth:token-type:access_token", "token_exchange"),
    ("actor_token", Shape::Secret, "", "token_exchange: a SECRET"),
    ("actor_token_type", Shape::Plain, "urn:ietf:params:oauth:token-type:access_token", "token_exchange, with `actor_token`"),
    ("requested_token_type", Shape::Plain, "", "token_exchange"),
    ("token_params", Shape::Fields(&Shape::Secret), "", "further parameters of the token request: names to SECRETs"),
    ("auth_params", Shape::Fields(&Shape::Text), "", "further parameters of `auth_url`, such as `prompt: consent`"),
    ("in", Shape::Words(&["header", "query"]), "header", "header, or query (as `access_token`, RFC 6750 section 2.3)"),
    ("prefix", Shape::Plain, "Bearer", "the word before the token; empty for none"),
    ("client_certificate", Shape::OneOf(CERTIFICATES), "", "toward the token endpoint: a name or an inline certificate"),
    ("ca_bundle", Shape::OneOf(BUNDLES), "", "toward the token endpoint: a name, a file or an inline bundle"),
    ("dpop", Shape::Bool, "false", "tokens bound to a key, with a proof for each request (RFC 9449)"),
    ("dpop_key", Shape::Key, "made anew", "PEM or JWK, file or text: the key of `dpop`"),
];

/// Those that are secret, or may be.
pub const SECRETS: [&str; 8] =
    ["client_id", "client_secret", "username", "password", "refresh_token", "assertion", "subject_token", "actor_token"];

/// Those that some grants only know what to do with.
pub const OF_GRANTS: [(&str, &[Grant]); 15] = [
    ("auth_url", &[Grant::AuthorizationCode]),
    ("auth_params", &[Grant::AuthorizationCode]),
    ("redirect_uri", &[Grant::AuthorizationCode]),
    ("device_url", &[Grant::DeviceCode]),
    ("revocation_url", &[Grant::AuthorizationCode, Grant::DeviceCode, Grant::RefreshToken]),
    ("username", &[Grant::Password]),
    ("password", &[Grant::Password]),
    ("refresh_token", &[Grant::RefreshToken]),
    ("assertion", &[Grant::JwtBearer]),
    ("claims", &[Grant::JwtBearer]),
    ("subject_token", &[Grant::TokenExchange]),
    ("subject_token_type", &[Grant::TokenExchange]),
    ("actor_token", &[Grant::TokenExchange]),
    ("actor_token_type", &[Grant::TokenExchange]),
    ("requested_token_type", &[Grant::TokenExchange]),
];
