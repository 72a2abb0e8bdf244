#![no_main]
//! Patterns never panic, and the index agrees with asking each pattern.
use gatepass::origin::Host;
use gatepass::pattern::{HostIndex, HostPattern, PathPattern, Ports};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (&str, &str)| {
    let (pattern, host) = parts;
    let _ = (PathPattern::parse(pattern), Ports::parse(pattern));
    let (Ok(patterns), Ok(host)) = (HostPattern::parse(pattern), Host::parse(host)) else { return };
    let index = HostIndex::new(std::iter::once(patterns.as_slice()));
    assert_eq!(!index.matches(&host).is_empty(), patterns.iter().any(|p| p.matches(&host)));
});
