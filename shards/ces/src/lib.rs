//! CES: sample, compress, encrypt, stripe. A chunk of plaintext goes in, the units of its `n`
//! shards come out, and any `k` of them give it back, to the byte or with an error that says what
//! was wrong. `format.md` draws the result to the byte.
//!
//! An encoder or decoder works in steps of at most about 200 us and in a few hundred KiB that
//! come from the core's [`Codec`], whatever the length of the chunk. It reads no clock, no
//! entropy and no file.

#![forbid(unsafe_code)]

mod codec;
mod compress;
mod decode;
mod encode;
mod format;
pub mod plan;
mod sample;
mod seal;
#[cfg(test)]
mod tests;
mod types;

pub use codec::{
    Codec, DECODERS_KEPT_MAX, ENCODERS_KEPT_MAX, SPARE_BUFFERS_MAX, SPARE_VECTORS_MAX,
};
pub use decode::{DecodeFailed, Decoder};
pub use encode::Encoder;
pub use format::{
    CHUNK_BYTES_MAX, HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_SMALL, ShapeInvalid, TAG_BYTES,
    UNIT_ALIGN, UNIT_BYTES, VERSION, WORD_BYTES,
};
pub use types::{
    ChunkPlan, ChunkSealed, ChunkShape, Compression, End, Padding, Suite, SuiteChoice,
};
