//! `PANGEA_TRACE_MACROS=removed` takes the macros away from everybody who uses them, so that a
//! program without them can be compared with one in which they are turned off (tools/zero-cost).

fn main() {
    println!("cargo:rustc-check-cfg=cfg(trace_removed)");
    println!("cargo:rerun-if-env-changed=PANGEA_TRACE_MACROS");
    match std::env::var("PANGEA_TRACE_MACROS").as_deref() {
        Ok("removed") => println!("cargo:rustc-cfg=trace_removed"),
        Ok(other) if !other.is_empty() => panic!("PANGEA_TRACE_MACROS={other}: only 'removed'"),
        _ => {}
    }
}
