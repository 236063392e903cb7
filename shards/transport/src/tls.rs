//! TLS 1.3 with libp2p certificates (libp2p specs, tls/tls.md): a peer is its Ed25519 key.

use std::sync::Arc;
use std::time::Duration;

use pangea_base::{Identity, PeerId};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{self, Session};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, NoKeyLog, OtherError,
    ServerConfig, SignatureScheme,
};

use crate::certificate::{Certificate, CertificateRefused};
use crate::{ALPN, Crypto, Dial, Found};

/// Why no sessions can be made; none of it is expected to happen.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailed {
    /// The identity could not be turned into a libp2p key.
    #[error("the identity key cannot be used: {0}")]
    Identity(#[from] libp2p_identity::DecodingError),
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] libp2p_tls::certificate::GenError),
    /// rustls refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// quinn-proto found no cipher suite for Initial packets.
    #[error("TLS cannot be set up for QUIC: {0}")]
    Quic(#[from] quinn_proto::crypto::rustls::NoInitialCipherSuite),
}

/// Sessions of a real node: mutual TLS 1.3 with aws-lc-rs, libp2p certificates, ALPN `pangea/1`,
/// the quickest cipher of this CPU first; no early data, no tickets, no resumption, no key log.
pub struct TlsCrypto {
    provider: Arc<CryptoProvider>,
    certified: Arc<SingleCertAndKey>,
    // What we speak, best first.
    alpn: Vec<Vec<u8>>,
    server: Arc<QuicServerConfig>,
}

impl TlsCrypto {
    /// Makes a fresh certificate for `identity`. Draws its key from the system, so a simulator uses
    /// its own [`Crypto`] instead.
    pub fn new(identity: &Identity) -> Result<TlsCrypto, TlsFailed> {
        TlsCrypto::speaking(identity, &[ALPN])
    }

    /// As `new`, for other application protocols (interoperability tests, the DHT), best first.
    pub fn speaking(identity: &Identity, alpn: &[&[u8]]) -> Result<TlsCrypto, TlsFailed> {
        let mut seed = *identity.seed().expose();
        // It wipes the copy that it is given.
        let keypair = libp2p_identity::Keypair::ed25519_from_bytes(&mut seed)?;
        // Valid from 1975 to 4096: others may check what we do not.
        let (certificate, key) = libp2p_tls::certificate::generate(&keypair)?;
        TlsCrypto::showing(certificate, &key, alpn)
    }

    /// As `speaking`, with this certificate and its key.
    pub(crate) fn showing(
        certificate: CertificateDer<'static>,
        key: &PrivateKeyDer<'_>,
        alpn: &[&[u8]],
    ) -> Result<TlsCrypto, TlsFailed> {
        let signer = aws_lc_rs::sign::any_ecdsa_type(key)?;
        let certified = CertifiedKey::new(vec![certificate], signer);
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let provider = Arc::new(provider());
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let server = server_config(&provider, certified.clone(), alpn.clone())?;
        let server = Arc::new(QuicServerConfig::try_from(server)?);
        let crypto = TlsCrypto { provider, certified, alpn, server };
        // What `client` builds per dial is built once here, so that it cannot fail there.
        crypto.client_config(Verifier::for_dial(None, Found::default()))?;
        Ok(crypto)
    }

    fn client_config(&self, verifier: Verifier) -> Result<QuicClientConfig, TlsFailed> {
        let mut config = ClientConfig::builder_with_details(self.provider.clone(), Arc::new(NoDay))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certified.clone());
        config.alpn_protocols = self.alpn.clone();
        config.resumption = Resumption::disabled();
        config.key_log = Arc::new(NoKeyLog);
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(QuicClientConfig::try_from(config)?)
    }
}

impl Crypto for TlsCrypto {
    fn server(&self) -> Arc<dyn crypto::ServerConfig> {
        self.server.clone()
    }

    fn client(&self, expected: Option<PeerId>) -> Dial {
        let found = Found::default();
        let config = self
            .client_config(Verifier::for_dial(expected, found.clone()))
            .expect("the same settings were accepted when this was made");
        Dial { config: Arc::new(config), found }
    }

    fn peer(&self, session: &dyn Session) -> Option<PeerId> {
        let chain = session.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        peer_of(chain.first()?).ok()
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: Arc<SingleCertAndKey>,
    alpn: Vec<Vec<u8>>,
) -> Result<ServerConfig, TlsFailed> {
    let verifier = Verifier { expected: None, found: None };
    let mut config = ServerConfig::builder_with_details(provider.clone(), Arc::new(NoDay))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certified);
    config.alpn_protocols = alpn;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.key_log = Arc::new(NoKeyLog);
    Ok(config)
}

/// The time for rustls, which hands it to our verifier, which does not look at it. The system's own
/// would be asked for, and a clock before 1970 makes that a panic.
#[derive(Debug)]
struct NoDay;

impl TimeProvider for NoDay {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

/// aws-lc-rs with the ciphers ordered for this CPU. X25519 is offered first; a peer that insists on
/// the post-quantum hybrid gets it.
fn provider() -> CryptoProvider {
    let aes = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    let chacha = [cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let cipher_suites = match aes_is_fast() {
        true => [&aes[..], &chacha[..]].concat(),
        false => [&chacha[..], &aes[..]].concat(),
    };
    let kx_groups = vec![kx_group::X25519, kx_group::X25519MLKEM768, kx_group::SECP256R1];
    CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() }
}

#[cfg(target_arch = "x86_64")]
fn aes_is_fast() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn aes_is_fast() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_is_fast() -> bool {
    false
}

/// Whose certificate this is. Checks its self-signature and the host key's signature.
fn peer_of(certificate: &CertificateDer<'_>) -> Result<PeerId, rustls::Error> {
    Ok(Certificate::read(certificate).map_err(refused)?.peer())
}

/// Alerts bad_certificate, decrypt_error and certificate_unknown.
fn refused(why: CertificateRefused) -> rustls::Error {
    rustls::Error::InvalidCertificate(match why {
        CertificateRefused::NotX509 => CertificateError::BadEncoding,
        CertificateRefused::Handshake => CertificateError::BadSignature,
        why => CertificateError::Other(OtherError(Arc::new(why))),
    })
}

/// The rules of libp2p's TLS handshake, the same for both sides.
#[derive(Debug)]
struct Verifier {
    expected: Option<PeerId>,
    found: Option<Found>,
}

impl Verifier {
    fn for_dial(expected: Option<PeerId>, found: Found) -> Verifier {
        Verifier { expected, found: Some(found) }
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General("more than one certificate was sent".to_owned()));
        }
        let peer = peer_of(certificate)?;
        if let Some(found) = &self.found {
            found.set(peer);
        }
        if self.expected.is_some_and(|expected| expected != peer) {
            // Alert access_denied.
            let denied = CertificateError::ApplicationVerificationFailure;
            return Err(rustls::Error::InvalidCertificate(denied));
        }
        Ok(())
    }

    fn check_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = Certificate::read(certificate).map_err(refused)?;
        let verified = certificate.verify(signed.scheme, message, signed.signature());
        verified.map_err(refused)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
        ]
    }
}

fn no_tls12() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Verifier::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Verifier::schemes()
    }
}
