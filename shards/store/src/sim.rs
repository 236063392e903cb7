//! A disk in memory, for tests: it executes file operations in a random order, fails when told to,
//! and shows every state that a power cut could leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pangea_base::Entropy;
use pangea_base::file::{
    FileDone, FileFault, FileId, FileName, FileOp, FileRequest, FileValue, OpenMode,
};

use crate::limits::BLOCK_BYTES;

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

type Fault = Box<dyn FnMut(u64, &FileOp) -> Option<FileFault>>;

/// The disk.
pub struct Disk {
    names: BTreeMap<FileName, usize>,
    inodes: Vec<Vec<u8>>,
    // Blocks of each inode that take space.
    taken: Vec<BTreeSet<usize>>,
    handles: Vec<Option<usize>>,
    pending: Vec<FileRequest>,
    first: Image,
    log: Vec<Logged>,
    random: Entropy,
    done: u64,
    fault: Option<Fault>,
    capacity_blocks: usize,
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
}

impl Disk {
    /// An empty disk whose order of work is drawn from `seed`.
    pub fn new(seed: u64) -> Disk {
        Disk::with_image(Image::new(), seed)
    }

    /// A disk with these files.
    pub fn with_image(image: Image, seed: u64) -> Disk {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut disk = Disk {
            names: BTreeMap::new(),
            inodes: Vec::new(),
            taken: Vec::new(),
            handles: Vec::new(),
            pending: Vec::new(),
            first: Image::new(),
            log: Vec::new(),
            random: Entropy::new(key),
            done: 0,
            fault: None,
            capacity_blocks: usize::MAX,
        };
        for (name, bytes) in &image {
            let inode = disk.inode(bytes.clone());
            disk.names.insert(name.clone(), inode);
        }
        disk.first = image;
        disk
    }

    /// Asks `fault` before every operation, with the number of those before it, whether it fails.
    pub fn set_fault(&mut self, fault: impl FnMut(u64, &FileOp) -> Option<FileFault> + 'static) {
        self.fault = Some(Box::new(fault));
    }

    /// No operation fails any more.
    pub fn clear_fault(&mut self) {
        self.fault = None;
    }

    /// The most bytes that files may take.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_blocks = (bytes / u64::from(BLOCK_BYTES)) as usize;
    }

    /// Bytes that files take; holes are free.
    pub fn bytes_taken(&self) -> u64 {
        let blocks: usize = self.names.values().map(|inode| self.taken[*inode].len()).sum();
        blocks as u64 * u64::from(BLOCK_BYTES)
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
        self.log.len()
    }

    /// The files as a reader would see them now.
    pub fn image(&self) -> Image {
        self.names.iter().map(|(name, inode)| (name.clone(), self.inodes[*inode].clone())).collect()
    }

    /// Takes an operation.
    pub fn submit(&mut self, request: FileRequest) {
        self.pending.push(request);
    }

    /// The process that used the disk is gone: what it had submitted is not done, its files are
    /// closed; what it had written is there, synced or not.
    pub fn kill(&mut self) {
        self.pending.clear();
        self.handles.fill(None);
    }

    /// Executes one of the operations that were submitted; `None` if there is none.
    pub fn step(&mut self) -> Option<FileDone> {
        let last = self.pending.len().checked_sub(1)? as u64;
        let chosen = self.random.below(last + 1) as usize;
        let FileRequest { token, op, mut page } = self.pending.remove(chosen);
        let number = self.done;
        self.done += 1;
        let fault = self.fault.as_mut().and_then(|fault| fault(number, &op));
        let result = match fault {
            Some(fault) => {
                self.half_written(&op, page.as_deref());
                Err(fault)
            }
            None => self.execute(op, page.as_mut()),
        };
        Some(FileDone { token, page, result })
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
                self.log.push(Logged::Sync { inode: self.handle(file) });
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
                self.handle(file);
                self.handles[file.0 as usize] = None;
                Ok(FileValue::Done)
            }
            FileOp::Remove { name } => {
                self.names.remove(&name).ok_or(FileFault::Missing)?;
                self.log.push(Logged::Remove { name });
                Ok(FileValue::Done)
            }
            FileOp::Rename { from, to } => {
                let inode = self.names.remove(&from).ok_or(FileFault::Missing)?;
                self.names.insert(to.clone(), inode);
                self.log.push(Logged::Rename { from, to });
                Ok(FileValue::Done)
            }
            FileOp::List { directory } => {
                let prefix = format!("{}/", directory.as_str());
                let inside = self.names.iter().filter(|(name, _)| {
                    name.as_str().strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'))
                });
                let names = inside.map(|(name, i)| (name.clone(), self.inodes[*i].len() as u64));
                Ok(FileValue::Names(names.collect()))
            }
        }
    }

    fn open(&mut self, name: FileName, mode: OpenMode) -> Result<FileValue, FileFault> {
        let inode = match self.names.get(&name) {
            Some(inode) => *inode,
            None if mode == OpenMode::DirectCreate || mode == OpenMode::Write => {
                let inode = self.inode(Vec::new());
                self.names.insert(name.clone(), inode);
                self.log.push(Logged::Create { name, inode });
                inode
            }
            None => return Err(FileFault::Missing),
        };
        self.handles.push(Some(inode));
        let file = FileId(self.handles.len() as u32 - 1);
        Ok(FileValue::Opened { file, length: self.inodes[inode].len() as u64 })
    }

    fn inode(&mut self, bytes: Vec<u8>) -> usize {
        self.taken.push((0..bytes.len().div_ceil(BLOCK_BYTES as usize)).collect());
        self.inodes.push(bytes);
        self.inodes.len() - 1
    }

    fn handle(&self, file: FileId) -> usize {
        self.handles[file.0 as usize].expect("a closed file is not used")
    }

    fn room_for(&self, inode: usize, offset: usize, length: usize) -> Result<(), FileFault> {
        let taken: usize = self.names.values().map(|inode| self.taken[*inode].len()).sum();
        let missing = blocks(offset, length).filter(|b| !self.taken[inode].contains(b)).count();
        match taken + missing > self.capacity_blocks {
            true => Err(FileFault::NoSpace),
            false => Ok(()),
        }
    }

    fn change(&mut self, inode: usize, change: Change) {
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
        apply(&mut self.inodes[inode], &change, usize::MAX);
        self.log.push(Logged::Change { inode, change });
    }

    /// Everything that a power cut after each logged operation could leave. `choose` gets the
    /// moment and the number of unsynced changes and says which states it wants to see; `see` gets
    /// the moment and each of them.
    pub fn crash(
        &self,
        mut choose: impl FnMut(usize, usize) -> Vec<Survivors>,
        mut see: impl FnMut(usize, Survivors, Image),
    ) {
        let mut base = Base::new(&self.first);
        for moment in 0..=self.log.len() {
            if let Some(logged) = moment.checked_sub(1).map(|last| &self.log[last]) {
                base.take(logged);
            }
            for survivors in choose(moment, base.unsynced.len()) {
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
            Logged::Change { inode, change } => self.unsynced.push((*inode, change.clone())),
            Logged::Sync { inode } => {
                let (synced, rest) = std::mem::take(&mut self.unsynced)
                    .into_iter()
                    .partition(|(changed, _)| changed == inode);
                self.unsynced = rest;
                let synced: Vec<(usize, Change)> = synced;
                for (inode, change) in synced {
                    apply(self.durable.get_mut(&inode).unwrap(), &change, usize::MAX);
                }
            }
            Logged::Remove { name } => {
                let inode = self.names.remove(name).unwrap();
                self.unsynced.retain(|(changed, _)| *changed != inode);
            }
            Logged::Rename { from, to } => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
            }
        }
    }

    fn image(&self, survivors: Survivors) -> Image {
        let names = self.names.iter();
        let mut files: BTreeMap<usize, Vec<u8>> =
            names.map(|(_, inode)| (*inode, self.durable[inode].clone())).collect();
        let mut random = match survivors {
            Survivors::Random(seed) => Entropy::new([seed as u8; 32]),
            _ => Entropy::new([0; 32]),
        };
        let count = self.unsynced.len();
        for (number, (inode, change)) in self.unsynced.iter().enumerate() {
            let kept = match survivors {
                Survivors::None => 0,
                Survivors::All => usize::MAX,
                Survivors::Only(only) => {
                    if only == number {
                        usize::MAX
                    } else {
                        0
                    }
                }
                Survivors::AllBut(not) => {
                    if not == number {
                        0
                    } else {
                        usize::MAX
                    }
                }
                Survivors::Random(_) => {
                    if random.below(2) == 0 {
                        usize::MAX
                    } else {
                        0
                    }
                }
                Survivors::Torn { part, unit } => match change {
                    Change::Write { bytes, .. } if number + 1 == count => {
                        bytes.len() * part / 8 / unit * unit
                    }
                    _ => usize::MAX,
                },
            };
            if kept > 0 {
                apply(files.get_mut(inode).unwrap(), change, kept);
            }
        }
        self.names.iter().map(|(name, inode)| (name.clone(), files[inode].clone())).collect()
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
