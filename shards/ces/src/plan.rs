//! How an object should be encoded here and now: a pure function of what was measured (PD-01,
//! PD-10, PD-11, PD-12).
//!
//! Bandwidth and load are sorted into bands; everything follows from the bands, the object's
//! size, the tier of memory and the budget. Between two objects a band changes only when the
//! measurement has left it clearly, so the plan does not flap.

use pangea_base::Code;

use crate::format::{self, SEGMENT_BYTES_MAX, SEGMENT_BYTES_SMALL, UNIT_BYTES};
use crate::{ChunkPlan, Compression, Padding, Suite, SuiteChoice};

/// Chunk sizes are multiples of this, but for objects smaller than it.
pub const CHUNK_STEP_BYTES: u64 = 1 << 20;
/// What a client may hold of encoded chunks until the receipts are there.
pub const CLIENT_BUDGET_BYTES: u64 = 128 << 20;
/// Up to this size a chunk has small segments: a few of them, not one or two.
pub const SMALL_CHUNK_BYTES: u64 = 256 << 10;
/// The most chunks of one object under way at once.
pub const PARALLELISM_MAX: usize = 256;

/// Memory tiers: usable bytes (cgroup aware) from which on a chunk may have this many bytes.
/// One table (PD-10): a 16 GB host, which has a little under 16 GiB to use, is in the first tier.
pub const TIERS: [(u64, u64); 3] = [(15 << 30, 100 << 20), (7 << 29, 10 << 20), (0, 1 << 20)];

/// Bytes per second at which the bandwidth bands begin: 10 Mbit/s, 100 Mbit/s, 1 and 10 Gbit/s.
const BANDWIDTH_BANDS: [u64; 4] = [1_250_000, 12_500_000, 125_000_000, 1_250_000_000];
/// Percent at which the load bands begin.
const LOAD_BANDS: [u64; 2] = [50, 85];
/// A band is left when the bandwidth is this many percent beyond its edge …
const BANDWIDTH_SLACK_PERCENT: u64 = 20;
/// … and the load this many points.
const LOAD_SLACK_POINTS: u64 = 5;

/// The chunk size to aim at in each bandwidth band, slowest first.
const TARGET_BYTES: [u64; 5] = [100 << 20, 64 << 20, 16 << 20, 8 << 20, 4 << 20];
/// What zstd level 1 does on one core, bytes per second (facts/codecs.md section 2).
const LEVEL_1_BYTES_PER_SECOND: u64 = 450_000_000;
/// Percent of a core that a load band leaves free.
const FREE_PERCENT: [u64; 3] = [75, 33, 10];
/// A bandwidth in the middle of each band, bytes per second.
const BAND_MIDDLE: [u64; 5] = [600_000, 4_000_000, 40_000_000, 400_000_000, 2_000_000_000];

const _: () = assert!(TIERS[0].1 <= format::CHUNK_BYTES_MAX);

/// What the CPU is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Cores that run an engine.
    pub cores: usize,
    /// Whether AES-GCM is far faster than ChaCha20 ([`Cpu::detect`]).
    pub wide_aes: bool,
}

impl Cpu {
    /// Asks this CPU.
    pub fn detect(cores: usize) -> Cpu {
        Cpu { cores, wide_aes: pangea_code::wide_aes() }
    }
}

/// Which compression the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionChoice {
    /// The level that suits bandwidth and load.
    Auto,
    /// None, so that sizes tell nothing (PD-29).
    Off,
    /// This zstd level; it is brought into the range that [`Compression`] allows, and 0 means 1.
    Level(i8),
}

/// Everything that the plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// B: bytes per second towards the holders, as measured; `None` when nothing was yet.
    pub bandwidth: Option<u64>,
    /// C: how busy the cores are with other things, in percent; more than 100 counts as 100.
    pub load_percent: u8,
    /// S: the object's size; `None` for a stream.
    pub object_bytes: Option<u64>,
    /// Memory that this process may use, cgroup limits included.
    pub memory_usable_bytes: u64,
    /// What may be held of encoded chunks until the receipts are there; see
    /// [`CLIENT_BUDGET_BYTES`].
    pub budget_bytes: u64,
    /// Distinct holders that would take shards.
    pub holders: usize,
    /// The CPU.
    pub cpu: Cpu,
    /// The code that the user set, if any.
    pub code: Option<Code>,
    /// The suite that the user wants.
    pub suite: SuiteChoice,
    /// The compression that the user wants.
    pub compression: CompressionChoice,
    /// The padding that the user wants.
    pub padding: Padding,
    /// The plan of the object before this one: what hysteresis holds on to.
    pub previous: Option<Plan>,
}

/// How to encode an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Plaintext bytes of every chunk but the last; at least 1.
    pub chunk_bytes: u64,
    /// Data and parity shards.
    pub code: Code,
    /// The compression.
    pub compression: Compression,
    /// The suite.
    pub suite: Suite,
    /// Plaintext bytes of a segment.
    pub segment_bytes: u32,
    /// The padding.
    pub padding: Padding,
    /// Chunks of the object under way at once, over all cores.
    pub parallelism: usize,
    /// Where the bandwidth was, 0 (slowest) to 4.
    pub bandwidth_band: u8,
    /// Where the load was, 0 (idle) to 2.
    pub load_band: u8,
}

impl Plan {
    /// The part that an [`Encoder`](crate::Encoder) needs.
    pub fn chunk_plan(&self) -> ChunkPlan {
        ChunkPlan {
            suite: self.suite,
            code: self.code,
            segment_bytes: self.segment_bytes,
            compression: self.compression,
            padding: self.padding,
        }
    }

    /// Memory that the plan's chunks hold between encode and receipt, at most.
    pub fn held_bytes_max(&self) -> u64 {
        let one = held_bytes(self.chunk_bytes, self.code, self.segment_bytes, self.padding);
        one.saturating_mul(self.parallelism as u64)
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefused {
    /// Nobody to store at.
    #[error("there is no holder to store at")]
    NoHolders,
    /// The user's code wants more holders than there are; one shard of a chunk per holder.
    #[error("the code needs {shards} holders, one for each shard, and there are {holders}")]
    TooFewHolders {
        /// `n` of the code.
        shards: usize,
        /// Holders that there are.
        holders: usize,
    },
    /// Not even one chunk of the least size fits the budget.
    #[error("one chunk's shards take {needed} bytes of memory and the budget is {budget}")]
    BudgetTooSmall {
        /// Bytes that one least chunk holds.
        needed: u64,
        /// The budget given.
        budget: u64,
    },
}

/// The plan for `situation`. Lower bandwidth or higher load never gives smaller chunks or more
/// of them at once.
pub fn plan(situation: &Situation) -> Result<Plan, PlanRefused> {
    let code = code(situation)?;
    let bandwidth_band = bandwidth_band(situation);
    let load_band = load_band(situation);
    let tier_bytes = tier_bytes(situation.memory_usable_bytes);
    let (segment_bytes, padding) = (segment_bytes(situation, tier_bytes), situation.padding);
    let held = |chunk: u64| held_bytes(chunk, code, segment_bytes, padding);
    let budget = situation.budget_bytes;

    let object = situation.object_bytes.map(|bytes| bytes.max(1));
    let least = object.map_or(CHUNK_STEP_BYTES, |bytes| bytes.min(CHUNK_STEP_BYTES));
    if held(least) > budget {
        return Err(PlanRefused::BudgetTooSmall { needed: held(least), budget });
    }
    let wanted = parallelism(situation.cpu.cores, bandwidth_band, load_band);
    let fitting = usize::try_from(budget / held(least)).unwrap_or(usize::MAX);
    let parallel = wanted.min(fitting).max(1);

    let mut chunk = target_bytes(bandwidth_band, load_band).min(tier_bytes);
    if let Some(object) = object {
        // Every core should get a part of it.
        chunk = chunk.min(object.div_ceil(parallel as u64).next_multiple_of(CHUNK_STEP_BYTES));
        if object < CHUNK_STEP_BYTES {
            chunk = object;
        }
    }
    let share = budget / parallel as u64;
    while held(chunk) > share {
        chunk -= CHUNK_STEP_BYTES;
    }
    let chunks = object.map_or(u64::MAX, |object| object.div_ceil(chunk));
    Ok(Plan {
        chunk_bytes: chunk,
        code,
        compression: compression(situation, bandwidth_band, load_band),
        suite: suite(situation),
        segment_bytes: if chunk <= SMALL_CHUNK_BYTES { SEGMENT_BYTES_SMALL } else { segment_bytes },
        padding,
        parallelism: parallel.min(usize::try_from(chunks).unwrap_or(usize::MAX)),
        bandwidth_band: bandwidth_band as u8,
        load_band: load_band as u8,
    })
}

fn code(situation: &Situation) -> Result<Code, PlanRefused> {
    let holders = situation.holders;
    let usual = Code::for_holders(holders).ok_or(PlanRefused::NoHolders)?;
    match situation.code {
        Some(code) if code.n() > holders => {
            Err(PlanRefused::TooFewHolders { shards: code.n(), holders })
        }
        Some(code) => Ok(code),
        None => Ok(usual),
    }
}

fn tier_bytes(usable: u64) -> u64 {
    let tier = TIERS.iter().find(|(from, _)| usable >= *from);
    tier.map_or(CHUNK_STEP_BYTES, |(_, bytes)| *bytes)
}

fn segment_bytes(situation: &Situation, tier_bytes: u64) -> u32 {
    let small_object = situation.object_bytes.is_some_and(|bytes| bytes <= SMALL_CHUNK_BYTES);
    match tier_bytes <= CHUNK_STEP_BYTES || small_object {
        true => SEGMENT_BYTES_SMALL,
        false => SEGMENT_BYTES_MAX,
    }
}

/// Memory of one encoded chunk: n shards, in pages of 16 KiB.
fn held_bytes(chunk: u64, code: Code, segment_bytes: u32, padding: Padding) -> u64 {
    let tight = format::shard_bytes(format::sealed_bytes_max(chunk, segment_bytes), code);
    let shard = match padding {
        Padding::Off => tight,
        Padding::SizeClass => format::size_class(tight),
    };
    shard.next_multiple_of(UNIT_BYTES as u64) * code.n() as u64
}

/// How many of `edges` lie at or below `value`; the previous band if `value` has not clearly
/// left it.
fn band(value: u64, edges: &[u64], slack: impl Fn(u64) -> (u64, u64), before: Option<u8>) -> usize {
    let of = |value: u64| edges.partition_point(|&edge| edge <= value);
    let (low, high) = slack(value);
    match before.map(usize::from) {
        Some(before) if (of(low)..=of(high)).contains(&before) => before,
        _ => of(value),
    }
}

fn bandwidth_band(situation: &Situation) -> usize {
    // Nothing measured yet: neither end of the range.
    let bandwidth = situation.bandwidth.unwrap_or(BAND_MIDDLE[2]);
    let slack = |value: u64| {
        let slack = value / 100 * BANDWIDTH_SLACK_PERCENT;
        (value - slack, value.saturating_add(slack))
    };
    let before = situation.previous.map(|plan| plan.bandwidth_band);
    band(bandwidth, &BANDWIDTH_BANDS, slack, before)
}

fn load_band(situation: &Situation) -> usize {
    let slack = |value: u64| (value.saturating_sub(LOAD_SLACK_POINTS), value + LOAD_SLACK_POINTS);
    let before = situation.previous.map(|plan| plan.load_band);
    band(u64::from(situation.load_percent.min(100)), &LOAD_BANDS, slack, before)
}

/// Each load band doubles the chunk: fewer, longer runs disturb a busy machine less.
fn target_bytes(bandwidth_band: usize, load_band: usize) -> u64 {
    TARGET_BYTES[bandwidth_band] << load_band
}

/// From 1 Gbit/s on two chunks per core, so that a core has work while a chunk's last bytes are
/// on their way; one or two in all where the network is the limit anyway.
fn parallelism(cores: usize, bandwidth_band: usize, load_band: usize) -> usize {
    let cores = cores.max(1);
    let wanted = match (bandwidth_band, load_band) {
        (0..=1, 0) => 2,
        (0..=1, _) => 1,
        (2, 0) => cores.max(2),
        (2, 1) => cores.div_ceil(2),
        (2, _) => 1,
        (_, 0..=1) => 2 * cores,
        (_, _) => cores,
    };
    wanted.min(PARALLELISM_MAX)
}

fn compression(situation: &Situation, bandwidth_band: usize, load_band: usize) -> Compression {
    match situation.compression {
        CompressionChoice::Off => Compression::Off,
        CompressionChoice::Level(0) => Compression::Zstd(1),
        CompressionChoice::Level(level) => {
            Compression::Zstd(level.clamp(Compression::LEVEL_MIN, Compression::LEVEL_MAX))
        }
        CompressionChoice::Auto => {
            let cores = situation.cpu.cores.max(1) as u64;
            let free = LEVEL_1_BYTES_PER_SECOND / 100 * FREE_PERCENT[load_band];
            match (bandwidth_band, load_band) {
                // The network outruns what the free cores can compress.
                (band, _) if BAND_MIDDLE[band] > free.saturating_mul(cores) => {
                    Compression::Zstd(-5)
                }
                // A slow network and nothing else to do.
                (0..=1, 0) => Compression::Zstd(3),
                _ => Compression::Zstd(1),
            }
        }
    }
}

fn suite(situation: &Situation) -> Suite {
    match situation.suite {
        SuiteChoice::XChaCha => Suite::XChaCha20Poly1305,
        SuiteChoice::Aes => Suite::Aes256Gcm,
        SuiteChoice::Auto if situation.cpu.wide_aes => Suite::Aes256Gcm,
        SuiteChoice::Auto => Suite::XChaCha20Poly1305,
    }
}
