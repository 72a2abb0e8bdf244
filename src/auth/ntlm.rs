//! `ntlm` (MS-NTHT): the user is proved to a connection, once, in three messages; requests on it that follow need
//! nothing more. Under the name `NTLM`, or under `Negotiate` where a server offers only that.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, header};
use zeroize::Zeroizing;

use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, fetched, header_value, prepared, scheme_fields,
};
use crate::challenge;
use crate::challenge::ntlm::{self, Account, Challenge, NtlmContext};
use crate::draft::{Body, Draft};
use crate::failure::{Cause, Failure};
use crate::origin::Origin;
use crate::provided::SecretRef;
use crate::secrets;
use crate::settings::{Decode, Node};

pub static SCHEME: Scheme = Scheme {
    name: "ntlm",
    doc: "Windows' NTLM, version 2 with integrity code and channel binding (RFC 5929). It authenticates the connection: each client connection has an upstream connection of its own, HTTP/1.1, and a body leaves only after the server has named its challenge. Under `Negotiate` where a server offers only that.",
    short: None,
    settings: &[
        ("username", Shape::Secret, "required", "`DOMAIN\\user`, `user@domain`, or the user beside `domain`"),
        ("password", Shape::Secret, "required", "a SECRET"),
        ("domain", Shape::Text, "", "the user's domain, where `username` does not say it"),
        ("workstation", Shape::Text, "", "the name of this machine to tell the server"),
        ("spn", Shape::Plain, "HTTP/HOST", "the service name to tell the server; empty: none"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let username = decode.required(&fields, SCHEME.name, "username").and_then(|node| decode.text(node));
    let password = decode.required(&fields, SCHEME.name, "password").and_then(|node| decode.text(node));
    let mut optional = |key: &str| match fields.get(key) {
        None => Some(None),
        Some(node) => decode.string(node).map(Some),
    };
    let (domain, workstation, spn) = (optional("domain"), optional("workstation"), optional("spn"));
    Some(Arc::new(Ntlm {
        username: secrets::reference(username?),
        password: secrets::reference(password?),
        domain: domain?,
        workstation: workstation?.unwrap_or_default(),
        spn: spn?,
        negotiates: Mutex::default(),
    }))
}

struct Ntlm {
    username: SecretRef,
    password: SecretRef,
    domain: Option<String>,
    workstation: String,
    spn: Option<String>,
    /// Origins that offer NTLM only under the name `Negotiate`.
    negotiates: Mutex<HashSet<Arc<Origin>>>,
}

/// Of those.
const ORIGINS: usize = 256;

/// How far a connection has come; a new one has none.
enum Stage {
    /// The first message has left; `withheld`: without the request's body.
    Asked {
        withheld: bool,
    },
    Challenged(Challenge),
    /// The last message has left.
    Proved,
    /// Nothing more is needed.
    Authenticated,
    /// The server answered without asking: the request goes as it is.
    Open,
    Failed(Failure),
}

impl Ntlm {
    /// The scheme's name toward this origin.
    fn word(&self, origin: &Origin) -> &'static str {
        let negotiates = self.negotiates.lock().unwrap_or_else(|e| e.into_inner()).contains(origin);
        if negotiates { "Negotiate" } else { "NTLM" }
    }

    fn only_negotiates(&self, origin: &Arc<Origin>) {
        let mut negotiates = self.negotiates.lock().unwrap_or_else(|e| e.into_inner());
        if negotiates.len() >= ORIGINS {
            negotiates.clear();
        }
        negotiates.insert(origin.clone());
    }

    fn last_message(&self, challenge: &Challenge, draft: &Draft, round: &Round<'_>) -> Result<Vec<u8>, Failure> {
        let (username, password) = (prepared(&self.username)?, prepared(&self.password)?);
        let (user, domain) = ntlm::split_name(username.expose(), self.domain.as_deref());
        let account = Account { user, domain, password: password.expose(), workstation: &self.workstation };
        let service = self.spn.clone().unwrap_or_else(|| format!("HTTP/{}", draft.origin.host));
        let context = NtlmContext::of(round.moment, round.channel_binding, &service)?;
        Ok(ntlm::authenticate(&account, challenge, &context))
    }

    /// What a 401 to the first message leads to; `None`: nothing that a further message could mend.
    fn challenged(&self, answer: &Answer<'_>) -> Option<Stage> {
        let origin = &answer.draft.origin;
        let word = self.word(origin);
        let challenges = challenge::read(answer.headers, &header::WWW_AUTHENTICATE);
        let of = |name: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(name));
        if let Some(token) = challenges.iter().filter(|c| c.scheme.eq_ignore_ascii_case(word)).find_map(|c| c.token68.as_ref()) {
            let message = BASE64_STANDARD.decode(token).map_err(|_| "its challenge is not base64");
            return Some(match message.and_then(|message| Challenge::parse(&message)) {
                Ok(challenge) => Stage::Challenged(challenge),
                Err(why) => Stage::Failed(Failure::new(Cause::Credential, format!("NTLM with {origin}: {why}"))),
            });
        }
        if of(word).is_some() {
            return None;
        }
        if word == "NTLM" && of("Negotiate").is_some() {
            self.only_negotiates(origin);
            return Some(Stage::Asked { withheld: false });
        }
        Some(Stage::Failed(not_offered(origin, answer.headers)))
    }
}

fn not_offered(origin: &Origin, headers: &HeaderMap) -> Failure {
    let failure = |offers: &str| Failure::new(Cause::Credential, format!("{origin} does not offer NTLM; it offers {offers}"));
    match challenge::offered(headers, &header::WWW_AUTHENTICATE) {
        Some(offers) => failure(&offers).hint("give its rule a credential of a type that the server offers"),
        None => failure("no way of authenticating"),
    }
}

impl Authorizer for Ntlm {
    fn facts(&self) -> Facts {
        Facts { answers: true, own_connection: true, ..Facts::default() }
    }

    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }

    /// A connection that was authenticated may have to be so anew; a first body is not sent before that is known.
    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Spare
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(NtlmAttempt { scheme: self, stage: None })
    }
}

/// One connection.
struct NtlmAttempt {
    scheme: Arc<Ntlm>,
    stage: Option<Stage>,
}

impl Attempt for NtlmAttempt {
    fn prepare<'a>(&'a mut self, _: &'a Draft, _: &'a Round<'a>) -> Option<Preparation<'a>> {
        fetched([&self.scheme.username, &self.scheme.password])
    }

    fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let scheme = &self.scheme;
        draft.headers.remove(header::AUTHORIZATION);
        let mut withholds_body = false;
        let (message, next) = match &self.stage {
            Some(Stage::Authenticated | Stage::Open) => return Ok(Signed::default()),
            Some(Stage::Failed(failure)) => return Err(failure.clone()),
            Some(Stage::Challenged(challenge)) => (scheme.last_message(challenge, draft, round)?, Stage::Proved),
            None | Some(Stage::Asked { .. } | Stage::Proved) => {
                withholds_body = !matches!(draft.body, Body::Empty);
                (ntlm::negotiate().to_vec(), Stage::Asked { withheld: withholds_body })
            }
        };
        let text = Zeroizing::new(format!("{} {}", scheme.word(&draft.origin), BASE64_STANDARD.encode(message)));
        draft.headers.insert(header::AUTHORIZATION, header_value(&text, "NTLM message")?);
        self.stage = Some(next);
        Ok(Signed { withholds_body, ..Signed::default() })
    }

    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], _: &Round<'_>) -> Verdict {
        let refused = answer.status == StatusCode::UNAUTHORIZED;
        let (next, verdict) = match (&self.stage, refused) {
            (Some(Stage::Asked { .. }), true) => match self.scheme.challenged(answer) {
                Some(stage) => (Some(stage), Verdict::Again),
                None => (None, Verdict::Final),
            },
            // It asked nothing; a body that was kept back follows now.
            (Some(Stage::Asked { withheld: true }), false) => (Some(Stage::Open), Verdict::Again),
            (Some(Stage::Proved | Stage::Authenticated), false) => (Some(Stage::Authenticated), Verdict::Final),
            // The server forgot who this connection is, or asks after all.
            (Some(Stage::Authenticated | Stage::Open), true) => (None, Verdict::Again),
            _ => (None, Verdict::Final),
        };
        self.stage = next;
        verdict
    }
}

#[cfg(test)]
#[path = "ntlm_tests.rs"]
mod tests;
