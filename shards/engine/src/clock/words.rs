//! How far two clocks are apart, and what people are told of clocks.

use std::fmt;

use pangea_base::{PeerId, UnixTime};

use super::{Doubt, Ended, FoundWhen, NETWORKS_MIN};

/// Seconds that a clock is ahead of what it is compared with; negative: behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Offset(i64);

impl Offset {
    /// How far `shown` is ahead of `expected`.
    pub fn between(shown: UnixTime, expected: UnixTime) -> Offset {
        let apart = i64::try_from(shown.0.abs_diff(expected.0)).unwrap_or(i64::MAX);
        Offset(if shown >= expected { apart } else { -apart })
    }

    /// How many seconds, on whichever side.
    pub fn seconds(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// Seconds ahead; negative: behind.
    pub fn seconds_ahead(self) -> i64 {
        self.0
    }

    /// How far it is ahead of another one.
    pub(super) fn since(self, other: Offset) -> Offset {
        Offset(self.0.saturating_sub(other.0))
    }

    /// The time that is so far from this one.
    pub(super) fn from(self, time: UnixTime) -> UnixTime {
        UnixTime(time.0.saturating_add_signed(self.0))
    }

    /// In words, against something: "3 years ahead of …", "7 hours behind …".
    pub fn against(self, what: &str) -> String {
        let side = if self.0 < 0 { "behind" } else { "ahead of" };
        format!("{} {side} {what}", Span(self.seconds()))
    }
}

/// A length of time as people say it, in the largest unit of which there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("years", 31_556_952), ("days", 86_400), ("hours", 3600), ("minutes", 60)];
        let unit = units.into_iter().find(|(_, seconds)| self.0 >= 2 * seconds);
        let (name, seconds) = unit.unwrap_or(("seconds", 1));
        write!(f, "{} {name}", self.0.saturating_add(seconds / 2) / seconds)
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let off = self.off;
        match self.found {
            FoundWhen::AtStart => {
                write!(f, "at the start it was {}", off.against("the time that was believed last"))
            }
            FoundWhen::Running => {
                write!(
                    f,
                    "while the node ran it came to be {}",
                    off.against("the time that passed")
                )
            }
        }
    }
}

/// Something that people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// A doubt began.
    Doubted(Doubt),
    /// It ended.
    Believed(Ended),
    /// A peer's clock is so far from ours.
    PeerDiffers { peer: PeerId, off: Offset },
}

impl fmt::Display for Telling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Telling::Doubted(doubt) => write!(
                f,
                "the clock of this machine is doubted: {doubt}. Nothing is let go for its age \
                 until it is believed again: after a day without another step, or when peers in \
                 {NETWORKS_MIN} networks agree with it, or by a start with --clock-is-right"
            ),
            Telling::Believed(ended) => {
                write!(f, "the clock of this machine is believed again: ")?;
                match ended {
                    Ended::Steady => write!(f, "it has made no step for a day"),
                    Ended::Peers(networks) => write!(f, "peers in {networks} networks agree"),
                    Ended::Operator => write!(f, "--clock-is-right says so"),
                }
            }
            Telling::PeerDiffers { peer, off } => {
                write!(f, "the clock of {peer} is {}", off.against("ours"))
            }
        }
    }
}
