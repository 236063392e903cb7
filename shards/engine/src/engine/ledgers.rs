//! What core 0 does as the keeper of the ledger, and what every core does when room is made.

use pangea_base::{CoreId, Locator, PeerId, Prefix};
use pangea_trace::trace_event;

use super::Engine;
use crate::companions::Companion;
use crate::ledger::{Desk, LedgerAnswer, LedgerOutput, LedgerQuestion};
use crate::limits::LEFTOVERS_MAX;
use crate::message::{MakeRoom, Message, Report};
use crate::room;
use crate::shared::Shared;

impl Engine {
    /// What the entries of this core's part of the store say is on disk, by owner and network; for
    /// comparing it with the ledger.
    pub fn on_disk(&self) -> Vec<(PeerId, Prefix, u64)> {
        let all = self.shared.store.as_ref().map(|store| store.accounts()).unwrap_or_default();
        all.into_iter().filter(|(_, _, bytes)| *bytes > 0).collect()
    }

    /// A core asks the ledger.
    pub(super) fn ask_ledger(&mut self, from: CoreId, ticket: u64, question: LedgerQuestion) {
        let ledger = self.ledger.as_mut().expect("core 0 keeps the ledger");
        ledger.asked(&mut desk(&mut self.shared), from, ticket, question);
        self.ledger_outputs();
    }

    /// A core has let go of what it could.
    pub(super) fn room_made(&mut self, from: CoreId, round: u64, bytes: u64) {
        tracing::debug!(core = from.0, round, bytes, "old things gave way to a grant");
        let ledger = self.ledger.as_mut().expect("core 0 keeps the ledger");
        ledger.room_made(&mut desk(&mut self.shared), from, round);
        self.ledger_outputs();
    }

    /// The ledger's own deadlines.
    pub(super) fn ledger_tick(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            ledger.tick(&mut desk(&mut self.shared));
            self.ledger_outputs();
        }
    }

    /// This core is to let go of what may give way to a grant: after it has asked the others for the
    /// manifests of what it has none of.
    pub(super) fn make_room(&mut self, round: u64, wanted: MakeRoom) {
        let Shared { core, cores, ref store, .. } = self.shared;
        let (Some(owner), Some(store)) = (wanted.of, store) else {
            return self.let_go(round, &wanted, &[]);
        };
        let left = room::leftovers(store, owner, &wanted.spare, LEFTOVERS_MAX);
        match self.companions.begin((core, cores), round, wanted.clone(), owner, left) {
            Companion::MayGo(may_go) => self.let_go(round, &wanted, &may_go),
            Companion::Ask(others, owner, objects) => {
                for other in others {
                    self.shared.send(other, Message::Rooted(round, owner, objects.clone()));
                }
            }
        }
    }

    /// Another core would let go of these objects. Without a store of its own a core has nothing.
    pub(super) fn which_are_rooted(
        &mut self,
        from: CoreId,
        round: u64,
        owner: PeerId,
        objects: &[Locator],
    ) {
        let store = self.shared.store.as_ref();
        let is_rooted =
            |locator: &&Locator| store.is_some_and(|store| room::has_root(store, owner, **locator));
        let rooted = objects.iter().filter(is_rooted).copied().collect();
        self.shared.send(from, Message::RootedAre(round, rooted));
    }

    /// Another core has the manifests of these.
    pub(super) fn rooted_are(&mut self, from: CoreId, round: u64, rooted: &[Locator]) {
        if let Some((round, wanted, may_go)) = self.companions.heard(from, round, rooted) {
            self.let_go(round, &wanted, &may_go);
        }
    }

    fn let_go(&mut self, round: u64, wanted: &MakeRoom, may_go: &[Locator]) {
        let store = self.shared.store.as_mut();
        let made = store.map_or(Some(0), |store| room::make_room(store, wanted, may_go, round));
        if let Some(bytes) = made {
            self.shared.send(CoreId(0), Message::RoomMade(round, bytes));
        }
    }

    /// Control asks who takes how much.
    pub(super) fn tell_accounts(&mut self) {
        let Shared { now, wall, .. } = self.shared;
        let owners = self.ledger.as_mut().map(|ledger| ledger.owners(now, wall));
        let (owners, others) = owners.unwrap_or_default();
        self.shared.report(Report::Accounts { owners, others });
    }

    fn ledger_outputs(&mut self) {
        while let Some(output) = self.ledger.as_mut().and_then(|ledger| ledger.poll()) {
            match output {
                LedgerOutput::Says(core, ticket, answer) => {
                    trace_event!(
                        self.shared.tracer,
                        &self.shared.context,
                        LedgerAnswered {
                            answer: match answer {
                                LedgerAnswer::Granted(_) => 0,
                                LedgerAnswer::Spent => 1,
                                LedgerAnswer::Refused(_) => 2,
                                LedgerAnswer::Released => 3,
                            }
                        }
                    );
                    self.shared.send(core, Message::LedgerSays(ticket, answer));
                }
                LedgerOutput::MakeRoom(core, round, wanted) => {
                    self.shared.send(core, Message::MakeRoom(round, wanted));
                }
            }
        }
    }
}

/// What the ledger answers with: this core's time, and the node's name.
fn desk(shared: &mut Shared) -> Desk<'_> {
    let Shared { now, wall, identity, entropy, .. } = shared;
    Desk { now: *now, wall: *wall, identity, entropy }
}
