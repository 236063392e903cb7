use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, Code, CoreId, Entropy, GROUP_BYTES, GroupTable, Hash, Locator, PagePool, PeerId,
    Prefix, ShardIndex, ShardKey, UnixTime,
};

use crate::sim::{Disk, Image};
use crate::*;

pub const DAY: u64 = 24 * 3600;
pub const EXTENT: u64 = 256 << 10;

pub fn key(object: u8, chunk: u32) -> ShardKey {
    ShardKey { locator: Locator([object; 32]), chunk: ChunkNumber(chunk), index: ShardIndex(1) }
}

/// Bytes that tell whose they are.
pub fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut key = [1; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    Entropy::new(key).fill(&mut bytes);
    bytes
}

pub fn owner(number: u8) -> PeerId {
    PeerId([number; 32])
}

/// The owner of most shards here, and a network that it stores from.
pub const HOME: Prefix = Prefix(Some([4, 0, 0, 192, 0, 2]));
/// The node whose store it is.
pub const NODE: PeerId = PeerId([77; 32]);

pub fn mine(key: ShardKey) -> OwnedShard {
    OwnedShard { key, owner: owner(1) }
}

pub fn shard_name(key: ShardKey) -> Key {
    Key::Shard(mine(key))
}

/// Of the owner of most blobs here.
pub fn blob_name(key: BlobKey) -> Key {
    Key::blob(owner(2), key)
}

pub fn meta(length_max: usize) -> ShardMeta {
    ShardMeta {
        owner: owner(1),
        prefix: HOME,
        code: Code::new(10, 4).unwrap(),
        until: UnixTime(100 * DAY),
        length_max: length_max as u64,
    }
}

pub fn config(core: u8, cores: u8) -> StoreConfig {
    StoreConfig {
        extent_bytes: EXTENT,
        journal_bytes: 128 << 10,
        journal_step_bytes: 128 << 10,
        ..StoreConfig::new(CoreId(core), cores, NODE, 64 << 20, UnixTime(0))
    }
}

/// A store, its disk, and what both said.
pub struct Rig {
    pub disk: Disk,
    pub store: Store,
    pub pages: PagePool,
    pub events: Vec<Event>,
    pub stored: BTreeMap<WriteId, (Hash, u64)>,
    pub failed: BTreeMap<WriteId, StoreFault>,
    pub blobs: BTreeMap<u64, Result<(), StoreFault>>,
    token: u64,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::open(Disk::new(1), config(0, 1))
    }

    /// Opens without waiting.
    pub fn start(disk: Disk, config: StoreConfig, pages: u32) -> Rig {
        let pages = PagePool::new(65536, pages);
        let store = Store::new(config, pages.clone());
        Rig {
            disk,
            store,
            pages,
            events: Vec::new(),
            stored: BTreeMap::new(),
            failed: BTreeMap::new(),
            blobs: BTreeMap::new(),
            token: 0,
        }
    }

    pub fn open(disk: Disk, config: StoreConfig) -> Rig {
        let mut rig = Rig::start(disk, config, 64);
        rig.settle();
        rig
    }

    pub fn recovered(&self) -> &Recovered {
        self.try_recovered().unwrap_or_else(|failed| panic!("not open: {failed}"))
    }

    pub fn try_recovered(&self) -> Result<&Recovered, &OpenFailed> {
        let found = self.events.iter().find_map(|event| match event {
            Event::Ready(recovered) => Some(Ok(recovered)),
            Event::Failed(failed) => Some(Err(failed)),
            _ => None,
        });
        found.expect("opening ends")
    }

    /// Lets the disk do one thing; false if there is nothing to do.
    pub fn step(&mut self) -> bool {
        self.drain();
        let Some(done) = self.disk.step() else { return false };
        self.store.file_done(done);
        self.drain();
        true
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.store.poll() {
            match output {
                Output::File(request) => self.disk.submit(request),
                Output::Event(event) => {
                    match &event {
                        Event::Stored { id, root, length, .. } => {
                            self.stored.insert(*id, (*root, *length));
                        }
                        Event::WriteFailed { id, fault } => {
                            assert!(self.failed.insert(*id, fault.clone()).is_none());
                        }
                        Event::BlobStored { token, .. } => {
                            self.blobs.insert(*token, Ok(()));
                        }
                        Event::BlobFailed { token, fault } => {
                            self.blobs.insert(*token, Err(fault.clone()));
                        }
                        _ => {}
                    }
                    self.events.push(event);
                }
            }
        }
    }

    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Begins, appends all and commits; does not wait for more than pages.
    pub fn put_soon(&mut self, key: ShardKey, bytes: &[u8]) -> Result<WriteId, StoreRefused> {
        self.put_with(key, meta(bytes.len()), bytes)
    }

    pub fn put_with(
        &mut self,
        key: ShardKey,
        meta: ShardMeta,
        bytes: &[u8],
    ) -> Result<WriteId, StoreRefused> {
        let id = self.store.begin(key, meta)?;
        for group in bytes.chunks(GROUP_BYTES) {
            loop {
                match self.store.append(id, group) {
                    Ok(()) => break,
                    Err(AppendRefused::NoPage) => assert!(self.step(), "no page ever"),
                    Err(AppendRefused::NotOpen) => return Ok(id),
                    Err(refused) => panic!("{refused}"),
                }
            }
        }
        self.store.commit(id);
        Ok(id)
    }

    /// Puts a shard and waits for its end.
    pub fn put(&mut self, key: ShardKey, bytes: &[u8]) -> Result<(), StoreFault> {
        let id = self.put_soon(key, bytes).unwrap();
        self.settle();
        match self.failed.get(&id) {
            Some(fault) => Err(fault.clone()),
            None => {
                assert_eq!(self.stored[&id], (Hash::of(bytes), bytes.len() as u64));
                Ok(())
            }
        }
    }

    pub fn put_blob(&mut self, key: BlobKey, bytes: &[u8]) -> Result<(), StoreFault> {
        self.put_blob_of(owner(2), key, bytes)
    }

    pub fn put_blob_of(
        &mut self,
        owner: PeerId,
        key: BlobKey,
        bytes: &[u8],
    ) -> Result<(), StoreFault> {
        self.token += 1;
        let token = self.token;
        let bytes = Bytes::copy_from_slice(bytes);
        self.store.put_blob(key, owner, HOME, bytes, token).unwrap();
        self.settle();
        self.blobs[&token].clone()
    }

    pub fn delete(&mut self, key: ShardKey) {
        self.store.delete(shard_name(key)).unwrap();
        self.settle();
    }

    fn answer(&mut self, token: u64) -> Event {
        let of_token = |event: &Event| match event {
            Event::Read { token: t, .. }
            | Event::ReadFailed { token: t, .. }
            | Event::Table { token: t, .. }
            | Event::Blob { token: t, .. } => *t == token,
            _ => false,
        };
        loop {
            self.drain();
            if let Some(at) = self.events.iter().position(of_token) {
                return self.events.remove(at);
            }
            assert!(self.step(), "a read is answered");
        }
    }

    /// The whole shard, and the table that proves it.
    pub fn get(&mut self, key: ShardKey) -> Result<Vec<u8>, StoreFault> {
        self.get_of(mine(key))
    }

    /// The same of any owner.
    pub fn get_of(&mut self, key: OwnedShard) -> Result<Vec<u8>, StoreFault> {
        let info = self.store.shard(&key).expect("it is held");
        self.token += 1;
        let token = self.token;
        self.store.table(&key, token).unwrap();
        let table: GroupTable = match self.answer(token) {
            Event::Table { table, .. } => table,
            Event::ReadFailed { fault, .. } => return Err(fault),
            _ => unreachable!(),
        };
        assert_eq!((table.root(), table.length()), (info.root, info.length));
        let mut bytes = Vec::new();
        for offset in (0..info.length).step_by(65536) {
            self.store.read(&key, offset, token).unwrap();
            match self.answer(token) {
                Event::Read { page, .. } => bytes.extend_from_slice(&page),
                Event::ReadFailed { fault, .. } => return Err(fault),
                _ => unreachable!(),
            }
        }
        for (number, group) in (0..).zip(bytes.chunks(GROUP_BYTES)) {
            if !table.holds(number, group) {
                return Err(StoreFault::Damaged("group"));
            }
        }
        Ok(bytes)
    }

    pub fn get_blob(
        &mut self,
        kind: BlobKind,
        locator: Locator,
        id: Hash,
    ) -> Result<Bytes, StoreFault> {
        self.token += 1;
        let token = self.token;
        self.store.blob(kind, locator, id, token).unwrap();
        match self.answer(token) {
            Event::Blob { bytes, .. } => Ok(bytes),
            Event::ReadFailed { fault, .. } => Err(fault),
            _ => unreachable!(),
        }
    }

    /// Placement page `page`, whose it is, and whether others have one too.
    pub fn placement(
        &mut self,
        locator: Locator,
        page: u32,
        whose: Owners,
    ) -> Option<(PlacementFound, Bytes)> {
        self.token += 1;
        let token = self.token;
        let found = self.store.placement(locator, page, whose, token).ok()?;
        match self.answer(token) {
            Event::Blob { bytes, .. } => Some((found, bytes)),
            other => panic!("{other:?}"),
        }
    }

    /// Begins a put of an owner and waits for its end.
    pub fn put_of(
        &mut self,
        key: ShardKey,
        meta: ShardMeta,
        bytes: &[u8],
    ) -> Result<(), StoreFault> {
        let id = self.put_with(key, meta, bytes).unwrap();
        self.settle();
        self.failed.get(&id).map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// What was said since this was asked last.
    pub fn said(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// A clean end; what is left.
    pub fn close(mut self) -> Image {
        self.store.shutdown();
        self.settle();
        assert!(self.events.iter().any(|event| matches!(event, Event::Closed)), "it closes");
        assert!(self.store.idle());
        drop(self.store);
        drop(self.events);
        assert_eq!(self.pages.available(), self.pages.pages_max(), "no page is leaked");
        self.disk.image()
    }

    /// What is on the disk now, as after a kill.
    pub fn killed(self) -> Image {
        self.disk.image()
    }
}
