//! Differences that no RFC allows: each with what stands in the way of its mend.

use super::case::{Framing, Protocol};
use super::compare::{Difference, Side, What};
use super::heard::End;
use super::worker::Pair;

pub struct Known {
    pub why: &'static str,
    pub test: fn(&Pair, &Difference) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        // RFC 9110 §15.2: a proxy must forward them.
        why: "interim answers of an HTTP/2 origin do not pass: hyper's client tells of those of HTTP/1.1 alone",
        test: |p, d| {
            let lost = d.side == Side::Client && d.what == What::Interim && d.through.len() < d.direct.len();
            lost && p.case.origin == Protocol::H2
        },
    },
    Known {
        why: "a request with trailers that has had its answer does not end: hyper's server keeps such a body open until another request comes",
        test: |p, d| {
            let request = &p.case.request;
            let trailers = p.case.client == Protocol::H1 && request.framing == Framing::Chunked && !request.trailers.is_empty();
            let hangs = p.through.origin.last().is_some_and(|heard| heard.end == End::Hang);
            p.case.early && trailers && hangs && d.side == Side::Origin && d.what == What::End
        },
    },
];
