//! Control messages and socket addresses as bytes, in the kernel's layout, without pointers.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::cmsg::{HEADER, NAME_BYTES, WORD, array, next};
use crate::event::Ecn;
use crate::sys::UDP_GRO;

/// Room for the three messages we send: mark 24, source address 40, segment size 24 bytes.
pub(super) const CONTROL_SEND_BYTES: usize = 96;

/// Room for what we receive: source 40 (twice on a dual-stack socket), mark 24, stride 24, and a
/// receive time of 32 should someone switch it on: what does not fit would be cut off silently.
pub(super) const CONTROL_RECEIVE_BYTES: usize = 192;

/// What a received message says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Received {
    pub(super) stride: Option<usize>,
    pub(super) ecn: Option<Ecn>,
    pub(super) local_ip: Option<IpAddr>,
}

/// Reads the control messages of a received message.
pub(super) fn read(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while let Some((level, kind, data, rest)) = next(control) {
        match (level, kind) {
            (libc::SOL_UDP, UDP_GRO) => {
                received.stride = int(data).and_then(|bytes| usize::try_from(bytes).ok());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                received.ecn = data.first().and_then(|&bits| Ecn::from_bits(bits));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                received.ecn = int(data).and_then(|bits| Ecn::from_bits((bits & 3) as u8));
            }
            // in_pktinfo: interface, local address, address in the header. The last one is where
            // the datagram was sent to.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                received.local_ip = array::<4>(data, 8).map(|ip| Ipv4Addr::from(ip).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let ip = array::<16>(data, 0).map(|ip| IpAddr::from(Ipv6Addr::from(ip)));
                received.local_ip = ip.map(|ip| ip.to_canonical());
            }
            _ => {}
        }
        control = rest;
    }
    received
}

fn int(data: &[u8]) -> Option<i32> {
    array(data, 0).map(i32::from_ne_bytes)
}

/// A socket address as the kernel reads it, and its length.
pub(super) fn write_name(to: SocketAddr) -> ([u8; NAME_BYTES], u32) {
    let mut writer = Writer::<NAME_BYTES>::new();
    match to {
        SocketAddr::V4(to) => {
            writer.put(&(libc::AF_INET as u16).to_ne_bytes());
            writer.put(&to.port().to_be_bytes());
            writer.put(&to.ip().octets());
            writer.put(&[0; 8]);
        }
        SocketAddr::V6(to) => {
            writer.put(&(libc::AF_INET6 as u16).to_ne_bytes());
            writer.put(&to.port().to_be_bytes());
            writer.put(&to.flowinfo().to_be_bytes());
            writer.put(&to.ip().octets());
            writer.put(&to.scope_id().to_ne_bytes());
        }
    }
    (writer.bytes, writer.length as u32)
}

/// The control messages of a message to `to` (as the socket is given it), and their length.
pub(super) fn write(
    to: SocketAddr,
    src_ip: Option<IpAddr>,
    ecn: Option<Ecn>,
    segment: Option<u16>,
) -> ([u8; CONTROL_SEND_BYTES], usize) {
    let mut writer = Writer::<CONTROL_SEND_BYTES>::new();
    let v4 = match to.ip() {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    if let Some(ecn) = ecn {
        let bits = i32::from(ecn.bits()).to_ne_bytes();
        match v4 {
            true => writer.message(libc::IPPROTO_IP, libc::IP_TOS, &[&bits]),
            false => writer.message(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &[&bits]),
        }
    }
    // An address of the other family cannot be a source; the system then chooses.
    match src_ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) if v4 => {
            let parts: [&[u8]; 3] = [&[0; 4], &ip.octets(), &[0; 4]];
            writer.message(libc::IPPROTO_IP, libc::IP_PKTINFO, &parts);
        }
        Some(IpAddr::V6(ip)) if !v4 => {
            writer.message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&ip.octets(), &[0; 4]]);
        }
        _ => {}
    }
    if let Some(segment) = segment {
        writer.message(libc::SOL_UDP, libc::UDP_SEGMENT, &[&segment.to_ne_bytes()]);
    }
    (writer.bytes, writer.length)
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Writer<N> {
    fn new() -> Writer<N> {
        Writer { bytes: [0; N], length: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let room = room.get_mut(..bytes.len()).expect("the room was reckoned for all we write");
        room.copy_from_slice(bytes);
        self.length = self.length.saturating_add(bytes.len());
    }

    fn message(&mut self, level: i32, kind: i32, parts: &[&[u8]]) {
        let data: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&HEADER.saturating_add(data).to_ne_bytes());
        self.put(&level.to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        parts.iter().for_each(|part| self.put(part));
        self.length = self.length.next_multiple_of(WORD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmsg::read_name;

    #[test]
    fn names_read_back_as_written() {
        for text in ["192.0.2.7:4433", "[2001:db8::7%9]:4433", "[::ffff:192.0.2.7]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            let (bytes, length) = write_name(addr);
            assert_eq!(read_name(&bytes[..length as usize]), Some(addr));
        }
        assert_eq!(read_name(&[0; 28]), None);
        assert_eq!(read_name(&[2, 0, 1]), None);
    }

    #[test]
    fn the_largest_control_block_fits_and_says_what_was_meant() {
        let v6: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
        let ip: IpAddr = "2001:db8::2".parse().unwrap();
        let (bytes, length) = write(v6, Some(ip), Some(Ecn::Ce), Some(1200));
        assert!(length <= CONTROL_SEND_BYTES);
        let read = read(&bytes[..length]);
        assert_eq!((read.ecn, read.local_ip), (Some(Ecn::Ce), Some(ip)));
    }

    #[test]
    fn a_source_of_the_other_family_is_left_to_the_system() {
        let v4: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let (_, length) = write(v4, Some("2001:db8::2".parse().unwrap()), None, None);
        assert_eq!(length, 0);
    }

    #[test]
    fn cut_off_and_lying_control_blocks_end_the_reading() {
        let v4: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let (bytes, length) = write(v4, None, Some(Ecn::Ect0), Some(1200));
        for end in 0..length {
            let _ = read(&bytes[..end]);
        }
        let mut lying = bytes;
        for claim in [0usize, 1, HEADER - 1, usize::MAX] {
            lying[..WORD].copy_from_slice(&claim.to_ne_bytes());
            assert_eq!(read(&lying[..length]), Received::default());
        }
    }
}
