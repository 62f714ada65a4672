//! Limits of SQS that several operations share.

use std::ops::RangeInclusive;

/// Most entries of a batch.
pub(super) const MAX_BATCH: usize = 10;

/// Most messages of a receive, from 1.
pub(super) const RECEIVE_SIZE_RANGE: RangeInclusive<u32> = 1..=10;

/// Most bytes of a message, and of a batch together.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Most characters of the id of a batch's entry.
pub(super) const MAX_ENTRY_ID_CHARS: usize = 80;

/// Seconds a message may be invisible: up to 12 hours.
pub(super) const VISIBILITY_RANGE_S: RangeInclusive<u32> = 0..=43_200;

/// Seconds a message may be delayed: up to 15 minutes.
pub(super) const DELAY_RANGE_S: RangeInclusive<u32> = 0..=900;

/// Seconds a receive may wait for a message.
pub(super) const WAIT_RANGE_S: RangeInclusive<u32> = 0..=20;

/// Seconds a message may be kept: one minute to 14 days.
pub(super) const RETENTION_RANGE_S: RangeInclusive<u32> = 60..=1_209_600;

/// Receives before a message goes to the dead-letter queue.
pub(super) const RECEIVE_COUNT_RANGE: RangeInclusive<u32> = 1..=1000;
