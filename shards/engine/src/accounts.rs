//! What every owner takes of this node, by the network that its bytes came from. The one place
//! where anything is charged or discharged, and always to the owner and the network that the
//! store's entry names: what was charged to a pair is discharged from the same pair, after a
//! restart too, and whatever address its owner calls from by then.

use std::collections::{BTreeMap, BTreeSet};

use pangea_base::{PeerId, Prefix};

/// How many times what it has on disk an owner may have unused.
const SECURED_PER_HELD: u64 = 2;

/// What somebody takes, in bytes as the disk counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// On disk.
    pub(crate) held: u64,
    /// Being written: as much as it can become.
    pub(crate) writing: u64,
    /// Set aside for grants and not used yet.
    pub(crate) reserved: u64,
}

/// Which of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Held,
    Writing,
    Reserved,
}

impl Taken {
    pub(crate) fn all(&self) -> u64 {
        self.held.saturating_add(self.unused())
    }

    /// What holds room and is not on disk.
    pub(crate) fn unused(&self) -> u64 {
        self.writing.saturating_add(self.reserved)
    }

    fn part(&mut self, part: Part) -> &mut u64 {
        match part {
            Part::Held => &mut self.held,
            Part::Writing => &mut self.writing,
            Part::Reserved => &mut self.reserved,
        }
    }

    fn get(&self, part: Part) -> u64 {
        match part {
            Part::Held => self.held,
            Part::Writing => self.writing,
            Part::Reserved => self.reserved,
        }
    }
}

/// One owner, wherever it called from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) taken: Taken,
    /// What its open grants allow and was not used: counts against its own share and nobody else's.
    /// Of this, `taken.reserved` is set aside.
    pub(crate) promised: u64,
}

impl Owner {
    /// What counts against its share.
    pub(crate) fn counts(&self) -> u64 {
        self.taken.held.saturating_add(self.taken.writing).saturating_add(self.promised)
    }

    /// How much more it may have unused for what it has on disk.
    pub(crate) fn secured_room(&self) -> u64 {
        self.secured().saturating_sub(self.taken.unused())
    }

    /// What it has unused beyond that.
    pub(crate) fn unsecured(&self) -> u64 {
        self.taken.unused().saturating_sub(self.secured())
    }

    fn secured(&self) -> u64 {
        self.taken.held.saturating_mul(SECURED_PER_HELD)
    }
}

/// One line of the list that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerAccount {
    /// Who.
    pub owner: PeerId,
    /// The network that most of it came from.
    pub network: Prefix,
    /// Bytes on disk.
    pub held: u64,
    /// Bytes being written, and those that its open grants allow.
    pub reserved: u64,
    /// What it may have of both together.
    pub share: u64,
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    total: Taken,
    by_owner: BTreeMap<PeerId, Owner>,
    by_prefix: BTreeMap<Prefix, Taken>,
    by_both: BTreeMap<(PeerId, Prefix), Taken>,
    // The sum over all owners.
    unsecured: u64,
}

impl Accounts {
    /// What all take together.
    pub(crate) fn total(&self) -> Taken {
        self.total
    }

    /// What all have unused beyond what their bytes on disk secure.
    pub(crate) fn unsecured(&self) -> u64 {
        self.unsecured
    }

    pub(crate) fn owner(&self, owner: &PeerId) -> Owner {
        self.by_owner.get(owner).copied().unwrap_or_default()
    }

    /// What a network takes; callers from this machine are of none and take nothing together.
    pub(crate) fn network(&self, from: Prefix) -> Taken {
        match from {
            Prefix(None) => Taken::default(),
            named => self.by_prefix.get(&named).copied().unwrap_or_default(),
        }
    }

    pub(crate) fn charge(&mut self, owner: PeerId, from: Prefix, part: Part, bytes: u64) {
        if bytes > 0 {
            self.change(owner, from, |taken| {
                let place = taken.part(part);
                *place = place.saturating_add(bytes);
            });
        }
    }

    pub(crate) fn discharge(&mut self, owner: PeerId, from: Prefix, part: Part, bytes: u64) {
        let charged = self.by_both.get(&(owner, from)).map_or(0, |taken| taken.get(part));
        debug_assert!(charged >= bytes, "only what was charged here is discharged: {part:?}");
        let bytes = bytes.min(charged);
        if bytes > 0 {
            self.change(owner, from, |taken| {
                let place = taken.part(part);
                *place = place.saturating_sub(bytes);
            });
        }
    }

    /// A grant allows its owner so much more …
    pub(crate) fn promise(&mut self, owner: PeerId, bytes: u64) {
        if bytes > 0 {
            let promised = &mut self.by_owner.entry(owner).or_default().promised;
            *promised = promised.saturating_add(bytes);
        }
    }

    /// … or so much less.
    pub(crate) fn take_back(&mut self, owner: PeerId, bytes: u64) {
        let Some(account) = self.by_owner.get_mut(&owner) else { return };
        debug_assert!(account.promised >= bytes, "only what was promised is taken back");
        account.promised = account.promised.saturating_sub(bytes);
        if *account == Owner::default() {
            self.by_owner.remove(&owner);
        }
    }

    fn change(&mut self, owner: PeerId, from: Prefix, change: impl Fn(&mut Taken)) {
        change(&mut self.total);
        let account = self.by_owner.entry(owner).or_default();
        self.unsecured -= account.unsecured();
        change(&mut account.taken);
        self.unsecured += account.unsecured();
        if *account == Owner::default() {
            self.by_owner.remove(&owner);
        }
        change_in(&mut self.by_prefix, from, &change);
        change_in(&mut self.by_both, (owner, from), &change);
    }

    /// The owners that take the most, at most so many, and how many others there are. `share` is
    /// the same for all.
    pub(crate) fn largest(&self, most: usize, share: u64) -> (Vec<OwnerAccount>, usize) {
        let mut largest: BTreeSet<(u64, PeerId)> = BTreeSet::new();
        for (owner, account) in &self.by_owner {
            largest.insert((account.counts(), *owner));
            if largest.len() > most {
                largest.pop_first();
            }
        }
        let line = |&(counts, owner): &(u64, PeerId)| {
            let held = self.owner(&owner).taken.held;
            let network = self.usual_network(owner);
            OwnerAccount { owner, network, held, reserved: counts.saturating_sub(held), share }
        };
        let lines: Vec<OwnerAccount> = largest.iter().rev().map(line).collect();
        let others = self.by_owner.len().saturating_sub(lines.len());
        (lines, others)
    }

    fn usual_network(&self, owner: PeerId) -> Prefix {
        let first = (owner, Prefix(None));
        let of_owner = self.by_both.range(first..).take_while(|((peer, _), _)| *peer == owner);
        let most = of_owner.max_by_key(|(_, taken)| taken.all());
        most.map_or(Prefix(None), |((_, network), _)| *network)
    }

    /// What every pair of owner and network has on disk.
    pub(crate) fn held(&self) -> Vec<(PeerId, Prefix, u64)> {
        let held = self.by_both.iter().filter(|(_, taken)| taken.held > 0);
        held.map(|(&(owner, from), taken)| (owner, from, taken.held)).collect()
    }

    /// Whether all the sums agree.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut by_owner: BTreeMap<PeerId, Taken> = BTreeMap::new();
        let mut by_prefix: BTreeMap<Prefix, Taken> = BTreeMap::new();
        let mut total = Taken::default();
        for (&(owner, from), taken) in &self.by_both {
            assert_ne!(*taken, Taken::default(), "empty accounts are forgotten");
            let places = [by_owner.entry(owner).or_default(), by_prefix.entry(from).or_default()];
            for place in places.into_iter().chain([&mut total]) {
                place.held += taken.held;
                place.writing += taken.writing;
                place.reserved += taken.reserved;
            }
        }
        assert_eq!(total, self.total);
        assert_eq!(by_prefix, self.by_prefix);
        for (owner, account) in &self.by_owner {
            assert_eq!(account.taken, by_owner.remove(owner).unwrap_or_default());
            assert!(account.promised >= account.taken.reserved, "what is set aside was promised");
        }
        assert!(by_owner.is_empty());
        assert_eq!(self.by_owner.values().map(Owner::unsecured).sum::<u64>(), self.unsecured);
    }
}

/// Changes what stands under a key; nothing at all is not kept.
fn change_in<K: Ord + Copy>(map: &mut BTreeMap<K, Taken>, key: K, change: impl Fn(&mut Taken)) {
    let taken = map.entry(key).or_default();
    change(taken);
    if *taken == Taken::default() {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);
    const HOME: Prefix = Prefix(Some([4, 0, 0, 192, 0, 2]));
    const AWAY: Prefix = Prefix(Some([4, 0, 0, 198, 51, 100]));

    #[test]
    fn what_is_charged_to_a_pair_is_discharged_from_that_pair() {
        let mut accounts = Accounts::default();
        accounts.charge(ALICE, HOME, Part::Held, 100);
        accounts.charge(ALICE, AWAY, Part::Held, 10);
        accounts.charge(BOB, HOME, Part::Writing, 1);
        assert_eq!(accounts.network(HOME).all(), 101);
        accounts.discharge(ALICE, HOME, Part::Held, 100);
        accounts.check();
        assert_eq!((accounts.network(HOME).all(), accounts.network(AWAY).all()), (1, 10));
        assert_eq!(accounts.owner(&ALICE).taken.held, 10);
        assert_eq!(accounts.held(), [(ALICE, AWAY, 10)]);
        accounts.discharge(ALICE, AWAY, Part::Held, 10);
        accounts.discharge(BOB, HOME, Part::Writing, 1);
        accounts.check();
        assert!(accounts.by_owner.is_empty() && accounts.by_prefix.is_empty());
        assert_eq!(accounts.total(), Taken::default());
    }

    #[test]
    fn callers_of_this_machine_are_of_no_network() {
        let mut accounts = Accounts::default();
        accounts.charge(ALICE, Prefix(None), Part::Held, 100);
        assert_eq!(accounts.network(Prefix(None)).all(), 0);
        assert_eq!(accounts.owner(&ALICE).counts(), 100);
    }

    #[test]
    fn bytes_on_disk_secure_twice_as_many_unused_ones() {
        let mut accounts = Accounts::default();
        accounts.promise(ALICE, 50);
        accounts.charge(ALICE, HOME, Part::Reserved, 50);
        assert_eq!((accounts.unsecured(), accounts.owner(&ALICE).secured_room()), (50, 0));
        accounts.charge(ALICE, HOME, Part::Held, 30);
        assert_eq!((accounts.unsecured(), accounts.owner(&ALICE).secured_room()), (0, 10));
        accounts.charge(BOB, HOME, Part::Writing, 7);
        assert_eq!(accounts.unsecured(), 7);
        accounts.check();
    }

    #[test]
    fn the_largest_accounts_come_first_and_the_others_are_counted() {
        let mut accounts = Accounts::default();
        for number in 1..=9 {
            let owner = PeerId([number; 32]);
            accounts.charge(owner, HOME, Part::Held, u64::from(number));
            accounts.charge(owner, AWAY, Part::Held, 5);
        }
        accounts.promise(BOB, 100);
        let (lines, others) = accounts.largest(3, 1000);
        let owners: Vec<u8> = lines.iter().map(|line| line.owner.0[0]).collect();
        assert_eq!((owners, others), (vec![2, 9, 8], 6));
        let expected =
            OwnerAccount { owner: BOB, network: AWAY, held: 7, reserved: 100, share: 1000 };
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1].network, HOME);
    }
}
