//! Clocks that wander at random, and what must hold of every walk.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pangea_base::{Entropy, PeerId, Prefix, UnixTime};

use super::super::*;
use super::{DAY, T0, YEAR};

/// Walks, and events of each.
const WALKS: u64 = 300;
const EVENTS: usize = 120;
/// What is over is freed so much later, as the store does.
const OVER_SECONDS: u64 = 86_400;

/// What is held: until when by the holder's clock.
struct Held {
    until: u64,
}

/// A machine: its clock may be wrong, the time is not.
struct Machine {
    chance: Entropy,
    keeper: Timekeeper,
    // Of this run.
    now: Instant,
    // Seconds since 1970, really; and how far the wall clock is ahead of that.
    time: u64,
    off: i64,
    record: Option<u64>,
    held: Vec<Held>,
    // All readings of this run: the monotonic clock, and the wall clock's lead over it.
    readings: Vec<(Instant, i64)>,
    // Where in them the last belief began.
    belief: Option<usize>,
    // What peers said in this run: when, which network, and what they showed.
    said: Vec<(Instant, u8, u64)>,
    doubts: u64,
    ends: u64,
    freed: u64,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let now = Instant::now();
        let mut machine = Machine {
            chance: Entropy::new(key),
            keeper: Timekeeper::new(now, 1, ClockTrust::Compared),
            now,
            time: T0,
            off: 0,
            record: None,
            held: Vec::new(),
            readings: Vec::new(),
            belief: None,
            said: Vec::new(),
            doubts: 0,
            ends: 0,
            freed: 0,
        };
        machine.start();
        machine
    }

    fn wall(&self) -> UnixTime {
        UnixTime(self.time.checked_add_signed(self.off).unwrap())
    }

    fn start(&mut self) {
        self.keeper = Timekeeper::new(self.now, 1, ClockTrust::Compared);
        (self.readings, self.belief, self.said) = (Vec::new(), None, Vec::new());
        let written = self.record.map(UnixTime);
        self.handle(Input::Heard(ClockHeard::Found { written, newest: None }));
    }

    /// Takes a reading, and compares what comes of it with what may.
    fn handle(&mut self, input: Input) {
        let wall = self.wall();
        let was_doubted = matches!(self.keeper.status(), ClockStatus::Doubted(_));
        let lead = i64::try_from(wall.0).unwrap() - self.run_seconds();
        self.readings.push((self.now, lead));
        self.keeper.handle(self.now, wall, input);
        let is_believed = self.keeper.status() == ClockStatus::Believed;
        while let Some(output) = self.keeper.poll() {
            if let Output::Write(time) = output {
                assert!(is_believed, "a doubted time is written down");
                assert_eq!(time, wall);
                self.record = Some(time.0);
            }
        }
        match self.belief {
            Some(begun) if is_believed => self.check_belief(begun),
            None if is_believed => {
                if was_doubted {
                    self.check_end();
                    self.ends += 1;
                }
                self.belief = Some(self.readings.len() - 1);
            }
            Some(_) => {
                self.doubts += 1;
                self.belief = None;
            }
            None => {}
        }
        self.expire();
    }

    fn run_seconds(&self) -> i64 {
        let begun = self.readings.first().map_or(self.now, |(now, _)| *now);
        i64::try_from((self.now - begun).as_secs()).unwrap()
    }

    /// While it is believed, no two readings are a day apart from what passed between them.
    fn check_belief(&self, begun: usize) {
        let leads = self.readings[begun..].iter().map(|(_, lead)| *lead);
        let (low, high) = (leads.clone().min().unwrap(), leads.max().unwrap());
        assert!(high.abs_diff(low) < STEP_SECONDS, "a step of {} is believed", high - low);
    }

    /// A doubt ends with a day without a step, or with three networks' word.
    fn check_end(&self) {
        let wall = self.wall().0;
        let day_ago = |now: &Instant| *now + STEADY <= self.now;
        let since = self.readings.iter().rposition(|(now, _)| day_ago(now));
        let steady = since.is_some_and(|since| {
            let leads = self.readings[since..].iter().map(|(_, lead)| *lead);
            let (low, high) = (leads.clone().min().unwrap(), leads.max().unwrap());
            high.abs_diff(low) < 2 * AGREE_SECONDS
        });
        let mut networks: Vec<u8> = Vec::new();
        let mut agree = 0;
        for (at, network, theirs) in self.said.iter().rev() {
            let age = (self.now - *at).as_secs();
            if age < 3600 && !networks.contains(network) {
                networks.push(*network);
                agree += usize::from((theirs + age).abs_diff(wall) <= AGREE_SECONDS);
            }
        }
        let voted = agree >= NETWORKS_MIN && 2 * agree >= networks.len();
        assert!(steady || voted, "a doubt ends without a reason: {agree} of {networks:?}");
    }

    /// As the store does it. What is freed: until when it was to be kept.
    fn expire(&mut self) {
        let clock = self.keeper.standing().clock(self.now, self.wall());
        let Clock::Believed(wall) = clock else { return };
        let before = self.held.len();
        let time = self.time;
        self.held.retain(|held| {
            let freed = held.until + OVER_SECONDS <= wall.0;
            assert!(!freed || held.until <= time, "freed {} s early", held.until - time);
            !freed
        });
        self.freed += (before - self.held.len()) as u64;
    }

    fn pass(&mut self, seconds: u64) {
        for done in (0..seconds).step_by(1800) {
            let step = (seconds - done).min(1800);
            self.now += Duration::from_secs(step);
            self.time += step;
            self.handle(Input::Tick);
        }
    }

    fn set(&mut self, off: i64) {
        self.off = off;
        self.handle(Input::Tick);
    }

    fn restart(&mut self) {
        if self.chance.below(2) == 0 {
            self.handle(Input::Close);
        }
        let away = [5, 3000, 20 * 3600, 9 * DAY][self.chance.below(4) as usize];
        self.now += Duration::from_secs(away);
        self.time += away;
    }

    fn peer(&mut self, network: u8, theirs: u64) {
        self.said.push((self.now, network, theirs));
        let from = Prefix::of(IpAddr::from([10, 0, network, self.chance.below(200) as u8]));
        let peer = PeerId(self.chance.array());
        let theirs = UnixTime(theirs);
        self.handle(Input::Heard(ClockHeard::Peer { peer, from, theirs }));
    }

    fn store(&mut self) {
        let stamp = self.keeper.standing().clock(self.now, self.wall()).time();
        let lease = 3600 + self.chance.below(40 * DAY);
        let until = stamp.0 + lease;
        // A clock that is doubted for being behind gives no lease that ends too early.
        let is_counted = self.belief.is_some() || self.record.is_none_or(|at| stamp.0 >= at);
        assert!(is_counted, "a lease is counted from before what was believed last");
        self.held.push(Held { until });
    }

    /// One of the things that happen to every machine.
    fn live(&mut self) {
        match self.chance.below(8) {
            0 => self.restart_right(),
            1 | 2 => self.store(),
            3 => self.pass(2 * DAY),
            _ => {
                let hours = 1 + self.chance.below(12);
                self.pass(hours * 3600);
            }
        }
    }

    fn restart_right(&mut self) {
        self.restart();
        self.start();
    }

    /// The clock is wrong for less than a day, whatever else happens: a start with a flat battery, a
    /// wrong server, a slip of the hand. Then it is right again.
    fn wrong_for_a_while(&mut self) {
        let far = DAY as i64 + 700 + self.chance.below(5 * YEAR) as i64;
        let off = match self.chance.below(4) {
            0 => -far,
            1 => -(self.chance.below(DAY) as i64),
            _ => far,
        };
        if self.chance.below(2) == 0 {
            self.restart();
            self.off = off;
            self.start();
        } else {
            self.set(off);
        }
        for _ in 0..1 + self.chance.below(4) {
            let seconds = 60 + self.chance.below(5 * 3600);
            self.pass(seconds);
            match self.chance.below(4) {
                0 => self.store(),
                1 => {
                    let wobble = self.chance.below(600) as i64;
                    self.set(off + wobble);
                }
                // Liars of two networks, however many they are.
                2 => (0..9).for_each(|turn| self.peer(turn % 2, self.wall().0)),
                _ => self.peer(3, self.time),
            }
        }
        match self.chance.below(3) {
            0 => {
                self.restart();
                self.off = 0;
                self.start();
            }
            _ => self.set(0),
        }
    }
}

#[test]
fn a_clock_that_is_wrong_for_less_than_a_day_frees_nothing_early() {
    let (mut doubts, mut ends, mut freed) = (0, 0, 0);
    for seed in 0..WALKS {
        eprintln!("seed {seed}");
        let mut machine = Machine::new(seed);
        for _ in 0..EVENTS {
            match machine.chance.below(5) {
                0 => machine.wrong_for_a_while(),
                _ => machine.live(),
            }
        }
        machine.pass(2 * DAY);
        assert!(machine.belief.is_some(), "a doubted clock comes back");
        machine.pass(50 * DAY);
        // But what was stored while the clock was years ahead.
        let wall = machine.wall().0;
        let all = machine.held.iter().all(|held| held.until + OVER_SECONDS > wall);
        assert!(all, "what is over is freed in the end");
        (doubts, ends, freed) =
            (doubts + machine.doubts, ends + machine.ends, freed + machine.freed);
    }
    assert!(doubts > WALKS && ends > WALKS && freed > WALKS, "{doubts} {ends} {freed}");
}

/// Any step, at any time, and peers who say anything. What is freed may be wrong then, but never
/// without a reason that the rules know.
#[test]
fn whatever_a_clock_does_it_is_believed_for_a_reason_only() {
    let (mut doubts, mut ends) = (0, 0);
    for seed in 0..WALKS {
        eprintln!("seed {seed}");
        let mut machine = Machine::new(1_000_000 + seed);
        for _ in 0..EVENTS {
            machine.held.clear();
            match machine.chance.below(6) {
                0 => {
                    let far = machine.chance.below(3 * YEAR) as i64;
                    machine.set(far - YEAR as i64);
                }
                1 => {
                    let near = machine.chance.below(2 * DAY) as i64 - DAY as i64;
                    machine.set(machine.off + near);
                }
                2 => {
                    let network = machine.chance.below(6) as u8;
                    let lie = machine.chance.below(3) == 0;
                    let theirs = if lie { machine.time } else { machine.wall().0 };
                    machine.peer(network, theirs);
                }
                3 => machine.restart_right(),
                _ => {
                    let minutes = 1 + machine.chance.below(4000);
                    machine.pass(minutes * 60);
                }
            }
        }
        (doubts, ends) = (doubts + machine.doubts, ends + machine.ends);
    }
    assert!(doubts > WALKS && ends > WALKS, "{doubts} {ends}");
}
