//! The one place that decides whose atomics the ring is built on: the real ones, shuttle's in unit
//! tests (thousands of orders of the threads), loom's under `--cfg loom` (every order of memory
//! accesses too).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(all(test, not(loom)))]
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(any(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
