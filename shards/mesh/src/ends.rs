use std::fmt;

use pangea_base::CoreId;

use crate::bell::{Bell, Parking, doorbell};
use crate::ring::{Full, Receiver, Sender, ring};
use crate::sync::{Ordering, fence};

/// The most threads in one mesh: as many as [`CoreId`] can name.
pub const ENDS_MAX: usize = 256;

/// Joins `cores` threads (1 to [`ENDS_MAX`]) with a ring of `capacity` in each direction between
/// any two. The result has one element for each, in order of their numbers; a thread that is no
/// core (control) takes the number after the last core.
///
/// Memory, all taken now: `cores * (cores - 1) * capacity` slots of the size of `T` and 8 bytes.
pub fn mesh<T: Send>(cores: usize, capacity: usize) -> Vec<Ends<T>> {
    assert!((1..=ENDS_MAX).contains(&cores), "a mesh has 1 to {ENDS_MAX} threads");
    let (bells, parkings): (Vec<Bell>, Vec<Parking>) = (0..cores).map(|_| doorbell()).unzip();
    let mut ends: Vec<Ends<T>> = parkings
        .into_iter()
        .enumerate()
        .map(|(own, parking)| Ends {
            own: core_id(own),
            to: Vec::with_capacity(cores),
            from: Vec::with_capacity(cores),
            bells: bells.clone(),
            parking,
            next: 0,
            dirty: CoreSet::EMPTY,
            drained: CoreSet::EMPTY,
            refused: CoreSet::EMPTY,
        })
        .collect();
    // For every pair of threads, in order of the numbers, so that index `i` of `to` and `from` is
    // the thread `i`.
    for source in 0..cores {
        for target in 0..cores {
            let (to, from) = if source == target {
                (None, None)
            } else {
                let (sender, receiver) = ring(capacity);
                (Some(sender), Some(receiver))
            };
            ends[source].to.push(to);
            ends[target].from.push(from);
        }
    }
    ends
}

/// One thread's ends of the mesh: a sender to and a receiver from every other thread, its own
/// doorbell and everyone else's.
///
/// It moves to its thread, is not shared,
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(pangea_mesh::mesh::<u64>(1, 1).pop().unwrap());
/// ```
///
/// and there is never a second one:
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>(_: T) {}
/// copies(pangea_mesh::mesh::<u64>(1, 1).pop().unwrap());
/// ```
///
/// ```no_run
/// fn moves<T: Send>(_: T) {}
/// moves(pangea_mesh::mesh::<u64>(1, 1).pop().unwrap());
/// ```
pub struct Ends<T> {
    own: CoreId,
    // By number of the other thread; `None` at the own number.
    to: Vec<Option<Sender<T>>>,
    from: Vec<Option<Receiver<T>>>,
    bells: Vec<Bell>,
    parking: Parking,
    // Where `receive` looks first.
    next: usize,
    // Sent to, and received from, since the last `flush`.
    dirty: CoreSet,
    drained: CoreSet,
    // Refused a value, and has not said since that there is room.
    refused: CoreSet,
}

/// What [`Ends::prepare`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "sleeping with work at hand loses time, not sleeping without it burns a core"]
pub enum Readiness {
    /// Nothing to do: the thread may wait, and will be woken by its doorbell.
    Sleep,
    /// A value has arrived, or a ring that was full has room: go round once more.
    Work,
}

impl<T> Ends<T> {
    /// The number of this thread.
    pub fn own(&self) -> CoreId {
        self.own
    }

    /// How many threads the mesh joins, this one included.
    pub fn cores(&self) -> usize {
        self.to.len()
    }

    /// Sends to another thread (never to oneself, which panics); [`flush`](Ends::flush) rings its
    /// bell. On [`Full`] keep the value and try again on the next round: when room comes this
    /// thread is woken and [`prepare`](Ends::prepare) answers [`Readiness::Work`].
    pub fn send(&mut self, to: CoreId, value: T) -> Result<(), Full<T>> {
        let sender = self.to.get_mut(to.index()).expect("the mesh has a thread of this number");
        let sender = sender.as_mut().expect("no thread sends to itself");
        // Also after a refusal: what fills the ring may not have been announced yet.
        self.dirty.insert(to);
        let sent = sender.send_or_wait(value);
        match sent {
            Ok(()) => self.refused.remove(to),
            Err(_) => self.refused.insert(to),
        }
        sent
    }

    /// Rings the bell of every thread that was sent to since the last time, once each, and of
    /// every thread that waits for room in a ring from which this one has taken values.
    pub fn flush(&mut self) {
        if self.dirty.is_empty() && self.drained.is_empty() {
            return;
        }
        // One fence for all: between the values sent and the looks at who is parked, and between
        // the values taken and the looks at who was refused.
        fence(Ordering::SeqCst);
        let mut made_room = false;
        while let Some(source) = self.drained.take_first() {
            let receiver = self.from[source.index()].as_mut().expect("a ring it received from");
            if receiver.take_refusal() {
                self.dirty.insert(source);
                made_room = true;
            }
        }
        if made_room {
            // Between taking the word down (which the sleeper looks at last) and the look at
            // whether it is parked.
            fence(Ordering::SeqCst);
        }
        while let Some(target) = self.dirty.take_first() {
            self.bells[target.index()].ring_fenced();
        }
    }

    /// The next value and who sent it, or `None` when nothing is waiting. Fair: takes one value
    /// from each thread in turn, so a busy sender delays another by one value a round.
    pub fn receive(&mut self) -> Option<(CoreId, T)> {
        let cores = self.from.len();
        for step in 0..cores {
            let index = (self.next + step) % cores;
            let Some(receiver) = &mut self.from[index] else { continue };
            if let Some(value) = receiver.receive() {
                let source = core_id(index);
                self.next = (index + 1) % cores;
                self.drained.insert(source);
                return Some((source, value));
            }
        }
        None
    }

    /// Whether there is neither a value to receive nor news of room in a ring that was full.
    pub fn is_empty(&self) -> bool {
        self.from.iter().flatten().all(Receiver::is_empty)
            && self.refused.iter().all(|to| !self.room_came(to))
    }

    /// The last step before a wait: flushes, announces sleep, and looks once more. With
    /// [`Readiness::Work`] the announcement is already taken back; with [`Readiness::Sleep`] the
    /// thread waits, and then calls [`awake`](Ends::awake).
    pub fn prepare(&mut self) -> Readiness {
        self.flush();
        self.parking.prepare();
        if self.is_empty() {
            return Readiness::Sleep;
        }
        self.parking.cancel();
        // Said once: a caller that has given the refused value up is not kept awake for ever.
        for core in self.refused {
            if self.room_came(core) {
                self.refused.remove(core);
            }
        }
        Readiness::Work
    }

    /// Takes the announcement of sleep back, after the wait.
    pub fn awake(&mut self) {
        self.parking.cancel();
    }

    /// This thread's side of its doorbell, to connect it with the driver's waker.
    pub fn parking(&mut self) -> &mut Parking {
        &mut self.parking
    }

    /// A bell for someone outside the mesh who has work for this thread.
    pub fn bell_of_self(&self) -> Bell {
        self.bells[self.own.index()].clone()
    }

    fn room_came(&self, to: CoreId) -> bool {
        self.to[to.index()].as_ref().is_some_and(Sender::room_came)
    }
}

impl<T> fmt::Debug for Ends<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ends({} of {})", self.own.0, self.cores())
    }
}

fn core_id(index: usize) -> CoreId {
    CoreId(u8::try_from(index).expect("a mesh has at most ENDS_MAX threads"))
}

/// A set of thread numbers; iterates over a copy of itself.
#[derive(Clone, Copy)]
struct CoreSet([u64; ENDS_MAX / 64]);

impl CoreSet {
    const EMPTY: CoreSet = CoreSet([0; ENDS_MAX / 64]);

    fn insert(&mut self, core: CoreId) {
        self.0[core.index() / 64] |= 1 << (core.index() % 64);
    }

    fn remove(&mut self, core: CoreId) {
        self.0[core.index() / 64] &= !(1 << (core.index() % 64));
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; ENDS_MAX / 64]
    }

    fn take_first(&mut self) -> Option<CoreId> {
        let word = self.0.iter().position(|&bits| bits != 0)?;
        let first = core_id(word * 64 + self.0[word].trailing_zeros() as usize);
        self.remove(first);
        Some(first)
    }

    fn iter(self) -> impl Iterator<Item = CoreId> {
        self.into_iter()
    }
}

impl Iterator for CoreSet {
    type Item = CoreId;
    fn next(&mut self) -> Option<CoreId> {
        self.take_first()
    }
}
