//! Order: at an endpoint that requests it, the events of a record are sent one after another.
//!
//! [`FifoStatus`] says whether an event is at the head of its record's events, [`PredecessorScan`] looks back from an
//! event for one that blocks it, and [`predecessor_action`] says what is done about the one that does.
//!
//! The rule it keeps: an event is sent for the first time when no event before it blocks it. Each is final, or has been
//! failing for long enough ([`blocks_head_of_line`](crate::delivery::retry::blocks_head_of_line)); the next event that
//! is sent names it as missing.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::{
    delivery::{
        attempt::AttemptKind,
        state_machine::{Delivery, DeliveryState, FifoPosition},
    },
    model::ids::Seq,
    resilience::circuit_breaker::saturating_later,
};

/// Events that a header names as missing at most: the newest.
pub const MAX_MISSING_SEQS: usize = 32;

/// Seconds after its commit after which an event that nobody has begun is begun by those that wait for it: its own
/// message was lost, or was handled when the endpoint had other settings.
pub const BEGIN_AFTER_S: i64 = 60;

/// Whether an event is at the head of its record's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FifoStatus {
    /// Its endpoint does not get events in order.
    Unordered,
    /// It is.
    AtHead {
        /// Events before it that should have been delivered and were not; oldest first.
        missing_seqs: Vec<Seq>,
    },
    /// It is not, and it is sent all the same: it was sent before, or somebody requested it.
    OutOfOrder,
}

impl FifoStatus {
    /// Where an event stands after an attempt; `is_settled` where it does not block those behind it.
    pub fn next_position(&self, position: FifoPosition, is_settled: bool) -> FifoPosition {
        match self {
            Self::Unordered => position,
            Self::AtHead { .. } if is_settled => FifoPosition::Released,
            Self::AtHead { .. } | Self::OutOfOrder => position.max(FifoPosition::Queued),
        }
    }

    /// The events before it that are missing at the endpoint.
    pub fn missing_seqs(&self) -> &[Seq] {
        match self {
            Self::AtHead { missing_seqs } => missing_seqs,
            Self::Unordered | Self::OutOfOrder => &[],
        }
    }

    /// The events that are missing before the next one, once an event with this status was settled; `None` where
    /// they have to be looked up.
    pub fn missing_before_next(self, seq: Seq, is_delivered: bool) -> Option<Vec<Seq>> {
        match self {
            Self::AtHead { .. } if is_delivered => Some(Vec::new()),
            Self::AtHead { mut missing_seqs } => {
                missing_seqs.push(seq);
                missing_seqs.drain(..missing_seqs.len().saturating_sub(MAX_MISSING_SEQS));
                Some(missing_seqs)
            }
            Self::Unordered | Self::OutOfOrder => None,
        }
    }
}

/// What an event means for the one that a scan began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredecessorStep {
    /// It does not block it; look at the one before.
    Continue,
    /// Neither it nor any before it blocks it.
    Finish,
    /// It blocks it.
    Block,
}

/// Looks back from an event through those before it, newest first.
#[derive(Clone, Debug, Default)]
pub struct PredecessorScan {
    missing_seqs: VecDeque<Seq>,
    /// An event that was at the head was passed: nothing before it blocks, and it is searched for missing ones only.
    has_passed_released: bool,
}

impl PredecessorScan {
    /// Takes the next event before, with its delivery where it has one.
    pub fn examine(&mut self, seq: Seq, delivery: Option<&Delivery>) -> PredecessorStep {
        let Some(delivery) = delivery.filter(|it| it.releases_next_event()) else {
            return if self.has_passed_released {
                PredecessorStep::Continue
            } else {
                PredecessorStep::Block
            };
        };
        self.has_passed_released |= delivery.fifo_position == FifoPosition::Released;
        let has_arrived = delivery.state == DeliveryState::Delivered || delivery.is_redelivery;
        if !has_arrived {
            self.missing_seqs.push_front(seq);
        }
        if self.has_passed_released && (has_arrived || self.missing_seqs.len() >= MAX_MISSING_SEQS)
        {
            PredecessorStep::Finish
        } else {
            PredecessorStep::Continue
        }
    }

    /// The newest of the missing events, oldest first.
    pub fn into_missing_seqs(mut self) -> Vec<Seq> {
        let surplus = self.missing_seqs.len().saturating_sub(MAX_MISSING_SEQS);
        self.missing_seqs.drain(..surplus);
        self.missing_seqs.into()
    }
}

/// What is done about an event that blocks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredecessorAction {
    /// It is parked: park the other too.
    ParkBehind,
    /// Wait: whoever settles it continues with the other.
    AwaitSettlement,
    /// Wait until then: nobody may know of it.
    AwaitBegin {
        /// When it is begun by those that wait for it.
        until: Timestamp,
    },
    /// Attempt it first.
    TakeOver,
}

/// What an attempt of this kind does about an event that blocks its own, committed at `committed_at`.
pub fn predecessor_action(
    delivery: Option<&Delivery>,
    committed_at: Timestamp,
    kind: AttemptKind,
    now: Timestamp,
) -> PredecessorAction {
    match delivery.map(|it| (it.state, it.next_attempt_at)) {
        Some((DeliveryState::Parked, _)) if kind == AttemptKind::Scheduled => {
            PredecessorAction::ParkBehind
        }
        // Another worker has claimed it.
        Some((DeliveryState::Parked, Some(until))) if until > now => {
            PredecessorAction::AwaitSettlement
        }
        Some((DeliveryState::Parked, _)) => PredecessorAction::TakeOver,
        Some(_) if kind != AttemptKind::Probe => PredecessorAction::AwaitSettlement,
        Some(_) => PredecessorAction::TakeOver,
        None => {
            let until = saturating_later(committed_at, SignedDuration::from_secs(BEGIN_AFTER_S));
            if until > now && kind != AttemptKind::Probe {
                PredecessorAction::AwaitBegin { until }
            } else {
                PredecessorAction::TakeOver
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::state_machine::DeliveryKey,
        model::ids::{EndpointId, RecordId},
    };

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sample_delivery(state: DeliveryState, fifo_position: FifoPosition) -> Delivery {
        let key = DeliveryKey {
            endpoint: EndpointId::from_bytes([1; 12]),
            committed_at: timestamp_at(0),
            source: RecordId::from_bytes([1; 12]).into(),
            seq: Seq(1),
        };
        Delivery {
            state,
            fifo_position,
            ..Delivery::new(key, "balance.success")
        }
    }

    #[test]
    fn a_scan_ends_at_the_first_event_that_blocks_or_was_delivered_at_the_head() {
        let delivered = sample_delivery(DeliveryState::Delivered, FifoPosition::Released);
        let exhausted = sample_delivery(DeliveryState::Exhausted, FifoPosition::Released);
        let queued = sample_delivery(DeliveryState::Cancelled, FifoPosition::Queued);
        let failing = sample_delivery(DeliveryState::Retry, FifoPosition::Queued);

        let mut scan = PredecessorScan::default();
        assert_eq!(
            scan.examine(Seq(9), Some(&queued)),
            PredecessorStep::Continue
        );
        assert_eq!(
            scan.clone().examine(Seq(8), Some(&failing)),
            PredecessorStep::Block
        );
        assert_eq!(scan.clone().examine(Seq(8), None), PredecessorStep::Block);
        assert_eq!(
            scan.examine(Seq(8), Some(&exhausted)),
            PredecessorStep::Continue
        );
        // Nothing before one that was at the head blocks.
        assert_eq!(scan.examine(Seq(7), None), PredecessorStep::Continue);
        assert_eq!(
            scan.examine(Seq(6), Some(&delivered)),
            PredecessorStep::Finish
        );
        assert_eq!(scan.into_missing_seqs(), [Seq(8), Seq(9)]);
    }

    #[test]
    fn the_newest_missing_events_are_named() {
        let exhausted = sample_delivery(DeliveryState::Exhausted, FifoPosition::Queued);
        let mut scan = PredecessorScan::default();
        for seq in (1..=40).rev() {
            scan.examine(Seq(seq), Some(&exhausted));
        }
        let named = scan.into_missing_seqs();
        assert_eq!((named.first(), named.len()), (Some(&Seq(9)), 32));
        let status = FifoStatus::AtHead {
            missing_seqs: named,
        };
        let next = status.missing_before_next(Seq(41), false).unwrap();
        assert_eq!((next.first(), next.len()), (Some(&Seq(10)), 32));
    }

    #[test]
    fn an_event_that_nobody_began_is_begun_after_a_minute() {
        let action =
            |second, kind| predecessor_action(None, timestamp_at(0), kind, timestamp_at(second));
        let until = timestamp_at(60);
        let wait = PredecessorAction::AwaitBegin { until };
        assert_eq!(action(59, AttemptKind::Scheduled), wait);
        assert_eq!(
            action(60, AttemptKind::Scheduled),
            PredecessorAction::TakeOver
        );
        assert_eq!(action(0, AttemptKind::Probe), PredecessorAction::TakeOver);
    }

    #[test]
    fn a_parked_event_parks_those_behind_it_until_it_is_drained() {
        let parked = sample_delivery(DeliveryState::Parked, FifoPosition::Queued);
        let claimed = parked.clone().with_claim(timestamp_at(0));
        let failing = sample_delivery(DeliveryState::Retry, FifoPosition::Queued);
        for (delivery, kind, expected) in [
            (
                &parked,
                AttemptKind::Scheduled,
                PredecessorAction::ParkBehind,
            ),
            (&parked, AttemptKind::Drain, PredecessorAction::TakeOver),
            (
                &claimed,
                AttemptKind::Drain,
                PredecessorAction::AwaitSettlement,
            ),
            (
                &failing,
                AttemptKind::Drain,
                PredecessorAction::AwaitSettlement,
            ),
            (&failing, AttemptKind::Probe, PredecessorAction::TakeOver),
        ] {
            let action = predecessor_action(Some(delivery), timestamp_at(0), kind, timestamp_at(1));
            assert_eq!(action, expected, "{delivery:?} {kind:?}");
        }
    }
}
