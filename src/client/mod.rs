//! The client: puts, gets and stats objects, on cores of its own.

mod run;

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use pangea_base::{Code, Hash, Identity, PeerAddr, PeerId, UnixTime};
use pangea_wire::{ClockDifference, Link};

use crate::node::CoreOptions;

pub use run::Client;

/// How a client runs.
#[derive(Debug)]
pub struct ClientConfig {
    /// Who the client is to its holders: the owner of what it stores there.
    pub identity: Identity,
    /// Threads, driver, steering.
    pub cores: CoreOptions,
    /// Bytes that chunks in flight may take in memory.
    pub memory_bytes: u64,
}

/// What a put reads.
pub enum Source {
    /// A regular file, read in parallel.
    File(File),
    /// Anything else, read in order; its length is found out on the way.
    Stream(Box<dyn Read + Send>),
}

/// Where a get writes.
pub enum Sink {
    /// A regular file, empty, written in parallel at the right places.
    File(File),
    /// Anything else, written in order.
    Stream(Box<dyn Write + Send>),
}

/// What the caller wants after seeing the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop in order: release what was left behind and return `Interrupted`.
    Stop,
}

/// Seen by the caller at least ten times a second.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// What is being done now, in a few words for a person ("asking 14 holders").
    pub stage: &'static str,
    /// Plaintext bytes finished.
    pub bytes_done: u64,
    /// Plaintext bytes in all, once known.
    pub bytes_total: Option<u64>,
    /// Peers that answered.
    pub peers_up: usize,
    /// The object's own name, once the manifest has told it: `Some(None)` if it has none.
    pub label: Option<Option<String>>,
    /// Holders given up on so far, each with the reason.
    pub troubles: Vec<(PeerId, String)>,
}

/// What a put may be told.
#[derive(Debug, Clone)]
pub struct PutOptions {
    /// Candidates for holders; each counts once, and stands here with each of its addresses.
    pub peers: Vec<PeerAddr>,
    /// k and m; `None` chooses by the number of peers.
    pub code: Option<Code>,
    /// How content is compressed; `None` lets the plan decide.
    pub compression: Option<pangea_ces::Compression>,
    /// Whether sizes are hidden in size classes.
    pub padding: pangea_ces::Padding,
    /// Cipher; `Auto` by the CPU.
    pub suite: pangea_ces::SuiteChoice,
    /// How long holders shall keep it.
    pub lease: Duration,
    /// The object's name, sealed inside the manifest.
    pub label: Option<String>,
}

/// How far a put came (architecture, "Done means").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutState {
    /// Every chunk has n receipts of n distinct holders; manifest and placement are at each.
    Complete,
    /// At least k + ceil(m / 2) per chunk.
    Degraded,
}

/// A finished put.
#[derive(Debug)]
pub struct PutReport {
    /// The capability to read it.
    pub link: Link,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Complete or degraded.
    pub state: PutState,
    /// The code used.
    pub code: Code,
    /// Distinct holders with at least one receipt.
    pub holders: Vec<PeerId>,
    /// The least over all chunks of distinct holders - k.
    pub survives_losses: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// Peers that failed or refused, each with the reason.
    pub troubles: Vec<(PeerId, String)>,
    /// Kept at least until then, by this machine's clock.
    pub lease_until: UnixTime,
    /// Holders whose clocks are far from this machine's.
    pub clocks: Vec<(PeerId, ClockDifference)>,
}

/// Why a put did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PutFailed {
    /// No peers were named.
    #[error("no peers were given: name at least one holder with --peer PEERID@IP:PORT")]
    NoPeers,
    /// None, or too few, of the peers answered or accepted.
    #[error("{found} of the {needed} holders needed accepted the object{}", troubles_text(.troubles))]
    TooFewHolders {
        /// How many there were.
        found: usize,
        /// How many the code needs.
        needed: usize,
        /// Who failed and why.
        troubles: Vec<(PeerId, String)>,
    },
    /// Too few receipts for some chunk; what was left behind was released.
    #[error("chunk {chunk} reached {found} of the {needed} holders it needs{}", troubles_text(.troubles))]
    ChunkFailed {
        /// Which chunk.
        chunk: u32,
        /// Receipts.
        found: usize,
        /// Receipts that would have been enough.
        needed: usize,
        /// Who failed and why.
        troubles: Vec<(PeerId, String)>,
    },
    /// The source could not be read, or changed while it was read.
    #[error("the source could not be read: {0}")]
    Source(String),
    /// The caller asked to stop.
    #[error("interrupted; nothing was stored")]
    Interrupted,
    /// Something on this machine.
    #[error("{0}")]
    Local(String),
}

/// What a get may be told.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Peers to ask beside the link's hints, and where peers of the link are now.
    pub peers: Vec<PeerAddr>,
}

/// A finished get: every byte was verified before it was written.
#[derive(Debug)]
pub struct GetReport {
    /// Plaintext bytes.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub blake3: Hash,
    /// Wall time.
    pub elapsed: Duration,
    /// Holders that sent what was not theirs to send (they lied), each with what they did.
    pub bad_holders: Vec<(PeerId, String)>,
    /// Holders that did not answer or lost what they promised.
    pub troubles: Vec<(PeerId, String)>,
    /// The object's name as its origin gave it: untrusted, already checked to be a plain name.
    pub label: Option<String>,
    /// When the first of its shards need not be kept any more, by its holder's clock.
    pub lease_until: Option<UnixTime>,
}

/// Why a get did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum GetFailed {
    /// Nobody to ask.
    #[error(
        "nobody to ask: the link carries no addresses; name a holder with --peer PEERID@IP:PORT"
    )]
    NoPeers,
    /// Nobody had the manifest.
    #[error("the object's manifest was not found at any of the {asked} holders asked{}", troubles_text(.troubles))]
    NoManifest {
        /// How many were asked.
        asked: usize,
        /// Who failed and why.
        troubles: Vec<(PeerId, String)>,
    },
    /// The manifest is there, and nobody says where the shards are.
    #[error("the holders that answered do not know where the object's shards are{}", troubles_text(.troubles))]
    NoPlacement {
        /// Who failed and why.
        troubles: Vec<(PeerId, String)>,
    },
    /// Fewer than k good shards of a chunk.
    #[error("{found} of the {needed} shards needed for chunk {chunk} were found{}", troubles_text(.troubles))]
    TooFewShards {
        /// Which chunk.
        chunk: u32,
        /// Good shards.
        found: usize,
        /// k.
        needed: usize,
        /// Who is missing, or lied, and how.
        troubles: Vec<(PeerId, String)>,
    },
    /// The link's key does not open what its holders keep.
    #[error("the link's key does not open this object: {0}")]
    WrongKey(String),
    /// Writing the output failed.
    #[error("the output could not be written: {0}")]
    Output(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Something on this machine.
    #[error("{0}")]
    Local(String),
}

/// One chunk's health.
#[derive(Debug, Clone)]
pub struct ChunkHealth {
    /// Which chunk.
    pub chunk: u32,
    /// Its code.
    pub code: Code,
    /// Per shard index: who holds it, and whether that holder confirmed it just now.
    pub shards: Vec<(u8, PeerId, bool)>,
    /// Distinct confirmed shards - k; negative means lost.
    pub losses_left: i64,
    /// In how many seconds the first of the confirmed shards need not be kept any more.
    pub lease_left: Option<u64>,
}

/// Where an object's shards are.
#[derive(Debug)]
pub struct StatReport {
    /// Plaintext bytes.
    pub bytes: u64,
    /// Per chunk.
    pub chunks: Vec<ChunkHealth>,
    /// Each holder: address if known, shards promised, shards confirmed, or why it did not answer.
    pub holders: Vec<HolderHealth>,
    /// The least over all chunks.
    pub losses_left: i64,
    /// When the first of its shards need not be kept any more, by this machine's clock.
    pub lease_until: Option<UnixTime>,
}

/// One holder as stat saw it.
#[derive(Debug, Clone)]
pub struct HolderHealth {
    /// Who.
    pub peer: PeerId,
    /// Where it is said to be: by the user, the link or a placement, whichever is first.
    pub addr: Option<std::net::SocketAddr>,
    /// Shards it signed receipts for.
    pub promised: usize,
    /// Shards it confirmed to hold.
    pub confirmed: usize,
    /// Why not, if it did not answer.
    pub trouble: Option<String>,
    /// How far its clock is from this machine's, where that is worth telling.
    pub clock: Option<ClockDifference>,
}

/// A line for each of the first few, below an error.
fn troubles_text(troubles: &[(PeerId, String)]) -> String {
    let shown = 8;
    let mut text = String::new();
    for (peer, why) in troubles.iter().take(shown) {
        text.push_str(&format!("\n  {peer}: {why}"));
    }
    if troubles.len() > shown {
        text.push_str(&format!("\n  and {} more", troubles.len() - shown));
    }
    text
}
