//! The client's machines: they drive jobs on many cores and know nothing of threads. Control
//! feeds them what the cores report and carries their commands.

mod get;
mod locate;
mod put;
mod stat;

use std::collections::VecDeque;
use std::sync::Arc;

use pangea_base::{CoreId, PeerAddr, PeerId};
use pangea_trace::TraceContext;

use crate::limits::ASK_TIMEOUT;
use crate::message::{Ask, AskId, Command, JobId, Word};

pub use get::{Get, GetError, GetOutcome, GetSpec, GetWants};
pub use put::{Put, PutError, PutOutcome, PutSource, PutSpec, PutWants};
pub use stat::{ChunkStat, HolderStat, Stat, StatOutcome};

/// A peer and what it did wrong, in words.
pub type Trouble = (PeerId, String);

/// Counts jobs and asks of one process, so that each has a number of its own, and knows what they
/// belong to.
#[derive(Debug, Default)]
pub struct Numbers {
    next: u64,
    context: TraceContext,
}

impl Numbers {
    /// Job numbers stay below this: they share a token with other numbers.
    const MAX: u64 = 1 << 30;

    /// The same, of what is part of `context` from now on.
    #[must_use]
    pub fn within(self, context: TraceContext) -> Numbers {
        Numbers { context, ..self }
    }

    fn next(&mut self) -> u64 {
        self.next = (self.next + 1) % Numbers::MAX;
        self.next
    }
}

/// Commands on their way to cores.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) commands: VecDeque<(CoreId, Command)>,
    pub(crate) numbers: Numbers,
    cores: u8,
    next_core: u8,
}

impl Outbox {
    pub(crate) fn new(cores: u8, numbers: Numbers) -> Outbox {
        Outbox { commands: VecDeque::new(), numbers, cores, next_core: 0 }
    }

    pub(crate) fn job(&mut self) -> JobId {
        JobId(self.numbers.next())
    }

    pub(crate) fn ask(&mut self, core: CoreId, to: PeerAddr, ask: Ask) -> AskId {
        let id = AskId(self.numbers.next());
        let (patience, context) = (ASK_TIMEOUT, self.context());
        self.commands.push_back((core, Command::Ask { id, to, ask, patience, context }));
        id
    }

    /// Every core learns of addresses, before it is told to do anything with who is there.
    pub(crate) fn know(&mut self, addrs: impl IntoIterator<Item = PeerAddr>, word: Word) {
        let addrs: Arc<[PeerAddr]> = addrs.into_iter().collect();
        for core in (0..self.cores).map(CoreId).filter(|_| !addrs.is_empty()) {
            self.commands.push_back((core, Command::Know(addrs.clone(), word)));
        }
    }

    /// What all of it is part of.
    pub(crate) fn context(&self) -> TraceContext {
        self.numbers.context
    }

    /// Cores in turn.
    pub(crate) fn any_core(&mut self) -> CoreId {
        self.next_core = (self.next_core + 1) % self.cores;
        CoreId(self.next_core)
    }

    pub(crate) fn send(&mut self, core: CoreId, command: Command) {
        self.commands.push_back((core, command));
    }
}

/// A trouble is told once per peer and text.
pub(crate) fn note(troubles: &mut Vec<Trouble>, peer: PeerId, why: String) {
    const TROUBLES_MAX: usize = 256;
    let known = troubles.iter().any(|(known, text)| *known == peer && *text == why);
    if !known && troubles.len() < TROUBLES_MAX {
        troubles.push((peer, why));
    }
}
