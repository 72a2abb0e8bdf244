//! `negotiate` (RFC 4559): the user's Kerberos ticket, as SPNEGO. A token goes along with every request, since some servers
//! ask for one each; others take it for the connection, which is therefore the client's own.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, header};
use zeroize::Zeroizing;

use super::{
    Answer, Attempt, Authorizer, BodyNeed, BuildCx, CredentialLocation, Facts, Locations, Preparation, Round, Scheme, Shape,
    Signed, Verdict, header_value, scheme_fields,
};
use crate::challenge;
use crate::challenge::gss::{self, Context, Service, Wish};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::settings::{Decode, Node};

/// The builds that have Kerberos.
pub const NEGOTIATE: &str = "the image has it; build with `--features negotiate` to have it";

pub static SCHEME: Scheme = Scheme {
    name: "negotiate",
    doc: "The user's Kerberos ticket (from `kinit`, or a keytab that KRB5_CLIENT_KTNAME names), sent with the first request already; the server's answer is checked in turn. It may authenticate the connection: each client connection has an upstream connection of its own, HTTP/1.1. Needs a build with the feature `negotiate`.",
    short: None,
    settings: &[
        (
            "spn",
            Shape::Plain,
            "HTTP/HOST",
            "the service, where the KDC knows it by another name; `HTTP/NAME` or `HTTP/NAME@REALM`",
        ),
        ("delegate", Shape::Bool, "false", "hand the ticket on, so that the server can act as the user elsewhere"),
    ],
    build,
};

fn build(node: &Node, decode: &mut Decode<'_>, _: &BuildCx<'_>) -> Option<Arc<dyn Authorizer>> {
    let fields = scheme_fields(node, decode, &SCHEME)?;
    let spn = match fields.get("spn") {
        None => None,
        Some(node) => Some(decode.string(node)?),
    };
    let delegate = fields.get("delegate").map_or(Some(false), |node| decode.boolean(node))?;
    if !cfg!(feature = "negotiate") {
        decode.report.error("not-in-this-build", node.place, "Kerberos is not in this build").help(NEGOTIATE);
        return None;
    }
    Some(Arc::new(Negotiate { spn, delegate }))
}

struct Negotiate {
    spn: Option<String>,
    delegate: bool,
}

/// Of the request under way.
struct Begun {
    context: Context,
    /// To be sent; taken when it is.
    token: Option<Vec<u8>>,
    /// A second leg.
    continued: bool,
    failure: Option<Failure>,
}

/// The server's token; `Some(None)`: it offers the scheme without one.
fn token(headers: &HeaderMap) -> Option<Option<Vec<u8>>> {
    let challenges = challenge::read(headers, &header::WWW_AUTHENTICATE);
    let offered = challenges.into_iter().find(|challenge| challenge.scheme == "negotiate")?;
    Some(offered.token68.and_then(|text| BASE64_STANDARD.decode(text).ok()))
}

impl Negotiate {
    fn service(&self, draft: &Draft) -> Service {
        match &self.spn {
            None => Service::Host(draft.origin.host.to_string()),
            Some(name) => Service::Principal(name.clone()),
        }
    }
}

impl Authorizer for Negotiate {
    fn facts(&self) -> Facts {
        Facts { answers: true, own_connection: true, ..Facts::default() }
    }

    fn locations(&self) -> Locations {
        Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
    }

    fn body_need(&self, _: &Draft) -> BodyNeed {
        BodyNeed::Spare
    }

    fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
        Box::new(NegotiateAttempt { scheme: self, begun: None })
    }
}

/// One connection.
struct NegotiateAttempt {
    scheme: Arc<Negotiate>,
    begun: Option<Begun>,
}

impl Attempt for NegotiateAttempt {
    fn prepare<'a>(&'a mut self, draft: &'a Draft, round: &'a Round<'a>) -> Option<Preparation<'a>> {
        if self.begun.as_ref().is_some_and(|begun| begun.token.is_some() || begun.failure.is_some()) {
            return None;
        }
        Some(Box::pin(async move {
            let certificate = round.channel_binding.map(<[u8]>::to_vec);
            let wish = Wish { service: self.scheme.service(draft), delegate: self.scheme.delegate, certificate };
            let (context, token) = gss::begin(wish).await?;
            self.begun = Some(Begun { context, token: Some(token), continued: false, failure: None });
            Ok(())
        }))
    }

    fn sign(&mut self, draft: &mut Draft, _: &Round<'_>) -> Result<Signed, Failure> {
        draft.headers.remove(header::AUTHORIZATION);
        let begun = self.begun.as_mut();
        let begun = begun.ok_or_else(|| Failure::new(Cause::Credential, "the Kerberos ticket has not been fetched"))?;
        if let Some(failure) = begun.failure.take() {
            return Err(failure);
        }
        let token = begun.token.take().ok_or_else(|| Failure::new(Cause::Credential, "there is no Kerberos token to send"))?;
        let text = Zeroizing::new(format!("Negotiate {}", BASE64_STANDARD.encode(token)));
        draft.headers.insert(header::AUTHORIZATION, header_value(&text, "Kerberos token")?);
        Ok(Signed::default())
    }

    /// A server that lets the user in proves itself, unless it leaves that out.
    fn verify(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
        let (Some(Some(token)), false) = (token(answer.headers), answer.status == StatusCode::UNAUTHORIZED) else {
            return Ok(());
        };
        let Some(begun) = &mut self.begun else { return Ok(()) };
        begun.context.answer(&token).map(|_| ()).map_err(|why| {
            let origin = &answer.draft.origin;
            Failure::new(
                Cause::CertificateError,
                format!("{origin} did not prove that it is the service the ticket is for: {why}"),
            )
            .hint("look at who answers there; a wrong `spn` shows this too")
        })
    }

    fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], _: &Round<'_>) -> Verdict {
        if answer.status != StatusCode::UNAUTHORIZED {
            return Verdict::Final;
        }
        let origin = &answer.draft.origin;
        let Some(begun) = &mut self.begun else { return Verdict::Final };
        match token(answer.headers) {
            None => {
                let offers = challenge::offered(answer.headers, &header::WWW_AUTHENTICATE)
                    .unwrap_or_else(|| "no way of authenticating".to_owned());
                let failure = Failure::new(Cause::Credential, format!("{origin} does not offer Negotiate; it offers {offers}"));
                begun.failure = Some(failure.hint("give its rule a credential of a type that the server offers"));
                Verdict::Again
            }
            Some(Some(token)) if !begun.continued => match begun.context.answer(&token) {
                Ok(Some(next)) => {
                    (begun.token, begun.continued) = (Some(next), true);
                    Verdict::Again
                }
                _ => Verdict::Final,
            },
            Some(_) => Verdict::Final,
        }
    }
}
