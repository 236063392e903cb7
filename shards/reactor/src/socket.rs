//! One UDP port for all cores: a socket each, steered by the system, or one socket shared.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How datagrams reach the core they belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steer {
    /// The system picks the socket by the connection ID's first byte (Linux: SO_REUSEPORT with a
    /// classic BPF filter; needs no rights).
    Kernel,
    /// Core 0 receives everything and hands it on; all cores send.
    Mesh,
}

/// What `bind` made.
#[derive(Debug)]
pub struct Bound {
    /// One socket per core, in the order of the cores.
    pub sockets: Vec<CoreSocket>,
    /// The address bound, with the port that the system chose if 0 was asked for.
    pub local: SocketAddr,
    /// What steers: `Mesh` where `Kernel` was asked for and is not to be had.
    pub steer: Steer,
}

/// One core's socket.
#[derive(Debug)]
pub struct CoreSocket {
    pub(crate) socket: UdpSocket,
    pub(crate) receives: Receives,
}

/// Whether a core's socket also receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receives {
    Yes,
    No,
}

impl CoreSocket {
    /// Whether this core receives; with [`Steer::Mesh`] only core 0 does.
    pub fn receives(&self) -> bool {
        self.receives == Receives::Yes
    }

    /// The address bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// How long `bind` tries again while the address is in use: after a crash the system keeps the
/// socket for some milliseconds, until the ring that used it is gone.
const ADDRESS_WAIT: Duration = Duration::from_secs(1);
const ADDRESS_RETRY: Duration = Duration::from_millis(5);

/// Bytes asked of the system for each socket's receive and send queue. It may give less.
const SOCKET_QUEUE_BYTES: usize = 4 << 20;

/// Binds one UDP port for `cores` cores. An IPv6 wildcard takes IPv4 too (dual-stack).
///
/// With [`Steer::Kernel`] each core has a socket of its own; where the system has no steering, or
/// refuses the filter, it becomes [`Steer::Mesh`]. An address in use is tried for a second.
/// Fails with the system's error, also when another node of the same user holds the port.
pub fn bind(addr: SocketAddr, cores: usize, steer: Steer) -> io::Result<Bound> {
    assert!((1..=256).contains(&cores), "the core number is one byte of a connection ID");
    let first = bind_patiently(addr)?;
    let local = local_of(&first)?;
    if cores == 1 {
        let sockets = vec![CoreSocket { socket: first.into(), receives: Receives::Yes }];
        return Ok(Bound { sockets, local, steer });
    }
    match steer {
        Steer::Kernel => {
            // The first socket proved that nobody holds the port: one with SO_REUSEPORT would
            // join the group of another node of the same user without a word. It has to go, as
            // a group takes no member that was bound alone.
            drop(first);
            match bind_group(local, cores) {
                Some(sockets) => Ok(Bound { sockets, local, steer: Steer::Kernel }),
                None => share(bind_patiently(local)?, local, cores),
            }
        }
        Steer::Mesh => share(first, local, cores),
    }
}

fn share(first: Socket, local: SocketAddr, cores: usize) -> io::Result<Bound> {
    let first: UdpSocket = first.into();
    let mut sockets = Vec::with_capacity(cores);
    for _ in 1..cores {
        sockets.push(CoreSocket { socket: first.try_clone()?, receives: Receives::No });
    }
    sockets.insert(0, CoreSocket { socket: first, receives: Receives::Yes });
    Ok(Bound { sockets, local, steer: Steer::Mesh })
}

fn bind_patiently(addr: SocketAddr) -> io::Result<Socket> {
    let give_up = Instant::now() + ADDRESS_WAIT;
    loop {
        let socket = open(addr)?;
        match socket.bind(&addr.into()) {
            Ok(()) => return Ok(socket),
            Err(error) => {
                if error.kind() != io::ErrorKind::AddrInUse || Instant::now() >= give_up {
                    return Err(error);
                }
            }
        }
        std::thread::sleep(ADDRESS_RETRY);
    }
}

/// A reuseport group with the steering filter, in the order of the cores; `None` if refused.
#[cfg(target_os = "linux")]
fn bind_group(local: SocketAddr, cores: usize) -> Option<Vec<CoreSocket>> {
    use std::os::fd::AsFd;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = open(local).ok()?;
        socket.set_reuse_port(true).ok()?;
        socket.bind(&local.into()).ok()?;
        sockets.push(CoreSocket { socket: socket.into(), receives: Receives::Yes });
    }
    let first = sockets.first()?;
    crate::sys::attach_steering(first.socket.as_fd(), u16::try_from(cores).ok()?).ok()?;
    Some(sockets)
}

#[cfg(not(target_os = "linux"))]
fn bind_group(_local: SocketAddr, _cores: usize) -> Option<Vec<CoreSocket>> {
    None
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    enlarge(&socket);
    Ok(socket)
}

/// Larger queues ride out a busy core; less than asked for is no fault.
fn enlarge(socket: &Socket) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsFd;
        let (level, bytes) = (libc::SOL_SOCKET, SOCKET_QUEUE_BYTES as i32);
        let force = |name| crate::sys::set_option(socket.as_fd(), level, name, bytes).is_ok();
        if force(libc::SO_RCVBUFFORCE) && force(libc::SO_SNDBUFFORCE) {
            return;
        }
    }
    let _ = socket.set_recv_buffer_size(SOCKET_QUEUE_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_QUEUE_BYTES);
}

fn local_of(socket: &Socket) -> io::Result<SocketAddr> {
    let local = socket.local_addr()?.as_socket();
    local.ok_or_else(|| io::Error::other("the socket's address is not an IP address"))
}

/// Which addresses a socket can send to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
    Dual,
}

impl Family {
    pub(crate) fn of(socket: &UdpSocket) -> io::Result<Family> {
        Ok(match socket.local_addr()?.ip() {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) if socket2::SockRef::from(socket).only_v6()? => Family::V6,
            IpAddr::V6(_) => Family::Dual,
        })
    }

    /// The destination as this socket has to be given it; `None` if it cannot be sent to.
    pub(crate) fn destination(self, to: SocketAddr) -> Option<SocketAddr> {
        if to.port() == 0 || to.ip().is_unspecified() {
            return None;
        }
        match (self, to) {
            (Family::V4, SocketAddr::V4(_)) | (Family::V6 | Family::Dual, SocketAddr::V6(_)) => {
                Some(to)
            }
            (Family::Dual, SocketAddr::V4(to)) => {
                Some(SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()))
            }
            (Family::V4, SocketAddr::V6(to)) => {
                Some(SocketAddr::new(to.ip().to_ipv4_mapped()?.into(), to.port()))
            }
            (Family::V6, SocketAddr::V4(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_node_holds_is_refused_for_every_number_of_cores() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 2, Steer::Kernel).unwrap();
        for cores in [1, 2] {
            let error = bind(held.local, cores, Steer::Kernel).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn a_dual_stack_socket_is_given_mapped_addresses() {
        let v4: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let mapped = Family::Dual.destination(v4).unwrap();
        assert_eq!(mapped, "[::ffff:192.0.2.1]:9".parse().unwrap());
        assert_eq!(pangea_base::canonical(mapped), v4);
        assert_eq!(Family::V4.destination(mapped), Some(v4));
        assert_eq!(Family::V6.destination(v4), None);
    }

    #[test]
    fn an_address_that_nobody_can_have_is_not_sent_to() {
        for to in ["127.0.0.1:0", "0.0.0.0:9"] {
            assert_eq!(Family::V4.destination(to.parse().unwrap()), None);
        }
    }
}
