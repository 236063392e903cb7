//! What core 0 does as the keeper of the ledger, and what every core does when room is made.

use pangea_base::{CoreId, PeerId, Prefix};
use pangea_trace::trace_event;

use super::Engine;
use crate::ledger::{Desk, LedgerAnswer, LedgerOutput, LedgerQuestion};
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

    /// This core is to let go of what may give way to a grant.
    pub(super) fn make_room(&mut self, round: u64, wanted: MakeRoom) {
        let made = room::make_room(self.shared.store.as_mut(), wanted, round);
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
