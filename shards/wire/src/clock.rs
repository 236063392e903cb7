use std::fmt;

use pangea_base::UnixTime;

use crate::limits::CLOCK_SLACK;
use crate::units::span;

/// How far the clock of another machine is from ours, where that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDifference {
    /// Its clock shows a later time.
    Ahead {
        /// By so many seconds.
        seconds: u64,
    },
    /// Its clock shows an earlier time.
    Behind {
        /// By so many seconds.
        seconds: u64,
    },
}

/// How far `theirs` is from `ours`; `None` within [`CLOCK_SLACK`]. What the message took on its way
/// counts as a difference, and is far below the slack.
pub fn clock_difference(ours: UnixTime, theirs: UnixTime) -> Option<ClockDifference> {
    let seconds = ours.0.abs_diff(theirs.0);
    if seconds <= CLOCK_SLACK.as_secs() {
        None
    } else if theirs > ours {
        Some(ClockDifference::Ahead { seconds })
    } else {
        Some(ClockDifference::Behind { seconds })
    }
}

impl ClockDifference {
    /// By how much, on whichever side.
    pub fn seconds(&self) -> u64 {
        match self {
            ClockDifference::Ahead { seconds } | ClockDifference::Behind { seconds } => *seconds,
        }
    }
}

impl fmt::Display for ClockDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self {
            ClockDifference::Ahead { .. } => "ahead of",
            ClockDifference::Behind { .. } => "behind",
        };
        write!(f, "its clock is {} {side} ours", span(self.seconds()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_beyond_ten_minutes_and_it_is_said_on_which_side() {
        let ours = UnixTime(1_800_000_000);
        let said = |theirs: u64| clock_difference(ours, UnixTime(theirs)).map(|d| d.to_string());
        assert_eq!(said(ours.0), None);
        assert_eq!(said(ours.0 + 600), None);
        assert_eq!(said(ours.0 - 600), None);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(said(ours.0 + 601), is("its clock is 10 minutes ahead of ours"));
        assert_eq!(said(ours.0 - 40 * 86_400), is("its clock is 40 days behind ours"));
        assert_eq!(said(0), is("its clock is 57 years behind ours"));
        assert_eq!(said(u64::MAX), is("its clock is 584542046034 years ahead of ours"));
    }
}
