//! Who takes an object's names at other holders, before its origin does or afterwards.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pangea_base::{ChunkNumber, Code, Hash, Locator, PeerAddr, ShardIndex, ShardKey};
use pangea_transport::Event;
use pangea_wire::{FetchRequest, Placement, Protocol, Receipt, ShardHeld, StoreRefusal};

use super::body::{Body, Conduct, Enemy};
use super::caller::{Caller, LEASE_SECONDS, Move, Plot, Scene, Words};
use super::holder::{Asked, Desk, Holder, Vice, end_of, routes};
use super::papers::many_pages;
use super::parcel::{Parcel, disk_bytes, placement};
use super::talk::Saying;

/// Bytes of the shards that stand in others' places.
const SMALL: usize = 600;
/// Objects whose names are taken.
const TOLD_MAX: usize = 32;
/// Chunks of which the name of every shard is taken.
const CHUNKS: u32 = 2;
/// Among so many of them the nodes are dealt.
const DEALT: usize = 4;
/// What is stored has arrived by then.
const ARRIVED: Duration = Duration::from_millis(300);

/// What squatters know together: objects, and whether each was put already when they heard of it.
#[derive(Clone)]
pub(super) struct Squat {
    told: Rc<RefCell<Vec<(Locator, Moment)>>>,
    members: u8,
}

/// When they heard of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Its origin asks for grants: it has stored nothing yet.
    Before,
    /// It is there.
    After,
}

impl Squat {
    pub fn new(members: u8) -> Squat {
        Squat { told: Rc::default(), members }
    }

    /// One of them. The first is the one that origins know.
    pub fn member(&self, seat: u8, body: Body) -> Enemy {
        let now = body.now;
        let taking = Taking { squat: self.clone(), seat };
        let squatter = Squatter {
            asked: Holder::new(Refusing(self.clone())),
            takes: Caller::new(taking, now),
            squat: self.clone(),
        };
        match seat {
            0 => Enemy::holder(body, squatter),
            _ => Enemy::caller(body, squatter),
        }
    }

    fn tell(&self, locator: Locator, moment: Moment) {
        let mut told = self.told.borrow_mut();
        if told.len() < TOLD_MAX && !told.contains(&(locator, moment)) {
            told.push((locator, moment));
        }
    }
}

/// A holder that refuses, and a caller that uses what it learnt by it, in one.
struct Squatter {
    asked: Holder,
    takes: Caller<Taking>,
    squat: Squat,
}

impl Conduct for Squatter {
    fn event(&mut self, body: &mut Body, event: Event) {
        // Neither looks at the other's streams.
        self.asked.event(body, event.clone());
        self.takes.event(body, event);
    }

    fn act(&mut self, body: &mut Body) {
        self.asked.act(body);
        self.takes.act(body);
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        [self.asked.deadline(), self.takes.deadline()].into_iter().flatten().min()
    }

    fn told_of(&mut self, locator: Locator) {
        self.squat.tell(locator, Moment::After);
    }

    fn sent(&mut self, body: &mut Body, to: SocketAddr, stride: usize, train: &[u8]) {
        self.takes.sent(body, to, stride, train);
    }
}

/// Refuses, and remembers of which object it heard.
struct Refusing(Squat);

impl Vice for Refusing {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, honest: Saying) -> Saying {
        let Asked::Routes { locator, .. } = *asked else { return honest };
        self.0.tell(locator, Moment::Before);
        desk.body.did("names learnt from who asked");
        Saying::of([routes(desk, Vec::new(), Some(StoreRefusal::NotAccepting))])
    }
}

/// Takes names at the nodes that are dealt to it.
struct Taking {
    squat: Squat,
    seat: u8,
}

impl Taking {
    fn nodes(&self, all: u64) -> impl Iterator<Item = u64> {
        let mine = u64::from(self.seat) % DEALT as u64;
        (0..all).filter(move |node| node % DEALT as u64 == mine)
    }

    /// Which object, and at which node.
    fn deal(&self, number: u64, all: u64) -> Option<(usize, u64)> {
        let mine = self.nodes(all).count() as u64;
        let node = self.nodes(all).nth(number.checked_rem(mine)? as usize)?;
        Some((number.checked_div(mine)? as usize, node))
    }

    /// What a page of this one says.
    fn page(&self, number: usize) -> Says {
        ALL[(usize::from(self.seat) + number) % ALL.len()]
    }
}

/// What is wrong with a placement page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Noise,
    /// That there are as many pages as may be.
    ManyPages,
    /// Receipts of honest holders that they never signed, for roots that there are not.
    ForgedReceipts,
    /// Receipts that it signed itself, for bytes that it did store.
    OwnReceipts,
    /// The same for the object's true roots, of which it has none, and wrong addresses for all.
    TrueRoots,
}

const ALL: [Says; 5] =
    [Says::Noise, Says::ManyPages, Says::ForgedReceipts, Says::OwnReceipts, Says::TrueRoots];

impl Plot for Taking {
    fn target(&self, number: u64, nodes: u64) -> u64 {
        self.deal(number, nodes).map_or(0, |(_, node)| node)
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    fn round(&mut self, number: u64, body: &mut Body, _: PeerAddr) -> Option<Vec<Move>> {
        let nodes = body.nodes.len() as u64;
        let (at, _) = self.deal(number, nodes)?;
        let Some((locator, moment)) = self.squat.told.borrow().get(at).copied() else {
            // Nothing yet.
            return Some(Vec::new());
        };
        let n = nodes.clamp(2, 60) as u8;
        let code = Code::new(1, n - 1).expect("a few nodes make a code");
        let shards = u64::from(n) * u64::from(CHUNKS);
        let mut moves = vec![Move::Dial];
        if moment == Moment::After {
            moves.push(Move::say(move |_| {
                let asked = FetchRequest::Stat { locator, owner: None, after: None };
                Words::request(Protocol::Fetch, &asked)
            }));
            moves.push(Move::HearHeld);
        }
        moves.extend(Move::ask_grant(locator, shards * disk_bytes(SMALL) + (64 << 10)));
        let is_first = self.seat < self.squat.members / 2;
        for (chunk, index) in (0..CHUNKS).flat_map(|chunk| (0..n).map(move |at| (chunk, at))) {
            // Behind the first wave its own names are there: one more try is enough.
            let is_again = moment == Moment::After || !is_first;
            if is_again && (chunk, index) != (0, 0) {
                continue;
            }
            let mut parcel = Parcel::new(locator, index, body.noise(SMALL));
            (parcel.code, parcel.key.chunk) = (code, ChunkNumber(chunk));
            // All at once: whoever is first has it.
            moves.push(Move::say(move |scene| {
                scene.body.did("names reached for");
                parcel.words(scene)
            }));
        }
        let says = self.page(at);
        moves.push(Move::say(move |scene| {
            scene.body.did("placements put under others' names");
            let page = page(scene, locator, says, n);
            placement(scene, locator, page)
        }));
        moves.extend([Move::Hear, Move::Wait(ARRIVED), Move::Close]);
        Some(moves)
    }
}

fn page(scene: &mut Scene<'_>, locator: Locator, says: Says, n: u8) -> Bytes {
    let own = scene.body.identity.peer();
    let mut addresses: Vec<PeerAddr> = scene.body.nodes.clone();
    let mut book = Placement::new(locator);
    match says {
        Says::Noise => return scene.body.noise(700),
        Says::ManyPages => return many_pages(locator, own),
        Says::ForgedReceipts => {
            let holders = addresses.clone();
            for (at, index) in (0..n).enumerate() {
                let root = Hash(scene.body.entropy.array());
                let mut receipt = receipt(scene, shard(locator, 0, index), root, SMALL as u64);
                receipt.holder = holders[at % holders.len()].peer;
                let _ = book.add_checked(receipt);
            }
        }
        Says::OwnReceipts => {
            for index in 0..n {
                let root = Hash(scene.body.entropy.array());
                let receipt = receipt(scene, shard(locator, 0, index), root, SMALL as u64);
                let _ = book.add_checked(receipt);
            }
        }
        Says::TrueRoots => {
            for held in scene.held.clone() {
                let ShardHeld { chunk, index, length, root, .. } = held;
                let key = ShardKey { locator, chunk, index };
                let receipt = receipt(scene, key, root, length);
                let _ = book.add_checked(receipt);
            }
            for at in &mut addresses {
                at.addr = scene.body.nowhere();
            }
        }
    }
    addresses.push(PeerAddr { peer: own, addr: scene.body.addr });
    book.pages(own, &addresses).swap_remove(0)
}

fn shard(locator: Locator, chunk: u32, index: u8) -> ShardKey {
    ShardKey { locator, chunk: ChunkNumber(chunk), index: ShardIndex(index) }
}

/// Signed by the squatter, as the holder and as the owner.
fn receipt(scene: &Scene<'_>, key: ShardKey, root: Hash, length: u64) -> Receipt {
    let (identity, now) = (&scene.body.identity, scene.body.wall);
    let until = end_of(now, 100 * LEASE_SECONDS);
    Receipt::issue(identity, identity.peer(), key, root, length, now, until)
}
