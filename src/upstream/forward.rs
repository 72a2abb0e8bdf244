//! Requests for plain-http origins that a proxy is given in absolute form (RFC 9112 §3.2.2), each with what the proxy
//! wants to know of our user.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;

use super::dialogue::Dialogue;
use super::proxy::{Proxy, ROUNDS};
use super::{Deadline, Lease, Outbound, ResponseBody, SendError, Stream};
use crate::failure::{Cause, Failure};

/// For a proxy that will ask for its user to say so before a body leaves.
const CHALLENGE_HEAD_START: Duration = Duration::from_secs(1);

fn too_large() -> Failure {
    Failure::new(
        Cause::Credential,
        "the upstream proxy asked for its user while a body was on its way that is too large to be sent twice",
    )
    .hint("send the request again: what the proxy asked for is known now")
}

/// A connection to such a proxy.
pub struct Forward {
    dialogue: Dialogue,
    /// The proxy's own, where it speaks TLS; for channel bindings.
    certificate: Option<Vec<u8>>,
    /// The last request left without its body.
    withheld: bool,
}

impl Forward {
    pub fn new(proxy: Arc<Proxy>, stream: &Stream) -> Self {
        Self { dialogue: Dialogue::new(proxy), certificate: stream.peer_certificate().map(<[u8]>::to_vec), withheld: false }
    }
}

impl Lease {
    /// For how long a body is to be kept back though nobody asked for that: a proxy that will ask for our user first is
    /// given the time to say so.
    pub fn head_start(&self) -> Option<Duration> {
        self.forward.as_ref().is_some_and(|forward| forward.dialogue.is_unsettled()).then_some(CHALLENGE_HEAD_START)
    }

    /// Its peer may have any request sent once more: a server leaves one on a shared connection undone, a proxy asks for
    /// our user.
    pub fn may_be_asked_again(&self) -> bool {
        self.is_h2() || self.forward.is_some()
    }

    /// A failure on this connection, which may be the proxy's.
    pub(super) fn named(&self, failure: Failure) -> Failure {
        match &self.forward {
            Some(forward) => forward.dialogue.proxy().named(failure),
            None => failure,
        }
    }

    /// Sends a request by the proxy at the other end, and tells it what it wants to know of our user.
    ///
    /// # Errors
    /// As [`Lease::send`], or the proxy is not content.
    pub(super) async fn send_by_proxy(
        &mut self,
        request: &mut Option<Request<Outbound>>,
        deadline: &Deadline<'_>,
        mut anew: impl FnMut() -> Option<Request<Outbound>>,
    ) -> Result<Response<ResponseBody>, Box<SendError>> {
        for _ in 0..ROUNDS {
            if let Some(request) = request {
                self.address(request).await?;
            }
            let with_body = request.as_ref().is_some_and(|request| !request.body().is_end_stream());
            let response = match self.send_once(request, deadline).await {
                Ok(response) => response,
                // What was made for the proxy is of no use elsewhere.
                Err(mut error) => {
                    error.undone |= error.unsent.take().is_some() && self.reused;
                    return Err(error);
                }
            };
            if !self.is_to_be_sent_again(&response)? {
                return Ok(response);
            }
            // A body that was on its way leaves the connection of no further use.
            if with_body || !response.into_body().drain().await || !self.is_open() {
                self.move_on().await?;
            }
            self.reused = true;
            *request = Some(anew().ok_or_else(too_large)?);
        }
        Err(self.forward.as_ref().map_or_else(too_large, |forward| forward.dialogue.endless()).into())
    }

    /// Makes a request one for the proxy at the other end, if there is one.
    ///
    /// # Errors
    /// What the proxy wants cannot be had.
    async fn address(&mut self, request: &mut Request<Outbound>) -> Result<(), Failure> {
        let origin = self.pool().origin().clone();
        let Some(forward) = &mut self.forward else { return Ok(()) };
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let url = format!("{origin}{}", if target.as_str() == "*" { "" } else { target.as_str() });
        *request.uri_mut() = Uri::try_from(&url)
            .map_err(|_| Failure::new(Cause::BadRequest, "this request target cannot be written in absolute form"))?;
        request.headers_mut().remove(header::PROXY_AUTHORIZATION);
        let has_body = !request.body().is_end_stream();
        let certificate = forward.certificate.as_deref();
        let credential = forward.dialogue.credential(request.method().as_str(), &url, certificate, !has_body).await?;
        forward.withheld = has_body && forward.dialogue.asks();
        if forward.withheld {
            *request.body_mut() = Outbound::Empty;
            for name in [header::EXPECT, header::TRANSFER_ENCODING, header::TRAILER] {
                request.headers_mut().remove(name);
            }
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(credential) = credential {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, credential);
        }
        Ok(())
    }

    /// Hears an answer. True: the request is to be sent again, since the proxy asked for our user, or its body is still here.
    ///
    /// # Errors
    /// The proxy refuses our user, or wants what we do not have.
    fn is_to_be_sent_again(&mut self, response: &Response<ResponseBody>) -> Result<bool, Failure> {
        let Some(forward) = &mut self.forward else { return Ok(false) };
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return forward.dialogue.challenged(response.headers()).map(|()| true);
        }
        forward.dialogue.accepted();
        Ok(forward.withheld)
    }

    /// Another connection in place of this one, in the same dialogue.
    ///
    /// # Errors
    /// None can be had, or the proxy was about to be convinced on this one.
    async fn move_on(&mut self) -> Result<(), Failure> {
        let pool = self.pool().clone();
        let ask = super::Ask::Mirror { h2: false, prior_knowledge: false, grpc: false };
        let mut next = pool.lease(ask, super::Reuse::Never).await?;
        if let (Some(old), Some(new)) = (self.forward.take(), &mut next.forward) {
            old.dialogue.moved()?;
            new.dialogue = old.dialogue;
        }
        next.moved = true;
        *self = next;
        Ok(())
    }
}
