//! Pages of one list joined into one, whatever the standard: [`join_pages`], and [`find_ambiguous_dates`] for what
//! the pages alone cannot settle.
//!
//! A list is not frozen while it is read. A row that arrives in between moves the others down, and the bank shows the
//! last rows of a page again as the first of the next.

use std::collections::HashMap;

use jiff::civil::Date;
use okra_core::model::snapshot::TransactionFacts;

/// Rows at the edge of a page that are compared with the next page's, at most.
const MAX_OVERLAP_ROWS: usize = 64;

/// Rows by which pages move while others of them change, at most.
const MAX_SHIFTED_ROWS: usize = 8;

/// Rows of one bank id that a row is compared with, at most.
const MAX_COMPARED_ROWS: usize = 64;

/// The first and last booking date of rows at the edges of pages that are either several transactions or one shown
/// twice: rows without ids that end one page and begin the next, and rows that read differently there under the
/// same id. Nothing in the pages tells which.
pub fn find_ambiguous_dates(pages: &[Vec<TransactionFacts>]) -> Option<(Date, Date)> {
    let dates: Vec<Date> = pages
        .windows(2)
        .flat_map(|pair| ambiguous_rows(&pair[0], &pair[1]))
        .map(TransactionFacts::booking_date)
        .collect();
    Some((*dates.iter().min()?, *dates.iter().max()?))
}

/// The ambiguous rows of a page that follows another.
fn ambiguous_rows<'a>(
    page: &'a [TransactionFacts],
    next: &'a [TransactionFacts],
) -> impl Iterator<Item = &'a TransactionFacts> {
    // Rows that end the page and begin the next, in the same order.
    let longest = page.len().min(next.len()).min(MAX_OVERLAP_ROWS);
    let overlap = (1..=longest)
        .rev()
        .find(|&rows| page[page.len() - rows..] == next[..rows])
        .unwrap_or(0);
    let without_id = next[..overlap].iter().filter(|row| row.bank_id.is_none());

    // A row between them may have changed at the same moment, so that the edges are not alike.
    let end = &page[page.len().saturating_sub(MAX_SHIFTED_ROWS)..];
    let shifted = next
        .iter()
        .take(MAX_SHIFTED_ROWS)
        .filter(|row| match &row.bank_id {
            None => end.contains(row),
            Some(_) => end.iter().any(|it| it.bank_id == row.bank_id && it != *row),
        });
    without_id.chain(shifted)
}

/// The pages of one list as one list. A row with an id that reads like one of an earlier page is that row; within a
/// page every row counts.
pub fn join_pages(pages: Vec<Vec<TransactionFacts>>) -> Vec<TransactionFacts> {
    let mut pages = pages.into_iter();
    let mut rows = pages.next().unwrap_or_default();
    let mut positions_by_id: HashMap<String, Vec<usize>> = HashMap::new();
    let mut indexed = 0;
    for mut page in pages {
        for (position, row) in rows.iter().enumerate().skip(indexed) {
            if let Some(id) = &row.bank_id {
                positions_by_id
                    .entry(id.clone())
                    .or_default()
                    .push(position);
            }
        }
        indexed = rows.len();
        page.retain(|row| {
            let id = row.bank_id.as_ref();
            let same_id = id
                .and_then(|id| positions_by_id.get(id))
                .into_iter()
                .flatten();
            let mut latest = same_id.rev().take(MAX_COMPARED_ROWS);
            !latest.any(|&position| rows[position] == *row)
        });
        rows.append(&mut page);
    }
    rows
}
