//! A token endpoint for SDKs: where a rule says `token_endpoint: CREDENTIAL`, a token request is answered here, with
//! a token that stands in for the credential. Nothing of the request leaves, so that the SDK needs no secret.

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::answer::Reply;
use crate::auth::stand_in;
use crate::draft::Draft;
use crate::failure::{Cause, Failure};
use crate::gate::{Decision, Gate};
use crate::moment::Moment;
use crate::upstream::unread::Unread;

/// No honest token request is larger.
const REQUEST: usize = 64 * 1024;

/// RFC 6749 §5.1.
///
/// # Errors
/// It is no POST, or its body is no token request's.
pub async fn answer(method: &Method, body: Unread, credential: &str, gate: &Gate) -> Result<Response<Reply>, Failure> {
    if method != Method::POST {
        return Err(Failure::new(Cause::MethodNotAllowed, format!("gatepass answers token requests here, and {method} is none"))
            .hint("a token is asked for with POST (RFC 6749 section 3.2)"));
    }
    // Read to its end, so that the connection can be used again; what secrets the SDK was given are of no interest.
    let Ok(request) = Limited::new(body, REQUEST).collect().await else {
        return Err(Failure::new(Cause::BodyTooLarge, format!("a token request has at most {REQUEST} bytes")));
    };
    let stand_ins = &gate.durable().stand_ins;
    let token = stand_ins.mint(credential, &Moment::real());
    let mut told = json!({ "access_token": token, "token_type": "Bearer", "expires_in": stand_in::LIFE.as_secs() });
    // OpenID Connect: one who asks for that scope gets an ID token, too; and one whose credential is one.
    let session = gate.credentials.iter().find(|(name, _)| name == credential).and_then(|(_, bound)| bound.session.as_ref());
    let openid = |body: &[u8]| body.split(|b| b"=&+ %".contains(b)).any(|word| word == b"openid" || word.ends_with(b"id_token"));
    if session.is_some_and(|session| session.settings.id_token) || openid(&request.to_bytes()) {
        told["id_token"] = stand_ins.mint_id(credential, &Moment::real()).into();
    }
    let mut response = Response::new(Reply::text(told.to_string()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A token that stands in for one of the decision's credentials is not the client's own: it makes room for it.
pub fn make_room(draft: &mut Draft, gate: &Gate, decision: &Decision) {
    if decision.auth.is_empty() {
        return;
    }
    let Some(field) = draft.headers.get(header::AUTHORIZATION).and_then(|field| field.to_str().ok()) else { return };
    let (moment, stand_ins) = (Moment::real(), &gate.durable().stand_ins);
    if decision.auth.iter().any(|bound| stand_ins.stands_for(field, &bound.label, &moment)) {
        draft.headers.remove(header::AUTHORIZATION);
    }
}
