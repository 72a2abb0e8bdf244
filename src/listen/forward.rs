//! The forward proxy: absolute-form requests, CONNECT, and a page for those who open it in a browser.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::Visitor;
use super::{Entrance, access, connect, pages, serve_http};
use crate::exchange::{Activity, Reply, Session, refusal};
use crate::failure::Failure;
use crate::gate::Caller;
use crate::observe::Counters;

pub async fn serve<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = entrance.context.clone();
    let limits = context.gate().limits.clone();
    let activity = Activity::new(false);
    let visit = Arc::new(Visit { entrance, visitor, activity: activity.clone(), session: Mutex::default() });
    let service = move |request| {
        let visit = visit.clone();
        async move { visit.handle::<S>(request).await }
    };
    serve_http::plain(stream, activity, &context, &limits, service).await;
}

/// One client connection of a forward listener.
struct Visit {
    entrance: Arc<Entrance>,
    visitor: Visitor,
    activity: Arc<Activity>,
    /// The session of the caller that spoke last; nearly always the only one.
    session: Mutex<Option<(Caller, Arc<Session>)>>,
}

impl Visit {
    async fn handle<S>(&self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ours = request.method() != Method::CONNECT && request.uri().scheme().is_none();
        if ours {
            let _busy = self.activity.busy();
            return Ok(pages::answer(&self.entrance.context, &request));
        }
        let caller = match self.caller(&request).await {
            Ok(caller) => caller,
            Err(failure) => return Ok(self.refuse(&failure)),
        };
        if request.method() == Method::CONNECT {
            let busy = self.activity.busy();
            let answer =
                connect::answer::<S>(&self.entrance.context, request, self.visitor.client(caller.user.clone()), caller, busy)
                    .await;
            return Ok(answer);
        }
        self.session(caller).exchange(request).await
    }

    async fn caller(&self, request: &Request<Incoming>) -> Result<Caller, Failure> {
        let user = self.entrance.admit(&self.visitor, access::basic(request.headers()).as_ref()).await?;
        Ok(self.visitor.caller(user))
    }

    fn refuse(&self, failure: &Failure) -> Response<Reply> {
        let _busy = self.activity.busy();
        Counters::add(&self.entrance.context.observe.counters.refused);
        tracing::debug!(visitor = %self.visitor, %failure, "a caller is not let in");
        connect::with_reason(refusal(failure), failure)
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
            None,
            self.activity.clone(),
        ));
        *last = Some((caller, session.clone()));
        session
    }
}
