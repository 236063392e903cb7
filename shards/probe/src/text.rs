//! Small files of text from the system, and small texts for people.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::arithmetic_side_effects))]

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More of a file than this is not read. The longest of ours, mountinfo, has a line for each mount.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of `path`, an absolute path, below `root`; `None` if it cannot be read.
pub(crate) fn read(root: &Path, path: &str) -> Option<String> {
    let file = File::open(root.join(path.trim_start_matches('/'))).ok()?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What follows `name` on the first line of `text` that begins with it.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Bytes as a person says them: "512 MiB", "3.5 GiB".
pub(crate) fn size(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    match bytes as f64 {
        bytes if bytes >= GIB => format!("{:.1} GiB", bytes / GIB),
        bytes => format!("{:.0} MiB", bytes / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_of_a_file_is_read() {
        let root = tempfile::tempdir().unwrap();
        let limit = FILE_BYTES_MAX as usize;
        std::fs::write(root.path().join("long"), vec![b'x'; limit + 1]).unwrap();
        assert_eq!(read(root.path(), "/long").unwrap().len(), limit);
        assert_eq!(read(root.path(), "/missing"), None);
    }

    #[test]
    fn sizes_read_as_a_person_says_them() {
        assert_eq!(size(512 << 20), "512 MiB");
        assert_eq!(size(7 << 29), "3.5 GiB");
    }
}
