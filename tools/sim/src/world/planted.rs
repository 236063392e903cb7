//! Faults that are built in on purpose, to see that worlds catch them. Each changes what goes from one
//! sound part of a node to another, so that the whole behaves as if it had the fault.

use std::collections::BTreeMap;

use pangea_base::{Locator, PeerId, Prefix};
use pangea_engine::message::{Ask, Command, Message};
use pangea_engine::{LedgerAnswer, LedgerQuestion};
use pangea_wire::{PlacementOf, StoreRefusal};

/// One such fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Plant {
    /// A lease ends at a moment that the origin's clock decides.
    AbsoluteLease,
    /// Expiry goes on whatever the clock does.
    NoSuspension,
    /// Origins go by the address that was first known of a holder, as though an old one in a link won
    /// over the one that the user names.
    OldAddress,
    /// Names have no owners: what one peer stored under a locator, no other may store there.
    NamesWithoutOwners,
    /// A reader believes the first placement that it is given.
    FirstPlacement,
    /// What is deleted is discharged from another network than it was charged to.
    WrongDischarge,
}

/// What is planted in one machine.
#[derive(Debug, Default)]
pub struct Planted {
    plant: Option<Plant>,
    // Who stored first under each locator.
    names: BTreeMap<Locator, PeerId>,
}

impl Planted {
    pub fn new(plant: Option<Plant>) -> Planted {
        Planted { plant, names: BTreeMap::new() }
    }

    /// A message on its way to a core; an answer to it means that the core never sees it.
    pub fn message(&mut self, message: &mut Message) -> Option<Message> {
        match (self.plant?, message) {
            (Plant::NamesWithoutOwners, Message::Ledger(ticket, question)) => {
                let LedgerQuestion::Spend { grant, .. } = question else { return None };
                let first = self.names.entry(grant.locator).or_insert(grant.origin);
                let answer = LedgerAnswer::Refused(StoreRefusal::AlreadyHeldDifferent);
                (*first != grant.origin).then_some(Message::LedgerSays(*ticket, answer))
            }
            (Plant::WrongDischarge, Message::Ledger(_, LedgerQuestion::Deleted { from, .. })) => {
                *from = Prefix::default();
                None
            }
            _ => None,
        }
    }

    /// A command on its way from control to a core.
    pub fn command(plant: Option<Plant>, command: &mut Command) {
        if let (Some(Plant::FirstPlacement), Command::Ask { ask: Ask::Placement(.., whose), .. }) =
            (plant, command)
        {
            *whose = PlacementOf::First;
        }
    }

    /// Which fault it is.
    pub fn plant(&self) -> Option<Plant> {
        self.plant
    }
}

#[cfg(test)]
mod tests {
    use super::Plant;
    use crate::run::{live_planted, live_unplanted};
    use crate::world::World;

    /// Worlds in one of which a planted fault must come out.
    const WORLDS: u64 = 12;

    impl World {
        /// No fault is built in any more.
        pub fn disarm(&mut self) {
            self.plant = None;
            self.machines.iter_mut().for_each(|machine| machine.disarm());
        }
    }

    /// Why the first world that noticed failed. Without the fault it does not.
    fn caught(plant: Plant) -> String {
        let failed = |seed: u64| Some((seed, live_planted(seed, 0, Some(plant)).failure?));
        let (seed, failure) = (1..=WORLDS)
            .find_map(failed)
            .unwrap_or_else(|| panic!("{plant:?} is not caught in {WORLDS} worlds"));
        eprintln!("{plant:?} is caught by world {seed}: {failure}");
        assert_eq!(live_unplanted(seed, plant).failure, None, "{plant:?}: world {seed}");
        failure
    }

    #[test]
    fn a_name_that_belongs_to_whoever_takes_it_first_is_caught() {
        let failure = caught(Plant::NamesWithoutOwners);
        assert!(failure.contains("what others stored"), "{failure}");
    }

    #[test]
    fn a_reader_that_believes_the_first_placement_is_caught() {
        let failure = caught(Plant::FirstPlacement);
        assert!(failure.contains("get") || failure.contains("stat"), "{failure}");
    }

    #[test]
    fn a_discharge_at_the_wrong_network_is_caught() {
        let failure = caught(Plant::WrongDischarge);
        assert!(failure.contains("ledger") || failure.contains("charged"), "{failure}");
    }
}
