//! What must hold of any bytes at all. The fuzz targets and a property test share it.
#![allow(dead_code, reason = "each target uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::date};
use okra_connectors::{
    obie::{parse_accounts, parse_balances, parse_transactions},
    pages::{find_ambiguous_dates, join_pages},
};
use okra_core::{
    model::{
        ids::{AccountId, AppId, CustomerId, RecordId, Seq},
        snapshot::{AccountSnapshot, Snapshot, Transaction, TransactionFacts, TransactionWindow},
    },
    sync::{
        cursor::{Cursor, FeedPosition, FeedScope},
        decide::{CommittedAccount, decide_changes, digest_snapshot},
        diff::ProjectedAccount,
        digest::MAX_TEXT_BYTES,
        drift::tie_out,
    },
};

const ACCOUNT: AccountId = AccountId::from_bytes([7; 12]);

fn snapshot(rows: Vec<TransactionFacts>) -> Snapshot {
    let from = date(1970, 1, 1);
    Snapshot {
        accounts: vec![AccountSnapshot {
            account: ACCOUNT,
            balance: None,
            transactions: Some(Ok(TransactionWindow::new(from, rows))),
        }],
    }
}

/// A bank's answer. What can be read is in normal form, becomes state once, and changes nothing the
/// second time, in whatever order its rows come.
pub(crate) fn bank_answer(bytes: &[u8]) {
    let (now, nothing) = (Timestamp::UNIX_EPOCH, BTreeSet::new());
    let _ = (parse_balances(bytes), parse_accounts(bytes));
    let Ok(page) = parse_transactions(bytes) else {
        return;
    };
    let mut rows = page.items;
    for row in &rows {
        assert!(row.amount.minor >= 0);
        assert!(row.description.len() <= MAX_TEXT_BYTES);
        assert!(row.bank_id.as_ref().is_none_or(|id| !id.trim().is_empty()));
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let pages = vec![first.to_vec(), second.to_vec()];
    let _ = find_ambiguous_dates(&pages);
    assert!(join_pages(pages).len() <= rows.len());

    rows.retain(|row| row.booking_date() >= date(1970, 1, 1));
    let once = snapshot(rows.clone());
    let mut view = ProjectedAccount::default();
    for (_, change) in decide_changes(&once, &BTreeMap::new(), &nothing, now).changes {
        view.apply_change(&change);
    }
    assert_eq!(view.transactions.len(), rows.len());
    rows.reverse();
    let again = snapshot(rows);
    assert_eq!(
        digest_snapshot(&once).digests.transactions,
        digest_snapshot(&again).digests.transactions
    );
    let transactions = view.transactions.into_iter();
    let state = CommittedAccount {
        transactions: transactions
            .map(|(id, facts)| Transaction { id, facts })
            .collect(),
        ..CommittedAccount::default()
    };
    let decision = decide_changes(&again, &BTreeMap::from([(ACCOUNT, state)]), &nothing, now);
    assert!(decision.changes.is_empty() && decision.faults.is_empty());
    assert!(decision.deletion_checks.is_empty());
    if let Some(Ok(window)) = &again.accounts[0].transactions {
        let _ = tie_out(None, window, None, now);
    }
}

/// A cursor. What was made up is refused; what was made is read back.
pub(crate) fn cursor(bytes: &[u8]) {
    let app = AppId::from_bytes([1; 12]);
    let record = RecordId::from_bytes([2; 12]);
    let customer = CustomerId::from_bytes([3; 12]);
    let scopes = [FeedScope::Record(record), FeedScope::Customer(customer)];
    for scope in scopes {
        if let Ok(text) = std::str::from_utf8(bytes) {
            // Eight bytes of a hash would have to be guessed.
            assert!(Cursor::decode_for_app(text, app, scope).is_err());
        }
        let mut made = Cursor::at_start(scope);
        for (n, part) in (0_u32..100).zip(bytes.chunks_exact(9)) {
            let (seq, rows) = part.split_at(8);
            let seq = u64::from_be_bytes(seq.try_into().unwrap_or_default()) >> 1;
            let position = FeedPosition {
                seq: Seq(seq),
                rows: u16::from(rows[0]),
            };
            let record = match scope {
                FeedScope::Record(record) => record,
                FeedScope::Customer(_) => RecordId::derive(&[&n.to_be_bytes()]),
            };
            made.advance_record(record, position);
        }
        let text = made.encode_for_app(app);
        assert_eq!(Cursor::decode_for_app(&text, app, scope), Ok(made));
    }
}
