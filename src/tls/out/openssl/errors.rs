//! OpenSSL's errors as the ones that rustls would have had, so that they are told in the same words.

use std::io;

use openssl::error::ErrorStack;
use openssl::ssl;
use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

/// Of ERR_LIB_SSL; reasons above this are alerts received (SSL_AD_REASON_OFFSET).
const SSL_LIBRARY: i32 = 20;
const ALERTS: i32 = 1000;

/// Why a handshake or a read failed; the I/O error where it was the socket's.
pub fn from_ssl(error: ssl::Error) -> io::Error {
    if let Some(stack) = error.ssl_error() {
        return from_stack(stack);
    }
    error.into_io_error().unwrap_or_else(|_| io::ErrorKind::UnexpectedEof.into())
}

/// As [`from_ssl`], for an error that went through `tokio-openssl`.
pub fn from_io(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ssl::Error>());
    match inner.map(|inner| (inner.ssl_error(), inner.io_error())) {
        None => error,
        Some((Some(stack), _)) => from_stack(stack),
        Some((None, Some(io))) => io.kind().into(),
        Some((None, None)) => io::ErrorKind::UnexpectedEof.into(),
    }
}

fn from_stack(stack: &ErrorStack) -> io::Error {
    let ours = stack.errors().iter().filter(|error| error.library_code() == SSL_LIBRARY);
    for error in ours {
        let alert = error.reason_code().checked_sub(ALERTS).and_then(|code| u8::try_from(code).ok());
        let tls = match (alert, error.reason()) {
            (Some(alert), _) => Error::AlertReceived(AlertDescription::from(alert)),
            (_, Some("unexpected eof while reading")) => return io::ErrorKind::UnexpectedEof.into(),
            (_, Some("wrong version number" | "packet length too long" | "http request")) => {
                InvalidMessage::InvalidContentType.into()
            }
            (_, Some("unsupported protocol" | "version too low")) => {
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into()
            }
            _ => continue,
        };
        return io::Error::new(io::ErrorKind::InvalidData, tls);
    }
    let reason = stack.errors().iter().find_map(openssl::error::Error::reason).unwrap_or("no reason given");
    io::Error::new(io::ErrorKind::InvalidData, Error::General(reason.to_owned()))
}
