//! Files for both back ends: numbers for open files, requests resolved into jobs, and the blocking
//! threads that do what the ring does not.

mod blocking;
mod table;
mod workers;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pangea_base::Page;
use pangea_base::file::{FileDone, FileFault, FileId, FileName, FileOp, FileRequest, FileValue};

use blocking::Place;
#[cfg(all(target_os = "linux", feature = "uring"))]
pub(crate) use blocking::write_fault;
pub(crate) use blocking::{Access, OpenFile, Outcome, Work};
use table::FileTable;
use workers::{Finished, Job, Workers};

use crate::bell::Strike;
use crate::event::Stats;

/// Most file operations in flight per driver; one more is refused until another ends.
pub const FILES_IN_FLIGHT_MAX: usize = 256;

/// The open files of a driver, and its operations that are done by threads.
pub(crate) struct Desk {
    root: Option<Arc<Path>>,
    table: FileTable,
    workers: Workers,
    /// Operations accepted and not yet handed back.
    in_flight: usize,
    /// Ended without having to be done: a number of no file, a name without a directory.
    ended: VecDeque<FileDone>,
    direct: Option<bool>,
}

impl Desk {
    pub(crate) fn new(root: Option<PathBuf>, threads_max: usize, bell: Arc<dyn Strike>) -> Desk {
        Desk {
            root: root.map(Arc::from),
            table: FileTable::new(),
            workers: Workers::new(threads_max, bell),
            in_flight: 0,
            ended: VecDeque::new(),
            direct: None,
        }
    }

    pub(crate) fn adopt(&mut self, file: File) -> FileId {
        let file = OpenFile { file, access: Access::Cached };
        self.table.insert(file).expect("fewer files are adopted than a driver has numbers for")
    }

    /// Whether Direct files go around the page cache; `None` until one was opened.
    pub(crate) fn direct_io(&self) -> Option<bool> {
        self.direct
    }

    /// What a request means in terms of open files and paths. `None` if it ended at once.
    pub(crate) fn accept(&mut self, request: FileRequest) -> Result<Option<Job>, FileRequest> {
        if self.in_flight == FILES_IN_FLIGHT_MAX {
            return Err(request);
        }
        self.in_flight += 1;
        let FileRequest { token, op, page } = request;
        match self.work(op, page.as_ref()) {
            Ok(work) => Ok(Some(Job { token, work, page })),
            Err(fault) => {
                self.ended.push_back(FileDone { token, page, result: Err(fault) });
                Ok(None)
            }
        }
    }

    /// Gives a job to the threads.
    pub(crate) fn dispatch(&mut self, job: Job) {
        if let Err((job, error)) = self.workers.push(job) {
            let result = Err(error.into());
            self.ended.push_back(FileDone { token: job.token, page: job.page, result });
        }
    }

    /// An operation that ended, oldest first.
    pub(crate) fn next_done(&mut self, stats: &mut Stats) -> Option<FileDone> {
        let done = match self.ended.pop_front() {
            Some(done) => done,
            None => {
                let Finished { token, page, outcome } = self.workers.finished()?;
                let result = outcome.and_then(|outcome| self.value(outcome, stats));
                FileDone { token, page, result }
            }
        };
        Some(self.hand_back(done, stats))
    }

    /// Counts an operation that the caller is about to hand back.
    pub(crate) fn hand_back(&mut self, done: FileDone, stats: &mut Stats) -> FileDone {
        assert!(self.in_flight > 0, "an operation ends once");
        self.in_flight -= 1;
        stats.files_done += 1;
        done
    }

    fn value(&mut self, outcome: Outcome, stats: &mut Stats) -> Result<FileValue, FileFault> {
        match outcome {
            Outcome::Value(value) => Ok(value),
            Outcome::Opened { file, length, wanted_direct } => {
                if wanted_direct {
                    let direct = file.access == Access::Direct;
                    self.direct = Some(direct && self.direct.unwrap_or(true));
                    stats.files_direct += u64::from(direct);
                    stats.files_cached += u64::from(!direct);
                }
                let file = self.table.insert(file).ok_or_else(too_many_open)?;
                Ok(FileValue::Opened { file, length })
            }
        }
    }

    fn work(&mut self, op: FileOp, page: Option<&Page>) -> Result<Work, FileFault> {
        let fits = |length: u32| {
            let room = page.map_or(0, Page::capacity);
            assert!(length as usize <= room, "a read or write brings a page that holds it");
        };
        Ok(match op {
            FileOp::Open { name, mode } => Work::Open { place: self.place(&name)?, mode },
            FileOp::Read { file, offset, length } => {
                fits(length);
                Work::Read { file: self.file(file)?, offset, length }
            }
            FileOp::Write { file, offset, length } => {
                fits(length);
                Work::Write { file: self.file(file)?, offset, length }
            }
            FileOp::Sync { file } => Work::Sync { file: self.file(file)? },
            FileOp::Allocate { file, length } => Work::Allocate { file: self.file(file)?, length },
            FileOp::Punch { file, offset, length } => {
                Work::Punch { file: self.file(file)?, offset, length }
            }
            // The number is free at once; the file closes when its last operation ended.
            FileOp::Close { file } => {
                Work::Close { file: self.table.remove(file).ok_or_else(not_open)? }
            }
            FileOp::Remove { name } => Work::Remove { place: self.place(&name)? },
            FileOp::Rename { from, to } => {
                Work::Rename { from: self.place(&from)?, to: self.place(&to)? }
            }
            FileOp::List { directory } => Work::List { place: self.place(&directory)?, directory },
        })
    }

    fn file(&self, id: FileId) -> Result<Arc<OpenFile>, FileFault> {
        self.table.get(id).ok_or_else(not_open)
    }

    fn place(&self, name: &FileName) -> Result<Place, FileFault> {
        match &self.root {
            Some(root) => Ok(Place::new(root, name)),
            None => Err(other(0, "this driver was opened without a data directory")),
        }
    }
}

fn not_open() -> FileFault {
    other(9, "this file is not open (it was closed, or never opened here)")
}

fn too_many_open() -> FileFault {
    other(24, "too many open files: close some first")
}

pub(crate) fn other(errno: i32, text: &str) -> FileFault {
    FileFault::Other { errno, text: text.to_string() }
}
