use super::*;
use crate::tls::out::handshake::note_asked;
use crate::tls::testing::{Ca, client, host, spec};

/// What is said of an alert after a handshake in which this was asked.
fn said(alert: AlertDescription, asked: Option<Asked>, with_identity: bool) -> Failure {
    let mut spec = spec(Ca::root("Root").trust());
    if with_identity {
        spec.identities = vec![Ca::root("People").client("alice").identity()];
    }
    let handshake = Handshake::new();
    if let Some(asked) = asked {
        handshake.watch_now(|| note_asked(asked));
    }
    let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert));
    client(&spec).late_failure(&error, &host("api.test"), &handshake).unwrap()
}

#[test]
fn alerts_about_our_certificate_say_what_was_shown() {
    use AlertDescription as Alert;
    let shown = || Some(Asked::Shown("alice".to_owned()));
    for (alert, name, hint) in [
        (Alert::CertificateRequired, "certificate_required", "log"),
        (Alert::BadCertificate, "bad_certificate", "log"),
        (Alert::CertificateUnknown, "certificate_unknown", "log"),
        (Alert::CertificateExpired, "certificate_expired", "renew"),
        (Alert::CertificateRevoked, "certificate_revoked", "revoked"),
        (Alert::UnknownCA, "unknown_ca", "does not know its issuer"),
        (Alert::HandshakeFailure, "handshake_failure", "log"),
        (Alert::AccessDenied, "access_denied", "log"),
    ] {
        let failure = said(alert, shown(), true);
        assert_eq!(failure.cause, Cause::TlsAlert);
        assert!(failure.details.contains("refused the client certificate \"alice\""), "{failure}");
        assert!(failure.details.contains(name) && failure.hint.unwrap().contains(hint), "{name}");
        let failure = said(alert, Some(Asked::Nothing { unfit: false }), false);
        assert!(failure.details.contains("no rule names one"), "{failure}");
        let failure = said(alert, Some(Asked::Nothing { unfit: true }), true);
        assert!(failure.details.contains("none of those configured"), "{failure}");
    }
}

#[test]
fn a_certificate_that_was_never_asked_for_is_pointed_out() {
    let failure = said(AlertDescription::HandshakeFailure, None, true);
    assert_eq!(failure.cause, Cause::TlsProtocol);
    assert!(failure.hint.unwrap().contains("never asked for it in the handshake"));
    let failure = said(AlertDescription::HandshakeFailure, None, false);
    assert!(failure.hint.unwrap().contains("RSA key exchange"));
    let failure = said(AlertDescription::HandshakeFailure, Some(Asked::Resumed), true);
    assert!(failure.hint.unwrap().contains("backend: openssl"));
}

#[test]
fn other_alerts_name_the_setting_that_mends_them() {
    for (alert, hint) in [
        (AlertDescription::ProtocolVersion, "min_version"),
        (AlertDescription::NoApplicationProtocol, "alpn"),
        (AlertDescription::UnrecognisedName, "server_name"),
    ] {
        let failure = said(alert, None, false);
        assert_eq!(failure.cause, Cause::TlsProtocol);
        assert!(failure.hint.unwrap().contains(hint));
    }
}

#[test]
fn a_tls_error_is_found_inside_others() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);
    let inner = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(AlertDescription::UnknownCA));
    let wrapped = Outer(io::Error::other(inner));
    assert!(matches!(find(&wrapped), Some(Error::AlertReceived(AlertDescription::UnknownCA))));
    let (host, client) = (host("api.test"), client(&spec(Ca::root("Root").trust())));
    assert!(client.late_failure(&wrapped, &host, &Handshake::new()).is_some());
    assert!(find(&io::Error::other("else")).is_none());
}

#[test]
fn the_want_of_a_certificate_is_read_from_the_alert_and_not_from_what_is_said() {
    let failed = |error: Error| {
        let failure = Failure::new(Cause::ConnectionRefused, "no tunnel");
        wants_certificate(&failure.caused_by(io::Error::other(error)))
    };
    assert!(failed(Error::AlertReceived(AlertDescription::CertificateRequired)));
    assert!(failed(Error::AlertReceived(AlertDescription::UnknownCA)));
    assert!(!failed(Error::AlertReceived(AlertDescription::HandshakeFailure)));
    assert!(!failed(Error::DecryptError));
    let said = Failure::new(Cause::ConnectionRefused, "received fatal alert: CertificateRequired");
    assert!(!wants_certificate(&said));
}
