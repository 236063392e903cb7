//! The grants that the ledger remembers: found by their number, let go in time, and never so many
//! of one network that others find no place. Everything costs the logarithm of their number.
//!
//! A grant is *live* while its put may go on: until its origin says that the put is over, or 60 s
//! after the last connection ended that used it, or until it ends. Only for a live one is anything
//! set aside. After that it still may be used, as long as it has not ended, and takes what it
//! needs when it needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pangea_base::{CoreId, Locator, PeerId, Prefix, UnixTime};
use pangea_wire::Grant;

use crate::limits::{
    CALLERS_PER_GRANT_MAX, GRANT_LIFETIME, GRANTS_MAX, GRANTS_PER_CALLER_MAX, RESERVATION_IDLE,
};

/// What names a grant.
pub(crate) type Nonce = [u8; 16];

/// A connection that uses grants: the core that it arrived on, and that core's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// Which core.
    pub core: CoreId,
    /// Never given to another connection of that core.
    pub number: u64,
}

/// Whether the put of a grant may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// As far as is known.
    Live,
    /// Nobody who used it is there any more; whoever comes back takes it up again.
    Lapsed,
    /// Its origin said that it is over.
    Released,
}

/// What is known of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) owner: PeerId,
    pub(crate) from: Prefix,
    pub(crate) locator: Locator,
    /// Bytes written under it.
    pub(crate) spent: u64,
    /// Bytes that it still allows and that count against its owner's share.
    pub(crate) promised: u64,
    /// Of these, bytes that are set aside.
    pub(crate) left: u64,
    pub(crate) touched: Instant,
    /// From then on it is void: by the clock that never jumps, whatever the wall's clock did since
    /// it was given …
    pub(crate) ends: Instant,
    /// … and by the wall's, for when it is no longer remembered here.
    pub(crate) void: UnixTime,
    pub(crate) life: Life,
}

impl Reservation {
    fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    fn party(&self) -> Party {
        match self.from {
            Prefix(None) => Party::Local(self.owner),
            network => Party::Network(network),
        }
    }
}

/// Who makes room when there are too many grants: a network as a whole; on this machine, where
/// there is none to tell them by, each peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    Network(Prefix),
    Local(PeerId),
}

/// For how long a grant that is not remembered still holds, by the wall's clock: it is of an
/// earlier run of this node, or was forgotten for want of room. `None`: it is over.
pub(crate) fn remaining(grant: &Grant, wall: UnixTime) -> Option<Duration> {
    if grant.is_over(wall) {
        return None;
    }
    let ends = grant.issued.after(Duration::from_secs(grant.lifetime_seconds));
    Some(Duration::from_secs(ends.0.saturating_sub(wall.0)).min(GRANT_LIFETIME))
}

#[derive(Debug)]
struct Known {
    grant: Reservation,
    callers: BTreeSet<Caller>,
    // Since when it has none.
    idle_since: Instant,
    // When it is looked at to be forgotten.
    looked_at: Instant,
}

impl Known {
    /// When a live grant lapses. One that is used up has nothing to wait for.
    fn lapses(&self) -> Option<Instant> {
        let waits = !self.callers.is_empty() && self.grant.promised > 0;
        let lapses = if waits { self.grant.ends } else { self.idle_since + RESERVATION_IDLE };
        self.grant.is_live().then_some(lapses.min(self.grant.ends))
    }
}

/// All of them, at most [`GRANTS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Grants {
    known: BTreeMap<Nonce, Known>,
    lapses: BTreeSet<(Instant, Nonce)>,
    ends: BTreeSet<(Instant, Nonce)>,
    // Live ones of an owner, the longest untouched first, and those of each of its objects.
    live_of: BTreeMap<PeerId, BTreeSet<(Instant, Nonce)>>,
    by_object: BTreeMap<(PeerId, Locator), BTreeSet<Nonce>>,
    by_caller: BTreeMap<Caller, BTreeSet<Nonce>>,
    // By network, those first that nothing is set aside for.
    of_party: BTreeMap<Party, BTreeSet<(bool, Instant, Nonce)>>,
    by_size: BTreeSet<(usize, Party)>,
}

impl Grants {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn get(&self, nonce: &Nonce) -> Option<Reservation> {
        self.known.get(nonce).map(|known| known.grant)
    }

    /// How many grants of an owner are live.
    pub(crate) fn live_of(&self, owner: &PeerId) -> usize {
        self.live_of.get(owner).map_or(0, BTreeSet::len)
    }

    /// The live grant of an owner that was touched the longest ago, if that was long enough ago to
    /// take it for forgotten.
    pub(crate) fn stalest_of(&self, owner: &PeerId, now: Instant) -> Option<Nonce> {
        let &(touched, nonce) = self.live_of.get(owner)?.first()?;
        (touched + RESERVATION_IDLE <= now).then_some(nonce)
    }

    /// Live grants of an owner whose connections have all ended.
    pub(crate) fn left_alone_of(&self, owner: &PeerId) -> Vec<Nonce> {
        let alone = |nonce: &Nonce| self.known.get(nonce).is_some_and(|k| k.callers.is_empty());
        let live = self.live_of.get(owner).into_iter().flatten();
        live.map(|(_, nonce)| *nonce).filter(alone).collect()
    }

    /// The live grants for one object of an owner.
    pub(crate) fn of_object(&self, owner: PeerId, locator: Locator) -> Vec<Nonce> {
        self.by_object.get(&(owner, locator)).into_iter().flatten().copied().collect()
    }

    /// The objects of an owner that have a live grant.
    pub(crate) fn objects_of(&self, owner: PeerId) -> Vec<Locator> {
        let first = (owner, Locator([0; 32]));
        let objects = self.by_object.range(first..).map(|(object, _)| object);
        objects.take_while(|(peer, _)| *peer == owner).map(|(_, locator)| *locator).collect()
    }

    /// Remembers a grant. Who was forgotten for it, if there was no place: of the party with the
    /// most grants one that nothing is set aside for, else the one that was touched the longest
    /// ago. It stays valid and may be spent once more; the quotas bind it as before.
    #[must_use = "what was reserved for it is to be given back"]
    pub(crate) fn remember(&mut self, nonce: Nonce, grant: Reservation) -> Option<Reservation> {
        self.forget(&nonce);
        let forgotten = if self.known.len() >= GRANTS_MAX { self.forget_one() } else { None };
        self.ends.insert((grant.ends, nonce));
        let (idle_since, looked_at) = (grant.touched, grant.ends);
        let known = Known { grant, callers: BTreeSet::new(), idle_since, looked_at };
        self.insert(nonce, known);
        forgotten
    }

    /// Something else is known of a grant from now on. `ends` stays what it was.
    pub(crate) fn change(&mut self, nonce: &Nonce, change: impl FnOnce(&mut Reservation)) {
        let Some(mut known) = self.remove(nonce) else { return };
        change(&mut known.grant);
        if !known.grant.is_live() {
            self.leave(&mut known, nonce);
        }
        self.insert(*nonce, known);
    }

    /// A connection uses a grant, and something else is known of it from now on. A connection with
    /// too many grants, or a grant with too many connections, goes without: such a grant lapses
    /// when it is not touched.
    pub(crate) fn touch(
        &mut self,
        nonce: &Nonce,
        caller: Caller,
        now: Instant,
        change: impl FnOnce(&mut Reservation),
    ) {
        let Some(mut known) = self.remove(nonce) else { return };
        change(&mut known.grant);
        (known.grant.touched, known.idle_since) = (now, now);
        let of_caller = self.by_caller.get(&caller).map_or(0, BTreeSet::len);
        let has_room =
            known.callers.len() < CALLERS_PER_GRANT_MAX && of_caller < GRANTS_PER_CALLER_MAX;
        if known.grant.is_live() && has_room {
            known.callers.insert(caller);
            self.by_caller.entry(caller).or_default().insert(*nonce);
        }
        self.insert(*nonce, known);
    }

    /// A connection ended. Which grants nobody uses any more.
    pub(crate) fn caller_ended(&mut self, caller: Caller, now: Instant) -> Vec<Nonce> {
        let mut alone = Vec::new();
        for nonce in self.by_caller.remove(&caller).unwrap_or_default() {
            let Some(mut known) = self.remove(&nonce) else { continue };
            known.callers.remove(&caller);
            if known.callers.is_empty() {
                known.idle_since = now;
                alone.push(nonce);
            }
            self.insert(nonce, known);
        }
        alone
    }

    /// The next live grant that has no right to be it any more.
    pub(crate) fn next_lapsed(&self, now: Instant) -> Option<Nonce> {
        let &(lapses, nonce) = self.lapses.first()?;
        (lapses <= now).then_some(nonce)
    }

    /// Forgets those that have ended. One that the wall's clock takes for good (it was set back) is
    /// kept, so that this run's own clock goes on to decide.
    pub(crate) fn forget_ended(&mut self, now: Instant, wall: UnixTime) {
        while let Some(&(looked_at, nonce)) = self.ends.first()
            && looked_at <= now
        {
            match self.known.get_mut(&nonce) {
                Some(known) if known.grant.void > wall => {
                    known.looked_at = now + GRANT_LIFETIME;
                    self.ends.remove(&(looked_at, nonce));
                    self.ends.insert((known.looked_at, nonce));
                }
                _ => drop(self.forget(&nonce)),
            }
        }
    }

    /// Whether all lists agree, and the accounts with what is promised and set aside.
    #[cfg(test)]
    pub(crate) fn check(&self, accounts: &crate::accounts::Accounts) {
        let mut promised: BTreeMap<PeerId, u64> = BTreeMap::new();
        let mut left = 0;
        for (nonce, known) in &self.known {
            let grant = &known.grant;
            assert!(grant.promised >= grant.left, "what is set aside was promised");
            assert!(grant.is_live() || grant.promised == 0, "what is over promises nothing");
            assert!(grant.is_live() || known.callers.is_empty());
            *promised.entry(grant.owner).or_default() += grant.promised;
            left += grant.left;
            assert!(self.ends.contains(&(known.looked_at, *nonce)));
            for caller in &known.callers {
                assert!(self.by_caller[caller].contains(nonce));
            }
        }
        assert_eq!(accounts.total().reserved, left);
        for (owner, promised) in promised {
            assert_eq!(accounts.owner(&owner).promised, promised);
        }
        let live = self.known.values().filter(|known| known.grant.is_live()).count();
        assert_eq!(self.lapses.len(), live);
        assert_eq!(self.live_of.values().map(BTreeSet::len).sum::<usize>(), live);
        assert_eq!(self.by_object.values().map(BTreeSet::len).sum::<usize>(), live);
        assert_eq!(self.ends.len(), self.known.len());
        assert_eq!(self.of_party.values().map(BTreeSet::len).sum::<usize>(), self.known.len());
        let used: usize = self.known.values().map(|known| known.callers.len()).sum();
        assert_eq!(self.by_caller.values().map(BTreeSet::len).sum::<usize>(), used);
    }

    fn forget_one(&mut self) -> Option<Reservation> {
        let (_, party) = self.by_size.last()?;
        let &(_, _, nonce) = self.of_party.get(party)?.first()?;
        self.forget(&nonce)
    }

    fn forget(&mut self, nonce: &Nonce) -> Option<Reservation> {
        let mut known = self.remove(nonce)?;
        self.leave(&mut known, nonce);
        self.ends.remove(&(known.looked_at, *nonce));
        Some(known.grant)
    }

    /// Nobody uses it any more.
    fn leave(&mut self, known: &mut Known, nonce: &Nonce) {
        for caller in std::mem::take(&mut known.callers) {
            remove_from(&mut self.by_caller, caller, nonce);
        }
    }

    /// Puts a grant into every list that it belongs to.
    fn insert(&mut self, nonce: Nonce, known: Known) {
        let grant = known.grant;
        if let Some(lapses) = known.lapses() {
            self.lapses.insert((lapses, nonce));
            self.live_of.entry(grant.owner).or_default().insert((grant.touched, nonce));
            self.by_object.entry((grant.owner, grant.locator)).or_default().insert(nonce);
        }
        let place = (grant.left > 0, grant.touched, nonce);
        self.change_party(grant.party(), |grants| grants.insert(place));
        self.known.insert(nonce, known);
    }

    /// Takes it out of all of them.
    fn remove(&mut self, nonce: &Nonce) -> Option<Known> {
        let known = self.known.remove(nonce)?;
        let grant = known.grant;
        if let Some(lapses) = known.lapses() {
            self.lapses.remove(&(lapses, *nonce));
            remove_from(&mut self.live_of, grant.owner, &(grant.touched, *nonce));
            remove_from(&mut self.by_object, (grant.owner, grant.locator), nonce);
        }
        let place = (grant.left > 0, grant.touched, *nonce);
        self.change_party(grant.party(), |grants| grants.remove(&place));
        Some(known)
    }

    /// Changes what a party has, and its place among all by the number of its grants.
    fn change_party(
        &mut self,
        party: Party,
        change: impl FnOnce(&mut BTreeSet<(bool, Instant, Nonce)>) -> bool,
    ) {
        let grants = self.of_party.entry(party).or_default();
        self.by_size.remove(&(grants.len(), party));
        let changed = change(grants);
        debug_assert!(changed, "the parties' lists and the grants go together");
        if grants.is_empty() {
            self.of_party.remove(&party);
        } else {
            self.by_size.insert((grants.len(), party));
        }
    }
}

/// Takes something out of one of many sets; an empty one is not kept.
fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: &V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
