//! Nodes of many cores: any core takes a shard while the node has room.

use std::collections::BTreeMap;
use std::time::Duration;

use pangea_base::{Identity, PeerAddr, Secret};

use super::network::Place;
use super::{Visitor, World, address};
use crate::enemies;

/// A machine with as many cores is large.
pub const LARGE: u8 = 17;
/// The most cores that a machine of a world has.
pub const LARGE_MOST: u8 = 128;

/// What every core of a large machine had when the survey began.
pub type Before = BTreeMap<(Place, usize), u64>;

impl World {
    /// Somebody honest begins to store on every core of the large machines.
    pub fn survey(&mut self) {
        self.surveyed = self.shards_by_core();
        let nodes: Vec<PeerAddr> = self
            .machines
            .iter()
            .filter(|machine| machine.setup.cores >= LARGE && machine.setup.capacity.is_some())
            .map(|machine| machine.peer_addr())
            .collect();
        if nodes.is_empty() {
            return;
        }
        let place = self.machines.len() + self.visitors.len();
        let addr = address(99, 3);
        let identity = Identity::from_seed(Secret::new(self.chance.array()));
        let mut actor = enemies::surveyor(identity, addr, self.chance.split(), self.now);
        actor.meet(&nodes);
        self.network.set_place(addr, Some(place));
        self.log.say(self.now, "a surveyor comes");
        self.visitors.push(Visitor { actor, wake_at: Some(self.now), busy: true });
    }

    /// Every core of every large machine has taken a shard.
    pub fn is_surveyed(&mut self) -> bool {
        let now = self.shards_by_core();
        self.surveyed.iter().all(|(core, before)| now.get(core).is_some_and(|now| now > before))
    }

    /// The surveyor leaves; nobody may have refused it anything.
    pub fn end_survey(&mut self) {
        let Some(visitor) = self.visitors.pop() else { return };
        self.network.forget(self.machines.len() + self.visitors.len());
        for refused in ["puts refused", "grants refused", "moves given up"] {
            if let Some(times) = visitor.actor.deeds().get(refused) {
                self.fail(format!("large nodes have room, and of a survey {times} {refused}"));
            }
        }
    }

    fn shards_by_core(&self) -> Before {
        let large = self.machines.iter().filter(|machine| machine.setup.cores >= LARGE);
        let cores = large.flat_map(|machine| {
            let cores = machine.process.iter().flat_map(|process| process.cores.iter().enumerate());
            cores.map(|(at, core)| ((machine.place, at), core.engine.stats().shards))
        });
        cores.collect()
    }
}

/// How long a survey takes at most: until a connection has come to each of so many cores by chance.
pub const SURVEY: Duration = Duration::from_secs(600);
