//! Where a server's endpoints are: as configured, or as the metadata of its issuer says.

use serde_json::{Map, Value as Json};

use super::answer;
use super::settings::Settings;
use crate::origin::Scheme;
use crate::upstream::fetch::Url;

/// The addresses of one authorization server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    pub token: Url,
    pub authorization: Option<Url>,
    pub device: Option<Url>,
    pub revocation: Option<Url>,
}

impl Endpoints {
    /// As configured; `None`: the issuer has to be asked.
    pub fn configured(settings: &Settings) -> Option<Self> {
        Some(Self {
            token: settings.token_url.clone()?,
            authorization: settings.auth_url.clone(),
            device: settings.device_url.clone(),
            revocation: settings.revocation_url.clone(),
        })
    }

    /// By the issuer's metadata, but for what the settings say themselves.
    ///
    /// # Errors
    /// Why the metadata cannot be used.
    pub fn read(settings: &Settings, issuer: &Url, text: &str, metadata: &Map<String, Json>) -> Result<Self, String> {
        // RFC 8414 §3.3: compared as it is written; another's metadata would lead secrets elsewhere.
        match metadata.get("issuer").and_then(Json::as_str) {
            Some(own) if own == text => {}
            Some(own) => return Err(format!("it is of the issuer `{}`, not of `{text}`", answer::clean(own))),
            None => return Err("it names no issuer".to_owned()),
        }
        let aliases = metadata.get("mtls_endpoint_aliases").filter(|_| settings.identity.is_some());
        let url = |name: &str| -> Result<Option<Url>, String> {
            // RFC 8705 §5: clients with a certificate go elsewhere.
            let alias = aliases.and_then(|aliases| aliases.get(name));
            let Some(text) = alias.or(metadata.get(name)).and_then(Json::as_str) else { return Ok(None) };
            let url = Url::parse(text).map_err(|why| format!("its {name} is not a URL: {why}"))?;
            if url.origin.scheme == Scheme::Http && issuer.origin.scheme == Scheme::Https {
                return Err(format!("its {name} is plain http"));
            }
            Ok(Some(url))
        };
        Ok(Self {
            token: url("token_endpoint")?.ok_or("it names no token_endpoint")?,
            authorization: settings.auth_url.clone().map_or_else(|| url("authorization_endpoint"), |own| Ok(Some(own)))?,
            device: settings.device_url.clone().map_or_else(|| url("device_authorization_endpoint"), |own| Ok(Some(own)))?,
            revocation: settings.revocation_url.clone().map_or_else(|| url("revocation_endpoint"), |own| Ok(Some(own)))?,
        })
    }
}
