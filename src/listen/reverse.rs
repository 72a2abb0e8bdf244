//! Mode reverse: plain HTTP in, the rules' mTLS and auth out, toward one origin. For clients that
//! cannot be told of a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, header};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::{Entrance, access, serve_http};
use crate::exchange::{Activity, Session, refusal};
use crate::gate::Caller;
use crate::observe::Client;
use crate::origin::Origin;

pub async fn serve(entrance: Arc<Entrance>, stream: TcpStream, peer: SocketAddr, origin: Origin) {
    let context = entrance.context.clone();
    let limits = context.gate().limits.clone();
    let activity = Activity::new(false);
    let origin = Arc::new(origin);
    let caller = Caller { user: None, address: Some(peer.ip()) };
    let client = Client { address: Some(peer), user: None };
    let session = Arc::new(Session::new(context.clone(), client, caller, Some(origin.clone()), activity.clone()));
    let service = move |mut request: Request<Incoming>| {
        let (entrance, session, origin) = (entrance.clone(), session.clone(), origin.clone());
        async move {
            if let Err(failure) = access::check(&entrance.context, &entrance.address, peer, request.headers()).await {
                let _busy = session.activity().busy();
                return Ok(refusal(&failure));
            }
            // Here the listener says where things go, so the client's Host is this address and counts for nothing.
            request.headers_mut().remove(header::HOST);
            if let Ok(host) = origin.authority().parse() {
                request.headers_mut().insert(header::HOST, host);
            }
            session.exchange(request).await
        }
    };
    serve_http::plain(stream, activity, &context, &limits, service).await;
}
