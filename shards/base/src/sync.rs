//! The one place that decides whose atomics the page pool is built on: the real ones, or with
//! `--cfg loom` those of the model in page/model.rs.

#[cfg(loom)]
pub(crate) use crate::watched::{AtomicBool, AtomicU32, AtomicU64};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
