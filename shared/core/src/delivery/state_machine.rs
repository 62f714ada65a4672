//! The states of a delivery: one event to one endpoint.
//!
//! ```text
//! (no delivery) --- attempt ---> delivered
//!      |               |
//!      |               +-------> retry ----- attempt when due ----> delivered | retry | parked | exhausted
//!      |                           |
//!      +--- endpoint is down ------+----> parked --- probe, drain ---> delivered | retry | parked | exhausted
//!
//! retry, parked --- endpoint removed, or event not wanted any more ---> cancelled
//! any state ------- resend ---> as by an attempt without a delivery
//! ```
//!
//! [`Delivery`] is the stored row, [`next_delivery_action`] says what is done about it now, and
//! [`Delivery::apply_outcome`] writes into it how an attempt ended.
//!
//! The rule it keeps: what is done follows from the row, the endpoint's admission and the kind of attempt alone. A
//! message only wakes, so a lost, late or duplicate one does no harm.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::{
        attempt::{Attempt, AttemptKind, AttemptResponse, LoggedAttempt},
        endpoint_health::EndpointAdmission,
        retry::{self, AttemptOutcome, Jitter, RetryDecision, blocks_head_of_line},
    },
    model::ids::{EndpointId, EventId, FeedSource, Seq},
    resilience::circuit_breaker::saturating_later,
};

/// Attempts that a delivery remembers at most; the oldest are forgotten first.
pub const MAX_LOGGED_ATTEMPTS: usize = 12;

/// Seconds an attempt may take until another worker may repeat it.
pub const ATTEMPT_LEASE_S: i64 = 60;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The endpoint took it.
    Delivered,
    /// It is tried again at [`Delivery::next_attempt_at`].
    Retry,
    /// It waits until the endpoint takes events again.
    Parked,
    /// It is not tried again unless somebody requests it.
    Exhausted,
    /// Nobody wants it any more: the endpoint was removed, or does not want such events.
    Cancelled,
}

impl DeliveryState {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Parked => "parked",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where an event stands among its record's events, at an endpoint that gets them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FifoPosition {
    /// Its endpoint does not get them in order.
    #[default]
    #[serde(rename = "-")]
    Unordered,
    /// It is queued: whoever settles it continues with the events behind it.
    #[serde(rename = "i")]
    Queued,
    /// It was at the head, and neither it nor any before it blocks those behind it any more.
    #[serde(rename = "p")]
    Released,
}

impl FifoPosition {
    /// True for the default.
    pub fn is_unordered(&self) -> bool {
        *self == Self::Unordered
    }
}

/// Which event to which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When the event's feed entry was committed, to the millisecond.
    pub committed_at: Timestamp,
    /// The feed of the event.
    pub source: FeedSource,
    /// Its place in that feed.
    pub seq: Seq,
}

/// One event to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which event to which endpoint.
    pub key: DeliveryKey,
    /// The event's name: `balance.success`.
    pub event_name: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made, of those that the schedule allows. Probes and our own faults do not count.
    pub attempt_count: u32,
    /// The attempts, oldest first; at most [`MAX_LOGGED_ATTEMPTS`].
    pub attempt_log: Vec<LoggedAttempt>,
    /// The beginning of the body of the last failed response.
    pub response_excerpt: Option<String>,
    /// When it is tried again in state [`DeliveryState::Retry`]; in any state, until when the worker that claimed it
    /// is at it.
    pub next_attempt_at: Option<Timestamp>,
    /// True once somebody requested it again.
    pub is_redelivery: bool,
    /// Where it stands among its record's events.
    pub fifo_position: FifoPosition,
    /// Counts how often this was stored, from 1; 0 before that. A store succeeds only with a version above the
    /// stored one.
    pub version: u32,
}

/// When an attempt at a delivery is due, whether or not its endpoint takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptDue {
    /// Never: it is final, or somebody else sees to it.
    Never,
    /// Not yet.
    At {
        /// Then.
        due_at: Timestamp,
    },
    /// Now.
    Now {
        /// Which attempt it is, from 1.
        number: u32,
    },
}

/// What is done about a delivery now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryAction {
    /// Nothing: no attempt of this kind is due.
    Skip,
    /// Its retry is not due yet: look again then.
    AwaitRetry {
        /// When it is due.
        until: Timestamp,
    },
    /// Its endpoint requested a pause: look again then.
    AwaitEndpoint {
        /// When the pause is over.
        until: Timestamp,
    },
    /// Its endpoint takes no events: park it.
    Park,
    /// Make this attempt.
    Attempt(Attempt),
}

/// When an attempt of this kind is due.
pub fn attempt_due(delivery: Option<&Delivery>, kind: AttemptKind, now: Timestamp) -> AttemptDue {
    let Some(delivery) = delivery else {
        return AttemptDue::Now { number: 1 };
    };
    match (delivery.state, delivery.next_attempt_at) {
        // A resend begins the schedule anew.
        _ if kind == AttemptKind::Resend => AttemptDue::Now { number: 1 },
        _ if delivery.is_final() => AttemptDue::Never,
        // The maintenance of the endpoint sends it.
        (DeliveryState::Parked, _) if kind == AttemptKind::Scheduled => AttemptDue::Never,
        // Another worker has claimed it.
        (DeliveryState::Parked, Some(until)) if until > now => AttemptDue::Never,
        (DeliveryState::Retry, Some(due_at)) if due_at > now => AttemptDue::At { due_at },
        _ => AttemptDue::Now {
            number: delivery.attempt_count + 1,
        },
    }
}

/// What is done about a delivery now, where its endpoint admits events as `admission` says.
pub fn next_delivery_action(
    delivery: Option<&Delivery>,
    kind: AttemptKind,
    admission: EndpointAdmission,
    now: Timestamp,
) -> DeliveryAction {
    let number = match attempt_due(delivery, kind, now) {
        AttemptDue::Never => return DeliveryAction::Skip,
        AttemptDue::At { due_at } => return DeliveryAction::AwaitRetry { until: due_at },
        AttemptDue::Now { number } => number,
    };
    match (kind, admission) {
        // A probe or a drain was decided by the endpoint's own maintenance.
        (AttemptKind::Probe | AttemptKind::Drain, _) | (_, EndpointAdmission::Send) => {
            DeliveryAction::Attempt(Attempt { kind, number })
        }
        (_, EndpointAdmission::Wait { until }) => DeliveryAction::AwaitEndpoint { until },
        (_, EndpointAdmission::Park) => DeliveryAction::Park,
    }
}

impl Delivery {
    /// A delivery of which nothing was stored and no attempt made.
    pub fn new(key: DeliveryKey, event_name: &str) -> Self {
        Self {
            key,
            event_name: event_name.to_owned(),
            state: DeliveryState::Retry,
            attempt_count: 0,
            attempt_log: Vec::new(),
            response_excerpt: None,
            next_attempt_at: None,
            is_redelivery: false,
            fifo_position: FifoPosition::Unordered,
            version: 0,
        }
    }

    /// The id of the event.
    pub fn event_id(&self) -> EventId {
        EventId::for_feed_entry(self.key.source, self.key.seq)
    }

    /// The last attempt.
    pub fn last_attempt(&self) -> Option<&LoggedAttempt> {
        self.attempt_log.last()
    }

    /// True where no attempt is made unless somebody requests it.
    pub const fn is_final(&self) -> bool {
        matches!(
            self.state,
            DeliveryState::Delivered | DeliveryState::Exhausted | DeliveryState::Cancelled
        )
    }

    /// True where it does not block the events behind it: it is final, or has been failing for long enough.
    pub fn releases_next_event(&self) -> bool {
        self.is_final()
            || self.fifo_position == FifoPosition::Released
            || self.has_failed_for_long_enough()
    }

    fn has_failed_for_long_enough(&self) -> bool {
        let (Some(first), Some(next_attempt_at)) = (self.attempt_log.first(), self.next_attempt_at)
        else {
            return false;
        };
        self.state == DeliveryState::Retry
            && !blocks_head_of_line(self.attempt_count, first.attempted_at, next_attempt_at)
    }

    /// The delivery while one worker makes an attempt: until the lease is over, others wait.
    ///
    /// The attempt is counted when it ends. Should the worker crash, that is our fault and not the receiver's.
    #[must_use]
    pub fn with_claim(mut self, now: Timestamp) -> Self {
        let lease = SignedDuration::from_secs(ATTEMPT_LEASE_S);
        self.next_attempt_at = Some(saturating_later(now, lease));
        self.version += 1;
        self
    }

    /// The delivery at this position at least: it never goes back.
    #[must_use]
    pub fn with_fifo_position(mut self, position: FifoPosition) -> Self {
        self.fifo_position = self.fifo_position.max(position);
        self
    }

    /// The delivery while its endpoint takes no events.
    #[must_use]
    pub fn into_parked(self) -> Self {
        self.into_state(DeliveryState::Parked)
    }

    /// The delivery after its last attempt, or once it was parked for too long.
    #[must_use]
    pub fn into_exhausted(self) -> Self {
        self.into_state(DeliveryState::Exhausted)
    }

    /// The delivery once nobody wants it any more.
    #[must_use]
    pub fn into_cancelled(self) -> Self {
        self.into_state(DeliveryState::Cancelled)
    }

    fn into_state(mut self, state: DeliveryState) -> Self {
        self.state = state;
        self.next_attempt_at = None;
        self.version += 1;
        self
    }

    /// Writes into the delivery how an attempt ended at `now`, where its endpoint now admits events as `admission`
    /// says.
    pub fn apply_outcome(
        &mut self,
        attempt: Attempt,
        response: &AttemptResponse,
        admission: EndpointAdmission,
        jitter: Jitter,
        now: Timestamp,
    ) {
        self.version += 1;
        self.is_redelivery |= attempt.kind == AttemptKind::Resend;
        self.response_excerpt.clone_from(&response.excerpt);
        self.log_attempt(LoggedAttempt {
            status: response.status,
            outcome_class: response.outcome_class().to_owned(),
            attempted_at: now,
            latency_ms: response.latency_ms,
        });
        let (state, next_attempt_at) = state_after(attempt, response, admission, jitter, now);
        self.state = state;
        self.next_attempt_at = next_attempt_at;
        // A failed probe says something about the endpoint, not about the event.
        if !(attempt.kind == AttemptKind::Probe && state == DeliveryState::Parked) {
            self.attempt_count = attempt.number;
        }
    }

    fn log_attempt(&mut self, attempt: LoggedAttempt) {
        if self.attempt_log.len() >= MAX_LOGGED_ATTEMPTS {
            self.attempt_log.remove(0);
        }
        self.attempt_log.push(attempt);
    }
}

/// The state after an attempt, and when the next one is due.
fn state_after(
    attempt: Attempt,
    response: &AttemptResponse,
    admission: EndpointAdmission,
    jitter: Jitter,
    now: Timestamp,
) -> (DeliveryState, Option<Timestamp>) {
    if response.outcome.is_ok() {
        return (DeliveryState::Delivered, None);
    }
    if response.aborts_message() {
        return (DeliveryState::Exhausted, None);
    }
    // An endpoint that must not be called is not parked: nothing but a new address brings it back.
    let is_parked =
        admission == EndpointAdmission::Park && response.outcome != AttemptOutcome::Blocked;
    if attempt.kind == AttemptKind::Probe || is_parked {
        return (DeliveryState::Parked, None);
    }
    let decision = retry::schedule_retry(
        attempt.number,
        response.outcome,
        response.retry_after_s,
        jitter,
    );
    match decision {
        RetryDecision::After { delay_s } => {
            let delay = SignedDuration::from_secs(delay_s.into());
            (DeliveryState::Retry, Some(saturating_later(now, delay)))
        }
        RetryDecision::Exhausted => (DeliveryState::Exhausted, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::attempt::ReceiverControl, model::ids::RecordId};

    const ALL_KINDS: [AttemptKind; 4] = [
        AttemptKind::Scheduled,
        AttemptKind::Probe,
        AttemptKind::Drain,
        AttemptKind::Resend,
    ];

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sample_delivery(state: DeliveryState, next_attempt_second: Option<i64>) -> Delivery {
        let key = DeliveryKey {
            endpoint: EndpointId::from_bytes([1; 12]),
            committed_at: timestamp_at(1_000),
            source: RecordId::from_bytes([1; 12]).into(),
            seq: Seq(1),
        };
        Delivery {
            state,
            attempt_count: 3,
            next_attempt_at: next_attempt_second.map(timestamp_at),
            version: 3,
            ..Delivery::new(key, "balance.success")
        }
    }

    fn response_with(outcome: AttemptOutcome) -> AttemptResponse {
        AttemptResponse {
            outcome,
            status: None,
            retry_after_s: None,
            control: None,
            location_host: None,
            excerpt: None,
            latency_ms: 7,
        }
    }

    fn apply(
        kind: AttemptKind,
        number: u32,
        response: &AttemptResponse,
        admission: EndpointAdmission,
    ) -> Delivery {
        let mut delivery = sample_delivery(DeliveryState::Retry, None);
        let attempt = Attempt { kind, number };
        delivery.apply_outcome(
            attempt,
            response,
            admission,
            Jitter::NONE,
            timestamp_at(1_000),
        );
        assert_eq!((delivery.version, delivery.attempt_log.len()), (4, 1));
        delivery
    }

    #[test]
    fn the_row_and_the_kind_say_when_an_attempt_is_due() {
        let now = timestamp_at(1_000);
        let next = AttemptDue::Now { number: 4 };
        let later = AttemptDue::At {
            due_at: timestamp_at(1_001),
        };
        for kind in ALL_KINDS {
            assert_eq!(
                attempt_due(None, kind, now),
                AttemptDue::Now { number: 1 },
                "{kind:?}"
            );
        }
        for (state, next_attempt_second, scheduled, drain) in [
            (
                DeliveryState::Delivered,
                None,
                AttemptDue::Never,
                AttemptDue::Never,
            ),
            (
                DeliveryState::Exhausted,
                None,
                AttemptDue::Never,
                AttemptDue::Never,
            ),
            (
                DeliveryState::Cancelled,
                None,
                AttemptDue::Never,
                AttemptDue::Never,
            ),
            (DeliveryState::Parked, None, AttemptDue::Never, next),
            (
                DeliveryState::Parked,
                Some(1_001),
                AttemptDue::Never,
                AttemptDue::Never,
            ),
            (DeliveryState::Retry, Some(1_001), later, later),
            (DeliveryState::Retry, Some(1_000), next, next),
            (DeliveryState::Retry, Some(1), next, next),
            // No row should say so, but one that does must not wait for ever.
            (DeliveryState::Retry, None, next, next),
        ] {
            let delivery = sample_delivery(state, next_attempt_second);
            let due = |kind| attempt_due(Some(&delivery), kind, now);
            assert_eq!(due(AttemptKind::Scheduled), scheduled, "{delivery:?}");
            assert_eq!(due(AttemptKind::Drain), drain, "{delivery:?}");
            let resend = AttemptDue::Now { number: 1 };
            assert_eq!(due(AttemptKind::Resend), resend, "{delivery:?}");
        }
    }

    #[test]
    fn the_endpoint_decides_over_what_is_due() {
        let until = timestamp_at(1_030);
        for kind in ALL_KINDS {
            let attempt = DeliveryAction::Attempt(Attempt { kind, number: 1 });
            let is_maintenance = matches!(kind, AttemptKind::Probe | AttemptKind::Drain);
            for (admission, other) in [
                (EndpointAdmission::Send, attempt),
                (
                    EndpointAdmission::Wait { until },
                    DeliveryAction::AwaitEndpoint { until },
                ),
                (EndpointAdmission::Park, DeliveryAction::Park),
            ] {
                let expected = if is_maintenance { attempt } else { other };
                let action = next_delivery_action(None, kind, admission, timestamp_at(1_000));
                assert_eq!(action, expected, "{kind:?} {admission:?}");
            }
        }
        // An attempt that is not due is neither made nor parked.
        let waiting = sample_delivery(DeliveryState::Retry, Some(1_001));
        let action = next_delivery_action(
            Some(&waiting),
            AttemptKind::Scheduled,
            EndpointAdmission::Park,
            timestamp_at(1_000),
        );
        let until = timestamp_at(1_001);
        assert_eq!(action, DeliveryAction::AwaitRetry { until });
    }

    #[test]
    fn an_outcome_moves_the_delivery_on() {
        let (send, park) = (EndpointAdmission::Send, EndpointAdmission::Park);
        let rejected = response_with(AttemptOutcome::Rejected);
        for (kind, number, outcome, admission, state, attempt_count) in [
            (
                AttemptKind::Scheduled,
                4,
                AttemptOutcome::Ok,
                park,
                DeliveryState::Delivered,
                4,
            ),
            (
                AttemptKind::Probe,
                4,
                AttemptOutcome::Ok,
                park,
                DeliveryState::Delivered,
                4,
            ),
            (
                AttemptKind::Scheduled,
                4,
                AttemptOutcome::Rejected,
                send,
                DeliveryState::Retry,
                4,
            ),
            (
                AttemptKind::Scheduled,
                4,
                AttemptOutcome::Rejected,
                park,
                DeliveryState::Parked,
                4,
            ),
            (
                AttemptKind::Probe,
                4,
                AttemptOutcome::Rejected,
                park,
                DeliveryState::Parked,
                3,
            ),
            (
                AttemptKind::Scheduled,
                10,
                AttemptOutcome::Rejected,
                send,
                DeliveryState::Exhausted,
                10,
            ),
            (
                AttemptKind::Scheduled,
                3,
                AttemptOutcome::Blocked,
                park,
                DeliveryState::Exhausted,
                3,
            ),
        ] {
            let delivery = apply(kind, number, &response_with(outcome), admission);
            assert_eq!(
                (delivery.state, delivery.attempt_count),
                (state, attempt_count),
                "{kind:?} {outcome}"
            );
            let is_retry = state == DeliveryState::Retry;
            assert_eq!(delivery.next_attempt_at.is_some(), is_retry);
        }
        let resent = apply(AttemptKind::Resend, 1, &rejected, send);
        assert!(resent.is_redelivery);
        assert_eq!(resent.next_attempt_at, Some(timestamp_at(1_005)));
    }

    #[test]
    fn a_receiver_can_abort_an_event() {
        let response = AttemptResponse {
            control: Some(ReceiverControl::AbortMessage),
            ..response_with(AttemptOutcome::Rejected)
        };
        let delivery = apply(AttemptKind::Probe, 4, &response, EndpointAdmission::Park);
        assert_eq!(
            (delivery.state, delivery.attempt_count),
            (DeliveryState::Exhausted, 4)
        );
        assert_eq!(delivery.last_attempt().unwrap().outcome_class, "aborted");
        // One that took it all the same has it.
        let response = AttemptResponse {
            outcome: AttemptOutcome::Ok,
            ..response
        };
        let delivery = apply(
            AttemptKind::Scheduled,
            4,
            &response,
            EndpointAdmission::Send,
        );
        assert_eq!(delivery.state, DeliveryState::Delivered);
        assert_eq!(delivery.last_attempt().unwrap().outcome_class, "ok");
    }
}
