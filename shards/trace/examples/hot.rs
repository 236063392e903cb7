//! A loop that is full of tracing and always does the same, to show what tracing costs when it is
//! compiled out: nothing. Built without features and built with `PANGEA_TRACE_MACROS=removed`, it is
//! the same machine code and the same number of instructions.
//!
//! ```text
//! cargo build --release -p pangea-trace --example hot
//! PANGEA_TRACE_MACROS=removed cargo build --release -p pangea-trace --example hot \
//!     --target-dir target/removed
//! valgrind --tool=callgrind target/release/examples/hot
//! ```

// What only the macros used is left over when they are removed.
#![cfg_attr(trace_removed, allow(unused))]

use std::hint::black_box;

use pangea_base::PeerId;
use pangea_trace::{
    ConnTrace, Outcome, SpanKind, TraceContext, Tracer, if_trace, trace_event, trace_packet_sent,
    trace_value,
};

const ROUNDS: u64 = 2_000;
const BLOCK: usize = 4096;

struct Engine {
    tracer: Tracer,
    peer: PeerId,
    traffic: ConnTrace,
    state: u64,
}

fn main() {
    let mut engine = Engine {
        tracer: Tracer::none(),
        peer: PeerId([7; 32]),
        traffic: ConnTrace::default(),
        state: 0xcbf2_9ce4_8422_2325,
    };
    let mut block = [0; BLOCK];
    for round in 0..ROUNDS {
        engine.fill(&mut block, round);
        let digest = engine.serve(black_box(&block), round);
        black_box(digest);
    }
    println!("{:016x}", engine.state);
}

impl Engine {
    #[inline(never)]
    fn fill(&mut self, block: &mut [u8; BLOCK], round: u64) {
        let mut word = self.state ^ round;
        for place in block.chunks_exact_mut(8) {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word >> 29;
            place.copy_from_slice(&word.to_le_bytes());
        }
        let nothing = TraceContext::NONE;
        trace_event!(self.tracer, &nothing, SegmentOpened { chunk: round, plain: 0, offset: word });
    }

    #[inline(never)]
    fn serve(&mut self, block: &[u8; BLOCK], round: u64) -> u64 {
        let context: TraceContext = trace_value!(self.tracer.begin_trace(SpanKind::Serve, round));
        let mut digest = self.state;
        for (stripe, unit) in (0..).zip(block.chunks_exact(512)) {
            digest = self.unit(&context, digest, stripe, unit);
            trace_event!(
                self.tracer,
                &context,
                StripeCoded { chunk: round, stripe, k: unit.len() as u8, m: digest as u8 }
            );
        }
        self.send(&context, digest);
        self.state = digest;
        if_trace! {
            let outcome = if digest == 0 { Outcome::Failed } else { Outcome::Done };
            self.tracer.end(&context, SpanKind::Serve, outcome, block.len() as u64);
        }
        digest
    }

    #[inline(never)]
    fn unit(&self, context: &TraceContext, seed: u64, stripe: u64, unit: &[u8]) -> u64 {
        let span: TraceContext = trace_value!(self.tracer.begin(context, SpanKind::Ask, stripe));
        let mut digest = seed;
        for &byte in unit {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            trace_event!(
                self.tracer,
                &span,
                &self.peer,
                StreamData {
                    stream_id: stripe,
                    offset: digest,
                    length: u32::from(byte),
                    fin: 0,
                    conn: 1
                }
            );
        }
        if_trace! {
            self.tracer.end(&span, SpanKind::Ask, Outcome::Done, unit.len() as u64);
        }
        digest
    }

    #[inline(never)]
    fn send(&mut self, context: &TraceContext, digest: u64) {
        let bytes = 1200 * (1 + digest as usize % 8);
        let train = self.traffic.train(Some(self.peer), 1, bytes, Some(1200));
        self.tracer.train_sent(&train, black_box(bytes));
        trace_packet_sent!(self.tracer, context.trace_id(), bytes as u32, digest);
    }
}
