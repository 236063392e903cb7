//! File operations, as the recorder hears of them.

use pangea_base::file::{FileDone, FileFault, FileOp, FileRequest, FileValue};
use pangea_trace::{Inflight, TraceContext, Tracer, trace_event};

/// An operation goes to the driver.
pub(crate) fn file_begins(tracer: &Tracer, inflight: &mut Inflight, request: &FileRequest) {
    let operation = match request.op {
        FileOp::Open { .. } => 0,
        FileOp::Read { .. } => 1,
        FileOp::Write { .. } => 2,
        FileOp::Sync { .. } => 3,
        FileOp::Close { .. } => 4,
        _ => 5,
    };
    inflight.begin(tracer, request.token, operation);
}

/// An operation ended.
pub(crate) fn file_ended(tracer: &Tracer, inflight: &mut Inflight, done: &FileDone) {
    let (operation, nanos) = inflight.end(tracer, done.token);
    let (bytes, errno) = match &done.result {
        Ok(FileValue::Bytes(bytes)) => (*bytes, 0),
        Ok(_) => (0, 0),
        Err(FileFault::NoSpace) => (0, 28),
        Err(FileFault::Missing) => (0, 2),
        Err(FileFault::Denied) => (0, 13),
        Err(FileFault::Other { errno, .. }) => (0, errno.unsigned_abs()),
    };
    trace_event!(tracer, &TraceContext::NONE, FileDone { operation, bytes, errno, nanos });
}
