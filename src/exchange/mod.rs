//! One request and its answer: inbound → plan → draft → sign → send → answer.
//!
//! Every listener ends here. A [`Session`] is one client connection whose destination is settled (or,
//! for a plain proxy connection, is said by each request); [`Session::exchange`] carries one request.

mod answer;
mod attempts;
mod context;
mod dedicated;
mod echo;
mod framing;
mod headers;
mod hold;
mod inbound;
pub mod interim;
mod malformed;
mod masked;
mod peeked;
mod pooled;
mod prepare;
mod refusal;
pub mod relay;
pub mod rounds;
mod send;
mod stall;
mod token_endpoint;
mod trace;
mod transport;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

pub use answer::Reply;
pub use attempts::Attempts;
pub use context::{Activity, Busy, Context, LAST_CALL, Overdue, count_cut};
pub use malformed::malformed;
pub use prepare::{apply, begin};
pub use refusal::refusal;
pub use stall::{Waits, note, observed};
pub use transport::Transport;

use crate::draft::Draft;
use crate::failure::Failure;
use crate::gate::{Caller, Decision, Fate, Gate, Plan};
use crate::initiator;
use crate::moment::Moment;
use crate::observe::Client;
use crate::origin::Origin;
use crate::upstream::unread::Unread;
use crate::upstream::{Lease, ResponseBody};
use peeked::Peeked;
use trace::ExchangeTrace;

/// What is settled about a request before it is sent.
struct ExchangeCx<'a> {
    session: &'a Session,
    gate: &'a Gate,
    plan: &'a Plan,
    decision: &'a Arc<Decision>,
}

/// What became of a request.
enum Outcome {
    /// The origin's answer, and the connection to give back after its end.
    Passed(Response<ResponseBody>, Peeked, Option<Lease>),
    /// The connection speaks WebSocket from here on.
    Switched(Response<Reply>, upgrade::Talk),
    /// gatepass stands for the origin.
    Answered(Response<Reply>),
}

/// One client connection.
pub struct Session {
    context: Arc<Context>,
    client: Client,
    caller: Caller,
    /// Where a tunnel goes; `None`: each request says (absolute-form).
    tunnel: Option<Arc<Origin>>,
    /// The TLS server name disagreed with the tunnel: every request is answered 421.
    misdirected: Option<Box<str>>,
    /// The listener has judged which web page is behind a request, and lets it.
    initiator_judged: bool,
    /// The plan for the origin last asked for, and the gate it is of.
    last: Mutex<Option<(Arc<Gate>, Arc<Plan>)>>,
    activity: Arc<Activity>,
    /// For schemes that authenticate the connection: their upstream connection and state.
    dedicated: tokio::sync::Mutex<dedicated::DedicatedConnection>,
    /// The client itself authenticates its connection.
    authenticates_itself: dedicated::AuthenticatesItself,
}

impl Session {
    pub fn new(
        context: Arc<Context>,
        client: Client,
        caller: Caller,
        tunnel: Option<Arc<Origin>>,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            context,
            client,
            caller,
            tunnel,
            misdirected: None,
            initiator_judged: false,
            last: Mutex::default(),
            activity,
            dedicated: tokio::sync::Mutex::default(),
            authenticates_itself: dedicated::AuthenticatesItself::default(),
        }
    }

    /// The TLS server name the client asked for is not the tunnel's host.
    pub fn misdirected(mut self, server_name: &str) -> Self {
        self.misdirected = Some(server_name.into());
        self
    }

    /// Which web page is behind a request is judged by the listener, before it comes here.
    pub fn initiator_judged(mut self) -> Self {
        self.initiator_judged = true;
        self
    }

    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Carries one request; every failure becomes an answer.
    ///
    /// # Errors
    /// Never.
    pub async fn exchange(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let started = Instant::now();
        let busy = self.activity.busy();
        let form = interim::Form::of(&mut request);
        let mut trace = ExchangeTrace::new(&self.context, started, &request, busy);
        trace.by(&self.client, self.tunnel.clone());
        trace.tells(form);
        let gate = self.context.gate();
        let request = Unread::of(request, &gate.limits);
        Ok(match self.carry(&gate, request, &mut trace).await {
            Ok(Outcome::Passed(response, peeked, lease)) => match trace.readable(&response, &peeked) {
                Ok(()) => trace.pass(&self.client, response, peeked, lease),
                Err(failure) => trace.refuse(&self.client, &failure),
            },
            Ok(Outcome::Switched(mut response, talk)) => {
                trace.switch(&mut response);
                talk.begin(&self, trace);
                response
            }
            Ok(Outcome::Answered(response)) => trace.own(&self.client, response),
            Err(failure) => trace.refuse(&self.client, &failure),
        })
    }

    /// A head that was refused before it became a request.
    pub fn malformed(&self, method: http::Method, path: &str, failure: &Failure) -> bytes::Bytes {
        malformed(&self.context, &self.client, self.tunnel.as_ref(), self.activity.is_multiplexed(), method, path, failure)
    }

    async fn carry(&self, gate: &Arc<Gate>, request: Request<Unread>, trace: &mut ExchangeTrace) -> Result<Outcome, Failure> {
        let origin = inbound::check(&request, self.tunnel.as_ref(), self.misdirected.as_deref(), || self.origin_before())
            .inspect_err(|_| trace.by(&self.client, inbound::named(&request, self.tunnel.as_ref())))?;
        let plan = self.plan(gate, &origin);
        trace.planned(&plan);
        let (mut parts, body) = request.into_parts();
        let decision = plan.decide_request(gate, &parts)?;
        let decision = self.for_initiator(gate, &plan, decision, &parts.headers, trace)?;
        trace.decided(&decision);
        if decision.gives_nothing {
            trace.nearly(plan.near(gate, &self.caller));
        }
        let fate = decision.fate(gate, &parts.method);
        if let Fate::Deny(denial) = fate {
            return Err(denial.refusal(&plan.origin, &plan.origin.host, || plan.near(gate, &self.caller)));
        }
        inbound::check_fields(&parts.headers, &gate.limits)?;
        if let Fate::StandIn(credential) = &fate {
            return token_endpoint::answer(&parts.method, body, credential, gate).await.map(Outcome::Answered);
        }

        let upgrade = upgrade::wanted(&mut parts)?;
        let mut draft = prepare::begin(parts, &plan)?;
        token_endpoint::make_room(&mut draft, gate, &decision);
        let need = decision.body_need(&draft);
        let mut payload = hold::take(&mut draft, body, need, &gate.limits, trace).await?;
        prepare::apply(&mut draft, gate, &decision).await?;
        let cx = ExchangeCx { session: self, gate, plan: &plan, decision: &decision };
        let mut outcome = match upgrade {
            Some(upgrade) => upgrade::carry(&cx, upgrade, draft, &mut payload, trace).await?,
            None => pooled::carry(&cx, draft, &mut payload, trace).await?,
        };
        if let Outcome::Passed(response, peeked, _) = &mut outcome {
            framing::settle(response, &plan.origin, &gate.limits)?;
            framing::settle_empty(response.body_mut(), peeked, &plan.origin, &gate.limits).await?;
        }
        Ok(outcome)
    }

    /// A web page of another site gets what anybody gets: its browser sends along what is the user's without being asked.
    fn for_initiator(
        &self,
        gate: &Gate,
        plan: &Plan,
        decision: Arc<Decision>,
        headers: &HeaderMap,
        trace: &mut ExchangeTrace,
    ) -> Result<Arc<Decision>, Failure> {
        if !decision.gives || self.initiator_judged {
            return Ok(decision);
        }
        let Some(page) = initiator::foreign_page(headers, &plan.origin) else { return Ok(decision) };
        if page.is_allowed_by(&decision.cross_site) {
            return Ok(decision);
        }
        let label = &decision.label;
        trace.withheld(format!("{page} asked, so this went without the credentials of {label}; {}", page.help("the rule")));
        decision.without_credentials(gate, &plan.origin)
    }

    /// Where the request before went.
    fn origin_before(&self) -> Option<Arc<Origin>> {
        let last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        last.as_ref().map(|(_, plan)| plan.origin.clone())
    }

    /// The gate's plan for an origin, remembered from request to request.
    fn plan(&self, gate: &Arc<Gate>, origin: &Arc<Origin>) -> Arc<Plan> {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((old, plan)) = &*last
            && Arc::ptr_eq(old, gate)
            && (Arc::ptr_eq(origin, &plan.origin) || *origin == plan.origin)
        {
            return plan.clone();
        }
        let plan = gate.plan(origin, &self.caller);
        *last = Some((gate.clone(), plan.clone()));
        plan
    }

    fn attempts<'a>(&'a self, decision: &'a Decision, draft: &Draft) -> Result<Attempts<'a>, Failure> {
        Attempts::new(decision, draft, &self.caller, Moment::real())
    }
}

/// An answer of our own to a request that no session carries. `tunnel`: where its connection goes, if that is settled.
pub fn answer<B>(
    context: &Arc<Context>,
    activity: &Arc<Activity>,
    client: &Client,
    tunnel: Option<&Arc<Origin>>,
    request: &Request<B>,
    answer: Result<Response<Reply>, Failure>,
) -> Response<Reply> {
    let mut trace = ExchangeTrace::new(context, Instant::now(), request, activity.busy());
    trace.by(client, inbound::named(request, tunnel));
    match answer {
        Ok(response) => trace.own(client, response),
        Err(failure) => trace.refuse(client, &failure),
    }
}
