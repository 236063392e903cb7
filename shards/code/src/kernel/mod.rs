//! `output[i] = sum over j of coefficient[i][j] * source[j]`, byte by byte, as fast as the CPU can.

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::matrix::Matrix;

/// How the products are computed. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// 64 bytes per instruction: GF2P8AFFINEQB on AVX-512.
    Gfni512,
    /// 32 bytes per instruction: GF2P8AFFINEQB on AVX2.
    Gfni256,
    /// Nibble tables by PSHUFB, 32 bytes.
    Avx2,
    /// Nibble tables by TBL, 16 bytes.
    Neon,
    /// Nibble tables, byte by byte: works everywhere.
    Scalar,
    /// The definition, by shift and add: the oracle of the others. Never chosen.
    Naive,
}

impl Kernel {
    /// All kernels, fastest first.
    pub const ALL: [Kernel; 6] = [
        Kernel::Gfni512,
        Kernel::Gfni256,
        Kernel::Avx2,
        Kernel::Neon,
        Kernel::Scalar,
        Kernel::Naive,
    ];

    /// The fastest kernel that this CPU has.
    pub fn best() -> Kernel {
        Kernel::ALL.into_iter().find(|kernel| kernel.available()).expect("scalar works everywhere")
    }

    /// Whether this CPU has what the kernel needs.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("gfni")
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni256 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Kernel::Scalar | Kernel::Naive => true,
            _ => false,
        }
    }

    /// Fills the outputs. The lengths and the CPU are checked here, once, in every build: the
    /// kernels below rely on both.
    pub(crate) fn apply(self, matrix: &Matrix, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(sources.len(), matrix.columns, "one source per column");
        assert_eq!(outputs.len(), matrix.rows, "one output per row");
        let bytes = sources.first().map_or(0, |source| source.len());
        assert!(sources.iter().all(|source| source.len() == bytes), "sources have one length");
        assert!(outputs.iter().all(|output| output.len() == bytes), "outputs have that length");
        assert!(self.available(), "this CPU has no {self:?} kernel");
        match self {
            // WHY: on x86 the vector kernels are 11 to 59 times the scalar one (bench `ces`, "code").
            // SAFETY: the CPU has the features (`available`), counts and lengths fit (above).
            // CHECKED: tests::every_kernel_agrees_with_the_definition.
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni512 => unsafe { x86::gfni512(matrix, bytes, sources, outputs) },
            // SAFETY: as above. CHECKED: the same test.
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni256 => unsafe { x86::gfni256(matrix, bytes, sources, outputs) },
            // SAFETY: as above. CHECKED: the same test.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::avx2(matrix, bytes, sources, outputs) },
            // SAFETY: as above. CHECKED: the same test.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::neon(matrix, bytes, sources, outputs) },
            Kernel::Naive => scalar::naive(matrix, sources, outputs),
            _ => scalar::scalar(matrix, sources, outputs),
        }
    }
}
