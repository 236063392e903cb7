//! Bytes from outside: every input that a fuzzer was given or found is replayed, every named bad
//! input is refused as `data/bad/expected.txt` says, and every refusal is reached by one of them.
//!
//! The inputs are files. `PANGEA_WRITE_INPUTS=1 cargo test --test bytes_from_outside` writes those
//! that are made here anew, and what they are refused with; look at the difference before it is
//! kept.

#[path = "bytes_from_outside/bad.rs"]
mod bad;
#[path = "bytes_from_outside/chunk.rs"]
mod chunk;
#[path = "bytes_from_outside/disk.rs"]
mod disk;
#[path = "bytes_from_outside/made/mod.rs"]
mod made;
#[path = "bytes_from_outside/nodes.rs"]
mod nodes;
#[path = "bytes_from_outside/replay.rs"]
mod replay;
#[path = "bytes_from_outside/surfaces.rs"]
mod surfaces;
#[path = "../tools/fuzz/src/targets/mod.rs"]
mod targets;
#[path = "bytes_from_outside/variants.rs"]
mod variants;

/// Whether the files are to be written.
fn writing() -> bool {
    std::env::var_os("PANGEA_WRITE_INPUTS").is_some()
}
