//! `gatepass sign`: a request's head as it would leave, unredacted. For checking signatures.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Common, Error, explain};
use crate::draft::{Body, BodyTransformFactory, Draft, Held};
use crate::exchange::rounds::{self, Sent, SignedRequest, Transport};
use crate::exchange::{self, Attempts};
use crate::failure::Failure;
use crate::files;
use crate::gate::Caller;
use crate::moment::{Moment, NonceKind};
use crate::upstream::ResponseBody;

#[derive(Args)]
pub struct SignArgs {
    /// The method (GET when left out) and the URL
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// A request header, as `Name: value`
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The request body: text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// Sign as if it were this time (RFC 3339, or seconds since 1970)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Use this text for a random value (cnonce, oauth1, hawk, jti, …)
    #[arg(long, value_name = "KIND=TEXT")]
    nonce: Vec<String>,
    /// Answer this challenge of the server, as its `WWW-Authenticate` field has it; repeatable
    #[arg(long, value_name = "CHALLENGE")]
    challenge: Vec<String>,
    /// Show what the signature was computed over
    #[arg(short, long)]
    verbose: bool,
}

pub async fn run(common: &Common, args: &SignArgs) -> Result<ExitCode, Error> {
    let (method, origin, target) = explain::target(&args.words)?;
    let moment = moment(args)?;
    let built = super::build(&super::request(common)).await?;
    let gate = built.gate;
    let origin = Arc::new(origin);
    let caller = Caller::default();
    let plan = gate.plan(&origin, &caller);
    let fail = super::sign_in::told;
    let decision = plan.decide(&gate, &method, target.path()).map_err(fail)?;
    if decision.rules.is_empty() {
        eprintln!("note: no rule applies to this request");
        for near in gate.near(&origin, &caller, Some((&method, target.path()))) {
            eprintln!("note: {near}");
        }
    }
    let mut request = http::Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, target.into(), headers(&args.headers)?);
    let mut draft = exchange::begin(request.into_parts().0, &plan).map_err(fail)?;
    draft.body = body(args.data.as_deref())?;
    exchange::apply(&mut draft, &gate, &decision).await.map_err(fail)?;
    let mut attempts = Attempts::new(&decision, &draft, &caller, moment).map_err(fail)?;
    let challenge = (!args.challenge.is_empty()).then(|| challenges(&args.challenge)).transpose()?;
    let mut dry_run = DryRun { challenge, draft: None };
    rounds::run(&mut dry_run, &mut attempts, draft).await.map_err(fail)?;
    let draft = dry_run.draft.ok_or_else(|| Error::new("this challenge is none that the credential of these rules answers"))?;
    if args.challenge.is_empty() {
        tell_unasked(&attempts, &draft);
    }
    print!("{}", head(&draft));
    if args.verbose {
        for text in attempts.canonical(&draft) {
            println!("\n--- canonical\n{text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends nothing: what would leave is kept, to be shown.
struct DryRun {
    /// What the server is to answer first.
    challenge: Option<HeaderMap>,
    draft: Option<Draft>,
}

impl Transport for DryRun {
    async fn send(&mut self, request: SignedRequest) -> Result<Sent, Failure> {
        let mut response = Response::new(ResponseBody::empty());
        match self.challenge.take() {
            Some(challenge) => {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                *response.headers_mut() = challenge;
            }
            None => {
                let SignedRequest { mut draft, transforms, .. } = request;
                transform(&mut draft, &transforms)?;
                self.draft = Some(draft);
            }
        }
        Ok(Sent::Answered(response))
    }

    fn rewind(&mut self) -> bool {
        true
    }

    async fn dismiss(&mut self, _: Response<ResponseBody>) {}
}

/// Of a scheme that only answers challenges there is nothing to be seen before one.
fn tell_unasked(attempts: &Attempts<'_>, draft: &Draft) {
    for kind in attempts.unchallenged(draft) {
        eprintln!("note: `{kind}` adds nothing before the server's challenge, so that there is nothing to show");
        eprintln!(
            "help: give the server's `WWW-Authenticate` as --challenge, as in --challenge 'Digest realm=\"r\", nonce=\"n\", qop=\"auth\"'"
        );
    }
}

fn challenges(fields: &[String]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for field in fields {
        let value = HeaderValue::from_str(field).map_err(|_| Error::new("--challenge: a header cannot carry this"))?;
        headers.append(http::header::WWW_AUTHENTICATE, value);
    }
    Ok(headers)
}

fn head(draft: &Draft) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\n", draft.method, draft.target).replace("\r\n", "\n");
    for (name, value) in &draft.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    if let Body::Held(held) = &draft.body
        && let Some(bytes) = held.bytes()
    {
        text.push_str(&format!("\n{}\n", String::from_utf8_lossy(bytes)));
    }
    text
}

/// The body as it would leave.
fn transform(draft: &mut Draft, transforms: &[BodyTransformFactory]) -> Result<(), Failure> {
    for factory in transforms {
        if let Body::Held(Held::Memory(bytes)) = &draft.body {
            let mut transform = factory();
            let mut made = transform.feed(bytes.clone())?.to_vec();
            made.extend(transform.finish()?);
            draft.body = Body::Held(Held::Memory(made.into()));
        }
    }
    Ok(())
}

fn moment(args: &SignArgs) -> Result<Moment, Error> {
    let at = match &args.at {
        None => None,
        Some(text) => Some(time(text).ok_or_else(|| {
            Error::new(format!("--at {text}: not a time")).help("write it as 2015-08-30T12:36:00Z, or as seconds since 1970")
        })?),
    };
    let mut nonces = Vec::new();
    for pair in &args.nonce {
        let (kind, text) = pair.split_once('=').ok_or_else(|| Error::new(format!("--nonce {pair}: write it as KIND=TEXT")))?;
        nonces.push((kind.parse::<NonceKind>().map_err(Error::new)?, text.to_owned()));
    }
    Ok(Moment::pinned(at, nonces))
}

fn time(text: &str) -> Option<SystemTime> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

fn headers(lines: &[String]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || Error::new(format!("-H {line}: not a header")).help("write it as `Name: value`");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn body(data: Option<&str>) -> Result<Body, Error> {
    const BOUND: usize = 64 * 1024 * 1024;
    let bytes = match data {
        None => return Ok(Body::Empty),
        Some("@-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(BOUND as u64)
                .read_to_end(&mut bytes)
                .map_err(|cause| Error::new(format!("cannot read stdin: {cause}")))?;
            bytes
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => files::read(path.as_ref(), BOUND)?,
            None => text.as_bytes().to_vec(),
        },
    };
    Ok(Body::Held(Held::Memory(Bytes::from(bytes))))
}
