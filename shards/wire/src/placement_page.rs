use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, Locator, PeerAddr, PeerId, ShardIndex, Signature, UnixTime};
use serde::{Deserialize, Serialize};

use crate::codec::{self, Undecodable, bounded};
use crate::limits::{PAGE_BYTES_MAX, PLACEMENT_HOLDERS_MAX, PLACEMENT_PAGES_MAX};
use crate::receipt::{RECEIPT_VERSION, RECEIPT_VERSION_OLD};
use crate::route::for_others;
use crate::{Receipt, Wrong, is_dialable};

/// The version of pages that this program writes, whose receipts have version 2.
const PAGE_VERSION: u8 = 2;
/// The version that it also reads, whose receipts have version 1.
const PAGE_VERSION_OLD: u8 = 1;
/// Version, locator, owner, number, pages and the counts of holders and receipts.
pub(crate) const PAGE_HEAD_BYTES_MAX: usize = 1 + 32 + 32 + 5 + 5 + 5 + 5;

/// A page of a placement as it is stored and sent. Its receipts are well formed and of the right
/// object and owner; their signatures are checked by [`crate::Placement::add`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementPage {
    /// Whose placement it is a page of. Version 1 does not say.
    pub owner: Option<PeerId>,
    /// Its number, from 0.
    pub number: u32,
    /// How many pages there are; 1 to [`PLACEMENT_PAGES_MAX`].
    pub pages: u32,
    /// Where holders were last seen: hints, dialable, and nobody's word is taken for them.
    pub holders: Vec<PeerAddr>,
    /// In ascending order of chunk, index, root and holder.
    pub receipts: Vec<Receipt>,
}

/// Why bytes are not a page of the placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementInvalid {
    /// Over the limit.
    #[error("the placement page has {0} bytes; at most {PAGE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It does not decode.
    #[error("the placement page cannot be read: {0}")]
    Undecodable(#[from] Undecodable),
    /// Another version.
    #[error("the placement page has version {0}, this program knows versions 1 and 2")]
    Version(u8),
    /// Of another object.
    #[error("the placement page is of another object")]
    Foreign,
    /// Of another owner.
    #[error("the placement page is of another owner than it was stored by")]
    OtherOwner,
    /// Page numbers that cannot be.
    #[error("it calls itself page {number} of {pages}; there are 1 to {PLACEMENT_PAGES_MAX}")]
    Number {
        /// Its number, from 0.
        number: u32,
        /// How many it says there are.
        pages: u32,
    },
    /// An address that nobody can be reached at.
    #[error("the placement page names an address that cannot be dialled")]
    Address,
    /// A receipt that cannot be.
    #[error("a receipt in the placement page cannot be: it names {0}")]
    Wrong(#[from] Wrong),
    /// Receipts out of order, or one twice.
    #[error("the receipts of the placement page are not in order")]
    Unsorted,
}

impl PlacementPage {
    /// Parses a page that should be of the object at `locator` and was stored by `owner`.
    pub fn parse(
        bytes: &[u8],
        locator: Locator,
        owner: PeerId,
    ) -> Result<PlacementPage, PlacementInvalid> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(PlacementInvalid::TooLong(bytes.len()));
        }
        let Some((version, parts)) = bytes.split_first() else {
            return Err(Undecodable::EndsEarly.into());
        };
        let page = match *version {
            PAGE_VERSION => PlacementPage::read(codec::decode(parts)?, locator, owner)?,
            PAGE_VERSION_OLD => PlacementPage::read_old(codec::decode(parts)?, locator)?,
            other => return Err(PlacementInvalid::Version(other)),
        };
        let PlacementPage { number, pages, .. } = page;
        if number >= pages || pages > PLACEMENT_PAGES_MAX {
            return Err(PlacementInvalid::Number { number, pages });
        }
        if page.holders.iter().any(|at| !is_dialable(at.addr)) {
            return Err(PlacementInvalid::Address);
        }
        page.receipts.iter().try_for_each(Receipt::check)?;
        let holders = page.holders.into_iter().filter_map(for_others).collect();
        Ok(PlacementPage { holders, ..page })
    }

    fn read(
        parts: PageParts,
        locator: Locator,
        owner: PeerId,
    ) -> Result<PlacementPage, PlacementInvalid> {
        let PageParts { number, pages, holders, receipts, .. } = parts;
        if parts.locator != locator {
            return Err(PlacementInvalid::Foreign);
        }
        if parts.owner != owner {
            return Err(PlacementInvalid::OtherOwner);
        }
        let order = |r: &PagedReceipt| (r.chunk, r.index, r.root, r.holder);
        if !receipts.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err(PlacementInvalid::Unsorted);
        }
        let receipts = receipts.into_iter().map(|receipt| receipt.whole(locator, owner)).collect();
        Ok(PlacementPage { owner: Some(owner), number, pages, holders, receipts })
    }

    fn read_old(parts: OldParts, locator: Locator) -> Result<PlacementPage, PlacementInvalid> {
        let OldParts { number, pages, holders, receipts, .. } = parts;
        if parts.locator != locator {
            return Err(PlacementInvalid::Foreign);
        }
        let order = |r: &OldReceipt| (r.chunk, r.index, r.holder);
        if !receipts.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err(PlacementInvalid::Unsorted);
        }
        let receipts = receipts.into_iter().map(|receipt| receipt.whole(locator)).collect();
        Ok(PlacementPage { owner: None, number, pages, holders, receipts })
    }
}

/// A page behind its version.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PageParts {
    pub(crate) locator: Locator,
    pub(crate) owner: PeerId,
    pub(crate) number: u32,
    pub(crate) pages: u32,
    #[serde(deserialize_with = "bounded::<_, _, PLACEMENT_HOLDERS_MAX>")]
    pub(crate) holders: Vec<PeerAddr>,
    #[serde(deserialize_with = "bounded::<_, _, RECEIPTS_PER_PAGE_MAX>")]
    pub(crate) receipts: Vec<PagedReceipt>,
}

/// A page of version 1 behind its version.
#[derive(Debug, Serialize, Deserialize)]
struct OldParts {
    locator: Locator,
    number: u32,
    pages: u32,
    #[serde(deserialize_with = "bounded::<_, _, PLACEMENT_HOLDERS_MAX>")]
    holders: Vec<PeerAddr>,
    #[serde(deserialize_with = "bounded::<_, _, RECEIPTS_PER_PAGE_MAX>")]
    receipts: Vec<OldReceipt>,
}

/// The shortest receipt in a page of either version has 132 bytes.
const RECEIPTS_PER_PAGE_MAX: usize = PAGE_BYTES_MAX / 132;

/// A receipt without what the page says for all of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PagedReceipt {
    chunk: ChunkNumber,
    index: ShardIndex,
    holder: PeerId,
    root: Hash,
    length: u64,
    stored: UnixTime,
    until: UnixTime,
    #[serde(with = "codec::signature")]
    signature: Signature,
}

/// The same of version 1.
#[derive(Debug, Serialize, Deserialize)]
struct OldReceipt {
    chunk: ChunkNumber,
    index: ShardIndex,
    holder: PeerId,
    root: Hash,
    length: u64,
    until: UnixTime,
    #[serde(with = "codec::signature")]
    signature: Signature,
}

impl PageParts {
    pub(crate) fn encode(&self) -> Bytes {
        Bytes::from([&[PAGE_VERSION][..], &codec::encode(self)].concat())
    }
}

impl PagedReceipt {
    /// `None` of a receipt of version 1.
    pub(crate) fn of(receipt: &Receipt) -> Option<PagedReceipt> {
        let Receipt { chunk, index, holder, root, length, stored, until, signature, .. } = *receipt;
        let stored = stored?;
        Some(PagedReceipt { chunk, index, holder, root, length, stored, until, signature })
    }

    fn whole(self, locator: Locator, owner: PeerId) -> Receipt {
        let PagedReceipt { chunk, index, holder, root, length, stored, until, signature } = self;
        Receipt {
            version: RECEIPT_VERSION,
            holder,
            owner: Some(owner),
            locator,
            chunk,
            index,
            root,
            length,
            stored: Some(stored),
            until,
            signature,
        }
    }
}

impl OldReceipt {
    fn whole(self, locator: Locator) -> Receipt {
        let OldReceipt { chunk, index, holder, root, length, until, signature } = self;
        Receipt {
            version: RECEIPT_VERSION_OLD,
            holder,
            owner: None,
            locator,
            chunk,
            index,
            root,
            length,
            stored: None,
            until,
            signature,
        }
    }
}
