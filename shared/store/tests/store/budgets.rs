//! What things cost, in the units DynamoDB bills.

use okra_core::model::{ids::Seq, interval::Interval, snapshot::ByProduct};
use okra_store::{CapacityUsed, Consistency::Strong, Store};

use crate::support::{
    account_id, app_id, balance_change, commit_entries, counts_capacity, feed_entry, link_record,
    new_record, new_store, record_id, sample_transaction, transactions_change, watermark,
};

fn units_since(store: &Store, before: CapacityUsed) -> (f64, f64) {
    let used = store.capacity_used() - before;
    (used.read_units, used.write_units)
}

#[tokio::test]
async fn a_change_of_the_balance_and_three_rows_is_nine_write_units() {
    if !counts_capacity() {
        return;
    }
    let store = new_store("changed").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let before = store.capacity_used();
    let rows = (0..3).map(|n| sample_transaction(account_id(1), n, &format!("row {n}")));
    let mut entries = [
        feed_entry(record_id(1), 1, account_id(1), balance_change(100)),
        feed_entry(
            record_id(1),
            2,
            account_id(1),
            transactions_change(rows.collect(), vec![]),
        ),
    ];
    // Of one commit.
    entries[0].committed_at = entries[1].committed_at;
    let marks = ByProduct {
        balance: Some(watermark(1, 1)),
        transactions: Some(watermark(2, 2)),
    };
    commit_entries(&store, &head, &entries, marks)
        .await
        .unwrap();
    let (_, committed) = units_since(&store, before);
    assert!(committed <= 4.0, "commit: {committed}");
    store.project_entries(&entries).await.unwrap();
    let (_, projected) = units_since(&store, before);
    assert!(projected - committed <= 4.0, "projection: {projected}");
    let key = head.due_key(Interval::Daily);
    assert!(store.advance_watermarks(key, marks, None).await.unwrap());
    let (read, written) = units_since(&store, before);
    assert!(written > 0.0 && written <= 9.0, "in all: {written}");
    assert!(read.abs() < f64::EPSILON, "read: {read}");
}

#[tokio::test]
async fn a_hundred_records_are_read_for_55_units() {
    const RECORDS: u32 = 100;
    if !counts_capacity() {
        return;
    }
    let store = new_store("unchanged").await;
    let records: Vec<_> = (0..RECORDS).map(record_id).collect();
    for n in 0..RECORDS {
        store
            .create_record(&new_record(n, Interval::OneMinute))
            .await
            .unwrap();
    }
    let before = store.capacity_used();
    let due = store
        .list_due_entries(Interval::OneMinute, okra_core::model::interval::Slot(0))
        .await
        .unwrap();
    assert_eq!(due.len(), records.len());
    let (listed, _) = units_since(&store, before);
    // Sixteen lanes, each half a unit at least: 0.02 a record once a slot holds thousands.
    assert!(listed <= 8.0, "{listed}");
    let before = store.capacity_used();
    assert_eq!(store.load_consents(&records).await.unwrap().len(), 100);
    let (read, written) = units_since(&store, before);
    assert!(read > 0.0 && read <= 52.0, "{read}");
    assert!(written.abs() < f64::EPSILON, "{written}");
}

#[tokio::test]
async fn a_mark_alone_is_one_write_unit() {
    if !counts_capacity() {
        return;
    }
    let store = new_store("mark").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let before = store.capacity_used();
    let marks = ByProduct {
        balance: Some(watermark(1, 0)),
        transactions: None,
    };
    commit_entries(&store, &head, &[], marks).await.unwrap();
    let (_, written) = units_since(&store, before);
    assert!(written > 0.0 && written <= 1.0, "{written}");
}

#[tokio::test]
async fn capacity_is_shared_by_clones_and_reads_are_not_writes() {
    if !counts_capacity() {
        return;
    }
    let store = new_store("capacity").await;
    link_record(&store, 1, Interval::Daily).await;
    let before = store.capacity_used();
    store.clone().find_head(record_id(1), Strong).await.unwrap();
    assert_eq!(units_since(&store, before), (1.0, 0.0));
    store
        .read_feed(record_id(1), Seq(0), 10, Strong)
        .await
        .unwrap();
    let (read, written) = units_since(&store, before);
    assert!(read > 1.0 && written.abs() < f64::EPSILON);
}

#[tokio::test]
async fn what_a_live_page_asks_again_and_again_is_one_small_read() {
    if !counts_capacity() {
        return;
    }
    let store = new_store("live").await;
    let minute = 60_000;
    let time = jiff::Timestamp::from_second(minute * 60).unwrap();
    store
        .add_counts(app_id(), time, &[("changed", 2)])
        .await
        .unwrap();
    let before = store.capacity_used();
    let minute = u64::try_from(minute).unwrap();
    store
        .list_counts(app_id(), minute, minute + 1)
        .await
        .unwrap();
    let (read, _) = units_since(&store, before);
    assert!(read > 0.0 && read <= 0.5, "{read}");
}
