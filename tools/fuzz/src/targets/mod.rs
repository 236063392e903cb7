//! The targets: one function for each surface that bytes from outside reach. The fuzzer calls them,
//! and so does `cargo test`, with the inputs in `corpus` and `found`.

pub mod disk;
pub mod engine;
pub mod forge;
mod input;
pub mod quic;
pub mod samples;
mod sealed;
mod text;
#[cfg(feature = "trace")]
mod traces;
mod wire;

/// One surface.
pub struct Target {
    /// Its name, and that of its folders.
    pub name: &'static str,
    /// Takes one input; a panic is a finding.
    pub run: fn(&[u8]),
    /// What one input may make it take from the allocator.
    pub bytes_max: usize,
    /// Small valid inputs, made by the real encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const MIB: usize = 1 << 20;
/// What an input may make a parser take.
const PARSER_BYTES_MAX: usize = 8 * MIB;
/// The same where the target is a whole disk, or machines that have buffers of their own.
const WORLD_BYTES_MAX: usize = 32 * MIB;

/// All of them.
pub const TARGETS: &[Target] = &[
    parser("link", text::link, text::link_seeds),
    parser("address", text::address, text::address_seeds),
    parser("label", text::label, text::label_seeds),
    parser("units", text::units, text::units_seeds),
    parser("config", text::config, text::config_seeds),
    parser("arguments", text::arguments, text::arguments_seeds),
    parser("message", wire::message, wire::message_seeds),
    parser("signed", wire::signed, wire::signed_seeds),
    parser("stream", wire::stream, wire::stream_seeds),
    parser("placement", wire::placement, wire::placement_seeds),
    parser("manifest", sealed::manifest, sealed::manifest_seeds),
    parser("chunk", sealed::chunk, sealed::chunk_seeds),
    world("journal", disk::journal, disk::journal_seeds),
    world("image", disk::image, disk::image_seeds),
    parser("cid", quic::cid, quic::cid_seeds),
    world("transport", quic::transport, quic::transport_seeds),
    world("engine", engine::engine, engine::engine_seeds),
    #[cfg(feature = "trace")]
    parser("trace", traces::trace, traces::trace_seeds),
];

const fn parser(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, bytes_max: PARSER_BYTES_MAX, seeds }
}

const fn world(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, bytes_max: WORLD_BYTES_MAX, seeds }
}
