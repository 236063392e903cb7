//! Extent files: made when needed, opened when needed, given up at the first failed write.

use std::collections::VecDeque;

use pangea_base::Page;
use pangea_base::file::{FileFault, FileId, FileOp, FileValue, OpenMode};

use crate::format::{Header, extent_block, extent_header};
use crate::limits::{
    BLOCK_BYTES, EXTENT_BLOCKS_MAX, EXTENT_NUMBER_MAX, EXTENTS_OPEN_MAX, PAGE_BLOCKS,
};
use crate::names;
use crate::ops::{Purpose, Work};
use crate::space::Run;
use crate::store::{Partition, Store};
use crate::types::{Event, StoreFault, StoreRefused};

/// One extent's file. What lies in it is `Space`'s business.
#[derive(Debug)]
pub(crate) struct ExtentFile {
    pub state: ExtentState,
    pub blocks: u32,
    waiting: VecDeque<Waiting>,
    in_flight: u32,
    /// Something was written since the last sync began.
    pub dirty: bool,
    /// Takes no more writes.
    pub poisoned: bool,
}

/// Where an extent's file stands. The order is that of making it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExtentState {
    /// Waits for the partition's first journal.
    Planned,
    Making,
    Reserving(FileId),
    /// The disk has no space for all of it: what a reservation that failed may have taken of the
    /// part that is given up is given back first.
    Trimming(FileId),
    NeedsPageToWrite(FileId),
    HeaderWriting(FileId),
    Closed,
    Opening,
    NeedsPageToRead(FileId),
    HeaderReading(FileId),
    Open(FileId),
    Closing,
    ClosingToRemove,
    Removing,
}

#[derive(Debug)]
struct Waiting {
    at: At,
    page: Option<Page>,
    work: Work,
}

/// Where in an extent work is done, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub offset: u64,
    pub length: u32,
}

impl ExtentFile {
    pub(crate) fn new(state: ExtentState, blocks: u32) -> ExtentFile {
        ExtentFile {
            state,
            blocks,
            waiting: VecDeque::new(),
            in_flight: 0,
            dirty: false,
            poisoned: false,
        }
    }

    pub(crate) fn is_planned(&self) -> bool {
        self.state == ExtentState::Planned
    }

    fn quiet(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

impl Partition {
    /// The next number that nothing has.
    fn next_number(&self) -> Option<u32> {
        let taken = self.files.len() + self.strange.len();
        let mut number = self.next_extent;
        for _ in 0..=taken {
            if number > EXTENT_NUMBER_MAX {
                number = 0;
            }
            if !self.files.contains_key(&number) && !self.strange.contains(&number) {
                return Some(number);
            }
            number += 1;
        }
        None
    }
}

impl Store {
    /// Plans a new extent in a partition, with a hole of so many blocks at least; its file is made
    /// behind the first journal.
    pub(crate) fn plan_extent(&mut self, partition: u8, hole: u32) -> Result<(), StoreRefused> {
        let usual = u32::try_from(self.config.extent_bytes / u64::from(BLOCK_BYTES));
        let usual = usual.expect("an extent is below EXTENT_USUAL_BYTES_MAX");
        let needed = hole + 1;
        let blocks = match self.tight {
            true => needed,
            false => needed.next_multiple_of(PAGE_BLOCKS).max(usual),
        };
        assert!(blocks <= EXTENT_BLOCKS_MAX, "no shard needs {blocks} blocks");
        let part = self.partition(partition);
        let Some(extent) = part.next_number() else {
            return Err(StoreRefused::TooManyHeld { limit: EXTENT_NUMBER_MAX as usize });
        };
        part.next_extent = extent.wrapping_add(1);
        part.space.add(extent, blocks);
        part.files.insert(extent, ExtentFile::new(ExtentState::Planned, blocks));
        if part.journal.ready() {
            self.make_extent(partition, extent);
        } else {
            part.journal.stuck = false;
        }
        Ok(())
    }

    /// Makes every extent that waited for the journal.
    pub(crate) fn make_planned(&mut self, partition: u8) {
        for extent in self.planned(partition) {
            self.make_extent(partition, extent);
        }
    }

    /// The journal could not be made, so neither can these.
    pub(crate) fn fail_planned(&mut self, partition: u8, fault: &FileFault) {
        // One at a time: a put that fails with one of them may let go of others too.
        while let Some(&extent) = self.planned(partition).first() {
            self.extent_file(partition, extent).state = ExtentState::Closed;
            self.give_up_extent(partition, extent, "making the journal", fault);
        }
    }

    pub(crate) fn planned(&mut self, partition: u8) -> Vec<u32> {
        let files = self.partition(partition).files.iter();
        let planned = files.filter(|(_, file)| file.state == ExtentState::Planned);
        planned.map(|(extent, _)| *extent).collect()
    }

    fn make_extent(&mut self, partition: u8, extent: u32) {
        self.close_an_extent();
        self.extent_file(partition, extent).state = ExtentState::Making;
        let name = names::extent(partition, extent);
        let op = FileOp::Open { name, mode: OpenMode::DirectCreate };
        self.ops.submit(op, None, Purpose::ExtentStep { partition, extent });
    }

    /// Does work inside an extent as soon as its file is open.
    pub(crate) fn extent_work(
        &mut self,
        partition: u8,
        extent: u32,
        at: At,
        page: Option<Page>,
        work: Work,
    ) {
        let file = self.extent_file(partition, extent);
        match file.state {
            ExtentState::Open(id) => self.do_extent_work(partition, extent, id, at, page, work),
            state => {
                file.waiting.push_back(Waiting { at, page, work });
                if state == ExtentState::Closed {
                    self.open_extent(partition, extent);
                }
            }
        }
    }

    fn open_extent(&mut self, partition: u8, extent: u32) {
        self.close_an_extent();
        self.extent_file(partition, extent).state = ExtentState::Opening;
        let op = FileOp::Open { name: names::extent(partition, extent), mode: OpenMode::Direct };
        self.ops.submit(op, None, Purpose::ExtentStep { partition, extent });
    }

    fn do_extent_work(
        &mut self,
        partition: u8,
        extent: u32,
        file: FileId,
        at: At,
        page: Option<Page>,
        work: Work,
    ) {
        let At { offset, length } = at;
        let op = match work {
            Work::Write(_) => FileOp::Write { file, offset, length },
            Work::Read(_) => FileOp::Read { file, offset, length },
            Work::Sync => FileOp::Sync { file },
            Work::Punch(run) => {
                let length = u64::from(run.blocks) * u64::from(BLOCK_BYTES);
                FileOp::Punch { file, offset, length }
            }
        };
        let entry = self.extent_file(partition, extent);
        entry.in_flight += 1;
        if work == Work::Sync {
            // What is written from here on may miss this sync.
            entry.dirty = false;
        }
        self.ops.submit(op, page, Purpose::ExtentWork { partition, extent, work });
    }

    /// A step of making, opening, closing or removing is done.
    pub(crate) fn extent_step_done(
        &mut self,
        partition: u8,
        extent: u32,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        let mut page = page;
        let state = self.extent_file(partition, extent).state;
        match (state, result) {
            (ExtentState::Making, Ok(FileValue::Opened { file, .. })) => {
                self.reserve_extent(partition, extent, file);
            }
            (ExtentState::Reserving(file), Ok(_)) => {
                self.extent_file(partition, extent).state = ExtentState::NeedsPageToWrite(file);
                self.needs_page.push_back((partition, extent));
            }
            // Whatever came of it, what is left is smaller.
            (ExtentState::Trimming(file), _) => self.reserve_extent(partition, extent, file),
            (ExtentState::HeaderWriting(file), Ok(_)) => {
                self.extent_file(partition, extent).dirty = true;
                self.extent_is_open(partition, extent, file);
            }
            (ExtentState::Opening, Ok(FileValue::Opened { file, .. })) => {
                self.extent_file(partition, extent).state = ExtentState::NeedsPageToRead(file);
                self.needs_page.push_back((partition, extent));
            }
            (ExtentState::HeaderReading(file), result) => {
                self.check_header(partition, extent, page.as_mut(), result);
                self.extent_is_open(partition, extent, file);
            }
            (ExtentState::Closing, _) => self.extent_is_closed(partition, extent),
            (ExtentState::ClosingToRemove, _) => self.remove_extent_file(partition, extent),
            (ExtentState::Removing, result) => {
                self.extent_is_removed(partition, extent, result.is_ok());
            }
            (ExtentState::Reserving(file), Err(FileFault::NoSpace)) => {
                self.shorten_extent(partition, extent, file);
            }
            (ExtentState::Reserving(file) | ExtentState::HeaderWriting(file), Err(fault)) => {
                self.extent_file(partition, extent).state = ExtentState::Open(file);
                self.give_up_extent(partition, extent, "making an extent", &fault);
            }
            (ExtentState::Making, Err(fault)) => {
                self.extent_file(partition, extent).state = ExtentState::Closed;
                self.give_up_extent(partition, extent, "making an extent", &fault);
            }
            (ExtentState::Opening, Err(fault)) => {
                self.extent_file(partition, extent).state = ExtentState::Closed;
                self.fail_waiting(partition, extent, &fault);
            }
            (state, result) => unreachable!("an extent {state:?} was answered {result:?}"),
        }
        if let Some(page) = page {
            self.give_back(page);
        }
    }

    fn reserve_extent(&mut self, partition: u8, extent: u32, file: FileId) {
        let entry = self.extent_file(partition, extent);
        entry.state = ExtentState::Reserving(file);
        let length = u64::from(entry.blocks) * u64::from(BLOCK_BYTES);
        let purpose = Purpose::ExtentStep { partition, extent };
        self.ops.submit(FileOp::Allocate { file, length }, None, purpose);
    }

    /// The disk has no space for an extent: half of it is tried, or as much as is meant for
    /// something. If it is no longer than that, it is given up.
    fn shorten_extent(&mut self, partition: u8, extent: u32, file: FileId) {
        self.tight = true;
        let part = self.partition(partition);
        let end = part.space.end_of(extent);
        let blocks = self.extent_file(partition, extent).blocks;
        if end >= blocks || self.partition(partition).space.is_free(extent) {
            self.extent_file(partition, extent).state = ExtentState::Open(file);
            let fault = FileFault::NoSpace;
            return self.give_up_extent(partition, extent, "making an extent", &fault);
        }
        let fewer = (blocks / 2).max(end);
        self.partition(partition).space.shrink(extent, fewer);
        let entry = self.extent_file(partition, extent);
        (entry.blocks, entry.state) = (fewer, ExtentState::Trimming(file));
        let bytes = |blocks: u32| u64::from(blocks) * u64::from(BLOCK_BYTES);
        let (offset, length) = (bytes(fewer), bytes(blocks - fewer));
        let purpose = Purpose::ExtentStep { partition, extent };
        self.ops.submit(FileOp::Punch { file, offset, length }, None, purpose);
    }

    fn extent_is_removed(&mut self, partition: u8, extent: u32, gone: bool) {
        let part = self.partition(partition);
        let given_up = part.files.remove(&extent).is_some_and(|file| file.poisoned);
        if !gone {
            // Its number is not given to another as long as it may be there.
            part.strange.insert(extent);
        }
        // One that could not be made gives back no more than it took.
        self.tight = self.tight && given_up;
    }

    /// Goes on with the extents that wait for a page to write or read their header.
    pub(crate) fn extents_with_page(&mut self) {
        while let Some((partition, extent)) = self.needs_page.front().copied() {
            let Some(mut page) = self.page_always() else { return };
            self.needs_page.pop_front();
            let journal = self.partition(partition).journal.written();
            let purpose = Purpose::ExtentStep { partition, extent };
            let entry = self.extent_file(partition, extent);
            match entry.state {
                ExtentState::NeedsPageToWrite(file) => {
                    entry.state = ExtentState::HeaderWriting(file);
                    extent_block(page.whole_mut(), partition, extent, entry.blocks, journal);
                    page.set_len(BLOCK_BYTES as usize);
                    let op = FileOp::Write { file, offset: 0, length: BLOCK_BYTES };
                    self.ops.submit(op, Some(page), purpose);
                }
                ExtentState::NeedsPageToRead(file) => {
                    entry.state = ExtentState::HeaderReading(file);
                    let op = FileOp::Read { file, offset: 0, length: BLOCK_BYTES };
                    self.ops.submit(op, Some(page), purpose);
                }
                state => unreachable!("an extent {state:?} does not wait for a page"),
            }
        }
    }

    fn check_header(
        &mut self,
        partition: u8,
        extent: u32,
        page: Option<&mut Page>,
        result: Result<FileValue, FileFault>,
    ) {
        let fits = matches!(result, Ok(FileValue::Bytes(BLOCK_BYTES)))
            && page.is_some_and(|page| {
                page.set_len(BLOCK_BYTES as usize);
                matches!(extent_header(page, partition, extent), Header::Fits(_))
            });
        if !fits {
            let name = names::extent(partition, extent);
            let reason = format!("the header of {name:?} is damaged; it takes no more writes");
            self.poison_extent(partition, extent, reason);
        }
    }

    fn extent_is_open(&mut self, partition: u8, extent: u32, file: FileId) {
        let entry = self.extent_file(partition, extent);
        entry.state = ExtentState::Open(file);
        let waiting = std::mem::take(&mut entry.waiting);
        self.open_extents.push_back((partition, extent));
        for Waiting { at, page, work } in waiting {
            self.do_extent_work(partition, extent, file, at, page, work);
        }
        self.tidy_extent(partition, extent);
    }

    fn extent_is_closed(&mut self, partition: u8, extent: u32) {
        let entry = self.extent_file(partition, extent);
        entry.state = ExtentState::Closed;
        if !entry.waiting.is_empty() {
            self.open_extent(partition, extent);
        }
        self.tidy_extent(partition, extent);
    }

    /// Closes the extents that were opened first, if too many are open and nothing happens in them.
    fn close_an_extent(&mut self) {
        for _ in 0..self.open_extents.len() {
            if self.open_extents.len() < EXTENTS_OPEN_MAX {
                return;
            }
            let Some((partition, extent)) = self.open_extents.pop_front() else { return };
            let file = self.partition(partition).files.get_mut(&extent);
            let Some(file) = file else { continue };
            let ExtentState::Open(id) = file.state else { continue };
            if file.quiet() && !file.dirty {
                file.state = ExtentState::Closing;
                let purpose = Purpose::ExtentStep { partition, extent };
                self.ops.submit(FileOp::Close { file: id }, None, purpose);
            } else {
                self.open_extents.push_back((partition, extent));
            }
        }
    }

    /// Work inside an extent is done.
    pub(crate) fn extent_work_done(
        &mut self,
        partition: u8,
        extent: u32,
        work: Work,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        self.extent_file(partition, extent).in_flight -= 1;
        self.work_answer(partition, extent, work, page, result);
        self.tidy_extent(partition, extent);
    }

    fn work_answer(
        &mut self,
        partition: u8,
        extent: u32,
        work: Work,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        match work {
            Work::Write(id) => {
                drop(page);
                self.data_written(partition, extent, id, result);
            }
            Work::Sync => self.extent_synced(partition, extent, result),
            Work::Read(slot) => self.read_done(slot, page, result),
            // A hole that could not be made costs space, not data.
            Work::Punch(run) => {
                self.partition(partition).space.free(&run);
                self.tight = false;
            }
        }
    }

    fn fail_waiting(&mut self, partition: u8, extent: u32, fault: &FileFault) {
        let waiting = std::mem::take(&mut self.extent_file(partition, extent).waiting);
        for Waiting { page, work, .. } in waiting {
            self.work_answer(partition, extent, work, page, Err(fault.clone()));
        }
        self.tidy_extent(partition, extent);
    }

    /// An extent that could not be made. A full disk is not its fault, but the file is useless.
    fn give_up_extent(
        &mut self,
        partition: u8,
        extent: u32,
        what: &'static str,
        fault: &FileFault,
    ) {
        let part = self.partition(partition);
        part.space.close(extent);
        self.tight |= *fault == FileFault::NoSpace;
        self.extent_file(partition, extent).poisoned = true;
        self.fail_writes_in(partition, extent, &fault_of(what, fault));
        self.fail_waiting(partition, extent, fault);
    }

    /// No more is written to this extent; what it holds can still be read.
    pub(crate) fn poison_extent(&mut self, partition: u8, extent: u32, reason: String) {
        let entry = self.extent_file(partition, extent);
        if entry.poisoned {
            return;
        }
        entry.poisoned = true;
        self.partition(partition).space.close(extent);
        self.events.push_back(Event::ExtentPoisoned { reason });
        self.fail_writes_in(partition, extent, &StoreFault::ExtentPoisoned);
    }

    /// Gives back the blocks of something whose deletion is durable, once no read needs them.
    pub(crate) fn release(&mut self, partition: u8, run: Run) {
        if self.reads.touch(partition, &run) {
            self.releasing.push((partition, run));
            return;
        }
        let at = At { offset: u64::from(run.start) * u64::from(BLOCK_BYTES), length: 0 };
        let part = self.partition(partition);
        let only = part.space.used_in(run.extent) == run.blocks;
        if only {
            // The whole file goes; no need for a hole in it.
            part.space.free(&run);
            self.tidy_extent(partition, run.extent);
        } else {
            // Handed out again only when the hole is made: it must not fall on new bytes.
            self.extent_work(partition, run.extent, at, None, Work::Punch(run));
        }
    }

    /// Removes an extent in which nothing is held and nothing happens.
    pub(crate) fn tidy_extent(&mut self, partition: u8, extent: u32) {
        let part = self.partition(partition);
        let Some(file) = part.files.get_mut(&extent) else { return };
        if !part.space.is_free(extent) || !file.quiet() {
            return;
        }
        match file.state {
            ExtentState::Open(id) => {
                file.state = ExtentState::ClosingToRemove;
                part.space.remove(extent);
                let purpose = Purpose::ExtentStep { partition, extent };
                self.ops.submit(FileOp::Close { file: id }, None, purpose);
            }
            ExtentState::Closed => {
                part.space.remove(extent);
                self.remove_extent_file(partition, extent);
            }
            ExtentState::Planned => {
                part.space.remove(extent);
                part.files.remove(&extent);
            }
            _ => {}
        }
    }

    fn remove_extent_file(&mut self, partition: u8, extent: u32) {
        self.extent_file(partition, extent).state = ExtentState::Removing;
        let op = FileOp::Remove { name: names::extent(partition, extent) };
        self.ops.submit(op, None, Purpose::ExtentStep { partition, extent });
    }

    pub(crate) fn extent_file(&mut self, partition: u8, extent: u32) -> &mut ExtentFile {
        let file = self.partition(partition).files.get_mut(&extent);
        file.expect("an extent has a file as long as anything happens in it")
    }

    /// Closes every open extent, for a clean end. True if there were any.
    pub(crate) fn close_extents(&mut self) -> bool {
        let mut closing = Vec::new();
        for (partition, part) in &mut self.partitions {
            for (extent, file) in &mut part.files {
                if let ExtentState::Open(id) = file.state {
                    file.state = ExtentState::Closing;
                    closing.push((*partition, *extent, id));
                }
            }
        }
        for (partition, extent, file) in &closing {
            let purpose = Purpose::ExtentStep { partition: *partition, extent: *extent };
            self.ops.submit(FileOp::Close { file: *file }, None, purpose);
        }
        !closing.is_empty()
    }
}

/// The fault of a put, from that of a file.
pub(crate) fn fault_of(what: &'static str, fault: &FileFault) -> StoreFault {
    match fault {
        FileFault::NoSpace => StoreFault::NoSpace,
        other => StoreFault::File { what, fault: other.clone() },
    }
}
