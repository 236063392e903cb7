//! What the kernel writes beside a datagram: control messages and socket addresses, read from bytes in
//! its layout.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// struct cmsghdr in the kernel: length (size_t), level, type.
pub(crate) const WORD: usize = size_of::<usize>();
pub(crate) const HEADER: usize = WORD + 8;

/// Bytes of the larger socket address, sockaddr_in6.
pub(crate) const NAME_BYTES: usize = 28;

/// Level, type, data and what follows.
pub(crate) fn next(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(array(control, 0)?);
    let level = i32::from_ne_bytes(array(control, WORD)?);
    let kind = i32::from_ne_bytes(array(control, WORD.checked_add(4)?)?);
    let data = control.get(HEADER..length)?;
    let rest = control.get(length.checked_next_multiple_of(WORD)?..).unwrap_or(&[]);
    Some((level, kind, data, rest))
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The address in a message's name field; `None` if it is no IP address.
pub(crate) fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array(name, 0)?);
    let port = u16::from_be_bytes(array(name, 2)?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(array::<4>(name, 4)?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(name, 8)?);
            let scope = u32::from_ne_bytes(array(name, 24)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// The error number in a message of the error queue (struct sock_extended_err: `u32` number, `u8`
/// origin), if it is somebody's answer and not what this machine itself had to say.
pub(crate) fn said_by_icmp(mut control: &[u8]) -> Option<i32> {
    while let Some((level, kind, data, rest)) = next(control) {
        if let (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) =
            (level, kind)
        {
            let origin = data.get(4).copied()?;
            let icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&origin);
            return icmp.then(|| array(data, 0).map(i32::from_ne_bytes)).flatten();
        }
        control = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(level: i32, kind: i32, number: u32, origin: u8) -> Vec<u8> {
        let data = [&number.to_ne_bytes()[..], &[origin, 3, 3, 0], &[0; 24]].concat();
        let length = HEADER.saturating_add(data.len());
        let head = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat();
        [head, data].concat()
    }

    #[test]
    fn only_answers_of_others_are_read_from_the_error_queue() {
        let refused = libc::ECONNREFUSED;
        let four = error(libc::IPPROTO_IP, libc::IP_RECVERR, refused as u32, 2);
        let six = error(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, refused as u32, 3);
        assert_eq!(said_by_icmp(&four), Some(refused));
        assert_eq!(said_by_icmp(&six), Some(refused));
        // Behind another message too.
        let other = error(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, 0, 0);
        assert_eq!(said_by_icmp(&[other, four.clone()].concat()), Some(refused));
        let local = error(libc::IPPROTO_IP, libc::IP_RECVERR, libc::EMSGSIZE as u32, 1);
        assert_eq!(said_by_icmp(&local), None);
        for end in 0..four.len() {
            assert_eq!(said_by_icmp(&four[..end]), None, "cut at {end}");
        }
    }
}
