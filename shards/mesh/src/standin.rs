//! What the models use in place of `ArrayQueue`: the same four operations on atomics that the
//! models control, with no more ordering than a queue must have (release and acquire). What holds
//! over this queue owes nothing to the stronger ordering inside the real one.

use crate::sync::{AtomicUsize, Mutex, Ordering};

pub(crate) struct StandIn<T> {
    // Counts of values ever taken and ever put in; the slot is the count modulo the capacity.
    head: AtomicUsize,
    tail: AtomicUsize,
    // The locks only carry values across; they are never touched by an attempt that fails, so
    // they cannot lend their ordering to a thread that is about to sleep.
    slots: Box<[Mutex<Option<T>>]>,
}

impl<T> StandIn<T> {
    pub(crate) fn new(capacity: usize) -> StandIn<T> {
        StandIn {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail - self.head.load(Ordering::Acquire) == self.slots.len() {
            return Err(value);
        }
        let before = self.slots[tail % self.slots.len()].lock().unwrap().replace(value);
        assert!(before.is_none(), "a slot was overwritten before it was read");
        self.tail.store(tail + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        if self.tail.load(Ordering::Acquire) == head {
            return None;
        }
        let value = self.slots[head % self.slots.len()].lock().unwrap().take();
        assert!(value.is_some(), "a slot was announced before it was written");
        self.head.store(head + 1, Ordering::Release);
        value
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tail.load(Ordering::Acquire) == self.head.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.tail.load(Ordering::Acquire) - self.head.load(Ordering::Acquire) == self.slots.len()
    }
}
