//! Rows that come from a file: [`ReplayedRows`] shows those of the days up to the present.

use std::{borrow::Cow, sync::Arc};

use super::movement::{
    AccountBalance, Movement, RowKey, RowStage, SECONDS_PER_DAY, ShownTransactionId, UnixSeconds,
};

/// One row of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileRow {
    /// The file's id of the row.
    pub(crate) id: u64,
    /// First second of the row's day.
    pub(crate) day_start: UnixSeconds,
    /// Minor units, signed.
    pub(crate) amount_minor: i64,
    /// The balance the file states after the row, in minor units.
    pub(crate) balance_minor: i64,
    pub(crate) text: Arc<str>,
    pub(crate) code: Arc<str>,
}

/// The rows of one account.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplayedRows {
    /// By day, and within a day in the order of the file.
    rows: Vec<DatedFileRow>,
}

#[derive(Clone, Debug)]
struct DatedFileRow {
    row: FileRow,
    /// Position in the file among the account's rows.
    file_position: usize,
    /// Balance of the last row in file order among this and all earlier days' rows.
    day_end_balance: i64,
    /// `BookingDateTime`: the day's first second plus the row's number within the day.
    booking_time: UnixSeconds,
}

impl ReplayedRows {
    /// The rows in the order of the file.
    pub(crate) fn new(rows: Vec<FileRow>) -> Self {
        let mut dated_rows: Vec<_> = rows
            .into_iter()
            .enumerate()
            .map(|(position, row)| DatedFileRow {
                file_position: position,
                day_end_balance: row.balance_minor,
                booking_time: row.day_start,
                row,
            })
            .collect();
        dated_rows.sort_by_key(|dated| dated.row.day_start);
        // Position and balance of the latest row in file order, so far.
        let mut latest: Option<(usize, i64)> = None;
        let (mut day, mut number) = (UnixSeconds::MIN, 0);
        for dated in &mut dated_rows {
            let newest = latest
                .filter(|(position, _)| *position > dated.file_position)
                .unwrap_or((dated.file_position, dated.row.balance_minor));
            latest = Some(newest);
            dated.day_end_balance = newest.1;
            number = if dated.row.day_start == day {
                number + 1
            } else {
                0
            };
            day = dated.row.day_start;
            // A day of more rows than seconds keeps its last second: the date never moves.
            dated.booking_time = day + number.min(SECONDS_PER_DAY - 1);
        }
        Self { rows: dated_rows }
    }

    /// The first second of the first day: before it the account does not exist. An account without rows never does.
    pub(crate) fn created_at(&self) -> UnixSeconds {
        self.rows
            .first()
            .map_or(UnixSeconds::MAX, |first| first.row.day_start)
    }

    /// What the account holds.
    pub(crate) fn balance_at(&self, now: UnixSeconds) -> AccountBalance {
        let shown = self
            .rows
            .partition_point(|dated| dated.row.day_start <= now);
        let mut balance = match self.rows[..shown].last() {
            Some(last) => {
                AccountBalance::with_opening_balance(last.day_end_balance, last.row.day_start)
            }
            None => AccountBalance::with_opening_balance(0, self.created_at()),
        };
        if let Some(next) = self.rows.get(shown) {
            balance.expect_change(next.row.day_start);
        }
        balance
    }

    /// Visits the rows listed at `now` with a date from `from` to `to`.
    pub(crate) fn visit_rows(
        &self,
        now: UnixSeconds,
        from: UnixSeconds,
        to: UnixSeconds,
        visitor: &mut dyn FnMut(Movement),
    ) {
        let first = self.rows.partition_point(|dated| dated.booking_time < from);
        for dated in &self.rows[first..] {
            if dated.row.day_start > now || dated.booking_time > to {
                return;
            }
            visitor(dated.to_movement());
        }
    }

    /// One row, where there is such a row.
    pub(crate) fn find_row(&self, id: u64) -> Option<Movement> {
        let dated = self.rows.iter().find(|dated| dated.row.id == id)?;
        Some(dated.to_movement())
    }
}

impl DatedFileRow {
    fn to_movement(&self) -> Movement {
        Movement {
            key: RowKey::File(self.row.id),
            pending: None,
            booked: Some(RowStage {
                starts_at: self.row.day_start,
                booking_time: self.booking_time,
                amount_minor: self.row.amount_minor,
                transaction_id: ShownTransactionId::Text(self.row.id.to_string()),
            }),
            text: Cow::Owned(self.row.text.as_ref().to_owned()),
            code: Cow::Owned(self.row.code.as_ref().to_owned()),
            merchant: None,
            balance_after: Some(self.row.balance_minor),
        }
    }
}
