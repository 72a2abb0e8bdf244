//! A signed token of configured claims, made when needed and kept while it may be used again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value as Json};

use super::template::Template;
use super::{Signer, SigningKey};
use crate::auth::prepared;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::provided::SecretRef;
use crate::secret::Secret;

pub struct Token {
    pub key: SigningKey,
    /// `kid` is added where the key brings one.
    pub header: Template,
    pub claims: Template,
    /// How long one is used, where its claims name no `exp`; `None`: a fresh one each time.
    pub reuse: Option<Duration>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: Secret,
    from: SystemTime,
    until: SystemTime,
    /// The secrets in it; with others it is another token.
    values: Vec<Secret>,
    signer: Arc<Signer>,
    uses: u32,
}

/// The last part of a token's life, in which it is not used again: a tenth, at most half a minute.
fn margin(life: Duration) -> Duration {
    (life / 10).min(Duration::from_secs(30))
}

impl Token {
    pub fn new(key: SigningKey, header: Template, claims: Template, reuse: Option<Duration>) -> Self {
        Self { key, header, claims, reuse, kept: Mutex::default() }
    }

    /// All that must be at hand before [`Token::take`].
    pub fn values(&self) -> impl Iterator<Item = &SecretRef> {
        self.key.values().chain(self.header.values()).chain(self.claims.values())
    }

    /// The token: one made before while it lives, else a new one.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn take(&self, moment: &Moment) -> Result<Secret, Failure> {
        let signer = self.key.now()?;
        let Some(bound) = self.reuse else { return self.make(&signer, moment).map(|(token, _)| token) };
        let now = moment.now();
        let values: Vec<Secret> = self.claims.values().chain(self.header.values()).map(prepared).collect::<Result<_, _>>()?;
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kept) = &mut *kept
            && kept.values == values
            && Arc::ptr_eq(&kept.signer, &signer)
            && (kept.from..kept.until).contains(&now)
        {
            kept.uses = kept.uses.saturating_add(1);
            return Ok(kept.token.clone());
        }
        let (token, end) = self.make(&signer, moment)?;
        let life = end.map_or(bound, |end| Duration::from_secs(end.saturating_sub(moment.unix())));
        let until = now + life.saturating_sub(margin(life));
        *kept = Some(Kept { token: token.clone(), from: now, until, values, signer, uses: 1 });
        Ok(token)
    }

    /// A server refused `token`: it is not used again. True: it had been used before, and a new one may do better.
    pub fn refused(&self, token: impl FnOnce(&Secret) -> bool) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        kept.take_if(|kept| token(&kept.token)).is_some_and(|kept| kept.uses > 1)
    }

    /// The token, and its `exp`.
    fn make(&self, signer: &Signer, moment: &Moment) -> Result<(Secret, Option<u64>), Failure> {
        let claims = self.claims.fill(moment)?;
        let mut header = self.header.fill(moment)?;
        if let Some(id) = signer.key().id()
            && self.header.get("kid").is_none()
        {
            header.insert("kid".to_owned(), id.into());
        }
        let token = signer.jwt(&header, &claims)?;
        Ok((Secret::new(token), claims.get("exp").and_then(Json::as_u64)))
    }

    /// Header and claims of a token of this kind, secrets left out.
    pub fn shown(&self, token: &str) -> Option<String> {
        let mut parts = token.split('.').map(|part| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Map<String, Json>>(&bytes).ok()
        });
        let (header, mut claims) = (parts.next()??, parts.next()??);
        for name in self.claims.secret_names() {
            claims.insert(name.to_owned(), "…".into());
        }
        Some(format!("{}\n.\n{}", Json::Object(header), Json::Object(claims)))
    }
}
