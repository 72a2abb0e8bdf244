//! Identity and trust of what a workload's agent sent (SPIFFE X509-SVID), and the check of a server's
//! SPIFFE ID.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::identity::{self, Identity, Parts};
use super::svid_origin::SvidOrigin;
use super::trust::Trust;
use crate::tls::formats::inspect::Details;
use crate::tls::formats::key::Key;
use crate::tls::formats::pem;
use crate::tls::{Loaded, Problem};
use crate::workload::SpiffeId;
use crate::workload::{Svid, Update};

/// The identity that was asked for.
///
/// # Errors
/// The agent has none of that ID, or what it sent cannot be used.
pub fn identity(update: &Update, origin: &SvidOrigin) -> Result<Loaded<Identity>, Problem> {
    let agent = origin.socket.display();
    let wanted = |svid: &&Svid| origin.id.as_ref().is_none_or(|id| id.to_string() == svid.id);
    let Some(svid) = update.svids.iter().find(wanted) else {
        let has: Vec<&str> = update.svids.iter().map(|svid| svid.id.as_str()).collect();
        let has = if has.is_empty() { "none at all".to_owned() } else { has.join(", ") };
        let asked = origin.id.as_ref().map_or_else(|| "a SPIFFE ID".to_owned(), ToString::to_string);
        return Err(Problem::new(
            "no-svid",
            origin.place,
            format!("the SPIFFE agent at {agent} does not have {asked} for this process; it has {has}"),
        )
        .help("name one of those, or register gatepass for it with the agent"));
    };
    let damaged = |what: &str| {
        let message = format!("the SPIFFE agent at {agent} sent {what} for {}", svid.id);
        Problem::new("damaged-svid", origin.place, message).help("look into the agent's log")
    };
    let key = PrivateKeyDer::try_from(svid.key.as_slice()).map_err(|_| damaged("something that is no private key"))?;
    let key = Key::new(&key.clone_key()).map_err(|_| damaged("a private key of a kind that is not supported"))?;
    let certificates = certificates(&svid.certificates);
    if certificates.is_empty() {
        return Err(damaged("no certificate"));
    }
    let parts = Parts { certificates, key, files: Vec::new(), salt: [0; 32], name: svid.id.clone(), place: origin.place };
    let mut loaded = identity::of_parts(parts)?;
    loaded.value.came_from(origin.clone());
    Ok(loaded)
}

/// The CAs of the agent's trust domain, and those of the domains it federates with, each for its own IDs.
///
/// # Errors
/// There is no CA among what it sent.
pub fn trust(update: &Update, origin: &SvidOrigin) -> Result<Trust, Problem> {
    let mut domains: BTreeMap<String, Vec<(Vec<u8>, Details)>> = BTreeMap::new();
    let own = update.svids.iter().filter_map(|svid| Some((SpiffeId::parse(&svid.id).ok()?.domain, &svid.bundle)));
    let own: Vec<_> = own.collect();
    let first = own.first().map(|(domain, _)| domain.clone()).unwrap_or_default();
    let federated = update.federated.iter().filter_map(|(id, bundle)| Some((SpiffeId::parse(id).ok()?.domain, bundle)));
    for (domain, bundle) in own.into_iter().chain(federated) {
        domains.entry(domain).or_insert_with(|| certificates(bundle));
    }
    let Some(entries) = domains.get(&first).filter(|entries| !entries.is_empty()).cloned() else {
        let message = format!("the SPIFFE agent at {} sent no CA", origin.socket.display());
        return Err(Problem::new("empty-bundle", origin.place, message).help("look into the agent's log"));
    };
    let anchors = |entries: &[(Vec<u8>, Details)]| {
        let mut roots = RootCertStore::empty();
        let signers = entries.iter().filter(|(_, details)| details.may_anchor);
        roots.add_parsable_certificates(signers.map(|(der, _)| CertificateDer::from(der.as_slice())));
        Arc::new(roots)
    };
    let stores = domains.iter().map(|(domain, entries)| (domain.clone(), anchors(entries))).collect();
    Ok(Trust::of_domains(entries, stores, origin.clone()))
}

/// Certificates in DER, one after the other.
fn certificates(mut bytes: &[u8]) -> Vec<(Vec<u8>, Details)> {
    let mut found = Vec::new();
    while let Some(der) = pem::first_element(bytes).filter(|der| !der.is_empty()) {
        found.extend(Details::read(der).ok().map(|details| (der.to_vec(), details)));
        bytes = &bytes[der.len()..];
    }
    found
}

/// The SPIFFE ID of a leaf, which has exactly one URI and is no CA (X509-SVID §2, §4.1).
pub(super) fn id_of(leaf: &[u8]) -> Option<SpiffeId> {
    let (_, cert) = X509Certificate::from_der(leaf).ok()?;
    if matches!(cert.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca) {
        return None;
    }
    let names = cert.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri).ok().filter(|id| !id.path.is_empty()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "svid_tests.rs"]
mod tests;
