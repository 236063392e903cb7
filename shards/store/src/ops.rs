//! File operations on their way: what each was for, and how many the driver has.

use std::collections::VecDeque;

use pangea_base::Page;
use pangea_base::file::{FileDone, FileName, FileOp, FileRequest};

use crate::limits::FILE_OPS_MAX;
use crate::space::Run;
use crate::types::WriteId;

/// What a file operation is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The next step of recovery.
    Recover,
    /// The next step of an extent's file (making, opening, closing it).
    ExtentStep { partition: u8, extent: u32 },
    /// Work inside an extent.
    ExtentWork { partition: u8, extent: u32, work: Work },
    /// The next step of a journal.
    Journal { partition: u8 },
    /// The next step of writing down the time.
    Clock,
    /// A file that is closed and then removed.
    Discard { name: FileName },
    /// Nothing depends on it.
    Nothing,
}

/// Work inside an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Write(WriteId),
    Sync,
    Read(u32),
    Punch(Run),
}

/// The operations that wait and those that the driver has.
#[derive(Default)]
pub(crate) struct Ops {
    waiting: VecDeque<FileRequest>,
    purposes: Vec<Option<Purpose>>,
    free: Vec<u32>,
    in_flight: usize,
}

impl Ops {
    pub(crate) fn submit(&mut self, op: FileOp, page: Option<Page>, purpose: Purpose) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.purposes.push(None);
                u32::try_from(self.purposes.len() - 1).expect("operations are few")
            }
        };
        self.purposes[slot as usize] = Some(purpose);
        self.waiting.push_back(FileRequest { token: u64::from(slot), op, page });
    }

    /// The next operation for the driver, unless it has enough.
    pub(crate) fn next(&mut self) -> Option<FileRequest> {
        if self.in_flight >= FILE_OPS_MAX {
            return None;
        }
        let request = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(request)
    }

    /// What a finished operation was for.
    pub(crate) fn finish(&mut self, done: &FileDone) -> Purpose {
        let slot = u32::try_from(done.token).expect("tokens come back as they went");
        let purpose = self.purposes[slot as usize].take().expect("an operation ends once");
        self.free.push(slot);
        self.in_flight -= 1;
        purpose
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }
}
