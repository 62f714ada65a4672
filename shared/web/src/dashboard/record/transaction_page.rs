//! A page of a record's transactions: [`TransactionCursor`] says where a [`TransactionPage`] begins.
//!
//! The rule: a page reads the days of one range, and the next page begins where this one ends, so that following
//! "Older transactions" shows each transaction once.

use std::cmp::Reverse;

use jiff::{ToSpan, civil::Date};
use okra_core::model::{
    ids::{RecordId, TransactionId},
    snapshot::utc_date,
};
use okra_store::{Account, Consistency, RecordHead, StoredTransaction};

use crate::{page_error::PageError, web_state::WebState};

/// Days of transactions that a page reads.
pub(crate) const TRANSACTION_DAYS: i32 = 90;

/// Transactions on a page.
const TRANSACTIONS_PER_PAGE: usize = 100;

/// Where a page begins: on a day, and on it below a row.
pub(crate) struct TransactionCursor {
    before_day: Date,
    before_row: Option<TransactionId>,
}

impl TransactionCursor {
    /// A cursor of a query; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (day, row) = match text.split_once('_') {
            Some((day, row)) => (day, Some(row.parse().ok()?)),
            None => (text, None),
        };
        let day = day.parse().ok()?;
        Some(Self {
            before_day: day,
            before_row: row,
        })
    }

    fn from_row(row: &StoredTransaction) -> Self {
        Self {
            before_day: row.transaction.facts.booking_date(),
            before_row: Some(row.transaction.id),
        }
    }

    /// The address of the page that begins here.
    pub(crate) fn page_href(&self, record: RecordId) -> String {
        let row = self
            .before_row
            .map_or_else(String::new, |row| format!("_{row}"));
        let day = self.before_day;
        format!("/dashboard/records/{record}?below={day}{row}#transactions")
    }
}

/// A page of transactions.
pub(crate) struct TransactionPage {
    /// Newest first.
    pub(crate) rows: Vec<StoredTransaction>,
    /// The first day that was read.
    pub(crate) first_day: Date,
    /// The last day that was read; `None` for the newest page.
    pub(crate) last_day: Option<Date>,
    /// Transactions on these days.
    pub(crate) row_count: usize,
    /// Where the next page begins.
    pub(crate) next_cursor: Option<TransactionCursor>,
}

/// Reads a page of the transactions of these accounts, or the newest page.
pub(crate) async fn load_transactions(
    web: &WebState,
    head: &RecordHead,
    accounts: &[Account],
    cursor: Option<TransactionCursor>,
) -> Result<TransactionPage, PageError> {
    let last = cursor.as_ref().map(|cursor| cursor.before_day);
    let first = last
        .unwrap_or_else(|| utc_date(web.now()))
        .saturating_sub(TRANSACTION_DAYS.days());
    let store = &web.services.store;
    // All rows of these days, newest first.
    let reads = accounts
        .iter()
        .map(|it| store.list_transactions(it.id, first, last, Consistency::Eventual));
    let by_account = futures::future::try_join_all(reads).await?;
    let mut rows: Vec<StoredTransaction> = by_account.into_iter().flatten().collect();
    rows.sort_by_key(|row| Reverse((row.transaction.facts.booked_at, row.transaction.id)));
    let row_count = rows.len();
    // Those below the cursor. Where its row has been deleted since, its whole day is shown again.
    let row = cursor.and_then(|cursor| cursor.before_row);
    let at = row.and_then(|id| rows.iter().position(|it| it.transaction.id == id));
    let mut shown = rows.split_off(at.map_or(0, |at| at + 1));
    let has_more = shown.len() > TRANSACTIONS_PER_PAGE;
    shown.truncate(TRANSACTIONS_PER_PAGE);
    // Nothing is older than the requested backfill, or than the window of the first refresh.
    let months = i32::from(head.backfill_months.max(2));
    let oldest = utc_date(head.created_at).saturating_sub(months.months());
    let next_cursor = match has_more {
        true => shown.last().map(TransactionCursor::from_row),
        false if first > oldest => Some(TransactionCursor {
            before_day: first.saturating_sub(1.day()),
            before_row: None,
        }),
        false => None,
    };
    Ok(TransactionPage {
        rows: shown,
        first_day: first,
        last_day: last,
        row_count,
        next_cursor,
    })
}
