//! Whose files may say what gatepass does. A configuration may run programs and send credentials, so one that
//! somebody else can change is not read, as git does not read such a repository's (git-config(1), `safe.directory`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::{self, Standing};

/// Who is believed: root, the user that gatepass runs as, and who called `sudo`; and which paths are, whoever owns them.
#[derive(Clone)]
pub struct Safe {
    users: Vec<u32>,
    spared: Vec<PathBuf>,
    everything: bool,
}

impl Default for Safe {
    fn default() -> Self {
        Self::new(&BTreeMap::new())
    }
}

/// Why a file is not believed, and the mend.
pub struct Unsafe {
    pub message: String,
    pub help: String,
}

impl Safe {
    /// `GATEPASS_SAFE`: paths of files or folders, with colons between them; `*` is every path.
    pub fn new(env: &BTreeMap<String, String>) -> Self {
        let own = files::own_user();
        let mut users = vec![0, own];
        if own == 0 {
            users.extend(env.get("SUDO_UID").and_then(|uid| uid.parse::<u32>().ok()));
        }
        let said: Vec<&str> = env.get("GATEPASS_SAFE").into_iter().flat_map(|list| list.split(':')).collect();
        let spared = said.iter().filter(|path| path.starts_with('/')).map(PathBuf::from).collect();
        Self { users, spared, everything: said.contains(&"*") }
    }

    /// Is this file somebody else's to change? One that is not there is nobody's, and so is a device (/dev/null).
    pub fn refuses(&self, path: &Path) -> Option<Unsafe> {
        let written = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let real = files::real(&written).filter(|real| !files::is_device(real))?;
        let spared = |path: &Path| self.spared.iter().any(|spared| path.starts_with(spared));
        if self.everything || spared(&written) || spared(&real) {
            return None;
        }
        let link = files::link_owner(&written).filter(|owner| !self.users.contains(owner));
        let why = match link {
            Some(owner) => Some(Why::Owner(owner)),
            None => self.judge(&files::standing(&real)?),
        };
        if let Some(why) = why {
            return Some(told(&written, why));
        }
        let above = real.ancestors().skip(1).chain(written.ancestors().skip(1));
        let open = above
            .filter(|folder| files::standing(folder).is_some_and(|standing| is_open(&standing)))
            .min_by_key(|f| f.as_os_str().len());
        open.map(|folder| told(&written, Why::Folder(folder.to_owned())))
    }

    fn judge(&self, standing: &Standing) -> Option<Why> {
        let Standing { user, group, mode, read_only, .. } = *standing;
        if read_only {
            // A mount that whoever set up this machine or container made; nobody writes through it.
            return None;
        }
        if !self.users.contains(&user) {
            return Some(Why::Owner(user));
        }
        if mode & 0o002 != 0 {
            return Some(Why::Everybody);
        }
        (mode & 0o020 != 0 && !self.is_own_group(group)).then_some(Why::Group(group))
    }

    /// A user's private group, as many systems make one for each, has nobody else in it. The group 0 is that of
    /// containers whose user is a number that nobody chose (OpenShift).
    fn is_own_group(&self, group: u32) -> bool {
        let mut others = self.users.iter().filter(|user| **user != 0);
        others.any(|user| group == 0 && files::own_user() != 0 || files::is_private_group(group, *user))
    }
}

enum Why {
    Owner(u32),
    Everybody,
    Group(u32),
    Folder(PathBuf),
}

/// Whoever likes may put another file in its place. The root of a volume is left to whoever mounted it: an `emptyDir`
/// of Kubernetes is like this.
fn is_open(standing: &Standing) -> bool {
    let Standing { user, mode, read_only, is_mount, .. } = *standing;
    let volume = is_mount && user != files::own_user();
    mode & 0o002 != 0 && mode & 0o1000 == 0 && !read_only && !volume
}

fn told(path: &Path, why: Why) -> Unsafe {
    let shown = path.display();
    let own = files::own_user();
    let (reason, mend) = match why {
        Why::Owner(user) => {
            (format!("it belongs to user {user}, and gatepass runs as user {own}"), format!("chown {own} {shown}"))
        }
        Why::Everybody => ("every user may write to it".to_owned(), format!("chmod o-w {shown}")),
        Why::Group(group) => (format!("group {group} may write to it"), format!("chmod g-w {shown}")),
        Why::Folder(folder) => {
            let folder = folder.display();
            (format!("every user may replace what is in {folder}"), format!("chmod o-w {folder}"))
        }
    };
    Unsafe {
        message: format!("{shown} is not read, since others can change it: {reason}"),
        help: format!("{mend}; or, if you trust it as it is, set GATEPASS_SAFE={shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe(users: &[u32]) -> Safe {
        Safe { users: users.to_vec(), spared: Vec::new(), everything: false }
    }

    fn file(user: u32, group: u32, mode: u32) -> Standing {
        Standing { user, group, mode, read_only: false, is_mount: false }
    }

    #[test]
    fn files_of_others_and_files_that_others_may_write_are_refused() {
        let of = safe(&[0, 4_001_001]);
        for good in [
            file(0, 0, 0o644),
            file(4_001_001, 4_001_001, 0o600),
            file(0, 2_000, 0o440),
            // A private group, by its number.
            file(4_001_001, 4_001_001, 0o664),
            Standing { read_only: true, ..file(1_000, 1_000, 0o644) },
        ] {
            assert!(of.judge(&good).is_none(), "{:o}", good.mode);
        }
        assert!(matches!(of.judge(&file(4_001_002, 4_001_002, 0o644)), Some(Why::Owner(4_001_002))));
        assert!(matches!(of.judge(&file(4_001_001, 4_001_001, 0o666)), Some(Why::Everybody)));
        assert!(matches!(of.judge(&file(4_001_001, 4_001_100, 0o664)), Some(Why::Group(4_001_100))));
        // Root has no group of its own that others could not be in.
        assert!(matches!(safe(&[0, 0]).judge(&file(0, 0, 0o664)), Some(Why::Group(0))));
    }

    #[test]
    fn a_folder_open_to_all_is_safe_only_sticky_or_as_a_volume() {
        let own = files::own_user();
        assert!(is_open(&file(own, 0, 0o777)));
        assert!(!is_open(&file(0, 0, 0o1777)) && !is_open(&file(own, 0, 0o2775)) && !is_open(&file(own, 0, 0o755)));
        let volume = Standing { is_mount: true, ..file(own + 1, 0, 0o2777) };
        assert!(!is_open(&volume) && is_open(&Standing { is_mount: false, ..volume }));
    }

    #[test]
    fn a_path_that_is_named_safe_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gatepass.yaml");
        std::fs::write(&path, "").unwrap();
        assert!(safe(&[0, files::own_user()]).refuses(&path).is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = safe(&[0, files::own_user()]).refuses(&path).unwrap();
        assert!(refused.message.contains("every user may write") && refused.help.contains("chmod o-w"), "{}", refused.help);
        for spared in [path.display().to_string(), format!("/elsewhere:{}", folder.path().display()), "*".to_owned()] {
            let env = BTreeMap::from([("GATEPASS_SAFE".to_owned(), spared)]);
            assert!(Safe::new(&env).refuses(&path).is_none());
        }
        for nobodys in [folder.path().join("none"), "/dev/null".into()] {
            assert!(safe(&[0, files::own_user()]).refuses(&nobodys).is_none());
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let inner = folder.path().join("open");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(inner.join("x"), "").unwrap();
        let refused = safe(&[0, files::own_user()]).refuses(&inner.join("x")).unwrap();
        assert!(refused.message.contains("may replace what is in"), "{}", refused.message);
    }
}
