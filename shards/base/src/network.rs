use std::net::IpAddr;

/// The most cores a node uses; a core's number has to fit the first byte of a connection id.
pub const CORES_MAX: usize = 128;

const _: () = assert!(CORES_MAX <= u8::MAX as usize);

/// The network that a peer calls from: /24 of IPv4, /48 of IPv6. Loopback has none: those callers
/// are this machine's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Prefix(pub Option<[u8; 6]>);

impl Prefix {
    /// The network of an address. IPv4 within IPv6 is IPv4.
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

    fn of(text: &str) -> Prefix {
        Prefix::of(text.parse().unwrap())
    }

    #[test]
    fn neighbours_share_a_network_and_an_address_has_one_however_it_is_written() {
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:ffff::9"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    }

    #[test]
    fn this_machine_is_no_network() {
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(text), Prefix::default(), "{text}");
        }
    }
}
