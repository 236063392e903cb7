//! The time, and what is let go for it. Core 0 keeps it; the others judge their own readings of the
//! clock by what core 0 tells them.

use pangea_base::{CoreId, UnixTime};
use pangea_store::{Key, Recovered, Why};

use super::Engine;
use crate::clock::{ClockHeard, Input, Output, Telling};
use crate::limits::EXPIRE_EVERY;
use crate::message::{Message, Report};

impl Engine {
    /// This core's part of the store is open.
    pub(super) fn time_found(&mut self, found: &Recovered) {
        let newest = (found.newest > UnixTime(0)).then_some(found.newest);
        let found = ClockHeard::Found { written: found.believed, newest };
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
            store.expire(clock);
            self.let_go_of_strays();
        }
    }

    /// Something was deleted.
    pub(super) fn gone(&mut self, key: &Key, bytes: u64, why: Why) {
        if why == Why::Asked {
            return;
        }
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
                        store.believe(time);
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
