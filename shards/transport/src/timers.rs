use std::collections::BTreeSet;
use std::time::Instant;

/// Deadlines of connections, earliest first.
///
/// A connection's deadline moves later with nearly every packet. So a registration may be *earlier*
/// than what the connection now wants: it then fires for nothing once and is registered anew. That
/// costs one idle wake and saves two tree operations per turn.
#[derive(Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, u32)>,
}

impl Timers {
    /// Makes sure that `index` fires at `wanted` or before. `registered` is the connection's own
    /// note of what stands in the queue.
    pub(crate) fn set(
        &mut self,
        index: u32,
        registered: &mut Option<Instant>,
        wanted: Option<Instant>,
    ) {
        let Some(wanted) = wanted else { return };
        match *registered {
            Some(at) if at <= wanted => return,
            Some(at) => {
                self.queue.remove(&(at, index));
            }
            None => {}
        }
        self.queue.insert((wanted, index));
        *registered = Some(wanted);
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, index: u32, registered: &mut Option<Instant>) {
        if let Some(at) = registered.take() {
            self.queue.remove(&(at, index));
        }
    }

    /// The next connection whose registration is due; the caller clears its note.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u32> {
        let &(at, index) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        Some(index)
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// How many registrations there are: at most one per connection.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_earlier_wish_moves_the_registration_and_a_later_one_waits_for_it() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let mut note = None;
        timers.set(5, &mut note, Some(at(10)));
        timers.set(5, &mut note, Some(at(20)));
        assert_eq!(timers.next(), Some(at(10)));
        timers.set(5, &mut note, Some(at(3)));
        assert_eq!((timers.next(), timers.len()), (Some(at(3)), 1));
        timers.set(5, &mut note, None);
        assert_eq!(timers.due(at(2)), None);
        assert_eq!(timers.due(at(3)), Some(5));
        assert_eq!(timers.due(at(30)), None);
    }
}
