//! A shard or page as a caller sends it, honest until something in it is changed.

use bytes::Bytes;
use pangea_base::{
    ChunkNumber, Code, GROUP_BYTES, Hash, Locator, ManifestId, ShardIndex, ShardKey,
};
use pangea_wire::{
    AuthChallenge, Grant, ManifestHeader, ManifestPage, PlacementHeader, Protocol, ShardHeader,
    StoreRequest, StoreTrailer, UNITS_END, frame, preamble, unit_header,
};

use super::caller::{LEASE_SECONDS, Scene, Words};

/// One shard on its way to a node.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub key: ShardKey,
    pub code: Code,
    pub bytes: Bytes,
    /// What the header says at most.
    pub declared: u64,
    pub lease_seconds: u64,
    pub trailer: StoreTrailer,
    /// Instead of the grant heard last, and instead of a proof for this connection.
    pub grant: Option<Grant>,
    pub auth: Option<AuthChallenge>,
}

impl Parcel {
    /// An honest one: shard `index` of the first chunk of an object.
    pub fn new(locator: Locator, index: u8, bytes: Bytes) -> Parcel {
        let length = bytes.len() as u64;
        Parcel {
            key: ShardKey { locator, chunk: ChunkNumber(0), index: ShardIndex(index) },
            code: Code::new(1, 7).expect("one of eight is a code"),
            declared: length,
            lease_seconds: LEASE_SECONDS,
            trailer: StoreTrailer { root: Hash::of(&bytes), length },
            bytes,
            grant: None,
            auth: None,
        }
    }

    /// The proof that it is sent with; `None` where there is no grant.
    pub fn auth(&self, scene: &Scene<'_>) -> Option<AuthChallenge> {
        let grant = || self.grant.clone().or_else(|| scene.grant.clone());
        let fresh = || {
            let grant = grant()?;
            Some(AuthChallenge::new(&scene.body.identity, grant, &scene.exporter))
        };
        self.auth.clone().or_else(fresh)
    }

    /// All of it, as it goes over the stream.
    pub fn words(&self, scene: &mut Scene<'_>) -> Words {
        let Some(auth) = self.auth(scene) else { return Words::of([]) };
        let header = ShardHeader {
            auth,
            key: self.key,
            code: self.code,
            length_max: self.declared,
            lease_seconds: self.lease_seconds,
        };
        let mut pieces = vec![preamble(Protocol::Store), frame(&StoreRequest::PutShard(header))];
        for at in (0..self.bytes.len()).step_by(GROUP_BYTES) {
            let unit = self.bytes.slice(at..self.bytes.len().min(at + GROUP_BYTES));
            pieces.push(Bytes::copy_from_slice(&unit_header(unit.len())));
            pieces.push(unit);
        }
        pieces.push(Bytes::from_static(&UNITS_END));
        pieces.push(frame(&self.trailer));
        Words::of(pieces)
    }

    /// Only the first part of it in thousandths, and nothing more.
    pub fn part(&self, scene: &mut Scene<'_>, thousandths: usize) -> Words {
        let mut words = self.words(scene).open();
        words.saying.cut(words.saying.bytes() * thousandths / 1000);
        words
    }
}

/// What a shard of so many bytes takes on a holder's disk: blocks, and its group table if it has
/// more than one group. Grants are asked for in these.
pub(super) fn disk_bytes(length: usize) -> u64 {
    const BLOCK: usize = 4096;
    let groups = length.div_ceil(GROUP_BYTES);
    let table = if groups > 1 { groups * 32 } else { 0 };
    ((length.div_ceil(BLOCK) + table.div_ceil(BLOCK)) * BLOCK) as u64
}

/// The root page of a manifest.
pub(super) fn manifest(scene: &mut Scene<'_>, locator: Locator, page: Bytes) -> Words {
    let Some(auth) = proof(scene) else { return Words::of([]) };
    let name = ManifestPage::Root(ManifestId(Hash::of(&page).0));
    let length = u32::try_from(page.len()).expect("pages are short");
    let header = ManifestHeader { auth, locator, page: name, length };
    Words::of([preamble(Protocol::Store), frame(&StoreRequest::PutManifest(header)), page])
}

/// The first page of a placement.
pub(super) fn placement(scene: &mut Scene<'_>, locator: Locator, page: Bytes) -> Words {
    let Some(auth) = proof(scene) else { return Words::of([]) };
    let length = u32::try_from(page.len()).expect("pages are short");
    let header = PlacementHeader { auth, locator, page: 0, length };
    Words::of([preamble(Protocol::Store), frame(&StoreRequest::PutPlacement(header)), page])
}

fn proof(scene: &Scene<'_>) -> Option<AuthChallenge> {
    let grant = scene.grant.clone()?;
    Some(AuthChallenge::new(&scene.body.identity, grant, &scene.exporter))
}
