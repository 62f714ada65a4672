//! The random numbers of the jitter of retries.

use std::sync::{Arc, Mutex, PoisonError};

/// Random numbers, not for secrets. Clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct JitterRandom(Arc<Mutex<fastrand::Rng>>);

impl JitterRandom {
    /// Seeded by the system.
    pub fn from_system() -> Self {
        Self::from(fastrand::Rng::new())
    }

    /// The same numbers for the same seed, for tests and simulations.
    pub fn from_seed(seed: u64) -> Self {
        Self::from(fastrand::Rng::with_seed(seed))
    }

    fn from(generator: fastrand::Rng) -> Self {
        Self(Arc::new(Mutex::new(generator)))
    }

    /// The next number.
    pub fn next_u32(&self) -> u32 {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generator.u32(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_clones_share_a_sequence() {
        let (one, other) = (JitterRandom::from_seed(7), JitterRandom::from_seed(7));
        let clone = one.clone();
        let drawn = [one.next_u32(), clone.next_u32(), one.next_u32()];
        assert_eq!(
            drawn,
            [other.next_u32(), other.next_u32(), other.next_u32()]
        );
        assert_ne!(drawn[0], drawn[1]);
    }
}
