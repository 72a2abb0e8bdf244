//! Mode reverse: HTTP in, the rules' mTLS and auth out, toward one origin. For clients that cannot be told
//! of a proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, Version, header};
use hyper::body::Incoming;

use super::access::Visitor;
use super::visit::Visit;
use super::{Entrance, serve_http};
use crate::exchange::{Activity, Reply, Transport};
use crate::failure::{Cause, Failure};
use crate::initiator::{self, CrossSite};
use crate::origin::{Host, Origin, Scheme, parse_authority};

pub async fn serve<S>(entrance: Arc<Entrance>, stream: S, visitor: Visitor, origin: Arc<Origin>, activity: Arc<Activity>)
where
    S: Transport,
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
    let admitted = match visit.caller(request.headers()).await {
        Ok(caller) => visit.entrance.may_ask(&request, &visit.visitor).map(|()| caller),
        Err(failure) => Err(failure),
    };
    let caller = match admitted {
        Ok(caller) => caller,
        Err(failure) => return Ok(visit.refuse(request, &failure)),
    };
    readdress(&mut request, origin);
    visit.session(caller).exchange(request).await
}

impl Entrance {
    /// Is this listener meant by that name? A web page can have any name of its own lead here (DNS rebinding), but
    /// no name of this machine, and no address. At a Unix socket no page arrives, and any name is as good as another.
    pub fn is_called(&self, name: &Host, visitor: &Visitor) -> bool {
        let Some(upstream) = self.upstream() else { return false };
        let here = |local: SocketAddr| matches!(name, Host::Ip(ip) if ip.to_canonical() == local.ip().to_canonical());
        let gate = self.context.gate();
        let configured = || gate.reverse_guard(&self.name).is_some_and(|guard| guard.hosts.iter().any(|host| host.matches(name)));
        let certified = visitor.certified_as.as_ref() == Some(name);
        visitor.local.is_none_or(here) || certified || initiator::is_loopback(name) || *name == upstream.host || configured()
    }

    /// May this be asked for here: by the name that the client calls us, and the web page behind it?
    ///
    /// # Errors
    /// 421 for a name that is not ours, 403 for a page of another origin, 400 for what is malformed.
    fn may_ask(&self, request: &Request<Incoming>, visitor: &Visitor) -> Result<(), Failure> {
        if let Some(name) = visitor.server_name.as_ref().filter(|name| !self.is_called(name, visitor)) {
            return Err(not_called(name));
        }
        let asked = self.asked(request, visitor)?;
        let Some(page) = initiator::foreign_page_to_listener(request.headers(), asked.as_ref()) else { return Ok(()) };
        let gate = self.context.gate();
        let refuse = CrossSite::Refuse;
        let setting = gate.reverse_guard(&self.name).map_or(&refuse, |guard| &guard.cross_site);
        if page.is_allowed_by(setting) {
            return Ok(());
        }
        Err(Failure::new(Cause::Denied, format!("{page} may not use this listener")).hint(page.help("the listener")))
    }

    /// The one authority that the request names in `:authority`, an absolute target and `Host`.
    fn asked(&self, request: &Request<Incoming>, visitor: &Visitor) -> Result<Option<(Host, Option<u16>)>, Failure> {
        let bad = |why: String| Failure::new(Cause::BadRequest, why);
        let mut asked: Option<(Host, Option<u16>)> = None;
        let target = request.uri().authority().map(http::uri::Authority::as_str);
        let fields = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        for text in target.into_iter().chain(fields) {
            let named = parse_authority(text).map_err(|why| bad(format!("the request's host is not valid: {why}")))?;
            if !self.is_called(&named.0, visitor) {
                return Err(not_called(&named.0));
            }
            if asked.as_ref().is_some_and(|asked| asked.0 != named.0) {
                return Err(bad("the request names two hosts".to_owned()));
            }
            asked = asked.or(Some(named));
        }
        if asked.is_none() && request.version() == Version::HTTP_11 {
            return Err(bad("the request has no Host".to_owned()));
        }
        Ok(asked)
    }
}

fn not_called(name: &Host) -> Failure {
    Failure::new(Cause::Misdirected, format!("this listener is not called {name}")).hint(format!(
        "if it should be, write `hosts: [\"{name}\"]` in the listener; else a web page has led that name here (DNS rebinding)"
    ))
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
