//! Peers and their accounts by number. An account is an owner at a network: what it is charged for
//! was stored from there.

use std::collections::BTreeMap;

use pangea_base::{PeerId, Prefix};

use super::slots::Slots;

#[derive(Default)]
pub(crate) struct Owners {
    numbers: BTreeMap<PeerId, u32>,
    owners: Slots<Owner>,
    accounts_of: BTreeMap<(u32, Prefix), u32>,
    accounts: Slots<Account>,
}

#[derive(Clone, Copy)]
struct Owner {
    peer: PeerId,
    bytes: u64,
    things: u64,
}

#[derive(Clone, Copy)]
struct Account {
    owner: u32,
    prefix: Prefix,
    bytes: u64,
    things: u64,
}

impl Owners {
    /// Charges an account for one thing more; its number and the owner's.
    pub(crate) fn charge(&mut self, peer: PeerId, prefix: Prefix, bytes: u64) -> (u32, u32) {
        let owner = match self.numbers.get(&peer) {
            Some(number) => *number,
            None => {
                let number = self.owners.add(Owner { peer, bytes: 0, things: 0 });
                self.numbers.insert(peer, number);
                number
            }
        };
        let account = match self.accounts_of.get(&(owner, prefix)) {
            Some(number) => *number,
            None => {
                let number = self.accounts.add(Account { owner, prefix, bytes: 0, things: 0 });
                self.accounts_of.insert((owner, prefix), number);
                number
            }
        };
        let (of_owner, of_account) = (self.owners.get_mut(owner), self.accounts.get_mut(account));
        of_owner.bytes += bytes;
        of_owner.things += 1;
        of_account.bytes += bytes;
        of_account.things += 1;
        (account, owner)
    }

    /// Discharges it of one thing.
    pub(crate) fn discharge(&mut self, account: u32, bytes: u64) {
        let of_account = self.accounts.get_mut(account);
        of_account.bytes -= bytes;
        of_account.things -= 1;
        let Account { owner, prefix, things, .. } = *of_account;
        if things == 0 {
            self.accounts_of.remove(&(owner, prefix));
            self.accounts.remove(account);
        }
        let of_owner = self.owners.get_mut(owner);
        of_owner.bytes -= bytes;
        of_owner.things -= 1;
        if of_owner.things == 0 {
            let peer = of_owner.peer;
            self.numbers.remove(&peer);
            self.owners.remove(owner);
        }
    }

    pub(crate) fn number(&self, peer: &PeerId) -> Option<u32> {
        self.numbers.get(peer).copied()
    }

    pub(crate) fn peer(&self, owner: u32) -> PeerId {
        self.owners.get(owner).peer
    }

    pub(crate) fn prefix(&self, account: u32) -> Prefix {
        self.accounts.get(account).prefix
    }

    pub(crate) fn bytes(&self, peer: &PeerId) -> u64 {
        self.number(peer).map_or(0, |number| self.owners.get(number).bytes)
    }

    /// All accounts with their bytes, in the order of peers and networks.
    pub(crate) fn all(&self) -> Vec<(PeerId, Prefix, u64)> {
        let mut all: Vec<_> = self
            .accounts_of
            .iter()
            .map(|((owner, prefix), number)| {
                (self.peer(*owner), *prefix, self.accounts.get(*number).bytes)
            })
            .collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_an_account_for_each_network_and_none_when_nothing_is_left() {
        let (peer, home, work) = (PeerId([1; 32]), Prefix(Some([1; 6])), Prefix(Some([2; 6])));
        let mut owners = Owners::default();
        let (first, owner) = owners.charge(peer, home, 10);
        assert_eq!(owners.charge(peer, home, 5), (first, owner));
        let (second, same) = owners.charge(peer, work, 7);
        assert!(second != first && same == owner);
        assert_eq!(owners.all(), [(peer, home, 15), (peer, work, 7)]);
        assert_eq!((owners.bytes(&peer), owners.prefix(second)), (22, work));
        owners.discharge(first, 10);
        owners.discharge(first, 5);
        assert_eq!(owners.all(), [(peer, work, 7)]);
        owners.discharge(second, 7);
        assert_eq!((owners.all(), owners.number(&peer)), (Vec::new(), None));
    }
}
