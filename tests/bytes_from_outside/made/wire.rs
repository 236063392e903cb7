//! Messages, grants, receipts, placements.

use pangea_base::{ChunkNumber, Hash, Locator, PeerId, ShardIndex, ShardKey, UnixTime};
use pangea_wire::{
    FetchRequest, FetchResponse, Grant, Message, Placement, Protocol, Receipt, RouteRequest,
    RouteResponse, ShardHeld, StoreRefusal, StoreRequest, StoreResponse, StoreTrailer, Whose,
    frame, limits, other_version,
};
use serde::Serialize;

use super::super::targets::samples::{
    LEASE_SECONDS, NOW, UNTIL, auth, chunk_parts, fetch_requests, grant, identity, key, locator,
    owner, pattern, peer_addr, receipt, store_requests,
};
use super::{Made, add, add_recipe};

pub fn make(all: &mut Vec<Made>) {
    store_request(all);
    store_numbers(all);
    fetch_request(all);
    fetch_response(all);
    others(all);
    addresses(all);
    receipts(all);
    grants(all);
    placements(all);
}

pub fn body<M: Message>(message: &M) -> Vec<u8> {
    frame(message)[4..].to_vec()
}

pub fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("it encodes")
}

/// The body of a valid message with one part of it replaced.
pub fn bent(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = body.windows(from.len()).rposition(|w| w == from).expect("the part is there");
    [&body[..at], to, &body[at + from.len()..]].concat()
}

fn store_request(all: &mut Vec<Made>) {
    let [put, root, ..] = &store_requests(&auth())[..] else { unreachable!() };
    let (put, root) = (body(put), body(root));
    let versioned = |version: u8| {
        let mut bytes = put.clone();
        bytes[1] = version;
        bytes
    };
    // What stands around the lifetime of the grant: its nonce behind it.
    let life = |seconds: u64| [encoded(&seconds), vec![0x4e; 16]].concat();
    let page = [&[0][..], &[0x1d; 32]].concat();
    for (name, bytes) in [
        ("empty", vec![]),
        ("cut-in-the-middle", put[..200].to_vec()),
        ("one-byte-short", put[..put.len() - 1].to_vec()),
        ("two-bytes-more", [&put[..], &[0, 0]].concat()),
        ("of-an-unknown-kind", vec![3; 40]),
        ("of-a-kind-in-five-bytes-of-ones", vec![0xff; 40]),
        ("of-a-kind-in-two-bytes", [&[0x80, 0][..], &put[1..]].concat()),
        ("with-a-grant-of-version-0", versioned(0)),
        ("with-a-grant-of-version-1", versioned(1)),
        ("with-a-grant-of-version-3", versioned(3)),
        ("with-a-grant-for-two-days", bent(&put, &life(3600), &life(2 * 86_400))),
        ("with-a-page-of-an-unknown-kind", bent(&root, &page, &[&[2][..], &[0x1d; 32]].concat())),
    ] {
        add(all, "store-request", name, bytes);
    }
    add_recipe(all, "store-request", "of-513-bytes", "repeat 513 00");
}

/// Numbers of shards and pages that cannot be.
fn store_numbers(all: &mut Vec<Made>) {
    let [put, root, page, placement] = &store_requests(&auth())[..] else { unreachable!() };
    // Chunk 3, index 9, code 10 + 4, length_max 1 MiB.
    let tail = [3, 9, 10, 4, 0x80, 0x80, 0x40];
    let put_body = body(put);
    let put = |to: &[u8]| bent(&put_body, &tail, to);
    let lease = |seconds: u64| bent(&put_body, &encoded(&LEASE_SECONDS), &encoded(&seconds));
    let root = |to: &[u8]| bent(&body(root), &[0x80, 0x80, 0x04], to);
    let page = |to: &[u8]| bent(&body(page), &[0xe8, 0x07], to);
    let placement = |to: &[u8]| bent(&body(placement), &[2, 0xe8, 0x07], to);
    for (name, bytes) in [
        ("without-data-shards", put(&[3, 9, 0, 4, 0x80, 0x80, 0x40])),
        ("of-256-shards", put(&[3, 9, 252, 4, 0x80, 0x80, 0x40])),
        ("of-an-index-beyond-the-code", put(&[3, 14, 10, 4, 0x80, 0x80, 0x40])),
        ("of-index-255", put(&[3, 255, 10, 4, 0x80, 0x80, 0x40])),
        ("of-chunk-2-to-the-20", put(&[0x80, 0x80, 0x40, 9, 10, 4, 1])),
        ("of-a-chunk-beyond-32-bits", put(&[0xff, 0xff, 0xff, 0xff, 0x1f, 9, 10, 4, 1])),
        ("of-no-bytes", put(&[3, 9, 10, 4, 0])),
        ("of-256-mib-and-a-byte", put(&[3, 9, 10, 4, 0x81, 0x80, 0x80, 0x80, 0x01])),
        ("of-16-exbibytes", put(&[&[3, 9, 10, 4][..], &[0xff; 9], &[1]].concat())),
        ("with-a-length-beyond-64-bits", put(&[&[3, 9, 10, 4][..], &[0xff; 9], &[2]].concat())),
        ("with-a-lease-of-nothing", lease(0)),
        ("with-a-lease-of-a-century-and-a-second", lease(limits::LEASE_SECONDS_MAX + 1)),
        ("with-a-lease-to-the-end-of-time", lease(u64::MAX)),
        ("with-a-root-page-of-no-bytes", root(&[0])),
        ("with-a-root-page-of-64-kib-and-a-byte", root(&[0x81, 0x80, 0x04])),
        ("with-a-page-of-1-mib-and-a-byte", page(&[0x81, 0x80, 0x40])),
        ("with-placement-page-1024", placement(&[0x80, 0x08, 0xe8, 0x07])),
        ("with-a-placement-of-no-bytes", placement(&[2, 0])),
        ("with-a-placement-of-1-mib-and-a-byte", placement(&[2, 0x81, 0x80, 0x40])),
    ] {
        add(all, "store-request", name, bytes);
    }
    let trailer = body(&StoreTrailer { root: Hash([1; 32]), length: 300 });
    let trailer = |to: &[u8]| bent(&trailer, &[0xac, 0x02], to);
    for (name, bytes) in [
        ("of-no-bytes", trailer(&[0])),
        ("of-256-mib-and-a-byte", trailer(&[0x81, 0x80, 0x80, 0x80, 0x01])),
        ("with-a-length-in-three-bytes", trailer(&[0xac, 0x82, 0x00])),
        ("with-a-length-beyond-64-bits", trailer(&[0xff; 10])),
        ("without-a-length", trailer(&[])),
    ] {
        add(all, "store-trailer", name, bytes);
    }
}

fn fetch_request(all: &mut Vec<Made>) {
    let [get, _, placement, stat, ..] = &fetch_requests()[..] else { unreachable!() };
    let (get, placement, stat) = (body(get), body(placement), body(stat));
    // Behind kind and locator: no owner, then what is listed behind which shard.
    let after = 1 + 32 + 1;
    let root = &get[get.len() - 33..get.len() - 1];
    let shard = |from: &[u8]| bent(&get, &[&[3, 9], root, &[1]].concat(), from);
    let group = |group: &[u8]| shard(&[&[3, 9], root, group].concat());
    let whose = placement.len() - 2;
    for (name, bytes) in [
        ("empty", vec![]),
        ("of-an-unknown-kind", vec![4; 40]),
        ("of-chunk-2-to-the-20", shard(&[&[0x80, 0x80, 0x40, 9], root, &[1]].concat())),
        ("of-index-255", shard(&[&[3, 255], root, &[1]].concat())),
        ("without-a-root", shard(&[3, 9, 1])),
        ("of-a-group-that-no-shard-has", group(&[0x80, 0x80, 0x01])),
        ("of-group-2-to-the-32-less-1", group(&[255, 255, 255, 255, 15])),
        ("of-a-group-beyond-32-bits", group(&[255, 255, 255, 255, 31])),
        ("of-placement-page-1024", [&placement[..whose], &[0x80, 0x08, 1]].concat()),
        ("of-the-placement-of-an-unknown-kind", [&placement[..whose], &[0, 3]].concat()),
        ("of-the-placement-of-nobody", [&placement[..whose], &[0, 0]].concat()),
        ("after-index-255", [&stat[..after], &[1, 0, 255], root].concat()),
        ("after-an-option-of-2", [&stat[..after], &[2, 0, 3], root].concat()),
        ("of-an-owner-of-2", [&stat[..after - 1], &[2, 0]].concat()),
        ("after-nothing-in-its-place", stat[..after].to_vec()),
        ("after-a-shard-without-a-root", [&stat[..after], &[1, 0, 3]].concat()),
        ("with-a-byte-more", [&get[..], &[0]].concat()),
    ] {
        add(all, "fetch-request", name, bytes);
    }
}

fn fetch_response(all: &mut Vec<Made>) {
    let held = |chunk, index| ShardHeld {
        chunk: ChunkNumber(chunk),
        index: ShardIndex(index),
        length: 300,
        root: Hash([2; 32]),
        until: UNTIL,
    };
    let now = UnixTime(7);
    let list = |shards: Vec<ShardHeld>| encoded(&FetchResponse::Stat { now, shards, more: false });
    let rooted = |root: u8| ShardHeld { root: Hash([root; 32]), ..held(0, 1) };
    let page = |length: u64| [&[4][..], &[7; 32], &encoded(&length), &[0]].concat();
    let mut not_a_bool = list(vec![held(0, 0)]);
    *not_a_bool.last_mut().expect("it has bytes") = 2;
    let begins = |length: u64, first: u32| encoded(&(0u32, length, [2u8; 32], first));
    for (name, bytes) in [
        ("of-a-shard-of-no-bytes", begins(0, 0)),
        ("of-a-shard-of-256-mib-and-a-byte", begins((256 << 20) + 1, 0)),
        ("that-begins-beyond-its-end", begins(16_384, 1)),
        ("of-a-page-of-no-bytes", vec![1, 0]),
        ("of-a-page-of-1-mib-and-a-byte", vec![1, 0x81, 0x80, 0x40]),
        ("with-a-shard-twice", list(vec![held(0, 1), held(0, 1)])),
        ("with-shards-in-no-order", list(vec![held(1, 0), held(0, 1)])),
        ("with-roots-in-no-order", list(vec![rooted(2), rooted(1)])),
        ("of-a-placement-of-no-bytes", page(0)),
        ("of-a-placement-of-1-mib-and-a-byte", page((1 << 20) + 1)),
        ("with-a-shard-of-index-255", list(vec![held(0, 255)])),
        ("with-a-bool-of-2", not_a_bool),
        ("with-a-billion-shards-in-six-bytes", vec![2, 7, 255, 255, 255, 255, 3]),
        ("of-an-unknown-refusal", vec![3, 7]),
        ("of-an-unknown-kind", vec![5, 0]),
        ("of-another-version", other_version(Protocol::Fetch)[4..].to_vec()),
    ] {
        add(all, "fetch-response", name, bytes);
    }
    let one = data_encoding::HEXLOWER.encode(&list(vec![held(0, 0)])[3..][..41]);
    let many = format!("hex 02078108\nrepeat 1025 {one}\nhex 00");
    add_recipe(all, "fetch-response", "with-1025-shards", &many);
    add_recipe(all, "fetch-response", "of-64-kib-and-a-byte", "repeat 65537 00");
}

fn others(all: &mut Vec<Made>) {
    let (lease_seconds, now) = (LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator: locator(), bytes: 300, lease_seconds, now };
    let end = [encoded(&LEASE_SECONDS), encoded(&NOW)].concat();
    let idle = bent(&body(&find), &end, &[&[0], &encoded(&NOW)[..]].concat());
    add(all, "route-request", "of-an-unknown-kind", [1; 40]);
    add(all, "route-request", "with-a-lease-of-nothing", idle);
    add(all, "route-request", "two-bytes-more", [body(&find), vec![0, 0]].concat());
    add(all, "route-request", "cut-in-the-middle", &body(&find)[..20]);
    add_recipe(all, "route-request", "of-129-bytes", "repeat 129 00");
    add(all, "ping", "empty", "");
    add(all, "ping", "of-15-bytes", [0; 15]);
    add(all, "ping", "of-17-bytes", [0; 17]);
    add(all, "pong", "without-its-numbers", [0; 16]);
    let pong = [&[0; 16][..], &[0xff, 0xff, 0x07], &[0, 0, 0]].concat();
    add(all, "pong", "with-a-version-beyond-16-bits", pong);
    let padded = [&[0; 16][..], &[0x81, 0x00], &[0, 0, 0]].concat();
    add(all, "pong", "with-a-version-in-two-bytes", padded);
    add(all, "pong", "without-a-time", [&[0; 16][..], &[2, 0, 0]].concat());
    add(all, "pong", "of-another-version", &other_version(Protocol::Ping)[4..]);
    add(all, "store-answer", "of-an-unknown-kind", [3]);
    add(all, "store-answer", "of-an-unknown-refusal", [2, 14]);
    add(all, "store-answer", "of-a-quota-of-nobody", [2, 1, 2, 1, 1, 1]);
    add(all, "store-answer", "of-another-version", &other_version(Protocol::Store)[4..]);
    add(all, "store-answer", "of-a-refusal-without-its-limit", [2, 1]);
    add(all, "store-answer", "empty", "");
}

/// Answers that name peers.
fn addresses(all: &mut Vec<Made>) {
    let one = |ip: [u8; 4], port: u16| {
        let mut at = peer_addr(port);
        at.addr = (ip, port).into();
        encoded(&RouteResponse { peers: vec![at], grants: vec![], refusal: None, now: UnixTime(7) })
    };
    let neither = [&[1][..], &[3; 32], &[2, 10, 0, 0, 1, 1, 0, 0, 0, 0]].concat();
    for (name, bytes) in [
        ("with-port-0", one([10, 0, 0, 1], 0)),
        ("with-an-unspecified-address", one([0; 4], 9)),
        ("with-a-broadcast-address", one([255; 4], 9)),
        ("with-a-multicast-address", one([224, 0, 0, 1], 9)),
        ("with-an-address-of-neither-family", neither),
        ("with-a-billion-peers-in-six-bytes", vec![255, 255, 255, 255, 3, 0]),
        ("without-its-last-field", vec![0, 0, 0]),
    ] {
        add(all, "route-answer", name, bytes);
    }
    let peer = data_encoding::HEXLOWER.encode(&one([10, 0, 0, 1], 9)[1..][..38]);
    let many = format!("hex 41\nrepeat 65 {peer}\nhex 000007");
    add_recipe(all, "route-answer", "with-65-peers", &many);
    let grant = data_encoding::HEXLOWER.encode(&encoded(&grant()));
    let many = format!("hex 0041\nrepeat 65 {grant}\nhex 0007");
    add_recipe(all, "route-answer", "with-65-grants", &many);
}

/// Receipts that do not answer the put of shard 9 of chunk 3, and refusals.
fn receipts(all: &mut Vec<Made>) {
    let good = receipt();
    let (root, length, whose) = (good.root, good.length, owner());
    let issued = |by: u8, key: ShardKey, root, length| {
        Receipt::issue(&identity(by), whose, key, root, length, NOW, UNTIL)
    };
    let lasting = |stored: u64, until: u64| {
        let (stored, until) = (UnixTime(stored), UnixTime(until));
        Receipt::issue(&identity(1), whose, key(3, 9), root, length, stored, until)
    };
    let stranger = identity(3).peer();
    let of_a_stranger = Receipt::issue(&identity(1), stranger, key(3, 9), root, length, NOW, UNTIL);
    let elsewhere = ShardKey { locator: Locator([9; 32]), ..key(3, 9) };
    let mut forged = good.clone();
    forged.signature[0] ^= 1;
    let cases = [
        ("by-another-holder", issued(3, key(3, 9), root, length)),
        ("for-another-owner", of_a_stranger),
        ("for-another-object", issued(1, elsewhere, root, length)),
        ("for-another-shard", issued(1, key(3, 8), root, length)),
        ("for-another-chunk", issued(1, key(4, 9), root, length)),
        ("for-another-root", issued(1, key(3, 9), Hash([0; 32]), length)),
        ("for-another-length", issued(1, key(3, 9), root, length - 1)),
        ("with-a-short-lease", lasting(NOW.0, UNTIL.0 - 1)),
        // The end is the one that was hoped for; the clock was set forward before it began.
        ("with-a-lease-that-began-late", lasting(NOW.0 + 3600, UNTIL.0)),
        ("with-a-lease-that-ends-before-it-begins", lasting(NOW.0, NOW.0 - 1)),
        ("with-a-lease-of-a-thousand-years", lasting(NOW.0, NOW.0 + 31_557_600_000)),
        ("with-a-bent-signature", forged.clone()),
        ("for-a-shard-of-no-bytes", issued(1, key(3, 9), root, 0)),
        ("for-chunk-2-to-the-20", issued(1, key(1 << 20, 9), root, length)),
        ("of-version-1", Receipt { version: 1, ..good.clone() }),
        ("of-version-3", Receipt { version: 3, ..good.clone() }),
    ];
    for (name, receipt) in cases {
        add(all, "store-answer", name, encoded(&StoreResponse::Stored(receipt)));
    }
    // What a placement takes is decided again, by somebody else and much later.
    let listed = chunk_parts(10, 4, 1 << 20);
    let listed = issued(1, key(3, 9), listed.roots[9], listed.shard_bytes);
    for (name, receipt) in [
        ("for-another-object", issued(1, elsewhere, root, length)),
        ("for-a-shard-that-the-manifest-lacks", good.clone()),
        ("for-a-shard-of-no-bytes", issued(1, key(3, 9), root, 0)),
        ("with-a-lease-of-a-thousand-years", lasting(NOW.0, NOW.0 + 31_557_600_000)),
        ("with-a-bent-signature", Receipt { signature: forged.signature, ..listed }),
        ("of-version-1-with-an-owner", Receipt { version: 1, ..good.clone() }),
        ("of-version-3", Receipt { version: 3, ..good }),
    ] {
        add(all, "receipt", name, encoded(&receipt));
    }
    for number in 0..14u8 {
        let more: &[u8] = match number {
            1 => &[0, 9, 9, 9],
            3 | 5 | 6 | 8 => &[9],
            2 => &[0, 5],
            _ => &[],
        };
        let name = format!("refused-with-{number:02}");
        add(all, "store-answer", &name, [&[2, number], more].concat());
    }
}

/// Grants that are not for identity 2, by identity 1, now.
fn grants(all: &mut Vec<Made>) {
    let origin = owner();
    let issued = |by: u8, origin, locator, lifetime: u64| {
        Grant::issue(&identity(by), origin, locator, 300, NOW, lifetime, [1; 16])
    };
    let mut forged = issued(1, origin, locator(), 3600);
    forged.bytes_max += 1;
    let mut longer = issued(1, origin, locator(), 3600);
    longer.lifetime_seconds += 1;
    let stolen = issued(1, identity(3).peer(), locator(), 3600);
    let answer = |grants: Vec<Grant>, refusal| {
        encoded(&RouteResponse { peers: vec![], grants, refusal, now: NOW })
    };
    for (name, grant) in [
        ("with-a-grant-by-another-holder", issued(3, origin, locator(), 3600)),
        ("with-a-grant-to-another-origin", stolen),
        ("with-a-grant-for-another-object", issued(1, origin, Locator([9; 32]), 3600)),
        ("with-a-grant-for-two-days", issued(1, origin, locator(), 2 * 86_400)),
        ("with-a-grant-for-more-than-was-signed", forged),
        ("with-a-grant-for-longer-than-was-signed", longer),
    ] {
        add(all, "route-answer", name, answer(vec![grant], None));
    }
    let (whose, used, limit, capacity) = (Whose::Network, 200, 300, 3000);
    let refusal = Some(StoreRefusal::OverQuota { whose, used, limit, capacity });
    add(all, "route-answer", "with-a-refusal", answer(vec![], refusal));
    for version in [1, 3] {
        let other = Grant { version, ..issued(1, origin, locator(), 3600) };
        let name = format!("with-a-grant-of-version-{version}");
        add(all, "route-answer", &name, answer(vec![other], None));
    }
    add(all, "route-answer", "of-another-version", &other_version(Protocol::Route)[4..]);
}

fn placements(all: &mut Vec<Made>) {
    let mut placement = Placement::new(locator());
    for holder in [1, 2] {
        let (holder, key, root) = (identity(holder), key(3, 9), Hash([2; 32]));
        let receipt = Receipt::issue(&holder, owner(), key, root, 300, NOW, UNTIL);
        placement.add(receipt, None).expect("it is genuine");
    }
    let page = placement.pages(owner(), &[])[0].to_vec();
    // Version, locator, owner, number, pages, holders; then the receipts, all of one length.
    let head = [&[2][..], &locator().0, &owner().0].concat();
    let receipts = &page[head.len() + 4..];
    let one = receipts.len() / 2;
    let with = |head: &[u8], rest: &[&[u8]]| [head, &rest.concat()].concat();
    let swapped = with(&head, &[&[0, 1, 0, 2], &receipts[one..], &receipts[..one]]);
    let twice = with(&head, &[&[0, 1, 0, 2], &receipts[..one], &receipts[..one]]);
    let first = [&[0, 1, 0, 1][..], &receipts[..one]].concat();
    // The receipt's length is 300, in front of its times.
    let empty = bent(&with(&head, &[&first]), &[0xac, 0x02], &[0]);
    let index = bent(&with(&head, &[&first]), &[1, 3, 9], &[1, 3, 255]);
    let times = |until: u64| [encoded(&NOW), encoded(&until)].concat();
    let ended = bent(&with(&head, &[&first]), &times(UNTIL.0), &times(NOW.0 - 1));
    let at = |port: u16| {
        encoded(&vec![pangea_base::PeerAddr { peer: PeerId([3; 32]), ..peer_addr(port) }])
    };
    for (name, bytes) in [
        ("empty", vec![]),
        ("of-version-0", with(&[&[0][..], &head[1..]].concat(), &[&[0, 1, 0, 0]])),
        ("of-version-3", with(&[&[3][..], &head[1..]].concat(), &[&[0, 1, 0, 0]])),
        ("of-version-1-with-an-owner", with(&[&[1][..], &head[1..]].concat(), &[&[0, 1, 0, 0]])),
        ("of-version-1-and-another-object", with(&[&[1][..], &[9; 32]].concat(), &[&[0, 1, 0, 0]])),
        ("of-another-object", with(&[&[2][..], &[9; 32], &owner().0].concat(), &[&[0, 1, 0, 0]])),
        ("of-another-owner", with(&[&[2][..], &locator().0, &[9; 32]].concat(), &[&[0, 1, 0, 0]])),
        ("with-a-receipt-that-ends-before-it-begins", ended),
        ("number-1-of-1", with(&head, &[&[1, 1, 0, 0]])),
        ("of-no-pages", with(&head, &[&[0, 0, 0, 0]])),
        ("of-1025-pages", with(&head, &[&[0, 0x81, 0x08, 0, 0]])),
        ("with-a-holder-at-port-0", with(&head, &[&[0, 1], &at(0), &[0]])),
        ("with-receipts-in-no-order", swapped),
        ("with-a-receipt-twice", twice),
        ("with-a-receipt-for-no-bytes", empty),
        ("with-a-receipt-for-index-255", index),
        ("with-a-receipt-cut-off", with(&head, &[&[0, 1, 0, 2], &receipts[..one + 9]])),
        ("with-more-behind-it", [&page[..], &[0]].concat()),
        ("with-a-number-in-two-bytes", with(&head, &[&[0x80, 0, 1, 0, 0]])),
        ("with-a-billion-receipts", with(&head, &[&[0, 1, 0, 255, 255, 255, 255, 3]])),
    ] {
        add(all, "placement", name, bytes);
    }
    let at = data_encoding::HEXLOWER.encode(&at(9)[1..]);
    let head = data_encoding::HEXLOWER.encode(&[&head[..], &[0, 1, 0x81, 0x08]].concat());
    let many = format!("hex {head}\nrepeat 1025 {at}\nhex 00");
    add_recipe(all, "placement", "with-1025-holders", &many);
    add_recipe(all, "placement", "of-1-mib-and-a-byte", "repeat 1048577 01");
}

/// A put's first message, with a grant and a proof of zeros: see `nodes::request`.
pub fn unproven(mut request: StoreRequest) -> StoreRequest {
    let auth = match &mut request {
        StoreRequest::PutShard(header) => &mut header.auth,
        StoreRequest::PutManifest(header) => &mut header.auth,
        StoreRequest::PutPlacement(header) => &mut header.auth,
    };
    (auth.proof, auth.grant.signature) = ([0; 64], [0; 64]);
    request
}

/// A get of the shard whose bytes are the pattern of 300.
pub fn get(key: ShardKey, first_group: u32) -> FetchRequest {
    FetchRequest::GetShard { key, root: Hash::of(&pattern(300)), first_group }
}
