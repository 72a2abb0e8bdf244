//! Rounds: a request is signed and sent, and once more where an authorizer asks for that after the answer. One driver
//! for every way that a request may go.

use std::future::Future;
use std::sync::Arc;

use http::{Response, StatusCode};

use super::attempts::Attempts;
use super::peeked::Peeked;
use crate::auth::Answer;
use crate::draft::{BodyTransformFactory, Draft};
use crate::failure::{Cause, Failure};
use crate::replace::Replacements;
use crate::upstream::ResponseBody;

/// What an attempt leaves by.
pub trait Transport: Send {
    /// It may ask for an attempt to be made anew though there was no answer.
    const BEGINS_ANEW: bool = false;

    /// Has a connection for the next attempt, where the authorizers must know it before they sign.
    ///
    /// # Errors
    /// None can be had.
    fn connect(&mut self, _attempts: &mut Attempts<'_>) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Sends the request as it was signed, and waits for the head of the answer.
    ///
    /// # Errors
    /// There is none, or none that the client may have.
    fn send(&mut self, request: SignedRequest) -> impl Future<Output = Result<Sent, Failure>> + Send;

    /// Does another protocol begin with this answer?
    ///
    /// # Errors
    /// One does, and not the one that was asked for: the connection would be handed to whoever writes next.
    fn is_switched(&self, response: &Response<ResponseBody>) -> Result<bool, Failure> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::new(Cause::UpgradeFailed, "the origin switched protocols without being asked"));
        }
        Ok(false)
    }

    /// Makes ready for the request to leave once more, from its start. False: some of its body has left for good.
    fn rewind(&mut self) -> bool;

    /// Is done with a challenge.
    fn dismiss(&mut self, challenge: Response<ResponseBody>) -> impl Future<Output = ()> + Send;
}

/// A request with all that is added to it.
pub struct SignedRequest {
    pub draft: Draft,
    /// How its body is changed on its way out.
    pub transforms: Vec<BodyTransformFactory>,
    /// What the client must not see in the answer.
    pub masks: Option<Arc<Replacements>>,
    /// It leaves without its body, since it is only there to be challenged.
    pub withholds_body: bool,
}

pub enum Sent {
    Answered(Response<ResponseBody>),
    /// Nothing was done with it, and what was known of the connection is gone: the attempt is to be made anew. With what
    /// to tell the client when there have been enough.
    Lost(Failure),
}

/// The answer that the client gets.
pub struct Answered {
    pub response: Response<ResponseBody>,
    /// What was read of its body to see what it says.
    pub peeked: Peeked,
    /// Another protocol begins with it.
    pub switched: bool,
    /// What became of the credential, where that is something else than a refusal.
    pub fate: Option<String>,
    /// Why there was no further round though one was asked for.
    pub ended: Option<&'static str>,
}

const USED_UP: &str = "it asked for another round of authentication after the last one that is sent; where a scheme authenticates \
                       the connection, the server must keep it open after its 401";

const BODY_GONE: &str =
    "what it asks for is known now, but this body was on its way and is too large to be sent twice: send the request again";

/// Has the request accepted, in as many rounds as it takes and `attempts::ROUNDS` allow. When they are used up, the
/// last answer is passed on, and says so.
///
/// # Errors
/// A credential cannot be had, there is no answer, or it does not come from whom it should.
pub async fn run<T: Transport>(transport: &mut T, attempts: &mut Attempts<'_>, mut draft: Draft) -> Result<Answered, Failure> {
    loop {
        transport.connect(attempts).await?;
        let transforms = attempts.sign(&mut draft).await?;
        let masks = attempts.masks(&draft)?;
        // A draft that may be needed again is copied; the common one is spent.
        let kept = (T::BEGINS_ANEW || attempts.listen()).then(|| draft.clone());
        let request = SignedRequest { draft, transforms, masks, withholds_body: attempts.withholds_body() };
        let mut response = match (transport.send(request).await?, &kept) {
            (Sent::Answered(response), _) => response,
            (Sent::Lost(_), Some(kept)) if attempts.advance() => {
                draft = kept.clone();
                continue;
            }
            (Sent::Lost(failure), _) => return Err(failure),
        };
        let Some(kept) = kept else {
            let switched = transport.is_switched(&response)?;
            return Ok(Answered { response, peeked: Peeked::default(), switched, fate: None, ended: None });
        };
        attempts.verify(&Answer { draft: &kept, status: response.status(), headers: response.headers() })?;
        if transport.is_switched(&response)? {
            return Ok(Answered { response, peeked: Peeked::default(), switched: true, fate: None, ended: None });
        }
        let peeked = attempts.peek(&mut response).await;
        let answer = Answer { draft: &kept, status: response.status(), headers: response.headers() };
        // They learn from it also where nothing can be sent again.
        let wanted = attempts.wants_another_round(&answer, &peeked.bytes());
        let ended = match wanted {
            false => None,
            true if !attempts.advance() => Some(USED_UP),
            true if !transport.rewind() => Some(BODY_GONE),
            true => {
                transport.dismiss(response).await;
                draft = kept;
                continue;
            }
        };
        let fate = attempts.fate(&answer);
        return Ok(Answered { response, peeked, switched: false, fate, ended });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue, Method, header};

    use super::*;
    use crate::auth::{Attempt, Authorizer, CredentialLocation, Facts, Locations, Round, Signed, Verdict};
    use crate::exchange::attempts::ROUNDS;
    use crate::gate::BoundAuthorizer;
    use crate::origin::{Host, Origin, Scheme};

    const IMPOSTOR: HeaderName = HeaderName::from_static("x-impostor");

    /// Asks for another round after every 401, and believes no impostor.
    struct Stubborn;

    impl Authorizer for Stubborn {
        fn facts(&self) -> Facts {
            Facts { answers: true, ..Facts::default() }
        }

        fn locations(&self) -> Locations {
            Locations::of([CredentialLocation::Header(header::AUTHORIZATION)])
        }

        fn begin(self: Arc<Self>) -> Box<dyn Attempt> {
            Box::new(Self)
        }
    }

    impl Attempt for Stubborn {
        fn sign(&mut self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
            draft.headers.insert(header::AUTHORIZATION, HeaderValue::from(u16::from(round.attempt)));
            Ok(Signed::default())
        }

        fn verify(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
            match answer.headers.contains_key(IMPOSTOR) {
                true => Err(Failure::new(Cause::CertificateError, "an impostor")),
                false => Ok(()),
            }
        }

        fn on_response(&mut self, answer: &Answer<'_>, _: &[u8], _: &Round<'_>) -> Verdict {
            if answer.status == StatusCode::UNAUTHORIZED { Verdict::Again } else { Verdict::Final }
        }
    }

    /// Has its answers from a list; `None`: the connection broke. What it was asked to send is noted by its credential.
    struct Listed {
        answers: VecDeque<Option<Response<ResponseBody>>>,
        sent: Vec<HeaderValue>,
        rewinds: bool,
    }

    impl Transport for Listed {
        const BEGINS_ANEW: bool = true;

        async fn send(&mut self, request: SignedRequest) -> Result<Sent, Failure> {
            self.sent.push(request.draft.headers[header::AUTHORIZATION].clone());
            Ok(match self.answers.pop_front().flatten() {
                Some(answer) => Sent::Answered(answer),
                None => Sent::Lost(Failure::new(Cause::ConnectionTerminated, "it broke")),
            })
        }

        fn rewind(&mut self) -> bool {
            self.rewinds
        }

        async fn dismiss(&mut self, _: Response<ResponseBody>) {}
    }

    fn answer(status: u16) -> Option<Response<ResponseBody>> {
        let mut answer = Response::new(ResponseBody::empty());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        Some(answer)
    }

    /// What comes of it, and how often it was sent.
    async fn run_with(rewinds: bool, answers: Vec<Option<Response<ResponseBody>>>) -> (Result<Answered, Failure>, usize) {
        let (facts, locations) = (Stubborn.facts(), Stubborn.locations());
        let authorizer = Arc::new(Stubborn);
        let auth = [Arc::new(BoundAuthorizer { authorizer, session: None, facts, locations, label: "s".into(), kind: "s" })];
        let mut attempts = Attempts::by(&auth);
        let origin = Arc::new(Origin::new(Scheme::Https, Host::parse("a.test").unwrap(), 443));
        let draft = Draft {
            method: Method::GET,
            origin,
            target: "/".parse().unwrap(),
            headers: Default::default(),
            body: crate::draft::Body::Empty,
        };
        let mut listed = Listed { answers: answers.into(), sent: Vec::new(), rewinds };
        let result = run(&mut listed, &mut attempts, draft).await;
        for (n, credential) in listed.sent.iter().enumerate() {
            assert_eq!(*credential, HeaderValue::from(n), "each attempt is signed anew");
        }
        (result, listed.sent.len())
    }

    #[tokio::test]
    async fn the_last_answer_is_passed_on_and_says_so_when_the_rounds_are_used_up() {
        let (answered, sent) = run_with(true, (0..9).map(|_| answer(401)).collect()).await;
        let answered = answered.ok().unwrap();
        assert_eq!((answered.response.status().as_u16(), answered.ended, sent), (401, Some(USED_UP), ROUNDS.into()));
        let (answered, sent) = run_with(true, vec![answer(401), answer(401), answer(200), answer(401)]).await;
        let answered = answered.ok().unwrap();
        assert_eq!((answered.response.status().as_u16(), answered.ended, sent), (200, None, 3));
    }

    #[tokio::test]
    async fn a_body_that_has_left_is_not_sent_twice_and_its_answer_says_so() {
        let (answered, sent) = run_with(false, vec![answer(401), answer(200)]).await;
        let answered = answered.ok().unwrap();
        assert_eq!((answered.response.status().as_u16(), answered.ended, sent), (401, Some(BODY_GONE), 1));
    }

    #[tokio::test]
    async fn an_answer_from_somebody_else_is_not_passed_on() {
        let mut false_answer = answer(200).unwrap();
        false_answer.headers_mut().insert(IMPOSTOR, HeaderValue::from_static("1"));
        let (answered, _) = run_with(true, vec![answer(401), Some(false_answer)]).await;
        assert_eq!(answered.err().map(|failure| failure.cause), Some(Cause::CertificateError));
    }

    #[tokio::test]
    async fn an_attempt_that_was_lost_is_made_anew_but_not_for_ever() {
        let (answered, sent) = run_with(true, vec![None, None, answer(200)]).await;
        assert_eq!((answered.ok().unwrap().response.status().as_u16(), sent), (200, 3));
        let (answered, sent) = run_with(true, Vec::new()).await;
        assert_eq!((answered.err().map(|failure| failure.details), sent), (Some("it broke".to_owned()), ROUNDS.into()));
    }

    #[tokio::test]
    async fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
        let (answered, _) = run_with(true, vec![answer(101)]).await;
        assert_eq!(answered.err().map(|failure| failure.cause), Some(Cause::UpgradeFailed));
    }
}
