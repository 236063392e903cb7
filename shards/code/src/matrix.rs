//! The coefficients: which multiple of each source goes into each output.

use pangea_base::{Code, ShardIndex};

use crate::gf::{AFFINE, invert, multiply};

/// The shards that are there do not give the rest back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unrecoverable {
    /// Fewer distinct shards than the code has data shards.
    #[error("{present} shards are there and {needed} are needed")]
    TooFew {
        /// Distinct shards that are there.
        present: usize,
        /// Shards needed: `k`.
        needed: usize,
    },
    /// A shard number that the code does not have.
    #[error("shard {} does not exist: the code has {shards} shards, numbered from 0", index.0)]
    NoSuchShard {
        /// The number given.
        index: ShardIndex,
        /// `n`.
        shards: usize,
    },
    /// The same shard was named twice.
    #[error("shard {} was given twice", index.0)]
    Twice {
        /// The number given.
        index: ShardIndex,
    },
}

/// `rows x columns` coefficients over GF(2^8), in the two forms that the kernels walk.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    /// Row by row.
    pub coefficients: Vec<u8>,
    /// The same as affine words, column by column: the order in which the GFNI kernels read them.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub affine: Vec<u64>,
}

/// What parity shard `k + i` takes of data shard `j`. The two kinds of shard have different
/// numbers below 256, so their sum is never 0 and every square part can be inverted.
fn cauchy(code: Code, i: usize, j: usize) -> u8 {
    invert(((code.k() + i) ^ j) as u8)
}

/// The `k` shards to restore from, ascending: all data shards that are there, then parity shards.
pub(crate) fn sources(
    code: Code,
    present: &[ShardIndex],
) -> Result<Vec<ShardIndex>, Unrecoverable> {
    let mut sorted = present.to_vec();
    sorted.sort_unstable();
    if let Some(&index) = sorted.iter().find(|index| usize::from(index.0) >= code.n()) {
        return Err(Unrecoverable::NoSuchShard { index, shards: code.n() });
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Unrecoverable::Twice { index: pair[0] });
    }
    if sorted.len() < code.k() {
        return Err(Unrecoverable::TooFew { present: sorted.len(), needed: code.k() });
    }
    sorted.truncate(code.k());
    Ok(sorted)
}

impl Matrix {
    fn from_rows(rows: usize, columns: usize, coefficients: Vec<u8>) -> Matrix {
        assert_eq!(coefficients.len(), rows * columns);
        let mut affine = vec![0; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                let c = coefficients[row * columns + column];
                affine[column * rows + row] = AFFINE[usize::from(c)];
            }
        }
        Matrix { rows, columns, coefficients, affine }
    }

    /// The `m x k` Cauchy matrix of the code.
    pub fn encode(code: Code) -> Matrix {
        let mut coefficients = Vec::with_capacity(code.m() * code.k());
        for i in 0..code.m() {
            coefficients.extend((0..code.k()).map(|j| cauchy(code, i, j)));
        }
        Matrix::from_rows(code.m(), code.k(), coefficients)
    }

    /// The matrix that takes `sources` (as [`sources`] gives them) to `wanted`.
    pub fn restore(code: Code, sources: &[ShardIndex], wanted: &[ShardIndex]) -> Matrix {
        let k = code.k();
        let lost = Lost::solve(code, sources);
        let mut coefficients = Vec::with_capacity(wanted.len() * k);
        let mut row = vec![0; k];
        for want in wanted {
            row.fill(0);
            match usize::from(want.0) {
                data if data < k => lost.add_data(&mut row, data, 1),
                parity => {
                    for j in 0..k {
                        lost.add_data(&mut row, j, cauchy(code, parity - k, j));
                    }
                }
            }
            coefficients.extend_from_slice(&row);
        }
        Matrix::from_rows(wanted.len(), k, coefficients)
    }
}

/// Every data shard in terms of the sources.
struct Lost {
    k: usize,
    /// For each data shard: its place among the sources, or its row in `solved`.
    place: Vec<Place>,
    solved: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Place {
    Source(usize),
    Solved(usize),
}

impl Lost {
    /// Solves the e x e system of the lost data shards, not the k x k one: for each parity source
    /// p, `sum over lost l of C[p][l] x_l = P_p + sum over known j of C[p][j] d_j`.
    fn solve(code: Code, sources: &[ShardIndex]) -> Lost {
        let k = code.k();
        let known = sources.partition_point(|index| usize::from(index.0) < k);
        let (data, parity) = sources.split_at(known);
        let mut place = vec![Place::Solved(0); k];
        for (position, index) in data.iter().enumerate() {
            place[usize::from(index.0)] = Place::Source(position);
        }
        let mut lost = Vec::with_capacity(parity.len());
        for (j, place) in place.iter_mut().enumerate() {
            if let Place::Solved(row) = place {
                *row = lost.len();
                lost.push(j);
            }
        }
        let e = lost.len();
        assert_eq!(parity.len(), e, "k sources: as many parity shards as data shards are lost");
        let coefficient = |p: usize, j: usize| cauchy(code, usize::from(parity[p].0) - k, j);
        let inverse = invert_square(e, |p, l| coefficient(p, lost[l]));
        let mut solved = vec![0; e * k];
        for q in 0..e {
            for p in 0..e {
                let factor = inverse[q * e + p];
                for (position, index) in data.iter().enumerate() {
                    let c = coefficient(p, usize::from(index.0));
                    solved[q * k + position] ^= multiply(factor, c);
                }
                solved[q * k + known + p] = factor;
            }
        }
        Lost { k, place, solved }
    }

    /// Adds `factor` times data shard `data` to `row`, a row over the sources.
    fn add_data(&self, row: &mut [u8], data: usize, factor: u8) {
        match self.place[data] {
            Place::Source(position) => row[position] ^= factor,
            Place::Solved(solved) => {
                let from = &self.solved[solved * self.k..][..self.k];
                for (sum, &c) in row.iter_mut().zip(from) {
                    *sum ^= multiply(factor, c);
                }
            }
        }
    }
}

/// Gauss-Jordan. The matrix is a square part of a Cauchy matrix, so a pivot always exists.
fn invert_square(size: usize, entry: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    let width = 2 * size;
    let mut work = vec![0; size * width];
    for row in 0..size {
        for column in 0..size {
            work[row * width + column] = entry(row, column);
        }
        work[row * width + size + row] = 1;
    }
    for column in 0..size {
        let pivot = (column..size).find(|row| work[row * width + column] != 0);
        let pivot = pivot.expect("every square part of a Cauchy matrix has an inverse");
        for i in 0..width {
            work.swap(pivot * width + i, column * width + i);
        }
        let scale = invert(work[column * width + column]);
        for i in 0..width {
            work[column * width + i] = multiply(work[column * width + i], scale);
        }
        for row in (0..size).filter(|&row| row != column) {
            let factor = work[row * width + column];
            if factor == 0 {
                continue;
            }
            for i in 0..width {
                let subtract = multiply(factor, work[column * width + i]);
                work[row * width + i] ^= subtract;
            }
        }
    }
    (0..size).flat_map(|row| work[row * width + size..][..size].to_vec()).collect()
}
