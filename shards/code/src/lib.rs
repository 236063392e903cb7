//! Systematic Reed-Solomon over GF(2^8)/0x11d with a Cauchy matrix: any `k` of the `n = k + m`
//! shards give the rest back. Scheme 1 of the manifest.
//!
//! `parity[i] = XOR over j of data[j] / ((k + i) ^ j)`: the same bytes as ISA-L's
//! `gf_gen_cauchy1_matrix`. The code works column by column, so shards may be cut into units of
//! any length and each unit coded by itself.
//!
//! ```
//! use pangea_base::{Code, ShardIndex};
//! let code = Code::new(2, 1).unwrap();
//! let (a, b, mut parity) = ([1u8; 100], [2u8; 100], [0u8; 100]);
//! pangea_code::Encoder::new(code).encode(&[&a, &b], &mut [&mut parity]);
//! // Shard 0 is lost; 1 and 2 are there.
//! let decoder = pangea_code::Decoder::new(code, &[ShardIndex(1), ShardIndex(2)]).unwrap();
//! let mut restored = [0u8; 100];
//! decoder.restore(&[&b, &parity], &mut [&mut restored]);
//! assert_eq!(restored, a);
//! ```

#![deny(unsafe_code)]

mod features;
mod gf;
#[allow(unsafe_code)]
mod kernel;
mod matrix;
#[cfg(test)]
mod tests;

pub use features::wide_aes;
pub use kernel::Kernel;
pub use matrix::Unrecoverable;

use matrix::Matrix;
use pangea_base::{Code, ShardIndex};

/// The manifest's id of this code: GF(2^8)/0x11d, Cauchy, 16 KiB units.
pub const SCHEME_CAUCHY: u8 = 1;

/// Makes the parity shards of one code.
#[derive(Debug, Clone)]
pub struct Encoder {
    code: Code,
    matrix: Matrix,
    kernel: Kernel,
}

impl Encoder {
    /// Prepares the code's matrix; the fastest kernel of this CPU is taken.
    pub fn new(code: Code) -> Encoder {
        Encoder::with_kernel(code, Kernel::best())
    }

    /// As [`Encoder::new`], with a kernel of the caller's choice (for tests and benchmarks).
    pub fn with_kernel(code: Code, kernel: Kernel) -> Encoder {
        Encoder { code, matrix: Matrix::encode(code), kernel }
    }

    /// The code this was made for.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Fills the `m` parity units from the `k` data units; all must have one length.
    ///
    /// Panics if a count or a length is wrong: both are the caller's own.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.kernel.apply(&self.matrix, data, parity);
    }
}

/// Restores shards from `k` others: the solution for one set of shards that are there.
#[derive(Debug, Clone)]
pub struct Decoder {
    sources: Vec<ShardIndex>,
    wanted: Vec<ShardIndex>,
    matrix: Matrix,
    kernel: Kernel,
}

impl Decoder {
    /// Solves for every data shard that is not in `present`.
    ///
    /// `present` may come from anywhere and in any order; of more than `k`, data shards and then
    /// the lowest parity shards are used ([`Decoder::sources`]).
    pub fn new(code: Code, present: &[ShardIndex]) -> Result<Decoder, Unrecoverable> {
        let sources = matrix::sources(code, present)?;
        let lost: Vec<ShardIndex> = (0..code.k())
            .map(|j| ShardIndex(j as u8))
            .filter(|index| sources.binary_search(index).is_err())
            .collect();
        Ok(Decoder::solved(code, sources, lost, Kernel::best()))
    }

    /// Solves for the shards in `wanted`, data or parity, whether or not they are present: what a
    /// repair needs.
    pub fn for_shards(
        code: Code,
        present: &[ShardIndex],
        wanted: &[ShardIndex],
    ) -> Result<Decoder, Unrecoverable> {
        if let Some(&index) = wanted.iter().find(|index| usize::from(index.0) >= code.n()) {
            return Err(Unrecoverable::NoSuchShard { index, shards: code.n() });
        }
        let sources = matrix::sources(code, present)?;
        Ok(Decoder::solved(code, sources, wanted.to_vec(), Kernel::best()))
    }

    fn solved(
        code: Code,
        sources: Vec<ShardIndex>,
        wanted: Vec<ShardIndex>,
        kernel: Kernel,
    ) -> Decoder {
        let matrix = Matrix::restore(code, &sources, &wanted);
        Decoder { sources, wanted, matrix, kernel }
    }

    /// The same solution, computed by another kernel (for tests and benchmarks).
    pub fn with_kernel(mut self, kernel: Kernel) -> Decoder {
        self.kernel = kernel;
        self
    }

    /// The `k` shards that [`Decoder::restore`] reads, in this order (ascending).
    pub fn sources(&self) -> &[ShardIndex] {
        &self.sources
    }

    /// The shards that [`Decoder::restore`] writes, in this order.
    pub fn wanted(&self) -> &[ShardIndex] {
        &self.wanted
    }

    /// Fills `outputs`, one for each of [`Decoder::wanted`], from the units of
    /// [`Decoder::sources`]; all must have one length.
    ///
    /// Panics if a count or a length is wrong: both are the caller's own.
    pub fn restore(&self, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
        self.kernel.apply(&self.matrix, sources, outputs);
    }
}
