//! For the tests of schemes: settings as they are written, drafts, rounds with a pinned clock and pinned nonces.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::oauth2::{Session, Sessions};
use super::{Answer, Attempt, AuthType, Authorizer, BuildCx, Round, Scheme, Signed, Verdict};
use crate::cookie::Jars;
use crate::draft::{Body, Draft, Held};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::moment::{Moment, NonceKind};
use crate::origin::{Origin, Scheme as UrlScheme, parse_authority};
use crate::settings::{Decode, Report, Schema, Scope, Shape, yaml};
use crate::tls::out::trust::Trust;
use crate::upstream::settings::UpstreamProxy;
use crate::upstream::{Dialer, NetEnv, Route};

/// The scheme from its settings as YAML (or JSON, which is YAML); else the report of mistakes.
pub fn build(scheme: &Scheme, settings: &str) -> Result<Arc<dyn Authorizer>, String> {
    let (authorizer, report) = build_with(scheme, settings);
    authorizer.ok_or(report)
}

/// With the tokens that a person may have to sign in for.
pub fn build_session(scheme: &Scheme, settings: &str) -> (Arc<dyn Authorizer>, Arc<Session>) {
    let (authorizer, session, report) = built(scheme, settings);
    (authorizer.unwrap_or_else(|| panic!("{report}")), session.expect("this scheme has a session"))
}

/// Warnings too.
pub fn build_with(scheme: &Scheme, settings: &str) -> (Option<Arc<dyn Authorizer>>, String) {
    let (authorizer, _, report) = built(scheme, settings);
    (authorizer, report)
}

/// All that comes of it: the scheme, its session, and the report.
pub fn built(scheme: &Scheme, settings: &str) -> (Option<Arc<dyn Authorizer>>, Option<Arc<Session>>, String) {
    let schema = Schema {
        root: Shape::Defined(scheme.name),
        definitions: BTreeMap::from([(scheme.name, AuthType::from(scheme).definition())]),
        naming: &[],
    };
    let mut report = Report::of(schema);
    let file = report.add_file("test.yaml".into(), settings.to_owned());
    let document = yaml::parse(settings, file).unwrap_or_else(|wrong| panic!("{settings}: {}", wrong.message));
    let scope = Scope { bases: vec![std::env::current_dir().unwrap()], bound: 1 << 20, output: 1 << 20, ..Scope::default() };
    let net = NetEnv {
        dialer: Dialer::new(BTreeMap::new(), crate::secrets::reference),
        limits: Limits::default(),
        egress: Vec::new(),
        resolve: Default::default(),
    };
    let cx = BuildCx {
        requests: String::new(),
        name: Some("test"),
        identities: &HashMap::new(),
        bundles: &HashMap::new(),
        trust: &Arc::new(Trust::of(&[]).unwrap()),
        via: &Route::from(UpstreamProxy::None),
        net: &Arc::new(net),
        state: "".as_ref(),
        jars: &Jars::default(),
        sessions: &Sessions::default(),
        sign_in: OnceCell::new(),
    };
    let authorizer = scheme.authorizer(&document.root, &mut Decode::new(&mut report, &scope), &cx);
    assert!(authorizer.is_some() != report.has_errors(), "{}", report.render(false));
    (authorizer, cx.sign_in.into_inner(), report.render(false))
}

/// A request for a URL, its target byte for byte.
pub fn draft(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Draft {
    let uri: http::Uri = url.parse().unwrap();
    let scheme = if uri.scheme_str() == Some("http") { UrlScheme::Http } else { UrlScheme::Https };
    let (host, port) = parse_authority(uri.authority().unwrap().as_str()).unwrap();
    let origin = Origin::new(scheme, host, port.unwrap_or(scheme.default_port()));
    let mut map = HeaderMap::new();
    map.insert(http::header::HOST, HeaderValue::from_str(&origin.authority()).unwrap());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        if name == http::header::HOST {
            map.remove(&name);
        }
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Draft {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        origin: Arc::new(origin),
        target: uri.path_and_query().unwrap().clone(),
        headers: map,
        body: body.map_or(Body::Empty, |bytes| Body::Held(Held::Memory(Bytes::copy_from_slice(bytes)))),
    }
}

/// A scheme by itself, in an attempt of its own each time.
pub trait Alone {
    fn sign(&self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure>;
    fn canonical(&self, draft: &Draft) -> Option<String>;
}

impl<A: Authorizer + ?Sized> Alone for Arc<A> {
    /// Without waiting: what is not at hand is not there.
    fn sign(&self, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
        let mut attempt = self.clone().begin();
        drop(attempt.prepare(draft, round));
        attempt.sign(draft, round)
    }

    fn canonical(&self, draft: &Draft) -> Option<String> {
        self.clone().begin().canonical(draft)
    }
}

/// Signs with what has to be waited for.
pub async fn sign_ready(attempt: &mut dyn Attempt, draft: &mut Draft, round: &Round<'_>) -> Result<Signed, Failure> {
    if let Some(preparation) = attempt.prepare(draft, round) {
        preparation.await?;
    }
    attempt.sign(draft, round)
}

/// At so many seconds since 1970, with given nonces.
pub fn at<T>(unix: u64, nonces: &[(NonceKind, &str)], attempt: u8, work: impl FnOnce(&Round<'_>) -> T) -> T {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(unix);
    let moment = Moment::pinned(Some(time), nonces.iter().map(|(kind, text)| (*kind, (*text).to_owned())));
    work(&Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None })
}

/// Signs, and tells the field of that name.
pub fn signed(scheme: &Arc<dyn Authorizer>, draft: &mut Draft, unix: u64, nonces: &[(NonceKind, &str)], field: &str) -> String {
    at(unix, nonces, 0, |round| scheme.sign(draft, round)).unwrap_or_else(|failure| panic!("{failure}"));
    draft.headers.get(field).map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// What the scheme makes of an answer to a draft that it signed.
pub fn answered(
    scheme: &Arc<dyn Authorizer>,
    draft: &Draft,
    unix: u64,
    attempt: u8,
    status: u16,
    fields: &[(&str, &str)],
) -> Verdict {
    let headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let answer = Answer { draft, status: StatusCode::from_u16(status).unwrap(), headers: &headers };
    at(unix, &[], attempt, |round| {
        let mut attempt = scheme.clone().begin();
        drop(attempt.prepare(draft, round));
        attempt.on_response(&answer, b"", round)
    })
}
