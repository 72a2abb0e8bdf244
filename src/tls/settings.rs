//! What is configured of TLS: whom to believe, what to show, and how it is spoken; and the keys by which it is written
//! wherever a configuration has it.

use std::path::PathBuf;

use super::token_uri::TokenUri;
use crate::origin::Host;
use crate::settings::shape::{Field, f};
use crate::settings::{Pem, Place, Shape, Text};
use crate::workload::SpiffeId;

/// A CA bundle where it is named or written: a name, a file, a list of files, or a map.
pub const BUNDLES: &[Shape] = &[Shape::Many(&Shape::Certificate), Shape::Name, Shape::Block(BUNDLE)];
/// A client certificate: a name, or a map.
pub const CERTIFICATES: &[Shape] = &[Shape::Name, Shape::Block(CERTIFICATE)];

pub const CERTIFICATE: &[Field] = &[
    f("cert", Shape::Certificate, "PEM file with the certificate and its chain"),
    f("key", Shape::Pem, "PEM file with the private key; may be left out when it stands in the `cert` file"),
    f("pfx", Shape::File, "PFX (PKCS #12) file instead of cert and key"),
    f(
        "alias",
        Shape::Text,
        "with `pfx`: which of several keys in the file, by its name there (keytool's alias) or its certificate's common name",
    ),
    f("passphrase", Shape::Secret, "of the key or PFX file"),
    f("host", Shape::Many(&Shape::Host), "makes the certificate a rule of its own for this host"),
    f("port", Shape::Many(&Shape::Port), "with `host`: for this port (443)"),
    f(
        "pkcs11",
        Shape::TokenUri,
        "RFC 7512 URI of a key on a token (smart card, HSM); with `cert` when the token holds no certificate",
    ),
    f("pin", Shape::Secret, "with `pkcs11`: the token's PIN"),
    f("module", Shape::File, "with `pkcs11`: the token's PKCS#11 library; p11-kit's proxy, else the usual places, when left out"),
    f(
        "spiffe",
        Shape::Block(SPIFFE),
        "the X509-SVID that a SPIFFE Workload API (SPIRE) gives to gatepass; followed as it is renewed",
    ),
];
pub const SPIFFE: &[Field] = &[
    f("socket", Shape::File, "unix:PATH of the Workload API; SPIFFE_ENDPOINT_SOCKET when left out"),
    f("spiffe_id", Shape::Url, "of a client certificate: which of several SVIDs; the agent's first when left out"),
];
pub const BUNDLE: &[Field] = &[
    f("files", Shape::Many(&Shape::Certificate), "PEM or DER files, or folders of them; one file may hold many CAs"),
    f("system_roots", Shape::Bool, "believe the system's roots too (true)"),
    f(
        "spiffe",
        Shape::Block(SPIFFE),
        "instead of files and system roots: the CAs of the trust domain of a SPIFFE Workload API, and of those it federates with",
    ),
];

/// Where a client certificate comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateSource {
    pub name: Option<String>,
    pub place: Place,
    pub material: Material,
    /// Of the key or PFX file; of a token its PIN.
    pub passphrase: Option<Text>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Material {
    /// `key: None`: the key stands in the certificate's file.
    Pem { cert: Pem, cert_place: Place, key: Option<(Pem, Place)> },
    Pfx {
        file: PathBuf,
        place: Place,
        /// Which of several keys, by its name in the file.
        alias: Option<(String, Place)>,
    },
    /// A key on a token; the PIN is the source's passphrase.
    Pkcs11 {
        uri: TokenUri,
        place: Place,
        module: Option<(PathBuf, Place)>,
        /// `None`: the certificate is on the token too.
        cert: Option<(Pem, Place)>,
    },
    /// From the agent at this socket.
    Spiffe {
        socket: PathBuf,
        /// `None`: the agent's first.
        spiffe_id: Option<SpiffeId>,
        place: Place,
    },
}

impl CertificateSource {
    /// The files that are read for it.
    pub fn files(&self) -> Vec<Pem> {
        match &self.material {
            Material::Pem { cert, key, .. } => {
                [Some(cert), key.as_ref().map(|(key, _)| key)].into_iter().flatten().cloned().collect()
            }
            Material::Pfx { file, .. } => vec![Pem::File(file.clone())],
            Material::Pkcs11 { cert, .. } => cert.iter().map(|(pem, _)| pem.clone()).collect(),
            Material::Spiffe { .. } => Vec::new(),
        }
    }

    /// What else than files and passphrase makes it differ from another.
    pub fn elsewhere(&self) -> Option<String> {
        match &self.material {
            Material::Pem { .. } => None,
            Material::Pfx { alias, .. } => alias.as_ref().map(|(alias, _)| format!("alias {alias}")),
            Material::Pkcs11 { uri, module, .. } => Some(format!("{uri} {:?}", module.as_ref().map(|(path, _)| path))),
            Material::Spiffe { socket, spiffe_id, .. } => Some(format!("{socket:?} {spiffe_id:?}")),
        }
    }
}

/// Whom to believe.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BundleSource {
    pub name: Option<String>,
    pub place: Place,
    /// PEM files, or folders of them.
    pub files: Vec<(Pem, Place)>,
    /// Add the system's roots (true unless said otherwise).
    pub system_roots: bool,
    /// Instead of both: the CAs of the agent at this socket.
    pub spiffe: Option<(PathBuf, Place)>,
}

/// `None` everywhere: not said.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct TlsSettings {
    pub server_name: Option<Host>,
    /// The server is known by one of these instead of its host name.
    pub spiffe_id: Option<Vec<SpiffeId>>,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
    /// SHA-256 of a SubjectPublicKeyInfo anywhere in the chain.
    pub pins: Option<Vec<[u8; 32]>>,
    pub crl: Option<Vec<(PathBuf, Place)>>,
    pub resumption: Option<bool>,
    pub alpn: Option<Vec<Alpn>>,
    pub backend: Option<TlsBackend>,
    pub ocsp: Option<Ocsp>,
    /// The server may end a connection without TLS's word for it.
    pub lenient_end: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alpn {
    H2,
    Http11,
}

/// What is made of stapled OCSP responses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ocsp {
    /// One that says "revoked" refuses the server; one that is missing or proves nothing does not.
    #[default]
    Check,
    /// There must be one, and it must hold.
    Require,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsBackend {
    #[default]
    Rustls,
    Openssl,
}

/// Where the interception CA is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaSource {
    /// Made on first start in this folder, as `ca.pem` and `ca.key`; `constrain`: where it is said that it
    /// may only issue for the hosts of the rules.
    Dir {
        directory: PathBuf,
        constrain: Option<Place>,
    },
    Files {
        cert: PathBuf,
        key: PathBuf,
        place: Place,
    },
    /// Made anew and kept nowhere, for the demonstration and tests.
    Memory,
}

#[derive(Clone, PartialEq, Eq)]
pub struct ListenerTls {
    pub place: Place,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

impl ListenerTls {
    /// What to watch.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned()
    }
}
