//! A store and what it works on, driven until nothing is left to do.

use bytes::Bytes;
use pangea_base::file::{FileDone, FileRequest};
use pangea_base::{Code, CoreId, GROUP_BYTES, Hash, PagePool, PeerId, Prefix, ShardKey, UnixTime};
use pangea_store::sim::Disk;
use pangea_store::{
    AppendRefused, BlobKey, BlobKind, Event, Output, OwnedBlob, OwnedShard, Owners, Recovered,
    ShardMeta, Store, StoreConfig, StoreRefused, WriteId,
};

/// Files that a store can work on.
pub trait Medium {
    /// Takes an operation.
    fn submit(&mut self, request: FileRequest);
    /// Does one thing; `None` if there is nothing to do.
    fn step(&mut self) -> Option<FileDone>;
}

impl Medium for Disk {
    fn submit(&mut self, request: FileRequest) {
        Disk::submit(self, request);
    }

    fn step(&mut self) -> Option<FileDone> {
        Disk::step(self)
    }
}

/// Small extents and journals, so that an image is cheap and everything happens often.
pub fn config(now: UnixTime) -> StoreConfig {
    StoreConfig {
        extent_bytes: 128 << 10,
        journal_bytes: 20 << 10,
        journal_step_bytes: 128 << 10,
        ..StoreConfig::new(CoreId(0), 1, NODE, 64 << 20, now)
    }
}

/// Pages of the size that a store wants.
pub fn pool(pages: u32) -> PagePool {
    PagePool::new(65536, pages)
}

/// The code of every chunk here.
pub fn code() -> Code {
    Code::new(10, 4).expect("a code")
}

/// Whose store it is.
const NODE: PeerId = PeerId([77; 32]);
/// Whose shards and blobs these are.
pub const OWNERS: [PeerId; 3] = [PeerId([3; 32]), PeerId([4; 32]), PeerId([5; 32])];
/// Who had put what a store of format 1 holds.
pub const OLD_OWNER: PeerId = PeerId([9; 32]);

/// From where an owner stores something: it can be told from what it is.
pub fn prefix_of(owner: PeerId, root: Hash) -> Prefix {
    match owner {
        OLD_OWNER => Prefix(None),
        _ if root.0[0].is_multiple_of(4) => Prefix(None),
        _ => Prefix(Some([4, 0, 0, owner.0[0], root.0[0] % 4, 0])),
    }
}

/// The store, its files, and what it said that nobody has looked at yet.
pub struct Rig<M> {
    pub medium: M,
    pub store: Store,
    pub events: Vec<Event>,
    pages: PagePool,
    token: u64,
}

impl<M: Medium> Rig<M> {
    /// Starts to open, without waiting.
    pub fn start(medium: M, pages: PagePool, now: UnixTime) -> Rig<M> {
        let store = Store::new(config(now), pages.clone());
        Rig { medium, store, events: Vec::new(), pages, token: 0 }
    }

    /// Lets the disk do one thing; false if there is nothing to do.
    pub fn step(&mut self) -> bool {
        self.drain();
        let Some(done) = self.medium.step() else { return false };
        self.store.file_done(done);
        self.drain();
        true
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.store.poll() {
            match output {
                Output::File(request) => self.medium.submit(request),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Waits until the store is open.
    pub fn opened(&mut self) -> Result<Recovered, String> {
        self.settle();
        let mut said = String::from("nothing was said");
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Ready(recovered) => return Ok(recovered),
                Event::Failed(failed) => said = failed.to_string(),
                _ => {}
            }
        }
        Err(format!("the store does not open: {said}"))
    }

    /// Begins, appends all and commits; waits for pages only. `stepped` hears of every step.
    pub fn put_soon(
        &mut self,
        key: ShardKey,
        meta: ShardMeta,
        bytes: &[u8],
        mut stepped: impl FnMut(&mut Self),
    ) -> Result<WriteId, StoreRefused> {
        let id = self.store.begin(key, meta)?;
        for group in bytes.chunks(GROUP_BYTES) {
            while let Err(refused) = self.store.append(id, group) {
                assert!(refused == AppendRefused::NoPage, "an append is refused: {refused}");
                assert!(self.step(), "a page comes back");
                stepped(self);
            }
        }
        self.store.commit(id);
        self.drain();
        Ok(id)
    }

    /// A mark that nothing else bears.
    pub fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    fn answer(&mut self, token: u64) -> Result<Event, String> {
        let is_of = |event: &Event| match event {
            Event::Read { token: t, .. }
            | Event::ReadFailed { token: t, .. }
            | Event::Table { token: t, .. }
            | Event::Blob { token: t, .. } => *t == token,
            _ => false,
        };
        loop {
            self.drain();
            if let Some(at) = self.events.iter().position(is_of) {
                return match self.events.remove(at) {
                    Event::ReadFailed { fault, .. } => Err(fault.to_string()),
                    other => Ok(other),
                };
            }
            if !self.step() {
                return Err("a read is never answered".to_owned());
            }
        }
    }

    /// The hash of a shard's bytes, read back through its table group by group.
    pub fn get(&mut self, key: OwnedShard) -> Result<(Hash, u64), String> {
        let info = self.store.shard(&key).ok_or("it is not held")?;
        let token = self.token();
        self.store.table(&key, token).map_err(|refused| refused.to_string())?;
        let Event::Table { table, .. } = self.answer(token)? else {
            return Err("no table came".to_owned());
        };
        if (table.root(), table.length()) != (info.root, info.length) {
            return Err("its table is of something else".to_owned());
        }
        let mut bytes = Vec::new();
        for offset in (0..info.length).step_by(65536) {
            self.store.read(&key, offset, token).map_err(|refused| refused.to_string())?;
            match self.answer(token)? {
                Event::Read { page, .. } => bytes.extend_from_slice(&page),
                _ => return Err("no page came".to_owned()),
            }
        }
        for (number, group) in (0..).zip(bytes.chunks(GROUP_BYTES)) {
            if !table.holds(number, group) {
                return Err(format!("group {number} is not what its table says"));
            }
        }
        Ok((Hash::of(&bytes), bytes.len() as u64))
    }

    pub fn get_blob(&mut self, key: BlobKey) -> Result<Bytes, String> {
        let token = self.token();
        let asked = self.store.blob(key.kind, key.locator, key.id, token);
        asked.map_err(|refused| refused.to_string())?;
        match self.answer(token)? {
            Event::Blob { bytes, .. } => Ok(bytes),
            _ => Err("no blob came".to_owned()),
        }
    }

    /// The hash of a blob's bytes, and how many they are.
    pub fn blob(&mut self, blob: OwnedBlob) -> Result<(Hash, u64), String> {
        let OwnedBlob { key, owner } = blob;
        let bytes = match key.kind {
            BlobKind::Placement => self.get_placement(key, owner)?,
            _ => self.get_blob(key)?,
        };
        Ok((Hash::of(&bytes), bytes.len() as u64))
    }

    fn get_placement(&mut self, key: BlobKey, owner: PeerId) -> Result<Bytes, String> {
        let token = self.token();
        let [a, b, c, d, ..] = key.id.0;
        let page = u32::from_le_bytes([a, b, c, d]);
        let asked = self.store.placement(key.locator, page, Owners::Of(owner), token);
        asked.map_err(|refused| refused.to_string())?;
        match self.answer(token)? {
            Event::Blob { bytes, .. } => Ok(bytes),
            _ => Err("no placement page came".to_owned()),
        }
    }

    /// At rest a store keeps one page, and nobody else has any.
    pub fn leaks_no_page(&mut self) -> Result<(), String> {
        self.settle();
        self.events.clear();
        let out = self.pages.pages_max() - self.pages.available();
        match out {
            1 => Ok(()),
            _ => Err(format!("{out} pages are out, and one should be")),
        }
    }
}
