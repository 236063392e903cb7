use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{IdInvalid, PeerId};

/// Where a peer is and who it must be: `PEERID@IP:PORT`, or a multiaddr
/// `/ip4/1.2.3.4/udp/9090/quic-v1/p2p/PEERID` (also `ip6`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerAddr {
    /// The key that the peer must prove to own.
    pub peer: PeerId,
    /// UDP address.
    pub addr: SocketAddr,
}

/// The one form in which an address is kept, compared, dialled and shown, wherever it comes from: IPv4
/// that is written as IPv6 (`::ffff:a.b.c.d`) is IPv4, there is no flow label, and an interface (scope
/// id) only where the address means nothing without one, that is on one link.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::new(four.into(), six.port()),
            None => {
                let scope = if is_of_one_link(addr) { six.scope_id() } else { 0 };
                SocketAddrV6::new(*six.ip(), six.port(), 0, scope).into()
            }
        },
    }
}

/// Whether an address means something only together with an interface of this very machine
/// (`fe80::1%2`): nobody else can make anything of it, so it goes into nothing that is for others.
pub fn is_of_one_link(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Why the system says that nothing of ours gets to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unreachable {
    /// The system's number for it: a closed port, no route, a host that is down.
    System(i32),
    /// The socket is of the other family: no IPv6 here, or no IPv4.
    NoFamily,
}

impl Unreachable {
    /// In a sentence, for a person, about `addr`.
    pub fn told(self, addr: SocketAddr) -> String {
        let Unreachable::System(number) = self else {
            return format!("this machine has no way to {addr}: it has no address of that family");
        };
        let words = io::Error::from_raw_os_error(number);
        match words.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("connection refused: nothing listens at {addr} ({words})")
            }
            _ => format!("nothing gets to {addr}: {words}"),
        }
    }
}

/// A text that should be a peer's address and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrInvalid {
    /// Neither of the two forms.
    #[error(
        "'{0}' is not a peer address; write PEERID@IP:PORT or /ip4/IP/udp/PORT/quic-v1/p2p/PEERID"
    )]
    Form(String),
    /// The part that names the peer is wrong.
    #[error("'{0}': {1}")]
    Peer(String, IdInvalid),
    /// The part that should be IP:PORT is wrong.
    #[error("'{0}': '{1}' is neither IP:PORT nor NAME:PORT")]
    Socket(String, String),
    /// Port 0 or an unspecified IP: nobody can be dialled there.
    #[error("'{0}' cannot be dialled: it needs a real IP address and a port other than 0")]
    Undialable(String),
    /// An address of one link, and not said of which.
    #[error("'{0}' is on one link only; say on which, as in [fe80::1%eth0]:9090")]
    NoInterface(String),
}

impl FromStr for PeerAddr {
    type Err = AddrInvalid;

    fn from_str(text: &str) -> Result<PeerAddr, AddrInvalid> {
        let said = || text.chars().take(200).collect::<String>();
        let (peer, addr) = match text.split_once('@') {
            Some((peer, addr)) => {
                let socket = || AddrInvalid::Socket(said(), addr.chars().take(80).collect());
                (peer, addr.parse::<SocketAddr>().map_err(|_| socket())?)
            }
            None => multiaddr(text).ok_or_else(|| AddrInvalid::Form(said()))?,
        };
        let peer = peer.parse().map_err(|cause| AddrInvalid::Peer(said(), cause))?;
        if addr.port() == 0 || addr.ip().is_unspecified() {
            return Err(AddrInvalid::Undialable(said()));
        }
        if is_of_one_link(addr) && matches!(addr, SocketAddr::V6(six) if six.scope_id() == 0) {
            return Err(AddrInvalid::NoInterface(said()));
        }
        Ok(PeerAddr { peer, addr: canonical(addr) })
    }
}

/// The peer's part and the UDP address of `/ip4|ip6/IP/udp/PORT/quic-v1/p2p/PEERID`.
fn multiaddr(text: &str) -> Option<(&str, SocketAddr)> {
    let mut parts = text.strip_prefix('/')?.split('/');
    let family = parts.next()?;
    let ip: IpAddr = parts.next()?.parse().ok()?;
    let family_fits = match ip {
        IpAddr::V4(_) => family == "ip4",
        IpAddr::V6(_) => family == "ip6",
    };
    if !family_fits || parts.next()? != "udp" {
        return None;
    }
    let port = parts.next()?.parse().ok()?;
    if parts.next()? != "quic-v1" || parts.next()? != "p2p" {
        return None;
    }
    let peer = parts.next()?;
    parts.next().is_none().then_some((peer, SocketAddr::new(ip, port)))
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.peer, self.addr)
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_to_the_same_address() {
        let peer = PeerId([3; 32]);
        let plain: PeerAddr = format!("{peer}@10.0.0.1:9090").parse().unwrap();
        let multi: PeerAddr = format!("/ip4/10.0.0.1/udp/9090/quic-v1/p2p/{peer}").parse().unwrap();
        assert_eq!(plain, multi);
        assert_eq!(plain.to_string().parse(), Ok(plain));
        let six: PeerAddr = format!("{peer}@[::1]:9090").parse().unwrap();
        assert_eq!(format!("/ip6/::1/udp/9090/quic-v1/p2p/{peer}").parse(), Ok(six));
    }

    #[test]
    fn an_address_has_one_form_however_it_is_written() {
        let one = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(one("[::ffff:10.0.0.1]:9"), "10.0.0.1:9");
        assert_eq!(one("10.0.0.1:9"), "10.0.0.1:9");
        assert_eq!(one("[2001:db8::1%7]:9"), "[2001:db8::1]:9");
        assert_eq!(one("[fe80::1%2]:9"), "[fe80::1%2]:9");
        let flowing = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 9, 5, 0);
        assert_eq!(canonical(flowing.into()), "[2001:db8::1]:9".parse().unwrap());
        let peer = PeerId([3; 32]);
        let at = |addr: &str| format!("{peer}@{addr}").parse::<PeerAddr>().unwrap();
        assert_eq!(at("[::ffff:10.0.0.1]:9"), at("10.0.0.1:9"));
        for addr in ["[fe80::1%2]:9", "[fe80::1]:9"] {
            assert!(is_of_one_link(addr.parse().unwrap()));
        }
        for addr in ["[fd77::1]:9", "169.254.1.1:9", "[::1]:9"] {
            assert!(!is_of_one_link(addr.parse().unwrap()), "{addr} needs no interface");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_the_system_says_of_an_address_is_told_with_the_address() {
        let addr: SocketAddr = "10.0.0.1:9".parse().unwrap();
        let refused = Unreachable::System(libc::ECONNREFUSED).told(addr);
        assert!(refused.starts_with("connection refused: nothing listens at 10.0.0.1:9"));
        let lost = Unreachable::System(libc::EHOSTUNREACH).told(addr);
        assert!(lost.contains("10.0.0.1:9: No route to host"), "{lost}");
        assert!(Unreachable::NoFamily.told(addr).contains("no address of that family"));
    }

    #[test]
    fn each_kind_of_wrong_address_is_named() {
        let peer = PeerId([3; 32]);
        let err = |text: &str| text.parse::<PeerAddr>().unwrap_err();
        assert!(matches!(err("nonsense"), AddrInvalid::Form(_)));
        assert!(matches!(err("/ip4/::1/udp/1/quic-v1/p2p/x"), AddrInvalid::Form(_)));
        assert!(matches!(err("/ip4/1.2.3.4/tcp/1/p2p/x"), AddrInvalid::Form(_)));
        assert!(matches!(err("abc@1.2.3.4:5"), AddrInvalid::Peer(..)));
        assert!(matches!(err(&format!("{peer}@localhost:5")), AddrInvalid::Socket(..)));
        assert!(matches!(err(&format!("{peer}@1.2.3.4:0")), AddrInvalid::Undialable(_)));
        assert!(matches!(err(&format!("{peer}@0.0.0.0:9")), AddrInvalid::Undialable(_)));
        assert!(matches!(err(&format!("{peer}@[fe80::1]:9")), AddrInvalid::NoInterface(_)));
    }
}
