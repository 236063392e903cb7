//! Streams with all that is on them, answers to fetches, frames of QUIC, requests to a node.

use pangea_base::{ChunkNumber, GROUP_BYTES, Hash, Locator, ShardIndex, ShardKey, UnixTime};
use pangea_wire::{
    FetchRefusal, FetchRequest, FetchResponse, Grant, ManifestPage, Ping, PlacementOf, Protocol,
    RouteRequest, ShardBegins, StoreRequest, StoreTrailer, UNITS_END, frame, other_version,
    preamble, table_bytes, unit_header,
};

use super::super::surfaces::held_key;
use super::super::targets::samples::{
    LEASE_SECONDS, NOW, auth, identity, key, locator, owner, pattern, shard_header, store_requests,
};
use super::wire::{get, unproven};
use super::{Made, add, add_recipe, shard, shard_expected};

pub fn make(all: &mut Vec<Made>) {
    beginnings(all);
    bodies(all);
    answers(all);
    refusals(all);
    frames(all);
    requests(all);
    proofs(all);
}

fn beginnings(all: &mut Vec<Made>) {
    let store = preamble(Protocol::Store);
    let find = preamble(Protocol::Route);
    for (name, bytes) in [
        ("with-a-protocol-of-no-bytes", vec![0]),
        ("with-a-protocol-of-65-bytes", vec![65]),
        ("with-a-protocol-of-255-bytes", vec![255; 10]),
        ("of-http", b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n".to_vec()),
        ("of-tls", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("of-an-earlier-version", [&[19][..], b"/pangea/store/1.0.0"].concat()),
        ("of-a-later-version", [&[19][..], b"/pangea/store/3.0.0"].concat()),
        ("of-a-version-beyond-a-byte", [&[21][..], b"/pangea/store/300.0.0"].concat()),
        ("of-a-version-in-other-digits", [&[20][..], b"/pangea/store/02.0.0"].concat()),
        ("of-a-protocol-with-an-escape", vec![3, 0xff, 0x1b, 7]),
        ("of-the-right-protocol-and-a-space", [&[20][..], b"/pangea/store/2.0.0 "].concat()),
        ("cut-inside-the-protocol", store[..9].to_vec()),
        ("without-a-message", store.to_vec()),
        ("with-a-message-of-4-gib", [&store[..], &[255; 4]].concat()),
        ("with-a-message-one-over-its-limit", [&find[..], &129u32.to_le_bytes()].concat()),
        ("with-a-message-of-no-bytes", [&find[..], &[0; 4]].concat()),
        ("with-a-message-cut-off", [&find[..], &40u32.to_le_bytes(), &[0; 10]].concat()),
    ] {
        add(all, "stream", name, bytes);
    }
}

/// Bodies of a put of at most 600 bytes, of a put of more, and of a page.
fn bodies(all: &mut Vec<Made>) {
    let head = |length_max| {
        let mut header = shard_header(auth());
        header.length_max = length_max;
        let request = frame(&StoreRequest::PutShard(header));
        [&preamble(Protocol::Store)[..], &request].concat()
    };
    let unit = |length: usize| [&unit_header(length)[..], &pattern(length)].concat();
    let trailer = |length| frame(&StoreTrailer { root: Hash([1; 32]), length }).to_vec();
    let put = |parts: &[Vec<u8>]| [head(600), parts.concat()].concat();
    let end = UNITS_END.to_vec();
    let (five, bad) = (unit(5), vec![1, 0, 0, 0, 9]);
    for (name, bytes) in [
        ("with-a-unit-of-16385-bytes", put(&[16_385u32.to_le_bytes().into()])),
        ("with-a-unit-of-4-gib", put(&[vec![255; 4]])),
        ("with-a-unit-after-a-short-one", put(&[five.clone(), five.clone()])),
        ("with-more-than-was-announced", put(&[unit(601)])),
        ("with-no-unit-at-all", put(&[end.clone(), trailer(1)])),
        ("with-a-trailer-of-less", put(&[five.clone(), end.clone(), trailer(4)])),
        ("with-a-trailer-of-more", put(&[five.clone(), end.clone(), trailer(6)])),
        ("with-a-trailer-that-is-none", put(&[five.clone(), end.clone(), bad])),
        ("with-a-trailer-too-long", put(&[five.clone(), end.clone(), vec![49, 0, 0, 0]])),
        ("that-ends-inside-a-unit", put(&[five[..7].to_vec()])),
        ("that-ends-between-units", put(std::slice::from_ref(&five))),
        ("that-ends-before-the-trailer", put(&[five.clone(), end.clone()])),
        ("with-bytes-after-the-trailer", put(&[five, end, trailer(5), vec![0]])),
    ] {
        add(all, "stream", name, bytes);
    }
    let page = frame(&store_requests(&auth())[2]);
    let page = |bytes: &[u8]| [&preamble(Protocol::Store)[..], &page, bytes].concat();
    add(all, "stream", "that-ends-inside-a-page", page(&[7; 999]));
    add(all, "stream", "with-bytes-after-a-page", page(&[7; 1001]));
}

/// Answers to who asked for the last group of a shard, or for a page of at most 64 KiB.
fn answers(all: &mut Vec<Made>) {
    let (bytes, table) = shard();
    let expected = shard_expected();
    let begins = ShardBegins { length: expected.length, root: expected.root, first_group: 3 };
    let head = |begins| frame(&FetchResponse::Shard(begins)).to_vec();
    let (hashes, last) = (table_bytes(table), &bytes[3 * GROUP_BYTES..]);
    let whole = |begins| [&head(begins)[..], &hashes, last].concat();
    let flipped = |at: usize| {
        let mut bytes = whole(begins);
        bytes[at] ^= 0x10;
        bytes
    };
    let (start, length) = (head(begins).len(), whole(begins).len());
    let placement = |length| FetchResponse::Placement { owner: owner(), length, more: false };
    for (name, bytes) in [
        ("nothing", vec![]),
        ("of-another-length", whole(ShardBegins { length: begins.length + 1, ..begins })),
        ("of-another-root", whole(ShardBegins { root: Hash([0; 32]), ..begins })),
        ("from-another-group", whole(ShardBegins { first_group: 0, ..begins })),
        ("with-a-bent-table", flipped(start + 40)),
        ("with-a-bent-group", flipped(start + 128 + 9)),
        ("with-a-bent-last-byte", flipped(length - 1)),
        ("cut-inside-the-table", whole(begins)[..start + 100].to_vec()),
        ("cut-inside-a-group", whole(begins)[..length - 1].to_vec()),
        ("with-bytes-behind-it", [&whole(begins)[..], &[0]].concat()),
        ("of-another-version", other_version(Protocol::Fetch).into()),
        ("with-a-placement-cut-off", [&frame(&placement(9))[..], &[7; 3]].concat()),
        (
            "with-a-page-too-long-for-its-kind",
            frame(&FetchResponse::Blob { length: 65_537 }).into(),
        ),
        ("with-a-page-cut-off", [&frame(&FetchResponse::Blob { length: 9 })[..], &[7; 3]].concat()),
        (
            "with-a-page-that-goes-on",
            [&frame(&FetchResponse::Blob { length: 3 })[..], &[7; 9]].concat(),
        ),
    ] {
        add(all, "fetch-answer", name, bytes);
    }
}

fn refusals(all: &mut Vec<Made>) {
    use FetchRefusal::{BadRequest, BeyondEnd, Busy, Damaged, Internal, NotHeld, Stopping};
    let all_of_them = [NotHeld, BeyondEnd, BadRequest, Busy, Damaged, Stopping, Internal];
    for (number, refusal) in all_of_them.into_iter().enumerate() {
        let name = format!("refused-with-{number}");
        add(all, "fetch-answer", &name, frame(&FetchResponse::Refused(refusal)));
    }
}

/// What a peer may not say, or not to who accepted (RFC 9000 section 19).
fn frames(all: &mut Vec<Made>) {
    for (name, bytes) in [
        ("none-at-all", &[][..]),
        ("of-an-unknown-kind", &[0x21]),
        ("handshake-done-from-who-dialled", &[0x1e]),
        ("new-token-from-who-dialled", &[0x07, 3, 1, 2, 3]),
        ("ack-of-what-was-never-sent", &[0x02, 0xc0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("ack-that-goes-below-zero", &[0x02, 0, 0, 0, 5]),
        ("ack-cut-off", &[0x02, 0]),
        ("stream-beyond-the-limit", &[0x0a, 0x80, 1, 0, 0, 1, b'a']),
        ("stream-of-a-kind-that-is-not-taken", &[0x0a, 2, 1, b'a']),
        ("stream-of-ours-that-was-never-opened", &[0x0a, 1, 1, b'a']),
        ("stream-longer-than-its-packet", &[0x0a, 0, 9, b'a']),
        ("stream-beyond-flow-control", &[0x0e, 0, 0xbf, 0xff, 0xff, 0xff, 1, b'a']),
        ("stream-beyond-2-to-the-62", &[0x0e, 0, 255, 255, 255, 255, 255, 255, 255, 255, 1, b'a']),
        ("stream-with-two-ends", &[0x0b, 0, 1, b'a', 0x0b, 0, 2, b'a', b'b']),
        ("reset-beyond-flow-control", &[0x04, 0, 1, 0xbf, 0xff, 0xff, 0xff]),
        ("window-of-a-stream-never-opened", &[0x11, 1, 9]),
        ("stop-of-a-stream-never-opened", &[0x05, 1, 9]),
        ("more-than-2-to-the-60-streams", &[0x12, 255, 255, 255, 255, 255, 255, 255, 255]),
        (
            "id-that-retires-itself",
            &[
                0x18, 1, 2, 8, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
                2,
            ],
        ),
        ("id-of-no-bytes", &[0x18, 1, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
        (
            "id-of-21-bytes",
            &[0x18, 1, 0, 21, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ),
        ("retirement-of-an-id-never-given", &[0x19, 0x40, 99]),
        ("path-response-cut-off", &[0x1b, 1, 2, 3]),
        ("crypto-far-ahead", &[0x06, 0x80, 0x10, 0, 0, 1, 7]),
        ("datagram", &[0x30, 1, 2, 3]),
        ("goodbye-as-the-program", &[0x1d, 7, 3, b'b', b'y', b'e']),
        ("goodbye-with-an-escape-in-it", &[0x1d, 7, 4, 0x1b, b'[', b'2', b'J']),
        ("complaint-of-the-transport", &[0x1c, 0x0a, 0, 3, b'y', b'o', b'u']),
    ] {
        add(all, "frames", name, bytes);
    }
}

/// Requests to a node that holds shard 9 of chunk 3, whose 300 bytes are one group.
fn requests(all: &mut Vec<Made>) {
    let asked = |protocol, message: &[u8]| [&preamble(protocol)[..], message].concat();
    let fetch = |request: FetchRequest| asked(Protocol::Fetch, &frame(&request));
    let of_another = ShardKey { locator: Locator([9; 32]), ..held_key() };
    let locator = locator();
    let after = Some((ChunkNumber(1), ShardIndex(1), Hash([1; 32])));
    let whose = PlacementOf::First;
    let (lease_seconds, now) = (LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator, bytes: 1 << 28, lease_seconds, now };
    let other_root =
        FetchRequest::GetShard { key: held_key(), root: Hash([1; 32]), first_group: 0 };
    let long = frame(&Ping { nonce: [7; 16] });
    for (name, bytes) in [
        ("for-a-shard-of-another-object", fetch(get(of_another, 0))),
        ("for-a-shard-that-is-not-held", fetch(get(key(3, 8), 0))),
        ("for-a-group-beyond-the-end", fetch(get(held_key(), 1))),
        (
            "for-a-manifest-that-is-not-held",
            fetch(FetchRequest::GetManifest { locator, page: Hash([1; 32]) }),
        ),
        ("for-a-shard-with-another-root", fetch(other_root)),
        (
            "for-a-placement-that-is-not-held",
            fetch(FetchRequest::GetPlacement { locator, page: 0, whose }),
        ),
        ("for-more-than-the-share-of-a-peer", asked(Protocol::Route, &frame(&find))),
        ("of-no-protocol", vec![0]),
        ("of-an-unknown-protocol", [&[9][..], b"/ipfs/id/"].concat()),
        ("of-a-message-too-long", asked(Protocol::Ping, &[17, 0, 0, 0])),
        ("of-a-message-that-is-none", asked(Protocol::Fetch, &[1, 0, 0, 0, 9])),
        ("that-ends-at-once", vec![]),
        ("that-ends-inside-its-message", asked(Protocol::Ping, &long[..9])),
        (
            "for-a-list-of-what-follows-the-last",
            fetch(FetchRequest::Stat { locator, owner: None, after }),
        ),
    ] {
        // The last one is an answer and no refusal: it shows that the others could be.
        if name != "for-a-list-of-what-follows-the-last" {
            add(all, "request", name, bytes);
        }
    }
    add_recipe(all, "request", "of-zeros-without-end", "repeat 100000 00");
}

/// Puts that a node refuses.
fn proofs(all: &mut Vec<Made>) {
    let granted = |bytes_max, issued: u64, nonce: u8| {
        let issued = UnixTime(issued);
        Grant::issue(&identity(1), owner(), locator(), bytes_max, issued, 3600, [nonce; 16])
    };
    let with = |grant: &Grant, index: u8, unit: &[u8], root: Hash| {
        let mut header = shard_header(auth());
        (header.auth.grant, header.key) = (grant.clone(), key(3, index));
        let request = frame(&unproven(StoreRequest::PutShard(header)));
        let trailer = frame(&StoreTrailer { root, length: unit.len() as u64 });
        let body = [&unit_header(unit.len())[..], unit, &UNITS_END, &trailer].concat();
        [&preamble(Protocol::Store)[..], &request, &body].concat()
    };
    let good = granted(1 << 30, NOW.0, 1);
    let unit = pattern(300);
    let right = Hash::of(&unit);
    let elsewhere = Grant { locator: Locator([9; 32]), ..good.clone() };
    let stranger = Grant { origin: identity(3).peer(), ..good.clone() };
    let mut forged = shard_header(auth());
    forged.auth.grant.signature[0] ^= 1;
    let mut stolen = shard_header(auth());
    stolen.auth.proof[0] ^= 1;
    let mut foreign = shard_header(auth());
    foreign.auth.grant = Grant { holder: identity(3).peer(), ..good.clone() };
    let raw =
        |header| [&preamble(Protocol::Store)[..], &frame(&StoreRequest::PutShard(header))].concat();
    for (name, bytes) in [
        ("with-a-grant-that-is-over", with(&granted(1 << 30, NOW.0 - 3600, 1), 1, &unit, right)),
        ("with-a-grant-from-tomorrow", with(&granted(1 << 30, NOW.0 + 86_400, 1), 1, &unit, right)),
        ("with-a-grant-for-another-object", with(&elsewhere, 1, &unit, right)),
        ("with-a-grant-to-another-origin", with(&stranger, 1, &unit, right)),
        ("with-a-grant-by-another-holder", raw(foreign)),
        ("with-a-forged-grant", raw(forged)),
        ("with-a-proof-of-another-connection", raw(stolen)),
        ("of-more-than-the-grant", with(&granted(300, NOW.0, 1), 1, &unit, right)),
        ("of-another-root-than-announced", with(&good, 1, &unit, Hash([1; 32]))),
        ("of-other-bytes-for-what-is-held", with(&good, 9, &pattern(299), Hash::of(&pattern(299)))),
        ("of-a-shard-without-its-trailer", with(&good, 1, &unit, right)[..600].to_vec()),
    ] {
        add(all, "request", name, bytes);
    }
    let mut page = store_requests(&auth()).swap_remove(2);
    if let StoreRequest::PutManifest(header) = &mut page {
        header.page = ManifestPage::Page(Hash([1; 32]));
    }
    let page = frame(&unproven(page));
    let page = [&preamble(Protocol::Store)[..], &page, &pattern(1000)].concat();
    add(all, "request", "of-a-page-with-another-hash", page);
}
