//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), generator 2; and the two forms
//! in which the kernels want "multiply by c".

/// The product by shift and add: slow, obvious, and what every table below is made from.
pub const fn multiply_slowly(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        let carry = a & 0x80 != 0;
        a <<= 1;
        if carry {
            a ^= 0x1d;
        }
        b >>= 1;
    }
    product
}

struct Logarithms {
    /// 2^i for i in 0..510: two rounds, so that a sum of two logarithms needs no reduction.
    power: [u8; 512],
    /// The logarithm of every value but 0.
    log: [u8; 256],
}

static LOGARITHMS: Logarithms = logarithms();

const fn logarithms() -> Logarithms {
    let mut tables = Logarithms { power: [0; 512], log: [0; 256] };
    let mut value = 1u8;
    let mut i = 0;
    while i < 255 {
        tables.power[i] = value;
        tables.power[i + 255] = value;
        tables.log[value as usize] = i as u8;
        value = multiply_slowly(value, 2);
        i += 1;
    }
    tables
}

/// `a * b`.
pub fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    let sum =
        usize::from(LOGARITHMS.log[usize::from(a)]) + usize::from(LOGARITHMS.log[usize::from(b)]);
    LOGARITHMS.power[sum]
}

/// `1 / a`; `a` must not be 0.
pub fn invert(a: u8) -> u8 {
    assert!(a != 0, "0 has no inverse");
    LOGARITHMS.power[255 - usize::from(LOGARITHMS.log[usize::from(a)])]
}

/// Multiplication by `c` as the 8x8 bit matrix that GF2P8AFFINEQB takes: byte 7 - i of the word
/// is row i, the input bits whose sum is output bit i.
pub static AFFINE: [u64; 256] = affine_all();

const fn affine_all() -> [u64; 256] {
    let mut all = [0; 256];
    let mut c = 0;
    while c < 256 {
        let mut output = 0;
        while output < 8 {
            let mut row = 0u8;
            let mut input = 0;
            while input < 8 {
                if (multiply_slowly(c as u8, 1 << input) >> output) & 1 == 1 {
                    row |= 1 << input;
                }
                input += 1;
            }
            all[c] |= (row as u64) << (8 * (7 - output));
            output += 1;
        }
        c += 1;
    }
    all
}

/// Multiplication by `c` as two tables of 16: `c * low nibble`, then `c * high nibble`. What byte
/// shuffles (PSHUFB, TBL) look up.
pub static NIBBLES: [[u8; 32]; 256] = nibbles_all();

const fn nibbles_all() -> [[u8; 32]; 256] {
    let mut all = [[0; 32]; 256];
    let mut c = 0;
    while c < 256 {
        let mut i = 0;
        while i < 16 {
            all[c][i] = multiply_slowly(c as u8, i as u8);
            all[c][16 + i] = multiply_slowly(c as u8, (i as u8) << 4);
            i += 1;
        }
        c += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_agrees_with_shift_and_add() {
        for c in 0..=255u8 {
            for x in 0..=255u8 {
                let expected = multiply_slowly(c, x);
                assert_eq!(multiply(c, x), expected);
                let nibbles = &NIBBLES[usize::from(c)];
                let looked_up = nibbles[usize::from(x & 15)] ^ nibbles[16 + usize::from(x >> 4)];
                assert_eq!(looked_up, expected);
                let mut affine = 0;
                for bit in 0..8 {
                    let row = (AFFINE[usize::from(c)] >> (8 * (7 - bit))) as u8;
                    affine |= (((row & x).count_ones() & 1) as u8) << bit;
                }
                assert_eq!(affine, expected);
            }
        }
    }

    #[test]
    fn every_value_but_zero_times_its_inverse_is_one() {
        for a in 1..=255u8 {
            assert_eq!(multiply_slowly(a, invert(a)), 1);
        }
    }
}
