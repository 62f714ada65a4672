//! Pending deletions: when a row that a response lacks is taken to be deleted. The cast: [`MissingRows`], how much a
//! response lacks; [`PendingDeletions`], what earlier responses lacked and no second one has confirmed.
//!
//! A row can be missing because the bank deleted it, because the pages moved while they were read, or because the
//! response was cut short. Only the first is a change. So the rule is that a deletion needs two responses:
//!
//! * **A few rows missing** ([`MissingRows::Few`]): the refresh asks the bank at once for the dates of these rows alone.
//!   Other dates make other pages, so what moved in one response does not move in the other. A row that both lack is
//!   deleted. Where the bank does not respond to the second request, the deletions are pending, and a later refresh
//!   confirms them.
//! * **Most of the rows missing, or all** ([`MissingRows::Most`]): the response is rejected as malformed, and the last
//!   good state is kept. A response at least [`CONFIRM_MOST_AFTER`] later that still lacks them confirms it, so an
//!   account that was truly emptied is no trap.
//!
//! Any response that lacks nothing ends the pending deletions.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::TransactionId,
    snapshot::{BookingStatus, Transaction},
};

/// Missing rows from which on more than half of the rows is [`MissingRows::Most`].
pub const MOST_MISSING_MIN_ROWS: usize = 5;

/// How long most of the rows must have been missing until they are taken to be deleted.
pub const CONFIRM_MOST_AFTER: SignedDuration = SignedDuration::from_hours(20);

/// How long a few rows must have been missing where the second request failed.
pub const CONFIRM_FEW_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Rows of an account whose deletion is pending at once, at most; others become pending later.
pub const MAX_PENDING_ROWS: usize = 24;

/// Rows that a response lacked and whose deletion is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDeletions {
    /// When the first response lacked them.
    #[serde(rename = "s", with = "jiff::fmt::serde::timestamp::second::required")]
    pub since: Timestamp,
    /// The rows; empty where the response lacked most of them.
    #[serde(rename = "r", skip_serializing_if = "BTreeSet::is_empty", default)]
    pub rows: BTreeSet<TransactionId>,
}

/// How much a response lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRows {
    /// Nothing.
    None,
    /// A few rows.
    Few,
    /// More than half of the rows and at least [`MOST_MISSING_MIN_ROWS`], or every row and one of them booked.
    Most,
}

impl MissingRows {
    /// Classifies the `missing` rows of a response of `response_count` rows, where `stored_count` are stored in its
    /// window.
    pub fn classify_missing(
        missing: &[Transaction],
        stored_count: usize,
        response_count: usize,
    ) -> Self {
        let is_any_booked = missing
            .iter()
            .any(|row| row.facts.status == BookingStatus::Booked);
        if missing.is_empty() {
            Self::None
        } else if (missing.len() >= MOST_MISSING_MIN_ROWS && missing.len() * 2 > stored_count)
            || (response_count == 0 && is_any_booked)
        {
            Self::Most
        } else {
            Self::Few
        }
    }
}

impl PendingDeletions {
    /// True where most rows have been missing for long enough.
    pub fn is_most_confirmed(pending: Option<&Self>, now: Timestamp) -> bool {
        pending.is_some_and(|pending| {
            pending.rows.is_empty() && now.duration_since(pending.since) >= CONFIRM_MOST_AFTER
        })
    }

    /// True where this row has been missing for long enough.
    pub fn is_row_confirmed(pending: Option<&Self>, row: TransactionId, now: Timestamp) -> bool {
        pending.is_some_and(|pending| {
            pending.rows.contains(&row) && now.duration_since(pending.since) >= CONFIRM_FEW_AFTER
        })
    }

    /// The pending deletions after most rows were missing, where they were `before`.
    pub fn for_most_rows(before: Option<&Self>, now: Timestamp) -> Self {
        let since = before
            .filter(|pending| pending.rows.is_empty())
            .map_or(now, |pending| pending.since);
        Self {
            since,
            rows: BTreeSet::new(),
        }
    }

    /// The pending deletions after these rows were missing, where they were `before`; `None` where none are missing.
    pub fn for_rows(
        before: Option<&Self>,
        missing: &BTreeSet<TransactionId>,
        now: Timestamp,
    ) -> Option<Self> {
        if missing.is_empty() {
            return None;
        }
        let rows: BTreeSet<TransactionId> =
            missing.iter().copied().take(MAX_PENDING_ROWS).collect();
        let since = before
            .filter(|pending| rows.is_subset(&pending.rows))
            .map_or(now, |pending| pending.since);
        Some(Self { since, rows })
    }
}
