//! What is put through the benchmarks: made from fixed seeds.

use pangea_base::Entropy;

/// How long [`mixed`] stays with one kind.
const RUN_BYTES: usize = 256 << 10;

/// Bytes that cannot be compressed; the same every time.
pub fn random(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    Entropy::new([7; 32]).fill(&mut out);
    out
}

/// Records such as a log or an export has.
pub fn json(bytes: usize) -> Vec<u8> {
    const NAMES: [&str; 8] =
        ["holder", "origin", "manifest", "placement", "receipt", "locator", "grant", "segment"];
    let mut entropy = Entropy::new([8; 32]);
    let mut out = Vec::with_capacity(bytes + 256);
    while out.len() < bytes {
        let name = NAMES[entropy.below(8) as usize];
        let (id, size, at) = (entropy.u64() as u32, entropy.below(1 << 20), entropy.below(86_400));
        let line = format!(
            "{{\"kind\":\"{name}\",\"id\":\"{id:08x}\",\"bytes\":{size},\"at\":\"2026-11-21T{:02}:{:02}\",\
             \"state\":\"{}\"}},\n",
            at / 3600,
            at / 60 % 60,
            if id % 5 == 0 { "waiting for receipt" } else { "stored" },
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(bytes);
    out
}

/// 256 KiB of records, 256 KiB of random bytes, and so on.
pub fn mixed(bytes: usize) -> Vec<u8> {
    let (mut out, random) = (json(bytes), random(bytes));
    for (i, part) in out.chunks_mut(RUN_BYTES).enumerate().filter(|(i, _)| i % 2 == 1) {
        part.copy_from_slice(&random[RUN_BYTES * i..][..part.len()]);
    }
    out
}
