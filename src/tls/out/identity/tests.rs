use std::path::Path;

use super::*;
use crate::files;
use crate::secret::Secret;
use crate::tls::Loaded;
use crate::tls::formats::{inspect, pem};
use crate::tls::settings::{CertificateSource, Material};
use crate::tls::testing::*;

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

fn pair(cert: &str, key: Option<&str>, passphrase: Option<&str>) -> Result<Loaded<Identity>, Problem> {
    let key = key.map(fixture);
    load(&pem_source(&fixture(cert), key.as_deref()), passphrase.map(secret).as_ref(), BOUND)
}

fn pfx_at(path: &Path, passphrase: Option<&str>) -> Result<Loaded<Identity>, Problem> {
    pfx_of(path, passphrase, None)
}

fn pfx_of(path: &Path, passphrase: Option<&str>, alias: Option<&str>) -> Result<Loaded<Identity>, Problem> {
    let place = Place::default();
    let material = Material::Pfx { file: path.to_owned(), place, alias: alias.map(|alias| (alias.to_owned(), place)) };
    let source = CertificateSource { name: None, place, material, passphrase: None };
    load(&source, passphrase.map(secret).as_ref(), BOUND)
}

fn pfx(name: &str, passphrase: Option<&str>) -> Result<Loaded<Identity>, Problem> {
    pfx_at(&fixture(name), passphrase)
}

fn good(loaded: Result<Loaded<Identity>, Problem>, what: &str) -> Loaded<Identity> {
    loaded.unwrap_or_else(|problem| panic!("{what}: {problem}"))
}

fn bad(loaded: Result<Loaded<Identity>, Problem>, code: &str, says: &str) -> Problem {
    let problem = loaded.err().unwrap_or_else(|| panic!("{code} was not found"));
    assert_eq!(problem.code, code, "{problem}");
    assert!(problem.message.contains(says), "{problem}");
    assert!(problem.help.is_some() || code == "file", "{problem} has no mend");
    for text in [&problem.message, problem.help.as_ref().unwrap_or(&problem.message)] {
        assert!(!text.contains("gatepass-secret") && !text.ends_with('.'), "{text}");
    }
    problem
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    files::write_private(&path, bytes).unwrap();
    path
}

fn bytes(name: &str) -> Vec<u8> {
    files::read(&fixture(name), BOUND).unwrap()
}

#[test]
fn plain_keys_of_every_form_and_kind_are_read() {
    for (cert, key) in [
        ("alice.crt", "alice.key"),
        ("alice.crt", "alice.sec1.pem"),
        ("alice.crt", "alice.params.pem"),
        ("bob.crt", "bob.key"),
        ("bob.crt", "bob.pkcs1.pem"),
        ("ed.crt", "ed.key"),
        ("p521.crt", "p521.key"),
    ] {
        let loaded = good(pair(cert, Some(key), None), key);
        assert_eq!(loaded.value.certificates().len(), 1);
        assert_eq!(loaded.value.details().name(), cert.strip_suffix(".crt").unwrap());
        assert_eq!(loaded.value.files(), [fixture(cert), fixture(key)]);
    }
}

#[test]
fn keys_under_a_passphrase_open_in_every_dress() {
    for (cert, key) in [
        ("bob.crt", "bob.aes128.pem"),
        ("bob.crt", "bob.aes192.pem"),
        ("bob.crt", "bob.aes256.pem"),
        ("bob.crt", "bob.des3.pem"),
        ("alice.crt", "alice.aes256.pem"),
        ("alice.crt", "alice.p8.aes128.pem"),
        ("alice.crt", "alice.p8.aes192.pem"),
        ("alice.crt", "alice.p8.aes256.pem"),
        ("alice.crt", "alice.p8.des3.pem"),
        ("alice.crt", "alice.p8.sha1.pem"),
        ("alice.crt", "alice.p8.scrypt.pem"),
        ("alice.crt", "alice.p8.pbe3des.pem"),
        ("alice.crt", "alice.p8.md5des.pem"),
    ] {
        good(pair(cert, Some(key), Some("gatepass")), key);
        bad(pair(cert, Some(key), Some("gatepass-secret-wrong")), "wrong-passphrase", key);
        bad(pair(cert, Some(key), None), "missing-passphrase", key);
    }
}

#[test]
fn pfx_files_of_every_maker_open() {
    for name in ["modern.pfx", "legacy.pfx", "3des.pfx", "nomac.pfx", "java.pfx", "nss.pfx"] {
        let loaded = good(pfx(name, Some("gatepass")), name);
        let names: Vec<_> = loaded.value.certificates().iter().map(|der| Details::read(der).unwrap().name().to_owned()).collect();
        assert_eq!(names, ["alice", "Fixture Intermediate", "Fixture Root"], "{name}");
        if name != "nss.pfx" {
            // NSS derives with 600,000 rounds, which takes its time without optimisation.
            bad(pfx(name, Some("gatepass-secret-wrong")), "wrong-passphrase", name);
            bad(pfx(name, None), "missing-passphrase", name);
        }
    }
    good(pfx("umlaut.pfx", Some("pässwörd")), "umlaut.pfx");
    for name in ["empty.pfx", "empty-legacy.pfx", "plain.pfx"] {
        good(pfx(name, None), name);
        good(pfx(name, Some("")), name);
    }
}

#[test]
fn the_same_certificate_from_different_files_is_the_same_identity() {
    let one = good(pfx("modern.pfx", Some("gatepass")), "modern").value;
    let two = good(pfx("java.pfx", Some("gatepass")), "java").value;
    let three = good(pair("alice.crt", Some("alice.key"), None), "pem").value;
    assert!(one == two && one != three, "the chain is part of it");
}

#[test]
fn chains_are_put_in_order_and_strangers_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let parts = ["ca.crt", "ed.crt", "alice.key", "sub.crt", "alice.crt"].map(bytes);
    let text = String::from_utf8(parts.join(&b"\nsome text\n"[..])).unwrap();
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let path = write(&folder, "all.pem", text.as_bytes());
        let loaded = good(load(&pem_source(&path, None), None, BOUND), "all.pem");
        let names: Vec<_> = loaded.value.certificates().iter().map(|der| Details::read(der).unwrap().name().to_owned()).collect();
        assert_eq!(names, ["alice", "Fixture Intermediate", "Fixture Root"]);
    }
}

#[test]
fn der_files_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["alice.crt", "alice.key"].map(|name| {
        let block = pem::read(&bytes(name)).remove(0);
        write(&folder, name, &block.contents.unwrap_or_default())
    });
    good(load(&pem_source(&cert, Some(&key)), None, BOUND), "der");
}

#[test]
fn each_mistake_is_told_as_what_it_is() {
    bad(pair("alice.crt", Some("bob.key"), None), "key-mismatch", "bob.key is not the key of alice.crt (public keys differ)");
    bad(pair("alice.crt", Some("missing.key"), None), "file", "missing.key");
    bad(pair("modern.pfx", None, None), "pfx-given-as-pem", "modern.pfx is a PFX");
    bad(pair("nss.pfx", None, None), "pfx-given-as-pem", "nss.pfx is a PFX");
    bad(pair("alice.crt", Some("modern.pfx"), None), "pfx-given-as-pem", "modern.pfx is a PFX");
    bad(pfx("alice.crt", None), "pem-given-as-pfx", "alice.crt is a PEM file");
    let swapped = bad(pair("alice.key", Some("alice.crt"), None), "no-certificate", "holds a private key but no certificate");
    assert!(swapped.help.unwrap().contains("swapped"));
    bad(pair("alice.crt", None, None), "no-private-key", "alice.crt holds no private key");
    bad(pair("alice.crt", Some("sub.crt"), None), "no-private-key", "sub.crt holds no private key");
    bad(pfx("certs-only.pfx", Some("gatepass")), "no-private-key", "certs-only.pfx holds no private key");
    bad(pair("make.sh", Some("alice.key"), None), "no-certificate", "make.sh holds no certificate");
    bad(pfx("ca.der", None), "damaged-key", "not a whole PFX");
}

#[test]
fn what_is_not_supported_is_named_with_the_way_out() {
    let rc4 = bad(pair("alice.crt", Some("alice.p8.rc4.pem"), Some("gatepass")), "unsupported-key", "encryption");
    assert!(rc4.help.unwrap().contains("openssl pkcs8 -topk8"));
    bad(pair("alice.crt", Some("alice.p8.camellia.pem"), Some("gatepass")), "unsupported-key", "cipher");
    let rc4 = bad(pfx("rc4.pfx", Some("gatepass")), "unsupported-key", "rc4.pfx");
    assert!(rc4.help.unwrap().contains("openssl pkcs12 -legacy"));
    for (name, kind) in [("small", "RSA with 1024 bits"), ("ed448", "Ed448"), ("koblitz", "EC secp256k1"), ("pss", "RSA-PSS")] {
        let loaded = pair(&format!("{name}.crt"), Some(&format!("{name}.key")), None);
        if cfg!(feature = "openssl") {
            let identity = loaded.unwrap_or_else(|p| panic!("{p}")).value;
            assert!(identity.check_backend(TlsBackend::Openssl, None).is_ok());
            let problem = identity.check_backend(TlsBackend::Rustls, None).unwrap_err();
            assert!(problem.message.contains("only the OpenSSL backend") && problem.code == "unsupported-key", "{problem}");
        } else {
            bad(loaded, "unsupported-key", kind);
        }
    }
}

#[test]
fn damaged_files_are_told_from_wrong_ones() {
    let folder = tempfile::tempdir().unwrap();
    let cut = |name: &str, keep: usize| write(&folder, name, &bytes(name)[..keep]);
    let cert = cut("alice.crt", 200);
    bad(
        load(&pem_source(&cert, Some(&fixture("alice.key"))), None, BOUND),
        "damaged-certificate",
        "alice.crt is damaged (line 1)",
    );
    let key = cut("alice.key", 80);
    bad(load(&pem_source(&fixture("alice.crt"), Some(&key)), None, BOUND), "damaged-key", "alice.key");
    let pfx = cut("modern.pfx", 1000);
    bad(pfx_at(&pfx, Some("gatepass")), "damaged-key", "not a whole PFX");
    let mut wrong_mac = bytes("modern.pfx");
    wrong_mac[300] ^= 1;
    bad(pfx_at(&write(&folder, "flipped.pfx", &wrong_mac), Some("gatepass")), "damaged-key", "flipped.pfx");
    let mut checksum = bytes("modern.pfx");
    let at = checksum.len() - 40; // in the MAC: the contents are whole
    checksum[at] ^= 1;
    let path = write(&folder, "checksum.pfx", &checksum);
    bad(pfx_at(&path, Some("gatepass")), "damaged-key", "do not match its checksum");
    bad(pfx_at(&path, Some("gatepass-secret-wrong")), "wrong-passphrase", "checksum.pfx");
    let mut wrong_ber = bytes("nss.pfx");
    wrong_ber[300] ^= 1; // under the MAC
    bad(pfx_at(&write(&folder, "flipped.pfx", &wrong_ber), Some("gatepass")), "wrong-passphrase", "flipped.pfx");
}

#[test]
fn dates_purpose_and_permissions_are_warnings() {
    let ca = Ca::root("Root");
    let folder = tempfile::tempdir().unwrap();
    let warnings = |change: &dyn Fn(&mut rcgen::CertificateParams), mode: u32| {
        let mut wanted = params("alice", &[]);
        wanted.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut wanted);
        let path = write(&folder, "identity.pem", ca.issue(&wanted).pem().as_bytes());
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, mode);
        std::fs::set_permissions(&path, permissions).unwrap();
        let loaded = good(load(&pem_source(&path, None), None, BOUND), "identity.pem");
        loaded.warnings.iter().map(|w| w.code).collect::<Vec<_>>()
    };
    assert!(warnings(&|_| (), 0o600).is_empty());
    assert_eq!(warnings(&|_| (), 0o644), ["loose-permissions"]);
    let expired = |p: &mut rcgen::CertificateParams| {
        p.not_before = (SystemTime::now() - 9 * DAY).into();
        p.not_after = (SystemTime::now() - 2 * DAY).into();
    };
    assert_eq!(warnings(&expired, 0o600), ["expired"]);
    assert_eq!(warnings(&|p| p.not_before = (SystemTime::now() + 2 * DAY).into(), 0o600), ["not-yet-valid"]);
    let server_only = |p: &mut rcgen::CertificateParams| {
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert_eq!(warnings(&server_only, 0o600), ["not-a-client-certificate"]);
}

#[test]
fn a_file_is_described_certificate_by_certificate() {
    let found = inspect::describe_file(&fixture("chain.p7b"), None, BOUND).ok().unwrap().value;
    let names: Vec<_> = found.iter().map(Details::name).collect();
    assert_eq!(names, ["Fixture Root", "Fixture Intermediate"]);
    assert!(found.iter().all(|d| d.is_ca && d.key_type == "EC P-256"));
    let bob = inspect::describe_file(&fixture("bob.crt"), None, BOUND).ok().unwrap().value.remove(0);
    assert_eq!((bob.key_type.as_str(), bob.issuer_name(), bob.is_ca), ("RSA 2048", "Fixture Intermediate", false));
}

#[test]
fn a_pfx_under_no_password_at_all_opens_without_one() {
    for name in ["pfx/null-3des.p12", "pfx/null-rc2.p12", "pfx/null-aes.p12"] {
        for passphrase in [None, Some("")] {
            assert_eq!(good(pfx(name, passphrase), name).value.details().name(), "alice");
        }
        bad(pfx(name, Some("other")), "wrong-passphrase", "does not open");
    }
    // Such a file that was changed is not taken for one whose password is missing.
    let folder = tempfile::tempdir().unwrap();
    let mut bent = bytes("pfx/null-3des.p12");
    bent[200] ^= 1;
    bad(pfx_at(&write(&folder, "bent.p12", &bent), None), "missing-passphrase", "no passphrase");
}

#[test]
fn a_pfx_with_pbmac1_opens_by_its_passphrase_alone() {
    for name in ["pfx/pbmac1-sha256.p12", "pfx/pbmac1-sha512.p12", "pfx/pbmac1-sha1.p12"] {
        assert_eq!(good(pfx(name, Some("secret")), name).value.details().name(), "alice");
        bad(pfx(name, Some("other")), "wrong-passphrase", "does not open");
        bad(pfx(name, None), "missing-passphrase", "no passphrase");
    }
    // Its contents are under this passphrase, its integrity code is not.
    bad(pfx("pfx/pbmac1-wrong.p12", Some("secret")), "wrong-passphrase", "does not open");
}

#[test]
fn of_several_keys_in_a_keystore_the_configuration_says_which() {
    let two = |alias| pfx_of(&fixture("pfx/two.p12"), Some("secret"), alias);
    for name in ["alice", "bob", "BOB"] {
        assert!(good(two(Some(name)), name).value.details().name().eq_ignore_ascii_case(name));
    }
    let problem = bad(two(None), "several-keys", "alice, bob");
    assert!(problem.help.unwrap().contains("alias"));
    let problem = bad(two(Some("eve")), "unknown-alias", "no key of that name");
    assert!(problem.help.unwrap().contains("alice, bob"));
}

#[test]
fn what_is_nearly_a_pfx_is_told_as_what_it_is() {
    assert_eq!(good(pfx("pfx/a.p12.b64", Some("secret")), "Base64").value.details().name(), "alice");
    let problem = bad(pfx("pfx/a.jks", Some("secret")), "jks-given-as-pfx", "JKS");
    assert!(problem.help.unwrap().contains("keytool"));
    bad(pfx("pfx/camellia.p12", Some("secret")), "unsupported-key", "Camellia");
}

#[test]
fn an_rsa_key_without_the_parameters_of_its_algorithm_is_read() {
    use crate::tls::formats::ber::Element;
    let block = pem::read(&bytes("bob.key")).remove(0);
    let Some(Element::Constructed(tag, mut parts)) = Element::read(&block.contents.unwrap()) else { panic!("no PKCS#8") };
    let Element::Constructed(_, algorithm) = &mut parts[1] else { panic!("no algorithm") };
    assert_eq!(algorithm.len(), 2);
    algorithm.pop();
    let folder = tempfile::tempdir().unwrap();
    let key = write(&folder, "bare.key", pem::encode("PRIVATE KEY", &Element::Constructed(tag, parts).to_der()).as_bytes());
    good(load(&pem_source(&fixture("bob.crt"), Some(&key)), None, BOUND), "bare.key");
}

#[test]
fn certificate_and_key_that_are_both_missing_are_both_told() {
    let problem = bad(pair("gone.crt", Some("gone.key"), None), "file", "gone.crt");
    assert!(problem.message.contains("gone.key"), "{problem}");
    let problem = bad(pair("alice.crt", Some("gone.key"), None), "file", "gone.key");
    assert!(!problem.message.contains("alice.crt"), "{problem}");
}
