//! Differences that are faults of ours, being mended: each leaves this list with its mend.

use super::case::Protocol;
use super::compare::{Difference, Side, What};
use super::worker::Pair;

pub struct Known {
    pub why: &'static str,
    pub test: fn(&Pair, &Difference) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        why: "an HTTP/2 head that is too large gets an empty 431",
        test: |p, d| d.what == What::Bare && d.through.starts_with("431") && p.case.client == Protocol::H2,
    },
    Known {
        why: "reason phrases that are not ASCII are dropped",
        test: |p, d| d.what == What::Reason && !p.case.reason.is_ascii(),
    },
    Known {
        why: "an answer to an HTTP/1.0 client that ends by close now and then ends without close_notify",
        test: |p, d| p.case.old_request && d.side == Side::Client && d.what == What::End && d.through == "Broken",
    },
    Known {
        why: "after an early answer the rest of the request now and then does not reach the origin",
        test: |p, d| p.case.early && d.side == Side::Origin && d.what == What::End && d.through == "Hang",
    },
    Known {
        why: "interim answers of an HTTP/2 origin do not pass, nor those to a request whose head takes several frames",
        test: |p, d| {
            let large = p.case.client == Protocol::H2 && p.case.request.fields.iter().any(|field| field.value.len() > 16_000);
            let lost = d.side == Side::Client && d.what == What::Interim && d.through.len() < d.direct.len();
            lost && (p.case.origin == Protocol::H2 || large)
        },
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
