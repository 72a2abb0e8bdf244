//! One agent: asked once, or followed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Update;
use super::wire::{self, EMPTY_REQUEST};

/// An agent answers at once what it has.
const ANSWERING: Duration = Duration::from_secs(5);
/// Between two attempts to reach an agent that is gone; doubled each time.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub struct Agent {
    socket: PathBuf,
    latest: ArcSwapOption<Update>,
}

/// Why an agent gave nothing; and the mend.
#[derive(Clone, Debug)]
pub struct AgentError {
    pub message: String,
    pub help: String,
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What happens while an agent is followed.
pub enum Event {
    /// It sent something new, which is [`Agent::latest`] now.
    Renewed,
    /// It cannot be reached any more. Told once; the attempts go on.
    Gone(AgentError),
    /// It can again, and what it sent may be new.
    Back,
}

impl Agent {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, latest: ArcSwapOption::empty() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it sent last.
    pub fn latest(&self) -> Option<Arc<Update>> {
        self.latest.load_full()
    }

    /// What it sent last; asked for if there is nothing yet.
    ///
    /// # Errors
    /// It cannot be reached, or has nothing for this process.
    pub async fn ready(&self) -> Result<Arc<Update>, AgentError> {
        if let Some(latest) = self.latest() {
            return Ok(latest);
        }
        let mut call = Call::open(&self.socket).await?;
        let update = timeout(ANSWERING, call.next()).await.map_err(|_| self.silent())??;
        let update = Arc::new(update);
        self.latest.store(Some(update.clone()));
        Ok(update)
    }

    fn silent(&self) -> AgentError {
        AgentError {
            message: format!("the SPIFFE agent at {} did not answer within {ANSWERING:?}", self.socket.display()),
            help: "look into its log".to_owned(),
        }
    }

    /// Remembers an update. Is it new?
    fn keep(&self, update: Update) -> bool {
        let new = self.latest().is_none_or(|latest| *latest != update);
        if new {
            self.latest.store(Some(Arc::new(update)));
        }
        new
    }
}

/// Takes what an agent sends. One that is gone is looked for again, after pauses that grow to half a minute.
pub struct Follower {
    agent: Arc<Agent>,
    call: Option<Call>,
    pause: Duration,
    away: bool,
}

impl Follower {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, call: None, pause: PAUSE, away: false }
    }

    /// The next event; most of the time there is none.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.update().await {
                Ok(update) => {
                    self.pause = PAUSE;
                    let new = self.agent.keep(update);
                    if std::mem::take(&mut self.away) {
                        return Event::Back;
                    }
                    if new {
                        return Event::Renewed;
                    }
                }
                Err(error) => {
                    self.call = None;
                    if !std::mem::replace(&mut self.away, true) {
                        return Event::Gone(error);
                    }
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn update(&mut self) -> Result<Update, AgentError> {
        let call = match &mut self.call {
            Some(call) => call,
            None => self.call.insert(Call::open(&self.agent.socket).await?),
        };
        call.next().await
    }
}

/// A running call of `FetchX509SVID`, whose answer never ends by itself.
struct Call {
    socket: PathBuf,
    answer: Incoming,
    /// Bytes that are not yet a whole message.
    buffer: BytesMut,
    connection: AbortHandle,
    /// The connection ends with its last sender.
    _sender: http2::SendRequest<Full<Bytes>>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Call {
    async fn open(socket: &Path) -> Result<Self, AgentError> {
        match timeout(ANSWERING, Self::ask(socket)).await {
            Ok(call) => call,
            Err(_) => Err(error(socket, format!("did not answer within {ANSWERING:?}"), "look into its log")),
        }
    }

    async fn ask(socket: &Path) -> Result<Self, AgentError> {
        let stream = UnixStream::connect(socket).await.map_err(|cause| {
            let why = match cause.kind() {
                std::io::ErrorKind::NotFound => "cannot be reached: there is no such socket".to_owned(),
                std::io::ErrorKind::ConnectionRefused => "cannot be reached: nobody listens there".to_owned(),
                _ => format!("cannot be reached: {cause}"),
            };
            error(socket, why, "is it running, and is `socket:` (or SPIFFE_ENDPOINT_SOCKET) its Workload API?")
        })?;
        let broken = |cause: hyper::Error| {
            error(socket, format!("does not speak HTTP/2: {cause}"), "is this the socket of its Workload API?")
        };
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        })
        .abort_handle();
        let request = Request::post("http://localhost/SpiffeWorkloadAPI/FetchX509SVID")
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            // Asked for by the Workload API §3, against requests that a browser or proxy was made to send.
            .header("workload.spiffe.io", "true")
            .body(Full::new(Bytes::from_static(EMPTY_REQUEST)))
            .expect("a constant request is well formed");
        let answer = sender.send_request(request).await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(error(
                socket,
                format!("answers with status {}", answer.status()),
                "is this the socket of its Workload API?",
            ));
        }
        // An answer that is over at once has its status among the headers.
        if let Some(refused) = refusal(socket, answer.headers()) {
            return Err(refused);
        }
        let answer = answer.into_body();
        Ok(Self { socket: socket.to_owned(), answer, buffer: BytesMut::new(), connection, _sender: sender })
    }

    /// The next update; there may be none for hours.
    async fn next(&mut self) -> Result<Update, AgentError> {
        let broken =
            |why: &str| error(&self.socket, format!("cannot be understood: {why}"), "is this the socket of its Workload API?");
        loop {
            if let Some(message) = wire::next_message(&mut self.buffer).map_err(broken)? {
                return wire::update(&message).map_err(broken);
            }
            match self.answer.frame().await {
                None => return Err(error(&self.socket, "ended the call", "it may be restarting")),
                Some(Err(cause)) => {
                    return Err(error(&self.socket, format!("broke the call off: {cause}"), "it may be restarting"));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(refused) = frame.trailers_ref().and_then(|trailers| refusal(&self.socket, trailers)) {
                            return Err(refused);
                        }
                    }
                },
            }
        }
    }
}

/// What a status of gRPC that is not 0 means here.
fn refusal(socket: &Path, headers: &HeaderMap) -> Option<AgentError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status").filter(|status| *status != "0")?;
    let message = percent_encoding::percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    Some(match status {
        // PERMISSION_DENIED: the Workload API §6.1 has it for a process that is not registered.
        "7" => error(
            socket,
            format!("has no identity for this process: {message}"),
            "register gatepass with it: an entry whose selectors fit this process (with SPIRE: spire-server entry create)",
        ),
        "12" => error(socket, "does not have the X.509 part of the Workload API", "is this the socket of its Workload API?"),
        "14" => error(socket, format!("is not available: {message}"), "it may be starting"),
        other => error(socket, format!("refuses (gRPC status {other}): {message}"), "look into its log"),
    })
}

fn error(socket: &Path, why: impl fmt::Display, help: &str) -> AgentError {
    AgentError { message: format!("the SPIFFE agent at {} {why}", socket.display()), help: help.to_owned() }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
