//! Everything that can happen to accounts, in random orders: the sums must agree after every step,
//! the ledger must have what the disk has, and when all is over nothing may be left.

use std::time::Duration;

use super::world::*;
use super::*;
use crate::limits::{GRANT_LIFETIME, SHARE_PER_PEER};

const OWNERS: u64 = 6;
const NETWORKS: u64 = 4;
const OBJECTS: u64 = 8;
const CONNECTIONS: u64 = 5;
const CORES: u8 = 3;
const CAPACITY: u64 = 100_000;

struct Model {
    world: World,
    entropy: Entropy,
    grants: Vec<Grant>,
    writes: Vec<Write>,
}

impl Model {
    fn new(seed: u8, accept: Accept) -> Model {
        let world = World::of_cores(CAPACITY, accept, CORES);
        let entropy = Entropy::new([seed; 32]);
        Model { world, entropy, grants: Vec::new(), writes: Vec::new() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        u64::from_le_bytes(self.entropy.array()) % bound
    }

    fn place(&mut self) -> (u8, u64) {
        (self.below(CORES.into()) as u8, self.below(CONNECTIONS))
    }

    fn from(&mut self) -> Prefix {
        match self.below(NETWORKS + 1) {
            0 => HERE,
            number => network(number),
        }
    }

    fn step(&mut self) {
        match self.below(16) {
            0..=2 => self.ask_for_grant(),
            3..=7 => self.spend(),
            8..=10 => self.settle(),
            11 => self.delete(),
            12 => {
                let (owner, object) = (self.below(OWNERS), self.below(OBJECTS));
                match self.below(2) {
                    0 => self.world.release(peer(owner), locator(object)),
                    _ => self.world.tell(peer(owner), locator(object)),
                }
            }
            13 => {
                let place = self.place();
                let parting = [Parting::Closed, Parting::Lost][self.below(2) as usize];
                self.world.gone(place, parting);
            }
            14 => self.pass(),
            _ if self.below(10) == 0 => self.restart(),
            _ => self.world.make_rooms(),
        }
    }

    fn ask_for_grant(&mut self) {
        let (place, owner, from) = (self.place(), self.below(OWNERS), self.from());
        let (object, bytes) = (self.below(OBJECTS), self.below(12_000));
        let (origin, locator) = (peer(owner), locator(object));
        let caller = place.1;
        let question = LedgerQuestion::Grant { origin, from, caller, locator, bytes };
        self.world.ask(place.0, question);
    }

    fn spend(&mut self) {
        let granted = |(_, answer): (u64, LedgerAnswer)| match answer {
            LedgerAnswer::Granted(grant) => Some(*grant),
            _ => None,
        };
        self.grants.extend(self.world.answers.drain(..).filter_map(granted));
        if self.grants.is_empty() {
            return;
        }
        let at = self.below(self.grants.len() as u64) as usize;
        let grant = self.grants[at].clone();
        let (place, bytes) = (self.place(), self.below(3000));
        // Most origins stay where they are.
        let from = match self.below(4) {
            0 => self.from(),
            _ => self.world.ledger.grants.get(&grant.nonce).map_or(HERE, |known| known.from),
        };
        self.writes.extend(self.world.spend_on(place, &grant, from, bytes).ok());
    }

    fn settle(&mut self) {
        if !self.writes.is_empty() {
            let at = self.below(self.writes.len() as u64) as usize;
            let write = self.writes.swap_remove(at);
            let kept = match self.below(3) {
                0 => 0,
                1 => write.bytes,
                _ => self.below(write.bytes + 1),
            };
            self.world.settle(write, kept);
        }
    }

    fn delete(&mut self) {
        if !self.world.disk.is_empty() {
            let at = self.below(self.world.disk.len() as u64) as usize;
            match self.below(2) {
                0 => drop(self.world.delete(at)),
                _ => self.world.disk[at].is_over = true,
            }
        }
    }

    fn pass(&mut self) {
        let seconds = [1, 20, 61, 3600][self.below(4) as usize];
        self.world.pass(Duration::from_secs(seconds));
        // The wall's clock may do what it wants.
        if self.below(8) == 0 {
            self.world.wall = UnixTime(self.below(2_000_000));
        }
    }

    /// What was being written is gone with the process; the connections are too.
    fn restart(&mut self) {
        self.writes.clear();
        self.world.restart();
    }

    /// Nobody owns more than its share, and no network.
    fn check(&mut self) {
        self.world.check();
        if self.world.ledger.accept != Accept::Any {
            return;
        }
        let accounts = &self.world.ledger.accounts;
        for number in 0..OWNERS {
            assert!(accounts.owner(&peer(number)).counts() <= CAPACITY / SHARE_PER_PEER);
        }
        for number in 1..=NETWORKS {
            assert!(accounts.network(network(number)).all() <= CAPACITY / SHARE_PER_PEER);
        }
    }

    /// All writes end, all is deleted, all connections are gone for long.
    fn end(&mut self) {
        self.world.make_rooms();
        while let Some(write) = self.writes.pop() {
            self.world.settle(write, 0);
        }
        while !self.world.disk.is_empty() {
            self.world.delete(0);
        }
        for core in 0..CORES {
            for caller in 0..CONNECTIONS {
                self.world.gone((core, caller), Parting::Lost);
            }
        }
        self.world.pass(Duration::from_secs(61));
        self.world.ledger.let_go(self.world.now, self.world.wall);
        self.check();
        assert_eq!((self.world.ledger.used(), self.world.ledger.reserved()), (0, 0));
        assert_eq!(self.world.ledger.waiting(), 0);
        self.world.wall = UnixTime(100_000_000);
        self.world.pass(2 * GRANT_LIFETIME);
        self.world.ledger.let_go(self.world.now, self.world.wall);
        assert_eq!(self.world.ledger.grants.len(), 0);
        assert!(self.world.ledger.owners(self.world.now, self.world.wall).0.is_empty());
    }
}

#[test]
fn accounts_agree_with_the_disk_whatever_happens_in_whatever_order() {
    for seed in 0..60 {
        let listed = Accept::Listed((0..OWNERS).map(peer).collect());
        let accept = if seed % 4 == 0 { listed } else { Accept::Any };
        let mut model = Model::new(seed, accept);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..1500 {
                model.step();
                model.check();
            }
            model.end();
        }));
        assert!(ended.is_ok(), "seed {seed}");
    }
}
