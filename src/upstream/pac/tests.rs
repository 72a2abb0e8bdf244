//! Scripts as companies have them, and as nobody should.

use std::cell::RefCell;

use super::*;

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), memory: 16 << 20 };

fn script(text: &str) -> Script {
    Script { name: "proxy.pac".to_owned(), text: text.into() }
}

#[allow(clippy::unwrap_used)]
fn run(text: &str, host: &str) -> Result<Option<String>, String> {
    let names: Names = Rc::new(|name| match name {
        "ten.test" => vec!["2001:db8::10".parse().unwrap(), "10.1.2.3".parse().unwrap()],
        "six.test" => vec!["2001:db8::6".parse().unwrap()],
        _ => Vec::new(),
    });
    engine::run(&script(text), &format!("https://{host}/"), host, names, BOUNDS)
}

/// Each line is an expression that holds.
fn hold(before: &str, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let said = run(&format!("{before}\nfunction FindProxyForURL(url, host) {{ return String({line}); }}"), "www.corp.test");
        assert_eq!(said, Ok(Some("true".to_owned())), "{line}");
    }
}

#[test]
fn the_functions_of_a_pac_script_say_what_they_should() {
    hold(
        "",
        r#"url === "https://www.corp.test/" && host === "www.corp.test"
        isPlainHostName("www") && !isPlainHostName("www.corp.test") && !isPlainHostName("::1")
        dnsDomainIs(host, ".corp.test") && dnsDomainIs("WWW.Corp.Test", ".corp.test") && !dnsDomainIs(host, ".corp") && !dnsDomainIs("a", ".corp.test")
        localHostOrDomainIs("www", "www.corp.test") && localHostOrDomainIs(host, host) && !localHostOrDomainIs("www.x.test", "www.corp.test")
        isResolvable("ten.test") && !isResolvable("nowhere.test") && !isResolvable("six.test") && isResolvableEx("six.test")
        dnsResolve("ten.test") === "10.1.2.3" && dnsResolve("nowhere.test") === null && dnsResolve("192.0.2.7") === "192.0.2.7"
        dnsResolveEx("ten.test") === "2001:db8::10;10.1.2.3" && dnsResolveEx("nowhere.test") === ""
        isInNet("10.1.2.3", "10.0.0.0", "255.0.0.0") && isInNet("ten.test", "10.1.0.0", "255.255.0.0") && !isInNet("11.1.2.3", "10.0.0.0", "255.0.0.0")
        !isInNet("nowhere.test", "0.0.0.0", "0.0.0.0") && !isInNet(dnsResolve("nowhere.test"), "10.0.0.0", "255.0.0.0") && !isInNet("10.1.2.3", "10", "x")
        isInNetEx("six.test", "2001:db8::/32") && isInNetEx("ten.test", "10.0.0.0/8") && !isInNetEx("six.test", "10.0.0.0/8")
        sortIpAddressList("10.0.0.2; 2001:db8::1;10.0.0.1") === "2001:db8::1;10.0.0.1;10.0.0.2"
        /^\d+\.\d+\.\d+\.\d+$/.test(myIpAddress()) && myIpAddressEx() !== undefined && getClientVersion() === "1.0"
        dnsDomainLevels("www") === 0 && dnsDomainLevels(host) === 2
        shExpMatch("http://a.test/x/y", "*/x/*") && shExpMatch("abc", "a?c") && shExpMatch("", "*") && !shExpMatch("abc", "a?") && !shExpMatch("a.b", "a*c")
        shExpMatch("a+b.test", "a+b.*") && !shExpMatch("aab.test", "a+b.*") && !shExpMatch("aXtest", "a.test")
        alert("seen") === undefined"#,
    );
    // Friday 27 November 2026, 13:05:10 here and 21:05:10 by GMT.
    let clock = "Date = function () {}; var P = Date.prototype;
        P.getDay = () => 5; P.getUTCDay = () => 5; P.getDate = () => 27; P.getUTCDate = () => 27; P.getMonth = () => 10; P.getUTCMonth = () => 10;
        P.getFullYear = () => 2026; P.getUTCFullYear = () => 2026; P.getHours = () => 13; P.getUTCHours = () => 21;
        P.getMinutes = () => 5; P.getUTCMinutes = () => 5; P.getSeconds = () => 10; P.getUTCSeconds = () => 10;";
    hold(
        clock,
        r#"weekdayRange("FRI") && weekdayRange("MON", "FRI") && weekdayRange("FRI", "MON") && weekdayRange("FRI", "GMT") && !weekdayRange("SAT", "THU") && !weekdayRange("XXX")
        dateRange(27) && dateRange(1, 27) && dateRange(20, 5) && !dateRange(28) && dateRange("NOV") && dateRange("OCT", "FEB") && !dateRange("JAN", "OCT")
        dateRange(2026) && dateRange(2020, 2026) && !dateRange(2027, 2030) && dateRange(24, "NOV", 2, "DEC") && dateRange(24, "DEC", 28, "NOV") && !dateRange(28, "NOV", 2, "DEC")
        dateRange("NOV", 2026, "JAN", 2027) && !dateRange("DEC", 2026, "JAN", 2027) && dateRange(1, "JUN", 1995, 15, "AUG", 2027) && !dateRange(1, "JUN", 1995, 15, "AUG", 2000)
        dateRange(27, "GMT") && !dateRange() && !dateRange(1, 2, 3) && !dateRange(27, "NOV")
        timeRange(13) && !timeRange(12) && timeRange(12, 13) && timeRange(22, 14) && !timeRange(14, 12) && timeRange(21, "GMT") && !timeRange(21)
        timeRange(13, 0, 13, 5) && !timeRange(13, 6, 14, 0) && timeRange(13, 5, 10, 13, 5, 10) && !timeRange(13, 5, 11, 13, 6, 0) && timeRange(21, 0, 21, 30, "GMT")"#,
    );
}

#[test]
fn a_script_that_fails_is_told_with_its_line() {
    let find = |body: &str| format!("var a = 1;\nfunction FindProxyForURL(url, host) {{\n{body}\n}}");
    for (text, words) in [
        (find("return hosst;"), "line 3: hosst is not defined"),
        ("function FindProxyForURL(url, host) {\n\n  return (];\n}".to_owned(), "line 3: unexpected token"),
        ("var a;\nnothere();".to_owned(), "line 2: nothere is not defined"),
        (find("null.x;"), "line 3: "),
        (find("throw 'no way';"), "it threw no way"),
        (find("return 7;"), "its answer is not a text but a int"),
        (find("return FindProxyForURL(url, host);"), "line 3: Maximum call stack size exceeded"),
        ("var x = 1;".to_owned(), "it has no function FindProxyForURL"),
        (String::new(), "it has no function FindProxyForURL"),
        ("<html>Sign in</html>".to_owned(), "line 1: "),
        (find("require('fs')"), "line 3: require is not defined"),
        (find("fetch('http://a')"), "line 3: fetch is not defined"),
        (find("std.exit(1)"), "line 3: std is not defined"),
    ] {
        let why = run(&text, "a.test").unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
    assert_eq!(run(&find("return null;"), "a.test"), Ok(None));
    assert_eq!(run(&find(""), "a.test"), Ok(None));
    assert_eq!(run("function FindProxyForURLEx(url, host) { return 'DIRECT'; }", "a.test"), Ok(Some("DIRECT".to_owned())));
}

#[test]
fn a_run_is_bounded_in_time_and_memory() {
    let short = Bounds { time: Duration::from_millis(50), memory: 4 << 20 };
    for (body, words) in [
        ("while (true) {}", "it ran longer than 50ms"),
        ("try { while (true) {} } finally { while (true) {} }", "it ran longer than 50ms"),
        ("return String(/^(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'));", "it ran longer than 50ms"),
        ("var a = []; while (true) a.push(new Array(100000).fill(7));", "it took more than 4096 KiB of memory"),
    ] {
        let text = format!("function FindProxyForURL(url, host) {{ {body} }}");
        let why = engine::run(&script(&text), "https://a.test/", "a.test", Rc::new(|_| Vec::new()), short).unwrap_err();
        assert!(why.contains(words), "{body}: {why}");
    }
}

#[test]
fn a_script_is_told_neither_path_nor_default_port() {
    let host = Host::parse("a.test").unwrap();
    assert_eq!(asked(&host, 443, Scheme::Https), ("https://a.test/".to_owned(), "a.test".to_owned()));
    assert_eq!(asked(&host, 80, Scheme::Https).0, "https://a.test:80/");
    assert_eq!(asked(&Host::parse("[::1]").unwrap(), 8080, Scheme::Http), ("http://[::1]:8080/".to_owned(), "::1".to_owned()));
}

#[test]
fn runs_share_nothing() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let text = "var n = 0; function FindProxyForURL(url, host) { n += 1; dnsResolve('n' + n + '.test'); return 'DIRECT'; }";
    for _ in 0..3 {
        let seen = seen.clone();
        let names: Names = Rc::new(move |name| {
            seen.borrow_mut().push(name.to_owned());
            Vec::new()
        });
        engine::run(&script(text), "https://a.test/", "a.test", names, BOUNDS).unwrap();
    }
    assert_eq!(*seen.borrow(), ["n1.test", "n1.test", "n1.test"]);
}
