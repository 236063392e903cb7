//! Numbers for open files. A number that was given back is not mistaken for its next owner's.

use std::sync::Arc;

use pangea_base::file::FileId;

use super::OpenFile;

/// Most files open at once per driver.
const FILES_OPEN_MAX: usize = 1 << 16;

/// Open files by number: the low 16 bits are a place, the high 16 how often it was given out.
pub(crate) struct FileTable {
    places: Vec<Place>,
    free: Vec<u16>,
}

struct Place {
    turn: u16,
    file: Option<Arc<OpenFile>>,
}

impl FileTable {
    pub(crate) fn new() -> FileTable {
        FileTable { places: Vec::new(), free: Vec::new() }
    }

    /// `None` when [`FILES_OPEN_MAX`] are open; the file is closed then.
    pub(crate) fn insert(&mut self, file: OpenFile) -> Option<FileId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.places.len()).ok()?;
                self.places.push(Place { turn: 0, file: None });
                index
            }
        };
        let place = &mut self.places[usize::from(index)];
        place.file = Some(Arc::new(file));
        Some(FileId(u32::from(place.turn) << 16 | u32::from(index)))
    }

    pub(crate) fn get(&self, id: FileId) -> Option<Arc<OpenFile>> {
        let place = self.places.get((id.0 & 0xffff) as usize)?;
        if u32::from(place.turn) != id.0 >> 16 {
            return None;
        }
        place.file.clone()
    }

    pub(crate) fn remove(&mut self, id: FileId) -> Option<Arc<OpenFile>> {
        let index = (id.0 & 0xffff) as u16;
        let place = self.places.get_mut(usize::from(index))?;
        if u32::from(place.turn) != id.0 >> 16 {
            return None;
        }
        let file = place.file.take()?;
        place.turn = place.turn.wrapping_add(1);
        self.free.push(index);
        Some(file)
    }
}

const _: () = assert!(FILES_OPEN_MAX == 1 << u16::BITS, "a place is numbered by 16 bits");

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    fn file() -> OpenFile {
        OpenFile { file: tempfile::tempfile().unwrap(), access: Access::Cached }
    }

    #[test]
    fn a_closed_files_number_is_not_its_successors() {
        let mut table = FileTable::new();
        let first = table.insert(file()).unwrap();
        assert!(table.remove(first).is_some());
        let second = table.insert(file()).unwrap();
        assert_ne!(first, second);
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        assert!(table.get(second).is_some());
        assert!(table.get(FileId(77)).is_none());
    }
}
