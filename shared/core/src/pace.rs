//! Pace: how many events a second an endpoint is sent (the generic cell rate algorithm).
//!
//! An event that comes too soon is given the moment at which it may go, so that a burst leaves in
//! order and evenly; only one that would have to wait too long is told to ask again.

use serde::{Deserialize, Serialize};

/// Events a second that an app may ask for, at least and at most.
pub const RATE_RANGE: std::ops::RangeInclusive<u16> = 1..=200;

/// Milliseconds ahead for which places are given away; as long as a message can be delayed.
pub const MAX_AHEAD_MS: i64 = 60_000;

/// How fast an endpoint is sent events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Events a second; 0 counts as 1.
    pub per_s: u32,
    /// Events that may come at once.
    pub burst: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self::of(25)
    }
}

impl Rate {
    /// So many a second, and twice as many at once.
    pub const fn of(per_s: u32) -> Self {
        Self {
            per_s,
            burst: per_s.saturating_mul(2),
        }
    }

    /// Microseconds from one event to the next.
    fn step_us(self) -> i64 {
        1_000_000 / i64::from(self.per_s.max(1))
    }
}

/// When an event may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// At this moment, in microseconds since 1970, which may be past; it is reserved.
    At(i64),
    /// Ask again at this moment; nothing is reserved.
    Full(i64),
}

/// What is remembered of an endpoint's pace: when it would be idle again, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace(i64);

impl Pace {
    /// Takes the next place, at `now_us` microseconds since 1970.
    pub fn reserve(&mut self, now_us: i64, rate: Rate) -> Slot {
        let step = rate.step_us();
        let idle = self.0.max(now_us);
        let tolerance = step.saturating_mul(i64::from(rate.burst.max(1)) - 1);
        let at = idle.saturating_sub(tolerance).max(now_us);
        if at - now_us > MAX_AHEAD_MS * 1000 {
            return Slot::Full(at);
        }
        self.0 = idle.saturating_add(step);
        Slot::At(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No second has more than the burst and a second's worth; nobody waits while there is room.
        #[test]
        fn no_window_holds_more_than_it_may(
            per_s in 1..200_u32,
            burst in 1..400_u32,
            gaps_us in prop::collection::vec(0..200_000_i64, 1..300),
        ) {
            let rate = Rate { per_s, burst };
            let (mut pace, mut now, mut went) = (Pace::default(), 1_000_000_000_i64, Vec::new());
            for gap in gaps_us {
                now += gap;
                match pace.reserve(now, rate) {
                    Slot::At(at) => {
                        prop_assert!(at >= now);
                        went.push(at);
                    }
                    Slot::Full(at) => prop_assert!(at - now > MAX_AHEAD_MS * 1000),
                }
            }
            went.sort_unstable();
            for (n, from) in went.iter().enumerate() {
                let within = went[n..].iter().filter(|at| **at < from + 1_000_000).count();
                prop_assert!(within <= (burst + per_s) as usize + 1, "{}", within);
            }
            let at_once = went.iter().take(burst as usize);
            prop_assert!(at_once.count() <= went.len());
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_evenly() {
        let (mut pace, rate) = (
            Pace::default(),
            Rate {
                per_s: 25,
                burst: 50,
            },
        );
        let slots: Vec<_> = (0..52).map(|_| pace.reserve(0, rate)).collect();
        assert_eq!(slots[49], Slot::At(0));
        assert_eq!(slots[50], Slot::At(40_000));
        assert_eq!(slots[51], Slot::At(80_000));
        // A minute of places is given away, no more.
        let mut pace = Pace::default();
        let given = (0..10_000).filter(|_| matches!(pace.reserve(0, rate), Slot::At(_)));
        assert_eq!(given.count(), 50 + 25 * 60);
    }
}
