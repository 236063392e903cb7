//! The driver: UDP datagrams and files for one thread, as completions. Two back ends behind one
//! type: `uring` (one raw io_uring ring, Linux) and `mio` (readiness and a few blocking threads,
//! everywhere). Nothing here knows what a shard is.
//!
//! [`bind`] makes one socket per core, [`Driver::open`] puts a driver around one of them on the
//! thread that will use it, and [`Driver::poll`] does everything else: it submits, waits, and hands
//! what happened to a callback.

mod bell;
#[cfg(target_os = "linux")]
mod cmsg;
mod driver;
mod errors;
mod event;
mod files;
mod memory;
mod mio;
mod portion;
mod socket;
mod streams;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod uring;

pub use driver::{
    Driver, DriverChoice, DriverConfig, DriverKind, OpenFailed, Unreached, uring_available,
};
pub use event::{Caps, Ecn, Event, Park, Stats, Transmit};
pub use files::FILES_IN_FLIGHT_MAX;
pub use memory::SEND_BUFFER_BYTES;
pub use socket::{Bound, CoreSocket, Steer, bind};
pub use streams::{StandardStream, was_closed};
