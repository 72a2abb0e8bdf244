//! Leaves for intercepted hosts: minted on demand, kept within a bound, minted once however many
//! connections want the same one at the same moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::failure::{Cause, Failure};
use crate::moment;
use crate::origin::Host;
use crate::tls::formats::alpn::protocol_id;
use crate::tls::provider;
use crate::tls::settings::Alpn;

/// Certificates begin in the past, for clients (containers, phones) whose clock is behind.
pub(super) const BACKDATE: Duration = Duration::from_secs(48 * 3600);

/// From now to the end of a leaf. With the time before now it stays far below the 199 days that the
/// strictest clients allow.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// A leaf that has less than this left is minted anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// TLS 1.2 sessions of clients that know no tickets; for all hosts together.
const SESSIONS: usize = 1024;
/// The longest common name (RFC 5280 appendix A, ub-common-name).
const LONGEST_COMMON_NAME: usize = 64;

/// 128 bits, positive, without leading zeros (RFC 5280 §4.1.2.2).
pub(super) fn serial() -> SerialNumber {
    let mut bytes = moment::random_bytes::<16>();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Signs leaves. All of them have one key pair, which is not the CA's: making one for each would cost
/// as much again as signing, and protect nothing, since all of them are in this process.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// What is sent after a leaf: the CA and those above it, when the CA is no root.
    chain: Vec<CertificateDer<'static>>,
    /// No leaf outlives the CA.
    ca_ends: SystemTime,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
}

impl Signer {
    pub(super) fn new(
        issuer: Issuer<'static, KeyPair>,
        chain: Vec<CertificateDer<'static>>,
        ca_ends: SystemTime,
    ) -> Result<Self, rcgen::Error> {
        let leaf_key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer =
            provider().key_provider.load_private_key(der).map_err(|_| rcgen::Error::UnsupportedSignatureAlgorithm)?;
        Ok(Self { issuer, chain, ca_ends, leaf_key, leaf_signer })
    }

    /// Do leaves name their issuer as the CA's certificate names itself, byte for byte? rcgen writes
    /// names anew, and rare forms (several values in one part) come out differently.
    pub(super) fn names_its_issuer(&self, ca: &[u8]) -> bool {
        let Ok(leaf) = self.sign(&Host::Name("gatepass.invalid".into()), SystemTime::now()) else { return false };
        match (X509Certificate::from_der(&leaf), X509Certificate::from_der(ca)) {
            (Ok((_, leaf)), Ok((_, ca))) => leaf.issuer().as_raw() == ca.subject().as_raw(),
            _ => false,
        }
    }

    fn sign(&self, host: &Host, now: SystemTime) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
            Host::Ip(ip) => SanType::IpAddress(*ip),
        }];
        params.distinguished_name = subject(host);
        params.not_before = (now - BACKDATE).into();
        params.not_after = self.ends(now).into();
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.der().clone())
    }

    fn ends(&self, now: SystemTime) -> SystemTime {
        (now + LIFE).min(self.ca_ends)
    }
}

/// A common name only where it fits; clients look at the alternative name alone (RFC 9525 §6.3).
fn subject(host: &Host) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "gatepass");
    let text = match host {
        Host::Name(name) => name.to_string(),
        Host::Ip(ip) => ip.to_string(),
    };
    if text.len() <= LONGEST_COMMON_NAME {
        name.push(DnType::CommonName, text);
    }
    name
}

/// The leaves that are kept.
pub(super) struct Leaves {
    signer: Signer,
    base: [ServerConfig; 2],
    kept: RwLock<HashMap<Host, Arc<Slot>>>,
    bound: usize,
    /// Counts uses, to know which slot was used longest ago.
    clock: AtomicU64,
}

/// The place of one host. Its lock is held while its leaf is minted: others that want it wait for it.
struct Slot {
    used: AtomicU64,
    leaf: Mutex<Option<Leaf>>,
}

struct Leaf {
    not_before: SystemTime,
    renew_at: SystemTime,
    /// HTTP/1.1 alone, then with HTTP/2.
    configs: [Arc<ServerConfig>; 2],
}

impl Leaf {
    /// Also false when the clock was set back behind the leaf's beginning.
    fn is_fresh(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.renew_at
    }
}

impl Leaves {
    pub(super) fn new(signer: Signer, bound: usize) -> Self {
        let base = base_configs(&signer);
        Self { signer, base, kept: RwLock::default(), bound: bound.max(1), clock: AtomicU64::new(0) }
    }

    pub(super) fn config(&self, host: &Host, h2: bool) -> Result<Arc<ServerConfig>, Failure> {
        self.config_at(host, h2, SystemTime::now())
    }

    fn config_at(&self, host: &Host, h2: bool, now: SystemTime) -> Result<Arc<ServerConfig>, Failure> {
        let slot = self.slot(host);
        let mut leaf = slot.leaf.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(fresh) = leaf.as_ref().filter(|leaf| leaf.is_fresh(now)) {
            return Ok(Arc::clone(&fresh.configs[usize::from(h2)]));
        }
        let minted = self
            .mint(host, now)
            .map_err(|error| Failure::new(Cause::Internal, format!("no certificate can be made for {host}: {error}")))?;
        let config = Arc::clone(&minted.configs[usize::from(h2)]);
        *leaf = Some(minted);
        Ok(config)
    }

    fn slot(&self, host: &Host) -> Arc<Slot> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        {
            let kept = self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(slot) = kept.get(host) {
                slot.used.store(now, Ordering::Relaxed);
                return Arc::clone(slot);
            }
        }
        let mut kept = self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if kept.len() >= self.bound && !kept.contains_key(host) {
            drop_oldest(&mut kept);
        }
        let new = || Arc::new(Slot { used: AtomicU64::new(now), leaf: Mutex::new(None) });
        Arc::clone(kept.entry(host.clone()).or_insert_with(new))
    }

    fn mint(&self, host: &Host, now: SystemTime) -> Result<Leaf, rcgen::Error> {
        let mut chain = vec![self.signer.sign(host, now)?];
        chain.extend(self.signer.chain.iter().cloned());
        let key = CertifiedKey::new(chain, Arc::clone(&self.signer.leaf_signer));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(key));
        let configs = [0, 1].map(|kind| {
            let mut config: ServerConfig = self.base[kind].clone();
            config.cert_resolver = Arc::clone(&resolver);
            Arc::new(config)
        });
        // A CA about to end: half of what is left, rather than minting for every connection.
        let left = self.signer.ends(now).duration_since(now).unwrap_or_default();
        let renew_at = now + left.saturating_sub(RENEW_BEFORE).max(left / 2);
        Ok(Leaf { not_before: now - BACKDATE, renew_at, configs })
    }
}

/// Drops the eighth that was used longest ago: one pass over the map for many insertions.
fn drop_oldest(kept: &mut HashMap<Host, Arc<Slot>>) {
    let mut uses: Vec<u64> = kept.values().map(|slot| slot.used.load(Ordering::Relaxed)).collect();
    let count = (uses.len() / 8).max(1);
    let (_, last, _) = uses.select_nth_unstable(count - 1);
    let last = *last;
    kept.retain(|_, slot| slot.used.load(Ordering::Relaxed) > last);
}

/// What all leaves' configurations share: provider, tickets, sessions. A ticket is bound to the name
/// it was issued for, so one host's session is not resumed for another.
fn base_configs(signer: &Signer) -> [ServerConfig; 2] {
    let nobody = CertifiedKey::new(Vec::new(), Arc::clone(&signer.leaf_signer));
    let mut base = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(nobody)));
    if let Ok(ticketer) = Ticketer::new() {
        base.ticketer = ticketer;
    }
    base.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // Clients use one; the second that is sent by default costs its encryption and its bytes.
    base.send_tls13_tickets = 1;
    let mut h1 = base.clone();
    h1.alpn_protocols = vec![protocol_id(Alpn::Http11).to_vec()];
    base.alpn_protocols = [Alpn::H2, Alpn::Http11].map(|alpn| protocol_id(alpn).to_vec()).to_vec();
    [h1, base]
}

#[cfg(test)]
#[path = "leaves_tests.rs"]
mod tests;
