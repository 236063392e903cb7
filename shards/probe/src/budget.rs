//! The memory budget: what each part of the node may use at most. Buffers are taken when first
//! needed, so an idle node uses a small part of this; the budget is what a busy one cannot exceed.

use crate::plan::MemoryTier;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A node can be planned for this much usable memory, and says so where there is less.
pub const MEMORY_USABLE_MIN: u64 = 64 * MIB;

/// The part of the usable memory that is planned with; the rest is for the page cache, which
/// buffered files need, and for whoever else lives here.
const SHARE_OF_USABLE: u64 = 2;

/// Code, the control thread and its connections, tables: whatever the number of cores.
pub const PROGRAM_BYTES: u64 = 24 * MIB;
/// A buffer of the receive ring: one GRO batch of 64 KiB with its header and control messages.
pub const RECEIVE_BUFFER_BYTES: u64 = 64 * KIB + 256;
/// A send slot: one GSO train.
pub const SEND_SLOT_BYTES: u64 = 64 * KIB;
/// A page of the store's pool.
pub const PAGE_BYTES: u64 = 64 * KIB;
/// A page of the erasure coder's pool: one unit of a stripe.
pub const UNIT_BYTES: u64 = 16 * KIB;
/// Receive windows of streams are given out in steps of this.
pub const STREAM_BYTES_UNIT: u64 = MIB;
/// Memory of compressor, cipher and coder is counted in steps of this.
pub const CES_BYTES_UNIT: u64 = MIB;
/// A slot of a ring between two threads: at most this many bytes, with its bookkeeping.
pub const MESH_SLOT_BYTES: u64 = 128;

/// How many buffers of each kind; all but `mesh_slots` are for each core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Buffers of [`RECEIVE_BUFFER_BYTES`] to start with; a power of two, as a buffer ring wants.
    pub receive_buffers: u16,
    /// Buffers the receive ring may grow to when the kernel runs out of them; a power of two.
    pub receive_buffers_max: u16,
    /// Slots of [`SEND_SLOT_BYTES`].
    pub send_slots: u16,
    /// Pages of [`PAGE_BYTES`] for the store.
    pub pages: u32,
    /// Pages of [`UNIT_BYTES`] for the erasure coder.
    pub units: u32,
    /// Credit for the receive windows of all streams together.
    pub stream_bytes: u64,
    /// Compressor, cipher and coder, with the segments they work on.
    pub ces_bytes: u64,
    /// Capacity of each ring between two threads (cores, and control).
    pub mesh_slots: usize,
}

/// What can be given more or less of, for each core.
#[derive(Clone, Copy)]
struct Counts {
    receive: u64,
    send: u64,
    pages: u64,
    units: u64,
    stream: u64,
    ces: u64,
}

/// The least that works: one large batch in, one out, one stripe of 10 + 4 with the next already
/// begun, a stream that moves.
const LEAST: Counts = Counts { receive: 16, send: 8, pages: 16, units: 64, stream: 2, ces: 2 };

/// What is wanted where memory allows, by tier. More than this gained nothing in the measurements
/// behind it: the receive ring covers the worst batch (512), a stream window of 64 MiB is 10 Gbit/s
/// over 50 ms.
const fn wanted(tier: MemoryTier) -> Counts {
    match tier {
        MemoryTier::Small => {
            Counts { receive: 64, send: 16, pages: 128, units: 256, stream: 16, ces: 3 }
        }
        MemoryTier::Medium => {
            Counts { receive: 256, send: 32, pages: 256, units: 512, stream: 32, ces: 6 }
        }
        MemoryTier::Large => {
            Counts { receive: 512, send: 64, pages: 512, units: 1024, stream: 64, ces: 8 }
        }
    }
}

/// Buffers the receive ring begins with, if its budget is not less.
const fn receive_start(tier: MemoryTier) -> u64 {
    match tier {
        MemoryTier::Small => 32,
        MemoryTier::Medium | MemoryTier::Large => 128,
    }
}

// A machine at the limit has room for the least on one core.
const _: () = assert!(PROGRAM_BYTES + LEAST.bytes() + mesh_bytes(1) <= share(MEMORY_USABLE_MIN));
// Scaling down ends at the least, so nothing may be wanted below it.
const _: () = assert!(wanted(MemoryTier::Small).receive >= LEAST.receive);
const _: () = assert!(LEAST.receive.is_power_of_two());

impl Counts {
    const fn bytes(&self) -> u64 {
        self.receive * RECEIVE_BUFFER_BYTES
            + self.send * SEND_SLOT_BYTES
            + self.pages * PAGE_BYTES
            + self.units * UNIT_BYTES
            + self.stream * STREAM_BYTES_UNIT
            + self.ces * CES_BYTES_UNIT
    }

    /// The counts whose distance from the least is `part` of `whole` of what is wanted.
    fn scaled(wanted: Counts, part: u64, whole: u64) -> Counts {
        let scale = |least: u64, wanted: u64| {
            least
                + u64::try_from(u128::from(wanted - least) * u128::from(part) / u128::from(whole))
                    .expect("a part is not more than the whole")
        };
        Counts {
            receive: scale(LEAST.receive, wanted.receive),
            send: scale(LEAST.send, wanted.send),
            pages: scale(LEAST.pages, wanted.pages),
            units: scale(LEAST.units, wanted.units),
            stream: scale(LEAST.stream, wanted.stream),
            ces: scale(LEAST.ces, wanted.ces),
        }
    }
}

/// What may be planned with, of so much usable memory.
pub(crate) const fn share(usable_bytes: u64) -> u64 {
    let usable = if usable_bytes < MEMORY_USABLE_MIN { MEMORY_USABLE_MIN } else { usable_bytes };
    usable / SHARE_OF_USABLE
}

/// The capacity of the rings: they are between any two threads, so their number grows with the
/// square of the cores, and their memory is taken at the start.
const fn mesh_slots(cores: u64) -> u64 {
    match cores {
        0..=8 => 256,
        9..=32 => 64,
        _ => 16,
    }
}

const fn mesh_bytes(cores: u64) -> u64 {
    // Control is one thread more.
    (cores + 1) * cores * mesh_slots(cores) * MESH_SLOT_BYTES
}

/// The budget of `cores` cores within `share_bytes`; `None` if not even the least fits.
pub(crate) fn budget(cores: usize, tier: MemoryTier, share_bytes: u64) -> Option<Budget> {
    let cores = cores as u64;
    let for_cores = share_bytes.checked_sub(PROGRAM_BYTES + mesh_bytes(cores))?;
    let for_each = for_cores / cores;
    let above_least = for_each.checked_sub(LEAST.bytes())?;
    let wanted = wanted(tier);
    let wanted_above_least = wanted.bytes() - LEAST.bytes();
    let counts = Counts::scaled(wanted, above_least.min(wanted_above_least), wanted_above_least);
    let receive_max = power_of_two_below(counts.receive);
    let count = |n: u64| u16::try_from(n).expect("the tables above hold small numbers");
    Some(Budget {
        receive_buffers: count(receive_max.min(receive_start(tier))),
        receive_buffers_max: count(receive_max),
        send_slots: count(counts.send),
        pages: u32::from(count(counts.pages)),
        units: u32::from(count(counts.units)),
        stream_bytes: counts.stream * STREAM_BYTES_UNIT,
        ces_bytes: counts.ces * CES_BYTES_UNIT,
        mesh_slots: mesh_slots(cores) as usize,
    })
}

fn power_of_two_below(n: u64) -> u64 {
    1 << n.ilog2()
}

impl Budget {
    /// The budget of the whole node with `cores` cores, part by part, in bytes.
    pub(crate) fn table(&self, cores: usize) -> Vec<(&'static str, u64)> {
        let cores = cores as u64;
        vec![
            ("program", PROGRAM_BYTES),
            ("rings between threads", mesh_bytes(cores)),
            ("receive ring", cores * u64::from(self.receive_buffers_max) * RECEIVE_BUFFER_BYTES),
            ("send slots", cores * u64::from(self.send_slots) * SEND_SLOT_BYTES),
            ("page pool", cores * u64::from(self.pages) * PAGE_BYTES),
            ("unit pool", cores * u64::from(self.units) * UNIT_BYTES),
            ("stream windows", cores * self.stream_bytes),
            ("compress, encrypt, code", cores * self.ces_bytes),
        ]
    }
}
