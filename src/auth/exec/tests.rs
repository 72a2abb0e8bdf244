use std::time::SystemTime;

use http::HeaderMap;

use super::*;
use crate::auth::testing::sign_ready;
use crate::draft::Body;
use crate::moment::Moment;
use crate::origin::{Host, Origin, Scheme as UrlScheme};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

/// The fields as text, and the seconds they live.
fn read(format: Format, output: &str) -> Result<(Vec<String>, Option<u64>), String> {
    let (fields, end) = format.read(output, now())?;
    let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    Ok((fields, end.map(|end| end.duration_since(now()).unwrap().as_secs())))
}

fn one(text: &str, life: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
    Ok((vec![text.to_owned()], life))
}

#[test]
fn each_format_is_read_with_the_expiry_it_names() {
    use Format::*;
    let bearer = |life| one("authorization: Bearer t0k", life);
    assert_eq!(read(Raw, "t0k\n"), bearer(None));
    assert_eq!(read(Raw, "Basic dTpw\r\n"), one("authorization: Basic dTpw", None));
    assert_eq!(read(Json, r#"{"token":"t0k"}"#), bearer(None));
    assert_eq!(read(Json, r#"{"access_token":"t0k","token_type":"bearer","expires_in":3600}"#), bearer(Some(3600)));
    assert_eq!(read(Json, r#"{"access_token":"t0k","token_type":"DPoP"}"#), one("authorization: DPoP t0k", None));
    assert_eq!(read(Json, r#"{"token":"t0k","expires_in":"90"}"#), bearer(Some(90)));
    assert_eq!(read(Json, r#"{"token":"t0k","expires_at":1900000060}"#), bearer(Some(60)));
    assert_eq!(read(Json, r#"{"token":"t0k","expiry":"2030-03-17T17:47:40.5Z"}"#), bearer(Some(60)));
    assert_eq!(read(Json, r#"{"token":"t0k","expiration":1900000060000}"#), bearer(Some(60)));
    let azure = r#"{"accessToken":"t0k","expiresOn":"2030-03-17 17:47:40.000000","expires_on":1900000060}"#;
    assert_eq!(read(Json, azure), bearer(Some(60)));
    let two = Ok((vec!["x-a: 1".to_owned(), "authorization: Token b".to_owned()], None));
    assert_eq!(read(Headers, "X-A: 1\n\nAuthorization: Token b\n"), two);
    assert_eq!(read(Headers, r#"{"X-A":"1","Authorization":"Token b"}"#), two);
    let bazel = r#"{"headers":{"X-A":["1","2"]},"expires":"2030-03-17T17:47:40Z"}"#;
    assert_eq!(read(Headers, bazel), Ok((vec!["x-a: 1".to_owned(), "x-a: 2".to_owned()], Some(60))));
    let kubernetes = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",
        "status":{"token":"t0k","expirationTimestamp":"2030-03-17T17:47:40Z"}}"#;
    assert_eq!(read(Kubernetes, kubernetes), bearer(Some(60)));
    assert_eq!(read(Git, "protocol=https\nusername=u\npassword=p:=w\n"), one("authorization: Basic dTpwOj13", None));
    assert_eq!(read(Git, "username=u\npassword=p\npassword_expiry_utc=1900000060\n"), one("authorization: Basic dTpw", Some(60)));
    assert_eq!(read(Git, "authtype=Bearer\ncredential=t0k\n"), bearer(None));
}

#[test]
fn what_is_not_understood_is_refused_and_never_shown() {
    use Format::*;
    let certificate = r#"{"kind":"ExecCredential","status":{"token":"s3cret","clientCertificateData":"s3cret"}}"#;
    let cases = [
        (Raw, "\n", "empty"),
        (Raw, "s3cret\nmore", "line breaks"),
        (Json, "s3cret", "not a JSON object"),
        (Json, r#"{"secret":"s3cret"}"#, "no text member `token`"),
        (Json, r#"{"token":""}"#, "no text member `token`"),
        (Json, r#"{"token":"s3cret","expires_in":"soon"}"#, "`expires_in` is not a number"),
        (Json, r#"{"token":"s3cret","expires_at":"tomorrow"}"#, "`expires_at` is not a time"),
        (Headers, "", "empty"),
        (Headers, "{}", "names no header"),
        (Headers, "s3cret", "line 1 of its output"),
        (Headers, "Host: s3cret", "sets `host`"),
        (Headers, r#"{"X":{"s3cret":1}}"#, "`X` is not a text"),
        (Headers, "{\"X\":\"s3cret\\r\\nY: 1\"}", "control characters"),
        (Kubernetes, r#"{"kind":"Secret","status":{"token":"s3cret"}}"#, "not an ExecCredential"),
        (Kubernetes, r#"{"kind":"ExecCredential"}"#, "no `status`"),
        (Kubernetes, r#"{"kind":"ExecCredential","status":{}}"#, "no `status.token`"),
        (Kubernetes, certificate, "`client_certificate`"),
        (Git, "username=s3cret\n", "knows no `username` and `password`"),
        (Git, "username=s3:cret\npassword=s3cret\n", "colon"),
    ];
    for (format, output, why) in cases {
        let error = read(format, output).unwrap_err();
        assert!(error.contains(why) && !error.contains("s3cret") && !error.contains("s3:cret"), "{format:?} {output}: {error}");
    }
}

fn exec(script: &str, format: Format) -> Arc<Exec> {
    let argv = ["sh", "-c", script, "helper"].map(str::to_owned).to_vec();
    Arc::new(Exec::new(Helper::new(argv, std::env::temp_dir(), 1 << 20, format), false))
}

fn draft(url: &str) -> Draft {
    let (host, target) = url.split_at(url.find('/').unwrap());
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    Draft {
        method: http::Method::GET,
        origin: Arc::new(Origin::new(UrlScheme::Https, Host::parse(host).unwrap(), port.parse().unwrap())),
        target: target.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Body::Empty,
    }
}

/// One request of one that is under way.
struct Exchange {
    draft: Draft,
    own: Box<dyn Attempt>,
}

impl Exchange {
    fn new(exec: &Arc<Exec>, url: &str) -> Self {
        Self { draft: draft(url), own: exec.clone().begin() }
    }

    async fn signed(&mut self, attempt: u8) -> Result<String, Failure> {
        let moment = Moment::pinned(Some(now()), []);
        let round = Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None };
        sign_ready(&mut *self.own, &mut self.draft, &round).await?;
        Ok(self.draft.headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
    }

    fn answered(&mut self, status: u16, attempt: u8) -> Verdict {
        let (moment, status, headers) = (Moment::real(), StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        let round = Round { moment: &moment, attempt, user: None, peer: None, channel_binding: None };
        self.own.on_response(&Answer { draft: &self.draft, status, headers: &headers }, b"", &round)
    }
}

#[tokio::test]
async fn a_401_has_the_helper_run_again_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cd {}; echo x >> runs; echo token$(wc -l < runs)", dir.path().display());
    let exec = exec(&script, Format::Raw);
    let (mut first, mut late) = (Exchange::new(&exec, "a.example/"), Exchange::new(&exec, "b.example/"));
    assert_eq!(first.signed(0).await.ok().unwrap(), "Bearer token1");
    assert_eq!(late.signed(0).await.ok().unwrap(), "Bearer token1");
    assert_eq!(first.answered(200, 0), Verdict::Final);
    assert_eq!(first.answered(403, 0), Verdict::Final);
    assert_eq!(first.answered(401, 0), Verdict::Again);
    assert_eq!(first.signed(1).await.ok().unwrap(), "Bearer token2");
    // A request that was on its way with the old token does not take the new one away.
    assert_eq!(late.answered(401, 0), Verdict::Final);
    assert_eq!(late.signed(0).await.ok().unwrap(), "Bearer token2");
    assert_eq!(first.answered(401, 1), Verdict::Final);
}

#[tokio::test]
async fn a_git_helper_is_asked_for_each_origin_by_itself() {
    let script = r#"test "$1" = get || exit 1; input=$(cat); echo username=u; printf 'password=%s\n' "$(echo $input)""#;
    let mut exec = exec(script, Format::Git);
    let answer = async |exec: &Arc<Exec>, url: &str| {
        use base64::Engine;
        let text = Exchange::new(exec, url).signed(0).await.ok().unwrap();
        let pair = base64::prelude::BASE64_STANDARD.decode(text.strip_prefix("Basic ").unwrap()).unwrap();
        String::from_utf8(pair).unwrap()
    };
    assert_eq!(answer(&exec, "git.example/o/r.git/info/refs").await, "u:capability[]=authtype protocol=https host=git.example");
    assert_eq!(answer(&exec, "git.example:8443/").await, "u:capability[]=authtype protocol=https host=git.example:8443");
    Arc::get_mut(&mut exec).unwrap().use_path = true;
    let asked = "u:capability[]=authtype protocol=https host=git.example path=o/r.git";
    assert_eq!(answer(&exec, "git.example/o/r.git/info/refs?service=git-upload-pack").await, asked);
    assert_eq!(answer(&exec, "git.example/o/r.git/git-receive-pack").await, asked);
}

#[tokio::test]
async fn a_kubernetes_plugin_is_told_which_version_to_print() {
    let script = r#"printf '%s' "$KUBERNETES_EXEC_INFO" | grep -q '"apiVersion":"client.authentication.k8s.io/v1"' || exit 1
        echo '{"kind":"ExecCredential","status":{"token":"t0k"}}'"#;
    assert_eq!(Exchange::new(&exec(script, Format::Kubernetes), "k.example/").signed(0).await.ok().unwrap(), "Bearer t0k");
}

#[tokio::test]
async fn output_that_has_expired_is_not_used() {
    let script = r#"echo '{"token":"s3cret","expires_at":"2020-03-17T17:46:39Z"}'"#;
    let failure = Exchange::new(&exec(script, Format::Json), "a.example/").signed(0).await.err().unwrap();
    assert!(failure.details.contains("has expired already") && !failure.to_string().contains("s3cret"), "{failure}");
}
