//! Which web page, if any, made a browser send a request, and whether it may have our credentials for it: one place for
//! every way in. Browsers say so in `Sec-Fetch-Site` (Fetch Metadata §2.3) and `Origin` (Fetch §3.2), which pages can
//! neither set nor take away. Other clients are the user's own programs; what they say is taken as they say it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::origin::{Host, Origin, Scheme, parse_authority};

/// Fetch Metadata §2.3. Sent with every request to https and to loopback, by browsers since 2019 to 2023.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// May pages of other sites have it? Pages of loopback origins, a developer's own server, may in any case.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum CrossSite {
    #[default]
    Refuse,
    Allow,
    /// Pages of these origins.
    Origins(Vec<PageOrigin>),
}

impl fmt::Display for CrossSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrossSite::Refuse => f.write_str("refuse"),
            CrossSite::Allow => f.write_str("allow"),
            CrossSite::Origins(origins) => {
                let texts: Vec<String> = origins.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// Where a page is from, as `Origin` has it (RFC 6454 §6.2): scheme, host and port, whatever the scheme is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PageOrigin {
    Web(Origin),
    /// `chrome-extension://…` and the like.
    Other(Box<str>),
}

impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageOrigin::Web(origin) => origin.fmt(f),
            PageOrigin::Other(text) => f.write_str(text),
        }
    }
}

impl PageOrigin {
    /// `None`: it is no origin. `null` is none either: it is what every page says that has no origin of its own.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let lower = scheme.to_ascii_lowercase();
        let scheme = match lower.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                let named = other.starts_with(|c: char| c.is_ascii_lowercase())
                    && other.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
                let plain = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"/?#\\*".contains(&b));
                return (named && plain).then(|| Self::Other(format!("{other}://{}", rest.to_ascii_lowercase()).into()));
            }
        };
        let (host, port) = match parse_authority(rest) {
            Ok(parsed) => parsed,
            // As a person writes it.
            Err(_) if !rest.is_ascii() => (Host::parse_written(rest).ok()?, None),
            Err(_) => return None,
        };
        Some(Self::Web(Origin::new(scheme, host, port.unwrap_or(scheme.default_port()))))
    }

    fn is_loopback(&self) -> bool {
        matches!(self, PageOrigin::Web(origin) if is_loopback(&origin.host))
    }
}

/// Is it this machine, whatever a resolver says (RFC 6761 §6.3)?
pub fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.to_canonical().is_loopback(),
        Host::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The domain that a site's owner registered, under which all its hosts are; the host itself where there is none.
pub fn site(host: &str) -> &str {
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    psl::domain_str(host).filter(|_| !is_address).unwrap_or(host)
}

/// A page of another site that made a browser send a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignPage {
    /// `None`: the browser does not say (an image, a link), or it has none (`null`).
    origin: Option<PageOrigin>,
    /// What gave it away.
    evidence: String,
    /// The page, where the browser names no origin. It tells the reader more, and permits nothing.
    referrer: Option<PageOrigin>,
}

/// The page of another site behind a request to `target`. `None`: there is no page behind it, or one of the same site;
/// then at most two look-ups were made.
pub fn foreign_page(headers: &HeaderMap, target: &Origin) -> Option<ForeignPage> {
    match FetchSite::of(headers) {
        Some(FetchSite::None | FetchSite::SameOrigin | FetchSite::SameSite) => None,
        Some(FetchSite::Other) => Some(ForeignPage::new(headers)),
        None => {
            let is_own = |page: &PageOrigin| matches!(page, PageOrigin::Web(page) if is_same_site(page, target));
            headers.contains_key(header::ORIGIN).then(|| ForeignPage::new(headers)).filter(|page| !page.is_from(is_own))
        }
    }
}

/// The page that is not of the very origin behind a request that came in by the authority `asked`: where this is an
/// address of gatepass's own, other pages of the site have no say in what it does.
pub fn foreign_page_to_listener(headers: &HeaderMap, asked: Option<&(Host, Option<u16>)>) -> Option<ForeignPage> {
    let is_own = |page: &PageOrigin| match (page, asked) {
        // The scheme may differ where something in between takes TLS off.
        (PageOrigin::Web(page), Some((host, port))) => {
            page.host == *host && port.unwrap_or(page.scheme.default_port()) == page.port
        }
        _ => false,
    };
    let has_origin = headers.contains_key(header::ORIGIN);
    match FetchSite::of(headers) {
        Some(FetchSite::None | FetchSite::SameOrigin) => None,
        // All that is of the same site as a loopback name is on this machine.
        Some(FetchSite::SameSite) if !has_origin && asked.is_some_and(|(host, _)| is_loopback(host)) => None,
        None if !has_origin => None,
        Some(FetchSite::Other) => Some(ForeignPage::new(headers)),
        Some(FetchSite::SameSite) | None => Some(ForeignPage::new(headers)).filter(|page| !page.is_from(is_own)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FetchSite {
    /// The user's own doing: typed, a bookmark.
    None,
    SameOrigin,
    SameSite,
    /// `cross-site`, and what nobody has heard of.
    Other,
}

impl FetchSite {
    /// `None`: the client does not say. What is said twice counts by the worse.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(SEC_FETCH_SITE).iter();
        let first = Self::read(values.next()?);
        Some(values.fold(first, |site, more| if Self::read(more) == site { site } else { FetchSite::Other }))
    }

    fn read(value: &HeaderValue) -> Self {
        match value.as_bytes().trim_ascii() {
            b"none" => FetchSite::None,
            b"same-origin" => FetchSite::SameOrigin,
            b"same-site" => FetchSite::SameSite,
            _ => FetchSite::Other,
        }
    }
}

/// The same registered domain. A page in clear is another site to https (HTML §7.1.1.1): whoever is on its way can
/// write into it.
fn is_same_site(page: &Origin, target: &Origin) -> bool {
    let downgraded = page.scheme == Scheme::Http && target.scheme == Scheme::Https;
    let same =
        page.host == target.host || matches!((&page.host, &target.host), (Host::Name(a), Host::Name(b)) if site(a) == site(b));
    same && !downgraded
}

impl ForeignPage {
    fn new(headers: &HeaderMap) -> Self {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let text = |value: &HeaderValue| value.to_str().ok().map(str::trim).map(str::to_owned);
        let (first, second) = (origins.next().and_then(text), origins.next());
        let origin = first.as_deref().filter(|_| second.is_none()).and_then(PageOrigin::parse);
        let referrer = || {
            let text = headers.get(header::REFERER)?.to_str().ok()?;
            let end = text.find("://").map(|at| at + 3)?;
            PageOrigin::parse(&text[..text[end..].find('/').map_or(text.len(), |slash| end + slash)])
        };
        let evidence = match (headers.get(SEC_FETCH_SITE), &origin, &first) {
            (Some(site), ..) => format!("Sec-Fetch-Site: {}", String::from_utf8_lossy(site.as_bytes())),
            (None, Some(_), _) => "Origin".to_owned(),
            (None, None, first) => format!("Origin: {}", first.as_deref().unwrap_or("more than one")),
        };
        let referrer = if origin.is_none() { referrer() } else { None };
        Self { origin, evidence, referrer }
    }

    fn is_from(&self, is: impl FnOnce(&PageOrigin) -> bool) -> bool {
        self.origin.as_ref().is_some_and(is)
    }

    /// Is it one that may have what is for the user?
    pub fn is_allowed_by(&self, setting: &CrossSite) -> bool {
        match setting {
            CrossSite::Allow => true,
            CrossSite::Refuse => self.is_from(PageOrigin::is_loopback),
            CrossSite::Origins(origins) => self.is_from(|page| page.is_loopback() || origins.contains(page)),
        }
    }

    /// What to write, where it should be one; `of`: where.
    pub fn help(&self, of: &str) -> String {
        match &self.origin {
            Some(origin) => format!("if it should, say `cross_site: [{origin}]` in {of}"),
            None => format!("the browser names no origin that could be listed: only `cross_site: allow` in {of} lets it"),
        }
    }
}

/// `a page of https://evil.example (Sec-Fetch-Site: cross-site)`.
impl fmt::Display for ForeignPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.referrer) {
            (Some(origin), _) => write!(f, "a page of {origin}")?,
            (None, Some(referrer)) => write!(f, "a page of another site, by its Referer {referrer}")?,
            (None, None) => f.write_str("a page of another site")?,
        }
        write!(f, " ({})", self.evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        map
    }

    fn origin(text: &str) -> Origin {
        match PageOrigin::parse(text) {
            Some(PageOrigin::Web(origin)) => origin,
            other => panic!("{other:?}"),
        }
    }

    fn withheld(said: &[(&'static str, &str)], target: &str, setting: &CrossSite) -> bool {
        foreign_page(&fields(said), &origin(target)).is_some_and(|page| !page.is_allowed_by(setting))
    }

    const SITE: &str = "sec-fetch-site";

    #[test]
    fn only_a_page_of_another_site_goes_without() {
        let target = "https://api.corp.example.com";
        let cases: &[(&[(&'static str, &str)], bool)] = &[
            (&[], false),
            (&[(SITE, "none")], false),
            (&[(SITE, "same-origin"), ("origin", "https://api.corp.example.com")], false),
            (&[(SITE, "same-site"), ("origin", "https://www.corp.example.com")], false),
            (&[(SITE, "cross-site")], true),
            (&[(SITE, "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-user", "?1")], true),
            (&[(SITE, "cross-site"), ("sec-fetch-mode", "websocket"), ("origin", "https://evil.test")], true),
            (&[(SITE, "Same-Origin")], true),
            (&[(SITE, "anything")], true),
            (&[(SITE, "")], true),
            (&[(SITE, "none"), (SITE, "cross-site")], true),
            (&[(SITE, "cross-site"), ("referer", "http://localhost:3000/x")], true),
            (&[("origin", "https://evil.test")], true),
            (&[("origin", "null")], true),
            (&[("origin", "file://")], true),
            (&[("origin", "")], true),
            (&[("origin", "chrome-extension://abcdef")], true),
            (&[("origin", "https://example.com.evil.test")], true),
            (&[("origin", "https://notexample.com")], true),
            (&[("origin", "https://www.example.com")], false),
            (&[("origin", "https://example.com:8443")], false),
            (&[("origin", "http://www.example.com")], true),
            (&[("origin", "https://api.corp.example.com"), ("origin", "https://evil.test")], true),
            (&[("referer", "https://evil.test/")], false),
        ];
        for (said, wanted) in cases {
            assert_eq!(withheld(said, target, &CrossSite::Refuse), *wanted, "{said:?}");
            assert!(!withheld(said, target, &CrossSite::Allow), "{said:?}");
        }
    }

    #[test]
    fn pages_of_this_machine_count_as_the_users_own_and_no_look_alike_does() {
        let cross = |page: &str| withheld(&[(SITE, "cross-site"), ("origin", page)], "https://api.test", &CrossSite::Refuse);
        for page in [
            "http://localhost:3000",
            "https://localhost",
            "http://app.localhost:8080",
            "http://127.0.0.1:5173",
            "http://127.9.9.9",
            "http://[::1]:3000",
        ] {
            assert!(!cross(page), "{page}");
        }
        for page in [
            "http://localhost.evil.test",
            "http://notlocalhost",
            "http://localhost@evil.test",
            "http://127.0.0.1.evil.test",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://localhost/",
            "localhost",
            "ftp://localhost",
        ] {
            assert!(cross(page), "{page}");
        }
    }

    #[test]
    fn sites_are_registered_domains_and_addresses_are_their_own() {
        let foreign = |page: &str, target: &str| withheld(&[("origin", page)], target, &CrossSite::Refuse);
        assert!(foreign("https://alice.github.io", "https://bob.github.io"));
        assert!(foreign("https://a.co.uk", "https://b.co.uk"));
        assert!(!foreign("https://a.x.co.uk", "https://b.x.co.uk"));
        assert!(foreign("https://10.0.0.1", "https://10.0.0.2"));
        assert!(!foreign("https://10.0.0.1:1", "https://10.0.0.1"));
        assert!(!foreign("https://app", "https://app:8443") && foreign("https://app", "https://api"));
    }

    #[test]
    fn listed_origins_count_by_scheme_host_and_port() {
        let listed = ["https://app.other.test", "chrome-extension://AbC"].map(|text| PageOrigin::parse(text).unwrap());
        let setting = CrossSite::Origins(listed.to_vec());
        let cross = |page: &str| withheld(&[(SITE, "cross-site"), ("origin", page)], "https://api.test", &setting);
        for page in ["https://app.other.test", "https://app.other.test:443", "chrome-extension://abc", "http://localhost:1"] {
            assert!(!cross(page), "{page}");
        }
        for page in [
            "http://app.other.test",
            "https://app.other.test:8443",
            "https://x.app.other.test",
            "null",
            "chrome-extension://abcd",
        ] {
            assert!(cross(page), "{page}");
        }
        for wrong in ["null", "*", "https://*.example.com", "https://a.test/path", "app.test", "https://", "://a"] {
            assert!(PageOrigin::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_of_ours_is_for_its_own_pages_and_those_of_this_machine() {
        let refused = |said: &[(&'static str, &str)], asked: &str| {
            let asked = parse_authority(asked).unwrap();
            foreign_page_to_listener(&fields(said), Some(&asked)).is_some_and(|page| !page.is_allowed_by(&CrossSite::Refuse))
        };
        let cases: &[(&[(&'static str, &str)], &str, bool)] = &[
            (&[], "localhost:9001", false),
            (&[(SITE, "none")], "localhost:9001", false),
            (&[(SITE, "same-origin"), ("origin", "http://localhost:9001")], "localhost:9001", false),
            (&[(SITE, "same-site"), ("origin", "http://localhost:3000")], "localhost:9001", false),
            (&[(SITE, "same-site")], "localhost:9001", false),
            (&[(SITE, "same-site")], "api.corp.test:9001", true),
            (&[(SITE, "same-site"), ("origin", "http://www.corp.test")], "api.corp.test:9001", true),
            (&[(SITE, "cross-site"), ("origin", "http://127.0.0.1:3000")], "localhost:9001", false),
            (&[(SITE, "cross-site")], "localhost:9001", true),
            (&[(SITE, "cross-site"), ("sec-fetch-mode", "navigate")], "localhost:9001", true),
            (&[("origin", "https://evil.test")], "localhost:9001", true),
            (&[("origin", "null")], "localhost:9001", true),
            (&[("origin", "http://api.corp.test:9001")], "api.corp.test:9001", false),
            (&[("origin", "https://api.corp.test")], "api.corp.test", false),
            (&[("origin", "http://api.corp.test:9002")], "api.corp.test:9001", true),
            (&[("referer", "https://evil.test/")], "localhost:9001", false),
        ];
        for (said, asked, wanted) in cases {
            assert_eq!(refused(said, asked), *wanted, "{said:?} {asked}");
        }
    }

    #[test]
    fn it_says_who_asked_and_what_to_write() {
        let told = |said: &[(&'static str, &str)]| {
            let page = foreign_page(&fields(said), &origin("https://api.test")).unwrap();
            format!("{page}; {}", page.help("the rule"))
        };
        assert_eq!(
            told(&[(SITE, "cross-site"), ("origin", "https://Evil.test")]),
            "a page of https://evil.test (Sec-Fetch-Site: cross-site); if it should, say `cross_site: [https://evil.test]` in the rule"
        );
        let image = told(&[(SITE, "cross-site"), ("referer", "https://evil.test/page?secret=1")]);
        assert!(image.starts_with("a page of another site, by its Referer https://evil.test (Sec"), "{image}");
        assert!(!image.contains("secret") && image.contains("only `cross_site: allow`"), "{image}");
        assert!(told(&[("origin", "null")]).starts_with("a page of another site (Origin: null)"));
    }
}
