//! What a clock is believed for, and what it is doubted for.

mod walk;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pangea_base::{PeerId, UnixTime};

use super::*;

const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;
const T0: u64 = 1_800_000_000;

/// A node's timekeeper, and a clock to turn.
struct Rig {
    keeper: Timekeeper,
    now: Instant,
    wall: u64,
    told: Vec<Telling>,
    written: Vec<u64>,
}

impl Rig {
    fn new(trust: ClockTrust, written: Option<u64>, wall: u64) -> Rig {
        let now = Instant::now();
        let keeper = Timekeeper::new(now, 1, trust);
        let mut rig = Rig { keeper, now, wall, told: Vec::new(), written: Vec::new() };
        let written = written.map(UnixTime);
        rig.handle(Input::Heard(ClockHeard::Found { written, newest: None }));
        rig
    }

    fn right() -> Rig {
        Rig::new(ClockTrust::Compared, Some(T0), T0)
    }

    fn handle(&mut self, input: Input) {
        self.keeper.handle(self.now, UnixTime(self.wall), input);
        while let Some(output) = self.keeper.poll() {
            match output {
                Output::Tell(telling) => self.told.push(telling),
                Output::Write(time) => self.written.push(time.0),
                Output::Changed => {}
            }
        }
    }

    /// Time passes; looked at every ten minutes.
    fn pass(&mut self, seconds: u64) {
        for done in (0..seconds).step_by(600) {
            let step = (seconds - done).min(600);
            self.now += Duration::from_secs(step);
            self.wall += step;
            self.handle(Input::Tick);
        }
    }

    /// Somebody sets the clock.
    fn set(&mut self, by: i64) {
        self.wall = self.wall.checked_add_signed(by).unwrap();
        self.handle(Input::Tick);
    }

    /// A peer of this network says that its clock is so far ahead of ours.
    fn peer(&mut self, number: u8, network: u8, ahead: i64) {
        let theirs = UnixTime(self.wall.checked_add_signed(ahead).unwrap());
        let from = Prefix::of(IpAddr::V4(Ipv4Addr::new(10, 0, network, number)));
        let peer = PeerId([number; 32]);
        self.handle(Input::Heard(ClockHeard::Peer { peer, from, theirs }));
    }

    fn clock(&self) -> Clock {
        self.keeper.standing().clock(self.now, UnixTime(self.wall))
    }

    fn is_believed(&self) -> bool {
        let believed = self.clock() == Clock::Believed(UnixTime(self.wall));
        assert_eq!(believed, self.keeper.status() == ClockStatus::Believed);
        believed
    }

    fn doubt(&self) -> Doubt {
        match self.keeper.status() {
            ClockStatus::Doubted(doubt) => doubt,
            other => panic!("it is {other:?}"),
        }
    }
}

#[test]
fn a_clock_is_believed_at_the_start_within_a_day_of_what_was_written_down() {
    for (off, believed) in [
        (0, true),
        (DAY as i64 - 1, true),
        (1 - DAY as i64, true),
        (DAY as i64, false),
        (-(DAY as i64), false),
        (3 * YEAR as i64, false),
        (-(40 * DAY as i64), false),
    ] {
        let rig = Rig::new(ClockTrust::Compared, Some(T0), T0.checked_add_signed(off).unwrap());
        assert_eq!(rig.is_believed(), believed, "{off} s off");
        if !believed {
            assert_eq!(rig.doubt().off.seconds_ahead(), off);
            assert_eq!(rig.doubt().found, FoundWhen::AtStart);
            assert_eq!(rig.told, [Telling::Doubted(rig.doubt())]);
        }
    }
}

#[test]
fn without_anything_to_compare_it_with_a_clock_is_believed() {
    for wall in [0, T0, u64::MAX] {
        assert!(Rig::new(ClockTrust::Compared, None, wall).is_believed());
    }
}

#[test]
fn the_newest_of_all_cores_stands_in_for_what_was_not_written_down() {
    let now = Instant::now();
    let found = |written: Option<u64>, newest: Option<u64>| {
        let (written, newest) = (written.map(UnixTime), newest.map(UnixTime));
        Input::Heard(ClockHeard::Found { written, newest })
    };
    let judged = |wall: u64, cores: [Input; 3]| {
        let mut keeper = Timekeeper::new(now, 3, ClockTrust::Compared);
        for input in cores {
            keeper.handle(now, UnixTime(wall), input);
        }
        keeper.status()
    };
    let cores = || [found(None, Some(5)), found(None, Some(T0)), found(None, None)];
    assert_eq!(judged(T0 + 100, cores()), ClockStatus::Believed);
    assert!(matches!(judged(T0 + DAY, cores()), ClockStatus::Doubted(_)));
    assert!(matches!(judged(T0 - DAY, cores()), ClockStatus::Doubted(_)));
    // What was written down counts more than stamps of a time when the clock may have been wrong.
    let cores = || [found(Some(T0), Some(T0 + YEAR)), found(None, None), found(None, None)];
    assert_eq!(judged(T0 + 100, cores()), ClockStatus::Believed);
}

#[test]
fn nothing_is_over_before_the_store_has_said_what_was_written_down() {
    let now = Instant::now();
    let mut keeper = Timekeeper::new(now, 2, ClockTrust::Compared);
    let found = Input::Heard(ClockHeard::Found { written: None, newest: None });
    for input in [Input::Tick, found, Input::Tick, Input::Close] {
        keeper.handle(now, UnixTime(T0), input);
        assert_eq!(keeper.status(), ClockStatus::Starting);
        assert_eq!(keeper.standing().clock(now, UnixTime(T0)), Clock::Doubted(UnixTime(T0)));
        assert_eq!(keeper.poll(), None, "nothing was believed, so nothing is written down");
    }
    keeper.handle(now, UnixTime(T0), found);
    assert_eq!(keeper.status(), ClockStatus::Believed);
}

#[test]
fn a_step_of_a_day_is_doubted_and_a_shorter_one_is_not() {
    for (by, believed) in [
        (3600, true),
        (DAY as i64 - 1, true),
        (1 - DAY as i64, true),
        (DAY as i64, false),
        (-(DAY as i64), false),
    ] {
        let mut rig = Rig::right();
        rig.pass(40 * DAY);
        rig.set(by);
        assert_eq!(rig.is_believed(), believed, "set by {by} s");
    }
}

#[test]
fn many_small_steps_are_a_large_one() {
    for by in [1800, -1800] {
        let mut rig = Rig::right();
        for step in 1..=48 {
            assert!(rig.is_believed(), "after {step} steps of half an hour");
            rig.pass(3 * 3600);
            rig.set(by);
        }
        assert_eq!(rig.doubt().off.seconds_ahead(), 48 * by);
    }
    // To both sides too: nearly a day back, and nearly a day ahead of where it began.
    let mut rig = Rig::right();
    rig.set(-(20 * 3600));
    rig.pass(3600);
    assert!(rig.is_believed());
    rig.set(30 * 3600);
    assert_eq!(rig.doubt().off.seconds_ahead(), 30 * 3600);
}

#[test]
fn a_machine_that_slept_for_days_doubts_its_clock() {
    let mut rig = Rig::right();
    // The wall clock goes on, the monotonic one does not.
    rig.set(3 * DAY as i64);
    assert_eq!(rig.doubt().found, FoundWhen::Running);
    rig.pass(DAY);
    assert!(rig.is_believed());
}

#[test]
fn a_doubt_ends_after_a_day_without_a_step() {
    let mut rig = Rig::right();
    rig.set(3 * YEAR as i64);
    rig.pass(DAY - 600);
    assert!(!rig.is_believed());
    rig.pass(600);
    assert!(rig.is_believed());
    assert_eq!(rig.told.last(), Some(&Telling::Believed(Ended::Steady)));
}

#[test]
fn another_step_makes_the_day_begin_anew_and_a_wobble_does_not() {
    let mut rig = Rig::right();
    let begun = rig.now;
    rig.set(3 * YEAR as i64);
    rig.pass(DAY / 2);
    rig.set(-600);
    assert_eq!(rig.doubt().since, begun, "it is one doubt");
    assert_eq!(rig.doubt().steady_since, rig.now);
    rig.pass(DAY - 600);
    assert!(!rig.is_believed());
    for by in [599, -599, 300, -300] {
        rig.set(by);
    }
    rig.pass(600);
    assert!(rig.is_believed());
}

#[test]
fn three_networks_that_agree_end_a_doubt() {
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 9 * DAY);
    rig.peer(1, 1, 599);
    rig.peer(2, 2, -599);
    assert!(!rig.is_believed());
    rig.peer(3, 3, 0);
    assert!(rig.is_believed());
    assert_eq!(rig.told.last(), Some(&Telling::Believed(Ended::Peers(3))));
}

#[test]
fn peers_of_one_network_and_of_this_machine_do_not_end_a_doubt() {
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 9 * DAY);
    for number in 1..=200 {
        rig.peer(number, 1, 0);
        rig.peer(number, 2, 0);
        let from = Prefix::of(IpAddr::V4(Ipv4Addr::new(127, 0, number, 1)));
        let theirs = UnixTime(rig.wall);
        let peer = PeerId([number; 32]);
        rig.handle(Input::Heard(ClockHeard::Peer { peer, from, theirs }));
    }
    assert!(!rig.is_believed());
}

#[test]
fn as_many_networks_as_agree_may_differ_and_no_more() {
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 9 * DAY);
    (1..=4).for_each(|network| rig.peer(network, network, 3600));
    (5..=7).for_each(|network| rig.peer(network, network, 0));
    assert!(!rig.is_believed(), "three agree and four do not");
    rig.peer(8, 8, 0);
    assert!(rig.is_believed(), "four agree and four do not");
}

#[test]
fn what_a_peer_said_more_than_an_hour_ago_counts_no_more() {
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 9 * DAY);
    rig.peer(1, 1, 0);
    rig.peer(2, 2, 0);
    rig.pass(3600);
    rig.peer(3, 3, 0);
    assert!(!rig.is_believed());
    rig.peer(1, 1, 0);
    rig.peer(2, 2, 0);
    assert!(rig.is_believed());
}

#[test]
fn what_peers_said_before_a_step_is_not_said_of_the_clock_behind_it() {
    let mut rig = Rig::right();
    (1..=5).for_each(|network| rig.peer(network, network, 0));
    rig.set(9 * DAY as i64);
    rig.pass(600);
    assert!(!rig.is_believed(), "they agreed with what it showed before");
    // And those who differed from what it showed before agree with what it shows now.
    let mut rig = Rig::right();
    (1..=5).for_each(|network| rig.peer(network, network, 9 * DAY as i64));
    rig.set(9 * DAY as i64);
    rig.handle(Input::Tick);
    assert!(rig.is_believed());
}

#[test]
fn an_operator_ends_the_doubt_of_a_start_and_none_that_comes_later() {
    let mut rig = Rig::new(ClockTrust::Right, Some(T0), T0 + 3 * YEAR);
    assert!(rig.is_believed());
    assert_eq!(rig.told, [Telling::Believed(Ended::Operator)]);
    assert_eq!(rig.written, [T0 + 3 * YEAR], "the next start compares with this");
    rig.set(2 * DAY as i64);
    assert!(!rig.is_believed());
    let rig = Rig::new(ClockTrust::Right, Some(T0), T0 + 5);
    assert!(rig.is_believed() && rig.told.is_empty(), "there was nothing to say");
}

#[test]
fn the_time_is_written_down_every_ten_minutes_while_it_is_believed() {
    let mut rig = Rig::right();
    rig.pass(1800);
    assert_eq!(rig.written, [T0, T0 + 600, T0 + 1200, T0 + 1800]);
    rig.handle(Input::Tick);
    rig.now += Duration::from_secs(599);
    rig.wall += 599;
    rig.handle(Input::Tick);
    assert_eq!(rig.written.len(), 4);
    rig.handle(Input::Close);
    assert_eq!(rig.written.last(), Some(&(T0 + 2399)), "and at the end");
}

#[test]
fn a_doubted_time_is_never_written_down() {
    let mut rig = Rig::right();
    rig.written.clear();
    rig.set(3 * YEAR as i64);
    rig.pass(DAY - 600);
    rig.handle(Input::Close);
    assert!(rig.written.is_empty());
    rig.pass(600);
    assert_eq!(rig.written, [T0 + 3 * YEAR + DAY], "at once when the doubt ends");
}

#[test]
fn a_clock_that_fell_behind_ends_no_lease_early() {
    let mut rig = Rig::right();
    rig.pass(5 * DAY);
    rig.set(-(400 * DAY as i64));
    rig.pass(3600);
    assert_eq!(rig.clock(), Clock::Doubted(UnixTime(T0 + 5 * DAY + 3600)));
    // Found at a start: then from what was written down, and the time that passed since.
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 - 400 * DAY);
    rig.pass(3600);
    assert_eq!(rig.clock(), Clock::Doubted(UnixTime(T0 + 3600)));
    // Ahead, it may be the right time, and a lease that is too long costs only space.
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 400 * DAY);
    rig.pass(3600);
    assert_eq!(rig.clock(), Clock::Doubted(UnixTime(T0 + 400 * DAY + 3600)));
}

#[test]
fn every_core_doubts_a_step_that_core_0_has_not_seen_yet() {
    let mut rig = Rig::right();
    rig.set(-(20 * 3600));
    let (standing, now) = (rig.keeper.standing(), rig.now);
    let read = |wall: u64| standing.clock(now, UnixTime(wall));
    assert_eq!(read(T0), Clock::Believed(UnixTime(T0)));
    assert_eq!(read(T0 + 3 * YEAR), Clock::Doubted(UnixTime(T0 + 3 * YEAR)));
    assert_eq!(read(T0 + 5 * 3600), Clock::Doubted(UnixTime(T0 + 5 * 3600)), "25 h from -20 h");
    assert_eq!(read(T0 - 2 * DAY), Clock::Doubted(UnixTime(T0)));
}

#[test]
fn the_other_cores_hear_of_a_swing_before_it_can_matter() {
    let mut rig = Rig::right();
    let mut told = rig.keeper.standing();
    for by in [500, 500, -3000, 9000, 30_000, -70_000] {
        rig.wall = rig.wall.checked_add_signed(by).unwrap();
        rig.keeper.handle(rig.now, UnixTime(rig.wall), Input::Tick);
        while let Some(output) = rig.keeper.poll() {
            if output == Output::Changed {
                told = rig.keeper.standing();
            }
        }
        let (known, known_here) = (told.swing.unwrap(), rig.keeper.standing().swing.unwrap());
        assert!(known.low.since(known_here.low).seconds() < AGREE_SECONDS);
        assert!(known_here.high.since(known.high).seconds() < AGREE_SECONDS);
    }
}

#[test]
fn a_peer_whose_clock_differs_is_told_of_once_an_hour_and_a_crowd_is_not() {
    let mut rig = Rig::right();
    rig.peer(1, 1, 600);
    assert!(rig.told.is_empty(), "ten minutes are no difference");
    rig.peer(1, 1, -(40 * DAY as i64));
    rig.pass(3000);
    rig.peer(1, 2, 40 * DAY as i64);
    assert_eq!(rig.told.len(), 1);
    let text = rig.told[0].to_string();
    assert!(text.ends_with("is 40 days behind ours"), "{text}");
    rig.pass(600);
    rig.peer(1, 1, 7 * 3600);
    assert!(rig.told[1].to_string().ends_with("is 7 hours ahead of ours"));
    rig.told.clear();
    for number in 0..2 * TOLD_MAX as u64 {
        let (mut id, theirs) = ([9; 32], UnixTime(0));
        id[..8].copy_from_slice(&number.to_le_bytes());
        let from = Prefix::of(IpAddr::from([10, 1, (number >> 8) as u8, number as u8]));
        rig.handle(Input::Heard(ClockHeard::Peer { peer: PeerId(id), from, theirs }));
        assert!(rig.keeper.told.len() <= TOLD_MAX);
    }
    assert_eq!(rig.told.len(), TOLD_MAX - 1);
}

#[test]
fn a_crowd_of_networks_is_remembered_up_to_a_limit_and_the_newest_count() {
    let mut rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 9 * DAY);
    for network in 0..=255 {
        rig.now += Duration::from_secs(1);
        rig.wall += 1;
        rig.peer(1, network, 3600);
        assert!(rig.keeper.words.len() <= NETWORKS_MAX);
    }
    assert_eq!(rig.keeper.networks(rig.now, UnixTime(rig.wall)), (0, NETWORKS_MAX));
    // However many differ, a day ends the doubt.
    rig.pass(DAY);
    assert!(rig.is_believed());
}

#[test]
fn what_is_said_of_a_doubt_says_how_much_and_what_ends_it() {
    let rig = Rig::new(ClockTrust::Compared, Some(T0), T0 + 3 * YEAR + DAY);
    let text = rig.told[0].to_string();
    let parts = [
        "at the start it was 3 years ahead of the time that was",
        "a day",
        "3",
        "--clock-is-right",
    ];
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut rig = Rig::right();
    rig.set(-(40 * DAY as i64));
    let text = rig.told[0].to_string();
    assert!(text.contains("ran it came to be 40 days behind the time that passed"), "{text}");
}

#[test]
fn no_number_that_a_clock_or_a_peer_can_show_makes_it_panic() {
    for wall in [0, 1, T0, u64::MAX - 1, u64::MAX] {
        for theirs in [0, T0, u64::MAX] {
            let mut rig = Rig::new(ClockTrust::Compared, Some(theirs), wall);
            let from = Prefix::of(IpAddr::from([10, 0, 0, 1]));
            let (peer, theirs) = (PeerId([1; 32]), UnixTime(theirs));
            rig.handle(Input::Heard(ClockHeard::Peer { peer, from, theirs }));
            for next in [0, u64::MAX, T0] {
                rig.wall = next;
                rig.now += Duration::from_secs(DAY);
                rig.handle(Input::Tick);
                let _ = (rig.clock(), rig.keeper.status());
            }
            rig.told.iter().for_each(|telling| assert!(!telling.to_string().is_empty()));
        }
    }
}
