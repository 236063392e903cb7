//! Bytes on their way out on one stream.

use std::collections::VecDeque;

use bytes::Bytes;
use pangea_transport::{ConnId, StreamId, Transport, WriteFailed};

/// Where a pump left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Everything given is with the transport.
    Drained,
    /// The transport takes no more for now; `Event::Writable` will say when.
    Blocked,
}

/// A queue of buffers for one stream. Its owner keeps it short: it gives more when it is drained.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<Bytes>,
    taken: u64,
}

impl Outgoing {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// The peer wants no more: what the transport has not taken is of no use.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Whether the transport has taken everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that the transport has taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn pump(
        &mut self,
        transport: &mut Transport,
        conn: ConnId,
        stream: StreamId,
    ) -> Result<Pumped, WriteFailed> {
        while let Some(front) = self.queue.front_mut() {
            let written = transport.write(conn, stream, front)?;
            self.taken += written as u64;
            if front.is_empty() {
                self.queue.pop_front();
            } else if written == 0 {
                return Ok(Pumped::Blocked);
            }
        }
        Ok(Pumped::Drained)
    }
}
