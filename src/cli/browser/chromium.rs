//! Chromium and its kin: everything is said in arguments.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Wish;

pub fn arguments(wish: &Wish<'_>) -> Vec<String> {
    let spki = BASE64_STANDARD.encode(wish.ca_key);
    let mut arguments = vec![
        format!("--user-data-dir={}", wish.profile.display()),
        format!("--proxy-server=http://{}", wish.proxy),
        // Else loopback hosts would pass it by.
        "--proxy-bypass-list=<-loopback>".to_owned(),
        // Our CA's key, and nobody else's.
        format!("--ignore-certificate-errors-spki-list={spki}"),
        // QUIC would pass it by too.
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--no-default-browser-check".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
    ];
    if wish.headless {
        arguments.extend(["--headless".to_owned(), "--disable-gpu".to_owned()]);
    }
    if wish.root {
        eprintln!("gatepass: as root the browser runs without its sandbox; run as another user to have it");
        arguments.push("--no-sandbox".to_owned());
    }
    arguments
}
