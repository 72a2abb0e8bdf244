//! The only door to the file system: every error names the path, every read has a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What could not be done with a path.
#[derive(Debug)]
pub struct FileError {
    pub doing: &'static str,
    pub path: PathBuf,
    pub cause: io::Error,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), plain(&self.cause))
    }
}
impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// The cause in words, without "(os error 2)".
fn plain(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => cause.to_string(),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |cause| FileError { doing, path, cause }
}

/// The whole file, at most `bound` bytes.
///
/// # Errors
/// The file cannot be read or is larger than `bound`.
pub fn read(path: &Path, bound: usize) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mut bytes = Vec::new();
    file.take(bound as u64 + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() > bound {
        return Err(failed("read", path)(io::Error::other(format!("it is larger than {bound} bytes"))));
    }
    Ok(bytes)
}

/// [`read`] as UTF-8, without a byte-order mark.
///
/// # Errors
/// As [`read`], or the file is not UTF-8.
pub fn read_text(path: &Path, bound: usize) -> Result<String, FileError> {
    let text =
        String::from_utf8(read(path, bound)?).map_err(|_| failed("read", path)(io::Error::other("it is not UTF-8 text")))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// Permission bits (`0o600`), for warnings about keys that others can read.
///
/// # Errors
/// The path cannot be looked at.
pub fn mode(path: &Path) -> Result<u32, FileError> {
    Ok(fs::metadata(path).map_err(failed("look at", path))?.permissions().mode() & 0o7777)
}

/// Whose a file or folder is, and who may write to it.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub user: u32,
    pub group: u32,
    pub mode: u32,
    /// Of the file system, as it is mounted here.
    pub read_only: bool,
    /// The root of a mounted file system.
    pub is_mount: bool,
}

/// The standing of what a path leads to; `None` when there is nothing.
pub fn standing(path: &Path) -> Option<Standing> {
    let metadata = fs::metadata(path).ok()?;
    let above = path.parent().and_then(|parent| fs::metadata(parent).ok());
    Some(Standing {
        user: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.permissions().mode() & 0o7777,
        read_only: rustix::fs::statvfs(path).is_ok_and(|at| at.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)),
        is_mount: metadata.is_dir() && above.is_some_and(|above| above.dev() != metadata.dev()),
    })
}

/// The mode of a secret file that others than its owner can read. Not told of: a group that the owner, who is not us,
/// gave it to (so a service reads the key of root, and a container that of its volume), and read-only mounts, which
/// are as whoever set up the machine or container made them.
pub fn exposed(path: &Path) -> Option<u32> {
    let Standing { user, mode, read_only, .. } = standing(path).filter(|_| path.is_file())?;
    let forbidden = if user == own_user() { 0o077 } else { 0o007 };
    (mode & forbidden != 0 && !read_only).then_some(mode)
}

/// Whose the link is that a path is, if it is one.
pub fn link_owner(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().filter(|metadata| metadata.is_symlink()).map(|metadata| metadata.uid())
}

/// A character device, such as /dev/null.
pub fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

pub fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// Where a path leads, links followed.
pub fn real(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// The user that we run as.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// May we run it?
pub fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A group that nobody but this user is in: one of the same number, or by /etc/passwd and /etc/group.
pub fn is_private_group(group: u32, user: u32) -> bool {
    const BOUND: usize = 1 << 20;
    let [users, groups] = ["/etc/passwd", "/etc/group"].map(|file| read_text(Path::new(file), BOUND).unwrap_or_default());
    let fields = |text: &str| text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
    let (users, groups) = (fields(&users), fields(&groups));
    let number = |fields: &Vec<String>, at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
    let name = users.iter().find(|fields| number(fields, 2) == Some(user)).and_then(|fields| fields.first());
    let Some(listed) = groups.iter().find(|fields| number(fields, 2) == Some(group)) else { return group == user };
    let members = listed.get(3).map_or("", String::as_str).split(',').filter(|member| !member.is_empty());
    let others = users.iter().any(|fields| number(fields, 3) == Some(group) && number(fields, 2) != Some(user));
    !others && name.is_some() && members.into_iter().all(|member| Some(member) == name.map(String::as_str))
}

/// What changes when a file is written or replaced: time, length and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(SystemTime, u64, u64);

/// The stamp of a file; `None` when there is none.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp(metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// True when there is something at this path (a dangling link counts as nothing).
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// The files of a directory, sorted by name.
///
/// # Errors
/// The directory cannot be listed.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
        paths.push(entry.map_err(failed("list", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Creates a directory with its parents, open to all who may read there.
///
/// # Errors
/// It cannot be made.
pub fn create_dir(directory: &Path) -> Result<(), FileError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))
}

/// Creates a directory that only its owner may enter (0700), with its parents.
///
/// # Errors
/// It cannot be made.
pub fn create_private_dir(directory: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create", directory))
}

/// [`create_private_dir`] in a place that others can write too: what stands there already must be a folder of ours
/// that nobody else may enter.
///
/// # Errors
/// It cannot be made, or somebody else made it.
pub fn own_private_dir(directory: &Path) -> Result<(), FileError> {
    create_private_dir(directory)?;
    if is_own_private_dir(directory) {
        return Ok(());
    }
    Err(failed("use", directory)(io::Error::other("it is not a folder of ours that nobody else may enter")))
}

/// Is this a folder, no link to one, that belongs to us and that nobody else may enter?
pub fn is_own_private_dir(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
    })
}

/// Writes a file that only its owner may read (0600), whole or not at all: a temporary file beside
/// it, flushed to the disk, then renamed over it.
///
/// # Errors
/// It cannot be written; an existing file is then untouched.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_whole(path, bytes, 0o600)
}

/// [`write_private`], but readable by all (0644): certificates, bundles, generated text.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_whole(path, bytes, 0o644)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_ok() {
        sync_folder(path);
        sweep(path);
    }
    written.map_err(|cause| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(cause)
    })
}

/// [`write_private`], but only where nothing stands yet: `false` when something does, which is then
/// untouched. Of several processes that try at once exactly one gets `true`, and no reader ever sees
/// half a file: the bytes are written beside it and linked into place.
///
/// # Errors
/// It cannot be written.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let temporary = beside(path);
    let made = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    })();
    let _ = fs::remove_file(&temporary);
    if made.is_ok() {
        sync_folder(path);
        sweep(path);
    }
    made.map_err(failed("create", path))
}

pub fn is_link(path: &Path) -> bool {
    path.is_symlink()
}

/// True when this is a directory.
pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

/// A file that was renamed outlives a power cut only when its folder has been written too.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// No writer takes longer between making a temporary file and renaming it.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(60);

/// Removes temporary files of `path` that a writer left which was killed.
pub fn sweep(path: &Path) {
    let old = |file: &Path| {
        let changed = fs::metadata(file).and_then(|metadata| metadata.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
    };
    leftovers(path).iter().filter(|file| old(file)).for_each(|file| drop(fs::remove_file(file)));
}

/// Takes up what a writer of `path` had written whole when it was killed: it is renamed into place if it is newer. What
/// is not whole, or older, is removed. To be called by one who holds the right to write `path`: no writer is at work then.
///
/// # Errors
/// It cannot be put into place.
pub fn recover(path: &Path, bound: usize, is_whole: impl Fn(&[u8]) -> bool) -> Result<(), FileError> {
    let changed = |file: &Path| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    let whole = |file: &&PathBuf| read(file, bound).is_ok_and(|bytes| is_whole(&bytes));
    let all = leftovers(path);
    let newest = all.iter().filter(whole).max_by_key(|file| changed(file)).filter(|file| changed(file) >= changed(path));
    if let Some(newest) = newest {
        fs::rename(newest, path).map_err(failed("write", path))?;
        sync_folder(path);
    }
    all.iter().filter(|file| Some(*file) != newest).for_each(|file| drop(fs::remove_file(file)));
    Ok(())
}

/// Temporary files of `path`, by the names that [`beside`] gives.
fn leftovers(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let ours = |file: &str| {
        let rest = file.strip_prefix('.').and_then(|rest| rest.strip_prefix(name.as_str()))?.strip_prefix('.')?;
        let (pid, random) = rest.split_once('.')?;
        let is_ours =
            pid.bytes().all(|b| b.is_ascii_digit()) && random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
        is_ours.then_some(())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.filter(|entry| ours(&entry.file_name().to_string_lossy()).is_some()).map(|entry| entry.path()).collect()
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.{}", std::process::id(), crate::moment::random_hex::<4>()))
}

/// True when this is a socket.
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Sets permission bits.
///
/// # Errors
/// It is not ours, or not there.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the permissions of", path))
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(cause)),
        _ => Ok(()),
    }
}

/// Removes an empty folder.
///
/// # Errors
/// It is not empty, or cannot be removed.
pub fn remove_dir(path: &Path) -> Result<(), FileError> {
    fs::remove_dir(path).map_err(failed("remove", path))
}

/// Removes a folder with all that is in it; only for folders that were made here.
///
/// # Errors
/// Something of it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    fs::remove_dir_all(path).map_err(failed("remove", path))
}

/// Holds an exclusive lock on a file until dropped; waits for whoever has it.
///
/// # Errors
/// The file cannot be made.
pub fn lock(path: &Path) -> Result<File, FileError> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed("open", path))?;
    file.lock().map_err(failed("lock", path))?;
    Ok(file)
}

/// A lock on a file, held until dropped.
pub struct Lock(#[expect(dead_code, reason = "held")] File);

/// [`lock`] without waiting; `None` while another holds it.
///
/// # Errors
/// The file cannot be made.
pub fn try_lock(path: &Path) -> Result<Option<Lock>, FileError> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(cause)) => Err(failed("lock", path)(cause)),
    }
}

/// A temporary file without a name: gone when closed, whatever happens to the process.
///
/// # Errors
/// The temporary directory cannot be written.
pub fn unnamed() -> Result<File, FileError> {
    let path = std::env::temp_dir().join(format!(".gatepass.{}.{}", std::process::id(), crate::moment::random_hex::<8>()));
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed("create", &path))?;
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_is_taken_up_when_whole_and_newer_and_never_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.json");
        let names = || {
            list(dir.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let at = |file: &Path, seconds: u64| {
            File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .unwrap();
        };
        let whole = |bytes: &[u8]| bytes.ends_with(b"}");
        for (left, taken) in [("{new}", "{new}"), ("{ne", "{old}")] {
            write_private(&path, b"{old}").unwrap();
            at(&path, 1000);
            let (older, newer) = (dir.path().join(".token.json.12.0a1b2c3d"), dir.path().join(".token.json.7.0a1b2c3e"));
            fs::write(&older, "{older}").unwrap();
            at(&older, 500);
            fs::write(&newer, left).unwrap();
            at(&newer, 2000);
            fs::write(dir.path().join(".token.json.lock"), "").unwrap();
            recover(&path, 100, whole).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), taken);
            assert_eq!(names(), [".token.json.lock", "token.json"]);
        }
        // One that nobody recovers goes with the next writing, once no writer can be at work any more.
        let (old, fresh) = (dir.path().join(".token.json.1.00000000"), dir.path().join(".token.json.1.00000001"));
        fs::write(&old, "x").unwrap();
        at(&old, 1000);
        fs::write(&fresh, "x").unwrap();
        write_private(&path, b"{}").unwrap();
        assert_eq!(names(), [".token.json.1.00000001", ".token.json.lock", "token.json"]);
    }
}
