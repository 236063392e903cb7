/// Wakes a thread that is parked in its driver. Rung only when the other side is parked.
pub trait Wake: Send + Sync {
    /// Makes the parked thread return from its wait; may be called from any thread, at any time.
    fn wake(&self);
}
