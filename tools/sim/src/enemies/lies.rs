//! Holders that store as they should and say something else when they are asked for it.

use bytes::Bytes;
use pangea_base::{ChunkNumber, GROUP_BYTES, Hash, Locator, ShardIndex, UnixTime};
use pangea_wire::limits::{
    GRANT_LIFETIME_MAX, LEASE_SECONDS_MAX, PAGE_BYTES_MAX, SHARD_BYTES_MAX, STAT_SHARDS_MAX,
};
use pangea_wire::{
    FetchRefusal, FetchResponse, Grant, RouteResponse, ShardBegins, ShardHeld, StoreRefusal,
    StoreResponse, Whose, frame,
};

use super::holder::{Asked, Desk, Vice, grant, routes};
use super::talk::{End, Saying};

/// Whether a saying is a shard: head, table, bytes.
fn is_shard(asked: &Asked, honest: &Saying) -> bool {
    matches!(asked, Asked::GetShard { .. }) && honest.pieces.len() == 3
}

/// Right length, a wrong byte somewhere.
pub(super) struct Liar;

impl Vice for Liar {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if is_shard(asked, &honest) {
            let length = honest.pieces[2].len() as u64;
            let at = desk.body.entropy.below(length.max(1)) as usize;
            honest.bend(2, at);
            desk.body.did("wrong bytes given");
        }
        honest
    }
}

/// A wrong table of group hashes, or two of them exchanged.
pub(super) struct TableLiar;

impl Vice for TableLiar {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if is_shard(asked, &honest) {
            let length = honest.pieces[1].len();
            let at = desk.body.entropy.below(length.max(1) as u64) as usize;
            if length >= 64 && desk.body.entropy.below(2) == 0 {
                let table = &honest.pieces[1];
                let swapped = [&table[32..64], &table[..32], &table[64..]].concat();
                honest.pieces[1] = Bytes::from(swapped);
            } else {
                honest.bend(1, at);
            }
            desk.body.did("wrong tables given");
        }
        honest
    }
}

/// Stops in the middle of a shard as if that were its end.
pub(super) struct Truncator;

impl Vice for Truncator {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if is_shard(asked, &honest) {
            let length = honest.pieces[2].len() as u64;
            let kept = desk.body.entropy.below(length.max(1)) as usize;
            honest.pieces[2].truncate(kept);
            desk.body.did("shards cut short");
        }
        honest
    }
}

/// Says more than there is.
pub(super) struct Babbler;

impl Vice for Babbler {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if asked.is_fetch() || asked.is_put() {
            let more = 1 + desk.body.entropy.below(4 * GROUP_BYTES as u64) as usize;
            honest.pieces.push_back(desk.body.noise(more));
            desk.body.did("answers too long");
        }
        honest
    }
}

/// Answers with bytes that mean nothing, or something else.
#[derive(Default)]
pub(super) struct Nonsense {
    turn: u64,
}

impl Vice for Nonsense {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        if !asked.is_fetch() && !asked.is_put() {
            return honest;
        }
        self.turn += 1;
        desk.body.did("nonsense said");
        let mut piece = match self.turn % 4 {
            0 => desk.body.noise(1000),
            // A frame with a body that is none.
            1 => Bytes::from([&40u32.to_le_bytes()[..], &desk.body.noise(40)].concat()),
            // A kind of answer that there is not.
            2 => Bytes::from([&2u32.to_le_bytes()[..], &[9, 9]].concat()),
            // An answer, to another question.
            _ if asked.is_put() => frame(&StoreResponse::BlobStored),
            _ => {
                let now = desk.body.wall;
                frame(&FetchResponse::Stat { now, shards: Vec::new(), more: false })
            }
        };
        if matches!(asked, Asked::PutManifest { .. } | Asked::PutPlacement { .. }) {
            piece = desk.body.noise(300);
        }
        Saying::of([piece])
    }
}

/// Claims as much as the forms allow, and more.
#[derive(Default)]
pub(super) struct Giant {
    turn: u64,
}

impl Vice for Giant {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        self.turn += 1;
        let said = match *asked {
            Asked::Routes { locator, .. } => self.grants_without_end(desk, locator),
            Asked::GetShard { .. } => self.shard(),
            Asked::GetManifest { .. } => self.page(),
            Asked::GetPlacement { .. } => self.placement(desk),
            Asked::Stat { after, .. } => shards_without_end(desk, after),
            _ => return honest,
        };
        desk.body.did("giant claims made");
        Saying { end: End::Open, ..Saying::of([said]) }
    }
}

impl Giant {
    fn shard(&self) -> Bytes {
        let begins = |length, first_group| {
            frame(&FetchResponse::Shard(ShardBegins { length, root: Hash([7; 32]), first_group }))
        };
        match self.turn % 3 {
            0 => Bytes::from_static(&[0xff; 4]),
            1 => begins(SHARD_BYTES_MAX, 0),
            _ => begins(SHARD_BYTES_MAX, 16_383),
        }
    }

    fn page(&self) -> Bytes {
        match self.turn % 2 {
            0 => Bytes::from_static(&[0xff; 4]),
            // And then not a byte of it.
            _ => frame(&FetchResponse::Blob { length: PAGE_BYTES_MAX as u32 }),
        }
    }

    fn placement(&self, desk: &Desk<'_>) -> Bytes {
        let (owner, length) = (desk.peer, PAGE_BYTES_MAX as u32);
        let longest = frame(&FetchResponse::Placement { owner, length, more: true });
        match self.turn % 3 {
            0 => Bytes::from_static(&[0xff; 4]),
            1 => longest,
            // One byte more than there can be: the number stands before the last byte.
            _ => one_more(&longest, longest.len() - 4),
        }
    }

    /// A grant for more bytes than there are, for as long as one may last or for ever, among as
    /// many as fit.
    fn grants_without_end(&self, desk: &mut Desk<'_>, locator: Locator) -> Bytes {
        let (peer, body) = (desk.peer, &mut *desk.body);
        let lifetime = GRANT_LIFETIME_MAX.as_secs();
        let mut grants: Vec<Grant> = (0..8)
            .map(|_| {
                let (now, nonce) = (body.wall, body.entropy.array());
                Grant::issue(&body.identity, peer, locator, u64::MAX, now, lifetime, nonce)
            })
            .collect();
        let one = grants[0].clone();
        grants.resize(pangea_wire::limits::GRANTS_MAX, one);
        let peers =
            body.nodes.iter().copied().cycle().take(pangea_wire::limits::PEERS_MAX).collect();
        let longest =
            frame(&RouteResponse { peers, grants, refusal: None, now: UnixTime(u64::MAX) });
        match self.turn % 2 {
            0 => longest,
            // A second more than one may last: in three bytes before nonce and signature of the
            // last one, behind which stand a refusal that is none and a time of ten bytes.
            _ => one_more(&longest, longest.len() - (1 + 10) - (16 + 64) - 3),
        }
    }
}

/// The same with an even number that begins `at` made odd.
fn one_more(said: &Bytes, at: usize) -> Bytes {
    changed(said, at, |byte| byte | 1)
}

/// The same with another byte `at`. By hand, because no honest code says what cannot be.
fn changed(said: &Bytes, at: usize, change: impl Fn(u8) -> u8) -> Bytes {
    let mut bytes = said.to_vec();
    bytes[at] = change(bytes[at]);
    Bytes::from(bytes)
}

/// A list of shards that goes on for ever.
fn shards_without_end(desk: &Desk<'_>, after: Option<(ChunkNumber, ShardIndex, Hash)>) -> Bytes {
    let first = after.map_or(0, |(chunk, ..)| chunk.0 + 1);
    let last = pangea_wire::limits::CHUNKS_MAX;
    let chunks = (first..last).take(STAT_SHARDS_MAX);
    let shards: Vec<ShardHeld> = chunks
        .map(|chunk| ShardHeld {
            chunk: ChunkNumber(chunk),
            index: ShardIndex(0),
            length: SHARD_BYTES_MAX,
            root: Hash([7; 32]),
            until: UnixTime(u64::MAX),
        })
        .collect();
    let more = shards.len() == STAT_SHARDS_MAX;
    frame(&FetchResponse::Stat { now: desk.body.wall, shards, more })
}

/// Says no, in every way there is, one after the other; one time in three it grants.
#[derive(Default)]
pub(super) struct Refuser {
    turn: usize,
}

impl Refuser {
    fn store(&mut self) -> StoreRefusal {
        use StoreRefusal as R;
        use pangea_wire::{AuthRefused, GrantRefused};
        let grant = |refused| R::BadGrant(AuthRefused::Grant(refused));
        let over = |whose, limit, capacity| R::OverQuota { whose, used: limit, limit, capacity };
        let all = [
            R::NotAccepting,
            over(Whose::Peer, u64::MAX, u64::MAX),
            over(Whose::Peer, 1 << 30, 10 << 30),
            over(Whose::Network, 0, 0),
            over(Whose::Network, u64::MAX, 1),
            grant(GrantRefused::Version),
            grant(GrantRefused::Holder),
            grant(GrantRefused::Origin),
            grant(GrantRefused::Locator),
            grant(GrantRefused::Over),
            grant(GrantRefused::Signature),
            R::BadGrant(AuthRefused::Proof),
            R::OverGrant { limit: 0 },
            R::RootMismatch,
            R::TooLong { limit: 1 },
            R::LeaseTooLong { limit: 0 },
            R::LeaseTooLong { limit: LEASE_SECONDS_MAX },
            R::BadRequest,
            R::Full { capacity: 0 },
            R::Full { capacity: u64::MAX },
            R::Busy,
            R::AlreadyHeldDifferent,
            R::TooSlow,
            R::Stopping,
            R::Internal,
        ];
        self.turn += 1;
        all[self.turn % all.len()]
    }

    fn fetch(&mut self) -> FetchRefusal {
        use FetchRefusal as R;
        let all = [
            R::NotHeld,
            R::BeyondEnd,
            R::BadRequest,
            R::Busy,
            R::Damaged,
            R::Stopping,
            R::Internal,
        ];
        self.turn += 1;
        all[self.turn % all.len()]
    }
}

impl Vice for Refuser {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let piece = match asked {
            Asked::Routes { .. } if desk.body.entropy.below(3) > 0 => return honest,
            Asked::Routes { .. } => routes(desk, Vec::new(), Some(self.store())),
            asked if asked.is_put() => frame(&StoreResponse::Refused(self.store())),
            asked if asked.is_fetch() => frame(&FetchResponse::Refused(self.fetch())),
            _ => return honest,
        };
        desk.body.did("refusals given");
        Saying::of([piece])
    }
}

/// Gives a stream up in the middle, or when all of it has come.
pub(super) struct Resetter;

/// What it says with a reset.
const WHIM: u32 = 99;

impl Vice for Resetter {
    fn unit(&mut self, desk: &mut Desk<'_>, bytes: u64) -> Option<u32> {
        let now = bytes > GROUP_BYTES as u64 && desk.body.entropy.below(8) == 0;
        if now {
            desk.body.did("reset in the middle of a put");
        }
        now.then_some(WHIM)
    }

    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if matches!(asked, Asked::PutShard { .. }) && desk.body.entropy.below(2) == 0 {
            desk.body.did("reset after the trailer");
            return Saying { end: End::Reset(WHIM), ..Saying::nothing() };
        }
        if asked.is_fetch() {
            let bytes = honest.bytes() as u64;
            honest.cut(desk.body.entropy.below(bytes.max(1)) as usize);
            honest.end = End::Reset(WHIM);
            desk.body.did("reset in the middle of a fetch");
        }
        honest
    }
}

/// Grants, and everything else as it should be, but with little life in the grant.
pub(super) struct BriefGrants;

impl Vice for BriefGrants {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let Asked::Routes { locator, bytes } = *asked else { return honest };
        let grant = grant(desk, locator, bytes, std::time::Duration::from_secs(1));
        let mut said = routes(desk, vec![grant], None);
        desk.body.did("brief grants given");
        if desk.body.entropy.below(2) == 0 {
            // No time at all: in the byte before nonce and signature, behind which stand a refusal that
            // is none and a time of five bytes.
            said = changed(&said, said.len() - (1 + 5) - (16 + 64) - 1, |byte| byte & !1);
        }
        Saying::of([said])
    }
}
