//! One endpoint's pace, kept by several processes together.
//!
//! Each process may send a little by itself: one event, and then its part of half the rate. So an
//! endpoint that is told little costs nothing but its deliveries. What goes beyond takes *blocks* of
//! places out of a [`Pace`] that all processes share, one write for a block. A place belongs to its
//! moment: what is not used within [`PLACE_LIFE_US`] is lost, and never saved up.
//!
//! **What an endpoint sees.** Let R be its rate, B its burst and P the number of processes. A shared
//! place is used from its moment on until its life of two seconds is over, so that those used within W
//! seconds have their moments in W + 2: at most B + R (W + 2) + 1. A process by itself sends at most one and
//! W R / 2 P. Together, in any W seconds:
//!
//! ```text
//! R (1.5 W + 2) + B + P + 1
//! ```
//!
//! A message that waits for its place comes at the next whole second, which is within the place's
//! life; one that the queue keeps longer comes when it comes.

use std::collections::VecDeque;

use crate::pace::{MAX_AHEAD_MS, Pace, Rate, Slot};

/// Microseconds from a place's moment on within which it may be used.
pub const PLACE_LIFE_US: i64 = 2_000_000;

/// Places of one block at most; as many as wait at once where one process tells most of it.
pub const MAX_BLOCK: u32 = 1024;

/// Places that are taken before anybody waits for them, at most.
const MAX_EXPECTED: u32 = 25;

/// Whether an event may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// At this moment, in microseconds since 1970; a place is reserved for it.
    At(i64),
    /// Ask again at this moment; nothing is reserved.
    Full(i64),
    /// This process has no place for it, and all together may have one: take a block, and ask again.
    Ask,
}

/// What a block is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Places for those who come at their time, however far away that is.
    pub reserved: u32,
    /// Places in all; those beyond the reserved only as far as they are free now.
    pub in_all: u32,
}

/// Places that a process took for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Their moments in order, in microseconds since 1970.
    pub places: Vec<i64>,
    /// The shared pace after they were taken.
    pub shared: Pace,
}

impl Block {
    /// Takes what is asked for out of a shared pace, as far as it is there.
    pub fn take(mut shared: Pace, now_us: i64, rate: Rate, ask: Ask) -> Self {
        let mut places = Vec::new();
        for nth in 0..ask.in_all.min(MAX_BLOCK) {
            let ahead_us = if nth < ask.reserved {
                MAX_AHEAD_MS * 1000
            } else {
                0
            };
            match shared.take(now_us, rate.step_us(), rate.burst, ahead_us) {
                Slot::At(at) => places.push(at),
                Slot::Full(_) => break,
            }
        }
        Self { places, shared }
    }
}

/// What one process knows of an endpoint's pace.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// What it sends by itself.
    own: Pace,
    /// Places it took and has not used.
    places: VecDeque<i64>,
    /// The pace of all when this process last took a block, or its own where it is alone. It is never
    /// earlier than this.
    shared: Pace,
    asked_at_us: i64,
    /// Places of blocks that were used since.
    used: u32,
}

impl Share {
    /// Whether an event may go at `now_us`, told by one of `processes`. Who does not come back at its
    /// time is given no place of a later moment: it would be missing to all.
    pub fn turn(&mut self, now_us: i64, rate: Rate, processes: u32, comes_back: bool) -> Turn {
        if processes <= 1 {
            return self.turn_alone(now_us, rate, comes_back);
        }
        let over = |at: &i64| at.saturating_add(PLACE_LIFE_US) < now_us;
        while self.places.front().is_some_and(over) {
            self.places.pop_front();
        }
        // Before what this process may send by itself, which is not lost.
        if self.places.front().is_some_and(|at| *at <= now_us) {
            self.places.pop_front();
            self.used = self.used.saturating_add(1);
            return Turn::Now;
        }
        let step_us = rate.step_us().saturating_mul(2 * i64::from(processes));
        if matches!(self.own.take(now_us, step_us, 1, 0), Slot::At(_)) {
            return Turn::Now;
        }
        if comes_back && let Some(at) = self.places.pop_front() {
            self.used = self.used.saturating_add(1);
            return Turn::At(at);
        }
        let ahead_us = if comes_back { MAX_AHEAD_MS * 1000 } else { 0 };
        let mut shared = self.shared;
        match shared.take(now_us, rate.step_us(), rate.burst, ahead_us) {
            Slot::At(_) => Turn::Ask,
            Slot::Full(at) => Turn::Full(at),
        }
    }

    fn turn_alone(&mut self, now_us: i64, rate: Rate, comes_back: bool) -> Turn {
        if !comes_back {
            return match self.shared.take_now(now_us, rate) {
                Ok(()) => Turn::Now,
                Err(at) => Turn::Full(at),
            };
        }
        match self.shared.reserve(now_us, rate) {
            Slot::At(at) if at <= now_us => Turn::Now,
            Slot::At(at) => Turn::At(at),
            Slot::Full(at) => Turn::Full(at),
        }
    }

    /// What to ask for, where so many wait who come at their time, and so many who do not: places for
    /// these, and for what is likely to come in their life.
    pub fn ask(&self, now_us: i64, rate: Rate, come_back: u32, others: u32) -> Ask {
        let (life, used) = (PLACE_LIFE_US, i64::from(self.used));
        let since_us = now_us.saturating_sub(self.asked_at_us).max(1);
        let expected = if since_us < life {
            used * 2
        } else {
            (used * life + since_us - 1) / since_us
        };
        let expected = u32::try_from(expected).unwrap_or(MAX_EXPECTED);
        let expected = expected.min(MAX_EXPECTED).min(rate.per_s);
        Ask {
            reserved: come_back,
            in_all: come_back.saturating_add(others).max(expected),
        }
    }

    /// Adds a block that was taken.
    pub fn brought(&mut self, now_us: i64, block: Block) {
        self.places.extend(block.places);
        self.shared = block.shared;
        self.asked_at_us = now_us;
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one of several processes does next.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        process: usize,
        gap_us: i64,
        comes_back: bool,
        events: u32,
        /// Others do so many steps until it has the block that it took.
        late: usize,
        /// It ends, and another one takes its place.
        ends: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
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
            .prop_map(|(process, gap_us, comes_back, events, late, ends)| Step {
                process,
                gap_us,
                comes_back,
                events,
                late,
                ends,
            })
    }

    /// Many processes as they take turns.
    struct Together {
        rate: Rate,
        processes: u32,
        shares: Vec<Share>,
        /// How many there were.
        lived: u32,
        shared: Pace,
        /// Blocks that were taken, with their process and the step at which it has them.
        under_way: Vec<(usize, usize, Block)>,
        went: Vec<i64>,
        asked: u32,
    }

    impl Together {
        fn new(rate: Rate, processes: u32) -> Self {
            Self {
                rate,
                processes,
                shares: vec![Share::default(); processes as usize],
                lived: processes,
                shared: Pace::default(),
                under_way: Vec::new(),
                went: Vec::new(),
                asked: 0,
            }
        }

        fn arrive(&mut self, nth: usize, now_us: i64) {
            for (_, process, block) in self.under_way.extract_if(.., |(when, ..)| *when <= nth) {
                self.shares[process].brought(now_us, block);
            }
        }

        /// Has a process tell events; says how many could not go and were given no place.
        fn tell(&mut self, nth: usize, step: Step, now_us: i64) -> u32 {
            let process = step.process % self.shares.len();
            if step.ends {
                self.shares[process] = Share::default();
                self.under_way.retain(|(_, of, _)| *of != process);
                self.lived += 1;
            }
            let mut left = step.events;
            while left > 0 {
                let (rate, processes) = (self.rate, self.processes);
                let share = &mut self.shares[process];
                match share.turn(now_us, rate, processes, step.comes_back) {
                    Turn::Now => self.went.push(now_us),
                    Turn::At(at) => {
                        assert!(at > now_us && step.comes_back);
                        self.went.push(at);
                    }
                    Turn::Full(at) => {
                        assert!(at > now_us);
                        return left;
                    }
                    Turn::Ask => {
                        if self.under_way.iter().any(|(_, of, _)| *of == process) {
                            return left;
                        }
                        let (come_back, others) = if step.comes_back {
                            (left, 0)
                        } else {
                            (0, left)
                        };
                        let ask = share.ask(now_us, rate, come_back, others);
                        let block = Block::take(self.shared, now_us, rate, ask);
                        self.shared = block.shared;
                        self.asked += 1;
                        self.under_way.push((nth + step.late, process, block));
                        self.arrive(nth, now_us);
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
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let rate = Rate::of(per_s);
            let mut all = Together::new(rate, processes);
            let mut now_us = 1_000_000_000_i64;
            for (nth, step) in steps.into_iter().enumerate() {
                now_us += step.gap_us;
                all.arrive(nth, now_us);
                all.tell(nth, step, now_us);
            }
            all.went.sort_unstable();
            for (from, first) in all.went.iter().enumerate() {
                for (to, last) in all.went.iter().enumerate().skip(from) {
                    let half_us = (last - first) * 3 + 2 * PLACE_LIFE_US;
                    let at_rate = i64::from(per_s) * half_us / 2_000_000;
                    let most = at_rate + i64::from(rate.burst + all.lived + 1);
                    let went = i64::try_from(to - from + 1).unwrap_or(i64::MAX);
                    prop_assert!(went <= most, "{went} of {most} in {} us", last - first);
                }
            }
        }

        /// Nobody is kept waiting while there is room: what comes at half the rate goes at once, however
        /// it is spread, and none is told that it is full.
        #[test]
        fn what_comes_slowly_goes_at_once(
            per_s in 2..=200_u32,
            processes in 2..=32_u32,
            turns in prop::collection::vec(0..32_usize, 1..300),
        ) {
            let rate = Rate::of(per_s);
            let mut all = Together::new(rate, processes);
            let mut now_us = 1_000_000_000_i64;
            for (nth, process) in turns.into_iter().enumerate() {
                now_us += rate.step_us() * 2;
                let step =
                    Step { process, gap_us: 0, comes_back: true, events: 1, late: 0, ends: false };
                prop_assert_eq!(all.tell(nth, step, now_us), 0);
                prop_assert_eq!(all.went.last(), Some(&now_us));
            }
        }
    }

    /// Blocks that are taken for each event, where one of so many processes is sent events one by one.
    fn asked_for_each_event(per_s: u32, processes: u32, each_ms: i64) -> f64 {
        const EVENTS: u32 = 400;
        let mut all = Together::new(Rate::of(per_s), processes);
        let mut now_us = 1_000_000_000_i64;
        for nth in 0..EVENTS {
            now_us += each_ms * 1000;
            let step = Step {
                process: 0,
                gap_us: 0,
                comes_back: true,
                events: 1,
                late: 0,
                ends: false,
            };
            assert_eq!(all.tell(nth as usize, step, now_us), 0);
        }
        f64::from(all.asked) / f64::from(EVENTS)
    }

    #[test]
    fn a_busy_process_takes_a_block_for_many_events() {
        let cases = [
            // Within what it may send by itself.
            (25, 32, 3_000, 0.0),
            (25, 200, 16_000, 0.0),
            // Too slow for a place to live until the next.
            (25, 32, 2_001, 0.5),
            (25, 200, 3_000, 0.84),
            (25, 32, 1_000, 0.35),
            (25, 200, 1_000, 0.5),
            (25, 32, 333, 0.16),
            (25, 32, 50, 0.06),
            (200, 32, 5, 0.06),
        ];
        for (per_s, processes, each_ms, most) in cases {
            let asked = asked_for_each_event(per_s, processes, each_ms);
            assert!(
                asked <= most,
                "{asked} at one each {each_ms} ms of {processes}"
            );
        }
    }

    #[test]
    fn a_process_that_is_alone_asks_nobody() {
        let (mut share, mut pace, rate) = (Share::default(), Pace::default(), Rate::of(25));
        for nth in 0..2_000 {
            let turn = share.turn(nth, rate, 1, true);
            let expected = match pace.reserve(nth, rate) {
                Slot::At(at) if at <= nth => Turn::Now,
                Slot::At(at) => Turn::At(at),
                Slot::Full(at) => Turn::Full(at),
            };
            assert_eq!(turn, expected);
        }
    }

    #[test]
    fn a_place_that_is_not_used_in_its_time_is_lost() {
        let (mut share, rate, now) = (Share::default(), Rate::of(25), 1_000_000_000);
        assert_eq!(share.turn(now, rate, 32, true), Turn::Now);
        assert_eq!(share.turn(now, rate, 32, true), Turn::Ask);
        let ask = Ask {
            reserved: 1,
            in_all: 10,
        };
        share.brought(now, Block::take(Pace::default(), now, rate, ask));
        for _ in 0..4 {
            assert_eq!(share.turn(now + PLACE_LIFE_US, rate, 32, true), Turn::Now);
        }
        assert_eq!(
            share.turn(now + PLACE_LIFE_US + 1, rate, 32, true),
            Turn::Ask
        );
    }
}
