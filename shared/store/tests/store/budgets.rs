//! What things cost, in the units DynamoDB bills.

use okra_core::{ids::Seq, model::ByProduct, schedule::Interval};
use okra_store::{CapacityUsed, Consistency::Strong, Store};

use crate::support::{
    account, app, balance_change, commit, entry, linked, mark, meters, new_record, record, row,
    rows_change, store,
};

fn since(store: &Store, before: CapacityUsed) -> (f64, f64) {
    let used = store.capacity() - before;
    (used.read_units, used.write_units)
}

#[tokio::test]
async fn a_change_of_the_balance_and_three_rows_is_nine_write_units() {
    if !meters() {
        return;
    }
    let store = store("changed").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let before = store.capacity();
    let rows = (0..3).map(|n| row(account(1), n, &format!("row {n}")));
    let mut entries = [
        entry(record(1), 1, account(1), balance_change(100)),
        entry(
            record(1),
            2,
            account(1),
            rows_change(rows.collect(), vec![]),
        ),
    ];
    // Of one commit.
    entries[0].at = entries[1].at;
    let marks = ByProduct {
        balance: Some(mark(1, 1)),
        transactions: Some(mark(2, 2)),
    };
    commit(&store, &head, &entries, marks).await.unwrap();
    let (_, committed) = since(&store, before);
    assert!(committed <= 4.0, "commit: {committed}");
    store.project(&entries).await.unwrap();
    let (_, projected) = since(&store, before);
    assert!(projected - committed <= 4.0, "projection: {projected}");
    let key = head.due_key(Interval::Daily);
    assert!(store.advance(key, marks, None).await.unwrap());
    let (read, written) = since(&store, before);
    assert!(written > 0.0 && written <= 9.0, "in all: {written}");
    assert!(read.abs() < f64::EPSILON, "read: {read}");
}

#[tokio::test]
async fn a_hundred_records_are_read_for_55_units() {
    const RECORDS: u32 = 100;
    if !meters() {
        return;
    }
    let store = store("unchanged").await;
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    for n in 0..RECORDS {
        store
            .create_record(&new_record(n, Interval::OneMinute))
            .await
            .unwrap();
    }
    let before = store.capacity();
    let due = store
        .due(Interval::OneMinute, okra_core::schedule::Slot(0))
        .await
        .unwrap();
    assert_eq!(due.len(), records.len());
    let (listed, _) = since(&store, before);
    // Sixteen lanes, each half a unit at least: 0.02 a record once a slot holds thousands.
    assert!(listed <= 8.0, "{listed}");
    let before = store.capacity();
    assert_eq!(store.consents(&records).await.unwrap().len(), 100);
    let (read, written) = since(&store, before);
    assert!(read > 0.0 && read <= 52.0, "{read}");
    assert!(written.abs() < f64::EPSILON, "{written}");
}

#[tokio::test]
async fn a_mark_alone_is_one_write_unit() {
    if !meters() {
        return;
    }
    let store = store("mark").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let before = store.capacity();
    let marks = ByProduct {
        balance: Some(mark(1, 0)),
        transactions: None,
    };
    commit(&store, &head, &[], marks).await.unwrap();
    let (_, written) = since(&store, before);
    assert!(written > 0.0 && written <= 1.0, "{written}");
}

#[tokio::test]
async fn capacity_is_shared_by_clones_and_reads_are_not_writes() {
    if !meters() {
        return;
    }
    let store = store("capacity").await;
    linked(&store, 1, Interval::Daily).await;
    let before = store.capacity();
    store.clone().head(record(1), Strong).await.unwrap();
    assert_eq!(since(&store, before), (1.0, 0.0));
    store.feed(record(1), Seq(0), 10, Strong).await.unwrap();
    let (read, written) = since(&store, before);
    assert!(read > 1.0 && written.abs() < f64::EPSILON);
}

#[tokio::test]
async fn what_a_live_page_asks_again_and_again_is_one_small_read() {
    if !meters() {
        return;
    }
    let store = store("live").await;
    let minute = 60_000;
    let time = jiff::Timestamp::from_second(minute * 60).unwrap();
    store.count(app(), time, &[("changed", 2)]).await.unwrap();
    let before = store.capacity();
    let minute = u64::try_from(minute).unwrap();
    store.counts(app(), minute, minute + 1).await.unwrap();
    let (read, _) = since(&store, before);
    assert!(read > 0.0 && read <= 0.5, "{read}");
}
