//! PFX files (PKCS#12, RFC 7292), by way of `p12-keystore`, which reads DER; files in BER, as NSS and
//! Firefox write them, are written again as DER first. And the certificates of a PKCS#7 file.

mod mac;
mod no_password;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use p12_keystore::{Pkcs12Archive, error::Error};
use zeroize::Zeroizing;

use super::ber::{CONTEXT_0, Element, INTEGER, OCTETS, OID, SEQUENCE};
use super::key_error::KeyError;
use super::legacy::Refused;
use mac::MacData;

/// pkcs7-data, 1.2.840.113549.1.7.1.
const DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// pkcs7-signedData, 1.2.840.113549.1.7.2.
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// pkcs8ShroudedKeyBag, 1.2.840.113549.1.12.10.1.2.
const SHROUDED_KEY: [u8; 11] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x02];

/// What a PFX holds, in DER.
pub struct Contents {
    /// With the names that they have in the file (`friendlyName`, what Java calls an alias).
    pub keys: Vec<(Option<String>, Zeroizing<Vec<u8>>)>,
    pub certificates: Vec<Vec<u8>>,
}

/// True when the bytes begin like a PFX: a sequence of version 3 and a `ContentInfo`.
pub fn is_pfx(bytes: &[u8]) -> bool {
    Element::read(bytes).is_some_and(|pfx| {
        pfx.tag() == SEQUENCE
            && pfx.child(0).and_then(|v| v.body(INTEGER)) == Some(&[3])
            && pfx.child(1).and_then(|c| c.child(0)).is_some_and(|oid| oid.tag() == OID)
    })
}

/// The bytes of a PFX that was sent or stored as Base64 text; as they are if it was not.
pub fn from_base64(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let packed = || Zeroizing::new(bytes.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect::<Vec<u8>>());
    // The first octet of any PFX is 0x30: `M` in Base64, and no letter of it itself.
    let decoded = (bytes.first() == Some(&b'M')).then(packed).and_then(|text| BASE64_STANDARD.decode(&*text).ok());
    decoded.map(Zeroizing::new).filter(|decoded| is_pfx(decoded)).unwrap_or(bytes)
}

/// A keystore of Java's own form: JKS or JCEKS.
pub fn is_java_keystore(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0xce, 0xce, 0xce, 0xce])
}

/// Opens a PFX. Without a passphrase both the empty one and none at all are tried; to PKCS#12 they
/// are different things, to people they are not.
pub fn open(bytes: &[u8], passphrase: Option<&str>) -> Result<Contents, KeyError> {
    let opened = match open_with(bytes, passphrase.unwrap_or_default()) {
        Err(_) if passphrase.is_none_or(str::is_empty) && is_under_no_password(bytes) => open_with_none(bytes),
        other => other,
    };
    match opened {
        Err(KeyError::WrongPassphrase) if passphrase.is_none() => Err(KeyError::NeedsPassphrase),
        Err(KeyError::Damaged(_)) | Err(KeyError::WrongPassphrase) => {
            Err(rare_cipher(bytes).unwrap_or_else(|| opened.err().unwrap_or(KeyError::WrongPassphrase)))
        }
        other => other,
    }
}

fn is_under_no_password(bytes: &[u8]) -> bool {
    Element::read(bytes).is_some_and(|outer| MacData::of(&outer).is_some_and(|mac| mac.is_of_no_password()))
}

fn open_with_none(bytes: &[u8]) -> Result<Contents, KeyError> {
    let safe = authenticated_safe(bytes).ok_or(KeyError::Damaged(NOT_WHOLE))?;
    let plain = pfx(&normal_safe(no_password::decrypted(&safe)));
    Pkcs12Archive::from_pkcs12(&plain.to_der(), "").map(contents).map_err(key_error)
}

/// `AuthenticatedSafe` (RFC 7292 §4.1).
fn authenticated_safe(bytes: &[u8]) -> Option<Element> {
    let outer = Element::read(bytes)?;
    Element::read(outer.child(1)?.child(1)?.child(0)?.body(OCTETS)?)
}

fn open_with(bytes: &[u8], passphrase: &str) -> Result<Contents, KeyError> {
    let outer = Element::read(bytes);
    if let Some(mac) = outer.as_ref().and_then(MacData::of).filter(MacData::is_pbmac1) {
        return open_pbmac1(bytes, &mac, passphrase);
    }
    let first = match Pkcs12Archive::from_pkcs12(bytes, passphrase) {
        Err(Error::DerError(_)) => open_ber(bytes, passphrase),
        other => other,
    };
    match first.map(contents).map_err(key_error) {
        // A passphrase that decrypts, where another does not, is not what is wrong.
        Err(KeyError::WrongPassphrase)
            if opens_unchecked(bytes, passphrase) && !opens_unchecked(bytes, &format!("{passphrase}?")) =>
        {
            Err(KeyError::Damaged("its contents do not match its checksum"))
        }
        other => other,
    }
}

/// The code is checked here, and the rest read from a file without one.
fn open_pbmac1(bytes: &[u8], mac: &MacData<'_>, passphrase: &str) -> Result<Contents, KeyError> {
    match mac.is_pbmac1_of(passphrase) {
        Some(true) => {
            let safe = authenticated_safe(bytes).ok_or(KeyError::Damaged(NOT_WHOLE))?;
            Pkcs12Archive::from_pkcs12(&pfx(&normal_safe(safe)).to_der(), passphrase).map(contents).map_err(key_error)
        }
        Some(false) => Err(KeyError::WrongPassphrase),
        None => Err(KeyError::Unsupported {
            what: "its integrity code is of a kind that is not supported".to_owned(),
            help: CONVERT.to_owned(),
        }),
    }
}

/// The cipher of a PFX that did not open, where it is one that nothing here knows.
fn rare_cipher(bytes: &[u8]) -> Option<KeyError> {
    // 1.2.392.200011.61.1.1.1, followed by the length of the key.
    const CAMELLIA: &[u8] = &[0x2a, 0x83, 0x08, 0x8c, 0x9a, 0x4b, 0x3d, 0x01, 0x01, 0x01];
    let found = bytes.windows(CAMELLIA.len()).any(|window| window == CAMELLIA);
    found.then(|| KeyError::Unsupported {
        what: "it is encrypted with Camellia, which is not supported".to_owned(),
        help: CONVERT.to_owned(),
    })
}

const NOT_WHOLE: &str = "it is not a whole PFX file";
const CONVERT: &str = "convert it: openssl pkcs12 -in OLD -nodes -out TMP && openssl pkcs12 -export -in TMP -out NEW && rm TMP";

/// Does the passphrase decrypt a key, whatever the MAC says?
fn opens_unchecked(bytes: &[u8], passphrase: &str) -> bool {
    let safe = authenticated_safe(bytes).map(normal_safe);
    let opened = safe.map(|safe| Pkcs12Archive::from_pkcs12(&pfx(&safe).to_der(), passphrase));
    opened.is_some_and(|opened| opened.is_ok_and(|archive| !archive.keys.is_empty()))
}

fn contents(archive: Pkcs12Archive) -> Contents {
    Contents {
        keys: archive.keys.iter().map(|bag| (bag.friendly_name.clone(), Zeroizing::new(bag.key.as_der().to_vec()))).collect(),
        certificates: archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect(),
    }
}

fn key_error(error: Error) -> KeyError {
    match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) | Error::InvalidPrivateKey => KeyError::WrongPassphrase,
        Error::UnsupportedEncryptionScheme
        | Error::UnsupportedMacAlgorithm
        | Error::UnsupportedContentType
        | Error::UnsupportedCertificateType => KeyError::Unsupported {
            what: "it is a PFX with an encryption that is not supported".to_owned(),
            help:
                "convert it: openssl pkcs12 -legacy -in OLD -nodes -out TMP && openssl pkcs12 -export -in TMP -out NEW && rm TMP"
                    .to_owned(),
        },
        _ => KeyError::Damaged(NOT_WHOLE),
    }
}

/// A PFX in BER. The MAC covers the inner octets as they are, so it is checked on a file whose outer
/// layer alone was rewritten; the bags are then read from one whose layers were all rewritten, and
/// which has no MAC any more.
fn open_ber(bytes: &[u8], passphrase: &str) -> Result<Pkcs12Archive, Error> {
    let outer = Element::read(bytes).ok_or(Error::InvalidData)?;
    match Pkcs12Archive::from_pkcs12(&outer.to_der(), passphrase) {
        // The MAC is right, what it covers is BER.
        Err(Error::DerError(_)) => {}
        other => return other,
    }
    let inner = outer.child(1).and_then(|info| info.child(1)).and_then(|content| content.child(0));
    let safe = inner.and_then(|octets| octets.body(OCTETS)).and_then(Element::read).ok_or(Error::InvalidData)?;
    Pkcs12Archive::from_pkcs12(&pfx(&normal_safe(safe)).to_der(), passphrase)
}

/// `AuthenticatedSafe` with its unencrypted contents rewritten as DER, too.
fn normal_safe(safe: Element) -> Element {
    let infos = safe.children().iter().map(|info| {
        let data = info.child(1).and_then(|content| content.child(0)).and_then(|octets| octets.body(OCTETS));
        match (info.child(0).and_then(|oid| oid.body(OID)), data.and_then(Element::read)) {
            (Some(oid), Some(bags)) if oid == DATA => data_info(&bags),
            _ => info.clone(),
        }
    });
    Element::sequence(infos.collect())
}

/// `ContentInfo` of type data (RFC 7292 §4).
fn data_info(content: &Element) -> Element {
    Element::sequence(vec![Element::oid(&DATA), Element::explicit(Element::octets(content.to_der()))])
}

/// A PFX without a MAC around an `AuthenticatedSafe`.
fn pfx(safe: &Element) -> Element {
    Element::sequence(vec![Element::Primitive(INTEGER, vec![3]), data_info(safe)])
}

/// A PKCS#8 key under one of PKCS#12's own password schemes (RFC 7292 appendix C). It is what a PFX
/// has in a shrouded key bag, so it is put into one and opened there.
pub fn open_shrouded(encrypted: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let key = Element::read(encrypted).ok_or(KeyError::from(Refused::Damaged))?;
    let bag = Element::sequence(vec![Element::oid(&SHROUDED_KEY), Element::explicit(key)]);
    let safe = Element::sequence(vec![data_info(&Element::sequence(vec![bag]))]);
    let archive = Pkcs12Archive::from_pkcs12(&pfx(&safe).to_der(), passphrase).map_err(key_error)?;
    let key = archive.keys.first().ok_or(KeyError::from(Refused::Damaged))?;
    Ok(Zeroizing::new(key.key.as_der().to_vec()))
}

/// The certificates of a PKCS#7 `SignedData` (RFC 2315 §9.1); none when it is something else.
pub fn pkcs7_certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Some(info) = Element::read(bytes) else { return Vec::new() };
    if info.child(0).and_then(|oid| oid.body(OID)) != Some(&SIGNED_DATA) {
        return Vec::new();
    }
    let signed = info.child(1).and_then(|content| content.child(0));
    let set = signed.and_then(|s| s.children().iter().find(|e| e.tag() == CONTEXT_0));
    set.map(|set| set.children().iter().map(Element::to_der).collect()).unwrap_or_default()
}
