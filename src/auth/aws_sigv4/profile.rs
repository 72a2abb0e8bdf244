//! The files that AWS's own tools keep (`~/.aws/config`, `~/.aws/credentials`), as far as they say how to get
//! credentials ("Configuration and credential file settings").

use std::collections::{BTreeMap, BTreeSet};

use crate::settings::{Shape, quoted};

/// Settings by profile; those of the credentials file win.
#[derive(Default)]
pub struct Profiles(BTreeMap<String, BTreeMap<String, String>>);

impl Profiles {
    /// `config`: sections are called `profile NAME`, but for `default`.
    pub fn add(&mut self, text: &str, config: bool) {
        let mut profile: Option<String> = None;
        for line in text.lines() {
            let bare = line.trim();
            // Indented lines are settings of a setting (`s3 =`).
            if bare.is_empty() || bare.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
                continue;
            }
            if let Some(section) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                profile = name(section.trim(), config);
                if let Some(name) = &profile {
                    self.0.entry(name.clone()).or_default();
                }
                continue;
            }
            if let (Some(name), Some((key, value))) = (&profile, bare.split_once('=')) {
                let value = value.split(" #").next().unwrap_or(value).split(" ;").next().unwrap_or(value);
                let settings = self.0.entry(name.clone()).or_default();
                settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str, key: &str) -> Option<&str> {
        self.0.get(name)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// How `name` says that credentials are had.
    ///
    /// # Errors
    /// It does not say, or in a way that is left to AWS's own tool.
    pub fn way(&self, name: &str) -> Result<Way, Missing> {
        self.follow(name, &mut BTreeSet::new())
    }

    fn follow(&self, name: &str, seen: &mut BTreeSet<String>) -> Result<Way, Missing> {
        if !self.has(name) {
            return Err(Missing {
                why: format!("there is no AWS profile {}", quoted(name, Shape::Plain, "of this name")),
                mend: self.known(),
            });
        }
        let get = |key: &str| self.get(name, key).map(str::to_owned);
        // A profile may name itself as the source of its role: its own keys are meant then.
        let again = !seen.insert(name.to_owned());
        if let (Some(role_arn), false) = (get("role_arn"), again) {
            return self.role(name, role_arn, seen);
        }
        if let (Some(access_key), Some(secret_key)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            return Ok(Way::Keys { access_key, secret_key, session_token: get("aws_session_token") });
        }
        if let Some(command) = get("credential_process") {
            let argv = words(&command).filter(|argv| !argv.is_empty()).ok_or_else(|| Missing {
                why: format!("the credential_process of the AWS profile `{name}` has a quote that is not closed"),
                mend: "close it".to_owned(),
            })?;
            return Ok(Way::Process(argv));
        }
        if get("sso_session").is_some() || get("sso_start_url").is_some() || get("login_session").is_some() {
            return Err(Missing::tool(name, "signs in through the browser"));
        }
        Err(Missing::tool(name, "says nothing of credentials"))
    }

    fn role(&self, name: &str, role_arn: String, seen: &mut BTreeSet<String>) -> Result<Way, Missing> {
        let get = |key: &str| self.get(name, key).map(str::to_owned);
        if get("mfa_serial").is_some() {
            return Err(Missing::tool(name, "asks for a one-time password (mfa_serial)"));
        }
        let base = match (get("source_profile"), get("web_identity_token_file"), get("credential_source").as_deref()) {
            (Some(source), ..) => Base::Way(Box::new(self.follow(&source, seen)?)),
            (_, Some(file), _) => Base::Token(file),
            (.., Some("Environment")) => Base::Way(Box::new(Way::Environment)),
            (.., Some("EcsContainer")) => Base::Way(Box::new(Way::Container)),
            (.., Some(_)) => return Err(Missing::tool(name, "takes its credentials from the instance (credential_source)")),
            _ => return Err(Missing::tool(name, "names a role, and neither source_profile nor web_identity_token_file")),
        };
        let duration = get("duration_seconds").and_then(|text| text.parse().ok());
        Ok(Way::Role(Role { role_arn, base, external_id: get("external_id"), session_name: get("role_session_name"), duration }))
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.names().collect();
        if names.is_empty() { "the AWS files name no profile".to_owned() } else { format!("there are {}", names.join(", ")) }
    }
}

/// How credentials are had.
pub enum Way {
    Keys { access_key: String, secret_key: String, session_token: Option<String> },
    Process(Vec<String>),
    Environment,
    Container,
    Role(Role),
}

/// A role to assume.
pub struct Role {
    pub role_arn: String,
    pub base: Base,
    pub external_id: Option<String>,
    pub session_name: Option<String>,
    /// In seconds.
    pub duration: Option<u32>,
}

pub enum Base {
    Way(Box<Way>),
    /// A file with a web identity token.
    Token(String),
}

pub struct Missing {
    pub why: String,
    pub mend: String,
}

impl Missing {
    /// What AWS's own tool can do and we cannot, it can do for us.
    fn tool(name: &str, what: &str) -> Self {
        Self {
            why: format!("the AWS profile `{name}` {what}"),
            mend: format!(
                "let AWS's tool do that: `command: [aws, configure, export-credentials, --profile, {name}, --format, process]` in place of `profile`"
            ),
        }
    }
}

fn name(section: &str, config: bool) -> Option<String> {
    match section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])) {
        Some(rest) => Some(rest.trim().trim_matches('"').to_owned()),
        None if !config || section == "default" => Some(section.to_owned()),
        // `sso-session x`, `services y`.
        None => None,
    }
}

/// A command line in words, as a POSIX shell would split it, without its expansions. `None`: a quote is left open.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => word.get_or_insert_default().push(rest.next()?),
            (Some('"'), '\\') => {
                let next = rest.next()?;
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.get_or_insert_default().push('\\');
                }
                word.get_or_insert_default().push(next);
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
[default]
region = eu-central-1
s3 =
  addressing_style = path
[profile work]
credential_process = \"/opt/my tools/creds\" --for 'a b' c\\ d
region=us-west-2 ; near
[profile admin]
role_arn = arn:aws:iam::123456789012:role/admin
source_profile = default
external_id = x1
[profile self]
role_arn = arn:aws:iam::123456789012:role/self
source_profile = self
aws_access_key_id = AKSELF
aws_secret_access_key = s
[profile a]
role_arn = r
source_profile = b
[profile b]
role_arn = r
source_profile = a
[profile pod]
role_arn = r
web_identity_token_file = /token
[profile mfa]
role_arn = r
source_profile = default
mfa_serial = x
[profile sso]
sso_session = corp
[sso-session corp]
sso_region = us-east-1
";
    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id=AKDEFAULT\naws_secret_access_key = a=b/c+d #not a key\naws_session_token=t\n[ci]\naws_access_key_id = AKCI\n";

    fn profiles() -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(CONFIG, true);
        profiles.add(CREDENTIALS, false);
        profiles
    }

    #[test]
    fn keys_processes_roles_and_tokens_are_found() {
        let profiles = profiles();
        let Ok(Way::Keys { access_key, secret_key, session_token }) = profiles.way("default") else { panic!() };
        assert_eq!((access_key.as_str(), secret_key.as_str(), session_token.as_deref()), ("AKDEFAULT", "a=b/c+d", Some("t")));
        let Ok(Way::Process(argv)) = profiles.way("work") else { panic!() };
        assert_eq!(argv, ["/opt/my tools/creds", "--for", "a b", "c d"]);
        assert_eq!(profiles.get("work", "region"), Some("us-west-2"));
        for name in ["admin", "self"] {
            let Ok(Way::Role(role)) = profiles.way(name) else { panic!("{name}") };
            assert!(matches!(role.base, Base::Way(way) if matches!(*way, Way::Keys { .. })));
        }
        let Ok(Way::Role(role)) = profiles.way("pod") else { panic!() };
        assert!(matches!(role.base, Base::Token(file) if file == "/token"));
    }

    #[test]
    fn what_a_profile_lacks_is_said_with_the_mend() {
        let profiles = profiles();
        for (name, why) in
            [("nope", "no AWS profile"), ("ci", "says nothing"), ("sso", "browser"), ("a", "says nothing"), ("mfa", "mfa_serial")]
        {
            let missing = profiles.way(name).err().unwrap();
            assert!(missing.why.contains(why), "{name}: {}", missing.why);
            assert!(missing.mend.contains("export-credentials") || missing.mend.contains("there are"), "{}", missing.mend);
        }
    }
}
