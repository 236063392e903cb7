//! File reads, writes and syncs on the ring. Everything rarer is done by the threads of the desk.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use pangea_base::file::{FileDone, FileFault, FileValue};
use pangea_base::{Page, PagePool};

use crate::files::{FILES_IN_FLIGHT_MAX, OpenFile, write_fault};

/// Most page pools that can be registered with one ring.
const POOLS_MAX: usize = 4;

pub(super) struct RingFiles {
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    pools: Vec<Registered>,
}

/// An operation that the kernel works on.
struct Flight {
    token: u64,
    page: Option<Page>,
    // Keeps the file open, whatever becomes of its number.
    file: Arc<OpenFile>,
    kind: Kind,
    offset: u64,
    length: u32,
    done: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Sync,
}

/// A pool whose memory the kernel holds; the pool is kept so that the memory stays.
struct Registered {
    start: usize,
    bytes: usize,
    _pool: PagePool,
}

/// What follows from a completion.
#[allow(clippy::large_enum_variant)] // moved once, right into the callback
pub(super) enum Next {
    /// The operation ended.
    Done(FileDone),
    /// The rest of it goes on.
    Submit(squeue::Entry),
}

impl RingFiles {
    pub(super) fn new() -> RingFiles {
        RingFiles { flights: Vec::new(), free: Vec::new(), pools: Vec::new() }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    pub(super) fn registered(&self) -> bool {
        !self.pools.is_empty()
    }

    /// Registers a pool's memory. Without the right to (memlock) nothing changes.
    pub(super) fn register(&mut self, ring: &IoUring, pool: &PagePool) {
        let bytes = pool.page_bytes().saturating_mul(pool.pages_max() as usize);
        if self.pools.len() == POOLS_MAX || !allowed(bytes) {
            return;
        }
        let submitter = ring.submitter();
        if self.pools.is_empty() && submitter.register_buffers_sparse(POOLS_MAX as u32).is_err() {
            return;
        }
        let (base, bytes) = pool.pin();
        let part = libc::iovec { iov_base: base.cast(), iov_len: bytes };
        // SAFETY: the slab lives as long as `pool`, a handle to which is kept until the ring is
        //   gone (fields of Uring are dropped in that order).
        // CHECKED: tests/conformance registered_pages.
        let update =
            unsafe { submitter.register_buffers_update(self.pools.len() as u32, &[part], None) };
        match update {
            Ok(()) => {
                let start = base as usize;
                self.pools.push(Registered { start, bytes, _pool: pool.clone() });
            }
            Err(_) if self.pools.is_empty() => {
                let _ = submitter.unregister_buffers();
            }
            Err(_) => {}
        }
    }

    /// Begins an operation: its number and the request.
    pub(super) fn start(
        &mut self,
        token: u64,
        kind: Kind,
        file: Arc<OpenFile>,
        (offset, length): (u64, u32),
        page: Option<Page>,
    ) -> (u32, squeue::Entry) {
        let flight = Flight { token, page, file, kind, offset, length, done: 0 };
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(self.flights.len() < FILES_IN_FLIGHT_MAX, "the desk keeps the limit");
            self.flights.push(None);
            self.flights.len() as u32 - 1
        });
        let place = &mut self.flights[index as usize];
        let flight = place.insert(flight);
        (index, flight.submit(&self.pools))
    }

    /// An operation, or a part of it, ended.
    pub(super) fn complete(&mut self, index: u32, result: i32) -> Next {
        let place = &mut self.flights[index as usize];
        let flight = place.as_mut().expect("a completion belongs to an operation in flight");
        match flight.advance(result) {
            None => Next::Submit(flight.submit(&self.pools)),
            Some(result) => {
                let Flight { token, page, .. } = place.take().expect("it was there just now");
                self.free.push(index);
                Next::Done(FileDone { token, page, result })
            }
        }
    }

    /// The kernel would not let go: it keeps the pages, for ever.
    pub(super) fn leak(self) {
        std::mem::forget(self.flights);
        std::mem::forget(self.pools);
    }
}

impl Flight {
    /// What came of the operation; `None` if there is more to do.
    fn advance(&mut self, result: i32) -> Option<Result<FileValue, FileFault>> {
        let bytes = match u32::try_from(result) {
            Ok(bytes) => bytes,
            Err(_) if result == -libc::EINTR => return None,
            Err(_) => {
                return Some(Err(self.fault(std::io::Error::from_raw_os_error(-result))));
            }
        };
        if self.kind == Kind::Sync {
            return Some(Ok(FileValue::Done));
        }
        self.done += bytes;
        let ended = self.done >= self.length || bytes == 0 || self.file.stops_at(self.done);
        if !ended {
            return None;
        }
        if self.kind == Kind::Read {
            if let Some(page) = &mut self.page {
                page.set_len(self.done as usize);
            }
        } else if self.done < self.length {
            return Some(Err(self.fault(std::io::ErrorKind::WriteZero.into())));
        }
        Some(Ok(FileValue::Bytes(self.done)))
    }

    fn fault(&self, error: std::io::Error) -> FileFault {
        match self.kind {
            Kind::Write => write_fault(error, self.offset + u64::from(self.length)),
            Kind::Read | Kind::Sync => error.into(),
        }
    }

    /// The request for what is still to be done.
    fn submit(&mut self, pools: &[Registered]) -> squeue::Entry {
        let fd = types::Fd(self.file.file.as_raw_fd());
        let Some(page) = &mut self.page else {
            assert!(self.kind == Kind::Sync, "a read or write brings a page");
            return opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        };
        if self.kind == Kind::Sync {
            return opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        }
        let rest = &mut page.whole_mut()[self.done as usize..self.length as usize];
        let (at, length) = (rest.as_mut_ptr(), rest.len() as u32);
        let offset = self.offset + u64::from(self.done);
        let inside =
            |pool: &Registered| (pool.start..pool.start + pool.bytes).contains(&(at as usize));
        let pool = pools.iter().position(inside).map(|pool| pool as u16);
        match (self.kind, pool) {
            (Kind::Read, Some(pool)) => {
                opcode::ReadFixed::new(fd, at, length, pool).offset(offset).build()
            }
            (Kind::Read, None) => opcode::Read::new(fd, at, length).offset(offset).build(),
            (_, Some(pool)) => opcode::WriteFixed::new(fd, at, length, pool).offset(offset).build(),
            (_, None) => opcode::Write::new(fd, at, length).offset(offset).build(),
        }
    }
}

/// Whether the kernel would let us register so much, found out with memory of no use: a pool that
/// is pinned in vain could never give memory back.
fn allowed(bytes: usize) -> bool {
    let Ok(ring) = IoUring::new(2) else { return false };
    let Ok(scratch) = super::receive::Region::new(bytes) else { return false };
    let part = scratch.part();
    // SAFETY: the scratch memory outlives the ring's hold on it, which ends two lines below.
    // CHECKED: tests/conformance registered_pages, the_unprivileged.
    let registered = unsafe { ring.submitter().register_buffers(&[part]) };
    if registered.is_ok() {
        let _ = ring.submitter().unregister_buffers();
    }
    registered.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Access;

    /// Plays the kernel: answers each submission of an operation over 8192 bytes.
    fn play(kind: Kind, access: Access, answers: &[i32]) -> Option<FileDone> {
        let file = Arc::new(OpenFile { file: tempfile::tempfile().unwrap(), access });
        let mut files = RingFiles::new();
        let page = PagePool::new(8192, 1).take().unwrap();
        let (index, _) = files.start(7, kind, file, (0, 8192), Some(page));
        for (i, &answer) in answers.iter().enumerate() {
            if let Next::Done(done) = files.complete(index, answer) {
                assert_eq!((i + 1, files.in_flight()), (answers.len(), 0), "ended early");
                assert!(done.page.is_some());
                return Some(done);
            }
        }
        None
    }

    fn result(kind: Kind, access: Access, answers: &[i32]) -> Result<FileValue, FileFault> {
        play(kind, access, answers).expect("it ended").result
    }

    #[test]
    fn a_short_write_goes_on_and_one_that_stops_is_a_fault() {
        let write = |answers: &[i32]| result(Kind::Write, Access::Cached, answers);
        assert_eq!(write(&[5000, -libc::EINTR, 3192]), Ok(FileValue::Bytes(8192)));
        for full in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert_eq!(write(&[5000, -full]), Err(FileFault::NoSpace));
        }
        assert!(write(&[5000, 0]).is_err());
        // Around the page cache it cannot go on from the middle of a block.
        assert!(result(Kind::Write, Access::Direct, &[5000]).is_err());
    }

    #[test]
    fn a_short_read_goes_on_to_the_end_of_the_file() {
        let read = |access, answers| result(Kind::Read, access, answers);
        assert_eq!(read(Access::Cached, &[5000, 100, 0]), Ok(FileValue::Bytes(5100)));
        assert_eq!(read(Access::Direct, &[5000]), Ok(FileValue::Bytes(5000)));
        assert_eq!(read(Access::Direct, &[4096, 4096]), Ok(FileValue::Bytes(8192)));
        let done = play(Kind::Read, Access::Cached, &[4096, 0]).unwrap();
        assert_eq!(done.page.unwrap().len(), 4096);
        assert!(read(Access::Cached, &[-libc::EIO]).is_err());
    }

    #[test]
    fn a_sync_ends_at_once() {
        assert_eq!(result(Kind::Sync, Access::Direct, &[0]), Ok(FileValue::Done));
        assert!(result(Kind::Sync, Access::Direct, &[-libc::EIO]).is_err());
    }
}
