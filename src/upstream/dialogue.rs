//! What is said to a proxy on one connection so that it lets our user through (RFC 9110 §11.7).

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use super::proxy::Proxy;
use crate::challenge::digest::{self, DigestSession};
use crate::challenge::gss;
use crate::challenge::ntlm::{self, Account, NtlmContext};
use crate::challenge::{self, Challenge};
use crate::draft::Body;
use crate::failure::{Cause, Failure};
use crate::moment::{Moment, NonceKind, random_hex};
use crate::upstream::settings::ProxyAuth;

pub struct Dialogue {
    proxy: Arc<Proxy>,
    sent: Sent,
    ntlm: Option<ntlm::Challenge>,
    /// The connection as such is let through.
    authenticated: bool,
    /// A nonce that this dialogue was given: refusing it is refusing the password.
    fresh: bool,
}

/// What the last request brought along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    NtlmFirst,
    /// The whole proof.
    Proof,
}

impl Dialogue {
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self { proxy, sent: Sent::Nothing, ntlm: None, authenticated: false, fresh: false }
    }

    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Nothing is known yet of what the proxy will say to a request with a user's proof.
    pub fn is_unsettled(&self) -> bool {
        let auth = self.proxy.auth();
        let known = self.proxy.known();
        let told = auth == Some(ProxyAuth::Basic) || (auth == Some(ProxyAuth::Digest) && known.session.is_some());
        self.proxy.via().username.is_some() && !(self.authenticated || told || known.silent)
    }

    /// The credential for the next request, if there is one to be sent. `first`: NTLM's first message may be sent
    /// by this request, which the proxy then refuses.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn credential(
        &mut self,
        method: &str,
        target: &str,
        certificate: Option<&[u8]>,
        first: bool,
    ) -> Result<Option<HeaderValue>, Failure> {
        self.sent = Sent::Nothing;
        let auth = self.proxy.auth().filter(|_| !self.authenticated);
        let proxy = self.proxy.clone();
        let Some(auth) = auth else { return Ok(None) };
        if auth == ProxyAuth::Negotiate {
            return self.ticket(certificate).await.map(Some);
        }
        proxy.prepare().await?;
        let Some((username, password)) = proxy.account()? else { return Ok(None) };
        let text = match auth {
            ProxyAuth::Basic => {
                let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
                Some(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
            }
            ProxyAuth::Digest => {
                let cnonce = Moment::real().nonce(NonceKind::Cnonce, random_hex::<16>);
                let session = proxy.known().session.as_mut().map(|session| session.next(&cnonce));
                let request = digest::Request { method, target, body: &Body::Empty };
                session.map(|session| session.answer(username, password.expose(), &request, &cnonce)).transpose()?
            }
            ProxyAuth::Ntlm => {
                let (user, domain) = ntlm::split_name(username, proxy.via().domain.as_deref());
                let account = Account { user, domain, password: password.expose(), workstation: "" };
                self.ntlm_message(&account, certificate, first)?
                    .map(|message| format!("NTLM {}", BASE64_STANDARD.encode(message)))
            }
            ProxyAuth::Negotiate => None,
        };
        text.map(|text| self.field(Zeroizing::new(text))).transpose()
    }

    fn field(&mut self, text: Zeroizing<String>) -> Result<HeaderValue, Failure> {
        let unfit = |_| {
            Failure::new(Cause::Credential, format!("{}: the user name holds characters that a header cannot carry", self.proxy))
        };
        let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
        value.set_sensitive(true);
        if self.sent != Sent::NtlmFirst {
            self.sent = Sent::Proof;
        }
        Ok(value)
    }

    /// The user's Kerberos ticket for the proxy.
    async fn ticket(&mut self, certificate: Option<&[u8]>) -> Result<HeaderValue, Failure> {
        let service = gss::Service::Host(self.proxy.via().host.to_string());
        let wish = gss::Wish { service, delegate: false, certificate: certificate.map(<[u8]>::to_vec) };
        let (_, token) = gss::begin(wish).await?;
        self.field(Zeroizing::new(format!("Negotiate {}", BASE64_STANDARD.encode(token))))
    }

    fn ntlm_message(
        &mut self,
        account: &Account<'_>,
        certificate: Option<&[u8]>,
        first: bool,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(challenge) = self.ntlm.take() {
            let service = format!("HTTP/{}", self.proxy.via().host);
            let context = NtlmContext::of(&Moment::real(), certificate, &service)?;
            return Ok(Some(ntlm::authenticate(account, &challenge, &context)));
        }
        // A request is only held back where the proxy has shown that it will refuse it.
        if !first && self.proxy.known().auth != Some(ProxyAuth::Ntlm) {
            return Ok(None);
        }
        self.sent = Sent::NtlmFirst;
        Ok(Some(ntlm::negotiate().to_vec()))
    }

    /// Was the last request only there to be challenged?
    pub fn asks(&self) -> bool {
        self.sent == Sent::NtlmFirst
    }

    /// The proxy let the last request through.
    pub fn accepted(&mut self) {
        let sent = std::mem::replace(&mut self.sent, Sent::Nothing);
        self.proxy.known().silent = sent == Sent::Nothing && !self.authenticated;
        self.authenticated |= sent == Sent::Proof && matches!(self.proxy.auth(), Some(ProxyAuth::Ntlm | ProxyAuth::Negotiate));
    }

    /// Hears a 407.
    ///
    /// # Errors
    /// What it asks for cannot be given, or was given and is refused.
    pub fn challenged(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        let challenges = challenge::read(headers, &header::PROXY_AUTHENTICATE);
        let offers =
            || challenge::offered(headers, &header::PROXY_AUTHENTICATE).unwrap_or_else(|| "no way of doing so".to_owned());
        if self.proxy.via().username.is_none() && self.proxy.via().auth.is_none() {
            return Err(self.proxy.wants_user(&offers()));
        }
        self.authenticated = false;
        let renewed = self.proxy.auth() == Some(ProxyAuth::Digest) && (!self.fresh || digest::is_stale(&challenges));
        match self.sent {
            Sent::NtlmFirst => return self.ntlm_challenged(&challenges, &offers()),
            Sent::Proof if !renewed => {
                // With the nonce known, the next connection would begin with an answer that is refused, and give another.
                let mut known = self.proxy.known();
                (known.auth, known.session) = (None, None);
                drop(known);
                let what = if self.proxy.via().auth == Some(ProxyAuth::Negotiate) {
                    "the Kerberos ticket"
                } else {
                    "the user name or password"
                };
                return Err(self.proxy.refuses(&format!("{what}; it offers {}", offers())));
            }
            Sent::Proof | Sent::Nothing => {}
        }
        let wanted = match self.proxy.via().auth {
            Some(auth) => Some(auth).filter(|auth| offered(&challenges, *auth)),
            // By curl's order; Negotiate needs a ticket and not a password.
            None => [ProxyAuth::Digest, ProxyAuth::Ntlm, ProxyAuth::Basic].into_iter().find(|auth| offered(&challenges, *auth)),
        };
        let wanted = wanted.ok_or_else(|| self.not_offered(&offers()))?;
        let mut known = self.proxy.known();
        if wanted == ProxyAuth::Digest {
            known.session = DigestSession::choose(&challenges).map(|session| session.replacing(known.session.as_ref()));
            self.fresh = true;
        }
        known.auth = Some(wanted);
        known.silent = false;
        Ok(())
    }

    fn ntlm_challenged(&mut self, challenges: &[Challenge], offers: &str) -> Result<(), Failure> {
        let token =
            challenges.iter().filter(|challenge| challenge.scheme == "ntlm").find_map(|challenge| challenge.token68.as_ref());
        let Some(token) = token else { return Err(self.not_offered(offers)) };
        let message = BASE64_STANDARD.decode(token).map_err(|_| "its challenge is not base64");
        let parsed = message.and_then(|message| ntlm::Challenge::parse(&message));
        self.ntlm = Some(parsed.map_err(|why| Failure::new(Cause::Credential, format!("NTLM with {}: {why}", self.proxy)))?);
        self.proxy.known().auth = Some(ProxyAuth::Ntlm);
        Ok(())
    }

    fn not_offered(&self, offers: &str) -> Failure {
        let wanted = match self.proxy.via().auth {
            Some(ProxyAuth::Basic) => "basic",
            Some(ProxyAuth::Digest) => "digest",
            Some(ProxyAuth::Ntlm) => "ntlm",
            Some(ProxyAuth::Negotiate) => "negotiate",
            None => "anything that user name and password could answer",
        };
        Failure::new(Cause::Credential, format!("{} does not offer {wanted}; it offers {offers}", self.proxy))
            .hint("set `auth` of `upstream_proxy` or `via` to what it offers")
    }

    /// The proxy ended the connection after its 407; the dialogue goes on by another.
    ///
    /// # Errors
    /// It was about that connection.
    pub fn moved(&self) -> Result<(), Failure> {
        if self.ntlm.is_none() {
            return Ok(());
        }
        Err(Failure::new(Cause::Credential, format!("{} ends the connection after NTLM's challenge", self.proxy))
            .hint("NTLM needs a connection that the proxy keeps open; look for its setting of keep-alive"))
    }

    pub fn endless(&self) -> Failure {
        Failure::new(Cause::Credential, format!("{} kept asking for the user to be proved", self.proxy))
    }
}

fn offered(challenges: &[Challenge], auth: ProxyAuth) -> bool {
    let named = |name: &str| challenges.iter().any(|challenge| challenge.scheme == name);
    match auth {
        ProxyAuth::Basic => named("basic"),
        ProxyAuth::Digest => DigestSession::choose(challenges).is_some(),
        ProxyAuth::Ntlm => named("ntlm"),
        ProxyAuth::Negotiate => named("negotiate"),
    }
}
