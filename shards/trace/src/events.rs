//! Every event, declared once. The type, its bytes, names, classes, documentation and what the
//! exporters show of it follow from this table.

use std::net::SocketAddr;

use crate::field::{Field, PAYLOAD_BYTES, Payload, Value, to_payload};

macro_rules! events {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $class:ident $kind:ident { $(
            $(#[doc = $field_doc:literal])+
            $field:ident: $type:ty
        ),+ $(,)? }
    ),+ $(,)?) => {
        /// Which event. The numbers are those of trace files and do not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind = $number),+
        }

        impl Kind {
            /// All, by number.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// The kind of a number, if there is one.
            pub fn from_number(number: u16) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)+
                    _ => None,
                }
            }

            /// The name, as in this table.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind)),+ }
            }

            /// What it belongs to.
            #[inline(always)]
            pub const fn class(self) -> Class {
                match self { $(Kind::$kind => Class::$class),+ }
            }

            /// Words of eight bytes that the fields of this number's kind take; all for a number
            /// that is no kind's.
            #[cfg(feature = "trace")]
            #[inline(always)]
            pub(crate) const fn words_of(number: u16) -> usize {
                match number {
                    $($number => (0 $(+ <$type as Field>::BYTES)+).div_ceil(8),)+
                    _ => PAYLOAD_BYTES / 8,
                }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Kind::$kind => concat!($($doc),+).trim_ascii()),+ }
            }

            /// Its fields: name and bytes, in order.
            pub fn fields(self) -> &'static [(&'static str, usize)] {
                match self {
                    $(Kind::$kind => &[$((stringify!($field), <$type as Field>::BYTES)),+]),+
                }
            }
        }

        /// An event's kind with its own fields.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventData {
            $(
                $(#[doc = $doc])+
                $kind { $($(#[doc = $field_doc])+ $field: $type),+ }
            ),+
        }

        impl EventData {
            /// Which.
            #[inline(always)]
            pub fn kind(&self) -> Kind {
                match self { $(EventData::$kind { .. } => Kind::$kind),+ }
            }

            /// The fields as bytes, one behind the other, the rest zero.
            #[inline(always)]
            pub fn encode(&self) -> Payload {
                let mut words = [0; PAYLOAD_BYTES / 8];
                match *self {
                    $(EventData::$kind { $($field),+ } => {
                        let at = 0;
                        $(
                            Field::put($field, &mut words, at);
                            let at = at + <$type as Field>::BYTES;
                        )+
                        let _ = at;
                    })+
                }
                to_payload(&words)
            }

            /// The fields of a kind, out of bytes. Every combination of bytes is an event.
            pub fn decode(kind: Kind, payload: &Payload) -> EventData {
                match kind {
                    $(Kind::$kind => {
                        let at = 0;
                        $(
                            let $field = <$type as Field>::take(payload, at);
                            let at = at + <$type as Field>::BYTES;
                        )+
                        let _ = at;
                        EventData::$kind { $($field),+ }
                    })+
                }
            }

            /// Every field with its name and value, in order.
            pub fn values(&self) -> Vec<(&'static str, Value)> {
                match *self {
                    $(EventData::$kind { $($field),+ } => {
                        vec![$((stringify!($field), Field::value($field))),+]
                    })+
                }
            }
        }

        // Every event fits, or nothing compiles.
        const _: () = {
            $(assert!(0 $(+ <$type as Field>::BYTES)+ <= PAYLOAD_BYTES, stringify!($kind));)+
        };
    };
}

/// What an event belongs to; recording is turned on and off by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// The recorder's own.
    Recorder = 0,
    /// Work with a beginning and an end.
    Span = 1,
    /// Connections.
    Conn = 2,
    /// Streams.
    Stream = 3,
    /// Trains of datagrams.
    Packet = 4,
    /// Messages between cores.
    Mesh = 5,
    /// Compressing, sealing, erasure-coding and back.
    Codec = 6,
    /// Shards and files.
    Store = 7,
    /// Applications.
    App = 8,
}

impl Class {
    /// All.
    pub const ALL: [Class; 9] = [
        Class::Recorder,
        Class::Span,
        Class::Conn,
        Class::Stream,
        Class::Packet,
        Class::Mesh,
        Class::Codec,
        Class::Store,
        Class::App,
    ];

    /// The name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Class::Recorder => "recorder",
            Class::Span => "span",
            Class::Conn => "conn",
            Class::Stream => "stream",
            Class::Packet => "packet",
            Class::Mesh => "mesh",
            Class::Codec => "codec",
            Class::Store => "store",
            Class::App => "app",
        }
    }

    /// Its bit in a set of classes.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }
}

events! {
    /// Events that were overwritten before a reader came to them. Made by the reader.
    1 Recorder Gap {
        /// How many.
        lost: u64,
    },
    /// A piece of work begins; the event's span is its number from here to [`Kind::SpanEnd`].
    2 Span SpanBegin {
        /// What it is: a [`SpanKind`](crate::SpanKind).
        what: u16,
        /// The span that caused it, here or elsewhere; 0: none.
        parent: u64,
        /// Which: a chunk, a job, a stream.
        number: u64,
    },
    /// A piece of work ends. The flag `error` says that it failed.
    3 Span SpanEnd {
        /// What it is: a [`SpanKind`](crate::SpanKind).
        what: u16,
        /// Bytes that it moved, if that means anything.
        bytes: u64,
    },
    /// A connection is being made, by us or by the peer.
    10 Conn ConnInit {
        /// The other side's address.
        endpoint: SocketAddr,
    },
    /// A connection's handshake is done and the peer has proved who it is.
    11 Conn ConnEstablished {
        /// Round trip so far, microseconds.
        rtt: u32,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// A connection ended.
    12 Conn ConnClosed {
        /// The connection, by its number on this core.
        conn: u32,
        /// The reason's first words.
        reason: [u8; 40],
    },
    /// A connection's figures: when packets were lost, and at its end.
    13 Conn PathMetrics {
        /// Smoothed round trip, microseconds.
        rtt: u32,
        /// The connection, by its number on this core.
        conn: u32,
        /// Congestion window, bytes.
        window: u64,
        /// Packets sent so far.
        sent: u64,
        /// Packets lost so far.
        lost: u64,
    },
    /// A stream was opened, by us or by the peer.
    20 Stream StreamOpened {
        /// QUIC's number of it.
        stream_id: u64,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// Bytes of a stream were read in order. (Frames as they arrive are quinn-proto's own affair.)
    21 Stream StreamData {
        /// QUIC's number of it.
        stream_id: u64,
        /// Where in the stream they begin.
        offset: u64,
        /// How many.
        length: u32,
        /// 1: the stream ended here.
        fin: u8,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// The system has taken a train of datagrams. Written after it said so, never before.
    30 Packet PacketSent {
        /// Bytes of the train.
        size: u32,
        /// Which datagram of the connection was the first of it, counted by us from 0: QUIC's
        /// packet numbers are quinn-proto's own affair.
        packet_num: u64,
        /// Datagrams in it.
        datagrams: u16,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// A batch of datagrams arrived.
    31 Packet PacketReceived {
        /// Bytes of the batch.
        size: u32,
        /// Which datagram of this core was the first of it, counted from 0.
        packet_num: u64,
        /// Datagrams in it.
        datagrams: u16,
        /// From where.
        endpoint: SocketAddr,
    },
    /// The connection took packets for lost.
    32 Packet PacketLost {
        /// How many the connection has lost so far, these not counted: quinn-proto does not say
        /// which they were.
        packet_num: u64,
        /// How many now.
        count: u32,
        /// Their bytes.
        bytes: u64,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// The system refused a train of datagrams.
    33 Packet PacketSendFailed {
        /// Bytes of the train.
        size: u32,
        /// As in [`Kind::PacketSent`].
        packet_num: u64,
        /// Datagrams in it.
        datagrams: u16,
        /// The system's error number, 0 if it gave none.
        errno: u32,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// Packet FEC rebuilt a datagram.
    34 Packet FecRecovered {
        /// The group.
        group: u64,
        /// The datagram's place in it.
        index: u16,
        /// Its bytes.
        length: u32,
        /// The connection, by its number on this core.
        conn: u32,
    },
    /// A message goes to another core, or to control.
    40 Mesh MeshSent {
        /// To which; one past the last core is control.
        to: u16,
        /// Joins it with [`Kind::MeshReceived`].
        hop: u64,
    },
    /// A message came from another core, or from control.
    41 Mesh MeshReceived {
        /// From which; one past the last core is control.
        from: u16,
        /// Joins it with [`Kind::MeshSent`].
        hop: u64,
    },
    /// A segment was compressed (or not) and sealed.
    50 Codec SegmentSealed {
        /// The chunk.
        chunk: u64,
        /// Plaintext bytes taken in by this step.
        plain: u32,
        /// Plaintext bytes of the chunk so far.
        done: u64,
    },
    /// A stripe of a chunk was erasure-coded: k units in, n units out.
    51 Codec StripeCoded {
        /// The chunk.
        chunk: u64,
        /// Which stripe.
        stripe: u64,
        /// Data shards.
        k: u8,
        /// Parity shards.
        m: u8,
    },
    /// A stripe was put together from k units.
    52 Codec StripeDecoded {
        /// The chunk.
        chunk: u64,
        /// Which stripe.
        stripe: u64,
        /// Units of it that had to be computed.
        restored: u8,
    },
    /// A segment was opened, verified and decompressed.
    53 Codec SegmentOpened {
        /// The chunk.
        chunk: u64,
        /// Plaintext bytes of it.
        plain: u32,
        /// Where in the object they begin.
        offset: u64,
    },
    /// A shard and its journal entry are durable here.
    60 Store ShardStored {
        /// The chunk.
        chunk: u64,
        /// Which shard of it.
        index: u8,
        /// Its bytes.
        bytes: u64,
    },
    /// A shard could not be stored here.
    61 Store ShardRefused {
        /// The chunk.
        chunk: u64,
        /// Which shard of it.
        index: u8,
        /// Why, the first words.
        reason: [u8; 39],
    },
    /// A holder's receipt was checked and kept: the shard is durable there.
    62 Store ReceiptTaken {
        /// The chunk.
        chunk: u64,
        /// Which shard of it.
        index: u8,
        /// Its bytes.
        bytes: u64,
    },
    /// A holder failed, refused, was too slow, or sent what it should not have.
    63 Store HolderFailed {
        /// The chunk.
        chunk: u64,
        /// Which shard of it.
        index: u8,
        /// Why, the first words.
        reason: [u8; 39],
    },
    /// A file operation ended.
    64 Store FileDone {
        /// Which: 0 open, 1 read, 2 write, 3 sync, 4 close, 5 other.
        operation: u8,
        /// Bytes of it.
        bytes: u32,
        /// The system's error number, 0: it went well.
        errno: u32,
        /// How long it took, nanoseconds.
        nanos: u64,
    },
    /// What the ledger said to a request for room.
    65 Store LedgerAnswered {
        /// 0 granted, 1 spent, 2 refused, 3 noted.
        answer: u8,
    },
    /// What a peer asked for was refused, or its request broke the protocol. (A refused shard has
    /// its [`Kind::ShardRefused`] before this.)
    66 Store RequestRefused {
        /// Why, the first words.
        reason: [u8; 48],
    },
    /// An application's command; the flags `begin`, `end` and `error` say which moment of it.
    70 App AppCommand {
        /// Whose.
        app_id: [u8; 4],
        /// Which.
        cmd: u16,
        /// What the application makes of it.
        data: [u8; 42],
    },
    /// Anything else.
    71 App Custom {
        /// The user's own; 1 is network messages.
        category: u16,
        /// The user's own.
        code: u16,
        /// The user's own.
        data: [u8; 44],
    },
}

/// The first bytes of a text, for a field of N bytes; cut between characters.
pub fn words<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; N];
    if let (Some(place), Some(cut)) = (bytes.get_mut(..end), text.as_bytes().get(..end)) {
        place.copy_from_slice(cut);
    }
    bytes
}
