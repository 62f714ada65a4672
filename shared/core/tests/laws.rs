//! The laws of the core as properties: what is stated here holds for every input.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan, civil::date};
use okra_core::{
    model::{
        fault::{BankFault, FaultClass},
        ids::AccountId,
        money::{Currency, Money},
        snapshot::{
            AccountSnapshot, BalanceFacts, BookingStatus, Direction, Snapshot, Transaction,
            TransactionFacts, TransactionWindow, UnreadableRow,
        },
    },
    sync::{
        decide::{
            CommittedAccount, RefreshDecision, decide_changes, digest_snapshot,
            earliest_window_end, window_start,
        },
        diff::{ProjectedAccount, diff_transactions},
        digest::digest_transactions,
        feed::{Change, FetchKind, MAX_CHANGES_PER_ENTRY},
    },
};
use proptest::prelude::*;

fn decide_without_confirmation(
    snapshot: &Snapshot,
    known: &BTreeMap<AccountId, CommittedAccount>,
) -> RefreshDecision {
    decide_changes(snapshot, known, &BTreeSet::new(), at(0))
}

const ACCOUNT: AccountId = AccountId::from_bytes([7; 12]);

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap()
}

fn row(id: Option<&str>, day: i64, minor: i64, text: &str) -> TransactionFacts {
    TransactionFacts {
        bank_id: id.map(str::to_owned),
        status: BookingStatus::Booked,
        direction: Direction::Debit,
        amount: Money::new(minor, Currency::NGN),
        booked_at: at(day),
        value_at: None,
        description: text.to_owned(),
        reference: None,
        code: None,
        balance_after: None,
    }
}

fn pending(row: TransactionFacts) -> TransactionFacts {
    TransactionFacts {
        status: BookingStatus::Pending,
        ..row
    }
}

fn window(rows: Vec<TransactionFacts>) -> TransactionWindow {
    TransactionWindow {
        unreadable: vec![],
        from: date(2023, 1, 1),
        rows,
    }
}

/// Rows from a small world, so that ids, texts and amounts collide often.
fn any_row() -> impl Strategy<Value = TransactionFacts> {
    (
        prop::option::of("[a-d]"),
        0..6_i64,
        prop::sample::select(vec![100_i64, 105, 5000]),
        prop::sample::select(vec!["", "POS SHOPRITE", "SHOPRITE IKEJA POS", "TRANSFER"]),
        any::<(bool, bool)>(),
        (prop::option::of("[rs]"), prop::option::of(0..3_i64)),
    )
        .prop_map(
            |(id, day, minor, text, (is_pending, credit), (reference, balance))| {
                let mut row = row(id.as_deref(), day, minor, text);
                row.reference = reference;
                row.balance_after = balance.map(|minor| Money::new(minor, Currency::NGN));
                if is_pending {
                    row.status = BookingStatus::Pending;
                }
                if credit {
                    row.direction = Direction::Credit;
                }
                row
            },
        )
}

fn any_rows() -> impl Strategy<Value = Vec<TransactionFacts>> {
    prop::collection::vec(any_row(), 0..14)
}

fn known(rows: Vec<TransactionFacts>) -> (Vec<Transaction>, ProjectedAccount) {
    let mut view = ProjectedAccount::default();
    view.apply_change(&Change::Transactions(diff_transactions(
        ACCOUNT,
        &[],
        &window(rows),
        FetchKind::Initial,
    )));
    (transactions(&view), view)
}

fn transactions(view: &ProjectedAccount) -> Vec<Transaction> {
    view.transactions
        .iter()
        .map(|(&id, facts)| Transaction {
            id,
            facts: facts.clone(),
        })
        .collect()
}

fn sorted(rows: impl IntoIterator<Item = TransactionFacts>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().map(|row| format!("{row:?}")).collect();
    rows.sort_unstable();
    rows
}

proptest! {
    /// Whatever deletions are pending or responses rejected on the way: when the bank shows the same for long enough, the
    /// state becomes what it shows, and stays so.
    #[test]
    fn no_response_is_a_trap(responses in prop::collection::vec((any_rows(), 0..30_i64, any::<bool>()), 1..6)) {
        let mut view = ProjectedAccount::default();
        let (mut pending_before, mut hour) = (None, 0_i64);
        let last = responses.last().unwrap().0.clone();
        // It shows the same for two days at the end.
        let end = std::iter::repeat_n((last.clone(), 12, true), 4);
        for (rows, after, is_checked_again) in responses.into_iter().chain(end) {
            hour += after + 1;
            let now = Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap();
            let state = CommittedAccount {
                transactions: transactions(&view), pending_deletions: pending_before.clone(), ..CommittedAccount::default()
            };
            let known = BTreeMap::from([(ACCOUNT, state)]);
            let snapshot = Snapshot { accounts: vec![AccountSnapshot {
                account: ACCOUNT, balance: None, transactions: Some(Ok(window(rows.clone()))),
            }] };
            let mut decision = decide_changes(&snapshot, &known, &BTreeSet::new(), now);
            if is_checked_again && !decision.deletion_checks.is_empty() {
                let missing = decision.deletion_checks.iter().flat_map(|it| it.rows.clone()).collect();
                decision = decide_changes(&snapshot, &known, &missing, now);
                prop_assert!(decision.deletion_checks.is_empty());
            }
            let unconfirmed: usize = decision.deletion_checks.iter().map(|it| it.rows.len()).sum();
            for (_, change) in decision.changes {
                view.apply_change(&change);
            }
            if decision.faults.is_empty() {
                prop_assert_eq!(view.transactions.len(), rows.len() + unconfirmed);
            }
            prop_assert_eq!(decision.has_unconfirmed, unconfirmed > 0 || !decision.faults.is_empty());
            for (_, new) in decision.pending_deletions {
                pending_before = new;
            }
        }
        prop_assert_eq!(pending_before, None);
        prop_assert_eq!(sorted(view.transactions.into_values()), sorted(last));
    }

    #[test]
    fn applying_a_diff_gives_what_the_bank_showed(before in any_rows(), after in any_rows()) {
        let (stored, mut view) = known(before.clone());
        prop_assert_eq!(sorted(view.transactions.values().cloned()), sorted(before));
        let diff = diff_transactions(ACCOUNT, &stored, &window(after.clone()), FetchKind::Periodic);
        view.apply_change(&Change::Transactions(diff));
        prop_assert_eq!(sorted(view.transactions.into_values()), sorted(after));
    }

    #[test]
    fn what_did_not_change_has_no_diff_in_any_order(rows in any_rows().prop_shuffle()) {
        let (stored, _) = known(rows.clone());
        let mut shuffled = rows;
        shuffled.reverse();
        let diff = diff_transactions(ACCOUNT, &stored, &window(shuffled), FetchKind::Periodic);
        prop_assert!(diff.is_empty(), "{diff:?}");
    }

    #[test]
    fn a_diff_does_not_depend_on_the_order_of_rows(before in any_rows(), after in any_rows()) {
        let (mut stored, _) = known(before);
        let one = diff_transactions(ACCOUNT, &stored, &window(after.clone()), FetchKind::Periodic);
        stored.reverse();
        let mut reversed = after;
        reversed.reverse();
        let other = diff_transactions(ACCOUNT, &stored, &window(reversed), FetchKind::Periodic);
        let ids = |diff: &okra_core::sync::feed::TransactionsDiff| {
            let mut ids: Vec<String> = diff.added.iter().map(|row| format!("+{row:?}"))
                .chain(diff.removed.iter().map(|row| format!("-{row:?}")))
                .chain(diff.modified.iter().map(|row| format!("~{row:?}")))
                .collect();
            ids.sort_unstable();
            ids
        };
        prop_assert_eq!(ids(&one), ids(&other));
    }

    #[test]
    fn the_digest_sees_every_change_and_nothing_else(a in any_rows(), b in any_rows()) {
        let digest = |rows: Vec<TransactionFacts>| digest_transactions(&[(ACCOUNT, &window(rows))]);
        let mut reversed = a.clone();
        reversed.reverse();
        prop_assert_eq!(digest(a.clone()), digest(reversed));
        prop_assert_eq!(digest(a.clone()) == digest(b.clone()), sorted(a) == sorted(b));
    }

    #[test]
    fn deciding_twice_changes_nothing_the_second_time(rows in any_rows(), minor: i64) {
        let balance = BalanceFacts { available: Some(Money::new(minor, Currency::NGN)), ledger: None };
        let snapshot = Snapshot { accounts: vec![AccountSnapshot {
            account: ACCOUNT, balance: Some(Ok(balance)), transactions: Some(Ok(window(rows))),
        }] };
        let first_fetch = CommittedAccount { is_first_fetch: true, ..CommittedAccount::default() };
        let mut view = ProjectedAccount::default();
        for (_, change) in decide_without_confirmation(&snapshot, &BTreeMap::from([(ACCOUNT, first_fetch)])).changes {
            view.apply_change(&change);
        }
        let state = CommittedAccount {
            balance: view.balance, transactions: transactions(&view), ..CommittedAccount::default()
        };
        let again = decide_without_confirmation(&snapshot, &BTreeMap::from([(ACCOUNT, state)]));
        prop_assert!(again.changes.is_empty(), "{:?}", again.changes);
    }
}

/// Diffs two responses and writes what changed as `+ id`, `- id`, `~ before -> after (confidence)`.
fn check(before: &[TransactionFacts], after: &[TransactionFacts], expected: &[&str]) {
    let (stored, _) = known(before.to_vec());
    let diff = diff_transactions(
        ACCOUNT,
        &stored,
        &window(after.to_vec()),
        FetchKind::Periodic,
    );
    let name = |facts: &TransactionFacts| facts.bank_id.clone().unwrap_or_else(|| "none".into());
    let mut got: Vec<String> = diff
        .removed
        .iter()
        .map(|row| format!("- {}", name(&row.facts)))
        .collect();
    got.extend(diff.modified.iter().map(|row| {
        let confidence = row.confidence.as_str();
        format!(
            "~ {} -> {} ({confidence})",
            name(&row.before),
            name(&row.after.facts)
        )
    }));
    got.extend(
        diff.added
            .iter()
            .map(|row| format!("+ {}", name(&row.facts))),
    );
    got.sort_unstable();
    assert_eq!(got, expected, "before {before:#?} after {after:#?}");
}

#[test]
fn a_pending_row_keeps_its_identity_when_it_is_booked_under_a_new_id() {
    let card = pending(row(Some("p1"), 0, 5000, "POS SHOPRITE IKEJA"));
    check(
        std::slice::from_ref(&card),
        &[row(Some("b9"), 2, 5000, "POS SHOPRITE IKEJA")],
        &["~ p1 -> b9 (high)"],
    );
    check(
        std::slice::from_ref(&card),
        &[row(Some("b9"), 2, 5500, "POS SHOPRITE IKEJA LA")],
        &["~ p1 -> b9 (medium)"],
    );
    check(
        std::slice::from_ref(&card),
        &[row(None, 2, 5000, "SHOPRITE IKEJA")],
        &["~ p1 -> none (high)"],
    );
    // Too late, too different, or another shop: another transaction.
    check(
        std::slice::from_ref(&card),
        &[row(Some("b9"), 20, 5000, "POS SHOPRITE IKEJA")],
        &["+ b9", "- p1"],
    );
    check(
        std::slice::from_ref(&card),
        &[row(Some("b9"), 2, 9000, "POS SHOPRITE IKEJA")],
        &["+ b9", "- p1"],
    );
    check(
        &[card],
        &[row(Some("b9"), 2, 5000, "UBER TRIP")],
        &["+ b9", "- p1"],
    );
}

#[test]
fn rows_without_ids_and_with_reused_ids_neither_merge_nor_double() {
    let coffee = row(None, 1, 700, "COFFEE");
    let three = vec![coffee; 3];
    check(&three, &three, &[]);
    check(&three[..2], &three, &["+ none"]);
    check(&three, &three[..2], &["- none"]);
    let reused = [
        row(Some("1"), 0, 100, "ATM"),
        row(Some("1"), 3, 900, "RENT"),
    ];
    check(&reused, &reused, &[]);
    check(&reused[..1], &reused, &["+ 1"]);
    check(&reused[..1], &reused[1..], &["+ 1", "- 1"]);
}

#[test]
fn reissued_ids_and_edited_rows_are_modifications() {
    check(
        &[row(Some("a"), 0, 100, "ATM")],
        &[row(Some("b"), 0, 100, "ATM")],
        &["~ a -> b (high)"],
    );
    check(
        &[row(Some("a"), 0, 100, "ATM 12")],
        &[row(Some("b"), 0, 100, "CASH WITHDRAWAL")],
        &["~ a -> b (medium)"],
    );
    check(
        &[row(Some("a"), 0, 100, "ATM")],
        &[row(Some("a"), 0, 120, "ATM")],
        &["~ a -> a (exact)"],
    );
}

#[test]
fn a_row_that_is_missing_inside_the_window_is_removed_and_one_before_it_is_not() {
    let (stored, _) = known(vec![
        row(Some("old"), 0, 1, "A"),
        row(Some("new"), 30, 2, "B"),
    ]);
    let later = TransactionWindow {
        unreadable: vec![],
        from: date(2023, 12, 1),
        rows: vec![],
    };
    let diff = diff_transactions(ACCOUNT, &stored, &later, FetchKind::Periodic);
    let removed: Vec<_> = diff
        .removed
        .iter()
        .map(|row| row.facts.bank_id.as_deref())
        .collect();
    assert_eq!(removed, [Some("new")]);
}

#[test]
fn one_account_that_fails_delays_no_other() {
    let other = AccountId::from_bytes([8; 12]);
    let fault = BankFault::new(FaultClass::BankUnavailable, "503");
    let snapshot = Snapshot {
        accounts: vec![
            AccountSnapshot {
                account: ACCOUNT,
                balance: None,
                transactions: Some(Err(fault.clone())),
            },
            AccountSnapshot {
                account: other,
                balance: None,
                transactions: Some(Ok(window(vec![row(Some("a"), 0, 1, "A")]))),
            },
        ],
    };
    let digested = digest_snapshot(&snapshot);
    assert!(digested.digests.is_empty());
    assert_eq!(
        digested.faults,
        [(
            ACCOUNT,
            okra_core::model::snapshot::Product::Transactions,
            fault
        )]
    );
    let decision = decide_without_confirmation(&snapshot, &BTreeMap::new());
    assert_eq!(decision.changes.len(), 1);
    assert_eq!(decision.changes[0].0, other);
}

#[test]
fn an_empty_response_deletes_nothing() {
    let rows: Vec<_> = (0..5)
        .map(|n| row(Some(&n.to_string()), n, 100, "A"))
        .collect();
    let (stored, _) = known(rows);
    let snapshot = Snapshot {
        accounts: vec![AccountSnapshot {
            account: ACCOUNT,
            balance: None,
            transactions: Some(Ok(window(vec![]))),
        }],
    };
    let state = CommittedAccount {
        transactions: stored,
        ..CommittedAccount::default()
    };
    let decision = decide_without_confirmation(&snapshot, &BTreeMap::from([(ACCOUNT, state)]));
    assert!(decision.changes.is_empty());
    assert_eq!(decision.faults[0].2.class, FaultClass::MalformedResponse);
}

#[test]
fn removed_rows_are_in_entries_of_their_own() {
    let (stored, _) = known(vec![
        row(Some("a"), 0, 100, "A"),
        row(Some("b"), 1, 200, "B"),
        row(Some("c"), 2, 300, "C"),
    ]);
    let gone = stored.iter().find(|row| row.facts.description == "A");
    let gone = BTreeSet::from([gone.unwrap().id]);
    let rows = vec![
        row(Some("b"), 1, 200, "B EDITED"),
        row(Some("c"), 2, 300, "C"),
        row(Some("d"), 3, 400, "NEW"),
    ];
    let snapshot = Snapshot {
        accounts: vec![AccountSnapshot {
            account: ACCOUNT,
            balance: None,
            transactions: Some(Ok(window(rows))),
        }],
    };
    let state = CommittedAccount {
        transactions: stored,
        ..CommittedAccount::default()
    };
    let states = BTreeMap::from([(ACCOUNT, state)]);
    let decision = decide_changes(&snapshot, &states, &gone, at(0));
    let sizes: Vec<_> = decision
        .changes
        .iter()
        .map(|(_, change)| match change {
            Change::Transactions(diff) => {
                (diff.removed.len(), diff.modified.len(), diff.added.len())
            }
            Change::Balance { .. } | Change::State(_) => panic!("{change:?}"),
        })
        .collect();
    assert_eq!(sizes, [(1, 0, 0), (0, 1, 1)]);
}

#[test]
fn a_large_fetch_is_split_into_bounded_entries() {
    let rows: Vec<_> = (0..250)
        .map(|n| row(Some(&n.to_string()), n / 10, 100 + n, "A"))
        .collect();
    let snapshot = Snapshot {
        accounts: vec![AccountSnapshot {
            account: ACCOUNT,
            balance: None,
            transactions: Some(Ok(window(rows))),
        }],
    };
    let sizes: Vec<usize> = decide_without_confirmation(&snapshot, &BTreeMap::new())
        .changes
        .iter()
        .map(|(_, change)| match change {
            Change::Transactions(diff) => diff.len(),
            Change::Balance { .. } | Change::State(_) => 0,
        })
        .collect();
    assert_eq!(sizes, [MAX_CHANGES_PER_ENTRY, MAX_CHANGES_PER_ENTRY, 50]);
}

#[test]
fn the_window_slides_once_a_month() {
    assert_eq!(window_start(date(2026, 3, 1)), date(2026, 1, 1));
    assert_eq!(window_start(date(2026, 3, 3)), date(2026, 1, 1));
    assert_eq!(window_start(date(2026, 3, 4)), date(2026, 2, 1));
    assert_eq!(window_start(date(2026, 3, 31)), date(2026, 2, 1));
    assert_eq!(window_start(date(2026, 1, 15)), date(2025, 12, 1));
}

#[test]
fn no_day_lies_between_the_windows_of_one_month_and_the_next() {
    let mut day = date(2023, 1, 1);
    while day < date(2029, 1, 1) {
        let start = window_start(day);
        assert!(earliest_window_end(start) <= day, "{day}");
        let next = start.saturating_add(1_i32.months());
        assert!(next <= earliest_window_end(start), "{day}");
        day = day.tomorrow().unwrap();
    }
}

/// The account with these stored rows.
fn known_rows(rows: &[TransactionFacts]) -> BTreeMap<AccountId, CommittedAccount> {
    let first = diff_transactions(ACCOUNT, &[], &window(rows.to_vec()), FetchKind::Initial);
    let account = CommittedAccount {
        transactions: first.added,
        ..CommittedAccount::default()
    };
    BTreeMap::from([(ACCOUNT, account)])
}

fn snapshot_of_window(window: TransactionWindow) -> Snapshot {
    let account = AccountSnapshot {
        account: ACCOUNT,
        balance: None,
        transactions: Some(Ok(window)),
    };
    Snapshot {
        accounts: vec![account],
    }
}

fn unreadable(bank_id: Option<&str>, day: Option<i64>) -> UnreadableRow {
    UnreadableRow {
        day: day.map(|day| okra_core::model::snapshot::utc_date(at(day))),
        bank_id: bank_id.map(str::to_owned),
        fault: "Data.Transaction[0].Status: the standard does not have this status".to_owned(),
    }
}

#[test]
fn a_known_row_that_cannot_be_read_any_more_is_not_missing_and_the_others_go_on() {
    let stored = [row(Some("a"), 0, 100, "ONE"), row(Some("b"), 3, 200, "TWO")];
    let known = known_rows(&stored);
    for set_aside in [
        unreadable(Some("a"), Some(0)),
        unreadable(None, Some(4)),
        unreadable(None, None),
    ] {
        let response = TransactionWindow {
            unreadable: vec![set_aside],
            ..window(vec![stored[1].clone(), row(Some("c"), 4, 300, "THREE")])
        };
        let decision = decide_without_confirmation(&snapshot_of_window(response), &known);
        assert_eq!(decision.faults, []);
        assert!(!decision.has_unconfirmed && decision.deletion_checks.is_empty());
        let [(_, Change::Transactions(diff))] = decision.changes.as_slice() else {
            panic!("{:?}", decision.changes)
        };
        assert_eq!((diff.added.len(), diff.removed.len()), (1, 0));
    }
}

#[test]
fn a_row_that_is_missing_elsewhere_is_looked_at_as_ever() {
    let stored = [
        row(Some("a"), 0, 100, "ONE"),
        row(Some("b"), 30, 200, "TWO"),
    ];
    let response = TransactionWindow {
        unreadable: vec![unreadable(Some("x"), Some(30))],
        ..window(vec![stored[1].clone()])
    };
    let decision = decide_without_confirmation(&snapshot_of_window(response), &known_rows(&stored));
    assert_eq!(decision.deletion_checks.len(), 1);
}

#[test]
fn what_cannot_be_read_is_part_of_the_digest() {
    let rows = vec![row(Some("a"), 0, 100, "ONE")];
    let digest = |unreadable: Vec<UnreadableRow>| {
        let window = TransactionWindow {
            unreadable,
            ..window(rows.clone())
        };
        digest_transactions(&[(ACCOUNT, &window)])
    };
    let row = unreadable(Some("b"), Some(2));
    // The place in the response is none of it: rows move.
    let moved = UnreadableRow {
        fault: "Data.Transaction[7].Status: the standard does not have this status".to_owned(),
        ..row.clone()
    };
    assert_ne!(digest(vec![]), digest(vec![row.clone()]));
    assert_eq!(digest(vec![row]), digest(vec![moved]));
}
