//! Whether this node's wall clock is to be believed.
//!
//! Letting go of what is past its lease cannot be undone, and all that speaks for it is one number
//! that somebody may have set wrongly. So the clock is compared with what else there is: the time
//! that was believed last and written down, the monotonic clock, and what peers say. While it does
//! something that these do not explain it is doubted, and nothing is let go for its age. A doubt
//! costs disk space for a day; to believe a clock too soon costs what was promised.

#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pangea_base::{PeerId, Prefix, UnixTime};
use pangea_store::Clock;

pub use words::Offset;
pub(crate) use words::Telling;

/// A clock that is so far from what was expected is doubted. Less than this, a lease that ends too
/// early by it is made up for by the day that what is over is kept.
pub const STEP_SECONDS: u64 = 86_400;

/// A doubted clock is believed after so long without a step.
pub const STEADY: Duration = Duration::from_secs(86_400);

/// Two clocks that differ by no more agree. A doubted clock that moves by more has made a step.
pub const AGREE_SECONDS: u64 = 600;

/// What a peer said of the time counts for so long.
pub const PEERS_FRESH: Duration = Duration::from_secs(3600);

/// So many networks must agree with a doubted clock: one person rarely has addresses in three.
pub const NETWORKS_MIN: usize = 3;

/// Networks whose word on the time is remembered; one more, and the oldest word is forgotten.
pub const NETWORKS_MAX: usize = 64;

/// The time that is believed is written down so often.
pub const WRITE_EVERY: Duration = Duration::from_secs(600);

/// A peer whose clock differs is told of once in this time.
pub const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// Peers of whom that is told in that time; of others it is not, so that a crowd fills no log.
pub const TOLD_MAX: usize = 64;

// A step that is believed is shorter than the time that is steady; and a word on the time is older
// than no step that ended a doubt.
const _: () = assert!(STEP_SECONDS <= STEADY.as_secs());
// A step that is too short to be doubted frees nothing: what is over is kept for longer.
const _: () = assert!(STEP_SECONDS <= pangea_store::limits::OVER_SECONDS);
const _: () = assert!(AGREE_SECONDS < PEERS_FRESH.as_secs());
const _: () = assert!(PEERS_FRESH.as_secs() < STEADY.as_secs());
const _: () = assert!(WRITE_EVERY.as_secs() < STEP_SECONDS);
const _: () = assert!(NETWORKS_MIN < NETWORKS_MAX);

/// What a node makes of its wall clock when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// It is compared with the time that was written down.
    Compared,
    /// Its operator says that it is right. Steps that it makes later are doubted all the same.
    Right,
}

/// What the clock is said to be, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockStatus {
    /// The store, which has the time that was written down, is not open yet.
    Starting,
    /// All is well.
    Believed,
    /// Nothing is let go for its age.
    Doubted(Doubt),
}

/// Why a clock is doubted. Its `Display` says it to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Since when.
    pub since: Instant,
    /// Since when it has made no further step; a day of that ends the doubt.
    pub steady_since: Instant,
    /// By how much it was not what was expected.
    pub off: Offset,
    /// When that was found.
    pub found: FoundWhen,
}

/// When a doubt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundWhen {
    /// At the start, against what was written down.
    AtStart,
    /// Later, against the monotonic clock.
    Running,
}

/// How a doubt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A day without a further step.
    Steady,
    /// So many networks agree.
    Peers(usize),
    /// The operator said so.
    Operator,
}

/// What cores tell core 0, which keeps the time for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockHeard {
    /// A core has opened its part of the store and found this.
    Found {
        /// The time that was believed last, if this core's part has it.
        written: Option<UnixTime>,
        /// The newest time that anything there was stored at.
        newest: Option<UnixTime>,
    },
    /// A peer said what its clock shows, just now.
    Peer {
        /// Who.
        peer: PeerId,
        /// From where.
        from: Prefix,
        /// What it shows.
        theirs: UnixTime,
    },
}

/// Something that happened to the timekeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed. Due before every look for leases that are over.
    Tick,
    /// What a core says.
    Heard(ClockHeard),
    /// The node stops in order.
    Close,
}

/// What it wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// People are to hear this.
    Tell(Telling),
    /// This time was believed: it is to be written down.
    Write(UnixTime),
    /// [`Timekeeper::standing`] and [`Timekeeper::status`] are others than before.
    Changed,
}

/// Both clocks, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    now: Instant,
    wall: UnixTime,
}

impl Pair {
    /// What the wall clock would show if both had gone on together.
    fn expected(&self, now: Instant) -> UnixTime {
        self.wall.after(now.saturating_duration_since(self.now))
    }

    /// How far the wall clock is ahead of that.
    fn off(&self, now: Instant, wall: UnixTime) -> Offset {
        Offset::between(wall, self.expected(now))
    }
}

/// Between which bounds the wall clock has moved against the monotonic one while it was believed.
/// Both are kept: two steps to opposite sides, each of nearly a day, are nearly two days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Swing {
    low: Offset,
    high: Offset,
}

impl Swing {
    fn with(self, off: Offset) -> Swing {
        Swing { low: self.low.min(off), high: self.high.max(off) }
    }

    fn is_step(self) -> bool {
        self.high.since(self.low).seconds() >= STEP_SECONDS
    }
}

/// How it stands with the clock: what core 0 tells the others. The monotonic clock is the same for
/// all cores, so each judges its own readings by this, without waiting to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    // The readings that were believed last: when belief began, or before a doubt began.
    last: Option<Pair>,
    // While it is believed.
    swing: Option<Swing>,
}

impl Standing {
    /// Before anything is known.
    pub(crate) const UNKNOWN: Standing = Standing { last: None, swing: None };

    /// The time by these readings.
    pub(crate) fn clock(&self, now: Instant, wall: UnixTime) -> Clock {
        let Some(last) = self.last else { return Clock::Doubted(wall) };
        let is_believed = |swing: Swing| !swing.with(last.off(now, wall)).is_step();
        match self.swing.is_some_and(is_believed) {
            true => Clock::Believed(wall),
            // A lease is counted from the later of the two: if the wall clock has fallen behind and
            // is set right again, a lease counted from what it showed would end too early by that.
            // If it is ahead, the lease ends too late, which costs space and nothing else.
            false => Clock::Doubted(wall.max(last.expected(now))),
        }
    }
}

/// What one network said of the time.
#[derive(Debug, Clone, Copy)]
struct Word {
    at: Instant,
    theirs: UnixTime,
}

/// A doubt, and the readings by which the clock is steady or not.
#[derive(Debug, Clone, Copy)]
struct Doubting {
    doubt: Doubt,
    anchor: Pair,
}

/// What is still to be heard of the store before the clock can be judged.
#[derive(Debug, Clone, Copy)]
struct Opening {
    // Cores that have not said what they found.
    cores: u8,
    newest: Option<UnixTime>,
}

/// Decides whether the wall clock is believed. Lives on core 0. Sans-IO: readings of both clocks
/// are arguments; [`Timekeeper::handle`] what happened, then [`Timekeeper::poll`] until `None`.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    trust: ClockTrust,
    began: Instant,
    opening: Option<Opening>,
    standing: Standing,
    // The swing that the other cores know of.
    told_swing: Swing,
    doubting: Option<Doubting>,
    words: BTreeMap<Prefix, Word>,
    told: BTreeMap<PeerId, Instant>,
    written_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Timekeeper {
    /// Of a node with so many cores, each of which will say what it found in its part of the store.
    pub(crate) fn new(now: Instant, cores: u8, trust: ClockTrust) -> Timekeeper {
        Timekeeper {
            trust,
            began: now,
            opening: Some(Opening { cores, newest: None }),
            standing: Standing::UNKNOWN,
            told_swing: Swing::default(),
            doubting: None,
            words: BTreeMap::new(),
            told: BTreeMap::new(),
            written_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in one thing that happened.
    pub(crate) fn handle(&mut self, now: Instant, wall: UnixTime, input: Input) {
        match input {
            Input::Heard(ClockHeard::Found { written, newest }) => {
                self.found(now, wall, written, newest);
            }
            Input::Heard(ClockHeard::Peer { peer, from, theirs }) => {
                self.peer_said(now, wall, peer, from, theirs);
            }
            Input::Tick | Input::Close => {}
        }
        match self.doubting {
            Some(doubting) => self.doubted(now, wall, doubting),
            None => self.believed(now, wall, input == Input::Close),
        }
    }

    /// The next thing to do, oldest first.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the other cores are to know.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// What people are told.
    pub(crate) fn status(&self) -> ClockStatus {
        match (self.doubting, self.opening) {
            (Some(Doubting { doubt, .. }), _) => ClockStatus::Doubted(doubt),
            (None, Some(_)) => ClockStatus::Starting,
            (None, None) => ClockStatus::Believed,
        }
    }

    /// A core says what it found. What was written down decides as soon as it is here; without it
    /// nothing is older than the newest thing in the store, and for that all cores are waited for.
    fn found(
        &mut self,
        now: Instant,
        wall: UnixTime,
        written: Option<UnixTime>,
        newest: Option<UnixTime>,
    ) {
        let Some(opening) = &mut self.opening else { return };
        opening.newest = opening.newest.max(newest);
        opening.cores = opening.cores.saturating_sub(1);
        let all = *opening;
        if written.is_none() && all.cores > 0 {
            return;
        }
        self.opening = None;
        let Some(remembered) = written.or(all.newest) else { return self.believe(now, wall) };
        let off = Offset::between(wall, remembered);
        let is_doubted = off.seconds() >= STEP_SECONDS;
        match self.trust {
            // How long the node was off, nobody knows: a week of it looks as a clock set ahead by a
            // week, and delays what would have been let go by a day.
            ClockTrust::Compared if is_doubted => {
                self.standing.last = Some(Pair { now: self.began, wall: remembered });
                self.doubt(now, wall, off, FoundWhen::AtStart);
            }
            ClockTrust::Right if is_doubted => {
                self.tell(Telling::Believed(Ended::Operator));
                self.believe(now, wall);
            }
            _ => self.believe(now, wall),
        }
    }

    fn believe(&mut self, now: Instant, wall: UnixTime) {
        self.doubting = None;
        self.told_swing = Swing::default();
        let last = Some(Pair { now, wall });
        self.standing = Standing { last, swing: Some(Swing::default()) };
        self.outputs.push_back(Output::Changed);
        self.write(now, wall);
    }

    fn doubt(&mut self, now: Instant, wall: UnixTime, off: Offset, found: FoundWhen) {
        let doubt = Doubt { since: now, steady_since: now, off, found };
        self.doubting = Some(Doubting { doubt, anchor: Pair { now, wall } });
        self.standing.swing = None;
        self.outputs.push_back(Output::Changed);
        self.tell(Telling::Doubted(doubt));
    }

    /// Looks whether a believed clock has made a step. The readings are compared with those at the
    /// time when belief began: many small steps are a large one.
    fn believed(&mut self, now: Instant, wall: UnixTime, closes: bool) {
        let (Some(last), Some(before)) = (self.standing.last, self.standing.swing) else { return };
        let off = last.off(now, wall);
        let swing = before.with(off);
        if swing.is_step() {
            // Leases are counted from the furthest that was believed.
            self.standing.last = Some(Pair { wall: before.high.from(last.wall), ..last });
            let from = if off == swing.high { swing.low } else { swing.high };
            return self.doubt(now, wall, off.since(from), FoundWhen::Running);
        }
        self.standing.swing = Some(swing);
        let told = self.told_swing;
        let grown = [told.low.since(swing.low), swing.high.since(told.high)];
        if grown.iter().any(|by| by.seconds() >= AGREE_SECONDS) {
            self.told_swing = swing;
            self.outputs.push_back(Output::Changed);
        }
        if closes || self.written_at.is_none_or(|at| at + WRITE_EVERY <= now) {
            self.write(now, wall);
        }
    }

    /// Looks whether a doubted clock is steady, or others agree with it.
    fn doubted(&mut self, now: Instant, wall: UnixTime, doubting: Doubting) {
        let Doubting { mut doubt, anchor } = doubting;
        if anchor.off(now, wall).seconds() >= AGREE_SECONDS {
            doubt.steady_since = now;
            self.doubting = Some(Doubting { doubt, anchor: Pair { now, wall } });
            self.outputs.push_back(Output::Changed);
        }
        let (agree, differ) = self.networks(now, wall);
        let ended = if agree >= NETWORKS_MIN && agree >= differ {
            Ended::Peers(agree)
        } else if doubt.steady_since + STEADY <= now {
            Ended::Steady
        } else {
            return;
        };
        self.tell(Telling::Believed(ended));
        self.believe(now, wall);
    }

    /// How many networks agree with this wall clock, and how many do not. Each has one word, the
    /// last one: whoever has many addresses in one network is one voice.
    fn networks(&self, now: Instant, wall: UnixTime) -> (usize, usize) {
        let fresh = self.words.values().filter(|word| word.at + PEERS_FRESH > now);
        let offs = fresh.map(|word| Pair { now: word.at, wall: word.theirs }.off(now, wall));
        let (agree, differ): (Vec<Offset>, Vec<Offset>) =
            offs.partition(|off| off.seconds() <= AGREE_SECONDS);
        (agree.len(), differ.len())
    }

    fn peer_said(
        &mut self,
        now: Instant,
        wall: UnixTime,
        peer: PeerId,
        from: Prefix,
        theirs: UnixTime,
    ) {
        let off = Offset::between(theirs, wall);
        if off.seconds() > AGREE_SECONDS && self.may_tell_of(now, peer) {
            self.tell(Telling::PeerDiffers { peer, off });
        }
        let network = from;
        // Callers from this machine have its clock.
        if network == Prefix(None) {
            return;
        }
        if self.words.len() >= NETWORKS_MAX && !self.words.contains_key(&network) {
            let oldest = self.words.iter().min_by_key(|(_, word)| word.at);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                self.words.remove(&oldest);
            }
        }
        self.words.insert(network, Word { at: now, theirs });
    }

    fn may_tell_of(&mut self, now: Instant, peer: PeerId) -> bool {
        self.told.retain(|_, at| *at + TOLD_EVERY > now);
        if self.told.contains_key(&peer) || self.told.len() >= TOLD_MAX {
            return false;
        }
        self.told.insert(peer, now);
        true
    }

    fn write(&mut self, now: Instant, wall: UnixTime) {
        self.written_at = Some(now);
        self.outputs.push_back(Output::Write(wall));
    }

    fn tell(&mut self, telling: Telling) {
        self.outputs.push_back(Output::Tell(telling));
    }
}
