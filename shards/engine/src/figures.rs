//! What an engine says of itself.

/// The figures of one core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Open connections.
    pub connections: u64,
    /// Shards in this core's part of the store.
    pub shards: u64,
    /// Bytes in this core's part of the store.
    pub bytes: u64,
    /// Requests served since start.
    pub requests: u64,
    /// Requests refused since start.
    pub refused: u64,
}

/// What one core holds for requests and jobs under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineHeld {
    /// Requests of peers.
    pub requests: usize,
    /// Writes whose request is gone and whose end the ledger has still to hear.
    pub unsettled: usize,
    /// Questions to a store that are not answered.
    pub tickets: usize,
    /// Streams that somebody here owns.
    pub streams: usize,
    /// Jobs and small requests of our own.
    pub jobs: usize,
}
