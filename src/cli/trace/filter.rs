//! Which events are wanted.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pangea_base::PeerId;
use pangea_trace::{Class, Event, Filter, Kind, TraceId};

use crate::trace::class_named;
use crate::units::Span;

/// Which events; what is not said lets all through.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Which events")]
pub struct Filters {
    /// Those of one trace: its number, or the first digits of it (four at least)
    #[arg(long, value_name = "ID")]
    pub trace: Option<TraceDigits>,
    /// Those about one peer
    #[arg(long, value_name = "PEERID")]
    pub peer: Option<PeerId>,
    /// Those of one kind (StripeCoded) or class (codec); repeatable. An unknown name shows them all
    #[arg(long = "kind", value_name = "NAME")]
    pub kinds: Vec<Kinds>,
    /// Not before: so long ago (5s, 2m, 1h), or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Not after: so long ago, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
}

/// The same, with the times worked out.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What the shard can tell.
    pub filter: Filter,
    /// A trace of which only the first digits are known.
    digits: Option<TraceDigits>,
}

impl Filters {
    /// As of now.
    pub fn wanted(&self) -> Wanted {
        let now = SystemTime::now();
        let kinds = self.kinds.iter().flat_map(|kinds| kinds.0.iter().copied()).collect();
        Wanted {
            filter: Filter {
                trace: None,
                peer: self.peer,
                kinds,
                since: self.since.map_or(0, |when| when.nanos(now)),
                until: self.until.map_or(u64::MAX, |when| when.nanos(now)),
            },
            digits: self.trace,
        }
    }
}

impl Wanted {
    /// Whether an event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        self.has_digits(event) && self.filter.matches(event)
    }

    /// Whether an event that passed the shard's filter is of the trace.
    pub fn has_digits(&self, event: &Event) -> bool {
        self.digits.is_none_or(|digits| digits.begin(event.trace_id))
    }

    /// Whether nothing can come any more.
    pub fn is_over(&self) -> bool {
        self.filter.until < nanos_of(SystemTime::now())
    }
}

/// The number of a trace, or the first digits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceDigits {
    number: u128,
    mask: u128,
}

/// Digits of a trace's number.
const DIGITS_MAX: usize = 32;
/// With fewer, too many traces would begin alike.
const DIGITS_MIN: usize = 4;

impl TraceDigits {
    fn begin(self, id: TraceId) -> bool {
        !id.is_none() && u128::from_be_bytes(id.0) & self.mask == self.number
    }
}

impl FromStr for TraceDigits {
    type Err = String;

    fn from_str(text: &str) -> Result<TraceDigits, String> {
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !(DIGITS_MIN..=DIGITS_MAX).contains(&text.len()) {
            return Err("a trace's number is 32 hexadecimal digits; the first four suffice".into());
        }
        let number = u128::from_str_radix(&format!("{text:0<DIGITS_MAX$}"), 16);
        let mask = u128::from_str_radix(&format!("{:0<DIGITS_MAX$}", "f".repeat(text.len())), 16);
        match (number, mask) {
            (Ok(number), Ok(mask)) => Ok(TraceDigits { number, mask }),
            _ => Err("not a number of a trace".into()),
        }
    }
}

/// One kind of event, or those of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(pub Vec<Kind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Kinds, String> {
        let all = || Kind::ALL.iter().copied();
        if let Some(class) = class_named(text) {
            return Ok(Kinds(all().filter(|kind| kind.class() == class).collect()));
        }
        let kind = all().find(|kind| kind.name().eq_ignore_ascii_case(text));
        kind.map(|kind| Kinds(vec![kind])).ok_or_else(|| {
            let lines = Class::ALL.map(|class| {
                let kinds = all().filter(|kind| kind.class() == class).map(Kind::name);
                let kinds: Vec<&str> = kinds.collect();
                format!("  {:10}{}", class.name(), kinds.join(" "))
            });
            format!("these are the classes, and the kinds in each:\n{}", lines.join("\n"))
        })
    }
}

/// A class by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassName(pub Class);

impl FromStr for ClassName {
    type Err = String;

    fn from_str(text: &str) -> Result<ClassName, String> {
        class_named(text)
            .map(ClassName)
            .ok_or_else(|| format!("the classes are {}", Class::ALL.map(Class::name).join(", ")))
    }
}

/// A moment: so long ago, or in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long before now.
    Ago(Duration),
    /// Nanoseconds since 1970.
    At(u64),
}

impl When {
    fn nanos(self, now: SystemTime) -> u64 {
        match self {
            When::At(nanos) => nanos,
            When::Ago(span) => now.checked_sub(span).map_or(0, nanos_of),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let seconds = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let span = if seconds { format!("{text}s") } else { text.to_owned() };
        let said: String = text.chars().take(40).collect();
        let span = span.parse::<Span>().map_err(|_| {
            format!(
                "'{said}' is no time: write how long ago, such as 5s, 2m or 1h, or the seconds \
                 since 1970"
            )
        })?;
        Ok(match seconds {
            true => When::At(u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX)),
            false => When::Ago(span.0),
        })
    }
}

fn nanos_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_trace::EventData;

    #[test]
    fn a_kind_is_found_in_any_case_and_a_class_has_several() {
        assert_eq!("stripecoded".parse(), Ok(Kinds(vec![Kind::StripeCoded])));
        let codec: Kinds = "Codec".parse().unwrap();
        assert!(codec.0.contains(&Kind::StripeCoded) && codec.0.contains(&Kind::SegmentOpened));
        let refused = "nonsense".parse::<Kinds>().unwrap_err();
        assert!(Kind::ALL.iter().all(|kind| refused.contains(kind.name())), "{refused}");
        assert!("stripes".parse::<ClassName>().unwrap_err().contains("codec"));
        assert_eq!("SPAN".parse(), Ok(ClassName(Class::Span)));
    }

    #[test]
    fn the_first_digits_of_a_trace_suffice() {
        let id: TraceId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let begins = |text: &str| text.parse::<TraceDigits>().map(|digits| digits.begin(id));
        assert_eq!(begins("0123"), Ok(true));
        assert_eq!(begins("01234567"), Ok(true));
        assert_eq!(begins("0123456789ABCDEF0123456789abcdef"), Ok(true));
        assert_eq!(begins("0123456789abcdef0123456789abcdee"), Ok(false));
        assert_eq!(begins("0124"), Ok(false));
        for text in ["", "012", "0123g", "0123456789abcdef0123456789abcdef0"] {
            assert!(begins(text).is_err(), "{text}");
        }
        assert!(!"0000".parse::<TraceDigits>().unwrap().begin(TraceId::NONE));
    }

    #[test]
    fn a_time_is_ago_or_since_1970() {
        assert_eq!("5s".parse(), Ok(When::Ago(Duration::from_secs(5))));
        assert_eq!("2m".parse(), Ok(When::Ago(Duration::from_secs(120))));
        assert_eq!("1700000000".parse(), Ok(When::At(1_700_000_000_000_000_000)));
        assert_eq!("1700000000.5".parse(), Ok(When::At(1_700_000_000_500_000_000)));
        for text in ["", "yesterday", "5", "-5s", "2026-11-28"] {
            let parsed = text.parse::<When>();
            assert!(parsed.is_err() || text == "5", "{text}: {parsed:?}");
        }
        let now = UNIX_EPOCH + Duration::from_secs(10);
        assert_eq!(When::Ago(Duration::from_secs(4)).nanos(now), 6_000_000_000);
        assert_eq!(When::Ago(Duration::from_secs(40)).nanos(now), 0);
    }

    #[test]
    fn what_is_not_said_lets_all_through() {
        let none = Filters { trace: None, peer: None, kinds: Vec::new(), since: None, until: None };
        let wanted = none.wanted();
        let event = Event::new(EventData::Gap { lost: 1 });
        assert!(wanted.matches(&event) && !wanted.is_over());
        let some = Filters { kinds: vec!["codec".parse().unwrap()], ..none };
        assert!(!some.wanted().matches(&event));
    }
}
