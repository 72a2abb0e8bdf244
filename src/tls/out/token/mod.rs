//! Keys that never leave their token (PKCS#11: smart cards, HSMs, TPMs).
//!
//! A token may take its time, and its library knows no other way than to block. So each key has a
//! thread of its own, which alone speaks with the token: it opens it, signs what is asked, one after
//! the other, and opens it again when the session is gone. It ends with the last holder of the key.

mod errors;
mod login;
mod module;
mod session;
mod sign;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::identity::{self, Identity, Parts};
use crate::secret::Secret;
use crate::settings::{Pem, Place};
use crate::tls::formats::key::Key;
use crate::tls::settings::{CertificateSource, Material};
use crate::tls::token_uri::TokenUri;
use crate::tls::{Loaded, Problem, sha256};
use errors::{is_gone, words};
use session::{Found, Open};

/// How long a token may take to be opened, and to sign.
const OPENING: Duration = Duration::from_secs(20);
const SIGNING: Duration = Duration::from_secs(10);
/// Handshakes that may wait for one key.
const WAITING: usize = 256;
/// A token that could not be opened is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A key on a token, as the configuration names it.
#[derive(Clone)]
pub(super) struct Wanted {
    uri: TokenUri,
    module: Option<std::path::PathBuf>,
    pin: Option<Secret>,
    place: Place,
    module_place: Place,
}

impl Wanted {
    fn problem(&self, code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(code, self.place, message)
    }
}

/// Opens the token, finds key and certificate, and lets the key sign once, which shows more than any
/// attribute does: that it may sign, and which certificate is its own.
///
/// # Errors
/// What is wrong with which part of it, and the mend.
pub async fn load(source: &CertificateSource, pin: Option<&Secret>, bound: usize) -> Result<Loaded<Identity>, Problem> {
    let Material::Pkcs11 { uri, place, module, cert } = &source.material else {
        return Err(Problem::new("internal", source.place, "this is not a key on a token"));
    };
    let wanted = Wanted {
        uri: uri.clone(),
        module: module.as_ref().map(|(path, _)| path.clone()),
        pin: pin.cloned(),
        place: *place,
        module_place: module.as_ref().map_or(*place, |(_, place)| *place),
    };
    let beside = cert.as_ref().map(|(pem, place)| identity::certificates_of(pem, *place, bound)).transpose()?;
    let (jobs, work) = sync_channel(WAITING);
    let (first, opened) = oneshot::channel();
    let thread = wanted.clone();
    let started = std::thread::Builder::new().name("token".to_owned()).spawn(move || Keeper::run(thread, first, &work));
    started.map_err(|cause| wanted.problem("token", format!("no thread can be started for {uri}: {cause}")))?;
    let silent = || wanted.problem("token", format!("the token of {uri} did not answer within {OPENING:?}"));
    let found = tokio::time::timeout(OPENING, opened).await.map_err(|_| silent())?.map_err(|_| silent())??;
    assemble(&wanted, found, beside, cert.as_ref().map(|(pem, _)| pem), jobs)
}

fn assemble(
    wanted: &Wanted,
    found: Found,
    beside: Option<crate::tls::formats::inspect::Certificates>,
    file: Option<&Pem>,
    jobs: SyncSender<Job>,
) -> Result<Loaded<Identity>, Problem> {
    let name: Arc<str> = wanted.uri.to_string().into();
    let mut certificates = found.certificates;
    let mut warnings = found.warnings;
    if let Some(beside) = beside {
        // What is in the file comes first; the token may still hold its issuers.
        certificates.splice(0..0, beside.good);
    }
    if certificates.is_empty() {
        let message = format!("the token {} holds no certificate for the key {name}", found.token);
        return Err(wanted.problem("no-certificate", message).help(
            "put it there beside the key (pkcs11-tool --write-object CERT.der --type cert --id ID), or name its file as `cert:`",
        ));
    }
    let own = certificates.iter().find_map(|(der, _)| sign::verified_by(der, &found.trial));
    let Some(spki) = own else {
        let (holder, help) = match file {
            Some(pem) => (pem.name(), "name the certificate that was issued for this key"),
            None => (format!("the token {}", found.token), "name the certificate of this key as `cert:`"),
        };
        let message = format!("no certificate in {holder} belongs to the key {name} (its signature does not verify)");
        return Err(wanted.problem("key-mismatch", message).help(help));
    };
    warnings.extend(sign::limits(&found.schemes, &name).map(|problem| Problem { place: Some(wanted.place), ..problem }));
    let address = sha256(format!("{name}\0{:?}\0", wanted.module).as_bytes());
    let pin = wanted.pin.as_ref().map_or([0; 32], |pin| sha256(pin.expose().as_bytes()));
    let key = TokenKey { jobs, schemes: found.schemes, spki, name: name.clone() };
    let parts = Parts {
        certificates,
        key: Key::elsewhere(Arc::new(key)),
        files: file.and_then(Pem::file).map(ToOwned::to_owned).into_iter().collect(),
        // Another PIN or module is another way to the key: a reload that mends them must not keep the old one.
        salt: sha256(&[address, pin].concat()),
        name: name.to_string(),
        place: wanted.place,
    };
    let mut loaded = identity::of_parts(parts)?;
    warnings.append(&mut loaded.warnings);
    Ok(Loaded { value: loaded.value, warnings })
}

/// A signature that is wanted.
struct Job {
    scheme: SignatureScheme,
    message: Vec<u8>,
    /// When nobody waits for it any more.
    until: Instant,
    answer: SyncSender<Result<Vec<u8>, String>>,
}

/// The thread that speaks with the token.
struct Keeper {
    wanted: Wanted,
    open: Option<Open>,
    /// A signature that the key made; the key found anew must have made it too.
    known: sign::Trial,
    failed: Option<(String, Instant)>,
}

impl Keeper {
    fn run(wanted: Wanted, first: oneshot::Sender<Result<Found, Problem>>, work: &Receiver<Job>) {
        let opened = Open::new(&wanted).and_then(|open| Ok((open.examine(&wanted)?, open)));
        let (found, open) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                let _ = first.send(Err(problem));
                return;
            }
        };
        let known = found.trial.clone();
        if first.send(Ok(found)).is_err() {
            return;
        }
        let mut keeper = Keeper { wanted, open: Some(open), known, failed: None };
        for job in work {
            if job.until > Instant::now() {
                let _ = job.answer.send(keeper.sign(job.scheme, &job.message));
            }
        }
    }

    /// Signs; a session that is gone is opened again, once, and not more often than [`PAUSE`] allows.
    fn sign(&mut self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, String> {
        if let Some(open) = &self.open {
            match open.sign(scheme, message) {
                Ok(signature) => return Ok(signature),
                Err(error) if !is_gone(&error) => return Err(words(&error)),
                Err(error) => {
                    tracing::warn!(token = %self.wanted.uri, cause = words(&error), "the token's session is gone; opening it again");
                    self.open = None;
                }
            }
        }
        if let Some((why, at)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        match self.reopen(scheme, message) {
            Ok(signature) => {
                self.failed = None;
                Ok(signature)
            }
            Err(why) => {
                self.failed = Some((why.clone(), Instant::now()));
                Err(why)
            }
        }
    }

    fn reopen(&mut self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, String> {
        let open = Open::new(&self.wanted).map_err(|problem| problem.to_string())?;
        let trial = open.trial(self.known.scheme).map_err(|error| words(&error))?;
        if !self.known.same_key(&trial) {
            return Err("there is another key of this name on it now; reload gatepass if that is right".to_owned());
        }
        let signature = open.sign(scheme, message).map_err(|error| words(&error))?;
        self.open = Some(open);
        tracing::info!(token = %self.wanted.uri, "the token is open again");
        Ok(signature)
    }
}

/// What rustls signs with.
struct TokenKey {
    jobs: SyncSender<Job>,
    /// The best first.
    schemes: Vec<SignatureScheme>,
    spki: Vec<u8>,
    name: Arc<str>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(TokenSigner { jobs: self.jobs.clone(), scheme, name: self.name.clone() }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        sign::algorithm(self.schemes.first().copied())
    }
}

struct TokenSigner {
    jobs: SyncSender<Job>,
    scheme: SignatureScheme,
    name: Arc<str>,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("name", &self.name).field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Signer for TokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let refuse = |why: String| Error::Other(OtherError(Arc::new(NotSigned { name: self.name.clone(), why })));
        let (answer, wait) = sync_channel(1);
        let job = Job { scheme: self.scheme, message: message.to_vec(), until: Instant::now() + SIGNING, answer };
        self.jobs.try_send(job).map_err(|error| {
            refuse(match error {
                TrySendError::Full(_) => format!("{WAITING} signatures are waiting for it already"),
                TrySendError::Disconnected(_) => "its thread has ended".to_owned(),
            })
        })?;
        match without_blocking(|| wait.recv_timeout(SIGNING)) {
            Ok(outcome) => outcome.map_err(refuse),
            Err(RecvTimeoutError::Timeout) => Err(refuse(format!("it did not answer within {SIGNING:?}"))),
            Err(RecvTimeoutError::Disconnected) => Err(refuse("its thread has ended".to_owned())),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Waits without keeping the runtime's other tasks waiting.
fn without_blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// A token did not sign: the handshake fails for it.
#[derive(Debug)]
pub struct NotSigned {
    name: Arc<str>,
    why: String,
}

impl fmt::Display for NotSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token of {} did not sign: {}", self.name, self.why)
    }
}
impl std::error::Error for NotSigned {}
