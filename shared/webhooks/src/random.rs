//! Where chance comes from: the jitter of retries.

use std::sync::{Arc, Mutex, PoisonError};

/// Random numbers, not for secrets. Clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// Seeded by the system.
    pub fn system() -> Self {
        Self::from(fastrand::Rng::new())
    }

    /// The same numbers for the same seed, for tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self::from(fastrand::Rng::with_seed(seed))
    }

    fn from(generator: fastrand::Rng) -> Self {
        Self(Arc::new(Mutex::new(generator)))
    }

    /// The next number.
    pub fn draw(&self) -> u32 {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generator.u32(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_clones_share() {
        let (one, other) = (Random::seeded(7), Random::seeded(7));
        let clone = one.clone();
        let drawn = [one.draw(), clone.draw(), one.draw()];
        assert_eq!(drawn, [other.draw(), other.draw(), other.draw()]);
        assert_ne!(drawn[0], drawn[1]);
    }
}
