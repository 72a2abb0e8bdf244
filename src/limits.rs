//! Every bound, with its default and its reason. `limits:` in the config sets them by these names.

use std::time::Duration;

/// How a limit is written in the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// `10s`, `5m`, `250ms`.
    Time,
    /// `64KiB`, `1MiB`, or a plain number of bytes.
    Size,
    /// A plain number.
    Count,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $unit:ident = $default:expr;)+) => {
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Limits { $($(#[doc = $doc])+ pub $name: limits!(@type $unit),)+ }

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)+ } }
        }

        impl Limits {
            /// Name, unit, default as text, reason: for the schema, the docs and unknown-key hints.
            pub fn table() -> Vec<(&'static str, Unit, String, String)> {
                let d = Self::default();
                vec![$((stringify!($name), Unit::$unit, limits!(@show $unit d.$name), concat!($($doc),+).trim().to_owned()),)+]
            }

            /// Sets one limit by name. `value` is milliseconds, bytes or a count, by the limit's unit.
            /// False when there is no such limit.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = limits!(@from $unit value),)+
                    _ => return false,
                }
                true
            }
        }
    };
    (@type Time) => { Duration };
    (@type Size) => { usize };
    (@type Count) => { usize };
    (@from Time $v:ident) => { Duration::from_millis($v) };
    (@from Size $v:ident) => { usize::try_from($v).unwrap_or(usize::MAX) };
    (@from Count $v:ident) => { usize::try_from($v).unwrap_or(usize::MAX) };
    (@show Time $v:expr) => { show_time($v) };
    (@show Size $v:expr) => { show_size($v) };
    (@show Count $v:expr) => { $v.to_string() };
}

limits! {
    /// Client connections held at once, each for its whole life: also as a tunnel, SOCKS connection or WebSocket. Further ones wait in the kernel's queue. Below the usual descriptor limit, two per exchange.
    connections: Count = 16_384;
    /// Of those, connections of callers that a listener with `cidrs`, `uids` or `same_user` does not know by these; at most half. Further ones are closed: what strangers open takes no place from those that may call.
    strangers: Count = 1_024;
    /// Time for the first byte, a ClientHello or a protocol preface.
    first_byte: Time = Duration::from_secs(10);
    /// Time for a whole TLS handshake, either side.
    tls_handshake: Time = Duration::from_secs(10);
    /// Time for a whole request head from the client.
    request_head: Time = Duration::from_secs(30);
    /// Time for name resolution and connecting, per attempt at one host; and for an HTTP/2 origin to allow a first request, where its settings allow none.
    connect: Time = Duration::from_secs(10);
    /// An address that the system's resolver found is used again for this long; it tells no TTL. `0s`: never.
    dns_keep: Time = Duration::from_secs(5);
    /// Names whose addresses are kept.
    dns_names: Count = 4_096;
    /// Time for one run of a PAC script, with the names it looks up.
    pac_time: Time = Duration::from_secs(5);
    /// Memory that one run of a PAC script may take.
    pac_memory: Size = 32 * 1024 * 1024;
    /// What a PAC script said for an origin holds for this long; it may depend on time and names.
    pac_keep: Time = Duration::from_secs(60);
    /// A PAC script that has a URL is fetched anew after this.
    pac_refresh: Time = Duration::from_secs(900);
    /// A proxy that could not be reached comes last among those a PAC script names, for this long.
    pac_retry: Time = Duration::from_secs(300);
    /// Time from the last byte of the request, its body included, to the head of the answer. Generous, since long polling is legitimate.
    response_head: Time = Duration::from_secs(300);
    /// An upstream connection on which nothing comes for this long is asked for a sign of life: by TCP keep-alive, and by PING where HTTP/2 streams are open on it. `0s`: never.
    keep_alive: Time = Duration::from_secs(15);
    /// An upstream connection is given up when what was sent (data, a keep-alive probe, a PING) stays without any acknowledgement for this long.
    keep_alive_timeout: Time = Duration::from_secs(15);
    /// An exchange ends when for this long its body does not move: a request's on its way in, an answer's of known length on its way from the origin, either's on its way to a peer that does not read. An answer without a length may be silent by nature and has `tunnel_idle`, as has a gRPC request.
    stall: Time = Duration::from_secs(300);
    /// Time for an origin to say `100 Continue` to a client that waits for it; then the body leaves unasked. As long as curl waits; origins that ignore the question cost an upload this much.
    continue_wait: Time = Duration::from_secs(1);
    /// After an answer that comes before the end of the request, and at the end of a connection, what the client still sends is read and thrown away for this long, so that it reads the answer and no reset.
    linger: Time = Duration::from_secs(5);
    /// And up to this size.
    linger_bytes: Size = 8 * 1024 * 1024;
    /// A client connection without a request in flight is closed after this.
    idle: Time = Duration::from_secs(300);
    /// A tunnel or WebSocket without a byte either way is closed after this. Long, since what is in it is not ours to judge.
    tunnel_idle: Time = Duration::from_secs(3600);
    /// A kept upstream connection is closed after this long unused, or a second before the origin's `Keep-Alive: timeout` ends. Shorter than what servers usually keep.
    upstream_idle: Time = Duration::from_secs(60);
    /// Unused upstream connections of HTTP/1.1 kept for one origin and way out. Of HTTP/2 connections that carry nothing, one is.
    upstream_idle_connections: Count = 64;
    /// Time from SIGTERM, when `/ready` begins to say 503, to when no more connections are accepted: for load balancers that are slow to notice.
    drain_delay: Time = Duration::ZERO;
    /// Time for exchanges, tunnels and WebSockets to end, from when no more connections are accepted; what is left then is cut and counted, a WebSocket with a Close frame (1001).
    grace: Time = Duration::from_secs(20);
    /// Fields in one header block.
    headers: Count = 100;
    /// Bytes in one header block.
    header_bytes: Size = 64 * 1024;
    /// Concurrent HTTP/2 streams on one client connection.
    h2_streams: Count = 100;
    /// HTTP/2 flow-control window of one stream.
    h2_stream_window: Size = 256 * 1024;
    /// HTTP/2 flow-control window of one connection.
    h2_connection_window: Size = 1024 * 1024;
    /// What is kept of one body in one place for a peer that does not read: an HTTP/2 stream's send buffer, either side; an HTTP/1 connection's buffers have at least a header block.
    stream_buffer: Size = 64 * 1024;
    /// A body that must be read before it is sent is held in memory up to this size.
    body_hold: Size = 1024 * 1024;
    /// Beyond `body_hold` it goes to an unlinked temporary file up to this size, then 413.
    body_spill: Size = 256 * 1024 * 1024;
    /// All such files together; what finds no room gets 503.
    body_spill_total: Size = 2 * 1024 * 1024 * 1024;
    /// The end of a piece of an answer that may be the beginning of a credential which the answer repeats (`echo: mask`) waits this long for the next piece.
    echo_hold: Time = Duration::from_millis(250);
    /// Minted leaves kept.
    leaves: Count = 4_096;
    /// Plans kept, one per origin and caller.
    plans: Count = 8_192;
    /// TLS sessions kept for resumption by one way out.
    tls_sessions: Count = 256;
    /// Time for one request to a token endpoint and its answer.
    credential_fetch: Time = Duration::from_secs(30);
    /// Output taken from a credential helper or a command that prints a secret, or answer from a token endpoint.
    helper_output: Size = 1024 * 1024;
    /// Largest configuration, certificate, key or secret file.
    file: Size = 16 * 1024 * 1024;
    /// Connections to the admin address held at once; further ones wait in the kernel's queue.
    admin_connections: Count = 64;
    /// Access-log lines waiting to be written; more are dropped and counted.
    log_queue: Count = 8_192;
}

impl Limits {
    /// What hyper may keep of an HTTP/1 connection each way; the largest header block and its request line must fit.
    pub fn h1_buffer(&self) -> usize {
        self.stream_buffer.max(self.header_bytes.saturating_add(16 * 1024))
    }
}

fn show_time(d: Duration) -> String {
    match (d.as_secs(), d.subsec_millis()) {
        (s, 0) if s >= 60 && s.is_multiple_of(60) => format!("{}m", s / 60),
        (s, 0) => format!("{s}s"),
        _ => format!("{}ms", d.as_millis()),
    }
}

fn show_size(n: usize) -> String {
    match n {
        n if n >= 1 << 30 && n.is_multiple_of(1 << 30) => format!("{}GiB", n >> 30),
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{}MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{}KiB", n >> 10),
        n => n.to_string(),
    }
}
