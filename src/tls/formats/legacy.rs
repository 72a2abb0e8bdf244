//! Old ways of putting a passphrase on a key, kept because such files are still about: OpenSSL's
//! `Proc-Type: 4,ENCRYPTED` and the first version of PKCS#5. Only to read; nothing is ever written
//! like this. The ciphers and digests are RustCrypto's and aws-lc's.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use md5::{Digest, Md5};
use zeroize::Zeroizing;

type Bytes = Zeroizing<Vec<u8>>;

/// Why a key did not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The padding is wrong: a wrong passphrase, or a damaged file.
    Passphrase,
    Unsupported,
    Damaged,
}

/// A PEM body under `DEK-Info: CIPHER,IV` (RFC 1421 §4.6.1.3). The key is OpenSSL's
/// `EVP_BytesToKey` with MD5 and one round, salted with the first eight octets of the IV.
pub fn open_dek(dek_info: &str, body: &[u8], passphrase: &[u8]) -> Result<Bytes, Refused> {
    let (cipher, iv) = dek_info.split_once(',').ok_or(Refused::Damaged)?;
    let iv = unhex(iv.trim()).ok_or(Refused::Damaged)?;
    let salt = iv.get(..8).ok_or(Refused::Damaged)?;
    let key = |length| bytes_to_key(passphrase, salt, length);
    match cipher.trim().to_ascii_uppercase().as_str() {
        "AES-128-CBC" => cbc_open::<aes::Aes128>(&key(16), &iv, body),
        "AES-192-CBC" => cbc_open::<aes::Aes192>(&key(24), &iv, body),
        "AES-256-CBC" => cbc_open::<aes::Aes256>(&key(32), &iv, body),
        "DES-EDE3-CBC" => cbc_open::<des::TdesEde3>(&key(24), &iv, body),
        "DES-CBC" => cbc_open::<des::Des>(&key(8), &iv, body),
        _ => Err(Refused::Unsupported),
    }
}

fn bytes_to_key(passphrase: &[u8], salt: &[u8], length: usize) -> Bytes {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut block: Bytes = Zeroizing::new(Vec::new());
    while key.len() < length {
        let digest = Md5::new().chain_update(&*block).chain_update(passphrase).chain_update(salt).finalize();
        block = Zeroizing::new(digest.to_vec());
        key.extend_from_slice(&block);
    }
    key.truncate(length);
    key
}

/// The digests of PBES1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pbes1 {
    Md5,
    Sha1,
}

/// Most rounds that are computed; a file that asks for more is refused rather than waited for.
const MOST_ROUNDS: u32 = 10_000_000;

/// PBES1 with DES-CBC (RFC 8018 §6.1), what `openssl pkcs8 -topk8` wrote before 1.1.0. The key is
/// PBKDF1 (§5.1): half of it the DES key, half the IV.
pub fn open_pbes1(digest: Pbes1, salt: &[u8], rounds: u32, body: &[u8], passphrase: &[u8]) -> Result<Bytes, Refused> {
    if rounds == 0 || rounds > MOST_ROUNDS {
        return Err(Refused::Damaged);
    }
    let mut derived: Bytes = Zeroizing::new([passphrase, salt].concat());
    for _ in 0..rounds {
        derived = Zeroizing::new(match digest {
            Pbes1::Md5 => Md5::digest(&*derived).to_vec(),
            Pbes1::Sha1 => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &derived).as_ref().to_vec(),
        });
    }
    cbc_open::<des::Des>(&derived[..8], &derived[8..16], body)
}

fn cbc_open<C: KeyInit + BlockCipherDecrypt>(key: &[u8], iv: &[u8], body: &[u8]) -> Result<Bytes, Refused> {
    let opener = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Refused::Damaged)?;
    opener.decrypt_padded_vec::<Pkcs7>(body).map(Zeroizing::new).map_err(|_| Refused::Passphrase)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
