//! Opening one partition: its journals, what they say, and whose the other files are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pangea_base::file::{FileFault, FileId, FileName, FileOp, FileValue, Listed, OpenMode};
use pangea_base::{Page, PeerId};

use crate::extents::{ExtentFile, ExtentState};
use crate::format::{
    self, Entry, Header, Place, Put, VERSION, Written, extent_header, may_be_journal,
};
use crate::journal::OpenJournal;
use crate::limits::{BLOCK_BYTES, EXTENT_BLOCKS_MAX, PAGE_BYTES};
use crate::names::{self, Named};
use crate::recovery::{Answer, Step};
use crate::scan::{Mode, Replay, Survey};
use crate::store::{Life, Partition, Store};
use crate::types::{Cut, Key, OpenFailed};

/// What is known of the partition at hand.
#[derive(Default)]
pub(crate) struct Scan {
    partition: u8,
    // Newest first.
    journals: Vec<u64>,
    extents: BTreeMap<u32, u64>,
    surveys: Vec<Survey>,
    chosen: Option<Chosen>,
    file: Option<FileId>,
    length: u64,
    at: u64,
    // Files that may be somebody else's, and those that are.
    looks: VecDeque<Look>,
    strange_extents: BTreeSet<u32>,
    strange_journals: BTreeSet<u64>,
    remove: VecDeque<FileName>,
    // How far the journal that counts is written.
    written: Option<Written>,
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

/// A file whose first block tells whether it is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Extent(u32),
    Journal(u64),
}

impl Store {
    pub(crate) fn partition_step_done(&mut self, page: Option<Page>, result: Answer) {
        match self.recovery().step {
            Step::Listing => self.listed(result),
            Step::JournalOpening | Step::JournalReopening => self.journal_opened(result),
            Step::Surveying | Step::Replaying => self.journal_read(page, result),
            // What is read can be read; a journal that cannot be closed is no worse for it.
            Step::JournalClosing => self.survey_next(),
            Step::JournalSyncing => match result {
                Ok(_) => self.keep_journal(),
                Err(fault) => self.fail_journal("syncing", fault),
            },
            Step::LookOpening | Step::LookReading | Step::LookClosing => {
                self.look_step_done(page, result);
            }
            Step::Removing => self.removed(result.is_ok()),
            step => unreachable!("{step:?} is no step within a partition"),
        }
    }

    fn fail_journal(&mut self, doing: &str, fault: FileFault) {
        let partition = self.recovery().scan.partition;
        let what = format!("{doing} the journal of partition p{partition:02}");
        self.fail_open(OpenFailed::File { what, fault });
    }

    fn fail_cut(&mut self, why: Cut) {
        let partition = self.recovery().scan.partition;
        self.fail_open(OpenFailed::JournalCut { partition, why });
    }

    pub(crate) fn next_partition(&mut self) {
        let recovery = self.recovery();
        let Some(partition) = recovery.partitions.pop_front() else { return self.opened() };
        recovery.scan = Scan { partition, ..Scan::default() };
        let op = FileOp::List { directory: names::directory(partition) };
        self.recover(Step::Listing, op, None);
    }

    fn listed(&mut self, result: Answer) {
        let recovery = self.recovery();
        let scan = &mut recovery.scan;
        let partition = scan.partition;
        let names = match result {
            Ok(FileValue::Names(names)) => names,
            Err(FileFault::Missing) => Vec::new(),
            Ok(value) => unreachable!("a listing was answered {value:?}"),
            Err(fault) => {
                let what = format!("listing the directory store/p{partition:02}");
                return self.fail_open(OpenFailed::File { what, fault });
            }
        };
        for (name, listed) in names {
            let mut stranger = true;
            match (names::parse(partition, &name), listed) {
                (Named::Journal(generation), Listed::File(_)) => {
                    scan.journals.push(generation);
                    stranger = false;
                }
                (Named::Extent(extent), Listed::File(length)) => {
                    scan.extents.insert(extent, length);
                    stranger = false;
                }
                (Named::Journal(generation), _) => {
                    scan.strange_journals.insert(generation);
                }
                (Named::Extent(extent), _) => {
                    scan.strange_extents.insert(extent);
                }
                (Named::Unknown, _) => {}
            }
            recovery.found.unknown_files += u64::from(stranger);
        }
        scan.journals.sort_by(|a, b| b.cmp(a));
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
            None => self.without_journal(),
        }
    }

    /// Either the journal was lost, or there never was anything: the extents tell.
    fn without_journal(&mut self) {
        let recovery = self.recovery();
        let scan = &mut recovery.scan;
        let partition = scan.partition;
        // A first journal that was never finished.
        let ours = scan.surveys.iter().filter(|survey| !survey.strange());
        recovery.found.cut_blocks += ours.map(Survey::garbage).sum::<u64>();
        scan.looks = scan.extents.keys().map(|extent| Look::Extent(*extent)).collect();
        self.partitions.insert(partition, Partition::new());
        self.plan_removals();
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
                if !put.doubted {
                    recovery.found.newest = recovery.found.newest.max(put.stored);
                }
                let named = put.runs.iter().map(|run| run.extent).max();
                scan.extent_max = scan.extent_max.max(named);
                let damaged = scan.chosen.as_ref().is_some_and(|c| c.replay.damaged_blocks > 0);
                if damaged || scan.order.is_some() {
                    scan.order.get_or_insert_default().insert(put.key, scan.entries);
                }
                if scan.chosen.as_ref().is_some_and(|chosen| chosen.survey.old) {
                    self.drop_named(put.key.named(), Some(put.key.owner()));
                }
                self.apply_put(put);
            }
            Entry::Deleted(key) => {
                if scan.shadows.remove(&key).is_none()
                    && self.index.partition(&key) == Some(scan.partition)
                {
                    self.index.remove(&key);
                }
            }
            Entry::DeletedOf(named) => self.drop_named(named, None),
            Entry::Closed => {}
        }
    }

    fn apply_put(&mut self, put: Put) {
        let Life::Opening(recovery) = &mut self.life else { unreachable!("recovery is on") };
        let scan = &mut recovery.scan;
        match self.index.partition(&put.key) {
            Some(other) if other != scan.partition => {
                scan.shadows.insert(put.key, put);
            }
            _ => self.index.insert(scan.partition, &put),
        }
    }

    /// Version 1 knew one thing of a name, whoever owned it.
    fn drop_named(&mut self, named: format::Named, but: Option<PeerId>) {
        let Life::Opening(recovery) = &mut self.life else { unreachable!("recovery is on") };
        let scan = &mut recovery.scan;
        let (first, last) = (named.by(PeerId([0; 32])), named.by(PeerId([255; 32])));
        let keys: Vec<Key> = scan.shadows.range(first..=last).map(|(key, _)| *key).collect();
        for key in keys.iter().filter(|key| Some(key.owner()) != but) {
            scan.shadows.remove(key);
        }
        for owner in self.index.owners_of(named) {
            let key = named.by(owner);
            let shadowed = keys.contains(&key);
            let here = self.index.partition(&key) == Some(scan.partition);
            if Some(owner) != but && here && !shadowed {
                self.index.remove(&key);
            }
        }
    }

    fn replayed(&mut self) {
        let scan = &mut self.recovery().scan;
        let file = scan.file.expect("it is open");
        let survey = scan.chosen.as_ref().map(|chosen| &chosen.survey).expect("it was read");
        if let Some(why) = survey.cut(scan.length) {
            return self.fail_cut(why);
        }
        scan.written = Some(survey.written());
        let shadows = std::mem::take(&mut scan.shadows);
        let partition = scan.partition;
        for (_, put) in shadows {
            let other = self.index.partition(&put.key).expect("it was there");
            let held = self.index.get(&put.key).expect("it was there");
            let (loser, lost) = if (put.until, put.order) > (held.until, held.order) {
                self.index.insert(partition, &put);
                (other, held)
            } else {
                (partition, put)
            };
            self.recovery().twice.push((loser, lost));
        }
        self.recover(Step::JournalSyncing, FileOp::Sync { file }, None);
    }

    /// The chosen journal is read and synced: it becomes the partition's.
    fn keep_journal(&mut self) {
        let journal_bytes = self.config.journal_bytes;
        let Life::Opening(recovery) = &mut self.life else { unreachable!("recovery is on") };
        let scan = &mut recovery.scan;
        let Chosen { replay, survey } = scan.chosen.take().expect("it was looked at");
        recovery.found.cut_blocks += replay.cut_blocks;
        recovery.found.damaged_blocks += replay.damaged_blocks;
        recovery.found.lost_entries += replay.lost_entries;
        let goes_on = replay.clean() && !survey.old;
        let mut part = Partition::new();
        let generation = replay.chain.place.generation;
        part.journal.generation_max = generation;
        part.journal.open = Some(OpenJournal {
            file: scan.file.take().expect("it is open"),
            chain: replay.chain,
            allocated: scan.length - scan.length % u64::from(BLOCK_BYTES),
            rotate_at: goes_on.then_some(journal_bytes),
        });
        for (extent, length) in &scan.extents {
            let blocks = u32::try_from(length / u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX);
            let blocks = blocks.min(EXTENT_BLOCKS_MAX);
            part.space.add(*extent, blocks);
            part.files.insert(*extent, ExtentFile::new(ExtentState::Closed, blocks));
        }
        scan.journals.retain(|other| *other != generation);
        let partition = scan.partition;
        let damage = replay.damaged_blocks > 0;
        self.partitions.insert(partition, part);
        self.claim_all(partition);
        self.sort_out_empty(partition, damage);
        self.plan_removals();
    }

    /// Extents that nothing lives in: they are looked at before they are removed, and after damage
    /// left alone.
    fn sort_out_empty(&mut self, partition: u8, damage: bool) {
        let part = self.partition(partition);
        let empty: Vec<u32> =
            part.space.extents().filter(|extent| part.space.is_free(*extent)).collect();
        for extent in &empty {
            part.space.remove(*extent);
            part.files.remove(extent);
        }
        let scan = &mut self.recovery().scan;
        if damage {
            scan.strange_extents.extend(empty);
        } else {
            scan.looks.extend(empty.into_iter().map(Look::Extent));
        }
    }

    /// Claims the blocks of all that is held in a partition, the newest first.
    fn claim_all(&mut self, partition: u8) {
        let order = self.recovery().scan.order.take().unwrap_or_default();
        let mut lost = Vec::new();
        let mut stale = Vec::new();
        let mut keys = Vec::new();
        let mut last = None;
        while let Some(found) = self.index.after(last) {
            last = Some(found.cursor);
            if found.partition != partition {
                continue;
            }
            match order.is_empty() {
                true => self.claim(partition, found.key, &mut lost, &mut stale),
                false => keys.push((order.get(&found.key).copied().unwrap_or(0), found.key)),
            }
        }
        keys.sort_by(|a, b| b.cmp(a));
        for (_, key) in keys {
            self.claim(partition, key, &mut lost, &mut stale);
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

    /// Journals that do not count are to go: those that were read and never finished at once, older
    /// ones when they were looked at.
    fn plan_removals(&mut self) {
        let recovery = self.recovery();
        let scan = &mut recovery.scan;
        let partition = scan.partition;
        for generation in std::mem::take(&mut scan.journals) {
            let survey = scan.surveys.iter().find(|survey| survey.place.generation == generation);
            match survey.map(Survey::strange) {
                Some(false) => scan.remove.push_back(names::journal(partition, generation)),
                Some(true) => {
                    scan.strange_journals.insert(generation);
                    recovery.found.unknown_files += 1;
                }
                None => scan.looks.push_back(Look::Journal(generation)),
            }
        }
        // No number that was ever used, so that none is mistaken for an earlier one.
        let surveys = scan.surveys.iter().filter(|survey| !survey.strange());
        let generation = surveys.map(|survey| survey.place.generation).max();
        let journal = &mut self.partition(partition).journal;
        journal.generation_max = journal.generation_max.max(generation.unwrap_or(0));
        self.look_next();
    }

    /// Looks at the next file that may be somebody else's.
    fn look_next(&mut self) {
        let scan = &mut self.recovery().scan;
        let partition = scan.partition;
        let name = match scan.looks.front() {
            None => return self.remove_next(),
            Some(Look::Extent(extent)) => names::extent(partition, *extent),
            Some(Look::Journal(generation)) => names::journal(partition, *generation),
        };
        self.recover(Step::LookOpening, FileOp::Open { name, mode: OpenMode::Direct }, None);
    }

    fn look_step_done(&mut self, page: Option<Page>, result: Answer) {
        match (self.recovery().step, result) {
            (Step::LookOpening, Ok(FileValue::Opened { file, .. })) => {
                let Some(page) = self.page_for_recovery() else { return };
                self.recovery().scan.file = Some(file);
                let op = FileOp::Read { file, offset: 0, length: BLOCK_BYTES };
                self.recover(Step::LookReading, op, Some(page));
            }
            (Step::LookReading, result) => {
                let mut page = page.expect("a page comes back");
                let bytes = match result {
                    Ok(FileValue::Bytes(bytes)) => Some(bytes as usize),
                    _ => None,
                };
                page.set_len(bytes.unwrap_or(0));
                let cut = self.look_at(bytes.map(|_| &page[..]));
                self.give_back(page);
                if let Err(failed) = cut {
                    return self.fail_open(failed);
                }
                let file = self.recovery().scan.file.take().expect("it is open");
                self.recover(Step::LookClosing, FileOp::Close { file }, None);
            }
            (Step::LookClosing, _) => self.look_next(),
            // What cannot be opened is left alone.
            (_, _) => match self.look_at(None) {
                Ok(()) => self.look_next(),
                Err(failed) => self.fail_open(failed),
            },
        }
    }

    /// Decides by its first block whether a file is ours, to be removed, or somebody else's.
    fn look_at(&mut self, block: Option<&[u8]>) -> Result<(), OpenFailed> {
        let recovery = self.recovery();
        let scan = &mut recovery.scan;
        let partition = scan.partition;
        let Some(look) = scan.looks.pop_front() else { return Ok(()) };
        match look {
            Look::Journal(generation) if block.is_some_and(may_be_journal) => {
                scan.remove.push_back(names::journal(partition, generation));
            }
            Look::Journal(generation) => {
                scan.strange_journals.insert(generation);
                recovery.found.unknown_files += 1;
            }
            Look::Extent(extent) => {
                let header =
                    block.map_or(Header::Strange, |block| extent_header(block, partition, extent));
                match (header, scan.written) {
                    (Header::Fits(_), None) => {
                        let extents = scan.extents.len() as u64;
                        return Err(OpenFailed::JournalLost { partition, extents });
                    }
                    (Header::Fits(Some(made)), Some(written)) if made > written => {
                        return Err(OpenFailed::JournalCut {
                            partition,
                            why: Cut::Extent { extent },
                        });
                    }
                    (Header::Fits(_) | Header::Unwritten, Some(_)) => {
                        scan.remove.push_back(names::extent(partition, extent));
                    }
                    (Header::Strange, _) | (Header::Unwritten, None) => {
                        scan.strange_extents.insert(extent);
                        recovery.found.unknown_files += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn remove_next(&mut self) {
        let scan = &mut self.recovery().scan;
        match scan.remove.front() {
            Some(name) => {
                let op = FileOp::Remove { name: name.clone() };
                self.recover(Step::Removing, op, None);
            }
            None => self.end_partition(),
        }
    }

    /// What cannot be removed now is not usable, or older, and is met again next time; until then
    /// nothing else gets its name.
    fn removed(&mut self, gone: bool) {
        let scan = &mut self.recovery().scan;
        if let Some(name) = scan.remove.pop_front()
            && !gone
        {
            match names::parse(scan.partition, &name) {
                Named::Extent(extent) => {
                    scan.strange_extents.insert(extent);
                }
                Named::Journal(generation) => {
                    scan.strange_journals.insert(generation);
                }
                Named::Unknown => {}
            }
        }
        self.remove_next();
    }

    fn end_partition(&mut self) {
        let scan = &mut self.recovery().scan;
        let partition = scan.partition;
        let strange = std::mem::take(&mut scan.strange_extents);
        let strange_journals = std::mem::take(&mut scan.strange_journals);
        let named = scan.extent_max;
        let part = self.partition(partition);
        let highest = part.files.keys().last().copied().max(named);
        part.next_extent = highest.map_or(0, |extent| extent.saturating_add(1));
        part.strange = strange;
        part.journal.strange = strange_journals;
        self.next_partition();
    }
}
