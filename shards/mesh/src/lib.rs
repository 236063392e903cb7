//! Between threads: bounded queues whose ends have one owner each, and a doorbell that is rung only
//! when the other side is asleep.
//!
//! Threads share no lock and no map. What one has to tell another goes through a [`ring`]: one
//! producer, one consumer, a fixed capacity, and a refusal ([`Full`]) instead of growth. The ends
//! can be moved to another thread and neither copied nor shared, so "one producer" is a fact that
//! the compiler keeps (see [`Sender`]). Waking a sleeping thread costs about a hundred queue
//! operations, so [`Bell::ring`] does it only when the other side said that it is about to sleep
//! ([`Parking::prepare`]).
//!
//! [`mesh`] joins both: every thread gets an [`Ends`], with a ring to and from every other.
//!
//! ```no_run
//! use pangea_base::CoreId;
//! use pangea_mesh::{Readiness, mesh};
//!
//! let mut all = mesh::<u64>(2, 64);
//! let (mut one, mut zero) = (all.pop().unwrap(), all.pop().unwrap());
//! zero.send(CoreId(1), 42).unwrap();
//! zero.flush();
//! assert_eq!(one.receive(), Some((CoreId(0), 42)));
//!
//! # struct Waker;
//! # impl pangea_base::Wake for Waker { fn wake(&self) {} }
//! one.parking().connect(std::sync::Arc::new(Waker));
//! match one.prepare() {
//!     Readiness::Sleep => { /* wait in the driver, for as long as nothing is due */ }
//!     Readiness::Work => { /* look into the driver without waiting */ }
//! }
//! one.awake();
//! ```

#![forbid(unsafe_code)]

#[cfg(test)]
mod actors;
mod bell;
mod ends;
#[cfg(all(test, not(loom)))]
mod loops;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod nodes;
mod ring;
#[cfg(all(test, not(loom)))]
mod schedules;
#[cfg(any(test, loom))]
mod standin;
mod sync;

pub use bell::{Bell, Parking, doorbell};
pub use ends::{ENDS_MAX, Ends, Readiness, mesh};
pub use ring::{Full, Receiver, Sender, ring};
