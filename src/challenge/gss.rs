//! Kerberos by way of the system's GSSAPI: the one proof that is not pure. Its library reads the user's tickets and talks to
//! the KDC, so it is called on threads that may wait.

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::Error;
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, GSS_NT_KRB5_PRINCIPAL, OidSet};

use super::binding;
use crate::failure::{Cause, Failure};

/// A context that was begun toward a server.
pub struct Context(ClientCtx);

/// What a context is begun with.
#[derive(Clone)]
pub struct Wish {
    /// `HTTP/host`, or a principal with its realm.
    pub service: Service,
    /// Hand the user's ticket on to the server.
    pub delegate: bool,
    /// The certificate (DER) that the server showed, for a channel binding; `None`: in clear.
    pub certificate: Option<Vec<u8>>,
}

#[derive(Clone)]
pub enum Service {
    /// HTTP on this host; the system's Kerberos configuration says which name and realm that is.
    Host(String),
    Principal(String),
}

impl Service {
    fn shown(&self) -> String {
        match self {
            Service::Host(host) => format!("HTTP/{host}"),
            Service::Principal(name) => name.clone(),
        }
    }
}

/// Begins a context: the first token for the server (SPNEGO, RFC 4178), and what its answer is checked with.
///
/// # Errors
/// There is no ticket, or none can be had for this service; with the mend.
pub async fn begin(wish: Wish) -> Result<(Context, Vec<u8>), Failure> {
    // The library keeps its messages for the thread that failed, so they are put into words there.
    match tokio::task::spawn_blocking(move || begin_now(&wish)).await {
        Ok(begun) => begun,
        Err(cause) => Err(Failure::new(Cause::Internal, format!("the Kerberos library failed: {cause}"))),
    }
}

fn begin_now(wish: &Wish) -> Result<(Context, Vec<u8>), Failure> {
    let kerberos = OidSet::singleton(GSS_MECH_KRB5).and_then(|set| Cred::acquire(None, None, CredUsage::Initiate, Some(&set)));
    let failed = |error: Error| explain(&error.to_string(), &wish.service.shown());
    kerberos.map_err(failed)?;
    let application_data = wish.certificate.as_deref().map(binding::server_end_point);
    let start = |mechanism| {
        let name = match &wish.service {
            Service::Host(host) => Name::new(format!("HTTP@{host}").as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE)),
            Service::Principal(name) => Name::new(name.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)),
        };
        let mut flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        flags.set(CtxFlags::GSS_C_DELEG_FLAG, wish.delegate);
        let mut context = ClientCtx::new(None, name?, flags, Some(mechanism));
        let token = context.step(None, application_data.as_deref())?;
        Ok::<_, Error>((context, token))
    };
    match start(GSS_MECH_SPNEGO) {
        Ok((context, Some(token))) => Ok((Context(context), token.to_vec())),
        Ok((_, None)) => Err(Failure::new(Cause::Internal, "the Kerberos library made no token")),
        // Negotiation hides what Kerberos said.
        Err(error) => Err(failed(start(GSS_MECH_KRB5).err().unwrap_or(error))),
    }
}

impl Context {
    /// Takes the server's token. `Some`: one more is to be sent.
    ///
    /// # Errors
    /// The token does not prove that the server is who it should be.
    pub fn answer(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if self.0.is_complete() {
            return Ok(None);
        }
        // No ticket is fetched any more: nothing waits here.
        let next = self.0.step(Some(token), None).map_err(|error| error.to_string())?;
        Ok(next.map(|token| token.to_vec()).filter(|token| !token.is_empty()))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the library says, and what to do about it.
fn explain(said: &str, service: &str) -> Failure {
    let said = one_line(said);
    let lower = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let failure = Failure::new(Cause::Credential, format!("no Kerberos ticket for {service}: {said}"));
    if says(&["not found in kerberos database", "server not found", "unknown server"]) {
        failure.hint("the KDC does not know this service; name the right one with `spn: HTTP/NAME`")
    } else if says(&["clock skew", "skew too great"]) {
        failure.hint("set this machine's clock, which differs from the KDC's")
    } else if says(&["expired"]) {
        failure.hint("the ticket has expired; run `kinit` again")
    } else if says(&["no kerberos credentials", "no credentials", "credentials cache", "keytab"]) {
        failure.hint("run `kinit` as the user who runs gatepass, or name a keytab in KRB5_CLIENT_KTNAME")
    } else if says(&["cannot contact any kdc", "cannot find kdc", "cannot resolve"]) {
        failure.hint("check that the KDC can be reached and that krb5.conf (KRB5_CONFIG) names it")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_with_tickets_has_its_mend() {
        for (said, mend) in [
            ("Unspecified GSS failure. (No Kerberos credentials available (default cache: FILE:/x))", "run `kinit`"),
            ("Unspecified GSS failure. (Server HTTP/a@R not found in Kerberos database)", "spn: HTTP/NAME"),
            ("Unspecified GSS failure. (Clock skew too great)", "clock"),
            ("Unspecified GSS failure. (Ticket expired)", "kinit` again"),
            ("Unspecified GSS failure. (Cannot contact any KDC for realm 'R')", "krb5.conf"),
        ] {
            let failure = explain(said, "HTTP/a");
            assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains(mend)), "{said}: {failure}");
        }
    }
}
