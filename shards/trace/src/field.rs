//! What an event's fields are made of: fixed sizes, little-endian, no padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of an event's own fields.
pub const PAYLOAD_BYTES: usize = 48;

/// An event's own fields, as bytes.
pub type Payload = [u8; PAYLOAD_BYTES];

/// The same as words of which the first byte is the lowest. An event is put together in these: its
/// fields stay in registers, where bytes would be written to memory in small pieces and read again
/// in large ones, and the processor waits for that.
pub type PayloadWords = [u64; PAYLOAD_BYTES / 8];

/// Words as bytes.
#[inline(always)]
pub(crate) fn to_payload(words: &PayloadWords) -> Payload {
    let mut payload = [0; PAYLOAD_BYTES];
    for (place, word) in payload.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    payload
}

/// Puts a number of up to eight bytes into words that are zero there.
#[inline(always)]
fn put_number(number: u64, bytes: usize, words: &mut PayloadWords, at: usize) {
    let (word, shift) = (at / 8, at % 8 * 8);
    if let Some(low) = words.get_mut(word) {
        *low |= number << shift;
    }
    // What does not fit goes on in the next word.
    if shift + bytes * 8 > 64
        && let Some(high) = words.get_mut(word + 1)
    {
        *high |= number >> (64 - shift);
    }
}

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

    /// Writes it at a place, in bytes, that the table has checked to be inside and that is zero.
    fn put(self, words: &mut PayloadWords, at: usize);

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
            fn put(self, words: &mut PayloadWords, at: usize) {
                put_number(u64::from(self), Self::BYTES, words, at);
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
    fn put(self, words: &mut PayloadWords, at: usize) {
        let (whole, rest) = self.as_chunks::<8>();
        for (word, place) in whole.iter().zip((at..).step_by(8)) {
            put_number(u64::from_le_bytes(*word), 8, words, place);
        }
        for (byte, place) in rest.iter().zip(at + N - rest.len()..) {
            put_number(u64::from(*byte), 1, words, place);
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

    #[inline]
    fn put(self, words: &mut PayloadWords, at: usize) {
        let (family, ip, flow, scope) = match self {
            SocketAddr::V4(v4) => (4u8, v4.ip().to_ipv6_mapped(), 0, 0),
            SocketAddr::V6(v6) => (6u8, *v6.ip(), v6.flowinfo(), v6.scope_id()),
        };
        family.put(words, at);
        self.port().put(words, at + 1);
        ip.octets().put(words, at + 3);
        flow.put(words, at + 19);
        scope.put(words, at + 23);
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
