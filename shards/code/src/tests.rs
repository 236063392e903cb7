use pangea_base::{Code, Entropy, ShardIndex};
use proptest::prelude::*;

use crate::gf::{invert, multiply_slowly};
use crate::{Decoder, Encoder, Kernel, Unrecoverable};

fn code(k: u8, m: u8) -> Code {
    Code::new(k, m).unwrap()
}

fn random(count: usize, bytes: usize, seed: u8) -> Vec<Vec<u8>> {
    let mut entropy = Entropy::new([seed; 32]);
    let fill = |_| {
        let mut out = vec![0; bytes];
        entropy.fill(&mut out);
        out
    };
    (0..count).map(fill).collect()
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

/// All n shards of random data.
fn coded(code: Code, bytes: usize, kernel: Kernel) -> Vec<Vec<u8>> {
    let mut shards = random(code.k(), bytes, 1);
    // Never zeros at the start: a kernel that forgets a tail must be seen.
    let mut parity = vec![vec![0xee; bytes]; code.m()];
    let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    Encoder::with_kernel(code, kernel).encode(&slices(&shards), &mut outputs);
    shards.extend(parity);
    shards
}

/// The `wanted` shards, computed from those in `present`.
fn restored(shards: &[Vec<u8>], decoder: &Decoder) -> Vec<Vec<u8>> {
    let sources: Vec<&[u8]> =
        decoder.sources().iter().map(|i| shards[usize::from(i.0)].as_slice()).collect();
    let mut out = vec![vec![0xee; shards[0].len()]; decoder.wanted().len()];
    let mut outputs: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
    decoder.restore(&sources, &mut outputs);
    out
}

fn indices(n: usize, keep: impl Fn(usize) -> bool) -> Vec<ShardIndex> {
    (0..n).filter(|&i| keep(i)).map(|i| ShardIndex(i as u8)).collect()
}

const CODES: [(u8, u8); 11] =
    [(1, 0), (1, 1), (1, 3), (2, 1), (4, 2), (5, 4), (10, 4), (16, 5), (20, 9), (32, 16), (3, 13)];

#[test]
fn every_kernel_agrees_with_the_definition() {
    let lengths = [0, 1, 15, 16, 17, 31, 63, 64, 65, 100, 127, 128, 192, 255, 256, 257, 1200, 4113];
    for (k, m) in CODES {
        for bytes in lengths {
            let expected = coded(code(k, m), bytes, Kernel::Naive);
            for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
                let found = coded(code(k, m), bytes, kernel);
                assert!(found == expected, "{kernel:?} at ({k}, {m}), {bytes} bytes");
            }
        }
    }
}

#[test]
fn no_kernel_writes_outside_its_outputs() {
    let shards = random(10, 1000, 3);
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
        for bytes in [1, 63, 65, 300, 1000] {
            let sources: Vec<&[u8]> = shards.iter().map(|shard| &shard[..bytes]).collect();
            let mut guarded = vec![vec![0x55; bytes + 128]; 4];
            let mut outputs: Vec<&mut [u8]> =
                guarded.iter_mut().map(|shard| &mut shard[64..64 + bytes]).collect();
            Encoder::with_kernel(code(10, 4), kernel).encode(&sources, &mut outputs);
            for shard in &guarded {
                assert!(shard[..64].iter().chain(&shard[64 + bytes..]).all(|&b| b == 0x55));
            }
        }
    }
}

#[test]
fn parity_is_the_cauchy_sum_that_the_format_says() {
    let shards = coded(code(10, 4), 77, Kernel::best());
    for i in 0..4 {
        let mut sums = vec![0; 77];
        for (j, shard) in shards[..10].iter().enumerate() {
            let factor = invert(((10 + i) ^ j) as u8);
            sums.iter_mut().zip(shard).for_each(|(sum, &b)| *sum ^= multiply_slowly(factor, b));
        }
        assert_eq!(shards[10 + i], sums);
    }
    // Data bytes 1 to 10: computed by hand from the definition, so the code can never drift.
    let data: Vec<Vec<u8>> = (1..=10).map(|b| vec![b]).collect();
    let mut parity = vec![vec![0u8]; 4];
    let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    Encoder::new(code(10, 4)).encode(&slices(&data), &mut outputs);
    assert_eq!(parity.concat(), VECTOR_1_TO_10);
}

/// Parity bytes of the data bytes 1, 2, … 10 under (10, 4); also in format.md of room ces.
const VECTOR_1_TO_10: [u8; 4] = [53, 170, 97, 55];

#[test]
fn every_loss_of_up_to_four_of_fourteen_is_restored_and_five_are_refused() {
    let code = code(10, 4);
    let shards = coded(code, 131, Kernel::best());
    let (mut restored_patterns, mut refused) = (0, 0);
    for mask in 0u32..1 << 14 {
        let present = indices(14, |i| mask & (1 << i) == 0);
        match mask.count_ones() {
            0..=4 => {
                let decoder = Decoder::new(code, &present).unwrap();
                let out = restored(&shards, &decoder);
                for (index, shard) in decoder.wanted().iter().zip(&out) {
                    assert_eq!(shard, &shards[usize::from(index.0)], "loss {mask:014b}");
                }
                restored_patterns += 1;
            }
            5 => {
                let refusal = Decoder::new(code, &present).unwrap_err();
                assert_eq!(refusal, Unrecoverable::TooFew { present: 9, needed: 10 });
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!((restored_patterns, refused), (1471, 2002));
}

#[test]
fn any_shard_data_or_parity_comes_back_for_repair() {
    for (k, m) in CODES.into_iter().filter(|(_, m)| *m > 0) {
        let code = code(k, m);
        let shards = coded(code, 200, Kernel::best());
        let present = indices(code.n(), |i| i >= code.m());
        let all = indices(code.n(), |_| true);
        let decoder = Decoder::for_shards(code, &present, &all).unwrap();
        assert_eq!(restored(&shards, &decoder), shards, "({k}, {m})");
    }
}

#[test]
fn wrong_shard_numbers_are_refused_by_name() {
    let code = code(2, 2);
    let refused = |present: &[u8]| {
        let present: Vec<ShardIndex> = present.iter().map(|&i| ShardIndex(i)).collect();
        Decoder::new(code, &present).unwrap_err()
    };
    assert_eq!(refused(&[0, 4]), Unrecoverable::NoSuchShard { index: ShardIndex(4), shards: 4 });
    assert_eq!(refused(&[3, 3]), Unrecoverable::Twice { index: ShardIndex(3) });
    assert_eq!(refused(&[3]), Unrecoverable::TooFew { present: 1, needed: 2 });
    let beyond = Decoder::for_shards(code, &[ShardIndex(0), ShardIndex(1)], &[ShardIndex(9)]);
    assert_eq!(beyond.unwrap_err(), Unrecoverable::NoSuchShard { index: ShardIndex(9), shards: 4 });
}

#[test]
#[should_panic(expected = "sources have one length")]
fn unequal_units_are_a_bug() {
    Encoder::new(code(2, 0)).encode(&[&[0; 3], &[0; 4]], &mut []);
}

/// The widest codes there are; each loses as much as it can.
#[test]
fn the_widest_codes_survive_their_greatest_loss() {
    for (k, m) in [(251, 4), (128, 127), (200, 55), (1, 254)] {
        let code = code(k, m);
        let shards = coded(code, 70, Kernel::best());
        assert_eq!(shards, coded(code, 70, Kernel::Naive));
        let present = indices(code.n(), |i| i >= code.m());
        let decoder = Decoder::new(code, &present).unwrap();
        for (index, shard) in decoder.wanted().iter().zip(restored(&shards, &decoder)) {
            assert_eq!(shard, shards[usize::from(index.0)], "({k}, {m})");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_losses_round_trip_in_every_kernel(
        k in 1u8..40,
        m in 0u8..20,
        bytes in 0usize..700,
        order in any::<u64>(),
    ) {
        let code = code(k, m);
        let mut entropy = Entropy::new([order as u8; 32]);
        let mut present = indices(code.n(), |_| true);
        for i in (1..present.len()).rev() {
            present.swap(i, ((order >> (i % 40)) as usize ^ entropy.u64() as usize) % (i + 1));
        }
        let keep = code.k() + entropy.below(code.m() as u64 + 1) as usize;
        present.truncate(keep);
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.available()) {
            let shards = coded(code, bytes, kernel);
            let decoder = Decoder::new(code, &present).unwrap().with_kernel(kernel);
            for (index, shard) in decoder.wanted().iter().zip(restored(&shards, &decoder)) {
                prop_assert_eq!(&shard, &shards[usize::from(index.0)]);
            }
        }
    }
}
