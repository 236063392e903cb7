//! A node's data directory: made for its owner only, marked with its version, and locked while a
//! node runs on it. It may be named through a symbolic link; inside it none is followed, and what
//! others may write is not used.
//!
//! ```text
//! version        one line, VERSION_LINE; another line is another version
//! lock           locked (flock) by the node that runs; holds its process number, for people
//! identity.key   who the node is
//! control.sock   where `pangea status` asks
//! panic.log      what our own bugs said, if there were any
//! trace.sock     where `pangea trace` asks (in builds with the feature `trace`)
//! store/         the shards (shards/store/format.md)
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::common::user_data_directory;
use super::exit::Failure;
use super::panics::PANIC_LOG;
use crate::output::{Access, OutputFile, Replace};
use crate::private::{self, NotPrivate};

const VERSION_LINE: &str = "pangea data directory, version 1";
const VERSION_FILE: &str = "version";
/// More than any version of this file has.
const VERSION_BYTES_MAX: u64 = 200;
/// What may be in a directory that is not marked yet: a key brought along, and what a start that
/// was cut off leaves.
const UNMARKED_NAMES: [&str; 3] = ["identity.key", LOCK_FILE, "lost+found"];
const LOCK_FILE: &str = "lock";
const STORE: &str = "store";
/// What is ours in a data directory, beside its store.
const OUR_NAMES: [&str; 6] =
    [VERSION_FILE, LOCK_FILE, "identity.key", CONTROL_SOCKET, "trace.sock", PANIC_LOG];

/// A data directory that this process has for itself.
pub struct DataDirectory {
    path: PathBuf,
    kept_bytes: u64,
    // Held for its lock, which the system releases when we are gone, however we go.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if it is not there, checks and locks it.
    pub fn open(path: &Path) -> Result<DataDirectory, Failure> {
        let shown = path.display();
        let failed = |cause: io::Error| {
            Failure::file(format!("the data directory '{shown}' cannot be used: {cause}"))
        };
        make(path).map_err(failed)?;
        let facts = fs::metadata(path).map_err(failed)?;
        if !facts.is_dir() {
            return Err(Failure::file(format!("'{shown}' is a file, not a directory")));
        }
        let names = OUR_NAMES.iter().chain(&[STORE]).map(|name| path.join(name));
        private::check_directory(path, &facts, names)?;
        // Before the lock file is made: a directory that is not ours gets no file of ours.
        let marked = check_version(path)?;
        let lock = lock(path)?;
        let kept_bytes = private::check_below(&path.join(STORE), DEPTH_MAX)?;
        if !marked {
            write_version(path)?;
        }
        Ok(DataDirectory { path: path.to_path_buf(), kept_bytes, _lock: lock })
    }

    /// Bytes that the store takes on disk already.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Whether a node's store is here.
    pub fn has_store(&self) -> bool {
        self.path.join(STORE_FORMAT).symlink_metadata().is_ok()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The file that every store has (shards/store/format.md).
const STORE_FORMAT: &str = "store/format";

impl From<NotPrivate> for Failure {
    fn from(refused: NotPrivate) -> Failure {
        Failure::file(refused.to_string())
    }
}

/// The directory that a node uses unless told otherwise.
pub fn or_default(data: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match data {
        Some(path) => Ok(path.clone()),
        None => Ok(user_data_directory()?.join("node")),
    }
}

/// The identity of the node in `data`.
pub fn key_path(data: &Path) -> PathBuf {
    data.join("identity.key")
}

/// The name of the socket at which a node answers.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The socket at which a node on `data` answers.
pub fn control_path(data: &Path) -> PathBuf {
    data.join(CONTROL_SOCKET)
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    match builder.create(path) {
        // What is there, if no directory, is named by the caller.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether the directory is marked as ours; refuses one of another version or with other content.
fn check_version(path: &Path) -> Result<bool, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| Failure::file(format!("the data directory '{shown}': {cause}"));
    match private::open_to_read(&path.join(VERSION_FILE)) {
        Ok(file) => {
            let mut text = String::new();
            let read = file.take(VERSION_BYTES_MAX).read_to_string(&mut text);
            match read.is_ok() && text.trim_end() == VERSION_LINE {
                true => Ok(true),
                false => Err(Failure::file(format!(
                    "the data directory '{shown}' is of another version: its file 'version' does \
                     not say '{VERSION_LINE}'; run the pangea that made it, or choose another \
                     directory with --data"
                ))),
            }
        }
        Err(NotPrivate::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            for entry in fs::read_dir(path).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let name = name.to_string_lossy();
                if !UNMARKED_NAMES.contains(&name.as_ref()) && !name.starts_with('.') {
                    return Err(Failure::file(format!(
                        "'{shown}' is no data directory, and not empty (it has '{name}' in it); \
                         choose an empty or a new directory with --data"
                    )));
                }
            }
            Ok(false)
        }
        Err(refused) => Err(refused.into()),
    }
}

fn write_version(path: &Path) -> Result<(), Failure> {
    let output = OutputFile::create_in(path, Access::Private)?;
    let failed = |cause| Failure::file(format!("'{}': {cause}", path.display()));
    writeln!(output.file(), "{VERSION_LINE}").map_err(failed)?;
    output.publish(VERSION_FILE.as_ref(), Replace::Never)?;
    Ok(())
}

fn lock(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| {
        Failure::file(format!("the data directory '{shown}' cannot be locked: {cause}"))
    };
    let mut file = private::open_or_make(&path.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut holder);
            let holder = match holder.trim().parse::<u32>() {
                Ok(process) => format!(" (process {process})"),
                Err(_) => String::new(),
            };
            return Err(Failure::file(format!(
                "the data directory '{shown}' is in use by another process{holder}; stop it, or \
                 choose another directory with --data"
            )));
        }
        Err(TryLockError::Error(cause)) => return Err(failed(cause)),
    }
    // For people only, so nothing depends on it: a full disk does not matter here.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Free bytes where `path` is, for this user.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Free bytes where `path` is: not known on this system, so all of the default capacity.
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Directories below the store's that are looked into.
const DEPTH_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_for_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/data");
        let first = DataDirectory::open(&path).unwrap();
        let refused = DataDirectory::open(&path).err().unwrap();
        assert!(refused.message.contains("in use by another process"), "{}", refused.message);
        assert!(refused.message.contains(&std::process::id().to_string()), "{}", refused.message);
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_directory_with_other_content_stays_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), b"years of work").unwrap();
        let refused = DataDirectory::open(dir.path()).err().unwrap();
        assert!(refused.message.contains("thesis.txt"), "{}", refused.message);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_may_be_brought_along_and_a_cut_off_start_repeated() {
        let dir = tempfile::tempdir().unwrap();
        for name in UNMARKED_NAMES.iter().chain(&[".pangea-unfinished-0"]) {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        DataDirectory::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["pangea data directory, version 2\n", "", "\u{0}\u{0}"] {
            fs::write(dir.path().join(VERSION_FILE), version).unwrap();
            let refused = DataDirectory::open(dir.path()).err().unwrap();
            assert!(refused.message.contains("another version"), "{}", refused.message);
        }
    }

    #[test]
    fn what_a_store_takes_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(dir.path()).unwrap();
        assert_eq!((directory.kept_bytes(), directory.has_store()), (0, false));
        drop(directory);
        fs::create_dir_all(dir.path().join("store/p00")).unwrap();
        fs::write(dir.path().join("store/format"), "").unwrap();
        fs::write(dir.path().join("store/p00/extent"), vec![1; 8192]).unwrap();
        let file = File::open(dir.path().join("store/p00/extent")).unwrap();
        file.sync_all().unwrap();
        let directory = DataDirectory::open(dir.path()).unwrap();
        assert!(directory.kept_bytes() >= 8192 && directory.has_store());
        assert!(free_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    #[cfg(unix)]
    fn no_link_in_a_data_directory_is_followed_and_what_it_points_to_is_untouched() {
        use std::os::unix::fs::symlink;
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = elsewhere.path().join("victim");
        fs::write(&victim, "years of work").unwrap();
        for marked in [false, true] {
            for name in OUR_NAMES.iter().chain(&[STORE]) {
                let path = dir.path().join(name);
                if path.exists() || (*name == STORE && !marked) {
                    continue;
                }
                symlink(&victim, &path).unwrap();
                let refused = DataDirectory::open(dir.path()).err().unwrap();
                assert!(refused.message.contains("symbolic link"), "{}", refused.message);
                assert!(refused.message.contains(name), "{}", refused.message);
                fs::remove_file(&path).unwrap();
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "years of work");
            assert!(!marked || dir.path().join(VERSION_FILE).exists());
            // The directory itself may be named through one.
            let named = elsewhere.path().join(format!("{marked}"));
            symlink(dir.path(), &named).unwrap();
            DataDirectory::open(&named).unwrap();
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_directory_that_others_may_write_is_refused_with_the_cure() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let set = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o770, 0o707, 0o777] {
            set(mode);
            let refused = DataDirectory::open(dir.path()).err().unwrap();
            assert!(refused.message.contains("chmod go-w"), "{}", refused.message);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        for mode in [0o755, 0o700] {
            set(mode);
            DataDirectory::open(dir.path()).unwrap();
        }
    }

    /// What a file system in memory is when it is mounted.
    #[test]
    #[cfg(unix)]
    fn a_directory_in_which_each_touches_only_their_own_will_do_with_what_is_ours() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        DataDirectory::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join(STORE)).unwrap();
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED another user's store: only root can make one");
            return;
        }
        for name in [VERSION_FILE, LOCK_FILE, STORE] {
            chown(dir.path().join(name), Some(65534), None).unwrap();
            let refused = DataDirectory::open(dir.path()).err().unwrap();
            assert!(refused.message.contains("another user"), "{}", refused.message);
            assert!(refused.message.contains(name), "{}", refused.message);
            chown(dir.path().join(name), Some(0), None).unwrap();
        }
        DataDirectory::open(dir.path()).unwrap();
    }
}
