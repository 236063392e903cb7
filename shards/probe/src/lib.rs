//! What the machine can do and how much of it this process may use ([`probe()`]), and what the node
//! makes of that ([`plan()`]): how many cores, which driver, how much memory for what.
//!
//! Capabilities are tried or read, never concluded from a version or from being root. io_uring is
//! tried by the room that uses it, which hands the outcome in. bpf(2) cannot be tried without
//! unsafe code, so for eBPF the process's capabilities are read and the answer says that it is not
//! more than that ([`Tried::Untried`]).
//!
//! The plan is a pure function: the same hardware and wishes give the same plan, and machines that
//! nobody here owns can be made up and tested.

#![forbid(unsafe_code)]

mod budget;
mod cgroup;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod hardware;
mod linux;
mod plan;
mod text;

pub use budget::{
    Budget, CES_BYTES_UNIT, MEMORY_USABLE_MIN, MESH_SLOT_BYTES, PAGE_BYTES, PROGRAM_BYTES,
    RECEIVE_BUFFER_BYTES, SEND_SLOT_BYTES, STREAM_BYTES_UNIT, UNIT_BYTES,
};
pub use hardware::{CpuFeatures, Hardware, MEMORY_ASSUMED_BYTES, Tried, probe, probe_at};
pub use plan::{
    CORES_MAX, DriverKind, DriverWish, MEMORY_LARGE_MIN, MEMORY_MEDIUM_MIN, MemoryTier, Plan, SPIN,
    SpinWish, Suite, Wishes, plan,
};
