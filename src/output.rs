//! Files that appear whole or not at all: written under a hidden name in the directory where they
//! will stay, made durable, then given their name, which is never taken from another file unless
//! the caller says so.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file without its name yet. Dropped before [`OutputFile::publish`], it is removed.
#[derive(Debug)]
pub struct OutputFile {
    directory: at::Directory,
    hidden: OsString,
    file: File,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Hidden,
    Published,
}

/// Who may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever the user's umask lets.
    Usual,
    /// Only the user (0600): keys and links.
    Private,
}

/// What happens to a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and publishing fails with [`OutputFailed::Exists`].
    Never,
    /// It is replaced at once.
    Yes,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputFailed {
    /// The name is taken.
    #[error("'{}' exists already; nothing was overwritten (--force replaces it)", .0.display())]
    Exists(PathBuf),
    /// The directory does not exist or cannot be opened.
    #[error("the directory '{}' cannot be opened: {cause}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The disk, or the user's quota on it, is full, or files may not be so large.
    #[error(
        "there is no space left for '{}' on the disk, in your quota, or below the size that a \
         file may have (ulimit -f); it was not written", .0.display()
    )]
    Full(PathBuf),
    /// Anything else that the system said.
    #[error("'{}' cannot be written: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
}

impl OutputFailed {
    pub(crate) fn of(path: &Path, cause: io::Error) -> OutputFailed {
        let path = path.to_path_buf();
        match cause.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => OutputFailed::Full(path),
            _ => OutputFailed::Io { path, cause },
        }
    }
}

/// How often another hidden name is tried when one is taken; 64 random bits never are.
const HIDDEN_NAMES_TRIED_MAX: usize = 4;

impl OutputFile {
    /// An empty file with a hidden name in `directory`, open for reading and writing.
    pub fn create_in(directory: &Path, access: Access) -> Result<OutputFile, OutputFailed> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let opened = at::Directory::open(directory).map_err(|cause| OutputFailed::Directory {
            directory: directory.to_path_buf(),
            cause,
        })?;
        let mut tried = 0;
        loop {
            tried += 1;
            let hidden = hidden_name().map_err(|cause| OutputFailed::of(directory, cause))?;
            match opened.create_new(&hidden, access) {
                Ok(file) => {
                    return Ok(OutputFile {
                        directory: opened,
                        hidden,
                        file,
                        state: State::Hidden,
                    });
                }
                Err(e)
                    if e.kind() == io::ErrorKind::AlreadyExists
                        && tried < HIDDEN_NAMES_TRIED_MAX => {}
                Err(cause) => return Err(OutputFailed::of(directory, cause)),
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable and gives the file its name. `name` is one component, no path.
    /// On failure nothing is left behind.
    pub fn publish(mut self, name: &OsStr, replace: Replace) -> Result<PathBuf, OutputFailed> {
        assert!(
            Path::new(name).file_name() == Some(name),
            "a file is published under one plain component"
        );
        // "film.mkv", not "./film.mkv", for whoever reads it.
        let here = Path::new(".");
        let shown = Some(self.directory.path()).filter(|path| *path != here);
        let path = shown.unwrap_or(Path::new("")).join(name);
        self.file.sync_all().map_err(|cause| OutputFailed::of(&path, cause))?;
        let renamed = match replace {
            Replace::Never => self.directory.rename_new(&self.hidden, name),
            Replace::Yes => self.directory.rename_over(&self.hidden, name),
        };
        match renamed {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(OutputFailed::Exists(path));
            }
            Err(cause) => return Err(OutputFailed::of(&path, cause)),
        }
        self.state = State::Published;
        self.directory.sync().map_err(|cause| OutputFailed::of(&path, cause))?;
        Ok(path)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.state == State::Hidden {
            // Nobody is left to tell; a hidden file that stays is named so that it explains itself.
            let _ = self.directory.remove(&self.hidden);
        }
    }
}

fn hidden_name() -> io::Result<OsString> {
    let random = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?;
    Ok(OsString::from(format!(".pangea-unfinished-{random:016x}")))
}

/// Names below an open directory: what happens to the directory's own path in the meantime
/// (moved, replaced by a symbolic link) changes nothing.
#[cfg(unix)]
mod at {
    use super::Access;
    use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub struct Directory {
        handle: File,
        path: PathBuf,
    }

    impl Directory {
        pub fn open(path: &Path) -> io::Result<Directory> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
            Ok(Directory { handle, path: path.to_path_buf() })
        }

        pub fn path(&self) -> &Path {
            &self.path
        }

        pub fn create_new(&self, name: &OsStr, access: Access) -> io::Result<File> {
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(match access {
                Access::Usual => 0o666,
                Access::Private => 0o600,
            });
            Ok(File::from(rustix::fs::openat(&self.handle, name, flags, mode)?))
        }

        pub fn rename_over(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
        }

        pub fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            let (dir, no_replace) = (&self.handle, RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(dir, from, dir, to, no_replace) {
                Ok(()) => return Ok(()),
                Err(e) if e == rustix::io::Errno::EXIST => return Err(e.into()),
                // Some file systems (NFS among them) know no such rename; a hard link refuses a
                // taken name just as well.
                Err(_) => {}
            }
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            self.remove(from)
        }

        pub fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
        }

        pub fn sync(&self) -> io::Result<()> {
            match self.handle.sync_all() {
                // Some file systems cannot sync a directory and say so this way.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
                other => other,
            }
        }
    }
}

#[cfg(not(unix))]
mod at {
    use super::Access;
    use std::ffi::OsStr;
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub struct Directory {
        path: PathBuf,
    }

    impl Directory {
        pub fn open(path: &Path) -> io::Result<Directory> {
            if !fs::metadata(path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(Directory { path: path.to_path_buf() })
        }

        pub fn path(&self) -> &Path {
            &self.path
        }

        pub fn create_new(&self, name: &OsStr, _access: Access) -> io::Result<File> {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).open(self.path.join(name))
        }

        pub fn rename_over(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.path.join(from), self.path.join(to))
        }

        pub fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::hard_link(self.path.join(from), self.path.join(to))?;
            self.remove(from)
        }

        pub fn remove(&self, name: &OsStr) -> io::Result<()> {
            fs::remove_file(self.path.join(name))
        }

        pub fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputFile::create_in(dir.path(), Access::Usual).unwrap();
        output.file.write_all(b"half").unwrap();
        assert!(names(dir.path()).iter().all(|name| name.starts_with('.')));
        drop(output);
        assert!(names(dir.path()).is_empty());

        let output = OutputFile::create_in(dir.path(), Access::Usual).unwrap();
        output.file().write_all(b"whole").unwrap();
        let path = output.publish(OsStr::new("out"), Replace::Never).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_taken_name_is_kept_unless_the_caller_says_so() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("out"), b"old").unwrap();
        let output = OutputFile::create_in(dir.path(), Access::Usual).unwrap();
        let refused = output.publish(OsStr::new("out"), Replace::Never).unwrap_err();
        assert!(matches!(refused, OutputFailed::Exists(_)), "{refused}");
        assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out"]);

        let output = OutputFile::create_in(dir.path(), Access::Usual).unwrap();
        output.publish(OsStr::new("out"), Replace::Yes).unwrap();
        assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"");
    }

    #[test]
    #[cfg(unix)]
    fn a_dangling_link_with_the_name_is_a_taken_name() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("out")).unwrap();
        let output = OutputFile::create_in(dir.path(), Access::Usual).unwrap();
        let refused = output.publish(OsStr::new("out"), Replace::Never).unwrap_err();
        assert!(matches!(refused, OutputFailed::Exists(_)), "{refused}");
    }

    #[test]
    #[cfg(unix)]
    fn a_directory_that_moves_meanwhile_gets_the_file_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        fs::create_dir(&here).unwrap();
        let output = OutputFile::create_in(&here, Access::Usual).unwrap();
        fs::rename(&here, &there).unwrap();
        std::os::unix::fs::symlink("/nowhere", &here).unwrap();
        output.publish(OsStr::new("out"), Replace::Never).unwrap();
        assert_eq!(names(&there), ["out"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_private_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let output = OutputFile::create_in(dir.path(), Access::Private).unwrap();
        assert_eq!(output.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let failed = OutputFile::create_in(&missing, Access::Usual).unwrap_err();
        assert!(failed.to_string().contains("missing"), "{failed}");
    }
}
