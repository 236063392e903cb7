//! Origins that do not keep to what they said.

use std::time::Duration;

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, Code, ContentKey, GROUP_BYTES, Hash, Locator, PagePool, PeerAddr, ReadKey,
};
use pangea_ces::{ChunkPlan, ChunkSealed, Codec, Compression, Encoder, Padding, Suite};
use pangea_wire::limits::{LEASE_SECONDS_MAX, SHARD_BYTES_MAX};
use pangea_wire::{
    ChunkEntry, ChunkParts, Link, LinkKey, ManifestWriter, Placement, StoreTrailer, shard_bytes,
    unit_header,
};

use super::body::Body;
use super::caller::{Move, Plot};
use super::parcel::{Parcel, disk_bytes, manifest, placement};

/// Bytes of the shards here: three groups, the last one short.
const SHARD: usize = 40_000;

/// Sends more than it was granted, or something else than it declared, or gives up at the worst
/// moment.
#[derive(Default)]
pub(super) struct OverPutter;

const WAYS: u64 = 13;

impl OverPutter {
    /// The way in which a parcel is wrong, and what is said of it.
    fn spoil(way: u64, parcel: &mut Parcel) -> &'static str {
        match way {
            0 => {
                parcel.declared = SHARD as u64 / 2;
                "shards longer than declared"
            }
            1 => {
                parcel.trailer.root = Hash([9; 32]);
                "wrong roots sent"
            }
            2 => {
                parcel.trailer.length -= 1;
                "wrong lengths sent"
            }
            3 => {
                parcel.declared = SHARD_BYTES_MAX;
                "more declared than granted"
            }
            4 => {
                parcel.lease_seconds = LEASE_SECONDS_MAX;
                "leases without end asked for"
            }
            _ => "honest puts",
        }
    }

    fn say(parcel: Parcel, deed: &'static str) -> Move {
        Move::say(move |scene| {
            scene.body.did(deed);
            parcel.words(scene)
        })
    }

    fn round_of(way: u64, body: &mut Body, locator: Locator) -> Vec<Move> {
        let mut parcel = Parcel::new(locator, 0, body.noise(SHARD));
        let deed = OverPutter::spoil(way, &mut parcel);
        let wait = Move::Wait(Duration::from_millis(body.entropy.below(60)));
        match way {
            0..=4 => vec![OverPutter::say(parcel, deed), Move::Hear],
            5 => vec![lease_beyond(parcel), Move::Hear],
            6 => {
                let shard = |index| {
                    let bytes = Bytes::from(vec![index; SHARD]);
                    [
                        OverPutter::say(Parcel::new(locator, index, bytes), "puts over the grant"),
                        Move::Hear,
                    ]
                };
                (0..4).flat_map(shard).collect()
            }
            7 => {
                let all = Move::say(move |scene| {
                    scene.body.did("given up after the trailer");
                    parcel.words(scene).open()
                });
                vec![all, Move::Said, wait, Move::Reset(5)]
            }
            8 => {
                let thousandths = body.entropy.below(1000) as usize;
                let part = Move::say(move |scene| {
                    scene.body.did("given up in the middle");
                    parcel.part(scene, thousandths)
                });
                vec![part, Move::Said, wait, Move::Reset(5)]
            }
            9 => {
                let mut other = parcel.clone();
                other.bytes = body.noise(SHARD);
                other.trailer.root = Hash::of(&other.bytes);
                vec![
                    OverPutter::say(parcel.clone(), "honest puts"),
                    Move::Hear,
                    OverPutter::say(parcel, "the same put again"),
                    Move::Hear,
                    OverPutter::say(other, "other bytes under the same name"),
                    Move::Hear,
                ]
            }
            10 => vec![short_units(parcel), Move::Hear],
            11 => {
                // What was given back may be used as long as there is room.
                let mut moves = Vec::from(Move::release(locator));
                moves.extend([OverPutter::say(parcel, "puts after a release"), Move::Hear]);
                moves
            }
            _ => {
                let page = body.noise(500);
                let mut bad = body.noise(500).to_vec();
                bad.truncate(499);
                let say = Move::say(move |scene| {
                    scene.body.did("pages under a wrong name");
                    let mut words = manifest(scene, locator, page);
                    words.saying.pieces.pop_back();
                    words.saying.pieces.push_back(Bytes::from(bad));
                    words.saying.pieces.push_back(Bytes::from_static(&[1]));
                    words
                });
                vec![say, Move::Hear]
            }
        }
    }
}

/// A lease of one second more than there can be. By hand, because no honest code makes one: its
/// number ends the header, in five bytes with the least ones first.
fn lease_beyond(parcel: Parcel) -> Move {
    const _: () = assert!(LEASE_SECONDS_MAX & 1 == 0 && LEASE_SECONDS_MAX >> 28 != 0);
    Move::say(move |scene| {
        scene.body.did("leases beyond all limits asked for");
        let parcel = Parcel { lease_seconds: LEASE_SECONDS_MAX, ..parcel };
        let mut words = parcel.words(scene);
        let header = words.saying.pieces.get(1).map_or(0, Bytes::len);
        words.saying.bend(1, header.saturating_sub(5));
        words
    })
}

/// A short unit, and more behind it.
fn short_units(parcel: Parcel) -> Move {
    Move::say(move |scene| {
        scene.body.did("short units in the middle");
        let mut words = parcel.words(scene);
        words.saying.pieces.truncate(2);
        for unit in [GROUP_BYTES, 100, GROUP_BYTES] {
            words.saying.pieces.push_back(Bytes::copy_from_slice(&unit_header(unit)));
            words.saying.pieces.push_back(parcel.bytes.slice(..unit));
        }
        words
    })
}

impl Plot for OverPutter {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let locator = Locator(body.entropy.array());
        // Round after round on one node after the other: every way comes to every node.
        let way = (number + number / WAYS) % WAYS;
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, 3 * disk_bytes(SHARD)));
        moves.extend(OverPutter::round_of(way, body, locator));
        moves.push(Move::Close);
        Some(moves)
    }
}

/// Stores whole objects whose manifest is genuine, and whose chunks are not what it says.
#[derive(Default)]
pub(super) struct BombMaker {
    bomb: Option<Bomb>,
    made: usize,
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    /// It says that there is more than comes out.
    ClaimsMore,
    /// More comes out than it says.
    ClaimsLess,
    /// It is as it says: very much, out of very little.
    Zeros,
    /// Its shards have the right roots, and cannot be opened.
    Noise,
}

const CHARGES: [Charge; 4] = [Charge::ClaimsMore, Charge::ClaimsLess, Charge::Zeros, Charge::Noise];

/// Plaintext of a bomb.
const BOMB_BYTES: usize = 8 << 20;
const SEGMENT: u32 = 131_072;

struct Bomb {
    key: ReadKey,
    locator: Locator,
    // One per node: each of them is the whole chunk.
    shards: Vec<Bytes>,
    root: Bytes,
    told: usize,
}

impl Bomb {
    fn new(body: &mut Body, charge: Charge) -> Bomb {
        let key = ReadKey::generate(&mut body.entropy);
        let locator = key.verify_key().locator();
        let n = body.nodes.len().clamp(1, 60) as u8;
        let code = Code::new(1, n - 1).expect("a few nodes make a code");
        let (mut sealed, mut shards) = encode(body, &key.content_key(), code);
        match charge {
            Charge::ClaimsMore => sealed.plaintext_bytes += 30 * u64::from(SEGMENT) + 5,
            Charge::ClaimsLess => sealed.plaintext_bytes = 1000,
            Charge::Zeros => {}
            Charge::Noise => {
                let noise = body.noise(shards[0].len());
                shards.iter_mut().for_each(|shard| *shard = noise.clone());
                sealed.roots = shards.iter().map(|shard| Hash::of(shard)).collect();
            }
        }
        let owner = Some(body.identity.peer());
        let mut writer = ManifestWriter::new(&key, owner, &mut body.entropy);
        writer.push(&entry(&sealed, code)).expect("one chunk fits every manifest");
        let manifest = writer.finish(None).expect("it has a chunk");
        let hints = body.nodes.iter().copied().take(4).collect();
        let read = ReadKey(pangea_base::Secret::new(*key.0.expose()));
        let link = Link::new(manifest.id, LinkKey::Read(read), hints).expect("nodes are dialable");
        body.offers.push(link);
        body.receipts.clear();
        Bomb { key, locator, shards, root: manifest.root, told: 0 }
    }
}

/// Zeros, in one chunk of which every shard is a copy.
fn encode(body: &mut Body, key: &ContentKey, code: Code) -> (ChunkSealed, Vec<Bytes>) {
    let plan = ChunkPlan {
        suite: Suite::XChaCha20Poly1305,
        code,
        segment_bytes: SEGMENT,
        compression: Compression::Zstd(1),
        padding: Padding::Off,
    };
    let mut codec = Codec::new();
    let pool = PagePool::new(GROUP_BYTES, 128);
    let salt = body.entropy.array();
    let mut encoder = Encoder::start(&mut codec, plan, ChunkNumber(0), key, salt);
    let zeros = vec![0; BOMB_BYTES];
    let mut rest = &zeros[..];
    let mut shards = vec![Vec::new(); code.n()];
    while !encoder.done() {
        let taken = encoder.feed(&mut codec, rest, pangea_ces::End::Last);
        rest = &rest[taken..];
        while let Ok(Some(units)) = encoder.stripe(&mut codec, &pool) {
            let pairs = shards.iter_mut().zip(&units);
            pairs.for_each(|(shard, unit)| shard.extend_from_slice(unit));
        }
    }
    let sealed = encoder.finish(&mut codec);
    (sealed, shards.into_iter().map(Bytes::from).collect())
}

fn entry(sealed: &ChunkSealed, code: Code) -> ChunkEntry {
    let parts = ChunkParts {
        suite: 1,
        scheme: 1,
        k: code.k() as u8,
        m: code.m() as u8,
        segment_bytes: SEGMENT,
        plaintext_bytes: sealed.plaintext_bytes,
        sealed_bytes: sealed.sealed_bytes,
        shard_bytes: shard_bytes(sealed.sealed_bytes, code.k()),
        roots: sealed.roots.clone(),
    };
    ChunkEntry::try_from(parts).expect("a bomb keeps to the form")
}

impl Plot for BombMaker {
    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let nodes = body.nodes.len();
        let at = number as usize % nodes;
        // Two rounds of all nodes for each bomb: its shards and manifest, then where they are.
        let second = (number as usize / nodes) % 2 == 1;
        if at == 0 && !second {
            let charge = CHARGES.get(self.made)?;
            self.bomb = Some(Bomb::new(body, *charge));
            self.made += 1;
        }
        let bomb = self.bomb.as_mut()?;
        let locator = bomb.locator;
        let mut moves = vec![Move::Dial];
        moves.extend(Move::ask_grant(locator, 1 << 20));
        if second {
            let mut book = Placement::new(locator);
            for receipt in body.receipts.iter().filter(|receipt| receipt.locator == locator) {
                let _ = book.add_checked(receipt.clone());
            }
            let page = book.pages(body.identity.peer(), &body.nodes).swap_remove(0);
            moves.push(Move::say(move |scene| placement(scene, locator, page)));
            bomb.told += 1;
            if bomb.told == nodes {
                body.did("bombs laid");
            }
        } else if at < bomb.shards.len() {
            let parcel = Parcel { code: bomb_code(nodes), ..shard(bomb, at) };
            let root = bomb.root.clone();
            moves.push(Move::say(move |scene| parcel.words(scene)));
            moves.push(Move::Hear);
            moves.push(Move::say(move |scene| manifest(scene, locator, root)));
        }
        moves.extend([Move::Hear, Move::Close]);
        Some(moves)
    }
}

fn bomb_code(nodes: usize) -> Code {
    Code::new(1, nodes.clamp(1, 60) as u8 - 1).expect("a few nodes make a code")
}

fn shard(bomb: &Bomb, at: usize) -> Parcel {
    let bytes = bomb.shards[at].clone();
    let trailer = StoreTrailer { root: Hash::of(&bytes), length: bytes.len() as u64 };
    Parcel { trailer, ..Parcel::new(bomb.key.verify_key().locator(), at as u8, bytes) }
}
