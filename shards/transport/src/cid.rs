#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

use std::time::Duration;

use pangea_base::{CoreId, Entropy};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Length of the connection ids that we issue: the core's number, then random bytes.
pub const CID_BYTES: usize = 8;

/// Connection ids that say which core they belong to. The other seven bytes are unpredictable
/// (RFC 9000 section 5.1).
pub(crate) struct CoreCids {
    pub(crate) core: CoreId,
    pub(crate) entropy: Entropy,
}

impl ConnectionIdGenerator for CoreCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = self.entropy.array::<CID_BYTES>();
        let [first, ..] = &mut bytes;
        *first = self.core.0;
        ConnectionId::new(&bytes)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        // Another core's id that went astray must not be answered with a stateless reset: the reset
        // key is shared by all cores, so the reset would be valid and end a healthy connection.
        if cid.len() == CID_BYTES && cid.first() == Some(&self.core.0) {
            return Ok(());
        }
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Position of the first destination-connection-id byte in a long and in a short header
/// (RFC 9000 sections 17.2 and 17.3).
const LONG_DCID_LENGTH: usize = 5;
const LONG_DCID: usize = 6;
const SHORT_DCID: usize = 1;

/// Which core a datagram belongs to: the first byte of its destination connection id, modulo the
/// number of cores, as the kernel's filter computes it. `None` is a runt or has no such byte; any
/// core may take it.
pub fn owner(first_bytes: &[u8], cores: u8) -> Option<CoreId> {
    let first = *first_bytes.first()?;
    let byte = if first & 0x80 != 0 {
        if *first_bytes.get(LONG_DCID_LENGTH)? == 0 {
            return None;
        }
        *first_bytes.get(LONG_DCID)?
    } else {
        *first_bytes.get(SHORT_DCID)?
    };
    byte.checked_rem(cores).map(CoreId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_first_byte_of_the_connection_id() {
        let short = [0x40, 7, 1, 2, 3];
        assert_eq!(owner(&short, 4), Some(CoreId(3)));
        assert_eq!(owner(&short, 8), Some(CoreId(7)));
        let long = [0xc0, 0, 0, 0, 1, 8, 6, 1, 2, 3, 4, 5, 6, 7, 0];
        assert_eq!(owner(&long, 4), Some(CoreId(2)));
        assert_eq!(owner(&long, 1), Some(CoreId(0)));
    }

    #[test]
    fn a_runt_belongs_to_nobody() {
        assert_eq!(owner(&[], 4), None);
        assert_eq!(owner(&[0x40], 4), None);
        assert_eq!(owner(&[0xc0, 0, 0, 0, 1, 8], 4), None);
        assert_eq!(owner(&[0xc0, 0, 0, 0, 1, 0, 9], 4), None, "no id at all");
        assert_eq!(owner(&[0x40, 7], 0), None, "no cores");
    }

    #[test]
    fn ids_carry_their_core_and_another_cores_id_is_refused() {
        let mut three = CoreCids { core: CoreId(3), entropy: Entropy::new([1; 32]) };
        let four = CoreCids { core: CoreId(4), entropy: Entropy::new([1; 32]) };
        let cid = three.generate_cid();
        assert_eq!(cid[0], 3);
        assert!(three.validate(&cid).is_ok());
        assert!(four.validate(&cid).is_err());
        assert_ne!(cid, three.generate_cid());
        assert!(three.validate(&ConnectionId::new(&[3; 7])).is_err(), "too short");
        assert!(three.validate(&ConnectionId::new(&[])).is_err());
    }
}
