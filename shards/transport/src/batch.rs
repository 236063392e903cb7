//! Memory for received batches: one copy out of the driver's buffer, no allocation in the steady
//! state, and a bound on what unread data can pin.

use std::collections::VecDeque;

use bytes::BytesMut;

/// What a pooled buffer holds: the largest GRO batch.
pub(crate) const BATCH_BYTES: usize = 65_536;

/// Batches up to this size get an allocation of their own: a pooled buffer would pin 64 KiB for it.
const SMALL_BATCH_BYTES: usize = 8 * 1024;

/// How many pooled buffers are tried before a new one is made.
const TRIES: usize = 4;

/// Buffers kept ready when nothing is in flight.
const KEPT_IDLE: usize = 4;

/// Lends buffers that are cut into datagrams. A buffer comes back by itself when the last slice of
/// it is dropped: the pool keeps an empty remnant of each and asks whether it is alone again.
#[derive(Default)]
pub(crate) struct BatchPool {
    /// Most recently used at the back: its memory is the warmest, and is free again if its
    /// datagrams were read in the same turn.
    remnants: VecDeque<BytesMut>,
    buffers_max: usize,
}

/// How a batch is to be cut.
pub(crate) enum Cut {
    /// Datagrams share the batch's buffer.
    Shared(BytesMut),
    /// Unread data already pins as much as it may: each datagram is copied by itself, so that it
    /// pins only its own bytes.
    Apart,
}

impl BatchPool {
    pub(crate) fn new(bytes_max: usize) -> BatchPool {
        BatchPool { remnants: VecDeque::new(), buffers_max: (bytes_max / BATCH_BYTES).max(1) }
    }

    /// A copy of `data` to be cut into datagrams; give it to [`BatchPool::put_back`] afterwards.
    pub(crate) fn copy(&mut self, data: &[u8]) -> Cut {
        if data.len() <= SMALL_BATCH_BYTES {
            // One datagram, or few: pins little more than itself.
            return Cut::Shared(BytesMut::from(data));
        }
        match self.take() {
            Some(mut buffer) => {
                buffer.extend_from_slice(data);
                Cut::Shared(buffer)
            }
            None => Cut::Apart,
        }
    }

    /// Takes back what is left of a buffer after its datagrams were split off.
    pub(crate) fn put_back(&mut self, remnant: BytesMut, batch_bytes: usize) {
        if batch_bytes > SMALL_BATCH_BYTES {
            self.remnants.push_back(remnant);
        }
    }

    fn take(&mut self) -> Option<BytesMut> {
        for tried in 0..TRIES.min(self.remnants.len()) {
            let mut buffer = self.remnants.pop_back()?;
            buffer.clear();
            if buffer.try_reclaim(BATCH_BYTES) {
                return Some(buffer);
            }
            // Still read from. The oldest end is tried last, so a stuck one does not stay in the
            // way.
            if tried + 1 < TRIES {
                self.remnants.push_front(buffer);
            } else {
                self.remnants.insert(self.remnants.len() / 2, buffer);
            }
        }
        if self.remnants.len() < self.buffers_max {
            return Some(BytesMut::with_capacity(BATCH_BYTES));
        }
        // All are pinned as far as was looked: look at each once before giving up sharing.
        let free = self.remnants.iter_mut().position(|buffer| {
            buffer.clear();
            buffer.try_reclaim(BATCH_BYTES)
        });
        free.and_then(|at| self.remnants.remove(at))
    }

    /// Gives memory back while nothing happens.
    pub(crate) fn trim(&mut self) {
        let mut kept = 0;
        self.remnants.retain_mut(|buffer| {
            buffer.clear();
            let free = buffer.try_reclaim(BATCH_BYTES);
            kept += usize::from(free);
            !free || kept <= KEPT_IDLE
        });
    }

    /// Memory in pooled buffers, pinned or free.
    pub(crate) fn bytes(&self) -> usize {
        self.remnants.len() * BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(pool: &mut BatchPool, data: &[u8]) -> BytesMut {
        match pool.copy(data) {
            Cut::Shared(buffer) => buffer,
            Cut::Apart => panic!("the pool has room"),
        }
    }

    #[test]
    fn a_buffer_whose_datagrams_are_gone_is_used_again() {
        let mut pool = BatchPool::new(1 << 20);
        let data = vec![7; 60_000];
        let mut address = None;
        for _ in 0..50 {
            let mut buffer = shared(&mut pool, &data);
            let part = buffer.split_to(1_000).freeze();
            let rest = buffer.split();
            let here = part.as_ptr();
            assert_eq!(*address.get_or_insert(here), here, "the same memory each time");
            drop((part, rest));
            pool.put_back(buffer, data.len());
        }
        assert_eq!(pool.bytes(), BATCH_BYTES);
    }

    #[test]
    fn pinned_memory_is_bounded_and_the_pool_says_when_it_ends() {
        let mut pool = BatchPool::new(10 * BATCH_BYTES);
        let data = vec![7; 60_000];
        let mut pins = Vec::new();
        for _ in 0..10 {
            let mut buffer = shared(&mut pool, &data);
            pins.push(buffer.split_to(1).freeze());
            let _ = buffer.split();
            pool.put_back(buffer, data.len());
        }
        assert!(matches!(pool.copy(&data), Cut::Apart), "one past the limit");
        pins.swap_remove(4);
        assert!(matches!(pool.copy(&data), Cut::Shared(_)), "one came free");
    }

    #[test]
    fn an_idle_pool_gives_its_memory_back() {
        let mut pool = BatchPool::new(1 << 30);
        let data = vec![7; 60_000];
        let mut pins = Vec::new();
        for _ in 0..100 {
            let mut buffer = shared(&mut pool, &data);
            pins.push(buffer.split_to(1).freeze());
            let _ = buffer.split();
            pool.put_back(buffer, data.len());
        }
        assert_eq!(pool.bytes(), 100 * BATCH_BYTES);
        drop(pins);
        pool.trim();
        assert_eq!(pool.bytes(), KEPT_IDLE * BATCH_BYTES);
    }
}
