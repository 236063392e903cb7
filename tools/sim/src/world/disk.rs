//! A machine's disk: it takes its time, does things in another order, fails and lies as its
//! character says, and remembers over restarts what a disk remembers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pangea_base::Entropy;
use pangea_base::file::{FileDone, FileFault, FileOp, FileRequest};
use pangea_store::sim::{Disk, Mishap, Survivors};

use super::log::Log;

/// What goes wrong, in ten-thousandths of the operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Character {
    pub read_fails: u64,
    pub write_fails: u64,
    pub sync_fails: u64,
    pub read_flipped: u64,
    pub read_elsewhere: u64,
    pub read_short: u64,
    pub write_flipped: u64,
    pub write_elsewhere: u64,
    pub write_lost: u64,
    /// Its usual time for an operation is below this.
    pub micros: u64,
}

/// The disk of one machine, used by all its cores.
pub struct NodeDisk {
    disk: Disk,
    pub character: Character,
    mishap: Rc<Cell<Option<Mishap>>>,
    // Waiting for their time: the core that asked, and what.
    waiting: BTreeMap<(Instant, u64), (u8, FileRequest)>,
    sequence: u64,
    // Times slower, until then.
    slow: Option<(u64, Instant)>,
    chance: Entropy,
}

impl NodeDisk {
    pub fn new(mut chance: Entropy, character: Character) -> NodeDisk {
        NodeDisk {
            disk: Disk::without_history(chance.u64()),
            character,
            mishap: Rc::default(),
            waiting: BTreeMap::new(),
            sequence: 0,
            slow: None,
            chance,
        }
        .listening()
    }

    fn listening(mut self) -> NodeDisk {
        let mishap = self.mishap.clone();
        self.disk.set_mishaps(move |_, _| mishap.take());
        self
    }

    /// A core asks for something.
    pub fn submit(&mut self, now: Instant, core: u8, request: FileRequest) {
        let slower = self.slow.filter(|(_, until)| *until > now).map_or(1, |(times, _)| times);
        let micros = 20 + self.chance.below(self.character.micros.max(1)) * slower;
        self.sequence += 1;
        self.waiting.insert((now + Duration::from_micros(micros), self.sequence), (core, request));
    }

    /// When the next operation ends.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next operation that has ended by now, and whose it is.
    pub fn ended(&mut self, now: Instant, log: &mut Log) -> Option<(u8, FileDone)> {
        let entry = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        let (core, request) = entry.remove();
        let mishap = self.draw(&request.op, log);
        self.mishap.set(mishap);
        self.disk.submit(request);
        let done = self.disk.step().expect("one was submitted");
        self.mishap.set(None);
        if done.result == Err(FileFault::NoSpace) {
            log.count("disk full");
        }
        Some((core, done))
    }

    fn draw(&mut self, op: &FileOp, log: &mut Log) -> Option<Mishap> {
        let c = self.character;
        let (name, mishap) = match op {
            FileOp::Read { .. } => self.one_of(&[
                (c.read_fails, "read error", Mishap::Fail(broken())),
                (c.read_flipped, "read with a flipped bit", Mishap::FlipRead),
                (c.read_elsewhere, "read from elsewhere", Mishap::MisdirectRead),
                (c.read_short, "short read", Mishap::ShortRead),
            ])?,
            FileOp::Write { .. } => self.one_of(&[
                (c.write_fails, "write error", Mishap::Fail(broken())),
                (c.write_flipped, "written with a flipped bit", Mishap::FlipWrite),
                (c.write_elsewhere, "written elsewhere", Mishap::MisdirectWrite),
                (c.write_lost, "lost after sync said yes", Mishap::LoseWrite),
            ])?,
            FileOp::Sync { .. } => {
                self.one_of(&[(c.sync_fails, "sync error", Mishap::Fail(broken()))])?
            }
            _ => return None,
        };
        log.count(name);
        Some(mishap)
    }

    fn one_of(
        &mut self,
        choices: &[(u64, &'static str, Mishap)],
    ) -> Option<(&'static str, Mishap)> {
        for (share, name, mishap) in choices {
            if *share > 0 && self.chance.below(10_000) < *share {
                return Some((name, mishap.clone()));
            }
        }
        None
    }

    /// It is so many times slower until then.
    pub fn slow_down(&mut self, times: u64, until: Instant) {
        self.slow = Some((times, until));
    }

    /// It is full as it is now, or (`false`) has room again.
    pub fn fill(&mut self, full: bool) {
        let bytes = if full { self.disk.bytes_taken() } else { u64::MAX };
        self.disk.set_capacity(bytes);
    }

    /// The process is gone; what it wrote is there.
    pub fn kill(&mut self) {
        self.waiting.clear();
        self.disk.kill();
    }

    /// The power is gone: what was not synced may be, too.
    pub fn power_cut(&mut self) {
        self.waiting.clear();
        let survivors = match self.chance.below(8) {
            0 => Survivors::None,
            1 => Survivors::All,
            2 => Survivors::Torn { part: self.chance.below(8) as usize, unit: 512 },
            3 => Survivors::Torn { part: self.chance.below(8) as usize, unit: 4096 },
            _ => Survivors::Random(self.chance.u64()),
        };
        self.disk.power_cut(survivors);
    }

    /// An empty disk in its place.
    pub fn reformat(&mut self) {
        let seed = self.chance.u64();
        self.waiting.clear();
        self.disk = Disk::without_history(seed);
        let mishap = self.mishap.clone();
        self.disk.set_mishaps(move |_, _| mishap.take());
    }

    /// Nothing goes wrong with it any more.
    pub fn heal(&mut self) {
        self.character = Character { micros: self.character.micros, ..Character::default() };
        self.slow = None;
        self.fill(false);
    }

    /// The name of a file in which `needle` stands.
    pub fn find(&self, needle: &[u8]) -> Option<String> {
        let mut files = self.disk.files();
        let found = files.find(|(_, bytes)| memchr::memmem::find(bytes, needle).is_some());
        found.map(|(name, _)| name.as_str().to_owned())
    }

    /// Operations that are under way.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Files that the process has open.
    pub fn open_files(&self) -> usize {
        self.disk.open_files()
    }
}

fn broken() -> FileFault {
    FileFault::Other { errno: 5, text: "Input/output error".to_owned() }
}

/// What disks do.
pub const FAULTS: [&str; 10] = [
    "read error",
    "read with a flipped bit",
    "read from elsewhere",
    "short read",
    "write error",
    "written with a flipped bit",
    "written elsewhere",
    "lost after sync said yes",
    "sync error",
    "disk full",
];
