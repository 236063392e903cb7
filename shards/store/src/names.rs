//! The names of the files.

use pangea_base::file::FileName;

/// The version file.
pub(crate) fn format() -> FileName {
    FileName::new("store/format")
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

/// Tells what a file is; only the exact names above are ours.
pub(crate) fn parse(partition: u8, name: &FileName) -> Named {
    let last = name.as_str().rsplit('/').next().unwrap_or("");
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    if let Some(generation) = last.strip_prefix("journal-").and_then(number)
        && *name == journal(partition, generation)
    {
        return Named::Journal(generation);
    }
    if let Some(found) = last.strip_prefix("extent-").and_then(number)
        && let Ok(found) = u32::try_from(found)
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
        for name in ["journal-1f", "extent-0000000g", "extent-000000001", "notes.txt"] {
            assert_eq!(parse(3, &FileName::new(format!("store/p03/{name}"))), Named::Unknown);
        }
        assert_eq!(parse(4, &extent(3, 7)), Named::Unknown);
    }
}
