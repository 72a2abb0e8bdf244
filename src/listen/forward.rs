//! The forward proxy: absolute-form requests, CONNECT, and a page for those who open it in a browser.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::access::Visitor;
use super::visit::Visit;
use super::{Entrance, connect, pages, serve_http};
use crate::exchange::{Activity, Reply, Transport, refusal};
use crate::failure::Failure;
use crate::observe::Counters;
use crate::upstream::unread;

pub async fn serve<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor)
where
    S: Transport,
{
    let context = entrance.context.clone();
    let limits = context.gate().limits.clone();
    let activity = Activity::new(false);
    let visit = Visit::new(entrance, visitor, activity.clone(), None);
    let teller = visit.teller();
    let service = move |request| {
        let visit = visit.clone();
        async move { handle::<S>(&visit, request).await }
    };
    serve_http::plain(stream, activity, &context, &limits, teller, service).await;
}

async fn handle<S>(visit: &Visit, request: Request<Incoming>) -> Result<Response<Reply>, Infallible>
where
    S: Transport,
{
    let context = &visit.entrance.context;
    let ours = request.method() != Method::CONNECT && request.uri().scheme().is_none();
    if ours {
        if let Err(failure) = visit.admit_to_pages(request.headers()).await {
            return Ok(refuse(visit, request, &failure));
        }
        let answer = pages::answer(context, &request);
        return Ok(visit.answer(request, answer));
    }
    let caller = match visit.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(failure) => return Ok(refuse(visit, request, &failure)),
    };
    if request.method() == Method::CONNECT {
        let busy = visit.activity.busy();
        let client = visit.visitor.client(caller.user.clone());
        return Ok(connect::answer::<S>(context, request, client, caller, busy).await);
    }
    visit.session(caller).exchange(request).await
}

fn refuse(visit: &Visit, request: Request<Incoming>, failure: &Failure) -> Response<Reply> {
    if request.method() != Method::CONNECT {
        return connect::with_reason(visit.refuse(request, failure), failure);
    }
    let _busy = visit.activity.busy();
    let context = &visit.entrance.context;
    Counters::add(&context.observe.counters.refused);
    connect::turned_away(context, &request, visit.visitor.client(None), failure);
    unread::leave(request, &context.gate().limits);
    tracing::debug!(visitor = %visit.visitor, %failure, "a caller is not let in");
    connect::with_reason(refusal(failure), failure)
}
