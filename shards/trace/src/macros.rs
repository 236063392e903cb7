//! What code that is traced says. Compiled out, all of it is checked by the compiler and none of it
//! is in the program: `if const { ENABLED }` is decided before any code is made, and what stands in
//! the arguments is not evaluated.

/// Records an event.
///
/// ```
/// # use pangea_trace::{Event, TraceContext, TraceId, Tracer, trace_event};
/// # let (tracer, context) = (Tracer::none(), TraceContext::NONE);
/// # let peer = pangea_base::PeerId([1; 32]);
/// trace_event!(tracer, Event::with_trace_id(TraceId::new()));
/// trace_event!(tracer, &context, StripeCoded { chunk: 1, stripe: 2, k: 10, m: 4 });
/// trace_event!(tracer, &context, &peer, StreamOpened { stream_id: 4, conn: 0 });
/// // It is an expression of type ().
/// let nothing: () = trace_event!(tracer, &context, MeshSent { to: 1, hop: 7 });
/// ```
#[cfg(not(trace_removed))]
#[macro_export]
macro_rules! trace_event {
    ($log:expr, $context:expr, $kind:ident { $($fields:tt)* }) => {
        if const { $crate::ENABLED } {
            let log = &$log;
            if log.wants($crate::Kind::$kind.class()) {
                log.write($crate::Event::new($crate::EventData::$kind { $($fields)* }).of($context));
            }
        }
    };
    ($log:expr, $context:expr, $peer:expr, $kind:ident { $($fields:tt)* }) => {
        if const { $crate::ENABLED } {
            let log = &$log;
            if log.wants($crate::Kind::$kind.class()) {
                let data = $crate::EventData::$kind { $($fields)* };
                log.write($crate::Event::new(data).of($context).with_peer($peer));
            }
        }
    };
    ($log:expr, $event:expr) => {
        if const { $crate::ENABLED } {
            $log.log($event);
        }
    };
}

/// Code that is there only with tracing; the compiler checks it either way.
///
/// ```
/// # use pangea_trace::if_trace;
/// if_trace! {
///     println!("this build records");
/// }
/// ```
#[cfg(not(trace_removed))]
#[macro_export]
macro_rules! if_trace {
    ($($body:tt)*) => {
        if const { $crate::ENABLED } {
            $($body)*
        }
    };
}

/// A value that is worked out only with tracing; without it, the default of its type.
///
/// ```
/// # use pangea_trace::{TraceContext, trace_value};
/// let context: TraceContext = trace_value!(TraceContext::NONE);
/// ```
#[cfg(not(trace_removed))]
#[macro_export]
macro_rules! trace_value {
    ($value:expr) => {
        if const { $crate::ENABLED } { $value } else { Default::default() }
    };
}

/// Removed, to compare a program with.
#[cfg(trace_removed)]
#[macro_export]
macro_rules! trace_event {
    ($($all:tt)*) => {
        ()
    };
}

/// Removed, to compare a program with.
#[cfg(trace_removed)]
#[macro_export]
macro_rules! if_trace {
    ($($all:tt)*) => {
        ()
    };
}

/// Removed, to compare a program with.
#[cfg(trace_removed)]
#[macro_export]
macro_rules! trace_value {
    ($($all:tt)*) => {
        Default::default()
    };
}

/// Records that the system has taken a train of datagrams: `log, trace id, bytes, number of its
/// first datagram`.
#[macro_export]
macro_rules! trace_packet_sent {
    ($log:expr, $trace_id:expr, $size:expr, $num:expr) => {
        $crate::trace_packet!(
            $log,
            $trace_id,
            PacketSent { size: $size, packet_num: $num, datagrams: 1, conn: 0 }
        )
    };
}

/// Records that datagrams arrived: `log, trace id, bytes, number of the first, from where`.
#[macro_export]
macro_rules! trace_packet_received {
    ($log:expr, $trace_id:expr, $size:expr, $num:expr, $from:expr) => {
        $crate::trace_packet!(
            $log,
            $trace_id,
            PacketReceived { size: $size, packet_num: $num, datagrams: 1, endpoint: $from }
        )
    };
}

/// Records that a packet was lost: `log, trace id, how many were lost before it`.
#[macro_export]
macro_rules! trace_packet_lost {
    ($log:expr, $trace_id:expr, $num:expr) => {
        $crate::trace_packet!(
            $log,
            $trace_id,
            PacketLost { packet_num: $num, count: 1, bytes: 0, conn: 0 }
        )
    };
}

/// What the three above have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! trace_packet {
    ($log:expr, $trace_id:expr, $kind:ident { $($fields:tt)* }) => {
        $crate::trace_event!(
            $log,
            $crate::Event::new($crate::EventData::$kind { $($fields)* }).of_trace($trace_id)
        )
    };
}
