//! Integrity codes of PFX files that `p12-keystore` does not check: PBMAC1 (RFC 9579), and those under no
//! password at all, which to PKCS #12 is another password than an empty one (RFC 7292 appendix B.2).

use std::num::NonZeroU32;

use ::hmac::{KeyInit, Mac as _};
use aws_lc_rs::{hmac, pbkdf2};
use pkcs12::kdf::{Pkcs12KeyType, derive_key};
use zeroize::Zeroizing;

use crate::tls::formats::ber::{Element, INTEGER, OCTETS, OID};

/// 1.2.840.113549.1.5.14.
const PBMAC1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e];
/// 1.2.840.113549.1.5.12.
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.2.840.113549.2: what follows is 7, 9, 10 or 11 for HMAC with SHA-1, SHA-256, SHA-384 or SHA-512.
const DIGEST_ALGORITHM: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 2.16.840.1.101.3.4.2: what follows is 1, 2 or 3 for SHA-256, SHA-384 or SHA-512.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// More rounds are refused rather than waited for.
const MOST_ROUNDS: u32 = 10_000_000;
/// A longer key than any of the digests needs.
const LONGEST_KEY: usize = 64;

/// `MacData` (RFC 7292 §4), and what it covers.
pub(super) struct MacData<'a> {
    algorithm: &'a Element,
    code: &'a [u8],
    salt: &'a [u8],
    rounds: u32,
    covered: &'a [u8],
}

impl<'a> MacData<'a> {
    /// `None`: the PFX has none, or one that cannot be read.
    pub(super) fn of(pfx: &'a Element) -> Option<Self> {
        let [info, salt, rounds @ ..] = pfx.child(2)?.children() else { return None };
        Some(Self {
            algorithm: info.child(0)?,
            code: info.child(1)?.body(OCTETS)?,
            salt: salt.body(OCTETS)?,
            rounds: rounds.first().map_or(Some(1), number)?,
            covered: pfx.child(1)?.child(1)?.child(0)?.body(OCTETS)?,
        })
    }

    pub(super) fn is_pbmac1(&self) -> bool {
        self.algorithm.child(0).and_then(|oid| oid.body(OID)) == Some(PBMAC1)
    }

    /// Is it a PBMAC1 of this passphrase? `None`: its parameters are none that are known here.
    pub(super) fn is_pbmac1_of(&self, passphrase: &str) -> Option<bool> {
        let parameters = self.algorithm.child(1)?;
        let [derivation, scheme] = parameters.children() else { return None };
        if derivation.child(0)?.body(OID)? != PBKDF2 {
            return None;
        }
        // RFC 9579 §5: the length of the key must be there, since it says which key is meant.
        let [salt, rounds, length, digest @ ..] = derivation.child(1)?.children() else { return None };
        let rounds = NonZeroU32::new(number(rounds)?).filter(|rounds| rounds.get() <= MOST_ROUNDS)?;
        let length = usize::try_from(number(length)?).ok().filter(|length| (1..=LONGEST_KEY).contains(length))?;
        // RFC 8018 appendix A.2: HMAC with SHA-1 where nothing is said.
        let (derivation, _) = digest.first().map_or(Some(SHA1_HMAC), digests)?;
        let mut key = Zeroizing::new([0; LONGEST_KEY]);
        pbkdf2::derive(derivation, rounds, salt.body(OCTETS)?, passphrase.as_bytes(), &mut key[..length]);
        let (_, digest) = digests(scheme)?;
        Some(hmac::verify(&hmac::Key::new(digest, &key[..length]), self.covered, self.code).is_ok())
    }

    /// Is it a code under no password?
    pub(super) fn is_of_no_password(&self) -> bool {
        match self.algorithm.child(0).and_then(|oid| oid.body(OID)) {
            Some(SHA1) => self.is_under::<sha1::Sha1>(),
            Some(oid) => match oid.strip_prefix(SHA2) {
                Some([1]) => self.is_under::<sha2::Sha256>(),
                Some([2]) => self.is_under::<sha2::Sha384>(),
                Some([3]) => self.is_under::<sha2::Sha512>(),
                _ => false,
            },
            None => false,
        }
    }

    fn is_under<D>(&self) -> bool
    where
        D: sha1::digest::Digest + sha1::digest::FixedOutputReset + sha1::digest::block_api::BlockSizeUser,
        D: ::hmac::EagerHash,
    {
        let Some(rounds) =
            i32::try_from(self.rounds).ok().filter(|rounds| *rounds <= MOST_ROUNDS as i32 && !self.salt.is_empty())
        else {
            return false;
        };
        let key = derive_key::<D>(&[], self.salt, Pkcs12KeyType::Mac, rounds, <D as sha1::Digest>::output_size());
        let Ok(mac) = ::hmac::Hmac::<D>::new_from_slice(&key) else { return false };
        mac.chain_update(self.covered).verify_slice(self.code).is_ok()
    }
}

type Digests = (pbkdf2::Algorithm, hmac::Algorithm);

const SHA1_HMAC: Digests = (pbkdf2::PBKDF2_HMAC_SHA1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY);

/// The digest of an AlgorithmIdentifier that names an HMAC, for deriving and for signing.
fn digests(algorithm: &Element) -> Option<Digests> {
    match algorithm.child(0)?.body(OID)?.strip_prefix(DIGEST_ALGORITHM)? {
        [7] => Some(SHA1_HMAC),
        [9] => Some((pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256)),
        [10] => Some((pbkdf2::PBKDF2_HMAC_SHA384, hmac::HMAC_SHA384)),
        [11] => Some((pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512)),
        _ => None,
    }
}

/// A small INTEGER that is not negative.
pub(super) fn number(element: &Element) -> Option<u32> {
    let body = element.body(INTEGER)?;
    let positive = body.first()? & 0x80 == 0;
    let digits = body.iter().skip_while(|octet| **octet == 0);
    (positive && digits.clone().count() <= 4).then(|| digits.fold(0, |number, octet| number << 8 | u32::from(*octet)))
}
