//! The device grant (RFC 8628): a person signs in on another device, meanwhile the token endpoint is asked.

use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Token, Wrong, clean, seconds};
use super::request;
use super::session::Session;
use crate::failure::{Cause, Failure};
use crate::secret::Secret;

/// What the person must do.
pub struct Device {
    pub user_code: String,
    pub verification_uri: String,
    /// With the code in it.
    pub complete: Option<String>,
    pub life: Duration,
    device_code: Secret,
    interval: Duration,
}

/// RFC 8628 §3.2, §3.5.
const INTERVAL: Duration = Duration::from_secs(5);
const SLOWER: Duration = Duration::from_secs(5);

/// No server says longer, and nobody waits longer.
const LONGEST: Duration = Duration::from_secs(1800);

/// Failures to reach the server that are borne, each waited out longer (RFC 8628 §3.5).
const LOST: u32 = 5;

impl Device {
    /// # Errors
    /// The server refuses, or its answer is not one.
    pub async fn begin(session: &Session) -> Result<Self, Failure> {
        let missing = || Failure::new(Cause::Credential, "the issuer's metadata names no device_authorization_endpoint");
        let url = session.endpoints().await?.device.as_ref().ok_or_else(missing)?;
        let form = session.form(request::device).await?;
        let asked = session.ask(url, form).await?;
        let members = asked.members().map_err(|wrong| session.failure(&wrong, &asked))?;
        Self::read(&members).map_err(|why| session.failure(&Wrong::Nonsense(why.to_owned()), &asked))
    }

    /// RFC 8628 §3.2.
    pub fn read(members: &serde_json::Map<String, serde_json::Value>) -> Result<Self, &'static str> {
        let text = |names: &[&str]| names.iter().find_map(|name| members.get(*name)?.as_str()).map(clean);
        Ok(Self {
            user_code: text(&["user_code"]).ok_or("its answer has no user_code")?,
            // Google wrote the draft's name.
            verification_uri: text(&["verification_uri", "verification_url"]).ok_or("its answer has no verification_uri")?,
            complete: members.get("verification_uri_complete").and_then(|uri| uri.as_str()).map(str::to_owned),
            life: seconds(members.get("expires_in")).unwrap_or(LONGEST).min(LONGEST),
            device_code: members
                .get("device_code")
                .and_then(|code| code.as_str())
                .map(Secret::new)
                .ok_or("its answer has no device_code")?,
            interval: seconds(members.get("interval")).unwrap_or(INTERVAL).clamp(Duration::from_secs(1), Duration::from_secs(60)),
        })
    }

    /// How long to wait from one question to the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Asks until the person has done it, and keeps the tokens.
    ///
    /// # Errors
    /// The person refuses, takes too long, or the server cannot be asked.
    pub async fn wait(mut self, session: &Session) -> Result<Token, Failure> {
        let end = Instant::now() + self.life;
        let mut lost = 0;
        while Instant::now() + self.interval < end {
            tokio::time::sleep(self.interval).await;
            let form = session.form(|settings, at_hand| request::device_poll(settings, &self.device_code, at_hand)).await?;
            let asked = match session.ask(&session.endpoints().await?.token, form).await {
                Ok(asked) => asked,
                Err(_) if lost < LOST => {
                    lost += 1;
                    self.interval *= 2;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            match asked.token() {
                Ok(token) => return session.signed_in(token).await,
                Err(wrong) => match wrong.code() {
                    "authorization_pending" => {}
                    "slow_down" => self.interval += SLOWER,
                    "access_denied" => return Err(session.sign_in("the sign-in was refused").said(wrong.said(), &[])),
                    "expired_token" => {
                        return Err(session.sign_in("nobody signed in with the code in time").said(wrong.said(), &[]));
                    }
                    _ => return Err(session.failure(&wrong, &asked)),
                },
            }
        }
        Err(session.sign_in("nobody signed in with the code in time"))
    }
}
