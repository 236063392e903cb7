use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::sync::{AtomicBool, Ordering, Queue, fence};

/// The ring has no free slot; the value comes back, to be kept and sent again later.
///
/// A full ring is how the receiving side says that it cannot keep up: the sender stops taking in
/// what makes more of these messages, it does not queue them elsewhere without a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full: the receiving thread is behind; send again after its turn")
    }
}

impl<T> std::error::Error for Full<T> {}

/// A bounded queue from one thread to another. All of its memory is taken now: `capacity` (at
/// least 1) slots of the size of `T` and 8 bytes.
pub fn ring<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a ring holds at least one value");
    let shared = Arc::new(Shared { queue: Queue::new(capacity), refused: AtomicBool::new(false) });
    (
        Sender { shared: shared.clone(), one_thread: PhantomData },
        Receiver { shared, one_thread: PhantomData },
    )
}

/// The end of a ring that puts values in. It moves to the thread that uses it:
///
/// ```no_run
/// fn moves<T: Send>(_: T) {}
/// moves(pangea_mesh::ring::<u64>(1).0);
/// ```
///
/// It is not shared between threads,
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(pangea_mesh::ring::<u64>(1).0);
/// ```
///
/// and there is never a second one:
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>(_: T) {}
/// copies(pangea_mesh::ring::<u64>(1).0);
/// ```
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    one_thread: PhantomData<Cell<()>>,
}

/// The end of a ring that takes values out, in the order in which they were put in. It moves to
/// the thread that uses it:
///
/// ```no_run
/// fn moves<T: Send>(_: T) {}
/// moves(pangea_mesh::ring::<u64>(1).1);
/// ```
///
/// It is not shared between threads,
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(pangea_mesh::ring::<u64>(1).1);
/// ```
///
/// there is never a second one,
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>(_: T) {}
/// copies(pangea_mesh::ring::<u64>(1).1);
/// ```
///
/// and what cannot leave its thread cannot enter a ring:
///
/// ```compile_fail,E0277
/// pangea_mesh::ring::<std::rc::Rc<u64>>(1);
/// ```
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    one_thread: PhantomData<Cell<()>>,
}

struct Shared<T> {
    queue: Queue<T>,
    // The sender was refused and waits for room; the receiver clears it after it made some.
    refused: AtomicBool,
}

impl<T> Sender<T> {
    /// Puts `value` behind those already there.
    pub fn send(&mut self, value: T) -> Result<(), Full<T>> {
        self.shared.queue.push(value).map_err(Full)
    }

    /// Whether the next `send` would be refused; a moment later there may be room.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// `send`, and if refused, leaves word with the receiver that room is waited for. Room that
    /// came before the word was left is used at once, so none can be missed.
    pub(crate) fn send_or_wait(&mut self, value: T) -> Result<(), Full<T>> {
        let Err(Full(value)) = self.send(value) else { return Ok(()) };
        self.shared.refused.store(true, Ordering::Relaxed);
        // Pairs with the fence between taking a value and `take_refusal`: either the receiver
        // sees the word, or the room it made is seen here.
        fence(Ordering::SeqCst);
        self.send(value)?;
        self.shared.refused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// After a refusal by `send_or_wait`: the receiver has made room and taken the word down.
    pub(crate) fn room_came(&self) -> bool {
        !self.shared.refused.load(Ordering::Acquire)
    }
}

impl<T> Receiver<T> {
    /// The oldest value.
    pub fn receive(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// Whether the next `receive` would find nothing; a moment later there may be something.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Takes down the sender's word that it waits for room, if there is one. Between taking a
    /// value and this there must be a `SeqCst` fence.
    pub(crate) fn take_refusal(&mut self) -> bool {
        // Read first: the flag is almost never set, and a read leaves the cache line shared.
        self.shared.refused.load(Ordering::Relaxed)
            && self.shared.refused.swap(false, Ordering::AcqRel)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver(..)")
    }
}
