//! Due entries: listing, advancing, moving between intervals.

use std::collections::BTreeSet;

use okra_core::{
    model::{
        ids::{BankId, Seq},
        interval::{DueKey, Interval, Slot},
        snapshot::ByProduct,
    },
    schedule::plan::DueEntry,
    sync::decide::Watermark,
};
use okra_store::{Consistency::Strong, RecordHead, Store, StoreError};

use crate::support::{both_products, link_record, new_record, new_store, record_id, watermark};

async fn due_watermarks(store: &Store, key: DueKey) -> Option<ByProduct<Watermark>> {
    let entry = store.find_due_entry(key, Strong).await.unwrap();
    entry.map(|entry| entry.watermarks)
}

fn only_transactions(watermark: Watermark) -> ByProduct<Watermark> {
    ByProduct {
        balance: None,
        transactions: Some(watermark),
    }
}

fn split_schedule(balance: Interval, transactions: Interval) -> ByProduct<Interval> {
    ByProduct {
        balance: Some(balance),
        transactions: Some(transactions),
    }
}

#[tokio::test]
async fn a_slot_has_the_records_that_hash_to_it_and_no_other() {
    const RECORDS: u32 = 60;
    let store = new_store("slots").await;
    for n in 0..RECORDS {
        link_record(&store, n, Interval::FiveMinute).await;
    }
    let mut seen = BTreeSet::new();
    for slot in (0..5).map(Slot) {
        let due = store
            .list_due_entries(Interval::FiveMinute, slot)
            .await
            .unwrap();
        for entry in due {
            assert_eq!(entry.key.slot(), slot);
            assert_eq!(entry.watermarks, both_products(Watermark::default()));
            assert!(seen.insert(entry.key.record));
        }
    }
    assert_eq!(seen, (0..RECORDS).map(record_id).collect());
    assert_eq!(
        store
            .list_due_entries(Interval::OneMinute, Slot(0))
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        store
            .count_interval_entries(Interval::FiveMinute)
            .await
            .unwrap(),
        u64::from(RECORDS)
    );
}

#[tokio::test]
async fn marks_move_forward_only() {
    let store = new_store("advance").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let key = head.due_key(Interval::Daily);
    let step = |balance, transactions| ByProduct {
        balance: Some(balance),
        transactions: Some(transactions),
    };
    // What is asked, whether all of it was done, and what stands then.
    let steps = [
        (
            step(watermark(1, 3), watermark(2, 4)),
            true,
            step(watermark(1, 3), watermark(2, 4)),
        ),
        // The same number with another digest.
        (
            step(watermark(5, 3), watermark(2, 4)),
            true,
            step(watermark(5, 3), watermark(2, 4)),
        ),
        // One is old, the other is taken.
        (
            step(watermark(6, 2), watermark(7, 8)),
            false,
            step(watermark(5, 3), watermark(7, 8)),
        ),
        (
            only_transactions(watermark(8, 7)),
            false,
            step(watermark(5, 3), watermark(7, 8)),
        ),
        (
            only_transactions(watermark(9, 9)),
            true,
            step(watermark(5, 3), watermark(9, 9)),
        ),
        (
            ByProduct::default(),
            true,
            step(watermark(5, 3), watermark(9, 9)),
        ),
    ];
    for (asked, done, expected) in steps {
        assert_eq!(
            store.advance_watermarks(key, asked, None).await.unwrap(),
            done,
            "{asked:?}"
        );
        assert_eq!(
            due_watermarks(&store, key).await,
            Some(expected),
            "{asked:?}"
        );
    }
    let forgotten = Watermark {
        digest: None,
        ..watermark(0, 9)
    };
    store
        .advance_watermarks(key, only_transactions(forgotten), None)
        .await
        .unwrap();
    let stored = due_watermarks(&store, key).await.unwrap();
    assert_eq!(stored.transactions, Some(forgotten));
}

#[tokio::test]
async fn advancing_makes_no_entry_and_no_product() {
    let store = new_store("advance-absent").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let absent = head.due_key(Interval::OneHour);
    assert!(
        !store
            .advance_watermarks(absent, both_products(watermark(1, 1)), None)
            .await
            .unwrap()
    );
    assert_eq!(due_watermarks(&store, absent).await, None);

    store
        .reschedule_record(&head, split_schedule(Interval::OneHour, Interval::Daily))
        .await
        .unwrap();
    // A refresh of both products that began before the move.
    let daily = head.due_key(Interval::Daily);
    assert!(
        !store
            .advance_watermarks(daily, both_products(watermark(1, 1)), None)
            .await
            .unwrap()
    );
    assert_eq!(
        due_watermarks(&store, daily).await,
        Some(only_transactions(watermark(1, 1)))
    );
}

#[tokio::test]
async fn a_product_moves_with_what_was_dispatched_of_it() {
    let store = new_store("move").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let (daily, minute) = (
        head.due_key(Interval::Daily),
        head.due_key(Interval::OneMinute),
    );
    let dispatched = ByProduct {
        balance: Some(watermark(1, 3)),
        transactions: Some(watermark(2, 4)),
    };
    store
        .advance_watermarks(daily, dispatched, None)
        .await
        .unwrap();

    let schedule = split_schedule(Interval::OneMinute, Interval::Daily);
    let touched = store.reschedule_record(&head, schedule).await.unwrap();
    assert_eq!(touched.started, [Interval::OneMinute]);
    assert_eq!(touched.emptied, []);
    assert_eq!(
        due_watermarks(&store, minute).await,
        Some(ByProduct {
            balance: Some(watermark(1, 3)),
            transactions: None
        })
    );
    assert_eq!(
        due_watermarks(&store, daily).await,
        Some(only_transactions(watermark(2, 4)))
    );
    let head = store
        .find_head(record_id(1), Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.schedule, schedule);

    // And together again.
    let touched = store
        .reschedule_record(&head, both_products(Interval::OneMinute))
        .await;
    assert_eq!(touched.unwrap().emptied, [Interval::Daily]);
    assert_eq!(due_watermarks(&store, minute).await, Some(dispatched));
    assert_eq!(due_watermarks(&store, daily).await, None);
    for (interval, count) in [(Interval::Daily, 0), (Interval::OneMinute, 1)] {
        assert_eq!(store.count_interval_entries(interval).await.unwrap(), count);
    }
}

#[tokio::test]
async fn the_state_watermark_lies_on_the_shortest_interval() {
    let store = new_store("state").await;
    let head = link_record(&store, 1, Interval::OneHour).await;
    let hour = head.due_key(Interval::OneHour);
    store
        .advance_watermarks(hour, ByProduct::default(), Some(Seq(5)))
        .await
        .unwrap();
    let schedule = split_schedule(Interval::Daily, Interval::OneMinute);
    store.reschedule_record(&head, schedule).await.unwrap();
    let head = store
        .find_head(record_id(1), Strong)
        .await
        .unwrap()
        .unwrap();
    let told = async |interval| {
        let entry = store.find_due_entry(head.due_key(interval), Strong).await;
        entry.unwrap().unwrap().state_seq
    };
    assert_eq!(
        head.state_due_key(),
        Some(head.due_key(Interval::OneMinute))
    );
    assert_eq!(told(Interval::OneMinute).await, Some(Seq(5)));
    assert_eq!(told(Interval::Daily).await, None);

    // It never goes back, and no other entry takes it.
    for (interval, seq) in [(Interval::OneMinute, 4), (Interval::Daily, 9)] {
        let of = head.due_key(interval);
        let moved = store.advance_watermarks(of, ByProduct::default(), Some(Seq(seq)));
        assert!(!moved.await.unwrap());
    }
    assert_eq!(told(Interval::OneMinute).await, Some(Seq(5)));
    assert_eq!(told(Interval::Daily).await, None);
}

#[tokio::test]
async fn a_record_can_be_taken_off_every_interval_and_put_back() {
    let store = new_store("off").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let daily = head.due_key(Interval::Daily);
    let off = store
        .reschedule_record(&head, ByProduct::default())
        .await
        .unwrap();
    assert_eq!(off.emptied, [Interval::Daily]);
    assert_eq!(due_watermarks(&store, daily).await, None);
    let head = store
        .find_head(record_id(1), Strong)
        .await
        .unwrap()
        .unwrap();
    assert!(head.schedule.is_empty());

    store
        .reschedule_record(&head, both_products(Interval::Daily))
        .await
        .unwrap();
    assert_eq!(due_watermarks(&store, daily).await, Some(head.watermarks));
}

#[tokio::test]
async fn of_two_moves_from_the_same_head_one_is_refused() {
    let store = new_store("move-twice").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    store
        .reschedule_record(&head, both_products(Interval::OneHour))
        .await
        .unwrap();
    let late = store
        .reschedule_record(&head, both_products(Interval::OneMinute))
        .await;
    assert!(matches!(late, Err(StoreError::Contended { .. })));
    assert_eq!(
        store
            .count_interval_entries(Interval::OneMinute)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .count_interval_entries(Interval::OneHour)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn moving_and_advancing_at_once_never_lose_a_mark() {
    const ROUNDS: u64 = 20;
    let store = new_store("move-race").await;
    let mut head: RecordHead = link_record(&store, 1, Interval::Daily).await;
    for round in 1..=ROUNDS {
        let (from, to) = if round % 2 == 1 {
            (Interval::Daily, Interval::OneHour)
        } else {
            (Interval::OneHour, Interval::Daily)
        };
        let new = both_products(watermark(u8::try_from(round).unwrap(), round));
        let before = due_watermarks(&store, head.due_key(from)).await.unwrap();
        let (moved, advanced) = tokio::join!(
            store.reschedule_record(&head, both_products(to)),
            store.advance_watermarks(head.due_key(from), new, None),
        );
        moved.unwrap();
        let expected = if advanced.unwrap() { new } else { before };
        assert_eq!(
            due_watermarks(&store, head.due_key(to)).await,
            Some(expected)
        );
        assert_eq!(due_watermarks(&store, head.due_key(from)).await, None);
        head = store
            .find_head(record_id(1), Strong)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn due_entries_of_other_banks_share_a_slot() {
    let store = new_store("banks").await;
    let mut expected = BTreeSet::new();
    for n in 0..6_u8 {
        let mut new = new_record(u32::from(n), Interval::OneMinute);
        let bank = BankId::from_bytes([n % 2; 12]);
        new.head.bank = bank;
        for DueEntry { key, .. } in &mut new.due_entries {
            key.bank = bank;
            expected.insert((key.bank, key.record));
        }
        store.create_record(&new).await.unwrap();
    }
    let due = store
        .list_due_entries(Interval::OneMinute, Slot(0))
        .await
        .unwrap();
    let found = due.iter().map(|entry| (entry.key.bank, entry.key.record));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}
