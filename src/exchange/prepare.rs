//! From the client's head to a draft of ours: strip, name the host, edit.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, header};

use super::headers;
use crate::draft::{Body, Draft};
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Gate, HeaderText, Plan};

/// A draft with the client's head, its hop's fields taken out and the `Host` ours.
///
/// # Errors
/// The target has no path that can be sent.
pub fn begin(parts: Parts, plan: &Plan) -> Result<Draft, Failure> {
    let mut headers = parts.headers;
    headers::strip(&mut headers);
    headers.insert(header::HOST, plan.host.clone());
    let target = parts.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Draft { method: parts.method, origin: plan.origin.clone(), target, headers, body: Body::Empty })
}

/// What the rules say about headers and query, and about credentials the client brought itself.
///
/// # Errors
/// A live value cannot be had, or the client's own credential is refused.
pub async fn apply(draft: &mut Draft, gate: &Gate, decision: &Decision) -> Result<(), Failure> {
    headers::drop_look_alikes(&mut draft.headers, &decision.injected);
    for (rule, at) in &decision.headers {
        let edit = gate.rules()[*rule].header(*at);
        match &edit.value {
            None => {
                draft.headers.remove(&edit.name);
            }
            Some(HeaderText::Fixed(value)) => {
                draft.headers.insert(&edit.name, value.clone());
            }
            Some(HeaderText::Live(value)) => {
                let secret = value.get().await?;
                let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| {
                    Failure::new(
                        Cause::Credential,
                        format!("the value for header `{}` holds characters that a header cannot carry", edit.name),
                    )
                })?;
                value.set_sensitive(true);
                draft.headers.insert(&edit.name, value);
            }
        }
    }
    for (rule, at) in &decision.query {
        let edit = gate.rules()[*rule].query(*at);
        match &edit.value {
            None => draft.remove_query(&edit.name),
            Some(value) => {
                let secret = value.get().await?;
                draft.set_query(&edit.name, secret.expose());
            }
        }
    }
    Ok(())
}
