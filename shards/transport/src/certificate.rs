//! Certificates of peers (libp2p specs, tls/tls.md): read, and checked for everything but the day.
//!
//! A peer is named by its key, and its certificate is made anew whenever it starts: nothing follows
//! from the dates that it writes into it. What would follow from checking them is that nobody whose
//! clock is wrong reaches anybody, and is told of a bad certificate instead of a bad clock.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use libp2p_identity::PublicKey;
use pangea_base::PeerId;
use rustls::SignatureScheme;
use x509_parser::asn1_rs::{FromDer, OctetString, Sequence};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry;

/// The libp2p public key extension: 1.3.6.1.4.1.53594.1.1.
const EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

/// What stands before the certificate's key where the host key has signed it.
const SIGNING_PREFIX: &[u8] = b"libp2p-tls-handshake:";

/// Identity multihash of a protobuf-encoded Ed25519 key: what stands before the key in a peer id.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// What is wrong with a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CertificateRefused {
    #[error("it is no X.509 certificate")]
    NotX509,
    #[error("it has a critical extension that nobody knows")]
    UnknownExtension,
    #[error("it does not have one libp2p extension")]
    NotOneExtension,
    #[error("its libp2p extension is not well formed")]
    BadExtension,
    #[error("its host key is not an Ed25519 key")]
    NotEd25519,
    #[error("it is signed with an algorithm that is not spoken here")]
    UnknownAlgorithm,
    #[error("it is not signed by its own key")]
    SelfSignature,
    #[error("its host key has not signed it")]
    HostSignature,
    #[error("the handshake is not signed by its key")]
    Handshake,
}

/// A certificate whose signatures are right.
pub(crate) struct Certificate<'a> {
    x509: X509Certificate<'a>,
    algorithm: Algorithm,
    peer: PeerId,
}

impl<'a> Certificate<'a> {
    /// Reads and checks it: signed by its own key, and that key by the host key.
    pub(crate) fn read(der: &'a [u8]) -> Result<Certificate<'a>, CertificateRefused> {
        let (_, x509) = X509Certificate::from_der(der).map_err(|_| CertificateRefused::NotX509)?;
        let algorithm = Algorithm::of(&x509)?;
        let signed = x509.tbs_certificate.as_ref();
        if !algorithm.has_signed(&x509, signed, &x509.signature_value.data) {
            return Err(CertificateRefused::SelfSignature);
        }
        let (host, signature) = host_key(&x509)?;
        let message = [SIGNING_PREFIX, x509.public_key().raw].concat();
        if !host.verify(&message, &signature) {
            return Err(CertificateRefused::HostSignature);
        }
        let id = host.to_peer_id().to_bytes();
        let key = id.strip_prefix(&ED25519_PREFIX).and_then(|key| key.try_into().ok());
        let peer = key.map(PeerId).ok_or(CertificateRefused::NotEd25519)?;
        Ok(Certificate { x509, algorithm, peer })
    }

    /// Whose it is.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whether its key has signed this message of the handshake.
    pub(crate) fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CertificateRefused> {
        let is_signed = self.algorithm.scheme == scheme
            && self.algorithm.has_signed(&self.x509, message, signature);
        if is_signed { Ok(()) } else { Err(CertificateRefused::Handshake) }
    }
}

/// The host key and its signature, out of the one libp2p extension.
fn host_key(x509: &X509Certificate<'_>) -> Result<(PublicKey, Vec<u8>), CertificateRefused> {
    let ours = Oid::from(&EXTENSION).map_err(|_| CertificateRefused::NotOneExtension)?;
    let (mut found, others): (Vec<_>, Vec<_>) =
        x509.extensions().iter().partition(|extension| extension.oid == ours);
    if others.iter().any(|extension| extension.critical) {
        return Err(CertificateRefused::UnknownExtension);
    }
    let (Some(extension), true) = (found.pop(), found.is_empty()) else {
        return Err(CertificateRefused::NotOneExtension);
    };
    let (key, signature) = signed_key(extension.value).ok_or(CertificateRefused::BadExtension)?;
    let key = PublicKey::try_decode_protobuf(&key).map_err(|_| CertificateRefused::NotEd25519)?;
    Ok((key, signature))
}

/// `SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }`
fn signed_key(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (rest, sequence) = Sequence::from_der(der).ok()?;
    let (behind_key, key) = OctetString::from_der(&sequence.content).ok()?;
    let (behind, signature) = OctetString::from_der(behind_key).ok()?;
    let is_whole = rest.is_empty() && behind.is_empty();
    is_whole.then(|| (key.as_ref().to_vec(), signature.as_ref().to_vec()))
}

/// How a certificate's key signs, what is in it and in the handshake alike.
struct Algorithm {
    scheme: SignatureScheme,
    verification: &'static dyn VerificationAlgorithm,
}

impl Algorithm {
    /// Curves are named, and hashes have 256 bits or more, as the specification asks.
    fn of(x509: &X509Certificate<'_>) -> Result<Algorithm, CertificateRefused> {
        let key = &x509.public_key().algorithm;
        let signature = &x509.signature_algorithm.algorithm;
        if *signature == oid_registry::OID_SIG_ED25519 {
            let scheme = SignatureScheme::ED25519;
            return Ok(Algorithm { scheme, verification: &ED25519 });
        }
        let curve = key.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let (true, Some(curve)) =
            (key.algorithm == oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY, curve)
        else {
            return Err(CertificateRefused::UnknownAlgorithm);
        };
        let (p256, p384) = (oid_registry::OID_EC_P256, oid_registry::OID_NIST_EC_P384);
        if curve == p256 && *signature == oid_registry::OID_SIG_ECDSA_WITH_SHA256 {
            let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
            Ok(Algorithm { scheme, verification: &ECDSA_P256_SHA256_ASN1 })
        } else if curve == p384 && *signature == oid_registry::OID_SIG_ECDSA_WITH_SHA384 {
            let scheme = SignatureScheme::ECDSA_NISTP384_SHA384;
            Ok(Algorithm { scheme, verification: &ECDSA_P384_SHA384_ASN1 })
        } else {
            Err(CertificateRefused::UnknownAlgorithm)
        }
    }

    fn has_signed(&self, x509: &X509Certificate<'_>, message: &[u8], signature: &[u8]) -> bool {
        let key = &x509.public_key().subject_public_key.data;
        UnparsedPublicKey::new(self.verification, key).verify(message, signature).is_ok()
    }
}
