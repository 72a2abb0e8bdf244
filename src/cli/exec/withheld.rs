//! The command holds no secret: variables that the configuration reads secrets from are left out of its environment.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::super::Error;

#[derive(Args)]
pub struct Withholding {
    /// Leave this variable in the environment of the command though a secret is read from it
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    keep_env: Vec<String>,
    /// Give the command a stand-in in this variable, for an SDK that insists on one; any text, or the one named
    #[arg(long, value_name = "NAME[=TEXT]")]
    dummy: Vec<String>,
}

/// What stands in a variable that only has to be there.
const DUMMY: &str = "gatepass-dummy";

/// A shorter value stands in other variables by accident.
const SHORTEST: usize = 8;

/// Said of the user, the session or the machine; a configuration that uses one of them makes no secret of it.
const COMMON: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "USERNAME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TMPDIR",
    "TZ",
    "HOSTNAME",
    "HOST",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "EDITOR",
    "PAGER",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// What is done to the environment of a command.
pub struct Changes {
    pub removed: BTreeSet<String>,
    pub dummies: Vec<(String, String)>,
}

impl Withholding {
    /// `read`: the variables that went into secrets, of `env`. Others that hold the same go with them.
    pub fn changes(&self, read: &BTreeSet<String>, env: &BTreeMap<String, String>) -> Result<Changes, Error> {
        let common = |name: &str| COMMON.contains(&name) || name.starts_with("LC_") || name.starts_with("XDG_");
        let kept = |name: &str| self.keep_env.iter().any(|kept| kept == name);
        let secrets: Vec<&str> =
            read.iter().filter(|name| !common(name)).filter_map(|name| env.get(name)).map(|value| value.trim()).collect();
        let holds = |value: &str| secrets.iter().any(|secret| secret.len() >= SHORTEST && value.contains(secret));
        let same = env.iter().filter(|(_, value)| holds(value)).map(|(name, _)| name);
        let removed = read.iter().chain(same).filter(|name| !common(name) && !kept(name)).cloned().collect();
        let mut dummies = Vec::new();
        for text in &self.dummy {
            let (name, value) = text.split_once('=').unwrap_or((text, DUMMY));
            if name.is_empty() || value.is_empty() {
                return Err(Error::new("--dummy takes the name of a variable").help("write it as NAME or NAME=TEXT"));
            }
            dummies.push((name.to_owned(), value.to_owned()));
        }
        Ok(Changes { removed, dummies })
    }
}

impl Changes {
    /// Puts them into effect on a command.
    pub fn apply(&self, command: &mut tokio::process::Command) {
        for name in &self.removed {
            command.env_remove(name);
        }
        command.envs(self.dummies.iter().map(|(name, value)| (name, value)));
    }

    /// For a command that failed, perhaps for want of them.
    pub fn tell(&self) {
        let without: Vec<&str> =
            self.removed.iter().filter(|name| !self.dummies.iter().any(|(own, _)| own == *name)).map(String::as_str).collect();
        if let Some(first) = without.first() {
            eprintln!(
                "gatepass: the command ran without {}, which gatepass sends for it; `--dummy {first}` gives it a stand-in, `--keep-env {first}` the secret itself",
                without.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_unless_kept_and_dummies_stand_in() {
        let read: BTreeSet<String> = ["API_TOKEN", "KEPT", "HOME", "LC_ALL"].map(str::to_owned).into();
        let asked = Withholding { keep_env: vec!["KEPT".into()], dummy: vec!["API_TOKEN".into(), "OTHER=x=y".into()] };
        let env = [
            ("API_TOKEN", "t0k3n-t0k3n"),
            ("URL", "https://u:t0k3n-t0k3n@h/"),
            ("KEPT", "k"),
            ("PORT", "8080"),
            ("HOME", "/home/a"),
        ];
        let env: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let Ok(changes) = asked.changes(&read, &env) else { panic!() };
        assert_eq!(changes.removed.iter().collect::<Vec<_>>(), ["API_TOKEN", "URL"]);
        assert_eq!(changes.dummies, [("API_TOKEN".into(), DUMMY.into()), ("OTHER".into(), "x=y".to_owned())]);
        for wrong in ["", "=x", "A="] {
            assert!(Withholding { keep_env: vec![], dummy: vec![wrong.into()] }.changes(&read, &env).is_err(), "{wrong}");
        }
    }
}
