//! The life of one world: a time of faults (safety), a time of calm in which everything must come
//! right (liveness), and an end in which everybody closes and nothing may be missing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::world::clocks::{Clocks, NIGHT};
use crate::world::planted::Plant;
use crate::world::survey::SURVEY;
use crate::world::{Tally, World};

/// Faults happen for so long.
const SAFETY: Duration = Duration::from_secs(480);
/// Within this time after the last fault whatever was under way has ended.
const SETTLE: Duration = Duration::from_secs(300);
/// Reservations lapse, idle connections end, everybody finds everybody again.
const REST: Duration = Duration::from_secs(100);
/// Every object must be readable within this time.
const LIVENESS: Duration = Duration::from_secs(600);
/// Closing takes at most so long.
const CLOSING: Duration = Duration::from_secs(10);
/// What is over is freed a day later.
const DAY_AND_MORE: Duration = Duration::from_secs(25 * 3600);

/// What came of a seed.
pub struct Outcome {
    pub seed: u64,
    /// What went wrong and when, in one sentence.
    pub failure: Option<String>,
    /// The last events.
    pub tail: String,
    /// Over every event of every core and every datagram.
    pub hash: u64,
    /// Simulated.
    pub time: Duration,
    pub tally: Tally,
    pub is_lawful: bool,
    pub sent: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub events: BTreeMap<&'static str, u64>,
    pub refusals: BTreeMap<String, u64>,
    pub deeds: BTreeMap<&'static str, u64>,
}

/// Lives one world from its beginning to its end, or to the first thing that is wrong.
/// The last `kept` events are shown if it fails.
pub fn live(seed: u64, kept: usize) -> Outcome {
    live_planted(seed, kept, None)
}

/// The same, with a fault built in.
pub fn live_planted(seed: u64, kept: usize, plant: Option<Plant>) -> Outcome {
    let mut world = World::new(seed, kept, plant);
    let lived = catch_unwind(AssertUnwindSafe(|| all_of(&mut world)));
    if let Err(panic) = lived {
        world.fail(format!("a panic: {}", text_of(&*panic)));
    }
    outcome(seed, &world)
}

/// The same world without the fault: what it is caught by must be the fault.
#[cfg(test)]
pub fn live_unplanted(seed: u64, plant: Plant) -> Outcome {
    let mut world = World::new(seed, 0, Some(plant));
    world.disarm();
    all_of(&mut world);
    outcome(seed, &world)
}

fn all_of(world: &mut World) {
    world.begin_faults();
    run_for(world, SAFETY);
    world.heal();
    run_until(world, SETTLE, "work goes on", World::is_idle);
    run_for(world, REST);
    if world.weather.large > 0 {
        world.survey();
        run_until(world, SURVEY, "a core takes no shard", World::is_surveyed);
        world.end_survey();
    }
    world.read_all();
    run_until(world, LIVENESS, "an object is not read", World::is_idle);
    world.dismiss();
    world.count_all();
    run_until(world, LIVENESS, "receipts are not looked after", World::is_idle);
    run_for(world, REST);
    if world.failure.is_none() {
        world.check_quiet();
    }
    if world.weather.idles {
        idle_day(world);
    }
    if world.weather.clocks == Clocks::WrongAndNight {
        night(world);
    }
    world.close();
    run_for(world, CLOSING);
    if world.failure.is_none() {
        world.check_closed();
    }
}

/// Leases end, and what they were for is freed; what is kept for longer is read once more.
fn idle_day(world: &mut World) {
    world.evening();
    run_for(world, REST);
    world.stand_still(DAY_AND_MORE);
    run_for(world, REST);
    world.check_freed();
    all_is_there(world);
}

/// Longer than a doubt lasts: every clock is believed again, and every object can be read.
fn night(world: &mut World) {
    run_for(world, NIGHT);
    world.check_believed();
    all_is_there(world);
}

fn all_is_there(world: &mut World) {
    world.read_all();
    run_until(world, LIVENESS, "after a day an object is not read", World::is_idle);
    run_for(world, REST);
    if world.failure.is_none() {
        world.check_quiet();
    }
}

fn run_for(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end && world.failure.is_none() {
        world.step(end);
    }
}

fn run_until(world: &mut World, at_most: Duration, what: &str, done: fn(&mut World) -> bool) {
    let end = world.now + at_most;
    while world.failure.is_none() && !done(world) {
        if world.now >= end {
            world.fail(format!("{what} {at_most:?} after all faults ended: {}", world.stages()));
            return;
        }
        world.step(end);
    }
}

fn outcome(seed: u64, world: &World) -> Outcome {
    let failure = world.failure.as_ref();
    let mut deeds = BTreeMap::new();
    for (name, count) in world.deeds_of_enemies() {
        *deeds.entry(name).or_default() += count;
    }
    Outcome {
        seed,
        failure: failure.map(|f| format!("{:.6} s: {}", f.at.as_secs_f64(), f.what)),
        tail: world.log.tail(),
        hash: world.log.hash,
        time: world.elapsed(),
        tally: world.tally.clone(),
        is_lawful: world.weather.is_lawful,
        sent: world.bytes_sent(),
        faults: world.log.faults.clone(),
        events: world.log.events.clone(),
        refusals: world.log.refusals.clone(),
        deeds,
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::weather::Fault;

    /// A lawful world in which holders move and nothing else happens.
    fn moving(seed: u64, plant: Option<Plant>) -> World {
        let mut world = (seed..).map(|seed| World::new(seed, 0, plant));
        let mut world = world.find(|world| world.weather.is_lawful && is_roomy(world)).unwrap();
        world.weather.faults = vec![Fault::Move];
        all_of(&mut world);
        world
    }

    /// Its code bears that a holder is gone for a while.
    fn is_roomy(world: &World) -> bool {
        world.weather.tolerance() > 0 && world.weather.enemies == 0 && world.weather.liars == 0
    }

    #[test]
    fn holders_that_moved_are_found_and_that_they_are_not_would_be_seen() {
        for seed in [100, 200, 300] {
            let world = moving(seed, None);
            assert!(world.failure.is_none(), "{:?}", world.failure);
            assert!(world.log.faults.contains_key(Fault::Move.name()), "{:?}", world.log.faults);
            let planted = moving(seed, Some(Plant::OldAddress));
            // A put or a get failed for no reason, or a holder seems to have lost what it has.
            assert!(planted.failure.is_some(), "seed {seed}: an old address that wins is not seen");
        }
    }
}
