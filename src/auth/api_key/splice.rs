//! One member or field is put into a body; every other byte stays as the client wrote it.

use percent_encoding::utf8_percent_encode;
use serde::de::IgnoredAny;

use crate::draft::UNRESERVED;

/// RFC 8259 §8.1: not to be sent, but it may be met.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The member `name` of a JSON object: its value replaced where it stands (everywhere, so that all parsers read the
/// same of several), else appended.
///
/// # Errors
/// Why the body cannot carry it.
pub fn json(body: &[u8], name: &str, value: &str) -> Result<Vec<u8>, &'static str> {
    let text = |text: &str| serde_json::Value::from(text).to_string().into_bytes();
    let mark = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let value = text(value);
    if body[mark..].trim_ascii().is_empty() {
        return Ok([&body[..mark], b"{", &text(name), b":", &value, b"}"].concat());
    }
    if body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0xfe, 0xff]) || body.iter().take(4).any(|byte| *byte == 0) {
        return Err("this body is not in UTF-8 (RFC 8259 section 8.1)");
    }
    serde_json::from_slice::<IgnoredAny>(&body[mark..]).map_err(|_| "this body is not valid JSON")?;
    let object = Object::read(body, mark).ok_or("this body is not a JSON object")?;
    let mut made = Vec::with_capacity(body.len() + name.len() + value.len() + 8);
    let mut done = 0;
    for member in object.members.iter().filter(|member| member.name == name) {
        made.extend_from_slice(&body[done..member.from]);
        made.extend_from_slice(&value);
        done = member.to;
    }
    if done == 0 {
        let end = object.members.last().map_or(object.open + 1, |member| member.to);
        made.extend_from_slice(&body[..end]);
        if !object.members.is_empty() {
            made.push(b',');
        }
        made.extend_from_slice(&text(name));
        made.push(b':');
        made.extend_from_slice(&value);
        done = end;
    }
    made.extend_from_slice(&body[done..]);
    Ok(made)
}

/// The top level of an object that is known to be valid JSON.
struct Object {
    /// Of its `{`.
    open: usize,
    members: Vec<Member>,
}

struct Member {
    /// Decoded.
    name: String,
    /// Of its value.
    from: usize,
    to: usize,
}

impl Object {
    fn read(body: &[u8], at: usize) -> Option<Self> {
        let open = skip_space(body, at);
        if body.get(open) != Some(&b'{') {
            return None;
        }
        let mut members = Vec::new();
        let mut at = skip_space(body, open + 1);
        while body.get(at) == Some(&b'"') {
            let end = skip_string(body, at)?;
            let name = serde_json::from_slice(&body[at..end]).unwrap_or_default();
            // The colon.
            let from = skip_space(body, skip_space(body, end) + 1);
            let to = skip_value(body, from)?;
            members.push(Member { name, from, to });
            // The comma, or the closing brace.
            at = skip_space(body, skip_space(body, to) + 1);
        }
        Some(Self { open, members })
    }
}

fn skip_space(body: &[u8], at: usize) -> usize {
    at + body[at.min(body.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn skip_string(body: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        match body.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

fn skip_value(body: &[u8], at: usize) -> Option<usize> {
    let (mut end, mut depth) = (at, 0_usize);
    loop {
        match body.get(end)? {
            b'"' => {
                end = skip_string(body, end)?;
                if depth == 0 {
                    return Some(end);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Some(if depth == 1 { end + 1 } else { end }),
            b'}' | b']' => depth -= 1,
            byte if depth == 0 && (*byte == b',' || byte.is_ascii_whitespace()) => return Some(end),
            _ => {}
        }
        end += 1;
    }
}

/// The field `name` of a form: appended, in place of any that there was.
pub fn form(body: &[u8], name: &str, value: &str) -> Vec<u8> {
    let ours = |pair: &[u8]| {
        let written = pair.split(|b| *b == b'=').next().unwrap_or(pair);
        let spaced: Vec<u8> = written.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        percent_encoding::percent_decode(&spaced).eq(name.bytes())
    };
    let pair = format!("{}={}", utf8_percent_encode(name, UNRESERVED), utf8_percent_encode(value, UNRESERVED));
    let kept = body.split(|b| *b == b'&').filter(|piece| !body.is_empty() && !ours(piece));
    kept.chain([pair.as_bytes()]).collect::<Vec<_>>().join(&b'&')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spliced(body: &str) -> String {
        String::from_utf8(json(body.as_bytes(), "key", "s\"1\"").unwrap()).unwrap()
    }

    #[test]
    fn one_member_is_added_and_every_other_byte_stays() {
        for (body, made) in [
            ("", r#"{"key":"s\"1\""}"#),
            ("{}", r#"{"key":"s\"1\""}"#),
            ("{ }\n", "{\"key\":\"s\\\"1\\\"\" }\n"),
            (r#"{"a":12345678901234567890123}"#, r#"{"a":12345678901234567890123,"key":"s\"1\""}"#),
            (r#"{"a": 1.10 , "a":1e5 }"#, r#"{"a": 1.10 , "a":1e5,"key":"s\"1\"" }"#),
            ("\u{feff}{\n  \"a\": [1, {\"key\": 2}]\n}\n", "\u{feff}{\n  \"a\": [1, {\"key\": 2}],\"key\":\"s\\\"1\\\"\"\n}\n"),
            (r#"{"a":"}\"],{","b":{"c":[]}}"#, r#"{"a":"}\"],{","b":{"c":[]},"key":"s\"1\""}"#),
            (r#"{"a":"\u00e9é","b":null}"#, r#"{"a":"\u00e9é","b":null,"key":"s\"1\""}"#),
        ] {
            assert_eq!(spliced(body), made);
        }
    }

    #[test]
    fn a_member_of_that_name_is_replaced_where_it_stands_however_it_is_spelt() {
        for (body, made) in [
            (r#"{"key":"old","b":2.0}"#, r#"{"key":"s\"1\"","b":2.0}"#),
            (r#"{"a":1, "k\u0065y" : {"x":[1]} , "b":2}"#, r#"{"a":1, "k\u0065y" : "s\"1\"" , "b":2}"#),
            (r#"{"key":1,"a":[],"key":true}"#, r#"{"key":"s\"1\"","a":[],"key":"s\"1\""}"#),
            (r#"{"KEY":1}"#, r#"{"KEY":1,"key":"s\"1\""}"#),
        ] {
            assert_eq!(spliced(body), made);
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused_with_the_reason() {
        for (body, why) in [
            (&b"[1]"[..], "not a JSON object"),
            (b"\"text\"", "not a JSON object"),
            (b"{\"a\":1", "not valid JSON"),
            (b"{\"a\":1} {\"b\":2}", "not valid JSON"),
            (b"\xff\xfe{\0}\0", "not in UTF-8"),
            (b"\0{\0}", "not in UTF-8"),
            (b"<a/>", "not valid JSON"),
        ] {
            assert!(json(body, "key", "v").unwrap_err().contains(why), "{body:?}");
        }
        // Bytes in a string are the client's affair.
        assert_eq!(json(b"{\"a\":\"\xe9\"}", "k", "v").unwrap(), b"{\"a\":\"\xe9\",\"k\":\"v\"}");
    }

    #[test]
    fn one_field_of_a_form_is_set_and_every_other_byte_stays() {
        for (body, made) in [
            (&b""[..], &b"k=v%201"[..]),
            (b"a=1", b"a=1&k=v%201"),
            (b"a=1&&b=%zz&c", b"a=1&&b=%zz&c&k=v%201"),
            (b"a=\xe9&k=old&b=2&%6B=again", b"a=\xe9&b=2&k=v%201"),
        ] {
            assert_eq!(form(body, "k", "v 1"), made);
        }
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}[\"\\\\{},]?".prop_map(Into::into)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-z\"]{0,3}", inner), 0..4)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into())
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_reads_the_same_but_for_the_member(
            members in prop::collection::vec(("[a-z\"]{0,3}", values()), 0..5),
            pretty in any::<bool>(),
        ) {
            let mut object: serde_json::Map<_, _> = members.into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let made: serde_json::Map<_, _> = serde_json::from_slice(&json(text.as_bytes(), "k", "v").unwrap()).unwrap();
            object.insert("k".to_owned(), "v".into());
            prop_assert_eq!(made, object);
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = json(&body, "k", "v");
            let _ = form(&body, "k", "v");
        }
    }
}
