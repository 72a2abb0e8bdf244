//! The same servers met by both backends. What needs a server that renegotiates is in tests/real.

use std::sync::Arc;

use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::tls::formats::inspect;
use crate::tls::out::client::Client;
use crate::tls::out::client_spec::ClientSpec;
use crate::tls::out::handshake::Asked;
use crate::tls::settings::{Alpn, TlsBackend, TlsVersion};
use crate::tls::testing::*;

const BOTH: &[Alpn] = &[Alpn::H2, Alpn::Http11];
const ONLY_12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

fn openssl(mut spec: ClientSpec, change: impl FnOnce(&mut ClientSpec)) -> Client {
    spec.settings.backend = Some(TlsBackend::Openssl);
    change(&mut spec);
    client(&spec)
}

struct Met {
    alpn: Option<Alpn>,
    asked: Asked,
    seen: Option<String>,
    kind: Option<HandshakeKind>,
}

/// Both sides write and read 300,000 bytes, in pieces that fit no record.
async fn meet(client: &Client, name: &str, server: Arc<ServerConfig>) -> Result<Met, String> {
    let (near, far) = tokio::io::duplex(1000);
    let bulk = vec![7; 300_000];
    let sent = bulk.clone();
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await.ok()?;
        let (_, connection) = stream.get_ref();
        let kind = connection.handshake_kind();
        let seen = connection.peer_certificates().and_then(|chain| inspect::Details::read(&chain[0]).ok()?.common_name);
        let mut read = vec![0; sent.len()];
        stream.read_exact(&mut read).await.ok()?;
        stream.write_all(&read).await.ok()?;
        stream.flush().await.ok()?;
        stream.shutdown().await.ok()?;
        Some((seen, kind))
    });
    let host = host(name);
    let mut secured = client.connect(near, &host, BOTH).await.map_err(|failure| failure.to_string())?;
    let told = |error: std::io::Error| client.failure(&error, &host, &secured.handshake).to_string();
    secured.stream.write_all(&bulk).await.map_err(told)?;
    secured.stream.flush().await.map_err(told)?;
    let mut back = Vec::new();
    secured.stream.read_to_end(&mut back).await.map_err(told)?;
    assert!(back == bulk, "{} bytes came back", back.len());
    let (seen, kind) = serving.await.unwrap().expect("the server had no error either");
    Ok(Met { alpn: secured.alpn, asked: secured.handshake.asked(), seen, kind })
}

#[tokio::test]
async fn refusals_are_told_in_the_same_words() {
    let ca = Ca::root("Root");
    let mut old = params("api.test", &["api.test"]);
    old.not_before = (std::time::SystemTime::now() - 9 * DAY).into();
    old.not_after = (std::time::SystemTime::now() - 2 * DAY).into();
    let sub = Ca::root("Corp Root").intermediate("Corp Sub");
    let people = Ca::root("People");
    for shown in [
        server(&ca.issue(&old), &[]),
        server(&ca.issue(&params("x", &["a.test", "b.test"])), &[]),
        server(&ca.issue(&params("api.test", &[])), &[]),
        server(&sub.server("api.test"), &[]),
        server(&Ca::root("Root").server("api.test"), &[]),
        server(&self_signed(&params("api.test", &["api.test"])), &[]),
        server_with(&ca.server("api.test"), &[&people], ONLY_12),
        server(&ca.server("api.test"), &[&people]),
    ] {
        let plain = refusal(&client(&spec(ca.trust())), "api.test", shown.clone()).await;
        let other = refusal(&openssl(spec(ca.trust()), |_| {}), "api.test", shown.clone()).await;
        assert_eq!(other, plain);
        let stranger = Ca::root("Strangers").client("mallory").identity();
        let wrong = |spec: &mut ClientSpec| {
            spec.identities = vec![stranger.clone()];
            spec.settings.max_version = Some(TlsVersion::V1_3);
        };
        let mut rustls = spec(ca.trust());
        wrong(&mut rustls);
        let plain = refusal(&client(&rustls), "api.test", shown.clone()).await;
        assert_eq!(refusal(&openssl(spec(ca.trust()), wrong), "api.test", shown).await, plain);
    }
}

#[tokio::test]
async fn the_client_certificate_is_shown_when_asked_for_and_no_session_is_resumed() {
    let ca = Ca::root("Root");
    let people = Ca::root("People").intermediate("Staff");
    let issued = ca.server("api.test");
    for max in [None, Some(TlsVersion::V1_3)] {
        let knowing = openssl(spec(ca.trust()), |spec| {
            spec.identities = vec![people.client("alice").identity()];
            spec.settings.max_version = max;
        });
        let asking = server(&issued, &[&people]);
        for _ in 0..2 {
            let met = meet(&knowing, "api.test", asking.clone()).await.unwrap();
            assert_eq!((met.seen.as_deref(), met.kind), (Some("alice"), Some(HandshakeKind::Full)));
            assert_eq!(met.asked, if max.is_none() { Asked::Shown("alice".to_owned()) } else { Asked::Unseen });
            assert_eq!(met.alpn, Some(Alpn::Http11), "HTTP/2 forbids what this backend is for");
        }
        let met = meet(&knowing, "api.test", server(&issued, &[])).await.unwrap();
        assert_eq!(met.seen, None);
        assert_eq!(met.asked, if max.is_none() { Asked::No } else { Asked::Unseen });
    }
    let h2 = openssl(spec(ca.trust()), |spec| spec.settings.alpn = Some(vec![Alpn::H2]));
    assert_eq!(meet(&h2, "api.test", server(&issued, &[])).await.unwrap().alpn, Some(Alpn::H2));
}

#[tokio::test]
async fn of_several_identities_the_servers_issuers_decide() {
    let ca = Ca::root("Root");
    let [one, two] = ["One", "Two"].map(Ca::root);
    let below_two = two.intermediate("Below Two");
    let identities = vec![one.client("first").identity(), below_two.client("second").identity()];
    let client = openssl(spec(ca.trust()), |spec| spec.identities = identities);
    for (name, cas, who) in [("a.test", &[&one][..], "first"), ("b.test", &[&two], "second"), ("c.test", &[&one, &two], "first")]
    {
        let asking = server(&ca.server(name), cas);
        let met = match meet(&client, name, asking.clone()).await {
            Err(text) if text.contains(super::AGAIN) => meet(&client, name, asking).await,
            met => met,
        };
        assert_eq!(met.unwrap().seen.as_deref(), Some(who));
    }
    let met = meet(&client, "b.test", server(&ca.server("b.test"), &[&two])).await.unwrap();
    assert_eq!(met.seen.as_deref(), Some("second"), "it is remembered");
}

#[tokio::test]
async fn versions_pins_names_and_the_way_out_hold() {
    let ca = Ca::root("Root");
    let issued = ca.server("api.test");
    let with = |change: fn(&mut ClientSpec)| openssl(spec(ca.trust()), change);
    let new = with(|spec| spec.settings.min_version = Some(TlsVersion::V1_3));
    let text = meet(&new, "api.test", server_with(&issued, &[], ONLY_12)).await.err().unwrap();
    assert!(text.contains("TLS version"), "{text}");
    let pinned = with(|spec| spec.settings.pins = Some(vec![[7; 32]]));
    let text = meet(&pinned, "api.test", server(&issued, &[])).await.err().unwrap();
    assert!(text.contains("pins"), "{text}");
    let named = with(|spec| spec.settings.server_name = Some(host("api.test")));
    meet(&named, "outer.test", server(&issued, &[])).await.unwrap();
    let own = self_signed(&params("x", &["x.test"]));
    let careless = with(|spec| spec.accept_invalid_certs = true);
    meet(&careless, "api.test", server(&own, &[])).await.unwrap();
    let addressed = ca.issue(&params("x", &["127.0.0.1"]));
    meet(&with(|_| {}), "127.0.0.1", server(&addressed, &[])).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_and_one_that_hangs_up_are_told_apart() {
    let client = openssl(spec(Ca::root("Root").trust()), |_| {});
    let (near, mut far) = tokio::io::duplex(4096);
    let plain = tokio::spawn(async move {
        let _ = far.read(&mut [0; 1024]).await;
        let _ = far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        far
    });
    let failure = client.connect(near, &host("api.test"), BOTH).await.err().unwrap();
    assert!(failure.to_string().contains("does not speak TLS"), "{failure}");
    drop(plain);
    let (near, far) = tokio::io::duplex(4096);
    drop(far);
    let failure = client.connect(near, &host("api.test"), BOTH).await.err().unwrap();
    assert_eq!(failure.cause, crate::failure::Cause::ConnectionTerminated, "{failure}");
}

#[test]
fn connecting_can_be_done_in_a_task_of_its_own() {
    fn sendable<T: Send>(_: T) {}
    let client = openssl(spec(Ca::root("Root").trust()), |_| {});
    sendable(client.connect(tokio::io::duplex(1).0, &host("api.test"), BOTH));
}
