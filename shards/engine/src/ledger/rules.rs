//! Whether there is room, and how much of it is set aside for whom.
//!
//! **The newcomer rule**, at a node that takes from anybody:
//! * An owner may have unused (reserved, or being written) a 64th of the capacity, or twice what it
//!   has on disk, whichever is more. What its bytes on disk cover is *secured*: to hold a node shut
//!   with secured reservations somebody has to store a third of it, and to pay for that.
//! * What is reserved and not secured, of all owners together, is at most a quarter of what is not
//!   on disk. However many identities ask, three quarters of what is free stay free.
//! * A grant beyond that is given all the same, as long as there is room now: it is a permission,
//!   and nothing stands behind it yet. Every shard that is stored secures the next two. So a
//!   single put of a whole share succeeds on a node that is otherwise empty, and a full node says
//!   no before anything is sent.
//! * Who writes without being secured (one shard, once, is everybody's beginning) waits while
//!   others have begun such writes for more than half of what is not on disk and do not end them.
//!
//! Owners whom the operator listed are trusted: for them everything is set aside that is granted.

use pangea_base::{PeerId, Prefix};
use pangea_wire::{StoreRefusal, Whose};

use super::{Accept, Ledger};
use crate::limits::{
    NEWCOMER_SHARE, NEWCOMERS_RESERVED_SHARE, NEWCOMERS_WRITING_SHARE, SHARE_PER_PEER,
};

/// Why there is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    /// What is told if nothing gives way.
    pub(super) refusal: StoreRefusal,
    /// Bytes of its own that the owner must give up: for its share, its network's, or the node.
    pub(super) own: u64,
    /// Bytes that the node lacks, whoever gives them up.
    pub(super) any: u64,
    /// Whether it could ever fit.
    pub(super) hopeless: bool,
}

impl Ledger {
    /// What one owner may have, and one network.
    pub(super) fn share(&self) -> u64 {
        match self.accept {
            Accept::Any => self.capacity / SHARE_PER_PEER,
            Accept::Listed(_) => self.capacity,
            Accept::Nobody => 0,
        }
    }

    /// What is left of an owner's share.
    pub(super) fn share_left(&self, owner: &PeerId) -> u64 {
        self.share().saturating_sub(self.accounts.owner(owner).counts())
    }

    /// Whether a new grant has room.
    pub(super) fn room_for(&self, owner: PeerId, from: Prefix, bytes: u64) -> Result<(), Shortage> {
        self.room(owner, from, bytes, bytes)
    }

    /// Whether a write has room: for so many bytes that are not set aside for it, and so many that
    /// its grant does not allow any more.
    pub(super) fn room_to_write(
        &self,
        owner: PeerId,
        from: Prefix,
        unreserved: u64,
        unpromised: u64,
    ) -> Result<(), StoreRefusal> {
        self.room(owner, from, unreserved, unpromised).map_err(|shortage| shortage.refusal)?;
        let account = self.accounts.owner(&owner);
        if self.accept != Accept::Any || unreserved <= account.secured_room() {
            return Ok(());
        }
        let others = self.accounts.unsecured().saturating_sub(account.unsecured());
        if others > self.not_on_disk() / NEWCOMERS_WRITING_SHARE {
            return Err(StoreRefusal::Busy);
        }
        Ok(())
    }

    fn room(
        &self,
        owner: PeerId,
        from: Prefix,
        unreserved: u64,
        unpromised: u64,
    ) -> Result<(), Shortage> {
        let capacity = self.capacity;
        let over = |used: u64, bytes: u64, limit: u64| used.saturating_add(bytes) > limit;
        let lacks =
            |used: u64, bytes: u64, limit: u64| used.saturating_add(bytes).saturating_sub(limit);
        let all = self.accounts.total().all();
        let any = lacks(all, unreserved, capacity);
        if self.accept == Accept::Any {
            let limit = self.share();
            let used_by = |whose, used| StoreRefusal::OverQuota { whose, used, limit, capacity };
            let own = self.accounts.owner(&owner).counts();
            let network = self.accounts.network(from).all();
            let shortage =
                |refusal, bytes, own| Shortage { refusal, own, any, hopeless: bytes > limit };
            if over(own, unpromised, limit) {
                let lacks = lacks(own, unpromised, limit).max(lacks(network, unreserved, limit));
                return Err(shortage(used_by(Whose::Peer, own), unpromised, lacks.max(any)));
            }
            // Callers of this machine are of no network.
            if from != Prefix(None) && over(network, unreserved, limit) {
                let lacks = lacks(network, unreserved, limit);
                let refusal = used_by(Whose::Network, network);
                return Err(shortage(refusal, unreserved, lacks.max(any)));
            }
        }
        if any > 0 {
            let refusal = StoreRefusal::Full { capacity };
            return Err(Shortage { refusal, own: any, any, hopeless: unreserved > capacity });
        }
        Ok(())
    }

    /// How much more may be set aside for an owner that calls from there.
    pub(super) fn may_set_aside(&self, owner: PeerId, from: Prefix) -> u64 {
        let free = self.capacity.saturating_sub(self.accounts.total().all());
        if self.accept != Accept::Any {
            return free;
        }
        let account = self.accounts.owner(&owner);
        let secured = account.secured_room();
        let newcomer = (self.capacity / NEWCOMER_SHARE).saturating_sub(account.taken.unused());
        let newcomers = (self.not_on_disk() / NEWCOMERS_RESERVED_SHARE)
            .saturating_sub(self.accounts.unsecured());
        let of_network = match from {
            Prefix(None) => u64::MAX,
            named => self.share().saturating_sub(self.accounts.network(named).all()),
        };
        let own = newcomer.min(secured.saturating_add(newcomers)).max(secured);
        own.min(of_network).min(free)
    }

    fn not_on_disk(&self) -> u64 {
        self.capacity.saturating_sub(self.accounts.total().held)
    }
}
