//! What a put asks its holders for, and how it spends and gives back what they grant.
//!
//! A holder counts what its disk takes: whole blocks of 4 KiB. So does who asks, and asks for
//! neither more nor less than the put can take of that holder's disk, since all of it counts
//! against the user's share until the put is over:
//! * of every chunk one shard, as long as its header will say that it is at most, and the shard's
//!   group table: [`shard_room`];
//! * the pages of the manifest: [`manifest_room`];
//! * the pages of the placement: [`placement_room`].
//!
//! A file of 1 MiB at a single holder comes to 1 MiB and 4 KiB for the shard and what seals it,
//! 4 KiB for its table, 4 KiB for the manifest and 4 KiB for the placement.

use pangea_base::{CoreId, Locator};
use pangea_ces::plan::Plan;
use pangea_wire::Grant;
use pangea_wire::limits::{PAGE_BYTES_MAX, ROOT_BYTES_MAX};

use super::{Candidate, CandidateState, Code, Phase, Put, PutError, PutSource, note};
use crate::message::{Answer, Ask, AskFailed, ShardTarget};
use crate::put_chunk::shard_bytes_max;
use crate::room::{blob_room, shard_room};

/// Plaintext that a grant for a stream of unknown length covers at first. Every further one covers
/// as much as all before: a holder counts what is granted as taken, so that large grants for small
/// streams would use up a user's share.
const STREAM_GRANT_BYTES: u64 = 64 << 20;
/// What a further grant covers at most.
const STREAM_GRANT_BYTES_MAX: u64 = 1 << 30;

/// A chunk in a manifest takes this much beside its roots, and each root …
const ENTRY_BYTES: u64 = 48;
const ROOT_HASH_BYTES: u64 = 32;
/// … a reference to a page, and what stands around the list in any page.
const REF_BYTES: u64 = 56;
const MANIFEST_HEAD_BYTES: u64 = 512;
/// A receipt in a placement takes this much, a holder's address, and what stands before them.
const RECEIPT_BYTES: u64 = 176;
const ADDR_BYTES: u64 = 64;
const PLACEMENT_HEAD_BYTES: u64 = 128;
/// Whole pages waste less than this.
const BLOCK_BYTES: u64 = 4096;

// Every page has room for something beside what stands before it.
const _: () =
    assert!(MANIFEST_HEAD_BYTES + ENTRY_BYTES + 255 * ROOT_HASH_BYTES < PAGE_BYTES_MAX as u64);
const _: () = assert!(PLACEMENT_HEAD_BYTES + RECEIPT_BYTES < PAGE_BYTES_MAX as u64);

/// A grant, and what is left of it.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) left: u64,
}

impl Candidate {
    pub(super) fn has_granted(&self) -> bool {
        !self.grants.is_empty()
    }

    /// A grant that covers so many bytes, which are spent of it. If none does (the holder will say
    /// so) the last one.
    pub(super) fn spend(&mut self, bytes: u64) -> Option<Grant> {
        let covers = self.grants.iter().position(|granted| granted.left >= bytes);
        let at = covers.or(self.grants.len().checked_sub(1))?;
        let granted = self.grants.get_mut(at)?;
        granted.left = granted.left.saturating_sub(bytes);
        Some(granted.grant.clone())
    }

    /// What so many shards of one size, and the pages, take that its grants do not cover.
    fn uncovered(&self, mut shards: u64, shard: u64, mut pages: u64) -> u64 {
        for granted in &self.grants {
            let fitting = granted.left.checked_div(shard).unwrap_or(0).min(shards);
            shards -= fitting;
            if granted.left - fitting * shard >= pages {
                pages = 0;
            }
        }
        shards.saturating_mul(shard).saturating_add(pages)
    }
}

impl Put {
    /// Everybody who is there is asked.
    pub(super) fn ask_for_grants(&mut self) {
        self.phase = Phase::Granting;
        let up = self.peers_up();
        let Some(code) = self.spec.code.or_else(|| Code::for_holders(up)) else {
            return self.too_few();
        };
        // As if all of them granted. Should fewer do, shards are longer, and more is asked then.
        let mut situation = self.spec.situation;
        situation.holders = up.max(code.n());
        situation.code = Some(code);
        let plan = match pangea_ces::plan::plan(&situation) {
            Ok(plan) => plan,
            Err(refused) => return self.fail(PutError::Local(refused.to_string())),
        };
        let (chunks, shards) = match &self.spec.source {
            PutSource::File(_, length) => shards_of(&plan, *length),
            PutSource::Stream => stream_step(&plan, 0),
        };
        self.grant_bytes = shards.saturating_add(self.pages(chunks, code));
        for at in 0..self.candidates.len() {
            if self.candidates[at].state == CandidateState::Up {
                self.ask_grant(at, self.grant_bytes);
            }
        }
    }

    pub(super) fn ask_grant(&mut self, at: usize, bytes: u64) {
        let (locator, lease_seconds) = (self.locator, self.spec.lease_seconds);
        let candidate = &mut self.candidates[at];
        let ask = Ask::Routes { locator, bytes, lease_seconds };
        candidate.asked = Some(self.outbox.ask(CoreId(0), candidate.addr, ask));
    }

    pub(super) fn granted(&mut self, at: usize, answer: Result<Answer, AskFailed>) {
        let locator = self.locator;
        let candidate = &mut self.candidates[at];
        let peer = candidate.addr.peer;
        let grant = match answer {
            Ok(Answer::Routes(routes, clock)) => {
                if let Some(clock) = clock {
                    self.clocks.insert(peer, clock);
                }
                let own = |grant: &Grant| grant.holder == peer && grant.locator == locator;
                let grant = routes.grants.into_iter().find(own);
                grant.ok_or_else(|| "it gave no grant of its own".to_owned())
            }
            Ok(_) => Err("it answered another question".to_owned()),
            Err(failed) => Err(failed.to_string()),
        };
        match grant {
            Ok(grant) => {
                let left = grant.bytes_max;
                candidate.grants.push(Granted { grant, left });
            }
            Err(why) => {
                candidate.state = CandidateState::Failed;
                note(&mut self.troubles, peer, why);
                if self.phase == Phase::Storing {
                    self.replace_everywhere(at);
                }
            }
        }
    }

    /// Whether every place's grants still cover a shard of this chunk, and the pages; asks for what
    /// is missing of the rest where they do not.
    pub(super) fn enough_granted(&mut self, plan: &Plan, chunk_bytes: u64) -> bool {
        let shard = room_of_shard(plan, chunk_bytes);
        let begun = self.next_offset - chunk_bytes;
        let (chunks, shards) = match &self.spec.source {
            PutSource::File(_, length) => shards_of(plan, length.saturating_sub(begun)),
            PutSource::Stream => stream_step(plan, begun),
        };
        let before = u64::from(self.next_chunk).saturating_sub(1);
        let pages = self.pages(before + 1, plan.code);
        let all_pages = self.pages(before + chunks, plan.code);
        let mut enough = true;
        for at in self.places.clone().into_iter().flatten() {
            let candidate = &self.candidates[at];
            if candidate.asked.is_some() {
                enough = false;
            } else if candidate.uncovered(1, shard, pages) > 0 {
                enough = false;
                let more = candidate.uncovered(chunks, shard, all_pages);
                // The last shard may be a short one.
                let whole = chunks.saturating_mul(shard);
                self.ask_grant(at, more.saturating_sub(whole.saturating_sub(shards)));
            }
        }
        enough
    }

    /// Who fills a place, its share of a grant spent.
    pub(super) fn target(&mut self, place: usize, room: u64) -> Option<ShardTarget> {
        let candidate = &mut self.candidates[self.places[place]?];
        let grant = candidate.spend(room)?;
        Some(ShardTarget { holder: candidate.addr, grant })
    }

    /// The put is over, as it may: what is left of grants goes back at once. Asked where they were
    /// asked for, so that a grant which is on its way is overtaken by nothing.
    pub(super) fn give_back(&mut self) {
        if std::mem::replace(&mut self.gave_back, true) {
            return;
        }
        let locator: Locator = self.locator;
        for candidate in &self.candidates {
            if candidate.has_granted() || candidate.asked.is_some() {
                self.outbox.ask(CoreId(0), candidate.addr, Ask::Release(locator));
            }
        }
    }

    fn pages(&self, chunks: u64, code: Code) -> u64 {
        let (shards, peers) = (code.n() as u64, self.candidates.len() as u64);
        manifest_room(chunks, shards).saturating_add(placement_room(chunks, shards, peers))
    }
}

/// What a shard of a chunk with so much plaintext takes on disk at most.
pub(super) fn room_of_shard(plan: &Plan, chunk_bytes: u64) -> u64 {
    shard_room(shard_bytes_max(&plan.chunk_plan(), chunk_bytes))
}

/// How many chunks so much plaintext has, and what their shards take at one holder.
fn shards_of(plan: &Plan, plaintext: u64) -> (u64, u64) {
    let chunks = plaintext.div_ceil(plan.chunk_bytes).max(1);
    let last = plaintext.saturating_sub((chunks - 1).saturating_mul(plan.chunk_bytes));
    let whole = (chunks - 1).saturating_mul(room_of_shard(plan, plan.chunk_bytes));
    (chunks, whole.saturating_add(room_of_shard(plan, last)))
}

/// The same of what a stream is next granted, when so much of it is stored.
fn stream_step(plan: &Plan, stored: u64) -> (u64, u64) {
    let step = stored.clamp(STREAM_GRANT_BYTES, STREAM_GRANT_BYTES_MAX);
    let chunks = (step / plan.chunk_bytes).max(1);
    (chunks, chunks.saturating_mul(room_of_shard(plan, plan.chunk_bytes)))
}

/// What the pages of a manifest take on disk at most.
fn manifest_room(chunks: u64, shards: u64) -> u64 {
    let entry = ENTRY_BYTES + shards * ROOT_HASH_BYTES;
    let entries = chunks.saturating_mul(entry);
    if entries.saturating_add(MANIFEST_HEAD_BYTES) <= ROOT_BYTES_MAX as u64 {
        return blob_room(entries + MANIFEST_HEAD_BYTES);
    }
    let head = MANIFEST_HEAD_BYTES + BLOCK_BYTES;
    // A page ends when the next entry has no room.
    let leaves = entries / (PAGE_BYTES_MAX as u64 - MANIFEST_HEAD_BYTES - entry) + 1;
    let refs = leaves * REF_BYTES;
    // They stand in the root, or in one or two pages below it, and these in the root.
    entries.saturating_add(leaves * head).saturating_add(refs + 3 * head)
}

/// What the pages of a placement take on disk at most.
fn placement_room(chunks: u64, shards: u64, peers: u64) -> u64 {
    let lists = chunks.saturating_mul(shards * RECEIPT_BYTES).saturating_add(peers * ADDR_BYTES);
    if lists.saturating_add(PLACEMENT_HEAD_BYTES) <= PAGE_BYTES_MAX as u64 {
        return blob_room(lists + PLACEMENT_HEAD_BYTES);
    }
    let head = PLACEMENT_HEAD_BYTES + BLOCK_BYTES;
    let pages = lists / (PAGE_BYTES_MAX as u64 - PLACEMENT_HEAD_BYTES - RECEIPT_BYTES) + 1;
    lists.saturating_add(pages * head)
}

#[cfg(test)]
mod tests {
    use pangea_base::ChunkNumber;
    use pangea_base::{
        Entropy, Hash, Identity, PeerAddr, PeerId, ReadKey, Secret, ShardIndex, ShardKey, UnixTime,
    };
    use pangea_wire::{ChunkEntry, ChunkParts, Label, ManifestWriter, Placement, Receipt};

    use super::*;

    fn entry(shards: u8) -> ChunkEntry {
        let k = shards - shards / 3;
        let (plaintext_bytes, sealed_bytes) = (64 << 20, (64 << 20) + 12_000);
        let parts = ChunkParts {
            suite: 1,
            scheme: 1,
            k,
            m: shards - k,
            segment_bytes: 131_072,
            plaintext_bytes,
            sealed_bytes,
            shard_bytes: pangea_wire::shard_bytes(sealed_bytes, k.into()),
            roots: vec![Hash([9; 32]); shards.into()],
        };
        ChunkEntry::try_from(parts).unwrap()
    }

    fn manifest(chunks: u64, shards: u8) -> u64 {
        let mut entropy = Entropy::new([1; 32]);
        let key = ReadKey::generate(&mut entropy);
        let mut writer = ManifestWriter::new(&key, Some(PeerId([7; 32])), &mut entropy);
        let entry = entry(shards);
        let mut room = 0;
        for _ in 0..chunks {
            let page = writer.push(&entry).unwrap();
            room += page.map_or(0, |page| blob_room(page.bytes.len() as u64));
        }
        let sealed = writer.finish(Some(&Label::new("a name").unwrap())).unwrap();
        let pages = sealed.pages.iter().map(|page| page.bytes.len()).chain([sealed.root.len()]);
        room + pages.map(|bytes| blob_room(bytes as u64)).sum::<u64>()
    }

    #[test]
    fn a_manifest_takes_at_most_what_is_asked_for_it_and_not_much_less() {
        for (chunks, shards) in [(1, 1), (1, 14), (100, 14), (150, 14), (3000, 14), (5000, 64)] {
            let (room, asked) = (manifest(chunks, shards), manifest_room(chunks, shards.into()));
            assert!(room <= asked, "{chunks} chunks of {shards}: {room} of {asked}");
            assert!(asked <= room + room / 8 + 5 * BLOCK_BYTES, "{chunks}: {room} of {asked}");
        }
        assert_eq!(manifest_room(1, 14), 4096, "one block for a small object");
        // The very largest do not overflow.
        assert!(manifest_room(1 << 20, 255) > 1 << 32);
    }

    #[test]
    fn a_placement_takes_at_most_what_is_asked_for_it_and_not_much_less() {
        let identity = Identity::from_seed(Secret::new([1; 32]));
        let (locator, owner) = (Locator([9; 32]), PeerId([7; 32]));
        for (chunks, shards) in [(1, 1), (1, 14), (50, 14), (600, 14)] {
            let mut placement = Placement::new(locator);
            for chunk in 0..chunks {
                for index in 0..shards {
                    let (chunk, index) = (ChunkNumber(chunk), ShardIndex(index));
                    let key = ShardKey { locator, chunk, index };
                    let (root, stored) = (Hash([9; 32]), UnixTime(1 << 34));
                    let until = UnixTime(stored.0 + (1 << 30));
                    let receipt =
                        Receipt::issue(&identity, owner, key, root, 64 << 20, stored, until);
                    placement.add_checked(receipt).unwrap();
                }
            }
            let addr = "[2001:db8::1]:65535".parse().unwrap();
            let peer = |number| PeerAddr { peer: PeerId([number; 32]), addr };
            let peers: Vec<PeerAddr> = (0..shards).map(peer).collect();
            let room = |page: &bytes::Bytes| blob_room(page.len() as u64);
            let taken: u64 = placement.pages(owner, &peers).iter().map(room).sum();
            let asked = placement_room(chunks.into(), shards.into(), shards.into());
            assert!(taken <= asked, "{chunks} chunks of {shards}: {taken} of {asked}");
            assert!(asked <= taken + taken / 4 + 2 * BLOCK_BYTES, "{taken} of {asked}");
        }
        assert_eq!(placement_room(1, 14, 14), 4096, "one block for a small object");
    }

    fn plan(chunk_bytes: u64) -> Plan {
        let situation = pangea_ces::plan::Situation {
            bandwidth: None,
            load_percent: 0,
            object_bytes: Some(chunk_bytes),
            memory_usable_bytes: 1 << 34,
            budget_bytes: 1 << 30,
            holders: 1,
            cpu: pangea_ces::plan::Cpu { cores: 1, wide_aes: true },
            code: None,
            suite: pangea_ces::SuiteChoice::Auto,
            compression: pangea_ces::plan::CompressionChoice::Off,
            padding: pangea_ces::Padding::Off,
            previous: None,
        };
        let plan = pangea_ces::plan::plan(&situation).unwrap();
        Plan { chunk_bytes, ..plan }
    }

    #[test]
    fn what_is_asked_for_shards_is_the_sum_of_what_they_take() {
        let plan = plan(1 << 20);
        let (whole, short) = (room_of_shard(&plan, 1 << 20), room_of_shard(&plan, 77));
        assert_eq!(whole, (1 << 20) + 4096 + 4096, "the shard, what seals it, its table");
        assert_eq!(short, 4096);
        assert_eq!(shards_of(&plan, 0), (1, 4096), "an empty object has one chunk");
        assert_eq!(shards_of(&plan, 1 << 20), (1, whole));
        assert_eq!(shards_of(&plan, (3 << 20) + 77), (4, 3 * whole + short));
        assert_eq!(stream_step(&plan, 0), (64, 64 * whole));
        assert_eq!(stream_step(&plan, 100 << 20).0, 100);
    }

    #[test]
    fn further_grants_are_asked_for_what_earlier_ones_do_not_cover() {
        let identity = Identity::from_seed(Secret::new([1; 32]));
        let grant = |left| {
            let (origin, locator, nonce) = (PeerId([1; 32]), Locator([9; 32]), [left as u8; 16]);
            let grant = Grant::issue(&identity, origin, locator, left, UnixTime(9), 60, nonce);
            Granted { grant, left }
        };
        let addr = PeerAddr { peer: PeerId([2; 32]), addr: "127.0.0.1:1".parse().unwrap() };
        let (state, asked) = (CandidateState::Up, None);
        let mut candidate = Candidate { addr, state, grants: Vec::new(), asked };
        assert_eq!(candidate.uncovered(3, 100, 10), 310);
        assert!(candidate.spend(1).is_none());
        candidate.grants = vec![grant(150), grant(215)];
        assert_eq!(candidate.uncovered(1, 100, 10), 0);
        assert_eq!(candidate.uncovered(3, 100, 10), 0, "one shard of the first, two of the second");
        assert_eq!(candidate.uncovered(5, 100, 10), 200);
        assert_eq!(candidate.uncovered(3, 100, 60), 60);
        for (bytes, of) in [(100, 150), (100, 215), (100, 215), (50, 150), (15, 215), (1, 215)] {
            assert_eq!(candidate.spend(bytes).unwrap().bytes_max, of);
        }
    }
}
