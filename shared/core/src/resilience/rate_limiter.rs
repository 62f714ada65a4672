//! Rate limits by the generic cell rate algorithm. The cast: [`RateLimiter`], what is remembered of one limit;
//! [`SendRate`], how fast an endpoint is sent events; [`PermitTime`], when one event may be sent; [`AdHocBudget`], what a
//! bank allows beside its ticks, and a [`PermitReservation`] of it.
//!
//! The rule: an event that comes too soon gets the time at which it may be sent, so that a burst leaves in order and
//! evenly; only one that would wait too long must try again. How several processes keep one endpoint's rate together is
//! in [`permit_pool`](crate::delivery::permit_pool).

use serde::{Deserialize, Serialize};

use crate::model::interval::TICK_SPREAD_S;

/// Events a second that an app may set, at least and at most.
pub const SEND_RATE_RANGE: std::ops::RangeInclusive<u16> = 1..=200;

/// Milliseconds ahead for which permits are given at most; as long as a message is held in memory.
pub const MAX_RESERVATION_MS: i64 = 60_000;

/// Seconds of a bank's rate in each minute that are for what no tick planned: refreshes on demand, deletion checks, steps
/// of backfills and of links, revoked consents.
pub const AD_HOC_SECONDS: u32 = 60 - TICK_SPREAD_S;

/// How fast an endpoint is sent events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRate {
    /// Events a second; 0 counts as 1.
    pub per_s: u32,
    /// Events that may be sent at once.
    pub burst: u32,
}

impl Default for SendRate {
    fn default() -> Self {
        Self::from_per_second(25)
    }
}

impl SendRate {
    /// This many a second, and twice as many at once.
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

/// When an event may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitTime {
    /// At this time, in microseconds since 1970, which may be past. It is reserved.
    At(i64),
    /// Not soon enough: a permit may be requested again at this time. Nothing is reserved.
    RetryAt(i64),
}

/// What is remembered of a rate limit: when it would be idle again, in microseconds since 1970.
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

    /// Reserves the next permit at `now_us` microseconds since 1970.
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

    /// Takes a permit where there is one now. Otherwise nothing is reserved: this is for callers that try again instead of
    /// waiting, because a permit that nobody uses would be missing to all.
    ///
    /// # Errors
    ///
    /// The time of the next permit, in microseconds since 1970.
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

/// What a bank allows beside its ticks. With a limit of R records a second there are 5 R permits a minute for what no
/// tick planned, and 5 R at once: 10 R in any minute, which is what the plan of the ticks leaves.
#[derive(Clone, Copy, Debug)]
pub struct AdHocBudget {
    interval_us: i64,
    tolerance_us: i64,
}

/// How permits are taken while other callers take some too: one conditional change of the limiter that is right whatever
/// the others did meanwhile, or does nothing. Of many callers at once only those that found the limiter idle have to
/// begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitReservation {
    /// If the limiter is idle now, it is idle again at `idle_at_us`.
    FromIdle {
        /// Permits taken.
        permits: u32,
        /// Microseconds since 1970.
        idle_at_us: i64,
    },
    /// If the limiter is idle after now and by `latest_idle_at_us`, it is idle `added_us` later.
    AfterOthers {
        /// Permits taken.
        permits: u32,
        /// Microseconds.
        added_us: i64,
        /// Microseconds since 1970.
        latest_idle_at_us: i64,
    },
    /// There is none soon enough; the next is available at this time, in microseconds since 1970.
    RetryAt(i64),
}

impl AdHocBudget {
    /// The budget of a bank that allows so many records a second; 0 counts as 1.
    pub fn from_bank_rate(records_per_second: u32) -> Self {
        let half = records_per_second.max(1).saturating_mul(AD_HOC_SECONDS) / 2;
        let interval_us = (60_000_000 / i64::from(half)).max(1);
        let tolerance_us = interval_us.saturating_mul(i64::from(half) - 1);
        Self {
            interval_us,
            tolerance_us,
        }
    }

    /// A reservation of the next permits, at most `max_permits`, that are at most `max_wait_us` away.
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
        // More free permits than u32 holds are more than anybody takes.
        let permits = max_permits.min(u32::try_from(free).unwrap_or(u32::MAX));
        let added_us = self.interval_us.saturating_mul(permits.into());
        if limiter.0 <= now_us {
            return PermitReservation::FromIdle {
                permits,
                idle_at_us: now_us.saturating_add(added_us),
            };
        }
        PermitReservation::AfterOthers {
            permits,
            added_us,
            latest_idle_at_us: reach_us.saturating_sub(added_us - self.interval_us),
        }
    }

    /// The time of the first of so many permits, the last of which brought the limiter to its state; `now_us` or later.
    pub fn first_permit_at_us(self, limiter: RateLimiter, permits: u32, now_us: i64) -> i64 {
        let taken_us = self.interval_us.saturating_mul(permits.into());
        let before_us = limiter.0.saturating_sub(taken_us);
        before_us.saturating_sub(self.tolerance_us).max(now_us)
    }
}

impl PermitReservation {
    /// The limiter afterwards, and the permits that are taken; `None` where its state does not allow the change.
    pub fn apply_to(self, limiter: RateLimiter, now_us: i64) -> Option<(RateLimiter, u32)> {
        match self {
            Self::FromIdle {
                permits,
                idle_at_us,
            } => (limiter.0 <= now_us).then_some((RateLimiter(idle_at_us), permits)),
            Self::AfterOthers {
                permits,
                added_us,
                latest_idle_at_us,
            } => {
                let is_allowed = limiter.0 > now_us && limiter.0 <= latest_idle_at_us;
                is_allowed.then_some((RateLimiter(limiter.0.saturating_add(added_us)), permits))
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
        /// No second has more than the burst and the rate of a second; nothing waits while there are permits.
        #[test]
        fn no_second_exceeds_burst_and_rate(
            per_s in 1..200_u32,
            burst in 1..400_u32,
            gaps_us in prop::collection::vec(0..200_000_i64, 1..300),
        ) {
            let rate = SendRate { per_s, burst };
            let (mut limiter, mut now, mut sent) = (RateLimiter::default(), 1_000_000_000_i64, Vec::new());
            for gap in gaps_us {
                now += gap;
                match limiter.reserve_permit(now, rate) {
                    PermitTime::At(at) => {
                        prop_assert!(at >= now);
                        sent.push(at);
                    }
                    PermitTime::RetryAt(at) => prop_assert!(at - now > MAX_RESERVATION_MS * 1000),
                }
            }
            sent.sort_unstable();
            for (n, from) in sent.iter().enumerate() {
                let within = sent[n..].iter().filter(|at| **at < from + 1_000_000).count();
                prop_assert!(within <= (burst + per_s) as usize + 1, "{}", within);
            }
            let at_once = sent.iter().take(burst as usize);
            prop_assert!(at_once.count() <= sent.len());
        }
    }

    proptest! {
        /// No minute of a bank, wherever it begins, has more than what the plan of the ticks leaves, also where callers
        /// read the limiter some reservations ago.
        #[test]
        fn no_minute_exceeds_the_ad_hoc_budget(
            records_per_second in 1..100_u32,
            ahead_ms in 0..60_000_i64,
            takers in prop::collection::vec((0..3_000_i64, 1..4_u32, 0..5_usize), 1..2_000),
        ) {
            let budget = AdHocBudget::from_bank_rate(records_per_second);
            let (mut limiters, mut now_us) = (vec![RateLimiter::default()], 1_000_000_000_i64);
            let mut sent = Vec::new();
            for (gap_ms, wanted, behind) in takers {
                now_us += gap_ms * 1000 / i64::from(records_per_second);
                let limiter = *limiters.last().unwrap();
                let known = limiters[(limiters.len() - 1).saturating_sub(behind)];
                let reservation = budget.plan_reservation(known, now_us, ahead_ms * 1000, wanted);
                let Some((after, permits)) = reservation.apply_to(limiter, now_us) else {
                    // A caller that knows the current state gets a permit where there is one.
                    let none = matches!(reservation, PermitReservation::RetryAt(at) if at - now_us > ahead_ms * 1000);
                    prop_assert!(none || known != limiter, "{:?} {:?}", reservation, limiter);
                    continue;
                };
                prop_assert!((1..=wanted).contains(&permits));
                let first = budget.first_permit_at_us(after, permits, now_us);
                for n in 0..i64::from(permits) {
                    let at = budget.first_permit_at_us(after, permits, i64::MIN) + n * budget.interval_us;
                    let at = at.max(now_us);
                    prop_assert!(at >= first && at - now_us <= ahead_ms * 1000);
                    sent.push(at);
                }
                limiters.push(after);
            }
            sent.sort_unstable();
            let most = (records_per_second * AD_HOC_SECONDS) as usize;
            for (n, from) in sent.iter().enumerate() {
                let within = sent[n..].iter().take_while(|at| **at < from + 60_000_000).count();
                prop_assert!(within <= most, "{} of {}", within, most);
            }
        }
    }

    #[test]
    fn a_request_in_vain_takes_no_permit() {
        let (mut limiter, rate) = (RateLimiter::default(), SendRate::from_per_second(25));
        let (mut taken, mut now_us) = (0, 0);
        while taken < 300 {
            for _ in 0..64 {
                match limiter.take_permit_now(now_us, rate) {
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
        let (mut limiter, rate) = (
            RateLimiter::default(),
            SendRate {
                per_s: 25,
                burst: 50,
            },
        );
        let slots: Vec<_> = (0..52).map(|_| limiter.reserve_permit(0, rate)).collect();
        assert_eq!(slots[49], PermitTime::At(0));
        assert_eq!(slots[50], PermitTime::At(40_000));
        assert_eq!(slots[51], PermitTime::At(80_000));
        // Permits are given a minute ahead, no more.
        let mut limiter = RateLimiter::default();
        let given =
            (0..10_000).filter(|_| matches!(limiter.reserve_permit(0, rate), PermitTime::At(_)));
        assert_eq!(given.count(), 50 + 25 * 60);
    }
}
