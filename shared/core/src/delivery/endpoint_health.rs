//! The health of an endpoint: when its events are sent, when they are parked, and when it is disabled.
//!
//! [`EndpointHealth`] is what is known of an endpoint, [`EndpointAdmission`] what is done with an event for it, and
//! [`HealthNotice`] what its app is informed of.
//!
//! A flaky endpoint is retried event by event ([`crate::delivery::retry`]). One that is down is not: after
//! [`OPEN_AFTER_FAILURES`] consecutive failures, or when half of the attempts of five minutes failed, its
//! [`CircuitBreaker`] opens. Then events for it are parked, and single probes, with the oldest of them, test whether it
//! is back: a dead endpoint costs attempts by the hour and not by the event. Nothing that is parked is dropped.
//!
//! The rule it keeps: a success of a healthy endpoint changes nothing here, so that it costs no write.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::{
        attempt::AttemptResponse,
        retry::{AttemptOutcome, MAX_RETRY_AFTER_S},
    },
    resilience::circuit_breaker::{
        Admission, BreakerPolicy, CircuitBreaker, FailureShare, ProbeTiming, saturating_later,
    },
};

/// Consecutive failures that open the circuit.
pub const OPEN_AFTER_FAILURES: u32 = 10;

/// Attempts that a window must hold before the share of failures counts.
pub const MIN_WINDOW_ATTEMPTS: u32 = 20;

/// Seconds of the window in which failures are counted.
pub const WINDOW_S: i64 = 5 * 60;

/// Seconds before each probe, counted from the one before; the last counts for all further ones.
pub const PROBE_DELAYS_S: [i64; 6] = [60, 120, 300, 600, 900, 1800];

/// Days of failing after which notice is given.
pub const FAILING_NOTICE_DAYS: [u8; 2] = [1, 3];

/// Days of failing after which an endpoint is disabled.
pub const DISABLE_AFTER_DAYS: u8 = 5;

/// Failures that an endpoint must have before it is disabled for failing.
pub const MIN_DISABLE_FAILURES: u32 = 3;

/// Days an event stays parked; then it is exhausted, and can still be replayed.
pub const MAX_PARKED_DAYS: i64 = 14;

/// Events parked for one endpoint at most; more are exhausted at once, and can still be replayed.
pub const MAX_PARKED_EVENTS: u64 = 1_000_000;

const DAY_S: i64 = 24 * 3600;

/// The numbers of an endpoint's breaker.
const ENDPOINT_POLICY: BreakerPolicy = BreakerPolicy {
    open_after_failures: OPEN_AFTER_FAILURES,
    failure_share: Some(FailureShare {
        window_s: WINDOW_S,
        min_calls: MIN_WINDOW_ATTEMPTS,
    }),
    probe_delays_s: PROBE_DELAYS_S,
    jitter_percent: 0,
};

/// How an endpoint is doing, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointStatus {
    /// Its last attempt succeeded, or it never had one.
    Healthy,
    /// Its last attempts failed; events are still sent.
    Failing,
    /// Its circuit is open: events are parked until a probe succeeds.
    Parked,
    /// It is disabled: events are parked until its app enables it.
    Disabled,
}

impl EndpointStatus {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Parked => "parked",
            Self::Disabled => "disabled",
        }
    }
}

/// Why an endpoint is disabled. The serde names are stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisableReason {
    /// It responded with status 410.
    Gone,
    /// It responded with `webhook-delivery: disable`.
    Receiver,
    /// It failed for [`DISABLE_AFTER_DAYS`] days.
    Failing,
    /// Its app disabled it by the API.
    App,
}

impl DisableReason {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Receiver => "receiver",
            Self::Failing => "failing",
            Self::App => "app",
        }
    }
}

/// An endpoint that is disabled: everything for it is parked until its app enables it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disablement {
    /// Since when.
    #[serde(rename = "at")]
    pub disabled_at: Timestamp,
    /// Why.
    #[serde(rename = "by")]
    pub reason: DisableReason,
}

/// Events that were parked and exhausted before the endpoint was back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventGap {
    /// When the first of them was committed.
    pub from: Timestamp,
    /// When the last of them was committed.
    pub until: Timestamp,
    /// How many.
    pub events: u64,
}

/// The health of an endpoint. The default is that of one that never failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// Whether events are sent to it, and the failures that decide it.
    #[serde(flatten, with = "stored_breaker")]
    breaker: CircuitBreaker,
    /// Set while it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disablement>,
    /// It requested by `Retry-After` that nothing is sent before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Failures without a success between. Unlike those of the breaker, they are counted without a cap.
    #[serde(default)]
    pub failures: u32,
    /// When it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<Timestamp>,
    /// What the last failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<AttemptOutcome>,
    /// Days of failing that notice was given of.
    #[serde(default)]
    noticed_days: u8,
    /// Events that were exhausted while they were parked, since the endpoint last recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<EventGap>,
}

/// The breaker as part of the stored health.
mod stored_breaker {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::resilience::circuit_breaker::{CallWindow, CircuitBreaker, CircuitState};

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum StoredCircuit {
        #[default]
        Closed,
        Open {
            /// Releases before this one require it; nothing reads its value.
            since: Timestamp,
            probes: u32,
            probe_at: Timestamp,
        },
    }

    #[derive(Serialize, Deserialize)]
    struct StoredBreaker {
        #[serde(default)]
        circuit: StoredCircuit,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failing_since: Option<Timestamp>,
        #[serde(default)]
        consecutive: u32,
        #[serde(default)]
        window: CallWindow,
    }

    pub(super) fn serialize<S: Serializer>(
        breaker: &CircuitBreaker,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let circuit = match breaker.state() {
            CircuitState::Closed => StoredCircuit::Closed,
            CircuitState::Open {
                failed_probes,
                probe_at,
            } => StoredCircuit::Open {
                since: breaker.failing_since().unwrap_or(probe_at),
                probes: failed_probes,
                probe_at,
            },
        };
        let stored = StoredBreaker {
            circuit,
            failing_since: breaker.failing_since(),
            consecutive: breaker.consecutive_failures(),
            window: breaker.window(),
        };
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CircuitBreaker, D::Error> {
        let stored = StoredBreaker::deserialize(deserializer)?;
        let state = match stored.circuit {
            StoredCircuit::Closed => CircuitState::Closed,
            StoredCircuit::Open {
                probes, probe_at, ..
            } => CircuitState::Open {
                failed_probes: probes,
                probe_at,
            },
        };
        Ok(CircuitBreaker::from_stored(
            state,
            stored.consecutive,
            stored.failing_since,
            stored.window,
        ))
    }
}

/// A failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// When it ended.
    pub failed_at: Timestamp,
    /// Its class.
    pub outcome: AttemptOutcome,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    /// Seconds the receiver requested to wait.
    pub retry_after_s: Option<u32>,
    /// It responded with `webhook-delivery: disable`.
    pub requests_disable: bool,
}

impl AttemptFailure {
    /// The failure that a response is; `None` where the receiver works and goes on taking events.
    pub fn from_response(response: &AttemptResponse, at: Timestamp) -> Option<Self> {
        let requests_disable = response.disables_endpoint();
        (requests_disable || !response.is_from_working_receiver()).then_some(Self {
            failed_at: at,
            outcome: response.outcome,
            status: response.status,
            retry_after_s: response.retry_after_s,
            requests_disable,
        })
    }
}

/// What an app is informed of about an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HealthNotice {
    /// It has been failing for so many days.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Whole days.
        days: u8,
    },
    /// Its circuit opened: events for it are parked from now on.
    Parked {
        /// Since when it had been failing.
        since: Timestamp,
    },
    /// It was disabled.
    Disabled {
        /// Why.
        #[serde(rename = "by")]
        reason: DisableReason,
    },
    /// Events are sent to it again.
    Recovered {
        /// Since when it had been failing.
        since: Timestamp,
        /// Events that were exhausted while they were parked for it.
        gap: Option<EventGap>,
    },
}

/// What is done with an event for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointAdmission {
    /// It is sent.
    Send,
    /// The endpoint requested a pause: it is sent later.
    Wait {
        /// When the pause is over.
        until: Timestamp,
    },
    /// It is parked.
    Park,
}

impl EndpointHealth {
    /// What is done with an event now.
    pub fn admission(&self, now: Timestamp) -> EndpointAdmission {
        if self.disabled.is_some() || self.breaker.admission(now) != Admission::Admit {
            return EndpointAdmission::Park;
        }
        match self.paused_until {
            Some(until) if until > now => EndpointAdmission::Wait { until },
            _ => EndpointAdmission::Send,
        }
    }

    /// How the endpoint is doing.
    pub const fn status(&self) -> EndpointStatus {
        if self.disabled.is_some() {
            EndpointStatus::Disabled
        } else if self.breaker.is_open() {
            EndpointStatus::Parked
        } else if self.breaker.failing_since().is_some() {
            EndpointStatus::Failing
        } else {
            EndpointStatus::Healthy
        }
    }

    /// The endpoint's circuit breaker.
    pub const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// When it began to fail; `None` where its last attempt succeeded.
    pub const fn failing_since(&self) -> Option<Timestamp> {
        self.breaker.failing_since()
    }

    /// True where a success would change something.
    pub const fn is_failing(&self) -> bool {
        self.breaker.failing_since().is_some() || self.breaker.is_open()
    }

    /// True where more than half of the recent attempts failed.
    pub fn is_mostly_failing(&self, now: Timestamp) -> bool {
        self.breaker
            .window()
            .is_mostly_failing(now, &ENDPOINT_POLICY)
    }

    /// When the next probe is due, where the circuit is open and the endpoint not disabled.
    pub const fn next_probe_at(&self) -> Option<Timestamp> {
        match self.disabled {
            None => self.breaker.next_probe_at(),
            Some(_) => None,
        }
    }

    /// Counts successful attempts, the last of them at `at`.
    pub fn record_successes(&mut self, count: u32, at: Timestamp) -> Option<HealthNotice> {
        if count == 0 {
            return None;
        }
        self.breaker.count_successes(count, at, &ENDPOINT_POLICY);
        // A success before the last failure does not say that the endpoint is back.
        if self.last_failure_at.is_some_and(|failed| at < failed) {
            return None;
        }
        let since = self.breaker.failing_since().unwrap_or(at);
        let is_reported = self.noticed_days > 0 || self.breaker.is_open();
        self.breaker.close();
        self.failures = 0;
        self.noticed_days = 0;
        let gap = if is_reported { self.gap.take() } else { None };
        is_reported.then_some(HealthNotice::Recovered { since, gap })
    }

    /// Counts a failed attempt. The notices are in the order in which they hold.
    pub fn record_failure(&mut self, failure: &AttemptFailure) -> Vec<HealthNotice> {
        let at = failure.failed_at;
        let since = self.breaker.failing_since().unwrap_or(at);
        self.failures = self.failures.saturating_add(1);
        self.last_failure_at = self.last_failure_at.max(Some(at));
        self.last_outcome = Some(failure.outcome);
        if let (Some(429 | 503), Some(requested_s)) = (failure.status, failure.retry_after_s) {
            let wait = SignedDuration::from_secs(requested_s.min(MAX_RETRY_AFTER_S).into());
            self.paused_until = self.paused_until.max(Some(saturating_later(at, wait)));
        }
        let mut notices = Vec::new();
        let has_opened = self.update_breaker(at);
        if self.disabled.is_some() {
            return notices;
        }
        if has_opened {
            notices.push(HealthNotice::Parked { since });
        }
        notices.extend(self.disable_or_notify(failure, since));
        notices
    }

    /// Counts a failure in the breaker; true where it opens the circuit.
    fn update_breaker(&mut self, at: Timestamp) -> bool {
        let timing = ProbeTiming {
            now: at,
            // A probe too waits as long as the endpoint requested.
            not_before: self.paused_until,
            jitter: 0,
        };
        if self.breaker.admission(at) == Admission::Probe {
            self.breaker.count_failures(1, at, &ENDPOINT_POLICY);
            self.breaker
                .record_failed_probe(true, timing, &ENDPOINT_POLICY);
            return false;
        }
        // An attempt that was under way when the circuit opened is no probe.
        self.breaker.record_failures(1, timing, &ENDPOINT_POLICY)
    }

    /// Disables the endpoint where the failure is a reason to, or gives notice of the days it has been failing.
    fn disable_or_notify(
        &mut self,
        failure: &AttemptFailure,
        since: Timestamp,
    ) -> Option<HealthNotice> {
        let days = (failure.failed_at.as_second() - since.as_second()) / DAY_S;
        let reason = if failure.requests_disable {
            Some(DisableReason::Receiver)
        } else if failure.outcome == AttemptOutcome::Gone {
            Some(DisableReason::Gone)
        } else if days >= i64::from(DISABLE_AFTER_DAYS) && self.failures >= MIN_DISABLE_FAILURES {
            Some(DisableReason::Failing)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.disabled = Some(Disablement {
                disabled_at: failure.failed_at,
                reason,
            });
            return Some(HealthNotice::Disabled { reason });
        }
        let days = FAILING_NOTICE_DAYS
            .into_iter()
            .rfind(|&notice| i64::from(notice) <= days)
            .filter(|&notice| notice > self.noticed_days)?;
        self.noticed_days = days;
        Some(HealthNotice::Failing { since, days })
    }

    /// Closes the circuit although nothing is parked to probe the endpoint with: the next failure opens it again.
    pub fn begin_trial(&mut self) {
        if self.disabled.is_none() {
            self.breaker.begin_trial(&ENDPOINT_POLICY);
        }
    }

    /// Disables the endpoint at the request of its app.
    pub fn disable_by_app(&mut self, at: Timestamp) {
        self.disabled.get_or_insert(Disablement {
            disabled_at: at,
            reason: DisableReason::App,
        });
    }

    /// Enables the endpoint at the request of its app, as if it had never failed.
    pub fn enable_by_app(&mut self) {
        *self = Self {
            gap: self.gap,
            ..Self::default()
        };
    }

    /// Counts events that were exhausted while they were parked, committed from `from` until `until`.
    pub fn record_gap(&mut self, from: Timestamp, until: Timestamp, events: u64) {
        let gap = self.gap.get_or_insert(EventGap {
            from,
            until,
            events: 0,
        });
        gap.from = gap.from.min(from);
        gap.until = gap.until.max(until);
        gap.events = gap.events.saturating_add(events);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn failure_at(second: i64) -> AttemptFailure {
        AttemptFailure {
            failed_at: timestamp_at(second),
            outcome: AttemptOutcome::Rejected,
            status: Some(500),
            retry_after_s: None,
            requests_disable: false,
        }
    }

    fn failure_with_wait(second: i64, retry_after_s: u32) -> AttemptFailure {
        AttemptFailure {
            status: Some(503),
            retry_after_s: Some(retry_after_s),
            ..failure_at(second)
        }
    }

    #[test]
    fn a_probe_waits_as_long_as_the_endpoint_requested() {
        let mut health = EndpointHealth::default();
        for n in 1..=i64::from(OPEN_AFTER_FAILURES) {
            health.record_failure(&failure_with_wait(n, 600));
        }
        assert_eq!(health.next_probe_at(), Some(timestamp_at(610)));
        // An attempt that was under way when the circuit opened requests more.
        health.record_failure(&failure_with_wait(11, 900));
        assert_eq!(health.next_probe_at(), Some(timestamp_at(911)));
        // More than the bound is not honoured.
        health.record_failure(&failure_with_wait(911, 1_000_000_000));
        assert_eq!(health.next_probe_at(), Some(timestamp_at(911 + 3600)));
        health.record_failure(&failure_at(911 + 3600));
        assert_eq!(health.next_probe_at(), Some(timestamp_at(911 + 3600 + 300)));
    }

    #[test]
    fn ten_failures_in_a_row_open_the_circuit_and_a_success_closes_it() {
        let mut health = EndpointHealth::default();
        for n in 1..i64::from(OPEN_AFTER_FAILURES) {
            assert_eq!(health.record_failure(&failure_at(n)), []);
            assert_eq!(health.admission(timestamp_at(n)), EndpointAdmission::Send);
        }
        let notices = health.record_failure(&failure_at(10));
        assert_eq!(
            notices,
            [HealthNotice::Parked {
                since: timestamp_at(1)
            }]
        );
        assert_eq!(health.admission(timestamp_at(10)), EndpointAdmission::Park);
        assert_eq!(health.next_probe_at(), Some(timestamp_at(70)));
        // A straggler does not move the probe.
        health.record_failure(&failure_at(11));
        assert_eq!(health.next_probe_at(), Some(timestamp_at(70)));
        let mut due = 70;
        for wait in [120, 300, 600, 900, 1800, 1800, 1800] {
            assert_eq!(health.record_failure(&failure_at(due)), []);
            due += wait;
            assert_eq!(health.next_probe_at(), Some(timestamp_at(due)));
        }
        // A success before the last failure changes nothing.
        assert_eq!(health.record_successes(100, timestamp_at(9)), None);
        assert_eq!(health.admission(timestamp_at(due)), EndpointAdmission::Park);
        let expected = HealthNotice::Recovered {
            since: timestamp_at(1),
            gap: None,
        };
        assert_eq!(
            health.record_successes(1, timestamp_at(due)),
            Some(expected)
        );
        assert_eq!(
            (health.admission(timestamp_at(due)), health.is_failing()),
            (EndpointAdmission::Send, false)
        );
    }

    #[test]
    fn half_of_twenty_attempts_in_five_minutes_open_the_circuit() {
        let check = |successes: u32, failures: i64, apart_s: i64, opens: bool| {
            let (mut health, mut open) = (EndpointHealth::default(), false);
            for n in 0..failures {
                // Never many consecutively.
                health.record_failure(&failure_at(n * apart_s));
                open |= health.admission(timestamp_at(n * apart_s)) == EndpointAdmission::Park;
                let each = successes / u32::try_from(failures).unwrap();
                health.record_successes(each, timestamp_at(n * apart_s + 1));
            }
            assert_eq!(open, opens, "{successes} {failures} {apart_s}");
        };
        check(11, 11, 2, true);
        check(24, 12, 2, false);
        check(8, 8, 2, false);
        check(30, 30, 60, false);
    }

    #[test]
    fn a_retry_after_pauses_the_endpoint_within_bounds() {
        let check = |status, asked, expected| {
            let mut health = EndpointHealth::default();
            health.record_failure(&AttemptFailure {
                status,
                retry_after_s: asked,
                ..failure_at(0)
            });
            assert_eq!(
                health.admission(timestamp_at(0)),
                expected,
                "{status:?} {asked:?}"
            );
        };
        check(
            Some(429),
            Some(30),
            EndpointAdmission::Wait {
                until: timestamp_at(30),
            },
        );
        check(
            Some(503),
            Some(1_000_000_000),
            EndpointAdmission::Wait {
                until: timestamp_at(3600),
            },
        );
        check(Some(500), Some(30), EndpointAdmission::Send);
        check(Some(429), None, EndpointAdmission::Send);
    }

    #[test]
    fn five_days_of_failing_disable_after_two_notices() {
        let mut health = EndpointHealth::default();
        let mut given = Vec::new();
        for hour in 0..=24 * 6 {
            for notice in health.record_failure(&failure_at(hour * 3600)) {
                given.push((hour, notice));
            }
        }
        let since = timestamp_at(0);
        let by = DisableReason::Failing;
        assert_eq!(
            given,
            [
                (9, HealthNotice::Parked { since }),
                (24, HealthNotice::Failing { since, days: 1 }),
                (72, HealthNotice::Failing { since, days: 3 }),
                (120, HealthNotice::Disabled { reason: by }),
            ]
        );
        assert_eq!(
            (health.admission(timestamp_at(0)), health.next_probe_at()),
            (EndpointAdmission::Park, None)
        );
        health.enable_by_app();
        assert_eq!(health.admission(timestamp_at(0)), EndpointAdmission::Send);

        // Two failures, five days apart, are not enough.
        let mut health = EndpointHealth::default();
        health.record_failure(&failure_at(0));
        let notices = health.record_failure(&failure_at(5 * DAY_S));
        assert_eq!(
            notices,
            [HealthNotice::Failing {
                since: timestamp_at(0),
                days: 3
            }]
        );
    }

    #[test]
    fn a_receiver_can_have_itself_disabled() {
        let check = |failure: AttemptFailure, by| {
            let mut health = EndpointHealth::default();
            assert_eq!(
                health.record_failure(&failure),
                [HealthNotice::Disabled { reason: by }]
            );
            assert_eq!(health.admission(failure.failed_at), EndpointAdmission::Park);
            assert_eq!(health.record_failure(&failure), [], "notice is given once");
        };
        let gone = AttemptFailure {
            outcome: AttemptOutcome::Gone,
            ..failure_at(0)
        };
        check(gone, DisableReason::Gone);
        let disable = AttemptFailure {
            requests_disable: true,
            ..failure_at(0)
        };
        check(disable, DisableReason::Receiver);
    }

    #[test]
    fn a_trial_ends_with_the_first_failure() {
        let mut health = EndpointHealth::default();
        (0..10).for_each(|n| drop(health.record_failure(&failure_at(n))));
        health.begin_trial();
        assert_eq!(health.admission(timestamp_at(60)), EndpointAdmission::Send);
        assert_eq!(health.record_failure(&failure_at(60)).len(), 1);
        assert_eq!(health.admission(timestamp_at(60)), EndpointAdmission::Park);
    }

    #[test]
    fn the_stored_form_stays() {
        let mut health = EndpointHealth::default();
        let stored = r#"{"circuit":"closed","consecutive":0,"window":{"failures":0,"total":0},"failures":0,"noticed_days":0}"#;
        assert_eq!(serde_json::to_string(&health).unwrap(), stored);
        (0..10).for_each(|second| drop(health.record_failure(&failure_at(second))));
        let stored = r#"{"circuit":{"open":{"since":"2023-11-14T22:13:20Z","probes":0,"probe_at":"2023-11-14T22:14:29Z"}},"failing_since":"2023-11-14T22:13:20Z","consecutive":10,"window":{"since":"2023-11-14T22:13:20Z","failures":10,"total":10},"failures":10,"last_failure_at":"2023-11-14T22:13:29Z","last_outcome":"rejected","noticed_days":0}"#;
        assert_eq!(serde_json::to_string(&health).unwrap(), stored);
        // As the release before wrote it.
        let former = r#"{"circuit":{"open":{"since":"2023-11-14T22:13:29Z","probes":0,"probe_at":"2023-11-14T22:14:29Z"}},"failing_since":"2023-11-14T22:13:20Z","failures":10,"last_failure_at":"2023-11-14T22:13:29Z","last_outcome":"rejected","consecutive":10,"window":{"since":"2023-11-14T22:13:20Z","failures":10,"total":10},"noticed_days":0}"#;
        assert_eq!(
            serde_json::from_str::<EndpointHealth>(former).unwrap(),
            health
        );
        let empty = serde_json::from_str::<EndpointHealth>("{}").unwrap();
        assert_eq!(empty, EndpointHealth::default());
    }

    proptest! {
        /// Whatever happens, an endpoint that is down sees no more attempts than its probes, and one
        /// that answers is sent events.
        #[test]
        fn attempts_at_a_dead_endpoint_go_by_time(hours in 1..72_i64, every_s in 1..600_i64) {
            let mut health = EndpointHealth::default();
            let (mut attempts, mut second) = (0_i64, 0);
            while second < hours * 3600 {
                let probe = health.next_probe_at().is_some_and(|due| due <= timestamp_at(second));
                if probe || health.admission(timestamp_at(second)) == EndpointAdmission::Send {
                    health.record_failure(&failure_at(second));
                    attempts += 1;
                }
                second += every_s;
            }
            let bound = i64::from(OPEN_AFTER_FAILURES) + 5 + hours * 2 + 1;
            prop_assert!(attempts <= bound, "{} of {}", attempts, bound);
            health.record_successes(1, timestamp_at(second));
            prop_assert_eq!(health.admission(timestamp_at(second)), EndpointAdmission::Send);
        }

        #[test]
        fn health_survives_its_text(outcomes in prop::collection::vec((0..10_000_i64, any::<bool>()), 0..40)) {
            let mut health = EndpointHealth::default();
            for (second, ok) in outcomes {
                if ok {
                    health.record_successes(1, timestamp_at(second));
                } else {
                    health.record_failure(&failure_at(second));
                }
            }
            let text = serde_json::to_string(&health).unwrap();
            prop_assert!(text.len() < 700, "{}", text);
            prop_assert_eq!(serde_json::from_str::<EndpointHealth>(&text).unwrap(), health);
        }
    }
}
