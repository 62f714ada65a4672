//! The circuit breaker of banks and of webhook endpoints.
//!
//! ```text
//!            enough failures                  probe is due
//!   closed ------------------> open ------------------------> half-open
//!     ^                         ^                                 |
//!     |                         +--------- probe failed ----------+
//!     +------------------------------------ probe succeeded ------+
//! ```
//!
//! [`CircuitBreaker`] is the state, [`BreakerPolicy`] holds the numbers that differ between banks and endpoints, and
//! [`Admission`] says whether a call may be made. Half-open is not stored: it is an open circuit whose probe is due.
//!
//! The rule it keeps: calls of a healthy callee change nothing here, so that they cost no write; and an open circuit
//! always has a time for its next probe, so that no callee is given up for good.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The numbers of a circuit breaker.
#[derive(Clone, Copy, Debug)]
pub struct BreakerPolicy {
    /// Consecutive failures that open the circuit.
    pub open_after_failures: u32,
    /// When the share of failures opens it too; `None` where only consecutive failures count.
    pub failure_share: Option<FailureShare>,
    /// Seconds before each probe, counted from the one before; the last counts for all further ones.
    pub probe_delays_s: [i64; 6],
    /// Percent by which the wait before a probe is longer or shorter at most, so that probes of several callees
    /// and installations do not coincide.
    pub jitter_percent: i64,
}

/// A circuit opens when at least half of the calls within a window failed.
#[derive(Clone, Copy, Debug)]
pub struct FailureShare {
    /// Seconds of the window in which calls are counted.
    pub window_s: i64,
    /// Calls that the window must hold before the share counts.
    pub min_calls: u32,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The circuit is closed: make it.
    Admit,
    /// The circuit is half-open: one call may be made, as a probe.
    Probe,
    /// The circuit is open: make no call.
    Reject {
        /// When the next probe is due.
        until: Timestamp,
    },
}

/// What became of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOutcomes {
    /// Calls that the callee answered, with whatever.
    pub successes: u32,
    /// Calls that it did not answer.
    pub failures: u32,
    /// Seconds that it requested to wait; the longest of them.
    pub retry_after_s: Option<u32>,
}

impl CallOutcomes {
    /// The outcomes of both.
    #[must_use]
    pub fn merge_with(self, other: Self) -> Self {
        // Saturation is harmless: a threshold is reached long before.
        Self {
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            retry_after_s: self.retry_after_s.max(other.retry_after_s),
        }
    }

    /// True where more calls failed than succeeded.
    pub const fn has_mostly_failures(self) -> bool {
        self.failures > self.successes
    }
}

/// Whether calls are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// They are.
    #[default]
    Closed,
    /// Only probes are made.
    Open {
        /// Probes that failed.
        #[serde(rename = "probes")]
        failed_probes: u32,
        /// When the next one is due.
        probe_at: Timestamp,
    },
}

/// The calls of the current window. It begins with a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallWindow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    failures: u32,
    total: u32,
}

/// When the next probe is due, besides the policy's delay.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTiming {
    /// When the call ended from which the delay counts.
    pub now: Timestamp,
    /// The callee requested that nothing is sent before then.
    pub not_before: Option<Timestamp>,
    /// A random number, drawn evenly from all of `u32`.
    pub jitter: u32,
}

/// A circuit breaker. The default is that of a callee that never failed.
///
/// It has no stored form of its own: banks and endpoints store it as part of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    state: CircuitState,
    consecutive_failures: u32,
    failing_since: Option<Timestamp>,
    window: CallWindow,
}

impl CircuitBreaker {
    /// A breaker as it was stored.
    pub const fn from_stored(
        state: CircuitState,
        consecutive_failures: u32,
        failing_since: Option<Timestamp>,
        window: CallWindow,
    ) -> Self {
        Self {
            state,
            consecutive_failures,
            failing_since,
            window,
        }
    }

    /// Whether a call may be made now.
    pub fn admission(&self, now: Timestamp) -> Admission {
        match self.state {
            CircuitState::Closed => Admission::Admit,
            CircuitState::Open { probe_at, .. } if probe_at <= now => Admission::Probe,
            CircuitState::Open { probe_at, .. } => Admission::Reject { until: probe_at },
        }
    }

    /// Whether calls are made.
    pub const fn state(&self) -> CircuitState {
        self.state
    }

    /// True while only probes are made.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, CircuitState::Open { .. })
    }

    /// When the next probe is due, where the circuit is open.
    pub const fn next_probe_at(&self) -> Option<Timestamp> {
        match self.state {
            CircuitState::Open { probe_at, .. } => Some(probe_at),
            CircuitState::Closed => None,
        }
    }

    /// Failures without a success between, as far as they count: at most the policy's threshold.
    pub const fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// When the first of the consecutive failures was; `None` after a success.
    pub const fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// The calls of the current window.
    pub const fn window(&self) -> CallWindow {
        self.window
    }

    /// Reserves the probe that is due for one caller: nobody else makes one until `until`, when the caller must have
    /// crashed.
    pub const fn claim_probe(&mut self, until: Timestamp) {
        if let CircuitState::Open { probe_at, .. } = &mut self.state {
            *probe_at = until;
        }
    }

    /// Counts successful calls in the window. It does not close the circuit: see [`close`](Self::close).
    pub fn count_successes(&mut self, count: u32, at: Timestamp, policy: &BreakerPolicy) {
        self.window.expire(at, policy);
        if self.window.since.is_some() {
            self.window.total = self.window.total.saturating_add(count);
        }
    }

    /// Closes the circuit after a success.
    pub fn close(&mut self) {
        if self.is_open() {
            self.window = CallWindow::default();
        }
        self.state = CircuitState::Closed;
        self.consecutive_failures = 0;
        self.failing_since = None;
    }

    /// Closes the circuit without a success: the next failure opens it again.
    pub fn begin_trial(&mut self, policy: &BreakerPolicy) {
        self.state = CircuitState::Closed;
        self.consecutive_failures = policy.open_after_failures - 1;
        self.window = CallWindow::default();
    }

    /// Counts failed calls that were not probes. True where they open the circuit; where it is open already, they
    /// only delay its probe for as long as the callee requested.
    pub fn record_failures(
        &mut self,
        failures: u32,
        timing: ProbeTiming,
        policy: &BreakerPolicy,
    ) -> bool {
        self.count_failures(failures, timing.now, policy);
        if let CircuitState::Open { probe_at, .. } = &mut self.state {
            *probe_at = timing.not_before.map_or(*probe_at, |it| it.max(*probe_at));
            return false;
        }
        if self.consecutive_failures < policy.open_after_failures
            && !self.window.has_failure_share(policy)
        {
            return false;
        }
        self.state = CircuitState::Open {
            failed_probes: 0,
            probe_at: schedule_probe(0, timing, policy),
        };
        true
    }

    /// Schedules the next probe after one that did not succeed. Where it has not failed either, as when no call was
    /// made, it is made again after the same delay.
    pub fn record_failed_probe(
        &mut self,
        has_failed: bool,
        timing: ProbeTiming,
        policy: &BreakerPolicy,
    ) {
        if let CircuitState::Open {
            failed_probes,
            probe_at,
        } = &mut self.state
        {
            *failed_probes = failed_probes.saturating_add(u32::from(has_failed));
            *probe_at = schedule_probe(*failed_probes, timing, policy);
        }
    }

    /// Counts failed calls without a change of the circuit's state.
    pub fn count_failures(&mut self, failures: u32, at: Timestamp, policy: &BreakerPolicy) {
        self.failing_since.get_or_insert(at);
        self.consecutive_failures = self
            .consecutive_failures
            .saturating_add(failures)
            .min(policy.open_after_failures);
        if policy.failure_share.is_some() {
            self.window.expire(at, policy);
            self.window.since.get_or_insert(at);
            self.window.failures = self.window.failures.saturating_add(failures);
            self.window.total = self.window.total.saturating_add(failures);
        }
    }
}

impl CallWindow {
    /// True where more than half of the calls of a current window failed, with half as many calls as open a circuit.
    pub fn is_mostly_failing(&self, now: Timestamp, policy: &BreakerPolicy) -> bool {
        policy.failure_share.is_some_and(|share| {
            self.is_current(now, share)
                && self.total >= share.min_calls / 2
                && self.failures.saturating_mul(2) > self.total
        })
    }

    /// True where the failures of the window open a circuit.
    fn has_failure_share(&self, policy: &BreakerPolicy) -> bool {
        policy.failure_share.is_some_and(|share| {
            self.total >= share.min_calls && self.failures.saturating_mul(2) >= self.total
        })
    }

    fn is_current(&self, now: Timestamp, share: FailureShare) -> bool {
        self.since
            .is_some_and(|since| now.as_second() - since.as_second() <= share.window_s)
    }

    /// Begins anew once the window is over.
    fn expire(&mut self, now: Timestamp, policy: &BreakerPolicy) {
        if policy
            .failure_share
            .is_some_and(|share| !self.is_current(now, share))
        {
            *self = Self::default();
        }
    }
}

/// When the probe after so many failed ones is due.
fn schedule_probe(failed_probes: u32, timing: ProbeTiming, policy: &BreakerPolicy) -> Timestamp {
    let nth = (failed_probes as usize).min(policy.probe_delays_s.len() - 1);
    let delay_ms = policy.probe_delays_s[nth] * 1000;
    let max_jitter_ms = delay_ms * policy.jitter_percent / 100;
    let jitter_ms = ((i64::from(timing.jitter) * (2 * max_jitter_ms + 1)) >> 32) - max_jitter_ms;
    let due = saturating_later(
        timing.now,
        SignedDuration::from_millis(delay_ms + jitter_ms),
    );
    timing.not_before.map_or(due, |it| it.max(due))
}

/// `at` and so much later. A clock within minutes of the year 9999 gets the last timestamp there is.
pub(crate) fn saturating_later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        open_after_failures: 3,
        failure_share: None,
        probe_delays_s: [30, 60, 120, 240, 480, 600],
        jitter_percent: 20,
    };

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn timing_at(second: i64, jitter: u32) -> ProbeTiming {
        ProbeTiming {
            now: timestamp_at(second),
            not_before: None,
            jitter,
        }
    }

    #[test]
    fn a_breaker_goes_from_closed_over_open_and_half_open_back_to_closed() {
        let no_jitter = 1 << 31;
        let mut breaker = CircuitBreaker::default();
        assert!(!breaker.record_failures(2, timing_at(0, no_jitter), &POLICY));
        assert_eq!(breaker.admission(timestamp_at(0)), Admission::Admit);
        assert!(breaker.record_failures(1, timing_at(1, no_jitter), &POLICY));
        let until = timestamp_at(31);
        assert_eq!(
            breaker.admission(timestamp_at(30)),
            Admission::Reject { until }
        );
        assert_eq!(breaker.admission(until), Admission::Probe);
        breaker.claim_probe(timestamp_at(151));
        assert_eq!(
            breaker.admission(until),
            Admission::Reject {
                until: timestamp_at(151)
            }
        );
        breaker.record_failed_probe(true, timing_at(31, no_jitter), &POLICY);
        assert_eq!(breaker.next_probe_at(), Some(timestamp_at(91)));
        breaker.close();
        assert_eq!(breaker, CircuitBreaker::default());
    }

    #[test]
    fn a_callee_can_delay_its_probe() {
        let asking = |second, until| ProbeTiming {
            not_before: Some(timestamp_at(until)),
            ..timing_at(second, 1 << 31)
        };
        let mut breaker = CircuitBreaker::default();
        breaker.record_failures(3, asking(0, 500), &POLICY);
        assert_eq!(breaker.next_probe_at(), Some(timestamp_at(500)));
        breaker.record_failures(1, asking(1, 100), &POLICY);
        assert_eq!(breaker.next_probe_at(), Some(timestamp_at(500)));
        breaker.record_failures(1, asking(1, 700), &POLICY);
        assert_eq!(breaker.next_probe_at(), Some(timestamp_at(700)));
        breaker.record_failed_probe(false, asking(700, 0), &POLICY);
        assert_eq!(breaker.next_probe_at(), Some(timestamp_at(730)));
    }

    proptest! {
        #[test]
        fn the_jitter_is_within_its_bounds(jitter: u32, failed_probes in 0..9_u32) {
            let due = schedule_probe(failed_probes, timing_at(0, jitter), &POLICY);
            let wait_ms = due.duration_since(timestamp_at(0)).as_millis();
            let plain_ms = i128::from(POLICY.probe_delays_s[(failed_probes as usize).min(5)]) * 1000;
            prop_assert!((wait_ms - plain_ms).abs() * 100 <= plain_ms * i128::from(POLICY.jitter_percent));
        }
    }
}
