//! One endpoint's rate limit, kept by several processes together.
//!
//! Each process has a [`PermitPool`]. It may send a little by itself: one event, and then its part of half the rate. So
//! an endpoint with few events costs nothing but its deliveries. What goes beyond takes a [`PermitBlock`] out of a
//! [`RateLimiter`] that all processes share, one write for a block. A permit belongs to its moment: one that is not used
//! within [`PERMIT_LIFE_US`] expires, and is never saved up.
//!
//! **What an endpoint receives.** Let R be its rate, B its burst and P the number of processes. A shared permit is used
//! from its moment on until its life of two seconds is over, so that those used within W seconds have their moments in
//! W + 2: at most B + R (W + 2) + 1. A process by itself sends at most one and W R / 2 P. Together, in any W seconds:
//!
//! ```text
//! R (1.5 W + 2) + B + P + 1
//! ```
//!
//! A message that waits for its permit arrives at the next whole second, which is within the permit's life; one that the
//! queue delays longer arrives when it arrives.

use std::collections::VecDeque;

use crate::resilience::rate_limiter::{MAX_RESERVATION_MS, PermitTime, RateLimiter, SendRate};

/// Microseconds from a permit's moment on within which it may be used.
pub const PERMIT_LIFE_US: i64 = 2_000_000;

/// Permits of one block at most; as many as wait at once where one process sends most of the events.
pub const MAX_BLOCK_PERMITS: u32 = 1024;

/// Permits that are taken before anybody waits for them, at most.
const MAX_EXPECTED_PERMITS: u32 = 25;

/// Whether an event may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitDecision {
    /// Now.
    SendNow,
    /// At this moment, in microseconds since 1970; a permit is reserved for it.
    SendAt(i64),
    /// Try again at this moment; nothing is reserved.
    RetryAt(i64),
    /// This process has no permit for it, and all together may have one: take a block, and try again.
    TakeBlock,
}

/// How many permits a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// Permits for those who come back at their time, however far away that is.
    pub reserved: u32,
    /// Permits in all; more than the reserved only as far as they are free now.
    pub total: u32,
}

/// Permits that a process took for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermitBlock {
    /// Their moments in order, in microseconds since 1970.
    pub permits: Vec<i64>,
    /// The shared limiter after they were taken.
    pub shared_limiter: RateLimiter,
}

impl PermitBlock {
    /// Takes what is requested out of a shared limiter, as far as it has it.
    pub fn take_from(
        mut shared_limiter: RateLimiter,
        now_us: i64,
        rate: SendRate,
        request: PermitRequest,
    ) -> Self {
        let mut permits = Vec::new();
        for nth in 0..request.total.min(MAX_BLOCK_PERMITS) {
            let ahead_us = if nth < request.reserved {
                MAX_RESERVATION_MS * 1000
            } else {
                0
            };
            match shared_limiter.take_permit(now_us, rate.interval_us(), rate.burst, ahead_us) {
                PermitTime::At(at) => permits.push(at),
                PermitTime::RetryAt(_) => break,
            }
        }
        Self {
            permits,
            shared_limiter,
        }
    }
}

/// What one process knows of an endpoint's rate limit.
#[derive(Clone, Debug, Default)]
pub struct PermitPool {
    /// What it sends by itself.
    own_limiter: RateLimiter,
    /// Permits it took and has not used.
    permits: VecDeque<i64>,
    /// The limiter of all when this process last took a block, or its own where it is alone. The shared one is never
    /// earlier than this.
    shared_limiter: RateLimiter,
    requested_at_us: i64,
    /// Permits of blocks that were used since.
    used_permits: u32,
}

impl PermitPool {
    /// Whether an event may be sent at `now_us` by one of `processes`. Who does not come back at its time (`can_wait`)
    /// gets no permit of a later moment: nobody would use it.
    pub fn try_acquire(
        &mut self,
        now_us: i64,
        rate: SendRate,
        processes: u32,
        can_wait: bool,
    ) -> PermitDecision {
        if processes <= 1 {
            return self.try_acquire_alone(now_us, rate, can_wait);
        }
        while self
            .permits
            .front()
            .is_some_and(|at| at.saturating_add(PERMIT_LIFE_US) < now_us)
        {
            self.permits.pop_front();
        }
        // Before what this process may send by itself, which does not expire.
        if self.permits.front().is_some_and(|at| *at <= now_us) {
            self.permits.pop_front();
            self.used_permits = self.used_permits.saturating_add(1);
            return PermitDecision::SendNow;
        }
        let step_us = rate.interval_us().saturating_mul(2 * i64::from(processes));
        if matches!(
            self.own_limiter.take_permit(now_us, step_us, 1, 0),
            PermitTime::At(_)
        ) {
            return PermitDecision::SendNow;
        }
        if can_wait && let Some(at) = self.permits.pop_front() {
            self.used_permits = self.used_permits.saturating_add(1);
            return PermitDecision::SendAt(at);
        }
        let ahead_us = if can_wait {
            MAX_RESERVATION_MS * 1000
        } else {
            0
        };
        let mut shared = self.shared_limiter;
        match shared.take_permit(now_us, rate.interval_us(), rate.burst, ahead_us) {
            PermitTime::At(_) => PermitDecision::TakeBlock,
            PermitTime::RetryAt(at) => PermitDecision::RetryAt(at),
        }
    }

    fn try_acquire_alone(&mut self, now_us: i64, rate: SendRate, can_wait: bool) -> PermitDecision {
        if !can_wait {
            return match self.shared_limiter.take_permit_now(now_us, rate) {
                Ok(()) => PermitDecision::SendNow,
                Err(at) => PermitDecision::RetryAt(at),
            };
        }
        match self.shared_limiter.reserve_permit(now_us, rate) {
            PermitTime::At(at) if at <= now_us => PermitDecision::SendNow,
            PermitTime::At(at) => PermitDecision::SendAt(at),
            PermitTime::RetryAt(at) => PermitDecision::RetryAt(at),
        }
    }

    /// The block to request, where so many wait who come back at their time, and so many who do not: permits for these,
    /// and for the events that are likely within a permit's life.
    pub fn next_block_request(
        &self,
        now_us: i64,
        rate: SendRate,
        waiting: u32,
        others: u32,
    ) -> PermitRequest {
        let (life, used) = (PERMIT_LIFE_US, i64::from(self.used_permits));
        let since_us = now_us.saturating_sub(self.requested_at_us).max(1);
        let expected = if since_us < life {
            used * 2
        } else {
            (used * life + since_us - 1) / since_us
        };
        let expected = u32::try_from(expected).unwrap_or(MAX_EXPECTED_PERMITS);
        let expected = expected.min(MAX_EXPECTED_PERMITS).min(rate.per_s);
        PermitRequest {
            reserved: waiting,
            total: waiting.saturating_add(others).max(expected),
        }
    }

    /// Adds a block that was taken.
    pub fn add_block(&mut self, now_us: i64, block: PermitBlock) {
        self.permits.extend(block.permits);
        self.shared_limiter = block.shared_limiter;
        self.requested_at_us = now_us;
        self.used_permits = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one of several processes does next.
    #[derive(Clone, Copy, Debug)]
    struct ProcessStep {
        process: usize,
        gap_us: i64,
        can_wait: bool,
        events: u32,
        /// Others do so many steps until it has the block that it took.
        block_delay_steps: usize,
        /// It ends, and another one replaces it.
        ends: bool,
    }

    fn any_process_step() -> impl Strategy<Value = ProcessStep> {
        let gap_us = prop_oneof![
            3 => Just(0_i64),
            5 => 0..20_000_i64,
            3 => 0..500_000_i64,
            1 => 0..5_000_000_i64,
        ];
        let ends = prop::bool::weighted(0.02);
        (
            0..32_usize,
            gap_us,
            any::<bool>(),
            1..40_u32,
            0..6_usize,
            ends,
        )
            .prop_map(
                |(process, gap_us, comes_back, events, late, ends)| ProcessStep {
                    process,
                    gap_us,
                    can_wait: comes_back,
                    events,
                    block_delay_steps: late,
                    ends,
                },
            )
    }

    /// Many processes.
    struct ProcessFleet {
        rate: SendRate,
        processes: u32,
        pools: Vec<PermitPool>,
        /// How many there were.
        started_processes: u32,
        shared_limiter: RateLimiter,
        /// Blocks that were taken, with their process and the step at which it has them.
        blocks_in_flight: Vec<(usize, usize, PermitBlock)>,
        sent_at_us: Vec<i64>,
        blocks_requested: u32,
    }

    impl ProcessFleet {
        fn new(rate: SendRate, processes: u32) -> Self {
            Self {
                rate,
                processes,
                pools: vec![PermitPool::default(); processes as usize],
                started_processes: processes,
                shared_limiter: RateLimiter::default(),
                blocks_in_flight: Vec::new(),
                sent_at_us: Vec::new(),
                blocks_requested: 0,
            }
        }

        fn add_arrived_blocks(&mut self, nth: usize, now_us: i64) {
            for (_, process, block) in self
                .blocks_in_flight
                .extract_if(.., |(when, ..)| *when <= nth)
            {
                self.pools[process].add_block(now_us, block);
            }
        }

        /// Has a process send events; says how many could not be sent and got no permit.
        fn send_events(&mut self, nth: usize, step: ProcessStep, now_us: i64) -> u32 {
            let process = step.process % self.pools.len();
            if step.ends {
                self.pools[process] = PermitPool::default();
                self.blocks_in_flight.retain(|(_, of, _)| *of != process);
                self.started_processes += 1;
            }
            let mut left = step.events;
            while left > 0 {
                let (rate, processes) = (self.rate, self.processes);
                let pool = &mut self.pools[process];
                match pool.try_acquire(now_us, rate, processes, step.can_wait) {
                    PermitDecision::SendNow => self.sent_at_us.push(now_us),
                    PermitDecision::SendAt(at) => {
                        assert!(at > now_us && step.can_wait);
                        self.sent_at_us.push(at);
                    }
                    PermitDecision::RetryAt(at) => {
                        assert!(at > now_us);
                        return left;
                    }
                    PermitDecision::TakeBlock => {
                        if self
                            .blocks_in_flight
                            .iter()
                            .any(|(_, of, _)| *of == process)
                        {
                            return left;
                        }
                        let (come_back, others) = if step.can_wait { (left, 0) } else { (0, left) };
                        let request = pool.next_block_request(now_us, rate, come_back, others);
                        let block =
                            PermitBlock::take_from(self.shared_limiter, now_us, rate, request);
                        self.shared_limiter = block.shared_limiter;
                        self.blocks_requested += 1;
                        self.blocks_in_flight
                            .push((nth + step.block_delay_steps, process, block));
                        self.add_arrived_blocks(nth, now_us);
                        continue;
                    }
                }
                left -= 1;
            }
            0
        }
    }

    proptest! {
        /// The bound of this module, in every window that begins with one event and ends with another.
        #[test]
        fn all_processes_together_keep_the_bound(
            per_s in 1..=200_u32,
            processes in 2..=32_u32,
            steps in prop::collection::vec(any_process_step(), 1..300),
        ) {
            let rate = SendRate::from_per_second(per_s);
            let mut all = ProcessFleet::new(rate, processes);
            let mut now_us = 1_000_000_000_i64;
            for (nth, step) in steps.into_iter().enumerate() {
                now_us += step.gap_us;
                all.add_arrived_blocks(nth, now_us);
                all.send_events(nth, step, now_us);
            }
            all.sent_at_us.sort_unstable();
            for (from, first) in all.sent_at_us.iter().enumerate() {
                for (to, last) in all.sent_at_us.iter().enumerate().skip(from) {
                    let half_us = (last - first) * 3 + 2 * PERMIT_LIFE_US;
                    let at_rate = i64::from(per_s) * half_us / 2_000_000;
                    let most = at_rate + i64::from(rate.burst + all.started_processes + 1);
                    let sent = i64::try_from(to - from + 1).unwrap_or(i64::MAX);
                    prop_assert!(sent <= most, "{sent} of {most} in {} us", last - first);
                }
            }
        }

        /// Nobody waits while the limit allows it: events at half the rate are sent at once, however they are spread.
        #[test]
        fn events_at_half_the_rate_are_sent_at_once(
            per_s in 2..=200_u32,
            processes in 2..=32_u32,
            senders in prop::collection::vec(0..32_usize, 1..300),
        ) {
            let rate = SendRate::from_per_second(per_s);
            let mut all = ProcessFleet::new(rate, processes);
            let mut now_us = 1_000_000_000_i64;
            for (nth, process) in senders.into_iter().enumerate() {
                now_us += rate.interval_us() * 2;
                let step =
                    ProcessStep { process, gap_us: 0, can_wait: true, events: 1, block_delay_steps: 0, ends: false };
                prop_assert_eq!(all.send_events(nth, step, now_us), 0);
                prop_assert_eq!(all.sent_at_us.last(), Some(&now_us));
            }
        }
    }

    /// Blocks that are taken for each event, where one of so many processes is sent events one by one.
    fn blocks_per_event(per_s: u32, processes: u32, each_ms: i64) -> f64 {
        const EVENTS: u32 = 400;
        let mut all = ProcessFleet::new(SendRate::from_per_second(per_s), processes);
        let mut now_us = 1_000_000_000_i64;
        for nth in 0..EVENTS {
            now_us += each_ms * 1000;
            let step = ProcessStep {
                process: 0,
                gap_us: 0,
                can_wait: true,
                events: 1,
                block_delay_steps: 0,
                ends: false,
            };
            assert_eq!(all.send_events(nth as usize, step, now_us), 0);
        }
        f64::from(all.blocks_requested) / f64::from(EVENTS)
    }

    #[test]
    fn a_busy_process_takes_a_block_for_many_events() {
        let cases = [
            // Within what it may send by itself.
            (25, 32, 3_000, 0.0),
            (25, 200, 16_000, 0.0),
            // Too slow for a permit to live until the next event.
            (25, 32, 2_001, 0.5),
            (25, 200, 3_000, 0.84),
            (25, 32, 1_000, 0.35),
            (25, 200, 1_000, 0.5),
            (25, 32, 333, 0.16),
            (25, 32, 50, 0.06),
            (200, 32, 5, 0.06),
        ];
        for (per_s, processes, each_ms, most) in cases {
            let blocks = blocks_per_event(per_s, processes, each_ms);
            assert!(
                blocks <= most,
                "{blocks} at one each {each_ms} ms of {processes}"
            );
        }
    }

    #[test]
    fn a_process_that_is_alone_requests_no_blocks() {
        let (mut pool, mut limiter, rate) = (
            PermitPool::default(),
            RateLimiter::default(),
            SendRate::from_per_second(25),
        );
        for nth in 0..2_000 {
            let decision = pool.try_acquire(nth, rate, 1, true);
            let expected = match limiter.reserve_permit(nth, rate) {
                PermitTime::At(at) if at <= nth => PermitDecision::SendNow,
                PermitTime::At(at) => PermitDecision::SendAt(at),
                PermitTime::RetryAt(at) => PermitDecision::RetryAt(at),
            };
            assert_eq!(decision, expected);
        }
    }

    #[test]
    fn a_permit_that_is_not_used_in_its_time_expires() {
        let (mut pool, rate, now) = (
            PermitPool::default(),
            SendRate::from_per_second(25),
            1_000_000_000,
        );
        assert_eq!(
            pool.try_acquire(now, rate, 32, true),
            PermitDecision::SendNow
        );
        assert_eq!(
            pool.try_acquire(now, rate, 32, true),
            PermitDecision::TakeBlock
        );
        let request = PermitRequest {
            reserved: 1,
            total: 10,
        };
        pool.add_block(
            now,
            PermitBlock::take_from(RateLimiter::default(), now, rate, request),
        );
        for _ in 0..4 {
            assert_eq!(
                pool.try_acquire(now + PERMIT_LIFE_US, rate, 32, true),
                PermitDecision::SendNow
            );
        }
        assert_eq!(
            pool.try_acquire(now + PERMIT_LIFE_US + 1, rate, 32, true),
            PermitDecision::TakeBlock
        );
    }
}
