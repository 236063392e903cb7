//! Reading the node's store, whichever core keeps the piece: the own part first, then the others
//! are asked over the mesh. Answers come back by ticket.

use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{CoreId, Hash, Locator};
use pangea_store::{BlobKind, ReadRefused, Store};
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
        HoldingQuestion::Shard(key) => {
            let info = any(store, key).and_then(|shard| store.shard(&shard));
            let answer = info.map_or(HoldingAnswer::NotHere, HoldingAnswer::Shard);
            return Reading::Now(answer);
        }
        HoldingQuestion::Shards(locator) => {
            return Reading::Now(HoldingAnswer::Shards(shards_of(store, locator)));
        }
        HoldingQuestion::Table(key) => match any(store, key) {
            Some(shard) => store.table(&shard, ticket),
            None => Err(ReadRefused::NotHeld),
        },
        HoldingQuestion::Page(key, offset) => match any(store, key) {
            Some(shard) => store.read(&shard, offset, ticket),
            None => Err(ReadRefused::NotHeld),
        },
        HoldingQuestion::Manifest(locator, id) => {
            match store.blob(BlobKind::ManifestRoot, locator, id, ticket) {
                Err(ReadRefused::NotHeld) => {
                    store.blob(BlobKind::ManifestPage, locator, id, ticket)
                }
                begun => begun,
            }
        }
        HoldingQuestion::Blob(kind, locator, id) => {
            store.blob(kind, locator, id.unwrap_or(Hash([0; 32])), ticket)
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

fn any(store: &Store, key: pangea_base::ShardKey) -> Option<pangea_store::OwnedShard> {
    let mut all = store.shards_of(key.locator);
    all.find(|(shard, _)| shard.key == key).map(|(shard, _)| shard)
}

fn shards_of(store: &Store, locator: Locator) -> Vec<ShardHeld> {
    let held = |(shard, info): (pangea_store::OwnedShard, pangea_store::ShardInfo)| ShardHeld {
        chunk: shard.key.chunk,
        index: shard.key.index,
        length: info.length,
        root: info.root,
        lease: info.until,
    };
    store.shards_of(locator).map(held).collect()
}

/// The answer to a blob write, in the shape of a holding answer.
pub(crate) fn blob_written(result: Result<(), String>) -> HoldingAnswer {
    match result {
        Ok(()) => HoldingAnswer::Blob(Bytes::new()),
        Err(why) => HoldingAnswer::Failed(why),
    }
}
