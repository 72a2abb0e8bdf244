use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tls::testing::{BOUND, DAY, fixture, host, params, self_signed};

fn open(folder: &Path) -> Result<Authority, Problem> {
    Authority::open(&CaSource::Dir { directory: folder.to_owned(), constrain: None }, 8, None)
}

fn opened(folder: &Path) -> Authority {
    open(folder).unwrap_or_else(|problem| panic!("{problem}"))
}

fn bad(folder: &Path, code: &str, mend: &str) {
    let problem = open(folder).err().unwrap_or_else(|| panic!("{code} was not found"));
    assert_eq!(problem.code, code, "{problem}");
    assert!(problem.help.as_ref().is_some_and(|help| help.contains(mend)), "{problem}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_first_start_makes_a_ca_that_only_its_owner_can_use() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data/gatepass");
    let authority = opened(&folder);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("ca.key")), 0o600);
    let left: Vec<_> = files::list(&folder).unwrap();
    assert_eq!(left, [folder.join("ca.key"), folder.join("ca.pem")], "nothing temporary is left");
    let details = authority.details();
    assert!(details.is_ca && details.self_issued && details.key_type == "EC P-256" && details.ski.is_some());
    assert!(details.name().starts_with("gatepass CA (") && details.name().len() <= 64, "{}", details.name());
    let der = authority.certificate().to_vec();
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.path_len_constraint == Some(0));
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign() && !usage.value.digital_signature());
    assert_eq!(authority.path(), Some(folder.join("ca.pem").as_path()));
    assert!(!authority.certificate_pem().contains("PRIVATE"));
}

#[test]
fn the_next_start_finds_the_same_ca_and_a_missing_certificate_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path()).certificate_pem().to_owned();
    assert_eq!(opened(folder.path()).certificate_pem(), first);
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert_eq!(opened(folder.path()).certificate_pem(), first);
    assert!(folder.path().join("ca.pem").exists());
}

#[test]
fn many_that_start_at_once_agree_on_one_ca() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("ca");
    let made: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| opened(&folder).certificate_pem().to_owned())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(made.iter().all(|pem| *pem == made[0]));
}

#[test]
fn a_loose_key_is_refused_and_a_loose_folder_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    assert!(opened(folder.path()).warnings().is_empty());
    set_mode(&folder.path().join("ca.key"), 0o640);
    bad(folder.path(), "loose-permissions", "chmod 600");
    set_mode(&folder.path().join("ca.key"), 0o600);
    set_mode(folder.path(), 0o777);
    let authority = opened(folder.path());
    assert!(authority.warnings()[0].help.as_ref().is_some_and(|help| help.contains("chmod 700")));
}

#[test]
fn damaged_and_mixed_up_files_are_refused_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
    opened(folder.path());
    let whole = files::read(&key, BOUND).unwrap();
    files::write_private(&key, &whole[..60]).unwrap();
    bad(folder.path(), "damaged-ca", "remove");
    files::write_private(&key, b"").unwrap();
    bad(folder.path(), "damaged-ca", "remove");
    std::fs::remove_file(&key).unwrap();
    bad(folder.path(), "damaged-ca", "put the key back");
    files::write_private(&key, &whole).unwrap();
    set_mode(&key, 0o600);
    files::write_public(&cert, b"junk").unwrap();
    bad(folder.path(), "damaged-ca", "ca.pem");
    let other = Authority::in_memory();
    files::write_public(&cert, other.certificate_pem().as_bytes()).unwrap();
    bad(folder.path(), "key-mismatch", "remove");
}

#[test]
fn a_ca_of_ones_own_is_used_and_what_is_none_is_refused() {
    let own = |cert: &Path, key: &Path| {
        Authority::open(&CaSource::Files { cert: cert.to_owned(), key: key.to_owned(), place: Place::default() }, 8, None)
    };
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    files::write_private(&key, &files::read(&fixture("sub.key"), BOUND).unwrap()).unwrap();
    // Above the leaf of an intermediate, the intermediate is sent.
    let authority = own(&fixture("sub.crt"), &key).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(authority.details().name(), "Fixture Intermediate");
    authority.server_config(&host("api.test"), true).unwrap_or_else(|f| panic!("{f}"));
    assert!(authority.warnings().is_empty());
    set_mode(&key, 0o644);
    assert_eq!(own(&fixture("sub.crt"), &key).ok().unwrap().warnings()[0].code, "loose-permissions");
    let code = |cert: &str, key: &str| own(&fixture(cert), &fixture(key)).err().map(|p| p.code);
    assert_eq!(code("alice.crt", "alice.key"), Some("not-a-ca"));
    assert_eq!(code("ca.crt", "alice.key"), Some("key-mismatch"));
    assert_eq!(code("ca.crt", "alice.p8.aes256.pem"), Some("damaged-ca"));
    assert_eq!(code("alice.key", "alice.key"), Some("no-certificate"));
}

#[test]
fn rsa_cas_sign_too() {
    let mut wanted = params("RSA CA", &[]);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key_pem = files::read_text(&fixture("bob.pkcs1.pem"), BOUND).unwrap();
    let key = KeyPair::from_pem(&key_pem).unwrap();
    let der = wanted.self_signed(&key).unwrap().der().clone();
    let folder = tempfile::tempdir().unwrap();
    let cert = folder.path().join("ca.pem");
    files::write_public(&cert, pem::encode("CERTIFICATE", &der).as_bytes()).unwrap();
    let source = CaSource::Files { cert, key: fixture("bob.pkcs1.pem"), place: Place::default() };
    let authority = Authority::open(&source, 8, None).unwrap_or_else(|p| panic!("{p}"));
    authority.server_config(&host("api.test"), false).unwrap_or_else(|f| panic!("{f}"));
}

#[test]
fn an_expired_ca_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = params("old", &[]);
    old.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    old.not_before = (SystemTime::now() - 9 * DAY).into();
    old.not_after = (SystemTime::now() - DAY).into();
    let old = self_signed(&old);
    files::write_private(&folder.path().join("ca.key"), old.pem().as_bytes()).unwrap();
    bad(folder.path(), "expired", "remove");
}

#[test]
fn a_renewed_ca_keeps_its_key_and_name_and_leaves_verify_under_either_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let old = opened(folder.path());
    let renewed = Authority::renew(folder.path(), false, None).unwrap_or_else(|problem| panic!("{problem}"));
    let new = opened(folder.path());
    assert_eq!(new.details().fingerprint_sha256, renewed.fingerprint_sha256);
    assert_ne!(new.certificate_pem(), old.certificate_pem());
    assert_eq!((&new.details().subject, new.details().spki_sha256), (&old.details().subject, old.details().spki_sha256));
    assert_eq!(new.previous().map(|previous| previous.fingerprint_sha256), Some(old.details().fingerprint_sha256));
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
    // A crash after the key was written.
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert_eq!(opened(folder.path()).certificate_pem(), new.certificate_pem());
    Authority::renew(folder.path(), true, None).unwrap_or_else(|problem| panic!("{problem}"));
    assert_ne!(opened(folder.path()).details().spki_sha256, old.details().spki_sha256);
}

#[test]
fn a_limited_ca_says_so_in_its_certificate_and_mints_for_no_other_host() {
    let folder = tempfile::tempdir().unwrap();
    let patterns = crate::pattern::HostPattern::parse("*.corp.test").unwrap();
    let constraints = Constraints::of(&patterns).unwrap();
    let source = CaSource::Dir { directory: folder.path().to_owned(), constrain: Some(Place::default()) };
    let authority = Authority::open(&source, 8, Some(&constraints)).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(authority.constraints(), Some(&constraints), "as read back from the certificate");
    let (_, certificate) = X509Certificate::from_der(authority.certificate()).unwrap();
    assert!(certificate.name_constraints().unwrap().unwrap().critical);
    assert!(authority.server_config(&host("api.corp.test"), false).is_ok());
    let failure = authority.server_config(&host("api.other.test"), false).unwrap_err();
    assert!(failure.to_string().contains("is limited to other hosts than api.other.test (corp.test)"), "{failure}");
}
