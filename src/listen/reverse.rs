//! Mode reverse: HTTP in, the rules' mTLS and auth out, toward one origin. For clients that cannot be told
//! of a proxy.

use std::sync::{Arc, Mutex};

use http::{Request, Response, header};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::{self, Visitor};
use super::{Entrance, serve_http};
use crate::exchange::{Activity, Reply, Session, refusal};
use crate::gate::Caller;
use crate::origin::{Origin, Scheme};

pub async fn serve<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor, origin: Arc<Origin>, h2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = entrance.context.clone();
    let limits = context.gate().limits.clone();
    let activity = Activity::new(h2);
    let visit = Arc::new(Visit { entrance, visitor, origin, activity: activity.clone(), session: Mutex::default() });
    let service = move |request| {
        let visit = visit.clone();
        async move { visit.handle(request).await }
    };
    serve_http::plain(stream, activity, &context, &limits, service).await;
}

struct Visit {
    entrance: Arc<Entrance>,
    visitor: Visitor,
    origin: Arc<Origin>,
    activity: Arc<Activity>,
    /// The session of the caller that spoke last.
    session: Mutex<Option<(Caller, Arc<Session>)>>,
}

impl Visit {
    async fn handle(&self, mut request: Request<Incoming>) -> Result<Response<Reply>, std::convert::Infallible> {
        let said = access::basic(request.headers());
        let caller = match self.entrance.admit(&self.visitor, said.as_ref()).await {
            Ok(user) => self.visitor.caller(user),
            Err(failure) => {
                let _busy = self.activity.busy();
                return Ok(refusal(&failure));
            }
        };
        self.readdress(&mut request);
        self.session(caller).exchange(request).await
    }

    /// Here the listener says where things go, so what the client calls it (Host, `:authority`, `:scheme`) is
    /// this listener's own address and counts for nothing.
    fn readdress(&self, request: &mut Request<Incoming>) {
        let authority = self.origin.authority();
        if let Ok(host) = authority.parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        if request.uri().authority().is_none() {
            return;
        }
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(match self.origin.scheme {
            Scheme::Https => http::uri::Scheme::HTTPS,
            Scheme::Http => http::uri::Scheme::HTTP,
        });
        parts.authority = authority.parse().ok();
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }

    fn session(&self, caller: Caller) -> Arc<Session> {
        let mut last = self.session.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((known, session)) = &*last
            && *known == caller
        {
            return session.clone();
        }
        let session = Arc::new(Session::new(
            self.entrance.context.clone(),
            self.visitor.client(caller.user.clone()),
            caller.clone(),
            Some(self.origin.clone()),
            self.activity.clone(),
        ));
        *last = Some((caller, session.clone()));
        session
    }
}
