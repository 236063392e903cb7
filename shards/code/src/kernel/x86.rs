//! The x86 kernels. In pseudo-code, for each block of columns (bytes) and each group of rows:
//!
//! ```text
//! sum[row] = 0
//! for each source:  x = load(block);  for each row: sum[row] ^= product(coefficient, x)
//! for each row:     store(sum[row])
//! ```
//!
//! A group is as many rows as have their sums in registers. Tails: AVX-512 masks the loads and
//! stores; the others do the last full block again, shifted back (a column's result depends on
//! that column alone, and outputs never alias sources), or byte by byte when there is no full
//! block at all.

use std::arch::x86_64::*;

use crate::gf::NIBBLES;
use crate::matrix::Matrix;

/// Most rows whose sums are held in registers at once.
const ROWS_512: usize = 8;
const ROWS_256: usize = 4;

/// # Safety
/// The CPU has AVX-512F, AVX-512BW and GFNI. `sources` and `outputs` have as many members as
/// `matrix` has columns and rows, and each of them has `bytes` bytes.
pub(super) unsafe fn gfni512(
    matrix: &Matrix,
    bytes: usize,
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
) {
    for row in (0..matrix.rows).step_by(ROWS_512) {
        let group = Group { matrix, row, bytes, sources, outputs };
        // SAFETY: the caller's promise; the rows from `row` on are at least as many as the
        //   kernel that is picked takes.
        // CHECKED: tests::every_kernel_agrees_with_the_definition.
        unsafe {
            match matrix.rows - row {
                1 => gfni512_rows::<1, 4>(group),
                2 => gfni512_rows::<2, 4>(group),
                3 => gfni512_rows::<3, 4>(group),
                4 => gfni512_rows::<4, 4>(group),
                5 => gfni512_rows::<5, 2>(group),
                6 => gfni512_rows::<6, 2>(group),
                7 => gfni512_rows::<7, 2>(group),
                _ => gfni512_rows::<8, 2>(group),
            }
        }
    }
}

/// # Safety
/// As [`gfni512`], with AVX2 in the place of AVX-512.
pub(super) unsafe fn gfni256(
    matrix: &Matrix,
    bytes: usize,
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
) {
    for row in (0..matrix.rows).step_by(ROWS_256) {
        let group = Group { matrix, row, bytes, sources, outputs };
        // SAFETY: the caller's promise; the rows from `row` on are at least as many as the
        //   kernel that is picked takes.
        // CHECKED: tests::every_kernel_agrees_with_the_definition.
        unsafe {
            match matrix.rows - row {
                1 => gfni256_rows::<1>(group),
                2 => gfni256_rows::<2>(group),
                3 => gfni256_rows::<3>(group),
                _ => gfni256_rows::<4>(group),
            }
        }
    }
}

/// # Safety
/// As [`gfni512`], with AVX2 in the place of AVX-512 and GFNI.
pub(super) unsafe fn avx2(
    matrix: &Matrix,
    bytes: usize,
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
) {
    for row in (0..matrix.rows).step_by(ROWS_256) {
        let group = Group { matrix, row, bytes, sources, outputs };
        // SAFETY: the caller's promise; the rows from `row` on are at least as many as the
        //   kernel that is picked takes.
        // CHECKED: tests::every_kernel_agrees_with_the_definition.
        unsafe {
            match matrix.rows - row {
                1 => avx2_rows::<1>(group),
                2 => avx2_rows::<2>(group),
                3 => avx2_rows::<3>(group),
                _ => avx2_rows::<4>(group),
            }
        }
    }
}

/// The rows from `row` on, of one call.
struct Group<'a, 'b> {
    matrix: &'a Matrix,
    row: usize,
    bytes: usize,
    sources: &'a [&'a [u8]],
    outputs: &'a mut [&'b mut [u8]],
}

impl Group<'_, '_> {
    /// Where output `i` of the group begins.
    fn output(&mut self, i: usize) -> *mut u8 {
        self.outputs[self.row + i].as_mut_ptr()
    }

    /// The affine words of one source for the rows of the group.
    fn affine(&self, column: usize) -> &[u64] {
        &self.matrix.affine[column * self.matrix.rows + self.row..]
    }

    fn coefficient(&self, i: usize, column: usize) -> u8 {
        self.matrix.coefficients[(self.row + i) * self.matrix.columns + column]
    }

    /// For shards shorter than a block.
    fn byte_by_byte(&mut self, rows: usize) {
        for i in 0..rows {
            for at in 0..self.bytes {
                let products = (0..self.sources.len()).map(|column| {
                    let nibbles = &NIBBLES[usize::from(self.coefficient(i, column))];
                    let x = usize::from(self.sources[column][at]);
                    nibbles[x & 15] ^ nibbles[16 + (x >> 4)]
                });
                let sum = products.fold(0, |sum, product| sum ^ product);
                self.outputs[self.row + i][at] = sum;
            }
        }
    }
}

/// `ROWS` rows, `WIDE` vectors of 64 bytes at a time.
///
/// # Safety
/// The CPU has the features; every source and output has `group.bytes` bytes, and the group has
/// at least `ROWS` rows.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
unsafe fn gfni512_rows<const ROWS: usize, const WIDE: usize>(mut group: Group<'_, '_>) {
    let outputs: [*mut u8; ROWS] = std::array::from_fn(|i| group.output(i));
    let mut at = 0;
    while at + 64 * WIDE <= group.bytes {
        let mut sums = [[_mm512_setzero_si512(); WIDE]; ROWS];
        for (column, source) in group.sources.iter().enumerate() {
            let words = &group.affine(column)[..ROWS];
            // SAFETY: at + 64 * WIDE <= bytes, the length of every source.
            // CHECKED: tests::every_kernel_agrees_with_the_definition.
            let x: [__m512i; WIDE] = std::array::from_fn(|w| unsafe {
                _mm512_loadu_si512(source.as_ptr().add(at + 64 * w).cast())
            });
            for (sums, &word) in sums.iter_mut().zip(words) {
                let matrix = _mm512_set1_epi64(word as i64);
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    let product = _mm512_gf2p8affine_epi64_epi8::<0>(x, matrix);
                    *sum = _mm512_xor_si512(*sum, product);
                }
            }
        }
        for (output, sums) in outputs.iter().zip(&sums) {
            for (w, &sum) in sums.iter().enumerate() {
                // SAFETY: as for the loads; outputs have the same length.
                // CHECKED: the same test.
                unsafe { _mm512_storeu_si512(output.add(at + 64 * w).cast(), sum) };
            }
        }
        at += 64 * WIDE;
    }
    while at < group.bytes {
        let left = (group.bytes - at).min(64);
        let mask: __mmask64 = if left == 64 { !0 } else { (1 << left) - 1 };
        let mut sums = [_mm512_setzero_si512(); ROWS];
        for (column, source) in group.sources.iter().enumerate() {
            let words = &group.affine(column)[..ROWS];
            // SAFETY: masked: only the `left` bytes before the end are touched.
            // CHECKED: the same test.
            let x = unsafe { _mm512_maskz_loadu_epi8(mask, source.as_ptr().add(at).cast()) };
            for (sum, &word) in sums.iter_mut().zip(words) {
                let matrix = _mm512_set1_epi64(word as i64);
                let product = _mm512_gf2p8affine_epi64_epi8::<0>(x, matrix);
                *sum = _mm512_xor_si512(*sum, product);
            }
        }
        for (output, &sum) in outputs.iter().zip(&sums) {
            // SAFETY: as the masked load. CHECKED: the same test.
            unsafe { _mm512_mask_storeu_epi8(output.add(at).cast(), mask, sum) };
        }
        at += left;
    }
}

/// `ROWS` rows, two vectors of 32 bytes at a time.
///
/// # Safety
/// As [`gfni512_rows`].
#[target_feature(enable = "avx2,gfni")]
unsafe fn gfni256_rows<const ROWS: usize>(mut group: Group<'_, '_>) {
    if group.bytes < 64 {
        return group.byte_by_byte(ROWS);
    }
    let outputs: [*mut u8; ROWS] = std::array::from_fn(|i| group.output(i));
    let mut at = 0;
    while at < group.bytes {
        let from = at.min(group.bytes - 64);
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for (column, source) in group.sources.iter().enumerate() {
            let words = &group.affine(column)[..ROWS];
            // SAFETY: from + 64 <= bytes, the length of every source.
            // CHECKED: tests::every_kernel_agrees_with_the_definition.
            let x = unsafe { load_64(source.as_ptr().add(from)) };
            for (sums, &word) in sums.iter_mut().zip(words) {
                let matrix = _mm256_set1_epi64x(word as i64);
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    let product = _mm256_gf2p8affine_epi64_epi8::<0>(x, matrix);
                    *sum = _mm256_xor_si256(*sum, product);
                }
            }
        }
        for (output, &sums) in outputs.iter().zip(&sums) {
            // SAFETY: as for the loads; outputs have the same length. CHECKED: the same test.
            unsafe { store_64(output.add(from), sums) };
        }
        at += 64;
    }
}

/// `ROWS` rows, two vectors of 32 bytes at a time, by nibble tables.
///
/// # Safety
/// As [`gfni512_rows`].
#[target_feature(enable = "avx2")]
unsafe fn avx2_rows<const ROWS: usize>(mut group: Group<'_, '_>) {
    if group.bytes < 64 {
        return group.byte_by_byte(ROWS);
    }
    let outputs: [*mut u8; ROWS] = std::array::from_fn(|i| group.output(i));
    let low = _mm256_set1_epi8(15);
    let mut at = 0;
    while at < group.bytes {
        let from = at.min(group.bytes - 64);
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for (column, source) in group.sources.iter().enumerate() {
            // SAFETY: from + 64 <= bytes, the length of every source.
            // CHECKED: tests::every_kernel_agrees_with_the_definition.
            let x = unsafe { load_64(source.as_ptr().add(from)) };
            let lows = x.map(|x| _mm256_and_si256(x, low));
            let highs = x.map(|x| _mm256_and_si256(_mm256_srli_epi64::<4>(x), low));
            for (i, sums) in sums.iter_mut().enumerate() {
                let nibbles = &NIBBLES[usize::from(group.coefficient(i, column))];
                // SAFETY: a table has 32 bytes. CHECKED: the same test.
                let (of_low, of_high) = unsafe { tables(nibbles) };
                for (w, sum) in sums.iter_mut().enumerate() {
                    let product = _mm256_xor_si256(
                        _mm256_shuffle_epi8(of_low, lows[w]),
                        _mm256_shuffle_epi8(of_high, highs[w]),
                    );
                    *sum = _mm256_xor_si256(*sum, product);
                }
            }
        }
        for (output, &sums) in outputs.iter().zip(&sums) {
            // SAFETY: as for the loads; outputs have the same length. CHECKED: the same test.
            unsafe { store_64(output.add(from), sums) };
        }
        at += 64;
    }
}

/// # Safety
/// 64 bytes are readable at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_64(from: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise. CHECKED: tests::every_kernel_agrees_with_the_definition.
    unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
}

/// # Safety
/// 64 bytes are writable at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_64(to: *mut u8, x: [__m256i; 2]) {
    // SAFETY: the caller's promise. CHECKED: tests::every_kernel_agrees_with_the_definition.
    unsafe {
        _mm256_storeu_si256(to.cast(), x[0]);
        _mm256_storeu_si256(to.add(32).cast(), x[1]);
    }
}

/// Both halves of a nibble table, each in both lanes.
///
/// # Safety
/// Nothing beyond AVX2, as everywhere here.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn tables(nibbles: &[u8; 32]) -> (__m256i, __m256i) {
    // SAFETY: the table has 32 bytes. CHECKED: tests::every_kernel_agrees_with_the_definition.
    let both = unsafe { _mm256_loadu_si256(nibbles.as_ptr().cast()) };
    (_mm256_permute2x128_si256::<0x00>(both, both), _mm256_permute2x128_si256::<0x11>(both, both))
}
