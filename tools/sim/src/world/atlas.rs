//! The fault atlas: where faults may fall. It keeps every chunk within what its code survives, so
//! that no failure is excusable; in a world without law it only keeps count, so that what was broken
//! beyond repair is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pangea_base::PeerId;
use pangea_wire::Link;

use super::network::Place;
use super::origin::{Content, Job, Work};

/// An acknowledged object.
pub struct Object {
    pub content: Content,
    pub link: Link,
    pub holders: BTreeSet<PeerId>,
    /// How many of them it can do without.
    pub survives: usize,
}

/// Who is hurt, and what that means for whom.
pub struct Atlas {
    pub is_lawful: bool,
    // Hurt until then.
    hurt: BTreeMap<Place, Instant>,
    // Their shards, or some of them, are gone for good.
    ruined: BTreeSet<Place>,
    peers: BTreeMap<PeerId, Place>,
}

/// After a machine is well again, those that knew it find that out: the next ping (10 s), silence until
/// the connection counts as lost (30 s), the pause before its address is dialled again (10 s), and
/// some time for it.
pub const GRACE: Duration = Duration::from_secs(55);

impl Atlas {
    pub fn new(is_lawful: bool) -> Atlas {
        Atlas { is_lawful, hurt: BTreeMap::new(), ruined: BTreeSet::new(), peers: BTreeMap::new() }
    }

    /// A holder, honest or not.
    pub fn add(&mut self, peer: PeerId, place: Place) {
        self.peers.insert(peer, place);
    }

    /// What `place` holds may be lost from now on.
    pub fn ruin(&mut self, place: Place) {
        self.ruined.insert(place);
    }

    /// `place` is hurt until then; whoever is at work suffers it.
    pub fn hurt<'a>(
        &mut self,
        place: Place,
        until: Instant,
        works: impl Iterator<Item = &'a mut Work>,
    ) {
        let end = self.hurt.entry(place).or_insert(until);
        *end = (*end).max(until);
        works.for_each(|work| {
            work.hurt.insert(place);
        });
    }

    /// Whether `place` may be hurt: nobody at work would have to fail, and every object could be
    /// read meanwhile.
    pub fn may_hurt<'a>(
        &self,
        now: Instant,
        place: Place,
        objects: &[Object],
        mut works: impl Iterator<Item = &'a Work>,
    ) -> bool {
        if !self.is_lawful {
            return true;
        }
        let mut hurt = self.hurt_now(now);
        hurt.insert(place);
        let readable = objects.iter().all(|object| self.lost_of(object, &hurt) <= object.survives);
        readable && works.all(|work| self.bears(work, place, objects))
    }

    fn bears(&self, work: &Work, place: Place, objects: &[Object]) -> bool {
        let mut hurt = work.hurt.clone();
        hurt.insert(place);
        match &work.job {
            Job::Put { .. } => hurt.union(&self.ruined).count() <= work.tolerates,
            Job::Get { object, .. } | Job::Stat { object, .. } => {
                let object = &objects[*object];
                self.lost_of(object, &hurt) <= object.survives
            }
        }
    }

    /// Holders of an object that are hurt or ruined.
    pub fn lost_of(&self, object: &Object, hurt: &BTreeSet<Place>) -> usize {
        let places = object.holders.iter().filter_map(|peer| self.peers.get(peer));
        places.filter(|place| hurt.contains(place) || self.ruined.contains(place)).count()
    }

    /// Machines that are hurt now.
    pub fn hurt_now(&self, now: Instant) -> BTreeSet<Place> {
        self.hurt.iter().filter(|(_, until)| **until > now).map(|(place, _)| *place).collect()
    }

    /// Machines that a put begun now would have to do without.
    pub fn missing(&self, now: Instant) -> usize {
        self.hurt_now(now).union(&self.ruined).count()
    }

    /// How a piece of work that failed is explained: more was hurt than it can bear.
    pub fn explains(&self, work: &Work, objects: &[Object]) -> bool {
        match &work.job {
            Job::Put { .. } => work.hurt.union(&self.ruined).count() > work.tolerates,
            Job::Get { object, .. } | Job::Stat { object, .. } => {
                let object = &objects[*object];
                self.lost_of(object, &work.hurt) > object.survives
            }
        }
    }
}

impl Atlas {
    /// Whether one more may lose what it holds for good: puts bear as many as `spare`. (Whether the
    /// objects that are there bear it, [`Atlas::may_hurt`] says.)
    pub fn may_ruin(&self, spare: usize) -> bool {
        !self.is_lawful || self.ruined.len() < spare
    }

    /// Whether what `place` holds may be lost.
    pub fn is_ruined(&self, place: Place) -> bool {
        self.ruined.contains(&place)
    }
}
