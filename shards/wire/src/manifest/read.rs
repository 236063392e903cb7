use pangea_base::{ChunkNumber, Hash, ManifestId, PeerId, ReadKey, VerifyKey};

use super::seal::{self, PageSealer, Salt, VERSION, VERSION_OLD};
use super::{
    Contents, IndexParts, LeafParts, Level, ManifestInvalid, OldRootParts, PageRef, RefParts,
    RootBody, RootParts,
};
use crate::limits::{CHUNKS_MAX, PAGE_BYTES_MAX, ROOT_BYTES_MAX};
use crate::{ChunkEntry, ChunkParts, Label, codec};

/// An opened manifest: knows its root page, and opens the pages below it one by one without
/// keeping them.
#[derive(Debug)]
pub struct ManifestReader {
    sealer: PageSealer,
    plaintext_bytes: u64,
    chunk_count: u32,
    label: Option<Vec<u8>>,
    owner: Option<PeerId>,
    top: Contents,
}

/// How much must lie under a page.
#[derive(Debug, Clone, Copy)]
struct Under {
    first: ChunkNumber,
    chunk_count: u32,
    plaintext_bytes: u64,
}

impl ManifestReader {
    /// Opens the root page, which must have the hash `id`.
    pub fn root(
        bytes: &[u8],
        id: ManifestId,
        key: &VerifyKey,
    ) -> Result<ManifestReader, ManifestInvalid> {
        if bytes.len() > ROOT_BYTES_MAX {
            return Err(ManifestInvalid::TooLong(bytes.len()));
        }
        if Hash::of(bytes).0 != id.0 {
            return Err(ManifestInvalid::OtherRoot);
        }
        let (&version, rest) = bytes.split_first().ok_or(ManifestInvalid::TooShort)?;
        if !matches!(version, VERSION | VERSION_OLD) {
            return Err(ManifestInvalid::Version(version));
        }
        let (salt, sealed): (&Salt, _) =
            rest.split_first_chunk().ok_or(ManifestInvalid::TooShort)?;
        let sealer = PageSealer::new(key, version, *salt);
        let opened = sealer.open(Level::Root, 0, sealed)?;
        let parts = match version {
            VERSION_OLD => codec::decode::<OldRootParts>(&opened)?.into(),
            _ => codec::decode::<RootParts>(&opened)?,
        };
        let (chunk_count, plaintext_bytes) = (parts.chunk_count, parts.plaintext_bytes);
        if chunk_count == 0 || chunk_count > CHUNKS_MAX {
            return Err(ManifestInvalid::ChunkCount(chunk_count));
        }
        let under = Under { first: ChunkNumber(0), chunk_count, plaintext_bytes };
        let top = match parts.body {
            RootBody::Chunks(chunks) => chunk_list(chunks, under, chunk_count)?,
            RootBody::Leaves(pages) => page_list(pages, under, Level::Leaf)?,
            RootBody::Indexes(pages) => page_list(pages, under, Level::Index)?,
        };
        let RootParts { label, owner, .. } = parts;
        Ok(ManifestReader { sealer, plaintext_bytes, chunk_count, label, owner, top })
    }

    /// Bytes of the object: the sum over all its chunks.
    pub fn plaintext_bytes(&self) -> u64 {
        self.plaintext_bytes
    }

    /// How many chunks it has: 1 to [`CHUNKS_MAX`].
    pub fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// Who put the object: whose placement pages and shards to look for. `None` if the manifest
    /// does not say, as those of version 1.
    pub fn owner(&self) -> Option<PeerId> {
        self.owner
    }

    /// What the root page holds.
    pub fn top(&self) -> &Contents {
        &self.top
    }

    /// The object's name, if it has one.
    pub fn label(&self, key: &ReadKey) -> Result<Option<Label>, ManifestInvalid> {
        let open =
            |sealed: &Vec<u8>| seal::open_label(&key.content_key(), self.sealer.place(), sealed);
        self.label.as_ref().map(open).transpose()
    }

    /// Opens a page that this manifest refers to.
    pub fn page(&self, page: &PageRef, bytes: &[u8]) -> Result<Contents, ManifestInvalid> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(ManifestInvalid::TooLong(bytes.len()));
        }
        if Hash::of(bytes) != page.hash {
            return Err(ManifestInvalid::OtherPage);
        }
        let PageRef { first, chunk_count, plaintext_bytes, .. } = *page;
        let under = Under { first, chunk_count, plaintext_bytes };
        let opened = self.sealer.open(page.level, page.number, bytes)?;
        match page.level {
            Level::Index => {
                let parts: IndexParts = codec::decode(&opened)?;
                page_list(parts.pages, under, Level::Leaf)
            }
            _ => {
                let parts: LeafParts = codec::decode(&opened)?;
                chunk_list(parts.chunks, under, self.chunk_count)
            }
        }
    }
}

fn chunk_list(
    list: Vec<ChunkParts>,
    under: Under,
    chunks_of_object: u32,
) -> Result<Contents, ManifestInvalid> {
    if list.is_empty() {
        return Err(ManifestInvalid::EmptyList);
    }
    if list.len() as u64 != u64::from(under.chunk_count) {
        let (found, expected) = (list.len() as u64, under.chunk_count);
        return Err(ManifestInvalid::Count { found, expected });
    }
    let mut sum = 0u64;
    let mut entries = Vec::new();
    for (number, parts) in (under.first.0..).zip(list) {
        let entry = ChunkEntry::try_from(parts)
            .map_err(|wrong| ManifestInvalid::Chunk { chunk: number, wrong })?;
        if entry.plaintext_bytes == 0 && chunks_of_object > 1 {
            return Err(ManifestInvalid::EmptyChunk(number));
        }
        sum = sum.saturating_add(entry.plaintext_bytes);
        entries.push(entry);
    }
    if sum != under.plaintext_bytes {
        return Err(ManifestInvalid::Sum(under.plaintext_bytes));
    }
    Ok(Contents::Chunks { first: under.first, entries })
}

fn page_list(list: Vec<RefParts>, under: Under, level: Level) -> Result<Contents, ManifestInvalid> {
    if list.is_empty() || list.iter().any(|page| page.chunk_count == 0) {
        return Err(ManifestInvalid::EmptyList);
    }
    let (mut count, mut sum) = (0u64, 0u64);
    let mut pages = Vec::new();
    for RefParts { hash, number, chunk_count, plaintext_bytes } in list {
        // Checked before it is used: a first chunk within the announced ones fits its type.
        let past = count >= u64::from(under.chunk_count);
        let before = u32::try_from(count).ok().filter(|_| !past);
        count = count.saturating_add(u64::from(chunk_count));
        let first = before.and_then(|before| under.first.0.checked_add(before));
        let Some(first) = first.map(ChunkNumber) else {
            let expected = under.chunk_count;
            return Err(ManifestInvalid::Count { found: count, expected });
        };
        let total = sum.checked_add(plaintext_bytes);
        sum = total.ok_or(ManifestInvalid::Sum(under.plaintext_bytes))?;
        pages.push(PageRef { hash, first, chunk_count, plaintext_bytes, number, level });
    }
    if count != u64::from(under.chunk_count) {
        let expected = under.chunk_count;
        return Err(ManifestInvalid::Count { found: count, expected });
    }
    if sum != under.plaintext_bytes {
        return Err(ManifestInvalid::Sum(under.plaintext_bytes));
    }
    Ok(Contents::Pages(pages))
}

/// Goes through all chunks of a manifest in order, asking for one page at a time.
#[derive(Debug)]
pub struct ManifestWalk {
    reader: ManifestReader,
    ready: Option<(ChunkNumber, Vec<ChunkEntry>)>,
    wanted: Option<PageRef>,
    // Pages still to come: the root's, and those of one index page.
    stack: Vec<std::vec::IntoIter<PageRef>>,
}

/// What a [`ManifestWalk`] needs or gives next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The next chunks, in order from `first`.
    Chunks {
        /// The number of the first one.
        first: ChunkNumber,
        /// At least one.
        entries: Vec<ChunkEntry>,
    },
    /// This page must be fetched and given to [`ManifestWalk::add`].
    Fetch(PageRef),
    /// All chunks were given.
    Done,
}

impl ManifestWalk {
    /// From the first chunk on.
    pub fn new(reader: ManifestReader) -> ManifestWalk {
        let top = reader.top.clone();
        let mut walk = ManifestWalk { reader, ready: None, wanted: None, stack: Vec::new() };
        walk.enter(top);
        walk
    }

    /// The manifest itself.
    pub fn reader(&self) -> &ManifestReader {
        &self.reader
    }

    /// What comes next. Says `Fetch` of the same page until it was added.
    pub fn step(&mut self) -> Step {
        if let Some((first, entries)) = self.ready.take() {
            return Step::Chunks { first, entries };
        }
        if let Some(page) = self.wanted {
            return Step::Fetch(page);
        }
        while let Some(pages) = self.stack.last_mut() {
            if let Some(page) = pages.next() {
                self.wanted = Some(page);
                return Step::Fetch(page);
            }
            self.stack.pop();
        }
        Step::Done
    }

    /// The bytes of the page that [`Step::Fetch`] asked for. After an error it still asks.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), ManifestInvalid> {
        let page = self.wanted.expect("a page is added only when one was asked for");
        let contents = self.reader.page(&page, bytes)?;
        self.wanted = None;
        self.enter(contents);
        Ok(())
    }

    fn enter(&mut self, contents: Contents) {
        match contents {
            Contents::Chunks { first, entries } => self.ready = Some((first, entries)),
            Contents::Pages(pages) => self.stack.push(pages.into_iter()),
        }
    }
}
