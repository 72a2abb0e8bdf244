//! From the client's head to a draft of ours: strip, name the host, edit, sign.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, header};

use super::headers;
use crate::auth::{Round, Spot};
use crate::config::OnExisting;
use crate::draft::{Body, Draft, Recoding};
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Gate, HeaderText, Plan};
use crate::swap::Pair;

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
                let secret = value.ready().await?;
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
                let secret = value.ready().await?;
                draft.set_query(&edit.name, secret.expose());
            }
        }
    }
    Ok(())
}

/// Which authorizers stand back because the client brought its own credential: positions in
/// `decision.auth`. Asked once, before the first signing.
///
/// # Errors
/// `on_existing_auth: reject`, and the client brought one.
pub fn standing_back(draft: &Draft, decision: &Decision) -> Result<Vec<usize>, Failure> {
    let mut back = Vec::new();
    if decision.on_existing == OnExisting::Replace {
        return Ok(back);
    }
    let elsewhere = brought_elsewhere(draft, decision);
    for (at, bound) in decision.auth.iter().enumerate() {
        let reject = decision.on_existing == OnExisting::Reject;
        let mut ours = bound.spots.iter().chain(&bound.clears);
        let brought = ours.find(|spot| has(draft, spot, reject)).or(elsewhere.as_ref());
        match brought {
            Some(spot) if reject => return Err(refused(spot, draft)),
            Some(_) => back.push(at),
            None => {}
        }
    }
    Ok(back)
}

/// Signs by every authorizer of the decision, in order, but for those that stand back; and says how they change the
/// body on its way out.
///
/// # Errors
/// A credential cannot be had or added; the request must not leave then.
pub async fn sign(
    draft: &mut Draft,
    decision: &Decision,
    round: &Round<'_>,
    standing_back: &[usize],
) -> Result<Vec<Recoding>, Failure> {
    let mut recodings = Vec::new();
    for (at, bound) in decision.auth.iter().enumerate() {
        if standing_back.contains(&at) {
            continue;
        }
        if bound.needs.prepare {
            bound.authorizer.prepare_for(draft, round).await?;
        }
        bound.authorizer.sign(draft, round)?;
        recodings.extend(bound.authorizer.recode(draft, round)?);
    }
    Ok(recodings)
}

/// What the client must not see in the answer, by every authorizer that signed.
///
/// # Errors
/// A credential cannot be had; the request must not leave then.
pub fn masks(draft: &Draft, decision: &Decision, standing_back: &[usize]) -> Result<Vec<Pair>, Failure> {
    let mut pairs = Vec::new();
    for (at, bound) in decision.auth.iter().enumerate() {
        if !standing_back.contains(&at) {
            pairs.extend(bound.authorizer.mask(draft)?);
        }
    }
    Ok(pairs)
}

/// Where credentials stand by custom, besides where the rule's own stand.
const CUSTOMARY_FIELDS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("ocp-apim-subscription-key"),
    HeaderName::from_static("x-functions-key"),
];
/// `access_token`: RFC 6750 §2.3.
const CUSTOMARY_PARAMETERS: [&str; 4] = ["access_token", "api_key", "apikey", "X-Amz-Signature"];

/// A credential of the client's own in a place that the rule's credential does not write.
fn brought_elsewhere(draft: &Draft, decision: &Decision) -> Option<Spot> {
    let spots = || decision.auth.iter().flat_map(|bound| &bound.spots);
    // A placeholder is no credential, and what a rule sets is not the client's.
    let dummy = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        spots().any(|spot| matches!(spot, Spot::Placeholder(dummy) if text.contains(dummy.as_str())))
    };
    let own = |name: &HeaderName| decision.injected.contains(name);
    let brought = |name: &&HeaderName| !own(name) && draft.headers.get_all(*name).iter().any(|value| !dummy(value));
    if let Some(name) = CUSTOMARY_FIELDS.iter().find(brought) {
        return Some(Spot::Header(name.clone()));
    }
    let parameter =
        CUSTOMARY_PARAMETERS.iter().find(|name| draft.has_query(name) && !decision.sets_query.iter().any(|set| set == **name));
    if let Some(name) = parameter {
        return Some(Spot::Query((*name).to_owned()));
    }
    // A session in another cookie than ours. Kept, it may be one of many that are none.
    let cookies = decision.on_existing == OnExisting::Reject && spots().any(|spot| matches!(spot, Spot::Cookie(_)));
    (cookies && draft.headers.contains_key(header::COOKIE)).then(|| Spot::Cookie("*".to_owned()))
}

/// `strictly`: what goes with a credential counts too, but for what every client sends.
fn has(draft: &Draft, spot: &Spot, strictly: bool) -> bool {
    match spot {
        Spot::Aside(header::ACCEPT_ENCODING | header::CACHE_CONTROL) => false,
        Spot::Aside(name) => strictly && draft.headers.contains_key(name),
        Spot::Header(name) => draft.headers.contains_key(name),
        Spot::Query(name) => draft.has_query(name),
        Spot::Cookie(name) => draft.headers.get_all(header::COOKIE).iter().any(|field| {
            let text = String::from_utf8_lossy(field.as_bytes());
            text.split(';').any(|pair| pair.trim().split('=').next() == Some(name))
        }),
        // Replaced in the body itself by the scheme; a jar leaves the client's cookies alone.
        // And a placeholder is there to be replaced.
        Spot::BodyField(_) | Spot::Jar | Spot::Placeholder(_) => false,
    }
}

fn refused(spot: &Spot, draft: &Draft) -> Failure {
    let place = match spot {
        Spot::Header(name) | Spot::Aside(name) => format!("header `{name}`"),
        Spot::Query(name) => format!("query parameter `{name}`"),
        Spot::Cookie(name) if name == "*" => "field `cookie`".to_owned(),
        Spot::Cookie(name) => format!("cookie `{name}`"),
        Spot::BodyField(name) => format!("body field `{name}`"),
        Spot::Jar => "its cookies".to_owned(),
        Spot::Placeholder(text) => format!("place of `{text}`"),
    };
    Failure::new(Cause::ExistingCredential, format!("the client sent its own credential to {} in {place}", draft.origin))
        .hint("take it out of the client, or set `on_existing_auth: replace` or `keep` in the rule")
}
