//! Images on real file systems: the same store, over the real driver.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pangea_base::file::{FileDone, FileRequest};
use pangea_base::{ChunkNumber, Hash, ShardIndex, ShardKey, UnixTime};
use pangea_reactor::{
    Driver, DriverChoice, DriverConfig, Event as Driven, Park, Steer, bind, uring_available,
};
use pangea_store::sim::Image;
use pangea_store::{Event, Key, ShardMeta};

use super::Options;
use super::check::{Checker, EXTRA, Rigour, recover};
use super::cut::{Failure, Way, live_numbered, order, some_ways, text_of};
use super::history::State;
use super::rig::{Medium, OWNER, Rig, code, pool};
use super::workload::{Lived, entropy};

/// Images of one workload.
const PER_WORKLOAD: u64 = 4;
/// Longer than any file operation here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a file system in a file: the least that mkfs.xfs accepts.
const LOOP_BYTES: u64 = 300 << 20;
/// Exit status of a child that could not mount.
const NOT_MOUNTED: i32 = 77;

/// The real files below a directory.
struct Real {
    driver: Driver,
    waiting: VecDeque<FileRequest>,
    in_flight: usize,
    ended: VecDeque<FileDone>,
}

impl Real {
    fn open(dir: &Path, back: Back) -> Result<Real, String> {
        let any = "127.0.0.1:0".parse().expect("an address");
        let bound = bind(any, 1, Steer::Kernel).map_err(|why| why.to_string())?;
        let socket = bound.sockets.into_iter().next().ok_or("no socket")?;
        let config = DriverConfig {
            choice: match back {
                Back::Uring => DriverChoice::Uring,
                Back::Mio => DriverChoice::Mio,
            },
            receive_buffers: 2,
            receive_buffers_max: 2,
            send_slots: 1,
            spin: Duration::ZERO,
            unreached: pangea_reactor::Unreached::Ignored,
            data_dir: Some(dir.to_path_buf()),
        };
        let driver = Driver::open(&config, socket).map_err(|why| why.to_string())?;
        Ok(Real { driver, waiting: VecDeque::new(), in_flight: 0, ended: VecDeque::new() })
    }

    /// Gives the driver as much as it takes.
    fn feed(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            if let Err(request) = self.driver.submit(request) {
                self.waiting.push_front(request);
                return;
            }
            self.in_flight += 1;
        }
    }
}

impl Medium for Real {
    fn submit(&mut self, request: FileRequest) {
        self.waiting.push_back(request);
    }

    fn step(&mut self) -> Option<FileDone> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = self.ended.pop_front() {
                return Some(done);
            }
            self.feed();
            if self.in_flight == 0 {
                return None;
            }
            assert!(Instant::now() < give_up, "a file operation has not ended after {PATIENCE:?}");
            let Real { driver, ended, in_flight, .. } = self;
            let polled = driver.poll(Some(give_up), Park::Block, &mut |event| {
                if let Driven::File(done) = event {
                    *in_flight -= 1;
                    ended.push_back(done);
                }
            });
            polled.unwrap_or_else(|why| panic!("the driver is broken: {why}"));
        }
    }
}

/// A back end of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Back {
    Uring,
    Mio,
}

impl Back {
    fn name(self) -> &'static str {
        match self {
            Back::Uring => "uring",
            Back::Mio => "mio",
        }
    }
}

/// What came of a directory and a back end.
#[derive(Default)]
struct Replayed {
    images: u64,
    /// Seed and workload of what did not hold.
    failure: Option<(u64, u64, Failure)>,
}

/// Opens images on a fresh file system of each kind that can be had here. Each is in a process of
/// its own, which prints what it found.
pub fn on_file_systems(options: &Options) -> bool {
    let (mut held, mut skipped, mut failed) = (0, 0, 0);
    for kind in &options.file_systems {
        match on_file_system(kind, options) {
            Ok(true) => held += 1,
            Ok(false) => {
                failed += 1;
                eprintln!("with --file-systems {kind} in the place of --replay-on, on a fresh one");
            }
            Err(why) => {
                skipped += 1;
                match options.json {
                    true => println!(r#"{{"file_system":{kind:?},"skipped":{why:?}}}"#),
                    false => println!("{kind}: SKIPPED: {why}"),
                }
            }
        }
    }
    if !options.json {
        println!("file systems: {held} held, {failed} failed, {skipped} skipped");
    }
    failed == 0
}

/// Opens images below each directory, with each back end.
pub fn on_directories(options: &Options) -> bool {
    let mut held = true;
    for dir in &options.replay_on {
        for back in [Back::Uring, Back::Mio] {
            if options.driver.is_some_and(|only| only != back) {
                continue;
            }
            match uring_available() {
                Err(why) if back == Back::Uring => {
                    say(options, dir, back, &format!("SKIPPED: {why}"));
                    continue;
                }
                _ => {}
            }
            let begun = Instant::now();
            let replayed = replay(dir, back, options);
            let seconds = begun.elapsed().as_secs_f64();
            report(options, dir, back, &replayed, seconds);
            held &= replayed.failure.is_none() && replayed.images > 0;
        }
    }
    held
}

fn report(options: &Options, dir: &Path, back: Back, replayed: &Replayed, seconds: f64) {
    let images = replayed.images;
    let Some((seed, number, failure)) = &replayed.failure else {
        let rate = images as f64 / seconds.max(0.001);
        return say(options, dir, back, &format!("{images} images held, {rate:.0} images/s"));
    };
    say(options, dir, back, &format!("FAILED in image {images}: {}", failure.what));
    let (again, dir, back) = (failure.again(*seed, *number), dir.display(), back.name());
    eprintln!("again: {again} --replay-on {dir} --driver {back}");
}

/// A line for people, or an object for machines.
fn say(options: &Options, dir: &Path, back: Back, what: &str) {
    let (dir, back) = (dir.display().to_string(), back.name());
    match options.json {
        true => println!(r#"{{"directory":{dir:?},"driver":"{back}","result":{what:?}}}"#),
        false => println!("{dir}, {back}: {what}"),
    }
}

/// Writes images below `dir`, one after the other, and opens each.
fn replay(dir: &Path, back: Back, options: &Options) -> Replayed {
    let mut replayed = Replayed::default();
    for place in 0.. {
        if replayed.images >= options.images || replayed.failure.is_some() {
            break;
        }
        let (seed, number) = match options.workload {
            Some(number) => (options.seed, number),
            None => order(options.seed, place),
        };
        let failure = workload(dir, back, options, (seed, number), &mut replayed.images);
        replayed.failure = failure.map(|failure| (seed, number, failure));
        if options.workload.is_some() {
            break;
        }
    }
    replayed
}

/// Some images of one workload.
fn workload(
    dir: &Path,
    back: Back,
    options: &Options,
    (seed, number): (u64, u64),
    count: &mut u64,
) -> Option<Failure> {
    let lived = match live_numbered(seed, number) {
        Ok((_, lived)) => lived,
        Err(what) => return Some(Failure { what, cut: None }),
    };
    for (moment, way, image) in images(&lived, options, seed ^ number) {
        if *count >= options.images {
            return None;
        }
        *count += 1;
        let opened = catch_unwind(AssertUnwindSafe(|| one(dir, back, &lived, moment, image)));
        let opened = opened.unwrap_or_else(|panic| Err(format!("a panic: {}", text_of(&*panic))));
        if let Err(what) = opened {
            return Some(Failure { what, cut: Some((moment, way)) });
        }
    }
    None
}

fn images(lived: &Lived, options: &Options, seed: u64) -> Vec<(usize, Way, Image)> {
    let mut random = entropy(seed, 4);
    let moments = (lived.disk.moment() - lived.start) as u64 + 1;
    let chosen: Vec<usize> =
        (0..PER_WORKLOAD).map(|_| lived.start + random.below(moments) as usize).collect();
    let mut images = Vec::new();
    lived.disk.crash(
        |moment, unsynced| match options.moment.zip(options.survivors) {
            Some((at, way)) if at == moment => vec![way.0],
            Some(_) => Vec::new(),
            None => {
                let count = chosen.iter().filter(|chosen| **chosen == moment).count();
                some_ways(&mut random, unsynced, count)
            }
        },
        |moment, survivors, image| images.push((moment, Way(survivors), image)),
    );
    images
}

/// Opens an image twice, puts something into it, and opens it once more. Each time it must hold
/// what the simulated disk's recovery found.
fn one(dir: &Path, back: Back, lived: &Lived, moment: usize, image: Image) -> Result<(), String> {
    write(dir, &image).map_err(|why| format!("an image cannot be written: {why}"))?;
    let plain = Rigour { twice: false, nested: false };
    let mut checker = Checker::new(moment as u64, lived.now);
    let mut expected = checker.check(&lived.history, moment, image, plain)?;
    for last in [false, true] {
        let mut rig = opened(dir, back, lived.now, &expected)?;
        if last {
            expected.extend(put(&mut rig)?);
        }
    }
    opened(dir, back, lived.now, &expected).map(|_| ())
}

fn opened(dir: &Path, back: Back, now: UnixTime, expected: &State) -> Result<Rig<Real>, String> {
    let mut rig = Rig::start(Real::open(dir, back)?, pool(8), now);
    let state = recover(&mut rig).map_err(|why| format!("on real files: {why}"))?;
    match state == *expected {
        true => Ok(rig),
        false => Err("on real files it holds something else".to_owned()),
    }
}

/// What was put, if the store had room.
fn put(rig: &mut Rig<Real>) -> Result<State, String> {
    let key = ShardKey { locator: EXTRA, chunk: ChunkNumber(0), index: ShardIndex(1) };
    let bytes = [7; 20_000];
    let meta = ShardMeta {
        owner: OWNER,
        code: code(),
        lease: UnixTime(u64::MAX),
        length_max: bytes.len() as u64,
    };
    let Ok(id) = rig.put_soon(key, meta, &bytes, |_| {}) else { return Ok(State::new()) };
    rig.settle();
    match rig.events.iter().any(|event| matches!(event, Event::Stored { id: i, .. } if *i == id)) {
        true => Ok(State::from([(Key::Shard(key), (Hash::of(&bytes), bytes.len() as u64))])),
        false => Err(format!("a put on real files: {:?}", rig.events)),
    }
}

/// Makes `dir` hold this image and nothing else of a store.
fn write(dir: &Path, image: &Image) -> io::Result<()> {
    match fs::remove_dir_all(dir.join("store")) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    for (name, bytes) in image {
        let path = dir.join(name.as_str());
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// The same on a fresh file system of this kind; `Err` says why there can be none here. Only the
/// process that uses the mount sees it, and it ends with that process, however that ends.
fn on_file_system(kind: &str, options: &Options) -> Result<bool, String> {
    let words = |why: io::Error| why.to_string();
    let dir = tempfile::tempdir().map_err(words)?;
    let (file, mount) = (dir.path().join("loop"), dir.path().join(kind));
    fs::create_dir(&mount).map_err(words)?;
    fs::File::create(&file).and_then(|file| file.set_len(LOOP_BYTES)).map_err(words)?;
    make(kind, &file)?;
    let script = format!(r#"mount -o loop "$1" "$2" || exit {NOT_MOUNTED}; shift 2; exec "$@""#);
    let mut child = Command::new("unshare");
    child.args(["--mount", "sh", "-c", &script, "sh"]).args([&file, &mount]);
    child.arg(std::env::current_exe().map_err(words)?).args(["crash", "--replay-on"]).arg(&mount);
    child.args(["--images", &options.images.to_string(), "--seed", &options.seed.to_string()]);
    child.args(options.driver.map(|back| format!("--driver={}", back.name())));
    child.args(options.json.then_some("--json"));
    if let Some((workload, cut)) = options.only() {
        child.arg(format!("--workload={workload}"));
        if let Some((moment, way)) = cut {
            child.args([format!("--moment={moment}"), format!("--survivors={way}")]);
        }
    }
    match child.status().map_err(|why| format!("unshare: {why}"))?.code() {
        Some(0) => Ok(true),
        Some(NOT_MOUNTED) => Err("it cannot be mounted here".to_owned()),
        _ => Ok(false),
    }
}

fn make(kind: &str, file: &Path) -> Result<(), String> {
    let program = format!("mkfs.{kind}");
    match Command::new(&program).arg("-q").arg(file).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(why) => Err(format!("{program}: {why}")),
    }
}
