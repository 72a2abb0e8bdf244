//! Sessions: what a rule's hosts set is sent by whoever comes after, and to nobody else.

use tempfile::TempDir;

use crate::support::*;

/// Logs in at /login, out at /logout; tells which cookies came.
async fn session_origin(pki: &Pki) -> Origin {
    let options = OriginOptions { names: &["app.corp.test", "other.corp.test"], ..OriginOptions::default() };
    Origin::answering(pki, options, |seen| {
        let cookies: Vec<&str> = seen.headers.get_all("cookie").iter().map(|field| field.to_str().unwrap()).collect();
        let mut answer = text(format!("cookies [{}]", cookies.join("; ")));
        let set = match seen.line.as_str() {
            "POST /login" => &["sid=in; Path=/; Secure; HttpOnly", "wide=1; Domain=corp.test; Path=/"][..],
            "POST /logout" => &["sid=; Path=/; Max-Age=0"][..],
            _ => &[],
        };
        for field in set {
            answer.headers_mut().append("set-cookie", field.parse().unwrap());
        }
        answer
    })
    .await
}

async fn capturing(pki: &Pki, origin: &Origin, home: &TempDir, more: &str) -> Gatepass {
    let rules = format!(
        "credentials:\n  session: {{ cookies: {{ capture: true{more} }} }}\nrules:\n{}{}",
        rule("app.corp.test", origin.address, "auth: session"),
        rule("other.corp.test", origin.address, ""),
    );
    Gatepass::start(&rules, &[("CA", &pki.ca_pem), ("GATEPASS_HOME", home.path().to_str().unwrap())]).await
}

async fn sent(gatepass: &Gatepass, host: &str, head: &str) -> String {
    let answer = gatepass.through(host, &format!("{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    let from = answer.find("cookies [").unwrap_or_else(|| panic!("{answer}"));
    answer[from..].trim_end().trim_end_matches("\r\n0").trim().to_owned()
}

const BROWSER: &str = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate";

#[tokio::test]
async fn a_session_opened_in_a_browser_serves_other_clients_and_ends_with_it() {
    let (pki, home) = (Pki::new(), TempDir::new().unwrap());
    let origin = session_origin(&pki).await;
    let gatepass = capturing(&pki, &origin, &home, "").await;
    let plain = "GET / HTTP/1.1";
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies []");
    let login = gatepass
        .through(
            "app.corp.test",
            &format!("POST /login HTTP/1.1\r\nHost: app.corp.test\r\n{BROWSER}\r\nContent-Length: 0\r\n\r\n"),
        )
        .await;
    assert!(login.contains("sid=in"), "the browser gets its cookies: {login}");
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies [sid=in; wide=1]");
    let own = "GET / HTTP/1.1\r\nCookie: sid=mine; theme=dark";
    assert_eq!(sent(&gatepass, "app.corp.test", own).await, "cookies [sid=mine; theme=dark; wide=1]", "a client's own stays");
    let browser = format!("{plain}\r\n{BROWSER}");
    assert_eq!(sent(&gatepass, "app.corp.test", &browser).await, "cookies []", "a browser has its own jar");
    assert_eq!(
        sent(&gatepass, "other.corp.test", plain).await,
        "cookies []",
        "not to a host outside the rule, whatever Domain says"
    );
    sent(&gatepass, "app.corp.test", "POST /logout HTTP/1.1\r\nContent-Length: 0").await;
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies [wide=1]");
}

#[tokio::test]
async fn what_a_browser_brings_is_learnt_once_it_was_answered_well() {
    let (pki, home) = (Pki::new(), TempDir::new().unwrap());
    let origin = session_origin(&pki).await;
    let gatepass = capturing(&pki, &origin, &home, "").await;
    let plain = "GET / HTTP/1.1";
    sent(&gatepass, "app.corp.test", "GET / HTTP/1.1\r\nCookie: sid=typed").await;
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies []", "what other clients send is theirs");
    for page in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors",
        "Sec-Fetch-Site: none",
    ] {
        sent(&gatepass, "app.corp.test", &format!("GET / HTTP/1.1\r\nCookie: sid=pushed\r\n{page}")).await;
    }
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies []", "nor what a page of elsewhere makes it send");
    sent(&gatepass, "app.corp.test", &format!("GET / HTTP/1.1\r\nCookie: sid=old\r\n{BROWSER}")).await;
    assert_eq!(sent(&gatepass, "app.corp.test", plain).await, "cookies [sid=old]");
}

#[tokio::test]
async fn callers_that_are_told_apart_have_sessions_of_their_own() {
    let (pki, home) = (Pki::new(), TempDir::new().unwrap());
    let origin = session_origin(&pki).await;
    let yaml = format!(
        "listeners:\n  - listen: 127.0.0.1:0\n    access: {{ users: {{ alice: a, bob: b }} }}\nrules:\n{}",
        rule("app.corp.test", origin.address, "cookies: { capture: true }"),
    );
    let env = [("CA", pki.ca_pem.as_str()), ("GATEPASS_HOME", home.path().to_str().unwrap())];
    let gatepass = Gatepass::start(&yaml, &env).await;
    let guarded = gatepass.running.addresses[1].0;
    let ask_as = |user: &'static str, head: &'static str| async move {
        let mut stream = tokio::net::TcpStream::connect(guarded).await.unwrap();
        let head = head.replacen(' ', " https://app.corp.test", 1);
        ask(
            &mut stream,
            &format!("{head}\r\nHost: app.corp.test\r\nProxy-Authorization: Basic {user}\r\nConnection: close\r\n\r\n"),
        )
        .await
    };
    const ALICE: &str = "YWxpY2U6YQ==";
    const BOB: &str = "Ym9iOmI=";
    ask_as(ALICE, "POST /login HTTP/1.1\r\nContent-Length: 0").await;
    assert!(ask_as(ALICE, "GET / HTTP/1.1").await.contains("cookies [sid=in; wide=1]"));
    assert!(ask_as(BOB, "GET / HTTP/1.1").await.contains("cookies []"), "not another's session");
    ask_as(BOB, "GET / HTTP/1.1\r\nCookie: sid=planted\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate").await;
    assert!(ask_as(ALICE, "GET / HTTP/1.1").await.contains("cookies [sid=in; wide=1]"), "nor is one planted");
    ask_as(BOB, "POST /logout HTTP/1.1\r\nContent-Length: 0").await;
    assert!(ask_as(ALICE, "GET / HTTP/1.1").await.contains("cookies [sid=in; wide=1]"), "nor ended");
    assert_eq!(sent(&gatepass, "app.corp.test", "GET / HTTP/1.1").await, "cookies []", "nor given to whoever is nobody");
}

#[tokio::test]
async fn a_session_outlives_reload_and_restart_in_a_file_of_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (pki, home) = (Pki::new(), TempDir::new().unwrap());
    let origin = session_origin(&pki).await;
    let gatepass = capturing(&pki, &origin, &home, "").await;
    sent(&gatepass, "app.corp.test", "POST /login HTTP/1.1\r\nContent-Length: 0").await;
    gatepass.running.reload().await;
    assert_eq!(gatepass.running.context.gate().generation, 2);
    assert_eq!(sent(&gatepass, "app.corp.test", "GET / HTTP/1.1").await, "cookies [sid=in; wide=1]");
    let file = home.path().join("cookies/session.json");
    let end = std::time::Instant::now() + PATIENCE;
    while !file.exists() && std::time::Instant::now() < end {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    gatepass.running.stop().await;
    let again = capturing(&pki, &origin, &home, "").await;
    assert_eq!(sent(&again, "app.corp.test", "GET / HTTP/1.1").await, "cookies [sid=in; wide=1]");
    let reading = rule("app.corp.test", origin.address, &format!("cookies: {{ file: {} }}", file.display()));
    let reading = Gatepass::start(&format!("rules:\n{reading}"), &[("CA", &pki.ca_pem)]).await;
    sent(&reading, "app.corp.test", "POST /logout HTTP/1.1\r\nContent-Length: 0").await;
    assert_eq!(
        sent(&reading, "app.corp.test", "GET / HTTP/1.1").await,
        "cookies [sid=in; wide=1]",
        "without capture nothing is learnt"
    );
}

#[tokio::test]
async fn fixed_cookies_replace_their_name_and_leave_the_others_byte_for_byte() {
    let pki = Pki::new();
    let origin = session_origin(&pki).await;
    let yaml = |more: &str| {
        format!(
            "rules:\n{}",
            rule("app.corp.test", origin.address, &format!("cookies: {{ set: {{ sid: \"${{SID}}\", b: '\"q, r\"' }} }}\n{more}"))
        )
    };
    let env = [("CA", pki.ca_pem.as_str()), ("SID", "real")];
    let gatepass = Gatepass::start(&yaml(""), &env).await;
    let own = "GET / HTTP/1.1\r\nCookie: x=1;  odd ;sid=client\r\nCookie: y=a=b";
    assert_eq!(sent(&gatepass, "app.corp.test", own).await, "cookies [x=1; odd; y=a=b; sid=real; b=\"q, r\"]");
    let keeping = Gatepass::start(&yaml("on_existing_auth: keep"), &env).await;
    assert_eq!(sent(&keeping, "app.corp.test", "GET / HTTP/1.1\r\nCookie: sid=client").await, "cookies [sid=client]");
    let refusing = Gatepass::start(&yaml("on_existing_auth: reject"), &env).await;
    let answer = refusing.through("app.corp.test", "GET / HTTP/1.1\r\nHost: app.corp.test\r\nCookie: sid=client\r\n\r\n").await;
    assert!(status(&answer) != 200 && answer.contains("cookie `sid`"), "{answer}");
    let mut h2 = gatepass.h2("app.corp.test").await;
    let request = http::Request::get("https://app.corp.test/").header("cookie", "x=1").header("cookie", "sid=c");
    let body = http_body_util::BodyExt::boxed(http_body_util::Empty::<bytes::Bytes>::new());
    assert_eq!(h2.send_request(request.body(body).unwrap()).await.unwrap().status(), 200);
    assert_eq!(origin.last().headers["cookie"], "x=1; sid=real; b=\"q, r\"");
}

#[tokio::test]
async fn mistakes_in_cookies_are_found_at_load() {
    for (settings, wanted) in [
        ("{ }", "sends no cookie"),
        ("{ set: { a: \"b;c\" } }", "a cookie cannot carry"),
        ("{ set: { \"a=b\": c } }", "a cookie cannot carry"),
        ("{ capture: perhaps }", "true or false"),
        ("{ captures: true }", "did you mean `capture`"),
    ] {
        let yaml = format!("listen: 127.0.0.1:0\nrules:\n  - host: a.test\n    cookies: {settings}\n");
        let Err(report) = gatepass::serve::build(&request(&yaml, &[])).await else { panic!("{settings} was accepted") };
        assert!(report.render(false).contains(wanted), "{}", report.render(false));
    }
}
