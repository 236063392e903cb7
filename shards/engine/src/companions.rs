//! What one object has on other cores. Its parts lie where the connections arrived that brought
//! them: a shard here, the manifest there. So no core alone can say that a shard was left behind;
//! before one lets go of what it has no manifest of, it asks the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use pangea_base::{CoreId, Locator, PeerId};

use crate::message::MakeRoom;

/// Objects of an owner that a core would let go of in a round, and who has still to say whether it
/// has their manifests.
#[derive(Debug)]
struct Asking {
    round: u64,
    wanted: MakeRoom,
    left: BTreeSet<Locator>,
    waiting: BTreeSet<CoreId>,
}

/// The question of this core that is under way. There is one round at a time, so the question of
/// a round that was given up makes place for the next.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    asking: Option<Asking>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Companion {
    /// Ask these cores which of the objects they have the manifest of.
    Ask(BTreeSet<CoreId>, PeerId, Arc<[Locator]>),
    /// Nobody has the manifest of these: they may go.
    MayGo(Vec<Locator>),
}

impl Companions {
    /// This core would let go of `left`, things of `owner`; there are so many cores.
    pub(crate) fn begin(
        &mut self,
        (core, cores): (CoreId, u8),
        round: u64,
        wanted: MakeRoom,
        owner: PeerId,
        left: Vec<Locator>,
    ) -> Companion {
        let mut waiting: BTreeSet<CoreId> = (0..cores).map(CoreId).collect();
        waiting.remove(&core);
        if waiting.is_empty() || left.is_empty() {
            return Companion::MayGo(left);
        }
        let asked = (waiting.clone(), left.as_slice().into());
        let left = left.into_iter().collect();
        self.asking = Some(Asking { round, wanted, left, waiting });
        Companion::Ask(asked.0, owner, asked.1)
    }

    /// Another core has the manifests of these. Once all have said so: what was wanted in which
    /// round, and what may go.
    pub(crate) fn heard(
        &mut self,
        from: CoreId,
        round: u64,
        rooted: &[Locator],
    ) -> Option<(u64, MakeRoom, Vec<Locator>)> {
        let asking = self.asking.as_mut().filter(|asking| asking.round == round)?;
        asking.waiting.remove(&from);
        for locator in rooted {
            asking.left.remove(locator);
        }
        if !asking.waiting.is_empty() {
            return None;
        }
        let Asking { round, wanted, left, .. } = self.asking.take()?;
        Some((round, wanted, left.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: PeerId = PeerId([1; 32]);

    fn wanted() -> MakeRoom {
        MakeRoom { bytes: 5, of: Some(OWNER), spare: [].into() }
    }

    fn objects(numbers: &[u8]) -> Vec<Locator> {
        numbers.iter().map(|&number| Locator([number; 32])).collect()
    }

    #[test]
    fn only_what_no_core_has_a_manifest_of_may_go() {
        let mut companions = Companions::default();
        let place = (CoreId(1), 3);
        let begun = companions.begin(place, 7, wanted(), OWNER, objects(&[1, 2, 3]));
        let others = [CoreId(0), CoreId(2)].into();
        assert_eq!(begun, Companion::Ask(others, OWNER, objects(&[1, 2, 3]).into()));
        assert!(companions.heard(CoreId(0), 6, &[]).is_none(), "of another round");
        assert!(companions.heard(CoreId(0), 7, &objects(&[3])).is_none());
        assert!(companions.heard(CoreId(0), 7, &[]).is_none(), "the same core twice");
        let (round, _, may_go) = companions.heard(CoreId(2), 7, &objects(&[1])).unwrap();
        assert_eq!((round, may_go), (7, objects(&[2])));
        assert!(companions.heard(CoreId(2), 7, &[]).is_none());
    }

    #[test]
    fn a_node_of_one_core_asks_nobody() {
        let mut companions = Companions::default();
        let begun = companions.begin((CoreId(0), 1), 1, wanted(), OWNER, objects(&[1]));
        assert_eq!(begun, Companion::MayGo(objects(&[1])));
        let begun = companions.begin((CoreId(0), 9), 1, wanted(), OWNER, Vec::new());
        assert_eq!(begun, Companion::MayGo(Vec::new()), "nor does who has nothing");
    }

    #[test]
    fn a_round_that_was_given_up_makes_place_for_the_next() {
        let mut companions = Companions::default();
        companions.begin((CoreId(0), 2), 1, wanted(), OWNER, objects(&[1]));
        companions.begin((CoreId(0), 2), 2, wanted(), OWNER, objects(&[2]));
        assert!(companions.heard(CoreId(1), 1, &[]).is_none());
        let (round, _, may_go) = companions.heard(CoreId(1), 2, &[]).unwrap();
        assert_eq!((round, may_go), (2, objects(&[2])));
    }
}
