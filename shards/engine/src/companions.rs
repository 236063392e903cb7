//! What one object has on other cores. Its parts lie where the connections arrived that brought
//! them: a shard here, the manifest there. So no core alone can say that something was left behind;
//! before one lets go of what nothing keeps here, it asks the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use pangea_base::CoreId;
use pangea_store::Stray;

/// What a core would let go of, and who has still to say whether it keeps it.
#[derive(Debug)]
struct Asking<W> {
    round: u64,
    wanted: W,
    left: BTreeSet<Stray>,
    waiting: BTreeSet<CoreId>,
}

/// The question of this core that is under way, and what it is asked for. The question of a round
/// that was given up makes place for the next.
#[derive(Debug)]
pub(crate) struct Companions<W> {
    asking: Option<Asking<W>>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Companion<W> {
    /// Ask these cores which of them they keep.
    Ask(BTreeSet<CoreId>, Arc<[Stray]>),
    /// Nobody keeps these: they may go.
    MayGo(W, Vec<Stray>),
}

impl<W> Default for Companions<W> {
    fn default() -> Companions<W> {
        Companions { asking: None }
    }
}

impl<W> Companions<W> {
    /// This core would let go of `left`; there are so many cores.
    pub(crate) fn begin(
        &mut self,
        (core, cores): (CoreId, u8),
        round: u64,
        wanted: W,
        left: Vec<Stray>,
    ) -> Companion<W> {
        let mut waiting: BTreeSet<CoreId> = (0..cores).map(CoreId).collect();
        waiting.remove(&core);
        if waiting.is_empty() || left.is_empty() {
            return Companion::MayGo(wanted, left);
        }
        let (others, asked) = (waiting.clone(), left.as_slice().into());
        let left = left.into_iter().collect();
        self.asking = Some(Asking { round, wanted, left, waiting });
        Companion::Ask(others, asked)
    }

    /// Another core keeps these. Once all have said so: what was wanted in which round, and what
    /// may go.
    pub(crate) fn heard(
        &mut self,
        from: CoreId,
        round: u64,
        kept: &[Stray],
    ) -> Option<(u64, W, Vec<Stray>)> {
        let asking = self.asking.as_mut().filter(|asking| asking.round == round)?;
        asking.waiting.remove(&from);
        for stray in kept {
            asking.left.remove(stray);
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
    use pangea_base::{Locator, PeerId};
    use pangea_store::Lacks;

    use super::*;

    fn objects(numbers: &[u8]) -> Vec<Stray> {
        let owner = PeerId([1; 32]);
        let object =
            |&number: &u8| Stray { owner, locator: Locator([number; 32]), lacks: Lacks::Root };
        numbers.iter().map(object).collect()
    }

    #[test]
    fn only_what_no_core_keeps_may_go() {
        let mut companions = Companions::default();
        let begun = companions.begin((CoreId(1), 3), 7, "all", objects(&[1, 2, 3]));
        let others = [CoreId(0), CoreId(2)].into();
        assert_eq!(begun, Companion::Ask(others, objects(&[1, 2, 3]).into()));
        assert!(companions.heard(CoreId(0), 6, &[]).is_none(), "of another round");
        assert!(companions.heard(CoreId(0), 7, &objects(&[3])).is_none());
        assert!(companions.heard(CoreId(0), 7, &[]).is_none(), "the same core twice");
        let (round, wanted, may_go) = companions.heard(CoreId(2), 7, &objects(&[1])).unwrap();
        assert_eq!((round, wanted, may_go), (7, "all", objects(&[2])));
        assert!(companions.heard(CoreId(2), 7, &[]).is_none());
    }

    #[test]
    fn a_node_of_one_core_asks_nobody() {
        let mut companions = Companions::default();
        let begun = companions.begin((CoreId(0), 1), 1, (), objects(&[1]));
        assert_eq!(begun, Companion::MayGo((), objects(&[1])));
        let begun = companions.begin((CoreId(0), 9), 1, (), Vec::new());
        assert_eq!(begun, Companion::MayGo((), Vec::new()), "nor does who has nothing");
    }

    #[test]
    fn a_round_that_was_given_up_makes_place_for_the_next() {
        let mut companions = Companions::default();
        companions.begin((CoreId(0), 2), 1, (), objects(&[1]));
        companions.begin((CoreId(0), 2), 2, (), objects(&[2]));
        assert!(companions.heard(CoreId(1), 1, &[]).is_none());
        let (round, (), may_go) = companions.heard(CoreId(1), 2, &[]).unwrap();
        assert_eq!((round, may_go), (2, objects(&[2])));
    }
}
