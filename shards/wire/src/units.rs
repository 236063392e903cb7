//! Sizes and lengths of time as people read them: `200 MiB`, `1.5 GiB`, `40 days`.

use std::fmt;

/// Bytes in the largest unit of 1024 that they fill: exact where they are, else to a tenth.
pub fn size(bytes: u64) -> impl fmt::Display {
    Size(bytes)
}

/// A length of time in the largest unit of which it has two.
pub fn span(seconds: u64) -> impl fmt::Display {
    Span(seconds)
}

struct Size(u64);

const SIZE_UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 1 {
            return f.write_str("1 byte");
        }
        let mut worth = 1u128;
        for (at, unit) in SIZE_UNITS.iter().enumerate() {
            let tenths = rounded(u128::from(self.0).saturating_mul(10), worth);
            let last = at.saturating_add(1) == SIZE_UNITS.len();
            // 1023.97 KiB would be shown as 1024 KiB.
            if tenths < 10_240 || last {
                return write!(f, "{} {unit}", Tenths(tenths));
            }
            worth = worth.saturating_mul(1024);
        }
        Ok(())
    }
}

struct Span(u64);

/// Years of 365.25 days.
const SPAN_UNITS: [(u64, &str); 4] =
    [(31_557_600, "years"), (86_400, "days"), (3_600, "hours"), (60, "minutes")];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (worth, unit) in SPAN_UNITS {
            if self.0 >= worth.saturating_mul(2) {
                let count = rounded(self.0.into(), worth.into());
                return write!(f, "{count} {unit}");
            }
        }
        write!(f, "{} {}", self.0, if self.0 == 1 { "second" } else { "seconds" })
    }
}

/// A part of a whole in words: `a tenth of`, `12.5% of`; nothing for a whole of nothing.
pub(crate) fn share_of(part: u64, whole: u64) -> impl fmt::Display {
    Share { part, whole }
}

struct Share {
    part: u64,
    whole: u64,
}

const FRACTIONS: [(u64, &str); 10] = [
    (1, "all"),
    (2, "half"),
    (3, "a third"),
    (4, "a quarter"),
    (5, "a fifth"),
    (6, "a sixth"),
    (7, "a seventh"),
    (8, "an eighth"),
    (9, "a ninth"),
    (10, "a tenth"),
];

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { part, whole } = *self;
        // Shares are cut off at whole bytes, so the fraction is of the same cut.
        let is = |parts: u64| whole.checked_div(parts) == Some(part);
        match FRACTIONS.into_iter().find(|(parts, _)| is(*parts)) {
            Some((_, words)) => write!(f, "{words} of"),
            None => {
                let tenths = rounded(u128::from(part).saturating_mul(1000), whole.max(1).into());
                write!(f, "{}% of", Tenths(tenths))
            }
        }
    }
}

/// Tenths as a decimal, without a zero at its end.
struct Tenths(u128);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, tenth) = (self.0.saturating_div(10), self.0.checked_rem(10).unwrap_or(0));
        if tenth == 0 { write!(f, "{whole}") } else { write!(f, "{whole}.{tenth}") }
    }
}

/// The quotient, to the nearest whole number. `by` is never 0.
fn rounded(value: u128, by: u128) -> u128 {
    value.saturating_add(by.saturating_div(2)).checked_div(by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_exact_or_to_a_tenth() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1 MiB"),
            ((1 << 20) - 1, "1 MiB"),
            (200 << 20, "200 MiB"),
            ((1 << 30) + 1, "1 GiB"),
            (10 << 30, "10 GiB"),
            ((10 << 30) + (1 << 29), "10.5 GiB"),
            (1 << 60, "1 EiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_span_is_in_the_largest_unit_of_which_it_has_two() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (600, "10 minutes"),
            (3 * 3600 + 10, "3 hours"),
            (86_400, "24 hours"),
            (40 * 86_400 - 3, "40 days"),
            (1826 * 86_400, "5 years"),
            (u64::MAX, "584542046091 years"),
        ] {
            assert_eq!(span(seconds).to_string(), text);
        }
    }

    #[test]
    fn a_share_is_a_fraction_where_it_is_one() {
        for (part, whole, text) in [
            (10, 10, "all of"),
            (1, 2, "half of"),
            ((1 << 30) / 3, 1 << 30, "a third of"),
            ((10 << 30) / 8, 10 << 30, "an eighth of"),
            // Cut off at whole bytes.
            (1_073_741_824, (10 << 30) + 9, "a tenth of"),
            (125, 1000, "an eighth of"),
            (15, 1000, "1.5% of"),
            (2, 1, "200% of"),
        ] {
            assert_eq!(share_of(part, whole).to_string(), text);
        }
    }
}
