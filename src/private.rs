//! Files and directories that nobody else may write, reached through no symbolic link: what a
//! node's identity and its store are kept in.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Why something in a data directory is not used. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPrivate {
    #[error(
        "'{}' is a symbolic link, and none is followed inside a data directory: put what it points \
         to there itself (another disk can be mounted there), or choose another directory with \
         --data", .0.display()
    )]
    Link(PathBuf),
    #[error(
        "others may write '{}' (its mode is {mode:03o}), so they could put other keys or other \
         shards in place; if nobody has, close it with: chmod go-w '{}'",
        path.display(), path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "'{}' belongs to another user (uid {owner}); if it is to be yours, take it over with: \
         chown -R {us} '{}'",
        path.display(), path.display()
    )]
    NotOurs { path: PathBuf, owner: u32, us: u32 },
    #[error("'{}' is not {what}; move it away", path.display())]
    Kind { path: PathBuf, what: &'static str },
    #[error(
        "'{}' has another name elsewhere (it has {names} hard links), and who has that could \
         write it; remove it", path.display()
    )]
    Names { path: PathBuf, names: u64 },
    #[error("'{}' cannot be used: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

impl NotPrivate {
    pub(crate) fn io(path: &Path, cause: io::Error) -> NotPrivate {
        NotPrivate::Io { path: path.to_path_buf(), cause }
    }
}

/// A file that only we write, made if it is not there: a regular one, of one name, ours. Its
/// content is as it was.
pub(crate) fn open_or_make(path: &Path) -> Result<File, NotPrivate> {
    let file = open(path, OpenOptions::new().read(true).write(true).create(true))?;
    let facts = file.metadata().map_err(|cause| NotPrivate::io(path, cause))?;
    check_owner(path, &facts)?;
    match names(&facts) {
        1 => Ok(file),
        names => Err(NotPrivate::Names { path: path.to_path_buf(), names }),
    }
}

/// A regular file that is read, not through a link.
pub(crate) fn open_to_read(path: &Path) -> Result<File, NotPrivate> {
    open(path, OpenOptions::new().read(true))
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<File, NotPrivate> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Without NONBLOCK, opening a pipe that somebody left here would wait for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    let opened = options.open(path).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((facts, file)) if facts.is_file() => Ok(file),
        Ok(_) => Err(NotPrivate::Kind { path: path.to_path_buf(), what: "a regular file" }),
        Err(_) if path.is_symlink() => Err(NotPrivate::Link(path.to_path_buf())),
        Err(cause) if cause.kind() == io::ErrorKind::IsADirectory => {
            Err(NotPrivate::Kind { path: path.to_path_buf(), what: "a regular file" })
        }
        Err(cause) => Err(NotPrivate::io(path, cause)),
    }
}

/// Fails if there is a symbolic link of this name.
pub(crate) fn no_link(path: &Path) -> Result<(), NotPrivate> {
    match path.is_symlink() {
        true => Err(NotPrivate::Link(path.to_path_buf())),
        false => Ok(()),
    }
}

/// Fails if others could put something of theirs in the place of what we have in this directory,
/// or have done so: of `names` none is a link, and where others may make files each is ours.
pub(crate) fn check_directory(
    directory: &Path,
    facts: &Metadata,
    mut names: impl Iterator<Item = PathBuf>,
) -> Result<(), NotPrivate> {
    let shared = is_shared(facts);
    if !shared {
        check(directory, facts)?;
    }
    names.try_for_each(|path| match fs::symlink_metadata(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(NotPrivate::io(&path, cause)),
        Ok(facts) if facts.is_symlink() => Err(NotPrivate::Link(path)),
        Ok(facts) if shared => check_made_by_us(&path, &facts),
        Ok(_) => Ok(()),
    })
}

/// Whether all may make files here and touch only their own, as in /tmp: a file system in memory
/// begins like that.
#[cfg(unix)]
fn is_shared(facts: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&facts.uid());
    ours && facts.mode() & 0o1000 != 0 && facts.mode() & 0o022 != 0
}

/// Not even root takes what another user may have put here.
#[cfg(unix)]
fn check_made_by_us(path: &Path, facts: &Metadata) -> Result<(), NotPrivate> {
    use std::os::unix::fs::MetadataExt;
    let (owner, us) = (facts.uid(), rustix::process::geteuid().as_raw());
    match owner == us {
        true => Ok(()),
        false => Err(NotPrivate::NotOurs { path: path.to_path_buf(), owner, us }),
    }
}

#[cfg(not(unix))]
fn is_shared(_facts: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn check_made_by_us(_path: &Path, _facts: &Metadata) -> Result<(), NotPrivate> {
    Ok(())
}

/// Fails if others than us (and root, who may write everywhere) may write what has these facts.
#[cfg(unix)]
pub(crate) fn check(path: &Path, facts: &Metadata) -> Result<(), NotPrivate> {
    use std::os::unix::fs::MetadataExt;
    if facts.is_symlink() {
        return Err(NotPrivate::Link(path.to_path_buf()));
    }
    check_owner(path, facts)?;
    match facts.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => Err(NotPrivate::Open { path: path.to_path_buf(), mode }),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, facts: &Metadata) -> Result<(), NotPrivate> {
    use std::os::unix::fs::MetadataExt;
    let (owner, us) = (facts.uid(), rustix::process::geteuid().as_raw());
    // Root runs what others made, and what is root's nobody else writes.
    match us == 0 || owner == us || owner == 0 {
        true => Ok(()),
        false => Err(NotPrivate::NotOurs { path: path.to_path_buf(), owner, us }),
    }
}

#[cfg(unix)]
fn names(facts: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(facts)
}

/// Elsewhere rights are told otherwise, and are not looked at.
#[cfg(not(unix))]
pub(crate) fn check(path: &Path, facts: &Metadata) -> Result<(), NotPrivate> {
    match facts.is_symlink() {
        true => Err(NotPrivate::Link(path.to_path_buf())),
        false => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_owner(_path: &Path, _facts: &Metadata) -> Result<(), NotPrivate> {
    Ok(())
}

#[cfg(not(unix))]
fn names(_facts: &Metadata) -> u64 {
    1
}

/// The same for a directory and all below it, `depth` directories deep; what is not there is fine.
/// Gives the bytes that its files take on disk.
pub(crate) fn check_below(path: &Path, depth: usize) -> Result<u64, NotPrivate> {
    let failed = |cause| NotPrivate::io(path, cause);
    let facts = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed)?,
    };
    check(path, &facts)?;
    if !facts.is_dir() {
        return Ok(file_bytes(&facts));
    }
    if depth == 0 {
        return Ok(0);
    }
    let entries = match fs::read_dir(path) {
        // Root's own, such as lost+found: not ours to look into, nor to write.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(0),
        other => other.map_err(failed)?,
    };
    let mut total: u64 = 0;
    for entry in entries {
        let below = check_below(&entry.map_err(failed)?.path(), depth.saturating_sub(1))?;
        total = total.saturating_add(below);
    }
    Ok(total)
}

#[cfg(unix)]
fn file_bytes(facts: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    facts.blocks().saturating_mul(512)
}

#[cfg(not(unix))]
fn file_bytes(facts: &Metadata) -> u64 {
    facts.len()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_ours_is_a_regular_one_with_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "kept").unwrap();
        open_or_make(&path("file")).unwrap();
        assert_eq!(fs::read(path("file")).unwrap(), b"kept");
        symlink(path("file"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        for (name, word) in [
            ("link", "symbolic link"),
            ("dangling", "symbolic link"),
            ("directory", "not a regular file"),
            ("pipe", "not a regular file"),
        ] {
            let refused = open_or_make(&path(name)).unwrap_err().to_string();
            assert!(refused.contains(word), "{name}: {refused}");
            assert!(open_to_read(&path(name)).is_err(), "{name}");
        }
        assert!(!path("nowhere").exists());
        fs::hard_link(path("file"), path("second")).unwrap();
        let refused = open_or_make(&path("file")).unwrap_err().to_string();
        assert!(refused.contains("2 hard links"), "{refused}");
    }

    #[test]
    fn what_others_may_write_is_found_however_deep() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("store/p00");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("extent"), vec![1; 8192]).unwrap();
        for mode in [0o700, 0o755, 0o750] {
            set_mode(&below, mode);
            check_below(dir.path(), 4).unwrap();
        }
        for mode in [0o775, 0o757, 0o1777] {
            set_mode(&below, mode);
            let refused = check_below(dir.path(), 4).unwrap_err().to_string();
            assert!(refused.contains("chmod go-w") && refused.contains("p00"), "{refused}");
        }
        set_mode(&below, 0o700);
        set_mode(&below.join("extent"), 0o602);
        check_below(dir.path(), 4).unwrap_err();
        set_mode(&below.join("extent"), 0o600);
        symlink("/", below.join("away")).unwrap();
        let refused = check_below(dir.path(), 4).unwrap_err().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
        assert_eq!(check_below(&dir.path().join("no such"), 4).unwrap(), 0);
    }
}
