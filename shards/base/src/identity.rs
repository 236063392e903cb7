use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::{PeerId, Secret};

/// Length of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 signature (RFC 8032).
pub type Signature = [u8; SIGNATURE_BYTES];

/// An Ed25519 key pair: who a node or a command line is. Its public half is the [`PeerId`].
pub struct Identity {
    pair: Ed25519KeyPair,
    seed: Secret,
    peer: PeerId,
}

impl Identity {
    /// The key pair of a 32-byte seed (RFC 8032's private key).
    pub fn from_seed(seed: Secret) -> Identity {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .expect("every 32-byte seed is an Ed25519 key");
        let public = pair.public_key().as_ref();
        let peer = PeerId(public.try_into().expect("an Ed25519 public key has 32 bytes"));
        Identity { pair, seed, peer }
    }

    /// The public half.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The private half, for the certificate maker and the key file. Handle with care.
    pub fn seed(&self) -> &Secret {
        &self.seed
    }

    /// Signs `context`, a zero byte, then `message`. Every kind of signature has its own context,
    /// so that none can be taken for another.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> Signature {
        let signature = self.pair.sign(&signed_bytes(context, message));
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer)
    }
}

/// Whether `peer` signed `message` in `context`.
#[must_use]
pub fn verify_signature(
    peer: PeerId,
    context: &'static str,
    message: &[u8],
    signature: &Signature,
) -> bool {
    UnparsedPublicKey::new(&ED25519, &peer.0)
        .verify(&signed_bytes(context, message), signature)
        .is_ok()
}

fn signed_bytes(context: &'static str, message: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_context_message_and_signer_only() {
        let a = Identity::from_seed(Secret::new([1; 32]));
        let b = Identity::from_seed(Secret::new([2; 32]));
        let signature = a.sign("pangea test", b"hello");
        assert!(verify_signature(a.peer(), "pangea test", b"hello", &signature));
        assert!(!verify_signature(a.peer(), "pangea other", b"hello", &signature));
        assert!(!verify_signature(a.peer(), "pangea test", b"hullo", &signature));
        assert!(!verify_signature(b.peer(), "pangea test", b"hello", &signature));
        let mut bent = signature;
        bent[63] ^= 1;
        assert!(!verify_signature(a.peer(), "pangea test", b"hello", &bent));
    }

    #[test]
    fn debug_shows_the_peer_and_not_the_seed() {
        let identity = Identity::from_seed(Secret::new([0xcd; 32]));
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.peer()));
    }
}
