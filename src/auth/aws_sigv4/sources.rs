//! Where AWS credentials come from: settings, the environment, the files of AWS's own tools.

use std::path::PathBuf;
use std::time::Duration;

use super::credentials::{self, Command, DEFAULT_TIMEOUT, Source};
use super::network::{self, Container, Role, Token, is_near};
use super::profile::{self, Profiles, Way};
use crate::auth::BuildCx;
use crate::files;
use crate::secret::Secret;
use crate::secrets;
use crate::settings::{Decode, Fields, Place};
use crate::upstream::Route;
use crate::upstream::fetch::{Client, Url};
use crate::upstream::settings::UpstreamProxy;

/// What the settings say of credentials, and the region that goes with them.
pub fn build(fields: &Fields<'_>, decode: &mut Decode<'_>, cx: &BuildCx<'_>) -> Option<(Source, Option<String>)> {
    let ways: Vec<&str> = ["access_key", "profile", "command"].into_iter().filter(|way| fields.get(way).is_some()).collect();
    let mut finder = Finder { place: fields.place, cx, decode };
    let region = finder.env("AWS_REGION").or_else(|| finder.env("AWS_DEFAULT_REGION"));
    match ways[..] {
        [] if fields.get("secret_key").is_some() => {
            decode.required(fields, "aws_sigv4", "access_key");
            None
        }
        [] => finder.chain(region),
        ["access_key"] => given(fields, decode).map(|source| (source, region)),
        ["profile"] => {
            let node = fields.get("profile")?;
            finder.place = node.place;
            let name = finder.decode.string(node)?;
            let profiles = finder.files();
            finder.profile(&profiles, &name, region)
        }
        ["command"] => {
            let (argv, directory) = decode.argv(fields.get("command")?, "command")?;
            let timeout = fields.get("timeout").map_or(Some(DEFAULT_TIMEOUT), |node| decode.duration(node))?;
            let ttl = fields.get("ttl").map_or(Some(None), |node| decode.duration(node).map(Some))?;
            let bound = decode.scope().output;
            Some((Source::by(Command { argv, directory, timeout, ttl, bound }), region))
        }
        _ => {
            let message = format!("`{}` and `{}` both say where the credentials come from", ways[0], ways[1]);
            decode.report.error("two-sources", fields.place, message).help("keep one of them");
            None
        }
    }
}

fn given(fields: &Fields<'_>, decode: &mut Decode<'_>) -> Option<Source> {
    let access_key = decode.text(fields.get("access_key")?);
    let secret_key = decode.required(fields, "aws_sigv4", "secret_key").and_then(|node| decode.text(node));
    let session_token = match fields.get("session_token") {
        Some(node) => Some(secrets::reference(decode.text(node)?)),
        None => None,
    };
    let (access_key, secret_key) = (secrets::reference(access_key?), secrets::reference(secret_key?));
    for (name, value) in [("access_key", &access_key), ("secret_key", &secret_key)] {
        if value.known().is_some_and(Secret::is_empty) {
            decode.report.error("empty-secret", fields.get(name).map(|node| node.place), format!("`{name}` is empty"));
            return None;
        }
    }
    Some(credentials::given(access_key, secret_key, session_token))
}

fn keys(access_key: &str, secret_key: &str, session_token: Option<&str>) -> Source {
    credentials::known(&Secret::new(access_key), &Secret::new(secret_key), session_token.map(Secret::new).as_ref())
}

struct Finder<'a, 'd, 'm> {
    decode: &'a mut Decode<'d>,
    cx: &'a BuildCx<'m>,
    place: Place,
}

impl Finder<'_, '_, '_> {
    fn env(&self, name: &str) -> Option<String> {
        self.decode.scope().env.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn wrong<T>(&mut self, why: impl Into<String>, mend: impl Into<String>) -> Option<T> {
        self.decode.report.error("aws-credentials", self.place, why).help(mend);
        None
    }

    /// AWS's own order where nothing is said: keys in the environment, a web identity, the profile, the container.
    fn chain(&mut self, region: Option<String>) -> Option<(Source, Option<String>)> {
        if let Some(source) = self.environment() {
            return Some((source, region));
        }
        if let (Some(role_arn), Some(file)) = (self.env("AWS_ROLE_ARN"), self.env("AWS_WEB_IDENTITY_TOKEN_FILE")) {
            let session_name = self.env("AWS_ROLE_SESSION_NAME");
            let base = profile::Base::Token(file);
            let role = profile::Role { role_arn, base, external_id: None, session_name, duration: None };
            return self.source(Way::Role(role), region.as_deref()).map(|source| (source, region));
        }
        let named = self.env("AWS_PROFILE");
        let profiles = self.files();
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        if named.is_some() || profiles.way(&name).is_ok() {
            return self.profile(&profiles, &name, region);
        }
        if self.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").or_else(|| self.env("AWS_CONTAINER_CREDENTIALS_FULL_URI")).is_some()
        {
            return self.container().map(|source| (source, region));
        }
        if profiles.has(&name) {
            return self.profile(&profiles, &name, region);
        }
        self.wrong(
            "there are no AWS credentials: neither here, nor in the environment, nor a profile `default`",
            "add `access_key` and `secret_key`, `profile: NAME`, or `command: [PROGRAM, …]`; or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    }

    fn environment(&self) -> Option<Source> {
        let (access_key, secret_key) = (self.env("AWS_ACCESS_KEY_ID")?, self.env("AWS_SECRET_ACCESS_KEY")?);
        self.withhold(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
        Some(keys(&access_key, &secret_key, self.env("AWS_SESSION_TOKEN").as_deref()))
    }

    /// What signs here is no business of a command that is run.
    fn withhold(&self, names: &[&str]) {
        names.iter().for_each(|name| self.decode.scope().withheld.add(name));
    }

    /// [`Source`] of a profile; keys in the environment are of no use to a command then.
    fn profile(&mut self, profiles: &Profiles, name: &str, region: Option<String>) -> Option<(Source, Option<String>)> {
        self.withhold(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
        let region = profiles.get(name, "region").map(str::to_owned).or(region);
        match profiles.way(name) {
            Ok(way) => self.source(way, region.as_deref()).map(|source| (source, region)),
            Err(missing) => self.wrong(missing.why, missing.mend),
        }
    }

    fn source(&mut self, way: Way, region: Option<&str>) -> Option<Source> {
        match way {
            Way::Keys { access_key, secret_key, session_token } => Some(keys(&access_key, &secret_key, session_token.as_deref())),
            Way::Process(argv) => {
                let bound = self.decode.scope().output;
                let command = Command { argv, directory: PathBuf::new(), timeout: Duration::from_secs(60), ttl: None, bound };
                Some(Source::by(command))
            }
            Way::Environment => self.environment().or_else(|| {
                self.wrong(
                    "the profile takes its credentials from the environment, and it has none",
                    "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )
            }),
            Way::Container => self.container(),
            Way::Role(role) => self.role(role, region.unwrap_or("us-east-1")),
        }
    }

    fn role(&mut self, role: profile::Role, region: &str) -> Option<Source> {
        let profile::Role { role_arn, base, external_id, session_name, duration } = role;
        let base = match base {
            profile::Base::Way(way) => network::Base::Source(self.source(*way, Some(region))?),
            profile::Base::Token(file) => network::Base::Token(self.home(&file)),
        };
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let named = self.env("AWS_ENDPOINT_URL_STS").or_else(|| self.env("AWS_ENDPOINT_URL"));
        let sts = named.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com{suffix}"));
        let sts = self.url(&sts, "the address of AWS STS")?;
        let client = self.client(self.cx.via.clone())?;
        let session_name = session_name.unwrap_or_else(|| "gatepass".to_owned());
        let region = region.to_owned();
        let role = Role { client, sts, region, role_arn, base, external_id, session_name, duration };
        Some(Source::by(role))
    }

    fn container(&mut self) -> Option<Source> {
        let relative = self.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://169.254.170.2{path}"));
        let Some(text) = relative.or_else(|| self.env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else {
            return self
                .wrong("AWS_CONTAINER_CREDENTIALS_FULL_URI is not set", "run in the container, or name other credentials");
        };
        let url = self.url(&text, "AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
        if !is_near(&url) {
            let why =
                format!("AWS_CONTAINER_CREDENTIALS_FULL_URI is http and names {}, which is not this machine", url.origin.host);
            return self.wrong(why, "use https, or one of the addresses that ECS and EKS give");
        }
        let file = self.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|file| Token::File(PathBuf::from(file)));
        let token = file.or_else(|| self.env("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| Token::Text(Secret::new(text))));
        self.withhold(&["AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]);
        let client = self.client(UpstreamProxy::None.into())?;
        Some(Source::by(Container { client, url, token }))
    }

    fn client(&mut self, via: Route) -> Option<Client> {
        let BuildCx { net, trust, .. } = self.cx;
        match Client::over(net, via, None, None, (*trust).clone()) {
            Ok(client) => Some(client),
            Err(problem) => self.wrong(problem.message, problem.help.unwrap_or_default()),
        }
    }

    fn url(&mut self, text: &str, what: &str) -> Option<Url> {
        match Url::parse(text) {
            Ok(url) => Some(url),
            Err(why) => self.wrong(format!("{what} is not a URL: {why}"), "see the environment that gatepass runs in"),
        }
    }

    fn home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.env("HOME")) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// The shared files, those that are there; read now and watched.
    fn files(&mut self) -> Profiles {
        let mut profiles = Profiles::default();
        for (variable, standard, config) in
            [("AWS_CONFIG_FILE", "~/.aws/config", true), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", false)]
        {
            let path = self.home(&self.env(variable).unwrap_or_else(|| standard.to_owned()));
            if !files::exists(&path) {
                continue;
            }
            self.decode.note_file(path.clone());
            match files::read_text(&path, self.decode.scope().bound) {
                Ok(text) => profiles.add(&text, config),
                Err(cause) => {
                    self.wrong::<()>(cause.to_string(), "the file is one of AWS's own tools");
                }
            }
        }
        profiles
    }
}
