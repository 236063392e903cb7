//! What a store finds on its disk: a journal of any blocks, and a valid disk on which anything was
//! changed. Opening ends, and what is shown reads back as what it says it is, or with a fault.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use pangea_base::file::FileName;
use pangea_base::{
    ChunkNumber, Code, CoreId, GROUP_BYTES, GroupTable, Hash, Locator, PagePool, PeerId, Prefix,
    ShardIndex, ShardKey, UnixTime,
};
use pangea_store::sim::{Disk, Image};
use pangea_store::{
    AppendRefused, BlobKey, BlobKind, Event, Key, OpenFailed, Output, OwnedBlob, OwnedShard,
    Recovered, ShardMeta, Store, StoreConfig, StoreFault,
};

use super::input::{Input, counted};
use super::samples::pattern;

const BLOCK: usize = 4096;
/// What a block of a journal begins with, before its entries.
const HEAD: usize = 120;
/// Who puts shards here.
const OWNER: PeerId = PeerId([1; 32]);
const EXTENT_BYTES: u64 = 128 << 10;
/// More steps than any opening, reading or writing of so small a disk takes.
const STEPS_MAX: usize = 20_000;

fn config() -> StoreConfig {
    let capacity = 64 * EXTENT_BYTES;
    StoreConfig {
        extent_bytes: EXTENT_BYTES,
        journal_bytes: 128 << 10,
        journal_step_bytes: 128 << 10,
        shards_max: 64,
        blobs_max: 64,
        ..StoreConfig::new(CoreId(0), 1, PeerId([3; 32]), capacity, UnixTime(0))
    }
}

/// A store on a disk in memory.
pub struct Rig {
    pub store: Store,
    pub disk: Disk,
    pub opened: Result<Recovered, OpenFailed>,
    events: Vec<Event>,
    /// An extent takes no more writes.
    poisoned: bool,
}

impl Rig {
    /// Opens what is there, to the end.
    pub fn open(image: Image) -> Rig {
        let store = Store::new(config(), PagePool::new(65_536, 24));
        let opened = Ok(Recovered::default());
        let (disk, events) = (Disk::with_image(image, 1), Vec::new());
        let mut rig = Rig { store, disk, opened, events, poisoned: false };
        rig.settle();
        let outcome = rig.events.iter().find_map(|event| match event {
            Event::Ready(found) => Some(Ok(found.clone())),
            Event::Failed(failed) => Some(Err(failed.clone())),
            _ => None,
        });
        rig.opened = outcome.expect("opening ends");
        rig
    }

    fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            while let Some(output) = self.store.poll() {
                match output {
                    Output::File(request) => self.disk.submit(request),
                    Output::Event(event) => {
                        self.poisoned |= matches!(event, Event::ExtentPoisoned { .. });
                        self.events.push(event);
                    }
                }
            }
            let Some(done) = self.disk.step() else { return };
            self.store.file_done(done);
        }
        panic!("the store never comes to rest");
    }

    pub fn put(&mut self, key: ShardKey, bytes: &[u8]) -> bool {
        let meta = ShardMeta {
            owner: OWNER,
            prefix: Prefix(Some([4, 0, 0, 192, 0, 2])),
            code: Code::new(10, 4).expect("it is a code"),
            until: UnixTime(1000),
            length_max: bytes.len() as u64,
        };
        let Ok(id) = self.store.begin(key, meta) else { return false };
        for group in bytes.chunks(GROUP_BYTES) {
            match self.store.append(id, group) {
                Ok(()) => {}
                Err(AppendRefused::NoPage) => panic!("the pool is large enough"),
                Err(_) => return false,
            }
        }
        self.store.commit(id);
        self.settle();
        self.events
            .iter()
            .any(|event| matches!(event, Event::Stored { id: done, .. } if *done == id))
    }

    pub fn put_blob(&mut self, kind: BlobKind, bytes: &[u8]) {
        let locator = Locator([1; 32]);
        let key = match kind {
            BlobKind::Placement => BlobKey::placement(locator, 0),
            _ => BlobKey { locator, kind, id: Hash::of(bytes) },
        };
        let (owner, bytes) = (PeerId([2; 32]), Bytes::copy_from_slice(bytes));
        self.store.put_blob(key, owner, Prefix(None), bytes, 1).expect("there is room");
        self.settle();
    }

    /// The whole shard, as long as it is what its root says; or the fault.
    pub fn get(&mut self, key: OwnedShard) -> Result<Vec<u8>, StoreFault> {
        let info = self.store.shard(&key).expect("it is held");
        self.store.table(&key, 7).expect("nothing else is read");
        let table: GroupTable = match self.answer() {
            Event::Table { table, .. } => table,
            Event::ReadFailed { fault, .. } => return Err(fault),
            event => panic!("a table was answered with {event:?}"),
        };
        assert_eq!((table.root(), table.length()), (info.root, info.length), "another table");
        let mut bytes = Vec::new();
        for offset in (0..info.length).step_by(65_536) {
            self.store.read(&key, offset, 7).expect("nothing else is read");
            match self.answer() {
                Event::Read { page, .. } => bytes.extend_from_slice(&page),
                Event::ReadFailed { fault, .. } => return Err(fault),
                event => panic!("a read was answered with {event:?}"),
            }
        }
        // What the store reads is not verified; who asked compares it with the table.
        for (number, group) in (0..).zip(bytes.chunks(GROUP_BYTES)) {
            if !table.holds(number, group) {
                return Err(StoreFault::Damaged("group"));
            }
        }
        Ok(bytes)
    }

    pub fn get_blob(&mut self, key: BlobKey) -> Result<Bytes, StoreFault> {
        self.store.blob(key.kind, key.locator, key.id, 7).expect("it is held");
        match self.answer() {
            Event::Blob { bytes, .. } => Ok(bytes),
            Event::ReadFailed { fault, .. } => Err(fault),
            event => panic!("a blob was answered with {event:?}"),
        }
    }

    fn answer(&mut self) -> Event {
        self.events.clear();
        self.settle();
        let read = |event: &Event| {
            matches!(
                event,
                Event::Read { .. }
                    | Event::ReadFailed { .. }
                    | Event::Table { .. }
                    | Event::Blob { .. }
            )
        };
        let at = self.events.iter().position(read).expect("a read is answered");
        self.events.swap_remove(at)
    }
}

/// All that is shown reads back, or says what is wrong with it; what was not there before is stored
/// or refused; and the second opening finds no more damage than the first. Gives what went wrong.
pub fn examine(image: Image) -> Vec<String> {
    let mut rig = Rig::open(image);
    let found = match &rig.opened {
        Err(failed @ OpenFailed::JournalCut { why, .. }) => {
            return vec![variant(failed), variant(why)];
        }
        Err(failed) => return vec![variant(failed)],
        Ok(found) => found.clone(),
    };
    let mut wrong = counts(&found);
    let locators = [Locator([1; 32]), Locator([2; 32])];
    for locator in locators {
        let shards: Vec<_> = rig.store.shards_of(locator).collect();
        for (key, info) in shards {
            match rig.get(key) {
                Ok(bytes) => assert_eq!(Hash::of(&bytes), info.root, "a shard with other bytes"),
                Err(fault) => wrong.push(variant(&fault)),
            }
        }
        let blobs: Vec<_> = rig.store.blobs_of(locator).collect();
        for (OwnedBlob { key, .. }, _) in blobs {
            // The store has compared it with its root; its id is a hash only where who stored it
            // meant it so.
            if let Err(fault) = rig.get_blob(key) {
                wrong.push(variant(&fault));
            }
        }
    }
    let new = ShardKey { locator: locators[1], ..key(99) };
    if rig.put(new, &pattern(20_000)) {
        let new = OwnedShard { key: new, owner: OWNER };
        assert_eq!(rig.get(new), Ok(pattern(20_000)), "what was stored just now");
    }
    if rig.poisoned {
        wrong.push("Event::ExtentPoisoned".into());
    }
    let shown = rig.store.shards_of(locators[0]).count();
    let after = Rig::open(rig.disk.image());
    let again = after.opened.as_ref().expect("what opened once opens again");
    assert_eq!(after.store.shards_of(locators[0]).count(), shown, "what was shown stays");
    assert!(again.damaged_blocks <= found.damaged_blocks);
    wrong
}

/// The name of an error's variant, with its type's before it.
fn variant<E: std::fmt::Debug>(error: &E) -> String {
    let name = std::any::type_name::<E>().rsplit("::").next().unwrap_or_default();
    let text = format!("{error:?}");
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    format!("{name}::{}", &text[..end])
}

/// What recovery counted of what was not right.
pub fn counts(found: &Recovered) -> Vec<String> {
    // All fields, so that a new one is not forgotten.
    let Recovered {
        shards: _,
        blobs: _,
        bytes: _,
        owners: _,
        newest: _,
        believed: _,
        carried_over: _,
        taken_over: _,
        cut_blocks,
        damaged_blocks,
        lost_entries,
        lost_shards,
        stale_shards,
        duplicates,
        unknown_files,
    } = *found;
    let counts = [
        ("cut_blocks", cut_blocks),
        ("damaged_blocks", damaged_blocks),
        ("lost_entries", lost_entries),
        ("lost_shards", lost_shards),
        ("stale_shards", stale_shards),
        ("duplicates", duplicates),
        ("unknown_files", unknown_files),
    ];
    let counted = counts.into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(name, _)| format!("Recovered::{name}")).collect()
}

fn key(chunk: u32) -> ShardKey {
    ShardKey { locator: Locator([1; 32]), chunk: ChunkNumber(chunk), index: ShardIndex(1) }
}

/// A disk with shards of several lengths, blobs and a deletion; as it is after a kill.
pub fn sound() -> &'static Image {
    static SOUND: OnceLock<Image> = OnceLock::new();
    SOUND.get_or_init(|| {
        let mut rig = Rig::open(Image::new());
        for (chunk, length) in (0..).zip([1, 4096, 16_384, 16_385, 40_000, 3000]) {
            assert!(rig.put(key(chunk), &sparse(length)), "there is room");
        }
        rig.put_blob(BlobKind::ManifestRoot, &sparse(9000));
        rig.put_blob(BlobKind::Placement, &pattern(300));
        rig.store.delete(Key::shard(OWNER, key(2))).expect("it is held");
        rig.settle();
        // Where the deleted one was.
        assert!(rig.put(key(9), &sparse(16_384)), "there is room");
        rig.disk.image()
    })
}

/// Bytes of which each kilobyte tells where it belongs, and that take little room in a file.
fn sparse(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (number, part) in (1u16..).zip(bytes.chunks_mut(1024)) {
        let count = part.len().min(2);
        part[..count].copy_from_slice(&number.to_le_bytes()[..count]);
    }
    bytes
}

/// Makes the checksum of a block right.
pub fn seal(block: &mut [u8]) {
    let sum = *blake3::hash(&block[32..BLOCK]).as_bytes();
    block[..32].copy_from_slice(&sum);
}

/// A sound disk, and what is done to it: each change takes a kind, a file, a place and more.
pub fn image(data: &[u8]) {
    let mut image = sound().clone();
    let mut input = Input::new(data);
    for _ in 0..16 {
        if input.is_empty() || image.is_empty() {
            break;
        }
        change(&mut image, &mut input);
    }
    examine(image);
}

fn change(image: &mut Image, input: &mut Input<'_>) {
    let (kind, file) = (input.u8(), usize::from(input.u8()) % image.len());
    let name = image.keys().nth(file).expect("there is one").clone();
    let mut bytes = image.remove(&name).expect("it is there");
    let (block, at) = (usize::from(input.u8()), usize::from(input.u16()) % BLOCK);
    let start = block % (bytes.len() / BLOCK).max(1) * BLOCK;
    let whole = bytes.len() >= start + BLOCK;
    match kind % 12 {
        0 if whole => bytes[start + at] ^= input.u8() | 1,
        1 if whole => {
            let (new, end) = (input.bytes(), start + BLOCK);
            let place = &mut bytes[(start + at).max(start + 32)..end];
            let count = new.len().min(place.len());
            place[..count].copy_from_slice(&new[..count]);
            seal(&mut bytes[start..end]);
        }
        2 if whole => bytes[start..start + BLOCK].fill(0),
        3 if whole => {
            let to = usize::from(input.u8()) % (bytes.len() / BLOCK) * BLOCK;
            bytes.copy_within(start..start + BLOCK, to);
        }
        4 => bytes.truncate(start + at),
        5 => bytes.resize((bytes.len() + at * 64).min(1 << 20), input.u8()),
        6 => return,
        7 => {
            image.insert(other_name(input), bytes.clone());
        }
        8 => {
            image.insert(other_name(input), bytes);
            return;
        }
        9 if whole => {
            // A field of a journal block or a header, and the checksum with it.
            let field = start + 32 + at % 200;
            bytes[field] = input.u8();
            seal(&mut bytes[start..start + BLOCK]);
        }
        10 => bytes.clear(),
        _ => {}
    }
    image.insert(name, bytes);
}

/// A name that the store knows, or nearly.
fn other_name(input: &mut Input<'_>) -> FileName {
    let (partition, number) = (input.u8() % 4, input.u8() % 5);
    FileName::new(match input.u8() % 4 {
        0 => format!("store/p{partition:02}/journal-{number:016x}"),
        1 => format!("store/p{partition:02}/extent-{number:08x}"),
        2 => format!("store/p{partition:02}/notes-{number}"),
        _ => "store/format".into(),
    })
}

pub fn image_seeds() -> Vec<Vec<u8>> {
    let place = |kind: u8, file: u8, block: u8, at: u16| {
        [&[kind, file, block][..], &at.to_le_bytes()].concat()
    };
    let mut seeds = vec![vec![]];
    for file in 0..sound().len() as u8 {
        for kind in 0..11 {
            let more = match kind {
                1 => counted(&[0xff; 8]),
                3 => vec![3],
                7 | 8 => vec![1, 2, file],
                _ => vec![0x10],
            };
            seeds.push([place(kind, file, 2, 100), more].concat());
        }
    }
    // More would be more of the same.
    seeds.truncate(34);
    seeds
}

/// A journal of any blocks with right checksums, beside a sound format file and extent. A block's
/// first byte says which of its fields are taken from the input and not made right.
pub fn journal(data: &[u8]) {
    let mut input = Input::new(data);
    let mut journal = vec![0; 32 * BLOCK];
    let reserved = journal.len() as u64;
    let (mut link, mut entries) = ([0; 32], 0u64);
    for sequence in 0..24u64 {
        if input.is_empty() {
            break;
        }
        let wrong = input.u8();
        let mut own = |bit: u8, right: u64| match wrong & 1 << bit {
            0 => right,
            _ => input.u64(),
        };
        let kind = own(0, if sequence == 0 { 2 } else { 3 }) as u8;
        let first = own(1, if kind == 3 { sequence } else { 0 });
        let (generation, number) = (own(2, 1), own(3, sequence));
        let before = own(4, entries);
        let backlink = if wrong & 1 << 5 == 0 { link } else { input.array() };
        let body = input.bytes();
        let body = &body[..body.len().min(BLOCK - HEAD)];
        let used = if wrong & 1 << 6 == 0 { body.len() as u16 } else { input.u16() };
        let head = [
            &b"PANGEAJB"[..],
            &2u32.to_le_bytes(),
            &[0, kind],
            &used.to_le_bytes(),
            &generation.to_le_bytes(),
            &number.to_le_bytes(),
            &first.to_le_bytes(),
            &before.to_le_bytes(),
            &backlink,
            &reserved.to_le_bytes(),
            body,
        ]
        .concat();
        let block = &mut journal[sequence as usize * BLOCK..][..BLOCK];
        block[32..32 + head.len()].copy_from_slice(&head);
        seal(block);
        link.copy_from_slice(&block[..32]);
        entries += u64::from(wrong >> 7) + 1;
    }
    let mut image: Image = BTreeMap::new();
    let all = sound().iter().filter(|(name, _)| !name.as_str().contains("journal"));
    image.extend(all.map(|(name, bytes)| (name.clone(), bytes.clone())));
    image.insert(FileName::new("store/p00/journal-0000000000000001"), journal);
    examine(image);
}

pub fn journal_seeds() -> Vec<Vec<u8>> {
    // The blocks of a real journal, with their numbers made right again.
    let name = sound().keys().find(|name| name.as_str().contains("journal"));
    let bytes = &sound()[name.expect("there is a journal")];
    let blocks = bytes.chunks(BLOCK).filter(|block| block.iter().any(|byte| *byte != 0));
    let bodies: Vec<Vec<u8>> = blocks
        .map(|block| {
            let used = usize::from(u16::from_le_bytes([block[46], block[47]]));
            [&[0][..], &counted(&block[HEAD..HEAD + used])].concat()
        })
        .collect();
    let mut seeds: Vec<Vec<u8>> =
        (1..=bodies.len()).map(|count| bodies[..count].concat()).collect();
    let wrong = |bit: u8| {
        let mut bodies = bodies.clone();
        if let Some(second) = bodies.get_mut(1) {
            second[0] |= 1 << bit;
            let more = if bit == 5 { vec![9; 32] } else { vec![9; 8] };
            second.splice(1..1, more);
        }
        bodies.concat()
    };
    seeds.extend((0..7).map(wrong));
    seeds
}
