//! What whole machines make of it: frames of QUIC on a connection that is set up, and requests on
//! the streams of a node with a store.

use std::net::SocketAddr;
use std::time::Duration;

use pangea_base::Hash;
use pangea_transport::testing::{FORGED_TAG, Pair, Which, config};
use pangea_transport::{Event, ReadFailed};
use pangea_wire::{
    AuthChallenge, FetchResponse, FrameReader, Grant, Protocol, StoreRequest, StoreResponse,
    StoreTrailer, UNITS_END, frame, parse, preamble, unit_header,
};

use super::surfaces::{Refusals, name, store_refusal};
use super::targets::engine::World;
use super::targets::quic::cid_in;
use super::targets::samples::{grant, identity, pattern, shard_header};

/// Frames in a packet of a peer that has the keys: why the connection ends.
pub fn frames(frames: &[u8]) -> Refusals {
    let mut pair = Pair::new(1, config(0));
    let conn = pair.dial();
    pair.run_for(Duration::from_millis(40));
    let cid = cid_in(&mut pair, Which::A, conn);
    let number = (1u32 << 20).to_be_bytes();
    let packet = [&[0x43][..], &cid, &number, frames, &FORGED_TAG].concat();
    let from: SocketAddr = pair.a.addr;
    pair.inject(from, Which::B, &packet);
    pair.run_for(Duration::from_millis(100));
    let closed = pair.b.events.iter().find_map(|event| match event {
        Event::Closed { reason, .. } => Some(name(reason)),
        _ => None,
    });
    closed.into_iter().collect()
}

/// A stream's bytes, to a node that holds shard 9 of chunk 3: 300 bytes. A proof of zeros stands
/// for the right one, which depends on the connection; so does a grant's signature.
pub fn request(bytes: &[u8]) -> Refusals {
    let mut world = World::new();
    let put = StoreRequest::PutShard(shard_header(world.auth(grant())));
    let unit = pattern(300);
    let trailer = StoreTrailer { root: Hash::of(&unit), length: 300 };
    let whole = [
        &preamble(Protocol::Store)[..],
        &frame(&put),
        &unit_header(300),
        &unit,
        &UNITS_END,
        &frame(&trailer),
    ]
    .concat();
    let (answer, _) = ask(&mut world, &whole);
    let stored = parse::<StoreResponse>(&answer[4..]);
    assert!(matches!(stored, Ok(StoreResponse::Stored(_))), "a good put is stored: {stored:?}");
    let request = proven(&world, bytes);
    let protocol = protocol(&request);
    let (answer, end) = ask(&mut world, &request);
    let mut refusals = Refusals::new();
    match (protocol, answer.get(4..)) {
        (Some(Protocol::Store), Some(body)) => match parse::<StoreResponse>(body) {
            Ok(StoreResponse::Refused(refusal)) => refusals.extend(store_refusal(&refusal)),
            other => drop(other.expect("the node makes good answers")),
        },
        (Some(Protocol::Fetch), Some(body)) => match parse::<FetchResponse>(body) {
            Ok(FetchResponse::Refused(refusal)) => refusals.push(name(&refusal)),
            other => drop(other.expect("the node makes good answers")),
        },
        (Some(Protocol::Route), Some(body)) => {
            let answer = parse::<pangea_wire::RouteResponse>(body);
            let refusal = answer.expect("the node makes good answers").refusal;
            refusals.extend(refusal.iter().flat_map(store_refusal));
        }
        _ => {}
    }
    if let Err(ReadFailed::Reset(code)) = end {
        refusals.push(format!("reset:{code}"));
    }
    refusals
}

fn ask(world: &mut World, bytes: &[u8]) -> (Vec<u8>, Result<(), ReadFailed>) {
    let stream = world.open().expect("there is room for a stream");
    world.write(stream, bytes);
    world.end(stream, 0);
    world.run_for(Duration::from_secs(1));
    world.read(stream)
}

fn protocol(bytes: &[u8]) -> Option<Protocol> {
    let id = bytes.get(1..=usize::from(*bytes.first()?))?;
    Protocol::from_id(id)
}

/// The same with grant and proof signed, where it has zeros for them.
fn proven(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::new();
    reader.push(bytes::Bytes::copy_from_slice(bytes));
    if reader.protocol() != Ok(Some(Protocol::Store)) {
        return bytes.to_vec();
    }
    let Ok(Some(mut request)) = reader.message::<StoreRequest>() else { return bytes.to_vec() };
    let auth = match &mut request {
        StoreRequest::PutShard(header) => &mut header.auth,
        StoreRequest::PutManifest(header) => &mut header.auth,
        StoreRequest::PutPlacement(header) => &mut header.auth,
    };
    if auth.grant.signature == [0; 64] {
        let Grant { origin, locator, bytes_max, issued, lifetime_seconds, nonce, .. } = auth.grant;
        let holder = identity(1);
        auth.grant =
            Grant::issue(&holder, origin, locator, bytes_max, issued, lifetime_seconds, nonce);
    }
    if auth.proof == [0; 64] {
        let AuthChallenge { proof, .. } = world.auth(auth.grant.clone());
        auth.proof = proof;
    }
    let body = reader.exact(reader.buffered()).unwrap_or_default();
    [&preamble(Protocol::Store)[..], &frame(&request), &body].concat()
}
