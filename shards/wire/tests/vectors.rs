//! The vectors of `format.md` are what this code makes and reads.

mod common;

use common::*;
use pangea_base::*;
use pangea_wire::*;

const FORMAT: &str = include_str!("../format.md");

/// The hex (or text) behind `name:` in the code blocks of `format.md`, its lines joined.
fn vector(name: &str) -> String {
    let start = FORMAT.find(&format!("\n{name}:\n")).unwrap_or_else(|| panic!("no vector {name}"));
    let lines = FORMAT[start..].lines().skip(2);
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

fn agrees(name: &str, ours: &[u8]) {
    let (written, ours) = (vector(name), hex(ours));
    assert_eq!(written, ours, "vector {name} of format.md");
}

fn message<M: Message + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let ours = frame(message);
    agrees(name, &ours);
    let read = reader(unhex(&vector(name))).message::<M>().unwrap().unwrap();
    assert_eq!(&read, message, "vector {name} of format.md");
}

#[test]
fn every_message_is_what_the_format_document_says() {
    agrees("preamble", &preamble(Protocol::Store));
    let bytes = 1_048_576;
    let lease = UnixTime(1_900_000_000);
    message("find-routes", &RouteRequest::FindRoutes { locator: locator(), bytes, lease });
    let v6 = PeerAddr { peer: PeerId([4; 32]), addr: "[2001:db8::7]:443".parse().unwrap() };
    let peers = vec![peer_addr(9090), v6];
    message("route-response", &RouteResponse { peers, grants: vec![grant()], refusal: None });
    message("put-shard", &StoreRequest::PutShard(shard_header()));
    message("put-manifest", &StoreRequest::PutManifest(manifest_header()));
    message("put-placement", &StoreRequest::PutPlacement(placement_header()));
    message("trailer", &StoreTrailer { root: Hash([0xab; 32]), length: 1_048_576 });
    message("stored", &StoreResponse::Stored(receipt()));
    message("blob-stored", &StoreResponse::BlobStored);
    let over = over_quota(300);
    message("refused-over-quota", &StoreResponse::Refused(over));
    let expired = StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Expired));
    message("refused-grant-expired", &StoreResponse::Refused(expired));
    message("get-shard", &FetchRequest::GetShard { key: key(3, 9), first_group: 5 });
    let page = Hash([0x1d; 32]);
    message("get-manifest", &FetchRequest::GetManifest { locator: locator(), page });
    message("get-placement", &FetchRequest::GetPlacement { locator: locator(), page: 2 });
    let after = Some((ChunkNumber(3), ShardIndex(9)));
    message("stat", &FetchRequest::Stat { locator: locator(), after });
    let begins = ShardBegins { length: 1_048_576, root: Hash([0xab; 32]), first_group: 5 };
    message("shard-begins", &FetchResponse::Shard(begins));
    message("blob", &FetchResponse::Blob { length: 65_536 });
    message("stat-response", &FetchResponse::Stat { shards: vec![held(3, 9)], more: true });
    message("not-held", &FetchResponse::Refused(FetchRefusal::NotHeld));
    message("ping", &Ping { nonce: [0x4e; 16] });
    let (capacity_bytes, used_bytes) = (1 << 40, 300);
    message("pong", &Pong { nonce: [0x4e; 16], version: 1, capacity_bytes, used_bytes });
}

#[test]
fn every_refusal_has_the_number_that_the_format_document_gives_it() {
    let limit = 1;
    let grant = |cause| StoreRefusal::BadGrant(AuthRefused::Grant(cause));
    let store = [
        (StoreRefusal::NotAccepting, "00"),
        (over_quota(1), "0100010101"),
        (grant(GrantRefused::Version), "020000"),
        (grant(GrantRefused::Holder), "020001"),
        (grant(GrantRefused::Origin), "020002"),
        (grant(GrantRefused::Locator), "020003"),
        (grant(GrantRefused::Expired), "020004"),
        (grant(GrantRefused::Signature), "020005"),
        (StoreRefusal::BadGrant(AuthRefused::Proof), "0201"),
        (StoreRefusal::OverGrant { limit }, "0301"),
        (StoreRefusal::RootMismatch, "04"),
        (StoreRefusal::TooLong { limit }, "0501"),
        (StoreRefusal::BadRequest, "06"),
        (StoreRefusal::Full { capacity: 1 }, "0701"),
        (StoreRefusal::Busy, "08"),
        (StoreRefusal::AlreadyHeldDifferent, "09"),
        (StoreRefusal::TooSlow, "0a"),
        (StoreRefusal::Stopping, "0b"),
        (StoreRefusal::Internal, "0c"),
    ];
    for (refusal, code) in store {
        assert_eq!(hex(&body(&StoreResponse::Refused(refusal))), format!("02{code}"), "{refusal}");
    }
    let fetch = [
        FetchRefusal::NotHeld,
        FetchRefusal::BeyondEnd,
        FetchRefusal::BadRequest,
        FetchRefusal::Busy,
        FetchRefusal::Damaged,
        FetchRefusal::Stopping,
        FetchRefusal::Internal,
    ];
    for (number, refusal) in (0..).zip(fetch) {
        assert_eq!(body(&FetchResponse::Refused(refusal)), [3, number], "{refusal}");
    }
}

#[test]
fn manifest_placement_and_link_are_what_the_format_document_says() {
    let label = Some(Label::new("report.pdf").unwrap());
    let object = Object { label, chunks: vec![chunk(1, 1, 100_000)] };
    let sealed = seal_manifest(&object, &read_key(), &mut Entropy::new([9; 32])).unwrap();
    agrees("manifest-root", &sealed.root);
    agrees("manifest-id", &sealed.id.0);
    let read = unhex(&vector("manifest-root"));
    let reader = ManifestReader::root(&read, sealed.id, &read_key().verify_key()).unwrap();
    assert_eq!(reader.label(&read_key()).unwrap(), object.label);

    let mut placement = Placement::new(locator());
    placement.add(receipt(), None).unwrap();
    let seen = PeerAddr { peer: receipt().holder, addr: "192.0.2.7:9090".parse().unwrap() };
    let pages = placement.pages(&[seen]);
    assert_eq!(pages.len(), 1);
    agrees("placement-page", &pages[0]);
    let page = PlacementPage::parse(&unhex(&vector("placement-page")), locator()).unwrap();
    assert_eq!(page.receipts, [receipt()]);
    assert_eq!(page.holders, [seen]);

    assert_eq!(vector("read-link"), *link().reveal());
    assert_eq!(vector("verify-link"), *link().to_verify().reveal());
    assert_eq!(vector("link-id"), link().public_id());
    let parsed: Link = vector("read-link").parse().unwrap();
    assert_eq!(parsed.manifest, link().manifest);
    assert_eq!(parsed.hints(), link().hints());
    assert_eq!(parsed.read_key().unwrap().0.expose(), read_key().0.expose());
}

#[test]
fn the_striping_rule_gives_the_lengths_in_the_format_document() {
    let table: Vec<[u64; 3]> = vector("shard-bytes")
        .split(';')
        .filter(|row| !row.is_empty())
        .map(|row| {
            let numbers: Vec<u64> = row.split(',').map(|n| n.trim().parse().unwrap()).collect();
            numbers.try_into().unwrap()
        })
        .collect();
    assert!(table.len() >= 8);
    for [sealed, k, expected] in table {
        assert_eq!(shard_bytes(sealed, k as usize), expected, "{sealed} bytes over {k} shards");
    }
}

fn over_quota(bytes: u64) -> StoreRefusal {
    let (used, limit, capacity) = (bytes, bytes, bytes);
    StoreRefusal::OverQuota { whose: pangea_wire::Whose::Peer, used, limit, capacity }
}
