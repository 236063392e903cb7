//! Who may store how much. One ledger per node, on core 0; the other cores ask it over the mesh.
//!
//! **What is counted.** Every owner has an account for each network that it stored from
//! (`accounts.rs`): bytes on disk, bytes being written, bytes reserved. All of them are bytes as
//! the disk counts them: whole blocks, group tables included. An owner and a network may have a
//! tenth of the capacity each, unless the operator listed the owner.
//!
//! **What a grant is.** A permission to store so many bytes, which counts in full against its
//! owner's own share from the beginning, and a reservation behind it, which keeps others out. For
//! an owner whom the operator listed the two are the same. For anybody else the reservation is
//! worth little at first and more as it is used (`rules.rs`), so that nobody holds a node shut with
//! grants alone: not ten identities, and not a thousand.
//!
//! **When it is given back.** When the origin says that its put is over; at once when it closes
//! the last connection that used the grant, 60 s after that connection is lost; six hours after the
//! grant was given. Bytes of a shard that was not stored return to its grant, so that the shard can
//! be sent once more.
//!
//! **What gives way.** A grant that finds no room waits for one round over all cores, in which what
//! is over, and what the same owner left behind of puts that are over, is deleted (`rounds.rs`).
//! Then it is decided by what is free.

mod rounds;
mod rules;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use pangea_base::{CoreId, Entropy, Identity, Locator, PeerId, Prefix, UnixTime};
use pangea_wire::{AuthRefused, Grant, GrantRefused, StoreRefusal};

use crate::accounts::{Accounts, Part};
use crate::grants::{Caller, Grants, Life, Nonce, Reservation, remaining};
use crate::limits::{GRANT_LIFETIME, GRANTS_PER_PEER_MAX, MAKE_ROOM_PATIENCE, OWNERS_SHOWN_MAX};
use crate::message::MakeRoom;

pub use crate::accounts::OwnerAccount;
use rounds::{Rounds, Wish};

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

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The peer closed it: it is done.
    Closed,
    /// It was lost: the peer may come back.
    Lost,
}

/// What a core asks the ledger.
#[derive(Debug, Clone)]
pub enum LedgerQuestion {
    /// Reserve room for an object and sign a grant.
    Grant {
        /// For whom.
        origin: PeerId,
        /// Calling from where.
        from: Prefix,
        /// On which of the core's connections.
        caller: u64,
        /// For which object.
        locator: Locator,
        /// How many bytes, as the disk counts them.
        bytes: u64,
    },
    /// A shard or blob is about to be written: take it out of the grant.
    Spend {
        /// Verified by the asking core, but for its age.
        grant: Box<Grant>,
        /// Calling from where: the entry in the store will say the same.
        from: Prefix,
        /// On which of the core's connections.
        caller: u64,
        /// At most this many bytes, as the disk counts them.
        bytes: u64,
    },
    /// The write ended: of the `spent` bytes these stay.
    Settle {
        /// Under which grant.
        grant: Nonce,
        /// Whose they are, as the entry in the store says.
        owner: PeerId,
        /// The network, as the entry says.
        from: Prefix,
        /// What was taken.
        spent: u64,
        /// What stays on disk.
        kept: u64,
    },
    /// Something was deleted from the disk.
    Deleted {
        /// Whose it was, as its entry said.
        owner: PeerId,
        /// The network, as its entry said.
        from: Prefix,
        /// What it took on disk.
        bytes: u64,
    },
    /// A core opened its part of the store and found this much of each owner and network.
    Recovered(Vec<(PeerId, Prefix, u64)>),
    /// The origin is done with an object: what is reserved for it is given back.
    Release {
        /// Who says so.
        origin: PeerId,
        /// Of which object.
        locator: Locator,
    },
    /// A connection on which grants were asked for or used is gone.
    Gone {
        /// The core's number for it.
        caller: u64,
        /// How it ended.
        parting: Parting,
    },
}

/// What the ledger answers.
#[derive(Debug, Clone)]
pub enum LedgerAnswer {
    /// Signed.
    Granted(Box<Grant>),
    /// Go ahead.
    Spent,
    /// What was reserved is given back.
    Released,
    /// No, and why.
    Refused(StoreRefusal),
}

/// What the ledger wants done.
#[derive(Debug)]
pub(crate) enum LedgerOutput {
    /// An answer, to whom and to which of its questions.
    Says(CoreId, u64, LedgerAnswer),
    /// One core is to make room, in this round.
    MakeRoom(CoreId, u64, MakeRoom),
}

/// With what a question is answered.
pub(crate) struct Desk<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: UnixTime,
    pub(crate) identity: &'a Identity,
    pub(crate) entropy: &'a mut Entropy,
}

/// The node's account of who takes how much of it.
#[derive(Debug)]
pub struct Ledger {
    capacity: u64,
    accept: Accept,
    cores: u8,
    accounts: Accounts,
    grants: Grants,
    rounds: Rounds,
    outputs: VecDeque<LedgerOutput>,
}

impl Ledger {
    /// An empty account of a node with so many cores.
    pub fn new(capacity: u64, accept: Accept, cores: u8) -> Ledger {
        Ledger {
            capacity,
            accept,
            cores,
            accounts: Accounts::default(),
            grants: Grants::default(),
            rounds: Rounds::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Bytes on disk or being written.
    pub fn used(&self) -> u64 {
        let total = self.accounts.total();
        total.held.saturating_add(total.writing)
    }

    /// Bytes reserved by grants and not yet spent.
    pub fn reserved(&self) -> u64 {
        self.accounts.total().reserved
    }

    /// What the disk should hold, by owner and network.
    pub fn held(&self) -> Vec<(PeerId, Prefix, u64)> {
        self.accounts.held()
    }

    /// Grants that wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.rounds.waiting()
    }

    /// The owners that take the most, largest first, and how many others there are.
    pub(crate) fn owners(&mut self, now: Instant, wall: UnixTime) -> (Vec<OwnerAccount>, usize) {
        self.let_go(now, wall);
        self.accounts.largest(OWNERS_SHOWN_MAX, self.share())
    }

    /// Takes in a core's question; afterwards drain [`Ledger::poll`].
    pub(crate) fn asked(
        &mut self,
        desk: &mut Desk<'_>,
        asker: CoreId,
        ticket: u64,
        question: LedgerQuestion,
    ) {
        self.let_go(desk.now, desk.wall);
        match question {
            LedgerQuestion::Grant { origin, from, caller, locator, bytes } => {
                let caller = Caller { core: asker, number: caller };
                let until = desk.now + MAKE_ROOM_PATIENCE;
                let wish = Wish { asker, ticket, origin, from, caller, locator, bytes, until };
                self.wished(desk, wish);
            }
            LedgerQuestion::Spend { grant, from, caller, bytes } => {
                let caller = Caller { core: asker, number: caller };
                let answer = match self.spend(desk, &grant, from, caller, bytes) {
                    Ok(()) => LedgerAnswer::Spent,
                    Err(refusal) => LedgerAnswer::Refused(refusal),
                };
                self.say(asker, ticket, answer);
            }
            LedgerQuestion::Settle { grant, owner, from, spent, kept } => {
                self.settle(&grant, owner, from, spent, kept);
            }
            LedgerQuestion::Deleted { owner, from, bytes } => {
                self.accounts.discharge(owner, from, Part::Held, bytes);
            }
            LedgerQuestion::Recovered(owners) => {
                for (owner, from, bytes) in owners {
                    self.accounts.charge(owner, from, Part::Held, bytes);
                }
            }
            LedgerQuestion::Release { origin, locator } => {
                for nonce in self.grants.of_object(origin, locator) {
                    self.close(&nonce, Life::Released);
                }
                self.say(asker, ticket, LedgerAnswer::Released);
            }
            LedgerQuestion::Gone { caller, parting } => {
                let caller = Caller { core: asker, number: caller };
                self.rounds.forget(caller);
                for nonce in self.grants.caller_ended(caller, desk.now) {
                    if parting == Parting::Closed {
                        self.close(&nonce, Life::Lapsed);
                    }
                }
            }
        }
    }

    /// The next thing that it wants done, oldest first.
    pub(crate) fn poll(&mut self) -> Option<LedgerOutput> {
        self.outputs.pop_front()
    }

    fn say(&mut self, asker: CoreId, ticket: u64, answer: LedgerAnswer) {
        self.outputs.push_back(LedgerOutput::Says(asker, ticket, answer));
    }

    /// A grant for a wish, if it may be given now.
    fn give(&mut self, desk: &mut Desk<'_>, wish: &Wish) -> Result<Box<Grant>, rules::Shortage> {
        let &Wish { origin, from, caller, locator, bytes, .. } = wish;
        self.room_for(origin, from, bytes)?;
        let nonce: Nonce = desk.entropy.array();
        let (void, life) = (desk.wall.after(GRANT_LIFETIME), GRANT_LIFETIME.as_secs());
        let grant = Grant::issue(desk.identity, origin, locator, bytes, desk.wall, life, nonce);
        let reservation = Reservation {
            owner: origin,
            from,
            locator,
            spent: 0,
            promised: bytes,
            left: 0,
            touched: desk.now,
            ends: desk.now + GRANT_LIFETIME,
            void,
            life: Life::Live,
        };
        self.accounts.promise(origin, bytes);
        self.remember(nonce, reservation);
        self.grants.touch(&nonce, caller, desk.now, |_| {});
        self.back(&nonce);
        Ok(Box::new(grant))
    }

    /// Whether an owner may have one more live grant. The one that it seems to have forgotten makes
    /// room.
    fn may_have_another(&mut self, owner: PeerId, now: Instant) -> bool {
        if self.grants.live_of(&owner) < GRANTS_PER_PEER_MAX {
            return true;
        }
        let Some(stale) = self.grants.stalest_of(&owner, now) else { return false };
        self.close(&stale, Life::Lapsed);
        true
    }

    fn may_store(&self, owner: PeerId) -> Result<(), StoreRefusal> {
        match &self.accept {
            Accept::Any => Ok(()),
            Accept::Listed(peers) if peers.contains(&owner) => Ok(()),
            Accept::Listed(_) | Accept::Nobody => Err(StoreRefusal::NotAccepting),
        }
    }

    /// Takes a write out of its grant. What is reserved for it is used first; what is not must find
    /// room.
    fn spend(
        &mut self,
        desk: &Desk<'_>,
        grant: &Grant,
        from: Prefix,
        caller: Caller,
        bytes: u64,
    ) -> Result<(), StoreRefusal> {
        self.may_store(grant.origin)?;
        let nonce = grant.nonce;
        let mut known = self.known(desk, grant)?;
        if known.spent.saturating_add(bytes) > grant.bytes_max {
            return Err(StoreRefusal::OverGrant { limit: grant.bytes_max });
        }
        if known.from != from {
            // Its origin calls from another network by now: what is set aside moves there.
            self.set_aside(&nonce, 0);
            self.grants.change(&nonce, |grant| grant.from = from);
            known = Reservation { from, left: 0, ..known };
        }
        let Reservation { owner, promised, left, .. } = known;
        let (promised_now, left_now) = (promised.min(bytes), left.min(bytes));
        self.room_to_write(owner, from, bytes - left_now, bytes - promised_now)?;
        self.accounts.discharge(owner, from, Part::Reserved, left_now);
        self.accounts.take_back(owner, promised_now);
        self.accounts.charge(owner, from, Part::Writing, bytes);
        let (promised, left) = (promised - promised_now, left - left_now);
        let more = (promised - left).min(self.may_set_aside(owner, from));
        self.accounts.charge(owner, from, Part::Reserved, more);
        self.grants.touch(&nonce, caller, desk.now, |grant| {
            grant.spent += bytes;
            (grant.promised, grant.left) = (promised, left + more);
            if grant.life == Life::Lapsed {
                grant.life = Life::Live;
            }
        });
        Ok(())
    }

    /// What is remembered of a grant that still holds. One that was given in this run ends by the
    /// clock that never jumps; one of an earlier run by the wall's.
    fn known(&mut self, desk: &Desk<'_>, grant: &Grant) -> Result<Reservation, StoreRefusal> {
        let over = StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Over));
        if let Some(known) = self.grants.get(&grant.nonce) {
            return if known.ends > desk.now { Ok(known) } else { Err(over) };
        }
        let left = remaining(grant, desk.wall).ok_or(over)?;
        let known = Reservation {
            owner: grant.origin,
            // Nothing is set aside, so any network will do.
            from: Prefix(None),
            locator: grant.locator,
            spent: 0,
            promised: 0,
            left: 0,
            touched: desk.now,
            ends: desk.now + left,
            void: desk.wall.after(left),
            life: Life::Lapsed,
        };
        self.remember(grant.nonce, known);
        Ok(known)
    }

    /// A write ended. If nothing of it stays, its origin may send it once more, and what it took
    /// returns to the grant.
    fn settle(&mut self, nonce: &Nonce, owner: PeerId, from: Prefix, spent: u64, kept: u64) {
        debug_assert!(kept <= spent, "a write is charged as much as it can become");
        self.accounts.discharge(owner, from, Part::Writing, spent);
        self.accounts.charge(owner, from, Part::Held, kept);
        let Some(known) = self.grants.get(nonce) else { return };
        let again = match known.life {
            Life::Live if kept == 0 => spent.min(self.share_left(&owner)),
            _ => 0,
        };
        self.accounts.promise(owner, again);
        if kept < spent {
            self.grants.change(nonce, |grant| {
                grant.spent = grant.spent.saturating_sub(spent - kept);
                grant.promised += again;
            });
        }
        self.back(nonce);
    }

    /// Remembers a grant; what was reserved for the one that made room is given back.
    fn remember(&mut self, nonce: Nonce, grant: Reservation) {
        if let Some(Reservation { owner, from, promised, left, .. }) =
            self.grants.remember(nonce, grant)
        {
            self.accounts.discharge(owner, from, Part::Reserved, left);
            self.accounts.take_back(owner, promised);
        }
    }

    /// As much of what a grant allows is set aside for it as the rules let be.
    fn back(&mut self, nonce: &Nonce) {
        let Some(known) = self.grants.get(nonce) else { return };
        let more = known.promised.saturating_sub(known.left);
        let more = more.min(self.may_set_aside(known.owner, known.from));
        self.set_aside(nonce, known.left + more);
    }

    /// So much is set aside for a grant from now on.
    fn set_aside(&mut self, nonce: &Nonce, bytes: u64) {
        let Some(Reservation { owner, from, left, .. }) = self.grants.get(nonce) else { return };
        self.accounts.charge(owner, from, Part::Reserved, bytes.saturating_sub(left));
        self.accounts.discharge(owner, from, Part::Reserved, left.saturating_sub(bytes));
        if left != bytes {
            self.grants.change(nonce, |grant| grant.left = bytes);
        }
    }

    /// A grant is live no more.
    fn close(&mut self, nonce: &Nonce, life: Life) {
        self.give_back(nonce);
        self.grants.change(nonce, |grant| grant.life = life);
    }

    /// Nothing is promised or set aside for a grant any more.
    fn give_back(&mut self, nonce: &Nonce) {
        self.set_aside(nonce, 0);
        let Some(Reservation { owner, promised, .. }) = self.grants.get(nonce) else { return };
        self.accounts.take_back(owner, promised);
        self.grants.change(nonce, |grant| grant.promised = 0);
    }

    fn let_go(&mut self, now: Instant, wall: UnixTime) {
        while let Some(nonce) = self.grants.next_lapsed(now) {
            self.close(&nonce, Life::Lapsed);
        }
        self.grants.forget_ended(now, wall);
    }

    /// Whether all that it knows agrees.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.accounts.check();
        self.grants.check(&self.accounts);
    }
}

#[cfg(test)]
mod tests;
