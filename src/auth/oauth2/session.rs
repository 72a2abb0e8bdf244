//! How tokens are had: by the grant, by a refresh token, from a file; one fetch for all who wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, header};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::answer::{self, Asked, Token, Wrong};
use super::dpop::{Bound, Nonces, PROOF, Proven};
use super::endpoints::Endpoints;
use super::grant::Grant;
use super::request::{self, AtHand, Form};
use super::settings::{Claim, Settings};
use super::store::{Kept, Store};
use crate::auth::header_value;
use crate::cached::Cached;
use crate::failure::{Cause, Failure};
use crate::files::Stamp;
use crate::moment::Moment;
use crate::provided::{Fetching, Provider, SecretRef};
use crate::secret::Secret;
use crate::secrets;
use crate::settings::Text;
use crate::upstream::fetch::{Client, Fetched, Url};

/// Settings with what they need to reach the network.
pub struct Session {
    pub settings: Settings,
    secrets: BTreeMap<&'static str, SecretRef>,
    /// Secrets of `token_params` and `claims`.
    others: Vec<(Text, SecretRef)>,
    pub client: Client,
    pub store: Option<Store>,
    pub state: Arc<State>,
    /// Once known.
    pub endpoints: OnceCell<Endpoints>,
    pub(super) patience: Duration,
}

/// What is known so far; shared by all sessions of equal settings, so that it outlives a reload.
#[derive(Default)]
pub struct State {
    pub token: Cached<Token>,
    /// A refresh token that is kept nowhere else.
    refresh: Mutex<Option<Secret>>,
    /// The token that a server has refused.
    refused: Mutex<Option<Secret>>,
    pub nonces: Nonces,
    key: Mutex<Option<Arc<Bound>>>,
    /// The token file as last looked at, and when.
    seen: Mutex<Option<(Option<Stamp>, Instant)>>,
    /// Renewed, but could not be written.
    unsaved: Mutex<Option<Kept>>,
}

/// A token without an end is used until a server refuses it.
const ENDLESS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a token is used.
pub fn life(token: &Token) -> Duration {
    token.life.unwrap_or(ENDLESS)
}

/// While there is a token, its file is looked at no more often than this.
const LOOK: Duration = Duration::from_secs(1);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// What sessions that live know, by their settings.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<Settings, Weak<State>>>);

impl Sessions {
    /// The state of these settings: the one of a session before the reload, if there is one.
    pub(super) fn state_of(&self, settings: &Settings) -> Arc<State> {
        let mut states = locked(&self.0);
        if let Some(state) = states.get(settings).and_then(Weak::upgrade) {
            return state;
        }
        states.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(State::default());
        states.insert(settings.clone(), Arc::downgrade(&state));
        state
    }
}

impl Provider<Token> for Session {
    fn fetch(&self) -> Fetching<'_, Token> {
        Box::pin(self.obtain())
    }
}

impl Session {
    pub fn new(settings: Settings, client: Client, patience: Duration, sessions: &Sessions) -> Self {
        let secrets = settings.secrets.iter().map(|(name, text)| (*name, secrets::reference(text.clone()))).collect();
        let claims = settings.claims.iter().filter_map(|(_, claim)| match claim {
            Claim::Secret(text) => Some(text),
            _ => None,
        });
        let others = settings.token_params.iter().map(|(_, text)| text).chain(claims);
        let others = others.map(|text| (text.clone(), secrets::reference(text.clone()))).collect();
        let store = settings.file.clone().map(Store::new);
        let state = sessions.state_of(&settings);
        Self { settings, secrets, others, client, store, state, endpoints: OnceCell::new(), patience }
    }

    /// What [`Session::ready`] would say without fetching.
    pub fn cached(&self) -> Option<Result<Token, Failure>> {
        self.look_at_file();
        self.state.token.cached()
    }

    /// The token, fetched if need be. The fetching goes on when the one who asks no longer waits: a rotated
    /// refresh token must not get lost on the way.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn ready(self: &Arc<Self>) -> Result<Token, Failure> {
        if let Some(outcome) = self.cached() {
            return outcome;
        }
        let session = self.clone();
        let work = tokio::spawn(async move { session.state.token.get(|| session.fetch()).await });
        work.await.map_err(|_| Failure::new(Cause::Internal, "the token request was given up"))?
    }

    /// A server refused this token: it is not used again. True when another attempt may do better.
    pub fn refused(&self, token: &Secret) -> bool {
        let gone = self.state.token.forget(|kept| kept.access == *token);
        if gone {
            *locked(&self.state.refused) = Some(token.clone());
        }
        gone || self.state.token.peek().is_none_or(|kept| kept.access != *token)
    }

    /// Takes in what another process, or `gatepass login`, has written.
    fn look_at_file(&self) {
        let Some(store) = &self.store else { return };
        let mut seen = locked(&self.state.seen);
        if let Some((_, at)) = &*seen
            && at.elapsed() < LOOK
            && self.state.token.peek().is_some()
        {
            return;
        }
        let stamp = store.stamp();
        let same = seen.as_ref().map_or(stamp.is_none(), |(old, _)| *old == stamp);
        *seen = Some((stamp, Instant::now()));
        if same {
            return;
        }
        match store.read() {
            Ok(Some(kept)) if self.usable(&kept).is_some() => self.take_in(&kept),
            _ => self.state.token.clear(),
        }
    }

    fn take_in(&self, kept: &Kept) {
        if let (Some(key), None) = (&kept.key, &self.settings.dpop_key)
            && let Ok(key) = Bound::read(key, true)
        {
            *locked(&self.state.key) = Some(Arc::new(key));
        }
        if let Some(left) = self.usable(kept) {
            self.state.token.put(kept.token.clone(), left);
        }
    }

    /// How long a kept token can still be used.
    fn usable(&self, kept: &Kept) -> Option<Duration> {
        if locked(&self.state.refused).as_ref() == Some(&kept.token.access) {
            return None;
        }
        let left = match kept.end {
            None => ENDLESS,
            Some(end) => end.duration_since(Moment::real().now()).ok()?,
        };
        (!left.is_zero()).then_some(left)
    }

    async fn obtain(&self) -> Result<(Token, Duration), Failure> {
        match &self.store {
            Some(store) => self.renew_kept(store).await,
            None => self.by_grant().await,
        }
    }

    /// For grants that need nobody: by the refresh token of the last answer, else by the grant anew.
    async fn by_grant(&self) -> Result<(Token, Duration), Failure> {
        let refresh = locked(&self.state.refresh).clone();
        if let Some(refresh) = refresh {
            match self.ask_refresh(&refresh).await? {
                Ok(token) => return self.remember(token, Some(refresh)),
                // It has ended; the grant may still do.
                Err(_) => *locked(&self.state.refresh) = None,
            }
        }
        let form = self.form(request::of_grant).await?;
        let answer = self.ask(&self.endpoints().await?.token, form).await?;
        let token = answer.token().map_err(|wrong| self.failure(&wrong, &answer))?;
        self.remember(token, None)
    }

    fn remember(&self, token: Token, refresh: Option<Secret>) -> Result<(Token, Duration), Failure> {
        self.check(&token)?;
        *locked(&self.state.refresh) = token.refresh.clone().or(refresh);
        let left = life(&token);
        Ok((token, left))
    }

    /// By the refresh token in the file. Held alone, since another process may do the same; what has been
    /// renewed meanwhile is taken as it is.
    async fn renew_kept(&self, store: &Store) -> Result<(Token, Duration), Failure> {
        // Before the wait: a request beside this one may take in what the other process writes.
        let held = self.state.token.peek();
        let _turn = store.turn(self.patience).await?;
        let unsaved = locked(&self.state.unsaved).clone();
        let kept = match unsaved {
            Some(kept) => {
                self.save(store, &kept)?;
                Some(kept)
            }
            None => store.read()?,
        };
        if let Some(kept) = &kept {
            let own = held.filter(|held| held.access == kept.token.access);
            self.take_in(kept);
            if let Some(left) = self.usable(kept)
                && (own.is_none() || left > RENEWAL || kept.token.refresh.is_none())
            {
                return Ok((kept.token.clone(), left));
            }
        }
        let given = kept.as_ref().and_then(|kept| kept.token.refresh.clone());
        let refresh = match given {
            Some(refresh) => refresh,
            None if self.settings.grant == Grant::RefreshToken => self.secret("refresh_token").await?,
            None => return Err(self.sign_in("nobody has signed in, or the sign-in has ended")),
        };
        match self.ask_refresh(&refresh).await? {
            Ok(mut token) => {
                self.check(&token)?;
                let rotated = token.refresh.is_some();
                token.refresh = token.refresh.or_else(|| kept.is_some().then_some(refresh));
                let left = life(&token);
                if rotated || kept.is_some() {
                    self.keep(store, &token)?;
                }
                Ok((token, left))
            }
            Err(wrong) => {
                // The access token may be good to its end.
                if let (Some(mut kept), true) = (kept, self.settings.grant.is_sign_in()) {
                    kept.token.refresh = None;
                    self.save(store, &kept)?;
                }
                Err(self.sign_in(&format!("the refresh token is no longer good: {wrong}")).said(wrong.said(), &[]))
            }
        }
    }

    /// Writes before anything of it is used.
    ///
    /// # Errors
    /// It cannot be written; it is tried again before the next use.
    pub fn keep(&self, store: &Store, token: &Token) -> Result<(), Failure> {
        let end = token.life.map(|life| Moment::real().now() + life);
        let key = if self.settings.dpop { self.key()?.text.clone() } else { None };
        self.save(store, &Kept { token: token.clone(), end, key })
    }

    fn save(&self, store: &Store, kept: &Kept) -> Result<(), Failure> {
        *locked(&self.state.unsaved) = Some(kept.clone());
        store.write(kept)?;
        *locked(&self.state.unsaved) = None;
        Ok(())
    }

    /// `Ok(Err)`: the refresh token is refused (RFC 6749 §5.2 `invalid_grant`), and for good.
    async fn ask_refresh(&self, refresh: &Secret) -> Result<Result<Token, Wrong>, Failure> {
        let form = self.form(|settings, at_hand| request::refresh(settings, refresh, at_hand)).await?;
        let answer = self.ask(&self.endpoints().await?.token, form).await?;
        match answer.token() {
            Ok(token) => Ok(Ok(token)),
            Err(wrong) if wrong.code() == "invalid_grant" => Ok(Err(wrong)),
            Err(wrong) => Err(self.failure(&wrong, &answer)),
        }
    }

    /// Makes a form with every secret at hand.
    ///
    /// # Errors
    /// A secret cannot be had, or an assertion not signed.
    pub async fn form(&self, make: impl Fn(&Settings, &AtHand<'_>) -> Result<Form, Failure>) -> Result<Form, Failure> {
        for value in self.secrets.values().chain(self.others.iter().map(|(_, value)| value)) {
            value.get().await?;
        }
        let of = |name: &'static str| self.secrets.get(name).and_then(SecretRef::peek);
        let text = |text: &Text| match self.others.iter().find(|(own, _)| own == text).and_then(|(_, value)| value.peek()) {
            Some(secret) => Ok(secret),
            None => Err(Failure::new(Cause::Credential, "a secret has not been fetched")),
        };
        let token_url = self.endpoints().await?.token.to_string();
        make(&self.settings, &AtHand { of: &of, text: &text, token_url: &token_url, moment: &Moment::real() })
    }

    /// One secret of the settings.
    ///
    /// # Errors
    /// It cannot be had, or is not given.
    pub async fn secret(&self, name: &'static str) -> Result<Secret, Failure> {
        match self.secrets.get(name) {
            Some(value) => value.get().await,
            None => Err(Failure::new(Cause::Credential, format!("`{name}` is not given"))),
        }
    }

    /// Posts a form, with a proof where tokens are bound; once more where the server wants a nonce in it (RFC 9449 §8).
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(&self, url: &Url, form: Form) -> Result<Asked, Failure> {
        let secrets = form.secrets();
        let (headers, body) = form.message();
        let mut again = self.settings.dpop;
        loop {
            let headers = self.proven(url, headers.clone())?;
            let sent = self.client.send("the token endpoint", Method::POST, url, headers, body.clone()).await;
            let answer = sent.map_err(|failure| self.reached(failure))?;
            let new = self.settings.dpop && self.state.nonces.learn(&url.origin, &answer.headers);
            let asked = Asked { id_token: self.settings.id_token, answer, secrets: secrets.clone() };
            if !again || !new || !asked.members().is_err_and(|wrong| wrong.code() == "use_dpop_nonce") {
                return Ok(asked);
            }
            again = false;
        }
    }

    /// A failure to reach the server, with the mend that is this credential's.
    pub(super) fn reached(&self, failure: Failure) -> Failure {
        match failure.cause {
            Cause::CertificateError => {
                let own =
                    self.settings.name.as_ref().map_or_else(|| "the rule".to_owned(), |name| format!("credential `{name}`"));
                failure.hint(format!("have {own} believe its CA: `oauth2: {{ ca_bundle: FILE }}`; a rule's `ca_bundle` is for the rule's hosts only"))
            }
            Cause::TlsAlert => failure.hint("if it asks for a client certificate: `oauth2: { client_certificate: NAME }`"),
            _ => failure,
        }
    }

    fn proven(&self, url: &Url, mut headers: HeaderMap) -> Result<HeaderMap, Failure> {
        if self.settings.dpop {
            let proven = Proven { method: &Method::POST, origin: &url.origin, target: &url.target, token: None };
            let nonce = self.state.nonces.of(&url.origin);
            let proof = self.key()?.proof(&proven, nonce.as_deref(), &Moment::real())?;
            headers.insert(PROOF, header_value(&proof, "proof")?);
        }
        Ok(headers)
    }

    /// The key that tokens are bound to; made when first needed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn key(&self) -> Result<Arc<Bound>, Failure> {
        let mut key = locked(&self.state.key);
        if let Some(key) = &*key {
            return Ok(key.clone());
        }
        let made = match &self.settings.dpop_key {
            Some(text) => Bound::read(text, false)?,
            None => Bound::generate()?,
        };
        Ok(key.insert(Arc::new(made)).clone())
    }

    /// Is it a token of the kind that was asked for (RFC 6749 §7.1)?
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, token: &Token) -> Result<(), Failure> {
        let kind = token.kind.as_deref().unwrap_or("bearer").to_ascii_lowercase();
        let wrong = |why: String, hint: &str| Err(self.about(&why).hint(hint));
        match (self.settings.dpop, kind.as_str()) {
            (true, "dpop") => Ok(()),
            (true, _) => wrong(
                format!("the token is of type {}, not DPoP", answer::clean(&kind)),
                "the server does not bind tokens for this client; take `dpop` out, or have it allowed there",
            ),
            (false, "dpop") => wrong("the token is of type DPoP".to_owned(), "add `dpop: true`"),
            (false, "mac" | "pop") => {
                wrong(format!("the token is of type {kind}, which is not supported"), "ask for bearer tokens")
            }
            (false, _) => Ok(()),
        }
    }

    /// What went wrong at the token endpoint, and the mend.
    pub fn failure(&self, wrong: &Wrong, asked: &Asked) -> Failure {
        let url = self.endpoints.get().map(|known| known.token.shown()).unwrap_or_default();
        let failure = self.about(&format!("the token endpoint {url} refused: {wrong}"));
        let failure = match wrong {
            Wrong::Error { .. } => failure,
            Wrong::Nonsense(why) => self.about(&format!("the token endpoint {url} gave no token: {why}")),
        };
        let failure = failure.said(wrong.said(), &[]);
        if let Some(said) = &failure.said {
            tracing::warn!(credential = self.settings.label(), error = wrong.code(), %said, "a token endpoint refused");
        }
        let status = asked.answer.status;
        if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
            return Failure { cause: Cause::CredentialUnavailable, ..failure }.hint("it may answer later");
        }
        let clock = clock_hint(&asked.answer)
            .filter(|_| matches!(wrong.code(), "invalid_client" | "invalid_grant" | "invalid_dpop_proof"));
        match clock.or_else(|| super::mend(self.settings.grant, wrong).map(str::to_owned)) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// The 502 of somebody who has to sign in.
    pub fn sign_in(&self, why: &str) -> Failure {
        let mend = match (&self.settings.name, self.settings.grant) {
            (_, Grant::RefreshToken) | (None, _) => "put a new refresh token into the configuration".to_owned(),
            (Some(name), _) => format!("run `gatepass login {name}`"),
        };
        self.about(why).hint(mend)
    }

    fn about(&self, why: &str) -> Failure {
        Failure::new(Cause::Credential, format!("{} has no token: {why}", self.settings.label()))
    }

    /// What is kept or held now, for `gatepass status`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn kept(&self) -> Result<Option<Kept>, Failure> {
        self.store.as_ref().map_or(Ok(None), Store::read)
    }
}

/// Of a kept token that has less left, a new one is asked for.
const RENEWAL: Duration = Duration::from_secs(90);

/// Signatures have times in them: a clock that is off is the likeliest reason for a refusal.
fn clock_hint(answer: &Fetched) -> Option<String> {
    let date = answer.headers.get(header::DATE)?.to_str().ok()?;
    let theirs = httpdate(date)?;
    let ours = Moment::real().now();
    let apart = ours.duration_since(theirs).unwrap_or_else(|early| early.duration());
    (apart > Duration::from_secs(30)).then(|| {
        let word = if ours > theirs { "ahead of" } else { "behind" };
        format!("this machine's clock is {} seconds {word} the server's; set it right", apart.as_secs())
    })
}

/// RFC 9110 §5.6.7, in the form that servers send.
fn httpdate(text: &str) -> Option<SystemTime> {
    use time::format_description::well_known::Rfc2822;
    let text = text.replace("GMT", "+0000");
    time::OffsetDateTime::parse(&text, &Rfc2822).ok().map(SystemTime::from)
}
