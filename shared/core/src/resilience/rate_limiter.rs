//! Pace: how many events a second an endpoint is sent (the generic cell rate algorithm).
//!
//! An event that comes too soon is given the moment at which it may go, so that a burst leaves in
//! order and evenly; only one that would have to wait too long is told to ask again. The same keeps a
//! bank from more than it allows beside its ticks ([`Allowance`]). How several processes keep
//! one endpoint's pace together is in [`share`](crate::delivery::permit_pool).

use serde::{Deserialize, Serialize};

use crate::model::interval::TICK_SPREAD_S;

/// Events a second that an app may ask for, at least and at most.
pub const SEND_RATE_RANGE: std::ops::RangeInclusive<u16> = 1..=200;

/// Milliseconds ahead for which places are given away; as long as a message can be delayed.
pub const MAX_RESERVATION_MS: i64 = 60_000;

/// Seconds of a bank's allowance in each minute that are for what no tick planned: refreshes on demand,
/// second questions, steps of histories and of links, consents taken back.
pub const AD_HOC_SECONDS: u32 = 60 - TICK_SPREAD_S;

/// How fast an endpoint is sent events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRate {
    /// Events a second; 0 counts as 1.
    pub per_s: u32,
    /// Events that may come at once.
    pub burst: u32,
}

impl Default for SendRate {
    fn default() -> Self {
        Self::from_per_second(25)
    }
}

impl SendRate {
    /// So many a second, and twice as many at once.
    pub const fn from_per_second(per_s: u32) -> Self {
        Self {
            per_s,
            burst: per_s.saturating_mul(2),
        }
    }

    /// Microseconds from one event to the next.
    pub(crate) fn interval_us(self) -> i64 {
        1_000_000 / i64::from(self.per_s.max(1))
    }
}

/// When an event may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitTime {
    /// At this moment, in microseconds since 1970, which may be past; it is reserved.
    At(i64),
    /// Ask again at this moment; nothing is reserved.
    RetryAt(i64),
}

/// What is remembered of an endpoint's pace: when it would be idle again, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimiter(i64);

impl RateLimiter {
    /// As it was stored by [`idle_at_us`](Self::idle_at_us).
    pub const fn from_idle_at_us(us: i64) -> Self {
        Self(us)
    }

    /// When it would be idle again, in microseconds since 1970.
    pub const fn idle_at_us(self) -> i64 {
        self.0
    }

    /// Takes the next place, at `now_us` microseconds since 1970.
    pub fn reserve_permit(&mut self, now_us: i64, rate: SendRate) -> PermitTime {
        self.take_permit(
            now_us,
            rate.interval_us(),
            rate.burst,
            MAX_RESERVATION_MS * 1000,
        )
    }

    pub(crate) fn take_permit(
        &mut self,
        now_us: i64,
        interval_us: i64,
        burst: u32,
        max_wait_us: i64,
    ) -> PermitTime {
        let idle = self.0.max(now_us);
        let tolerance = interval_us.saturating_mul(i64::from(burst.max(1)) - 1);
        let at = idle.saturating_sub(tolerance).max(now_us);
        if at - now_us > max_wait_us {
            return PermitTime::RetryAt(at);
        }
        self.0 = idle.saturating_add(interval_us);
        PermitTime::At(at)
    }

    /// Takes the next place where it is there now; else says when it would be, in microseconds since
    /// 1970, and takes none. For those who will ask again instead of coming at their time: places that
    /// nobody comes for would be missing to all.
    ///
    /// # Errors
    ///
    /// The moment of the next place.
    pub fn take_permit_now(&mut self, now_us: i64, rate: SendRate) -> Result<(), i64> {
        let before = *self;
        match self.reserve_permit(now_us, rate) {
            PermitTime::At(at) if at <= now_us => Ok(()),
            PermitTime::At(at) | PermitTime::RetryAt(at) => {
                *self = before;
                Err(at)
            }
        }
    }
}

/// What a bank allows beside its ticks. One whose limit is R records a second has 5 R places a minute for
/// what no tick planned, and 5 R at once: 10 R in any minute, which is what the [plan](crate::schedule::plan)
/// leaves of it.
#[derive(Clone, Copy, Debug)]
pub struct AdHocBudget {
    interval_us: i64,
    tolerance_us: i64,
}

/// How places are taken while others take some too: one change of the pace that does what it says whatever
/// they did meanwhile, or nothing. Of many who come at once none has to begin again for the others' sake
/// but those who found the pace idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitReservation {
    /// Where the pace is idle by now, it is so again at `until_us`.
    FromIdle {
        /// Places taken.
        permits: u32,
        /// Microseconds since 1970.
        idle_at_us: i64,
    },
    /// Where the pace is idle after now and by `last_us`, it is so `more_us` later.
    AfterOthers {
        /// Places taken.
        permits: u32,
        /// Microseconds.
        added_us: i64,
        /// Microseconds since 1970.
        latest_idle_at_us: i64,
    },
    /// There is none so soon; the next is there at this moment, in microseconds since 1970.
    RetryAt(i64),
}

impl AdHocBudget {
    /// Of a bank that allows so many records a second; 0 counts as 1.
    pub fn from_bank_rate(records_per_second: u32) -> Self {
        let half = records_per_second.max(1).saturating_mul(AD_HOC_SECONDS) / 2;
        let interval_us = (60_000_000 / i64::from(half)).max(1);
        let tolerance_us = interval_us.saturating_mul(i64::from(half) - 1);
        Self {
            interval_us,
            tolerance_us,
        }
    }

    /// The next places, `wanted` at most, of those that are `ahead_us` away at most.
    pub fn plan_reservation(
        self,
        limiter: RateLimiter,
        now_us: i64,
        max_wait_us: i64,
        max_permits: u32,
    ) -> PermitReservation {
        let idle_us = limiter.0.max(now_us);
        let reach_us = now_us
            .saturating_add(max_wait_us)
            .saturating_add(self.tolerance_us);
        if idle_us > reach_us || max_permits == 0 {
            return PermitReservation::RetryAt(
                idle_us.saturating_sub(self.tolerance_us).max(now_us),
            );
        }
        let free = (reach_us - idle_us) / self.interval_us + 1;
        let places = max_permits.min(u32::try_from(free).unwrap_or(u32::MAX));
        let more_us = self.interval_us.saturating_mul(places.into());
        if limiter.0 <= now_us {
            let until_us = now_us.saturating_add(more_us);
            return PermitReservation::FromIdle {
                permits: places,
                idle_at_us: until_us,
            };
        }
        PermitReservation::AfterOthers {
            permits: places,
            added_us: more_us,
            latest_idle_at_us: reach_us.saturating_sub(more_us - self.interval_us),
        }
    }

    /// When the first of so many places is, the last of which made the `pace` what it is: `now_us` or later.
    pub fn first_permit_at_us(self, limiter: RateLimiter, permits: u32, now_us: i64) -> i64 {
        let taken_us = self.interval_us.saturating_mul(permits.into());
        let before_us = limiter.0.saturating_sub(taken_us);
        before_us.saturating_sub(self.tolerance_us).max(now_us)
    }
}

impl PermitReservation {
    /// The pace afterwards, and the places that are taken; `None` where it is not as it has to be.
    pub fn apply_to(self, limiter: RateLimiter, now_us: i64) -> Option<(RateLimiter, u32)> {
        match self {
            Self::FromIdle {
                permits: places,
                idle_at_us: until_us,
            } => (limiter.0 <= now_us).then_some((RateLimiter(until_us), places)),
            Self::AfterOthers {
                permits: places,
                added_us: more_us,
                latest_idle_at_us: last_us,
            } => {
                let holds = limiter.0 > now_us && limiter.0 <= last_us;
                holds.then_some((RateLimiter(limiter.0.saturating_add(more_us)), places))
            }
            Self::RetryAt(_) => None,
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
            let rate = SendRate { per_s, burst };
            let (mut pace, mut now, mut went) = (RateLimiter::default(), 1_000_000_000_i64, Vec::new());
            for gap in gaps_us {
                now += gap;
                match pace.reserve_permit(now, rate) {
                    PermitTime::At(at) => {
                        prop_assert!(at >= now);
                        went.push(at);
                    }
                    PermitTime::RetryAt(at) => prop_assert!(at - now > MAX_RESERVATION_MS * 1000),
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
            let allowance = AdHocBudget::from_bank_rate(records_per_second);
            let (mut paces, mut now_us) = (vec![RateLimiter::default()], 1_000_000_000_i64);
            let mut went = Vec::new();
            for (gap_ms, wanted, behind) in takers {
                now_us += gap_ms * 1000 / i64::from(records_per_second);
                let pace = *paces.last().unwrap();
                let known = paces[(paces.len() - 1).saturating_sub(behind)];
                let taking = allowance.plan_reservation(known, now_us, ahead_ms * 1000, wanted);
                let Some((after, places)) = taking.apply_to(pace, now_us) else {
                    // Who knew the pace as it is takes a place where there is one.
                    let none = matches!(taking, PermitReservation::RetryAt(at) if at - now_us > ahead_ms * 1000);
                    prop_assert!(none || known != pace, "{:?} {:?}", taking, pace);
                    continue;
                };
                prop_assert!((1..=wanted).contains(&places));
                let first = allowance.first_permit_at_us(after, places, now_us);
                for n in 0..i64::from(places) {
                    let at = allowance.first_permit_at_us(after, places, i64::MIN) + n * allowance.interval_us;
                    let at = at.max(now_us);
                    prop_assert!(at >= first && at - now_us <= ahead_ms * 1000);
                    went.push(at);
                }
                paces.push(after);
            }
            went.sort_unstable();
            let most = (records_per_second * AD_HOC_SECONDS) as usize;
            for (n, from) in went.iter().enumerate() {
                let within = went[n..].iter().take_while(|at| **at < from + 60_000_000).count();
                prop_assert!(within <= most, "{} of {}", within, most);
            }
        }
    }

    #[test]
    fn asking_in_vain_takes_no_place() {
        let (mut pace, rate) = (RateLimiter::default(), SendRate::from_per_second(25));
        let (mut taken, mut now_us) = (0, 0);
        while taken < 300 {
            for _ in 0..64 {
                match pace.take_permit_now(now_us, rate) {
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
            RateLimiter::default(),
            SendRate {
                per_s: 25,
                burst: 50,
            },
        );
        let slots: Vec<_> = (0..52).map(|_| pace.reserve_permit(0, rate)).collect();
        assert_eq!(slots[49], PermitTime::At(0));
        assert_eq!(slots[50], PermitTime::At(40_000));
        assert_eq!(slots[51], PermitTime::At(80_000));
        // A minute of places is given away, no more.
        let mut pace = RateLimiter::default();
        let given =
            (0..10_000).filter(|_| matches!(pace.reserve_permit(0, rate), PermitTime::At(_)));
        assert_eq!(given.count(), 50 + 25 * 60);
    }
}
