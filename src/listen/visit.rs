//! One client connection to gatepass itself: who is there, and a session for whoever speaks.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;

use super::Entrance;
use super::access::{self, Visitor};
use super::heads::Teller;
use crate::exchange::{self, Activity, Reply, Session};
use crate::failure::Failure;
use crate::gate::Caller;
use crate::observe::Counters;
use crate::origin::Origin;
use crate::upstream::unread;

pub struct Visit {
    pub entrance: Arc<Entrance>,
    pub visitor: Visitor,
    pub activity: Arc<Activity>,
    /// Where everything goes; `None`: each request says.
    origin: Option<Arc<Origin>>,
    /// The session of the caller that spoke last; nearly always the only one.
    session: Mutex<Option<(Caller, Arc<Session>)>>,
}

impl Visit {
    pub fn new(entrance: Arc<Entrance>, visitor: Visitor, activity: Arc<Activity>, origin: Option<Arc<Origin>>) -> Arc<Self> {
        Arc::new(Self { entrance, visitor, activity, origin, session: Mutex::default() })
    }

    /// Who asks.
    ///
    /// # Errors
    /// Those of [`Entrance::admit`].
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let user = self.entrance.admit(&self.visitor, access::basic(headers).as_ref()).await?;
        Ok(self.visitor.caller(user))
    }

    /// Tells of heads that are refused before anything is known of the caller.
    pub fn teller(self: &Arc<Self>) -> Teller {
        let visit = self.clone();
        Arc::new(move |method, path, failure| {
            let client = visit.visitor.client(None);
            exchange::malformed(
                &visit.entrance.context,
                &client,
                visit.origin.as_ref(),
                visit.activity.is_multiplexed(),
                method,
                path,
                failure,
            )
        })
    }

    /// May this caller see the pages of gatepass's own? Here it is the origin, so `Authorization` tells as well who asks.
    ///
    /// # Errors
    /// Those of [`Entrance::admit`].
    pub async fn admit_to_pages(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let said = access::basic(headers).or_else(|| access::basic_in(headers, &header::AUTHORIZATION));
        self.entrance.admit(&self.visitor, said.as_ref()).await.map(|_| ())
    }

    /// Answers a request by something of our own, on the record.
    pub fn answer(&self, request: Request<Incoming>, answer: Result<Response<Reply>, Failure>) -> Response<Reply> {
        let Self { entrance, visitor, activity, origin, .. } = self;
        let answer = exchange::answer(&entrance.context, activity, &visitor.client(None), origin.as_ref(), &request, answer);
        unread::leave(request, &entrance.context.gate().limits);
        answer
    }

    /// Answers a request of a caller that is not let in, on the record.
    pub fn refuse(&self, request: Request<Incoming>, failure: &Failure) -> Response<Reply> {
        Counters::add(&self.entrance.context.observe.counters.refused);
        self.answer(request, Err(failure.clone()))
    }

    pub fn session(&self, caller: Caller) -> Arc<Session> {
        let mut last = self.session.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((known, session)) = &*last
            && *known == caller
        {
            return session.clone();
        }
        let session = Session::new(
            self.entrance.context.clone(),
            self.visitor.client(caller.user.clone()),
            caller.clone(),
            self.origin.clone(),
            self.activity.clone(),
        );
        // Where everything goes to one origin, the listener has asked which page is behind it.
        let session = Arc::new(if self.origin.is_some() { session.initiator_judged() } else { session });
        *last = Some((caller, session.clone()));
        session
    }
}
