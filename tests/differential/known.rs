//! Differences that are faults of ours, being mended: each leaves this list with its mend.

use super::case::{Case, Protocol};
use super::compare::{Difference, Side, What};
use super::heard::End;
use super::worker::Pair;

pub struct Known {
    pub why: &'static str,
    pub test: fn(&Pair, &Difference) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        why: "targets with bytes that a URI must not have get an empty 400, or a reset",
        test: |p, d| matches!(d.what, What::Bare | What::Count) && has_odd_target(&p.case),
    },
    Known {
        why: "a request that hyper refuses itself gets an empty 400 or 431",
        test: |p, d| {
            d.what == What::Bare && (d.through.starts_with("400") || d.through.starts_with("431")) && !has_odd_target(&p.case)
        },
    },
    Known {
        why: "a client that ends its side after the request gets no answer in TLS, and not always in clear",
        test: |p, d| {
            let halves = p.case.request.cut.is_some() && p.case.client == Protocol::H1;
            let whole = p.direct.origin.last().is_some_and(|heard| heard.end == End::Whole);
            halves && (d.side == Side::Client || d.what == What::Count || whole && matches!(d.what, What::Body | What::End))
        },
    },
    Known {
        why: "toward HTTP/2 origins gatepass itself says 100, also where the origin refuses at once",
        test: |p, d| d.side == Side::Client && d.what == What::Interim && p.case.expects() && d.direct.is_empty(),
    },
    Known {
        why: "an answer that is reset looks whole to an HTTP/1.0 client",
        test: |p, d| d.side == Side::Client && d.what == What::End && p.case.old_request && p.case.answer.cut.is_some(),
    },
    Known {
        why: "reason phrases that are not ASCII are dropped",
        test: |p, d| d.what == What::Reason && !p.case.reason.is_ascii(),
    },
    Known {
        why: "an HTTP/2 answer with content-length 0 and a body passes as an empty one",
        test: |p, d| {
            let empty = p.case.answer.value("content-length") == Some(b"0");
            p.case.origin == Protocol::H2 && d.side == Side::Client && empty && matches!(d.what, What::Body | What::End)
        },
    },
    Known {
        why: "an answer to an HTTP/1.0 client that ends by close now and then ends without close_notify",
        test: |p, d| p.case.old_request && d.side == Side::Client && d.what == What::End && d.through == "Broken",
    },
    Known {
        why: "an HTTP/2 request with content-length 0 and a body now and then passes as an empty one",
        test: |p, d| {
            let empty = p.case.request.value("content-length") == Some(b"0");
            p.case.client == Protocol::H2 && d.side == Side::Origin && empty && matches!(d.what, What::Body | What::End)
        },
    },
    Known {
        why: "an upgrade toward an origin that speaks HTTP/2 alone is a 502",
        test: |p, d| d.what == What::Refused && p.case.origin == Protocol::H2 && p.case.request.has("upgrade"),
    },
    Known {
        why: "after an early answer the rest of the request now and then does not reach the origin",
        test: |p, d| p.case.early && d.side == Side::Origin && d.what == What::End && d.through == "Hang",
    },
    Known {
        why: "interim answers do not pass",
        test: |_, d| d.side == Side::Client && d.what == What::Interim && d.through.len() < d.direct.len(),
    },
    Known { why: "names of fields are written in lower case", test: |_, d| d.what == What::Letters },
    Known {
        why: "trailers pass only where TE and Trailer announce them",
        test: |p, d| {
            let next = if d.side == Side::Client { p.case.client } else { p.case.origin };
            matches!(d.what, What::Trailer(_)) && next == Protocol::H1 && d.through.is_empty()
        },
    },
];

fn has_odd_target(case: &Case) -> bool {
    case.target.iter().any(|byte| b"\"<>`{}|^\\".contains(byte) || !byte.is_ascii_graphic())
}
