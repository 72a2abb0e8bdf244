//! Origin-form requests to the proxy port: a page, the PAC file, the CA, and nothing else.

use crate::support::*;

const YAML: &str = "rules:\n  - host: ['*.corp.example', api.example]\n    bearer: s3cret-token\n";

#[tokio::test]
async fn the_page_the_pac_file_and_the_ca_are_served_without_secrets() {
    let gatepass = Gatepass::start(YAML, &[]).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8118\r\n\r\n");
    let page = gatepass.ask(&get("/")).await;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("gatepass is running") && page.contains("content-security-policy"),
        "{page}"
    );
    let pac = gatepass.ask(&get("/proxy.pac")).await;
    assert!(
        pac.contains("dnsDomainIs(host, \".corp.example\")")
            && pac.contains("host === \"api.example\"")
            && pac.contains("return \"DIRECT\""),
        "{pac}"
    );
    assert!(pac.contains("PROXY 127.0.0.1:8118"), "{pac}");
    let ca = gatepass.ask(&get("/ca.pem")).await;
    assert!(ca.contains("-----BEGIN CERTIFICATE-----") && !ca.contains("PRIVATE"), "{ca}");
    for text in [page, pac, ca] {
        assert!(!text.contains("s3cret-token"));
    }
    assert_eq!(status(&gatepass.ask(&get("/admin")).await), 404);
}

#[tokio::test]
async fn a_foreign_name_pointed_at_the_port_reads_nothing() {
    let gatepass = Gatepass::start(YAML, &[]).await;
    for path in ["/", "/proxy.pac", "/ca.pem"] {
        let answer = gatepass.ask(&format!("GET {path} HTTP/1.1\r\nHost: rebound.evil\r\n\r\n")).await;
        assert_eq!(status(&answer), 421, "{answer}");
    }
}
