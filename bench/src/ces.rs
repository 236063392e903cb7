//! CES: each stage alone, the limit that follows from them, and the whole, in the same run.
//!
//! The limit is 1 / sum(1 / stage): what a core could do if the stages cost nothing together
//! beyond what they cost alone. Stages run on buffers that stay in cache, so the limit is a
//! strict one; only the first one reads the chunk (encode) or the shards (decode) themselves, as
//! the whole does.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use pangea_base::{ChunkNumber, Code, ContentKey, GroupHasher, Page, PagePool, Secret, ShardIndex};
use pangea_ces::{
    ChunkPlan, ChunkShape, Codec, Compression, Decoder, Encoder, End, Padding, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_SMALL, Suite, UNIT_BYTES,
};
use pangea_code::Kernel;

use crate::Options;
use crate::data::{json, mixed, random};
use crate::measure::{rate, time};
use crate::table::{Stats, Table, stats};

const SEGMENT: usize = SEGMENT_BYTES_MAX as usize;
const TAG: usize = 16;
const TABLES: [&str; 5] = ["code", "encode", "decode", "sizes", "steps"];

/// Runs the tables named on the command line (code, encode, decode, sizes, steps), or all of them.
pub fn run(options: &Options) -> Result<(), String> {
    if let Some(unknown) = options.rest.iter().find(|word| !TABLES.contains(&word.as_str())) {
        return Err(format!("ces has the tables {}; '{unknown}' is not one", TABLES.join(", ")));
    }
    let wanted = |name: &str| options.rest.is_empty() || options.rest.iter().any(|w| w == name);
    if wanted("code") {
        code_table(options);
    }
    if wanted("encode") {
        encode_table(options);
    }
    if wanted("decode") {
        decode_table(options);
    }
    if wanted("sizes") {
        sizes_table(options);
    }
    if wanted("steps") {
        steps_table(options);
    }
    Ok(())
}

// --- code ---------------------------------------------------------------------------------------

fn code_table(options: &Options) {
    let title = "Reed-Solomon, units of 16 KiB, GB/s of data";
    let columns = ["code", "kernel", "encode", "decode, m lost"];
    let mut table = Table::new(title, &columns);
    for (k, m) in [(4, 2), (10, 4), (16, 4), (20, 10), (100, 50), (150, 100)] {
        let code = Code::new(k, m).expect("a code of the table");
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
            if matches!(kernel, Kernel::Naive) || (k >= 100 && kernel == Kernel::Scalar) {
                continue;
            }
            let (encode, decode) = own_code(options, code, kernel);
            let cells = [format!("{k} + {m}"), format!("{kernel:?}")];
            table.row(&[&cells[..], &[encode.to_string(), decode.to_string()]].concat());
        }
        let (encode, decode) = simd_code(options, code);
        let cells = [format!("{k} + {m}"), "reed-solomon-simd 3.1".to_string()];
        table.row(&[&cells[..], &[encode.to_string(), decode.to_string()]].concat());
    }
    options.output.table(table);
}

fn units(count: usize) -> Vec<Vec<u8>> {
    random(count * UNIT_BYTES).chunks(UNIT_BYTES).map(<[u8]>::to_vec).collect()
}

fn own_code(options: &Options, code: Code, kernel: Kernel) -> (Stats, Stats) {
    let (data, mut parity) = (units(code.k()), units(code.m()));
    let encoder = pangea_code::Encoder::with_kernel(code, kernel);
    let lost = code.m().min(code.k());
    let present: Vec<ShardIndex> = (lost..code.n()).map(|i| ShardIndex(i as u8)).collect();
    let mut restored = units(lost);
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    let seconds = options.seconds / 4.0;
    for _ in 0..options.repeats {
        encode.push(time(seconds, || {
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            encoder.encode(&data, &mut out);
        }));
        decode.push(time(seconds, || {
            let solved = pangea_code::Decoder::new(code, &present).expect("k are present");
            let decoder = solved.with_kernel(kernel);
            let all: Vec<&[u8]> = data.iter().chain(&parity).map(Vec::as_slice).collect();
            let sources: Vec<&[u8]> =
                decoder.sources().iter().map(|index| all[usize::from(index.0)]).collect();
            let mut out: Vec<&mut [u8]> = restored.iter_mut().map(Vec::as_mut_slice).collect();
            decoder.restore(&sources, &mut out);
        }));
    }
    let bytes = code.k() * UNIT_BYTES;
    (rate(bytes, &encode), rate(bytes, &decode))
}

fn simd_code(options: &Options, code: Code) -> (Stats, Stats) {
    use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
    let (k, m) = (code.k(), code.m());
    let data = units(k);
    let mut encoder = ReedSolomonEncoder::new(k, m, UNIT_BYTES).expect("a code of the table");
    let mut decoder = ReedSolomonDecoder::new(k, m, UNIT_BYTES).expect("a code of the table");
    let mut parity: Vec<Vec<u8>> = units(m);
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    let seconds = options.seconds / 4.0;
    for _ in 0..options.repeats {
        encode.push(time(seconds, || {
            for unit in &data {
                encoder.add_original_shard(unit).expect("k units are added");
            }
            let made = encoder.encode().expect("k units were added");
            for (to, from) in parity.iter_mut().zip(made.recovery_iter()) {
                to.copy_from_slice(from);
            }
        }));
        decode.push(time(seconds, || {
            for (index, unit) in data.iter().enumerate().skip(m.min(k)) {
                decoder.add_original_shard(index, unit).expect("the index exists");
            }
            for (index, unit) in parity.iter().enumerate() {
                decoder.add_recovery_shard(index, unit).expect("the index exists");
            }
            black_box(decoder.decode().expect("k units were added"));
        }));
    }
    (rate(k * UNIT_BYTES, &encode), rate(k * UNIT_BYTES, &decode))
}

// --- encode -------------------------------------------------------------------------------------

const MIB: usize = 1 << 20;

fn sources(with_100_mib: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("random 1 MiB", random(MIB)),
        ("random 10 MiB", random(10 * MIB)),
        ("JSON 10 MiB", json(10 * MIB)),
        ("mixed 10 MiB", mixed(10 * MIB)),
    ];
    if with_100_mib {
        all.push(("random 100 MiB", random(100 * MIB)));
    }
    all
}

fn plan(suite: Suite) -> ChunkPlan {
    ChunkPlan {
        suite,
        code: Code::new(10, 4).expect("10 + 4 is a code"),
        segment_bytes: SEGMENT_BYTES_MAX,
        compression: Compression::Zstd(1),
        padding: Padding::Off,
    }
}

fn key() -> ContentKey {
    ContentKey(Secret::new([1; 32]))
}

fn name_of(suite: Suite) -> &'static str {
    match suite {
        Suite::XChaCha20Poly1305 => "XChaCha20",
        Suite::Aes256Gcm => "AES-256",
    }
}

const SUITES: [Suite; 2] = [Suite::XChaCha20Poly1305, Suite::Aes256Gcm];

/// The buffers that the stages of one chunk work on; all but the source stay in cache.
struct Stages {
    source: Vec<u8>,
    /// Each segment's zstd frame, or `None` if it is stored raw.
    frames: Vec<Option<Vec<u8>>>,
    /// The bytes that each segment is stored in.
    stored: Rc<[usize]>,
    key: LessSafeKey,
    scratch: Vec<u8>,
    out: Vec<u8>,
    stripe: Vec<u8>,
    units: Vec<Page>,
    compressor: zstd_safe::CCtx<'static>,
    decompressor: zstd_safe::DCtx<'static>,
    coder: pangea_code::Encoder,
    decoder: pangea_code::Decoder,
    stripes: usize,
}

impl Stages {
    fn new(plan: &ChunkPlan, source: Vec<u8>, sealed_bytes: u64) -> Stages {
        let algorithm = match plan.suite {
            Suite::XChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        let mut compressor = zstd_safe::CCtx::create();
        let level = zstd_safe::CParameter::CompressionLevel(1);
        compressor.set_parameter(level).expect("zstd has level 1");
        let mut scratch = vec![0; zstd_safe::compress_bound(SEGMENT)];
        let frames = source.chunks(SEGMENT).map(|segment| {
            let bytes = compressor.compress2(&mut scratch[..], segment).expect("zstd compresses");
            (bytes < segment.len() - segment.len() / 64).then(|| scratch[..bytes].to_vec())
        });
        let frames: Vec<Option<Vec<u8>>> = frames.collect();
        let stored = source.chunks(SEGMENT).zip(&frames);
        let stored = stored.map(|(raw, frame)| frame.as_ref().map_or(raw.len(), Vec::len));
        let stored = stored.collect();
        let pool = PagePool::new(UNIT_BYTES, plan.code.n() as u32);
        let page = |_| {
            let mut page = pool.take().expect("the pool has a page for every unit");
            page.set_len(UNIT_BYTES);
            page
        };
        let present: Vec<ShardIndex> =
            (plan.code.m()..plan.code.n()).map(|i| ShardIndex(i as u8)).collect();
        Stages {
            source,
            frames,
            stored,
            key: LessSafeKey::new(UnboundKey::new(algorithm, &[1; 32]).expect("32 bytes")),
            scratch,
            out: vec![0; SEGMENT],
            stripe: vec![0; plan.code.k() * UNIT_BYTES],
            units: (0..plan.code.n()).map(page).collect(),
            compressor,
            decompressor: zstd_safe::DCtx::create(),
            coder: pangea_code::Encoder::new(plan.code),
            decoder: pangea_code::Decoder::new(plan.code, &present).expect("k are present"),
            stripes: (sealed_bytes as usize).div_ceil(plan.code.k() * UNIT_BYTES),
        }
    }

    /// zstd for what shrinks, a copy for the rest.
    fn compress_or_copy(&mut self) {
        for (segment, frame) in self.source.chunks(SEGMENT).zip(&self.frames) {
            match frame {
                Some(_) => {
                    let made = self.compressor.compress2(&mut self.scratch[..], segment);
                    black_box(made.expect("zstd compresses"));
                }
                None => self.scratch[..segment.len()].copy_from_slice(segment),
            }
        }
    }

    fn seal(&mut self) {
        for &bytes in self.stored.clone().iter() {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let text = &mut self.scratch[..bytes];
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from([0; 44]), text);
            let _ = black_box(tag.expect("a segment is sealed"));
        }
    }

    /// The sealed bytes into the units.
    fn stripe_copy(&mut self) {
        for &bytes in self.stored.clone().iter() {
            let mut at = 0;
            while at < bytes {
                let now = UNIT_BYTES.min(bytes - at);
                self.units[at / UNIT_BYTES][..now].copy_from_slice(&self.scratch[at..at + now]);
                at += now;
            }
        }
    }

    fn parity(&mut self) {
        for _ in 0..self.stripes {
            let (data, parity) = self.units.split_at_mut(self.coder.code().k());
            let data: Vec<&[u8]> = data.iter().map(|page| &page[..]).collect();
            let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(|page| &mut page[..]).collect();
            self.coder.encode(&data, &mut parity);
        }
    }

    fn hash(&mut self) {
        let mut hashers = vec![GroupHasher::new(); self.units.len()];
        for _ in 0..self.stripes {
            for (hasher, unit) in hashers.iter_mut().zip(&self.units) {
                hasher.push(unit);
            }
        }
        hashers.into_iter().for_each(|hasher| drop(black_box(hasher.finish())));
    }

    /// Opens nothing real: a wrong tag costs what a right one does, and is wrong every time.
    fn open(&mut self) {
        for &bytes in self.stored.clone().iter() {
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let (text, tag) = (&self.scratch[..bytes], [0; TAG]);
            let aad = Aad::from([0; 44]);
            let out = &mut self.out[..bytes];
            black_box(self.key.open_separate_gather(nonce, aad, text, &tag, out).is_err());
        }
    }

    /// The units of `k` whole shards into one buffer, stripe by stripe.
    fn gather(&mut self, shards: &[Vec<u8>]) {
        for start in (0..shards[0].len()).step_by(UNIT_BYTES) {
            for (shard, to) in shards.iter().zip(self.stripe.chunks_mut(UNIT_BYTES)) {
                let unit = &shard[start..shard.len().min(start + UNIT_BYTES)];
                to[..unit.len()].copy_from_slice(unit);
            }
            black_box(&mut self.stripe);
        }
    }

    fn decompress(&mut self) {
        for (segment, frame) in self.source.chunks(SEGMENT).zip(&self.frames) {
            if let Some(frame) = frame {
                let made = self.decompressor.decompress(&mut self.out[..segment.len()], frame);
                black_box(made.expect("a frame of our own"));
            }
        }
    }

    fn restore(&mut self) {
        for _ in 0..self.stripes {
            let lost = self.decoder.wanted().len();
            let (lost, there) = self.units.split_at_mut(lost);
            let sources: Vec<&[u8]> = there.iter().map(|page| &page[..]).collect();
            let mut lost: Vec<&mut [u8]> = lost.iter_mut().map(|page| &mut page[..]).collect();
            self.decoder.restore(&sources, &mut lost);
        }
    }
}

/// Encodes the whole chunk; gives each stripe to `sink`.
fn encode(
    codec: &mut Codec,
    plan: &ChunkPlan,
    pool: &PagePool,
    source: &[u8],
    mut sink: impl FnMut(&[Page]),
) -> ChunkShape {
    let mut encoder = Encoder::start(codec, *plan, ChunkNumber(0), &key(), [3; 16]);
    let mut rest = source;
    while !encoder.done() {
        let taken = encoder.feed(codec, rest, End::Last);
        rest = &rest[taken..];
        while let Some(units) = encoder.stripe(codec, pool).expect("the pool holds a stripe") {
            sink(&units);
            codec.recycle(units);
        }
    }
    encoder.finish(codec).shape(plan, ChunkNumber(0))
}

/// Times of each stage and of the whole, interleaved; then the row: stages, limit, whole, ratio.
fn row(
    options: &Options,
    bytes: usize,
    stages: &mut [(&str, &mut dyn FnMut())],
    whole: &mut dyn FnMut(),
) -> Vec<String> {
    let mut alone = vec![Vec::new(); stages.len()];
    let (mut together, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let seconds = options.seconds / 3.0;
        for ((_, stage), times) in stages.iter_mut().zip(&mut alone) {
            times.push(time(seconds, stage));
        }
        together.push(time(options.seconds, &mut *whole));
        let sum: f64 = alone.iter().filter_map(|times| times.last()).sum();
        limits.push(sum);
        ratios.push(sum / together.last().copied().unwrap_or(f64::NAN));
    }
    let mut cells: Vec<String> =
        alone.iter().map(|times| format!("{:.1}", rate(bytes, times).median)).collect();
    cells.push(rate(bytes, &limits).to_string());
    cells.push(rate(bytes, &together).to_string());
    cells.push(stats(&ratios).to_string());
    cells
}

fn encode_table(options: &Options) {
    let title = "CES encode, 10 + 4, zstd level 1, one core, GB/s of plaintext";
    let columns = [
        "source",
        "suite",
        "zstd|copy",
        "seal",
        "stripe",
        "RS",
        "hash",
        "limit",
        "whole",
        "whole/limit",
    ];
    let mut table = Table::new(title, &columns);
    for (name, source) in sources(true) {
        for suite in SUITES {
            let plan = plan(suite);
            let pool = PagePool::new(UNIT_BYTES, plan.code.n() as u32);
            let mut codec = Codec::new();
            let shape = encode(&mut codec, &plan, &pool, &source, |_| ());
            let stages =
                std::cell::RefCell::new(Stages::new(&plan, source.clone(), shape.sealed_bytes));
            let cells = row(
                options,
                source.len(),
                &mut [
                    ("zstd|copy", &mut || stages.borrow_mut().compress_or_copy()),
                    ("seal", &mut || stages.borrow_mut().seal()),
                    ("stripe", &mut || stages.borrow_mut().stripe_copy()),
                    ("RS", &mut || stages.borrow_mut().parity()),
                    ("hash", &mut || stages.borrow_mut().hash()),
                ],
                &mut || {
                    black_box(encode(&mut codec, &plan, &pool, &source, |_| ()));
                },
            );
            let head = [name.to_string(), name_of(suite).to_string()];
            table.row(&[&head[..], &cells[..]].concat());
        }
    }
    options.output.table(table);
}

// --- decode -------------------------------------------------------------------------------------

/// A chunk's shards, whole.
fn shards(plan: &ChunkPlan, source: &[u8]) -> (ChunkShape, Vec<Vec<u8>>) {
    let pool = PagePool::new(UNIT_BYTES, plan.code.n() as u32);
    let mut shards = vec![Vec::new(); plan.code.n()];
    let shape = encode(&mut Codec::new(), plan, &pool, source, |units| {
        shards.iter_mut().zip(units).for_each(|(shard, unit)| shard.extend_from_slice(unit));
    });
    (shape, shards)
}

fn decode(codec: &mut Codec, shape: &ChunkShape, shards: &[Vec<u8>], from: usize, page: &mut Page) {
    let mut decoder = Decoder::start(codec, shape, &key()).expect("a shape of our own");
    let mut bytes = 0;
    let mut units: Vec<(ShardIndex, &[u8])> = Vec::with_capacity(shape.code.k());
    for stripe in 0..decoder.stripes() {
        let (start, length) = (stripe as usize * UNIT_BYTES, decoder.unit_bytes(stripe));
        units.clear();
        let present = shards.iter().enumerate().skip(from).take(shape.code.k());
        units.extend(present.map(|(i, s)| (ShardIndex(i as u8), &s[start..start + length])));
        decoder.stripe(codec, &units).expect("units of our own");
        while let Some(more) = decoder.segment(codec, page).expect("a chunk of our own") {
            bytes += more;
        }
    }
    decoder.finish(codec).expect("a chunk of our own");
    assert_eq!(bytes as u64, shape.plaintext_bytes);
}

fn decode_table(options: &Options) {
    let title = "CES decode, 10 + 4, one core, GB/s of plaintext (units verified before)";
    let columns = [
        "source",
        "suite",
        "lost",
        "gather",
        "RS",
        "open",
        "decompress",
        "limit",
        "whole",
        "whole/limit",
    ];
    let mut table = Table::new(title, &columns);
    let pages = PagePool::new(SEGMENT, 1);
    let mut page = pages.take().expect("the pool has a page");
    for (name, source) in sources(false) {
        for suite in SUITES {
            let plan = plan(suite);
            let (shape, shards) = shards(&plan, &source);
            for lost in [0, plan.code.m()] {
                let mut codec = Codec::new();
                let stages =
                    std::cell::RefCell::new(Stages::new(&plan, source.clone(), shape.sealed_bytes));
                let mut restore = || {
                    if lost > 0 {
                        stages.borrow_mut().restore();
                    }
                };
                let cells = row(
                    options,
                    source.len(),
                    &mut [
                        ("gather", &mut || stages.borrow_mut().gather(&shards[lost..lost + 10])),
                        ("RS", &mut restore),
                        ("open", &mut || stages.borrow_mut().open()),
                        ("decompress", &mut || stages.borrow_mut().decompress()),
                    ],
                    &mut || decode(&mut codec, &shape, &shards, lost, &mut page),
                );
                let absent =
                    |i: usize| (i == 1 && lost == 0) || (i == 3 && name.starts_with("random"));
                let cells: Vec<String> = cells
                    .into_iter()
                    .enumerate()
                    .map(|(i, cell)| if absent(i) { "-".to_string() } else { cell })
                    .collect();
                let head = [name.to_string(), name_of(suite).to_string(), lost.to_string()];
                table.row(&[&head[..], &cells[..]].concat());
            }
        }
    }
    options.output.table(table);
}

// --- sizes --------------------------------------------------------------------------------------

/// What the title of the table by chunk size begins with.
pub const SIZES_TITLE: &str = "CES by chunk size";

/// From the smallest objects to beyond what is planned for a fast path; KiB.
const SIZES_KIB: [usize; 6] = [64, 256, 1024, 4096, 16_384, 65_536];

fn sizes_table(options: &Options) {
    let title =
        format!("{SIZES_TITLE}, 10 + 4, random bytes, XChaCha20, one core, GB/s of plaintext");
    let columns = [
        "chunk KiB",
        "encode",
        "decode",
        "decode, 4 lost",
        "limit: memcpy",
        "encode/limit %",
        "decode/limit %",
    ];
    let mut table = Table::new(&title, &columns);
    for kib in SIZES_KIB {
        let [encode, decode, lossy, copy] = size(options, kib << 10);
        let percent = |of: Stats| format!("{:.1}", 100.0 * of.median / copy.median);
        let head = [kib.to_string(), encode.to_string(), decode.to_string(), lossy.to_string()];
        let tail = [copy.to_string(), percent(encode), percent(decode)];
        table.row(&[&head[..], &tail[..]].concat());
    }
    options.output.table(table);
}

/// Encode, decode, decode with as many shards lost as may be, and a copy of as many bytes, in turn.
fn size(options: &Options, bytes: usize) -> [Stats; 4] {
    let source = random(bytes);
    let mut plan = plan(Suite::XChaCha20Poly1305);
    if bytes as u64 <= pangea_ces::plan::SMALL_CHUNK_BYTES {
        plan.segment_bytes = SEGMENT_BYTES_SMALL;
    }
    let (shape, shards) = shards(&plan, &source);
    let pool = PagePool::new(UNIT_BYTES, plan.code.n() as u32);
    let mut page = PagePool::new(SEGMENT, 1).take().expect("a fresh pool has its page");
    let (mut codec, mut copy) = (Codec::new(), vec![0; bytes]);
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..options.repeats {
        times[0].push(time(options.seconds, || {
            black_box(encode(&mut codec, &plan, &pool, &source, |_| ()));
        }));
        for (lost, times) in [0, plan.code.m()].into_iter().zip(&mut times[1..3]) {
            let mut whole = || decode(&mut codec, &shape, &shards, lost, &mut page);
            times.push(time(options.seconds, &mut whole));
        }
        times[3].push(time(options.seconds / 3.0, || {
            black_box(&mut copy).copy_from_slice(black_box(&source));
        }));
    }
    times.map(|times| rate(bytes, &times))
}

// --- steps --------------------------------------------------------------------------------------

/// How long single calls take: nothing else runs on the core meanwhile.
fn steps_table(options: &Options) {
    let title = "CES steps, 10 + 4, XChaCha20, microseconds";
    let columns = ["source", "level", "call", "calls", "median", "99 %", "99.9 %", "ratio"];
    let mut table = Table::new(title, &columns);
    let pages = PagePool::new(SEGMENT, 1);
    let mut page = pages.take().expect("the pool has a page");
    for (name, source) in [("random", random(32 * MIB)), ("JSON", json(32 * MIB))] {
        for level in [-5, 1, 3, 9] {
            let compression = Compression::Zstd(level);
            let plan = ChunkPlan { compression, ..plan(Suite::XChaCha20Poly1305) };
            let (feed, stripe, ratio) = encode_steps(&plan, &source);
            let (shape, shards) = shards(&plan, &source);
            let segment = segment_steps(&shape, &shards, &mut page);
            for (call, times) in [("feed", feed), ("stripe", stripe), ("segment", segment)] {
                let at = |part: f64| {
                    let index = ((times.len() - 1) as f64 * part) as usize;
                    format!("{:.0}", times[index] * 1e6)
                };
                let head = [name.to_string(), level.to_string(), call.to_string()];
                let tail = [times.len().to_string(), at(0.5), at(0.99), at(0.999)];
                table.row(&[&head[..], &tail[..], &[format!("{ratio:.2}")]].concat());
            }
            if name == "random" {
                break;
            }
        }
    }
    options.output.table(table);
}

fn encode_steps(plan: &ChunkPlan, source: &[u8]) -> (Vec<f64>, Vec<f64>, f64) {
    let mut codec = Codec::new();
    let pool = PagePool::new(UNIT_BYTES, plan.code.n() as u32);
    encode(&mut codec, plan, &pool, source, |_| ());
    let (mut feeds, mut stripes) = (Vec::new(), Vec::new());
    let mut encoder = Encoder::start(&mut codec, *plan, ChunkNumber(0), &key(), [3; 16]);
    let mut rest = source;
    while !encoder.done() {
        let start = Instant::now();
        let taken = encoder.feed(&mut codec, rest, End::Last);
        feeds.push(start.elapsed().as_secs_f64());
        rest = &rest[taken..];
        loop {
            let start = Instant::now();
            let units = encoder.stripe(&mut codec, &pool).expect("the pool holds a stripe");
            stripes.push(start.elapsed().as_secs_f64());
            let Some(units) = units else { break };
            codec.recycle(units);
        }
    }
    let sealed = encoder.finish(&mut codec);
    feeds.sort_by(f64::total_cmp);
    stripes.sort_by(f64::total_cmp);
    (feeds, stripes, source.len() as f64 / sealed.sealed_bytes as f64)
}

fn segment_steps(shape: &ChunkShape, shards: &[Vec<u8>], page: &mut Page) -> Vec<f64> {
    let mut codec = Codec::new();
    let mut times = Vec::new();
    let mut decoder = Decoder::start(&mut codec, shape, &key()).expect("a shape of our own");
    for stripe in 0..decoder.stripes() {
        let (start, length) = (stripe as usize * UNIT_BYTES, decoder.unit_bytes(stripe));
        let unit = |i: usize| (ShardIndex(i as u8), &shards[i][start..start + length]);
        let units: Vec<(ShardIndex, &[u8])> = (0..shape.code.k()).map(unit).collect();
        decoder.stripe(&mut codec, &units).expect("units of our own");
        loop {
            let start = Instant::now();
            let more = decoder.segment(&mut codec, page).expect("a chunk of our own");
            times.push(start.elapsed().as_secs_f64());
            if more.is_none() {
                break;
            }
        }
    }
    times.sort_by(f64::total_cmp);
    times
}
