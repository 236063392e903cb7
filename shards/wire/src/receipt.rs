use pangea_base::{
    ChunkNumber, Hash, Identity, Locator, PeerId, ShardIndex, ShardKey, Signature, UnixTime,
    verify_signature,
};
use serde::{Deserialize, Serialize};

use crate::limits::{CHUNKS_MAX, LEASE_SECONDS_MAX, SHARD_BYTES_MAX};
use crate::units::span;
use crate::{Wrong, codec};

const RECEIPT_CONTEXT: &str = "pangea 2026-11 v1 receipt";
/// The version of receipts that this program gives, and takes as the answer to a put.
pub(crate) const RECEIPT_VERSION: u8 = 2;
/// The version that is still read in placement pages of version 1.
pub(crate) const RECEIPT_VERSION_OLD: u8 = 1;
const RECEIPT_SIGNED_BYTES: usize = 158;
const RECEIPT_OLD_SIGNED_BYTES: usize = 118;

/// A holder's signed word that it keeps a shard of an owner, durably, from a time until a time by
/// its own clock (PD-19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReceiptParts", into = "ReceiptParts")]
pub struct Receipt {
    /// 2; or 1, out of a placement page of version 1.
    pub version: u8,
    /// Who keeps it, and signs.
    pub holder: PeerId,
    /// Whose it is: who stored it. Version 1 does not say.
    pub owner: Option<PeerId>,
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
    /// When the lease began, by the holder's clock. Version 1 does not say.
    pub stored: Option<UnixTime>,
    /// When it ends, by the holder's clock.
    pub until: UnixTime,
    /// The holder's, over all of the above.
    pub signature: Signature,
}

/// A receipt of version 2 as it is sent alone.
#[derive(Serialize, Deserialize)]
struct ReceiptParts {
    version: u8,
    holder: PeerId,
    owner: PeerId,
    locator: Locator,
    chunk: ChunkNumber,
    index: ShardIndex,
    root: Hash,
    length: u64,
    stored: UnixTime,
    until: UnixTime,
    #[serde(with = "codec::signature")]
    signature: Signature,
}

impl From<ReceiptParts> for Receipt {
    fn from(parts: ReceiptParts) -> Receipt {
        let ReceiptParts { version, holder, locator, chunk, index, root, length, .. } = parts;
        let ReceiptParts { owner, stored, until, signature, .. } = parts;
        let (owner, stored) = (Some(owner), Some(stored));
        Receipt {
            version,
            holder,
            owner,
            locator,
            chunk,
            index,
            root,
            length,
            stored,
            until,
            signature,
        }
    }
}

impl From<Receipt> for ReceiptParts {
    fn from(receipt: Receipt) -> ReceiptParts {
        let Receipt { version, holder, locator, chunk, index, root, length, .. } = receipt;
        let Receipt { owner, stored, until, signature, .. } = receipt;
        let owner = owner.expect("a receipt of version 1 is never sent alone");
        let stored = stored.expect("a receipt of version 1 is never sent alone");
        ReceiptParts {
            version,
            holder,
            owner,
            locator,
            chunk,
            index,
            root,
            length,
            stored,
            until,
            signature,
        }
    }
}

/// What a receipt must say to answer a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptExpected {
    /// The peer that TLS proved to be at the other end.
    pub holder: PeerId,
    /// Who put it.
    pub owner: PeerId,
    /// The shard that was sent.
    pub key: ShardKey,
    /// Its root.
    pub root: Hash,
    /// Its bytes.
    pub length: u64,
    /// It must be kept for at least so long.
    pub lease_seconds: u64,
}

/// Why a receipt is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRefused {
    /// Another version, or not all of what its version says.
    #[error("the receipt has a version that this program does not take here")]
    Version,
    /// Of another holder than the one asked.
    #[error("the receipt is from another holder")]
    Holder,
    /// For what another peer stored.
    #[error("the receipt is for the shard of another owner")]
    Owner,
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
    #[error("the receipt is for {}", leases(*.gives, *.asked))]
    Lease {
        /// Seconds that it gives.
        gives: u64,
        /// Seconds that were asked for.
        asked: u64,
    },
    /// Not signed by the holder that it names.
    #[error("the receipt's signature is wrong: it was forged or damaged")]
    Signature,
}

impl Receipt {
    /// A receipt by `holder`, signed; the times are by its clock. Only for what is durable. Of a
    /// shard that was there before, because its first receipt was lost on the way, the times are
    /// those of then.
    pub fn issue(
        holder: &Identity,
        owner: PeerId,
        key: ShardKey,
        root: Hash,
        length: u64,
        stored: UnixTime,
        until: UnixTime,
    ) -> Receipt {
        let mut receipt = Receipt {
            version: RECEIPT_VERSION,
            holder: holder.peer(),
            owner: Some(owner),
            locator: key.locator,
            chunk: key.chunk,
            index: key.index,
            root,
            length,
            stored: Some(stored),
            until,
            signature: [0; 64],
        };
        let signed = receipt.signed_bytes().expect("it has all that version 2 says");
        receipt.signature = holder.sign(RECEIPT_CONTEXT, &signed);
        receipt
    }

    /// The shard that it is about.
    pub fn key(&self) -> ShardKey {
        ShardKey { locator: self.locator, chunk: self.chunk, index: self.index }
    }

    /// How long the shard is kept in all, in seconds: what a clock shows does not matter for it.
    /// `None` if the receipt does not say (version 1).
    pub fn lease_seconds(&self) -> Option<u64> {
        self.stored.map(|stored| self.until.0.saturating_sub(stored.0))
    }

    /// Whether it is for at least so many seconds.
    pub fn gives(&self, asked_seconds: u64) -> bool {
        self.lease_seconds().is_some_and(|gives| gives >= asked_seconds)
    }

    /// Whether the holder that it names signed it.
    pub fn verify(&self) -> Result<(), ReceiptRefused> {
        let signed = self.signed_bytes().ok_or(ReceiptRefused::Version)?;
        if !verify_signature(self.holder, RECEIPT_CONTEXT, &signed, &self.signature) {
            return Err(ReceiptRefused::Signature);
        }
        Ok(())
    }

    /// Whether it answers this very put, signature included.
    pub fn verify_answer(&self, expected: &ReceiptExpected) -> Result<(), ReceiptRefused> {
        if self.version != RECEIPT_VERSION {
            return Err(ReceiptRefused::Version);
        }
        if self.holder != expected.holder {
            return Err(ReceiptRefused::Holder);
        }
        if self.owner != Some(expected.owner) {
            return Err(ReceiptRefused::Owner);
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
        if !self.gives(expected.lease_seconds) {
            let gives = self.lease_seconds().unwrap_or(0);
            return Err(ReceiptRefused::Lease { gives, asked: expected.lease_seconds });
        }
        self.verify()
    }

    /// Whether its version is one that is sent alone.
    pub(crate) fn check_answer(&self) -> Result<(), Wrong> {
        if self.version != RECEIPT_VERSION {
            return Err(version_wrong(self.version));
        }
        self.check()
    }

    /// Whether its numbers can be, signature apart, in either version.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        match (self.version, self.owner, self.stored) {
            (RECEIPT_VERSION_OLD, None, None) => {}
            (RECEIPT_VERSION, Some(_), Some(stored)) => {
                let (stored, until) = (stored.0, self.until.0);
                let fits = |seconds: &u64| *seconds <= LEASE_SECONDS_MAX;
                if until.checked_sub(stored).filter(fits).is_none() {
                    return Err(Wrong::ReceiptTimes { stored, until });
                }
            }
            _ => return Err(version_wrong(self.version)),
        }
        check_shard(self.chunk, self.index, self.length)
    }

    /// `None` unless it has exactly what its version says: what is not signed must not be there.
    fn signed_bytes(&self) -> Option<Vec<u8>> {
        let (chunk, length) = (self.chunk.0.to_le_bytes(), self.length.to_le_bytes());
        let shard = [&self.locator.0[..], &chunk, &[self.index.0], &self.root.0, &length].concat();
        let until = self.until.0.to_le_bytes();
        let (bytes, expected) = match (self.version, self.owner, self.stored) {
            (RECEIPT_VERSION_OLD, None, None) => {
                let bytes = [&[self.version][..], &self.holder.0, &shard, &until].concat();
                (bytes, RECEIPT_OLD_SIGNED_BYTES)
            }
            (RECEIPT_VERSION, Some(owner), Some(stored)) => {
                let who = [&[self.version][..], &self.holder.0, &owner.0].concat();
                let bytes = [&who[..], &shard, &stored.0.to_le_bytes(), &until].concat();
                (bytes, RECEIPT_SIGNED_BYTES)
            }
            _ => return None,
        };
        debug_assert_eq!(bytes.len(), expected);
        Some(bytes)
    }
}

/// Both in words, or to the second where the words are the same.
fn leases(gives: u64, asked: u64) -> String {
    let [given, wanted] = [gives, asked].map(|seconds| span(seconds).to_string());
    if given == wanted {
        format!("{gives} seconds and not for the {asked} seconds that were asked for")
    } else {
        format!("{given} and not for the {wanted} that were asked for")
    }
}

/// A receipt of another version than the one that answers a put.
pub(crate) fn version_wrong(found: u8) -> Wrong {
    Wrong::Version { what: "receipt", found, known: RECEIPT_VERSION }
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

/// Bounds that hold for every lease that is asked for.
pub(crate) fn check_lease(seconds: u64) -> Result<(), Wrong> {
    if (1..=LEASE_SECONDS_MAX).contains(&seconds) { Ok(()) } else { Err(Wrong::Lease(seconds)) }
}
