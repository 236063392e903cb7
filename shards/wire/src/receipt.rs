use pangea_base::{
    ChunkNumber, Hash, Identity, Locator, PeerId, ShardIndex, ShardKey, Signature, UnixTime,
    verify_signature,
};
use serde::{Deserialize, Serialize};

use crate::limits::{CHUNKS_MAX, SHARD_BYTES_MAX};
use crate::{Wrong, codec};

const RECEIPT_CONTEXT: &str = "pangea 2026-11 v1 receipt";
const RECEIPT_VERSION: u8 = 1;
const RECEIPT_SIGNED_BYTES: usize = 118;

/// A holder's signed word that it keeps a shard, durably, until a time (PD-19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// 1.
    pub version: u8,
    /// Who keeps it, and signs.
    pub holder: PeerId,
    /// Of which object.
    pub locator: Locator,
    /// Of which chunk.
    pub chunk: ChunkNumber,
    /// Which shard.
    pub index: ShardIndex,
    /// The shard's BLAKE3 root, computed by the holder while it wrote.
    pub root: Hash,
    /// The shard's bytes.
    pub length: u64,
    /// Kept until then.
    pub lease: UnixTime,
    /// The holder's, over all of the above.
    #[serde(with = "codec::signature")]
    pub signature: Signature,
}

/// What a receipt must say to answer a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptExpected {
    /// The peer that TLS proved to be at the other end.
    pub holder: PeerId,
    /// The shard that was sent.
    pub key: ShardKey,
    /// Its root.
    pub root: Hash,
    /// Its bytes.
    pub length: u64,
    /// It must be kept at least until then.
    pub lease_min: UnixTime,
}

/// Why a receipt is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRefused {
    /// Another version.
    #[error("the receipt has a version that this node does not know")]
    Version,
    /// Of another holder than the one asked.
    #[error("the receipt is from another holder")]
    Holder,
    /// For another object.
    #[error("the receipt is for another object")]
    Locator,
    /// For another shard.
    #[error("the receipt is for another shard")]
    Shard,
    /// For other bytes.
    #[error("the receipt's root or length is not that of the shard")]
    Content,
    /// Too short a lease.
    #[error("the receipt's lease ends too early")]
    Lease,
    /// Not signed by the holder that it names.
    #[error("the receipt's signature is wrong: it was forged or damaged")]
    Signature,
}

impl Receipt {
    /// A receipt by `holder`, signed. Only for what is durable.
    pub fn issue(
        holder: &Identity,
        key: ShardKey,
        root: Hash,
        length: u64,
        lease: UnixTime,
    ) -> Receipt {
        let mut receipt = Receipt {
            version: RECEIPT_VERSION,
            holder: holder.peer(),
            locator: key.locator,
            chunk: key.chunk,
            index: key.index,
            root,
            length,
            lease,
            signature: [0; 64],
        };
        receipt.signature = holder.sign(RECEIPT_CONTEXT, &receipt.signed_bytes());
        receipt
    }

    /// The shard that it is about.
    pub fn key(&self) -> ShardKey {
        ShardKey { locator: self.locator, chunk: self.chunk, index: self.index }
    }

    /// Whether the holder that it names signed it.
    pub fn verify(&self) -> Result<(), ReceiptRefused> {
        if self.version != RECEIPT_VERSION {
            return Err(ReceiptRefused::Version);
        }
        let signed = self.signed_bytes();
        if !verify_signature(self.holder, RECEIPT_CONTEXT, &signed, &self.signature) {
            return Err(ReceiptRefused::Signature);
        }
        Ok(())
    }

    /// Whether it answers this very put, signature included.
    pub fn verify_answer(&self, expected: &ReceiptExpected) -> Result<(), ReceiptRefused> {
        if self.holder != expected.holder {
            return Err(ReceiptRefused::Holder);
        }
        if self.locator != expected.key.locator {
            return Err(ReceiptRefused::Locator);
        }
        if self.key() != expected.key {
            return Err(ReceiptRefused::Shard);
        }
        if self.root != expected.root || self.length != expected.length {
            return Err(ReceiptRefused::Content);
        }
        if self.lease < expected.lease_min {
            return Err(ReceiptRefused::Lease);
        }
        self.verify()
    }

    /// Whether its numbers can be, signature apart.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.version != RECEIPT_VERSION {
            return Err(Wrong::Version { what: "receipt", found: self.version });
        }
        check_shard(self.chunk, self.index, self.length)
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let bytes = [
            &[self.version][..],
            &self.holder.0,
            &self.locator.0,
            &self.chunk.0.to_le_bytes(),
            &[self.index.0],
            &self.root.0,
            &self.length.to_le_bytes(),
            &self.lease.0.to_le_bytes(),
        ]
        .concat();
        debug_assert_eq!(bytes.len(), RECEIPT_SIGNED_BYTES);
        bytes
    }
}

/// Bounds that hold for every shard anywhere.
pub(crate) fn check_shard(chunk: ChunkNumber, index: ShardIndex, length: u64) -> Result<(), Wrong> {
    check_key(chunk, index)?;
    match length {
        0 => Err(Wrong::Empty),
        1..=SHARD_BYTES_MAX => Ok(()),
        _ => Err(Wrong::ShardTooLong(length)),
    }
}

/// Bounds that hold for every shard's name.
pub(crate) fn check_key(chunk: ChunkNumber, index: ShardIndex) -> Result<(), Wrong> {
    let shards = pangea_base::Code::SHARDS_MAX;
    if chunk.0 >= CHUNKS_MAX {
        return Err(Wrong::Chunk(chunk.0));
    }
    if usize::from(index.0) >= shards {
        return Err(Wrong::Index { index: index.0, shards });
    }
    Ok(())
}
