#![no_main]
//! What is accepted as a destination is canonical: it reads back as itself.
use gatepass::origin::{Host, parse_authority};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok((host, _)) = parse_authority(text) {
        assert_eq!(Host::parse(&host.to_string()), Ok(host));
    }
    let _ = Host::parse_written(text);
});
