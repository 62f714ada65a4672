//! Candidates: which rows one row is compared with. The cast: [`DatedRow`], a row with its day; [`IndicesByDay`], rows
//! that are found by day.
//!
//! The rule: whatever the number of rows, one row is compared with at most [`MAX_CANDIDATES`] others.

use std::collections::BTreeSet;

use crate::model::{
    ids::EpochDay,
    snapshot::{BookingStatus, Direction, TransactionFacts},
};

/// Days between a pending row and the booked row that it became, at most. Card schemes settle within seven days, but
/// for fuel, hotels and cross-border payments.
pub const BOOKING_WINDOW_DAYS: i32 = 10;

/// Days that a booked row may be dated before its pending row: some banks book by value date.
pub(super) const BACK_DATED_DAYS: i32 = 1;

/// Rows that one row is compared with in one rule, at most.
pub const MAX_CANDIDATES: usize = 64;

/// A row, and the day of its date.
#[derive(Clone, Copy)]
pub(super) struct DatedRow<'a> {
    pub(super) facts: &'a TransactionFacts,
    /// Days since 1970.
    pub(super) day: i32,
}

impl<'a> DatedRow<'a> {
    pub(super) fn new(facts: &'a TransactionFacts) -> Self {
        let day = i32::from(EpochDay::from_date(facts.booking_date()).0);
        Self { facts, day }
    }

    pub(super) fn bank_id(&self) -> Option<&'a str> {
        self.facts.bank_id.as_deref()
    }

    pub(super) const fn is_pending(&self) -> bool {
        matches!(self.facts.status, BookingStatus::Pending)
    }

    pub(super) const fn is_booked(&self) -> bool {
        matches!(self.facts.status, BookingStatus::Booked)
    }
}

/// Indices of rows by day, so that those near a day are found without reading the others.
pub(super) type IndicesByDay = BTreeSet<(i32, usize)>;

/// Up to [`MAX_CANDIDATES`] rows around a day, half of them from before it.
pub(super) fn rows_near_day(
    candidates: &IndicesByDay,
    day: i32,
) -> impl Iterator<Item = (i32, usize)> {
    let half = MAX_CANDIDATES / 2;
    let before = candidates.range(..(day, 0)).rev().take(half);
    before
        .chain(candidates.range((day, 0)..).take(half))
        .copied()
}

/// Up to [`MAX_CANDIDATES`] rows that may have been booked on a day, the nearest first.
pub(super) fn rows_bookable_on_day(
    candidates: &IndicesByDay,
    day: i32,
) -> impl Iterator<Item = (i32, usize)> {
    let (first, last) = (day - BOOKING_WINDOW_DAYS, day + BACK_DATED_DAYS);
    candidates
        .range((first, 0)..=(last, usize::MAX))
        .rev()
        .take(MAX_CANDIDATES)
        .copied()
}

/// Direction, minor units, currency, day and text.
pub(super) type ContentKey<'a> = (Direction, i64, &'a str, i64, &'a str);

/// What makes two rows equal whatever their ids, and whether booked or not. The day is that in UTC.
pub(super) fn content_key(facts: &TransactionFacts) -> ContentKey<'_> {
    (
        facts.direction,
        facts.amount.minor,
        facts.amount.currency.as_str(),
        facts.booked_at.as_second().div_euclid(86_400),
        &facts.description,
    )
}

/// A total order of rows by all their facts, so that equal input in any order is treated alike.
pub(super) fn content_order(facts: &TransactionFacts) -> impl Ord + '_ {
    (
        facts.booked_at,
        content_key(facts),
        facts.status,
        facts.bank_id.as_deref(),
        (
            facts.reference.as_deref(),
            facts.code.as_deref(),
            facts.value_at,
        ),
        facts
            .balance_after
            .map(|money| (money.minor, money.currency)),
    )
}
