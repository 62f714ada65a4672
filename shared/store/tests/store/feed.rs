//! Committing changes and reading them back.

use okra_core::{
    model::{ids::Seq, interval::Interval, snapshot::ByProduct},
    sync::{
        decide::Watermark,
        feed::{FeedEntry, MAX_ENTRIES_PER_COMMIT},
    },
};
use okra_store::{CommitError, Consistency::Strong, RecordHead};

use crate::support::{
    account_id, balance_change, both_products, commit_entries, feed_entry, link_record, new_store,
    record_id, sample_transaction, timestamp_at, transactions_change, watermark,
};

fn balance_entries(seqs: std::ops::RangeInclusive<u64>) -> Vec<FeedEntry> {
    seqs.map(|seq| feed_entry(record_id(1), seq, account_id(1), balance_change(100)))
        .collect()
}

fn only_balance(watermark: Watermark) -> ByProduct<Watermark> {
    ByProduct {
        balance: Some(watermark),
        transactions: None,
    }
}

#[tokio::test]
async fn a_commit_moves_the_head_and_the_feed_together() {
    let store = new_store("commit").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let entries = [
        feed_entry(record_id(1), 1, account_id(1), balance_change(100)),
        feed_entry(
            record_id(1),
            2,
            account_id(1),
            transactions_change(vec![sample_transaction(account_id(1), 0, "a")], vec![]),
        ),
    ];
    let marks = ByProduct {
        balance: Some(watermark(1, 1)),
        transactions: Some(watermark(2, 2)),
    };
    let after = commit_entries(&store, &head, &entries, marks)
        .await
        .unwrap();
    let expected = RecordHead {
        seq: Seq(2),
        watermarks: marks,
        first_fetch_done: true,
        transaction_count: Some(1),
        last_changed_at: timestamp_at(1000),
        ..head
    };
    assert_eq!(after, expected);
    assert_eq!(
        store.find_head(record_id(1), Strong).await.unwrap(),
        Some(expected)
    );
    assert_eq!(
        store
            .read_feed(record_id(1), Seq(0), 10, Strong)
            .await
            .unwrap(),
        entries
    );
    assert_eq!(
        store
            .find_feed_entry(record_id(1), Seq(2))
            .await
            .unwrap()
            .as_ref(),
        Some(&entries[1])
    );
    assert_eq!(
        store.find_feed_entry(record_id(1), Seq(3)).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_page_may_begin_and_end_within_a_commit() {
    let store = new_store("within").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let mut entries = balance_entries(1..=5);
    entries
        .iter_mut()
        .for_each(|entry| entry.committed_at = timestamp_at(7));
    let marks = only_balance(watermark(1, 5));
    let head = commit_entries(&store, &head, &entries, marks)
        .await
        .unwrap();
    let more = balance_entries(6..=7);
    let marks = only_balance(watermark(2, 7));
    commit_entries(&store, &head, &more, marks).await.unwrap();
    entries.extend(more);
    for after in 0..=7 {
        for limit in 1..=7 {
            let seq = Seq(u64::try_from(after).unwrap());
            let page = store
                .read_feed(record_id(1), seq, limit, Strong)
                .await
                .unwrap();
            let expected: Vec<_> = entries.iter().skip(after).take(limit).cloned().collect();
            assert_eq!(page, expected, "{limit} after {after}");
        }
    }
    for entry in &entries {
        let found = store
            .find_feed_entry(record_id(1), entry.seq)
            .await
            .unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
}

#[tokio::test]
async fn a_commit_on_an_old_head_is_lost_and_leaves_nothing() {
    let store = new_store("lost").await;
    let old = link_record(&store, 1, Interval::Daily).await;
    let new = commit_entries(
        &store,
        &old,
        &balance_entries(1..=1),
        only_balance(watermark(1, 1)),
    )
    .await
    .unwrap();
    for entries in [balance_entries(1..=2), vec![]] {
        let lost = commit_entries(&store, &old, &entries, only_balance(watermark(2, 1))).await;
        assert!(matches!(lost, Err(CommitError::Conflict)), "{lost:?}");
    }
    assert_eq!(
        store.find_head(record_id(1), Strong).await.unwrap(),
        Some(new)
    );
    let feed = store
        .read_feed(record_id(1), Seq(0), 10, Strong)
        .await
        .unwrap();
    assert_eq!(feed, balance_entries(1..=1));
}

#[tokio::test]
async fn marks_move_without_an_entry_and_only_from_what_was_read() {
    let store = new_store("marks").await;
    let old = link_record(&store, 1, Interval::Daily).await;
    let new = commit_entries(&store, &old, &[], only_balance(watermark(1, 0)))
        .await
        .unwrap();
    assert_eq!(
        (new.seq, new.watermarks.balance),
        (Seq(0), Some(watermark(1, 0)))
    );
    assert_eq!(new.watermarks.transactions, old.watermarks.transactions);
    assert!(!new.first_fetch_done);
    // The number of the feed has not moved; the digest tells.
    let lost = commit_entries(&store, &old, &[], only_balance(watermark(2, 0))).await;
    assert!(matches!(lost, Err(CommitError::Conflict)));
    // A digest can be forgotten again.
    let forgotten = Watermark {
        digest: None,
        seq: Seq(0),
    };
    commit_entries(&store, &new, &[], both_products(forgotten))
        .await
        .unwrap();
    let head = store
        .find_head(record_id(1), Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.watermarks, both_products(forgotten));
}

#[tokio::test]
async fn of_many_commits_at_once_one_wins() {
    const WRITERS: u8 = 8;
    let store = new_store("race").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, head) = (store.clone(), head.clone());
        tasks.spawn(async move {
            let marks = only_balance(watermark(writer, 2));
            commit_entries(&store, &head, &balance_entries(1..=2), marks).await
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|lost| matches!(lost, Err(CommitError::Conflict)))
    );
    let head = store.find_head(record_id(1), Strong).await.unwrap();
    assert_eq!(head, won.into_iter().next().unwrap().ok());
}

#[tokio::test]
async fn entries_that_do_not_follow_the_head_are_refused() {
    let store = new_store("next").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let gap = [balance_entries(1..=1), balance_entries(3..=3)].concat();
    let other = vec![feed_entry(
        record_id(2),
        1,
        account_id(1),
        balance_change(1),
    )];
    for entries in [balance_entries(2..=2), gap, other] {
        let refused = commit_entries(&store, &head, &entries, ByProduct::default()).await;
        assert!(
            matches!(refused, Err(CommitError::NotContiguous)),
            "{entries:?}"
        );
    }
}

#[tokio::test]
async fn as_much_is_committed_as_a_transaction_takes_and_no_more() {
    let store = new_store("large").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let max = u64::try_from(MAX_ENTRIES_PER_COMMIT).unwrap();
    let head = commit_entries(
        &store,
        &head,
        &balance_entries(1..=max),
        ByProduct::default(),
    )
    .await
    .unwrap();

    // 300 KB each.
    let rows: Vec<_> = (0..100)
        .map(|n| sample_transaction(account_id(1), 0, &format!("{n:0>1450}")))
        .collect();
    let large = |from: u64, count: u64| -> Vec<FeedEntry> {
        (from + 1..=from + count)
            .map(|seq| {
                feed_entry(
                    record_id(1),
                    seq,
                    account_id(1),
                    transactions_change(rows.clone(), vec![]),
                )
            })
            .collect()
    };
    let head = commit_entries(&store, &head, &large(max, 12), ByProduct::default())
        .await
        .unwrap();
    let too_large = [
        large(head.seq.0, 14),
        (1..=max + 1)
            .map(|n| {
                feed_entry(
                    record_id(1),
                    head.seq.0 + n,
                    account_id(1),
                    balance_change(1),
                )
            })
            .collect(),
        vec![feed_entry(
            record_id(1),
            head.seq.0 + 1,
            account_id(1),
            transactions_change([rows.clone(), rows.clone()].concat(), vec![]),
        )],
    ];
    for entries in too_large {
        let refused = commit_entries(&store, &head, &entries, ByProduct::default()).await;
        assert!(
            matches!(refused, Err(CommitError::TooLarge { .. })),
            "{} entries: {refused:?}",
            entries.len()
        );
    }
    // A page of a megabyte does not end a read.
    let feed = store
        .read_feed(record_id(1), Seq(max), 1000, Strong)
        .await
        .unwrap();
    assert_eq!(feed, large(max, 12));
}

#[tokio::test]
async fn a_feed_is_read_from_anywhere() {
    let store = new_store("cursor").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let all = balance_entries(1..=23);
    commit_entries(&store, &head, &all, ByProduct::default())
        .await
        .unwrap();
    for (after, limit) in [
        (0, 5),
        (5, 5),
        (20, 5),
        (22, 1),
        (23, 5),
        (u64::MAX, 5),
        (3, 0),
    ] {
        let got = store
            .read_feed(record_id(1), Seq(after), limit, Strong)
            .await
            .unwrap();
        let expected: Vec<_> = all
            .iter()
            .filter(|entry| entry.seq > Seq(after))
            .take(limit)
            .cloned()
            .collect();
        assert_eq!(got, expected, "after {after}, limit {limit}");
    }
}
