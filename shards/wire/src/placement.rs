use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pangea_base::{ChunkNumber, Hash, Locator, PeerAddr, PeerId, ShardIndex, Signature, UnixTime};

use crate::codec;
use crate::limits::{
    HOLDERS_PER_SHARD_MAX, PAGE_BYTES_MAX, PLACEMENT_HOLDERS_MAX, PLACEMENT_PAGES_MAX,
    PLACEMENT_RECEIPTS_MAX,
};
use crate::placement_page::{PAGE_HEAD_BYTES_MAX, PageParts, PagedReceipt};
use crate::receipt::RECEIPT_VERSION;
use crate::route::for_others;
use crate::{ChunkEntry, Receipt, ReceiptRefused, Wrong, is_dialable};

/// Who holds which shard of one object until when: verified receipts of any owners, merged by
/// union. Shards are told apart by their root too. Of one holder's receipts for a shard the one
/// that ends last wins; of a shard's holders the [`HOLDERS_PER_SHARD_MAX`] that end last are kept.
/// The order of arrival changes nothing, and what is for another root takes no place from what is
/// for the root that is wanted; nor, where the owner is known, what is for another owner from what
/// is for that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    locator: Locator,
    owner: Option<PeerId>,
    // Shards that the manifest has, as far as it was shown; and all others, which make room.
    wanted: Shards,
    others: Shards,
}

/// A shard as the manifest knows it.
type Name = (ChunkNumber, ShardIndex, Hash);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shards {
    // Per shard: best first, one per holder, at least one.
    of: BTreeMap<Name, Vec<Receipt>>,
    receipts: usize,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// A holder not known before.
    New,
    /// A known holder keeps it longer.
    Renewed,
    /// Nothing: a better one, or the same, was there.
    Known,
    /// Nothing: enough holders that keep it longer are known.
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
        let (wanted, others) = (Shards::default(), Shards::default());
        Placement { locator, owner: None, wanted, others }
    }

    /// The same of an object whose manifest says who put it: receipts for that owner come before
    /// all others, so that nobody else's many names push its holders out.
    pub fn of_owner(locator: Locator, owner: PeerId) -> Placement {
        Placement { owner: Some(owner), ..Placement::new(locator) }
    }

    /// The object that it is of.
    pub fn locator(&self) -> Locator {
        self.locator
    }

    /// How many receipts it has.
    pub fn len(&self) -> usize {
        self.wanted.receipts.saturating_add(self.others.receipts)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The receipts of the shard with this root, the last to end first.
    pub fn shard(&self, chunk: ChunkNumber, index: ShardIndex, root: Hash) -> &[Receipt] {
        let name = (chunk, index, root);
        let found = self.wanted.of.get(&name).or_else(|| self.others.of.get(&name));
        found.map_or(&[], Vec::as_slice)
    }

    /// All receipts; by chunk, index and root, the last to end first. Those of shards that the
    /// manifest was shown to have come before all others.
    pub fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.wanted.of.values().chain(self.others.of.values()).flatten()
    }

    /// Takes in a receipt after checking its signature, which is most of the cost. Give the
    /// chunk's entry where the manifest is known: then a receipt for other bytes is refused, and
    /// one for the right ones has a place whatever else is here.
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
        if self.shard(receipt.chunk, receipt.index, receipt.root).contains(&receipt) {
            if entry.is_some() {
                self.want(name(&receipt));
            }
            return Ok(Added::Known);
        }
        receipt.verify()?;
        self.insert(receipt, entry.is_some())
    }

    /// Takes in all of another placement of the same object.
    pub fn merge(&mut self, other: Placement) -> Result<(), PlacementRefused> {
        if other.locator != self.locator {
            return Err(PlacementRefused::Foreign);
        }
        // What is wanted comes first: then it finds its place whatever the others are.
        for receipt in other.wanted.of.into_values().flatten() {
            self.insert(receipt, true)?;
        }
        for receipt in other.others.of.into_values().flatten() {
            self.insert(receipt, false)?;
        }
        Ok(())
    }

    /// Takes in a receipt whose signature its core has checked when it came.
    pub fn add_checked(&mut self, receipt: Receipt) -> Result<Added, PlacementRefused> {
        if receipt.locator != self.locator {
            return Err(PlacementRefused::Foreign);
        }
        receipt.check()?;
        self.insert(receipt, false)
    }

    /// The pages of `owner`, of at most 1 MiB each; at least one. The first also says where its
    /// holders were last seen, as far as `addresses` knows: at most [`PLACEMENT_HOLDERS_MAX`].
    /// Receipts for other owners, and those of version 1, cannot stand in them and are left out.
    pub fn pages(&self, owner: PeerId, addresses: &[PeerAddr]) -> Vec<Bytes> {
        let mut shards: BTreeMap<Name, Vec<&Receipt>> = BTreeMap::new();
        for receipt in self.iter().filter(|receipt| is_from(receipt, owner)) {
            shards.entry(name(receipt)).or_default().push(receipt);
        }
        let holders: BTreeSet<PeerId> =
            shards.values().flatten().map(|receipt| receipt.holder).collect();
        let mut addresses: Vec<PeerAddr> = addresses
            .iter()
            .copied()
            .filter(|at| holders.contains(&at.peer) && is_dialable(at.addr))
            .filter_map(for_others)
            .collect();
        addresses.sort_unstable();
        addresses.dedup_by_key(|at| at.peer);
        addresses.truncate(PLACEMENT_HOLDERS_MAX);
        let room = PAGE_BYTES_MAX.saturating_sub(PAGE_HEAD_BYTES_MAX);
        let mut left = room.saturating_sub(codec::encoded_bytes(&addresses));
        let mut lists: Vec<Vec<PagedReceipt>> = vec![Vec::new()];
        for mut receipts in shards.into_values() {
            receipts.sort_by_key(|receipt| receipt.holder);
            for receipt in receipts.into_iter().filter_map(PagedReceipt::of) {
                let bytes = codec::encoded_bytes(&receipt);
                if bytes > left {
                    lists.push(Vec::new());
                    left = room;
                }
                left = left.saturating_sub(bytes);
                lists.last_mut().expect("there is a first list").push(receipt);
            }
        }
        let pages = u32::try_from(lists.len()).expect("few pages");
        assert!(pages <= PLACEMENT_PAGES_MAX, "all that a placement holds fits its pages");
        let locator = self.locator;
        let page = |(number, receipts)| {
            let holders = if number == 0 { addresses.clone() } else { Vec::new() };
            PageParts { locator, owner, number, pages, holders, receipts }.encode()
        };
        (0..).zip(lists).map(page).collect()
    }

    /// `receipt` is known to be genuine.
    fn insert(&mut self, receipt: Receipt, wanted: bool) -> Result<Added, PlacementRefused> {
        let name = name(&receipt);
        if wanted {
            self.want(name);
        }
        let wanted = wanted || self.wanted.of.contains_key(&name);
        let full = self.len() >= PLACEMENT_RECEIPTS_MAX;
        let shards = if wanted { &self.wanted } else { &self.others };
        if full && shards.grows(&name, receipt.holder) && !(wanted && self.others.forget_one()) {
            return Err(PlacementRefused::Full);
        }
        let shards = if wanted { &mut self.wanted } else { &mut self.others };
        let owner = self.owner;
        Ok(shards.insert(name, receipt, |receipt| rank(receipt, owner)))
    }

    /// The manifest has this shard: what is known of it makes no room from now on.
    fn want(&mut self, name: Name) {
        if let Some(receipts) = self.others.of.remove(&name) {
            self.others.receipts = self.others.receipts.saturating_sub(receipts.len());
            self.wanted.receipts = self.wanted.receipts.saturating_add(receipts.len());
            self.wanted.of.insert(name, receipts);
        }
    }
}

impl Shards {
    /// Whether a receipt of `holder` would be one more and not one instead of another.
    fn grows(&self, name: &Name, holder: PeerId) -> bool {
        self.of.get(name).is_none_or(|held| {
            held.len() < HOLDERS_PER_SHARD_MAX && held.iter().all(|other| other.holder != holder)
        })
    }

    fn insert(&mut self, name: Name, receipt: Receipt, rank: impl Fn(&Receipt) -> Rank) -> Added {
        let held = self.of.entry(name).or_default();
        let before = held.len();
        let known = held.iter().position(|other| other.holder == receipt.holder);
        let replaced = match known.and_then(|at| held.get(at)) {
            Some(other) if rank(other) >= rank(&receipt) => return Added::Known,
            Some(_) => Added::Renewed,
            None => Added::New,
        };
        if let Some(at) = known {
            held.remove(at);
        }
        let at = held.partition_point(|other| rank(other) > rank(&receipt));
        held.insert(at, receipt);
        held.truncate(HOLDERS_PER_SHARD_MAX);
        self.receipts = self.receipts.saturating_sub(before).saturating_add(held.len());
        if at >= HOLDERS_PER_SHARD_MAX { Added::Crowded } else { replaced }
    }

    /// Lets one receipt go, the worst of the last shard; `false` if there is none.
    fn forget_one(&mut self) -> bool {
        let Some(mut last) = self.of.last_entry() else { return false };
        last.get_mut().pop();
        if last.get().is_empty() {
            last.remove();
        }
        self.receipts = self.receipts.saturating_sub(1);
        true
    }
}

fn name(receipt: &Receipt) -> Name {
    (receipt.chunk, receipt.index, receipt.root)
}

/// What one receipt of a shard is put before another for, first things first.
type Rank = (bool, UnixTime, PeerId, u8, Option<PeerId>, u64, Option<UnixTime>, Signature);

/// A total order, so that the outcome does not depend on who came first.
fn rank(receipt: &Receipt, wanted: Option<PeerId>) -> Rank {
    let Receipt { version, holder, owner, length, stored, until, signature, .. } = *receipt;
    let is_wanted = wanted.is_some() && owner == wanted;
    (is_wanted, until, holder, version, owner, length, stored, signature)
}

fn is_of(receipt: &Receipt, entry: &ChunkEntry) -> bool {
    entry.root(receipt.index) == Some(receipt.root) && entry.shard_bytes == receipt.length
}

/// Whether it can stand in a page of `owner`.
fn is_from(receipt: &Receipt, owner: PeerId) -> bool {
    receipt.version == RECEIPT_VERSION && receipt.owner == Some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlacementPage;

    const OWNER: PeerId = PeerId([0xff; 32]);

    fn receipt(shard: usize, holder: u8) -> Receipt {
        Receipt {
            version: RECEIPT_VERSION,
            holder: PeerId([holder; 32]),
            owner: Some(OWNER),
            locator: Locator([1; 32]),
            chunk: ChunkNumber(shard as u32 / 255),
            index: ShardIndex((shard % 255) as u8),
            root: Hash([0; 32]),
            length: u64::MAX >> 36,
            stored: Some(UnixTime(u64::MAX)),
            until: UnixTime(u64::MAX),
            signature: [0; 64],
        }
    }

    fn full() -> Placement {
        let mut placement = Placement::new(Locator([1; 32]));
        for n in 0..PLACEMENT_RECEIPTS_MAX {
            let (shard, holder) = (n / HOLDERS_PER_SHARD_MAX, n % HOLDERS_PER_SHARD_MAX);
            assert_eq!(placement.insert(receipt(shard, holder as u8), false), Ok(Added::New));
        }
        assert_eq!(placement.len(), PLACEMENT_RECEIPTS_MAX);
        placement
    }

    #[test]
    fn a_placement_at_its_limit_refuses_one_more_and_fits_its_pages() {
        let mut placement = full();
        let beyond = receipt(PLACEMENT_RECEIPTS_MAX / HOLDERS_PER_SHARD_MAX, 0);
        assert_eq!(placement.insert(beyond.clone(), false), Err(PlacementRefused::Full));
        assert!(placement.shard(beyond.chunk, beyond.index, beyond.root).is_empty());
        // A better receipt for a shard with all its holders still takes a place.
        assert_eq!(placement.insert(receipt(0, 9), false), Ok(Added::New));
        assert_eq!(placement.len(), PLACEMENT_RECEIPTS_MAX);
        let pages = placement.pages(OWNER, &[]);
        assert!(pages.iter().all(|page| page.len() <= PAGE_BYTES_MAX));
        let parse = |page: &Bytes| PlacementPage::parse(page, Locator([1; 32]), OWNER).unwrap();
        let read: usize = pages.iter().map(|page| parse(page).receipts.len()).sum();
        assert_eq!(read, PLACEMENT_RECEIPTS_MAX);
    }

    #[test]
    fn at_its_limit_what_is_wanted_takes_the_place_of_what_nobody_asked_for() {
        let mut placement = full();
        let wanted = |shard, holder| Receipt { root: Hash([7; 32]), ..receipt(shard, holder) };
        assert_eq!(placement.insert(wanted(0, 0), false), Err(PlacementRefused::Full));
        assert_eq!(placement.insert(wanted(0, 0), true), Ok(Added::New));
        assert_eq!(placement.insert(wanted(0, 1), false), Ok(Added::New), "it is known as wanted");
        assert_eq!(placement.len(), PLACEMENT_RECEIPTS_MAX);
        let Receipt { chunk, index, root, .. } = wanted(0, 0);
        assert_eq!(placement.shard(chunk, index, root).len(), 2);
        // The shard at the end has made room, the first with another root has not.
        let last = receipt(PLACEMENT_RECEIPTS_MAX / HOLDERS_PER_SHARD_MAX - 1, 0);
        assert_eq!(placement.shard(last.chunk, last.index, last.root).len(), 6);
        assert_eq!(placement.shard(chunk, index, Hash([0; 32])).len(), HOLDERS_PER_SHARD_MAX);
    }
}
