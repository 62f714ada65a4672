//! The matcher's cost, counted: whatever the input, each row is compared with at most a fixed number of others.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, EpochDay, TransactionId},
        money::{Currency, Money},
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::identity::{MAX_CANDIDATES, match_rows},
};

/// Rules that compare rows one by one.
const RULES: u64 = 4;

fn row(n: usize) -> TransactionFacts {
    TransactionFacts {
        bank_id: Some(format!("id-{n}")),
        status: BookingStatus::Booked,
        direction: Direction::Debit,
        amount: Money::new(5000, Currency::NGN),
        booked_at: Timestamp::from_second(1_700_000_000).unwrap(),
        value_at: None,
        description: "POS SHOPRITE IKEJA".to_owned(),
        reference: None,
        code: None,
        balance_after: None,
    }
}

fn stored_transaction(facts: TransactionFacts, n: usize) -> Transaction {
    let account = AccountId::from_bytes([7; 12]);
    Transaction {
        id: TransactionId::new(account, EpochDay(19_000), &[&n.to_be_bytes()]),
        facts,
    }
}

/// Comparisons for `rows` stored transactions and as many rows of a response.
fn count_comparisons(
    rows: usize,
    before: impl Fn(usize) -> TransactionFacts,
    after: impl Fn(usize) -> TransactionFacts,
) -> u64 {
    let before: Vec<Transaction> = (0..rows)
        .map(|n| stored_transaction(before(n), n))
        .collect();
    let after: Vec<TransactionFacts> = (0..rows).map(after).collect();
    let matching = match_rows(&before, &after);
    assert_eq!(
        matching.matched.len() + matching.missing.len(),
        before.len()
    );
    assert_eq!(matching.matched.len() + matching.new.len(), after.len());
    matching.comparisons
}

#[track_caller]
fn check_bound(
    before: impl Fn(usize) -> TransactionFacts,
    after: impl Fn(usize) -> TransactionFacts,
) {
    for rows in [1_000, 10_000] {
        let made = count_comparisons(rows, &before, &after);
        let bound = RULES * MAX_CANDIDATES as u64 * rows as u64;
        assert!(made <= bound, "{made} comparisons of {rows} rows");
    }
}

fn row_with(n: usize, change: impl FnOnce(&mut TransactionFacts)) -> TransactionFacts {
    let mut row = row(n);
    change(&mut row);
    row
}

#[test]
fn ten_thousand_rows_that_are_all_alike_are_compared_with_nothing() {
    let alike = |_| row_with(0, |row| row.bank_id = None);
    assert_eq!(count_comparisons(10_000, alike, alike), 0);
    // Under other ids too: content pairs them off.
    assert_eq!(count_comparisons(10_000, row, |n| row(n + 20_000)), 0);
}

#[test]
fn ten_thousand_rows_share_one_id() {
    let one_id = |text: &'static str| {
        move |n: usize| {
            row_with(n, |row| {
                row.bank_id = Some("1".into());
                row.description = format!("{text} {n}");
            })
        }
    };
    check_bound(one_id("POS"), one_id("SHOP"));
}

#[test]
fn ten_thousand_pending_rows_of_one_amount_are_booked_under_other_texts() {
    let pending = |n| row_with(n, |row| row.status = BookingStatus::Pending);
    check_bound(pending, |n| {
        row_with(n + 20_000, |row| row.description = format!("SHOPRITE {n}"))
    });
    check_bound(pending, |n| {
        row_with(n + 20_000, |row| row.description = format!("{n}"))
    });
}

#[test]
fn ten_thousand_pending_rows_of_one_text_are_booked_with_other_amounts() {
    check_bound(
        |n| {
            row_with(n, |row| {
                row.status = BookingStatus::Pending;
                row.description = format!("POS SHOPRITE {n}");
            })
        },
        |n| {
            row_with(n + 20_000, |row| {
                row.description = format!("SHOPRITE LAGOS {n}");
                row.amount.minor += 1 + i64::try_from(n).unwrap() * 97;
            })
        },
    );
}

#[test]
fn ten_thousand_rows_of_one_day_and_amount_are_reissued() {
    check_bound(
        |n| row_with(n, |row| row.description = format!("BEFORE {n}")),
        |n| {
            row_with(n + 20_000, |row| {
                row.description = format!("AFTER {}", n * 7);
            })
        },
    );
}
