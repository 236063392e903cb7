//! Identity keys in files: 32 bytes of Ed25519 seed, for their owner only.
//!
//! Written as 64 hexadecimal digits and a newline; read as that or as 32 raw bytes.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use pangea_base::{Identity, Secret};
use zeroize::{Zeroize, Zeroizing};

use crate::output::{Access, OutputFailed, OutputFile, Replace};

const SEED_BYTES: usize = 32;
const HEX_BYTES: usize = 2 * SEED_BYTES;
/// More than any key file has: one byte longer than the longest form (`\r\n` at the end).
const READ_BYTES_MAX: u64 = 67;

/// Why a key file was not used. No text holds any of its bytes.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileRefused {
    /// It does not exist.
    #[error("there is no key file '{}'", .0.display())]
    Missing(PathBuf),
    /// A symbolic link: whoever can change it could put a key of their own in place.
    #[error("the key file '{}' is a symbolic link; name the file itself", .0.display())]
    Symlink(PathBuf),
    /// A directory, a pipe or a device.
    #[error("the key file '{}' is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Others could read it.
    #[error(
        "others may read the key file '{}' (its mode is {mode:03o}); if nobody has, close it \
         with: chmod 600 '{}'",
        path.display(), path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the key file '{}' belongs to another user (uid {owner})", path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Neither 32 bytes nor 64 hexadecimal digits.
    #[error("the key file '{}' should hold 32 bytes or 64 hexadecimal digits, and does not: it \
         was cut off, or is another kind of file", .0.display())]
    Form(PathBuf),
    /// Only zeros: what a crash leaves of a file whose content never reached the disk.
    #[error("the key file '{}' holds nothing but zeros; restore it from a copy, or remove it to \
         become somebody new", .0.display())]
    Zeros(PathBuf),
    /// The system would not let us read it.
    #[error("the key file '{}' cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// It could not be made.
    #[error("no key file could be made: {0}")]
    NotMade(#[from] OutputFailed),
    /// The system has no random bytes.
    #[error("no key could be made: the system gives no random bytes: {0}")]
    NoEntropy(String),
}

impl KeyFileRefused {
    /// Whether there is no key, or none in reach: a home that does not exist, or is closed.
    pub fn is_absent(&self) -> bool {
        match self {
            KeyFileRefused::Missing(_) => true,
            KeyFileRefused::Unreadable { cause, .. } => {
                let kind = cause.kind();
                kind == io::ErrorKind::PermissionDenied || kind == io::ErrorKind::NotADirectory
            }
            _ => false,
        }
    }
}

/// Whether a key was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Read from the file.
    Found,
    /// Made just now.
    Made,
}

/// The identity in `path`; the first time, a new one is made there. Of several processes that do
/// this at once all get the same identity.
pub fn load_or_make(path: &Path) -> Result<(Identity, Origin), KeyFileRefused> {
    match load(path) {
        Err(KeyFileRefused::Missing(_)) => {}
        other => return other.map(|identity| (identity, Origin::Found)),
    }
    match make(path) {
        Err(KeyFileRefused::NotMade(OutputFailed::Exists(_))) => {
            load(path).map(|identity| (identity, Origin::Found))
        }
        other => other.map(|identity| (identity, Origin::Made)),
    }
}

/// The identity in `path`.
pub fn load(path: &Path) -> Result<Identity, KeyFileRefused> {
    let unreadable =
        |cause: io::Error| KeyFileRefused::Unreadable { path: path.to_path_buf(), cause };
    let file = open(path)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyFileRefused::NotAFile(path.to_path_buf()));
    }
    check_owner(path, &metadata)?;
    // Reserved whole: a vector that grows would leave copies of the key behind in freed memory.
    let mut content = Zeroizing::new(Vec::with_capacity(128));
    file.take(READ_BYTES_MAX).read_to_end(&mut content).map_err(unreadable)?;
    let seed = parse(&content).ok_or_else(|| KeyFileRefused::Form(path.to_path_buf()))?;
    if seed.iter().all(|byte| *byte == 0) {
        return Err(KeyFileRefused::Zeros(path.to_path_buf()));
    }
    Ok(Identity::from_seed(Secret::new(*seed)))
}

/// An identity that is in no file.
pub fn anonymous() -> Result<Identity, KeyFileRefused> {
    Ok(Identity::from_seed(Secret::new(*fresh_seed()?)))
}

fn make(path: &Path) -> Result<Identity, KeyFileRefused> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(KeyFileRefused::NotAFile(path.to_path_buf()));
    };
    let seed = fresh_seed()?;
    let mut text = Zeroizing::new([0; HEX_BYTES]);
    data_encoding::HEXLOWER.encode_mut(&*seed, &mut *text);
    let output = OutputFile::create_in(directory, Access::Private)?;
    let mut file = output.file();
    file.write_all(&*text)
        .and_then(|()| file.write_all(b"\n"))
        .map_err(|cause| OutputFailed::of(path, cause))?;
    output.publish(name, Replace::Never)?;
    Ok(Identity::from_seed(Secret::new(*seed)))
}

fn fresh_seed() -> Result<Zeroizing<[u8; SEED_BYTES]>, KeyFileRefused> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(&mut *seed).map_err(|e| KeyFileRefused::NoEntropy(e.to_string()))?;
    Ok(seed)
}

fn parse(content: &[u8]) -> Option<Zeroizing<[u8; SEED_BYTES]>> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    if content.len() == SEED_BYTES {
        seed.copy_from_slice(content);
        return Some(seed);
    }
    let text = content.strip_suffix(b"\n").unwrap_or(content);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() != HEX_BYTES {
        return None;
    }
    match data_encoding::HEXLOWER_PERMISSIVE.decode_mut(text, &mut *seed) {
        Ok(SEED_BYTES) => Some(seed),
        _ => {
            seed.zeroize();
            None
        }
    }
}

fn open(path: &Path) -> Result<File, KeyFileRefused> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Without NONBLOCK, opening a pipe that somebody left here would wait for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        options.custom_flags(flags.bits().cast_signed());
    }
    let path_owned = || path.to_path_buf();
    options.open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => KeyFileRefused::Missing(path_owned()),
        _ if path.is_symlink() => KeyFileRefused::Symlink(path_owned()),
        _ => KeyFileRefused::Unreadable { path: path_owned(), cause },
    })
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), KeyFileRefused> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileRefused::Open { path: path.to_path_buf(), mode });
    }
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(KeyFileRefused::NotOurs { path: path.to_path_buf(), owner });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_path: &Path, _metadata: &std::fs::Metadata) -> Result<(), KeyFileRefused> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write_private(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn a_key_is_made_once_and_then_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        assert!(matches!(load(&path), Err(KeyFileRefused::Missing(_))));
        let (made, origin) = load_or_make(&path).unwrap();
        assert_eq!(origin, Origin::Made);
        let (found, origin) = load_or_make(&path).unwrap();
        assert_eq!(origin, Origin::Found);
        assert_eq!(made.peer(), found.peer());
        assert_eq!(fs::read(&path).unwrap().len(), HEX_BYTES + 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn processes_that_start_at_once_agree_on_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        let peers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_make(&path).unwrap().0.peer())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(peers.iter().all(|peer| *peer == peers[0]));
    }

    #[test]
    fn raw_bytes_and_hexadecimal_digits_are_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let seed = [0x5a; 32];
        let expected = Identity::from_seed(Secret::new(seed)).peer();
        let hex = data_encoding::HEXUPPER.encode(&seed);
        for content in [&seed[..], hex.as_bytes(), format!("{hex}\r\n").as_bytes()] {
            write_private(&path, content);
            assert_eq!(load(&path).unwrap().peer(), expected);
        }
    }

    #[test]
    fn a_damaged_key_is_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let long = [b'a'; 1000];
        for content in
            [&b""[..], b"short", &[b'a'; 31], &[b'a'; 33], &[b'a'; 63], &[b'x'; 64], &long]
        {
            write_private(&path, content);
            assert!(matches!(load_or_make(&path), Err(KeyFileRefused::Form(_))));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        write_private(&path, &[0; 32]);
        assert!(matches!(load(&path), Err(KeyFileRefused::Zeros(_))));
    }

    #[test]
    #[cfg(unix)]
    fn a_key_that_others_may_read_a_link_and_a_pipe_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            write_private(&path, &[7; 32]);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(load(&path), Err(KeyFileRefused::Open { .. })), "{mode:o}");
        }
        write_private(&path, &[7; 32]);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(load(&link), Err(KeyFileRefused::Symlink(_))));
        assert!(matches!(load_or_make(&link), Err(KeyFileRefused::Symlink(_))));
        let sub = dir.path().join("directory");
        fs::create_dir(&sub).unwrap();
        assert!(matches!(load(&sub), Err(KeyFileRefused::NotAFile(_))));
    }

    #[test]
    fn no_refusal_shows_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"c0ffeec0ffee-secret-digits");
        let refused = load(&path).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("c0ffee"));
    }
}
