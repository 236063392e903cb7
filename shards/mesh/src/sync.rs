//! The one place that decides whose atomics the room is built on.
//!
//! The program and the tests in `tests/` use the real ones. Unit tests use shuttle's, which run
//! the threads of a test in thousands of different orders; `--cfg loom` uses loom's, which also
//! reorder memory accesses as far as the memory model allows.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(all(test, not(loom)))]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(not(any(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(any(test, loom))]
pub(crate) use crate::standin::StandIn as Queue;
#[cfg(not(any(test, loom)))]
pub(crate) use crossbeam_queue::ArrayQueue as Queue;

// Only the tests' own parts need these.
#[cfg(all(test, loom))]
pub(crate) use loom::sync::Condvar;
#[cfg(loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(all(test, not(loom)))]
pub(crate) use shuttle::sync::{Condvar, Mutex};
