//! Speaking and listening on one stream, at whatever pace.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pangea_transport::{ConnId, StreamId};

use super::body::Body;

/// How an enemy listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// As fast as it comes.
    Freely,
    /// So many bytes a second.
    Drip(u64),
    /// Not at all; and it never answers.
    Never,
}

/// How it ends what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finish,
    Reset(u32),
    /// It leaves the stream open and says no more.
    Open,
}

/// A measure of so many bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drip {
    next: Instant,
    left: u64,
}

const SECOND: Duration = Duration::from_secs(1);

impl Drip {
    pub fn new(now: Instant) -> Drip {
        Drip { next: now, left: 0 }
    }

    /// When there is something again.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Bytes that may go now.
    pub fn allows(&mut self, now: Instant, rate: u64) -> usize {
        if self.next <= now {
            self.next = now + SECOND;
            self.left = rate;
        }
        self.left as usize
    }

    pub fn took(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

/// What is said on a stream.
#[derive(Clone, Debug)]
pub(super) struct Saying {
    pub pieces: VecDeque<Bytes>,
    /// Bytes a second; `None`: as fast as the other side takes them.
    pub pace: Option<u64>,
    pub end: End,
}

impl Saying {
    pub fn nothing() -> Saying {
        Saying { pieces: VecDeque::new(), pace: None, end: End::Open }
    }

    /// All of it, and then the end.
    pub fn of(pieces: impl IntoIterator<Item = Bytes>) -> Saying {
        Saying { pieces: pieces.into_iter().collect(), pace: None, end: End::Finish }
    }

    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Only the first so many bytes.
    pub fn cut(&mut self, bytes: usize) {
        let mut left = bytes;
        for piece in &mut self.pieces {
            piece.truncate(left);
            left -= piece.len();
        }
    }

    /// Changes one byte of a piece.
    pub fn bend(&mut self, piece: usize, at: usize) {
        let Some(piece) = self.pieces.get_mut(piece) else { return };
        let mut bytes = piece.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        *piece = Bytes::from(bytes);
    }

    /// Says what can be said now. False: the stream is over.
    pub fn pump(
        &mut self,
        body: &mut Body,
        conn: ConnId,
        stream: StreamId,
        drip: &mut Drip,
    ) -> bool {
        while let Some(front) = self.pieces.front_mut() {
            if front.is_empty() {
                self.pieces.pop_front();
                continue;
            }
            let most = match self.pace {
                Some(rate) => drip.allows(body.now, rate).min(front.len()),
                None => front.len(),
            };
            let mut part = front.slice(..most);
            if part.is_empty() {
                return true;
            }
            match body.transport.write(conn, stream, &mut part) {
                Ok(0) => return true,
                Ok(written) => {
                    let _ = front.split_to(written);
                    drip.took(written);
                    if self.pace.is_some() {
                        body.did_so_many("bytes said drop by drop", written as u64);
                    }
                }
                Err(_) => return false,
            }
        }
        match self.end {
            End::Open => true,
            End::Finish => {
                let _ = body.transport.finish(conn, stream);
                // Whatever still comes is of no interest.
                let _ = body.transport.stop(conn, stream, 0);
                false
            }
            End::Reset(code) => {
                let _ = body.transport.reset(conn, stream, code);
                let _ = body.transport.stop(conn, stream, code);
                body.did("streams reset");
                false
            }
        }
    }

    /// When the next drop may fall.
    pub fn deadline(&self, drip: &Drip) -> Option<Instant> {
        (self.pace.is_some() && !self.pieces.is_empty()).then(|| drip.next())
    }
}
