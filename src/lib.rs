//! gatepass: a local forward proxy that adds client certificates and credentials by host.
//!
//! This file is the map. Modules stand in the order in which a request meets them, and a module
//! uses only what stands below it; `tests/tidy.rs` reads the `use` lines and holds that. The
//! journey of one request through these rooms is told in `docs/architecture.md`.

// Blank lines keep rustfmt from sorting the map by name.

/// Commands; the only place that prints.
pub mod cli;

/// Bind, run, reload, drain; the only place that starts long-lived tasks.
pub mod serve;

/// Accept connections, learn where they want to go, take TLS off or relay.
pub mod listen;

/// One request and its answer: inbound, plan, sign, send, answer.
pub mod exchange;

/// Everything live in one immutable snapshot: origin, path, method and client to a plan.
pub mod gate;

/// The configuration: its document to `Config`, or a report of every mistake with its place.
pub mod config;

/// One file per authentication scheme, and the table of them.
pub mod auth;

/// Where secrets come from that the configuration only names.
pub mod secrets;

/// Cookies, and the jar that keeps them.
pub mod cookie;

/// One way out: identity, trust, TLS settings, via, and a pool of its own.
pub mod upstream;

/// The only place where TLS configurations are made.
pub mod tls;

/// Certificates and trust that an agent on this machine hands out: the SPIFFE Workload API.
pub mod workload;

/// What is told of an exchange, and to whom.
pub mod observe;

/// Answers to challenges: what proves the user to an origin or a proxy.
pub mod challenge;

// Words that everything above may use. Each uses only the words below it.

/// What is known, or what somebody can be asked for: a secret, a token, the keys of AWS.
pub mod provided;

/// What is fetched when it is needed, and kept for as long as it lives.
pub mod cached;

/// Known texts swapped for others in what streams by.
pub mod replace;

/// A request being prepared.
pub mod draft;

/// Which hosts, ports, paths a rule speaks of.
pub mod pattern;

/// Which web page is behind a request, and what it may have.
pub mod initiator;

/// Scheme, host and port, strictly parsed.
pub mod origin;

/// What an IP address is, and which others stand in it.
pub mod address;

/// Why gatepass answered a request itself.
pub mod failure;

/// Every bound, with its default and its reason.
pub mod limits;

/// Text to values: YAML to a tree with places, the tree to values, mistakes to a report.
pub mod settings;

/// The only door to the file system.
pub mod files;

/// Clock and randomness, real or pinned.
pub mod moment;

/// Text that is never printed.
pub mod secret;
