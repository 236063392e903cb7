//! What all tests of this room are made from.
#![allow(dead_code, reason = "each test file uses some of it")]

use pangea_base::*;
use pangea_wire::*;

pub const EXPORTER: [u8; 32] = [0xe0; 32];
/// What the holder's clock shows.
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

pub fn grant() -> Grant {
    Grant::issue(&identity(1), owner(), locator(), 1 << 30, NOW, 3600, [0x4e; 16])
}

pub fn auth() -> AuthChallenge {
    AuthChallenge::new(&identity(2), grant(), &EXPORTER)
}

pub fn receipt() -> Receipt {
    Receipt::issue(&identity(1), owner(), key(3, 9), Hash([0xab; 32]), 1_048_576, NOW, UNTIL)
}

pub fn shard_header() -> ShardHeader {
    ShardHeader {
        auth: auth(),
        key: key(3, 9),
        code: Code::new(10, 4).unwrap(),
        length_max: 1_048_576,
        lease_seconds: LEASE_SECONDS,
    }
}

pub fn manifest_header() -> ManifestHeader {
    ManifestHeader {
        auth: auth(),
        locator: locator(),
        page: ManifestPage::Root(ManifestId([0x1d; 32])),
        length: 65_536,
    }
}

pub fn placement_header() -> PlacementHeader {
    PlacementHeader { auth: auth(), locator: locator(), page: 2, length: 1_048_576 }
}

pub fn peer_addr(port: u16) -> PeerAddr {
    PeerAddr { peer: PeerId([3; 32]), addr: ([10, 0, 0, 1], port).into() }
}

pub fn held(chunk: u32, index: u8) -> ShardHeld {
    ShardHeld {
        chunk: ChunkNumber(chunk),
        index: ShardIndex(index),
        length: 1_048_576,
        root: Hash([0xab; 32]),
        until: UNTIL,
    }
}

pub fn chunk_parts(k: u8, m: u8, plaintext_bytes: u64) -> ChunkParts {
    let sealed_bytes = plaintext_bytes + 4096;
    ChunkParts {
        suite: 1,
        scheme: if k as usize + m as usize > 64 { 2 } else { 1 },
        k,
        m,
        segment_bytes: 131_072,
        plaintext_bytes,
        sealed_bytes,
        shard_bytes: shard_bytes(sealed_bytes, k.into()),
        roots: (0..k + m).map(|index| Hash([index; 32])).collect(),
    }
}

pub fn chunk(k: u8, m: u8, plaintext_bytes: u64) -> ChunkEntry {
    ChunkEntry::try_from(chunk_parts(k, m, plaintext_bytes)).unwrap()
}

pub fn link() -> Link {
    let hints = vec![
        peer_addr(9090),
        PeerAddr { peer: PeerId([4; 32]), addr: "[2001:db8::7]:443".parse().unwrap() },
    ];
    Link::new(ManifestId([0x1d; 32]), LinkKey::Read(read_key()), hints).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn body<M: Message>(message: &M) -> Vec<u8> {
    frame(message)[4..].to_vec()
}

pub fn reader(bytes: impl AsRef<[u8]>) -> FrameReader {
    let mut reader = FrameReader::new();
    reader.push(bytes::Bytes::copy_from_slice(bytes.as_ref()));
    reader
}

/// A name, what came of it as text, and a part that the text must have.
pub type Case = (&'static str, String, &'static str);

pub fn said<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => panic!("accepted: {value:?}"),
        Err(error) => error.to_string(),
    }
}

pub fn all_are_named(cases: &[Case]) {
    for (name, text, part) in cases {
        assert!(text.contains(part), "{name}: said '{text}', expected '{part}'");
    }
}
