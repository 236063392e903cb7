//! Writing down the last wall time that was believed: two blocks in turn, so that one is always whole.

use pangea_base::file::{FileFault, FileId, FileOp, FileValue, OpenMode};
use pangea_base::{Page, UnixTime};

use crate::format::{ClockRecord, clock_block};
use crate::limits::BLOCK_BYTES;
use crate::names;
use crate::ops::Purpose;
use crate::store::{Life, Store};
use crate::types::Event;

/// The partition whose core keeps the time.
pub(crate) const CLOCK_PARTITION: u8 = 0;

/// The file and what is to be written to it.
#[derive(Default)]
pub(crate) struct ClockFile {
    /// Records that were written before.
    pub count: u64,
    /// Something that is not ours has its name.
    pub taken: bool,
    file: Option<FileId>,
    step: Step,
    wanted: Option<UnixTime>,
    writing: Option<UnixTime>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Step {
    #[default]
    Idle,
    Opening,
    Writing,
    Syncing,
    Closing,
}

impl Store {
    /// Writes a time down, durably, to be found as [`crate::Recovered::believed`];
    /// [`Event::Believed`] follows, unless the disk fails or a later time came in between. Only the
    /// core with partition 0 does so. One write is under way at a time.
    pub fn believe(&mut self, time: UnixTime) {
        let keeps = self.config.partitions.contains(&CLOCK_PARTITION);
        if self.is_open() && keeps && !self.clock_file.taken {
            self.clock_file.wanted = Some(time);
            self.work = true;
        }
    }

    /// Begins the next write, if one is wanted and none is under way.
    pub(crate) fn pump_clock(&mut self) {
        let clock = &mut self.clock_file;
        if clock.step != Step::Idle || !matches!(self.life, Life::Open) {
            return;
        }
        if clock.wanted.is_none() {
            return;
        }
        let Some(file) = clock.file else {
            clock.step = Step::Opening;
            let op = FileOp::Open { name: names::clock(), mode: OpenMode::DirectCreate };
            return self.ops.submit(op, None, Purpose::Clock);
        };
        let Some(mut page) = self.page_always() else { return };
        let clock = &mut self.clock_file;
        let time = clock.wanted.take().expect("it was just looked at");
        clock.count = clock.count.wrapping_add(1);
        clock.writing = Some(time);
        clock.step = Step::Writing;
        clock_block(page.whole_mut(), ClockRecord { count: clock.count, time });
        page.set_len(BLOCK_BYTES as usize);
        let offset = clock.count % 2 * u64::from(BLOCK_BYTES);
        let op = FileOp::Write { file, offset, length: BLOCK_BYTES };
        self.ops.submit(op, Some(page), Purpose::Clock);
    }

    /// A step is done. One that failed ends this write; the next goes to the same block, since the
    /// other one is whole.
    pub(crate) fn clock_step_done(
        &mut self,
        page: Option<Page>,
        result: Result<FileValue, FileFault>,
    ) {
        if let Some(page) = page {
            self.give_back(page);
        }
        let clock = &mut self.clock_file;
        match (clock.step, result) {
            (Step::Opening, Ok(FileValue::Opened { file, .. })) => {
                clock.file = Some(file);
                clock.step = Step::Idle;
            }
            (Step::Writing, Ok(_)) => {
                clock.step = Step::Syncing;
                let file = clock.file.expect("it was written");
                self.ops.submit(FileOp::Sync { file }, None, Purpose::Clock);
            }
            (Step::Syncing, Ok(_)) => {
                clock.step = Step::Idle;
                if let Some(time) = clock.writing.take() {
                    self.events.push_back(Event::Believed { time });
                }
            }
            (Step::Closing, _) => clock.step = Step::Idle,
            (_, Err(_)) => {
                let begun = u64::from(clock.writing.take().is_some());
                clock.count = clock.count.wrapping_sub(begun);
                (clock.step, clock.wanted) = (Step::Idle, None);
            }
            (step, Ok(value)) => unreachable!("the clock {step:?} was answered {value:?}"),
        }
    }

    /// Closes the file, for a clean end. True if that is under way.
    pub(crate) fn close_clock(&mut self) -> bool {
        let Some(file) = self.clock_file.file.take() else { return false };
        self.clock_file.step = Step::Closing;
        self.ops.submit(FileOp::Close { file }, None, Purpose::Clock);
        true
    }
}
