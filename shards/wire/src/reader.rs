use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::PeerSent;
use crate::frame::{Message, Protocol, parse};
use crate::label::escaped;
use crate::limits::{FRAME_BYTES_MAX, PROTOCOL_BYTES_MAX, READER_BYTES_MAX, READER_SMALL_BYTES};

/// Cuts a stream's bytes into what the protocol says comes next. Bounded: never holds more than
/// [`READER_BYTES_MAX`], and what is over its limit is refused when its length is seen.
///
/// Bytes that lie together are handed on without a copy; others are copied once, into memory
/// that is used again.
#[derive(Debug, Default)]
pub struct FrameReader {
    pieces: VecDeque<Bytes>,
    // Short pieces that came last, copied together.
    tail: BytesMut,
    scratch: BytesMut,
    buffered: usize,
}

impl FrameReader {
    /// Nothing read so far.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// How many bytes may be pushed now. At 0 take something out first.
    pub fn room(&self) -> usize {
        READER_BYTES_MAX.saturating_sub(self.buffered)
    }

    /// Bytes pushed and not yet taken.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The stream's next bytes. More than [`FrameReader::room`] is a bug of the caller.
    pub fn push(&mut self, bytes: Bytes) {
        assert!(bytes.len() <= self.room(), "more pushed than there is room");
        self.buffered = self.buffered.saturating_add(bytes.len());
        if bytes.len() < READER_SMALL_BYTES {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal_tail();
            self.pieces.push_back(bytes);
        }
    }

    /// The protocol id that every stream begins with, once it is whole.
    pub fn protocol(&mut self) -> Result<Option<Protocol>, PeerSent> {
        let Some([length]) = self.peek::<1>() else { return Ok(None) };
        if length == 0 || usize::from(length) > PROTOCOL_BYTES_MAX {
            return Err(PeerSent::ProtocolLength(length));
        }
        let Some(id) = self.headed::<1>(usize::from(length)) else { return Ok(None) };
        if let Some(protocol) = Protocol::from_id(&id) {
            return Ok(Some(protocol));
        }
        Err(match Protocol::any_version(&id) {
            Some((protocol, theirs)) => PeerSent::OtherVersion { protocol, theirs },
            None => PeerSent::UnknownProtocol(escaped(&String::from_utf8_lossy(&id)).to_string()),
        })
    }

    /// The next frame's body, at most `limit` bytes; `what` names it in errors.
    pub fn frame(&mut self, what: &'static str, limit: usize) -> Result<Option<Bytes>, PeerSent> {
        assert!(limit <= FRAME_BYTES_MAX, "no frame may be that long");
        let Some(length) = self.peek::<4>().map(u32::from_le_bytes) else { return Ok(None) };
        match usize::try_from(length) {
            Ok(bytes) if bytes <= limit => Ok(self.headed::<4>(bytes)),
            _ => Err(PeerSent::FrameTooLong { what, length, limit }),
        }
    }

    /// The next frame, parsed.
    pub fn message<M: Message>(&mut self) -> Result<Option<M>, PeerSent> {
        let Some(body) = self.frame(M::NAME, M::BYTES_MAX)? else { return Ok(None) };
        parse(&body).map(Some)
    }

    /// Exactly `count` raw bytes, or `None` until there are so many.
    pub fn exact(&mut self, count: usize) -> Option<Bytes> {
        assert!(count <= READER_BYTES_MAX, "so many bytes never come together");
        (self.buffered >= count).then(|| self.take(count))
    }

    /// Whatever raw bytes are at hand in one piece, at most `max`; `None` when there are none.
    pub fn some(&mut self, max: usize) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.seal_tail();
        }
        let count = self.pieces.front()?.len().min(max);
        (count > 0).then(|| self.take(count))
    }

    /// The stream has ended: fine if nothing is left over.
    pub fn end(&self, what: &'static str) -> Result<(), PeerSent> {
        if self.buffered == 0 { Ok(()) } else { Err(PeerSent::EndedInside(what)) }
    }

    /// The next `N` bytes, left where they are.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        if self.buffered < N {
            return None;
        }
        let mut out = [0; N];
        let all = self.pieces.iter().flatten().chain(&self.tail);
        out.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        Some(out)
    }

    /// The `count` bytes behind a header of `H` bytes, when both are there.
    pub(crate) fn headed<const H: usize>(&mut self, count: usize) -> Option<Bytes> {
        if self.buffered < H.saturating_add(count) {
            return None;
        }
        self.take(H);
        Some(self.take(count))
    }

    /// Takes `count` bytes, which must be there.
    fn take(&mut self, count: usize) -> Bytes {
        assert!(count <= self.buffered, "more taken than there is");
        self.buffered = self.buffered.saturating_sub(count);
        if self.pieces.is_empty() {
            self.seal_tail();
        }
        if let Some(front) = self.pieces.front_mut()
            && front.len() >= count
        {
            let out = front.split_to(count);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            return out;
        }
        self.gather(count)
    }

    /// Copies `count` bytes that lie in several pieces together. The memory is used again as
    /// soon as the caller lets go of what it got before.
    fn gather(&mut self, count: usize) -> Bytes {
        self.scratch.reserve(count);
        let mut left = count;
        while left > 0 {
            if self.pieces.is_empty() {
                self.seal_tail();
            }
            let Some(front) = self.pieces.front_mut() else { break };
            let part = front.len().min(left);
            self.scratch.extend_from_slice(front.get(..part).unwrap_or_default());
            front.advance(part);
            left = left.saturating_sub(part);
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
        assert!(left == 0, "the count of buffered bytes was wrong");
        self.scratch.split().freeze()
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bytes_keep_no_datagram_alive() {
        let mut reader = FrameReader::new();
        for _ in 0..1000 {
            let batch = Bytes::from(vec![7; 65_536]);
            reader.push(batch.slice(100..100 + READER_SMALL_BYTES - 1).slice(..1));
            assert!(batch.is_unique(), "the byte was copied, the batch let go");
        }
        assert_eq!((reader.buffered(), reader.pieces.len()), (1000, 0));
        assert_eq!(reader.exact(1000).unwrap(), vec![7; 1000]);
        let long = Bytes::from(vec![7; READER_SMALL_BYTES]);
        reader.push(long.clone());
        assert!(!long.is_unique(), "a long piece is kept as it is");
    }

    #[test]
    fn short_and_long_pieces_keep_their_order() {
        let mut reader = FrameReader::new();
        let all: Vec<u8> = (0..200_000).map(|i| (i % 255) as u8).collect();
        let mut rest = Bytes::from(all.clone());
        for length in [1, 600, 3, 511, 512, 70_000, 1, 1].into_iter().cycle() {
            let length = length.min(rest.len());
            reader.push(rest.split_to(length));
            if rest.is_empty() {
                break;
            }
        }
        let mut found = Vec::new();
        for take in [1, 4, 1000, 16_384, 100_000] {
            assert_eq!(reader.peek::<1>().unwrap(), [all[found.len()]]);
            found.extend(reader.exact(take).unwrap());
        }
        while let Some(some) = reader.some(777) {
            found.extend(some);
        }
        assert!(found == all && reader.buffered() == 0 && reader.exact(1).is_none());
    }
}
