#![no_main]
//! No text makes loading panic, or its report.
use gatepass::config::{Request, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let request = Request { inline: Some(("f.yaml".to_owned(), text.to_owned(), "/nowhere".into())), auth_types: gatepass::auth::types(), ..Request::default() };
    let loaded = load(&request);
    let _ = (loaded.report.render(true), loaded.report.json());
});
