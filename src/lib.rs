//! gatepass: a local forward proxy that adds client certificates and credentials by host.
//!
//! Most people run it as a program (`README.md`). Inside another program, it is [`Gatepass`], made by a [`Builder`]; the
//! [`Handle`] of one that serves has its addresses and its CA, and stops it:
//!
//! ```
//! use gatepass::Gatepass;
//! use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A server that answers with the `Authorization` it was sent.
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let address = server.local_addr()?;
//! tokio::spawn(async move {
//!     let (stream, _) = server.accept().await?;
//!     let (mut stream, mut sent) = (BufReader::new(stream), String::new());
//!     while !sent.ends_with("\r\n\r\n") {
//!         stream.read_line(&mut sent).await?;
//!     }
//!     let seen = sent.lines().find(|line| line.starts_with("authorization")).unwrap_or("nothing");
//!     let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}", seen.len());
//!     stream.write_all(answer.as_bytes()).await
//! });
//!
//! let yaml = format!(
//!     "rules:
//!       - host: api.test
//!         scheme: http
//!         connect_to: {address}
//!         bearer: ${{API_TOKEN}}
//!     "
//! );
//! let gatepass = Gatepass::from_yaml(yaml).listen("127.0.0.1:0").env("API_TOKEN", "t0k").build().await?;
//! let handle = gatepass.start().await?;
//!
//! // The client knows no token.
//! let mut client = TcpStream::connect(handle.addresses()[0]).await?;
//! client.write_all(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("authorization: Bearer t0k"));
//!
//! handle.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The other modules are public for the tests, the benchmarks and the fuzz targets, and change without notice.
//!
//! This file is the map. Modules stand in the order in which a request meets them, and a module
//! uses only what stands below it; `tests/tidy.rs` reads the `use` lines and holds that. The
//! journey of one request through these rooms is told in `docs/architecture.md`.

// Blank lines keep rustfmt from sorting the map by name. What each room is for is said here in a comment, since a doc comment
// would have the links of the room's own page looked up from here.

// Commands; the only place that prints.
pub mod cli;

// gatepass inside another program.
pub mod embed;

// Bind, run, reload, drain; the only place that starts long-lived tasks.
pub mod serve;

// Accept connections, learn where they want to go, take TLS off or relay.
pub mod listen;

// One request and its answer: inbound, plan, sign, send, answer.
pub mod exchange;

// Everything live in one immutable snapshot: origin, path, method and client to a plan.
pub mod gate;

// The configuration: its document to `Config`, or a report of every mistake with its place.
pub mod config;

// One file per authentication scheme, and the table of them.
pub mod auth;

// Where secrets come from that the configuration only names.
pub mod secrets;

// Cookies, and the jar that keeps them.
pub mod cookie;

// One way out: identity, trust, TLS settings, via, and a pool of its own.
pub mod upstream;

// The only place where TLS configurations are made.
pub mod tls;

// Certificates and trust that an agent on this machine hands out: the SPIFFE Workload API.
pub mod workload;

// What is told of an exchange, and to whom.
pub mod observe;

// Answers to challenges: what proves the user to an origin or a proxy.
pub mod challenge;

// Words that everything above may use. Each uses only the words below it.

// What is known, or what somebody can be asked for: a secret, a token, the keys of AWS.
pub mod provided;

// What is fetched when it is needed, and kept for as long as it lives.
pub mod cached;

// Known texts swapped for others in what streams by.
pub mod replace;

// A request being prepared.
pub mod draft;

// Which hosts, ports, paths a rule speaks of.
pub mod pattern;

// Which web page is behind a request, and what it may have.
pub mod initiator;

// Scheme, host and port, strictly parsed.
pub mod origin;

// What an IP address is, and which others stand in it.
pub mod address;

// Why gatepass answered a request itself.
pub mod failure;

// Every bound, with its default and its reason.
pub mod limits;

// Text to values: YAML to a tree with places, the tree to values, mistakes to a report.
pub mod settings;

// The only door to the file system.
pub mod files;

// Clock and randomness, real or pinned.
pub mod moment;

// Text that is never printed.
pub mod secret;

pub use embed::{Builder, Gatepass, Handle};
