//! What a certificate says, for people.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The readable parts of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    pub subject: String,
    pub issuer: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// `RSA 2048`, `EC P-256`, `Ed25519`.
    pub key: String,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub fingerprint: String,
    pub is_ca: bool,
    /// `None`: no extended key usage extension.
    pub client_auth: Option<bool>,
}

impl Details {
    /// # Errors
    /// The bytes are not a certificate.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "not an X.509 certificate".to_owned())?;
        let usage = certificate.extended_key_usage().ok().flatten();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial().iter().map(|b| format!("{b:02x}")).collect(),
            names: names(&certificate),
            not_before: moment(certificate.validity().not_before.timestamp()),
            not_after: moment(certificate.validity().not_after.timestamp()),
            key: key(&certificate),
            fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
            is_ca: certificate.is_ca(),
            client_auth: usage.map(|usage| usage.value.client_auth || usage.value.any),
        })
    }

    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }

    /// The common name alone when there is one, else the whole subject.
    pub fn short_subject(&self) -> &str {
        common_name(&self.subject)
    }
}

/// The CN of a distinguished name in text form, else all of it.
pub fn common_name(subject: &str) -> &str {
    subject.split(", ").find_map(|part| part.strip_prefix("CN=")).unwrap_or(subject)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `2027-01-31T12:00:00Z`.
pub fn date(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

fn moment(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => UNIX_EPOCH,
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::RFC822Name(mail) => Some((*mail).to_owned()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let spki = certificate.public_key();
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "EC P-256".to_owned(),
            384 => "EC P-384".to_owned(),
            521 | 528 => "EC P-521".to_owned(),
            bits => format!("EC {bits}"),
        },
        _ if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => spki.algorithm.algorithm.to_id_string(),
    }
}
