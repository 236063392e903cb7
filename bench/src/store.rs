//! Durable puts and reads of shards through the real driver, beside what the bare file does with
//! writes of the same size. One core, one store, on the disk of `--dir`.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
#[cfg(target_os = "linux")]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pangea_base::file::{FileDone, FileRequest};
use pangea_base::{
    ChunkNumber, Code, CoreId, Entropy, GROUP_BYTES, Locator, Page, PagePool, PeerId, Prefix,
    ShardIndex, ShardKey, UnixTime,
};
use pangea_reactor::{
    Driver, DriverChoice, DriverConfig, Event as Happened, Park, Steer, bind, uring_available,
};
use pangea_store::{
    AppendRefused, Event, Output, OwnedShard, ShardMeta, Store, StoreConfig, WriteId,
};

use crate::Options;
use crate::table::{Table, stats};

/// A shard of a 16 MiB chunk with k = 10, and one of a small object.
const SIZES: [Size; 2] = [
    Size { name: "1.6 MiB", bytes: 1_677_722, at_once: 64 },
    Size { name: "16 KiB", bytes: 16_384, at_once: 256 },
];

const CAPACITY: u64 = 16 << 30;
const PAGES: u32 = 512;
const READS_AT_ONCE: usize = 64;
/// Longest wait for a completion.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    bytes: usize,
    /// Shards being written at the same time.
    at_once: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    BareEach,
    BareMany,
    Device,
    Uring,
    Mio,
}

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Contestant::BareEach => "bare O_DIRECT file, fdatasync each",
            Contestant::BareMany => "bare O_DIRECT file, fdatasync per 64 MiB",
            Contestant::Device => "the same in writes of 1 MiB (limit)",
            Contestant::Uring => "store on uring",
            Contestant::Mio => "store on mio",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy)]
struct Measured {
    put_mb: f64,
    puts: f64,
    read_mb: f64,
}

/// Measures and prints. `--dir PATH` says on which disk; the default is the current directory.
pub fn run(options: &Options) -> Result<(), String> {
    let directory = directory(options)?;
    let mut contestants = vec![Contestant::BareEach, Contestant::BareMany, Contestant::Device];
    match uring_available() {
        Ok(()) => contestants.push(Contestant::Uring),
        Err(reason) => options.output.remark(&format!("the store on uring is left out: {reason}")),
    }
    contestants.push(Contestant::Mio);
    let time = Duration::from_secs_f64(options.seconds);
    for size in SIZES {
        let mut results = vec![Vec::new(); contestants.len()];
        for _ in 0..options.repeats {
            for (contestant, results) in contestants.iter().zip(&mut results) {
                let place = Place::new(&directory)?;
                results.push(measure(*contestant, size, time, &place.0)?);
            }
        }
        options.output.table(table(size, &contestants, &results));
    }
    Ok(())
}

fn directory(options: &Options) -> Result<PathBuf, String> {
    match options.rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(PathBuf::from(".")),
        ["--dir", path] => Ok(PathBuf::from(path)),
        _ => Err("store takes --dir PATH and nothing else".to_string()),
    }
}

/// A directory that goes when it is dropped.
struct Place(PathBuf);

impl Place {
    fn new(parent: &Path) -> Result<Place, String> {
        let path = parent.join(format!("pangea-bench-store-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(Place(path)),
            Err(error) => Err(format!("{} cannot be made: {error}", path.display())),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn table(size: Size, contestants: &[Contestant], results: &[Vec<Measured>]) -> Table {
    let title = format!(
        "durable puts of {} shards, up to {} at once, and reads; median [min-max]",
        size.name, size.at_once
    );
    let columns = ["path", "put MB/s", "of limit %", "shards/s", "read MB/s"];
    let mut table = Table::new(&title, &columns);
    let column = |results: &[Measured], value: fn(&Measured) -> f64| {
        stats(&results.iter().map(value).collect::<Vec<_>>())
    };
    let limit = column(&results[2], |m| m.put_mb).median;
    for (contestant, results) in contestants.iter().zip(results) {
        let put = column(results, |m| m.put_mb);
        table.row(&[
            contestant.name().to_string(),
            put.to_string(),
            format!("{:.0}", 100.0 * put.median / limit),
            column(results, |m| m.puts).to_string(),
            column(results, |m| m.read_mb).to_string(),
        ]);
    }
    table
}

fn measure(
    contestant: Contestant,
    size: Size,
    time: Duration,
    place: &Path,
) -> Result<Measured, String> {
    let in_words = |error: io::Error| format!("the bare file failed: {error}");
    match contestant {
        Contestant::BareEach => bare(size, time, place, size.bytes).map_err(in_words),
        Contestant::BareMany => bare(size, time, place, 64 << 20).map_err(in_words),
        Contestant::Device => {
            let large = Size { bytes: 1 << 20, ..size };
            bare(large, time, place, 64 << 20).map_err(in_words)
        }
        Contestant::Uring => Node::open(DriverChoice::Uring, place)?.measure(size, time),
        Contestant::Mio => Node::open(DriverChoice::Mio, place)?.measure(size, time),
    }
}

/// One write a shard, each in whole blocks, a sync every `sync_bytes`.
fn bare(size: Size, time: Duration, place: &Path, sync_bytes: usize) -> io::Result<Measured> {
    let mut file = bare_file(&place.join("bare"))?;
    let block = size.bytes.next_multiple_of(4096);
    let mut page: Page = PagePool::new(block, 1).take().expect("a fresh pool has its page");
    Entropy::new([7; 32]).fill(page.whole_mut());
    page.set_len(block);
    let start = Instant::now();
    let (mut unsynced, mut count) = (0, 0);
    while start.elapsed() < time {
        file.write_all(&page)?;
        (unsynced, count) = (unsynced + block, count + 1);
        if unsynced >= sync_bytes {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    file.sync_data()?;
    let took = start.elapsed().as_secs_f64();
    let (bytes, start) = ((count * size.bytes) as f64, Instant::now());
    file.rewind()?;
    (0..count).try_for_each(|_| file.read_exact(&mut page))?;
    Ok(Measured {
        put_mb: bytes / took / 1e6,
        puts: count as f64 / took,
        read_mb: bytes / start.elapsed().as_secs_f64() / 1e6,
    })
}

/// Around the page cache where the file system allows it, as the store's files are.
fn bare_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    #[cfg(target_os = "linux")]
    if let Ok(file) = options.clone().custom_flags(libc::O_DIRECT).open(path) {
        return Ok(file);
    }
    options.open(path)
}

/// Puts shards of 16 KiB, for `counts`; how many. The disk is the system's temporary directory.
pub fn append() -> Result<u64, String> {
    const ROUNDS: u32 = 4;
    const SHARDS: u32 = 64;
    let place = Place::new(&std::env::temp_dir())?;
    let mut node = Node::open(DriverChoice::Mio, &place.0)?;
    let bytes = vec![7; GROUP_BYTES];
    for number in 0..ROUNDS * SHARDS {
        hot_append(&mut node.store, number, &bytes)?;
        if number % SHARDS == SHARDS - 1 {
            node.settle(SHARDS)?;
        }
    }
    Ok(u64::from(ROUNDS * SHARDS))
}

#[inline(never)]
fn hot_append(store: &mut Store, number: u32, bytes: &[u8]) -> Result<(), String> {
    let id = store.begin(key(number), meta(bytes.len())).map_err(|refused| refused.to_string())?;
    store.append(id, bytes).map_err(|refused| refused.to_string())?;
    store.commit(id);
    Ok(())
}

#[inline(never)]
fn hot_append_poll(store: &mut Store) -> Option<Output> {
    store.poll()
}

#[inline(never)]
fn hot_append_done(store: &mut Store, done: FileDone) {
    store.file_done(done);
}

/// A store, its driver, and what is between them.
struct Node {
    driver: Driver,
    store: Store,
    waiting: VecDeque<FileRequest>,
    events: VecDeque<Event>,
}

impl Node {
    fn open(choice: DriverChoice, place: &Path) -> Result<Node, String> {
        let bound = bind(([127, 0, 0, 1], 0).into(), 1, Steer::Mesh);
        let mut bound = bound.map_err(|error| format!("no socket for the driver: {error}"))?;
        let socket = bound.sockets.pop().expect("one core has one socket");
        let config = DriverConfig {
            choice,
            receive_buffers: 4,
            receive_buffers_max: 4,
            send_slots: 4,
            spin: Duration::ZERO,
            data_dir: Some(place.to_path_buf()),
        };
        let mut driver = Driver::open(&config, socket).map_err(|error| error.to_string())?;
        let pages = PagePool::new(64 << 10, PAGES);
        driver.register(&pages);
        let config = StoreConfig::new(CoreId(0), 1, OWNER, CAPACITY, UnixTime(0));
        let store = Store::new(config, pages);
        let mut node = Node { driver, store, waiting: VecDeque::new(), events: VecDeque::new() };
        loop {
            match node.next()? {
                Event::Ready(_) => return Ok(node),
                Event::Failed(failed) => return Err(failed.to_string()),
                _ => {}
            }
        }
    }

    /// Hands operations to the driver and completions to the store.
    fn turn(&mut self, park: Park) -> Result<(), String> {
        while let Some(output) = hot_append_poll(&mut self.store) {
            match output {
                Output::File(request) => self.waiting.push_back(request),
                Output::Event(event) => self.events.push_back(event),
            }
        }
        while let Some(request) = self.waiting.pop_front() {
            if let Err(request) = self.driver.submit(request) {
                self.waiting.push_front(request);
                break;
            }
        }
        let park = if self.events.is_empty() { park } else { Park::Never };
        let mut done: Vec<FileDone> = Vec::new();
        let mut sink = |event: Happened<'_>| {
            if let Happened::File(file) = event {
                done.push(file);
            }
        };
        self.driver
            .poll(Some(Instant::now() + PATIENCE), park, &mut sink)
            .map_err(|error| format!("the driver failed: {error}"))?;
        done.into_iter().for_each(|done| hot_append_done(&mut self.store, done));
        Ok(())
    }

    fn next(&mut self) -> Result<Event, String> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if start.elapsed() > PATIENCE {
                return Err("the store says nothing any more".to_string());
            }
            self.turn(Park::Block)?;
        }
    }

    /// Until so many more shards are stored.
    fn settle(&mut self, shards: u32) -> Result<(), String> {
        let mut left = shards;
        while left > 0 {
            match self.next()? {
                Event::Stored { .. } => left -= 1,
                Event::Appendable { .. } => {}
                other => return Err(format!("a put ended with {other:?}")),
            }
        }
        Ok(())
    }

    fn measure(mut self, size: Size, time: Duration) -> Result<Measured, String> {
        let mut bytes = vec![0; size.bytes];
        Entropy::new([9; 32]).fill(&mut bytes);
        let start = Instant::now();
        let count = self.put_for(&bytes, size, time)?;
        let took = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let read = self.read_all(count, size)?;
        let read_mb = read as f64 / start.elapsed().as_secs_f64() / 1e6;
        let puts = f64::from(count) / took;
        Ok(Measured { put_mb: puts * size.bytes as f64 / 1e6, puts, read_mb })
    }

    /// Puts shards until the time is over; how many.
    fn put_for(&mut self, bytes: &[u8], size: Size, time: Duration) -> Result<u32, String> {
        let start = Instant::now();
        let (mut begun, mut stored) = (0, 0);
        let mut open: Vec<(WriteId, usize)> = Vec::new();
        loop {
            let under_way = (begun - stored) as usize;
            if start.elapsed() < time {
                for _ in under_way..size.at_once {
                    let id = self.store.begin(key(begun), meta(bytes.len()));
                    open.push((id.map_err(|refused| refused.to_string())?, 0));
                    begun += 1;
                }
            } else if under_way == 0 {
                return Ok(stored);
            }
            self.append_all(&mut open, bytes)?;
            self.turn(Park::Block)?;
            while let Some(event) = self.events.pop_front() {
                match event {
                    Event::Stored { .. } => stored += 1,
                    Event::Appendable { .. } => {}
                    other => return Err(format!("a put ended with {other:?}")),
                }
            }
        }
    }

    fn append_all(&mut self, open: &mut Vec<(WriteId, usize)>, bytes: &[u8]) -> Result<(), String> {
        for (id, sent) in open.iter_mut() {
            for group in bytes[*sent..].chunks(GROUP_BYTES) {
                match self.store.append(*id, group) {
                    Ok(()) => *sent += group.len(),
                    Err(AppendRefused::NoPage) => break,
                    Err(refused) => return Err(refused.to_string()),
                }
            }
            if *sent == bytes.len() {
                self.store.commit(*id);
            }
        }
        open.retain(|(_, sent)| *sent < bytes.len());
        Ok(())
    }

    /// Reads every shard, page by page; how many bytes.
    fn read_all(&mut self, count: u32, size: Size) -> Result<u64, String> {
        let pages =
            (0..count).flat_map(|n| (0..size.bytes as u64).step_by(65536).map(move |at| (n, at)));
        let mut pages = pages.peekable();
        let (mut under_way, mut bytes) = (0, 0);
        loop {
            while under_way < READS_AT_ONCE
                && let Some((number, at)) = pages.next()
            {
                let shard = OwnedShard { key: key(number), owner: OWNER };
                self.store.read(&shard, at, 0).map_err(|refused| refused.to_string())?;
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(bytes);
            }
            match self.next()? {
                Event::Read { page, .. } => {
                    bytes += page.len() as u64;
                    under_way -= 1;
                }
                other => return Err(format!("a read ended with {other:?}")),
            }
        }
    }
}

/// Whose store it is, and whose shards.
const OWNER: PeerId = PeerId([1; 32]);

fn key(number: u32) -> ShardKey {
    ShardKey { locator: Locator([3; 32]), chunk: ChunkNumber(number), index: ShardIndex(0) }
}

fn meta(length: usize) -> ShardMeta {
    ShardMeta {
        owner: OWNER,
        prefix: Prefix(None),
        code: Code::new(10, 4).expect("a code"),
        until: UnixTime(u64::MAX),
        length_max: length as u64,
    }
}
