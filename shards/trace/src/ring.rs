//! The memory of one core's recorder: slots that one thread writes and any thread reads.
//!
//! Each slot is a seqlock (Boehm, "Can seqlocks get along with programming language memory
//! models?", 2012) made of atomic words, so there is no data race in it: the stamp is odd while the
//! words are being written and even when they are whole. The writer never waits and never looks at
//! readers; a reader that was overtaken sees that the stamp changed and drops what it copied.

use crate::sync::{AtomicU64, Ordering, fence};

/// Words of a record. The model checker gets by with fewer.
#[cfg(not(loom))]
pub(crate) const WORDS: usize = crate::event::EVENT_WORDS;
#[cfg(loom)]
pub(crate) const WORDS: usize = 3;

/// Which word holds the record's number in a record, and the stamp in a slot.
pub(crate) const STAMP: usize = 1;

/// A record.
pub(crate) type Words = [u64; WORDS];

/// Two cache lines of its own.
#[repr(align(128))]
struct Slot([AtomicU64; WORDS]);

/// The slots, and how many records were ever written.
pub(crate) struct Ring {
    slots: Box<[Slot]>,
    head: AtomicU64,
}

/// What a reader finds under a record's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The record, whole.
    Record(Words),
    /// It is not written yet, or is being written.
    NotYet,
    /// A later one took its place.
    Overwritten,
}

impl Ring {
    /// Room for so many records, a power of two.
    pub(crate) fn new(records: usize) -> Ring {
        assert!(records.is_power_of_two(), "a ring's size is a power of two");
        Ring { slots: zeroed(records), head: AtomicU64::new(0) }
    }

    /// How many records it keeps.
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// How many were ever written.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The same for the one who writes, and knows what it wrote.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    /// Writes record `number`: of its words those whose bit is set in `parts`, the others keep what
    /// an older record left there. Only one thread may call it, with numbers that go up by one; the
    /// tracer sees to both.
    #[inline(always)]
    pub(crate) fn write(&self, number: u64, words: &Words, parts: u16) {
        let slot = self.slot(number);
        slot.0[STAMP].store(2 * number + 1, Ordering::Relaxed);
        // No word of the record is seen before the odd stamp.
        fence(Ordering::Release);
        for (at, (place, word)) in slot.0.iter().zip(words).enumerate() {
            if at != STAMP && parts & (1 << at) != 0 {
                place.store(*word, Ordering::Relaxed);
            }
        }
        slot.0[STAMP].store(2 * number + 2, Ordering::Release);
        self.head.store(number + 1, Ordering::Release);
    }

    /// Record `number`, if it is there.
    pub(crate) fn read(&self, number: u64) -> Found {
        let slot = self.slot(number);
        let whole = 2 * number + 2;
        let before = slot.0[STAMP].load(Ordering::Acquire);
        if before != whole {
            return if before < whole { Found::NotYet } else { Found::Overwritten };
        }
        let mut words: Words = std::array::from_fn(|at| slot.0[at].load(Ordering::Relaxed));
        // The words are read before the stamp is read again.
        fence(Ordering::Acquire);
        if slot.0[STAMP].load(Ordering::Relaxed) != whole {
            return Found::Overwritten;
        }
        words[STAMP] = number;
        Found::Record(words)
    }

    #[inline(always)]
    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}

/// Memory that the system gives zeroed and fills in when it is first touched: a ring that is hardly
/// used hardly takes any.
#[cfg(not(any(test, loom)))]
#[allow(unsafe_code)]
fn zeroed(records: usize) -> Box<[Slot]> {
    let slots = Box::<[Slot]>::new_zeroed_slice(records);
    // WHY: filling 8 MiB for each core at start costs 2 ms and keeps all of it in memory.
    // SAFETY: a slot is atomic words only, for which all bits zero is a value (that of `new(0)`).
    // CHECKED: tests/recorder.rs, a_new_recorder_is_empty.
    unsafe { slots.assume_init() }
}

// The model checkers' atomics are more than their words.
#[cfg(any(test, loom))]
fn zeroed(records: usize) -> Box<[Slot]> {
    (0..records).map(|_| Slot(std::array::from_fn(|_| AtomicU64::new(0)))).collect()
}
