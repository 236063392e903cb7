//! Inputs that no honest peer sends, by name, and what is said to each.

mod common;

use bytes::Bytes;
use common::*;
use pangea_base::*;
use pangea_wire::*;

fn parsed<M: Message + std::fmt::Debug>(body: &[u8]) -> String {
    said(parse::<M>(body))
}

/// The body of a valid message with one part of it replaced.
fn bent<M: Message>(message: &M, from: &[u8], to: &[u8]) -> Vec<u8> {
    let body = body(message);
    let at = body.windows(from.len()).position(|w| w == from).expect("the part is there");
    [&body[..at], to, &body[at + from.len()..]].concat()
}

#[test]
fn a_bad_beginning_of_a_stream_is_named() {
    let preamble = |bytes: &[u8]| said(reader(bytes).protocol());
    let frame_of =
        |length: u32, limit: usize| said(reader(length.to_le_bytes()).frame("thing", limit));
    all_are_named(&[
        ("no protocol", preamble(&[0]), "protocol id of 0 bytes"),
        ("a protocol of 65 bytes", preamble(&[65]), "protocol id of 65 bytes"),
        ("a protocol of 255 bytes", preamble(&[255; 10]), "protocol id of 255 bytes"),
        ("a protocol of garbage", preamble(&[3, 0xff, 0x1b, 0x07]), r"\u{1b}\u{7}"),
        (
            "HTTP",
            preamble(
                b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: text/html, text/plain, */*\r\n",
            ),
            "protocol id of 71",
        ),
        ("a frame one over its limit", frame_of(257, 256), "thing of 257 bytes; at most 256"),
        ("a frame of 4 GiB", frame_of(u32::MAX, 65_536), "4294967295 bytes"),
        (
            "a route request one over its limit",
            said(reader(129u32.to_le_bytes()).message::<RouteRequest>()),
            "route request of 129 bytes; at most 128",
        ),
        (
            "a trailer of 64 KiB",
            said(reader(65_536u32.to_le_bytes()).message::<StoreTrailer>()),
            "shard trailer of 65536 bytes",
        ),
    ]);
}

#[test]
fn a_protocol_in_another_version_is_named_by_both_and_nothing_else_is() {
    let other = |id: &str| said(reader([&[id.len() as u8][..], id.as_bytes()].concat()).protocol());
    all_are_named(&[
        (
            "an older version",
            other("/pangea/store/1.0.0"),
            "the peer speaks version 1 of /pangea/store, this program speaks 2",
        ),
        (
            "a newer version",
            other("/pangea/fetch/3.0.0"),
            "version 3 of /pangea/fetch, this program speaks 2",
        ),
        ("a version within ours", other("/pangea/ping/2.0.1"), "version 2.0.1 of /pangea/ping"),
        ("the largest version", other("/pangea/route/255.255.255"), "version 255.255.255 of"),
        (
            "a version beyond a byte",
            other("/pangea/store/256.0.0"),
            "'/pangea/store/256.0.0', which",
        ),
        (
            "a version in two digits of one",
            other("/pangea/store/02.0.0"),
            "02.0.0', which this node",
        ),
        ("a version with a sign", other("/pangea/store/+2.0.0"), "+2.0.0', which this node"),
        ("a version of two numbers", other("/pangea/store/2.0"), "2.0', which this node"),
        ("a version of four numbers", other("/pangea/store/2.0.0.0"), "2.0.0.0', which this node"),
        (
            "a version with an end of line",
            other("/pangea/store/2.0.0\n"),
            r"2.0.0\u{a}', which this",
        ),
        (
            "a version of nothing that we know",
            other("/pangea/chat/1.0.0"),
            "chat/1.0.0', which this",
        ),
        (
            "a version without a protocol",
            other("/pangea/1.0.0"),
            "'/pangea/1.0.0', which this node",
        ),
    ]);
}

#[test]
fn a_message_that_does_not_decode_is_named() {
    let (lease_seconds, now) = (LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator: locator(), bytes: 300, lease_seconds, now };
    let trailer = StoreTrailer { root: Hash([0xab; 32]), length: 300 };
    let put = StoreRequest::PutShard(shard_header());
    let stat = FetchResponse::Stat { now: NOW, shards: vec![held(0, 0)], more: true };
    let mut not_a_bool = body(&stat);
    *not_a_bool.last_mut().unwrap() = 2;
    let trailing = |b: Vec<u8>| [b, vec![0, 0]].concat();
    let store = parsed::<StoreRequest>;
    all_are_named(&[
        ("an empty store request", store(&[]), "ends in the middle"),
        ("an empty ping", parsed::<Ping>(&[]), "ping that cannot be read: it ends in the middle"),
        ("a ping of 15 bytes", parsed::<Ping>(&[0; 15]), "ends in the middle"),
        ("a ping of 17 bytes", parsed::<Ping>(&[0; 17]), "ping of 17 bytes; at most 16"),
        ("a cut put", store(&body(&put)[..200]), "ends in the middle"),
        ("a put with a byte missing", store(&body(&put)[..body(&put).len() - 1]), "ends"),
        ("a put with two more bytes", store(&trailing(body(&put))), "2 bytes follow its end"),
        (
            "a trailer with two more bytes",
            parsed::<StoreTrailer>(&trailing(body(&trailer))),
            "2 bytes follow",
        ),
        (
            "a route request with two more bytes",
            parsed::<RouteRequest>(&trailing(body(&find))),
            "2 bytes follow",
        ),
        ("a kind written in 5 bytes of ones", store(&[0xff; 40]), "stands for nothing"),
        (
            "a length written in three bytes",
            parsed::<StoreTrailer>(&bent(&trailer, &[0xac, 0x02], &[0xac, 0x82, 0x00])),
            "more bytes than it needs",
        ),
        (
            "a kind written in two bytes",
            parsed::<FetchResponse>(&[0x83, 0x00, 0x00]),
            "more bytes than it needs",
        ),
        (
            "a length of more than 64 bits",
            parsed::<StoreTrailer>(&bent(&trailer, &[0xac, 0x02], &[0xff; 10])),
            "stands for nothing",
        ),
        ("a bool of 2", parsed::<FetchResponse>(&not_a_bool), "stands for nothing"),
        (
            "an option of 2",
            parsed::<FetchRequest>(&[&[3][..], &locator().0, &[2]].concat()),
            "stands for nothing",
        ),
    ]);
}

#[test]
fn an_unknown_kind_of_anything_is_named() {
    let store = parsed::<StoreRequest>;
    all_are_named(&[
        ("an unknown store request", store(&[3; 40]), "unknown kind"),
        ("an unknown fetch request", parsed::<FetchRequest>(&[4; 40]), "unknown kind"),
        ("an unknown route request", parsed::<RouteRequest>(&[2; 40]), "unknown kind"),
        ("an unknown refusal", parsed::<StoreResponse>(&[2, 14]), "unknown kind"),
        ("a quota of nobody", parsed::<StoreResponse>(&[2, 1, 2, 0, 0, 0]), "unknown kind"),
        ("an unknown fetch response", parsed::<FetchResponse>(&[5, 0]), "unknown kind"),
        ("an unknown fetch refusal", parsed::<FetchResponse>(&[3, 7]), "unknown kind"),
        (
            "an unknown kind of page",
            store(&bent(
                &StoreRequest::PutManifest(manifest_header()),
                &[&[0][..], &[0x1d; 32]].concat(),
                &[&[2][..], &[0x1d; 32]].concat(),
            )),
            "unknown kind",
        ),
        (
            "a placement of an unknown kind of owner",
            parsed::<FetchRequest>(&[&[2][..], &locator().0, &[0, 3]].concat()),
            "unknown kind",
        ),
    ]);
}

#[test]
fn a_message_with_an_impossible_code_or_list_is_named() {
    let put = StoreRequest::PutShard(shard_header());
    let stat = FetchResponse::Stat { now: NOW, shards: vec![held(0, 0)], more: true };
    let response = RouteResponse { peers: vec![], grants: vec![], refusal: None, now: NOW };
    let mut crowded = RouteResponse { peers: vec![], grants: vec![], refusal: None, now: NOW };
    crowded.peers = vec![peer_addr(1); 64];
    let crowd = |count: u8| {
        // Behind the peers: no grants, no refusal, and a time of five bytes.
        let one = &body(&crowded)[1..][..(body(&crowded).len() - 8) / 64];
        [&[count][..], &one.repeat(count.into()), &[0, 0, 0]].concat()
    };
    assert!(parse::<RouteResponse>(&crowd(64)).is_ok());
    let grants = RouteResponse { peers: vec![], grants: vec![grant()], refusal: None, now: NOW };
    let one_grant = body(&grants)[2..].strip_suffix(&end(&[0])[..]).unwrap().to_vec();
    // Kind, a time of five bytes, count.
    let one_held = body(&stat).strip_suffix(&[1]).unwrap()[7..].to_vec();
    let store = parsed::<StoreRequest>;
    all_are_named(&[
        (
            "a code without data shards",
            store(&bent(&put, &[10, 4, 0x80, 0x80, 0x40], &[0, 4, 0x80, 0x80, 0x40])),
            "impossible erasure code",
        ),
        (
            "a code of 256 shards",
            store(&bent(&put, &[10, 4, 0x80, 0x80, 0x40], &[252, 4, 0x80, 0x80, 0x40])),
            "impossible erasure code",
        ),
        ("65 peers", parsed::<RouteResponse>(&crowd(65)), "longer than its limit"),
        (
            "65 grants",
            parsed::<RouteResponse>(&[&[0, 65][..], &one_grant.repeat(65), &end(&[0])].concat()),
            "longer than its limit",
        ),
        (
            "1025 shards",
            parsed::<FetchResponse>(
                &[&[2, 0, 0x81, 0x08][..], &one_held.repeat(1025), &[0]].concat(),
            ),
            "longer than its limit",
        ),
        (
            "a billion peers in six bytes",
            parsed::<RouteResponse>(&[0xff, 0xff, 0xff, 0xff, 0x03, 0]),
            "ends in the middle",
        ),
        (
            "an address of neither family",
            parsed::<RouteResponse>(&[&[1][..], &[3; 32], &[2, 10, 0, 0, 1, 1, 0, 0, 0]].concat()),
            "unknown kind",
        ),
        (
            "an answer without its last field",
            parsed::<RouteResponse>(&body(&response)[..3]),
            "ends in the middle",
        ),
        (
            "a grant of another version and length",
            parsed::<RouteResponse>(&[&[0, 1, 1][..], &one_grant[..100]].concat()),
            "its grant has version 1, this program knows version 2",
        ),
    ]);
}

/// The end of a route answer: what stands before the time, and the time.
fn end(before: &[u8]) -> Vec<u8> {
    [before, &varint(NOW.0)].concat()
}

#[test]
fn a_version_or_a_length_of_time_that_cannot_be_is_named() {
    let put = StoreRequest::PutShard(shard_header());
    let page = StoreRequest::PutManifest(manifest_header());
    let stored = StoreResponse::Stored(receipt());
    let store = parsed::<StoreRequest>;
    let lease = |seconds| store(&ending(&put, &varint(LEASE_SECONDS), &varint(seconds)));
    // What stands around the numbers: a root of ab and a length of 1 MiB, the grant's nonce of 4e.
    let times = |stored| [&[0x80, 0x80, 0x40][..], &varint(stored)].concat();
    let life = |seconds| [varint(seconds), vec![0x4e; 16]].concat();
    all_are_named(&[
        ("a grant of version 0", store(&versioned(&put, 1, 0)), "grant has version 0"),
        ("a grant of version 1", store(&versioned(&put, 1, 1)), "grant has version 1"),
        ("a grant of version 3", store(&versioned(&page, 1, 3)), "grant has version 3"),
        ("a grant of version 3, cut", store(&versioned(&put, 1, 3)[..99]), "grant has version 3"),
        (
            "a receipt of version 1",
            parsed::<StoreResponse>(&versioned(&stored, 1, 1)),
            "receipt has version 1, this program knows version 2",
        ),
        (
            "a receipt of version 3",
            parsed::<StoreResponse>(&versioned(&stored, 1, 3)),
            "receipt has version 3",
        ),
        (
            "a receipt that ends before it begins",
            parsed::<StoreResponse>(&bent(&stored, &times(NOW.0), &times(UNTIL.0 + 1))),
            "a receipt from second 1900000001 to 1900000000; 0 seconds to 100 years",
        ),
        (
            "a receipt for more than a century",
            parsed::<StoreResponse>(&bent(&stored, &varint(UNTIL.0), &varint(1 << 40))),
            "a receipt from second 1800000000 to 1099511627776",
        ),
        (
            "a grant for more than a day",
            store(&bent(&put, &life(3600), &life(86_401))),
            "a grant for 86401 seconds; 1 second to 86400 seconds can be",
        ),
        ("a lease of nothing", lease(0), "a lease of 0 seconds; 1 second to 100 years"),
        (
            "a lease a second too long",
            lease(limits::LEASE_SECONDS_MAX + 1),
            "a lease of 3155760001 seconds; 1 second to 3155760000 seconds",
        ),
        ("a lease to the end of time", lease(u64::MAX), "a lease of 584542046091 years"),
        (
            "a grant for no time",
            store(&bent(&put, &life(3600), &life(0))),
            "a grant for 0 seconds; 1 second to 24 hours can be",
        ),
        (
            "a route request for nothing",
            parsed::<RouteRequest>(&[&[0][..], &locator().0, &[1, 0, 0]].concat()),
            "a lease of 0 seconds",
        ),
    ]);
}

#[test]
fn a_store_message_that_says_what_cannot_be_is_named() {
    let put = StoreRequest::PutShard(shard_header());
    let page = StoreRequest::PutManifest(manifest_header());
    let placement = StoreRequest::PutPlacement(placement_header());
    let store = parsed::<StoreRequest>;
    // chunk 3, index 9, code 10 + 4, length_max 1 MiB
    let tail = [3, 9, 10, 4, 0x80, 0x80, 0x40];
    let with = |to: &[u8]| store(&bent(&put, &tail, to));
    all_are_named(&[
        (
            "an index beyond the code",
            with(&[3, 14, 10, 4, 0x80, 0x80, 0x40]),
            "index 14; the chunk has 14",
        ),
        ("index 255", with(&[3, 255, 10, 4, 0x80, 0x80, 0x40]), "shard index 255"),
        (
            "a chunk beyond the last",
            with(&[0x80, 0x80, 0x40, 9, 10, 4, 0x80, 0x80, 0x40]),
            "chunk number 1048576",
        ),
        ("a shard of no bytes", with(&[3, 9, 10, 4, 0]), "a length of 0 bytes"),
        (
            "a shard one byte too long",
            with(&[3, 9, 10, 4, 0x81, 0x80, 0x80, 0x80, 0x01]),
            "a shard of 268435457 bytes",
        ),
        (
            "a root page one byte too long",
            store(&ending(&page, &varint(65_536), &varint(65_537))),
            "manifest page of 65537 bytes; at most 65536",
        ),
        (
            "a root page of no bytes",
            store(&ending(&page, &varint(65_536), &[0])),
            "a length of 0 bytes",
        ),
        (
            "a placement page one byte too long",
            store(&ending(&placement, &varint(1 << 20), &varint((1 << 20) + 1))),
            "placement page of 1048577 bytes",
        ),
        (
            "placement page 1024",
            store(&ending(&placement, &[2, 0x80, 0x80, 0x40], &[0x80, 0x08, 1])),
            "page 1024 of a placement",
        ),
    ]);
}

#[test]
fn any_other_message_that_says_what_cannot_be_is_named() {
    let begins = |length: u64, first_group: u32| {
        let root = Hash([0xab; 32]);
        let fine = FetchResponse::Shard(ShardBegins { length: 16_384, root, first_group: 0 });
        let mut out = body(&fine)[..1].to_vec();
        out.extend(varint(length));
        out.extend([0xab; 32]);
        out.extend(varint(first_group.into()));
        parsed::<FetchResponse>(&out)
    };
    all_are_named(&[
        (
            "a trailer of no bytes",
            parsed::<StoreTrailer>(&[&[1; 32][..], &[0]].concat()),
            "0 bytes",
        ),
        (
            "a trailer over the limit",
            parsed::<StoreTrailer>(&[&[1; 32][..], &varint((256 << 20) + 1)].concat()),
            "268435457 bytes",
        ),
        ("an answer with a shard of no bytes", begins(0, 0), "a length of 0 bytes"),
        ("an answer with a shard too long", begins((256 << 20) + 1, 0), "a shard of 268435457"),
        ("an answer that begins beyond its end", begins(16_384, 1), "group 1; a shard of 16384"),
        ("a page of no bytes", parsed::<FetchResponse>(&[1, 0]), "a length of 0 bytes"),
        (
            "a page one byte too long",
            parsed::<FetchResponse>(&[&[1][..], &varint((1 << 20) + 1)].concat()),
            "page of 1048577 bytes",
        ),
        (
            "a placement page of no bytes",
            parsed::<FetchResponse>(&[&[4][..], &[7; 32], &[0, 0]].concat()),
            "a length of 0 bytes",
        ),
        (
            "a placement page one byte too long",
            parsed::<FetchResponse>(&[&[4][..], &[7; 32], &varint((1 << 20) + 1), &[0]].concat()),
            "placement page of 1048577 bytes",
        ),
    ]);
}

#[test]
fn a_list_that_is_out_of_order_and_an_address_of_nobody_are_named() {
    let list = |shards: &[ShardHeld]| {
        let stat = FetchResponse::Stat { now: NOW, shards: vec![], more: false };
        let empty = body(&stat).strip_suffix(&[0, 0]).unwrap().to_vec();
        let mut out = [empty, vec![shards.len() as u8]].concat();
        for shard in shards {
            let shard = FetchResponse::Stat { now: NOW, shards: vec![*shard], more: false };
            out.extend(&body(&shard).strip_suffix(&[0]).unwrap()[7..]);
        }
        parse::<FetchResponse>(&[out, vec![0]].concat())
    };
    let rooted = |root: u8| ShardHeld { root: Hash([root; 32]), ..held(0, 1) };
    // Of two owners, who keep other bytes under the same name.
    assert!(list(&[rooted(1), rooted(2), held(0, 2)]).is_ok());
    let to = |addr: [u8; 4], port: u8| {
        let addr = [&[1][..], &[3; 32], &[0], &addr, &[port, 0, 0, 0]].concat();
        parsed::<RouteResponse>(&addr)
    };
    all_are_named(&[
        ("a shard listed twice", said(list(&[held(0, 1); 2])), "not in ascending order"),
        ("roots out of order", said(list(&[rooted(2), rooted(1)])), "not in ascending order"),
        ("shards out of order", said(list(&[held(1, 0), held(0, 1)])), "not in ascending order"),
        ("an address with port 0", to([10, 0, 0, 1], 0), "10.0.0.1:0 cannot be dialled"),
        ("the address 0.0.0.0", to([0; 4], 9), "0.0.0.0:9 cannot be dialled"),
        ("a broadcast address", to([255; 4], 9), "255.255.255.255:9 cannot be dialled"),
        ("a multicast address", to([224, 0, 0, 1], 9), "224.0.0.1:9 cannot be dialled"),
    ]);
}

#[test]
fn a_fetch_request_that_says_what_cannot_be_is_named() {
    let get = FetchRequest::GetShard { key: key(3, 9), root: Hash([0xab; 32]), first_group: 5 };
    let fetch = parsed::<FetchRequest>;
    all_are_named(&[
        (
            "a get of a chunk beyond the last",
            fetch(&bent(&get, &[3, 9, 0xab], &[0x80, 0x80, 0x40, 9, 0xab])),
            "chunk number 1048576",
        ),
        (
            "a get of index 255",
            fetch(&bent(&get, &[3, 9, 0xab], &[3, 255, 0xab])),
            "shard index 255",
        ),
        (
            "a get of a group that no shard has",
            fetch(&ending(&get, &[5], &varint(16_384))),
            "group 16384",
        ),
        (
            "a get of placement page 1024",
            fetch(&[&[2][..], &locator().0, &[0x80, 0x08, 1]].concat()),
            "page 1024",
        ),
        (
            "a stat behind index 255",
            fetch(&[&[3][..], &locator().0, &[0, 1, 0, 255], &[0xab; 32]].concat()),
            "shard index 255",
        ),
    ]);
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn versioned<M: Message>(message: &M, at: usize, version: u8) -> Vec<u8> {
    let mut body = body(message);
    assert_eq!(body[at], 2, "the version is there");
    body[at] = version;
    body
}

/// The body of a valid message with its end replaced.
fn ending<M: Message>(message: &M, from: &[u8], to: &[u8]) -> Vec<u8> {
    let body = body(message);
    [body.strip_suffix(from).expect("it ends so"), to].concat()
}

#[test]
fn a_bad_body_of_a_put_is_named() {
    let unit = |length: usize| [&unit_header(length)[..], &vec![7; length]].concat();
    let trailer = |length| frame(&StoreTrailer { root: Hash([1; 32]), length }).to_vec();
    let run = |length_max: u64, parts: &[Vec<u8>]| {
        let mut reader = reader(parts.concat());
        let mut body = PutBody::new(length_max);
        loop {
            match body.next(&mut reader) {
                Err(error) => return error.to_string(),
                Ok(Some(_)) => {}
                Ok(None) => return said(body.end().map(|()| body)),
            }
        }
    };
    let end = UNITS_END.to_vec();
    let fine = [unit(16_384), unit(5), end.clone(), trailer(16_389)];
    let mut whole = PutBody::new(16_389);
    let mut stream = reader(fine.concat());
    while whole.next(&mut stream).unwrap().is_some() {}
    whole.end().unwrap();
    all_are_named(&[
        ("a unit of 16385 bytes", run(1 << 20, &[16_385u32.to_le_bytes().into()]), "unit of 16385"),
        ("a unit of 4 GiB", run(1 << 20, &[vec![0xff; 4]]), "unit of 4294967295"),
        ("a unit after a short one", run(1 << 20, &[unit(5), unit(5)]), "another unit after"),
        ("one byte more than announced", run(16_388, &fine), "more than the 16388 bytes"),
        ("no unit at all", run(9, &[end.clone(), trailer(1)]), "without a single byte"),
        (
            "a trailer that says less",
            run(9, &[unit(5), end.clone(), trailer(4)]),
            "sent 5 bytes and says",
        ),
        ("a trailer that says more", run(9, &[unit(5), end.clone(), trailer(6)]), "that it sent 6"),
        ("an end inside a unit", run(9, &[unit(5)[..7].to_vec()]), "in the middle of a shard"),
        ("an end between units", run(9, &[unit(5)]), "in the middle of a shard"),
        ("an end before the trailer", run(9, &[unit(5), end.clone()]), "middle of a shard trailer"),
        (
            "bytes after the trailer",
            run(9, &[unit(5), end.clone(), trailer(5), vec![0]]),
            "more bytes after the end of its shard trailer",
        ),
        (
            "a trailer that is none",
            run(9, &[unit(5), end, vec![1, 0, 0, 0, 9]]),
            "shard trailer that cannot be read",
        ),
    ]);
}

#[test]
fn a_bad_body_of_a_fetch_is_named() {
    let bytes: Vec<u8> = (0..3 * GROUP_BYTES + 100).map(|i| (i % 251) as u8).collect();
    let mut hasher = GroupHasher::new();
    bytes.chunks(GROUP_BYTES).for_each(|group| hasher.push(group));
    let table = hasher.finish();
    let (root, length) = (table.root(), table.length());
    let expected = ShardExpected { root, length, first_group: 1 };
    let begins = ShardBegins { root, length, first_group: 1 };
    let new = |begins: ShardBegins| said(ShardBody::new(&begins, &expected));
    let run = |stream: &[u8]| {
        let mut body = ShardBody::new(&begins, &expected).unwrap();
        let mut reader = reader(stream);
        let mut out = Vec::new();
        loop {
            match body.next(&mut reader) {
                Err(error) => return error.to_string(),
                Ok(Some(group)) => out.extend(group),
                Ok(None) => break,
            }
        }
        assert_eq!(out, bytes[GROUP_BYTES..][..out.len()], "only verified bytes are given out");
        body.end().map_or_else(|error| error.to_string(), |()| "fine".into())
    };
    let fine = [&table_bytes(&table)[..], &bytes[GROUP_BYTES..]].concat();
    assert_eq!(run(&fine), "fine");
    let flipped = |at: usize| {
        let mut stream = fine.clone();
        stream[at] ^= 0x10;
        run(&stream)
    };
    let mut swapped = fine.clone();
    let (a, b) = swapped[128..].split_at_mut(GROUP_BYTES);
    a.swap_with_slice(&mut b[..GROUP_BYTES]);
    all_are_named(&[
        (
            "another length",
            new(ShardBegins { length: length + 1, ..begins }),
            "shard of 49253 bytes",
        ),
        ("another root", new(ShardBegins { root: Hash([0; 32]), ..begins }), "another root"),
        ("another group", new(ShardBegins { first_group: 0, ..begins }), "begins at group 0"),
        ("a bent table", flipped(40), "group hashes that do not add up"),
        ("a bent first group", flipped(128 + 9), "damaged group: number 1"),
        ("a bent last group", flipped(fine.len() - 1), "damaged group: number 3"),
        ("swapped groups", run(&swapped), "damaged group: number 1"),
        ("an end inside the table", run(&fine[..100]), "in the middle of a shard"),
        ("an end inside a group", run(&fine[..fine.len() - 1]), "in the middle of a shard"),
        ("bytes after the shard", run(&[&fine[..], &[0]].concat()), "after the end of its shard"),
        ("a blob over its limit", said(BlobBody::new(65_537, 65_536)), "offers 65537 bytes"),
        ("an end inside a blob", said(BlobBody::new(3, 9).unwrap().end()), "middle of a page"),
        (
            "bytes after a blob",
            said(BlobBody::new(3, 9).unwrap().next(&mut reader(b"abcd"))),
            "after the end of its page",
        ),
    ]);
}

#[test]
fn a_blob_comes_together_from_any_pieces() {
    let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 253) as u8).collect();
    for piece in [1000, 16_384, 100_000] {
        let mut body = BlobBody::new(1 << 20, 1 << 20).unwrap();
        let mut reader = FrameReader::new();
        let mut found = None;
        for part in bytes.chunks(piece) {
            assert!(found.is_none());
            reader.push(Bytes::copy_from_slice(part));
            found = body.next(&mut reader).unwrap();
        }
        assert_eq!(body.next(&mut reader), Ok(None));
        body.end().unwrap();
        assert!(found.unwrap() == bytes);
    }
}

#[test]
fn an_answer_in_another_version_is_told_as_that_whatever_was_asked() {
    let newer = |major: u8| [&b"\xffversion"[..], &[major, 0, 0]].concat();
    all_are_named(&[
        (
            "to a route request",
            parsed::<RouteResponse>(&newer(3)),
            "the peer speaks version 3 of /pangea/route, this program speaks 2",
        ),
        ("to a store request", parsed::<StoreResponse>(&newer(3)), "version 3 of /pangea/store"),
        (
            "to a fetch request",
            parsed::<FetchResponse>(&newer(255)),
            "version 255 of /pangea/fetch",
        ),
        ("to a ping", parsed::<Pong>(&newer(1)), "version 1 of /pangea/ping"),
        ("cut short", parsed::<StoreResponse>(&newer(3)[..10]), "unknown kind"),
        (
            "with more behind it",
            parsed::<Pong>(&[newer(3), vec![0]].concat()),
            "ends in the middle",
        ),
    ]);
    for protocol in Protocol::ALL {
        let ours = other_version(protocol);
        let mut reader = reader(&ours);
        let told = reader.message::<Pong>().unwrap_err();
        let theirs = protocol.version();
        assert_eq!(told, PeerSent::OtherVersion { protocol: Protocol::Ping, theirs });
        assert_eq!(reader.buffered(), 0, "it is the whole answer");
        assert_eq!(protocol.id(), format!("{}/{theirs}.0.0", protocol.family()));
        assert_eq!(u16::from(theirs.major), VERSION);
    }
}

#[test]
fn every_refusal_says_how_much_and_what_to_do() {
    let over = |whose| StoreRefusal::OverQuota {
        whose,
        used: 200 << 20,
        limit: 1 << 30,
        capacity: 10 << 30,
    };
    let nothing_known =
        StoreRefusal::OverQuota { whose: Whose::Peer, used: 0, limit: 0, capacity: 0 };
    for (refusal, text) in [
        (
            over(Whose::Peer),
            "you have 200 MiB of your 1 GiB there, a tenth of 10 GiB; \
             its operator can give more: pangea node --allow YOUR_ID",
        ),
        (
            over(Whose::Network),
            "your network has 200 MiB of its 1 GiB there, a tenth of 10 GiB; use another network, \
             or its operator can give you more: pangea node --allow YOUR_ID",
        ),
        (
            nothing_known,
            "you have 0 bytes of your 0 bytes there; \
             its operator can give more: pangea node --allow YOUR_ID",
        ),
        (
            StoreRefusal::NotAccepting,
            "it keeps nothing for you; its operator can allow it: pangea node --allow YOUR_ID",
        ),
        (
            StoreRefusal::OverGrant { limit: 3 << 19 },
            "the grant is for 1.5 MiB in all and this would be more; ask for a larger one",
        ),
        (StoreRefusal::TooLong { limit: 1 << 20 }, "it takes at most 1 MiB of this and got more"),
        (
            StoreRefusal::LeaseTooLong { limit: 1826 * 86_400 },
            "it keeps nothing for longer than 5 years; ask for a shorter lease",
        ),
        (
            StoreRefusal::Full { capacity: 10 << 30 },
            "all of its 10 GiB are taken; try elsewhere, \
             or its operator can give more: pangea node --capacity SIZE",
        ),
        (
            StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Over)),
            "the grant is over by its holder's clock; ask for a new one",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
    }
}
