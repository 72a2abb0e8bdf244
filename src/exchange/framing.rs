//! How an answer is framed when it leaves: by the length it was read by, whatever else it says of itself
//! (RFC 9112 §6.3). Two readers that disagree about a length cut answers short, or take one for two.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::peeked::Peeked;
use crate::draft::digits;
use crate::failure::{Cause, Failure};
use crate::limits::Limits;
use crate::origin::Origin;
use crate::upstream::ResponseBody;

/// Makes the answer's framing one, or refuses it.
///
/// # Errors
/// It is coded in a way that was not undone, its lengths differ, or it has more fields than are taken.
pub fn settle<B>(response: &mut Response<B>, origin: &Origin, limits: &Limits) -> Result<(), Failure> {
    let status = response.status();
    let headers = response.headers_mut();
    if headers.len() > limits.headers {
        let details = format!("the answer of {origin} has {} fields, and {} are taken", headers.len(), limits.headers);
        return Err(Failure::new(Cause::ResponseInvalid, details).hint("limits.headers sets the bound"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        check_coding(headers, origin)?;
        // The coding wins over a length (RFC 9112 §6.3, 4), and a length beside it is not passed on.
        headers.remove(header::CONTENT_LENGTH);
    } else if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: never in these.
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = one_length(headers).map_err(|written| differing(&written, origin))? {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    // An intermediary sends its own version (RFC 9112 §2.3). In HTTP/1.1 a body without a length is chunked, so that
    // one that breaks off is seen to; for a client of HTTP/1.0 hyper takes it back.
    if response.version() == Version::HTTP_10 {
        *response.version_mut() = Version::HTTP_11;
    }
    Ok(())
}

/// An answer of HTTP/2 may say that it is empty before its stream has ended. What comes against that makes it malformed
/// (RFC 9113 §8.1.1), and once its head has left there would be no telling.
///
/// # Errors
/// It is not empty, or its end does not come.
pub async fn settle_empty(body: &mut ResponseBody, peeked: &mut Peeked, origin: &Origin, limits: &Limits) -> Result<(), Failure> {
    if body.is_end_stream() || body.size_hint().exact() != Some(0) || !peeked.0.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(limits.stall, body.frame()).await {
        Ok(None) => {}
        Ok(Some(Ok(frame))) => peeked.0.push_back(frame),
        Ok(Some(Err(cause))) => {
            let details = format!("the answer of {origin} says that it has no body and does not end with its head: {cause}");
            return Err(Failure::new(Cause::ResponseInvalid, details));
        }
        Err(_) => {
            let details = format!("the answer of {origin} says that it has no body and did not end within {:?}", limits.stall);
            return Err(Failure::new(Cause::ResponseTimeout, details).hint("limits.stall sets the bound"));
        }
    }
    Ok(())
}

/// hyper undoes `chunked` and nothing else (RFC 9112 §6.1).
fn check_coding(headers: &HeaderMap, origin: &Origin) -> Result<(), Failure> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes).unwrap_or_default();
    if codings.next().is_none() && first.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let written = list(headers, header::TRANSFER_ENCODING);
    Err(Failure::new(
        Cause::TransferCoding,
        format!("the answer of {origin} comes in the transfer coding `{written}`, and only a plain `chunked` can be carried"),
    ))
}

/// What `Content-Length` is to say, where it says it more than once (RFC 9110 §8.6). `None`: it stays as it is.
///
/// # Errors
/// Its values differ, or one is no number; they come back as they were written.
pub fn one_length(headers: &HeaderMap) -> Result<Option<HeaderValue>, String> {
    let mut fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = fields.next() else { return Ok(None) };
    if fields.next().is_none() && digits(first.as_bytes()).is_some() {
        return Ok(None);
    }
    let fields = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut said = fields.flat_map(|field| field.as_bytes().split(|b| *b == b',')).map(|part| digits(part.trim_ascii()));
    match said.next().flatten() {
        Some(length) if said.all(|other| other == Some(length)) => Ok(Some(length.into())),
        _ => Err(list(headers, header::CONTENT_LENGTH)),
    }
}

fn differing(written: &str, origin: &Origin) -> Failure {
    Failure::new(Cause::ResponseInvalid, format!("the answer of {origin} gives its length as `{written}`"))
}

fn list(headers: &HeaderMap, name: http::HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Host, Scheme};

    fn settled(status: u16, fields: &[(&'static str, &str)]) -> Result<Vec<String>, Failure> {
        let mut response = Response::builder().status(status).version(Version::HTTP_10);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut response = response.body(()).unwrap();
        let origin = Origin::new(Scheme::Https, Host::parse("a.test").unwrap(), 443);
        settle(&mut response, &origin, &Limits { headers: 4, ..Limits::default() })?;
        assert_eq!(response.version(), Version::HTTP_11);
        let lengths = response.headers().get_all(header::CONTENT_LENGTH);
        Ok(lengths.iter().map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    const CL: &str = "content-length";
    const TE: &str = "transfer-encoding";

    #[test]
    fn the_coding_wins_over_any_length() {
        for length in ["5", "0", "x", "1, 2"] {
            assert!(settled(200, &[(CL, length), (TE, "chunked")]).unwrap().is_empty(), "{length}");
        }
        assert!(settled(200, &[(TE, " Chunked"), (CL, "5"), (CL, "6")]).unwrap().is_empty());
    }

    #[test]
    fn equal_lengths_become_one_and_others_are_refused() {
        assert_eq!(settled(200, &[(CL, "2, 2")]).unwrap(), ["2"]);
        assert_eq!(settled(200, &[(CL, "2"), (CL, "02 ,2")]).unwrap(), ["2"]);
        assert_eq!(settled(304, &[(CL, "7"), (CL, "7")]).unwrap(), ["7"]);
        assert_eq!(settled(200, &[(CL, "42")]).unwrap(), ["42"]);
        assert!(settled(204, &[(CL, "2"), (CL, "3")]).unwrap().is_empty());
        for wrong in ["2, 3", "2,", "+2", "-1", "0x2", "", "2 2", "99999999999999999999"] {
            let failure = settled(200, &[(CL, wrong)]).unwrap_err();
            assert_eq!((failure.cause, failure.cause.status().as_u16()), (Cause::ResponseInvalid, 502), "{wrong}");
        }
    }

    #[test]
    fn codings_that_were_not_undone_are_refused_by_name() {
        for coding in ["gzip, chunked", "gzip", "chunked, chunked", "identity", ""] {
            let failure = settled(200, &[(TE, coding)]).unwrap_err();
            assert_eq!(failure.cause.error_name(), "http_response_transfer_coding", "{coding}");
            assert!(failure.details.contains(&format!("`{coding}`")));
        }
        assert!(settled(200, &[(TE, "chunked"), (TE, "chunked")]).is_err());
    }

    #[test]
    fn more_fields_than_are_taken_are_refused_with_the_limit_named() {
        let four = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
        assert!(settled(200, &four).is_ok());
        let failure = settled(200, &[four.as_slice(), &[("e", "1")]].concat()).unwrap_err();
        assert!(failure.to_string().contains("limits.headers"), "{failure}");
    }
}
