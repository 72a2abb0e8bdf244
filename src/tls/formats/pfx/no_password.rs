//! PFX files under no password, as .NET writes them for `Export(Pkcs12, null)`: what PKCS #12's own schemes
//! encrypted with it is decrypted here (RFC 7292 appendix C), and `p12-keystore` reads the rest.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::mac::number;
use super::{DATA, SHROUDED_KEY, data_info};
use crate::tls::formats::ber::{Element, OCTETS, OID};

/// pkcs7-encryptedData, 1.2.840.113549.1.7.6.
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// keyBag, 1.2.840.113549.1.12.10.1.1.
const KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01];
/// 1.2.840.113549.1.12.1: what follows is the cipher.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// `[0] IMPLICIT OCTET STRING`.
const CONTENT: u8 = 0x80;
const MOST_ROUNDS: u32 = 10_000_000;

/// An `AuthenticatedSafe` in which nothing is encrypted by PKCS #12's own schemes any more. What PBES2 encrypted stays:
/// to it, no password is an empty one.
pub(super) fn decrypted(safe: &Element) -> Element {
    Element::sequence(safe.children().iter().map(|info| content(info).unwrap_or_else(|| info.clone())).collect())
}

fn content(info: &Element) -> Option<Element> {
    let inner = info.child(1)?.child(0)?;
    let bags = match info.child(0)?.body(OID)? {
        oid if oid == DATA => Element::read(inner.body(OCTETS)?)?,
        ENCRYPTED_DATA => {
            let encrypted = inner.child(1)?;
            Element::read(&decrypt(encrypted.child(1)?, encrypted.child(2)?.body(CONTENT)?)?)?
        }
        _ => return None,
    };
    Some(data_info(&Element::sequence(bags.children().iter().map(|bag| plain_key(bag).unwrap_or_else(|| bag.clone())).collect())))
}

/// A shrouded key bag as a key bag.
fn plain_key(bag: &Element) -> Option<Element> {
    let [kind, value, attributes @ ..] = bag.children() else { return None };
    if kind.body(OID)? != SHROUDED_KEY {
        return None;
    }
    let [algorithm, encrypted] = value.child(0)?.children() else { return None };
    let key = Element::read(&decrypt(algorithm, encrypted.body(OCTETS)?)?)?;
    let mut plain = vec![Element::oid(KEY), Element::explicit(key)];
    plain.extend_from_slice(attributes);
    Some(Element::sequence(plain))
}

fn decrypt(algorithm: &Element, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let [salt, rounds] = algorithm.child(1)?.children() else { return None };
    let salt = salt.body(OCTETS).filter(|salt| !salt.is_empty())?;
    let rounds = i32::try_from(number(rounds).filter(|rounds| *rounds <= MOST_ROUNDS)?).ok()?;
    let derive = |kind, length| Zeroizing::new(derive_key::<Sha1>(&[], salt, kind, rounds, length));
    let key = |length| derive(Pkcs12KeyType::EncryptionKey, length);
    let iv = derive(Pkcs12KeyType::Iv, 8);
    match algorithm.child(0)?.body(OID)?.strip_prefix(PKCS12_PBE)? {
        [3] => open::<des::TdesEde3>(&key(24), &iv, body),
        [4] => open::<des::TdesEde2>(&key(16), &iv, body),
        [5] => open::<rc2::Rc2>(&key(16), &iv, body),
        [6] => open::<rc2::Rc2>(&key(5), &iv, body),
        _ => None,
    }
}

fn open<C: KeyInit + BlockCipherDecrypt>(key: &[u8], iv: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let opener = cbc::Decryptor::<C>::new_from_slices(key, iv).ok()?;
    opener.decrypt_padded_vec::<Pkcs7>(body).map(Zeroizing::new).ok()
}
