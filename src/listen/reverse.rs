//! Mode reverse: HTTP in, the rules' mTLS and auth out, toward one origin. For clients that cannot be told
//! of a proxy.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::Visitor;
use super::visit::Visit;
use super::{Entrance, serve_http};
use crate::exchange::{Activity, Reply, refusal, without_body};
use crate::origin::{Origin, Scheme};
use crate::upstream::unread;

pub async fn serve<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor, origin: Arc<Origin>, activity: Arc<Activity>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = entrance.context.clone();
    let limits = context.gate().limits.clone();
    let visit = Visit::new(entrance, visitor, activity.clone(), Some(origin.clone()));
    let teller = visit.teller();
    let service = move |request| {
        let (visit, origin) = (visit.clone(), origin.clone());
        async move { handle(&visit, &origin, request).await }
    };
    serve_http::plain(stream, activity, &context, &limits, teller, service).await;
}

async fn handle(visit: &Visit, origin: &Origin, mut request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let caller = match visit.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(failure) => {
            let _busy = visit.activity.busy();
            let head = request.method() == Method::HEAD;
            unread::leave(request, &visit.entrance.context.gate().limits);
            return Ok(if head { without_body(refusal(&failure)) } else { refusal(&failure) });
        }
    };
    readdress(&mut request, origin);
    visit.session(caller).exchange(request).await
}

/// Here the listener says where things go, so what the client calls it (Host, `:authority`, `:scheme`) is
/// this listener's own address and counts for nothing.
fn readdress(request: &mut Request<Incoming>, origin: &Origin) {
    let authority = origin.authority();
    if let Ok(host) = authority.parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    if request.uri().authority().is_none() {
        return;
    }
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(match origin.scheme {
        Scheme::Https => http::uri::Scheme::HTTPS,
        Scheme::Http => http::uri::Scheme::HTTP,
    });
    parts.authority = authority.parse().ok();
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
