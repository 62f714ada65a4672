//! Rows that come from a file: an account shows those whose day has come.

use std::{borrow::Cow, sync::Arc};

use crate::movement::{DAY, Movement, RowKey, Second, ShownId, Stage, Standing};

/// One row of a file.
#[derive(Clone, Debug)]
pub(crate) struct FileRow {
    /// The file's id of the row.
    pub(crate) id: u64,
    /// First second of the row's day.
    pub(crate) day: Second,
    /// Minor units, signed.
    pub(crate) minor: i64,
    /// The balance the file states after the row, in minor units.
    pub(crate) balance: i64,
    pub(crate) text: Arc<str>,
    pub(crate) code: Arc<str>,
}

/// The rows of one account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replayed {
    /// By day, and within a day in the order of the file.
    rows: Vec<Placed>,
}

#[derive(Clone, Debug)]
struct Placed {
    row: FileRow,
    /// Position in the file among the account's rows.
    position: usize,
    /// Balance of the last row in file order among this and all earlier days' rows.
    standing: i64,
    /// `BookingDateTime`: the day's first second plus the row's number within the day.
    dated: Second,
}

impl Replayed {
    /// The rows in the order of the file.
    pub(crate) fn new(rows: Vec<FileRow>) -> Self {
        let mut placed: Vec<_> = rows
            .into_iter()
            .enumerate()
            .map(|(position, row)| Placed {
                position,
                standing: row.balance,
                dated: row.day,
                row,
            })
            .collect();
        placed.sort_by_key(|placed| placed.row.day);
        let mut last: Option<(usize, i64)> = None;
        let (mut day, mut number) = (Second::MIN, 0);
        for placed in &mut placed {
            let newest = last
                .filter(|(position, _)| *position > placed.position)
                .unwrap_or((placed.position, placed.row.balance));
            last = Some(newest);
            placed.standing = newest.1;
            number = if placed.row.day == day { number + 1 } else { 0 };
            day = placed.row.day;
            placed.dated = day + number.min(DAY - 1);
        }
        Self { rows: placed }
    }

    /// The first day's first second: before it the account does not exist.
    pub(crate) fn created(&self) -> Second {
        self.rows.first().map_or(Second::MAX, |first| first.row.day)
    }

    /// What the account holds.
    pub(crate) fn standing(&self, now: Second) -> Standing {
        let shown = self.rows.partition_point(|placed| placed.row.day <= now);
        let mut standing = match self.rows[..shown].last() {
            Some(last) => Standing::opening(last.standing, last.row.day),
            None => Standing::opening(0, self.created()),
        };
        if let Some(next) = self.rows.get(shown) {
            standing.expect(next.row.day);
        }
        standing
    }

    /// Hands out the rows listed at `now` with a date from `from` to `to`.
    pub(crate) fn visit(
        &self,
        now: Second,
        from: Second,
        to: Second,
        take: &mut dyn FnMut(Movement),
    ) {
        let first = self.rows.partition_point(|placed| placed.dated < from);
        for placed in &self.rows[first..] {
            if placed.row.day > now || placed.dated > to {
                return;
            }
            take(placed.movement());
        }
    }

    /// One row, where there is such a row.
    pub(crate) fn find(&self, id: u64) -> Option<Movement> {
        let placed = self.rows.iter().find(|placed| placed.row.id == id)?;
        Some(placed.movement())
    }
}

impl Placed {
    fn movement(&self) -> Movement {
        Movement {
            key: RowKey::File(self.row.id),
            pending: None,
            booked: Some(Stage {
                from: self.row.day,
                dated: self.dated,
                minor: self.row.minor,
                id: ShownId::Is(self.row.id.to_string()),
            }),
            text: Cow::Owned(self.row.text.as_ref().to_owned()),
            code: Cow::Owned(self.row.code.as_ref().to_owned()),
            merchant: None,
            balance_after: Some(self.row.balance),
        }
    }
}
