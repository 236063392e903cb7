//! The 64-bit ARM kernel: the nibble tables of the AVX2 one, by TBL, 16 bytes at a time.

use std::arch::aarch64::*;

use crate::gf::NIBBLES;
use crate::matrix::Matrix;

/// # Safety
/// The CPU has NEON. `sources` and `outputs` have as many members as `matrix` has columns and
/// rows, and each of them has `bytes` bytes.
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon(
    matrix: &Matrix,
    bytes: usize,
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
) {
    if bytes < 16 {
        return super::scalar::scalar(matrix, sources, outputs);
    }
    let low = vdupq_n_u8(15);
    for (row, output) in outputs.iter_mut().enumerate() {
        let coefficients = &matrix.coefficients[row * matrix.columns..][..matrix.columns];
        let mut at = 0;
        while at < bytes {
            // The last block again, shifted back: columns are independent.
            let from = at.min(bytes - 16);
            let mut sum = vdupq_n_u8(0);
            for (source, &c) in sources.iter().zip(coefficients) {
                let nibbles = &NIBBLES[usize::from(c)];
                // SAFETY: a table has 32 bytes; from + 16 <= bytes, the length of every source.
                // CHECKED: tests::every_kernel_agrees_with_the_definition.
                let (of_low, of_high, x) = unsafe {
                    (
                        vld1q_u8(nibbles.as_ptr()),
                        vld1q_u8(nibbles.as_ptr().add(16)),
                        vld1q_u8(source.as_ptr().add(from)),
                    )
                };
                sum = veorq_u8(sum, vqtbl1q_u8(of_low, vandq_u8(x, low)));
                sum = veorq_u8(sum, vqtbl1q_u8(of_high, vshrq_n_u8::<4>(x)));
            }
            // SAFETY: from + 16 <= bytes, the length of every output. CHECKED: the same test.
            unsafe { vst1q_u8(output.as_mut_ptr().add(from), sum) };
            at += 16;
        }
    }
}
