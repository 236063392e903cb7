//! File operations as values. A machine says what it wants done to its files; the driver does it
//! and hands the result, and the page, back.

use std::fmt;

use crate::Page;

/// A file's name below the node's data directory: lower-case letters, digits, `.`, `-` and `/`
/// between parts. Made by us, never from bytes that came from outside.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Panics on a name that is not of the form above: names are our own (a bug, not a fault).
    pub fn new(name: impl Into<String>) -> FileName {
        let name = name.into();
        let legal = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        let parts_fine = name
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(legal));
        assert!(parts_fine, "'{name}' is not a file name of ours");
        FileName(name)
    }

    /// The name, relative to the data directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An open file, as the driver that opened it numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileId(pub u32);

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Must exist; read and write; around the page cache where the file system allows it.
    Direct,
    /// As `Direct`, made if absent. Parent directories are made too and synced.
    DirectCreate,
    /// Must exist; read only; through the page cache (a user's file).
    Read,
    /// Made new, or emptied; write; through the page cache (a user's output).
    Write,
}

/// One thing to do. A page goes along with `Read` (filled) and `Write` (written), and comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileOp {
    /// Opens a file: [`FileValue::Opened`].
    Open {
        /// Which.
        name: FileName,
        /// How.
        mode: OpenMode,
    },
    /// Reads `length` bytes at `offset` into the page: [`FileValue::Bytes`], fewer only at the
    /// end of the file. With a `Direct` file, offset and length are multiples of 4096.
    Read {
        /// From.
        file: FileId,
        /// Where.
        offset: u64,
        /// How many bytes; at most the page.
        length: u32,
    },
    /// Writes the first `length` bytes of the page at `offset`, all of them or it fails. With a
    /// `Direct` file, offset and length are multiples of 4096.
    Write {
        /// To.
        file: FileId,
        /// Where.
        offset: u64,
        /// How many bytes; at most the page.
        length: u32,
    },
    /// Makes everything written to the file durable (fdatasync; F_FULLFSYNC on macOS).
    Sync {
        /// Which.
        file: FileId,
    },
    /// Reserves space up to `length`, so that later writes inside cannot run out of it
    /// (fallocate; where the system has none, the file is extended).
    Allocate {
        /// Which.
        file: FileId,
        /// New length in bytes.
        length: u64,
    },
    /// Gives the space of a range back (punch hole; does nothing where the system cannot).
    Punch {
        /// Which.
        file: FileId,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Closes the file; its id may be given to another.
    Close {
        /// Which.
        file: FileId,
    },
    /// Removes a name, and syncs its directory.
    Remove {
        /// Which.
        name: FileName,
    },
    /// Puts `from` in the place of `to`, at once or not at all, and syncs the directory.
    Rename {
        /// The new content.
        from: FileName,
        /// The name it takes.
        to: FileName,
    },
    /// What is directly below a directory and has a name that could be ours:
    /// [`FileValue::Names`]; nothing if it does not exist.
    List {
        /// Which directory.
        directory: FileName,
    },
}

/// What an operation gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileValue {
    /// Nothing to say.
    Done,
    /// An opened file and its length in bytes.
    Opened {
        /// To be used in later operations.
        file: FileId,
        /// Length now.
        length: u64,
    },
    /// How many bytes were read or written.
    Bytes(u32),
    /// Names with what they are of, in no order.
    Names(Vec<(FileName, Listed)>),
}

/// What has a name in a directory. Only a file may be opened: whatever else bears the name of one
/// of ours is somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// A regular file and its length in bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A link, a pipe, a socket, a device.
    Other,
}

/// Why an operation failed, as a value that can be kept, compared and simulated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileFault {
    /// ENOSPC, EDQUOT or EFBIG.
    #[error("no space left on the device")]
    NoSpace,
    /// The name does not exist.
    #[error("no such file")]
    Missing,
    /// EACCES, EPERM or EROFS.
    #[error("permission denied")]
    Denied,
    /// Any other error, with the system's number and words.
    #[error("{text}")]
    Other {
        /// errno, 0 if there was none.
        errno: i32,
        /// The system's words for it.
        text: String,
    },
}

impl From<std::io::Error> for FileFault {
    fn from(error: std::io::Error) -> FileFault {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                FileFault::NoSpace
            }
            ErrorKind::NotFound => FileFault::Missing,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FileFault::Denied,
            _ => FileFault::Other {
                errno: error.raw_os_error().unwrap_or(0),
                text: error.to_string(),
            },
        }
    }
}

/// A finished operation. The page that went in always comes back, also on error.
#[derive(Debug)]
pub struct FileDone {
    /// The caller's own mark.
    pub token: u64,
    /// The page that went along, if one did.
    pub page: Option<Page>,
    /// What came of it.
    pub result: Result<FileValue, FileFault>,
}

/// An operation to submit.
#[derive(Debug)]
pub struct FileRequest {
    /// The caller's own mark, returned in [`FileDone`].
    pub token: u64,
    /// What to do.
    pub op: FileOp,
    /// The page for `Read` and `Write`.
    pub page: Option<Page>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "not a file name of ours")]
    fn a_name_that_climbs_out_cannot_be_made() {
        let _ = FileName::new("store/../../etc");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        // ENOSPC, and EFBIG, which a limit on the size of files gives.
        for errno in [28, 27] {
            let full = std::io::Error::from_raw_os_error(errno);
            assert_eq!(FileFault::from(full), FileFault::NoSpace);
        }
    }
}
