//! Messages read back; any bytes are read or refused and never panic; limits hold.

mod common;

use bytes::Bytes;
use common::*;
use pangea_base::*;
use pangea_wire::*;
use proptest::prelude::*;

/// Parses a body as every message there is.
fn parse_all(bytes: &[u8]) {
    fn each<M: Message + PartialEq + std::fmt::Debug>(input: &[u8]) {
        if let Ok(message) = parse::<M>(input) {
            // What was read is exactly what would be sent: one value, one encoding.
            assert_eq!(body(&message), input, "{message:?}");
        }
    }
    each::<RouteRequest>(bytes);
    each::<RouteResponse>(bytes);
    each::<StoreRequest>(bytes);
    each::<StoreTrailer>(bytes);
    each::<StoreResponse>(bytes);
    each::<FetchRequest>(bytes);
    each::<FetchResponse>(bytes);
    each::<Ping>(bytes);
    each::<Pong>(bytes);
}

/// Bodies of one message of every shape.
fn bodies() -> Vec<Vec<u8>> {
    let refusal = Some(StoreRefusal::BadGrant(AuthRefused::Proof));
    let shards = vec![held(0, 1), held(2, 0)];
    let stat = FetchResponse::Stat { now: NOW, shards, more: false };
    let begins = ShardBegins { length: 99_999, root: Hash([7; 32]), first_group: 6 };
    let root = Hash([8; 32]);
    let (of, after) = (Some(owner()), Some((ChunkNumber(5), ShardIndex(1), root)));
    let (locator, lease_seconds, now) = (locator(), LEASE_SECONDS, NOW);
    let placement = |whose| body(&FetchRequest::GetPlacement { locator, page: 3, whose });
    let (peers, grants) = (vec![peer_addr(7); 3], vec![grant(); 2]);
    let (whose, used, limit, capacity) = (Whose::Peer, 1, 1 << 30, 1 << 40);
    let over = StoreRefusal::OverQuota { whose, used, limit, capacity };
    vec![
        body(&RouteRequest::FindRoutes { locator, bytes: 1 << 40, lease_seconds, now }),
        body(&RouteResponse { peers, grants, refusal, now }),
        body(&StoreRequest::PutShard(shard_header())),
        body(&StoreRequest::PutManifest(manifest_header())),
        body(&StoreRequest::PutPlacement(placement_header())),
        body(&StoreTrailer { root: Hash([1; 32]), length: 77 }),
        body(&StoreResponse::Stored(receipt())),
        body(&StoreResponse::Refused(StoreRefusal::TooLong { limit: 5 })),
        body(&StoreResponse::Refused(over)),
        body(&FetchRequest::GetShard { key: key(1, 2), root, first_group: 3 }),
        body(&FetchRequest::GetManifest { locator, page: root }),
        placement(PlacementOf::Owner(owner())),
        placement(PlacementOf::First),
        placement(PlacementOf::Behind(owner())),
        body(&FetchRequest::Stat { locator, owner: None, after: None }),
        body(&FetchRequest::Stat { locator, owner: of, after }),
        body(&FetchResponse::Shard(begins)),
        body(&FetchResponse::Blob { length: 1 << 20 }),
        body(&FetchResponse::Placement { owner: owner(), length: 1 << 20, more: true }),
        body(&stat),
        body(&Ping { nonce: [1; 16] }),
        body(&Pong { nonce: [1; 16], version: 2, capacity_bytes: u64::MAX, used_bytes: 0, now }),
        other_version(Protocol::Fetch)[4..].to_vec(),
    ]
}

#[test]
fn every_single_bit_flip_of_every_message_is_read_or_refused() {
    for body in bodies() {
        parse_all(&body);
        for bit in 0..body.len() * 8 {
            let mut bent = body.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            parse_all(&bent);
        }
        for end in 0..body.len() {
            parse_all(&body[..end]);
        }
    }
}

#[test]
fn the_largest_message_of_each_kind_is_within_its_limit() {
    let addr = PeerAddr { peer: PeerId([1; 32]), addr: "[2001:db8::1]:65535".parse().unwrap() };
    let mut grant = grant();
    (grant.bytes_max, grant.issued) = (u64::MAX, UnixTime(u64::MAX));
    grant.lifetime_seconds = limits::GRANT_LIFETIME_MAX.as_secs();
    let (whose, most, now) = (Whose::Network, u64::MAX, UnixTime(u64::MAX));
    let over = StoreRefusal::OverQuota { whose, used: most, limit: most, capacity: most };
    body(&StoreResponse::Refused(over));
    let refusal = Some(over);
    let grants = vec![grant.clone(); limits::GRANTS_MAX];
    body(&RouteResponse { peers: vec![addr; limits::PEERS_MAX], grants, refusal, now });
    let mut header = shard_header();
    header.auth.grant = grant;
    (header.length_max, header.lease_seconds) =
        (limits::SHARD_BYTES_MAX, limits::LEASE_SECONDS_MAX);
    (header.key.chunk.0, header.key.index.0) = (limits::CHUNKS_MAX - 1, 254);
    header.code = Code::new(200, 55).unwrap();
    body(&StoreRequest::PutShard(header));
    let mut receipt = receipt();
    (receipt.chunk.0, receipt.index.0) = (limits::CHUNKS_MAX - 1, 254);
    (receipt.length, receipt.until) = (limits::SHARD_BYTES_MAX, now);
    receipt.stored = Some(UnixTime(u64::MAX - limits::LEASE_SECONDS_MAX));
    body(&StoreResponse::Stored(receipt));
    let last = limits::CHUNKS_MAX - limits::STAT_SHARDS_MAX as u32;
    let length = limits::SHARD_BYTES_MAX;
    let shard = |n| ShardHeld { length, until: now, ..held(last + n, 254) };
    let shards: Vec<ShardHeld> = (0..limits::STAT_SHARDS_MAX as u32).map(shard).collect();
    let stat = FetchResponse::Stat { now, shards: shards.clone(), more: true };
    assert_eq!(parse::<FetchResponse>(&body(&stat)), Ok(stat));
    let shards = [vec![held(0, 0)], shards].concat();
    let one_more = FetchResponse::Stat { now, shards, more: true };
    assert!(matches!(one_more.check(), Err(Wrong::TooMany { count: 1025, .. })));
    let (nonce, version) = ([9; 16], u16::MAX);
    body(&Pong { nonce, version, capacity_bytes: most, used_bytes: most, now });
    let (locator, lease_seconds) = (locator(), limits::LEASE_SECONDS_MAX);
    body(&RouteRequest::FindRoutes { locator, bytes: most, lease_seconds, now });
    let key =
        ShardKey { locator, chunk: ChunkNumber(limits::CHUNKS_MAX - 1), index: ShardIndex(254) };
    let root = Hash([1; 32]);
    body(&FetchRequest::GetShard { key, root, first_group: 16_383 });
    let (owner, after) = (Some(owner()), Some((key.chunk, key.index, root)));
    body(&FetchRequest::Stat { locator, owner, after });
}

#[test]
#[should_panic(expected = "we made a route response that cannot be: 65 grants")]
fn a_message_of_ours_over_its_limit_is_a_bug() {
    frame(&RouteResponse { peers: vec![], grants: vec![grant(); 65], refusal: None, now: NOW });
}

#[test]
#[should_panic(expected = "more pushed than there is room")]
fn pushing_past_the_room_is_a_bug() {
    let mut reader = FrameReader::new();
    reader.push(Bytes::from(vec![0; reader.room() + 1]));
}

#[test]
fn an_oversized_frame_is_refused_at_its_fourth_byte() {
    let mut reader = FrameReader::new();
    for byte in 513u32.to_le_bytes() {
        assert_eq!(reader.message::<StoreRequest>(), Ok(None));
        reader.push(Bytes::copy_from_slice(&[byte]));
    }
    let wrong = reader.message::<StoreRequest>().unwrap_err();
    assert!(matches!(wrong, PeerSent::FrameTooLong { length: 513, limit: 512, .. }));
    assert_eq!(reader.buffered(), 4);
}

#[test]
fn a_stream_that_ends_early_is_named() {
    let mut reader = reader(&frame(&Ping { nonce: [0; 16] })[..19]);
    assert_eq!(reader.message::<Ping>(), Ok(None));
    assert_eq!(reader.end(Ping::NAME), Err(PeerSent::EndedInside("ping")));
    assert_eq!(FrameReader::new().end(Ping::NAME), Ok(()));
}

#[test]
fn units_that_lie_in_pieces_use_the_same_memory_again() {
    let unit = [&unit_header(16_384)[..], &[9; 16_384]].concat();
    let mut reader = FrameReader::new();
    let mut body = PutBody::new(1 << 20);
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..40 {
        for piece in unit.chunks(1_300) {
            reader.push(Bytes::copy_from_slice(piece));
        }
        let Ok(Some(PutPart::Unit(unit))) = body.next(&mut reader) else { panic!("a unit") };
        assert_eq!(unit.len(), 16_384);
        places.insert(unit.as_ptr() as usize);
    }
    assert!(places.len() <= 3, "{} places in memory for 40 units", places.len());
}

#[test]
fn bytes_that_lie_together_are_not_copied() {
    let stream = Bytes::from([&unit_header(16_384)[..], &[9; 16_384]].concat());
    let mut reader = FrameReader::new();
    reader.push(stream.clone());
    let Ok(Some(PutPart::Unit(unit))) = PutBody::new(1 << 20).next(&mut reader) else { panic!() };
    assert_eq!(unit.as_ptr(), stream[4..].as_ptr());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse_all(&bytes);
        let mut stream = reader(&bytes);
        let _ = stream.protocol();
        let _ = stream.message::<StoreRequest>();
        let _ = PlacementPage::parse(&bytes, locator(), owner());
        let id = ManifestId(Hash::of(&bytes).0);
        prop_assert!(ManifestReader::root(&bytes, id, &read_key().verify_key()).is_err());
        let mut put = PutBody::new(1 << 20);
        let mut stream = reader(&bytes);
        while let Ok(Some(_)) = put.next(&mut stream) {}
    }

    #[test]
    fn mutated_messages_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut body = which.get(&bodies()).clone();
        for (at, byte, how) in edits {
            if body.is_empty() {
                continue;
            }
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => { body.remove(at); }
            }
        }
        parse_all(&body);
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut(
        cuts in prop::collection::vec(1usize..3_000, 1..60),
        groups in 1usize..6,
        last in 1usize..=16_384,
    ) {
        let mut stream = preamble(Protocol::Store).to_vec();
        stream.extend(frame(&StoreRequest::PutShard(shard_header())));
        let shard: Vec<u8> =
            (0..(groups - 1) * 16_384 + last).map(|i| (i % 249) as u8).collect();
        for unit in shard.chunks(16_384) {
            stream.extend(unit_header(unit.len()));
            stream.extend(unit);
        }
        stream.extend(UNITS_END);
        let trailer = StoreTrailer { root: Hash::of(&shard), length: shard.len() as u64 };
        stream.extend(frame(&trailer));

        let mut reader = FrameReader::new();
        let mut put = PutBody::new(1 << 20);
        let (mut protocol, mut header, mut found, mut end) = (None, None, Vec::new(), None);
        let mut rest = Bytes::from(stream);
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().unwrap().min(rest.len()).min(reader.room());
            reader.push(rest.split_to(cut));
            if protocol.is_none() {
                protocol = reader.protocol().unwrap();
            }
            if protocol.is_some() && header.is_none() {
                header = reader.message::<StoreRequest>().unwrap();
            }
            while header.is_some() && let Some(part) = put.next(&mut reader).unwrap() {
                match part {
                    PutPart::Unit(unit) => found.extend(unit),
                    PutPart::Trailer(trailer) => end = Some(trailer),
                }
            }
            prop_assert!(reader.buffered() <= limits::READER_BYTES_MAX);
        }
        prop_assert_eq!(protocol, Some(Protocol::Store));
        prop_assert_eq!(header, Some(StoreRequest::PutShard(shard_header())));
        prop_assert_eq!(end, Some(trailer));
        prop_assert!(found == shard);
        put.end().unwrap();
        reader.end("put").unwrap();
    }

    #[test]
    fn any_message_reads_back(
        bytes_max: u64, hash: [u8; 32], nonce: [u8; 16],
        time in 0..=u64::MAX - limits::LEASE_SECONDS_MAX,
        port in 1u16.., bytes in 1u64..=256 << 20,
        chunk in 0u32..1 << 20, index in 0u8..255,
        lease_seconds in 1..=limits::LEASE_SECONDS_MAX, lifetime in 1u64..=86_400,
    ) {
        let locator = Locator(hash);
        let key = ShardKey { locator, chunk: ChunkNumber(chunk), index: ShardIndex(index) };
        let holder = identity(5);
        let (now, until) = (UnixTime(time), UnixTime(time + lease_seconds));
        let (origin, root) = (PeerId(hash), Hash(hash));
        let grant = Grant::issue(&holder, origin, locator, bytes_max, now, lifetime, nonce);
        prop_assert_eq!(grant.verify_signed(holder.peer(), origin, locator), Ok(()));
        prop_assert!(!grant.is_over(now));
        let receipt = Receipt::issue(&holder, origin, key, root, bytes, now, until);
        prop_assert_eq!(receipt.verify(), Ok(()));
        prop_assert!(receipt.gives(lease_seconds) && !receipt.gives(lease_seconds + 1));
        let code = Code::new(index + 1, 0).unwrap();
        let auth = AuthChallenge::new(&identity(6), grant.clone(), &hash);
        let header = ShardHeader { auth, key, code, length_max: bytes, lease_seconds };
        let first_group = ((bytes - 1) / 16_384) as u32;
        let begins = ShardBegins { length: bytes, root, first_group };
        let peers = vec![peer_addr(port)];
        let after = Some((key.chunk, key.index, root));
        macro_rules! reads_back { ($($message:expr),* $(,)?) => { $(
            let message = $message;
            let read = reader(frame(&message)).message();
            prop_assert_eq!(read, Ok(Some(message)));
        )* } }
        reads_back!(
            RouteRequest::FindRoutes { locator, bytes: bytes_max, lease_seconds, now },
            RouteResponse { peers, grants: vec![grant], refusal: None, now },
            StoreRequest::PutShard(header),
            StoreResponse::Stored(receipt),
            StoreTrailer { root, length: bytes },
            FetchRequest::GetShard { key, root, first_group },
            FetchRequest::GetPlacement { locator, page: 5, whose: PlacementOf::Behind(origin) },
            FetchRequest::Stat { locator, owner: Some(origin), after },
            FetchResponse::Placement { owner: origin, length: 9, more: port.is_multiple_of(2) },
            FetchResponse::Shard(begins),
            Pong { nonce, version: port, capacity_bytes: bytes_max, used_bytes: time, now },
        );
    }
}
