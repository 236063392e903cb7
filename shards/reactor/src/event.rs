//! What goes into a driver and comes out of it.

use std::net::{IpAddr, SocketAddr};

use pangea_base::Unreachable;
use pangea_base::file::FileDone;

/// Explicit congestion notification: the two bits of the IP header, as RFC 3168 gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ecn {
    /// ECN-capable transport, code point 1.
    Ect1 = 0b01,
    /// ECN-capable transport, code point 0: what QUIC sends.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// From the two low bits; `None` for a packet that is not ECN-capable.
    pub fn from_bits(bits: u8) -> Option<Ecn> {
        match bits & 0b11 {
            0b01 => Some(Ecn::Ect1),
            0b10 => Some(Ecn::Ect0),
            0b11 => Some(Ecn::Ce),
            _ => None,
        }
    }

    /// The two bits.
    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// Where and how one message goes; its bytes go along as a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub dst: SocketAddr,
    /// From which of our addresses; `None` leaves it to the system.
    pub src_ip: Option<IpAddr>,
    /// The ECN mark; `None` is "not ECN-capable".
    pub ecn: Option<Ecn>,
    /// With `Some(bytes)` the message is a train: datagrams of that many bytes each, the last one
    /// shorter or equal. `None`: one datagram.
    pub segment: Option<u16>,
    /// What a recorder wants to know of it; nothing unless tracing is compiled in.
    pub train: pangea_trace::Train,
}

/// Whether `poll` may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Park {
    /// Returns at once.
    Never,
    /// Waits until something happens or the deadline. It adapts by itself: it spins first if the
    /// configuration allows it, waits for a batch when the last one was large, else blocks.
    Block,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// Datagrams from one sender, joined by the system.
    Datagrams {
        /// Who sent them. An IPv4 sender is shown as such on a dual-stack socket too.
        remote: SocketAddr,
        /// Which of our addresses they were sent to.
        local_ip: Option<IpAddr>,
        /// Their ECN mark.
        ecn: Option<Ecn>,
        /// Bytes of each datagram in `data`; the last one may be shorter. Never 0.
        stride: usize,
        /// All of them, one behind the other; borrowed for the callback only. Never empty.
        data: &'a [u8],
    },
    /// The system says that nothing gets to an address, of something that was sent there: at once,
    /// or later, on the word of whoever sent an ICMP message back. That may be anybody.
    Unreachable {
        /// Where to.
        remote: SocketAddr,
        /// The system's reason.
        what: Unreachable,
    },
    /// A file operation ended.
    File(FileDone),
    /// `buffer` refused before; now there is one.
    SendReady,
    /// The waker was used.
    Woken,
}

/// What this driver on this system can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Most datagrams in one train; 1 where the system has no segmentation offload (a train may
    /// be sent all the same: the driver cuts it).
    pub max_gso_segments: u16,
    /// Most bytes in one message, train or not.
    pub send_bytes_max: usize,
    /// Whether the system joins received datagrams.
    pub gro: bool,
    /// Whether `OpenMode::Direct` goes around the page cache; `None` until a file was opened so.
    pub direct_io: Option<bool>,
    /// Whether page pools are registered with the kernel.
    pub registered: bool,
    /// Whether waiting for a batch is possible (`min_wait`, Linux 6.12).
    pub batch_wait: bool,
}

/// Counters since the driver was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Messages received, a joined batch counting once.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Receives that failed, or came cut off.
    pub receive_errors: u64,
    /// Times the receive buffers ran out.
    pub receive_starved: u64,
    /// Receive buffers in use now.
    pub receive_buffers: u64,
    /// Messages handed to the system, a train counting once.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Messages that the system refused because they exceed the interface's MTU.
    pub send_too_long: u64,
    /// Messages that the system refused for any other reason.
    pub send_errors: u64,
    /// The system's number for the last of those, 0 if none.
    pub send_errno_last: i32,
    /// Messages sent once more, because what the system said was of an earlier one.
    pub send_again: u64,
    /// Times the driver entered the kernel to submit or wait.
    pub entries: u64,
    /// Times the waker was heard.
    pub wakes: u64,
    /// File operations that ended.
    pub files_done: u64,
    /// Files opened around the page cache.
    pub files_direct: u64,
    /// Files opened `Direct` where the file system only has the page cache.
    pub files_cached: u64,
    /// Times memory was given back to the system.
    pub trims: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecn_marks_survive_the_two_bits() {
        for mark in [Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
            assert_eq!(Ecn::from_bits(mark.bits()), Some(mark));
            assert_eq!(Ecn::from_bits(mark.bits() | 0b1111_1100), Some(mark));
        }
        assert_eq!(Ecn::from_bits(0b100), None);
    }
}
