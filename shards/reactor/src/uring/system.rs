//! The socket's options and the eventfd, as the ring wants them.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::bell::Strike;
use crate::socket::Family;

/// Blocking, so that the kernel waits for data instead of saying that there is none; with ECN
/// marks, local addresses and joined receives; never fragmenting.
pub(super) fn prepare(socket: &UdpSocket, family: Family) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let set = |level, name, value| crate::sys::set_option(socket.as_fd(), level, name, value);
    if family != Family::V6 {
        set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    }
    if family == Family::V4 {
        set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    } else {
        set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    }
    set(libc::SOL_UDP, crate::sys::UDP_GRO, 1)
}

/// A counter that a read waits for.
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub(super) fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers. Blocking: a read on the ring then waits for the first ring.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Strike for EventFd {
    fn strike(&self) {
        let one = 1u64;
        // Fails only at 2^64 - 1 rings that nobody heard.
        // SAFETY: eight bytes of a live number.
        // CHECKED: tests/conformance waker cases.
        unsafe { libc::write(self.raw(), (&raw const one).cast(), 8) };
    }
}
