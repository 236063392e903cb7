use crate::gf::{NIBBLES, multiply_slowly};
use crate::matrix::Matrix;

/// The definition, as plainly as it can be said.
pub(super) fn naive(matrix: &Matrix, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for (row, output) in outputs.iter_mut().enumerate() {
        for (at, byte) in output.iter_mut().enumerate() {
            *byte = 0;
            for (column, source) in sources.iter().enumerate() {
                let c = matrix.coefficients[row * matrix.columns + column];
                *byte ^= multiply_slowly(c, source[at]);
            }
        }
    }
}

/// Source by source through a table of products that stays in L1.
pub(super) fn scalar(matrix: &Matrix, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
    for (row, output) in outputs.iter_mut().enumerate() {
        output.fill(0);
        for (column, source) in sources.iter().enumerate() {
            let c = matrix.coefficients[row * matrix.columns + column];
            let products = products(c);
            for (sum, &byte) in output.iter_mut().zip(*source) {
                *sum ^= products[usize::from(byte)];
            }
        }
    }
}

fn products(c: u8) -> [u8; 256] {
    let nibbles = &NIBBLES[usize::from(c)];
    std::array::from_fn(|x| nibbles[x & 15] ^ nibbles[16 + (x >> 4)])
}
