//! What the engine's parts share: transport, store, codec, pools, and the way out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use pangea_base::file::{FileOp, FileRequest};
use pangea_base::{CoreId, Entropy, Identity, Page, PagePool, PeerId, Prefix, UnixTime};
use pangea_ces::Codec;
use pangea_store::{Key, Store};
use pangea_trace::{Hop, Label, TraceContext, Tracer};
use pangea_transport::{ConnId, StreamId, Transport};

use crate::links::Links;
use crate::message::{Addressed, AskId, JobId, Message, Report};

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// A file operation; its completion comes back as an input.
    File(FileRequest),
    /// A message for another core or for control.
    Mesh(Addressed),
}

/// Who handles a stream's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A request of a peer, by its number.
    Served(u64),
    /// A shard of a put.
    Put(JobId, usize),
    /// A source of a get.
    Get(JobId, usize),
    /// A small request of ours.
    Ask(AskId),
}

/// Whose file operation it is; kept in the operation's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileOwner {
    Store(u64),
    Source(JobId, u32),
    Output(JobId, u32),
}

impl FileOwner {
    const KIND_SHIFT: u32 = 62;
    const JOB_SHIFT: u32 = 32;
    const JOB_BITS: u32 = 30;

    pub(crate) fn token(self) -> u64 {
        let (kind, rest) = match self {
            FileOwner::Store(token) => (0, token),
            FileOwner::Source(job, number) => (1, Self::pack(job, number)),
            FileOwner::Output(job, number) => (2, Self::pack(job, number)),
        };
        assert!(rest >> Self::KIND_SHIFT == 0, "a token leaves two bits for its owner");
        kind << Self::KIND_SHIFT | rest
    }

    pub(crate) fn of(token: u64) -> FileOwner {
        let rest = token & ((1 << Self::KIND_SHIFT) - 1);
        let job = JobId(rest >> Self::JOB_SHIFT);
        let number = (rest & u64::from(u32::MAX)) as u32;
        match token >> Self::KIND_SHIFT {
            0 => FileOwner::Store(rest),
            1 => FileOwner::Source(job, number),
            2 => FileOwner::Output(job, number),
            _ => unreachable!("tokens are made above"),
        }
    }

    fn pack(job: JobId, number: u32) -> u64 {
        assert!(job.0 >> Self::JOB_BITS == 0, "job numbers fit 30 bits");
        job.0 << Self::JOB_SHIFT | u64::from(number)
    }
}

pub(crate) struct Shared {
    pub(crate) now: Instant,
    pub(crate) wall: UnixTime,
    pub(crate) core: CoreId,
    pub(crate) cores: u8,
    pub(crate) identity: Arc<Identity>,
    pub(crate) entropy: Entropy,
    pub(crate) transport: Transport,
    pub(crate) store: Option<Store>,
    // The networks of what was stored in this run. To go as soon as the store's entries say it.
    pub(crate) networks: BTreeMap<Key, (PeerId, Prefix)>,
    pub(crate) links: Links,
    pub(crate) owners: BTreeMap<(ConnId, StreamId), Owner>,
    pub(crate) codec: Codec,
    // 16 KiB pages for units, 128 KiB pages for plaintext segments.
    pub(crate) units: PagePool,
    pub(crate) segments: PagePool,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) tracer: Tracer,
    // What the input or step under way belongs to.
    pub(crate) context: TraceContext,
    // Messages of this core to itself.
    pub(crate) to_self: VecDeque<Message>,
}

impl Shared {
    /// The control thread's place on the mesh: one past the last core.
    pub(crate) fn control(&self) -> CoreId {
        CoreId(self.cores)
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.send(self.control(), Message::Report(report));
    }

    pub(crate) fn send(&mut self, to: CoreId, message: Message) {
        if to == self.core {
            self.to_self.push_back(message);
        } else {
            // Control has no recorder that could tell of the arrival.
            let hop = match to == self.control() {
                true => Hop::default(),
                false => self.tracer.depart(&self.context, to),
            };
            self.outputs.push_back(Output::Mesh(Addressed { to, message, hop }));
        }
    }

    pub(crate) fn file(&mut self, owner: FileOwner, op: FileOp, page: Option<Page>) {
        let token = owner.token();
        self.outputs.push_back(Output::File(FileRequest { token, op, page }));
    }

    /// Opens a stream for `owner` on a connection that is up; `None` while there is no credit.
    pub(crate) fn open(&mut self, conn: ConnId, owner: Owner) -> Option<StreamId> {
        let stream = self.transport.open(conn)?;
        self.owners.insert((conn, stream), owner);
        Some(stream)
    }

    /// Everything was written. A stream that is gone by now has its own event.
    pub(crate) fn finish(&mut self, conn: ConnId, stream: StreamId) {
        let _ = self.transport.finish(conn, stream);
    }

    /// No more is wanted of a stream that may have ended already.
    pub(crate) fn stop(&mut self, conn: ConnId, stream: StreamId, code: u32) {
        let _ = self.transport.stop(conn, stream, code);
    }

    /// Ends both directions of a stream; either may have ended already.
    pub(crate) fn refuse_stream(&mut self, conn: ConnId, stream: StreamId, code: u32) {
        let _ = self.transport.reset(conn, stream, code);
        let _ = self.transport.stop(conn, stream, code);
    }

    /// Ends both directions of a stream and forgets whose it was.
    pub(crate) fn drop_stream(&mut self, conn: ConnId, stream: StreamId, code: u32) {
        if self.owners.remove(&(conn, stream)).is_some() {
            self.refuse_stream(conn, stream, code);
        }
    }

    /// How a request begins on this connection: with its trace context where both sides agreed to
    /// that, else with nothing.
    pub(crate) fn label(&self, conn: ConnId, context: &TraceContext) -> Option<Label> {
        if const { pangea_trace::ENABLED } && self.transport.is_labelled(conn) {
            return Some(Label::new(context));
        }
        let _ = context;
        None
    }

    /// Bytes that went to the peer so far, whatever they were.
    pub(crate) fn sent_bytes(&self, conn: ConnId) -> u64 {
        self.transport.conn_stats(conn).map_or(0, |stats| stats.sent.1)
    }

    /// Bytes that came from the peer so far, acknowledgements included: its sign of life.
    pub(crate) fn received_bytes(&self, conn: ConnId) -> u64 {
        self.transport.conn_stats(conn).map_or(0, |stats| stats.received.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_tokens_come_back_to_their_owner() {
        let owners = [
            FileOwner::Store(0),
            FileOwner::Store((1 << 62) - 1),
            FileOwner::Source(JobId(0), 0),
            FileOwner::Source(JobId((1 << 30) - 1), u32::MAX),
            FileOwner::Output(JobId(5), 7),
        ];
        for owner in owners {
            assert_eq!(FileOwner::of(owner.token()), owner);
        }
    }
}
