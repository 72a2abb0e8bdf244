//! Where a server's endpoints are: as configured, or by the metadata that its issuer publishes (OpenID Connect Discovery
//! §4, RFC 8414 §3).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::answer;
use super::endpoints::Endpoints;
use super::session::Session;
use crate::failure::{Cause, Failure};
use crate::upstream::fetch::{Fetched, Url};

/// Where the metadata of an issuer may be, in the order of asking.
pub fn places(issuer: &Url) -> Vec<String> {
    let path = issuer.target.path().trim_end_matches('/');
    let origin = &issuer.origin;
    vec![
        format!("{origin}{path}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
}

impl Session {
    /// Where the server is; asked once of its issuer where no `token_url` says it.
    ///
    /// # Errors
    /// The issuer's metadata cannot be had or used.
    pub async fn endpoints(&self) -> Result<&Endpoints, Failure> {
        self.endpoints.get_or_try_init(|| self.discover()).await
    }

    async fn discover(&self) -> Result<Endpoints, Failure> {
        if let Some(configured) = Endpoints::configured(&self.settings) {
            return Ok(configured);
        }
        let text = self.settings.issuer.as_deref().unwrap_or_default();
        let wrong = |why: String| {
            Failure::new(Cause::Credential, format!("the metadata of the issuer {text} cannot be used: {why}"))
                .hint("write `issuer` as the server does, or give `token_url` itself")
        };
        let issuer = Url::parse(text).map_err(&wrong)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut answered = String::new();
        for place in places(&issuer) {
            let url = Url::parse(&place).map_err(&wrong)?;
            let sent = self.client.send("the issuer's metadata", Method::GET, &url, headers.clone(), Bytes::new()).await;
            let Fetched { status, body, .. } = sent.map_err(|failure| self.reached(failure))?;
            if status.is_server_error() {
                let failure = wrong(format!("{} answers {status}", url.shown()));
                return Err(Failure { cause: Cause::CredentialUnavailable, ..failure });
            }
            if status != StatusCode::OK {
                answered = format!("{} answers {status}", url.shown());
                continue;
            }
            let metadata = answer::object(&body).ok_or_else(|| wrong(format!("{} is not a JSON object", url.shown())))?;
            return Endpoints::read(&self.settings, &issuer, text, &metadata).map_err(wrong);
        }
        Err(wrong(answered))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::auth::oauth2::SCHEME;
    use crate::auth::testing::build_session;

    fn read(settings: &str, metadata: Json) -> Result<Endpoints, String> {
        let (_, session) = build_session(&SCHEME, settings);
        let settings = &session.settings;
        let text = settings.issuer.clone().unwrap();
        Endpoints::read(settings, &Url::parse(&text).unwrap(), &text, metadata.as_object().unwrap())
    }

    #[test]
    fn metadata_counts_only_when_it_is_of_the_issuer_and_settings_win_over_it() {
        let settings =
            "{ issuer: 'https://i.example/a', client_id: c, grant: authorization_code, auth_url: 'https://own.example/' }";
        let metadata = |issuer: &str| {
            json!({ "issuer": issuer, "token_endpoint": "https://t.example/token", "authorization_endpoint": "https://a.example/",
                "revocation_endpoint": "https://t.example/revoke", "mtls_endpoint_aliases": { "token_endpoint": "https://m.example/" } })
        };
        let read_as = |issuer: &str| read(settings, metadata(issuer));
        let found = read_as("https://i.example/a").unwrap();
        assert_eq!(found.token.to_string(), "https://t.example/token", "no certificate, no alias");
        assert_eq!(found.authorization.unwrap().to_string(), "https://own.example/");
        assert_eq!(found.revocation.unwrap().to_string(), "https://t.example/revoke");
        assert!(found.device.is_none());
        for other in ["https://i.example/a/", "https://i.example", "https://evil.example/a"] {
            assert!(read_as(other).unwrap_err().contains("not of `https://i.example/a`"), "{other}");
        }
        let plain = json!({ "issuer": "https://i.example/a", "token_endpoint": "http://t.example/token" });
        assert!(read(settings, plain).unwrap_err().contains("plain http"));
        assert!(read(settings, json!({ "issuer": "https://i.example/a" })).unwrap_err().contains("no token_endpoint"));
    }

    #[test]
    fn an_issuer_with_a_path_is_asked_as_either_standard_says() {
        let places = |text: &str| places(&Url::parse(text).unwrap());
        assert_eq!(
            places("https://i.example/realms/x/"),
            [
                "https://i.example/realms/x/.well-known/openid-configuration",
                "https://i.example/.well-known/oauth-authorization-server/realms/x"
            ]
        );
        assert_eq!(places("https://i.example")[0], "https://i.example/.well-known/openid-configuration");
    }
}
