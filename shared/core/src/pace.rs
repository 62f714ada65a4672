//! Pace: how many events a second an endpoint is sent (the generic cell rate algorithm).
//!
//! An event that comes too soon is given the moment at which it may go, so that a burst leaves in
//! order and evenly; only one that would have to wait too long is told to ask again. The same keeps a
//! bank from more than it allows beside its ticks ([`Allowance`]). How several processes keep
//! one endpoint's pace together is in [`share`](crate::share).

use serde::{Deserialize, Serialize};

/// Events a second that an app may ask for, at least and at most.
pub const RATE_RANGE: std::ops::RangeInclusive<u16> = 1..=200;

/// Milliseconds ahead for which places are given away; as long as a message can be delayed.
pub const MAX_AHEAD_MS: i64 = 60_000;

/// Seconds of a bank's allowance in each minute that are for what no tick planned: refreshes on demand,
/// second questions, steps of histories and of links, consents taken back.
pub const UNPLANNED_S: u32 = 60 - crate::plan::SPREAD_S;

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
    pub(crate) fn step_us(self) -> i64 {
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
    /// As it was stored by [`idle_at_us`](Self::idle_at_us).
    pub const fn idle_from(us: i64) -> Self {
        Self(us)
    }

    /// When it would be idle again, in microseconds since 1970.
    pub const fn idle_at_us(self) -> i64 {
        self.0
    }

    /// Takes the next place, at `now_us` microseconds since 1970.
    pub fn reserve(&mut self, now_us: i64, rate: Rate) -> Slot {
        self.take(now_us, rate.step_us(), rate.burst, MAX_AHEAD_MS * 1000)
    }

    pub(crate) fn take(&mut self, now_us: i64, step_us: i64, burst: u32, ahead_us: i64) -> Slot {
        let idle = self.0.max(now_us);
        let tolerance = step_us.saturating_mul(i64::from(burst.max(1)) - 1);
        let at = idle.saturating_sub(tolerance).max(now_us);
        if at - now_us > ahead_us {
            return Slot::Full(at);
        }
        self.0 = idle.saturating_add(step_us);
        Slot::At(at)
    }

    /// Takes the next place where it is there now; else says when it would be, in microseconds since
    /// 1970, and takes none. For those who will ask again instead of coming at their time: places that
    /// nobody comes for would be missing to all.
    ///
    /// # Errors
    ///
    /// The moment of the next place.
    pub fn take_now(&mut self, now_us: i64, rate: Rate) -> Result<(), i64> {
        let before = *self;
        match self.reserve(now_us, rate) {
            Slot::At(at) if at <= now_us => Ok(()),
            Slot::At(at) | Slot::Full(at) => {
                *self = before;
                Err(at)
            }
        }
    }
}

/// What a bank allows beside its ticks. One whose limit is R records a second has 5 R places a minute for
/// what no tick planned, and 5 R at once: 10 R in any minute, which is what the [plan](crate::plan)
/// leaves of it.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    step_us: i64,
    tolerance_us: i64,
}

/// How places are taken while others take some too: one change of the pace that does what it says whatever
/// they did meanwhile, or nothing. Of many who come at once none has to begin again for the others' sake
/// but those who found the pace idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// Where the pace is idle by now, it is so again at `until_us`.
    Anew {
        /// Places taken.
        places: u32,
        /// Microseconds since 1970.
        until_us: i64,
    },
    /// Where the pace is idle after now and by `last_us`, it is so `more_us` later.
    Behind {
        /// Places taken.
        places: u32,
        /// Microseconds.
        more_us: i64,
        /// Microseconds since 1970.
        last_us: i64,
    },
    /// There is none so soon; the next is there at this moment, in microseconds since 1970.
    Full(i64),
}

impl Allowance {
    /// Of a bank that allows so many records a second; 0 counts as 1.
    pub fn of(records_per_second: u32) -> Self {
        let half = records_per_second.max(1).saturating_mul(UNPLANNED_S) / 2;
        let step_us = (60_000_000 / i64::from(half)).max(1);
        let tolerance_us = step_us.saturating_mul(i64::from(half) - 1);
        Self {
            step_us,
            tolerance_us,
        }
    }

    /// The next places, `wanted` at most, of those that are `ahead_us` away at most.
    pub fn take(self, pace: Pace, now_us: i64, ahead_us: i64, wanted: u32) -> Taking {
        let idle_us = pace.0.max(now_us);
        let reach_us = now_us
            .saturating_add(ahead_us)
            .saturating_add(self.tolerance_us);
        if idle_us > reach_us || wanted == 0 {
            return Taking::Full(idle_us.saturating_sub(self.tolerance_us).max(now_us));
        }
        let free = (reach_us - idle_us) / self.step_us + 1;
        let places = wanted.min(u32::try_from(free).unwrap_or(u32::MAX));
        let more_us = self.step_us.saturating_mul(places.into());
        if pace.0 <= now_us {
            let until_us = now_us.saturating_add(more_us);
            return Taking::Anew { places, until_us };
        }
        Taking::Behind {
            places,
            more_us,
            last_us: reach_us.saturating_sub(more_us - self.step_us),
        }
    }

    /// When the first of so many places is, the last of which made the `pace` what it is: `now_us` or later.
    pub fn first_at(self, pace: Pace, places: u32, now_us: i64) -> i64 {
        let taken_us = self.step_us.saturating_mul(places.into());
        let before_us = pace.0.saturating_sub(taken_us);
        before_us.saturating_sub(self.tolerance_us).max(now_us)
    }
}

impl Taking {
    /// The pace afterwards, and the places that are taken; `None` where it is not as it has to be.
    pub fn apply(self, pace: Pace, now_us: i64) -> Option<(Pace, u32)> {
        match self {
            Self::Anew { places, until_us } => {
                (pace.0 <= now_us).then_some((Pace(until_us), places))
            }
            Self::Behind {
                places,
                more_us,
                last_us,
            } => {
                let holds = pace.0 > now_us && pace.0 <= last_us;
                holds.then_some((Pace(pace.0.saturating_add(more_us)), places))
            }
            Self::Full(_) => None,
        }
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

    proptest! {
        /// No minute of a bank, wherever it begins, has more than what the plan leaves of it, also where those
        /// who take places know the pace as it was some takings ago.
        #[test]
        fn no_minute_holds_more_of_a_bank_than_the_plan_leaves(
            records_per_second in 1..100_u32,
            ahead_ms in 0..60_000_i64,
            takers in prop::collection::vec((0..3_000_i64, 1..4_u32, 0..5_usize), 1..2_000),
        ) {
            let allowance = Allowance::of(records_per_second);
            let (mut paces, mut now_us) = (vec![Pace::default()], 1_000_000_000_i64);
            let mut went = Vec::new();
            for (gap_ms, wanted, behind) in takers {
                now_us += gap_ms * 1000 / i64::from(records_per_second);
                let pace = *paces.last().unwrap();
                let known = paces[(paces.len() - 1).saturating_sub(behind)];
                let taking = allowance.take(known, now_us, ahead_ms * 1000, wanted);
                let Some((after, places)) = taking.apply(pace, now_us) else {
                    // Who knew the pace as it is takes a place where there is one.
                    let none = matches!(taking, Taking::Full(at) if at - now_us > ahead_ms * 1000);
                    prop_assert!(none || known != pace, "{:?} {:?}", taking, pace);
                    continue;
                };
                prop_assert!((1..=wanted).contains(&places));
                let first = allowance.first_at(after, places, now_us);
                for n in 0..i64::from(places) {
                    let at = allowance.first_at(after, places, i64::MIN) + n * allowance.step_us;
                    let at = at.max(now_us);
                    prop_assert!(at >= first && at - now_us <= ahead_ms * 1000);
                    went.push(at);
                }
                paces.push(after);
            }
            went.sort_unstable();
            let most = (records_per_second * UNPLANNED_S) as usize;
            for (n, from) in went.iter().enumerate() {
                let within = went[n..].iter().take_while(|at| **at < from + 60_000_000).count();
                prop_assert!(within <= most, "{} of {}", within, most);
            }
        }
    }

    #[test]
    fn asking_in_vain_takes_no_place() {
        let (mut pace, rate) = (Pace::default(), Rate::of(25));
        let (mut taken, mut now_us) = (0, 0);
        while taken < 300 {
            for _ in 0..64 {
                match pace.take_now(now_us, rate) {
                    Ok(()) => taken += 1,
                    Err(at) => assert!(at > now_us && at <= now_us + 40_000, "{at}"),
                }
            }
            now_us += 1_000_000;
        }
        // The burst, and then as many as the rate gives.
        assert_eq!(now_us / 1_000_000, 1 + (300 - 50) / 25);
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
