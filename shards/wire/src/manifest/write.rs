use bytes::Bytes;
use pangea_base::{ContentKey, Entropy, Hash, ManifestId, PeerId, ReadKey};

use super::seal::{self, PageSealer, TAG_BYTES, VERSION};
use super::{Level, Object, RefParts};
use crate::limits::{CHUNKS_MAX, PAGE_BYTES_MAX, ROOT_BYTES_MAX};
use crate::{ChunkEntry, Label, codec};

/// Version, salt and tag around a root page.
const ROOT_OVERHEAD_BYTES: usize = 1 + seal::SALT_BYTES + TAG_BYTES;
/// Room for what stands before the list in a page: lengths, counts, the owner, the sealed
/// label.
const HEAD_BYTES_MAX: usize = 32 + 33 + seal::SEALED_LABEL_BYTES;

/// Bytes of a list that fit a page; smaller in tests, to reach every depth with few chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) root: usize,
    pub(super) page: usize,
}

const BUDGET: Budget = Budget {
    root: ROOT_BYTES_MAX - ROOT_OVERHEAD_BYTES - HEAD_BYTES_MAX,
    page: PAGE_BYTES_MAX - TAG_BYTES - HEAD_BYTES_MAX,
};
/// A chunk with 255 roots, and every number in it at its longest.
const ENTRY_BYTES_MAX: usize = 4 + 5 + 3 * 10 + 2 + 255 * 32;
/// A page reference with every number in it at its longest.
const REF_BYTES_MAX: usize = 32 + 5 + 5 + 10;
// The largest object of the largest chunks needs no fourth level.
const LEAVES_MAX: usize = CHUNKS_MAX as usize / (BUDGET.page / ENTRY_BYTES_MAX) + 1;
const INDEXES_MAX: usize = LEAVES_MAX / (BUDGET.page / REF_BYTES_MAX) + 1;
const _: () = assert!(INDEXES_MAX * REF_BYTES_MAX <= BUDGET.root);

/// Why an object gets no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFailed {
    /// More chunks than an object may have.
    #[error("an object has at most {CHUNKS_MAX} chunks; use larger chunks")]
    TooManyChunks,
    /// Not even an empty one.
    #[error("an object has at least one chunk")]
    NoChunks,
    /// An empty chunk among others.
    #[error("only the sole chunk of an object may be empty")]
    EmptyChunk,
}

/// A finished page below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPage {
    /// BLAKE3 of the bytes: what it is stored and fetched under.
    pub hash: Hash,
    /// At most 1 MiB.
    pub bytes: Bytes,
}

/// A finished manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedManifest {
    /// BLAKE3 of the root page: what the link names.
    pub id: ManifestId,
    /// The root page, at most 64 KiB.
    pub root: Bytes,
    /// The pages below it; none for a small object.
    pub pages: Vec<SealedPage>,
}

/// Seals a whole object at once. The salt is drawn from `entropy`.
pub fn seal_manifest(
    object: &Object,
    key: &ReadKey,
    entropy: &mut Entropy,
) -> Result<SealedManifest, SealFailed> {
    let mut writer = ManifestWriter::new(key, object.owner, entropy);
    let mut pages = Vec::new();
    for chunk in &object.chunks {
        pages.extend(writer.push(chunk)?);
    }
    let mut sealed = writer.finish(object.label.as_ref())?;
    pages.append(&mut sealed.pages);
    Ok(SealedManifest { pages, ..sealed })
}

/// Makes a manifest chunk by chunk, giving out each page as soon as it is full: holds one page
/// and a reference of 48 bytes for each page given out.
#[derive(Debug)]
pub struct ManifestWriter {
    sealer: PageSealer,
    content_key: ContentKey,
    owner: Option<PeerId>,
    budget: Budget,
    leaf: List,
    leaves: Vec<RefParts>,
    chunk_count: u32,
    plaintext_bytes: u64,
}

/// Elements already encoded, with what they sum up to.
#[derive(Debug, Default)]
struct List {
    bytes: Vec<u8>,
    elements: u32,
    chunk_count: u32,
    plaintext_bytes: u64,
}

impl List {
    fn push(&mut self, element: &[u8], chunk_count: u32, plaintext_bytes: u64) {
        self.bytes.extend_from_slice(element);
        self.elements = self.elements.saturating_add(1);
        self.chunk_count = self.chunk_count.saturating_add(chunk_count);
        self.plaintext_bytes = self.plaintext_bytes.saturating_add(plaintext_bytes);
    }

    fn fits(&self, element: &[u8], budget: usize) -> bool {
        self.bytes.len().saturating_add(element.len()) <= budget
    }

    /// The encoding of the list: its count, then its elements.
    fn encoded(&self) -> Vec<u8> {
        [codec::encode(&self.elements).as_slice(), &self.bytes].concat()
    }
}

impl ManifestWriter {
    /// An object without chunks so far, put by `owner`. The salt is drawn from `entropy`.
    pub fn new(key: &ReadKey, owner: Option<PeerId>, entropy: &mut Entropy) -> ManifestWriter {
        ManifestWriter::with_budget(key, owner, entropy, BUDGET)
    }

    pub(super) fn with_budget(
        key: &ReadKey,
        owner: Option<PeerId>,
        entropy: &mut Entropy,
        budget: Budget,
    ) -> ManifestWriter {
        ManifestWriter {
            sealer: PageSealer::new(&key.verify_key(), VERSION, entropy.array()),
            content_key: key.content_key(),
            owner,
            budget,
            leaf: List::default(),
            leaves: Vec::new(),
            chunk_count: 0,
            plaintext_bytes: 0,
        }
    }

    /// Adds the next chunk, in order. Gives out a page when one became full.
    pub fn push(&mut self, chunk: &ChunkEntry) -> Result<Option<SealedPage>, SealFailed> {
        if self.chunk_count >= CHUNKS_MAX {
            return Err(SealFailed::TooManyChunks);
        }
        let empty_among_others =
            self.chunk_count > 0 && (chunk.plaintext_bytes == 0 || self.plaintext_bytes == 0);
        if empty_among_others {
            return Err(SealFailed::EmptyChunk);
        }
        let element = codec::encode(&**chunk);
        let full = !self.leaf.fits(&element, self.budget.page);
        let page = full.then(|| self.flush_leaf());
        self.leaf.push(&element, 1, chunk.plaintext_bytes);
        self.chunk_count = self.chunk_count.saturating_add(1);
        self.plaintext_bytes = self.plaintext_bytes.saturating_add(chunk.plaintext_bytes);
        Ok(page)
    }

    /// Seals what is left. The pages here are those that [`ManifestWriter::push`] did not give
    /// out yet.
    pub fn finish(mut self, label: Option<&Label>) -> Result<SealedManifest, SealFailed> {
        if self.chunk_count == 0 {
            return Err(SealFailed::NoChunks);
        }
        let label = label.map(|l| seal::seal_label(&self.content_key, self.sealer.place(), l));
        let mut root = codec::encode(&(self.plaintext_bytes, self.chunk_count, label, self.owner));
        let mut pages = Vec::new();
        let (kind, list) = if self.leaves.is_empty() && self.leaf.fits(&[], self.budget.root) {
            (0u32, std::mem::take(&mut self.leaf))
        } else {
            pages.push(self.flush_leaf());
            let leaves = std::mem::take(&mut self.leaves);
            self.references(leaves, &mut pages)
        };
        root.extend_from_slice(&codec::encode(&kind));
        root.extend_from_slice(&list.encoded());
        self.sealer.seal(Level::Root, 0, &mut root);
        let root = [&[VERSION][..], &self.sealer.place().salt, &root].concat();
        assert!(root.len() <= ROOT_BYTES_MAX, "the budget keeps a root page below its limit");
        Ok(SealedManifest { id: ManifestId(Hash::of(&root).0), root: root.into(), pages })
    }

    /// What the root lists: the leaves, or index pages that do.
    fn references(&self, leaves: Vec<RefParts>, pages: &mut Vec<SealedPage>) -> (u32, List) {
        let mut direct = List::default();
        leaves.iter().for_each(|leaf| push_ref(&mut direct, leaf));
        if direct.fits(&[], self.budget.root) {
            return (1, direct);
        }
        let mut top = List::default();
        let mut index = List::default();
        let mut number = 0u32;
        let mut flush = |index: &mut List| {
            let (page, reference) = self.page(Level::Index, number, std::mem::take(index));
            number = number.saturating_add(1);
            pages.push(page);
            push_ref(&mut top, &reference);
        };
        for leaf in &leaves {
            if !index.fits(&codec::encode(leaf), self.budget.page) {
                flush(&mut index);
            }
            push_ref(&mut index, leaf);
        }
        flush(&mut index);
        (2, top)
    }

    fn flush_leaf(&mut self) -> SealedPage {
        let number = u32::try_from(self.leaves.len()).expect("fewer leaves than chunks");
        let list = std::mem::take(&mut self.leaf);
        let (page, reference) = self.page(Level::Leaf, number, list);
        self.leaves.push(reference);
        page
    }

    fn page(&self, level: Level, number: u32, list: List) -> (SealedPage, RefParts) {
        assert!(list.elements > 0, "an empty page is never made");
        let mut bytes = list.encoded();
        self.sealer.seal(level, number, &mut bytes);
        assert!(bytes.len() <= PAGE_BYTES_MAX, "the budget keeps a page below its limit");
        let hash = Hash::of(&bytes);
        let (chunk_count, plaintext_bytes) = (list.chunk_count, list.plaintext_bytes);
        let reference = RefParts { hash, number, chunk_count, plaintext_bytes };
        (SealedPage { hash, bytes: bytes.into() }, reference)
    }
}

fn push_ref(list: &mut List, reference: &RefParts) {
    let RefParts { chunk_count, plaintext_bytes, .. } = *reference;
    list.push(&codec::encode(reference), chunk_count, plaintext_bytes);
}
