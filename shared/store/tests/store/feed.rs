//! Committing changes and reading them back.

use okra_core::{
    decide::Mark,
    feed::{FeedEntry, MAX_ENTRIES_PER_COMMIT},
    ids::Seq,
    model::ByProduct,
    schedule::Interval,
};
use okra_store::{CommitError, Consistency::Strong, Head};

use crate::support::{
    account, at, balance_change, both, commit, entry, linked, mark, record, row, rows_change, store,
};

fn balances(seqs: std::ops::RangeInclusive<u64>) -> Vec<FeedEntry> {
    seqs.map(|seq| entry(record(1), seq, account(1), balance_change(100)))
        .collect()
}

fn only_balance(mark: Mark) -> ByProduct<Mark> {
    ByProduct {
        balance: Some(mark),
        transactions: None,
    }
}

#[tokio::test]
async fn a_commit_moves_the_head_and_the_feed_together() {
    let store = store("commit").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let entries = [
        entry(record(1), 1, account(1), balance_change(100)),
        entry(
            record(1),
            2,
            account(1),
            rows_change(vec![row(account(1), 0, "a")], vec![]),
        ),
    ];
    let marks = ByProduct {
        balance: Some(mark(1, 1)),
        transactions: Some(mark(2, 2)),
    };
    let after = commit(&store, &head, &entries, marks).await.unwrap();
    let expected = Head {
        seq: Seq(2),
        marks,
        first_pull_done: true,
        rows: Some(1),
        last_changed_at: at(1000),
        ..head
    };
    assert_eq!(after, expected);
    assert_eq!(store.head(record(1), Strong).await.unwrap(), Some(expected));
    assert_eq!(
        store.feed(record(1), Seq(0), 10, Strong).await.unwrap(),
        entries
    );
    assert_eq!(
        store.entry(record(1), Seq(2)).await.unwrap().as_ref(),
        Some(&entries[1])
    );
    assert_eq!(store.entry(record(1), Seq(3)).await.unwrap(), None);
}

#[tokio::test]
async fn a_page_may_begin_and_end_within_a_commit() {
    let store = store("within").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let mut entries = balances(1..=5);
    entries.iter_mut().for_each(|entry| entry.at = at(7));
    let marks = only_balance(mark(1, 5));
    let head = commit(&store, &head, &entries, marks).await.unwrap();
    let more = balances(6..=7);
    let marks = only_balance(mark(2, 7));
    commit(&store, &head, &more, marks).await.unwrap();
    entries.extend(more);
    for after in 0..=7 {
        for limit in 1..=7 {
            let seq = Seq(u64::try_from(after).unwrap());
            let page = store.feed(record(1), seq, limit, Strong).await.unwrap();
            let expected: Vec<_> = entries.iter().skip(after).take(limit).cloned().collect();
            assert_eq!(page, expected, "{limit} after {after}");
        }
    }
    for entry in &entries {
        let found = store.entry(record(1), entry.seq).await.unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
}

#[tokio::test]
async fn a_commit_on_an_old_head_is_lost_and_leaves_nothing() {
    let store = store("lost").await;
    let old = linked(&store, 1, Interval::Daily).await;
    let new = commit(&store, &old, &balances(1..=1), only_balance(mark(1, 1)))
        .await
        .unwrap();
    for entries in [balances(1..=2), vec![]] {
        let lost = commit(&store, &old, &entries, only_balance(mark(2, 1))).await;
        assert!(matches!(lost, Err(CommitError::Lost)), "{lost:?}");
    }
    assert_eq!(store.head(record(1), Strong).await.unwrap(), Some(new));
    let feed = store.feed(record(1), Seq(0), 10, Strong).await.unwrap();
    assert_eq!(feed, balances(1..=1));
}

#[tokio::test]
async fn marks_move_without_an_entry_and_only_from_what_was_read() {
    let store = store("marks").await;
    let old = linked(&store, 1, Interval::Daily).await;
    let new = commit(&store, &old, &[], only_balance(mark(1, 0)))
        .await
        .unwrap();
    assert_eq!((new.seq, new.marks.balance), (Seq(0), Some(mark(1, 0))));
    assert_eq!(new.marks.transactions, old.marks.transactions);
    assert!(!new.first_pull_done);
    // The number of the feed has not moved; the digest tells.
    let lost = commit(&store, &old, &[], only_balance(mark(2, 0))).await;
    assert!(matches!(lost, Err(CommitError::Lost)));
    // A digest can be forgotten again.
    let forgotten = Mark {
        digest: None,
        seq: Seq(0),
    };
    commit(&store, &new, &[], both(forgotten)).await.unwrap();
    let head = store.head(record(1), Strong).await.unwrap().unwrap();
    assert_eq!(head.marks, both(forgotten));
}

#[tokio::test]
async fn of_many_commits_at_once_one_wins() {
    const WRITERS: u8 = 8;
    let store = store("race").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, head) = (store.clone(), head.clone());
        tasks.spawn(async move {
            let marks = only_balance(mark(writer, 2));
            commit(&store, &head, &balances(1..=2), marks).await
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|lost| matches!(lost, Err(CommitError::Lost)))
    );
    let head = store.head(record(1), Strong).await.unwrap();
    assert_eq!(head, won.into_iter().next().unwrap().ok());
}

#[tokio::test]
async fn entries_that_do_not_follow_the_head_are_refused() {
    let store = store("next").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let gap = [balances(1..=1), balances(3..=3)].concat();
    let other = vec![entry(record(2), 1, account(1), balance_change(1))];
    for entries in [balances(2..=2), gap, other] {
        let refused = commit(&store, &head, &entries, ByProduct::default()).await;
        assert!(matches!(refused, Err(CommitError::NotNext)), "{entries:?}");
    }
}

#[tokio::test]
async fn as_much_is_committed_as_a_transaction_takes_and_no_more() {
    let store = store("large").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let max = u64::try_from(MAX_ENTRIES_PER_COMMIT).unwrap();
    let head = commit(&store, &head, &balances(1..=max), ByProduct::default())
        .await
        .unwrap();

    // 300 KB each.
    let rows: Vec<_> = (0..100)
        .map(|n| row(account(1), 0, &format!("{n:0>1450}")))
        .collect();
    let large = |from: u64, count: u64| -> Vec<FeedEntry> {
        (from + 1..=from + count)
            .map(|seq| {
                entry(
                    record(1),
                    seq,
                    account(1),
                    rows_change(rows.clone(), vec![]),
                )
            })
            .collect()
    };
    let head = commit(&store, &head, &large(max, 12), ByProduct::default())
        .await
        .unwrap();
    let too_large = [
        large(head.seq.0, 14),
        (1..=max + 1)
            .map(|n| entry(record(1), head.seq.0 + n, account(1), balance_change(1)))
            .collect(),
        vec![entry(
            record(1),
            head.seq.0 + 1,
            account(1),
            rows_change([rows.clone(), rows.clone()].concat(), vec![]),
        )],
    ];
    for entries in too_large {
        let refused = commit(&store, &head, &entries, ByProduct::default()).await;
        assert!(
            matches!(refused, Err(CommitError::TooLarge { .. })),
            "{} entries: {refused:?}",
            entries.len()
        );
    }
    // A page of a megabyte does not end a read.
    let feed = store.feed(record(1), Seq(max), 1000, Strong).await.unwrap();
    assert_eq!(feed, large(max, 12));
}

#[tokio::test]
async fn a_feed_is_read_from_anywhere() {
    let store = store("cursor").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let all = balances(1..=23);
    commit(&store, &head, &all, ByProduct::default())
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
            .feed(record(1), Seq(after), limit, Strong)
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
