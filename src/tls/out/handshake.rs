//! What one handshake toward an upstream showed: which certificates the server presented, whether it
//! asked for one of ours, and which we showed.
//!
//! rustls calls the verifier and the certificate resolver of a configuration, which many connections
//! share (they must, or sessions would not resume). What they see is noted for the handshake that is
//! being polled: [`Handshake::watch`] makes it known to them as a task-local value.

use std::sync::{Arc, Mutex, OnceLock};

use rustls::pki_types::CertificateDer;

use crate::tls::formats::inspect::Details;

tokio::task_local! { static CURRENT: Arc<Handshake>; }

/// The client-certificate side of a handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// The server did not ask. In TLS 1.2 it may still want to by renegotiation, in TLS 1.3 by
    /// post-handshake authentication; rustls does neither.
    No,
    /// An earlier session was resumed; what was agreed then still holds.
    Resumed,
    /// OpenSSL does not tell (TLS 1.3).
    Unseen,
    /// It asked and got this certificate (its name).
    Shown(String),
    /// It asked and got none.
    Nothing {
        /// There are certificates, but none whose key the server accepts.
        unfit: bool,
    },
}

/// Notes of one handshake.
#[derive(Default)]
pub struct Handshake {
    presented: Mutex<Vec<CertificateDer<'static>>>,
    asked: OnceLock<Asked>,
}

impl Handshake {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Runs the handshake so that what happens in it is noted here.
    pub async fn watch<F: Future>(self: &Arc<Self>, handshake: F) -> F::Output {
        CURRENT.scope(Arc::clone(self), handshake).await
    }

    /// [`watch`](Self::watch) for a handshake that does not wait.
    pub fn watch_now<R>(self: &Arc<Self>, handshake: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(Arc::clone(self), handshake)
    }

    pub fn asked(&self) -> Asked {
        self.asked.get().cloned().unwrap_or(Asked::No)
    }

    pub(super) fn note_resumed(&self) {
        let _ = self.asked.set(Asked::Resumed);
    }

    /// The server's certificates, leaf first, as far as they can be read.
    pub fn presented(&self) -> Vec<Details> {
        let presented = self.presented.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        presented.iter().filter_map(|der| Details::read(der).ok()).collect()
    }
}

pub(super) fn note_presented(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
    let _ = CURRENT.try_with(|handshake| {
        let mut presented = handshake.presented.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        presented.clear();
        presented.push(end_entity.clone().into_owned());
        presented.extend(intermediates.iter().map(|der| der.clone().into_owned()));
    });
}

pub(super) fn note_asked(asked: Asked) {
    let _ = CURRENT.try_with(|handshake| {
        let _ = handshake.asked.set(asked);
    });
}
