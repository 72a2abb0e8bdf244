//! How an exchange ends: in one record, whichever way it went.

use std::sync::Arc;

use http::Response;

use super::super::answer::Reply;
use super::super::masked;
use super::ExchangeTrace;
use crate::exchange::relay::Relayed;
use crate::gate::Decision;
use crate::observe::{Client, Kind, Record};
use crate::origin::Origin;

impl ExchangeTrace {
    /// Who asked, and where its connection goes, where that is settled.
    pub fn by(&mut self, client: &Client, origin: Option<Arc<Origin>>) {
        self.client = Some(client.clone());
        self.origin = origin;
    }

    /// The connection speaks another protocol from here on. The head of the answer leaves; the record waits for the end.
    pub fn switch(&mut self, response: &mut Response<Reply>) {
        self.status = Some(response.status());
        masked::mask_fields(response.headers_mut(), self.masks.as_ref());
    }

    /// What was carried after [`ExchangeTrace::switch`]; `None`: the client did not take it up.
    pub fn relayed(mut self, relayed: Option<&Relayed>) {
        match relayed {
            Some(relayed) => {
                self.bytes_out += relayed.bytes_out;
                self.switched_in = relayed.bytes_in;
                self.error = relayed.end.cause().map(|(name, why)| (name, why.to_owned()));
            }
            None => self.gone("before it spoke the other protocol"),
        }
    }

    /// Nobody is there any more to answer to.
    pub(in crate::exchange) fn gone(&mut self, when: &str) {
        let why = if self.context.cut.is_cancelled() {
            "cut at the end of the grace period".to_owned()
        } else {
            format!("the client went away {when}")
        };
        self.error = Some(("connection_terminated", why));
    }

    pub(in crate::exchange) fn tell(&mut self) {
        let Some((at, method, path)) = self.request.take() else { return };
        let dash: Arc<str> = Arc::from("-");
        let decision = self.decision.as_ref();
        let label = |pick: fn(&Decision) -> &Arc<str>| decision.map_or_else(|| dash.clone(), |decision| pick(decision).clone());
        self.context.observe.tell(&Record {
            at,
            kind: Kind::Exchange { method, path, downstream: self.downstream, upstream: self.upstream },
            client: self.client.take().unwrap_or_default(),
            origin: self.origin.clone(),
            rule: label(|decision| &decision.label),
            auth: label(|decision| &decision.auth_label),
            certificate: label(|decision| &decision.certificate_label),
            near: self.near.take(),
            upstream: self.address,
            status: self.status,
            bytes_in: self.switched_in + self.tally.as_ref().map_or(0, |tally| tally.bytes()),
            bytes_out: self.bytes_out,
            connect: self.connect,
            tls: self.tls,
            first_byte: self.first_byte,
            total: self.started.elapsed(),
            error: self.error.take(),
            note: self.note.take().or_else(|| self.withheld.take()),
        });
    }
}

impl Drop for ExchangeTrace {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.gone("before the answer");
        }
        self.tell();
    }
}
