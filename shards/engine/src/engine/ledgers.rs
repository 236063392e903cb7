//! What core 0 does as the keeper of the ledger, and what every core does when room is made and when
//! what it keeps has become old.

use std::collections::BTreeSet;
use std::sync::Arc;

use pangea_base::{CoreId, PeerId, Prefix};
use pangea_store::limits::STRAYS_MAX;
use pangea_store::{Lacks, Stray};
use pangea_trace::trace_event;

use super::Engine;
use crate::companions::Companion;
use crate::ledger::{Desk, LedgerAnswer, LedgerOutput, LedgerQuestion};
use crate::message::{MakeRoom, Message, Quest, Report};
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

    /// This core is to let go of what may give way to a grant: after it has asked the others for
    /// what would keep it.
    pub(super) fn make_room(&mut self, round: u64, wanted: MakeRoom) {
        let Shared { core, cores, ref store, .. } = self.shared;
        let mut left = Vec::new();
        if let (Some(owner), Some(store)) = (wanted.of, store) {
            let objects = store.leftovers(&owner, &wanted.spare, STRAYS_MAX);
            let stray = |locator| Stray { owner, locator, lacks: Lacks::Root };
            left.extend(objects.into_iter().map(stray));
        }
        match self.companions.begin((core, cores), round, wanted, left) {
            Companion::MayGo(wanted, may_go) => self.give_way(round, &wanted, &may_go),
            Companion::Ask(others, strays) => self.ask_cores(others, Quest::Room(round), &strays),
        }
    }

    /// What is old and nothing here keeps goes too, if no other core keeps it.
    pub(super) fn let_go_of_strays(&mut self) {
        let Shared { core, cores, ref mut store, .. } = self.shared;
        let Some(strays) = store.as_mut().map(|store| store.strays()) else { return };
        if strays.is_empty() {
            return;
        }
        self.age_round += 1;
        let round = self.age_round;
        if let Companion::Ask(others, strays) = self.ageing.begin((core, cores), round, (), strays)
        {
            self.ask_cores(others, Quest::Age(round), &strays);
        }
    }

    fn ask_cores(&mut self, cores: BTreeSet<CoreId>, quest: Quest, strays: &Arc<[Stray]>) {
        for core in cores {
            self.shared.send(core, Message::Keeps(quest, strays.clone()));
        }
    }

    /// Another core would let go of these. Without a store of its own a core keeps nothing.
    pub(super) fn which_are_kept(&mut self, from: CoreId, quest: Quest, strays: &[Stray]) {
        let store = self.shared.store.as_ref();
        let kept = |stray: &&Stray| store.is_some_and(|store| store.keeps(stray));
        let kept = strays.iter().filter(kept).copied().collect();
        self.shared.send(from, Message::KeepsThese(quest, kept));
    }

    /// Another core keeps these.
    pub(super) fn kept_are(&mut self, from: CoreId, quest: Quest, kept: &[Stray]) {
        match quest {
            Quest::Room(round) => {
                if let Some((round, wanted, may_go)) = self.companions.heard(from, round, kept) {
                    self.give_way(round, &wanted, &may_go);
                }
            }
            Quest::Age(round) => {
                let heard = self.ageing.heard(from, round, kept);
                if let (Some((_, (), may_go)), Some(store)) = (heard, &mut self.shared.store) {
                    may_go.iter().for_each(|stray| store.let_go(stray));
                }
            }
        }
    }

    fn give_way(&mut self, round: u64, wanted: &MakeRoom, may_go: &[Stray]) {
        let Some(store) = &mut self.shared.store else {
            return self.shared.send(CoreId(0), Message::RoomMade(round, 0));
        };
        let orphans = may_go.iter().map(|stray| stray.locator).collect();
        let (bytes, of) = (wanted.bytes, wanted.of);
        store.make_room(pangea_store::MakeRoom { bytes, of, orphans, token: round });
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
