//! By a pooled connection of the decision's way out. A request that such a connection did not take is sent again by another.

use std::sync::Arc;

use http::Response;

use super::hold::Payload;
use super::rounds::{self, Answered, Sent, SignedRequest, Transport};
use super::trace::ExchangeTrace;
use super::{ExchangeCx, Outcome, dedicated, send};
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::upstream::body::Hold;
use crate::upstream::{Ask, Lease, Outbound, ResponseBody, Reuse};

/// A server that lets a connection go may do so again with the next.
const RESENDINGS: u8 = 3;

pub async fn carry(
    cx: &ExchangeCx<'_>,
    draft: Draft,
    payload: &mut Payload,
    trace: &mut ExchangeTrace,
) -> Result<Outcome, Failure> {
    let ExchangeCx { session, decision, .. } = cx;
    let mut attempts = session.attempts(decision, &draft)?;
    if decision.own_connection || session.authenticates_itself(&draft) {
        return dedicated::carry(cx, attempts, draft, payload, trace).await;
    }
    let mut pooled = Pooled { cx, payload, trace, lease: None };
    let answered = rounds::run(&mut pooled, &mut attempts, draft).await?;
    let lease = pooled.lease;
    let Answered { response, peeked, .. } = trace.heard(answered);
    Ok(Outcome::Passed(response, peeked, lease))
}

struct Pooled<'a> {
    cx: &'a ExchangeCx<'a>,
    payload: &'a mut Payload,
    trace: &'a mut ExchangeTrace,
    /// What the answer came by.
    lease: Option<Lease>,
}

impl Transport for Pooled<'_> {
    /// One request and its answer, by as many connections as it takes. It is sent again where that cannot do it twice:
    /// nothing of it had left, the origin says that it left it undone (RFC 9113 §8.7), or it is idempotent and a kept
    /// connection broke before anything of an answer came (RFC 9110 §9.2.2).
    async fn send(&mut self, request: SignedRequest) -> Result<Sent, Failure> {
        let Self { cx, payload, trace, lease: held } = self;
        let SignedRequest { draft, transforms, masks, .. } = request;
        trace.mask(masks);
        let pool = &cx.decision.pool;
        let activity = &cx.session.activity;
        let h2 = activity.is_multiplexed();
        let ask = Ask::Mirror { h2, prior_knowledge: activity.has_prior_knowledge(), grpc: h2 && send::is_grpc(&draft) };
        let reuse = if send::may_repeat(&draft, payload) { Reuse::Any } else { Reuse::Alive };
        let mut lease = held.insert(pool.lease(ask, reuse).await?);
        trace.leased(lease);
        let spare = spare(&draft, lease, payload);
        let mut body = send::outbound(payload, &draft, &transforms, trace)
            .ok_or_else(|| Failure::new(Cause::Internal, "the body is on its way already"))?;
        let expects = send::expects(&draft.headers);
        lease.hold = hold(cx, expects, &mut body, lease);
        let mut request = Some(send::request(draft, body, cx.plan, lease.is_h2()));
        let repeatable = spare.as_ref().is_some_and(|spare| send::may_repeat(spare, payload));
        let mut left = RESENDINGS;
        loop {
            let mut anew = |trace: &mut ExchangeTrace| {
                let spare = spare.as_ref()?;
                let body = send::outbound(payload, spare, &transforms, trace)?;
                Some(send::request(spare.clone(), body, cx.plan, false))
            };
            let mut error = match send::by(lease, &mut request, cx.gate, trace, &mut anew).await? {
                Ok(response) => {
                    payload.settle();
                    if lease.moved {
                        trace.leased(lease);
                    }
                    trace.unasked(lease.hold.as_ref().is_some_and(|hold| hold.end()) && expects);
                    return Ok(Sent::Answered(response));
                }
                Err(error) => error,
            };
            if error.undone {
                lease.retire();
            }
            let unsent = error.unsent.take().filter(|_| lease.reused);
            let hold = lease.hold.take().filter(|_| unsent.is_some());
            let again = match unsent {
                Some(unsent) => Some(unsent),
                None if error.undone || (lease.reused && error.broke && repeatable) => anew(trace),
                None => None,
            };
            let Some(again) = again.filter(|_| left > 0) else { return Err(error.into_failure()) };
            left -= 1;
            *held = None;
            lease = held.insert(pool.lease(ask, Reuse::Never).await?);
            lease.hold = hold;
            trace.leased(lease);
            request = Some(send::reform(again, cx.plan, lease.is_h2()));
        }
    }

    fn rewind(&mut self) -> bool {
        self.payload.rewind()
    }

    async fn dismiss(&mut self, challenge: Response<ResponseBody>) {
        let Some(lease) = self.lease.take() else { return };
        // The request that waited for leave to send its body is still on that connection.
        if self.payload.is_repeatable() && challenge.into_body().drain().await {
            lease.give_back(None);
        }
    }
}

/// The draft, for another sending, where one could be called for; a new connection of its own is not expected to be dead.
fn spare(draft: &Draft, lease: &Lease, payload: &Payload) -> Option<Draft> {
    let asked = lease.may_be_asked_again();
    if asked {
        payload.keep();
    }
    (asked || (lease.reused && send::may_repeat(draft, payload))).then(|| draft.clone())
}

/// Holds the client's body until the origin asks for it, or patience ends. hyper's client does not tell of a 100 on HTTP/2;
/// an answer that makes the body needless comes before it all the same.
fn hold(cx: &ExchangeCx<'_>, expects: bool, outbound: &mut Outbound, lease: &Lease) -> Option<Arc<Hold>> {
    let patience = if expects { cx.gate.limits.continue_wait } else { lease.head_start()? };
    let hold = outbound.streamed()?.hold();
    let held = Arc::downgrade(&hold);
    tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        held.upgrade().iter().for_each(|hold| hold.open());
    });
    Some(hold)
}
