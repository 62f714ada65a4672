//! The transactions of a record, page by page: [`TransactionCursor`] says where a [`TransactionPage`] begins.

use jiff::{ToSpan, civil::Date};
use maud::{Markup, html};
use okra_core::model::{
    ids::{RecordId, TransactionId},
    snapshot::{BookingStatus, utc_date},
};
use okra_store::{Account, Consistency, RecordHead, StoredTransaction};

use super::{
    change_rows::{description_or_default, render_signed_amount},
    load::RecordPage,
};
use crate::{
    components::{
        badges::render_badge,
        format::{format_amount, format_day},
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// Days of transactions that are read, and rows that are shown.
pub(crate) const TRANSACTION_DAYS: i32 = 90;

const TRANSACTIONS_PER_PAGE: usize = 100;

/// Where a page of transactions begins: below a day, and in it below a row.
#[derive(Clone)]
pub(crate) struct TransactionCursor {
    pub(crate) before_day: Date,
    pub(crate) before_row: Option<TransactionId>,
}

impl TransactionCursor {
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

    fn page_href(&self, record: RecordId) -> String {
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
    /// The days that were read; `None`: to the newest.
    pub(crate) date_range: (Date, Option<Date>),
    /// Rows in these days.
    pub(crate) row_count: usize,
    /// Where the next page begins.
    pub(crate) next_cursor: Option<TransactionCursor>,
}

/// The transactions of accounts below a place, or the newest; a page at most.
pub(crate) async fn load_transactions(
    web: &WebState,
    head: &RecordHead,
    accounts: &[Account],
    cursor: Option<TransactionCursor>,
) -> Result<TransactionPage, PageError> {
    let last = cursor.as_ref().map(|below| below.before_day);
    let first = last
        .unwrap_or_else(|| utc_date(web.now()))
        .saturating_sub(TRANSACTION_DAYS.days());
    let store = &web.api.store;
    let of_accounts = accounts
        .iter()
        .map(|it| store.list_transactions(it.id, first, last, Consistency::Eventual));
    let of_accounts = futures::future::try_join_all(of_accounts).await?;
    let mut rows: Vec<StoredTransaction> = of_accounts.into_iter().flatten().collect();
    rows.sort_by_key(|row| {
        let it = &row.transaction;
        std::cmp::Reverse((it.facts.booked_at, it.id))
    });
    let count = rows.len();
    // A row that is gone since: its day is shown anew.
    let row = cursor.and_then(|below| below.before_row);
    let at = row.and_then(|id| rows.iter().position(|it| it.transaction.id == id));
    let mut shown = rows.split_off(at.map_or(0, |at| at + 1));
    let more = shown.len() > TRANSACTIONS_PER_PAGE;
    shown.truncate(TRANSACTIONS_PER_PAGE);
    // Nothing is older than the history that was asked for, or than the window of the first pull.
    let months = i32::from(head.backfill_months.max(2));
    let oldest = utc_date(head.created_at).saturating_sub(months.months());
    let next = match more {
        true => shown.last().map(TransactionCursor::from_row),
        false if first > oldest => Some(TransactionCursor {
            before_day: first.saturating_sub(1.day()),
            before_row: None,
        }),
        false => None,
    };
    Ok(TransactionPage {
        rows: shown,
        date_range: (first, last),
        row_count: count,
        next_cursor: next,
    })
}

pub(crate) fn render_transactions(page: &RecordPage) -> Markup {
    html! {
        @if page.transactions.rows.is_empty() {
            (render_empty_state("No transactions", &html! {
                p { "The bank has shown none in these days. The first pull takes a moment after linking." }
            }))
        } @else {
            (render_transaction_rows(page))
        }
        @let record = page.head.record;
        p.more {
            @if page.transactions.date_range.1.is_some() {
                a.button href={ "/dashboard/records/" (record) "#transactions" } { "Newest transactions" } " "
            }
            @if let Some(next) = &page.transactions.next_cursor {
                a.button href=(next.page_href(record)) { "Older transactions" }
            }
        }
    }
}

fn render_transaction_rows(page: &RecordPage) -> Markup {
    let rows = &page.transactions.rows;
    let several = page.accounts.len() > 1;
    let stated = |row: &StoredTransaction| row.transaction.facts.balance_after.is_some();
    let balances = rows.iter().any(stated);
    html! {
        (render_table("Transactions", &html! {
            th { "Date" } th { "Description" } th.number { "Amount" }
            @if balances { th.wide.number { "Balance" } } @if several { th.wide { "Account" } }
        }, &html! {
            @for row in rows {
                @let facts = &row.transaction.facts;
                tr {
                    td.nowrap { (format_day(facts.booked_at)) }
                    td.text {
                        (description_or_default(facts))
                        @if facts.status == BookingStatus::Pending { " " (render_badge("idle", "Pending")) }
                        @if let Some(reference) = &facts.reference { span.note { (reference) } }
                    }
                    td.number { (render_signed_amount(facts)) }
                    @if balances { td.wide.number { @if let Some(after) = facts.balance_after { (format_amount(after)) } } }
                    @if several { td.wide { (page.account_name(row.account)) } }
                }
            }
        }))
    }
}
