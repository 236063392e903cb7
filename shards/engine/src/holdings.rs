//! Reading the node's store, whichever core keeps the piece: the own part first, then the others
//! are asked over the mesh. Answers come back by ticket.

use std::collections::BTreeMap;

use pangea_base::{CoreId, Locator, PeerId};
use pangea_store::{BlobKind, OwnedShard, ReadRefused, ShardInfo, Store};
use pangea_trace::TraceContext;
use pangea_wire::ShardHeld;

use crate::message::{HoldingAnswer, HoldingQuestion, Message};
use crate::shared::Shared;

/// Who waits for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A request served by this core.
    Served(u64),
    /// Another core, by its ticket, and what it asks for.
    Core(CoreId, u64, TraceContext),
    /// A request of this core that waits for its blob to be durable.
    BlobWriter(u64),
}

/// An answer for a request that this core serves.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) served: u64,
    pub(crate) ticket: u64,
    pub(crate) from: CoreId,
    pub(crate) answer: HoldingAnswer,
}

/// Tickets of reads and blob writes under way.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    tickets: BTreeMap<u64, Asker>,
    next: u64,
}

/// Whether a question could be put to the store now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The answer will come with this ticket.
    Ticket(u64),
    /// The store has no page or no slot free: ask again later.
    Later,
}

impl Holdings {
    pub(crate) fn ticket(&mut self, asker: Asker) -> u64 {
        self.next += 1;
        self.tickets.insert(self.next, asker);
        self.next
    }

    pub(crate) fn open_tickets(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn redeem(&mut self, ticket: u64) -> Option<Asker> {
        self.tickets.remove(&ticket)
    }

    /// Puts a question to core `to` on behalf of a served request.
    pub(crate) fn ask(
        &mut self,
        shared: &mut Shared,
        to: CoreId,
        served: u64,
        question: HoldingQuestion,
    ) -> Asked {
        let ticket = self.ticket(Asker::Served(served));
        if to != shared.core {
            shared.send(to, Message::Holding(ticket, question));
            return Asked::Ticket(ticket);
        }
        match read(shared.store.as_mut(), question, ticket) {
            Reading::UnderWay => Asked::Ticket(ticket),
            Reading::Now(answer) => {
                let from = shared.core;
                shared.send(from, Message::HoldingSays(ticket, answer));
                Asked::Ticket(ticket)
            }
            Reading::Later => {
                self.tickets.remove(&ticket);
                Asked::Later
            }
        }
    }

    /// Another core asks; what cannot be answered at once is tried again by the asker.
    pub(crate) fn asked_by(
        &mut self,
        shared: &mut Shared,
        core: CoreId,
        their_ticket: u64,
        question: HoldingQuestion,
    ) {
        let ticket = self.ticket(Asker::Core(core, their_ticket, shared.context));
        let answer = match read(shared.store.as_mut(), question, ticket) {
            Reading::UnderWay => return,
            Reading::Now(answer) => answer,
            Reading::Later => HoldingAnswer::Busy,
        };
        self.tickets.remove(&ticket);
        shared.send(core, Message::HoldingSays(their_ticket, answer));
    }
}

enum Reading {
    UnderWay,
    Now(HoldingAnswer),
    Later,
}

fn read(store: Option<&mut Store>, question: HoldingQuestion, ticket: u64) -> Reading {
    let Some(store) = store else { return Reading::Now(HoldingAnswer::NotHere) };
    let begun = match question {
        HoldingQuestion::Shard(key, root) => {
            let found = store.find(&key, &root);
            let here = found.map(|(shard, info)| HoldingAnswer::Shard(shard, info));
            return Reading::Now(here.unwrap_or(HoldingAnswer::NotHere));
        }
        HoldingQuestion::Shards(locator, owner) => {
            return Reading::Now(HoldingAnswer::Shards(shards_of(store, locator, owner)));
        }
        HoldingQuestion::PlacementOf(locator, page, owners) => {
            let found = store.placement_of(locator, page, owners);
            let here = found.map(HoldingAnswer::PlacementFound);
            return Reading::Now(here.unwrap_or(HoldingAnswer::NotHere));
        }
        HoldingQuestion::Table(key) => store.table(&key, ticket),
        HoldingQuestion::Page(key, offset) => store.read(&key, offset, ticket),
        HoldingQuestion::Manifest(locator, id) => {
            match store.blob(BlobKind::ManifestRoot, locator, id, ticket) {
                Err(ReadRefused::NotHeld) => {
                    store.blob(BlobKind::ManifestPage, locator, id, ticket)
                }
                begun => begun,
            }
        }
        HoldingQuestion::Placement(locator, page, owners) => {
            store.placement(locator, page, owners, ticket).map(|_| ())
        }
    };
    match begun {
        Ok(()) => Reading::UnderWay,
        Err(ReadRefused::NotHeld | ReadRefused::NotReady) => Reading::Now(HoldingAnswer::NotHere),
        Err(ReadRefused::NoPage | ReadRefused::TooManyReads { .. }) => Reading::Later,
        Err(refused @ ReadRefused::BadOffset) => {
            Reading::Now(HoldingAnswer::Failed(refused.to_string()))
        }
    }
}

fn shards_of(store: &Store, locator: Locator, owner: Option<PeerId>) -> Vec<ShardHeld> {
    let wanted = |shard: &OwnedShard| owner.is_none_or(|owner| owner == shard.owner);
    let held = |(shard, info): (OwnedShard, ShardInfo)| ShardHeld {
        chunk: shard.key.chunk,
        index: shard.key.index,
        length: info.length,
        root: info.root,
        until: info.until,
    };
    store.shards_of(locator).filter(|(shard, _)| wanted(shard)).map(held).collect()
}
