//! Requests for plain-http origins that a proxy is given in absolute form (RFC 9112 §3.2.2), each with what the proxy
//! wants to know of our user.

use std::sync::Arc;

use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;

use super::dialogue::Dialogue;
use super::proxy::Proxy;
use super::{Lease, Outbound, ResponseBody, Stream};
use crate::failure::{Cause, Failure};

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
    /// It may be that the proxy asks for our user before it takes a request.
    pub fn may_be_challenged(&self) -> bool {
        self.forward.as_ref().is_some_and(|forward| forward.dialogue.is_unsettled())
    }

    /// By a proxy, which may answer 407.
    pub fn is_forwarded(&self) -> bool {
        self.forward.is_some()
    }

    /// A failure on this connection, which may be the proxy's.
    pub fn named(&self, failure: Failure) -> Failure {
        match &self.forward {
            Some(forward) => forward.dialogue.proxy().named(failure),
            None => failure,
        }
    }

    /// Makes a request one for the proxy at the other end, if there is one.
    ///
    /// # Errors
    /// What the proxy wants cannot be had.
    pub async fn address(&mut self, request: &mut Request<Outbound>) -> Result<(), Failure> {
        let origin = self.way().origin().clone();
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
    pub fn is_to_be_sent_again(&mut self, response: &Response<ResponseBody>) -> Result<bool, Failure> {
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
    pub async fn move_on(self) -> Result<Self, Failure> {
        let way = self.way().clone();
        let ask = super::Ask::Mirror { h2: false, prior_knowledge: false, grpc: false };
        let mut next = way.lease(ask, super::Kept::No).await?;
        if let (Some(old), Some(new)) = (self.forward, &mut next.forward) {
            old.dialogue.moved()?;
            new.dialogue = old.dialogue;
        }
        Ok(next)
    }
}
