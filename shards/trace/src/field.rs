//! What an event's fields are made of: fixed sizes, little-endian, no padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of an event's own fields.
pub const PAYLOAD_BYTES: usize = 48;

/// An event's own fields, as bytes.
pub type Payload = [u8; PAYLOAD_BYTES];

/// A field's value, for whoever shows events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An address.
    Address(SocketAddr),
}

/// A type that a field may have.
pub trait Field: Copy {
    /// How many bytes it takes.
    const BYTES: usize;

    /// Writes it at a place that the table has checked to be inside.
    fn put(self, payload: &mut Payload, at: usize);

    /// Reads it. Every combination of bytes is a value: these may come from a file.
    fn take(payload: &Payload, at: usize) -> Self;

    /// For whoever shows it.
    fn value(self) -> Value;
}

macro_rules! number {
    ($($type:ty),+) => {$(
        impl Field for $type {
            const BYTES: usize = size_of::<$type>();

            #[inline(always)]
            fn put(self, payload: &mut Payload, at: usize) {
                self.to_le_bytes().put(payload, at);
            }

            #[inline]
            fn take(payload: &Payload, at: usize) -> Self {
                <$type>::from_le_bytes(Field::take(payload, at))
            }

            fn value(self) -> Value {
                Value::Number(u64::from(self))
            }
        }
    )+};
}

number!(u8, u16, u32, u64);

impl<const N: usize> Field for [u8; N] {
    const BYTES: usize = N;

    #[inline(always)]
    fn put(self, payload: &mut Payload, at: usize) {
        if let Some(place) = payload.get_mut(at..at + N) {
            place.copy_from_slice(&self);
        }
    }

    #[inline]
    fn take(payload: &Payload, at: usize) -> Self {
        payload.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    fn value(self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

/// Family (4 or 6), port, 16 bytes of address, flow and scope: nothing of an address is lost.
impl Field for SocketAddr {
    const BYTES: usize = 27;

    fn put(self, payload: &mut Payload, at: usize) {
        let (family, ip, flow, scope) = match self {
            SocketAddr::V4(v4) => (4u8, v4.ip().to_ipv6_mapped(), 0, 0),
            SocketAddr::V6(v6) => (6u8, *v6.ip(), v6.flowinfo(), v6.scope_id()),
        };
        family.put(payload, at);
        self.port().put(payload, at + 1);
        ip.octets().put(payload, at + 3);
        flow.put(payload, at + 19);
        scope.put(payload, at + 23);
    }

    fn take(payload: &Payload, at: usize) -> Self {
        let port = u16::take(payload, at + 1);
        let ip = Ipv6Addr::from(<[u8; 16]>::take(payload, at + 3));
        if u8::take(payload, at) == 6 {
            let (flow, scope) = (u32::take(payload, at + 19), u32::take(payload, at + 23));
            return SocketAddrV6::new(ip, port, flow, scope).into();
        }
        let v4 = match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddrV4::new(v4, port).into()
    }

    fn value(self) -> Value {
        Value::Address(self)
    }
}
