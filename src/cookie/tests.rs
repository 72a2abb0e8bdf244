//! RFC 6265, sentence by sentence.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::moment::Moment;
use crate::origin::parse_authority;

const NOW: u64 = 1_795_749_948;

fn origin(url: &str) -> Origin {
    let (scheme, rest) = url.split_once("://").unwrap();
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    let (host, port) = parse_authority(rest).unwrap();
    Origin::new(scheme, host, port.unwrap_or(scheme.default_port()))
}

fn at(seconds: u64) -> Moment {
    Moment::pinned(Some(UNIX_EPOCH + Duration::from_secs(seconds)), [])
}

/// As a gatepass that has just begun opens it.
fn open(file: &Path) -> Arc<Jar> {
    Jars::default().open(file).unwrap()
}

fn parse(field: &str, url: &str, path: &str) -> Option<Cookie> {
    Cookie::parse(field.as_bytes(), &origin(url), path, NOW)
}

/// name=value domain[!] path secure lifetime; `!`: the host's only.
fn told(field: &str, url: &str, path: &str) -> String {
    let Some(cookie) = parse(field, url, path) else { return "ignored".to_owned() };
    let Cookie { name, value, domain, host_only, path, secure, expires, .. } = cookie;
    let life = match expires.checked_sub(NOW) {
        None => "gone".to_owned(),
        Some(LONGEST) => "session".to_owned(),
        Some(seconds) => seconds.to_string(),
    };
    let (only, secure) = (if host_only { "!" } else { "" }, if secure { " secure" } else { "" });
    format!("{name}={} {domain}{only} {path}{secure} {life}", value.expose())
}

#[test]
fn a_set_cookie_field_is_read_as_rfc_6265_says() {
    let cases = [
        ("a=b", "a=b www.example.com! /x session"),
        ("  a  =  b c  ; Path=/y ", "a=b c www.example.com! /y session"),
        ("a=\"q, r\"", "a=\"q, r\" www.example.com! /x session"),
        ("a=b=c", "a=b=c www.example.com! /x session"),
        ("a=", "a= www.example.com! /x session"),
        ("a=b; path=relative", "a=b www.example.com! /x session"),
        ("a=b; path=/one; path=/two", "a=b www.example.com! /two session"),
        ("a=b; Secure; HttpOnly; SameSite=Lax; Partitioned", "a=b www.example.com! /x secure session"),
        ("a=b; Domain=.Example.COM", "a=b example.com /x session"),
        ("a=b; domain=www.example.com", "a=b www.example.com /x session"),
        ("a=b; domain=", "a=b www.example.com! /x session"),
        ("a=b; domain=other.com", "ignored"),
        ("a=b; domain=ample.com", "ignored"),
        ("a=b; domain=deep.www.example.com", "ignored"),
        ("a=b; domain=com", "ignored"),
        ("a=b; max-age=60", "a=b www.example.com! /x 60"),
        ("a=b; max-age=60; expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=b www.example.com! /x 60"),
        ("a=b; max-age=0", "a=b www.example.com! /x gone"),
        ("a=b; max-age=-1", "a=b www.example.com! /x gone"),
        ("a=b; max-age=1e3", "a=b www.example.com! /x session"),
        ("a=b; max-age=99999999999999999999999", "a=b www.example.com! /x session"),
        ("a=b; expires=Fri, 27 Nov 2026 03:26:48 GMT", "a=b www.example.com! /x 60"),
        ("a=b; expires=never", "a=b www.example.com! /x session"),
        ("a=b; expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=b www.example.com! /x gone"),
        ("__Secure-a=b; secure", "__Secure-a=b www.example.com! /x secure session"),
        ("__Secure-a=b", "ignored"),
        ("__Host-a=b; secure; path=/", "__Host-a=b www.example.com! / secure session"),
        ("__Host-a=b; secure; path=/; domain=example.com", "ignored"),
        ("__host-a=b; secure", "ignored"),
        ("=b", "ignored"),
        ("nothing", "ignored"),
        ("", "ignored"),
        ("a=b\u{1}c", "ignored"),
    ];
    for (field, wanted) in cases {
        assert_eq!(told(field, "https://www.example.com", "/x/y"), wanted, "{field:?}");
    }
    assert_eq!(told(&format!("a={}", "x".repeat(4096)), "https://a.test", "/"), "ignored");
    assert!(Cookie::parse(b"a=\xff", &origin("https://a.test"), "/", NOW).is_none());
}

#[test]
fn a_cookie_for_a_registry_an_address_or_from_clear_text_reaches_nobody_else() {
    assert_eq!(told("a=b; domain=co.uk", "https://bank.co.uk", "/"), "ignored");
    assert_eq!(told("a=b; domain=github.io", "https://me.github.io", "/"), "ignored");
    assert_eq!(told("a=b; domain=github.io", "https://github.io", "/"), "a=b github.io! / session");
    assert_eq!(told("a=b; domain=bank.co.uk", "https://www.bank.co.uk", "/"), "a=b bank.co.uk / session");
    assert_eq!(told("a=b; domain=127.0.0.1", "https://127.0.0.1:8443", "/"), "a=b 127.0.0.1! / session");
    assert_eq!(told("a=b; domain=0.0.1", "https://127.0.0.1", "/"), "ignored");
    assert_eq!(told("a=b; secure", "http://a.example.com", "/"), "ignored");
}

#[test]
fn default_paths_are_those_of_rfc_6265_section_5_1_4() {
    for (path, wanted) in [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("*", "/"), ("", "/")] {
        assert_eq!(default_path(path), wanted, "{path}");
    }
}

#[test]
fn a_cookie_goes_where_domain_path_scheme_and_time_agree() {
    let belongs = |cookie: &Cookie, url: &str, path: &str| cookie.belongs_to(&origin(url), path, NOW);
    let wide = parse("a=b; domain=example.com; path=/api", "https://www.example.com", "/").unwrap();
    for (url, path, wanted) in [
        ("https://example.com", "/api", true),
        ("https://x.y.example.com", "/api/v1", true),
        ("http://example.com", "/api/", true),
        ("https://example.com:8443", "/api", true),
        ("https://badexample.com", "/api", false),
        ("https://example.com.evil.com", "/api", false),
        ("https://example.com", "/apix", false),
        ("https://example.com", "/", false),
    ] {
        assert_eq!(belongs(&wide, url, path), wanted, "{url}{path}");
    }
    let own = parse("a=b; secure", "https://example.com", "/").unwrap();
    assert!(belongs(&own, "https://example.com", "/any"));
    assert!(!belongs(&own, "https://www.example.com", "/any"));
    assert!(!belongs(&own, "http://example.com", "/any"));
    let brief = parse("a=b; max-age=10", "https://example.com", "/").unwrap();
    assert!(brief.belongs_to(&origin("https://example.com"), "/", NOW + 9));
    assert!(!brief.belongs_to(&origin("https://example.com"), "/", NOW + 10));
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn learn(jar: &Arc<Jar>, url: &str, fields: &[&str], seconds: u64) {
    jar.learn("", fields.iter().map(|field| field.as_bytes()), &origin(url), "/", &at(seconds));
}

fn has(jar: &Arc<Jar>, url: &str, path: &str, seconds: u64) -> Vec<String> {
    let found = jar.cookies("", &origin(url), path, &at(seconds));
    found.into_iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()
}

#[test]
fn a_jar_replaces_takes_away_and_sends_the_longest_path_first() {
    let folder = folder();
    let jar = open(&folder.path().join("jar.json"));
    learn(&jar, "https://a.test", &["a=1", "b=2; path=/deep", "c=3; max-age=5"], NOW);
    assert_eq!(has(&jar, "https://a.test", "/deep/er", NOW), ["b=2", "a=1", "c=3"]);
    learn(&jar, "https://a.test", &["a=new", "b=; path=/deep; max-age=0"], NOW + 1);
    assert_eq!(has(&jar, "https://a.test", "/deep/er", NOW + 1), ["a=new", "c=3"]);
    assert_eq!(has(&jar, "https://a.test", "/", NOW + 6), ["a=new"]);
    assert_eq!(has(&jar, "https://b.test", "/", NOW), Vec::<String>::new());
    learn(&jar, "https://a.test", &["s=1; secure"], NOW);
    learn(&jar, "http://a.test", &["s=2", "t=1"], NOW);
    assert_eq!(has(&jar, "https://a.test", "/", NOW + 6), ["a=new", "s=1", "t=1"], "clear text does not overlay what is secure");
    jar.clear("", &origin("https://www.a.test"), &at(NOW));
    assert_eq!(has(&jar, "https://a.test", "/", NOW), Vec::<String>::new());
}

#[test]
fn what_a_browser_sent_is_learnt_with_what_is_known_of_it() {
    let folder = folder();
    let jar = open(&folder.path().join("jar.json"));
    learn(&jar, "https://a.test", &["wide=1; domain=a.test"], NOW);
    jar.learn_sent("", [("wide", "2"), ("own", "3"), ("", "x")].into_iter(), &origin("https://a.test"), "/", &at(NOW + 1));
    assert_eq!(has(&jar, "https://a.test", "/", NOW), ["wide=2", "own=3"]);
    assert_eq!(has(&jar, "https://sub.a.test", "/", NOW), ["wide=2"], "the attributes that a Set-Cookie gave it stay");
}

#[test]
fn what_came_in_clear_leaves_secure_cookies_alone_whatever_their_path_and_domain() {
    let folder = folder();
    let jar = open(&folder.path().join("jar.json"));
    learn(
        &jar,
        "https://www.a.test",
        &["s=1; secure; domain=a.test", "deep=1; secure; path=/app", "gone=1; secure; max-age=1"],
        NOW,
    );
    let secure = ["deep=1", "s=1"];
    for field in [
        "s=x",
        "s=x; path=/admin",
        "s=x; domain=a.test",
        "s=x; domain=www.a.test; path=/app",
        "deep=x; path=/app/in",
        "s=; max-age=0",
    ] {
        learn(&jar, "http://www.a.test", &[field], NOW + 5);
        assert_eq!(has(&jar, "https://www.a.test", "/app/in", NOW + 5), secure, "{field}");
    }
    learn(&jar, "http://a.test", &["s=x; path=/admin"], NOW + 5);
    assert_eq!(has(&jar, "http://www.a.test", "/admin", NOW + 5), Vec::<String>::new());
    // Another name, a path above, a host beside, one that has ended: none is overlaid.
    learn(&jar, "http://www.a.test", &["gone=2", "t=1", "deep=above"], NOW + 5);
    assert_eq!(has(&jar, "http://www.a.test", "/", NOW + 5), ["gone=2", "t=1", "deep=above"]);
    learn(&jar, "https://www.a.test", &["s=2; secure; domain=a.test"], NOW + 6);
    assert!(has(&jar, "https://www.a.test", "/", NOW + 6).contains(&"s=2".to_owned()), "https replaces it");
    jar.clear("", &origin("http://www.a.test"), &at(NOW + 6));
    assert!(!has(&jar, "https://www.a.test", "/", NOW + 6).is_empty(), "Clear-Site-Data in clear counts for nothing");
    jar.learn_sent("", [("__Secure-a", "1"), ("__Host-b", "1")].into_iter(), &origin("http://p.test"), "/", &at(NOW));
    assert_eq!(has(&jar, "http://p.test", "/", NOW), Vec::<String>::new());
}

#[test]
fn holders_of_one_jar_neither_see_nor_end_nor_crowd_out_what_is_anothers() {
    let folder = folder();
    let file = folder.path().join("jar.json");
    let jar = open(&file);
    let of = |holder: &str, field: &str| {
        jar.learn(holder, [field.as_bytes()].into_iter(), &origin("https://a.test"), "/", &at(NOW));
    };
    let seen = |jar: &Arc<Jar>, holder: &str| {
        let found = jar.cookies(holder, &origin("https://a.test"), "/", &at(NOW));
        found.into_iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>()
    };
    of("user alice", "sid=alice");
    of("user bob", "sid=bob");
    of("", "sid=own");
    jar.learn_sent("user bob", [("sid", "planted"), ("more", "1")].into_iter(), &origin("https://a.test"), "/", &at(NOW));
    let all = |jar: &Arc<Jar>| ["", "user alice", "user bob", "user eve"].map(|holder| seen(jar, holder).join("; "));
    assert_eq!(all(&jar), ["sid=own", "sid=alice", "sid=planted; more=1", ""]);
    let big = "x".repeat(4000);
    for n in 0..400 {
        jar.learn(
            "user bob",
            [format!("n{n}={big}").as_bytes()].into_iter(),
            &origin(&format!("https://h{n}.test")),
            "/",
            &at(NOW),
        );
    }
    jar.clear("user bob", &origin("https://a.test"), &at(NOW));
    assert_eq!(all(&jar), ["sid=own", "sid=alice", "", ""]);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < end && !std::fs::read_to_string(&file).is_ok_and(|text| !text.contains("planted")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let copy = folder.path().join("copy.json");
    std::fs::copy(&file, &copy).unwrap();
    assert_eq!(all(&open(&copy))[..2], ["sid=own".to_owned(), "sid=alice".to_owned()]);
}

#[test]
fn a_jar_is_bounded_in_all_and_for_each_site() {
    let folder = folder();
    let jar = open(&folder.path().join("jar.json"));
    let many: Vec<String> = (0..400).map(|n| format!("n{n}=v")).collect();
    learn(&jar, "https://a.test", &many.iter().map(String::as_str).collect::<Vec<_>>(), NOW);
    let kept = has(&jar, "https://a.test", "/", NOW);
    assert!(kept.len() == 180 && kept.contains(&"n399=v".to_owned()), "{}", kept.len());
    let big: Vec<String> = (0..100).map(|n| format!("n{n}={}", "x".repeat(4000))).collect();
    for n in 0..4 {
        learn(&jar, &format!("https://h{n}.test"), &big.iter().map(String::as_str).collect::<Vec<_>>(), NOW + 2 + n);
    }
    let total: usize = (0..4).map(|n| has(&jar, &format!("https://h{n}.test"), "/", NOW).concat().len()).sum();
    assert!(total <= 1024 * 1024, "{total}");
    assert_eq!(has(&jar, "https://h3.test", "/", NOW).len(), 100, "the newest stay");
    assert_eq!(has(&jar, "https://a.test", "/", NOW).len(), 0, "the oldest go");
}

#[test]
fn a_jar_is_kept_in_a_private_file_and_read_again() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let file = folder.path().join("state/jar.json");
    let jar = open(&file);
    learn(&jar, "https://a.test", &["a=1; secure"], NOW);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let jars = Jars::default();
    let (one, same, other) = (jars.open(&file).unwrap(), jars.open(&file).unwrap(), open(&file));
    assert!(Arc::ptr_eq(&one, &same), "one file is one jar");
    assert!(!Arc::ptr_eq(&one, &other), "but not of another gatepass");
    drop((one, same, other));
    drop(jar);
    let again = open(&file);
    assert_eq!(has(&again, "https://a.test", "/", NOW), ["a=1"]);
}

/// Another process's write: its jar is opened under another name, and the file moved over.
fn elsewhere(file: &PathBuf, change: impl FnOnce(&Arc<Jar>)) {
    let copy = file.with_file_name("elsewhere.json");
    std::fs::copy(file, &copy).unwrap();
    let jar = open(&copy);
    change(&jar);
    drop(jar);
    std::fs::rename(&copy, file).unwrap();
}

#[test]
fn processes_that_share_a_file_learn_and_forget_together() {
    let folder = folder();
    let file = folder.path().join("jar.json");
    let jar = open(&file);
    learn(&jar, "https://a.test", &["a=1", "b=1", "c=1"], NOW);
    elsewhere(&file, |other| learn(other, "https://a.test", &["b=2", "c=; max-age=0", "d=1"], NOW + 10));
    // Ours is newer than what the file says of `a`, older for `b`.
    learn(&jar, "https://a.test", &["a=9", "e=1"], NOW + 20);
    assert_eq!(has(&jar, "https://a.test", "/", NOW), ["a=9", "b=2", "d=1", "e=1"]);
    elsewhere(&file, |other| learn(other, "https://a.test", &["a=; max-age=0"], NOW + 30));
    std::thread::sleep(Duration::from_millis(600));
    jar.refresh();
    assert_eq!(has(&jar, "https://a.test", "/", NOW), ["b=2", "d=1", "e=1"]);
    std::fs::remove_file(&file).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    jar.refresh();
    assert_eq!(has(&jar, "https://a.test", "/", NOW), Vec::<String>::new(), "who deletes the file ends the session");
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let folder = folder();
    let file = folder.path().join("jar.json");
    for text in ["# Netscape HTTP Cookie File\n", "{}", "{\"version\":3,\"cookies\":[]}"] {
        std::fs::write(&file, text).unwrap();
        assert!(Jars::default().open(&file).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
