//! What the system says of addresses to which nothing gets: at once, as the error of a send, or later,
//! as a message in the socket's error queue (Linux), where it puts what routers and hosts answer (ICMP).
//!
//! While such a message waits, the system gives it as the error of whatever is asked of the socket next,
//! be it to send to somebody else: so a send that fails is done again, until it fails with no message
//! waiting, and a receive that fails so does not count against the socket. For the same reason only those ask for the messages who dial, from
//! a port that nobody knows: to a port that is known, everybody could send them.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use pangea_base::{Unreachable, canonical, is_of_one_link};

use crate::driver::Unreached;
use crate::event::Event;
use crate::socket::Family;

/// Events that wait to be handed out. What is more is dropped: it is said again, or a time-out tells.
const WAITING_MAX: usize = 64;

/// How often one message is sent while those of the error queue are in its way.
const TRIES_MAX: u8 = 8;

/// Messages taken from the queue at once. If there are more, the system says so again.
#[cfg(target_os = "linux")]
const TAKEN_AT_ONCE_MAX: usize = 64;

/// How often a message was sent again.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tries(u8);

/// Whether others' answers were in the error queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    Some,
    None,
}

/// Collects for the callback of `poll`.
#[derive(Debug)]
pub(crate) struct Errors {
    unreached: Unreached,
    waiting: VecDeque<(SocketAddr, Unreachable)>,
}

impl Errors {
    /// Asks the system for messages, if they are wanted.
    pub(crate) fn new(
        unreached: Unreached,
        socket: &UdpSocket,
        family: Family,
    ) -> io::Result<Errors> {
        #[cfg(target_os = "linux")]
        if unreached == Unreached::Told {
            use std::os::fd::AsFd;
            let ask = |level, name| crate::sys::set_option(socket.as_fd(), level, name, 1);
            if family != Family::V6 {
                ask(libc::IPPROTO_IP, libc::IP_RECVERR)?;
            }
            if family != Family::V4 {
                ask(libc::IPPROTO_IPV6, libc::IPV6_RECVERR)?;
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (socket, family);
        Ok(Errors { unreached, waiting: VecDeque::new() })
    }

    /// Whether an error may be about something else than what it is the error of.
    pub(crate) fn are_mixed(&self) -> bool {
        self.unreached == Unreached::Told && cfg!(target_os = "linux")
    }

    /// Whether what failed to be sent goes out again: its error may be that of an earlier message to
    /// somebody else, one of which was taken from the queue, or could have been just before.
    pub(crate) fn send_again(&self, tries: &mut Tries, taken: Taken) -> bool {
        let again =
            self.are_mixed() && tries.0 < TRIES_MAX && (taken == Taken::Some || tries.0 == 0);
        tries.0 += u8::from(again);
        again
    }

    /// A send to this address failed. That nothing listens there is never said at once; that no way
    /// leads there is, and is believed when no message of others was in between.
    pub(crate) fn send_failed(&mut self, to: SocketAddr, errno: i32, taken: Taken) {
        let refused =
            io::Error::from_raw_os_error(errno).kind() == io::ErrorKind::ConnectionRefused;
        let is_own = taken == Taken::None && !(refused && self.are_mixed());
        if is_own && (is_unreachable(errno) || (is_invalid(errno) && lacks_interface(to))) {
            self.note(to, Unreachable::System(errno));
        }
    }

    /// The socket cannot send to addresses of this family.
    pub(crate) fn no_family(&mut self, to: SocketAddr) {
        self.note(to, Unreachable::NoFamily);
    }

    /// Whether the error of a receive is none of the socket's own.
    pub(crate) fn is_about_another(&self, errno: i32) -> bool {
        const TOO_LONG: i32 = 90;
        self.are_mixed() && (is_unreachable(errno) || errno == TOO_LONG)
    }

    /// Takes in what waits in the error queue, and says whether anybody's answer was in it.
    #[cfg(target_os = "linux")]
    pub(crate) fn take(&mut self, socket: std::os::fd::BorrowedFd<'_>) -> Taken {
        let mut taken = Taken::None;
        if !self.are_mixed() {
            return taken;
        }
        let mut room = crate::sys::ErrorRoom::new();
        for _ in 0..TAKEN_AT_ONCE_MAX {
            let Some((name, control)) = crate::sys::take_error(socket, &mut room) else { break };
            let Some(errno) = crate::cmsg::said_by_icmp(control) else { continue };
            taken = Taken::Some;
            if is_unreachable(errno)
                && let Some(to) = crate::cmsg::read_name(name)
            {
                self.note(to, Unreachable::System(errno));
            }
        }
        taken
    }

    fn note(&mut self, to: SocketAddr, what: Unreachable) {
        let said = (canonical(to), what);
        let is_wanted = self.unreached == Unreached::Told && self.waiting.len() < WAITING_MAX;
        if is_wanted && !self.waiting.contains(&said) {
            self.waiting.push_back(said);
        }
    }

    /// Hands out what was collected; returns how many events that were.
    pub(crate) fn hand_out(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut count = 0;
        while let Some((remote, what)) = self.waiting.pop_front() {
            sink(Event::Unreachable { remote, what });
            count += 1;
        }
        count
    }
}

/// Whether an error says that nothing gets there. Not among them: no buffers, a message too long, and
/// "not permitted" (EPERM), which a firewall of this machine says, perhaps only for a while.
fn is_unreachable(errno: i32) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    #[cfg(target_os = "linux")]
    if let libc::EACCES
    | libc::EHOSTDOWN
    | libc::ENODEV
    | libc::ENONET
    | libc::ENOPROTOOPT
    | libc::ENXIO
    | libc::EPROTO = errno
    {
        return true;
    }
    matches!(
        io::Error::from_raw_os_error(errno).kind(),
        AddrNotAvailable | ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

fn is_invalid(errno: i32) -> bool {
    io::Error::from_raw_os_error(errno).kind() == io::ErrorKind::InvalidInput
}

/// An address of one link, and not said of which.
fn lacks_interface(to: SocketAddr) -> bool {
    is_of_one_link(to) && matches!(to, SocketAddr::V6(six) if six.scope_id() == 0)
}
