use pangea_base::{Hash, Identity, Locator, PeerId, Signature, UnixTime, verify_signature};
use serde::{Deserialize, Serialize};

use crate::limits::{CLOCK_SLACK, GRANT_LIFETIME_MAX};
use crate::{Wrong, codec};

/// Label under which the proof's 32 bytes are exported from TLS (RFC 5705, RFC 8446 section 7.5),
/// with an empty context.
pub const AUTH_EXPORTER_LABEL: &[u8] = b"EXPORTER-pangea-auth-1";
/// Bytes that are exported.
pub const AUTH_EXPORTER_BYTES: usize = 32;

const GRANT_CONTEXT: &str = "pangea 2026-11 v1 grant";
const AUTH_CONTEXT: &str = "pangea 2026-11 v1 auth";
/// The version of grants that this program gives and takes.
pub(crate) const GRANT_VERSION: u8 = 2;
const GRANT_SIGNED_BYTES: usize = 137;

/// A holder's signed reservation for one origin: so many bytes under one locator for a time
/// (PD-03). Worthless to anyone else: using it takes the origin's key and the very connection. Its
/// times are by the holder's clock, and nobody but the holder asks whether it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// 2.
    pub version: u8,
    /// Who gives it, and signs it.
    pub holder: PeerId,
    /// Who may use it.
    pub origin: PeerId,
    /// For which object.
    pub locator: Locator,
    /// Most bytes in all.
    pub bytes_max: u64,
    /// When the holder signed it, by its own clock.
    pub issued: UnixTime,
    /// Over so many seconds later; 1 to [`GRANT_LIFETIME_MAX`].
    pub lifetime_seconds: u64,
    /// Tells two grants apart.
    pub nonce: [u8; 16],
    /// The holder's, over all of the above.
    #[serde(with = "codec::signature")]
    pub signature: Signature,
}

/// Why a grant is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GrantRefused {
    /// Another version.
    #[error("the grant has a version that this node does not know")]
    Version,
    /// Made by another holder.
    #[error("the grant was given by another holder")]
    Holder,
    /// Made for another origin.
    #[error("the grant was given to another origin")]
    Origin,
    /// Made for another object.
    #[error("the grant is for another object")]
    Locator,
    /// Over, by the holder's clock.
    #[error("the grant is over by its holder's clock; ask for a new one")]
    Over,
    /// Not signed by the holder that it names.
    #[error("the grant's signature is wrong: it was forged or damaged")]
    Signature,
}

/// Why an [`AuthChallenge`] is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AuthRefused {
    /// The grant itself.
    #[error(transparent)]
    Grant(#[from] GrantRefused),
    /// The proof is not the origin's over this connection: replayed, or of another connection.
    #[error("the proof that the grant is yours is wrong, or was made for another connection")]
    Proof,
}

impl Grant {
    /// A grant by `holder`, signed; `issued` is by the holder's clock.
    pub fn issue(
        holder: &Identity,
        origin: PeerId,
        locator: Locator,
        bytes_max: u64,
        issued: UnixTime,
        lifetime_seconds: u64,
        nonce: [u8; 16],
    ) -> Grant {
        let mut grant = Grant {
            version: GRANT_VERSION,
            holder: holder.peer(),
            origin,
            locator,
            bytes_max,
            issued,
            lifetime_seconds,
            nonce,
            signature: [0; 64],
        };
        grant.signature = holder.sign(GRANT_CONTEXT, &grant.signed_bytes());
        grant
    }

    /// Whether `holder` gave this to `origin` for `locator`. Says nothing of its age: see
    /// [`Grant::is_over`].
    pub fn verify_signed(
        &self,
        holder: PeerId,
        origin: PeerId,
        locator: Locator,
    ) -> Result<(), GrantRefused> {
        if self.version != GRANT_VERSION {
            return Err(GrantRefused::Version);
        }
        if self.holder != holder {
            return Err(GrantRefused::Holder);
        }
        if self.origin != origin {
            return Err(GrantRefused::Origin);
        }
        if self.locator != locator {
            return Err(GrantRefused::Locator);
        }
        if !verify_signature(holder, GRANT_CONTEXT, &self.signed_bytes(), &self.signature) {
            return Err(GrantRefused::Signature);
        }
        Ok(())
    }

    /// Whether it is over at `now` by the clock of the holder that gave it. So is one that comes
    /// from further ahead than the slack: the clock was set back since, and how old it is cannot
    /// be told. What the holder gave in this very run it can tell better by a steady clock.
    pub fn is_over(&self, now: UnixTime) -> bool {
        let ends = self.issued.0.saturating_add(self.lifetime_seconds);
        let early = self.issued.0.saturating_sub(CLOCK_SLACK.as_secs());
        now.0 >= ends || now.0 < early
    }

    /// Names this very grant, signature included.
    pub fn hash(&self) -> Hash {
        Hash::of(&[self.signed_bytes().as_slice(), &self.signature].concat())
    }

    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.version != GRANT_VERSION {
            return Err(version_wrong(self.version));
        }
        if !(1..=GRANT_LIFETIME_MAX.as_secs()).contains(&self.lifetime_seconds) {
            return Err(Wrong::GrantLifetime(self.lifetime_seconds));
        }
        Ok(())
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let bytes = [
            &[self.version][..],
            &self.holder.0,
            &self.origin.0,
            &self.locator.0,
            &self.bytes_max.to_le_bytes(),
            &self.issued.0.to_le_bytes(),
            &self.lifetime_seconds.to_le_bytes(),
            &self.nonce,
        ]
        .concat();
        debug_assert_eq!(bytes.len(), GRANT_SIGNED_BYTES);
        bytes
    }
}

/// A grant of another version than ours.
pub(crate) fn version_wrong(found: u8) -> Wrong {
    Wrong::Version { what: "grant", found, known: GRANT_VERSION }
}

/// A grant, and the origin's proof that it is at the other end of this very connection: its
/// signature over the TLS exporter value and the grant. Replayed elsewhere it is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthChallenge {
    /// The reservation.
    pub grant: Grant,
    /// The origin's, over the exporter value and the grant's hash.
    #[serde(with = "codec::signature")]
    pub proof: Signature,
}

/// What the holder knows of the connection and the request that an [`AuthChallenge`] came with.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    /// Exported from this connection's TLS under [`AUTH_EXPORTER_LABEL`].
    pub exporter: &'a [u8; AUTH_EXPORTER_BYTES],
    /// This node.
    pub holder: PeerId,
    /// The peer at the other end, as TLS proved it.
    pub origin: PeerId,
    /// What the request is about.
    pub locator: Locator,
}

impl AuthChallenge {
    /// The origin's proof for this connection.
    pub fn new(
        origin: &Identity,
        grant: Grant,
        exporter: &[u8; AUTH_EXPORTER_BYTES],
    ) -> AuthChallenge {
        let proof = origin.sign(AUTH_CONTEXT, &proof_bytes(&grant, exporter));
        AuthChallenge { grant, proof }
    }

    /// Whether the grant is ours, for this peer and this object, and proven on this connection.
    /// Says nothing of its age: see [`Grant::is_over`].
    pub fn verify(&self, channel: &Channel<'_>) -> Result<(), AuthRefused> {
        let Channel { exporter, holder, origin, locator } = *channel;
        self.grant.verify_signed(holder, origin, locator)?;
        let proven = proof_bytes(&self.grant, exporter);
        if !verify_signature(origin, AUTH_CONTEXT, &proven, &self.proof) {
            return Err(AuthRefused::Proof);
        }
        Ok(())
    }
}

fn proof_bytes(grant: &Grant, exporter: &[u8; AUTH_EXPORTER_BYTES]) -> Vec<u8> {
    [&exporter[..], &grant.hash().0].concat()
}
