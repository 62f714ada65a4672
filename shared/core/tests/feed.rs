//! The change feed as pages: wherever it is cut, reading it to the end gives what the entries give.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::date};
use okra_core::{
    model::{
        ids::{AccountId, RecordId, Seq, TransactionId},
        money::{Currency, Money},
        snapshot::{
            AccountSnapshot, BalanceFacts, BookingStatus, Direction, Snapshot, Transaction,
            TransactionFacts, TransactionWindow,
        },
    },
    sync::{
        cursor::FeedPosition,
        decide::{CommittedAccount, decide_changes},
        diff::ProjectedAccount,
        feed::FeedEntry,
        net_changes::{NetChange, NetChanges},
    },
};
use proptest::prelude::*;

const RECORD: RecordId = RecordId::from_bytes([1; 12]);
const ACCOUNT: AccountId = AccountId::from_bytes([7; 12]);

fn any_row() -> impl Strategy<Value = TransactionFacts> {
    (
        prop::option::of("[a-e]"),
        0..4_i64,
        prop::sample::select(vec![100_i64, 105, 5000]),
        prop::sample::select(vec!["", "POS SHOPRITE", "SHOPRITE IKEJA POS"]),
        any::<bool>(),
    )
        .prop_map(|(bank_id, day, minor, text, pending)| TransactionFacts {
            bank_id,
            status: if pending {
                BookingStatus::Pending
            } else {
                BookingStatus::Booked
            },
            direction: Direction::Debit,
            amount: Money::new(minor, Currency::NGN),
            booked_at: Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap(),
            value_at: None,
            description: text.to_owned(),
            reference: None,
            code: None,
            balance_after: None,
        })
}

/// What a bank shows, one response after the other, as entries of a feed. Every deletion is confirmed.
fn commit_responses(
    responses: Vec<(Vec<TransactionFacts>, i64)>,
) -> (Vec<FeedEntry>, ProjectedAccount) {
    let mut view = ProjectedAccount::default();
    let mut written: BTreeMap<TransactionId, Seq> = BTreeMap::new();
    let mut entries: Vec<FeedEntry> = Vec::new();
    for (day, (rows, minor)) in (0_i64..).zip(responses) {
        let at = Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        let state = CommittedAccount {
            balance: view.balance,
            transactions: view
                .transactions
                .iter()
                .map(|(&id, facts)| Transaction {
                    id,
                    facts: facts.clone(),
                })
                .collect(),
            last_written_seqs: written.clone(),
            ..CommittedAccount::default()
        };
        let balance = BalanceFacts {
            available: None,
            ledger: Some(Money::new(minor, Currency::NGN)),
        };
        let snapshot = Snapshot {
            accounts: vec![AccountSnapshot {
                account: ACCOUNT,
                balance: Some(Ok(balance)),
                transactions: Some(Ok(TransactionWindow {
                    unreadable: vec![],
                    from: date(2023, 1, 1),
                    rows,
                })),
            }],
        };
        let known = BTreeMap::from([(ACCOUNT, state)]);
        let first = decide_changes(&snapshot, &known, &BTreeSet::new(), at);
        let missing = first
            .deletion_checks
            .iter()
            .flat_map(|it| &it.rows)
            .copied();
        let decision = decide_changes(&snapshot, &known, &missing.collect(), at);
        for (_, change) in decision.changes {
            let seq = Seq(entries.len() as u64 + 1);
            view.apply_change(&change);
            if let okra_core::sync::feed::Change::Transactions(diff) = &change {
                // Each version leads back to the one before it.
                for (id, previous) in &diff.previous_seqs {
                    assert_eq!(written.get(id), Some(previous));
                }
                for row in &diff.modified {
                    assert!(diff.previous_seqs.contains_key(&row.after.id));
                }
                for row in &diff.removed {
                    assert!(diff.previous_seqs.contains_key(&row.id));
                    written.remove(&row.id);
                }
                let modified = diff.modified.iter().map(|row| row.after.id);
                for id in modified.chain(diff.added.iter().map(|row| row.id)) {
                    written.insert(id, seq);
                }
            }
            entries.push(FeedEntry {
                record: RECORD,
                seq,
                committed_at: at,
                account: Some(ACCOUNT),
                change,
            });
        }
    }
    (entries, view)
}

/// Reads the feed in pages of `count` rows and applies each page.
fn read_pages(entries: &[FeedEntry], counts: &[usize]) -> ProjectedAccount {
    let mut view = ProjectedAccount::default();
    let mut position = FeedPosition::START;
    let mut counts = counts.iter().cycle();
    while position.seq.0 < entries.len() as u64 {
        let count = *counts.next().unwrap();
        let mut net = NetChanges::default();
        let start = position;
        for entry in &entries[usize::try_from(position.seq.0).unwrap()..] {
            let room = count - net.row_count();
            let next = net.take_entry(entry, position, room);
            let whole = next.seq == entry.seq;
            position = next;
            if !whole {
                break;
            }
        }
        assert!(position > start, "a page advances");
        assert!(net.row_count() <= count);
        let mut ids = BTreeSet::new();
        for (id, _, kind) in net.net_transactions() {
            assert!(ids.insert(id), "each row once");
            match kind {
                NetChange::Added(facts) => {
                    assert_eq!(view.transactions.insert(id, facts.clone()), None);
                }
                NetChange::Modified(before, after) => {
                    let previous = view.transactions.insert(id, after.clone());
                    assert_eq!(previous.as_ref(), Some(before));
                }
                NetChange::Removed(before) => {
                    assert_eq!(view.transactions.remove(&id).as_ref(), Some(before));
                }
            }
        }
        for (_, balance) in net.net_balances() {
            assert_eq!(view.balance, balance.before);
            view.balance = Some(balance.after);
        }
    }
    view
}

proptest! {
    #[test]
    fn pages_add_up_wherever_they_are_cut(
        responses in prop::collection::vec((prop::collection::vec(any_row(), 0..8), 0..3_i64), 1..8),
        counts in prop::collection::vec(1..9_usize, 1..5),
    ) {
        let (entries, view) = commit_responses(responses);
        prop_assert_eq!(read_pages(&entries, &counts), view);
    }
}
