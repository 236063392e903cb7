use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use pangea_base::Wake;

use crate::sync::{AtomicBool, Ordering, fence};

/// The two sides of one thread's doorbell: others ring it, the thread answers it.
///
/// The protocol (Dekker's: each side writes, then reads what the other wrote, with a `SeqCst`
/// fence between): the sleeper announces itself and then looks into its queues; the ringer fills a
/// queue and then looks for a sleeper. At least one of them sees the other, so no wake is lost.
pub fn doorbell() -> (Bell, Parking) {
    let shared = Arc::new(Shared { parked: AtomicBool::new(false), wake: OnceLock::new() });
    (Bell { shared: shared.clone() }, Parking { shared, one_thread: PhantomData })
}

/// The side that rings. Any number of threads may have one.
#[derive(Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

/// The side of the thread that sleeps. It moves to that thread; it is not shared,
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(pangea_mesh::doorbell().1);
/// ```
///
/// and there is never a second one:
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>(_: T) {}
/// copies(pangea_mesh::doorbell().1);
/// ```
///
/// whereas the other side is and has both:
///
/// ```no_run
/// fn moves<T: Send>(_: T) {}
/// fn shared_and_copied<T: Send + Sync + Clone>(_: T) {}
/// let (bell, parking) = pangea_mesh::doorbell();
/// moves(parking);
/// shared_and_copied(bell);
/// ```
pub struct Parking {
    shared: Arc<Shared>,
    one_thread: PhantomData<Cell<()>>,
}

struct Shared {
    parked: AtomicBool,
    wake: OnceLock<Arc<dyn Wake>>,
}

impl Shared {
    // Not a swap: one that comes late and finds `false` would write it again, and loom does not
    // know that such a write lies before a later announcement of sleep.
    fn take_parked(&self) -> bool {
        self.parked.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Bell {
    /// Wakes the other side if it sleeps or is about to. Call it after the values were sent, once
    /// for a batch of them.
    pub fn ring(&self) {
        // Pairs with the fence in `Parking::prepare`.
        fence(Ordering::SeqCst);
        self.ring_fenced();
    }

    /// `ring` for a caller that has put a `SeqCst` fence between its sends and this.
    pub(crate) fn ring_fenced(&self) {
        // Read first: the other side is mostly awake, and a read leaves the cache line shared.
        // The exchange then picks one of several ringers, so a sleeper is woken once.
        if self.shared.parked.load(Ordering::Relaxed) && self.shared.take_parked() {
            self.shared.wake.get().expect("`prepare` checked that it is there").wake();
        }
    }
}

impl Parking {
    /// Says how this thread is woken: its driver's waker. Once, before the first
    /// [`prepare`](Parking::prepare); a second time is a bug and panics.
    pub fn connect(&self, wake: Arc<dyn Wake>) {
        assert!(self.shared.wake.set(wake).is_ok(), "a doorbell is connected once");
    }

    /// Announces sleep. The caller must look into its queues *after* this, and sleep only if they
    /// are empty; either way it calls [`cancel`](Parking::cancel) afterwards.
    pub fn prepare(&mut self) {
        assert!(self.shared.wake.get().is_some(), "a thread that cannot be woken must not sleep");
        self.shared.parked.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Bell::ring`.
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back: after waking up, or when there was work after all. A wake that
    /// was already under way still comes, and makes the next wait return early.
    pub fn cancel(&mut self) {
        self.shared.parked.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell(..)")
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parking(..)")
    }
}
