//! The doorbell of a driver: rung by other threads, heard in `poll`.

use std::sync::atomic::{AtomicBool, Ordering};

use pangea_base::Wake;

/// The part that makes a parked thread return.
pub(crate) trait Strike: Send + Sync {
    fn strike(&self);
}

/// A bell that tells a ring from outside (an event for the caller) from one of our own threads.
pub(crate) struct Bell<S> {
    pub(crate) strike: S,
    rung: AtomicBool,
}

impl<S: Strike> Bell<S> {
    pub(crate) fn new(strike: S) -> Bell<S> {
        Bell { strike, rung: AtomicBool::new(false) }
    }

    /// Whether `wake` was called since the last time this was asked.
    pub(crate) fn heard(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl<S: Strike> Wake for Bell<S> {
    fn wake(&self) {
        // If it was rung already, that ring has not been heard yet: `heard` comes after the
        // strike was consumed, and will see what this caller did before.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.strike.strike();
        }
    }
}

impl<S: Strike> Strike for Bell<S> {
    fn strike(&self) {
        self.strike.strike();
    }
}
