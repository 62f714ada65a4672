//! Balances and transactions as the feed says.

use std::collections::BTreeMap;

use jiff::civil::{Date, date};
use okra_core::{
    model::{
        ids::{AccountId, Seq, TransactionId},
        interval::Interval,
        snapshot::{BalanceFacts, Transaction},
    },
    sync::feed::{Change, FeedEntry, FetchKind, MatchConfidence, ModifiedRow, TransactionsDiff},
};
use okra_store::{Consistency::Strong, Store};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::{
    account_id, balance_change, balance_facts, feed_entry, link_record, naira_amount, new_store,
    new_table, record_id, sample_transaction, timestamp_at, transactions_change,
};

const BEGINNING: Date = date(1970, 1, 1);

async fn list_bank_ids(
    store: &Store,
    account: AccountId,
    from: Date,
    to: Option<Date>,
) -> Vec<String> {
    let rows = store
        .list_transactions(account, from, to, Strong)
        .await
        .unwrap();
    let mut names: Vec<String> = rows
        .into_iter()
        .filter_map(|row| row.transaction.facts.bank_id)
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_balance_is_the_latest_whatever_comes_late() {
    let store = new_store("balance").await;
    link_record(&store, 1, Interval::Daily).await;
    let change = |seq, minor| feed_entry(record_id(1), seq, account_id(1), balance_change(minor));
    for (seq, minor, expected) in [(1, 10, 10), (3, 30, 30), (2, 20, 30), (3, 30, 30)] {
        store.project_entries(&[change(seq, minor)]).await.unwrap();
        let stored = store.find_account(account_id(1)).await.unwrap().unwrap();
        assert_eq!(stored.balance, Some(balance_facts(expected)), "after {seq}");
    }
    let stored = store.find_account(account_id(1)).await.unwrap().unwrap();
    assert_eq!(
        (stored.balance_seq, stored.balance_at),
        (Seq(3), Some(timestamp_at(3)))
    );
}

#[tokio::test]
async fn a_balance_makes_no_account() {
    let store = new_store("no-account").await;
    let change = feed_entry(record_id(1), 1, account_id(1), balance_change(10));
    store.project_entries(&[change]).await.unwrap();
    assert_eq!(store.find_account(account_id(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_keeps_its_first_time_until_it_is_removed() {
    let store = new_store("times").await;
    let first = sample_transaction(account_id(1), 0, "a");
    let mut second = first.clone();
    second.facts.amount = naira_amount(5);
    let modify = Change::Transactions(TransactionsDiff {
        fetch_kind: FetchKind::Periodic,
        added: vec![],
        modified: vec![ModifiedRow {
            before: first.facts.clone(),
            after: second.clone(),
            confidence: MatchConfidence::Exact,
        }],
        removed: vec![],
        previous_seqs: std::collections::BTreeMap::new(),
    });
    let add = |row: &Transaction| transactions_change(vec![row.clone()], vec![]);
    let remove = transactions_change(vec![], vec![second.clone()]);
    let steps = [
        (
            1,
            add(&first),
            Some((&first, timestamp_at(1), timestamp_at(1))),
        ),
        (2, modify, Some((&second, timestamp_at(1), timestamp_at(2)))),
        (3, remove, None),
        (
            4,
            add(&first),
            Some((&first, timestamp_at(4), timestamp_at(4))),
        ),
    ];
    for (seq, change, expected) in steps {
        store
            .project_entries(&[feed_entry(record_id(1), seq, account_id(1), change)])
            .await
            .unwrap();
        let stored = store.find_transaction(first.id).await.unwrap();
        let got = stored
            .as_ref()
            .map(|row| (&row.transaction, row.created_at, row.last_updated));
        assert_eq!(got, expected, "after {seq}");
        assert_eq!(
            stored.map(|row| (row.account, row.written_by_seq)),
            expected.map(|_| (account_id(1), Seq(seq)))
        );
    }
}

#[tokio::test]
async fn what_was_removed_expires_and_what_came_back_does_not() {
    let (store, client, table) = new_table("expiry").await;
    let row = sample_transaction(account_id(1), 0, "a");
    let add = || transactions_change(vec![row.clone()], vec![]);
    let remove = transactions_change(vec![], vec![row.clone()]);
    for (seq, change, expires) in [(1, add(), false), (2, remove, true), (3, add(), false)] {
        store
            .project_entries(&[feed_entry(record_id(1), seq, account_id(1), change)])
            .await
            .unwrap();
        let items = client.scan().table_name(&table).send().await.unwrap();
        let expiring: Vec<bool> = items
            .items()
            .iter()
            .map(|item| item.contains_key("ttl"))
            .collect();
        assert_eq!(expiring, [expires], "after {seq}");
    }
}

#[tokio::test]
async fn rows_are_found_by_their_date_though_it_is_not_their_key() {
    const DAY: i64 = 24 * 3600;
    let store = new_store("dates").await;
    let of = account_id(1);
    let mut moved = sample_transaction(of, 0, "moved");
    moved.facts.booked_at = timestamp_at(20 * DAY);
    let rows = vec![
        sample_transaction(of, -10 * DAY, "before"),
        sample_transaction(of, 0, "day"),
        moved,
        sample_transaction(of, 40 * DAY, "after"),
    ];
    let change = transactions_change(rows, vec![]);
    store
        .project_entries(&[feed_entry(record_id(1), 1, of, change)])
        .await
        .unwrap();
    let day = |days: i64| okra_core::model::snapshot::utc_date(timestamp_at(days * DAY));
    let all = ["after", "before", "day", "moved"];
    let cases: [(Date, Option<Date>, &[&str]); 6] = [
        (BEGINNING, None, &all),
        (day(0), None, &["after", "day", "moved"]),
        (day(0), Some(day(0)), &["day"]),
        (day(1), Some(day(30)), &["moved"]),
        (day(20), Some(day(20)), &["moved"]),
        (day(41), None, &[]),
    ];
    for (from, to, expected) in cases {
        assert_eq!(
            list_bank_ids(&store, of, from, to).await,
            expected,
            "{from} {to:?}"
        );
    }
}

#[tokio::test]
async fn accounts_that_share_a_partition_do_not_share_rows() {
    let store = new_store("tags").await;
    let one = account_id(1);
    let mut bytes = *one.as_bytes();
    bytes[11] = !bytes[11];
    let other = AccountId::from_bytes(bytes);
    assert_eq!(one.tag(), other.tag());
    for (seq, of, name) in [(1, one, "one"), (2, other, "other")] {
        let change = transactions_change(vec![sample_transaction(of, 0, name)], vec![]);
        store
            .project_entries(&[feed_entry(record_id(1), seq, of, change)])
            .await
            .unwrap();
        assert_eq!(list_bank_ids(&store, of, BEGINNING, None).await, [name]);
        let found = store
            .find_transaction(sample_transaction(of, 0, name).id)
            .await
            .unwrap();
        assert_eq!(found.map(|row| row.account), Some(of));
    }
}

#[tokio::test]
async fn many_rows_are_read_over_pages() {
    const ROWS: usize = 2500;
    let store = new_store("many").await;
    // 600 bytes each: more than the megabyte of a page.
    let rows: Vec<_> = (0..ROWS)
        .map(|n| sample_transaction(account_id(1), 0, &format!("{n:0>250}")))
        .collect();
    let entries: Vec<_> = (1..)
        .zip(rows.chunks(100))
        .map(|(seq, rows)| {
            let change = transactions_change(rows.to_vec(), vec![]);
            feed_entry(record_id(1), seq, account_id(1), change)
        })
        .collect();
    store.project_entries(&entries).await.unwrap();
    let found = list_bank_ids(&store, account_id(1), BEGINNING, None).await;
    assert_eq!(found.len(), ROWS);
}

/// What the feed says in the end, the plain way.
fn replay_feed(feed: &[FeedEntry]) -> (Option<BalanceFacts>, BTreeMap<TransactionId, Transaction>) {
    let (mut balance, mut rows) = (None, BTreeMap::new());
    for entry in feed {
        match &entry.change {
            Change::State(_) => {}
            Change::Balance { after, .. } => balance = Some(*after),
            Change::Transactions(diff) => {
                for row in &diff.removed {
                    rows.remove(&row.id);
                }
                for row in &diff.added {
                    rows.insert(row.id, row.clone());
                }
            }
        }
    }
    (balance, rows)
}

fn any_feed() -> impl Strategy<Value = Vec<FeedEntry>> {
    let rows = || prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let of = account_id(1);
    let named = move |names: Vec<&str>, amount: i64| -> Vec<Transaction> {
        names
            .into_iter()
            .map(|name| {
                let mut row = sample_transaction(of, 0, name);
                row.facts.amount = naira_amount(amount);
                row
            })
            .collect()
    };
    let change = prop_oneof![
        any::<i32>().prop_map(|minor| balance_change(i64::from(minor))),
        (rows(), rows(), 1..1000_i64).prop_map(move |(added, removed, amount)| {
            transactions_change(named(added, amount), named(removed, amount))
        }),
    ];
    prop::collection::vec(change, 1..7).prop_map(move |changes| {
        (1..)
            .zip(changes)
            .map(|(seq, change)| feed_entry(record_id(1), seq, of, change))
            .collect()
    })
}

/// Feeds with an order in which parts of them are projected, some more than once, some out of order,
/// each entry at least once.
fn any_projected_feed() -> impl Strategy<Value = (Vec<FeedEntry>, Vec<Vec<FeedEntry>>)> {
    any_feed().prop_flat_map(|feed| {
        let parts = prop::collection::vec(0..feed.len(), 0..8);
        let order = Just((0..feed.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(feed), order, parts, 1..4_usize).prop_map(|(feed, order, again, size)| {
            let parts = order
                .iter()
                .chain(&again)
                .map(|&n| feed[n].clone())
                .collect::<Vec<_>>()
                .chunks(size)
                .map(<[FeedEntry]>::to_vec)
                .collect();
            (feed, parts)
        })
    })
}

#[test]
fn projecting_in_any_order_and_again_gives_what_the_feed_says() {
    const CASES: u32 = 48;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    runner
        .run(&any_projected_feed(), |(feed, parts)| {
            runtime.block_on(async {
                let store = new_store("any-order").await;
                link_record(&store, 1, Interval::Daily).await;
                for part in &parts {
                    store.project_entries(part).await.unwrap();
                }
                let (balance, rows) = replay_feed(&feed);
                let account = store.load_accounts(&[account_id(1)], Strong).await.unwrap();
                prop_assert_eq!(account[0].balance, balance);
                let stored: BTreeMap<_, _> = store
                    .list_transactions(account[0].id, BEGINNING, None, Strong)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|row| (row.transaction.id, row.transaction))
                    .collect();
                prop_assert_eq!(stored, rows);
                Ok(())
            })
        })
        .unwrap();
}
