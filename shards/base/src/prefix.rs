use std::net::IpAddr;

/// The network a peer calls from: /24 of IPv4, /48 of IPv6. Loopback has none: those callers are
/// this machine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Prefix(pub Option<[u8; 6]>);

impl Prefix {
    /// The network of an address. An IPv4 one written as IPv6 is the same as without.
    pub fn of(ip: IpAddr) -> Prefix {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Prefix(None);
        }
        Prefix(Some(match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                [4, 0, 0, a, b, c]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                [a, b, c, d, e, f]
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_of_one_network_and_this_machine_of_none() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.7"), of("192.0.2.200"));
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.7"), of("192.0.3.7"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:ffff::1"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(here), Prefix::default());
        }
    }
}
