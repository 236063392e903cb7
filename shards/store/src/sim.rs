//! A disk in memory, for tests: it executes file operations in a random order, fails when told to,
//! and shows every state that a power cut could leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pangea_base::Entropy;
use pangea_base::file::{
    FileDone, FileFault, FileId, FileName, FileOp, FileRequest, FileValue, Listed, OpenMode,
};

use crate::limits::BLOCK_BYTES;

pub mod old;

/// The files of a disk, by name.
pub type Image = BTreeMap<FileName, Vec<u8>>;

/// A change of a file.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Allocate { length: usize },
    Punch { offset: usize, length: usize },
}

/// What the disk did, in order.
#[derive(Clone, Debug)]
enum Logged {
    Create { name: FileName, inode: usize },
    Change { inode: usize, change: Change },
    Sync { inode: usize },
    Remove { name: FileName },
    Rename { from: FileName, to: FileName },
}

/// What goes wrong with one operation. Only the first is told to who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It fails; a write may have done any part of its work.
    Fail(FileFault),
    /// A bit of what is read is another one.
    FlipRead,
    /// Something else of the same file is read.
    MisdirectRead,
    /// Less is read than there is.
    ShortRead,
    /// A bit of what is written is another one.
    FlipWrite,
    /// It is written somewhere else in the same file.
    MisdirectWrite,
    /// It is never written, whatever a later sync says.
    LoseWrite,
}

type Mishaps = Box<dyn FnMut(u64, &FileOp) -> Option<Mishap>>;

/// The disk.
pub struct Disk {
    names: BTreeMap<FileName, usize>,
    inodes: Vec<Vec<u8>>,
    // Blocks of each inode that take space.
    taken: Vec<BTreeSet<usize>>,
    handles: Vec<Option<usize>>,
    pending: Vec<FileRequest>,
    history: History,
    // Names of directories without files in them, links and so on.
    strange: BTreeMap<FileName, Listed>,
    random: Entropy,
    done: u64,
    mishaps: Option<Mishaps>,
    // Of all of `taken`.
    taken_blocks: usize,
    capacity_blocks: usize,
}

/// What a disk remembers of its past.
enum History {
    /// All of it, from these files on: every moment can be seen again ([`Disk::crash`]).
    All { first: Image, log: Vec<Logged> },
    /// Only what is not durable yet: for a long life.
    Unsynced(Base),
}

/// Which of the unsynced changes survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing that was not synced.
    None,
    /// Everything.
    All,
    /// Only the one with this number.
    Only(usize),
    /// All but the one with this number.
    AllBut(usize),
    /// Each with probability one half, drawn from this seed.
    Random(u64),
    /// All, but the last one only in its first `part` of 8 eighths, cut to a multiple of `unit`.
    Torn {
        /// Eighths of the write.
        part: usize,
        /// Bytes that are written at once.
        unit: usize,
    },
    /// All, but the one with this number only in its first part, as in `Torn`.
    TornAt {
        /// Which.
        number: usize,
        /// Eighths of the write.
        part: usize,
        /// Bytes that are written at once.
        unit: usize,
    },
    /// Everything, but of each file only what lies within its durable length.
    OldLengths,
    /// Nothing, but each file is as long as with everything.
    NewLengths,
}

impl Survivors {
    /// How much of the change with this number survives, of `count`: up to so many bytes of a
    /// write, all or nothing of others.
    fn kept(self, number: usize, count: usize, change: &Change, random: &mut Entropy) -> usize {
        let torn = |part: usize, unit: usize| match change {
            Change::Write { bytes, .. } => bytes.len() * part / 8 / unit * unit,
            _ => usize::MAX,
        };
        let whole = match self {
            Survivors::None | Survivors::NewLengths => false,
            Survivors::All | Survivors::OldLengths => true,
            Survivors::Only(only) => only == number,
            Survivors::AllBut(not) => not != number,
            Survivors::Random(_) => random.below(2) == 0,
            Survivors::Torn { part, unit } if number + 1 == count => return torn(part, unit),
            Survivors::TornAt { number: at, part, unit } if number == at => {
                return torn(part, unit);
            }
            Survivors::Torn { .. } | Survivors::TornAt { .. } => true,
        };
        if whole { usize::MAX } else { 0 }
    }
}

impl Disk {
    /// An empty disk whose order of work is drawn from `seed`.
    pub fn new(seed: u64) -> Disk {
        Disk::with_image(Image::new(), seed)
    }

    /// The same, which forgets how its files came about: for a long life, in which memory grows
    /// with the files and what is not synced. [`Disk::power_cut`] works, [`Disk::crash`] does not.
    pub fn without_history(seed: u64) -> Disk {
        let history = History::Unsynced(Base::new(&Image::new()));
        Disk { history, ..Disk::new(seed) }
    }

    /// A disk with these files.
    pub fn with_image(image: Image, seed: u64) -> Disk {
        let mut disk = Disk {
            names: BTreeMap::new(),
            inodes: Vec::new(),
            taken: Vec::new(),
            handles: Vec::new(),
            pending: Vec::new(),
            history: History::All { first: Image::new(), log: Vec::new() },
            strange: BTreeMap::new(),
            random: entropy(seed),
            done: 0,
            mishaps: None,
            taken_blocks: 0,
            capacity_blocks: usize::MAX,
        };
        for (name, bytes) in &image {
            let inode = disk.inode(bytes.clone());
            disk.names.insert(name.clone(), inode);
        }
        disk.history = History::All { first: image, log: Vec::new() };
        disk
    }

    /// Asks `fault` before every operation, with the number of those before it, whether it fails.
    pub fn set_fault(
        &mut self,
        mut fault: impl FnMut(u64, &FileOp) -> Option<FileFault> + 'static,
    ) {
        self.set_mishaps(move |number, op| fault(number, op).map(Mishap::Fail));
    }

    /// Asks `mishaps` before every operation, with the number of those before it, what goes wrong.
    pub fn set_mishaps(&mut self, mishaps: impl FnMut(u64, &FileOp) -> Option<Mishap> + 'static) {
        self.mishaps = Some(Box::new(mishaps));
    }

    /// No operation fails any more.
    pub fn clear_fault(&mut self) {
        self.mishaps = None;
    }

    /// Something that is no regular file has this name: it is listed, and cannot be opened.
    pub fn add_strange(&mut self, name: FileName, what: Listed) {
        self.strange.insert(name, what);
    }

    /// The most bytes that files may take.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_blocks = (bytes / u64::from(BLOCK_BYTES)) as usize;
    }

    /// Bytes that files take; holes are free.
    pub fn bytes_taken(&self) -> u64 {
        self.taken_blocks as u64 * u64::from(BLOCK_BYTES)
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.handles.iter().flatten().count()
    }

    /// Operations executed so far.
    pub fn operations(&self) -> u64 {
        self.done
    }

    /// Changes logged so far: a point in time for [`Disk::crash`].
    pub fn moment(&self) -> usize {
        match &self.history {
            History::All { log, .. } => log.len(),
            History::Unsynced(_) => 0,
        }
    }

    /// The files with their bytes, as a reader would see them now.
    pub fn files(&self) -> impl Iterator<Item = (&FileName, &[u8])> {
        self.names.iter().map(|(name, inode)| (name, &self.inodes[*inode][..]))
    }

    /// The files as a reader would see them now.
    pub fn image(&self) -> Image {
        self.files().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect()
    }

    /// Takes an operation.
    pub fn submit(&mut self, request: FileRequest) {
        self.pending.push(request);
    }

    /// The process that used the disk is gone: what it had submitted is not done, its files are
    /// closed; what it had written is there, synced or not.
    pub fn kill(&mut self) {
        self.pending.clear();
        let open: BTreeSet<usize> = self.handles.drain(..).flatten().collect();
        open.into_iter().for_each(|inode| self.let_go(inode));
    }

    /// The power is gone: what had been submitted is not done, files are closed, and of what was
    /// not synced `survivors` are there.
    pub fn power_cut(&mut self, survivors: Survivors) {
        let image = match &self.history {
            History::Unsynced(base) => base.image(survivors),
            History::All { first, log } => {
                let mut base = Base::new(first);
                log.iter().for_each(|logged| base.take(logged));
                base.image(survivors)
            }
        };
        let fresh = match &self.history {
            History::Unsynced(_) => History::Unsynced(Base::new(&image)),
            History::All { .. } => History::All { first: image.clone(), log: Vec::new() },
        };
        let seed = self.random.u64();
        let (mishaps, done) = (self.mishaps.take(), self.done);
        let capacity_blocks = self.capacity_blocks;
        let strange = std::mem::take(&mut self.strange);
        *self = Disk {
            strange,
            history: fresh,
            mishaps,
            done,
            capacity_blocks,
            ..Disk::with_image(image, seed)
        };
    }

    /// Executes one of the operations that were submitted; `None` if there is none.
    pub fn step(&mut self) -> Option<FileDone> {
        let last = self.pending.len().checked_sub(1)? as u64;
        let chosen = self.random.below(last + 1) as usize;
        let FileRequest { token, op, mut page } = self.pending.remove(chosen);
        let number = self.done;
        self.done += 1;
        let mishap = self.mishaps.as_mut().and_then(|mishaps| mishaps(number, &op));
        let result = match mishap {
            None => self.execute(op, page.as_mut()),
            Some(Mishap::Fail(fault)) => {
                self.half_written(&op, page.as_deref());
                Err(fault)
            }
            Some(lie) => self.lie(&lie, op, page.as_mut()),
        };
        Some(FileDone { token, page, result })
    }

    /// Does an operation wrongly, and says that it went well.
    fn lie(
        &mut self,
        lie: &Mishap,
        op: FileOp,
        page: Option<&mut pangea_base::Page>,
    ) -> Result<FileValue, FileFault> {
        match (lie, op, page) {
            (Mishap::LoseWrite, FileOp::Write { length, .. }, _) => Ok(FileValue::Bytes(length)),
            (Mishap::MisdirectWrite, FileOp::Write { file, length, .. }, page) => {
                let offset = self.elsewhere(file, length);
                self.execute(FileOp::Write { file, offset, length }, page)
            }
            (Mishap::FlipWrite, op @ FileOp::Write { length, .. }, Some(page)) => {
                let (at, bit) = (self.random.below(u64::from(length)), self.random.below(8));
                // The page is the writer's: it comes back as it was.
                page.whole_mut()[at as usize] ^= 1 << bit;
                let result = self.execute(op, Some(page));
                page.whole_mut()[at as usize] ^= 1 << bit;
                result
            }
            (Mishap::MisdirectRead, FileOp::Read { file, length, .. }, page) => {
                let offset = self.elsewhere(file, length);
                self.execute(FileOp::Read { file, offset, length }, page)
            }
            (Mishap::FlipRead, op @ FileOp::Read { .. }, Some(page)) => {
                let result = self.execute(op, Some(page))?;
                if let FileValue::Bytes(bytes @ 1..) = result {
                    let at = self.random.below(u64::from(bytes)) as usize;
                    page.whole_mut()[at] ^= 1 << self.random.below(8);
                }
                Ok(result)
            }
            (Mishap::ShortRead, op @ FileOp::Read { .. }, page) => match self.execute(op, page)? {
                FileValue::Bytes(bytes) => Ok(FileValue::Bytes(bytes / 2 / 512 * 512)),
                other => Ok(other),
            },
            (_, op, page) => self.execute(op, page),
        }
    }

    /// A block's offset within a file, for so many bytes.
    fn elsewhere(&mut self, file: FileId, length: u32) -> u64 {
        let bytes = self.inodes[self.handle(file)].len().saturating_sub(length as usize) as u64;
        let block = u64::from(BLOCK_BYTES);
        self.random.below(bytes / block + 1) * block
    }

    /// A write that fails may have done any part of its work.
    fn half_written(&mut self, op: &FileOp, page: Option<&[u8]>) {
        if let (FileOp::Write { file, offset, length }, Some(page)) = (op, page) {
            let inode = self.handle(*file);
            let part = self.random.below(u64::from(*length / 512) + 1) as usize * 512;
            if part > 0 {
                self.change(
                    inode,
                    Change::Write { offset: *offset as usize, bytes: page[..part].into() },
                );
            }
        }
    }

    fn execute(
        &mut self,
        op: FileOp,
        page: Option<&mut pangea_base::Page>,
    ) -> Result<FileValue, FileFault> {
        match op {
            FileOp::Open { name, mode } => self.open(name, mode),
            FileOp::Read { file, offset, length } => {
                aligned(offset, length);
                let bytes = &self.inodes[self.handle(file)];
                let start = bytes.len().min(offset as usize);
                let end = bytes.len().min(offset as usize + length as usize);
                let page = page.expect("a read brings a page");
                page.whole_mut()[..end - start].copy_from_slice(&bytes[start..end]);
                Ok(FileValue::Bytes((end - start) as u32))
            }
            FileOp::Write { file, offset, length } => {
                aligned(offset, length);
                let page = page.expect("a write brings a page");
                let bytes: Arc<[u8]> = page[..length as usize].into();
                self.room_for(self.handle(file), offset as usize, length as usize)?;
                self.change(self.handle(file), Change::Write { offset: offset as usize, bytes });
                Ok(FileValue::Bytes(length))
            }
            FileOp::Sync { file } => {
                self.note(Logged::Sync { inode: self.handle(file) });
                Ok(FileValue::Done)
            }
            FileOp::Allocate { file, length } => {
                self.room_for(self.handle(file), 0, length as usize)?;
                self.change(self.handle(file), Change::Allocate { length: length as usize });
                Ok(FileValue::Done)
            }
            FileOp::Punch { file, offset, length } => {
                let (offset, length) = (offset as usize, length as usize);
                self.change(self.handle(file), Change::Punch { offset, length });
                Ok(FileValue::Done)
            }
            FileOp::Close { file } => {
                let inode = self.handle(file);
                self.handles[file.0 as usize] = None;
                self.let_go(inode);
                Ok(FileValue::Done)
            }
            FileOp::Remove { name } => {
                let inode = self.names.remove(&name).ok_or(FileFault::Missing)?;
                self.note(Logged::Remove { name });
                self.let_go(inode);
                Ok(FileValue::Done)
            }
            FileOp::Rename { from, to } => {
                let inode = self.names.remove(&from).ok_or(FileFault::Missing)?;
                let before = self.names.insert(to.clone(), inode);
                self.note(Logged::Rename { from, to });
                before.into_iter().for_each(|before| self.let_go(before));
                Ok(FileValue::Done)
            }
            FileOp::List { directory } => Ok(FileValue::Names(self.list(&directory))),
        }
    }

    fn list(&self, directory: &FileName) -> Vec<(FileName, Listed)> {
        let below = format!("{}/", directory.as_str());
        let mut all: BTreeMap<FileName, Listed> = BTreeMap::new();
        for (name, inode) in &self.names {
            let Some(rest) = name.as_str().strip_prefix(&below) else { continue };
            match rest.split_once('/') {
                None => all.insert(name.clone(), Listed::File(self.inodes[*inode].len() as u64)),
                Some((first, _)) => {
                    all.insert(FileName::new(format!("{below}{first}")), Listed::Directory)
                }
            };
        }
        let strange = self.strange.iter();
        let inside = strange.filter(|(name, _)| {
            name.as_str().strip_prefix(&below).is_some_and(|rest| !rest.contains('/'))
        });
        all.extend(inside.map(|(name, listed)| (name.clone(), *listed)));
        all.into_iter().collect()
    }

    fn open(&mut self, name: FileName, mode: OpenMode) -> Result<FileValue, FileFault> {
        if self.strange.contains_key(&name) {
            let text = String::from("it is no regular file");
            return Err(FileFault::Other { errno: 21, text });
        }
        let inode = match self.names.get(&name) {
            Some(inode) => *inode,
            None if mode == OpenMode::DirectCreate || mode == OpenMode::Write => {
                let inode = self.inode(Vec::new());
                self.names.insert(name.clone(), inode);
                self.note(Logged::Create { name, inode });
                inode
            }
            None => return Err(FileFault::Missing),
        };
        self.handles.push(Some(inode));
        let file = FileId(self.handles.len() as u32 - 1);
        Ok(FileValue::Opened { file, length: self.inodes[inode].len() as u64 })
    }

    fn inode(&mut self, bytes: Vec<u8>) -> usize {
        let blocks = blocks(0, bytes.len());
        self.taken_blocks += blocks.len();
        self.taken.push(blocks.collect());
        self.inodes.push(bytes);
        self.inodes.len() - 1
    }

    fn handle(&self, file: FileId) -> usize {
        self.handles[file.0 as usize].expect("a closed file is not used")
    }

    fn note(&mut self, logged: Logged) {
        match &mut self.history {
            History::All { log, .. } => log.push(logged),
            History::Unsynced(base) => base.take(&logged),
        }
    }

    /// A file that has neither a name nor a handle takes no memory.
    fn let_go(&mut self, inode: usize) {
        let is_open = self.handles.contains(&Some(inode));
        if !is_open && !self.names.values().any(|named| *named == inode) {
            self.inodes[inode] = Vec::new();
            self.taken_blocks -= std::mem::take(&mut self.taken[inode]).len();
        }
    }

    fn room_for(&self, inode: usize, offset: usize, length: usize) -> Result<(), FileFault> {
        if self.capacity_blocks == usize::MAX {
            return Ok(());
        }
        let missing = blocks(offset, length).filter(|b| !self.taken[inode].contains(b)).count();
        match self.taken_blocks + missing > self.capacity_blocks {
            true => Err(FileFault::NoSpace),
            false => Ok(()),
        }
    }

    fn change(&mut self, inode: usize, change: Change) {
        self.taken_blocks -= self.taken[inode].len();
        match &change {
            Change::Write { offset, bytes } => {
                self.taken[inode].extend(blocks(*offset, bytes.len()));
            }
            Change::Allocate { length } => self.taken[inode].extend(blocks(0, *length)),
            Change::Punch { offset, length } => {
                let hole = blocks(*offset, *length);
                self.taken[inode].retain(|block| !hole.contains(block));
            }
        }
        self.taken_blocks += self.taken[inode].len();
        apply(&mut self.inodes[inode], &change, usize::MAX);
        self.note(Logged::Change { inode, change });
    }

    /// Everything that a power cut after each logged operation could leave. `choose` gets the
    /// moment and the number of unsynced changes and says which states it wants to see; `see` gets
    /// the moment and each of them; other lengths only where there are any.
    pub fn crash(
        &self,
        mut choose: impl FnMut(usize, usize) -> Vec<Survivors>,
        mut see: impl FnMut(usize, Survivors, Image),
    ) {
        let History::All { first, log } = &self.history else {
            panic!("a disk without history knows no moments")
        };
        let mut base = Base::new(first);
        for moment in 0..=log.len() {
            if let Some(logged) = moment.checked_sub(1).map(|last| &log[last]) {
                base.take(logged);
            }
            for survivors in choose(moment, base.unsynced.len()) {
                let lengths = matches!(survivors, Survivors::OldLengths | Survivors::NewLengths);
                if lengths && !base.lengths_differ() {
                    continue;
                }
                see(moment, survivors, base.image(survivors));
            }
        }
    }
}

/// What is durable, and what is not, at one moment.
struct Base {
    names: BTreeMap<FileName, usize>,
    durable: BTreeMap<usize, Vec<u8>>,
    unsynced: Vec<(usize, Change)>,
}

impl Base {
    fn new(first: &Image) -> Base {
        let mut base =
            Base { names: BTreeMap::new(), durable: BTreeMap::new(), unsynced: Vec::new() };
        for (inode, (name, bytes)) in first.iter().enumerate() {
            base.names.insert(name.clone(), inode);
            base.durable.insert(inode, bytes.clone());
        }
        base
    }

    fn take(&mut self, logged: &Logged) {
        match logged {
            Logged::Create { name, inode } => {
                self.names.insert(name.clone(), *inode);
                self.durable.insert(*inode, Vec::new());
            }
            // Of a file without a name nobody sees anything after a cut.
            Logged::Change { inode, change } if self.durable.contains_key(inode) => {
                self.unsynced.push((*inode, change.clone()));
            }
            Logged::Change { .. } => {}
            Logged::Sync { inode } => {
                let Some(durable) = self.durable.get_mut(inode) else { return };
                self.unsynced.retain(|(changed, change)| {
                    if changed == inode {
                        apply(durable, change, usize::MAX);
                    }
                    changed != inode
                });
            }
            Logged::Remove { name } => self.forget(name),
            Logged::Rename { from, to } => {
                self.forget(to);
                let inode = self.names.remove(from).expect("what is renamed has a name");
                self.names.insert(to.clone(), inode);
            }
        }
    }

    fn forget(&mut self, name: &FileName) {
        if let Some(inode) = self.names.remove(name) {
            self.unsynced.retain(|(changed, _)| *changed != inode);
            self.durable.remove(&inode);
        }
    }

    fn image(&self, survivors: Survivors) -> Image {
        let named = self.names.values();
        let mut files: BTreeMap<usize, Vec<u8>> =
            named.map(|inode| (*inode, self.durable[inode].clone())).collect();
        let mut random = match survivors {
            Survivors::Random(seed) => entropy(seed),
            _ => entropy(0),
        };
        let count = self.unsynced.len();
        for (number, (inode, change)) in self.unsynced.iter().enumerate() {
            let file = files.get_mut(inode).expect("a change is of a file with a name");
            let kept = survivors.kept(number, count, change, &mut random);
            if kept > 0 {
                apply(file, change, kept);
            } else if survivors == Survivors::NewLengths && file.len() < change.end() {
                file.resize(change.end(), 0);
            }
        }
        if survivors == Survivors::OldLengths {
            for (inode, file) in &mut files {
                file.truncate(self.durable[inode].len());
            }
        }
        let mut bytes = |inode| files.remove(inode).expect("each inode has one name");
        self.names.iter().map(|(name, inode)| (name.clone(), bytes(inode))).collect()
    }

    /// Whether some file is longer than it durably is.
    fn lengths_differ(&self) -> bool {
        self.unsynced.iter().any(|(inode, change)| change.end() > self.durable[inode].len())
    }
}

impl Change {
    /// A file is at least so long afterwards.
    fn end(&self) -> usize {
        match self {
            Change::Write { offset, bytes } => offset + bytes.len(),
            Change::Allocate { length } => *length,
            Change::Punch { .. } => 0,
        }
    }
}

/// Does a change, the first `kept` bytes of it if it is a write.
fn apply(file: &mut Vec<u8>, change: &Change, kept: usize) {
    match change {
        Change::Write { offset, bytes } => {
            let bytes = &bytes[..bytes.len().min(kept)];
            let end = offset + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*offset..end].copy_from_slice(bytes);
        }
        Change::Allocate { length } => {
            if file.len() < *length {
                file.resize(*length, 0);
            }
        }
        Change::Punch { offset, length } => {
            let (start, end) = (file.len().min(*offset), file.len().min(offset + length));
            file[start..end].fill(0);
        }
    }
}

/// Chance that only the seed decides.
fn entropy(seed: u64) -> Entropy {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Entropy::new(key)
}

fn blocks(offset: usize, length: usize) -> std::ops::Range<usize> {
    let block = BLOCK_BYTES as usize;
    offset / block..(offset + length).div_ceil(block)
}

/// What a disk asks of direct I/O.
fn aligned(offset: u64, length: u32) {
    let block = BLOCK_BYTES;
    assert!(offset.is_multiple_of(u64::from(block)), "an offset of {offset} is not a block's");
    assert!(length.is_multiple_of(block) && length > 0, "{length} bytes are not whole blocks");
}
