//! Is this text a secret? By the kind of place first; by its name and its form where the place does not say.

/// How sure one must be that a text is harmless before it is copied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// No secret can stand there: hosts, paths of files.
    Any,
    /// Labels, regions, scopes: copied unless it has the form of a secret.
    Loose,
    /// User names, claims, free text: copied only where it is plainly words.
    Strict,
}

/// May a text without variables be copied?
pub fn is_harmless(text: &str, level: Level) -> bool {
    // What is not closed cannot be written down without meaning something else.
    !text.contains("{{")
        && match level {
            Level::Any => !text.contains("-----BEGIN "),
            Level::Loose => !looks_secret(text),
            Level::Strict => is_plain(text),
        }
}

/// Parts of names whose values are secrets.
const TELLING: [&str; 18] = [
    "token",
    "secret",
    "assertion",
    "passw",
    "passphrase",
    "apikey",
    "privatekey",
    "accesskey",
    "credential",
    "session",
    "cookie",
    "bearer",
    "signature",
    "sharedkey",
    "masterkey",
    "authkey",
    "jwt",
    "pwd",
];

/// Is something of this name a secret? `partnerKey` and `X-Functions-Key` are; `keyId` and `monkey` are not.
pub fn is_telling(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let bare: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let ends = |word: &str| words(name).last().is_some_and(|last| last == word);
    TELLING.iter().any(|word| bare.contains(word)) || ends("key") || ends("pin") || ends("otp") || ends("pass")
}

/// `partnerKey`, `partner-key` and `PARTNER_KEY` in words, lower case.
pub fn words(name: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut small = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || small && c.is_ascii_uppercase() {
            all.push(std::mem::take(&mut word));
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
        word.extend(c.is_ascii_alphanumeric().then_some(c.to_ascii_lowercase()));
    }
    all.push(word);
    all.retain(|word| !word.is_empty());
    all
}

/// How keys and tokens of well-known services begin.
const PREFIXES: [&str; 34] = [
    "sk_",
    "pk_live",
    "rk_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "1//",
    "SG.",
    "key-",
    "npm_",
    "pypi-",
    "dop_v1_",
    "shpat_",
    "shpss_",
    "sq0",
    "EAAA",
    "hvs.",
    "s.",
    "lin_api_",
    "PMAK-",
    "sk-",
    "eyJ",
    "Bearer ",
];

/// Has it the form of a key, a token, or a URL with a password?
pub fn looks_secret(text: &str) -> bool {
    let begins = |word: &str| PREFIXES.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 8));
    text.contains("-----BEGIN ")
        || has_userinfo(text)
        || begins(text.trim())
        || text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')).any(begins)
        || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
        || text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '=')).any(|word| {
            // Base64, where its two other characters cut it into short pieces; paths are lower case.
            word.len() >= 24 && word.contains(['+', '=']) && is_random(&word.replace(['+', '/', '='], ""))
        })
}

/// Letters and digits, or great and small letters, in no order that a person would choose.
fn is_random(word: &str) -> bool {
    let kinds: Vec<u8> =
        word.bytes().map(|b| if b.is_ascii_digit() { 0 } else { 1 + u8::from(b.is_ascii_uppercase()) }).collect();
    let digits = kinds.windows(2).filter(|pair| (pair[0] == 0) != (pair[1] == 0)).count();
    let cases = kinds.windows(2).filter(|pair| pair[0] == 1 && pair[1] == 2).count();
    word.len() >= 16 && digits >= 3 || word.len() >= 20 && cases >= 5 || word.len() >= 24 && digits >= 1 && cases >= 2
}

/// Words, numbers and names with a number behind, with nothing in between that names have not.
fn is_plain(text: &str) -> bool {
    const MARKS: &str = " ._-@\\/:+,()";
    let word = |word: &str| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = word.len() - letters.len();
        let humps =
            letters.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
        letters.chars().all(|c| c.is_alphabetic()) && letters.len() <= 24 && digits <= 6 && humps <= 3 && is_speakable(letters)
    };
    text.len() <= 128
        && !looks_secret(text)
        && !is_telling(text)
        && text.chars().all(|c| c.is_alphanumeric() || MARKS.contains(c))
        && text.split(|c: char| MARKS.contains(c)).all(word)
}

fn is_speakable(letters: &str) -> bool {
    let consonant = |c: char| c.is_ascii_alphabetic() && !"aeiouyAEIOUY".contains(c);
    let short = letters.len() <= 6;
    short || letters.split(|c| !consonant(c)).all(|run| run.len() <= 5)
}

/// `scheme://user:password@host`
pub fn has_userinfo(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Header fields that are called like keys and tokens, and are none.
const NO_CREDENTIALS: [&str; 20] = [
    "idempotency-key",
    "x-idempotency-key",
    "sec-websocket-key",
    "surrogate-key",
    "x-ms-documentdb-partitionkey",
    "postman-token",
    "page-token",
    "pagetoken",
    "next-token",
    "nexttoken",
    "continuation-token",
    "continuationtoken",
    "sync-token",
    "nextpagetoken",
    "page-key",
    "sort-key",
    "sortkey",
    "partition-key",
    "partitionkey",
    "skiptoken",
];

/// Fields whose values may be long and random, and are no credentials.
const ORDINARY: [&str; 10] =
    ["accept", "content-", "if-", "user-agent", "etag", "traceparent", "tracestate", "baggage", "range", "host"];

/// Names that say nothing without the value: a key of a map, or of a lock.
const EITHER: [&str; 9] = ["key", "code", "auth", "sid", "appid", "app-id", "session", "pass", "user-key"];

/// Is a header field or query parameter of this name a credential? `value`: without variables, or what a variable holds.
pub fn is_credential(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let lower = lower.trim_start_matches('$');
    if NO_CREDENTIALS.contains(&lower) || ORDINARY.iter().any(|word| lower.starts_with(word)) {
        return false;
    }
    if EITHER.contains(&lower) {
        return !value.is_empty() && !is_plain(value);
    }
    let by_name = is_telling(name)
        || matches!(lower, "authorization" | "proxy-authorization" | "sig" | "authentication" | "apitoken" | "hapikey")
        || lower.starts_with("x-auth")
        || lower.ends_with("-auth");
    by_name || looks_secret(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_secrets_are_known_and_plain_words_are_not_taken_for_them() {
        for text in [
            "sk_live_51H8xkjJ0ab",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "eyJhbGciOiJIUzI1NiJ9.e30.abc",
            "AKIAIOSFODNN7EXAMPLE",
            "https://u:p@example.com/",
            "-----BEGIN PRIVATE KEY-----",
            "9f86d081884c7d659a2feaa0c55ad015",
            "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
            "pre-Zq8kW1nV7tYb3Xc9Lm",
        ] {
            assert!(looks_secret(text) && !is_harmless(text, Level::Strict), "{text}");
        }
        for text in [
            "eu-central-1",
            "https://graph.microsoft.com/.default",
            "openid profile offline_access",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "execute-api",
            "/oauth2/v2.0/token",
            "urn:ietf:params:oauth:token-type:access_token",
        ] {
            assert!(!looks_secret(text), "{text}");
        }
        for text in ["svc", "alice@example.com", "EXAMPLE\\svc", "web-client", "sha256", "Jean-Luc", "shop/k1", "admin"] {
            assert!(is_harmless(text, Level::Strict), "{text}");
        }
        for text in ["dh37fgj492je", "s3cret", "hunter2!", "my-token", "p4ssw0rd", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "{{"] {
            assert!(!is_harmless(text, Level::Strict), "{text}");
        }
    }

    #[test]
    fn credentials_are_known_by_name_or_by_value() {
        for (name, value) in [
            ("Authorization", "x"),
            ("x-functions-key", ""),
            ("Ocp-Apim-Subscription-Key", ""),
            ("X-Vault-Token", ""),
            ("Cookie", ""),
            ("apikey", ""),
            ("api_key", ""),
            ("access_token", ""),
            ("sig", ""),
            ("X-Auth-User", ""),
            ("PRIVATE-TOKEN", ""),
            ("key", "AIzaSyD-9tSrke72PouQMnMX"),
            ("code", "Zq8kW1nV7tYb3Xc9Lm=="),
            ("X-Custom", "9f86d081884c7d659a2feaa0c55ad015"),
            ("X-Amz-Signature", ""),
        ] {
            assert!(is_credential(name, value), "{name}");
        }
        for (name, value) in [
            ("Accept", "*/*"),
            ("Idempotency-Key", "9f86d081884c7d659a2feaa0c55ad015"),
            ("page_token", "9f86d081884c7d659a2feaa0c55ad015"),
            ("key", "name"),
            ("limit", "10"),
            ("X-Tenant", "acme"),
            ("X-Request-Id", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
            ("keyId", "k1"),
        ] {
            assert!(!is_credential(name, value), "{name}");
        }
    }
}
