//! Differences that may be: each with the section that says so.

use super::case::{Case, Framing, How, Mode, Protocol};
use super::compare::{Difference, Side, What, refusal};
use super::heard::{End, Heard, said_length};
use super::worker::Pair;

pub struct Allowed {
    pub name: &'static str,
    pub section: &'static str,
    pub why: &'static str,
    pub test: fn(&Pair, &Difference) -> bool,
}

pub const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "hop-by-hop fields",
        section: "RFC 9110 §7.6.1, §7.8",
        why: "they speak of one connection, and there are two",
        test: hop_by_hop,
    },
    Allowed {
        name: "framing of the hop",
        section: "RFC 9112 §6, §6.2, §7.1; RFC 9113 §8.1.1",
        why: "each hop delimits the body in its own way; a length that is said is the true one",
        test: framing,
    },
    Allowed {
        name: "Proxy-Status",
        section: "RFC 9209 §2",
        why: "a remark beside the origin's answer",
        test: |_, d| d.side == Side::Client && d.what == What::Field("proxy-status".into()),
    },
    Allowed {
        name: "Date",
        section: "RFC 9110 §6.6.1",
        why: "a recipient with a clock dates an answer that has no date",
        test: |_, d| d.side == Side::Client && d.what == What::Field("date".into()) && d.direct.is_empty(),
    },
    Allowed {
        name: "own version",
        section: "RFC 9112 §2.3, RFC 9110 §6.2",
        why: "an intermediary sends its own version",
        test: |_, d| d.what == What::Version,
    },
    Allowed {
        name: "no reason phrase on HTTP/2",
        section: "RFC 9113 §8.3.1, RFC 9112 §4",
        why: "HTTP/2 has none, and a client ought to ignore it",
        test: |p, d| d.what == What::Reason && (p.case.client == Protocol::H2 || p.case.origin == Protocol::H2),
    },
    Allowed {
        name: "a reason phrase that is not ASCII",
        section: "RFC 9112 §4",
        why: "hyper reads such a phrase as an empty one; a client ought to ignore it",
        test: |p, d| d.what == What::Reason && !p.case.reason.is_ascii() && d.through.is_empty(),
    },
    Allowed {
        name: "letters of names",
        section: "RFC 9113 §8.2, RFC 9110 §5.1",
        why: "names are alike in any letters, and HTTP/2 writes them in lower case; to keep those of HTTP/1.1 costs hyper a third more",
        test: |_, d| d.what == What::Letters,
    },
    Allowed {
        name: "broken either way",
        section: "RFC 9110 §6.1, RFC 9112 §8",
        why: "of a message that breaks off the part before the break may be shorter, and the break may show otherwise",
        test: broken,
    },
    Allowed {
        name: "a malformed request is refused",
        section: "RFC 9110 §2.2, RFC 9112 §2.2, §5.1, §5.2, §6.1, §6.3",
        why: "an intermediary that forwards what readers take differently is the way to request smuggling",
        test: malformed_request,
    },
    Allowed {
        name: "an answer without a whole head is a 502",
        section: "RFC 9110 §15.6.3, RFC 9112 §8",
        why: "the client is told why instead of being left with a closed connection",
        test: malformed_answer,
    },
    Allowed {
        name: "a request that breaks off",
        section: "RFC 9112 §8, RFC 9113 §8.1",
        why: "nothing needs to reach the origin of it, and a client that still listens may be told",
        test: request_cut,
    },
    Allowed {
        name: "a body nobody waits for",
        section: "RFC 9112 §9.3, §9.6",
        why: "after an early answer that ends the connection, or that comes before the body was asked for, how much of the body is read is chance",
        test: early,
    },
    Allowed {
        name: "sent again",
        section: "RFC 9110 §9.2.2, RFC 9113 §8.7",
        why: "an idempotent request whose connection ended without an answer may be repeated",
        test: |p, d| {
            let idempotent = [&b"GET"[..], b"HEAD", b"PUT", b"DELETE", b"OPTIONS"].contains(&&p.case.method[..]);
            d.what == What::Count && idempotent && p.direct.client.start[0].is_empty()
        },
    },
    Allowed {
        name: "cookies in one field",
        section: "RFC 9113 §8.2.3",
        why: "HTTP/2 may split the field, HTTP/1.1 must have one",
        test: |_, d| {
            d.side == Side::Origin
                && d.what == What::Field("cookie".into())
                && d.direct.replace(" | ", "; ") == d.through.replace(" | ", "; ")
        },
    },
    Allowed {
        name: "no length on 204",
        section: "RFC 9110 §8.6",
        why: "a 204 must not say a length",
        test: |p, d| d.what == What::Field("content-length".into()) && p.case.status == 204 && d.through.is_empty(),
    },
    Allowed {
        name: "no Trailer where no content is",
        section: "RFC 9110 §6.6.2, §9.3.2",
        why: "a message without content announces no trailers",
        test: |p, d| {
            let bodiless = p.case.bodiless() || p.case.answer.framing != Framing::Chunked || p.case.old_request;
            d.side == Side::Client && d.what == What::Field("trailer".into()) && bodiless && d.through.is_empty()
        },
    },
    Allowed {
        name: "more than the length that was said",
        section: "RFC 9113 §8.1.1, RFC 9112 §6.2",
        why: "a message of HTTP/2 is passed on as it comes; that there is more of it shows when what was said has left, whole on HTTP/1.1",
        test: surplus,
    },
    Allowed {
        name: "a doubled length is refused",
        section: "RFC 9110 §8.6",
        why: "a recipient may take equal lengths for one, or reject the message",
        test: |p, d| match (&d.what, d.through.get(..3)) {
            (What::Refused, Some("400")) => is_doubled(&p.case.request),
            (What::Bare, _) if p.through.client.reset == Some(1) => is_doubled(&p.case.request),
            (What::Refused, Some("502")) => is_doubled(&p.case.answer),
            // The answer that breaks off does not tell the client's sides apart.
            (What::Count, _) => is_doubled(&p.case.request) && p.through.origin.is_empty() && p.through.client.reset == Some(1),
            _ => false,
        },
    },
    Allowed {
        name: "a 101 that nobody asked for",
        section: "RFC 9110 §15.2.2, §7.8",
        why: "a server must not switch protocols unasked",
        test: |p, d| d.what == What::Refused && p.case.status == 101 && !may_upgrade(&p.case),
    },
    Allowed {
        name: "the end of a TLS connection without close_notify",
        section: "RFC 9112 §9.8",
        why: "a body that ends by close is incomplete without one; directly, in clear, there is none to miss",
        test: |p, d| {
            let gone = p.case.answer.cut.is_some_and(|(_, how)| how == How::Gone);
            gone && p.case.mode == Mode::Intercepted && (d.what == What::End || d.what == What::Refused)
        },
    },
    Allowed {
        name: "a 101 in our words",
        section: "RFC 9110 §7.8, §8.6, RFC 9112 §4",
        why: "a 101 must name the protocol and has neither length nor trailers; its reason phrase is to be ignored",
        test: |p, d| {
            let may = |name: &str| {
                ["content-length", "trailer"].contains(&name) && d.through.is_empty() || name == "upgrade" && d.direct.is_empty()
            };
            p.case.status == 101
                && d.side == Side::Client
                && (d.what == What::Reason || matches!(&d.what, What::Field(name) if may(name)))
        },
    },
    Allowed {
        name: "bytes that a URI must not have are percent-encoded",
        section: "RFC 3986 §2.1, RFC 9112 §3.2",
        why: "the same target, in the one spelling that the grammar has for it",
        test: |p, d| {
            let target = |side: &[Heard]| side.last().map(|heard| heard.start[1].clone()).unwrap_or_default();
            d.what == What::Target && raw(&target(&p.through.origin)) == raw(&target(&p.direct.origin))
        },
    },
    Allowed {
        name: "pages of other sites are refused on a reverse listener",
        section: "Fetch Metadata §2.4, RFC 6454 §7",
        why: "the listener stands for an API with our credential; see cross_site",
        test: |p, d| d.what == What::Refused && d.through.starts_with("403") && p.case.request.has("sec-fetch-site"),
    },
    Allowed {
        name: "a client that is gone",
        section: "RFC 9293 §3.5.3, RFC 8446 §6.1",
        why: "one that resets its connection, or ends TLS without close_notify, has no use for an answer",
        test: |p, d| {
            let gone = p.case.request.cut.is_some_and(|(_, how)| how != How::Fin);
            gone && (d.side == Side::Client || d.what == What::Count)
        },
    },
    Allowed {
        name: "a list in one field",
        section: "RFC 9110 §5.3",
        why: "several fields of a name whose value is a list may be joined",
        test: |_, d| {
            let is_list = ["trailer", "upgrade"].iter().any(|name| d.what == What::Field((*name).into()));
            is_list && d.direct.replace(" | ", ", ") == d.through
        },
    },
    Allowed {
        name: "a 100 of one's own",
        section: "RFC 9110 §15.2, §10.1.1",
        why: "each hop asks for the body when it wants it: gatepass for an origin that does not within limits.continue_wait, once, and never for a body that is empty or that nobody holds back",
        test: |p, d| {
            let asked = d.through.split("; ").any(|one| one.starts_with("100"));
            let waits = p.case.expects() && !p.case.request.body().is_empty();
            d.what == What::Interim && without_100(&d.direct) == without_100(&d.through) && (asked || !waits)
        },
    },
    Allowed {
        name: "the reset of an upgraded connection",
        section: "RFC 9110 §7.8, RFC 9293 §3.5.3",
        why: "hyper keeps the sockets of upgraded connections to itself, so that a reset is passed on as an end",
        test: |p, d| {
            let reset = p.case.answer.cut.is_some_and(|(_, how)| how == How::Reset);
            p.case.status == 101 && reset && d.side == Side::Client && matches!(d.what, What::End | What::Body)
        },
    },
    Allowed {
        name: "no interim answers for HTTP/1.0",
        section: "RFC 9110 §15.2",
        why: "HTTP/1.0 does not define them",
        test: |p, d| d.what == What::Interim && p.case.old_request && d.through.is_empty(),
    },
    Allowed {
        name: "no trailers for HTTP/1.0",
        section: "RFC 9112 §7.1.2, RFC 9110 §6.5",
        why: "HTTP/1.0 has no chunks and so no trailers",
        test: |p, d| matches!(d.what, What::Trailer(_)) && d.side == Side::Client && p.case.old_request && d.through.is_empty(),
    },
    Allowed {
        name: "trailers that were not announced, not asked for, or have no room",
        section: "RFC 9110 §6.5.1, §6.6.2, §10.1.4, RFC 9112 §7.1.2",
        why: "into HTTP/1.1 hyper writes what `Trailer` announces, after chunks, and for a client that says `TE: trailers`; others may be discarded",
        test: unannounced,
    },
    Allowed {
        name: "trailers that would act as headers",
        section: "RFC 9110 §6.5.1",
        why: "fields of framing, routing and credentials are forbidden in trailers",
        test: |_, d| {
            matches!(&d.what, What::Trailer(name) if FORBIDDEN_TRAILERS.contains(&name.as_str())) && d.through.is_empty()
        },
    },
    Allowed {
        name: "more fields than the limit",
        section: "RFC 6585 §5, RFC 9110 §5.4, RFC 9113 §10.5, §10.5.1",
        why: "documented bounds of gatepass: limits.headers and limits.header_bytes. hyper itself answers a head of HTTP/2 that is larger, and ends the connection for twice as much",
        test: |p, d| match d.what {
            What::Refused => is_large(&p.case.request.fields) || is_large(&p.case.answer.fields),
            What::Bare => {
                let ended = ["431", "0 Broken"].iter().any(|how| d.through.starts_with(how));
                p.case.client == Protocol::H2 && is_large(&p.case.request.fields) && ended
            }
            _ => false,
        },
    },
];

const FORBIDDEN_TRAILERS: [&str; 8] =
    ["authorization", "content-length", "transfer-encoding", "host", "set-cookie", "connection", "content-encoding", "te"];

/// With what both ends add themselves it may be.
fn is_large(fields: &[super::case::Field]) -> bool {
    fields.len() > 90 || fields.iter().map(|field| field.name.len() + field.value.len() + 32).sum::<usize>() > 60_000
}

fn is_doubled(content: &super::case::Content) -> bool {
    content.fields.iter().any(|field| field.is("content-length") && field.value.contains(&b','))
}

/// Is there a token of a field's lists that is this?
fn has_token(fields: &[super::case::Field], name: &str, token: &str) -> bool {
    let values = fields.iter().filter(|field| field.is(name)).flat_map(|field| field.value.split(|b| *b == b','));
    values.into_iter().any(|value| value.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// RFC 9110 §7.8: a server ignores the wish of HTTP/1.0, and switches to nothing that was not named.
fn may_upgrade(case: &Case) -> bool {
    let named = |field: &super::case::Field| {
        let name = String::from_utf8_lossy(&field.value);
        !field.is("upgrade") || has_token(&case.request.fields, "upgrade", name.trim())
    };
    case.request.has("upgrade") && !case.old_request && case.answer.fields.iter().all(named)
}

fn unannounced(pair: &Pair, d: &Difference) -> bool {
    let What::Trailer(name) = &d.what else { return false };
    let case = &pair.case;
    let (_, through) = sides(pair, d.side);
    // RFC 9112 §7.1.2: after chunks alone.
    let has_room = !through.values("transfer-encoding").is_empty();
    let lost = match d.side {
        Side::Client => {
            let passes = has_token(&case.answer.fields, "trailer", name) && has_token(&case.request.fields, "te", "trailers");
            case.client == Protocol::H1 && !(passes && has_room)
        }
        Side::Origin => case.origin == Protocol::H1 && !(has_token(&case.request.fields, "trailer", name) && has_room),
    };
    // One that says that it is empty is taken at its word.
    let is_empty = d.side == Side::Origin && said_length(&through.fields) == Ok(Some(0));
    (lost || is_empty) && d.through.is_empty()
}

/// What came within the length that was said is whole on HTTP/1.1, and the rest does not follow it.
fn surplus(pair: &Pair, d: &Difference) -> bool {
    let (direct, through) = sides(pair, d.side);
    let (from, to) = match d.side {
        Side::Client => (pair.case.origin, pair.case.client),
        Side::Origin => (pair.case.client, pair.case.origin),
    };
    (from, to) == (Protocol::H2, Protocol::H1)
        && matches!(d.what, What::End | What::Body)
        && matches!(direct.end, End::Malformed(_))
        && through.end == End::Whole
        && said_length(&direct.fields) == Ok(Some(through.body.len()))
        && direct.body.starts_with(&through.body)
}

/// The origin heard a beginning of what it hears directly.
fn is_beginning(pair: &Pair) -> bool {
    let (direct, through) = sides(pair, Side::Origin);
    direct.body.starts_with(&through.body)
}

const HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
];

fn hop_by_hop(pair: &Pair, d: &Difference) -> bool {
    let What::Field(name) = &d.what else { return false };
    let fields = match d.side {
        Side::Origin => &pair.case.request.fields,
        Side::Client => &pair.case.answer.fields,
    };
    let named = |connection: &[u8]| {
        connection.split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    let by_connection = fields.iter().any(|field| field.is("connection") && named(&field.value)) && d.through.is_empty();
    // An upgrade that both sides agree on is theirs.
    let switched = name == "upgrade" && pair.case.status == 101 && may_upgrade(&pair.case);
    (HOP.contains(&name.as_str()) || by_connection) && !switched
}

fn framing(pair: &Pair, d: &Difference) -> bool {
    let (direct, through) = match d.side {
        Side::Client => (&pair.direct.client, &pair.through.client),
        Side::Origin => {
            (pair.direct.origin.last().unwrap_or(&pair.direct.client), pair.through.origin.last().unwrap_or(&pair.direct.client))
        }
    };
    match &d.what {
        What::Field(name) if name == "transfer-encoding" => true,
        What::Field(name) if name == "content-length" => {
            let body = through.body.len();
            match (said_length(&direct.fields), said_length(&through.fields)) {
                // The same, said once.
                (Ok(Some(a)), Ok(Some(b))) if a == b => true,
                // Beside a coding a length counts for nothing.
                (_, Ok(None)) if !direct.values("transfer-encoding").is_empty() => true,
                (Ok(None), Ok(Some(said))) => {
                    said == body && through.end == End::Whole && !direct.start[0].eq_ignore_ascii_case(b"HEAD")
                }
                // A request without a body may leave `Content-Length: 0` out, and a head may not.
                (Ok(Some(0)), Ok(None)) => d.side == Side::Origin && body == 0,
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_incomplete(end: End) -> bool {
    matches!(end, End::Nothing | End::Broken | End::Malformed(_))
}

fn sides(pair: &Pair, side: Side) -> (Heard, Heard) {
    match side {
        Side::Client => (pair.direct.client.clone(), pair.through.client.clone()),
        Side::Origin => {
            (pair.direct.origin.last().cloned().unwrap_or_default(), pair.through.origin.last().cloned().unwrap_or_default())
        }
    }
}

fn broken(pair: &Pair, d: &Difference) -> bool {
    let (direct, through) = sides(pair, d.side);
    if !is_incomplete(direct.end) || !is_incomplete(through.end) {
        return false;
    }
    match d.what {
        What::Body => direct.body.starts_with(&through.body) || through.body.starts_with(&direct.body),
        What::End => true,
        // Nothing of the head came: there is nothing to compare.
        _ => through.start[0].is_empty() || direct.start[0].is_empty() || matches!(direct.end, End::Malformed(_)),
    }
}

fn is_odd(case: &Case) -> bool {
    let fields = &case.request.fields;
    let lengths = case.request.has("content-length");
    let odd_field = fields.iter().any(|f| f.gap.first() != Some(&b':') || f.gap.contains(&b'\n') || f.value.contains(&b'\n'));
    // RFC 9112 §6.1: a coding in an HTTP/1.0 message, or beside a length, is faulty.
    let odd_coding = case.request.framing == Framing::Chunked && (lengths || case.old_request);
    let odd_chunk = case.request.framing == Framing::Chunked
        && case.request.pieces.iter().any(|piece| !matches!(piece.extension.first(), None | Some(b';' | b' ')));
    case.client == Protocol::H1 && (odd_field || odd_coding || odd_chunk || case.request.has("transfer-encoding"))
        || lengths && said_length(&rendered(case)).is_err()
}

fn rendered(case: &Case) -> super::hpack::Fields {
    let mut fields: super::hpack::Fields = case.request.fields.iter().map(|f| (f.name.clone(), f.value.clone())).collect();
    if case.request.framing == Framing::Length {
        fields.push((b"content-length".to_vec(), case.request.body().len().to_string().into_bytes()));
    }
    fields
}

fn malformed_request(pair: &Pair, d: &Difference) -> bool {
    let heard = pair.direct.origin.last().map(|heard| heard.end);
    let is_malformed = matches!(heard, Some(End::Malformed(_))) || is_odd(&pair.case);
    match (&d.what, refusal(&pair.through.client)) {
        // RFC 9113 §8.1.1: a malformed request is a stream error PROTOCOL_ERROR.
        (What::Bare, None) => is_malformed && pair.through.client.reset == Some(1),
        (What::Refused | What::Count, Some(told)) => is_malformed && told.starts_with("400"),
        (What::End | What::Count, None) => is_malformed && pair.through.client.end != End::Whole && d.side == Side::Client,
        _ => false,
    }
}

fn malformed_answer(pair: &Pair, d: &Difference) -> bool {
    let direct = &pair.direct.client;
    let nothing = direct.start[0].is_empty() || matches!(direct.end, End::Malformed(_));
    // The cut may overtake the head.
    let cut = direct.end == End::Broken && pair.case.answer.cut.is_some();
    d.what == What::Refused && (nothing || cut) && d.through.starts_with("502")
}

fn request_cut(pair: &Pair, d: &Difference) -> bool {
    let Some((_, how)) = pair.case.request.cut else { return false };
    let whole = pair.direct.origin.last().is_some_and(|heard| heard.end == End::Whole);
    match (&d.what, d.side) {
        (What::Count, _) => !whole || how != How::Fin,
        (What::Refused, _) => !whole && d.through.starts_with("400"),
        (What::End, Side::Origin) if how == How::Reset => true,
        // A reset overtakes what was sent.
        (What::Body | What::Trailer(_), Side::Origin) if how == How::Reset => is_beginning(pair),
        (What::End, Side::Origin) => !whole && is_incomplete(pair.through.origin.last().map_or(End::Nothing, |h| h.end)),
        (_, Side::Client) => !whole,
        _ => false,
    }
}

fn early(pair: &Pair, d: &Difference) -> bool {
    let case = &pair.case;
    let ends = case.answer.cut.is_some()
        || case.answer.framing == Framing::Close
        || case.answer.has("connection")
        || matches!(pair.direct.client.end, End::Malformed(_))
        || case.old_answer
        || case.old_request;
    case.early
        && (ends || case.request.cut.is_some() || case.expects())
        && d.side == Side::Origin
        && matches!(d.what, What::Body | What::End | What::Trailer(_) | What::Count)
}

/// Percent-encoded bytes that stand for what a URI must not have, as they are.
fn raw(target: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = target;
    while let Some((&first, after)) = rest.split_first() {
        let coded = rest.get(1..3).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match coded {
            Some(byte) if first == b'%' && (b"\"<>`{}|^\\".contains(&byte) || byte >= 0x80) => {
                plain.push(byte);
                rest = &rest[3..];
            }
            _ => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

fn without_100(text: &str) -> String {
    text.split("; ").filter(|one| !one.starts_with("100")).collect::<Vec<_>>().join("; ")
}
