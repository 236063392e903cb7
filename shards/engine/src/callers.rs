//! Which connections of this core asked for grants or used them, so that the ledger hears of their
//! end and of no other connection's.

use std::collections::BTreeMap;

use pangea_transport::ConnId;

/// One number for each such connection, never given twice.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    numbers: BTreeMap<ConnId, u64>,
    next: u64,
}

impl Callers {
    /// The ledger's number for a connection from now on.
    pub(crate) fn number(&mut self, conn: ConnId) -> u64 {
        let next = &mut self.next;
        *self.numbers.entry(conn).or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    /// A connection is gone; its number, if the ledger knows it by one.
    pub(crate) fn gone(&mut self, conn: ConnId) -> Option<u64> {
        self.numbers.remove(&conn)
    }
}
