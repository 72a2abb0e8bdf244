//! Tokens that stand in for a credential: an SDK that insists on fetching one itself gets such a one (a rule's
//! `token_endpoint`), and the credential takes its place on the way out. It is worth nothing anywhere else.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::moment::{Moment, random_bytes};

/// What all of them begin with, so that people know one when they see it.
const MARK: &str = "gatepass-stand-in.";

pub const LIFE: Duration = Duration::from_secs(3600);

/// Makes stand-ins and knows its own again: those of another gatepass are another's.
pub struct Mint(hmac::Key);

impl Default for Mint {
    fn default() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &random_bytes::<32>()))
    }
}

fn message(credential: &str, end: &str) -> String {
    format!("{end} {credential}")
}

impl Mint {
    /// A token for a credential, good for [`LIFE`].
    pub fn mint(&self, credential: &str, moment: &Moment) -> String {
        let end = (moment.unix() + LIFE.as_secs()).to_string();
        let mac = hmac::sign(&self.0, message(credential, &end).as_bytes());
        format!("{MARK}{end}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.as_ref()))
    }

    /// The same in the shape of an ID token: SDKs read the claims of one before they send it.
    pub fn mint_id(&self, credential: &str, moment: &Moment) -> String {
        let end = (moment.unix() + LIFE.as_secs()).to_string();
        let mac = hmac::sign(&self.0, message(credential, &end).as_bytes());
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let claims = format!(
            "{{\"iss\":\"https://gatepass.invalid\",\"sub\":\"{MARK}\",\"aud\":\"gatepass\",\"iat\":{},\"exp\":{end}}}",
            moment.unix()
        );
        format!(
            "{}.{}.{}",
            part("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"),
            part(&claims),
            BASE64_URL_SAFE_NO_PAD.encode(mac.as_ref())
        )
    }

    /// Does the value of an `Authorization` field hold a token that was minted for this credential, and is still good?
    pub fn stands_for(&self, field: &str, credential: &str, moment: &Moment) -> bool {
        let Some((end, mac)) = field.rsplit(' ').next().and_then(read) else { return false };
        let Ok(mac) = BASE64_URL_SAFE_NO_PAD.decode(mac) else { return false };
        end.parse::<u64>().is_ok_and(|end| end > moment.unix())
            && hmac::verify(&self.0, message(credential, &end).as_bytes(), &mac).is_ok()
    }
}

/// End and MAC of a stand-in, in either shape.
fn read(token: &str) -> Option<(String, &str)> {
    if let Some(rest) = token.strip_prefix(MARK) {
        return rest.split_once('.').map(|(end, mac)| (end.to_owned(), mac));
    }
    let mut parts = token.splitn(3, '.').skip(1);
    let (claims, mac) = (BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?, parts.next()?);
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    (claims["sub"] == MARK).then(|| claims["exp"].as_u64().map(|end| (end.to_string(), mac)))?
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn one_stands_for_its_own_credential_and_for_a_time_only() {
        let at = |seconds| Moment::pinned(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), []);
        let (own, other) = (Mint::default(), Mint::default());
        let token = own.mint("api", &at(1_000));
        assert!(own.stands_for(&format!("Bearer {token}"), "api", &at(4_599)));
        assert!(own.stands_for(&token, "api", &at(1_000)) && !other.stands_for(&token, "api", &at(1_000)));
        assert!(!own.stands_for(&format!("Bearer {token}"), "other", &at(1_000)));
        assert!(!own.stands_for(&format!("Bearer {token}"), "api", &at(4_600)));
        let longer = token.replace(".4600.", ".9999.");
        assert!(longer != token && !own.stands_for(&longer, "api", &at(1_000)));
        let id = own.mint_id("api", &at(1_000));
        assert!(own.stands_for(&format!("Bearer {id}"), "api", &at(4_599)) && id.split('.').count() == 3);
        assert!(!own.stands_for(&id, "other", &at(1_000)) && !own.stands_for(&id, "api", &at(4_600)));
        assert!(!own.stands_for("Bearer real-token", "api", &at(1_000)));
    }
}
