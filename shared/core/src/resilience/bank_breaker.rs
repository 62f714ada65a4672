//! The circuit breaker of a bank: while a bank is down, its records do not call it; one of them probes it now and
//! then.
//!
//! [`BankBreaker`] is a [`CircuitBreaker`] with the numbers for banks and their stored form. What counts is whether the
//! bank answered at all: a rejection, a spent quota and a malformed response are answers. A chunk that was mostly
//! answered changes nothing here, so that it costs no write.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use super::circuit_breaker::{Admission, CallOutcomes};
use super::circuit_breaker::{
    BreakerPolicy, CallWindow, CircuitBreaker, CircuitState, ProbeTiming, saturating_later,
};
use crate::{
    model::{
        fault::{BankFault, FaultClass},
        snapshot::Snapshot,
    },
    resilience::failure_state::FailureState,
};

/// Consecutive records that found the bank down until the circuit opens.
pub const OPEN_AFTER_FAILURES: u32 = 8;

/// The longest that a `Retry-After` of a bank that is down delays a probe, in seconds.
pub const MAX_PROBE_DELAY_S: u32 = 3_600;

/// How long a probe may take. Whoever made it has crashed after that, and another is made.
pub const PROBE_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// The numbers of a bank's breaker.
const BANK_POLICY: BreakerPolicy = BreakerPolicy {
    open_after_failures: OPEN_AFTER_FAILURES,
    failure_share: None,
    probe_delays_s: [30, 60, 120, 240, 480, 600],
    jitter_percent: 20,
};

/// The circuit breaker of a bank. The default is that of one that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredBankBreaker", into = "StoredBankBreaker")]
pub struct BankBreaker(CircuitBreaker);

/// The breaker as it is stored. A write is conditional on this text, so its fields and their order stay.
#[derive(Serialize, Deserialize)]
struct StoredBankBreaker {
    #[serde(default)]
    circuit: CircuitState,
    #[serde(default)]
    down: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl From<StoredBankBreaker> for BankBreaker {
    fn from(stored: StoredBankBreaker) -> Self {
        Self(CircuitBreaker::from_stored(
            stored.circuit,
            stored.down,
            stored.since,
            CallWindow::default(),
        ))
    }
}

impl From<BankBreaker> for StoredBankBreaker {
    fn from(breaker: BankBreaker) -> Self {
        Self {
            circuit: breaker.0.state(),
            down: breaker.0.consecutive_failures(),
            since: breaker.0.failing_since(),
        }
    }
}

/// Whether a bank answers, as its records find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BankStatus {
    /// It answers.
    #[default]
    Healthy,
    /// The last records found it down, too few to open the circuit.
    Degraded,
    /// It is down: its circuit is open.
    Down,
}

impl BankStatus {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
        }
    }
}

impl CallOutcomes {
    /// What one record's refresh says of its bank: one success or one failure; neither where no call was made or
    /// where the fault is our own.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        let mut outcomes = Self::default();
        for account in &snapshot.accounts {
            let balance = account.balance.as_ref().map(|it| it.as_ref().err());
            let rows = account.transactions.as_ref().map(|it| it.as_ref().err());
            for fault in [balance, rows].into_iter().flatten() {
                match fault {
                    Some(fault) if fault.class == FaultClass::BankUnavailable => {
                        outcomes.failures = 1;
                        outcomes.retry_after_s = outcomes.retry_after_s.max(fault.retry_after_s);
                    }
                    Some(fault) if fault.class == FaultClass::Internal => {}
                    // One answer is enough: the bank is up.
                    _ => {
                        return Self {
                            successes: 1,
                            ..Self::default()
                        };
                    }
                }
            }
        }
        outcomes
    }
}

impl BankBreaker {
    /// Whether the bank may be called now.
    pub fn admission(&self, now: Timestamp) -> Admission {
        self.0.admission(now)
    }

    /// The breaker while the probe that is due now is made: nobody else makes one, unless this one takes longer than
    /// [`PROBE_TIMEOUT`].
    #[must_use]
    pub fn claim_probe(mut self, now: Timestamp) -> Self {
        self.0.claim_probe(saturating_later(now, PROBE_TIMEOUT));
        self
    }

    /// The breaker after records that were not probes. `jitter` is drawn evenly from all of `u32`.
    ///
    /// While it is open, calls that were under way when it opened may fail, which changes nothing, or succeed, which
    /// closes it.
    #[must_use]
    pub fn after_calls(mut self, outcomes: CallOutcomes, now: Timestamp, jitter: u32) -> Self {
        if outcomes.has_mostly_failures() {
            if !self.is_open() {
                let timing = probe_timing(outcomes, now, jitter);
                self.0
                    .record_failures(outcomes.failures, timing, &BANK_POLICY);
            }
        } else if outcomes.successes > 0 {
            self.0.close();
        }
        self
    }

    /// The breaker after a probe. One whose record made no call is made again.
    #[must_use]
    pub fn after_probe(mut self, outcomes: CallOutcomes, now: Timestamp, jitter: u32) -> Self {
        if !self.is_open() {
            return self;
        }
        if outcomes.successes > 0 {
            self.0.close();
        } else {
            let timing = probe_timing(outcomes, now, jitter);
            self.0
                .record_failed_probe(outcomes.failures > 0, timing, &BANK_POLICY);
        }
        self
    }

    /// True where a tick whose chunks are finished by `end` leaves a record out: the bank is not called before then,
    /// and the record's app was informed that something is wrong.
    pub fn skips_record(&self, failure_state: Option<&FailureState>, end: Timestamp) -> bool {
        self.next_probe_at().is_some_and(|probe_at| probe_at > end)
            && failure_state.is_some_and(FailureState::is_reported)
    }

    /// True while the bank is called by probes only.
    pub const fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Whether the bank answers.
    pub const fn bank_status(&self) -> BankStatus {
        if self.0.is_open() {
            BankStatus::Down
        } else if self.0.consecutive_failures() > 0 {
            BankStatus::Degraded
        } else {
            BankStatus::Healthy
        }
    }

    /// Since when it has not been healthy.
    pub const fn failing_since(&self) -> Option<Timestamp> {
        self.0.failing_since()
    }

    /// When the next probe is due, where the bank is down.
    pub const fn next_probe_at(&self) -> Option<Timestamp> {
        self.0.next_probe_at()
    }
}

/// The fault that a record gets instead of a call while its bank is down; the next probe is due at `until`.
pub fn bank_down_fault(until: Timestamp, now: Timestamp) -> BankFault {
    let wait_s = until.duration_since(now).as_secs().max(0);
    BankFault {
        retry_after_s: u32::try_from(wait_s).ok(),
        ..BankFault::new(
            FaultClass::BankUnavailable,
            "the bank is down and was not asked",
        )
    }
}

fn probe_timing(outcomes: CallOutcomes, now: Timestamp, jitter: u32) -> ProbeTiming {
    let requested_s = outcomes.retry_after_s.map(|it| it.min(MAX_PROBE_DELAY_S));
    ProbeTiming {
        now,
        not_before: requested_s
            .map(|wait_s| saturating_later(now, SignedDuration::from_secs(wait_s.into()))),
        jitter,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE_SUCCESS: CallOutcomes = CallOutcomes {
        successes: 1,
        failures: 0,
        retry_after_s: None,
    };
    const ONE_FAILURE: CallOutcomes = CallOutcomes {
        successes: 0,
        failures: 1,
        retry_after_s: None,
    };
    const NO_JITTER: u32 = 1 << 31;

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn open_breaker(now: Timestamp) -> BankBreaker {
        (0..OPEN_AFTER_FAILURES).fold(BankBreaker::default(), |it, _| {
            it.after_calls(ONE_FAILURE, now, NO_JITTER)
        })
    }

    #[test]
    fn a_circuit_opens_after_consecutive_failures_and_one_answer_resets_the_count() {
        let mut breaker = BankBreaker::default();
        for n in 1..OPEN_AFTER_FAILURES {
            breaker = breaker.after_calls(ONE_FAILURE, timestamp_at(n.into()), NO_JITTER);
            assert_eq!(breaker.admission(timestamp_at(100)), Admission::Admit);
            assert_eq!(breaker.bank_status(), BankStatus::Degraded);
        }
        assert_eq!(
            breaker.after_calls(ONE_SUCCESS, timestamp_at(9), NO_JITTER),
            BankBreaker::default()
        );
        let open = breaker.after_calls(ONE_FAILURE, timestamp_at(9), NO_JITTER);
        assert_eq!(
            (open.bank_status(), open.failing_since()),
            (BankStatus::Down, Some(timestamp_at(1)))
        );
        assert_eq!(
            open.admission(timestamp_at(10)),
            Admission::Reject {
                until: timestamp_at(39)
            }
        );
        assert_eq!(open.admission(timestamp_at(39)), Admission::Probe);
    }

    #[test]
    fn a_chunk_counts_by_the_majority_of_its_records() {
        let check = |up, down, expected| {
            let outcomes = CallOutcomes {
                successes: up,
                failures: down,
                retry_after_s: None,
            };
            let after = BankBreaker::default().after_calls(outcomes, timestamp_at(0), NO_JITTER);
            assert_eq!(after.bank_status(), expected, "{up} up, {down} down");
        };
        check(0, 0, BankStatus::Healthy);
        check(50, 50, BankStatus::Healthy);
        check(99, 1, BankStatus::Healthy);
        check(3, 7, BankStatus::Degraded);
        check(10, 11, BankStatus::Down);
    }

    #[test]
    fn probes_wait_longer_each_time_and_as_long_as_the_bank_requests() {
        let (mut breaker, mut now, mut waits) =
            (open_breaker(timestamp_at(0)), timestamp_at(0), Vec::new());
        for _ in 0..8 {
            let due = breaker.next_probe_at().unwrap();
            waits.push(due.duration_since(now).as_secs());
            now = due;
            breaker = breaker
                .claim_probe(now)
                .after_probe(ONE_FAILURE, now, NO_JITTER);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600, 600]);
        let with_wait = CallOutcomes {
            retry_after_s: Some(1_800),
            ..ONE_FAILURE
        };
        let delayed = breaker
            .after_probe(with_wait, now, NO_JITTER)
            .next_probe_at()
            .unwrap();
        assert_eq!(delayed.duration_since(now).as_secs(), 1_800);
    }

    #[test]
    fn one_probe_is_made_at_a_time_and_another_follows_if_it_crashes() {
        let claimed = open_breaker(timestamp_at(0)).claim_probe(timestamp_at(30));
        assert_eq!(
            claimed.admission(timestamp_at(31)),
            Admission::Reject {
                until: timestamp_at(150)
            }
        );
        assert_eq!(claimed.admission(timestamp_at(150)), Admission::Probe);
        assert_eq!(
            claimed.after_probe(ONE_SUCCESS, timestamp_at(31), NO_JITTER),
            BankBreaker::default()
        );
        // What was under way when it opened is no probe.
        assert_eq!(
            claimed.after_calls(ONE_FAILURE, timestamp_at(31), NO_JITTER),
            claimed
        );
        assert_eq!(
            claimed.after_calls(ONE_SUCCESS, timestamp_at(31), NO_JITTER),
            BankBreaker::default()
        );
    }

    #[test]
    fn the_stored_form_stays() {
        for (breaker, stored) in [
            (BankBreaker::default(), r#"{"circuit":"closed","down":0}"#),
            (
                BankBreaker::default().after_calls(ONE_FAILURE, timestamp_at(0), NO_JITTER),
                r#"{"circuit":"closed","down":1,"since":"2027-01-15T08:00:00Z"}"#,
            ),
            (
                open_breaker(timestamp_at(0)),
                r#"{"circuit":{"open":{"probes":0,"probe_at":"2027-01-15T08:00:30Z"}},"down":8,"since":"2027-01-15T08:00:00Z"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&breaker).unwrap(), stored);
            assert_eq!(
                serde_json::from_str::<BankBreaker>(stored).unwrap(),
                breaker
            );
        }
    }

    proptest! {
        /// Whatever the outcomes, the bank is probed within an hour, an answer closes the circuit, and
        /// calls of a healthy bank change nothing.
        #[test]
        fn no_breaker_is_a_trap(
            calls in prop::collection::vec((0..20_u32, 0..20_u32, any::<Option<u32>>(), any::<bool>()), 0..60),
            jitter: u32,
        ) {
            let (mut breaker, mut now) = (BankBreaker::default(), timestamp_at(0));
            for (up, down, retry_after_s, probe) in calls {
                let outcomes = CallOutcomes { successes: up, failures: down, retry_after_s };
                let before = breaker;
                breaker = if probe {
                    breaker.claim_probe(now).after_probe(outcomes, now, jitter)
                } else {
                    breaker.after_calls(outcomes, now, jitter)
                };
                if before == BankBreaker::default() && up >= down {
                    prop_assert_eq!(breaker, before, "a write for nothing");
                }
                if let Admission::Reject { until } = breaker.admission(now) {
                    prop_assert!(until.duration_since(now).as_secs() <= i64::from(MAX_PROBE_DELAY_S));
                    prop_assert!(probe || until.duration_since(now).as_secs() >= 0);
                }
                prop_assert_eq!(breaker.after_calls(ONE_SUCCESS, now, jitter), BankBreaker::default());
                prop_assert_eq!(breaker.after_probe(ONE_SUCCESS, now, jitter).bank_status() == BankStatus::Down, false);
                let json = serde_json::to_string(&breaker).unwrap();
                prop_assert_eq!(serde_json::from_str::<BankBreaker>(&json).unwrap(), breaker);
                now += SignedDuration::from_secs(7);
            }
        }
    }
}
