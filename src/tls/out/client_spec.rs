//! All that is asked of a TLS client, to be compared with what another was asked for.

use std::sync::Arc;

use super::identity::Identity;
use super::trust::Trust;
use crate::origin::Host;
use crate::tls::formats::crl::Crls;
use crate::tls::settings::TlsSettings;

/// All that makes one client differ from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// Several: the server's list of acceptable issuers decides, else the first.
    pub identities: Vec<Arc<Identity>>,
    pub trust: Arc<Trust>,
    /// Its `crl` is not looked at: see `crls`.
    pub settings: TlsSettings,
    pub accept_invalid_certs: bool,
    pub crls: Arc<Crls>,
}

impl ClientSpec {
    /// No identity, this trust, defaults for the rest.
    pub fn plain(trust: Arc<Trust>) -> Self {
        Self::new(Vec::new(), trust, TlsSettings::default(), Arc::default())
    }

    /// `settings.crl` is emptied: the lists are in `crls`, compared by content, and where the config
    /// names them must not make two specs differ.
    pub fn new(identities: Vec<Arc<Identity>>, trust: Arc<Trust>, settings: TlsSettings, crls: Arc<Crls>) -> Self {
        Self { identities, trust, settings: TlsSettings { crl: None, ..settings }, accept_invalid_certs: false, crls }
    }

    /// The host that certificates are checked for.
    pub fn checked_host<'a>(&'a self, host: &'a Host) -> &'a Host {
        self.settings.server_name.as_ref().unwrap_or(host)
    }
}
