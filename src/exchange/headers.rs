//! Fields that are for one hop only, and fields that look like ours.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::draft::folds_to;

/// Never forwarded, named by `Connection` or not (RFC 9110 §7.6.1), but for a part of `TE`. `Trailer` stays: it announces
/// what hyper must know to send trailers on, and says nothing about this hop. `HTTP2-Settings` goes
/// with `Upgrade: h2c` (RFC 9113 §3.1).
fn is_for_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// What `Connection` may not take away, since it would change what the message is.
static NEVER_NAMED: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];

/// Takes out what belongs to the client's hop. Done before anything is added, so that a client cannot
/// name an added field in `Connection`. Most messages have little of it: one pass over their names finds that, where a
/// look-up for each name that there could be costs as much as parsing the message.
pub fn strip(headers: &mut HeaderMap) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_for_one_hop(name)).cloned().collect();
    if found.contains(&header::CONNECTION) {
        strip_named(headers);
    }
    for name in found {
        match name {
            header::TE => reduce_te(headers),
            name => _ = headers.remove(name),
        }
    }
}

/// What `Connection` names.
fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !NEVER_NAMED.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// TE is hop-by-hop, but "I take trailers" holds for us too, and gRPC servers ask for it.
fn reduce_te(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| value.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers")));
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes one field of the crumbs that HTTP/2 lets `Cookie` be split into (RFC 9113 §8.2.3): most servers of HTTP/1.1
/// read the first alone.
pub fn join_cookies(headers: &mut HeaderMap) {
    // No field comes twice.
    if headers.len() == headers.keys_len() {
        return;
    }
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each crumb was a field value, so all of them in one are.
    if let Ok(mut cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        cookie.set_sensitive(headers.get_all(header::COOKIE).iter().any(HeaderValue::is_sensitive));
        headers.insert(header::COOKIE, cookie);
    }
}

/// Drops fields whose names an origin may read as one of `injected`: CGI and many frameworks fold
/// `_` and `-` together.
pub fn drop_look_alikes(headers: &mut HeaderMap, injected: &[HeaderName]) {
    if injected.is_empty() || !headers.keys().any(|name| name.as_str().contains('_')) {
        return;
    }
    let alike: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| injected.iter().any(|ours| *ours != **name && folds_to(name.as_str(), ours.as_str())))
        .cloned()
        .collect();
    for name in alike {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn hop_by_hop_fields_and_those_named_by_connection_go() {
        let mut headers = map(&[
            ("connection", "close, X-Mine, host, content-length, "),
            ("x-mine", "1"),
            ("host", "a.example"),
            ("content-length", "3"),
            ("proxy-authorization", "Basic eDp5"),
            ("proxy-connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        strip(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["accept: */*", "content-length: 3", "host: a.example", "te: trailers", "trailer: x-sum"]);
    }

    #[test]
    fn crumbs_of_cookies_become_one_field_and_one_stays_as_it_is() {
        let mut headers = map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
        let mut one = map(&[("cookie", "a=1,b ")]);
        join_cookies(&mut one);
        assert_eq!(one["cookie"], "a=1,b ");
        let mut none = map(&[("x", "y")]);
        join_cookies(&mut none);
        assert_eq!(none.len(), 1);
    }

    #[test]
    fn look_alikes_of_injected_fields_go_and_others_stay() {
        let mut headers = map(&[("x_api_key", "client"), ("x-api_key", "client"), ("x-api-key", "ours"), ("my_field", "1")]);
        drop_look_alikes(&mut headers, &[HeaderName::from_static("x-api-key")]);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["my_field", "x-api-key"]);
    }
}
