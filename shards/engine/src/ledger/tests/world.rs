//! A ledger with a disk beside it, for tests: things with owners, networks and objects on several
//! cores, which give way as a store's would.

use std::collections::VecDeque;
use std::time::Duration;

use pangea_base::Secret;

use super::*;
use crate::limits::MAKE_ROOM_EVERY;
use crate::room::{blob_room, shard_room};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// This machine's own.
pub(super) const HERE: Prefix = Prefix(None);

pub(super) fn peer(number: u64) -> PeerId {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    PeerId(id)
}

pub(super) fn network(number: u64) -> Prefix {
    let [a, b, c, d, e, f, ..] = (number + 1).to_le_bytes();
    Prefix(Some([a, b, c, d, e, f]))
}

pub(super) fn locator(number: u64) -> Locator {
    Locator(peer(number).0)
}

/// One entry of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) owner: PeerId,
    pub(super) from: Prefix,
    pub(super) locator: Locator,
    pub(super) bytes: u64,
    pub(super) core: CoreId,
    pub(super) has_manifest: bool,
    pub(super) is_over: bool,
}

/// A write under way.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) grant: Grant,
    pub(super) from: Prefix,
    pub(super) core: CoreId,
    pub(super) bytes: u64,
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    identity: Identity,
    entropy: Entropy,
    pub(super) now: Instant,
    pub(super) wall: UnixTime,
    pub(super) disk: Vec<Thing>,
    pub(super) rooms: VecDeque<(CoreId, u64, MakeRoom)>,
    pub(super) answers: VecDeque<(u64, LedgerAnswer)>,
    tickets: u64,
    capacity: u64,
    accept: Accept,
    cores: u8,
}

impl World {
    pub(super) fn new(capacity: u64, accept: Accept) -> World {
        World::of_cores(capacity, accept, 2)
    }

    pub(super) fn of_cores(capacity: u64, accept: Accept, cores: u8) -> World {
        World {
            ledger: Ledger::new(capacity, accept.clone(), cores),
            identity: Identity::from_seed(Secret::new([1; 32])),
            entropy: Entropy::new([2; 32]),
            now: Instant::now(),
            wall: UnixTime(1_000_000),
            disk: Vec::new(),
            rooms: VecDeque::new(),
            answers: VecDeque::new(),
            tickets: 0,
            capacity,
            accept,
            cores,
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Ledger, &mut Desk<'_>) -> T) -> T {
        let World { ledger, identity, entropy, now, wall, .. } = self;
        let done = act(ledger, &mut Desk { now: *now, wall: *wall, identity, entropy });
        while let Some(output) = self.ledger.poll() {
            match output {
                LedgerOutput::Says(_, ticket, answer) => self.answers.push_back((ticket, answer)),
                LedgerOutput::MakeRoom(core, round, room) => {
                    self.rooms.push_back((core, round, room));
                }
            }
        }
        done
    }

    /// Asks; the number under which the answer comes.
    pub(super) fn ask(&mut self, core: u8, question: LedgerQuestion) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.with(|ledger, desk| ledger.asked(desk, CoreId(core), ticket, question));
        ticket
    }

    pub(super) fn answer(&mut self, ticket: u64) -> Option<LedgerAnswer> {
        let at = self.answers.iter().position(|(number, _)| *number == ticket)?;
        self.answers.remove(at).map(|(_, answer)| answer)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall = self.wall.after(time);
        self.with(|ledger, desk| ledger.tick(desk));
    }

    /// Every core lets go of what it is asked for, as a store does.
    pub(super) fn make_rooms(&mut self) {
        while let Some((core, round, room)) = self.rooms.pop_front() {
            let mut gone = 0;
            for orphans in [false, true] {
                while gone < room.bytes {
                    let gives_way = |thing: &Thing| {
                        let is_left = !thing.has_manifest && !room.spare.contains(&thing.locator);
                        thing.core == core
                            && room.of.is_none_or(|owner| owner == thing.owner)
                            && match orphans {
                                false => thing.is_over,
                                true => room.of.is_some() && is_left,
                            }
                    };
                    let Some(at) = self.disk.iter().position(gives_way) else { break };
                    gone += self.delete(at).bytes;
                }
            }
            self.with(|ledger, desk| ledger.room_made(desk, core, round));
        }
    }

    pub(super) fn delete(&mut self, at: usize) -> Thing {
        let thing = self.disk.remove(at);
        let Thing { owner, from, bytes, core, .. } = thing;
        self.ask(core.0, LedgerQuestion::Deleted { owner, from, bytes });
        thing
    }

    /// Asks for a grant on a connection of its own core and waits for rounds that it takes.
    pub(super) fn grant_on(
        &mut self,
        (core, caller): (u8, u64),
        owner: PeerId,
        from: Prefix,
        locator: Locator,
        bytes: u64,
    ) -> Result<Grant, StoreRefusal> {
        let question = LedgerQuestion::Grant { origin: owner, from, caller, locator, bytes };
        let ticket = self.ask(core, question);
        self.make_rooms();
        let mut answer = self.answer(ticket);
        if answer.is_none() {
            // Its last round was just now.
            self.pass(MAKE_ROOM_EVERY);
            self.make_rooms();
            answer = self.answer(ticket);
        }
        match answer {
            Some(LedgerAnswer::Granted(grant)) => Ok(*grant),
            Some(LedgerAnswer::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn grant(
        &mut self,
        number: u64,
        from: Prefix,
        bytes: u64,
    ) -> Result<Grant, StoreRefusal> {
        self.grant_on((0, number), peer(number), from, locator(number), bytes)
    }

    pub(super) fn spend_on(
        &mut self,
        (core, caller): (u8, u64),
        grant: &Grant,
        from: Prefix,
        bytes: u64,
    ) -> Result<Write, StoreRefusal> {
        let question =
            LedgerQuestion::Spend { grant: Box::new(grant.clone()), from, caller, bytes };
        let ticket = self.ask(core, question);
        match self.answer(ticket) {
            Some(LedgerAnswer::Spent) => {
                Ok(Write { grant: grant.clone(), from, core: CoreId(core), bytes })
            }
            Some(LedgerAnswer::Refused(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn spend(&mut self, grant: &Grant, bytes: u64) -> Result<Write, StoreRefusal> {
        self.spend_on((0, 1), grant, HERE, bytes)
    }

    /// A write ended, and so much of it stays.
    pub(super) fn settle(&mut self, write: Write, kept: u64) {
        let Write { grant, from, core, bytes } = write;
        let owner = grant.origin;
        if kept > 0 {
            let (has_manifest, is_over) = (false, false);
            let locator = grant.locator;
            let bytes = kept;
            self.disk.push(Thing { owner, from, locator, bytes, core, has_manifest, is_over });
        }
        let (grant, spent) = (grant.nonce, bytes);
        self.ask(core.0, LedgerQuestion::Settle { grant, owner, from, spent, kept });
    }

    pub(super) fn release(&mut self, origin: PeerId, locator: Locator) {
        let ticket = self.ask(0, LedgerQuestion::Release { origin, locator });
        assert!(matches!(self.answer(ticket), Some(LedgerAnswer::Released)));
    }

    pub(super) fn gone(&mut self, (core, caller): (u8, u64), parting: Parting) {
        self.ask(core, LedgerQuestion::Gone { caller, parting });
    }

    /// The manifest of an object is there.
    pub(super) fn tell(&mut self, owner: PeerId, locator: Locator) {
        let of_object =
            self.disk.iter_mut().filter(|thing| (thing.owner, thing.locator) == (owner, locator));
        of_object.for_each(|thing| thing.has_manifest = true);
    }

    /// A whole put of shards of these lengths, so many of them at a time, as an origin makes it.
    pub(super) fn put(
        &mut self,
        owner: PeerId,
        from: Prefix,
        object: Locator,
        shards: &[u64],
        at_once: usize,
    ) -> Result<(), StoreRefusal> {
        let conn = (0, self.tickets + 1_000_000);
        let page = blob_room(4000);
        let bytes = shards.iter().map(|&bytes| shard_room(bytes)).sum::<u64>() + 2 * page;
        let grant = self.grant_on(conn, owner, from, object, bytes)?;
        for shards in shards.chunks(at_once) {
            let begin = |&bytes: &u64| self.spend_on(conn, &grant, from, shard_room(bytes));
            let writes: Result<Vec<Write>, StoreRefusal> = shards.iter().map(begin).collect();
            for write in writes? {
                let kept = write.bytes;
                self.settle(write, kept);
            }
        }
        for _ in 0..2 {
            let write = self.spend_on(conn, &grant, from, page)?;
            self.settle(write, page);
        }
        self.tell(owner, object);
        self.release(owner, object);
        self.gone(conn, Parting::Closed);
        Ok(())
    }

    /// Stops at once and starts again, with what is on disk.
    pub(super) fn restart(&mut self) {
        self.ledger = Ledger::new(self.capacity, self.accept.clone(), self.cores);
        self.rooms.clear();
        for core in 0..self.cores {
            let mut found: std::collections::BTreeMap<(PeerId, Prefix), u64> = Default::default();
            for thing in self.disk.iter().filter(|thing| thing.core == CoreId(core)) {
                *found.entry((thing.owner, thing.from)).or_default() += thing.bytes;
            }
            let found = found.into_iter().map(|((owner, from), bytes)| (owner, from, bytes));
            self.ask(core, LedgerQuestion::Recovered(found.collect()));
        }
    }

    /// The ledger has what the disk has, of every owner and network.
    pub(super) fn check(&self) {
        self.ledger.check();
        let mut disk: std::collections::BTreeMap<(PeerId, Prefix), u64> = Default::default();
        for thing in &self.disk {
            *disk.entry((thing.owner, thing.from)).or_default() += thing.bytes;
        }
        let held = self.ledger.held();
        let held: std::collections::BTreeMap<(PeerId, Prefix), u64> =
            held.into_iter().map(|(owner, from, bytes)| ((owner, from), bytes)).collect();
        assert_eq!(held, disk);
        let total = self.ledger.accounts.total().all();
        assert!(total <= self.capacity, "{total} of {}", self.capacity);
    }
}
