//! File operations done in place, for the blocking threads.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pangea_base::file::{FileFault, FileName, FileValue, Listed, OpenMode};
use pangea_base::{PAGE_ALIGN, Page};

/// An open file and how it is accessed.
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) access: Access,
}

/// Around the page cache, or through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Direct,
    Cached,
}

impl OpenFile {
    /// Whether a transfer that stopped after `done` bytes met the end of the file: around the
    /// page cache one cannot go on from the middle of a block, and only the end is there.
    pub(crate) fn stops_at(&self, done: u32) -> bool {
        self.access == Access::Direct && !(done as usize).is_multiple_of(PAGE_ALIGN)
    }
}

/// An operation with names and numbers resolved.
pub(crate) enum Work {
    Open { place: Place, mode: OpenMode },
    Read { file: Arc<OpenFile>, offset: u64, length: u32 },
    Write { file: Arc<OpenFile>, offset: u64, length: u32 },
    Sync { file: Arc<OpenFile> },
    Allocate { file: Arc<OpenFile>, length: u64 },
    Punch { file: Arc<OpenFile>, offset: u64, length: u64 },
    Close { file: Arc<OpenFile> },
    Remove { place: Place },
    Rename { from: Place, to: Place },
    List { place: Place, directory: FileName },
}

/// A name below the data directory.
pub(crate) struct Place {
    root: Arc<Path>,
    path: PathBuf,
}

impl Place {
    pub(crate) fn new(root: &Arc<Path>, name: &FileName) -> Place {
        Place { root: root.clone(), path: root.join(name.as_str()) }
    }

    /// The path, if no part of it below the data directory is a symbolic link: whoever put one
    /// there would have us write into a file of their choice. The data directory itself may be
    /// named through one.
    fn plain(&self) -> io::Result<&Path> {
        for part in self.path.ancestors().take_while(|part| **part != *self.root) {
            match fs::symlink_metadata(part) {
                Ok(facts) if facts.is_symlink() => {
                    return Err(self.refused(part, "is a symbolic link, and none is followed here"));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(&self.path)
    }

    /// The same for a file to be opened, which is a regular one or not there yet: opening a pipe
    /// could wait for ever.
    fn regular(&self) -> io::Result<&Path> {
        let path = self.plain()?;
        match fs::symlink_metadata(path) {
            Ok(facts) if facts.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(facts) if !facts.is_file() => Err(self.refused(path, "is not a regular file")),
            _ => Ok(path),
        }
    }

    fn refused(&self, part: &Path, why: &str) -> io::Error {
        let name = part.strip_prefix(&self.root).unwrap_or(part);
        io::Error::other(format!("'{}' {why}", name.display()))
    }
}

/// What it gave.
pub(crate) enum Outcome {
    Value(FileValue),
    Opened { file: OpenFile, length: u64, wanted_direct: bool },
}

/// Does it.
pub(crate) fn perform(work: Work, page: Option<&mut Page>) -> Result<Outcome, FileFault> {
    let value = match work {
        Work::Open { place, mode } => return Ok(open(place.regular()?, mode)?),
        Work::Read { file, offset, length } => {
            let page = page.expect("a read brings a page");
            FileValue::Bytes(read(&file, page, offset, length)?)
        }
        Work::Write { file, offset, length } => {
            let page = page.expect("a write brings a page");
            let written = write(&file, &page.whole_mut()[..length as usize], offset);
            written.map_err(|error| write_fault(error, offset + u64::from(length)))?;
            FileValue::Bytes(length)
        }
        Work::Sync { file } => done(file.file.sync_data())?,
        Work::Allocate { file, length } => done(allocate(&file.file, length))?,
        Work::Punch { file, offset, length } => done(punch(&file.file, offset, length))?,
        Work::Close { file } => {
            drop(file);
            FileValue::Done
        }
        Work::Remove { place } => {
            let path = place.plain()?;
            fs::remove_file(path)?;
            done(sync_parent(path))?
        }
        Work::Rename { from, to } => {
            let (from, to) = (from.plain()?, to.plain()?);
            fs::rename(from, to)?;
            sync_parent(to)?;
            if from.parent() != to.parent() {
                sync_parent(from)?;
            }
            FileValue::Done
        }
        Work::List { place, directory } => FileValue::Names(list(place.plain()?, &directory)?),
    };
    Ok(Outcome::Value(value))
}

fn done(result: io::Result<()>) -> io::Result<FileValue> {
    result.map(|()| FileValue::Done)
}

fn open(path: &Path, mode: OpenMode) -> io::Result<Outcome> {
    let (file, wanted_direct) = match mode {
        OpenMode::Read => (cached(options().read(true).open(path)?), false),
        OpenMode::Write => {
            let file = options().write(true).create(true).truncate(true).open(path)?;
            (cached(file), false)
        }
        OpenMode::Direct => (open_direct(path)?, true),
        OpenMode::DirectCreate => match open_direct(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                (open_direct(path)?, true)
            }
            other => (other?, true),
        },
    };
    let length = file.file.metadata()?.len();
    Ok(Outcome::Opened { file, length, wanted_direct })
}

fn cached(file: File) -> OpenFile {
    OpenFile { file, access: Access::Cached }
}

/// Options with which new files are for their owner only, and no link is followed.
fn options() -> OpenOptions {
    options_and(0)
}

#[cfg(target_os = "linux")]
fn options_and(flags: i32) -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | flags);
    options
}

/// Elsewhere what [`Place::plain`] saw has to do.
#[cfg(not(target_os = "linux"))]
fn options_and(_flags: i32) -> OpenOptions {
    #[allow(unused_mut)]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<OpenFile> {
    let direct = options_and(libc::O_DIRECT).read(true).write(true).open(path);
    match direct {
        Ok(file) => {
            let fine = |(memory, offset): (u32, u32)| {
                let page = PAGE_ALIGN as u32;
                memory != 0 && offset != 0 && memory <= page && offset <= page
            };
            if crate::sys::direct_alignment(&file).is_none_or(fine) {
                return Ok(OpenFile { file, access: Access::Direct });
            }
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(error) => return Err(error),
    }
    Ok(cached(options().read(true).write(true).open(path)?))
}

#[cfg(not(target_os = "linux"))]
fn open_direct(path: &Path) -> io::Result<OpenFile> {
    Ok(cached(options().read(true).write(true).open(path)?))
}

/// Makes an empty file and its parents, so that the names survive a power cut.
fn create(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut above = path.parent();
    while let Some(directory) = above.filter(|directory| !directory.exists()) {
        missing.push(directory);
        above = directory.parent();
    }
    for directory in missing.into_iter().rev() {
        match make_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        sync_parent(directory)?;
    }
    match options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => drop(other?),
    }
    sync_parent(path)
}

fn make_directory(path: &Path) -> io::Result<()> {
    #[allow(unused_mut)]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Elsewhere directories cannot be opened, and renames are journaled by the file system.
#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn read(file: &OpenFile, page: &mut Page, offset: u64, length: u32) -> io::Result<u32> {
    let mut done = 0;
    while done < length && !file.stops_at(done) {
        let rest = &mut page.whole_mut()[done as usize..length as usize];
        match read_at(&file.file, rest, offset + u64::from(done)) {
            Ok(0) => break,
            Ok(bytes) => done += bytes as u32,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    page.set_len(done as usize);
    Ok(done)
}

fn write(file: &OpenFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write_at(&file.file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a write that was to end at `end` failed of.
#[cfg(target_os = "linux")]
pub(crate) fn write_fault(error: io::Error, end: u64) -> FileFault {
    let cut =
        error.raw_os_error() == Some(libc::EINVAL) || error.kind() == io::ErrorKind::WriteZero;
    match cut && crate::sys::is_over_file_limit(end) {
        true => FileFault::NoSpace,
        false => error.into(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn write_fault(error: io::Error, _end: u64) -> FileFault {
    error.into()
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(bytes, offset)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, length: u64) -> io::Result<()> {
    match crate::sys::fallocate(file, crate::sys::Space::Reserve, 0, length) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => extend(file, length),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, length: u64) -> io::Result<()> {
    extend(file, length)
}

/// Never shortens: what lies behind is not ours to drop here.
fn extend(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    match crate::sys::fallocate(file, crate::sys::Space::Punch, offset, length) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

/// What is directly below, without what is no name of ours (a stranger's file, lost+found). No
/// link is followed: it is listed as what it is.
fn list(path: &Path, directory: &FileName) -> io::Result<Vec<(FileName, Listed)>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_ours(name)).map(String::from)
        else {
            continue;
        };
        match entry.metadata() {
            Ok(facts) => {
                let name = FileName::new(format!("{}/{name}", directory.as_str()));
                names.push((name, listed(&facts)));
            }
            // Removed between being listed and being looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

fn listed(facts: &fs::Metadata) -> Listed {
    let kind = facts.file_type();
    match () {
        () if kind.is_file() => Listed::File(facts.len()),
        () if kind.is_dir() => Listed::Directory,
        () => Listed::Other,
    }
}

fn is_ours(name: &str) -> bool {
    let legal = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(legal)
}
