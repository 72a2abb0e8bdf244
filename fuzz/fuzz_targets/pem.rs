#![no_main]
//! Certificate and key files are hostile until read.
use gatepass::tls::formats::{inspect, pem, pfx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = pem::read(bytes);
    let _ = inspect::certificates(bytes);
    let _ = pfx::open(bytes, Some("passphrase"));
});
