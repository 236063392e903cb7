//! The time, and what is let go for it. Core 0 keeps it; the others judge their own readings of the
//! clock by what core 0 tells them.

use pangea_base::{CoreId, UnixTime};
use pangea_store::{Key, Recovered, Store};

use super::Engine;
use crate::clock::{Clock, ClockHeard, Input, Output, Telling};
use crate::letting_go::Why;
use crate::limits::EXPIRE_EVERY;
use crate::message::{Message, Report};

impl Engine {
    /// This core's part of the store is open.
    pub(super) fn time_found(&mut self, found: &Recovered) {
        let found = remembered(found);
        self.shared.send(CoreId(0), Message::ClockHeard(found));
    }

    /// What a core says of the time.
    pub(super) fn clock_heard(&mut self, heard: ClockHeard) {
        self.keep_time(Input::Heard(heard));
    }

    /// The node stops in order: the time that is believed is written down once more.
    pub(super) fn time_ends(&mut self) {
        self.keep_time(Input::Close);
        self.tell_of_what_is_gone();
    }

    /// Leases end also while nobody asks for anything. The clock is looked at first: a step is found
    /// before anything is let go for it.
    pub(super) fn expire(&mut self) {
        self.next_expire = self.shared.now + EXPIRE_EVERY;
        self.keep_time(Input::Tick);
        self.tell_of_what_is_gone();
        let clock = self.shared.clock();
        if let Some(store) = &mut self.shared.store {
            expire_store(store, clock);
        }
    }

    /// Something was deleted.
    pub(super) fn gone(&mut self, key: &Key, bytes: u64) {
        let Some(why) = why_gone() else { return };
        let lines = self.letting_go.gone(key, bytes, why);
        lines.iter().for_each(|line| tracing::info!("{line}"));
    }

    fn tell_of_what_is_gone(&mut self) {
        self.letting_go.lines().iter().for_each(|line| tracing::info!("{line}"));
    }

    fn keep_time(&mut self, input: Input) {
        let Some(keeper) = &mut self.timekeeper else { return };
        keeper.handle(self.shared.now, self.shared.wall, input);
        while let Some(output) = keeper.poll() {
            match output {
                Output::Tell(telling @ Telling::Believed(_)) => tracing::info!("{telling}"),
                Output::Tell(telling) => tracing::warn!("{telling}"),
                Output::Write(time) => {
                    if let Some(store) = &mut self.shared.store {
                        write_down(store, time);
                    }
                }
                Output::Changed => {
                    let standing = keeper.standing();
                    self.shared.standing = standing;
                    for core in 1..self.shared.cores {
                        self.shared.send(CoreId(core), Message::Clock(standing));
                    }
                    self.shared.report(Report::Clock(keeper.status()));
                }
            }
        }
    }
}

// CONNECT: the functions below stand for what the store does not do yet.

/// What a store that was opened remembers of the time: `Recovered.believed` and `Recovered.newest`.
fn remembered(found: &Recovered) -> ClockHeard {
    let _ = found;
    ClockHeard::Found { written: None, newest: None }
}

/// Writes the believed time down where the next start finds it: `Store::believe`.
fn write_down(store: &mut Store, time: UnixTime) {
    let _ = (store, time);
}

/// Lets go of what is over, which a doubted clock does not decide: `Store::expire` with a clock.
fn expire_store(store: &mut Store, clock: Clock) {
    if let Clock::Believed(now) = clock {
        store.expire(now);
    }
}

/// Why something was deleted: `Event::Deleted { why, .. }`; `None` if it was asked for.
fn why_gone() -> Option<Why> {
    Some(Why::Over)
}
