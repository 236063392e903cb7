//! Messages that may be lost and are never repeated: one DATAGRAM frame each (RFC 9221).

use bytes::Bytes;
use quinn_proto::SendDatagramError;

use crate::conn::Phase;
use crate::{ConnId, SendRefused, Transport};

impl Transport {
    /// The most bytes of a message now. It follows what the path is found to carry. `None`: one of
    /// the two sides takes none, or there is no connection.
    pub fn message_bytes_max(&mut self, conn: ConnId) -> Option<usize> {
        let open = self.conn_mut(conn).filter(|open| open.phase == Phase::Established)?;
        open.proto.datagrams().max_size()
    }

    /// Sends a message. It arrives whole, once, in any order, or not at all, and nobody is told
    /// which. Older ones that still wait are dropped when there is no room
    /// (`Limits::message_bytes`).
    pub fn send_message(&mut self, conn: ConnId, message: Bytes) -> Result<(), SendRefused> {
        let length = message.len();
        let open = self.conn_mut(conn).filter(|open| open.phase == Phase::Established);
        let open = open.ok_or(SendRefused::Gone)?;
        match open.proto.datagrams().send(message, true) {
            Ok(()) => {
                self.count_written(length);
                self.mark(conn.index);
                Ok(())
            }
            Err(SendDatagramError::Disabled | SendDatagramError::UnsupportedByPeer) => {
                Err(SendRefused::NotTaken)
            }
            Err(SendDatagramError::TooLarge | SendDatagramError::Blocked(_)) => {
                Err(SendRefused::TooLong { length })
            }
        }
    }

    /// The next message that came. After `Message`, take until `None`; those that find no room
    /// meanwhile take the place of the oldest.
    pub fn message(&mut self, conn: ConnId) -> Option<Bytes> {
        self.conn_mut(conn)?.proto.datagrams().recv()
    }
}
