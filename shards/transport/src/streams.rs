//! Reading and writing streams.

use bytes::Bytes;
use quinn_proto::{Dir, FinishError, ReadError, ReadableError, VarInt, WriteError};

use crate::conn::Phase;
use crate::report::code;
use crate::{ConnId, ReadFailed, ReadOutcome, StreamId, Transport, WriteFailed};

impl Transport {
    /// Opens a bidirectional stream. `None`: the peer allows no more now (`StreamsAvailable`
    /// follows) or the connection is not established.
    pub fn open(&mut self, conn: ConnId) -> Option<StreamId> {
        let open = self.conn_mut(conn).filter(|open| open.phase == Phase::Established)?;
        let stream = open.proto.streams().open(Dir::Bi).map(StreamId)?;
        self.trace_opened(conn, stream);
        Some(stream)
    }

    /// Writes what fits of `chunk`, without copying, and takes it off its front. `Ok(0)` of a chunk
    /// that is not empty: blocked, `Writable` follows. Large chunks (64 KiB and more) are cheapest:
    /// quinn-proto walks the unacknowledged ones of a stream for every packet.
    pub fn write(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        chunk: &mut Bytes,
    ) -> Result<usize, WriteFailed> {
        let open = self.conn_mut(conn).ok_or(WriteFailed::Gone)?;
        let wrote = open.proto.send_stream(stream.0).write_chunks(std::slice::from_mut(chunk));
        open.write_blocked |= !chunk.is_empty();
        // Also when blocked: then there is a BLOCKED frame to send.
        self.mark(conn.index);
        match wrote {
            Ok(written) => {
                self.count_written(written.bytes);
                Ok(written.bytes)
            }
            Err(WriteError::Blocked) => Ok(0),
            Err(WriteError::Stopped(reason)) => Err(WriteFailed::Stopped(code(reason))),
            Err(WriteError::ClosedStream) => Err(WriteFailed::Closed),
        }
    }

    /// Ends our half of a stream; `Finished` follows when all of it was acknowledged.
    pub fn finish(&mut self, conn: ConnId, stream: StreamId) -> Result<(), WriteFailed> {
        let open = self.conn_mut(conn).ok_or(WriteFailed::Gone)?;
        let finished = open.proto.send_stream(stream.0).finish();
        self.mark(conn.index);
        finished.map_err(|e| match e {
            FinishError::Stopped(reason) => WriteFailed::Stopped(code(reason)),
            FinishError::ClosedStream => WriteFailed::Closed,
        })
    }

    /// Gives our half of a stream up: what was not yet acknowledged may never arrive.
    pub fn reset(&mut self, conn: ConnId, stream: StreamId, code: u32) -> Result<(), WriteFailed> {
        let open = self.conn_mut(conn).ok_or(WriteFailed::Gone)?;
        let reset = open.proto.send_stream(stream.0).reset(VarInt::from_u32(code));
        self.mark(conn.index);
        reset.map_err(|_| WriteFailed::Closed)
    }

    /// Asks the peer to send no more of its half; unread data is dropped.
    pub fn stop(&mut self, conn: ConnId, stream: StreamId, code: u32) -> Result<(), ReadFailed> {
        let open = self.conn_mut(conn).ok_or(ReadFailed::Gone)?;
        let stopped = open.proto.recv_stream(stream.0).stop(VarInt::from_u32(code));
        self.mark(conn.index);
        stopped.map_err(|_| ReadFailed::Closed)
    }

    /// The next bytes in order, at most `max`. After `Readable`, read until `Blocked` or the end.
    pub fn read(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        max: usize,
    ) -> Result<ReadOutcome, ReadFailed> {
        let mut data = None;
        let end = self.drain(conn, stream, max, 1, &mut |bytes| data = Some(bytes))?;
        Ok(match (data, end) {
            (Some(bytes), _) => ReadOutcome::Data(bytes),
            (None, ended) => ended,
        })
    }

    /// Gives up to `max` bytes, in order and uncopied, to `sink`, in one go: cheaper than reading
    /// piece by piece. `Blocked` and `Finished` as for `read`; `Data` (empty) says that `max` was
    /// reached and there may be more.
    pub fn read_into(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        max: usize,
        sink: &mut dyn FnMut(Bytes),
    ) -> Result<ReadOutcome, ReadFailed> {
        self.drain(conn, stream, max, usize::MAX, sink)
    }

    fn drain(
        &mut self,
        conn: ConnId,
        stream: StreamId,
        max: usize,
        pieces: usize,
        sink: &mut dyn FnMut(Bytes),
    ) -> Result<ReadOutcome, ReadFailed> {
        let open = self.conn_mut(conn).ok_or(ReadFailed::Gone)?;
        let mut half = open.proto.recv_stream(stream.0);
        let mut chunks = match half.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Err(ReadFailed::Closed);
            }
        };
        let mut begins = None;
        let mut read = 0;
        let mut taken = 0;
        let end = loop {
            if read == max || taken == pieces {
                break Ok(ReadOutcome::Data(Bytes::new()));
            }
            match chunks.next(max - read) {
                Ok(Some(chunk)) => {
                    begins.get_or_insert(chunk.offset);
                    read += chunk.bytes.len();
                    taken += 1;
                    sink(chunk.bytes);
                }
                Ok(None) => break Ok(ReadOutcome::Finished),
                Err(ReadError::Blocked) => break Ok(ReadOutcome::Blocked),
                Err(ReadError::Reset(reason)) => break Err(ReadFailed::Reset(code(reason))),
            }
        };
        let tell = chunks.finalize().should_transmit();
        let ended = matches!(end, Ok(ReadOutcome::Finished));
        self.trace_read(conn, stream, (begins.unwrap_or(0), read), ended);
        self.on_read(conn, read as u64);
        if tell {
            self.mark(conn.index);
        }
        end
    }
}
