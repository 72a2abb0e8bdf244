//! Answers to request heads that no request could be made of, and their records. They are written out here, since hyper would say nothing
//! but a status.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Version, header};

use super::context::{Activity, Context};
use super::trace::ExchangeTrace;
use crate::failure::Failure;
use crate::observe::Client;
use crate::origin::Origin;

/// The answer as it is to be sent, its record told. Nothing comes after it on the connection. `origin`: where the connection
/// goes, if that is settled. `multiplexed`: the client speaks HTTP/2, and hyper answers; only the record is wanted.
pub fn malformed(
    context: &Arc<Context>,
    client: &Client,
    origin: Option<&Arc<Origin>>,
    multiplexed: bool,
    method: Method,
    path: &str,
    failure: &Failure,
) -> Bytes {
    let bodiless = method == Method::HEAD;
    let mut request = Request::new(());
    *request.method_mut() = method;
    if multiplexed {
        *request.version_mut() = Version::HTTP_2;
    }
    let mut trace = ExchangeTrace::new(context, Instant::now(), &request, Activity::new(false).busy());
    trace.unread(origin, path);
    let mut response = trace.refuse(client, failure);
    if multiplexed {
        response.body_mut().withhold_text();
        return Bytes::new();
    }
    let text = response.body_mut().take_text();
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    if !bodiless {
        fields.insert(header::CONTENT_LENGTH, text.len().into());
    }
    let status = response.status();
    let mut answer = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in response.headers() {
        answer.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&text);
    answer.into()
}
