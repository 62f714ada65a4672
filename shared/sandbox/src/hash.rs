//! Numbers that look random and are derived ([`SeededRandom`], [`derive_number`]).
//!
//! Rule: the same parts give the same number in every version of this crate, which is why no general-purpose generator
//! is used: stored journals and tests depend on what a seed gives.

use sha2::{Digest, Sha256};

/// The first eight bytes of SHA-256 over the parts, each preceded by its length.
pub(crate) fn derive_number(parts: &[&[u8]]) -> u64 {
    let digest = digest_parts(parts);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bytes)
}

/// SHA-256 over the parts, each preceded by its length.
pub(crate) fn digest_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A sequence of derived numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct SeededRandom(u64);

impl SeededRandom {
    /// The sequence number `index` of `seed`.
    pub(crate) const fn new(seed: u64, index: u64) -> Self {
        Self(seed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// The next number.
    pub(crate) const fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number below `bound`; 0 where the bound is 0. The bias is below 2^-32 for the small
    /// bounds used here.
    pub(crate) fn next_below(&mut self, bound: u32) -> u32 {
        let bytes = self.next_number().to_be_bytes();
        let high = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let [b0, b1, b2, b3, ..] = (u64::from(high) * u64::from(bound)).to_be_bytes();
        u32::from_be_bytes([b0, b1, b2, b3])
    }

    /// One of the choices, which must not be empty.
    pub(crate) fn pick_choice<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        // Only the first 2^32 choices are ever picked; the lists here have tens.
        let index = self.next_below(u32::try_from(choices.len()).unwrap_or(u32::MAX));
        &choices[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_reproducible() {
        let mut random = SeededRandom::new(7, 3);
        assert_eq!(
            [
                random.next_below(100),
                random.next_below(100),
                random.next_below(100)
            ],
            [number_at(0), number_at(1), number_at(2)]
        );
        assert_eq!(derive_number(&[b"ab", b"c"]), derive_number(&[b"ab", b"c"]));
        assert_ne!(derive_number(&[b"ab", b"c"]), derive_number(&[b"a", b"bc"]));
    }

    fn number_at(position: usize) -> u32 {
        let mut random = SeededRandom::new(7, 3);
        (0..=position)
            .map(|_| random.next_below(100))
            .last()
            .unwrap()
    }

    #[test]
    fn a_number_stays_below_its_bound() {
        let mut random = SeededRandom::new(1, 1);
        for bound in [0, 1, 2, 7, 1000] {
            for _ in 0..100 {
                assert!(random.next_below(bound) < bound.max(1));
            }
        }
    }
}
