//! By a connection of the client connection's own: for schemes that authenticate the connection (NTLM,
//! Negotiate). HTTP/1.1, one request at a time, never pooled: what is authenticated serves nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Response, header};

use super::attempts::{Attempts, Memory};
use super::hold::Payload;
use super::rounds::{self, Answered, Sent, SignedRequest, Transport};
use super::trace::ExchangeTrace;
use super::{ExchangeCx, Outcome, Session, send};
use crate::draft::{Body, Draft};
use crate::failure::Failure;
use crate::gate::{BoundAuthorizer, Decision};
use crate::upstream::{Ask, Lease, OriginPool, Outbound, ResponseBody, Reuse};

/// The upstream connection of one client connection.
#[derive(Default)]
pub struct DedicatedConnection {
    lease: Option<Lease>,
    /// For whom it is: nobody else's request goes by it.
    pool: Option<Arc<OriginPool>>,
    auth: Vec<Arc<BoundAuthorizer>>,
    suppressed: Vec<usize>,
    /// An answer came by it.
    used: bool,
    memory: Memory,
}

impl DedicatedConnection {
    fn serves(&self, decision: &Decision, suppressed: &[usize]) -> bool {
        let pool = self.pool.as_ref().is_some_and(|pool| Arc::ptr_eq(pool, &decision.pool));
        let auth = self.auth.len() == decision.auth.len() && self.auth.iter().zip(&decision.auth).all(|(a, b)| Arc::ptr_eq(a, b));
        pool && auth && self.suppressed == suppressed && self.lease.as_ref().is_some_and(Lease::is_open)
    }

    /// Another connection in place of this one.
    async fn connect(&mut self, decision: &Decision, suppressed: &[usize], trace: &mut ExchangeTrace) -> Result<(), Failure> {
        *self = Self::default();
        let lease = decision.pool.lease(Ask::Dedicated, Reuse::Never).await?;
        trace.leased(&lease);
        self.lease = Some(lease);
        self.pool = Some(decision.pool.clone());
        self.auth.clone_from(&decision.auth);
        self.suppressed = suppressed.to_vec();
        Ok(())
    }
}

/// Did this client authenticate its connection by itself?
#[derive(Default)]
pub struct AuthenticatesItself(AtomicBool);

impl Session {
    /// The client does NTLM or Negotiate on its own: what it authenticates is its connection, from now on.
    pub fn authenticates_itself(&self, draft: &Draft) -> bool {
        if self.authenticates_itself.0.load(Ordering::Relaxed) {
            return true;
        }
        let Some(field) = draft.headers.get(header::AUTHORIZATION) else { return false };
        let scheme = field.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        let binds = scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate");
        if binds {
            self.authenticates_itself.0.store(true, Ordering::Relaxed);
        }
        binds
    }
}

pub async fn carry(
    cx: &ExchangeCx<'_>,
    mut attempts: Attempts<'_>,
    draft: Draft,
    payload: &mut Payload,
    trace: &mut ExchangeTrace,
) -> Result<Outcome, Failure> {
    let mut place = cx.session.dedicated.lock().await;
    // It goes back to its place when all is well with it; given up midway, it ends.
    let mut connection = std::mem::take(&mut *place);
    attempts.recall(std::mem::take(&mut connection.memory));
    let mut dedicated = Dedicated { cx, payload, trace, connection, unsent: None, body_left: false };
    let answered = rounds::run(&mut dedicated, &mut attempts, draft).await?;
    let mut connection = dedicated.connection;
    let Answered { response, peeked, ended, .. } = trace.heard(answered);
    if ended.is_some() {
        // What its authentication has come to serves no other request.
        return Ok(Outcome::Passed(response, peeked, connection.lease));
    }
    connection.memory = attempts.into_memory();
    *place = connection;
    Ok(Outcome::Passed(response, peeked, None))
}

struct Dedicated<'a> {
    cx: &'a ExchangeCx<'a>,
    payload: &'a mut Payload,
    trace: &'a mut ExchangeTrace,
    connection: DedicatedConnection,
    /// A body that could not be sent after all.
    unsent: Option<Outbound>,
    body_left: bool,
}

impl Transport for Dedicated<'_> {
    const BEGINS_ANEW: bool = true;

    async fn connect(&mut self, attempts: &mut Attempts<'_>) -> Result<(), Failure> {
        let decision = self.cx.decision;
        if !self.connection.serves(decision, attempts.suppressed()) {
            self.connection.connect(decision, attempts.suppressed(), self.trace).await?;
            attempts.forget();
        }
        attempts.bind(self.connection.lease.as_ref().and_then(|lease| lease.peer_certificate.clone()));
        Ok(())
    }

    async fn send(&mut self, request: SignedRequest) -> Result<Sent, Failure> {
        let Self { cx, payload, trace, connection, unsent, body_left } = self;
        let SignedRequest { mut draft, transforms, masks, withholds_body: withheld } = request;
        trace.mask(masks);
        let harmless = withheld || send::may_repeat(&draft, payload);
        let outbound = if withheld {
            stand_in(&mut draft);
            Outbound::Empty
        } else {
            unsent.take().or_else(|| send::outbound(payload, &draft, &transforms, trace)).unwrap_or(Outbound::Empty)
        };
        let lease = connection.lease.as_mut().expect("connected before");
        let mut request = Some(send::request(draft, outbound, cx.plan, false));
        let mut error = match send::by(lease, &mut request, cx.gate, trace, |_| None).await? {
            Ok(response) => {
                connection.used = true;
                *body_left |= !withheld;
                return Ok(Sent::Answered(response));
            }
            Err(error) => error,
        };
        let message = error.unsent.take();
        // A kept connection may be closed at any time, also between two rounds.
        if !connection.used || !(message.is_some() || (harmless && error.broke)) {
            return Err(error.into_failure());
        }
        *unsent = message.map(http::Request::into_body).filter(|_| !withheld);
        *connection = DedicatedConnection::default();
        Ok(Sent::Lost(error.into_failure()))
    }

    fn rewind(&mut self) -> bool {
        !self.body_left || self.payload.is_repeatable()
    }

    async fn dismiss(&mut self, challenge: Response<ResponseBody>) {
        if !challenge.into_body().drain().await {
            self.connection = DedicatedConnection::default();
        }
    }
}

/// The same request without its body.
fn stand_in(draft: &mut Draft) {
    draft.body = Body::Empty;
    for name in [header::EXPECT, header::TRAILER] {
        draft.headers.remove(name);
    }
    draft.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
}
