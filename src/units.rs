//! Sizes and times as a person writes and reads them: `10GiB`, `30d`; `1.5 GiB`, `2.3 s`.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pangea_base::UnixTime;
use time::OffsetDateTime;

/// Bytes, written as a number with an optional unit: `4096`, `500MB`, `1.5GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// A length of time, written as a number with a unit: `50us`, `90s`, `12h`, `30d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

/// A text that should be a size or a time and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitInvalid {
    /// Not a number and a unit of bytes.
    #[error("'{0}' is not a size: write a number and a unit, such as 10GiB, 500MB or 4096B")]
    Size(String),
    /// Not a number and a unit of time.
    #[error("'{0}' is not a time: write a number and a unit, such as 50us, 90s, 12h or 30d")]
    Span(String),
    /// A number beyond 64 bits.
    #[error("'{0}' is too large")]
    TooLarge(String),
}

/// A decimal's fraction is kept in billionths: enough to write any size below 1 EiB exactly enough.
const FRACTION_DIGITS: usize = 9;
const BILLION: u128 = 1_000_000_000;
/// The longest text that is looked at.
const TEXT_BYTES_MAX: usize = 40;

const SIZE_UNITS: [(&str, u128); 12] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
];

/// Units of time in microseconds.
const SPAN_UNITS: [(&str, u128); 7] = [
    ("us", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

impl FromStr for Size {
    type Err = UnitInvalid;

    fn from_str(text: &str) -> Result<Size, UnitInvalid> {
        let value = scaled(text, &SIZE_UNITS).ok_or_else(|| UnitInvalid::Size(said(text)))?;
        Ok(Size(u64::try_from(value).map_err(|_| UnitInvalid::TooLarge(said(text)))?))
    }
}

impl FromStr for Span {
    type Err = UnitInvalid;

    fn from_str(text: &str) -> Result<Span, UnitInvalid> {
        if text.trim() == "0" {
            return Ok(Span(Duration::ZERO));
        }
        let micros = scaled(text, &SPAN_UNITS).ok_or_else(|| UnitInvalid::Span(said(text)))?;
        let micros = u64::try_from(micros).map_err(|_| UnitInvalid::TooLarge(said(text)))?;
        Ok(Span(Duration::from_micros(micros)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bytes(self.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time(self.0))
    }
}

fn said(text: &str) -> String {
    text.chars().take(TEXT_BYTES_MAX).collect()
}

/// `12.5unit` times the unit's worth; `None` if it has another form. The parts of a whole unit
/// (half a byte) are dropped.
fn scaled(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, worth) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = format!("{fraction:0<FRACTION_DIGITS$}").parse().ok()?;
    let billionths = whole.checked_mul(BILLION)?.checked_add(fraction)?;
    billionths.checked_mul(*worth)?.checked_div(BILLION)
}

/// `1.5 GiB`, `256 MiB`, `17 B`.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // 1023.95 would be shown as "1024.0".
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = next;
    }
    let shown = format!("{value:.1}");
    format!("{} {unit}", shown.strip_suffix(".0").unwrap_or(&shown))
}

/// `850 µs`, `12 ms`, `2.3 s`, `3 min 20 s`, `2 h 5 min`, `30 d`.
pub fn time(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span < Duration::from_millis(1) => format!("{} µs", span.as_micros()),
        0 => format!("{} ms", span.as_millis()),
        1..120 => format!("{:.1} s", span.as_secs_f64()),
        120..7200 => two_parts(seconds / 60, "min", seconds % 60, "s"),
        7200..172_800 => two_parts(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two_parts(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// `2027-01-15 08:00 UTC`. What no calendar of ours knows is shown in seconds since 1970.
pub fn date(at: UnixTime) -> String {
    let known = i64::try_from(at.0).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let Some(at) = known else { return format!("second {} since 1970", at.0) };
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", at.hour(), at.minute())
}

fn two_parts(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// `118 MB/s`: megabytes of 1000² bytes, as networks are measured.
pub fn rate(count: u64, span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds <= 0.0 {
        return "-".into();
    }
    let rate = count as f64 / 1e6 / seconds;
    if rate < 10.0 { format!("{rate:.1} MB/s") } else { format!("{rate:.0} MB/s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("4096B"), Ok(4096));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("10 gib"), Ok(10 << 30));
        assert_eq!(size("1.5KiB"), Ok(1536));
        assert_eq!(size("0.5B"), Ok(0));
        assert_eq!(size("16383PiB"), Ok(16383 << 50));
    }

    #[test]
    fn a_size_that_could_mean_two_things_or_nothing_is_refused() {
        for text in ["", "G", "10G", "10K", "-1", "1e3", "1.", ".5GB", "1.2.3", "ten", "10 GiB x"] {
            assert!(matches!(text.parse::<Size>(), Err(UnitInvalid::Size(_))), "{text}");
        }
        assert!(matches!("16384PiB".parse::<Size>(), Err(UnitInvalid::TooLarge(_))));
        assert!("9".repeat(41).parse::<Size>().is_err());
        assert!("1.0000000001KB".parse::<Size>().is_err(), "ten digits of fraction");
    }

    #[test]
    fn times_read_as_people_write_them() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0);
        assert_eq!(span("0"), Ok(Duration::ZERO));
        assert_eq!(span("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86400)));
        assert_eq!(span("2w"), Ok(Duration::from_secs(14 * 86400)));
        for text in ["30", "d", "-1d", "3 months", ""] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_shown_in_units_that_fit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes((3 << 30) / 2), "1.5 GiB");
        assert_eq!(bytes((1 << 20) - 1), "1 MiB");
        assert_eq!(bytes(u64::MAX), "16 EiB");
        assert_eq!(time(Duration::from_micros(850)), "850 µs");
        assert_eq!(time(Duration::from_millis(12)), "12 ms");
        assert_eq!(time(Duration::from_millis(2300)), "2.3 s");
        assert_eq!(time(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(time(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!(time(Duration::from_secs(30 * 86400)), "30 d");
        assert_eq!(date(UnixTime(0)), "1970-01-01 00:00 UTC");
        assert_eq!(date(UnixTime(1_800_000_000)), "2027-01-15 08:00 UTC");
        assert_eq!(date(UnixTime(4_330_000_000)), "2107-03-19 17:46 UTC");
        assert_eq!(date(UnixTime(u64::MAX)), "second 18446744073709551615 since 1970");
        assert_eq!(rate(118_000_000, Duration::from_secs(1)), "118 MB/s");
        assert_eq!(rate(1, Duration::ZERO), "-");
    }
}
