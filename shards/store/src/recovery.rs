//! Opening the store: one file operation at a time, deciding by `scan.rs`.

use std::collections::{BTreeMap, VecDeque};

use pangea_base::Page;
use pangea_base::file::{FileFault, FileId, FileName, FileOp, FileValue, OpenMode};

use crate::extents::{ExtentFile, ExtentState};
use crate::format::{Entry, Place, Put, VERSION, Version, version_block, version_of};
use crate::journal::{Item, OpenJournal};
use crate::limits::{BLOCK_BYTES, PAGE_BYTES};
use crate::names::{self, Named};
use crate::ops::Purpose;
use crate::scan::{Mode, Replay, Survey};
use crate::store::{Life, Partition, Store};
use crate::types::{Event, Key, OpenFailed, Recovered};

/// Where the opening stands.
pub(crate) struct Recovery {
    step: Step,
    partitions: VecDeque<u8>,
    found: Recovered,
    scan: Scan,
    /// Things that were found in two partitions, with the partition that is to forget them.
    twice: Vec<(u8, Put)>,
}

/// What is known of the partition at hand.
#[derive(Default)]
struct Scan {
    partition: u8,
    // Newest first.
    journals: Vec<u64>,
    extents: BTreeMap<u32, u64>,
    surveys: Vec<Survey>,
    chosen: Option<Chosen>,
    file: Option<FileId>,
    length: u64,
    at: u64,
    remove: VecDeque<FileName>,
    // What this partition says of keys that an earlier one has too.
    shadows: BTreeMap<Key, Put>,
    // When each key was put, kept only when the journal is damaged.
    order: Option<BTreeMap<Key, u64>>,
    entries: u64,
    // The highest extent that was ever named.
    extent_max: Option<u32>,
}

struct Chosen {
    survey: Survey,
    replay: Replay,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    FormatOpening,
    FormatReading,
    FormatMaking,
    FormatWriting,
    FormatSyncing,
    FormatClosing,
    Listing,
    JournalOpening,
    Surveying,
    JournalClosing,
    JournalReopening,
    Replaying,
    JournalSyncing,
    Removing,
}

impl Recovery {
    pub(crate) fn new(partitions: &[u8]) -> Recovery {
        Recovery {
            step: Step::FormatOpening,
            partitions: partitions.iter().copied().collect(),
            found: Recovered::default(),
            scan: Scan::default(),
            twice: Vec::new(),
        }
    }
}

type Answer = Result<FileValue, FileFault>;

impl Store {
    pub(crate) fn start_recovery(&mut self) {
        let op = FileOp::Open { name: names::format(), mode: OpenMode::Direct };
        self.recover(Step::FormatOpening, op, None);
    }

    fn recovery(&mut self) -> &mut Recovery {
        match &mut self.life {
            Life::Opening(recovery) => recovery,
            _ => unreachable!("only an opening store recovers"),
        }
    }

    fn recover(&mut self, step: Step, op: FileOp, page: Option<Page>) {
        self.recovery().step = step;
        self.ops.submit(op, page, Purpose::Recover);
    }

    fn fail_open(&mut self, failed: OpenFailed) {
        self.life = Life::Failed;
        self.index = Default::default();
        self.partitions = Default::default();
        self.events.push_back(Event::Failed(failed));
    }

    /// Takes the answer to the one operation of recovery that is under way.
    pub(crate) fn recovery_step_done(&mut self, page: Option<Page>, result: Answer) {
        if !matches!(self.life, Life::Opening(_)) {
            return;
        }
        match self.recovery().step {
            Step::FormatOpening
            | Step::FormatReading
            | Step::FormatMaking
            | Step::FormatWriting
            | Step::FormatSyncing
            | Step::FormatClosing => self.format_step_done(page, result),
            Step::Listing => self.listed(result),
            Step::JournalOpening | Step::JournalReopening => self.journal_opened(result),
            Step::Surveying | Step::Replaying => self.journal_read(page, result),
            // What is read can be read; a journal that cannot be closed is no worse for it.
            Step::JournalClosing => self.survey_next(),
            Step::JournalSyncing => match result {
                Ok(_) => self.remove_next(),
                Err(fault) => self.fail_journal("syncing", fault),
            },
            // What cannot be removed now is not usable, or older, and is met again next time.
            Step::Removing => self.remove_next(),
        }
    }

    fn fail_journal(&mut self, doing: &str, fault: FileFault) {
        let partition = self.recovery().scan.partition;
        let what = format!("{doing} the journal of partition p{partition:02}");
        self.fail_open(OpenFailed::File { what, fault });
    }

    fn format_step_done(&mut self, page: Option<Page>, result: Answer) {
        let recovery = self.recovery();
        let step = recovery.step;
        match (step, result) {
            (Step::FormatOpening, Err(FileFault::Missing)) => {
                let op = FileOp::Open { name: names::format(), mode: OpenMode::DirectCreate };
                self.recover(Step::FormatMaking, op, None);
            }
            (Step::FormatOpening | Step::FormatMaking, Ok(FileValue::Opened { file, .. })) => {
                recovery.scan.file = Some(file);
                match step {
                    Step::FormatOpening => {
                        let Some(page) = self.page_for_recovery() else { return };
                        let op = FileOp::Read { file, offset: 0, length: BLOCK_BYTES };
                        self.recover(Step::FormatReading, op, Some(page));
                    }
                    _ => self.write_format(file),
                }
            }
            (Step::FormatReading, Ok(FileValue::Bytes(bytes))) => {
                let mut page = page.expect("a page comes back");
                page.set_len(bytes as usize);
                let version = version_of(&page);
                self.give_back(page);
                self.check_format(version);
            }
            (Step::FormatWriting, Ok(_)) => {
                let file = recovery.scan.file.expect("it is open");
                self.give_back(page.expect("a page comes back"));
                self.recover(Step::FormatSyncing, FileOp::Sync { file }, None);
            }
            (Step::FormatSyncing, Ok(_)) => self.close_format(),
            (Step::FormatClosing, _) => self.next_partition(),
            (_, Err(fault)) => {
                let what = String::from(match step {
                    Step::FormatOpening | Step::FormatReading => "reading store/format",
                    _ => "writing store/format",
                });
                self.fail_open(OpenFailed::File { what, fault });
            }
            (step, Ok(value)) => unreachable!("recovery {step:?} was answered {value:?}"),
        }
    }

    fn check_format(&mut self, version: Version) {
        let file = self.recovery().scan.file.expect("it is open");
        match version {
            Version::Is(VERSION) => self.close_format(),
            Version::Is(found) => {
                self.fail_open(OpenFailed::OtherVersion { found, reads: VERSION });
            }
            Version::Damaged => self.fail_open(OpenFailed::FormatDamaged),
            Version::Unwritten => self.write_format(file),
        }
    }

    fn write_format(&mut self, file: FileId) {
        let Some(mut page) = self.page_for_recovery() else { return };
        version_block(page.whole_mut(), VERSION);
        page.set_len(BLOCK_BYTES as usize);
        let op = FileOp::Write { file, offset: 0, length: BLOCK_BYTES };
        self.recover(Step::FormatWriting, op, Some(page));
    }

    fn close_format(&mut self) {
        let file = self.recovery().scan.file.take().expect("it is open");
        self.recover(Step::FormatClosing, FileOp::Close { file }, None);
    }

    fn page_for_recovery(&mut self) -> Option<Page> {
        let page = self.page_always();
        if page.is_none() {
            let what = String::from("taking a page of memory to read the journal with");
            let text = String::from("all pages of the pool are in use");
            self.fail_open(OpenFailed::File { what, fault: FileFault::Other { errno: 0, text } });
        }
        page
    }

    fn next_partition(&mut self) {
        let recovery = self.recovery();
        let Some(partition) = recovery.partitions.pop_front() else { return self.opened() };
        recovery.scan = Scan { partition, ..Scan::default() };
        let op = FileOp::List { directory: names::directory(partition) };
        self.recover(Step::Listing, op, None);
    }

    fn listed(&mut self, result: Answer) {
        let recovery = self.recovery();
        let partition = recovery.scan.partition;
        let names = match result {
            Ok(FileValue::Names(names)) => names,
            Err(FileFault::Missing) => Vec::new(),
            Ok(value) => unreachable!("a listing was answered {value:?}"),
            Err(fault) => {
                let what = format!("listing the directory store/p{partition:02}");
                return self.fail_open(OpenFailed::File { what, fault });
            }
        };
        for (name, length) in names {
            match names::parse(partition, &name) {
                Named::Journal(generation) => recovery.scan.journals.push(generation),
                Named::Extent(extent) => {
                    recovery.scan.extents.insert(extent, length);
                }
                Named::Unknown => recovery.found.unknown_files += 1,
            }
        }
        recovery.scan.journals.sort_by(|a, b| b.cmp(a));
        self.survey_next();
    }

    /// Reads the next older journal, or decides among those that were read.
    fn survey_next(&mut self) {
        let scan = &mut self.recovery().scan;
        let (partition, read) = (scan.partition, scan.surveys.len());
        match scan.journals.get(read) {
            Some(generation) => {
                let name = names::journal(partition, *generation);
                let op = FileOp::Open { name, mode: OpenMode::Direct };
                self.recover(Step::JournalOpening, op, None);
            }
            None => self.choose_among_unusable(),
        }
    }

    fn choose_among_unusable(&mut self) {
        let scan = &mut self.recovery().scan;
        let partition = scan.partition;
        if let Some(version) = scan.surveys.iter().find_map(|survey| survey.other_version) {
            let failed = OpenFailed::OtherVersion { found: version, reads: VERSION };
            return self.fail_open(failed);
        }
        let best = scan.surveys.iter().find(|survey| survey.last_valid.is_some()).cloned();
        match best {
            Some(survey) => {
                let name = names::journal(partition, survey.place.generation);
                let replay = Replay::new(&survey, Mode::Salvage);
                scan.chosen = Some(Chosen { survey, replay });
                let op = FileOp::Open { name, mode: OpenMode::Direct };
                self.recover(Step::JournalReopening, op, None);
            }
            None if !scan.extents.is_empty() => {
                let extents = scan.extents.len() as u64;
                self.fail_open(OpenFailed::JournalLost { partition, extents });
            }
            None => {
                // A first journal that was never finished: there never was anything.
                let cut: u64 = scan.surveys.iter().map(Survey::garbage).sum();
                self.recovery().found.cut_blocks += cut;
                self.plan_removals();
            }
        }
    }

    fn journal_opened(&mut self, result: Answer) {
        match result {
            Ok(FileValue::Opened { file, length }) => {
                let scan = &mut self.recovery().scan;
                (scan.file, scan.length, scan.at) = (Some(file), length, 0);
                if scan.chosen.is_none() {
                    let generation = scan.journals[scan.surveys.len()];
                    let place = Place { partition: scan.partition, generation };
                    scan.surveys.push(Survey::new(place));
                }
                self.read_journal();
            }
            Ok(value) => unreachable!("an open was answered {value:?}"),
            Err(fault) => self.fail_journal("opening", fault),
        }
    }

    fn read_journal(&mut self) {
        let Some(page) = self.page_for_recovery() else { return };
        let scan = &mut self.recovery().scan;
        let file = scan.file.expect("it is open");
        let (step, end) = match &scan.chosen {
            None => (Step::Surveying, scan.length),
            Some(chosen) => (Step::Replaying, chosen.survey.blocks() * u64::from(BLOCK_BYTES)),
        };
        let offset = scan.at;
        if offset >= end {
            self.give_back(page);
            return match step {
                Step::Surveying => self.surveyed(),
                _ => self.replayed(),
            };
        }
        let left = (end - offset).next_multiple_of(u64::from(BLOCK_BYTES));
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE_BYTES);
        scan.at += u64::from(length);
        self.recover(step, FileOp::Read { file, offset, length }, Some(page));
    }

    fn journal_read(&mut self, page: Option<Page>, result: Answer) {
        let bytes = match result {
            Ok(FileValue::Bytes(bytes)) => bytes as usize,
            Ok(value) => unreachable!("a read was answered {value:?}"),
            Err(fault) => return self.fail_journal("reading", fault),
        };
        let mut page = page.expect("a page comes back");
        page.set_len(bytes);
        for block in page.chunks(BLOCK_BYTES as usize) {
            let scan = &mut self.recovery().scan;
            match &mut scan.chosen {
                None => scan.surveys.last_mut().expect("it was begun").block(block),
                Some(chosen) => {
                    let entries = chosen.replay.block(block);
                    for entry in entries {
                        self.apply(entry);
                    }
                }
            }
        }
        self.give_back(page);
        let (shards_max, blobs_max) = (self.config.shards_max, self.config.blobs_max);
        if self.index.shard_count() > shards_max {
            self.fail_open(OpenFailed::TooMany { limit: shards_max });
        } else if self.index.blob_count() > blobs_max {
            self.fail_open(OpenFailed::TooMany { limit: blobs_max });
        } else {
            self.read_journal();
        }
    }

    fn surveyed(&mut self) {
        let scan = &mut self.recovery().scan;
        let survey = scan.surveys.last().expect("it was read");
        if survey.usable() {
            let survey = survey.clone();
            let replay = Replay::new(&survey, Mode::Strict);
            scan.at = 0;
            scan.chosen = Some(Chosen { survey, replay });
            self.read_journal();
        } else {
            let file = scan.file.take().expect("it is open");
            self.recover(Step::JournalClosing, FileOp::Close { file }, None);
        }
    }

    fn apply(&mut self, entry: Entry) {
        let Life::Opening(recovery) = &mut self.life else { unreachable!("recovery is on") };
        let scan = &mut recovery.scan;
        scan.entries += 1;
        match entry {
            Entry::Put(put) => {
                let named = put.runs.iter().map(|run| run.extent).max();
                scan.extent_max = scan.extent_max.max(named);
                let damaged = scan.chosen.as_ref().is_some_and(|c| c.replay.damaged_blocks > 0);
                if damaged || scan.order.is_some() {
                    scan.order.get_or_insert_default().insert(put.key, scan.entries);
                }
                match self.index.partition(&put.key) {
                    Some(other) if other != scan.partition => {
                        scan.shadows.insert(put.key, put);
                    }
                    _ => self.index.insert(scan.partition, &put),
                }
            }
            Entry::Deleted(key) => {
                if scan.shadows.remove(&key).is_none()
                    && self.index.partition(&key) == Some(scan.partition)
                {
                    self.index.remove(&key);
                }
            }
            Entry::Closed => {}
        }
    }

    fn replayed(&mut self) {
        let scan = &mut self.recovery().scan;
        let file = scan.file.expect("it is open");
        let shadows = std::mem::take(&mut scan.shadows);
        let partition = scan.partition;
        for (_, put) in shadows {
            let other = self.index.partition(&put.key).expect("it was there");
            let held = self.index.get(&put.key).expect("it was there");
            let (loser, lost) = if put.lease > held.lease {
                self.index.insert(partition, &put);
                (other, held)
            } else {
                (partition, put)
            };
            self.recovery().twice.push((loser, lost));
        }
        self.recover(Step::JournalSyncing, FileOp::Sync { file }, None);
    }

    fn remove_next(&mut self) {
        let scan = &mut self.recovery().scan;
        if scan.chosen.is_some() {
            return self.keep_journal();
        }
        match scan.remove.pop_front() {
            Some(name) => self.recover(Step::Removing, FileOp::Remove { name }, None),
            None => self.next_partition(),
        }
    }

    /// The chosen journal is read and synced: it becomes the partition's.
    fn keep_journal(&mut self) {
        let journal_bytes = self.config.journal_bytes;
        let Life::Opening(recovery) = &mut self.life else { unreachable!("recovery is on") };
        let scan = &mut recovery.scan;
        let Chosen { replay, .. } = scan.chosen.take().expect("it was looked at");
        recovery.found.cut_blocks += replay.cut_blocks;
        recovery.found.damaged_blocks += replay.damaged_blocks;
        recovery.found.lost_entries += replay.lost_entries;
        let clean = replay.clean();
        let mut part = Partition::new();
        part.journal.generation_max = scan.journals.first().copied().unwrap_or(0);
        let generation = replay.chain.place.generation;
        part.journal.open = Some(OpenJournal {
            file: scan.file.take().expect("it is open"),
            chain: replay.chain,
            allocated: scan.length - scan.length % u64::from(BLOCK_BYTES),
            rotate_at: clean.then_some(journal_bytes),
        });
        let highest = scan.extents.keys().last().copied().max(scan.extent_max);
        part.next_extent = highest.map_or(0, |extent| extent.saturating_add(1));
        for (extent, length) in &scan.extents {
            let blocks = u32::try_from(length / u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX);
            part.space.add(*extent, blocks);
            part.files.insert(*extent, ExtentFile::new(ExtentState::Closed, blocks));
        }
        scan.journals.retain(|other| *other != generation);
        let partition = scan.partition;
        let damage = replay.damaged_blocks > 0;
        self.partitions.insert(partition, part);
        self.claim_all(partition);
        if !damage {
            self.forget_empty_extents(partition);
        }
        self.plan_removals();
    }

    /// Claims the blocks of all that is held in a partition, the newest first.
    fn claim_all(&mut self, partition: u8) {
        let order = self.recovery().scan.order.take();
        let mut lost = Vec::new();
        let mut stale = Vec::new();
        match order {
            None => {
                let mut last = None;
                while let Some(found) = self.index.after(last.as_ref()) {
                    last = Some(found.key);
                    if found.partition == partition {
                        self.claim(partition, found.key, &mut lost, &mut stale);
                    }
                }
            }
            Some(order) => {
                let mut keys = Vec::new();
                let mut last = None;
                while let Some(found) = self.index.after(last.as_ref()) {
                    last = Some(found.key);
                    if found.partition == partition {
                        keys.push((order.get(&found.key).copied().unwrap_or(0), found.key));
                    }
                }
                keys.sort_by(|a, b| b.cmp(a));
                for (_, key) in keys {
                    self.claim(partition, key, &mut lost, &mut stale);
                }
            }
        }
        let mut twice = std::mem::take(&mut self.recovery().twice);
        for (_, put) in twice.iter_mut().filter(|(of, _)| *of == partition) {
            // What cannot be claimed is forgotten all the same: those blocks are others'.
            let space = &mut self.partition(partition).space;
            put.runs.retain(|run| space.claim(run));
        }
        self.recovery().twice = twice;
        let found = &mut self.recovery().found;
        found.lost_shards += lost.len() as u64;
        found.stale_shards += stale.len() as u64;
        if !stale.is_empty() {
            let journal = &mut self.partition(partition).journal;
            journal.open.as_mut().expect("it was just kept").rotate_at = None;
        }
        for key in lost.into_iter().chain(stale) {
            self.index.remove(&key);
        }
    }

    fn claim(&mut self, partition: u8, key: Key, lost: &mut Vec<Key>, stale: &mut Vec<Key>) {
        let put = self.index.get(&key).expect("the walk found it");
        let part = self.partition(partition);
        let missing = put
            .runs
            .iter()
            .any(|run| part.files.get(&run.extent).is_none_or(|file| file.blocks < run.end()));
        if missing {
            lost.push(key);
            return;
        }
        for (number, run) in put.runs.iter().enumerate() {
            if !part.space.claim(run) {
                put.runs.iter().take(number).for_each(|run| part.space.free(run));
                stale.push(key);
                return;
            }
        }
    }

    fn forget_empty_extents(&mut self, partition: u8) {
        let part = self.partition(partition);
        let empty: Vec<u32> =
            part.space.extents().filter(|extent| part.space.is_free(*extent)).collect();
        for extent in &empty {
            part.space.remove(*extent);
            part.files.remove(extent);
        }
        let names = empty.into_iter().map(|extent| names::extent(partition, extent));
        self.recovery().scan.remove.extend(names);
    }

    fn plan_removals(&mut self) {
        let scan = &mut self.recovery().scan;
        let partition = scan.partition;
        let generations = std::mem::take(&mut scan.journals);
        let names = generations.into_iter().map(|g| names::journal(partition, g));
        scan.remove.extend(names);
        self.remove_next();
    }

    fn opened(&mut self) {
        let Life::Opening(recovery) = std::mem::replace(&mut self.life, Life::Open) else {
            unreachable!("recovery is on");
        };
        let mut found = recovery.found;
        found.duplicates = recovery.twice.len() as u64;
        found.shards = self.index.shard_count() as u64;
        found.blobs = self.index.blob_count() as u64;
        found.owners = self.index.owners();
        found.bytes = found.owners.iter().map(|(_, bytes)| bytes).sum();
        self.events.push_back(Event::Ready(found));
        for (partition, put) in recovery.twice {
            self.forgetting.insert(put.key);
            self.enqueue(partition, Item::Forget(put));
        }
    }
}
