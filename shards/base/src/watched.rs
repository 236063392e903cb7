//! Atomics for the models (`--cfg loom` only): loom's, with reads in the way of each other.
//!
//! loom 0.7 remembers one last access of each atomic. When a thread reads an atomic that another
//! has read, and then writes it, loom compares the write with the thread's own reading and forgets
//! the other's, so the order "the write, then the other's reading" may never be tried: two threads
//! at a ring whose ends read their own counts were tried in one order altogether. Here each reading
//! first asks for a turn: an exchange that always fails, so that it changes nothing and orders no
//! memory. loom tries the turns of an atomic in every order, and with them the readings.

use loom::sync::atomic as model;
use loom::sync::atomic::Ordering;

macro_rules! watched {
    ($name:ident, $value:ty) => {
        /// An atomic whose readings take turns.
        #[derive(Debug)]
        pub struct $name {
            turn: model::AtomicBool,
            inner: model::$name,
        }

        #[allow(missing_docs)]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self { turn: model::AtomicBool::new(false), inner: model::$name::new(value) }
            }

            pub fn load(&self, order: Ordering) -> $value {
                let relaxed = Ordering::Relaxed;
                assert!(self.turn.compare_exchange(true, true, relaxed, relaxed).is_err());
                self.inner.load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.inner.store(value, order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.inner.swap(value, order)
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.inner.compare_exchange(current, new, success, failure)
            }

            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                change: impl Fn($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut seen = self.load(failure);
                while let Some(new) = change(seen) {
                    match self.compare_exchange(seen, new, success, failure) {
                        Ok(old) => return Ok(old),
                        Err(other) => seen = other,
                    }
                }
                Err(seen)
            }
        }
    };
}

macro_rules! counts {
    ($name:ident, $value:ty) => {
        #[allow(missing_docs)]
        impl $name {
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.inner.fetch_add(value, order)
            }

            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.inner.fetch_sub(value, order)
            }
        }
    };
}

watched!(AtomicBool, bool);
watched!(AtomicU32, u32);
watched!(AtomicU64, u64);
watched!(AtomicUsize, usize);
counts!(AtomicU32, u32);
counts!(AtomicU64, u64);
counts!(AtomicUsize, usize);
