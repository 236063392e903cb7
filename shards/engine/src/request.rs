//! What every request stream has in common: how it begins, and the codes with which it ends.

use bytes::{Bytes, BytesMut};
use pangea_trace::Label;
use pangea_transport::{ConnId, Transport};
use pangea_wire::{AUTH_EXPORTER_BYTES, AUTH_EXPORTER_LABEL, Message, Protocol};

/// The stream did its work.
pub(crate) const DONE: u32 = 0;
/// The asker no longer wants it.
pub(crate) const CANCELLED: u32 = 1;
/// The other side broke the protocol.
pub(crate) const MISBEHAVED: u32 = 2;
/// The other side was silent for too long.
pub(crate) const STALLED: u32 = 3;
/// This node serves no more streams now.
pub(crate) const BUSY: u32 = 4;

/// Both ends of a connection compute the same value; no two connections share it.
pub(crate) fn exporter(
    transport: &Transport,
    conn: ConnId,
) -> Result<[u8; AUTH_EXPORTER_BYTES], String> {
    let mut out = [0; AUTH_EXPORTER_BYTES];
    transport
        .exporter(conn, AUTH_EXPORTER_LABEL, b"", &mut out)
        .map_err(|_| "the connection closed".to_owned())?;
    Ok(out)
}

/// The first bytes of a request: the protocol's id and the first message, behind the trace context
/// where there is one.
pub(crate) fn open_with<M: Message>(
    label: Option<Label>,
    protocol: Protocol,
    message: &M,
) -> Bytes {
    let mut bytes = BytesMut::new();
    if let Some(Label(label)) = label {
        bytes.extend_from_slice(&label);
    }
    bytes.extend_from_slice(&pangea_wire::preamble(protocol));
    bytes.extend_from_slice(&pangea_wire::frame(message));
    bytes.freeze()
}
