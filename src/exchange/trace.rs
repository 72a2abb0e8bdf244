//! What is learnt of an exchange on its way, for its client, its log and its record.

mod ending;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use super::context::{Busy, Context};
use super::interim::{Form, Telling};
use super::masked;
use super::peeked::Peeked;
use super::refusal::quoted;
use super::rounds::Answered;
use crate::draft::Room;
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Plan};
use crate::observe::{Client, Counters};
use crate::origin::Origin;
use crate::replace::Replacements;
use crate::upstream::body::{BodyProgress, BodyTally};
use crate::upstream::interim::Listener;
use crate::upstream::{Lease, ResponseBody};

/// What is learnt of an exchange on its way; becomes its record.
pub struct ExchangeTrace {
    pub(super) context: Arc<Context>,
    pub(super) started: Instant,
    /// Only when records are wanted.
    pub(super) request: Option<(SystemTime, Method, Box<str>)>,
    pub(super) downstream: &'static str,
    /// It was a HEAD: no answer to it has a body (RFC 9110 §9.3.2).
    pub(super) bodiless: bool,
    pub(super) upstream: &'static str,
    pub(super) tally: Option<Arc<BodyTally>>,
    pub(super) progress: Option<Arc<BodyProgress>>,
    pub(super) origin: Option<Arc<Origin>>,
    pub(super) decision: Option<Arc<Decision>>,
    pub(super) near: Option<Arc<str>>,
    pub(super) address: Option<std::net::SocketAddr>,
    pub(super) connect: Duration,
    pub(super) tls: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) status: Option<StatusCode>,
    pub(super) bytes_out: u64,
    /// Bytes of another protocol that the connection was switched to.
    pub(super) switched_in: u64,
    pub(super) error: Option<(&'static str, String)>,
    /// What the client should know about the origin's answer.
    pub(super) remark: Option<&'static str>,
    /// What became of our credential, where it was not simply refused.
    pub(super) fate: Option<String>,
    /// Why the request went without its credentials.
    pub(super) withheld: Option<String>,
    /// What the log should know beside.
    pub(super) note: Option<String>,
    pub(super) client: Option<Client>,
    /// What the client must not see in the answer.
    pub(super) masks: Option<Arc<Replacements>>,
    pub(super) telling: Telling,
    /// The body was not asked for: what the client sends next on HTTP/1 may be that, or another request.
    pub(super) unasked: bool,
    pub(super) busy: Busy,
}

impl ExchangeTrace {
    pub fn new<B>(context: &Arc<Context>, started: Instant, request: &Request<B>, busy: Busy) -> Self {
        Counters::add(&context.observe.counters.exchanges);
        let wanted = context.observe.wants_records();
        Self {
            context: context.clone(),
            started,
            request: wanted.then(|| (SystemTime::now(), request.method().clone(), request.uri().path().into())),
            downstream: protocol(request.version()),
            bodiless: request.method() == Method::HEAD,
            upstream: "-",
            tally: None,
            progress: None,
            origin: None,
            decision: None,
            near: None,
            address: None,
            connect: Duration::ZERO,
            tls: Duration::ZERO,
            first_byte: None,
            status: None,
            bytes_out: 0,
            switched_in: 0,
            error: None,
            remark: None,
            fate: None,
            withheld: None,
            note: None,
            client: None,
            masks: None,
            telling: Telling::default(),
            unasked: false,
            busy,
        }
    }

    /// Counts of the request body; made when there is one.
    pub fn tally(&mut self) -> &Arc<BodyTally> {
        self.tally.get_or_insert_with(Arc::default)
    }

    /// How the request body gets on; made when there is one. `quiet`: it may be silent by nature.
    pub fn follow(&mut self, quiet: impl FnOnce() -> bool) -> &Arc<BodyProgress> {
        self.progress.get_or_insert_with(|| BodyProgress::new(quiet()))
    }

    pub fn progress(&self) -> Option<&Arc<BodyProgress>> {
        self.progress.as_ref()
    }

    /// Why the request body did not come to its end, if the client is to blame for that.
    pub fn broke_off(&self) -> Option<Failure> {
        let tally = self.tally.as_ref().filter(|tally| tally.is_broken())?;
        let broke = || Failure::new(Cause::BadRequest, "the request body broke off or is malformed");
        Some(tally.refusal().unwrap_or_else(broke))
    }

    /// How the client can be sent interim answers, if it can.
    pub fn tells(&mut self, form: Option<Form>) {
        self.telling = Telling::new(form);
    }

    /// Who is told of the origin's interim answers.
    pub fn listener(&self) -> Option<Listener> {
        self.telling.listener(self.busy.activity(), self.masks.as_ref())
    }

    /// Asks for the body of a client that waits to be asked, where that is ours to do.
    pub fn asking(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        self.telling.asking(self.busy.activity())
    }

    /// What is known of a request whose head was refused.
    pub fn unread(&mut self, origin: Option<&Arc<Origin>>, path: &str) {
        self.origin = origin.cloned();
        if let Some((_, _, known)) = &mut self.request {
            *known = path.into();
        }
    }

    pub fn planned(&mut self, plan: &Plan) {
        self.origin = Some(plan.origin.clone());
    }

    pub fn decided(&mut self, decision: &Arc<Decision>) {
        self.decision = Some(decision.clone());
    }

    /// The rules that nearly gave it something.
    pub fn nearly(&mut self, near: Option<Arc<str>>) {
        self.near = near;
    }

    pub fn leased(&mut self, lease: &Lease) {
        self.address = lease.address;
        self.connect += lease.timing.connect;
        self.tls += lease.timing.tls;
        self.upstream = if lease.is_h2() { "h2" } else { "h1" };
    }

    /// Notes what the authorizers say of the answer that the client gets.
    pub fn heard(&mut self, mut answered: Answered) -> Answered {
        self.fate = answered.fate.take();
        self.remark = answered.ended;
        answered
    }

    /// The request goes without the credentials of its rules: the client and the log are told why.
    pub fn withheld(&mut self, why: String) {
        self.withheld = Some(why);
    }

    pub(super) fn tell_withheld(&self, fields: &mut HeaderMap) {
        let text = self.withheld.as_deref().map(|why| format!("gatepass; details={}", quoted(why)));
        if let Some(Ok(value)) = text.as_deref().map(HeaderValue::from_str) {
            fields.append(HeaderName::from_static("proxy-status"), value);
        }
    }

    /// A 401 to a credential of ours, or what stands in place of one, says so, and which one it was: the origin's own page cannot.
    pub(super) fn tell_refused(&mut self, status: StatusCode, fields: &mut HeaderMap) {
        let Some(decision) = self.decision.as_ref().filter(|decision| !decision.auth.is_empty()) else { return };
        if status != StatusCode::UNAUTHORIZED && self.remark.is_none() {
            return;
        }
        let (auth, label) = (&decision.auth_label, &decision.label);
        let details = match &self.fate {
            Some(fate) => format!("the credential `{auth}` of {label} {fate}"),
            None => {
                let why = self.remark.unwrap_or("check user name, password or token there");
                format!("the origin refused the credential `{auth}` of {label}; {why}")
            }
        };
        let text = format!("gatepass; received-status={}; details={}", status.as_u16(), quoted(&details));
        if let Ok(value) = HeaderValue::from_str(&text) {
            fields.append(HeaderName::from_static("proxy-status"), value);
        }
        self.note = Some(details);
    }

    /// Did the answer come before the body was asked for?
    pub fn unasked(&mut self, unasked: bool) {
        self.unasked = unasked;
    }

    pub fn answered(&mut self) {
        // Only its record tells of it.
        self.first_byte = self.request.is_some().then(|| self.started.elapsed());
    }

    /// What the client must not see in the answer to the request as it now leaves.
    pub fn mask(&mut self, pairs: Option<Arc<Replacements>>) {
        self.masks = pairs;
    }

    /// What held bodies take on disk.
    pub fn room(&self) -> &Room {
        &self.context.room
    }

    /// Can be taken out of an answer what must be?
    ///
    /// # Errors
    /// It is coded in a way that cannot be looked into.
    pub fn readable(&self, response: &Response<ResponseBody>, peeked: &Peeked) -> Result<(), Failure> {
        let is_empty = peeked.0.is_empty() && response.body().is_end_stream();
        let strict = self.masks.as_ref().is_some_and(|masks| masks.strict);
        if !strict || is_empty { Ok(()) } else { masked::readable(response.headers()) }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "h2",
        Version::HTTP_10 => "h1.0",
        _ => "h1",
    }
}

/// A 403 may be for want of a client certificate that the origin could not ask for. The answer stays the origin's, with
/// a line of ours (RFC 9209 §2.1.4), and the log says it once.
pub fn remark(response: &mut Response<ResponseBody>, lease: &Lease) {
    if response.status() != StatusCode::FORBIDDEN {
        return;
    }
    let Some(why) = lease.pool().never_asked(lease.handshake.as_deref()) else { return };
    if lease.pool().may_warn() {
        tracing::warn!("{} answered 403: {why}", lease.pool().origin());
    }
    if let Ok(value) = HeaderValue::from_str(&format!("gatepass; details={}", quoted(why))) {
        response.headers_mut().append(HeaderName::from_static("proxy-status"), value);
    }
}
