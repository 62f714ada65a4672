//! Doubt: when a row that an answer lacks is believed to be gone.
//!
//! A row can be missing because the bank removed it, because the pages moved while they were read, or
//! because the answer was cut short. The first must be told, the others must not. So a removal needs
//! two witnesses:
//!
//! * **A few rows missing** ([`Loss::Few`]): the refresh asks the bank at once for the dates of these
//!   rows alone. Other dates make other pages, so what moved in one answer does not move in the
//!   other. A row that both lack is gone. Where the bank does not answer the second question, the
//!   rows are held and a later refresh is the second witness.
//! * **Most of the rows missing, or all** ([`Loss::Most`]): nothing of the answer is believed, the last
//!   good state is kept, and the bank is said to answer nonsense. An answer at least
//!   [`MOST_BELIEVED_AFTER`] later that still lacks them is believed, so an account that was truly
//!   emptied is no trap.
//!
//! Any answer that lacks nothing ends the doubt.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::TransactionId,
    snapshot::{BookingStatus, Transaction},
};

/// Missing rows from which on a loss of more than half is one of [`Loss::Most`].
pub const MOST_MISSING_MIN_ROWS: usize = 5;

/// How long most of the rows must have been missing before it is believed.
pub const CONFIRM_MOST_AFTER: SignedDuration = SignedDuration::from_hours(20);

/// How long a few rows that could not be asked for again must have been missing.
pub const CONFIRM_FEW_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Rows held at once, at most; others wait for their turn.
pub const MAX_PENDING_ROWS: usize = 24;

/// What an answer lacked that is not believed to be gone yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDeletions {
    /// The first answer that lacked it.
    #[serde(rename = "s", with = "jiff::fmt::serde::timestamp::second::required")]
    pub since: Timestamp,
    /// The rows; none where the answer lacked most of them.
    #[serde(rename = "r", skip_serializing_if = "BTreeSet::is_empty", default)]
    pub rows: BTreeSet<TransactionId>,
}

/// How much an answer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRows {
    /// Nothing.
    None,
    /// A few rows.
    Few,
    /// More than half of the rows and at least [`MOST_FROM`], or every row and one of them booked.
    Most,
}

impl MissingRows {
    /// The loss of `missing` rows, of `known` in the window, in an answer of `answered` rows.
    pub fn classify_missing(
        missing: &[Transaction],
        stored_count: usize,
        response_count: usize,
    ) -> Self {
        let booked = |row: &Transaction| row.facts.status == BookingStatus::Booked;
        if missing.is_empty() {
            Self::None
        } else if (missing.len() >= MOST_MISSING_MIN_ROWS && missing.len() * 2 > stored_count)
            || (response_count == 0 && missing.iter().any(booked))
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
        pending.is_some_and(|doubt| {
            doubt.rows.is_empty() && now.duration_since(doubt.since) >= CONFIRM_MOST_AFTER
        })
    }

    /// True where this row has been missing for long enough.
    pub fn is_row_confirmed(pending: Option<&Self>, row: TransactionId, now: Timestamp) -> bool {
        pending.is_some_and(|doubt| {
            doubt.rows.contains(&row) && now.duration_since(doubt.since) >= CONFIRM_FEW_AFTER
        })
    }

    /// The doubt after most rows were missing once more.
    pub fn for_most_rows(before: Option<&Self>, now: Timestamp) -> Self {
        let since = before
            .filter(|doubt| doubt.rows.is_empty())
            .map_or(now, |doubt| doubt.since);
        Self {
            since,
            rows: BTreeSet::new(),
        }
    }

    /// The doubt after these rows were held; `None` where there are none.
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
            .filter(|doubt| rows.is_subset(&doubt.rows))
            .map_or(now, |doubt| doubt.since);
        Some(Self { since, rows })
    }
}
