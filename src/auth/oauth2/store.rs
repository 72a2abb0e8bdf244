//! Tokens in files: for what only a person, or a server that rotates, can give again. One writer at a time,
//! also among several gatepass processes: the reuse of a rotated refresh token revokes everything (RFC 9700 §4.14).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer::Token;
use crate::failure::{Cause, Failure};
use crate::files::{self, FileError, Lock, Stamp};
use crate::secret::Secret;

/// What is kept of a sign-in.
#[derive(Clone)]
pub struct Kept {
    pub token: Token,
    /// `None`: until a server refuses it.
    pub end: Option<SystemTime>,
    /// PKCS#8 of the key that the tokens are bound to.
    pub key: Option<Secret>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dpop_key: Option<String>,
}

pub struct Store {
    path: PathBuf,
}

/// Larger than any token file.
const BOUND: usize = 1024 * 1024;

/// How often a lock that another process has is asked for.
const PAUSE: Duration = Duration::from_millis(50);

impl Store {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn stamp(&self) -> Option<Stamp> {
        files::stamp(&self.path)
    }

    /// The right to renew, waited for no longer than `patience`.
    ///
    /// # Errors
    /// The folder cannot be written, or another process does not let go.
    pub async fn turn(&self, patience: Duration) -> Result<Lock, Failure> {
        if let Some(folder) = self.path.parent() {
            files::create_private_dir(folder).map_err(|error| cannot(&error))?;
        }
        let end = tokio::time::Instant::now() + patience;
        let lock = self.path.with_extension("lock");
        loop {
            if let Some(lock) = files::try_lock(&lock).map_err(|error| cannot(&error))? {
                // A process that was killed while it wrote had the only good refresh token in its hands.
                let whole = |bytes: &[u8]| serde_json::from_slice::<Written>(bytes).is_ok();
                files::recover(&self.path, BOUND, whole).map_err(|error| cannot(&error))?;
                return Ok(lock);
            }
            if tokio::time::Instant::now() > end {
                let message = format!("another gatepass holds {} for longer than {patience:?}", lock.display());
                return Err(Failure::new(Cause::Credential, message).hint("end that process"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What was kept; `None` where nobody has signed in.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read(&self) -> Result<Option<Kept>, Failure> {
        if !files::exists(&self.path) {
            return Ok(None);
        }
        let bytes = Zeroizing::new(files::read(&self.path, BOUND).map_err(|error| cannot(&error))?);
        let written: Written = serde_json::from_slice(&bytes).map_err(|_| {
            let message = format!("{} is not a token file", self.path.display());
            Failure::new(Cause::Credential, message).hint("delete it, and sign in again")
        })?;
        let token = Token {
            access: Secret::new(written.access_token),
            kind: written.token_type,
            life: None,
            refresh: written.refresh_token.map(Secret::new),
            scope: written.scope,
        };
        let end = written.expires_at.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end)));
        Ok(Some(Kept { token, end, key: written.dpop_key.map(Secret::new) }))
    }

    /// Whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, kept: &Kept) -> Result<(), Failure> {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let own = |secret: &Secret| secret.expose().to_owned();
        let written = Written {
            version: 1,
            access_token: own(&kept.token.access),
            token_type: kept.token.kind.clone(),
            expires_at: kept.end.map(seconds),
            refresh_token: kept.token.refresh.as_ref().map(own),
            scope: kept.token.scope.clone(),
            dpop_key: kept.key.as_ref().map(own),
        };
        let text = Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default());
        files::write_private(&self.path, &text).map_err(|error| cannot(&error))
    }

    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self) -> Result<(), Failure> {
        files::remove(&self.path).map_err(|error| cannot(&error))
    }
}

fn cannot(error: &FileError) -> Failure {
    Failure::new(Cause::Credential, error.to_string()).hint("GATEPASS_HOME or XDG_STATE_HOME names another folder for tokens")
}
