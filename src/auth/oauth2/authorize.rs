//! The authorization code grant for a person at a browser (RFC 6749 §4.1, RFC 7636, RFC 8252, RFC 9207). Pure, but
//! for the request that redeems the code.

use aws_lc_rs::digest::{SHA256, digest};

use super::answer::{Token, clean, pairs};
use super::request::{self, encode};
use super::session::Session;
use super::settings::Settings;
use crate::auth::jose::base64url;
use crate::failure::{Cause, Failure};
use crate::moment::{Moment, NonceKind, random_bytes};
use crate::secret::Secret;
use crate::upstream::fetch::Url;

/// One sign-in that has been begun.
pub struct Authorization {
    pub state: String,
    pub verifier: String,
    /// As it was sent to the browser.
    pub redirect: String,
}

/// What the browser brought back.
#[derive(PartialEq, Eq, Debug)]
pub enum Returned {
    Code(String),
    /// The person, or the server, said no.
    Refused(String),
    /// It does not belong to this sign-in.
    Foreign(&'static str),
}

/// RFC 7636 §4.2.
pub fn challenge(verifier: &str) -> String {
    base64url(digest(&SHA256, verifier.as_bytes()).as_ref())
}

impl Authorization {
    /// `port`: where the browser is awaited.
    pub fn begin(settings: &Settings, port: u16, moment: &Moment) -> Self {
        let random = || base64url(&random_bytes::<32>());
        Self {
            state: moment.nonce(NonceKind::State, random),
            verifier: moment.nonce(NonceKind::PkceVerifier, random),
            redirect: match &settings.redirect.elsewhere {
                Some(text) => text.clone(),
                None => format!("http://{}:{port}{}", settings.redirect.host, settings.redirect.path),
            },
        }
    }

    /// Where the browser goes.
    pub fn url(&self, settings: &Settings, auth_url: &Url, client_id: &Secret) -> String {
        let mut text = auth_url.to_string();
        let mut add = |name: &str, value: &str| {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(&format!("{}={}", encode(name), encode(value)));
        };
        add("response_type", "code");
        add("client_id", client_id.expose());
        add("redirect_uri", &self.redirect);
        if let Some(scopes) = &settings.scopes {
            add("scope", scopes);
        }
        add("state", &self.state);
        add("code_challenge", &challenge(&self.verifier));
        add("code_challenge_method", "S256");
        settings.audience.iter().for_each(|audience| add("audience", audience));
        settings.resource.iter().for_each(|resource| add("resource", resource));
        settings.auth_params.iter().for_each(|(name, value)| add(name, value));
        text
    }

    /// Reads what the browser asks for (`/callback?code=…`).
    pub fn returned(&self, settings: &Settings, target: &str) -> Returned {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != settings.redirect.path && !(settings.redirect.path.is_empty() && path == "/") {
            return Returned::Foreign("this is not where a sign-in comes back to");
        }
        let pairs = pairs(query);
        let get = |name: &str| pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        if get("state") != Some(&self.state) {
            return Returned::Foreign("this answer belongs to another sign-in: its state is not the one that was sent");
        }
        // RFC 9207 §2.4: a mix-up of servers shows here.
        if let Some(issuer) = &settings.issuer
            && get("iss") != Some(issuer)
            // One that only says where the server is: not every server names itself in the answer.
            && (settings.token_url.is_some() || get("iss").is_some())
        {
            return Returned::Refused(format!(
                "the answer comes from {}, not from `issuer: {issuer}`",
                get("iss").map_or("a server that does not name itself".to_owned(), clean)
            ));
        }
        match (get("error"), get("code")) {
            (Some(error), _) => {
                let why = get("error_description").map(|text| format!(" ({})", clean(text))).unwrap_or_default();
                Returned::Refused(format!("{}{why}", clean(error)))
            }
            (None, Some(code)) if !code.is_empty() => Returned::Code(code.to_owned()),
            _ => Returned::Refused("it brought no code".to_owned()),
        }
    }

    /// Redeems the code and keeps the tokens.
    ///
    /// # Errors
    /// The server refuses, or they cannot be kept.
    pub async fn redeem(&self, session: &Session, code: &str) -> Result<Token, Failure> {
        let form =
            session.form(|settings, at_hand| request::code(settings, code, &self.redirect, &self.verifier, at_hand)).await?;
        let answer = session.ask(&session.endpoints().await?.token, form).await?;
        let token = answer.token().map_err(|wrong| session.failure(&wrong, &answer))?;
        session.signed_in(token).await
    }
}

impl Session {
    /// Keeps the tokens of a sign-in.
    ///
    /// # Errors
    /// They are of another kind than asked for, or cannot be written.
    pub async fn signed_in(&self, token: Token) -> Result<Token, Failure> {
        self.check(&token)?;
        let store = self.store.as_ref().ok_or_else(|| Failure::new(Cause::Internal, "this grant keeps no tokens"))?;
        let _turn = store.turn(self.patience).await?;
        self.keep(store, &token)?;
        Ok(token)
    }

    /// Revokes what is kept, where there is a `revocation_url`, and deletes it. True: there was something. The
    /// second part says why it could not be revoked; it is deleted all the same.
    ///
    /// # Errors
    /// The file cannot be read or deleted.
    pub async fn sign_out(&self) -> Result<(bool, Option<Failure>), Failure> {
        let Some(store) = &self.store else { return Ok((false, None)) };
        let _turn = store.turn(self.patience).await?;
        let Some(kept) = store.read()? else { return Ok((false, None)) };
        let revoked = match self.endpoints().await.map(|known| known.revocation.as_ref()) {
            Ok(None) => Ok(()),
            Ok(Some(url)) => self.revoke(url, &kept.token).await,
            Err(failure) => Err(failure),
        };
        store.remove()?;
        Ok((true, revoked.err()))
    }

    /// The refresh token first: with it goes, as a rule, all that was made of it (RFC 7009 §2.1).
    async fn revoke(&self, url: &Url, token: &Token) -> Result<(), Failure> {
        let both = [(token.refresh.as_ref(), "refresh_token"), (Some(&token.access), "access_token")];
        for (secret, hint) in both.into_iter().filter_map(|(secret, hint)| Some((secret?, hint))) {
            let form = self.form(|settings, at_hand| request::revocation(settings, secret, hint, at_hand)).await?;
            let asked = self.ask(url, form).await?;
            if !asked.answer.status.is_success() {
                let why = asked.members().err().map_or_else(|| asked.answer.status.to_string(), |wrong| wrong.to_string());
                let said = asked.members().err().map_or_else(String::new, |wrong| wrong.said().to_owned());
                let failure = Failure::new(Cause::Credential, format!("{} did not revoke the {hint}: {why}", url.shown()));
                return Err(failure.said(&said, &[]));
            }
        }
        Ok(())
    }
}
