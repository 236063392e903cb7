use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text that should name a peer or a hash and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdInvalid {
    /// Not base58 at all, or with a character that base58 leaves out.
    #[error("a peer id is base58 text such as 12D3KooW…, and this has other characters in it")]
    NotBase58,
    /// Base58, but not the 38 bytes of an Ed25519 peer id.
    #[error("this is not the id of an Ed25519 peer (it should begin with 12D3KooW)")]
    NotEd25519,
}

/// A peer: its Ed25519 public key. Text form: libp2p's peer id (`12D3KooW…`), which is base58 of
/// the identity multihash of the protobuf-encoded key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub [u8; 32]);

/// Identity multihash (0x00, 36 bytes) of the protobuf {type: Ed25519 (08 01), data (12 20)}.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    /// The binary form that libp2p uses: 6 prefix bytes and the 32 bytes of the key.
    pub fn to_multihash(self) -> [u8; 38] {
        let mut out = [0; 38];
        out[..6].copy_from_slice(&PEER_ID_PREFIX);
        out[6..].copy_from_slice(&self.0);
        out
    }

    /// The first characters that differ from peer to peer, for tables and logs.
    pub fn short(self) -> String {
        self.to_string().chars().skip(8).take(8).collect()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_multihash()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerId {
    type Err = IdInvalid;

    fn from_str(text: &str) -> Result<PeerId, IdInvalid> {
        let mut bytes = [0; 64];
        let length = bs58::decode(text).onto(&mut bytes[..]).map_err(|_| IdInvalid::NotBase58)?;
        let key = bytes
            .get(..length)
            .and_then(|b| b.strip_prefix(&PEER_ID_PREFIX))
            .ok_or(IdInvalid::NotEd25519)?;
        Ok(PeerId(key.try_into().map_err(|_| IdInvalid::NotEd25519)?))
    }
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("…)")
            }
        }
    };
}

hash_id! {
    /// A BLAKE3 hash.
    Hash
}
hash_id! {
    /// The public name under which an object is looked up and its shards are kept.
    Locator
}
hash_id! {
    /// The BLAKE3 hash of a manifest's sealed root page.
    ManifestId
}

impl Hash {
    /// BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

/// The number of a chunk within its object, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ChunkNumber(pub u32);

/// The number of a shard within its chunk, from 0; the first `k` are data, the rest parity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShardIndex(pub u8);

/// A pinned thread with its engine, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreId(pub u8);

impl CoreId {
    /// The number as an index into per-core tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names one shard in a holder's store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShardKey {
    /// The object's public name.
    pub locator: Locator,
    /// Which chunk of the object.
    pub chunk: ChunkNumber,
    /// Which shard of the chunk.
    pub index: ShardIndex,
}

/// Wall-clock seconds since 1970, for leases and expiry; never used to measure time.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This moment plus `duration`, in whole seconds; stays at the end of time on overflow.
    pub fn after(self, duration: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(duration.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_read_back_and_look_like_libp2p() {
        let peer = PeerId([0xa5; 32]);
        let text = peer.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse::<PeerId>(), Ok(peer));
    }

    #[test]
    fn a_damaged_peer_id_is_refused() {
        assert_eq!("".parse::<PeerId>(), Err(IdInvalid::NotEd25519));
        assert_eq!("0OIl".parse::<PeerId>(), Err(IdInvalid::NotBase58));
        assert_eq!("12D3KooW".parse::<PeerId>(), Err(IdInvalid::NotEd25519));
        let long = "1".repeat(500);
        assert!(long.parse::<PeerId>().is_err());
        let mut text = PeerId([1; 32]).to_string();
        text.pop();
        assert!(text.parse::<PeerId>().is_err());
    }
}
