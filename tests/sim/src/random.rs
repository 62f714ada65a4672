//! The one source of chance of a world: everything that happens follows from its seed.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct SimRandom(u64);

impl SimRandom {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn number_below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// True `permille` times in a thousand.
    pub fn roll_permille(&mut self, permille: u16) -> bool {
        self.number_below(1000) < usize::from(permille)
    }

    /// A number of a range, both ends included.
    pub fn number_between(&mut self, from: i64, to: i64) -> i64 {
        let width = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        from + i64::try_from(self.number_below(width + 1)).unwrap_or(0)
    }

    /// One of several.
    pub fn pick_one<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.number_below(choices.len()))
    }

    /// Another order of these.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let with = self.number_below(at + 1);
            list.swap(at, with);
        }
    }

    /// Numbers of its own for a part of the world, so that one more draw there moves nothing here.
    pub const fn fork_generator(&mut self) -> Self {
        Self::new(self.next())
    }
}
