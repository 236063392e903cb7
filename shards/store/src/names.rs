//! The names of the files.

use pangea_base::file::FileName;

use crate::limits::{EXTENT_NUMBER_MAX, JOURNAL_GENERATION_MAX, PARTITIONS};

/// The directory of all that is below.
pub(crate) fn store() -> FileName {
    FileName::new("store")
}

/// The version file.
pub(crate) fn format() -> FileName {
    FileName::new("store/format")
}

/// Its successor, as the core with this partition writes it.
pub(crate) fn next_format(partition: u8) -> FileName {
    FileName::new(format!("store/format-p{partition:02}"))
}

/// The last wall time that was believed.
pub(crate) fn clock() -> FileName {
    FileName::new("store/clock")
}

pub(crate) fn directory(partition: u8) -> FileName {
    FileName::new(format!("store/p{partition:02}"))
}

pub(crate) fn journal(partition: u8, generation: u64) -> FileName {
    FileName::new(format!("store/p{partition:02}/journal-{generation:016x}"))
}

pub(crate) fn extent(partition: u8, extent: u32) -> FileName {
    FileName::new(format!("store/p{partition:02}/extent-{extent:08x}"))
}

/// What a file in a partition's directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    Journal(u64),
    Extent(u32),
    Unknown,
}

/// What something directly below `store` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Above {
    Format,
    NextFormat(u8),
    Clock,
    Partition(u8),
    Unknown,
}

/// Tells what it is; only the exact names above are ours.
pub(crate) fn parse_above(name: &FileName) -> Above {
    if *name == format() {
        return Above::Format;
    }
    if *name == clock() {
        return Above::Clock;
    }
    let last = name.as_str().rsplit('/').next().unwrap_or("");
    let number = |rest: Option<&str>| {
        let number = rest?.parse::<u8>().ok()?;
        (number < PARTITIONS).then_some(number)
    };
    match (number(last.strip_prefix('p')), number(last.strip_prefix("format-p"))) {
        (Some(number), _) if *name == directory(number) => Above::Partition(number),
        (_, Some(number)) if *name == next_format(number) => Above::NextFormat(number),
        _ => Above::Unknown,
    }
}

/// Tells what a file is; only the exact names above are ours, with numbers within their bounds.
pub(crate) fn parse(partition: u8, name: &FileName) -> Named {
    let last = name.as_str().rsplit('/').next().unwrap_or("");
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    if let Some(generation) = last.strip_prefix("journal-").and_then(number)
        && generation <= JOURNAL_GENERATION_MAX
        && *name == journal(partition, generation)
    {
        return Named::Journal(generation);
    }
    if let Some(found) = last.strip_prefix("extent-").and_then(number)
        && let Ok(found) = u32::try_from(found)
        && found <= EXTENT_NUMBER_MAX
        && *name == extent(partition, found)
    {
        return Named::Extent(found);
    }
    Named::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_ours() {
        assert_eq!(parse(3, &journal(3, 0x1f)), Named::Journal(0x1f));
        assert_eq!(parse(3, &extent(3, 7)), Named::Extent(7));
        assert_eq!(parse(127, &extent(127, EXTENT_NUMBER_MAX)), Named::Extent(EXTENT_NUMBER_MAX));
        let beyond = ["extent-ffffffff", "extent-01000000", "journal-ffffffffffffffff"];
        let wrong = ["journal-1f", "extent-0000000g", "extent-000000001", "notes.txt"];
        for name in beyond.into_iter().chain(wrong) {
            assert_eq!(parse(3, &FileName::new(format!("store/p03/{name}"))), Named::Unknown);
        }
        assert_eq!(parse(4, &extent(3, 7)), Named::Unknown);
        let above = |name: &str| parse_above(&FileName::new(format!("store/{name}")));
        assert_eq!(above("format"), Above::Format);
        assert_eq!(above("clock"), Above::Clock);
        assert_eq!(above("p00"), Above::Partition(0));
        assert_eq!(above("p127"), Above::Partition(127));
        assert_eq!(above("format-p07"), Above::NextFormat(7));
        for name in ["p0", "p128", "p007", "p", "format-p7", "format2", "p-1"] {
            assert_eq!(above(name), Above::Unknown, "{name}");
        }
    }
}
