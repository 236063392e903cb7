//! Postcard with three rules of our own: nothing may follow a value, a value has one encoding, and
//! a list is refused at its limit before it is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Bytes that are not what they should encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The bytes stop inside a value.
    #[error("it ends in the middle of a value")]
    EndsEarly,
    /// Bytes follow the value.
    #[error("{0} bytes follow its end")]
    TrailingBytes(usize),
    /// A number written with more bytes than it needs: a value has one encoding here.
    #[error("a number in it is written with more bytes than it needs")]
    NotShortest,
    /// A kind of message or of field that this version does not know, or a value whose type
    /// forbids it: an impossible erasure code, a list over its limit.
    #[error("it has an unknown kind, an impossible erasure code, or a list longer than its limit")]
    OutOfBounds,
    /// A bit pattern that no value has.
    #[error("a field in it has a bit pattern that stands for nothing")]
    BadField,
}

/// The one value that `bytes` encode.
pub(crate) fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Undecodable> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(cause)?;
    if !rest.is_empty() {
        return Err(Undecodable::TrailingBytes(rest.len()));
    }
    // Only numbers can be written in more than one way, and always in more bytes than the
    // shortest: so equal length means equal bytes.
    if encoded_bytes(&value) != bytes.len() {
        return Err(Undecodable::NotShortest);
    }
    Ok(value)
}

fn cause(error: postcard::Error) -> Undecodable {
    match error {
        postcard::Error::DeserializeUnexpectedEnd => Undecodable::EndsEarly,
        postcard::Error::SerdeDeCustom => Undecodable::OutOfBounds,
        _ => Undecodable::BadField,
    }
}

/// The bytes of a value of ours.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our own types always encode into memory")
}

/// How many bytes a value encodes to, without encoding it.
pub(crate) fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    let size = postcard::ser_flavors::Size::default();
    postcard::serialize_with_flavor(value, size).expect("our own types always encode")
}

/// A list of at most `MAX` elements; refuses before it keeps one more.
pub(crate) fn bounded<'de, D, T, const MAX: usize>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            if list.size_hint().is_some_and(|count| count > MAX) {
                return Err(A::Error::custom("too long"));
            }
            // Grown as elements really arrive: the announced count allocates nothing.
            let mut out = Vec::new();
            while let Some(element) = list.next_element()? {
                if out.len() >= MAX {
                    return Err(A::Error::custom("too long"));
                }
                out.push(element);
            }
            Ok(out)
        }
    }
    input.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

/// 64 raw bytes, for which serde has no form of its own.
pub(crate) mod signature {
    use pangea_base::{SIGNATURE_BYTES, Signature};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const HALF: usize = SIGNATURE_BYTES / 2;

    pub fn serialize<S: Serializer>(signature: &Signature, out: S) -> Result<S::Ok, S::Error> {
        let (first, second) = signature.split_at(HALF);
        let halves: Option<(&[u8; HALF], &[u8; HALF])> =
            first.first_chunk().zip(second.first_chunk());
        halves.expect("a signature has two halves").serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Signature, D::Error> {
        let halves = <[[u8; HALF]; 2]>::deserialize(input)?;
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(halves.as_flattened());
        Ok(signature)
    }
}
