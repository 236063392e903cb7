//! Who may store how much. One ledger per node, on core 0; the other cores ask it over the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use pangea_base::{Entropy, Identity, Locator, PeerId, UnixTime};
use pangea_wire::{Grant, StoreRefusal};

use crate::grants::{Grants, Nonce, Prefix, Reservation};
use crate::limits::{GRANT_LIFETIME, GRANTS_PER_PEER_MAX, SHARE_PER_PEER};

/// Who may store here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// Anybody, each at most a tenth of the capacity.
    Any,
    /// Only these peers, up to the whole capacity.
    Listed(BTreeSet<PeerId>),
    /// Nobody; what is there is still served.
    Nobody,
}

/// What a core asks the ledger.
#[derive(Debug, Clone)]
pub enum LedgerQuestion {
    /// Reserve room for an object and sign a grant.
    Grant {
        /// For whom.
        origin: PeerId,
        /// Calling from where.
        from: IpAddr,
        /// For which object.
        locator: Locator,
        /// How many bytes.
        bytes: u64,
    },
    /// A shard or blob is about to be written: take it out of the grant.
    Spend {
        /// Verified by the asking core.
        grant: Box<Grant>,
        /// Calling from where.
        from: IpAddr,
        /// At most this many bytes.
        bytes: u64,
    },
    /// The write ended: of the `spent` bytes these stay. What the disk takes can be a little more
    /// than what was sent.
    Settle {
        /// Whose they are.
        owner: PeerId,
        /// Calling from where.
        from: IpAddr,
        /// What was taken.
        spent: u64,
        /// What stays on disk.
        kept: u64,
    },
    /// Something was deleted from the disk. Whence its owner called is long forgotten.
    Deleted {
        /// Whose it was.
        owner: PeerId,
        /// What it took on disk.
        bytes: u64,
    },
    /// A core opened its part of the store and found this much of each owner.
    Recovered(Vec<(PeerId, u64)>),
}

/// What the ledger answers.
#[derive(Debug, Clone)]
pub enum LedgerAnswer {
    /// Signed.
    Granted(Box<Grant>),
    /// Go ahead.
    Spent,
    /// No, and why.
    Refused(StoreRefusal),
    /// Nothing to answer.
    Noted,
}

/// The node's account of who takes how much of it.
#[derive(Debug)]
pub struct Ledger {
    capacity: u64,
    accept: Accept,
    // On disk or being written, and reserved by grants.
    used: u64,
    reserved: u64,
    by_owner: BTreeMap<PeerId, u64>,
    by_prefix: BTreeMap<Prefix, u64>,
    by_both: BTreeMap<(PeerId, Prefix), u64>,
    grants: Grants,
}

impl Ledger {
    /// An empty account.
    pub fn new(capacity: u64, accept: Accept) -> Ledger {
        Ledger {
            capacity,
            accept,
            used: 0,
            reserved: 0,
            by_owner: BTreeMap::new(),
            by_prefix: BTreeMap::new(),
            by_both: BTreeMap::new(),
            grants: Grants::default(),
        }
    }

    /// Bytes on disk or being written.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes reserved by grants and not yet spent.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(crate) fn answer(
        &mut self,
        now: Instant,
        wall: UnixTime,
        identity: &Identity,
        entropy: &mut Entropy,
        question: LedgerQuestion,
    ) -> LedgerAnswer {
        self.let_go(now, wall);
        match question {
            LedgerQuestion::Grant { origin, from, locator, bytes } => {
                match self.reserve(now, wall, origin, Prefix::of(from), bytes, entropy.array()) {
                    Ok((nonce, expires)) => LedgerAnswer::Granted(Box::new(Grant::issue(
                        identity, origin, locator, bytes, expires, nonce,
                    ))),
                    Err(refusal) => LedgerAnswer::Refused(refusal),
                }
            }
            LedgerQuestion::Spend { grant, from, bytes } => {
                match self.spend(now, &grant, Prefix::of(from), bytes) {
                    Ok(()) => LedgerAnswer::Spent,
                    Err(refusal) => LedgerAnswer::Refused(refusal),
                }
            }
            LedgerQuestion::Settle { owner, from, spent, kept } => {
                let from = Prefix::of(from);
                self.used = self.used.saturating_add(kept);
                self.add(owner, from, kept);
                self.take_back(owner, from, spent);
                LedgerAnswer::Noted
            }
            LedgerQuestion::Deleted { owner, bytes } => {
                self.take_back_anywhere(owner, bytes);
                LedgerAnswer::Noted
            }
            LedgerQuestion::Recovered(owners) => {
                for (owner, bytes) in owners {
                    self.used += bytes;
                    self.add(owner, Prefix(None), bytes);
                }
                LedgerAnswer::Noted
            }
        }
    }

    fn reserve(
        &mut self,
        now: Instant,
        wall: UnixTime,
        owner: PeerId,
        from: Prefix,
        bytes: u64,
        nonce: Nonce,
    ) -> Result<(Nonce, UnixTime), StoreRefusal> {
        self.may_store(owner)?;
        if self.grants.reserving_of(&owner) >= GRANTS_PER_PEER_MAX {
            return Err(StoreRefusal::Busy);
        }
        self.room_for(owner, from, bytes)?;
        let expires = wall.after(GRANT_LIFETIME);
        self.reserved += bytes;
        self.add(owner, from, bytes);
        let reservation = Reservation { owner, from, spent: 0, left: bytes, touched: now, expires };
        self.remember(nonce, reservation);
        Ok((nonce, expires))
    }

    fn may_store(&self, owner: PeerId) -> Result<(), StoreRefusal> {
        match &self.accept {
            Accept::Any => Ok(()),
            Accept::Listed(peers) if peers.contains(&owner) => Ok(()),
            Accept::Listed(_) | Accept::Nobody => Err(StoreRefusal::NotAccepting),
        }
    }

    fn room_for(&self, owner: PeerId, from: Prefix, bytes: u64) -> Result<(), StoreRefusal> {
        let taken = self.used.saturating_add(self.reserved);
        if taken.saturating_add(bytes) > self.capacity {
            return Err(StoreRefusal::Full);
        }
        if self.accept != Accept::Any {
            return Ok(());
        }
        let limit = self.capacity / SHARE_PER_PEER;
        let owners = self.by_owner.get(&owner).copied().unwrap_or(0);
        let prefixes = match from {
            Prefix(None) => 0,
            named => self.by_prefix.get(&named).copied().unwrap_or(0),
        };
        if owners.max(prefixes).saturating_add(bytes) > limit {
            return Err(StoreRefusal::OverQuota { limit });
        }
        Ok(())
    }

    /// Moves bytes from reserved to used. A grant whose reservation lapsed (or that an earlier
    /// run of this node signed) reserves anew, if there still is room.
    fn spend(
        &mut self,
        now: Instant,
        grant: &Grant,
        from: Prefix,
        bytes: u64,
    ) -> Result<(), StoreRefusal> {
        self.may_store(grant.origin)?;
        let fresh = Reservation {
            owner: grant.origin,
            from,
            spent: 0,
            left: 0,
            touched: now,
            expires: grant.expires,
        };
        let known = self.grants.get(&grant.nonce).unwrap_or(fresh);
        if known.spent.saturating_add(bytes) > grant.bytes_max {
            return Err(StoreRefusal::OverGrant { limit: grant.bytes_max });
        }
        let missing = bytes.saturating_sub(known.left);
        if missing > 0 {
            self.room_for(known.owner, known.from, missing)?;
            self.add(known.owner, known.from, missing);
        }
        let reserved = bytes - missing;
        self.reserved -= reserved;
        self.used += bytes;
        let (spent, left) = (known.spent + bytes, known.left - reserved);
        self.remember(grant.nonce, Reservation { spent, left, touched: now, ..known });
        Ok(())
    }

    /// Remembers a grant; what was reserved for the one that made room is given back.
    /// One of which nothing was spent and for which nothing is reserved needs no memory.
    fn remember(&mut self, nonce: Nonce, grant: Reservation) {
        if grant.spent == 0 && grant.left == 0 {
            return;
        }
        if let Some(forgotten) = self.grants.remember(nonce, grant) {
            self.give_back(&forgotten);
        }
    }

    fn add(&mut self, owner: PeerId, from: Prefix, bytes: u64) {
        if bytes > 0 {
            *self.by_owner.entry(owner).or_default() += bytes;
            *self.by_prefix.entry(from).or_default() += bytes;
            *self.by_both.entry((owner, from)).or_default() += bytes;
        }
    }

    fn take_back(&mut self, owner: PeerId, from: Prefix, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.subtract(owner, from, bytes);
    }

    /// What an owner has, wherever it called from when it brought it.
    fn take_back_anywhere(&mut self, owner: PeerId, bytes: u64) {
        let all = (owner, Prefix(None))..=(owner, Prefix(Some([u8::MAX; 6])));
        let places: Vec<(Prefix, u64)> =
            self.by_both.range(all).map(|(&(_, from), &held)| (from, held)).collect();
        let mut left = bytes;
        for (from, held) in places {
            let part = left.min(held);
            self.take_back(owner, from, part);
            left -= part;
        }
    }

    fn subtract(&mut self, owner: PeerId, from: Prefix, bytes: u64) {
        subtract(&mut self.by_owner, &owner, bytes);
        subtract(&mut self.by_prefix, &from, bytes);
        subtract(&mut self.by_both, &(owner, from), bytes);
    }

    fn let_go(&mut self, now: Instant, wall: UnixTime) {
        while let Some(idle) = self.grants.next_idle(now) {
            self.give_back(&idle);
        }
        self.grants.forget_ended(wall);
    }

    fn give_back(&mut self, grant: &Reservation) {
        self.reserved -= grant.left;
        self.subtract(grant.owner, grant.from, grant.left);
    }
}

fn subtract<K: Ord>(map: &mut BTreeMap<K, u64>, key: &K, bytes: u64) {
    if let Some(held) = map.get_mut(key) {
        *held = held.saturating_sub(bytes);
        if *held == 0 {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::RESERVATION_IDLE;
    use crate::limits::GRANTS_MAX;
    use pangea_base::Secret;

    struct World {
        ledger: Ledger,
        identity: Identity,
        entropy: Entropy,
        now: Instant,
        wall: UnixTime,
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    impl World {
        fn new(capacity: u64, accept: Accept) -> World {
            World {
                ledger: Ledger::new(capacity, accept),
                identity: Identity::from_seed(Secret::new([1; 32])),
                entropy: Entropy::new([2; 32]),
                now: Instant::now(),
                wall: UnixTime(1_000_000),
            }
        }

        fn ask(&mut self, question: LedgerQuestion) -> LedgerAnswer {
            let World { ledger, identity, entropy, now, wall } = self;
            ledger.answer(*now, *wall, identity, entropy, question)
        }

        fn grant(
            &mut self,
            peer: u8,
            from: IpAddr,
            bytes: u64,
        ) -> Result<Box<Grant>, StoreRefusal> {
            let origin = PeerId([peer; 32]);
            let locator = Locator([9; 32]);
            match self.ask(LedgerQuestion::Grant { origin, from, locator, bytes }) {
                LedgerAnswer::Granted(grant) => Ok(grant),
                LedgerAnswer::Refused(refusal) => Err(refusal),
                other => panic!("{other:?}"),
            }
        }

        fn spend(&mut self, grant: &Grant, bytes: u64) -> bool {
            let grant = Box::new(grant.clone());
            matches!(
                self.ask(LedgerQuestion::Spend { grant, from: HOME, bytes }),
                LedgerAnswer::Spent
            )
        }
    }

    #[test]
    fn one_peer_gets_a_tenth_and_ten_peers_fill_the_node() {
        let mut world = World::new(1000, Accept::Any);
        assert!(matches!(world.grant(1, HOME, 101), Err(StoreRefusal::OverQuota { limit: 100 })));
        for peer in 1..=10 {
            assert!(world.grant(peer, HOME, 100).is_ok());
            assert!(world.grant(peer, HOME, 1).is_err());
        }
        assert!(matches!(world.grant(11, HOME, 1), Err(StoreRefusal::Full)));
    }

    #[test]
    fn many_identities_from_one_network_share_one_tenth() {
        let mut world = World::new(1000, Accept::Any);
        let near: IpAddr = "192.0.2.7".parse().unwrap();
        let also_near: IpAddr = "192.0.2.200".parse().unwrap();
        let far: IpAddr = "198.51.100.1".parse().unwrap();
        assert!(world.grant(1, near, 60).is_ok());
        assert!(world.grant(2, also_near, 60).is_err());
        assert!(world.grant(2, far, 60).is_ok());
    }

    #[test]
    fn listed_and_nobody_mean_what_they_say() {
        let mut world = World::new(1000, Accept::Listed([PeerId([1; 32])].into()));
        assert!(world.grant(1, HOME, 900).is_ok());
        assert!(matches!(world.grant(2, HOME, 1), Err(StoreRefusal::NotAccepting)));
        let mut world = World::new(1000, Accept::Nobody);
        assert!(matches!(world.grant(1, HOME, 1), Err(StoreRefusal::NotAccepting)));
    }

    #[test]
    fn a_grant_cannot_be_spent_beyond_its_size() {
        let mut world = World::new(1000, Accept::Any);
        let grant = world.grant(1, HOME, 100).unwrap();
        assert!(world.spend(&grant, 60));
        assert!(!world.spend(&grant, 41));
        assert!(world.spend(&grant, 40));
        assert_eq!(world.ledger.used(), 100);
    }

    #[test]
    fn grants_that_one_peer_used_up_keep_nobody_out() {
        let mut world = World::new(1000, Accept::Any);
        let (owner, from) = (PeerId([1; 32]), Prefix::of(HOME));
        let (touched, expires) = (world.now, world.wall.after(GRANT_LIFETIME));
        for number in 0..GRANTS_MAX {
            // As spending it and giving it all back leaves it.
            let used_up = Reservation { owner, from, spent: 1, left: 0, touched, expires };
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
            assert_eq!(world.ledger.grants.remember(nonce, used_up), None);
        }
        assert!(world.grant(2, HOME, 1).is_ok());
        assert_eq!(world.ledger.grants.len(), GRANTS_MAX);
    }

    #[test]
    fn what_is_not_kept_is_given_back() {
        let mut world = World::new(1000, Accept::Any);
        let grant = world.grant(1, HOME, 100).unwrap();
        assert!(world.spend(&grant, 100));
        let owner = PeerId([1; 32]);
        world.ask(LedgerQuestion::Settle { owner, from: HOME, spent: 100, kept: 30 });
        assert_eq!(world.ledger.used(), 30);
        assert!(world.grant(1, HOME, 70).is_ok());
        assert!(world.grant(1, HOME, 1).is_err());
    }

    #[test]
    fn an_idle_reservation_lapses_and_the_grant_still_works() {
        let mut world = World::new(1000, Accept::Any);
        let first = world.grant(1, HOME, 100).unwrap();
        world.now += RESERVATION_IDLE;
        assert!(world.grant(1, HOME, 50).is_ok());
        assert!(world.spend(&first, 50));
        assert!(!world.spend(&first, 50), "the tenth is used up by the second grant");
    }

    #[test]
    fn what_the_disk_takes_beyond_the_bytes_sent_counts_until_it_is_deleted() {
        let mut world = World::new(1_000_000, Accept::Any);
        let (owner, from) = (PeerId([1; 32]), "192.0.2.7".parse().unwrap());
        let grant = world.grant(1, from, 100_000).unwrap();
        assert!(world.spend(&grant, 100_000));
        world.ask(LedgerQuestion::Settle { owner, from, spent: 100_000, kept: 102_400 });
        assert_eq!(world.ledger.used(), 102_400);
        world.ask(LedgerQuestion::Deleted { owner, bytes: 102_400 });
        assert_eq!((world.ledger.used(), world.ledger.reserved()), (0, 0));
        assert!(world.grant(2, from, 100_000).is_ok(), "its network has its share back");
    }

    #[test]
    fn one_peer_cannot_use_up_the_grants_of_all() {
        let mut world = World::new(1 << 40, Accept::Any);
        for _ in 0..GRANTS_PER_PEER_MAX {
            assert!(world.grant(1, HOME, 1).is_ok());
        }
        assert!(matches!(world.grant(1, HOME, 1), Err(StoreRefusal::Busy)));
        assert!(world.grant(2, HOME, 1).is_ok());
        world.now += RESERVATION_IDLE;
        assert!(world.grant(1, HOME, 1).is_ok(), "unused grants are forgotten");
    }

    #[test]
    fn what_was_on_disk_at_start_counts() {
        let mut world = World::new(1000, Accept::Any);
        world.ask(LedgerQuestion::Recovered(vec![(PeerId([1; 32]), 90)]));
        assert!(world.grant(1, HOME, 11).is_err());
        assert!(world.grant(1, HOME, 10).is_ok());
        assert_eq!(world.ledger.used(), 90);
    }
}
