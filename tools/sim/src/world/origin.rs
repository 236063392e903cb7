//! An origin's control thread: it runs one put, get or stat after the other on its cores, with the
//! client's real machines.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pangea_base::{Code, Entropy, Page, PagePool, PeerAddr, PeerId};
use pangea_ces::plan::{CompressionChoice, Cpu, Situation};
use pangea_engine::client::{
    Get, GetError, GetOutcome, GetSpec, GetWants, Numbers, Put, PutError, PutOutcome, PutSource,
    PutSpec, PutWants, Stat, StatOutcome, Trouble,
};
use pangea_wire::{Label, Link};

use super::machine::Process;
use super::network::{CANARY, Place};

/// How often control looks at the clock, as the client's does.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes of plaintext pages that control reads ahead.
const STREAM_PAGES: u32 = 512;

/// What an object is made of: enough to make its bytes again.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub seed: u64,
    pub bytes: usize,
    /// Most of it compresses.
    pub is_text: bool,
    /// It is kept for minutes only, and nobody wants it back.
    pub is_brief: bool,
}

impl Content {
    /// The bytes; the canary stands in every 4 KiB of them.
    pub fn make(&self) -> Vec<u8> {
        let mut seed = [0x5e; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut bytes = vec![0; self.bytes];
        let mut chance = Entropy::new(seed);
        if self.is_text {
            let words = chance.array::<64>();
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = words[(at / 3 + at % 7) % 64];
            }
        } else {
            chance.fill(&mut bytes);
        }
        for block in bytes.chunks_mut(4096).filter(|block| block.len() >= CANARY.len()) {
            block[..CANARY.len()].copy_from_slice(CANARY);
        }
        bytes
    }
}

/// What an origin does.
pub enum Job {
    Put { put: Box<Put>, content: Content, bytes: Vec<u8>, fed: usize },
    Get { get: Box<Get>, object: usize, want: Vec<u8>, got: usize, is_wrong: bool },
    Stat { stat: Box<Stat>, object: usize },
}

/// How it ended.
pub enum Ended {
    Put(Content, Result<PutOutcome, PutError>, Vec<Trouble>),
    Get {
        object: usize,
        result: Result<GetOutcome, GetError>,
        /// All bytes came, and no other ones.
        is_whole: bool,
        /// Something came that is not what was put.
        is_wrong: bool,
        troubles: Vec<Trouble>,
        bad: Vec<Trouble>,
    },
    Stat(usize, Result<StatOutcome, GetError>),
}

/// Something under way, and what may be held against it.
pub struct Work {
    pub job: Job,
    pub began: Instant,
    pub ends_by: Instant,
    /// Machines that were hurt while it ran.
    pub hurt: BTreeSet<Place>,
    /// How many may be.
    pub tolerates: usize,
}

/// An origin.
pub struct Origin {
    pub place: Place,
    pub work: Option<Work>,
    /// When it begins the next.
    pub next: Instant,
    /// When it looks at its work again.
    pub looks: Instant,
    /// It would put something, but too much is hurt.
    pub waits: bool,
    pages: PagePool,
    numbers: Numbers,
}

/// How an object is to be put.
#[derive(Clone, Debug)]
pub struct PutPlan {
    pub peers: Vec<PeerAddr>,
    pub owner: PeerId,
    pub lease_seconds: u64,
    pub code: Option<Code>,
    pub budget: u64,
    pub cores: u8,
    pub content: Content,
    pub label: Option<Label>,
    pub compression: CompressionChoice,
}

impl Origin {
    pub fn new(place: Place, next: Instant) -> Origin {
        let pages = PagePool::new(128 << 10, STREAM_PAGES);
        Origin {
            place,
            work: None,
            next,
            looks: next,
            waits: false,
            pages,
            numbers: Numbers::default(),
        }
    }

    /// Its process is gone, and with it what it was doing.
    pub fn lost(&mut self) -> Option<Work> {
        self.numbers = Numbers::default();
        self.waits = false;
        self.work.take()
    }

    /// Begins a put.
    pub fn put(&mut self, node_now: Instant, plan: PutPlan, entropy: Entropy) -> Job {
        let spec = PutSpec {
            peers: plan.peers,
            code: plan.code,
            situation: situation(plan.cores, plan.budget, plan.compression),
            owner: plan.owner,
            lease_seconds: plan.lease_seconds,
            label: plan.label,
            source: PutSource::Stream,
            cores: plan.cores,
        };
        let put = Put::new(node_now, spec, entropy, std::mem::take(&mut self.numbers));
        let (content, bytes) = (plan.content, plan.content.make());
        Job::Put { put: Box::new(put), content, bytes, fed: 0 }
    }

    /// Begins a get.
    pub fn get(
        &mut self,
        link: &Link,
        peers: Vec<PeerAddr>,
        cores: u8,
        object: usize,
        content: Content,
    ) -> Job {
        let spec = GetSpec { link, peers, output: None, cores, memory_bytes: 64 << 20 };
        let get = Get::new(spec, std::mem::take(&mut self.numbers));
        let Ok(get) = get else { panic!("a link of our own reads") };
        Job::Get { get: Box::new(get), object, want: content.make(), got: 0, is_wrong: false }
    }

    /// Begins a stat.
    pub fn stat(&mut self, link: &Link, peers: &[PeerAddr], cores: u8, object: usize) -> Job {
        let stat = Stat::new(link, peers, cores, std::mem::take(&mut self.numbers));
        Job::Stat { stat: Box::new(stat), object }
    }

    /// Carries what the machine wants to the cores and what they say to the machine.
    pub fn run(&mut self, now: Instant, node_now: Instant, process: &mut Process) -> Option<Ended> {
        self.looks = now + LOOK_EVERY;
        process.run_control(now);
        let Some(work) = &mut self.work else {
            while process.report().is_some() {}
            return None;
        };
        let ended = match &mut work.job {
            Job::Put { put, content, bytes, fed } => {
                while let Some(report) = process.report() {
                    put.handle(report);
                }
                put.tick(node_now);
                let result = carry_put(now, put, process, &self.pages, bytes, fed)?;
                Ended::Put(*content, result, std::mem::take(&mut put.troubles))
            }
            Job::Get { get, object, want, got, is_wrong } => {
                while let Some(report) = process.report() {
                    get.handle(report);
                }
                let result = carry_get(now, get, process, want, got, is_wrong)?;
                let (troubles, bad) =
                    (std::mem::take(&mut get.troubles), std::mem::take(&mut get.bad_holders));
                let is_whole = *got == want.len() && !*is_wrong;
                Ended::Get { object: *object, result, is_whole, is_wrong: *is_wrong, troubles, bad }
            }
            Job::Stat { stat, object } => {
                while let Some(report) = process.report() {
                    stat.handle(report);
                }
                while let Some((core, command)) = stat.poll() {
                    process.command(now, core, command);
                }
                Ended::Stat(*object, stat.outcome()?)
            }
        };
        Some(ended)
    }

    /// Takes the work that ended back.
    pub fn finish(&mut self) -> Work {
        self.work.take().expect("it ended, so it was there")
    }

    /// Keeps the numbers of the machine that ended, so that the next one's are others.
    pub fn keep_numbers(&mut self, job: Job) {
        self.numbers = match job {
            Job::Put { put, .. } => put.into_numbers(),
            Job::Get { get, .. } => get.into_numbers(),
            Job::Stat { stat, .. } => stat.into_numbers(),
        };
    }

    /// What it is doing, for whoever wonders why it takes so long.
    pub fn stage(&self) -> String {
        match self.work.as_ref().map(|work| &work.job) {
            Some(Job::Put { put, .. }) => format!("put: {}", put.stage()),
            Some(Job::Get { get, .. }) => format!("get: {}", get.stage()),
            Some(Job::Stat { .. }) => "stat".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    /// No page is out.
    pub fn pages_out(&self) -> u32 {
        self.pages.pages_max() - self.pages.available()
    }
}

fn carry_put(
    now: Instant,
    put: &mut Put,
    process: &mut Process,
    pool: &PagePool,
    bytes: &[u8],
    fed: &mut usize,
) -> Option<Result<PutOutcome, PutError>> {
    while let Some(wants) = put.poll() {
        match wants {
            PutWants::Command(core, command) => process.command(now, core, command),
            PutWants::Chunk(length) => {
                let end = bytes.len().min(*fed + length as usize);
                put.feed(pages_of(pool, &bytes[*fed..end]));
                *fed = end;
            }
            PutWants::Done(done) => {
                while let Some((core, command)) = put.poll_command() {
                    process.command(now, core, command);
                }
                return Some(*done);
            }
        }
    }
    None
}

fn carry_get(
    now: Instant,
    get: &mut Get,
    process: &mut Process,
    want: &[u8],
    got: &mut usize,
    is_wrong: &mut bool,
) -> Option<Result<GetOutcome, GetError>> {
    while let Some(wants) = get.poll() {
        match wants {
            GetWants::Command(core, command) => process.command(now, core, command),
            GetWants::Plain(page) => {
                let expected = want.get(*got..*got + page.len());
                *is_wrong |= expected != Some(&page[..]);
                *got += page.len();
            }
            GetWants::Done(done) => {
                while let Some(GetWants::Command(core, command)) = get.poll() {
                    process.command(now, core, command);
                }
                return Some(*done);
            }
        }
    }
    None
}

fn pages_of(pool: &PagePool, bytes: &[u8]) -> Vec<Page> {
    let page = |part: &[u8]| {
        let mut page = pool.take().expect("an origin has pages for the largest object");
        page.whole_mut()[..part.len()].copy_from_slice(part);
        page.set_len(part.len());
        page
    };
    bytes.chunks(128 << 10).map(page).collect()
}

fn situation(cores: u8, budget_bytes: u64, compression: CompressionChoice) -> Situation {
    Situation {
        bandwidth: None,
        load_percent: 0,
        object_bytes: None,
        memory_usable_bytes: 1 << 30,
        budget_bytes,
        holders: 0,
        cpu: Cpu { cores: usize::from(cores), wide_aes: true },
        code: None,
        suite: pangea_ces::SuiteChoice::XChaCha,
        compression,
        padding: pangea_ces::Padding::Off,
        previous: None,
    }
}

/// Whom a result blames, in words.
pub fn named(troubles: &[Trouble], name: impl Fn(&PeerId) -> String) -> String {
    let line = |(peer, why): &Trouble| format!("{}: {why}", name(peer));
    troubles.iter().map(line).collect::<Vec<_>>().join("; ")
}
