//! What valid inputs are made from.

use pangea_base::{
    ChunkNumber, Code, Hash, Identity, Locator, ManifestId, PeerAddr, PeerId, ReadKey, Secret,
    ShardIndex, ShardKey, UnixTime,
};
use pangea_wire::{
    AuthChallenge, ChunkParts, FetchRequest, Grant, Link, LinkKey, ManifestHeader, ManifestPage,
    PlacementHeader, PlacementOf, Receipt, ShardHeader, StoreRequest, shard_bytes,
};

pub const EXPORTER: [u8; 32] = [0xe0; 32];
pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const LEASE_SECONDS: u64 = 100_000_000;
pub const UNTIL: UnixTime = UnixTime(NOW.0 + LEASE_SECONDS);

pub fn identity(seed: u8) -> Identity {
    Identity::from_seed(Secret::new([seed; 32]))
}

/// Who puts.
pub fn owner() -> PeerId {
    identity(2).peer()
}

pub fn read_key() -> ReadKey {
    ReadKey(Secret::new([0x52; 32]))
}

pub fn locator() -> Locator {
    read_key().verify_key().locator()
}

pub fn key(chunk: u32, index: u8) -> ShardKey {
    ShardKey { locator: locator(), chunk: ChunkNumber(chunk), index: ShardIndex(index) }
}

/// By 1, for 2.
pub fn grant() -> Grant {
    Grant::issue(&identity(1), owner(), locator(), 1 << 30, NOW, 3600, [0x4e; 16])
}

pub fn auth() -> AuthChallenge {
    AuthChallenge::new(&identity(2), grant(), &EXPORTER)
}

/// Of shard 9 of chunk 3, by 1, for 2.
pub fn receipt() -> Receipt {
    Receipt::issue(&identity(1), owner(), key(3, 9), Hash([0xab; 32]), 1_048_576, NOW, UNTIL)
}

pub fn shard_header(auth: AuthChallenge) -> ShardHeader {
    let code = Code::new(10, 4).expect("10 + 4 is a code");
    ShardHeader { auth, key: key(3, 9), code, length_max: 1 << 20, lease_seconds: LEASE_SECONDS }
}

/// One of each kind.
pub fn store_requests(auth: &AuthChallenge) -> Vec<StoreRequest> {
    let page = |page, length| {
        let (auth, locator) = (auth.clone(), locator());
        StoreRequest::PutManifest(ManifestHeader { auth, locator, page, length })
    };
    vec![
        StoreRequest::PutShard(shard_header(auth.clone())),
        page(ManifestPage::Root(ManifestId([0x1d; 32])), 65_536),
        page(ManifestPage::Page(Hash([0x1e; 32])), 1000),
        StoreRequest::PutPlacement(PlacementHeader {
            auth: auth.clone(),
            locator: locator(),
            page: 2,
            length: 1000,
        }),
    ]
}

/// One of each kind, and then of every shape. The shard is [`pattern`] of 300 bytes.
pub fn fetch_requests() -> Vec<FetchRequest> {
    let locator = locator();
    let root = Hash::of(&pattern(300));
    let after = Some((ChunkNumber(0), ShardIndex(3), root));
    let placement = |whose| FetchRequest::GetPlacement { locator, page: 0, whose };
    vec![
        FetchRequest::GetShard { key: key(3, 9), root, first_group: 1 },
        FetchRequest::GetManifest { locator, page: Hash([0x1d; 32]) },
        placement(PlacementOf::First),
        FetchRequest::Stat { locator, owner: None, after },
        placement(PlacementOf::Owner(owner())),
        placement(PlacementOf::Behind(owner())),
        FetchRequest::Stat { locator, owner: Some(owner()), after: None },
    ]
}

pub fn peer_addr(port: u16) -> PeerAddr {
    PeerAddr { peer: PeerId([3; 32]), addr: ([10, 0, 0, 1], port).into() }
}

pub fn chunk_parts(k: u8, m: u8, plaintext_bytes: u64) -> ChunkParts {
    let sealed_bytes = plaintext_bytes + 4096;
    ChunkParts {
        suite: 1,
        scheme: 1,
        k,
        m,
        segment_bytes: 131_072,
        plaintext_bytes,
        sealed_bytes,
        shard_bytes: shard_bytes(sealed_bytes, k.into()),
        roots: (0..k + m).map(|index| Hash([index; 32])).collect(),
    }
}

pub fn link(hints: Vec<PeerAddr>) -> Link {
    let key = LinkKey::Read(read_key());
    Link::new(ManifestId([0x1d; 32]), key, hints).expect("the hints can be dialled")
}

/// Bytes that do not repeat soon.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * i / 7 % 251) as u8).collect()
}
