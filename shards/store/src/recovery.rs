//! Opening the store: one file operation at a time. What is above the partitions is here, what is
//! in one is `partition.rs`, and what a journal says is decided by `scan.rs`.

use std::collections::{BTreeMap, VecDeque};

use pangea_base::file::{FileFault, FileId, FileName, FileOp, FileValue, Listed, OpenMode};
use pangea_base::{Page, PeerId};

use crate::clock::CLOCK_PARTITION;
use crate::format::{Put, VERSION, Version, clock_of, version_block, version_of};
use crate::journal::Item;
use crate::limits::BLOCK_BYTES;
use crate::names::{self, Above};
use crate::ops::Purpose;
use crate::partition::Scan;
use crate::store::{Life, Store};
use crate::types::{Adopt, Event, OpenFailed, Recovered};

/// Where the opening stands.
pub(crate) struct Recovery {
    pub step: Step,
    pub partitions: VecDeque<u8>,
    pub found: Recovered,
    pub scan: Scan,
    /// Things that were found in two partitions, with the partition that is to forget them.
    pub twice: Vec<(u8, Put)>,
    file: Option<FileId>,
    version: Version,
    has_format: bool,
    has_clock: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    ListingStore,
    FormatOpening,
    FormatReading,
    FormatClosing,
    NextOpening,
    NextWriting,
    NextSyncing,
    NextClosing,
    NextRenaming,
    ClockOpening,
    ClockReading,
    ClockClosing,
    // The steps within a partition.
    Listing,
    JournalOpening,
    Surveying,
    JournalClosing,
    JournalReopening,
    Replaying,
    JournalSyncing,
    LookOpening,
    LookReading,
    LookClosing,
    Removing,
}

impl Recovery {
    pub(crate) fn new() -> Recovery {
        Recovery {
            step: Step::ListingStore,
            partitions: VecDeque::new(),
            found: Recovered::default(),
            scan: Scan::default(),
            twice: Vec::new(),
            file: None,
            version: Version::Unwritten,
            has_format: false,
            has_clock: false,
        }
    }
}

pub(crate) type Answer = Result<FileValue, FileFault>;

impl Store {
    pub(crate) fn start_recovery(&mut self) {
        let op = FileOp::List { directory: names::store() };
        self.recover(Step::ListingStore, op, None);
    }

    pub(crate) fn recovery(&mut self) -> &mut Recovery {
        match &mut self.life {
            Life::Opening(recovery) => recovery,
            _ => unreachable!("only an opening store recovers"),
        }
    }

    pub(crate) fn recover(&mut self, step: Step, op: FileOp, page: Option<Page>) {
        self.recovery().step = step;
        self.ops.submit(op, page, Purpose::Recover);
    }

    pub(crate) fn fail_open(&mut self, failed: OpenFailed) {
        self.life = Life::Failed;
        self.index = Default::default();
        self.partitions = Default::default();
        self.events.push_back(Event::Failed(failed));
    }

    fn fail_above(&mut self, what: &str, fault: FileFault) {
        self.fail_open(OpenFailed::File { what: what.to_owned(), fault });
    }

    /// Takes the answer to the one operation of recovery that is under way.
    pub(crate) fn recovery_step_done(&mut self, page: Option<Page>, result: Answer) {
        if !matches!(self.life, Life::Opening(_)) {
            return;
        }
        match self.recovery().step {
            Step::ListingStore => self.store_listed(result),
            Step::FormatOpening | Step::FormatReading | Step::FormatClosing => {
                self.format_step_done(page, result);
            }
            Step::NextOpening
            | Step::NextWriting
            | Step::NextSyncing
            | Step::NextClosing
            | Step::NextRenaming => self.next_format_step_done(page, result),
            Step::ClockOpening | Step::ClockReading | Step::ClockClosing => {
                self.clock_read_step_done(page, result);
            }
            _ => self.partition_step_done(page, result),
        }
    }

    fn store_listed(&mut self, result: Answer) {
        let names = match result {
            Ok(FileValue::Names(names)) => names,
            Err(FileFault::Missing) => Vec::new(),
            Ok(value) => unreachable!("a listing was answered {value:?}"),
            Err(fault) => return self.fail_above("listing the directory store", fault),
        };
        let mut there = BTreeMap::new();
        for (name, listed) in names {
            if let Err((what, fault)) = self.listed_above(&name, listed, &mut there) {
                return self.fail_above(&what, fault);
            }
        }
        let is_file = |partition: &u8| matches!(there.get(partition), Some(Listed::File(_)));
        self.config.partitions.retain(|partition| !is_file(partition));
        if self.config.partitions.is_empty() {
            let text = String::from("files that are not ours have their names");
            let fault = FileFault::Other { errno: 0, text };
            return self.fail_above("making a partition", fault);
        }
        let partitions = self.config.partitions.iter().copied();
        let partitions = partitions.filter(|partition| there.contains_key(partition)).collect();
        self.recovery().partitions = partitions;
        match self.recovery().has_format {
            true => {
                let op = FileOp::Open { name: names::format(), mode: OpenMode::Direct };
                self.recover(Step::FormatOpening, op, None);
            }
            false => self.write_format(),
        }
    }

    /// Notes one thing that is directly below `store`.
    fn listed_above(
        &mut self,
        name: &FileName,
        listed: Listed,
        there: &mut BTreeMap<u8, Listed>,
    ) -> Result<(), (String, FileFault)> {
        // What concerns all cores is counted by one of them.
        let counts = self.config.partitions.contains(&CLOCK_PARTITION);
        let partitions = self.config.partitions.clone();
        let ours = |partition| partitions.contains(&partition);
        let is_file = matches!(listed, Listed::File(_));
        let wrong = |what: &str| {
            let text = format!("{what}; no link is followed there: move it away");
            Err((format!("opening {name:?}"), FileFault::Other { errno: 0, text }))
        };
        let mut stranger = false;
        match (names::parse_above(name), listed) {
            (Above::Format, Listed::File(_)) => self.recovery().has_format = true,
            (Above::Format, _) => return wrong("it is not a regular file"),
            (Above::NextFormat(partition), _) if ours(partition) && !is_file => {
                return wrong("it is not a regular file");
            }
            (Above::NextFormat(_), _) => {}
            (Above::Clock, Listed::File(_)) => self.recovery().has_clock = true,
            (Above::Clock, _) => {
                self.clock_file.taken = true;
                stranger = counts;
            }
            (Above::Partition(partition), Listed::Other) if ours(partition) => {
                return wrong("it is not a directory");
            }
            (Above::Partition(partition), listed) => {
                there.insert(partition, listed);
                stranger = ours(partition) && is_file;
            }
            (Above::Unknown, _) => stranger = counts,
        }
        self.recovery().found.unknown_files += u64::from(stranger);
        Ok(())
    }

    fn format_step_done(&mut self, page: Option<Page>, result: Answer) {
        let step = self.recovery().step;
        match (step, result) {
            // Nothing else removes it, but nobody promised that.
            (Step::FormatOpening, Err(FileFault::Missing)) => self.write_format(),
            (Step::FormatOpening, Ok(FileValue::Opened { file, .. })) => {
                self.recovery().file = Some(file);
                let Some(page) = self.page_for_recovery() else { return };
                let op = FileOp::Read { file, offset: 0, length: BLOCK_BYTES };
                self.recover(Step::FormatReading, op, Some(page));
            }
            (Step::FormatReading, Ok(FileValue::Bytes(bytes))) => {
                let mut page = page.expect("a page comes back");
                page.set_len(bytes as usize);
                self.recovery().version = version_of(&page);
                self.give_back(page);
                let file = self.recovery().file.take().expect("it is open");
                self.recover(Step::FormatClosing, FileOp::Close { file }, None);
            }
            (Step::FormatClosing, _) => self.check_format(),
            (_, Err(fault)) => self.fail_above("reading store/format", fault),
            (step, Ok(value)) => unreachable!("recovery {step:?} was answered {value:?}"),
        }
    }

    fn check_format(&mut self) {
        let (node, adopt) = (self.config.node, self.config.adopt);
        match self.recovery().version {
            Version::Of(found) if found == node => self.read_clock(),
            Version::Of(found) => self.other_node(found, adopt),
            Version::Old => {
                self.recovery().found.carried_over = true;
                self.write_format();
            }
            Version::Other(found) => {
                self.fail_open(OpenFailed::OtherVersion { found, reads: VERSION });
            }
            Version::Damaged => self.fail_open(OpenFailed::FormatDamaged),
            Version::Unwritten => self.write_format(),
        }
    }

    fn other_node(&mut self, found: PeerId, adopt: Adopt) {
        match adopt {
            Adopt::Refuse => self.fail_open(OpenFailed::OtherNode { found }),
            Adopt::TakeOver => {
                self.recovery().found.taken_over = Some(found);
                self.write_format();
            }
        }
    }

    /// Writes the version file beside its place and then puts it there, so that it is always whole.
    fn write_format(&mut self) {
        let name = names::next_format(self.first_partition());
        let op = FileOp::Open { name, mode: OpenMode::DirectCreate };
        self.recover(Step::NextOpening, op, None);
    }

    fn next_format_step_done(&mut self, page: Option<Page>, result: Answer) {
        if let Some(page) = page {
            self.give_back(page);
        }
        let step = self.recovery().step;
        match (step, result) {
            (Step::NextOpening, Ok(FileValue::Opened { file, .. })) => {
                self.recovery().file = Some(file);
                let Some(mut page) = self.page_for_recovery() else { return };
                version_block(page.whole_mut(), self.config.node);
                page.set_len(BLOCK_BYTES as usize);
                let op = FileOp::Write { file, offset: 0, length: BLOCK_BYTES };
                self.recover(Step::NextWriting, op, Some(page));
            }
            (Step::NextWriting, Ok(_)) => {
                let file = self.recovery().file.expect("it is open");
                self.recover(Step::NextSyncing, FileOp::Sync { file }, None);
            }
            (Step::NextSyncing, Ok(_)) => {
                let file = self.recovery().file.take().expect("it is open");
                self.recover(Step::NextClosing, FileOp::Close { file }, None);
            }
            (Step::NextClosing, _) => {
                let from = names::next_format(self.first_partition());
                let op = FileOp::Rename { from, to: names::format() };
                self.recover(Step::NextRenaming, op, None);
            }
            (Step::NextRenaming, Ok(_)) => self.read_clock(),
            (_, Err(fault)) => self.fail_above("writing store/format", fault),
            (step, Ok(value)) => unreachable!("recovery {step:?} was answered {value:?}"),
        }
    }

    fn read_clock(&mut self) {
        let keeps = self.config.partitions.contains(&CLOCK_PARTITION);
        if !keeps || !self.recovery().has_clock {
            return self.next_partition();
        }
        let op = FileOp::Open { name: names::clock(), mode: OpenMode::Direct };
        self.recover(Step::ClockOpening, op, None);
    }

    /// The record is of use, not of need: whatever is wrong with it, nothing is known then.
    fn clock_read_step_done(&mut self, page: Option<Page>, result: Answer) {
        let step = self.recovery().step;
        match (step, result) {
            (Step::ClockOpening, Ok(FileValue::Opened { file, .. })) => {
                self.recovery().file = Some(file);
                let Some(page) = self.page_for_recovery() else { return };
                let op = FileOp::Read { file, offset: 0, length: 2 * BLOCK_BYTES };
                self.recover(Step::ClockReading, op, Some(page));
            }
            (Step::ClockReading, result) => {
                let mut page = page.expect("a page comes back");
                let bytes = match result {
                    Ok(FileValue::Bytes(bytes)) => bytes as usize,
                    _ => 0,
                };
                page.set_len(bytes);
                let newest = page.chunks(BLOCK_BYTES as usize).filter_map(clock_of).max();
                self.give_back(page);
                self.clock_file.count = newest.map_or(0, |record| record.count);
                self.recovery().found.believed = newest.map(|record| record.time);
                let file = self.recovery().file.take().expect("it is open");
                self.recover(Step::ClockClosing, FileOp::Close { file }, None);
            }
            (_, _) => self.next_partition(),
        }
    }

    pub(crate) fn page_for_recovery(&mut self) -> Option<Page> {
        let page = self.page_always();
        if page.is_none() {
            let what = String::from("taking a page of memory to read the journal with");
            let text = String::from("all pages of the pool are in use");
            self.fail_open(OpenFailed::File { what, fault: FileFault::Other { errno: 0, text } });
        }
        page
    }

    pub(crate) fn opened(&mut self) {
        let Life::Opening(recovery) = std::mem::replace(&mut self.life, Life::Open) else {
            unreachable!("recovery is on");
        };
        let mut found = recovery.found;
        found.duplicates = recovery.twice.len() as u64;
        found.shards = self.index.shard_count() as u64;
        found.blobs = self.index.blob_count() as u64;
        found.owners = self.index.accounts();
        found.bytes = found.owners.iter().map(|(_, _, bytes)| bytes).sum();
        self.events.push_back(Event::Ready(found));
        for (partition, put) in recovery.twice {
            self.forgetting.insert(put.key);
            self.enqueue(partition, Item::Forget(put));
        }
    }
}
