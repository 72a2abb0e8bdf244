//! Which paths a rule speaks of, and how else an origin may read a path.

use std::fmt;

use globset::GlobMatcher;

use super::glob;

/// A glob over the path (without the query): `*` within a segment, `**` across segments. `/v1/**` is
/// `/v1`, `/v1/` and everything below. The path is compared as it was written; where rules for a host
/// ask for paths, ambiguous spellings (dot segments, empty segments, encoded slashes) are refused before.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: Box<str>,
    shape: Shape,
    /// The pattern as such an origin may read it: in one case, and percent-decoded too.
    lenient: Vec<(Box<str>, Shape)>,
}

/// Most patterns are a path, or a path and everything below it; those need no automaton, of which thousands would be slow to
/// build and large.
#[derive(Clone, Debug)]
enum Shape {
    Path,
    /// `/v1/**`.
    Below,
    Glob(GlobMatcher),
}

impl Shape {
    fn of(text: &str) -> Result<Self, globset::Error> {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        Ok(match text.strip_suffix("/**") {
            Some(front) if plain(front) => Self::Below,
            None if plain(text) => Self::Path,
            _ => Self::Glob(glob(text, true)?.compile_matcher()),
        })
    }

    fn matches(&self, text: &str, path: &str) -> bool {
        let front = text.strip_suffix("/**");
        match self {
            Self::Path => text == path,
            Self::Below => {
                (front.and_then(|front| path.strip_prefix(front))).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Glob(matcher) => matcher.is_match(path) || front == Some(path),
        }
    }
}

impl PathPattern {
    /// # Errors
    /// It does not begin with `/`, or is no glob.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') && !text.starts_with('*') {
            return Err("a path begins with `/`".to_owned());
        }
        if text.contains(['?', '#']) {
            return Err("a rule's path takes no query; the query plays no part in matching".to_owned());
        }
        let wrong = |cause: globset::Error| format!("this path pattern is not valid: {}", cause.kind());
        let shape = Shape::of(text).map_err(wrong)?;
        let plain = caseless(text);
        let mut lenient = vec![(plain.clone().into(), Shape::of(&plain).map_err(wrong)?)];
        let decoded = caseless(&to_text(&decode(text.as_bytes())));
        if decoded != plain
            && let Ok(shape) = Shape::of(&decoded)
        {
            lenient.push((decoded.into(), shape));
        }
        Ok(Self { text: text.into(), shape, lenient })
    }

    pub fn matches(&self, path: &str) -> bool {
        self.shape.matches(&self.text, path)
    }

    /// Does it match a path in any of its [`readings`]? For `action: deny`: an origin may decode, drop or
    /// ignore what we do not, and must not be reached that way.
    pub fn matches_any(&self, readings: &[String]) -> bool {
        readings.iter().any(|path| self.lenient.iter().any(|(text, shape)| shape.matches(text, path)))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How origins may read a path: percent-decoded, once or until nothing is left to decode (also `%u0061` as IIS has it, and
/// overlong UTF-8); cut at an encoded NUL, `?` or `#`; with `\\` for `/`; segments without `;parameters`, NTFS streams, and blanks
/// and dots around them (Windows drops those at the end); dot segments resolved or not, empty segments dropped or not, with
/// and without the slash at the end. All in one case.
pub fn readings(path: &str) -> Vec<String> {
    let once = decode(path.as_bytes());
    let mut whole = once.clone();
    for _ in 0..DECODINGS {
        let next = decode(&whole);
        if next == whole {
            break;
        }
        whole = next;
    }
    let (once, whole) = (to_text(&once), to_text(&whole));
    let mut found = vec![path.to_owned(), once.clone(), whole.clone()];
    let cuts = ['\0', '?', '#'].map(|mark| whole.split(mark).next().unwrap_or_default());
    for text in [once.as_str(), whole.as_str()].into_iter().chain(cuts) {
        let text = text.replace('\\', "/");
        let segments: Vec<&str> = text.split('/').map(plain).collect();
        found.push(segments.join("/"));
        found.push(resolved(&segments));
    }
    let mut all: Vec<String> = found.iter().map(|text| caseless(text)).collect();
    let without_slash: Vec<String> =
        all.iter().filter_map(|text| text.strip_suffix('/')).filter(|text| !text.is_empty()).map(str::to_owned).collect();
    all.extend(without_slash);
    all.sort_unstable();
    all.dedup();
    all
}

/// Servers behind servers decode one after the other; more than this are not met.
const DECODINGS: usize = 4;

/// One round of percent-decoding.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let hex = |from: usize, digits: usize| {
        let text = bytes.get(from..from + digits).filter(|text| text.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let wide = matches!(bytes.get(at + 1), Some(b'u' | b'U'));
        match bytes[at] {
            b'%' if wide && let Some(c) = hex(at + 2, 4).and_then(char::from_u32) => {
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
            }
            b'%' if let Some(byte) = hex(at + 1, 2).and_then(|byte| u8::try_from(byte).ok()) => {
                decoded.push(byte);
                at += 3;
            }
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// UTF-8, with ASCII characters also where they are written longer than they may be (RFC 3629 §10).
fn to_text(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        (plain, rest) = match (first, tail) {
            (0xc0 | 0xc1, [next @ 0x80..=0xbf, tail @ ..]) => (pushed(plain, (first & 1) << 6 | next & 0x3f), tail),
            (0xe0, [next @ (0x80 | 0x81), last @ 0x80..=0xbf, tail @ ..]) => (pushed(plain, (next & 1) << 6 | last & 0x3f), tail),
            _ => (pushed(plain, *first), tail),
        };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn pushed(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

/// A segment without what origins may drop from it.
fn plain(segment: &str) -> &str {
    let cut = |text: &'static str| segment.find(text);
    let end = [cut(";"), cut("\0"), cut("::$"), cut(":$")].into_iter().flatten().min().unwrap_or(segment.len());
    // Also what is no UTF-8: a blank in Latin-1, say.
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{fffd}';
    let bare = segment[..end].trim_matches(is_blank);
    match bare {
        "." | ".." => bare,
        _ => bare.trim_end_matches(|c: char| c == '.' || is_blank(c)),
    }
}

/// RFC 3986 §5.2.4, and without empty segments.
fn resolved(segments: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in segments {
        match *segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if matches!(segments.last(), Some(&("" | "." | ".."))) && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Also letters that only their upper case makes ASCII ones (the long s, the dotless i).
fn caseless(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_by_segments() {
        let matches = |pattern: &str, path: &str| PathPattern::parse(pattern).unwrap().matches(path);
        assert!(matches("/v1/**", "/v1") && matches("/v1/**", "/v1/") && matches("/v1/**", "/v1/a/b"));
        assert!(!matches("/v1/**", "/v10") && !matches("/v1/**", "/v2/v1/a"));
        assert!(matches("/v1/*", "/v1/a") && !matches("/v1/*", "/v1/a/b"));
        assert!(matches("/exact", "/exact") && !matches("/exact", "/exact/"));
        assert!(PathPattern::parse("v1").is_err() && PathPattern::parse("/a?b").is_err());
    }

    /// What needs no automaton matches as the glob does.
    #[test]
    fn plain_patterns_match_as_globs_do() {
        for pattern in ["/", "/**", "/v1", "/v1/", "/v1/**", "/a.b/c-d/**", "/v1/x%20y/**"] {
            let shape = Shape::of(pattern).unwrap();
            assert!(!matches!(shape, Shape::Glob(_)), "{pattern}");
            let globbed = Shape::Glob(glob(pattern, true).unwrap().compile_matcher());
            for path in
                ["", "*", "/", "/v1", "/v1/", "/v1/a", "/v1/a/b", "/v10", "/v1\n/a", "/aXb/c-d/e", "/a.b/c-d", "/v1/x%20y/\n"]
            {
                assert_eq!(shape.matches(pattern, path), globbed.matches(pattern, path), "{pattern} {path:?}");
            }
        }
        for pattern in ["**", "/*", "/v1/*/x/**", "/[ab]/**", "/{a,b}"] {
            assert!(matches!(Shape::of(pattern).unwrap(), Shape::Glob(_)), "{pattern}");
        }
    }

    fn denies(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches_any(&readings(path))
    }

    #[test]
    fn a_deny_holds_for_every_spelling_that_some_origin_reads_as_the_same_path() {
        for path in [
            "/admin",
            "/admin/",
            "/admin/x",
            "/ADMIN/x",
            "/%61dmin/x",
            "/%2561dmin/x",
            "/%252561dmin/x",
            "/%u0061dmin/x",
            "/admin;a=b/x",
            "/admin%3ba=b/x",
            "/admin%20/x",
            "/admin%09/x",
            "/admin%a0/x",
            "/%20admin/x",
            "/admin./x",
            "/admin%2e/x",
            "/admin.%20./x",
            "/admin%00/x",
            "/admin%00",
            "/admin%00.png",
            "/admin%3fx",
            "/admin%23x",
            "/admin%c0%afx",
            "/admin%e0%80%afx",
            "/admin%5cx",
            "/admin\\x",
            "/admin%255cx",
            "/admin%252fx",
            "/admin::$INDEX_ALLOCATION/x",
            "/admin:$i30:$INDEX_ALLOCATION/x",
            "//admin/x",
            "/./admin/x",
            "/a/../admin/x",
            "/a/%252e%252e/admin/x",
            "/a/..;/admin/x",
            "/;/admin/x",
            "/adm%C4%B1n/x",
        ] {
            assert!(denies("/admin/**", path), "{path}");
            assert!(denies("/Admin/**", path), "{path}");
        }
        for path in ["/administrator/x", "/x/admin", "/adm/in", "/", "/admin-x/y", "/a/%2561dmin"] {
            assert!(!denies("/admin/**", path), "{path}");
        }
    }

    #[test]
    fn a_deny_of_one_path_holds_for_it_with_a_slash_and_not_for_what_is_below() {
        for path in ["/secret", "/secret/", "/SECRET", "/secret;x", "/secret%00x"] {
            assert!(denies("/secret", path), "{path}");
        }
        for path in ["/secret/x", "/secrets", "/v1/models:predict"] {
            assert!(!denies("/secret", path), "{path}");
        }
        assert!(denies("/My%20Files/**", "/my%20files/x") && denies("/My%20Files/**", "/my%2520files/x"));
        assert!(!denies("/v1/models", "/v1/models:predict"));
    }

    proptest::proptest! {
        #[test]
        fn a_path_is_among_its_own_readings(path in "/[a-z0-9._~-]{0,12}(/[a-z0-9_~-]{1,12}){0,3}") {
            assert!(readings(&path).contains(&path), "{path}");
        }
    }
}
