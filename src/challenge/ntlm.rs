//! The messages of NTLM (MS-NLMP), version 2 of the protocol only: NTLMv2 responses, a message integrity code,
//! channel binding, a key exchange. Never NTLMv1, never LM.

use std::time::UNIX_EPOCH;

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher};
use zeroize::Zeroizing;

use super::binding;
use crate::failure::{Cause, Failure};
use crate::moment::{Moment, NonceKind, random_hex};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

// MS-NLMP 2.2.2.5.
const UNICODE: u32 = 0x0000_0001;
const OEM: u32 = 0x0000_0002;
const REQUEST_TARGET: u32 = 0x0000_0004;
const LM_KEY: u32 = 0x0000_0080;
const ANONYMOUS: u32 = 0x0000_0800;
const TARGET_TYPE_SERVER: u32 = 0x0002_0000;
const TARGET_INFO: u32 = 0x0080_0000;
const KEY_EXCHANGE: u32 = 0x4000_0000;

/// What Windows 10 and 11 ask for: Unicode, signing, NTLM with extended session security, version, 128 bits, key exchange.
const ASKED: u32 = 0xe208_8297;

/// Windows 10.0.19041, NTLM revision 15 (MS-NLMP 2.2.2.10). Some servers refuse messages without it.
const VERSION: [u8; 8] = [10, 0, 0x61, 0x4a, 0, 0, 0, 15];

// Kinds of MS-NLMP 2.2.2.1.
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIMESTAMP: u16 = 7;
const AV_TARGET_NAME: u16 = 9;
const AV_CHANNEL_BINDINGS: u16 = 10;

/// In `MsvAvFlags`: the message has an integrity code.
const HAS_MIC: u32 = 2;

/// The first message.
pub fn negotiate() -> [u8; 40] {
    let mut message = [0; 40];
    message[..8].copy_from_slice(SIGNATURE);
    message[8] = 1;
    message[12..16].copy_from_slice(&ASKED.to_le_bytes());
    message[32..].copy_from_slice(&VERSION);
    message
}

/// The server's message.
pub struct Challenge {
    /// Byte for byte, for the integrity code.
    message: Vec<u8>,
    flags: u32,
    nonce: [u8; 8],
    /// Pairs of `TargetInfo`, without the end.
    pairs: Vec<(u16, Vec<u8>)>,
}

impl Challenge {
    /// # Errors
    /// It is no such message, or speaks no Unicode.
    pub fn parse(message: &[u8]) -> Result<Self, &'static str> {
        if !message.starts_with(SIGNATURE) || u32_at(message, 8) != Some(2) {
            return Err("it is not an NTLM challenge");
        }
        let (Some(flags), Some(nonce)) = (u32_at(message, 20), message.get(24..32)) else {
            return Err("the NTLM challenge is cut short");
        };
        if flags & UNICODE == 0 {
            return Err("the server speaks NTLM without Unicode, which nothing has needed since Windows 95");
        }
        let info = if flags & TARGET_INFO == 0 { Some(&[][..]) } else { field(message, 40) };
        let pairs = info.and_then(pairs).ok_or("the target information of the NTLM challenge is malformed")?;
        Ok(Self { message: message.to_vec(), flags, nonce: nonce.try_into().unwrap_or_default(), pairs })
    }

    fn timestamp(&self) -> Option<[u8; 8]> {
        let (_, value) = self.pairs.iter().find(|(kind, _)| *kind == AV_TIMESTAMP)?;
        value.as_slice().try_into().ok()
    }
}

/// Who proves what.
pub struct Account<'a> {
    pub user: &'a str,
    pub domain: &'a str,
    pub password: &'a str,
    pub workstation: &'a str,
}

/// `DOMAIN\user` in its parts; `user@domain` is a name in itself and goes without a domain.
pub fn split_name<'a>(name: &'a str, domain: Option<&'a str>) -> (&'a str, &'a str) {
    match (name.split_once('\\'), domain) {
        (Some((_, user)), Some(domain)) => (user, domain),
        (Some((domain, user)), None) => (user, domain),
        (None, domain) => (name, domain.unwrap_or_default()),
    }
}

/// What the last message is made of besides account and challenge.
pub struct NtlmContext<'a> {
    /// 100 ns since 1601; the server's own time goes before it.
    pub filetime: u64,
    pub client_challenge: [u8; 8],
    pub session_key: [u8; 16],
    /// [`super::binding::gss_hash`] of the connection; `None` in clear.
    pub binding: Option<[u8; 16]>,
    /// `HTTP/host`; empty: not told.
    pub service: &'a str,
}

impl<'a> NtlmContext<'a> {
    /// Those of this moment, on a connection where the server showed `certificate` (DER; `None`: in clear).
    ///
    /// # Errors
    /// A pinned nonce is not hexadecimal, or not as long as it must be.
    pub fn of(moment: &Moment, certificate: Option<&[u8]>, service: &'a str) -> Result<Self, Failure> {
        Ok(Self {
            filetime: filetime(moment),
            client_challenge: nonce(moment, NonceKind::NtlmChallenge)?,
            session_key: nonce(moment, NonceKind::NtlmSessionKey)?,
            binding: certificate.map(|der| binding::gss_hash(&binding::server_end_point(der))),
            service,
        })
    }
}

/// 1601-01-01 to 1970-01-01, in 100 ns.
const EPOCH: u64 = 116_444_736_000_000_000;

fn filetime(moment: &Moment) -> u64 {
    let ticks = |time: std::time::Duration| u64::try_from(time.as_nanos() / 100).unwrap_or(u64::MAX);
    match moment.now().duration_since(UNIX_EPOCH) {
        Ok(since) => EPOCH.saturating_add(ticks(since)),
        Err(before) => EPOCH.saturating_sub(ticks(before.duration())),
    }
}

fn nonce<const N: usize>(moment: &Moment, kind: NonceKind) -> Result<[u8; N], Failure> {
    let text = moment.nonce(kind, random_hex::<N>);
    unhex(&text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::new(Cause::Credential, format!("the nonce {kind} is not {} hexadecimal digits", 2 * N)))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

/// The last message (MS-NLMP 2.2.1.3, computed as 3.3.2 and 3.1.5.1.2 say) to `challenge`, which answered [`negotiate`].
pub fn authenticate(account: &Account<'_>, challenge: &Challenge, given: &NtlmContext<'_>) -> Vec<u8> {
    let key = nt_key(account);
    let timestamp = challenge.timestamp();
    let temp = temp(given, timestamp, &target_info(challenge, given));
    let proof = keyed(&*key, &[&challenge.nonce, &temp]);
    let session_base_key = Zeroizing::new(keyed(&*key, &[&proof]));
    // A server that tells the time gets an integrity code instead of the second response.
    let lm = match timestamp {
        Some(_) => [0; 24].to_vec(),
        None => [&keyed(&*key, &[&challenge.nonce, &given.client_challenge])[..], &given.client_challenge].concat(),
    };
    let exchange = challenge.flags & KEY_EXCHANGE != 0;
    let exported = Zeroizing::new(if exchange { given.session_key } else { *session_base_key });
    let sealed = if exchange { rc4(&session_base_key, given.session_key).to_vec() } else { Vec::new() };
    let flags = (challenge.flags & !(OEM | LM_KEY | ANONYMOUS | TARGET_TYPE_SERVER)) | REQUEST_TARGET;
    let payloads =
        [lm, [&proof[..], &temp].concat(), utf16(account.domain), utf16(account.user), utf16(account.workstation), sealed];
    let mut message = assemble(flags, timestamp.is_some(), &payloads);
    if timestamp.is_some() {
        let mic = keyed(&*exported, &[&negotiate(), &challenge.message, &message]);
        message[MIC_AT..MIC_AT + 16].copy_from_slice(&mic);
    }
    message
}

const MIC_AT: usize = 72;

/// `payloads`: LM and NT responses, domain, user, workstation, session key; names come first in the message.
fn assemble(flags: u32, with_mic: bool, payloads: &[Vec<u8>; 6]) -> Vec<u8> {
    let head = if with_mic { MIC_AT + 16 } else { MIC_AT };
    let order = [2, 3, 4, 0, 1, 5];
    let mut offsets = [0; 6];
    let mut at = head;
    for which in order {
        offsets[which] = at;
        at += payloads[which].len();
    }
    let mut message = Vec::with_capacity(at);
    message.extend_from_slice(SIGNATURE);
    message.extend(3u32.to_le_bytes());
    for (payload, offset) in payloads.iter().zip(offsets) {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes();
        message.extend(length.into_iter().chain(length));
        message.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
    }
    message.extend(flags.to_le_bytes());
    message.extend(VERSION);
    message.resize(head, 0);
    for which in order {
        message.extend_from_slice(&payloads[which]);
    }
    message
}

/// `temp` of MS-NLMP 3.3.2.
fn temp(given: &NtlmContext<'_>, timestamp: Option<[u8; 8]>, target_info: &[u8]) -> Vec<u8> {
    let time = timestamp.unwrap_or(given.filetime.to_le_bytes());
    [&[1, 1, 0, 0, 0, 0, 0, 0], &time[..], &given.client_challenge, &[0; 4], target_info, &[0; 4]].concat()
}

/// The server's pairs and ours, with the end.
fn target_info(challenge: &Challenge, given: &NtlmContext<'_>) -> Vec<u8> {
    let mut pairs = challenge.pairs.clone();
    pairs.retain(|(kind, _)| !matches!(*kind, AV_FLAGS | AV_CHANNEL_BINDINGS | AV_TARGET_NAME));
    if challenge.timestamp().is_some() {
        let theirs = challenge.pairs.iter().find(|(kind, _)| *kind == AV_FLAGS).and_then(|(_, value)| u32_at(value, 0));
        pairs.push((AV_FLAGS, (theirs.unwrap_or_default() | HAS_MIC).to_le_bytes().to_vec()));
    }
    if let Some(binding) = given.binding {
        pairs.push((AV_CHANNEL_BINDINGS, binding.to_vec()));
    }
    if !given.service.is_empty() {
        pairs.push((AV_TARGET_NAME, utf16(given.service)));
    }
    pairs.push((AV_END, Vec::new()));
    let mut info = Vec::new();
    for (kind, value) in pairs {
        info.extend(kind.to_le_bytes());
        info.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
        info.extend(value);
    }
    info
}

/// Pairs up to their end; `None`: one reaches beyond what is there.
fn pairs(mut info: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut found = Vec::new();
    while !info.is_empty() {
        let kind = u16_at(info, 0)?;
        if kind == AV_END {
            break;
        }
        let end = 4 + usize::from(u16_at(info, 2)?);
        found.push((kind, info.get(4..end)?.to_vec()));
        info = &info[end..];
    }
    Some(found)
}

/// NTOWFv2 (MS-NLMP 3.3.2).
fn nt_key(account: &Account<'_>) -> Zeroizing<[u8; 16]> {
    let password = Zeroizing::new(utf16(account.password));
    let hash = Zeroizing::new(<[u8; 16]>::from(Md4::digest(&*password)));
    Zeroizing::new(keyed(&*hash, &[&utf16(&upper(account.user)), &utf16(account.domain)]))
}

/// Windows maps character by character; what would become two stays.
fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut mapped = c.to_uppercase();
        if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
    };
    text.chars().map(one).collect()
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn rc4(key: &[u8; 16], mut data: [u8; 16]) -> [u8; 16] {
    let mut cipher = Rc4::new_from_slice(key).expect("RC4 takes a key of 16 bytes");
    cipher.apply_keystream(&mut data);
    data
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The bytes that a length and an offset at `at` point to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(message, at)?);
    let offset = usize::try_from(u32_at(message, at + 4)?).ok()?;
    message.get(offset..offset.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_windows_writes_them() {
        assert_eq!(split_name("GPDOM\\alice", None), ("alice", "GPDOM"));
        assert_eq!(split_name("alice@gp.test", None), ("alice@gp.test", ""));
        assert_eq!(split_name("alice", Some("GPDOM")), ("alice", "GPDOM"));
        assert_eq!(split_name("OLD\\alice", Some("GPDOM")), ("alice", "GPDOM"));
        assert_eq!(upper("jürgen straße"), "JÜRGEN STRAßE");
    }

    #[test]
    fn a_server_without_unicode_and_messages_of_other_kinds_are_refused() {
        assert!(Challenge::parse(&negotiate()).is_err());
        let mut oem = [&SIGNATURE[..], &2u32.to_le_bytes(), &[0; 36]].concat();
        assert!(Challenge::parse(&oem).is_err_and(|why| why.contains("Unicode")));
        oem[20] = 1;
        assert!(Challenge::parse(&oem).is_ok());
        assert!(Challenge::parse(&oem[..30]).is_err());
    }

    proptest! {
        #[test]
        fn no_challenge_makes_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = [&SIGNATURE[..], &2u32.to_le_bytes(), &tail].concat();
            if let Ok(challenge) = Challenge::parse(&message) {
                let account = Account { user: "u", domain: "d", password: "p", workstation: "" };
                let given = NtlmContext { filetime: 0, client_challenge: [0; 8], session_key: [0; 16], binding: None, service: "" };
                prop_assert!(authenticate(&account, &challenge, &given).len() > 72);
            }
        }
    }
}
