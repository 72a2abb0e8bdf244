//! `{ keyring: SERVICE/USER }`: a secret in the system's keyring.

use std::path::PathBuf;
use std::time::Duration;

use super::{Command, Decode, Fields};

impl Decode<'_> {
    /// An entry of the system's keyring, read by the system's own command: what it asks for, the user's session
    /// may have to answer. `SERVICE/USER` are the attributes that keyring libraries use.
    pub(super) fn keyring(&mut self, fields: &Fields<'_>) -> Option<Command> {
        let node = fields.get("keyring")?;
        let text = self.string(node)?;
        let Some((service, user)) = text.rsplit_once('/').filter(|(service, user)| !service.is_empty() && !user.is_empty())
        else {
            self.report
                .error("keyring", node.place, "an entry of the keyring is named by its service and user")
                .help("write it as `keyring: SERVICE/USER`");
            return None;
        };
        let ttl = fields.get("ttl").map_or(Some(Duration::from_secs(600)), |node| self.duration(node))?;
        // Long enough for somebody to unlock it.
        let timeout = fields.get("timeout").map_or(Some(Duration::from_secs(60)), |node| self.duration(node))?;
        for key in ["format", "field"] {
            if let Some(node) = fields.get(key) {
                self.report.error("no-use", node.place, format!("`{key}` belongs to `exec`")).help("take it out");
                return None;
            }
        }
        let (argv, mend): (Vec<&str>, String) = if cfg!(target_os = "macos") {
            let argv = vec!["security", "find-generic-password", "-s", service, "-a", user, "-w"];
            (argv, format!("store it with `security add-generic-password -s {service} -a {user} -w`"))
        } else {
            let argv = vec!["secret-tool", "lookup", "service", service, "username", user];
            let mend = "store it with `secret-tool store --label=gatepass service";
            (argv, format!("{mend} {service} username {user}`; secret-tool is in the package libsecret-tools, or libsecret"))
        };
        let argv = argv.into_iter().map(str::to_owned).collect();
        let (directory, bound) = (PathBuf::new(), self.scope.output);
        Some(Command { place: fields.place, argv, directory, ttl, timeout, field: None, bound, mend: Some(mend) })
    }
}
