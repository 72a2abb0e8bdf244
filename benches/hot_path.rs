//! What a request costs inside: finding its plan among many rules, deciding, signing, minting a leaf.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use gatepass::config::Request;
use gatepass::gate::{Caller, Gate};
use gatepass::origin::{Host, Origin, Scheme};
use gatepass::serve;
use gatepass::tls::intercept::authority::Authority;
use http::Method;

fn gate(rules: usize) -> Gate {
    let mut yaml = String::from("rules:\n");
    for n in 0..rules - 1 {
        yaml.push_str(&format!("  - host: h{n}.example\n    bearer: t\n"));
    }
    yaml.push_str("  - host: '*.goal.example'\n    bearer: t\n");
    let request = Request {
        inline: Some(("bench.yaml".to_owned(), yaml, PathBuf::new())),
        ca_in_memory: true,
        auth_types: gatepass::auth::types(),
        ..Request::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Ok(built) = runtime.block_on(serve::build(&request)) else { panic!("the configuration is good") };
    built.gate
}

fn plans(c: &mut Criterion) {
    for rules in [10, 1_000, 10_000] {
        let gate = gate(rules);
        let origin = Arc::new(Origin::new(Scheme::Https, Host::parse("api.goal.example").unwrap(), 443));
        let caller = Caller::default();
        c.bench_function(&format!("known plan and decision, {rules} rules"), |b| {
            b.iter(|| gate.plan(&origin, &caller).decide(&gate, &Method::GET, "/v1").unwrap());
        });
        c.bench_function(&format!("candidates of a new origin, {rules} rules"), |b| b.iter(|| gate.candidates(&origin)));
    }
}

fn leaves(c: &mut Criterion) {
    let authority = Authority::in_memory();
    let host = Host::parse("api.example.com").unwrap();
    c.bench_function("leaf, known", |b| b.iter(|| authority.server_config(&host, true)));
    let mut n = 0;
    c.bench_function("leaf, minted", |b| {
        b.iter(|| {
            n += 1;
            authority.server_config(&Host::parse(&format!("h{n}.example")).unwrap(), true)
        });
    });
}

criterion_group!(benches, plans, leaves);
criterion_main!(benches);
