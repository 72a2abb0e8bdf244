//! Rounds on a connection of the client connection's own: for schemes that authenticate the connection (NTLM,
//! Negotiate). HTTP/1.1, one request at a time, never pooled: what is authenticated serves nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, header};

use super::answer::{Ledger, remark};
use super::attempts::{Attempts, Memory, ROUNDS};
use super::hold::Payload;
use super::{Carried, Case, Session, send};
use crate::auth::Answer;
use crate::draft::{Body, Draft};
use crate::failure::{Cause, Failure};
use crate::gate::{Bound, Decision};
use crate::upstream::{Ask, Kept, Lease, Outbound, Way};

/// The upstream connection of one client connection.
#[derive(Default)]
pub struct OwnConnection {
    lease: Option<Lease>,
    /// For whom it is: nobody else's request goes by it.
    way: Option<Arc<Way>>,
    auth: Vec<Arc<Bound>>,
    back: Vec<usize>,
    /// An answer came by it.
    used: bool,
    memory: Memory,
}

impl OwnConnection {
    fn serves(&self, decision: &Decision, back: &[usize]) -> bool {
        let way = self.way.as_ref().is_some_and(|way| Arc::ptr_eq(way, &decision.way));
        let auth = self.auth.len() == decision.auth.len() && self.auth.iter().zip(&decision.auth).all(|(a, b)| Arc::ptr_eq(a, b));
        way && auth && self.back == back && self.lease.as_ref().is_some_and(Lease::is_open)
    }

    /// Another connection in place of this one.
    async fn connect(&mut self, decision: &Decision, back: &[usize], ledger: &mut Ledger) -> Result<(), Failure> {
        *self = Self::default();
        let lease = decision.way.lease(Ask::Own, Kept::No).await?;
        ledger.leased(&lease);
        self.lease = Some(lease);
        self.way = Some(decision.way.clone());
        self.auth.clone_from(&decision.auth);
        self.back = back.to_vec();
        Ok(())
    }
}

/// Did this client authenticate its connection by itself?
#[derive(Default)]
pub struct Itself(AtomicBool);

impl Session {
    /// The client does NTLM or Negotiate on its own: what it authenticates is its connection, from now on.
    pub fn authenticates_itself(&self, draft: &Draft) -> bool {
        if self.itself.0.load(Ordering::Relaxed) {
            return true;
        }
        let Some(field) = draft.headers.get(header::AUTHORIZATION) else { return false };
        let scheme = field.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        let binds = scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate");
        if binds {
            self.itself.0.store(true, Ordering::Relaxed);
        }
        binds
    }
}

pub async fn carry(
    case: &Case<'_>,
    mut attempts: Attempts<'_>,
    mut draft: Draft,
    payload: &mut Payload,
    ledger: &mut Ledger,
) -> Result<Carried, Failure> {
    let Case { session, gate, plan, decision } = case;
    let mut place = session.own.lock().await;
    // It goes back to its place when all is well with it; given up midway, it ends.
    let mut own = std::mem::take(&mut *place);
    // A body that could not be sent after all.
    let mut unsent: Option<Outbound> = None;
    let mut body_left = false;
    attempts.recall(std::mem::take(&mut own.memory));
    loop {
        if !own.serves(decision, attempts.suppressed()) {
            own.connect(decision, attempts.suppressed(), ledger).await?;
            attempts.forget();
        }
        let OwnConnection { lease, used, .. } = &mut own;
        let lease = lease.as_mut().expect("connected above");
        attempts.bind(lease.peer_certificate.clone());
        let recodings = attempts.sign(&mut draft).await?;
        ledger.mask(attempts.masks(&draft)?);
        let kept = send::copy(&draft);
        let withheld = attempts.withholds_body();
        let outbound = if withheld {
            stand_in(&mut draft);
            Outbound::Empty
        } else {
            unsent.take().or_else(|| send::outbound(payload, &draft, &recodings, ledger)).unwrap_or(Outbound::Empty)
        };
        let mut request = send::request(draft, outbound, plan, false);
        send::listen_for_interim(&mut request, lease, ledger);
        let sent = send::timed(gate, ledger.progress(), lease.send(request), &decision.way).await?;
        if let Some(failure) = ledger.broke_off() {
            return Err(failure);
        }
        let mut response = match sent {
            Ok(response) => response,
            Err(mut error) => {
                let message = error.unsent.take();
                let harmless = message.is_some() || withheld || send::may_repeat(&kept, payload);
                // A kept connection may be closed at any time, also between two rounds.
                if !*used || !harmless || !(message.is_some() || error.broke) {
                    return Err(error.into_failure());
                }
                unsent = message.map(http::Request::into_body).filter(|_| !withheld);
                own = OwnConnection::default();
                draft = kept;
                if attempts.advance() {
                    continue;
                }
                break;
            }
        };
        *used = true;
        body_left |= !withheld;
        remark(&mut response, lease);
        let peeked = attempts.peek(&mut response).await;
        let answer = Answer { draft: &kept, status: response.status(), headers: response.headers() };
        attempts.verify(&answer)?;
        let again = attempts.wants_another_round(&answer, &peeked.bytes());
        let possible = !body_left || payload.is_repeatable();
        if !(again && possible) {
            if again {
                ledger.remark(
                    "the server wants to authenticate anew, and this body is too large to be sent twice; send the request again",
                );
            }
            ledger.explain(attempts.fate(&answer));
            ledger.answered();
            own.memory = attempts.into_memory();
            *place = own;
            return Ok(Carried::Passed(send::checked(response)?, peeked, None));
        }
        if !send::empty(response).await {
            own = OwnConnection::default();
        }
        draft = kept;
        if !attempts.advance() {
            break;
        }
    }
    Err(Failure::new(
        Cause::Credential,
        format!(
            "{} did not let a connection be authenticated in {ROUNDS} attempts: it closes connections or keeps asking",
            plan.origin
        ),
    )
    .hint("this way of authenticating needs a connection that the server keeps open after its 401"))
}

/// The same request without its body.
fn stand_in(draft: &mut Draft) {
    draft.body = Body::Empty;
    for name in [header::EXPECT, header::TRAILER] {
        draft.headers.remove(name);
    }
    draft.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
}
