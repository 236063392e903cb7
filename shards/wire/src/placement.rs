use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, Locator, PeerAddr, PeerId, ShardIndex, Signature, UnixTime};
use serde::{Deserialize, Serialize};

use crate::codec::{self, Undecodable, bounded};
use crate::limits::{
    HOLDERS_PER_SHARD_MAX, PAGE_BYTES_MAX, PLACEMENT_HOLDERS_MAX, PLACEMENT_PAGES_MAX,
    PLACEMENT_RECEIPTS_MAX,
};
use crate::route::for_others;
use crate::{ChunkEntry, Receipt, ReceiptRefused, Wrong, is_dialable};

const PAGE_VERSION: u8 = 1;
/// Version, locator, number, pages and the counts of holders and receipts.
const PAGE_HEAD_BYTES_MAX: usize = 1 + 32 + 5 + 5 + 5 + 5;

/// Who holds which shard of one object until when: verified receipts, merged by union. Of one
/// holder's receipts for a shard the newest lease wins; of a shard's holders the
/// [`HOLDERS_PER_SHARD_MAX`] with the newest leases are kept. The order of arrival changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    locator: Locator,
    // Per shard: best first, one per holder.
    shards: BTreeMap<(ChunkNumber, ShardIndex), Vec<Receipt>>,
    receipts: usize,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// A holder not known before.
    New,
    /// A newer lease of a known holder.
    Renewed,
    /// Nothing: a newer one, or the same, was there.
    Known,
    /// Nothing: enough holders with newer leases are known.
    Crowded,
}

/// Why a receipt does not enter a placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementRefused {
    /// For another object.
    #[error("the receipt is for another object")]
    Foreign,
    /// Signature or version.
    #[error(transparent)]
    Receipt(#[from] ReceiptRefused),
    /// Numbers that cannot be.
    #[error("the receipt cannot be: it names {0}")]
    Wrong(#[from] Wrong),
    /// For other bytes than the manifest's.
    #[error("the receipt is for a shard that the manifest does not have")]
    NotInManifest,
    /// [`PLACEMENT_RECEIPTS_MAX`] are there.
    #[error("the placement is full: it holds {PLACEMENT_RECEIPTS_MAX} receipts")]
    Full,
}

impl Placement {
    /// Nobody holds anything, as far as is known.
    pub fn new(locator: Locator) -> Placement {
        Placement { locator, shards: BTreeMap::new(), receipts: 0 }
    }

    /// The object that it is of.
    pub fn locator(&self) -> Locator {
        self.locator
    }

    /// How many receipts it has.
    pub fn len(&self) -> usize {
        self.receipts
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.receipts == 0
    }

    /// The receipts of a shard, newest lease first.
    pub fn shard(&self, chunk: ChunkNumber, index: ShardIndex) -> &[Receipt] {
        self.shards.get(&(chunk, index)).map_or(&[], Vec::as_slice)
    }

    /// All receipts, by chunk and index, newest lease first.
    pub fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.shards.values().flatten()
    }

    /// Takes in a receipt after checking its signature, which is most of the cost. Give the
    /// chunk's entry where the manifest is known: then a receipt for other bytes is refused too.
    pub fn add(
        &mut self,
        receipt: Receipt,
        entry: Option<&ChunkEntry>,
    ) -> Result<Added, PlacementRefused> {
        if receipt.locator != self.locator {
            return Err(PlacementRefused::Foreign);
        }
        receipt.check()?;
        if entry.is_some_and(|entry| !is_of(&receipt, entry)) {
            return Err(PlacementRefused::NotInManifest);
        }
        // What would change nothing is not worth a signature check.
        if self.shard(receipt.chunk, receipt.index).contains(&receipt) {
            return Ok(Added::Known);
        }
        receipt.verify()?;
        self.insert(receipt)
    }

    /// Takes in all of another placement of the same object.
    pub fn merge(&mut self, other: Placement) -> Result<(), PlacementRefused> {
        if other.locator != self.locator {
            return Err(PlacementRefused::Foreign);
        }
        for receipt in other.shards.into_values().flatten() {
            self.insert(receipt)?;
        }
        Ok(())
    }

    /// Forgets the receipts whose lease is over at `now`.
    pub fn expire(&mut self, now: UnixTime) {
        self.shards.retain(|_, receipts| {
            receipts.retain(|receipt| receipt.lease > now);
            !receipts.is_empty()
        });
        self.receipts = self.shards.values().map(Vec::len).sum();
    }

    /// Takes in a receipt whose signature its core has checked when it came.
    pub fn add_checked(&mut self, receipt: Receipt) -> Result<Added, PlacementRefused> {
        if receipt.locator != self.locator {
            return Err(PlacementRefused::Foreign);
        }
        receipt.check()?;
        self.insert(receipt)
    }

    /// The placement in pages of at most 1 MiB; at least one. The first also says where its
    /// holders were last seen, as far as `addresses` knows: at most [`PLACEMENT_HOLDERS_MAX`].
    pub fn pages(&self, addresses: &[PeerAddr]) -> Vec<Bytes> {
        let holders: BTreeSet<PeerId> = self.iter().map(|receipt| receipt.holder).collect();
        let mut addresses: Vec<PeerAddr> = addresses
            .iter()
            .copied()
            .filter(|at| holders.contains(&at.peer) && is_dialable(at.addr))
            .filter_map(for_others)
            .collect();
        addresses.sort_unstable();
        addresses.dedup_by_key(|at| at.peer);
        addresses.truncate(PLACEMENT_HOLDERS_MAX);
        let mut lists: Vec<Vec<PagedReceipt>> = vec![Vec::new()];
        let mut room = PAGE_BYTES_MAX
            .saturating_sub(PAGE_HEAD_BYTES_MAX)
            .saturating_sub(codec::encoded_bytes(&addresses));
        for receipts in self.shards.values() {
            let mut by_holder: Vec<&Receipt> = receipts.iter().collect();
            by_holder.sort_by_key(|receipt| receipt.holder);
            for receipt in by_holder.into_iter().map(PagedReceipt::from) {
                let bytes = codec::encoded_bytes(&receipt);
                if bytes > room {
                    lists.push(Vec::new());
                    room = PAGE_BYTES_MAX.saturating_sub(PAGE_HEAD_BYTES_MAX);
                }
                room = room.saturating_sub(bytes);
                lists.last_mut().expect("there is a first list").push(receipt);
            }
        }
        let pages = u32::try_from(lists.len()).expect("few pages");
        assert!(pages <= PLACEMENT_PAGES_MAX, "all that a placement holds fits its pages");
        let locator = self.locator;
        let page = |(number, receipts)| {
            let holders = if number == 0 { addresses.clone() } else { Vec::new() };
            let version = PAGE_VERSION;
            let parts = PageParts { version, locator, number, pages, holders, receipts };
            Bytes::from(codec::encode(&parts))
        };
        (0..).zip(lists).map(page).collect()
    }

    /// `receipt` is known to be genuine.
    fn insert(&mut self, receipt: Receipt) -> Result<Added, PlacementRefused> {
        let full = self.receipts >= PLACEMENT_RECEIPTS_MAX;
        let held = self.shards.entry((receipt.chunk, receipt.index)).or_default();
        let known = held.iter().position(|other| other.holder == receipt.holder);
        let replaced = match known.and_then(|at| held.get(at)) {
            Some(other) if rank(other) >= rank(&receipt) => return Ok(Added::Known),
            Some(_) => Added::Renewed,
            None if full && held.len() < HOLDERS_PER_SHARD_MAX => {
                if held.is_empty() {
                    self.shards.remove(&(receipt.chunk, receipt.index));
                }
                return Err(PlacementRefused::Full);
            }
            None => Added::New,
        };
        if let Some(at) = known {
            held.remove(at);
        }
        let before = known.map_or(held.len(), |_| held.len().saturating_add(1));
        let at = held.partition_point(|other| rank(other) > rank(&receipt));
        held.insert(at, receipt);
        held.truncate(HOLDERS_PER_SHARD_MAX);
        self.receipts = self.receipts.saturating_sub(before).saturating_add(held.len());
        Ok(if at >= HOLDERS_PER_SHARD_MAX { Added::Crowded } else { replaced })
    }
}

/// A total order, so that the outcome does not depend on who came first.
fn rank(receipt: &Receipt) -> (UnixTime, PeerId, Hash, u64, &Signature) {
    (receipt.lease, receipt.holder, receipt.root, receipt.length, &receipt.signature)
}

fn is_of(receipt: &Receipt, entry: &ChunkEntry) -> bool {
    entry.root(receipt.index) == Some(receipt.root) && entry.shard_bytes == receipt.length
}

/// A page of a placement as it is stored and sent. Its receipts are well formed and of the right
/// object; their signatures are checked by [`Placement::add`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementPage {
    /// Its number, from 0.
    pub number: u32,
    /// How many pages there are; 1 to [`PLACEMENT_PAGES_MAX`].
    pub pages: u32,
    /// Where holders were last seen: hints, dialable, and nobody's word is taken for them.
    pub holders: Vec<PeerAddr>,
    /// In ascending order of chunk, index and holder.
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
    #[error("the placement page has version {0} and this program knows version 1")]
    Version(u8),
    /// Of another object.
    #[error("the placement page is of another object")]
    Foreign,
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
    /// Parses a page that should be of the object at `locator`.
    pub fn parse(bytes: &[u8], locator: Locator) -> Result<PlacementPage, PlacementInvalid> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(PlacementInvalid::TooLong(bytes.len()));
        }
        let parts: PageParts = codec::decode(bytes)?;
        if parts.version != PAGE_VERSION {
            return Err(PlacementInvalid::Version(parts.version));
        }
        if parts.locator != locator {
            return Err(PlacementInvalid::Foreign);
        }
        let PageParts { number, pages, .. } = parts;
        if number >= pages || pages > PLACEMENT_PAGES_MAX {
            return Err(PlacementInvalid::Number { number, pages });
        }
        if parts.holders.iter().any(|at| !is_dialable(at.addr)) {
            return Err(PlacementInvalid::Address);
        }
        let order = |r: &PagedReceipt| (r.chunk, r.index, r.holder);
        if !parts.receipts.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err(PlacementInvalid::Unsorted);
        }
        let receipts: Vec<Receipt> =
            parts.receipts.into_iter().map(|receipt| receipt.whole(locator)).collect();
        receipts.iter().try_for_each(Receipt::check)?;
        let holders = parts.holders.into_iter().filter_map(for_others).collect();
        Ok(PlacementPage { number, pages, holders, receipts })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct PageParts {
    version: u8,
    locator: Locator,
    number: u32,
    pages: u32,
    #[serde(deserialize_with = "bounded::<_, _, PLACEMENT_HOLDERS_MAX>")]
    holders: Vec<PeerAddr>,
    #[serde(deserialize_with = "bounded::<_, _, RECEIPTS_PER_PAGE_MAX>")]
    receipts: Vec<PagedReceipt>,
}

/// The shortest receipt in a page has 132 bytes.
const RECEIPTS_PER_PAGE_MAX: usize = PAGE_BYTES_MAX / 132;

/// A receipt without what the page says for all of them.
#[derive(Debug, Serialize, Deserialize)]
struct PagedReceipt {
    chunk: ChunkNumber,
    index: ShardIndex,
    holder: PeerId,
    root: Hash,
    length: u64,
    lease: UnixTime,
    #[serde(with = "codec::signature")]
    signature: Signature,
}

impl From<&Receipt> for PagedReceipt {
    fn from(receipt: &Receipt) -> PagedReceipt {
        let Receipt { chunk, index, holder, root, length, lease, signature, .. } = *receipt;
        PagedReceipt { chunk, index, holder, root, length, lease, signature }
    }
}

impl PagedReceipt {
    fn whole(self, locator: Locator) -> Receipt {
        let PagedReceipt { chunk, index, holder, root, length, lease, signature } = self;
        // The page's version is 1, whose receipts have version 1.
        Receipt { version: 1, holder, locator, chunk, index, root, length, lease, signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(shard: usize, holder: u8) -> Receipt {
        Receipt {
            version: 1,
            holder: PeerId([holder; 32]),
            locator: Locator([1; 32]),
            chunk: ChunkNumber(shard as u32 / 255),
            index: ShardIndex((shard % 255) as u8),
            root: Hash([0; 32]),
            length: u64::MAX >> 36,
            lease: UnixTime(u64::MAX),
            signature: [0; 64],
        }
    }

    #[test]
    fn a_placement_at_its_limit_refuses_one_more_and_fits_its_pages() {
        let mut placement = Placement::new(Locator([1; 32]));
        for n in 0..PLACEMENT_RECEIPTS_MAX {
            let (shard, holder) = (n / HOLDERS_PER_SHARD_MAX, n % HOLDERS_PER_SHARD_MAX);
            assert_eq!(placement.insert(receipt(shard, holder as u8)), Ok(Added::New));
        }
        assert_eq!(placement.len(), PLACEMENT_RECEIPTS_MAX);
        let beyond = PLACEMENT_RECEIPTS_MAX / HOLDERS_PER_SHARD_MAX;
        assert_eq!(placement.insert(receipt(beyond, 0)), Err(PlacementRefused::Full));
        assert!(
            !placement.shards.contains_key(&(receipt(beyond, 0).chunk, receipt(beyond, 0).index))
        );
        // A better receipt for a shard with all its holders still takes a place.
        assert_eq!(placement.insert(receipt(0, 9)), Ok(Added::New));
        assert_eq!(placement.len(), PLACEMENT_RECEIPTS_MAX);
        let pages = placement.pages(&[]);
        assert!(pages.iter().all(|page| page.len() <= PAGE_BYTES_MAX));
        let read: usize = pages
            .iter()
            .map(|page| PlacementPage::parse(page, Locator([1; 32])).unwrap().receipts.len())
            .sum();
        assert_eq!(read, PLACEMENT_RECEIPTS_MAX);
    }
}
