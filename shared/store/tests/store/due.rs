//! Due entries: listing, advancing, moving between intervals.

use std::collections::BTreeSet;

use okra_core::{
    decide::Mark,
    ids::{BankId, Seq},
    model::ByProduct,
    plan::DueEntry,
    schedule::{DueKey, Interval, Slot},
};
use okra_store::{Consistency::Strong, Head, Store, StoreError};

use crate::support::{both, linked, mark, new_record, record, store};

async fn marks(store: &Store, key: DueKey) -> Option<ByProduct<Mark>> {
    let entry = store.due_entry(key, Strong).await.unwrap();
    entry.map(|entry| entry.marks)
}

fn only_transactions(mark: Mark) -> ByProduct<Mark> {
    ByProduct {
        balance: None,
        transactions: Some(mark),
    }
}

fn split(balance: Interval, transactions: Interval) -> ByProduct<Interval> {
    ByProduct {
        balance: Some(balance),
        transactions: Some(transactions),
    }
}

#[tokio::test]
async fn a_slot_has_the_records_that_hash_to_it_and_no_other() {
    const RECORDS: u32 = 60;
    let store = store("slots").await;
    for n in 0..RECORDS {
        linked(&store, n, Interval::FiveMinute).await;
    }
    let mut seen = BTreeSet::new();
    for slot in (0..5).map(Slot) {
        let due = store.due(Interval::FiveMinute, slot).await.unwrap();
        for entry in due {
            assert_eq!(entry.key.slot(), slot);
            assert_eq!(entry.marks, both(Mark::default()));
            assert!(seen.insert(entry.key.record));
        }
    }
    assert_eq!(seen, (0..RECORDS).map(record).collect());
    assert_eq!(store.due(Interval::OneMinute, Slot(0)).await.unwrap(), []);
    assert_eq!(
        store.interval_count(Interval::FiveMinute).await.unwrap(),
        u64::from(RECORDS)
    );
}

#[tokio::test]
async fn marks_move_forward_only() {
    let store = store("advance").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let key = head.due_key(Interval::Daily);
    let step = |balance, transactions| ByProduct {
        balance: Some(balance),
        transactions: Some(transactions),
    };
    // What is asked, whether all of it was done, and what stands then.
    let steps = [
        (
            step(mark(1, 3), mark(2, 4)),
            true,
            step(mark(1, 3), mark(2, 4)),
        ),
        // The same number with another digest.
        (
            step(mark(5, 3), mark(2, 4)),
            true,
            step(mark(5, 3), mark(2, 4)),
        ),
        // One is old, the other is taken.
        (
            step(mark(6, 2), mark(7, 8)),
            false,
            step(mark(5, 3), mark(7, 8)),
        ),
        (
            only_transactions(mark(8, 7)),
            false,
            step(mark(5, 3), mark(7, 8)),
        ),
        (
            only_transactions(mark(9, 9)),
            true,
            step(mark(5, 3), mark(9, 9)),
        ),
        (ByProduct::default(), true, step(mark(5, 3), mark(9, 9))),
    ];
    for (asked, done, expected) in steps {
        assert_eq!(
            store.advance(key, asked, None).await.unwrap(),
            done,
            "{asked:?}"
        );
        assert_eq!(marks(&store, key).await, Some(expected), "{asked:?}");
    }
    let forgotten = Mark {
        digest: None,
        ..mark(0, 9)
    };
    store
        .advance(key, only_transactions(forgotten), None)
        .await
        .unwrap();
    let stored = marks(&store, key).await.unwrap();
    assert_eq!(stored.transactions, Some(forgotten));
}

#[tokio::test]
async fn advancing_makes_no_entry_and_no_product() {
    let store = store("advance-absent").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let absent = head.due_key(Interval::OneHour);
    assert!(!store.advance(absent, both(mark(1, 1)), None).await.unwrap());
    assert_eq!(marks(&store, absent).await, None);

    store
        .reschedule(&head, split(Interval::OneHour, Interval::Daily))
        .await
        .unwrap();
    // A refresh of both products that began before the move.
    let daily = head.due_key(Interval::Daily);
    assert!(!store.advance(daily, both(mark(1, 1)), None).await.unwrap());
    assert_eq!(
        marks(&store, daily).await,
        Some(only_transactions(mark(1, 1)))
    );
}

#[tokio::test]
async fn a_product_moves_with_what_was_dispatched_of_it() {
    let store = store("move").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let (daily, minute) = (
        head.due_key(Interval::Daily),
        head.due_key(Interval::OneMinute),
    );
    let dispatched = ByProduct {
        balance: Some(mark(1, 3)),
        transactions: Some(mark(2, 4)),
    };
    store.advance(daily, dispatched, None).await.unwrap();

    let schedule = split(Interval::OneMinute, Interval::Daily);
    let touched = store.reschedule(&head, schedule).await.unwrap();
    assert_eq!(touched.started, [Interval::OneMinute]);
    assert_eq!(touched.emptied, []);
    assert_eq!(
        marks(&store, minute).await,
        Some(ByProduct {
            balance: Some(mark(1, 3)),
            transactions: None
        })
    );
    assert_eq!(
        marks(&store, daily).await,
        Some(only_transactions(mark(2, 4)))
    );
    let head = store.head(record(1), Strong).await.unwrap().unwrap();
    assert_eq!(head.schedule, schedule);

    // And together again.
    let touched = store.reschedule(&head, both(Interval::OneMinute)).await;
    assert_eq!(touched.unwrap().emptied, [Interval::Daily]);
    assert_eq!(marks(&store, minute).await, Some(dispatched));
    assert_eq!(marks(&store, daily).await, None);
    for (interval, count) in [(Interval::Daily, 0), (Interval::OneMinute, 1)] {
        assert_eq!(store.interval_count(interval).await.unwrap(), count);
    }
}

#[tokio::test]
async fn the_state_watermark_lies_on_the_shortest_interval() {
    let store = store("state").await;
    let head = linked(&store, 1, Interval::OneHour).await;
    let hour = head.due_key(Interval::OneHour);
    store
        .advance(hour, ByProduct::default(), Some(Seq(5)))
        .await
        .unwrap();
    let schedule = split(Interval::Daily, Interval::OneMinute);
    store.reschedule(&head, schedule).await.unwrap();
    let head = store.head(record(1), Strong).await.unwrap().unwrap();
    let told = async |interval| {
        let entry = store.due_entry(head.due_key(interval), Strong).await;
        entry.unwrap().unwrap().state
    };
    assert_eq!(head.state_key(), Some(head.due_key(Interval::OneMinute)));
    assert_eq!(told(Interval::OneMinute).await, Some(Seq(5)));
    assert_eq!(told(Interval::Daily).await, None);

    // It never goes back, and no other entry takes it.
    for (interval, seq) in [(Interval::OneMinute, 4), (Interval::Daily, 9)] {
        let of = head.due_key(interval);
        let moved = store.advance(of, ByProduct::default(), Some(Seq(seq)));
        assert!(!moved.await.unwrap());
    }
    assert_eq!(told(Interval::OneMinute).await, Some(Seq(5)));
    assert_eq!(told(Interval::Daily).await, None);
}

#[tokio::test]
async fn a_record_can_be_taken_off_every_interval_and_put_back() {
    let store = store("off").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let daily = head.due_key(Interval::Daily);
    let off = store.reschedule(&head, ByProduct::default()).await.unwrap();
    assert_eq!(off.emptied, [Interval::Daily]);
    assert_eq!(marks(&store, daily).await, None);
    let head = store.head(record(1), Strong).await.unwrap().unwrap();
    assert!(head.schedule.is_empty());

    store
        .reschedule(&head, both(Interval::Daily))
        .await
        .unwrap();
    assert_eq!(marks(&store, daily).await, Some(head.marks));
}

#[tokio::test]
async fn of_two_moves_from_the_same_head_one_is_refused() {
    let store = store("move-twice").await;
    let head = linked(&store, 1, Interval::Daily).await;
    store
        .reschedule(&head, both(Interval::OneHour))
        .await
        .unwrap();
    let late = store.reschedule(&head, both(Interval::OneMinute)).await;
    assert!(matches!(late, Err(StoreError::Contended { .. })));
    assert_eq!(store.interval_count(Interval::OneMinute).await.unwrap(), 0);
    assert_eq!(store.interval_count(Interval::OneHour).await.unwrap(), 1);
}

#[tokio::test]
async fn moving_and_advancing_at_once_never_lose_a_mark() {
    const ROUNDS: u64 = 20;
    let store = store("move-race").await;
    let mut head: Head = linked(&store, 1, Interval::Daily).await;
    for round in 1..=ROUNDS {
        let (from, to) = if round % 2 == 1 {
            (Interval::Daily, Interval::OneHour)
        } else {
            (Interval::OneHour, Interval::Daily)
        };
        let new = both(mark(u8::try_from(round).unwrap(), round));
        let before = marks(&store, head.due_key(from)).await.unwrap();
        let (moved, advanced) = tokio::join!(
            store.reschedule(&head, both(to)),
            store.advance(head.due_key(from), new, None),
        );
        moved.unwrap();
        let expected = if advanced.unwrap() { new } else { before };
        assert_eq!(marks(&store, head.due_key(to)).await, Some(expected));
        assert_eq!(marks(&store, head.due_key(from)).await, None);
        head = store.head(record(1), Strong).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn due_entries_of_other_banks_share_a_slot() {
    let store = store("banks").await;
    let mut expected = BTreeSet::new();
    for n in 0..6_u8 {
        let mut new = new_record(u32::from(n), Interval::OneMinute);
        let bank = BankId::from_bytes([n % 2; 12]);
        new.head.bank = bank;
        for DueEntry { key, .. } in &mut new.due {
            key.bank = bank;
            expected.insert((key.bank, key.record));
        }
        store.create_record(&new).await.unwrap();
    }
    let due = store.due(Interval::OneMinute, Slot(0)).await.unwrap();
    let found = due.iter().map(|entry| (entry.key.bank, entry.key.record));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}
