//! Where others reach a node that serves at every address of its machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use pangea_base::{canonical, is_of_one_link};

/// An address that others can dial. For "every address of the machine" that is, the first that there
/// is of: the one from which it would call the Internet (nothing is sent); one of an interface that is
/// not only for this machine, rather of one that runs than not; one of a single link, with its
/// interface; this machine's own.
pub(crate) fn reachable(bound: SocketAddr) -> SocketAddr {
    let bound = canonical(bound);
    let port = bound.port();
    // 192.0.2.1 and 2001:db8::1 are in nobody's network (RFC 5737, RFC 3849).
    let four = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let six = (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let (families, own): (&[(IpAddr, IpAddr)], IpAddr) = match bound.ip() {
        ip if !ip.is_unspecified() => return bound,
        IpAddr::V4(_) => (&[four], Ipv4Addr::LOCALHOST.into()),
        // An IPv6 wildcard takes IPv4 too.
        IpAddr::V6(_) => (&[six, four], Ipv6Addr::LOCALHOST.into()),
    };
    let outward = families.iter().find_map(|(any, far)| outward(*any, *far));
    let outward = outward.map(|ip| SocketAddr::new(ip, port));
    outward.or_else(|| best(interfaces(), bound)).unwrap_or_else(|| SocketAddr::new(own, port))
}

/// The address from which a far one would be called, if there is a way to it.
fn outward(any: IpAddr, far: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let own = socket.local_addr().ok()?;
    let is_for_others = !own.ip().is_unspecified() && !own.ip().is_loopback();
    (is_for_others && !is_of_one_link(own)).then(|| own.ip())
}

/// An address of an interface.
#[derive(Debug, Clone, Copy)]
struct Place {
    ip: IpAddr,
    interface: u32,
    runs: bool,
}

/// All there are; none, if the system does not say.
fn interfaces() -> Vec<Place> {
    let place = |found: if_addrs::Interface| Place {
        ip: found.ip(),
        interface: found.index.unwrap_or(0),
        runs: found.is_oper_up(),
    };
    if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(place).collect()
}

/// The address by which others most likely reach who is bound to a wildcard: the first of an order that
/// depends on nothing else, so that it is the same after each start.
fn best(places: Vec<Place>, bound: SocketAddr) -> Option<SocketAddr> {
    let fits = |place: &Place| bound.is_ipv6() || place.ip.is_ipv4();
    let is_for_others = |place: &Place| {
        !place.ip.is_loopback() && !place.ip.is_unspecified() && !place.ip.is_multicast()
    };
    let addr = |place: &Place| match place.ip {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), bound.port()),
        IpAddr::V6(ip) => canonical(SocketAddrV6::new(ip, bound.port(), 0, place.interface).into()),
    };
    let rank = |place: &Place| {
        let one_link = match place.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        (one_link, !place.runs, place.interface, place.ip.is_ipv6() != bound.is_ipv6(), place.ip)
    };
    let places = places.into_iter().filter(|place| fits(place) && is_for_others(place));
    places.min_by_key(rank).map(|place| addr(&place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pangea_base::{PeerAddr, PeerId};

    fn told(bound: &str, places: &[(&str, u32, bool)]) -> Option<String> {
        let place = |(ip, interface, runs): &(&str, u32, bool)| Place {
            ip: ip.parse().unwrap(),
            interface: *interface,
            runs: *runs,
        };
        let places = places.iter().map(place).collect();
        best(places, bound.parse().unwrap()).map(|addr| addr.to_string())
    }

    #[test]
    fn the_address_that_is_told_can_be_dialled() {
        for addr in ["0.0.0.0:9090", "[::]:9090", "127.0.0.1:9090", "10.0.0.1:7"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let told = PeerAddr { peer: PeerId([1; 32]), addr: reachable(addr) };
            assert_eq!(told.to_string().parse(), Ok(told));
            assert_eq!(told.addr.port(), addr.port());
        }
    }

    #[test]
    fn without_a_way_out_an_interfaces_address_is_told() {
        let cable = [
            ("127.0.0.1", 1, true),
            ("::1", 1, true),
            ("172.17.0.1", 3, false),
            ("10.77.0.2", 4, true),
            ("fe80::2", 4, true),
            ("fd77::2", 4, true),
            ("192.168.5.5", 5, true),
        ];
        assert_eq!(told("0.0.0.0:9", &cable).unwrap(), "10.77.0.2:9");
        assert_eq!(told("[::]:9", &cable).unwrap(), "[fd77::2]:9");
        // What does not run now may run later; it is better than what only this machine reaches.
        assert_eq!(told("0.0.0.0:9", &cable[..3]).unwrap(), "172.17.0.1:9");
        assert_eq!(told("0.0.0.0:9", &cable[..2]), None);
        // An address of one link comes last, and with its interface.
        let link = [("169.254.7.7", 2, true), ("fe80::2", 2, true), ("::1", 1, true)];
        assert_eq!(told("[::]:9", &link[1..]).unwrap(), "[fe80::2%2]:9");
        assert_eq!(told("0.0.0.0:9", &link).unwrap(), "169.254.7.7:9");
        assert_eq!(told("0.0.0.0:9", &link[1..]), None);
    }
}
