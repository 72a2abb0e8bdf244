//! Clock and randomness. Signing takes both from here, so that published vectors can be replayed
//! with a pinned clock and pinned nonces (`gatepass sign --at … --nonce KIND=TEXT`).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a random value is for. The names are those of `gatepass sign --nonce KIND=TEXT`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NonceKind {
    Cnonce,
    Oauth1,
    Hawk,
    Edgegrid,
    Jti,
    State,
    PkceVerifier,
    NtlmChallenge,
    NtlmSessionKey,
    Signature,
}

impl NonceKind {
    pub const ALL: [(&'static str, NonceKind); 10] = [
        ("cnonce", NonceKind::Cnonce),
        ("oauth1", NonceKind::Oauth1),
        ("hawk", NonceKind::Hawk),
        ("edgegrid", NonceKind::Edgegrid),
        ("jti", NonceKind::Jti),
        ("state", NonceKind::State),
        ("pkce_verifier", NonceKind::PkceVerifier),
        ("ntlm_challenge", NonceKind::NtlmChallenge),
        ("ntlm_session_key", NonceKind::NtlmSessionKey),
        ("signature", NonceKind::Signature),
    ];
}

impl FromStr for NonceKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("unknown nonce kind `{text}`; one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for NonceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, kind)| kind == self).map_or("nonce", |(name, _)| name))
    }
}

/// One point in time and a source of nonces.
#[derive(Default)]
pub struct Moment {
    at: Option<SystemTime>,
    pinned: Mutex<HashMap<NonceKind, VecDeque<String>>>,
}

impl Moment {
    /// The real clock and real randomness.
    pub fn real() -> Self {
        Self::default()
    }

    /// A fixed clock (`None`: the real one) and given nonces, used up in order; when a kind has
    /// none left, its last one is used again.
    pub fn pinned(at: Option<SystemTime>, nonces: impl IntoIterator<Item = (NonceKind, String)>) -> Self {
        let mut pinned: HashMap<NonceKind, VecDeque<String>> = HashMap::new();
        for (kind, text) in nonces {
            pinned.entry(kind).or_default().push_back(text);
        }
        Self { at, pinned: Mutex::new(pinned) }
    }

    pub fn now(&self) -> SystemTime {
        self.at.unwrap_or_else(SystemTime::now)
    }

    /// Seconds since 1970-01-01T00:00:00Z; 0 for a clock before that.
    pub fn unix(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }

    /// The pinned text for `kind`, else what `make` builds from real randomness.
    pub fn nonce(&self, kind: NonceKind, make: impl FnOnce() -> String) -> String {
        let mut pinned = self.pinned.lock().unwrap_or_else(|e| e.into_inner());
        match pinned.get_mut(&kind) {
            Some(texts) if texts.len() > 1 => texts.pop_front().unwrap_or_default(),
            Some(texts) => texts.front().cloned().unwrap_or_default(),
            None => make(),
        }
    }
}

/// `N` bytes from the operating system's generator by way of aws-lc.
///
/// # Panics
/// When the generator fails, which leaves no safe way on.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

/// `N` random bytes as `2 N` lower-case hexadecimal digits.
pub fn random_hex<const N: usize>() -> String {
    random_bytes::<N>().iter().map(|b| format!("{b:02x}")).collect()
}

/// A random UUID (RFC 9562 §5.4).
pub fn random_uuid() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat).join("-")
}
