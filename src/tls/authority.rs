//! The interception CA and its leaves.
//!
//! One key pair serves all leaves, and it is not the CA's. A leaf lives for 90 days from two days ago
//! (clocks differ) and is minted again in its last days; browsers refuse more than 398 days, and the
//! CA/Browser Forum's limit falls to 47 by 2029, for public CAs only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use time::OffsetDateTime;

use super::inspect::Details;
use super::{Problem, pem, provider};
use crate::config::CaSource;
use crate::files;
use crate::moment::random_bytes;
use crate::origin::Host;

const BACKDATE: Duration = Duration::from_secs(48 * 3600);
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);
const RENEW_BEFORE: Duration = Duration::from_secs(7 * 86_400);
/// Long enough that installing it once is worth it, short enough that a forgotten one ends.
const CA_LIFE: Duration = Duration::from_secs(825 * 86_400);

const CERT_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
/// A CA or key file is never larger.
const CA_BOUND: usize = 256 * 1024;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    path: Option<PathBuf>,
    details: Details,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    tickets: Arc<dyn ProducesTickets>,
    leaves: Mutex<Leaves>,
}

/// Leaves by host and protocol offer. The inner lock makes concurrent first connections mint once.
struct Leaves {
    by_host: HashMap<(Host, bool), Entry>,
    bound: usize,
    clock: u64,
}

struct Entry {
    slot: Arc<OnceLock<Leaf>>,
    used: u64,
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    until: SystemTime,
}

impl Authority {
    /// Opens the CA; one in a folder is made when it is not there. `leaves` bounds the leaves kept.
    ///
    /// # Errors
    /// Files cannot be read or written, do not belong together, are no CA, or the key of our own folder
    /// is open to others.
    pub fn open(source: &CaSource, leaves: usize) -> Result<Self, Problem> {
        match source {
            CaSource::Memory => Ok(Self::in_memory()),
            CaSource::Dir(dir) => Self::open_dir(dir, leaves),
            CaSource::Files { cert, key, place } => Self::read(cert, key, leaves).map_err(|mut problem| {
                problem.place = Some(*place);
                problem
            }),
        }
    }

    fn open_dir(dir: &Path, leaves: usize) -> Result<Self, Problem> {
        let (cert, key) = (dir.join(CERT_FILE), dir.join(KEY_FILE));
        if !files::exists(&key) && !files::exists(&cert) {
            create(dir, &cert, &key)?;
        }
        if let Ok(mode) = files::mode(&key)
            && mode & 0o077 != 0
        {
            let message = format!("{} can be read by others ({mode:04o}); whoever has it can pose as any host", key.display());
            return Err(Problem::new("loose-ca", None, message).help(format!(
                "chmod 600 {}; or delete it and {} to get a new CA",
                key.display(),
                cert.display()
            )));
        }
        Self::read(&cert, &key, leaves).map_err(|problem| {
            let help = format!("delete {} and {} to get a new CA, and trust that one", cert.display(), key.display());
            if problem.help.is_some() { problem } else { problem.help(help) }
        })
    }

    fn read(cert: &Path, key: &Path, leaves: usize) -> Result<Self, Problem> {
        let problem = |message: String| Problem::new("ca", None, message);
        let cert_text = files::read_text(cert, CA_BOUND).map_err(|cause| problem(cause.to_string()))?;
        let key_text = zeroize::Zeroizing::new(files::read_text(key, CA_BOUND).map_err(|cause| problem(cause.to_string()))?);
        let der = pem::blocks(&cert_text)
            .into_iter()
            .find(|block| pem::is_certificate(&block.label))
            .and_then(|block| block.content.ok());
        let Some(der) = der else { return Err(problem(format!("there is no certificate in {}", cert.display()))) };
        let key_block = pem::blocks(&key_text).into_iter().find(|block| super::keys::is_key(&block.label));
        let Some(key_block) = key_block else { return Err(problem(format!("there is no private key in {}", key.display()))) };
        let key_der = super::keys::read(key_block, None)
            .map_err(|_| problem(format!("the private key in {} is encrypted or damaged", key.display())))?;
        let pair = KeyPair::try_from(&key_der)
            .map_err(|_| problem(format!("the private key in {} is of a kind that cannot sign certificates", key.display())))?;
        Self::new(CertificateDer::from(der.der), pair, leaves, Some(cert.to_owned()))
            .map_err(|why| problem(format!("{}: {why}", cert.display())))
    }

    /// A CA that exists nowhere but here, for demonstrations and tests.
    ///
    /// # Panics
    /// When key generation fails, which leaves no safe way on.
    pub fn in_memory() -> Self {
        let (der, pair) = generate().expect("a fresh CA can be made");
        Self::new(der, pair, 1_024, None).expect("a fresh CA is whole")
    }

    fn new(certificate: CertificateDer<'static>, pair: KeyPair, leaves: usize, path: Option<PathBuf>) -> Result<Self, String> {
        let details = Details::of(&certificate)?;
        if !details.is_ca {
            return Err("it is not a CA certificate (basic constraints)".to_owned());
        }
        if details.is_expired(SystemTime::now()) {
            return Err(format!("the CA expired on {}", super::inspect::date(details.not_after)));
        }
        belongs(&certificate, &pair)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|cause| cause.to_string())?;
        let leaf_key = KeyPair::generate().map_err(|cause| cause.to_string())?;
        let leaf_der = PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into();
        let leaf_signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf_der).map_err(|cause| cause.to_string())?;
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|cause| cause.to_string())?;
        let certificate_pem = to_pem(&certificate);
        let leaves = Mutex::new(Leaves { by_host: HashMap::new(), bound: leaves.max(1), clock: 0 });
        Ok(Self { issuer, certificate, certificate_pem, path, details, leaf_key, leaf_signer, tickets, leaves })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where the certificate lies; `None` for one in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub fn details(&self) -> &Details {
        &self.details
    }

    /// TLS settings toward a client that wants `host`. Cheap when the leaf is known.
    ///
    /// # Errors
    /// The leaf cannot be signed.
    pub fn server_config(&self, host: &Host, h2: bool) -> Result<Arc<ServerConfig>, String> {
        let now = SystemTime::now();
        let slot = self.leaves.lock().unwrap_or_else(|e| e.into_inner()).slot(host, h2, now);
        if let Some(leaf) = slot.get() {
            return Ok(leaf.config.clone());
        }
        // Outside the lock on all leaves; whoever comes second waits for the first.
        let mut failed = None;
        let leaf = slot.get_or_init(|| match self.mint(host, h2, now) {
            Ok(leaf) => leaf,
            Err(why) => {
                failed = Some(why);
                Leaf { config: self.refusing(), until: now }
            }
        });
        match failed {
            Some(why) => Err(format!("cannot mint a certificate for {host}: {why}")),
            None => Ok(leaf.config.clone()),
        }
    }

    /// A configuration without a certificate: every handshake fails. Stands in a slot whose minting failed.
    fn refusing(&self) -> Arc<ServerConfig> {
        let resolver = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        Arc::new(builder().with_no_client_auth().with_cert_resolver(resolver))
    }

    fn mint(&self, host: &Host, h2: bool, now: SystemTime) -> Result<Leaf, String> {
        let until = (now - BACKDATE + LEAF_LIFE).min(self.details.not_after);
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::from((now - BACKDATE).max(self.details.not_before));
        params.not_after = OffsetDateTime::from(until);
        params.serial_number = Some(serial());
        params.subject_alt_names = vec![match host {
            Host::Ip(ip) => SanType::IpAddress(*ip),
            Host::Name(name) => SanType::DnsName((**name).try_into().map_err(|_| "not a DNS name".to_owned())?),
        }];
        params.distinguished_name = distinguished(&common_name(host));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(|cause| cause.to_string())?;
        let key = CertifiedKey::new(vec![leaf.der().clone(), self.certificate.clone()], self.leaf_signer.clone());
        let mut config = builder().with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // Tickets are bound to the server name (rustls checks it on resumption), so one ticketer serves all.
        config.ticketer = self.tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        config.alpn_protocols = if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(Leaf { config: Arc::new(config), until: until - RENEW_BEFORE.min(LEAF_LIFE / 4) })
    }
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
}

impl Leaves {
    fn slot(&mut self, host: &Host, h2: bool, now: SystemTime) -> Arc<OnceLock<Leaf>> {
        self.clock += 1;
        let used = self.clock;
        let key = (host.clone(), h2);
        if let Some(entry) = self.by_host.get_mut(&key) {
            entry.used = used;
            if entry.slot.get().is_some_and(|leaf| leaf.until <= now) {
                entry.slot = Arc::default();
            }
            return entry.slot.clone();
        }
        if self.by_host.len() >= self.bound {
            self.forget_old();
        }
        let slot = Arc::<OnceLock<Leaf>>::default();
        self.by_host.insert(key, Entry { slot: slot.clone(), used });
        slot
    }

    /// Lets the least recently used eighth go, so that making room is rare.
    fn forget_old(&mut self) {
        let mut uses: Vec<u64> = self.by_host.values().map(|entry| entry.used).collect();
        let at = (self.bound / 8).min(uses.len() - 1);
        let (_, limit, _) = uses.select_nth_unstable(at);
        let limit = *limit;
        self.by_host.retain(|_, entry| entry.used > limit);
    }
}

/// The CN holds at most 64 characters (RFC 5280, ub-common-name); the name that counts is in the SAN.
fn common_name(host: &Host) -> String {
    host.to_string().chars().take(64).collect()
}

fn distinguished(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// 128 random bits, positive (RFC 5280 §4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes = random_bytes::<16>();
    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    SerialNumber::from_slice(&bytes)
}

fn generate() -> Result<(CertificateDer<'static>, KeyPair), String> {
    let pair = KeyPair::generate().map_err(|cause| cause.to_string())?;
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(now + CA_LIFE);
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut name = distinguished(
        &format!("gatepass CA ({machine}, {})", OffsetDateTime::from(now).date()).chars().take(64).collect::<String>(),
    );
    name.push(DnType::OrganizationName, "gatepass");
    params.distinguished_name = name;
    let certificate = params.self_signed(&pair).map_err(|cause| cause.to_string())?;
    Ok((certificate.der().clone(), pair))
}

/// Writes a new CA. The key goes first and is linked into place only if there is none, so that two
/// processes starting at once agree on one CA, and a crash leaves none or a whole one.
fn create(dir: &Path, cert: &Path, key: &Path) -> Result<(), Problem> {
    let problem = |cause: files::FileError| {
        Problem::new("ca", None, format!("cannot make the interception CA: {cause}"))
            .help("set GATEPASS_HOME or `ca: { dir: … }` to a folder that can be written")
    };
    files::create_private_dir(dir).map_err(problem)?;
    let _lock = files::lock(&dir.join(".lock")).map_err(problem)?;
    if files::exists(key) && files::exists(cert) {
        return Ok(());
    }
    let (der, pair) = generate().map_err(|why| Problem::new("ca", None, format!("cannot make the interception CA: {why}")))?;
    // The certificate is what marks the CA as whole, so it comes last.
    files::write_private(key, pair.serialize_pem().as_bytes()).map_err(problem)?;
    files::write_public(cert, to_pem(&der).as_bytes()).map_err(problem)
}

fn to_pem(der: &[u8]) -> String {
    ::pem::encode_config(&::pem::Pem::new("CERTIFICATE", der), ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF))
}

fn belongs(certificate: &CertificateDer<'static>, pair: &KeyPair) -> Result<(), String> {
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|cause| cause.to_string())?;
    match CertifiedKey::new(vec![certificate.clone()], signer).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("the private key is not that of the certificate".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::FromDer;

    impl Authority {
        fn leaf_for_test(&self, host: &str) -> Vec<u8> {
            use rustls::pki_types::ServerName;
            let host = Host::parse_written(host).unwrap();
            let config = self.server_config(&host, true).unwrap();
            let trust = super::super::trust::Trust::only(vec![self.certificate.clone()]);
            let client =
                super::super::client::Client::build(&super::super::client::ClientSpec::plain(Arc::new(trust)), 1).unwrap();
            let name: ServerName<'static> = client.server_name(&host);
            let mut client = rustls::ClientConnection::new(client.config(&[crate::config::Alpn::H2]), name).unwrap();
            let mut server = rustls::ServerConnection::new(config).unwrap();
            for _ in 0..6 {
                let mut wire = Vec::new();
                client.write_tls(&mut wire).unwrap();
                server.read_tls(&mut &wire[..]).unwrap();
                server.process_new_packets().unwrap();
                let mut wire = Vec::new();
                server.write_tls(&mut wire).unwrap();
                client.read_tls(&mut &wire[..]).unwrap();
                client.process_new_packets().unwrap();
            }
            assert!(!client.is_handshaking());
            client.peer_certificates().unwrap()[0].to_vec()
        }
    }

    #[test]
    fn a_leaf_is_short_lived_for_servers_only_and_signed_for_one_host() {
        let authority = Authority::in_memory();
        for host in ["api.example.com", "127.0.0.1", "::1", "münchen.example"] {
            let der = authority.leaf_for_test(host);
            let details = Details::of(&der).unwrap();
            let now = SystemTime::now();
            assert!(details.not_before < now - Duration::from_secs(86_400), "valid for clocks a day behind");
            assert!(details.not_after > now + Duration::from_secs(86_400));
            assert!(details.not_after.duration_since(details.not_before).unwrap() <= Duration::from_secs(199 * 86_400));
            assert!(!details.is_ca);
            assert_eq!(details.names.len(), 1, "{host}");
            assert_eq!(details.serial.len(), 32);
            let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
            let usage = leaf.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.server_auth && !usage.client_auth && !usage.any);
            assert!(leaf.extensions().iter().any(|e| e.oid == x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER));
            assert_ne!(
                leaf.public_key().raw,
                x509_parser::certificate::X509Certificate::from_der(&authority.certificate).unwrap().1.public_key().raw
            );
        }
    }

    #[test]
    fn leaves_are_kept_up_to_the_bound_and_the_same_host_gets_the_same_one() {
        let (der, pair) = generate().unwrap();
        let authority = Authority::new(der, pair, 8, None).unwrap();
        let host = |n: usize| Host::parse(&format!("h{n}.example")).unwrap();
        let first = authority.server_config(&host(0), true).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.server_config(&host(0), true).unwrap()));
        for n in 0..100 {
            authority.server_config(&host(n), true).unwrap();
        }
        assert!(authority.leaves.lock().unwrap().by_host.len() <= 8);
    }

    #[test]
    fn concurrent_first_connections_mint_once() {
        let authority = Authority::in_memory();
        let host = Host::parse("one.example").unwrap();
        let configs: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| authority.server_config(&host, true).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
    }

    #[test]
    fn the_ca_folder_is_private_and_a_loose_or_mismatched_key_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let source = CaSource::Dir(home.clone());
        let first = Authority::open(&source, 8).map_err(|p| p.message).unwrap();
        assert_eq!(files::mode(&home).unwrap(), 0o700);
        assert_eq!(files::mode(&home.join(KEY_FILE)).unwrap(), 0o600);
        assert!(first.details().subject.contains("gatepass"));
        let again = Authority::open(&source, 8).map_err(|p| p.message).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        std::fs::set_permissions(home.join(KEY_FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Authority::open(&source, 8).err().unwrap();
        assert!(refused.message.contains("can be read by others"), "{}", refused.message);
        let (_, other) = generate().unwrap();
        files::write_private(&home.join(KEY_FILE), other.serialize_pem().as_bytes()).unwrap();
        let refused = Authority::open(&source, 8).err().unwrap();
        assert!(refused.message.contains("not that of the certificate"), "{}", refused.message);
    }
}
