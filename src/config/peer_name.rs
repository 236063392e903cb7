//! A peer as a person names it: by its address, or by the name of its host.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use pangea_base::{AddrInvalid, PeerAddr, PeerId};

/// The longest name of a host (RFC 1035), and of an address with an interface.
const HOST_BYTES_MAX: usize = 253;

/// `PEERID@HOST:PORT`, where the host is an address, one with an interface (`[fe80::1%eth0]`), or a
/// name; or a multiaddr. Only read here: names are looked up by [`crate::names::look_up`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerName {
    /// Nothing to look up.
    At(PeerAddr),
    /// The system knows where that is.
    Named {
        /// The key that the peer must prove to own.
        peer: PeerId,
        /// A host's name, or an address with the name of an interface.
        host: String,
        /// UDP port.
        port: u16,
    },
}

impl PeerName {
    /// Who it is, wherever.
    pub fn peer(&self) -> PeerId {
        match self {
            PeerName::At(at) => at.peer,
            PeerName::Named { peer, .. } => *peer,
        }
    }
}

impl FromStr for PeerName {
    type Err = AddrInvalid;

    fn from_str(text: &str) -> Result<PeerName, AddrInvalid> {
        match text.parse::<PeerAddr>() {
            Ok(at) => Ok(PeerName::At(at)),
            // It has a peer and is no address: perhaps a name.
            Err(refused @ AddrInvalid::Socket(..)) => named(text).ok_or(refused)?,
            Err(refused) => Err(refused),
        }
    }
}

/// `None`: what is behind the `@` cannot be a host and a port.
fn named(text: &str) -> Option<Result<PeerName, AddrInvalid>> {
    let (peer, place) = text.split_once('@')?;
    let (host, port) = place.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').filter(|inside| is_of_interface(inside))?,
        None => Some(host).filter(|host| is_name(host))?,
    };
    let said = || text.chars().take(200).collect();
    let peer = peer.parse().map_err(|cause| AddrInvalid::Peer(said(), cause));
    Some(peer.map(|peer| PeerName::Named { peer, host: host.to_owned(), port }))
}

/// Letters, digits, `-`, `_` and dots, and not all digits: `10.1` and `4711` are mistyped addresses,
/// which a resolver would take for others.
fn is_name(host: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    !last.is_empty()
        && host.len() <= HOST_BYTES_MAX
        && host.chars().all(fits)
        && !last.chars().all(|c| c.is_ascii_digit())
}

/// An IPv6 address with the name of an interface.
fn is_of_interface(host: &str) -> bool {
    let Some((ip, interface)) = host.split_once('%') else { return false };
    let fits = |c: char| c.is_ascii_graphic() && !"%/".contains(c);
    host.len() <= HOST_BYTES_MAX
        && ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local())
        && !interface.is_empty()
        && interface.chars().all(fits)
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::At(at) => write!(f, "{at}"),
            PeerName::Named { peer, host, port } if host.contains(':') => {
                write!(f, "{peer}@[{host}]:{port}")
            }
            PeerName::Named { peer, host, port } => write!(f, "{peer}@{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(place: &str) -> Result<PeerName, AddrInvalid> {
        format!("{}@{place}", PeerId([3; 32])).parse()
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for place in ["10.0.0.1:9", "[2001:db8::1]:9", "[fe80::1%2]:9", "[::ffff:10.0.0.1]:9"] {
            assert!(matches!(read(place), Ok(PeerName::At(_))), "{place}");
        }
        for (place, host) in [
            ("localhost:9", "localhost"),
            ("shelf.example.org:9090", "shelf.example.org"),
            ("shelf.example.org.:9090", "shelf.example.org."),
            ("my_nas.local:9", "my_nas.local"),
            ("bücher.example:9", "bücher.example"),
            ("[fe80::1%eth0]:9100", "fe80::1%eth0"),
            ("[fe80::1%wlp0s20f3.7]:9100", "fe80::1%wlp0s20f3.7"),
        ] {
            let read = read(place).unwrap();
            assert!(matches!(&read, PeerName::Named { host: h, .. } if h == host), "{place}");
            assert_eq!(read.to_string().parse(), Ok(read), "{place}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_and_named() {
        for place in [
            "",
            ":9",
            "host",
            "host:0",
            "host:70000",
            "host:x",
            "ho st:9",
            "10.0.0:9",
            "4711:9",
            "1.2.3.4.5:9",
            "[host]:9",
            "[fe80::1%]:9",
            "[2001:db8::1%eth0]:9",
            "[fe80::1%a b]:9",
            "a/b:9",
            "..:9",
            "host:9:9",
        ] {
            let refused = read(place).unwrap_err();
            assert!(matches!(refused, AddrInvalid::Socket(..)), "{place}: {refused}");
        }
        assert!(read(&format!("{}:9", "a".repeat(254))).is_err());
        assert!(matches!(read("[fe80::1]:9"), Err(AddrInvalid::NoInterface(_))));
        assert!(matches!(read("0.0.0.0:9"), Err(AddrInvalid::Undialable(_))));
        assert!(matches!("abc@host:9".parse::<PeerName>(), Err(AddrInvalid::Peer(..))));
        assert!(matches!("host:9".parse::<PeerName>(), Err(AddrInvalid::Form(_))));
    }
}
