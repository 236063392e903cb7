//! A shard on its way in: the head, the group table, then the units, each verified when whole.

use bytes::Bytes;
use pangea_wire::{FetchRefusal, FetchResponse, FrameReader, PeerSent, ShardBody, ShardExpected};

/// The next thing that arrived.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Nothing whole yet.
    NeedBytes,
    /// The next unit, verified.
    Unit(Bytes),
    /// All units were taken.
    End,
    /// The holder says no.
    Refused(FetchRefusal),
}

/// How a holder was caught.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lie {
    /// What it sent does not fit what the manifest says, or is malformed.
    #[error("{0}")]
    Sent(#[from] PeerSent),
    /// An answer, but to another question.
    #[error("it answered another question than it was asked")]
    OtherAnswer,
}

/// The state of one incoming shard.
#[derive(Debug)]
pub(crate) struct ShardIncoming {
    expected: ShardExpected,
    pub(crate) reader: FrameReader,
    body: Option<ShardBody>,
}

impl ShardIncoming {
    /// A shard of which the manifest says this; its units are wanted from `first_group` on.
    pub(crate) fn new(expected: ShardExpected) -> ShardIncoming {
        ShardIncoming { expected, reader: FrameReader::new(), body: None }
    }

    /// Takes one thing out of what arrived.
    pub(crate) fn next(&mut self) -> Result<Incoming, Lie> {
        let Some(body) = &mut self.body else { return self.head() };
        if let Some(unit) = body.next(&mut self.reader)? {
            return Ok(Incoming::Unit(unit));
        }
        Ok(if body.done() { Incoming::End } else { Incoming::NeedBytes })
    }

    fn head(&mut self) -> Result<Incoming, Lie> {
        match self.reader.message::<FetchResponse>()? {
            None => Ok(Incoming::NeedBytes),
            Some(FetchResponse::Refused(refusal)) => Ok(Incoming::Refused(refusal)),
            Some(FetchResponse::Shard(begins)) => {
                self.body = Some(ShardBody::new(&begins, &self.expected)?);
                self.next()
            }
            Some(
                FetchResponse::Blob { .. }
                | FetchResponse::Placement { .. }
                | FetchResponse::Stat { .. },
            ) => Err(Lie::OtherAnswer),
        }
    }
}
