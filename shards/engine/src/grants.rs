//! The grants that the ledger remembers: found by their number, let go in time, and never so many
//! of one network that others find no place. Everything costs the logarithm of their number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pangea_base::{PeerId, UnixTime};

use crate::limits::GRANTS_MAX;

/// Unused reservations are let go after this long; the grant stays valid and reserves anew.
pub(crate) const RESERVATION_IDLE: Duration = Duration::from_secs(60);

/// What names a grant.
pub(crate) type Nonce = [u8; 16];

/// What is known of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) owner: PeerId,
    pub(crate) from: Prefix,
    /// Bytes written under it.
    pub(crate) spent: u64,
    /// Bytes still reserved for it.
    pub(crate) left: u64,
    pub(crate) touched: Instant,
    pub(crate) expires: UnixTime,
}

/// The network a peer calls from: /24 of IPv4, /48 of IPv6. Loopback has none: those callers are
/// this machine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix(pub(crate) Option<[u8; 6]>);

impl Prefix {
    pub(crate) fn of(ip: IpAddr) -> Prefix {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Prefix(None);
        }
        Prefix(Some(match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                [4, 0, 0, a, b, c]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                [a, b, c, d, e, f]
            }
        }))
    }
}

/// Who makes room when there are too many grants: a network as a whole; on this machine, where
/// there is none to tell them by, each peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    Network(Prefix),
    Local(PeerId),
}

impl Reservation {
    fn party(&self) -> Party {
        match self.from {
            Prefix(None) => Party::Local(self.owner),
            network => Party::Network(network),
        }
    }
}

/// All of them, at most [`GRANTS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Grants {
    known: BTreeMap<Nonce, Reservation>,
    // Each grant is in one of these two: while bytes are reserved for it, by when it was touched;
    // afterwards by when it ends.
    reserving: BTreeSet<(Instant, Nonce)>,
    used_up: BTreeSet<(UnixTime, Nonce)>,
    // How many of an owner's grants have bytes reserved.
    reserving_of: BTreeMap<PeerId, usize>,
    of_party: BTreeMap<Party, BTreeSet<(Instant, Nonce)>>,
    by_size: BTreeSet<(usize, Party)>,
}

impl Grants {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn get(&self, nonce: &Nonce) -> Option<Reservation> {
        self.known.get(nonce).copied()
    }

    /// How many grants of an owner have bytes reserved.
    pub(crate) fn reserving_of(&self, owner: &PeerId) -> usize {
        self.reserving_of.get(owner).copied().unwrap_or(0)
    }

    /// Remembers this of a grant from now on. Who was forgotten for it, if there was no place: the
    /// grant of the party with the most grants that was touched the longest ago. It stays valid,
    /// reserves anew, and may be spent once more; the quotas bind it as before.
    #[must_use = "what was reserved for it is to be given back"]
    pub(crate) fn remember(&mut self, nonce: Nonce, grant: Reservation) -> Option<Reservation> {
        self.forget(&nonce);
        let forgotten = if self.known.len() >= GRANTS_MAX { self.forget_one() } else { None };
        self.known.insert(nonce, grant);
        if grant.left > 0 {
            self.reserving.insert((grant.touched, nonce));
            *self.reserving_of.entry(grant.owner).or_default() += 1;
        } else {
            self.used_up.insert((grant.expires, nonce));
        }
        self.change_party(grant.party(), |grants| grants.insert((grant.touched, nonce)));
        forgotten
    }

    /// The next grant whose bytes were reserved in vain for too long. Nothing is reserved for it
    /// any more; a grant of which nothing was spent needs no memory.
    pub(crate) fn next_idle(&mut self, now: Instant) -> Option<Reservation> {
        let &(touched, nonce) = self.reserving.first()?;
        if touched + RESERVATION_IDLE > now {
            return None;
        }
        let idle = self.forget(&nonce)?;
        if idle.spent > 0 {
            let none = self.remember(nonce, Reservation { left: 0, ..idle });
            debug_assert!(none.is_none(), "it has its own place again");
        }
        Some(idle)
    }

    /// Forgets those that were used up and have ended.
    pub(crate) fn forget_ended(&mut self, wall: UnixTime) {
        while let Some(&(expires, nonce)) = self.used_up.first()
            && expires <= wall
        {
            self.forget(&nonce);
        }
    }

    fn forget_one(&mut self) -> Option<Reservation> {
        let (_, party) = self.by_size.last()?;
        let &(_, nonce) = self.of_party.get(party)?.first()?;
        self.forget(&nonce)
    }

    fn forget(&mut self, nonce: &Nonce) -> Option<Reservation> {
        let grant = self.known.remove(nonce)?;
        if grant.left > 0 {
            self.reserving.remove(&(grant.touched, *nonce));
            let count = self.reserving_of.get_mut(&grant.owner).expect("counted when it came");
            *count -= 1;
            if *count == 0 {
                self.reserving_of.remove(&grant.owner);
            }
        } else {
            self.used_up.remove(&(grant.expires, *nonce));
        }
        self.change_party(grant.party(), |grants| grants.remove(&(grant.touched, *nonce)));
        Some(grant)
    }

    /// Changes what a party has, and its place among all by the number of its grants.
    fn change_party(
        &mut self,
        party: Party,
        change: impl FnOnce(&mut BTreeSet<(Instant, Nonce)>) -> bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(owner: u8, from: Prefix, at: Instant, left: u64) -> Reservation {
        let expires = UnixTime(1_000);
        Reservation { owner: PeerId([owner; 32]), from, spent: 1, left, touched: at, expires }
    }

    fn nonce(number: usize) -> Nonce {
        (number as u128).to_le_bytes()
    }

    fn fill(from: impl Fn(usize) -> (u8, Prefix)) -> (Grants, Instant) {
        let (mut grants, now) = (Grants::default(), Instant::now());
        for number in 0..GRANTS_MAX {
            let (owner, from) = from(number);
            let at = now + Duration::from_millis(number as u64);
            assert_eq!(grants.remember(nonce(number), grant(owner, from, at, 1)), None);
        }
        (grants, now)
    }

    #[test]
    fn many_identities_of_one_network_make_room_themselves() {
        let (crowd, other) = (Prefix(Some([1; 6])), Prefix(Some([2; 6])));
        // Sixteen identities of one network, and before them two grants of somebody else.
        let from = |number| if number < 2 { (99, other) } else { (number as u8 % 16, crowd) };
        let (mut grants, now) = fill(from);
        let forgotten = grants.remember(nonce(GRANTS_MAX), grant(99, other, now, 1)).unwrap();
        assert_eq!((forgotten.from, forgotten.touched), (crowd, now + Duration::from_millis(2)));
        assert_eq!(grants.len(), GRANTS_MAX);
        assert_eq!(grants.reserving_of(&PeerId([99; 32])), 3);
    }

    #[test]
    fn peers_of_this_machine_are_told_apart() {
        let here = Prefix(None);
        let (mut grants, now) = fill(|number| (u8::from(number > 10), here));
        let forgotten = grants.remember(nonce(GRANTS_MAX), grant(7, here, now, 1)).unwrap();
        assert_eq!(forgotten.owner, PeerId([1; 32]));
    }

    #[test]
    fn what_is_known_of_a_grant_changes_in_its_place() {
        let (mut grants, now) = fill(|_| (1, Prefix(None)));
        let later = now + Duration::from_secs(3600);
        assert_eq!(grants.remember(nonce(5), grant(1, Prefix(None), later, 0)), None);
        assert_eq!(grants.get(&nonce(5)).unwrap().touched, later);
        assert_eq!(grants.reserving_of(&PeerId([1; 32])), GRANTS_MAX - 1);
    }

    #[test]
    fn an_idle_one_that_was_spent_from_is_kept_until_it_ends() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let spent = grant(1, Prefix(None), now, 5);
        assert_eq!(grants.remember(nonce(1), spent), None);
        assert_eq!(grants.remember(nonce(2), Reservation { spent: 0, ..spent }), None);
        assert_eq!(grants.next_idle(now), None);
        let later = now + RESERVATION_IDLE;
        let idle: Vec<_> = std::iter::from_fn(|| grants.next_idle(later)).collect();
        assert_eq!(idle.iter().map(|grant| grant.left).collect::<Vec<_>>(), [5, 5]);
        assert_eq!(grants.get(&nonce(1)), Some(Reservation { left: 0, ..spent }));
        assert_eq!(grants.get(&nonce(2)), None);
        grants.forget_ended(UnixTime(999));
        assert_eq!(grants.len(), 1);
        grants.forget_ended(UnixTime(1_000));
        assert_eq!(grants.len(), 0);
        assert!(grants.of_party.is_empty() && grants.by_size.is_empty());
        assert!(grants.reserving.is_empty() && grants.reserving_of.is_empty());
    }
}
