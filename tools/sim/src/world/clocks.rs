//! Wall clocks that are wrong: by hours, months or years, from the beginning, from some moment on, or
//! since a restart. What was acknowledged stays all the same until its lease ends by the true time:
//! every receipt is compared with what its holder has, and every object is read.
//!
//! Worlds are shorter than the day after which a doubted clock is believed, so nothing at all may be
//! gone in them. Some live on through a night that is longer: the clocks are right again before it,
//! and behind it all of them are believed and everything is still there.

use std::time::Duration;

use pangea_base::Entropy;
use pangea_engine::{ClockStatus, ClockTrust};

use super::World;
use super::atlas::GRACE;
use super::machine::Machine;
use super::network::Place;
use super::planted::Plant;

/// How long holders are asked to keep an object: longer than any world lasts.
const LEASE: Duration = Duration::from_secs(30 * 86_400);
/// A jump by more than this is doubted.
const STEP: i64 = 86_400;
/// A doubt begins at the latest so long after the jump.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// Longer than a doubt.
pub const NIGHT: Duration = Duration::from_secs(26 * 3600);

/// What the wall clocks of a world are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clocks {
    /// Right to a minute.
    Right,
    /// Wrong by months, and jumping.
    Wrong,
    /// The same, and then right for longer than a doubt lasts.
    WrongAndNight,
}

/// What is known of a machine's clock, to be compared with what its node says of it.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// What the node said last.
    pub status: ClockStatus,
    /// How far it was off when the node began to believe it.
    pub believed_off: i64,
    /// Since when it is off by a step from that.
    since: Option<std::time::Instant>,
}

impl Watch {
    /// Of a process that starts with a clock that is so far off.
    pub fn new(off: i64) -> Watch {
        Watch { status: ClockStatus::Starting, believed_off: off, since: None }
    }

    /// The node says something of its clock.
    pub fn said(&mut self, status: ClockStatus, off: i64) {
        if status == ClockStatus::Believed && self.status != ClockStatus::Believed {
            self.believed_off = off;
        }
        self.status = status;
    }
}

/// By how much a clock is wrong: hours, which nobody notices, or months and years.
fn wrong_by(chance: &mut Entropy) -> i64 {
    let days = 86_400;
    let most = [20 * 3600, 90 * days, 800 * days, 800 * days][chance.below(4) as usize];
    let by = (most / 4 + chance.below(most * 3 / 4)) as i64;
    if chance.below(2) == 0 { by } else { -by }
}

impl World {
    /// For how many seconds a holder is asked to keep an object of `origin`. The planted fault is what
    /// comes of a moment by the origin's clock, if the holder's is right.
    pub(super) fn lease(&self, origin: Place) -> u64 {
        match self.plant {
            Some(Plant::AbsoluteLease) => {
                LEASE.as_secs().saturating_add_signed(self.machines[origin].clock.off()).max(1)
            }
            _ => LEASE.as_secs(),
        }
    }

    /// Before anybody starts.
    pub(super) fn set_clocks(&mut self) {
        if self.weather.clocks == Clocks::Right {
            return;
        }
        // A holder that begins with a wrong clock cannot tell it from a right one. Once it is set right,
        // leases have ended too early by the holder's own mistake.
        for place in self.weather.holders..self.machines.len() {
            if self.chance.below(2) == 0 {
                self.set_wrong(place);
            }
        }
    }

    fn set_wrong(&mut self, place: Place) {
        let wrong = wrong_by(&mut self.chance);
        self.machines[place].clock.set_wrong(wrong);
        self.log.say(self.now, &format!("{} is {wrong} s off", self.machines[place].name));
    }

    /// The wall clock of a machine whose process is about to start may be another.
    pub(super) fn set_clock_at_start(&mut self, place: Place) {
        let is_wrong = self.weather.clocks != Clocks::Right && !self.is_calm;
        // The same is true of one that was killed before it had judged its first.
        let is_judged = self.machines[place].watch.status != ClockStatus::Starting;
        if is_wrong && (is_judged || place >= self.weather.holders) && self.chance.below(3) == 0 {
            self.set_wrong(place);
        }
    }

    /// The wall clock jumps, to a wrong time or to the right one.
    pub(super) fn jump(&mut self, place: Place) {
        let wrong = match self.chance.below(4) {
            0 => 0,
            _ => wrong_by(&mut self.chance),
        };
        let is_holder = place < self.weather.holders;
        let is_judged = self.machines[place].watch.status != ClockStatus::Starting;
        if is_holder && !is_judged {
            return;
        }
        self.machines[place].clock.set_wrong(wrong);
        self.log.say(self.now, &format!("{} is {wrong} s off", self.machines[place].name));
        if self.plant == Some(Plant::NoSuspension) && is_holder {
            // To believe a clock whatever it shows is what an operator can ask for at a start.
            self.end(place, Machine::kill);
            self.machines[place].trust = ClockTrust::Right;
            self.hurt(place, self.now + GRACE);
            self.start(place);
        }
    }

    /// Whoever's clock has jumped must doubt it.
    pub(super) fn check_clocks(&mut self) {
        let mut wrong = Vec::new();
        for machine in &mut self.machines {
            if machine.process.is_none() {
                continue;
            }
            let watch = &mut machine.watch;
            let jumped = (machine.clock.off() - watch.believed_off).abs() > STEP + 120;
            if watch.status != ClockStatus::Believed || !jumped {
                watch.since = None;
                continue;
            }
            let since = *watch.since.get_or_insert(self.now);
            if since + NOTICED_WITHIN < self.now {
                let off = machine.clock.off() - watch.believed_off;
                wrong.push(format!("{} believes a clock that jumped by {off} s", machine.name));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// After a night with the right time nobody doubts.
    pub fn check_believed(&mut self) {
        let holders = &self.machines[..self.weather.holders];
        let doubting = holders.iter().filter(|machine| {
            machine.process.is_some() && machine.watch.status != ClockStatus::Believed
        });
        let wrong = doubting.map(|machine| {
            format!("{} does not believe its clock: {:?}", machine.name, machine.watch.status)
        });
        let wrong: Vec<String> = wrong.collect();
        wrong.into_iter().for_each(|what| self.fail(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{live, live_planted};

    /// Worlds in which a planted fault must come out.
    const WORLDS: u64 = 24;

    /// Why the first world that noticed failed.
    fn caught(plant: Plant) -> String {
        let failures = (0..WORLDS).filter_map(|seed| live_planted(seed, 0, Some(plant)).failure);
        let failure = failures.into_iter().next();
        failure.unwrap_or_else(|| panic!("{plant:?} is not caught in {WORLDS} worlds"))
    }

    #[test]
    fn a_lease_taken_as_a_moment_of_the_origins_clock_is_caught() {
        let failure = caught(Plant::AbsoluteLease);
        assert!(failure.contains("has it no more") || failure.contains("failed"), "{failure}");
    }

    #[test]
    fn expiry_that_no_doubt_suspends_is_caught() {
        let failure = caught(Plant::NoSuspension);
        assert!(failure.contains("has it no more") || failure.contains("failed"), "{failure}");
    }

    #[test]
    fn without_a_planted_fault_the_same_worlds_hold() {
        for seed in 0..4 {
            let outcome = live(seed, 0);
            assert_eq!(outcome.failure, None, "seed {seed}");
        }
    }
}
