//! The circuit breaker of a bank: a bank that is down is not called by all of its records in turn, but
//! asked by one of them now and then whether it is back.
//!
//! ```text
//! closed --- OPEN_AFTER records without an answer ---> open --- one probe at a time ---> closed
//! ```
//!
//! What counts is whether the bank answered at all: a refusal, a spent quota and nonsense are answers. A
//! chunk that was mostly answered changes nothing here, so that it costs no write.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        fault::{BankFault, FaultClass},
        snapshot::Snapshot,
    },
    resilience::failure_state::FailureState,
};

/// Records that found the bank down, without one between that found it up, until the circuit opens.
pub const OPEN_AFTER_FAILURES: u32 = 8;

/// Seconds before each probe, from the one before; the last counts for all further ones.
pub const PROBE_DELAYS_S: [i64; 6] = [30, 60, 120, 240, 480, 600];

/// A wait before a probe is longer or shorter by so many percent at most, so that banks and
/// installations do not probe in step.
pub const JITTER_PERCENT: i64 = 20;

/// The longest that a `Retry-After` of a bank that is down puts off a probe, in seconds.
pub const MAX_PROBE_DELAY_S: u32 = 3_600;

/// How long a probe may take; after that whoever made it has crashed, and another is made.
pub const PROBE_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// Whether a bank is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BankCircuit {
    #[default]
    Closed,
    Open {
        /// Probes that failed.
        #[serde(rename = "probes")]
        failed_probes: u32,
        /// When the next one is due.
        probe_at: Timestamp,
    },
}

/// The circuit breaker of a bank. The default is that of one that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankBreaker {
    #[serde(default)]
    circuit: BankCircuit,
    /// Records in a row that found the bank down.
    #[serde(default)]
    #[serde(rename = "down")]
    consecutive_failures: u32,
    /// When the first of them did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "since")]
    failing_since: Option<Timestamp>,
}

/// What may be asked of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    Admit,
    /// One record's refresh, by whoever [claims](Breaker::probing) it first.
    Probe,
    /// Nothing.
    Reject {
        /// When the next probe is due.
        until: Timestamp,
    },
}

/// How a bank does, as its records find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BankStatus {
    /// It answers.
    #[default]
    Healthy,
    /// The last records found it down, too few to be sure.
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

/// What records heard of their bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOutcomes {
    /// Records that it answered something.
    pub successes: u32,
    /// Records that it did not answer.
    pub failures: u32,
    /// Seconds it asked to be left alone, the most of them.
    pub retry_after_s: Option<u32>,
}

impl CallOutcomes {
    /// What one record heard: nothing where it asked nothing, or where the fault is our own.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        let mut heard = Self::default();
        let mut answered = false;
        for account in &snapshot.accounts {
            let balance = account.balance.as_ref().map(|it| it.as_ref().err());
            let rows = account.transactions.as_ref().map(|it| it.as_ref().err());
            for fault in [balance, rows].into_iter().flatten() {
                match fault {
                    Some(fault) if fault.class == FaultClass::BankUnavailable => {
                        heard.failures = 1;
                        heard.retry_after_s = heard.retry_after_s.max(fault.retry_after_s);
                    }
                    Some(fault) if fault.class == FaultClass::Internal => {}
                    _ => answered = true,
                }
            }
        }
        if answered {
            heard = Self {
                successes: 1,
                ..Self::default()
            };
        }
        heard
    }

    /// What both heard.
    #[must_use]
    pub fn merge_with(self, other: Self) -> Self {
        Self {
            successes: self.successes.saturating_add(other.successes),
            failures: self.failures.saturating_add(other.failures),
            retry_after_s: self.retry_after_s.max(other.retry_after_s),
        }
    }

    /// True where most of them found the bank down.
    const fn has_mostly_failures(self) -> bool {
        self.failures > self.successes
    }
}

impl BankBreaker {
    /// What may be asked of the bank now.
    pub fn admission(&self, now: Timestamp) -> Admission {
        match self.circuit {
            BankCircuit::Closed => Admission::Admit,
            BankCircuit::Open { probe_at, .. } if probe_at <= now => Admission::Probe,
            BankCircuit::Open { probe_at, .. } => Admission::Reject { until: probe_at },
        }
    }

    /// The breaker while the probe that is due now is made: nobody else makes one, unless this one
    /// takes longer than [`PROBE_FOR`].
    #[must_use]
    pub fn claim_probe(self, now: Timestamp) -> Self {
        let BankCircuit::Open {
            failed_probes: probes,
            ..
        } = self.circuit
        else {
            return self;
        };
        let probe_at = now.saturating_add(PROBE_TIMEOUT).unwrap_or(now);
        Self {
            circuit: BankCircuit::Open {
                failed_probes: probes,
                probe_at,
            },
            ..self
        }
    }

    /// The breaker after records that were not probes. `jitter` is drawn evenly from all of `u32`.
    ///
    /// While it is open, those that were under way when it opened find the bank down again, which is no
    /// news, or up, which ends it.
    #[must_use]
    pub fn after_calls(self, outcomes: CallOutcomes, now: Timestamp, jitter: u32) -> Self {
        if !outcomes.has_mostly_failures() {
            return if outcomes.successes > 0 {
                Self::default()
            } else {
                self
            };
        }
        if self.is_open() {
            return self;
        }
        let down = self.consecutive_failures.saturating_add(outcomes.failures);
        Self {
            circuit: if down >= OPEN_AFTER_FAILURES {
                BankCircuit::Open {
                    failed_probes: 0,
                    probe_at: schedule_probe(0, outcomes.retry_after_s, now, jitter),
                }
            } else {
                BankCircuit::Closed
            },
            consecutive_failures: down.min(OPEN_AFTER_FAILURES),
            failing_since: self.failing_since.or(Some(now)),
        }
    }

    /// The breaker after a probe; one that heard nothing is made again.
    #[must_use]
    pub fn after_probe(self, outcomes: CallOutcomes, now: Timestamp, jitter: u32) -> Self {
        let BankCircuit::Open {
            failed_probes: probes,
            ..
        } = self.circuit
        else {
            return self;
        };
        if outcomes.successes > 0 {
            return Self::default();
        }
        let probes = if outcomes.failures > 0 {
            probes.saturating_add(1)
        } else {
            probes
        };
        Self {
            circuit: BankCircuit::Open {
                failed_probes: probes,
                probe_at: schedule_probe(probes, outcomes.retry_after_s, now, jitter),
            },
            ..self
        }
    }

    /// True where a tick whose chunks are worked off by `end` leaves a record out: the bank is down and
    /// is not asked before then, and the record's app was told that something is wrong.
    pub fn skips_record(&self, failure_state: Option<&FailureState>, end: Timestamp) -> bool {
        matches!(self.circuit, BankCircuit::Open { probe_at, .. } if probe_at > end)
            && failure_state.is_some_and(FailureState::is_reported)
    }

    /// True while the bank is not called but for probes.
    pub const fn is_open(&self) -> bool {
        matches!(self.circuit, BankCircuit::Open { .. })
    }

    /// How the bank does.
    pub const fn bank_status(&self) -> BankStatus {
        match self.circuit {
            BankCircuit::Open { .. } => BankStatus::Down,
            BankCircuit::Closed if self.consecutive_failures > 0 => BankStatus::Degraded,
            BankCircuit::Closed => BankStatus::Healthy,
        }
    }

    /// Since when it does not do well.
    pub const fn failing_since(&self) -> Option<Timestamp> {
        self.failing_since
    }

    /// When it is asked next whether it is back, where it is down.
    pub const fn next_probe_at(&self) -> Option<Timestamp> {
        match self.circuit {
            BankCircuit::Open { probe_at, .. } => Some(probe_at),
            BankCircuit::Closed => None,
        }
    }
}

/// The fault that a record is given in the place of a call to a bank that is down until `until`.
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

fn schedule_probe(
    failed_probes: u32,
    retry_after_s: Option<u32>,
    now: Timestamp,
    jitter: u32,
) -> Timestamp {
    let nth = (failed_probes as usize).min(PROBE_DELAYS_S.len() - 1);
    let wait_ms = PROBE_DELAYS_S[nth] * 1000;
    let most_ms = wait_ms * JITTER_PERCENT / 100;
    let more_ms = ((i64::from(jitter) * (2 * most_ms + 1)) >> 32) - most_ms;
    let asked_ms = i64::from(retry_after_s.unwrap_or(0).min(MAX_PROBE_DELAY_S)) * 1000;
    let wait = SignedDuration::from_millis((wait_ms + more_ms).max(asked_ms));
    now.saturating_add(wait).unwrap_or(now)
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
    fn it_opens_after_records_in_a_row_and_an_answer_between_begins_the_count_anew() {
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
    fn a_chunk_counts_by_its_share() {
        let check = |up, down, expected| {
            let heard = CallOutcomes {
                successes: up,
                failures: down,
                retry_after_s: None,
            };
            let after = BankBreaker::default().after_calls(heard, timestamp_at(0), NO_JITTER);
            assert_eq!(after.bank_status(), expected, "{up} up, {down} down");
        };
        check(0, 0, BankStatus::Healthy);
        check(50, 50, BankStatus::Healthy);
        check(99, 1, BankStatus::Healthy);
        check(3, 7, BankStatus::Degraded);
        check(10, 11, BankStatus::Down);
    }

    #[test]
    fn probes_wait_longer_each_time_and_as_long_as_the_bank_says() {
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
        let asked = CallOutcomes {
            retry_after_s: Some(1_800),
            ..ONE_FAILURE
        };
        let put_off = breaker
            .after_probe(asked, now, NO_JITTER)
            .next_probe_at()
            .unwrap();
        assert_eq!(put_off.duration_since(now).as_secs(), 1_800);
    }

    #[test]
    fn one_probe_is_made_at_a_time_and_a_crash_of_it_is_survived() {
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

    proptest! {
        /// Whatever was heard, the bank is asked again within an hour, answers close the circuit, and
        /// what a healthy bank answers changes nothing.
        #[test]
        fn no_breaker_is_a_trap(
            heard in prop::collection::vec((0..20_u32, 0..20_u32, any::<Option<u32>>(), any::<bool>()), 0..60),
            jitter: u32,
        ) {
            let (mut breaker, mut now) = (BankBreaker::default(), timestamp_at(0));
            for (up, down, retry_after_s, probe) in heard {
                let heard = CallOutcomes { successes: up, failures: down, retry_after_s };
                let before = breaker;
                breaker = if probe {
                    breaker.claim_probe(now).after_probe(heard, now, jitter)
                } else {
                    breaker.after_calls(heard, now, jitter)
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

        #[test]
        fn the_jitter_is_within_its_bounds(jitter: u32, probes in 0..9_u32) {
            let wait_ms = schedule_probe(probes, None, timestamp_at(0), jitter).duration_since(timestamp_at(0)).as_millis();
            let plain_ms = i128::from(PROBE_DELAYS_S[(probes as usize).min(5)]) * 1000;
            prop_assert!((wait_ms - plain_ms).abs() * 100 <= plain_ms * i128::from(JITTER_PERCENT));
        }
    }
}
