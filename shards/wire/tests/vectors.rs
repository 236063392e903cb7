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
    agrees("other-version", &other_version(Protocol::Store));
    let (bytes, lease_seconds, now) = (1_048_576, LEASE_SECONDS, NOW);
    let find = RouteRequest::FindRoutes { locator: locator(), bytes, lease_seconds, now };
    message("find-routes", &find);
    message("release", &RouteRequest::Release { locator: locator() });
    let v6 = PeerAddr { peer: PeerId([4; 32]), addr: "[2001:db8::7]:443".parse().unwrap() };
    let peers = vec![peer_addr(9090), v6];
    message("route-response", &RouteResponse { peers, grants: vec![grant()], refusal: None, now });
    message("put-shard", &StoreRequest::PutShard(shard_header()));
    message("put-manifest", &StoreRequest::PutManifest(manifest_header()));
    message("put-placement", &StoreRequest::PutPlacement(placement_header()));
    message("trailer", &StoreTrailer { root: Hash([0xab; 32]), length: 1_048_576 });
    message("stored", &StoreResponse::Stored(receipt()));
    message("blob-stored", &StoreResponse::BlobStored);
    let (whose, capacity) = (Whose::Network, 10 << 30);
    let over = StoreRefusal::OverQuota { whose, used: 200 << 20, limit: 1 << 30, capacity };
    message("refused-over-quota", &StoreResponse::Refused(over));
    let over = StoreRefusal::BadGrant(AuthRefused::Grant(GrantRefused::Over));
    message("refused-grant-over", &StoreResponse::Refused(over));
    let long = StoreRefusal::LeaseTooLong { limit: 157_766_400 };
    message("refused-lease-too-long", &StoreResponse::Refused(long));
    let root = Hash([0xab; 32]);
    message("get-shard", &FetchRequest::GetShard { key: key(3, 9), root, first_group: 5 });
    let page = Hash([0x1d; 32]);
    message("get-manifest", &FetchRequest::GetManifest { locator: locator(), page });
    let locator = locator();
    for (name, whose) in [
        ("get-placement-of", PlacementOf::Owner(owner())),
        ("get-placement-first", PlacementOf::First),
        ("get-placement-behind", PlacementOf::Behind(owner())),
    ] {
        message(name, &FetchRequest::GetPlacement { locator, page: 2, whose });
    }
    message("stat", &FetchRequest::Stat { locator, owner: None, after: None });
    let (of, after) = (Some(owner()), Some((ChunkNumber(3), ShardIndex(9), root)));
    message("stat-of-after", &FetchRequest::Stat { locator, owner: of, after });
    let begins = ShardBegins { length: 1_048_576, root, first_group: 5 };
    message("shard-begins", &FetchResponse::Shard(begins));
    message("blob", &FetchResponse::Blob { length: 65_536 });
    let placement = FetchResponse::Placement { owner: owner(), length: 65_536, more: true };
    message("placement-begins", &placement);
    message("stat-response", &FetchResponse::Stat { now, shards: vec![held(3, 9)], more: true });
    message("not-held", &FetchResponse::Refused(FetchRefusal::NotHeld));
    message("ping", &Ping { nonce: [0x4e; 16] });
    let (capacity_bytes, used_bytes) = (1 << 40, 300);
    message("pong", &Pong { nonce: [0x4e; 16], version: VERSION, capacity_bytes, used_bytes, now });
}

#[test]
fn every_refusal_has_the_number_that_the_format_document_gives_it() {
    let (limit, used, capacity) = (1, 2, 3);
    let grant = |cause| StoreRefusal::BadGrant(AuthRefused::Grant(cause));
    let store = [
        (StoreRefusal::NotAccepting, "00"),
        (StoreRefusal::OverQuota { whose: Whose::Peer, used, limit, capacity }, "0100020103"),
        (StoreRefusal::OverQuota { whose: Whose::Network, used, limit, capacity }, "0101020103"),
        (grant(GrantRefused::Version), "020000"),
        (grant(GrantRefused::Holder), "020001"),
        (grant(GrantRefused::Origin), "020002"),
        (grant(GrantRefused::Locator), "020003"),
        (grant(GrantRefused::Over), "020004"),
        (grant(GrantRefused::Signature), "020005"),
        (StoreRefusal::BadGrant(AuthRefused::Proof), "0201"),
        (StoreRefusal::OverGrant { limit }, "0301"),
        (StoreRefusal::RootMismatch, "04"),
        (StoreRefusal::TooLong { limit }, "0501"),
        (StoreRefusal::LeaseTooLong { limit }, "0601"),
        (StoreRefusal::BadRequest, "07"),
        (StoreRefusal::Full { capacity }, "0803"),
        (StoreRefusal::Busy, "09"),
        (StoreRefusal::AlreadyHeldDifferent, "0a"),
        (StoreRefusal::TooSlow, "0b"),
        (StoreRefusal::Stopping, "0c"),
        (StoreRefusal::Internal, "0d"),
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
    let object = Object { label, owner: Some(owner()), chunks: vec![chunk(1, 1, 100_000)] };
    let sealed = seal_manifest(&object, &read_key(), &mut Entropy::new([9; 32])).unwrap();
    agrees("manifest-root", &sealed.root);
    agrees("manifest-id", &sealed.id.0);
    reads_as("manifest-root", sealed.id, &object);

    let mut placement = Placement::new(locator());
    placement.add(receipt(), None).unwrap();
    let seen = seen();
    let pages = placement.pages(owner(), &[seen]);
    assert_eq!(pages.len(), 1);
    agrees("placement-page", &pages[0]);
    let page = unhex(&vector("placement-page"));
    let page = PlacementPage::parse(&page, locator(), owner()).unwrap();
    assert_eq!((page.receipts, page.owner), (vec![receipt()], Some(owner())));
    assert_eq!(page.holders, [seen]);

    assert_eq!(vector("read-link"), *link().reveal());
    assert_eq!(vector("verify-link"), *link().to_verify().reveal());
    assert_eq!(vector("link-id"), link().public_id());
    let parsed: Link = vector("read-link").parse().unwrap();
    assert_eq!(parsed.manifest, link().manifest);
    assert_eq!(parsed.hints(), link().hints());
    assert_eq!(parsed.read_key().unwrap().0.expose(), read_key().0.expose());
}

/// Where the holder of the vectors was seen.
fn seen() -> PeerAddr {
    PeerAddr { peer: receipt().holder, addr: "192.0.2.7:9090".parse().unwrap() }
}

/// The root page of a vector says this of its object.
fn reads_as(name: &str, id: ManifestId, object: &Object) {
    let read = unhex(&vector(name));
    let reader = ManifestReader::root(&read, id, &read_key().verify_key()).unwrap();
    assert_eq!(reader.label(&read_key()).unwrap(), object.label);
    assert_eq!(reader.owner(), object.owner);
    let Contents::Chunks { entries, .. } = reader.top() else { panic!("one chunk needs no page") };
    assert_eq!(entries, &object.chunks);
}

#[test]
fn manifests_and_placement_pages_of_version_1_are_still_read() {
    let label = Some(Label::new("report.pdf").unwrap());
    let object = Object { label, owner: None, chunks: vec![chunk(1, 1, 100_000)] };
    let id = unhex(&vector("manifest-id-1")).try_into().unwrap();
    reads_as("manifest-root-1", ManifestId(id), &object);

    let page = unhex(&vector("placement-page-1"));
    // Whoever it was stored by: it does not say.
    for stored_by in [owner(), identity(9).peer()] {
        let page = PlacementPage::parse(&page, locator(), stored_by).unwrap();
        assert_eq!((page.number, page.pages, page.owner), (0, 1, None));
        assert_eq!(page.holders, [seen()]);
        let [old] = &page.receipts[..] else { panic!("one receipt") };
        let Receipt { root, length, .. } = receipt();
        assert_eq!((old.key(), old.root, old.length), (key(3, 9), root, length));
        assert_eq!((old.version, old.owner, old.stored, old.until), (1, None, None, UNTIL));
        assert_eq!(old.verify(), Ok(()), "its signature is of version 1");
        assert!(!old.gives(0), "nobody knows for how long it was promised");
        let mut placement = Placement::of_owner(locator(), owner());
        assert_eq!(placement.add(old.clone(), None), Ok(Added::New));
        assert_eq!(placement.add(receipt(), None), Ok(Added::Renewed), "the owner's comes first");
    }
}

#[test]
fn all_else_of_version_1_is_refused_by_the_name_of_its_version() {
    let old = said(reader(unhex(&vector("preamble-1"))).protocol());
    assert_eq!(old, "the peer speaks version 1 of /pangea/store, this program speaks 2");
    let stored = unhex(&vector("stored-1"));
    let put = unhex(&vector("put-shard-1"));
    let routes = unhex(&vector("route-response-1"));
    all_are_named(&[
        (
            "a receipt",
            said(reader(stored).message::<StoreResponse>()),
            "its receipt has version 1, this program knows version 2",
        ),
        (
            "a grant that is used",
            said(reader(put).message::<StoreRequest>()),
            "its grant has version 1, this program knows version 2",
        ),
        (
            "a grant that is given",
            said(reader(routes).message::<RouteResponse>()),
            "its grant has version 1, this program knows version 2",
        ),
    ]);
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
