use pangea_base::{Identity, PeerAddr, Secret};

use super::*;
use crate::{Crypto, TlsCrypto};

fn identity(seed: u8) -> Identity {
    Identity::from_seed(Secret::new([seed; 32]))
}

fn tls(seed: u8) -> Box<dyn Crypto> {
    Box::new(TlsCrypto::new(&identity(seed)).unwrap())
}

fn tls_pair() -> Pair {
    let (a, b) = (identity(1).peer(), identity(2).peer());
    Pair::with(1, (config(0), a, tls(1)), (config(0), b, tls(2)))
}

#[test]
fn over_tls_both_sides_prove_their_ed25519_identity() {
    let mut pair = tls_pair();
    let (a, b) = connect(&mut pair);
    assert_eq!(pair.a.transport.peer(a), Some(identity(2).peer()));
    assert_eq!(pair.b.transport.peer(b), Some(identity(1).peer()));
    transfer(&mut pair, a, b, 4, 2 << 20);
    let export = |transport: &Transport, conn| {
        let mut out = [0; 32];
        transport.exporter(conn, b"pangea test", b"grant", &mut out).unwrap();
        out
    };
    let ours = export(&pair.a.transport, a);
    assert_eq!(ours, export(&pair.b.transport, b));
    assert_ne!(ours, [0; 32]);
}

#[test]
fn over_tls_the_wrong_peer_is_refused_during_the_handshake() {
    let mut pair = tls_pair();
    let expected = identity(3).peer();
    pair.a.transport.connect(pair.now, PeerAddr { peer: expected, addr: pair.b.addr }).unwrap();
    pair.run_for(seconds(2));
    let found = identity(2).peer();
    let reason = closed(&mut pair, Which::A).unwrap();
    assert_eq!(reason, ClosedReason::WrongPeer { expected, found });
    assert!(reason.to_string().contains(&found.to_string()), "{reason}");
    assert_eq!(closed(&mut pair, Which::B), Some(ClosedReason::PeerWantedAnother));
    assert_eq!(connected(&mut pair, Which::B), None);
}

#[test]
fn over_tls_another_protocol_is_refused_and_both_sides_say_so() {
    let (a, b) = (identity(1).peer(), identity(2).peer());
    let other = Box::new(TlsCrypto::speaking(&identity(2), &[b"libp2p"]).unwrap());
    let mut pair = Pair::with(1, (config(0), a, tls(1)), (config(0), b, other));
    pair.dial();
    pair.run_for(seconds(2));
    let reason = ClosedReason::NoCommonProtocol("application protocol");
    assert_eq!(closed(&mut pair, Which::A), Some(reason.clone()));
    assert_eq!(closed(&mut pair, Which::B), Some(reason));
}

#[test]
fn over_tls_no_tickets_are_sent_and_nothing_is_resumed() {
    let mut pair = tls_pair();
    let (first, _) = connect(&mut pair);
    pair.run_for(seconds(1));
    let session = pair.a.transport.conn_mut(first).unwrap().proto.crypto_session();
    assert!(session.early_crypto().is_none(), "no early data");
    connect(&mut pair);
}

#[test]
fn over_tls_a_retry_is_followed() {
    let limits = Limits { retry_above: 0, ..Limits::STANDARD };
    let (a, b) = (identity(1).peer(), identity(2).peer());
    let strict = Config { limits, ..config(0) };
    let mut pair = Pair::with(1, (strict.clone(), a, tls(1)), (strict, b, tls(2)));
    connect(&mut pair);
    assert_eq!(pair.b.transport.stats().retries, 1);
}
