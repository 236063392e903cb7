//! Certificates of others: whatever day they are for, and nothing but good ones.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use pangea_base::{Identity, PeerId, Secret};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::certificate::{Certificate, CertificateRefused};
use crate::{ALPN, Crypto, TlsCrypto};

fn identity(seed: u8) -> Identity {
    Identity::from_seed(Secret::new([seed; 32]))
}

fn generated(seed: u8) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let keypair = libp2p_identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    libp2p_tls::certificate::generate(&keypair).unwrap()
}

/// An element of DER: its tag, its length, its content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

/// The same certificate for other days, signed again.
fn redated(
    (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
    from: &[u8; 13],
    to: &[u8; 15],
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let replace = |bytes: Vec<u8>, old: &[u8], new: &[u8]| {
        let at = bytes.windows(old.len()).position(|part| part == old).expect("it is in there");
        [&bytes[..at], new, &bytes[at + old.len()..]].concat()
    };
    // Behind the outer tag and its length of three bytes.
    let length = usize::from(u16::from_be_bytes([certificate[6], certificate[7]]));
    let signed = certificate[4..8 + length].to_vec();
    let signed = replace(signed, b"750101000000Z", from);
    let signed = replace(signed, b"40960101000000Z", to);
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der()).unwrap();
    let signature = pair.sign(&SystemRandom::new(), &signed).unwrap();
    let ecdsa_with_sha256 = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let bits = element(0x03, &[&[0], signature.as_ref()].concat());
    let all = element(0x30, &[&signed[..], &ecdsa_with_sha256, &bits].concat());
    (all.into(), key)
}

/// Long over, of this one day, and not begun.
const DAYS: [(&[u8; 13], &[u8; 15]); 3] = [
    (b"700101000000Z", b"19750101000000Z"),
    (b"000229000000Z", b"20000229235959Z"),
    (b"490101000000Z", b"99991231235959Z"),
];

#[test]
fn a_certificate_is_good_on_whatever_day_it_is_for() {
    for (from, to) in DAYS {
        let (certificate, _) = redated(generated(5), from, to);
        let read = Certificate::read(&certificate).map(|read| read.peer());
        assert_eq!(read, Ok(identity(5).peer()));
        let theirs = libp2p_tls::certificate::parse(&certificate).map(|_| ()).unwrap_err();
        assert_eq!(theirs.to_string(), "InvalidCertValidity", "who checks the day refuses it");
    }
}

#[test]
fn peers_whose_certificates_are_of_another_day_connect_in_both_directions() {
    let (a, b) = (identity(1).peer(), identity(2).peer());
    for (from, to) in DAYS {
        let old = |seed| -> Box<dyn Crypto> {
            let (certificate, key) = redated(generated(seed), from, to);
            Box::new(TlsCrypto::showing(certificate, &key, &[ALPN]).unwrap())
        };
        let usual =
            |seed| -> Box<dyn Crypto> { Box::new(TlsCrypto::new(&identity(seed)).unwrap()) };
        for (ours, theirs) in [(old(1), usual(2)), (usual(1), old(2)), (old(1), old(2))] {
            let mut pair = Pair::with(1, (config(0), a, ours), (config(0), b, theirs));
            let (dialled, accepted) = connect(&mut pair);
            assert_eq!(pair.a.transport.peer(dialled), Some(b));
            assert_eq!(pair.b.transport.peer(accepted), Some(a));
        }
    }
}

#[test]
fn our_certificate_is_for_all_days_that_others_may_check() {
    let (certificate, _) = generated(5);
    let holds = |date: &[u8]| certificate.windows(date.len()).any(|part| part == date);
    assert!(holds(b"\x17\x0d750101000000Z\x18\x0f40960101000000Z"), "1975 to 4096");
}

/// A good and a bad certificate of the libp2p specification's tests, with an Ed25519 host key.
const GOOD: &str = "308201773082011ea003020102020900f5bd0debaa597f52300a06082a8648ce3d0403023000\
    3020170d3735303130313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce\
    3d020106082a8648ce3d030107034200046bf9871220d71dcb3483ecdfcbfcc7c103f8509d0974b3c18ab1f1be13\
    02d643103a08f7a7722c1b247ba3876fe2c59e26526f479d7718a85202ddbe47562358a37f307d307b060a2b0601\
    040183a25a01010101ff046a30680424080112207fda21856709c5ae12fd6e8450623f15f11955d384212b89f56e\
    7e136d2e17280440aaa6bffabe91b6f30c35e3aa4f94b1188fed96b0ffdd393f4c58c1c047854120e674ce64c788\
    406d1c2c4b116581fd7411b309881c3c7f20b46e54c7e6fe7f0f300a06082a8648ce3d0403020347003044022\
    07d1a1dbd2bda235ff2ec87daf006f9b04ba076a5a5530180cd9c2e8f6399e09d0220458527178c7e77024601dbb\
    1b256593e9b96d961b96349d1f560114f61a87595";
const BAD: &str = "308201773082011da003020102020830a73c5d896a1109300a06082a8648ce3d04030230003020\
    170d3735303130313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce3d02\
    0106082a8648ce3d03010703420004bbe62df9a7c1c46b7f1f21d556deec5382a36df146fb29c7f1240e60d7d532\
    8570e3b71d99602b77a65c9b3655f62837f8d66b59f1763b8c9beba3be07778043a37f307d307b060a2b06010401\
    83a25a01010101ff046a3068042408011220ec8094573afb9728088860864f7bcea2d4fd412fef09a8e2d24d4823\
    77c20db60440ecabae8354afa2f0af4b8d2ad871e865cb5a7c0c8d3dbdbf42de577f92461a0ebb0a28703e33581a\
    f7d2a4f2270fc37aec6261fcc95f8af08f3f4806581c730a300a06082a8648ce3d04030203480030450220\
    2dfb17a6fa0f94ee0e2e6a3b9fb6e986f311dee27392058016464bd130930a61022100ba4b937a11c8d3172b81e7\
    cd04aedb79b978c4379c2b5b24d565dd5d67d3cb3c";

fn bytes_of(hex: &str) -> Vec<u8> {
    let hex: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks(2).map(byte).collect()
}

#[test]
fn the_certificates_of_the_specification_are_read_as_it_says() {
    let good = bytes_of(GOOD);
    let peer: PeerId = "12D3KooWJRSrypvnpHgc6ZAgyCni4KcSmbV7uGRaMw5LgMKT18fq".parse().unwrap();
    assert_eq!(Certificate::read(&good).map(|read| read.peer()), Ok(peer));
    let bad = Certificate::read(&bytes_of(BAD)).map(|read| read.peer());
    assert_eq!(bad, Err(CertificateRefused::HostSignature));
    assert_eq!(Certificate::read(b"").map(|_| ()).unwrap_err(), CertificateRefused::NotX509);
}

#[test]
fn but_for_the_day_we_take_what_libp2p_takes() {
    let (certificate, _) = generated(5);
    let agree = |bytes: Vec<u8>| {
        let ours = Certificate::read(&bytes).map(|read| read.peer());
        let bytes = CertificateDer::from(bytes);
        let theirs = libp2p_tls::certificate::parse(&bytes).map(|_| ());
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
        ours.is_ok()
    };
    assert!(agree(certificate.to_vec()));
    let mut taken = 0;
    for at in 0..certificate.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = certificate.to_vec();
            bytes[at] ^= change;
            taken += usize::from(agree(bytes));
        }
        assert!(!agree(certificate[..at].to_vec()), "cut at {at}");
    }
    // Where a length or a padding bit of the outer shell may be written in another way.
    assert!(taken < 8, "{taken} changed certificates are taken");
}

#[test]
fn a_host_key_or_a_signature_of_somebody_else_is_refused() {
    let (certificate, key) = generated(5);
    let (other, _) = generated(6);
    let extension = |certificate: &[u8]| {
        let at = certificate.windows(4).position(|part| part == [0x04, 0x24, 8, 1]).unwrap();
        certificate[at..at + 104].to_vec()
    };
    let (ours, theirs) = (extension(&certificate), extension(&other));
    let at = certificate.windows(104).position(|part| part == ours).unwrap();
    let mut bytes = certificate.to_vec();
    bytes[at..at + 104].copy_from_slice(&theirs);
    let refused = |bytes: &[u8]| Certificate::read(bytes).map(|read| read.peer()).unwrap_err();
    assert_eq!(refused(&bytes), CertificateRefused::SelfSignature);
    // Signed again by its own key, it still claims a host that never signed that key.
    let (bytes, _) = redated((bytes.into(), key), b"750101000000Z", b"40960101000000Z");
    assert_eq!(refused(&bytes), CertificateRefused::HostSignature);
}
