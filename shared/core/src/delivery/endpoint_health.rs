//! The health of an endpoint: when it is left alone, when it is tried again, when it is given up.
//!
//! A flaky endpoint is retried event by event ([`crate::delivery::retry`]). One that is down is not: after
//! [`OPEN_AFTER`] failures in a row, or when half of what it was sent in five minutes failed, its
//! circuit opens. Then events for it are parked, and a single probe, with the oldest of them, asks
//! whether it is back: a dead endpoint costs attempts by the hour and not by the event. Nothing that
//! is parked is dropped.
//!
//! A success of a healthy endpoint changes nothing here, so that it costs no write.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::delivery::retry::{AttemptOutcome, MAX_RETRY_AFTER_S};

/// Failures in a row that open the circuit.
pub const OPEN_AFTER_FAILURES: u32 = 10;

/// Attempts in a window at least, before the share of failures counts.
pub const MIN_WINDOW_ATTEMPTS: u32 = 20;

/// Seconds of the window in which failures are counted.
pub const WINDOW_S: i64 = 5 * 60;

/// Seconds before each probe, from the one before; the last counts for all further ones.
pub const PROBE_DELAYS_S: [i64; 6] = [60, 120, 300, 600, 900, 1800];

/// Days of failing after which notice is given.
pub const FAILING_NOTICE_DAYS: [u8; 2] = [1, 3];

/// Days of failing after which an endpoint is disabled.
pub const DISABLE_AFTER_DAYS: u8 = 5;

/// Failures at least, before an endpoint is disabled for failing.
pub const MIN_DISABLE_FAILURES: u32 = 3;

/// Days an event stays parked; then it is exhausted, and can still be replayed.
pub const MAX_PARKED_DAYS: i64 = 14;

/// Events parked for one endpoint at most; more are exhausted at once, and can still be replayed.
pub const MAX_PARKED_EVENTS: u64 = 1_000_000;

const DAY_S: i64 = 24 * 3600;

/// Whether events are sent to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCircuit {
    /// They are.
    #[default]
    Closed,
    /// They are parked, but for a probe now and then.
    Open {
        /// Since when.
        since: Timestamp,
        /// Probes made.
        #[serde(rename = "probes")]
        failed_probes: u32,
        /// When the next one is due.
        probe_at: Timestamp,
    },
}

/// Why an endpoint is disabled. The serde names are stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisableReason {
    /// It answered 410.
    Gone,
    /// It answered `webhook-delivery: disable`.
    Receiver,
    /// It failed for [`DISABLE_DAYS`] days.
    Failing,
    /// Its app, by the API.
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

/// Events that were parked and could not be kept so.
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
    /// Whether events are sent to it.
    #[serde(default)]
    pub circuit: EndpointCircuit,
    /// Set while it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disablement>,
    /// It asked to be left alone until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// When it began to fail; nothing where its last attempt succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Failures since then, without a success between.
    #[serde(default)]
    pub failures: u32,
    /// When it last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<Timestamp>,
    /// What the last failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<AttemptOutcome>,
    /// Failures in a row, as the circuit counts them.
    #[serde(default)]
    #[serde(rename = "consecutive")]
    pub consecutive_failures: u32,
    #[serde(default)]
    window: AttemptWindow,
    /// Days of failing that notice was given of.
    #[serde(default)]
    noticed_days: u8,
    /// Events that could not be kept parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<EventGap>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct AttemptWindow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    failures: u32,
    total: u32,
}

/// A failed attempt, as health sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// When its answer was there.
    pub failed_at: Timestamp,
    /// Its class.
    pub outcome: AttemptOutcome,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// Seconds the receiver asked us to wait.
    pub retry_after_s: Option<u32>,
    /// It answered `webhook-delivery: disable`.
    pub requests_disable: bool,
}

/// What an app is told of an endpoint's health.
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
        /// Since when.
        since: Timestamp,
    },
    /// It was disabled.
    Disabled {
        /// Why.
        #[serde(rename = "by")]
        reason: DisableReason,
    },
    /// It takes events again.
    Recovered {
        /// Since when it had not.
        since: Timestamp,
        /// Events that were not kept for it.
        gap: Option<EventGap>,
    },
}

/// What is to be done with an event for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointAdmission {
    /// Send it.
    Send,
    /// Look again then.
    Wait {
        /// When.
        until: Timestamp,
    },
    /// Park it.
    Park,
}

impl EndpointHealth {
    /// What is to be done with an event now.
    pub fn admission(&self, now: Timestamp) -> EndpointAdmission {
        if self.disabled.is_some() || matches!(self.circuit, EndpointCircuit::Open { .. }) {
            return EndpointAdmission::Park;
        }
        match self.paused_until {
            Some(until) if until > now => EndpointAdmission::Wait { until },
            _ => EndpointAdmission::Send,
        }
    }

    /// True where a success would change something.
    pub const fn is_failing(&self) -> bool {
        self.failing_since.is_some() || !matches!(self.circuit, EndpointCircuit::Closed)
    }

    /// True where more than half of the recent attempts failed.
    pub fn is_mostly_failing(&self, now: Timestamp) -> bool {
        let AttemptWindow {
            since,
            failures,
            total,
        } = self.window;
        let recent = since.is_some_and(|since| seconds_between(since, now) <= WINDOW_S);
        recent && total >= MIN_WINDOW_ATTEMPTS / 2 && failures * 2 > total
    }

    /// When the next probe is due, where the circuit is open and the endpoint not disabled.
    pub const fn next_probe_at(&self) -> Option<Timestamp> {
        match (self.disabled, self.circuit) {
            (None, EndpointCircuit::Open { probe_at, .. }) => Some(probe_at),
            _ => None,
        }
    }

    /// Counts successful attempts, the last of them at `at`.
    pub fn record_successes(&mut self, count: u32, at: Timestamp) -> Option<HealthNotice> {
        if count == 0 {
            return None;
        }
        self.expire_window(at);
        if self.window.since.is_some() {
            self.window.total = self.window.total.saturating_add(count);
        }
        // What succeeded before the last failure is no news.
        if self.last_failure_at.is_some_and(|failed| at < failed) {
            return None;
        }
        let since = self.failing_since.take().unwrap_or(at);
        let told = self.noticed_days > 0 || matches!(self.circuit, EndpointCircuit::Open { .. });
        self.consecutive_failures = 0;
        self.failures = 0;
        self.noticed_days = 0;
        if matches!(self.circuit, EndpointCircuit::Open { .. }) {
            self.circuit = EndpointCircuit::Closed;
            self.window = AttemptWindow::default();
        }
        let gap = if told { self.gap.take() } else { None };
        told.then_some(HealthNotice::Recovered { since, gap })
    }

    /// Counts a failed attempt.
    pub fn record_failure(&mut self, failure: &AttemptFailure) -> Vec<HealthNotice> {
        let at = failure.failed_at;
        let mut notices = Vec::new();
        self.expire_window(at);
        let window = &mut self.window;
        window.since.get_or_insert(at);
        window.failures = window.failures.saturating_add(1);
        window.total = window.total.saturating_add(1);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.last_failure_at = self.last_failure_at.max(Some(at));
        self.last_outcome = Some(failure.outcome);
        let since = *self.failing_since.get_or_insert(at);

        if let (Some(429 | 503), Some(asked)) = (failure.status, failure.retry_after_s) {
            let until = add_seconds(at, i64::from(asked.min(MAX_RETRY_AFTER_S)));
            self.paused_until = self.paused_until.max(Some(until));
        }
        self.update_circuit(at, since, &mut notices);
        if self.disabled.is_none() {
            self.disable_or_notify(failure, since, &mut notices);
        }
        notices
    }

    fn update_circuit(&mut self, at: Timestamp, since: Timestamp, notices: &mut Vec<HealthNotice>) {
        match self.circuit {
            EndpointCircuit::Closed => {
                let AttemptWindow {
                    failures, total, ..
                } = self.window;
                let half = total >= MIN_WINDOW_ATTEMPTS && failures.saturating_mul(2) >= total;
                if self.consecutive_failures >= OPEN_AFTER_FAILURES || half {
                    self.circuit = EndpointCircuit::Open {
                        since: at,
                        failed_probes: 0,
                        probe_at: self.respect_retry_after(add_seconds(at, PROBE_DELAYS_S[0])),
                    };
                    if self.disabled.is_none() {
                        notices.push(HealthNotice::Parked { since });
                    }
                }
            }
            // What was under way when the circuit opened is no probe.
            EndpointCircuit::Open {
                since,
                failed_probes: probes,
                probe_at,
            } if at >= probe_at => {
                let probes = probes.saturating_add(1);
                let next = (probes as usize).min(PROBE_DELAYS_S.len() - 1);
                self.circuit = EndpointCircuit::Open {
                    since,
                    failed_probes: probes,
                    probe_at: self.respect_retry_after(add_seconds(at, PROBE_DELAYS_S[next])),
                };
            }
            EndpointCircuit::Open {
                since,
                failed_probes: probes,
                probe_at,
            } => {
                self.circuit = EndpointCircuit::Open {
                    since,
                    failed_probes: probes,
                    probe_at: self.respect_retry_after(probe_at),
                };
            }
        }
    }

    /// A probe too waits as long as the endpoint asked for.
    fn respect_retry_after(&self, probe_at: Timestamp) -> Timestamp {
        self.paused_until
            .map_or(probe_at, |asked| asked.max(probe_at))
    }

    fn disable_or_notify(
        &mut self,
        failure: &AttemptFailure,
        since: Timestamp,
        notices: &mut Vec<HealthNotice>,
    ) {
        let days = seconds_between(since, failure.failed_at) / DAY_S;
        let by = if failure.requests_disable {
            Some(DisableReason::Receiver)
        } else if failure.outcome == AttemptOutcome::Gone {
            Some(DisableReason::Gone)
        } else if days >= i64::from(DISABLE_AFTER_DAYS) && self.failures >= MIN_DISABLE_FAILURES {
            Some(DisableReason::Failing)
        } else {
            None
        };
        if let Some(by) = by {
            self.disabled = Some(Disablement {
                disabled_at: failure.failed_at,
                reason: by,
            });
            notices.push(HealthNotice::Disabled { reason: by });
            return;
        }
        let due = FAILING_NOTICE_DAYS
            .into_iter()
            .rfind(|&notice| i64::from(notice) <= days);
        if let Some(days) = due.filter(|&days| days > self.noticed_days) {
            self.noticed_days = days;
            notices.push(HealthNotice::Failing { since, days });
        }
    }

    /// Gives an endpoint another chance although nothing is parked to probe it with: the next failure
    /// opens its circuit again.
    pub fn begin_trial(&mut self) {
        if self.disabled.is_none() {
            self.circuit = EndpointCircuit::Closed;
            self.consecutive_failures = OPEN_AFTER_FAILURES - 1;
            self.window = AttemptWindow::default();
        }
    }

    /// Disables the endpoint as its app asks.
    pub fn disable_by_app(&mut self, at: Timestamp) {
        let by = DisableReason::App;
        self.disabled.get_or_insert(Disablement {
            disabled_at: at,
            reason: by,
        });
    }

    /// Enables the endpoint as its app asks: as if it had never failed.
    pub fn enable_by_app(&mut self) {
        *self = Self {
            gap: self.gap,
            ..Self::default()
        };
    }

    /// Counts events that were not kept for it, committed from `from` until `until`.
    pub fn record_gap(&mut self, from: Timestamp, until: Timestamp, events: u64) {
        let known = self.gap.unwrap_or(EventGap {
            from,
            until,
            events: 0,
        });
        self.gap = Some(EventGap {
            from: known.from.min(from),
            until: known.until.max(until),
            events: known.events.saturating_add(events),
        });
    }

    /// Forgets a window that is over.
    fn expire_window(&mut self, at: Timestamp) {
        let over = |since| seconds_between(since, at) > WINDOW_S;
        if self.window.since.is_some_and(over) {
            self.window = AttemptWindow::default();
        }
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
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

    #[test]
    fn a_probe_waits_as_long_as_the_endpoint_asked_for() {
        let asking = |second, asked| AttemptFailure {
            status: Some(503),
            retry_after_s: Some(asked),
            ..failure_at(second)
        };
        let mut health = EndpointHealth::default();
        for n in 1..=i64::from(OPEN_AFTER_FAILURES) {
            health.record_failure(&asking(n, 600));
        }
        assert_eq!(health.next_probe_at(), Some(timestamp_at(610)));
        // Also one that was under way asks for more.
        health.record_failure(&asking(11, 900));
        assert_eq!(health.next_probe_at(), Some(timestamp_at(911)));
        // No longer than is honoured.
        health.record_failure(&asking(911, 1_000_000_000));
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
        // What had succeeded before says nothing.
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
    fn half_of_twenty_in_five_minutes_open_the_circuit() {
        let check = |successes: u32, failures: i64, apart_s: i64, opens: bool| {
            let (mut health, mut open) = (EndpointHealth::default(), false);
            for n in 0..failures {
                // Never many in a row.
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
    fn a_request_to_wait_holds_for_the_endpoint_and_within_bounds() {
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
        let mut told = Vec::new();
        for hour in 0..=24 * 6 {
            for notice in health.record_failure(&failure_at(hour * 3600)) {
                told.push((hour, notice));
            }
        }
        let since = timestamp_at(0);
        let by = DisableReason::Failing;
        assert_eq!(
            told,
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
    fn a_receiver_can_end_it() {
        let check = |failure: AttemptFailure, by| {
            let mut health = EndpointHealth::default();
            assert_eq!(
                health.record_failure(&failure),
                [HealthNotice::Disabled { reason: by }]
            );
            assert_eq!(health.admission(failure.failed_at), EndpointAdmission::Park);
            assert_eq!(health.record_failure(&failure), [], "told once");
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
