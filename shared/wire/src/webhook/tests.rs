//! Snapshots of every body, and the laws of names and codes.

use okra_core::{
    model::{
        fault::FaultClass,
        ids::{AccountId, AppId, BankId, CustomerId, RecordId, TransactionId},
        money::{Currency, Money},
        snapshot::{
            AccountFacts, BalanceFacts, BookingStatus, Direction, Environment, Product,
            Transaction as Known, TransactionFacts,
        },
    },
    sync::{
        feed::{
            BodyVersion, Change, FeedEntry, FetchKind, MatchConfidence, ModifiedRow, PayloadMode,
            TransactionsDiff,
        },
        state::{
            Availability, BackfillComplete, BackfillEnd, ProductChange, ReauthorisationReason,
            StateChange,
        },
    },
};
use serde_json::{Map, Value};

use super::{
    EVENT_NAMES, EventContext, WEBHOOK_SCHEMAS, envelope::EventBody, event_matches,
    is_event_filter, kind::transactions_code, render_event_body,
    transaction_bodies::TransactionFactsBody,
};

fn sample_facts(minor: i64, text: &str) -> TransactionFacts {
    TransactionFacts {
        bank_id: Some("b-1".to_owned()),
        status: BookingStatus::Booked,
        direction: Direction::Debit,
        amount: Money::new(minor, Currency::NGN),
        booked_at: "2023-06-01T10:00:00Z".parse().unwrap(),
        value_at: Some("2023-06-02T00:00:00Z".parse().unwrap()),
        description: text.to_owned(),
        reference: Some("000123".to_owned()),
        code: None,
        balance_after: Some(Money::new(2_918_050, Currency::NGN)),
    }
}

fn sample_row(id: u8, facts: TransactionFacts) -> Known {
    Known {
        id: TransactionId::from_bytes([id; 12]),
        facts,
    }
}

fn balance_change(before: Option<i64>, after: i64) -> Change {
    let facts = |minor| BalanceFacts {
        available: Some(Money::new(minor, Currency::NGN)),
        ledger: None,
    };
    Change::Balance {
        before: before.map(facts),
        after: facts(after),
    }
}

/// One new row, one that was booked, one that is gone.
fn mixed_change() -> Change {
    let pending = TransactionFacts {
        status: BookingStatus::Pending,
        value_at: None,
        reference: None,
        bank_id: None,
        ..sample_facts(490_000, "POS SHOPRITE")
    };
    Change::Transactions(TransactionsDiff {
        fetch_kind: FetchKind::Periodic,
        added: vec![sample_row(
            1,
            sample_facts(500_000, "POS PURCHASE \"IKEJA\""),
        )],
        modified: vec![ModifiedRow {
            before: pending,
            after: sample_row(2, sample_facts(500_050, "POS SHOPRITE IKEJA")),
            confidence: MatchConfidence::Medium,
        }],
        removed: vec![sample_row(3, sample_facts(1, "GONE"))],
        previous_seqs: std::collections::BTreeMap::new(),
    })
}

fn sample_entry(change: Change) -> FeedEntry {
    FeedEntry {
        record: RecordId::from_bytes([0x64; 12]),
        seq: okra_core::model::ids::Seq(7),
        committed_at: "2023-06-04T00:27:46.459Z".parse().unwrap(),
        account: Some(AccountId::from_bytes([0xac; 12])),
        change,
    }
}

fn sample_account() -> AccountFacts {
    AccountFacts {
        bank_account_id: "b-1".to_owned(),
        name: "ADA TEST".to_owned(),
        number: "0001112223".to_owned(),
        kind: "SAVINGS".to_owned(),
        currency: Currency::NGN,
    }
}

fn sample_context<'a>(
    (options, meta): (&'a Value, &'a Map<String, Value>),
    account: Option<&'a AccountFacts>,
    payload: PayloadMode,
) -> EventContext<'a> {
    EventContext {
        public_url: "https://sync.example",
        endpoint_url: "https://app.example/okra/hook/",
        payload_mode: payload,
        body_version: BodyVersion::LATEST,
        app: AppId::from_bytes([0xa0; 12]),
        env: Environment::Sandbox,
        customer: CustomerId::from_bytes([0xc0; 12]),
        customer_email: Some("ada@app.example"),
        bank: BankId::from_bytes([0xba; 12]),
        bank_name: "Guaranty Trust Bank",
        bank_slug: "guaranty-trust-bank",
        country: "NG",
        account_facts: account,
        options,
        meta,
    }
}

fn check_snapshot(name: &str, payload: PayloadMode, change: Change) {
    let options = serde_json::json!({ "UserId": 42 });
    let (holder, mut entry) = (sample_account(), sample_entry(change));
    let of_account = match &entry.change {
        Change::State(change) => matches!(
            change,
            StateChange::AccountLinked
                | StateChange::Product(_)
                | StateChange::BackfillComplete(_)
                | StateChange::Drift { .. }
        ),
        Change::Balance { .. } | Change::Transactions(_) => true,
    };
    if !of_account {
        entry.account = None;
    }
    let meta = Map::new();
    let context = sample_context((&options, &meta), of_account.then_some(&holder), payload);
    let pretty = serde_json::to_string_pretty(&EventBody::new(&context, &entry)).unwrap();
    insta::assert_snapshot!(name, pretty);
    let sent = render_event_body(&context, &entry).unwrap();
    assert_eq!(
        sent,
        render_event_body(&context, &entry).unwrap(),
        "every attempt is the same"
    );
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent, serde_json::from_str::<Value>(&pretty).unwrap());
    crate::operational_event::tests::assert_documented(&sent);
}

#[test]
fn what_the_app_gave_comes_back() {
    let options = serde_json::json!({ "UserId": 42 });
    let meta = Map::from_iter([("plan".to_owned(), Value::from("gold"))]);
    for payload in [PayloadMode::Full, PayloadMode::Reference] {
        let context = sample_context((&options, &meta), None, payload);
        let mut entry = sample_entry(Change::State(StateChange::Linked));
        entry.account = None;
        let sent: Value =
            serde_json::from_slice(&render_event_body(&context, &entry).unwrap()).unwrap();
        assert_eq!(sent["options"], options);
        assert_eq!(sent["meta"]["plan"], "gold");
    }
}

#[test]
fn every_event_is_documented() {
    let schemas: Value = serde_json::from_str(WEBHOOK_SCHEMAS).unwrap();
    let documented: Vec<&String> = schemas["webhooks"].as_object().unwrap().keys().collect();
    let mut known: Vec<&str> = EVENT_NAMES.to_vec();
    known.push("webhook.ping");
    known.sort_unstable();
    assert_eq!(documented, known);
    for (filter, expected) in [
        ("balance.success", true),
        ("balance.*", true),
        ("*", true),
        ("balance", false),
        ("bal*", false),
        ("income.*", false),
        ("", false),
    ] {
        assert_eq!(is_event_filter(filter), expected, "{filter}");
    }
    assert!(event_matches("endpoint.*", "endpoint.failing"));
    assert!(!event_matches("endpoint.*", "balance.success"));
}

#[test]
fn bodies_are_the_union_of_what_receivers_read() {
    let full = PayloadMode::Full;
    check_snapshot("balance_full", full, balance_change(Some(15_337), 15_300));
    let first = balance_change(None, 2_918_000);
    check_snapshot("balance_reference", PayloadMode::Reference, first);
    check_snapshot("transactions_full", full, mixed_change());
    check_snapshot(
        "transactions_reference",
        PayloadMode::Reference,
        mixed_change(),
    );
}

#[test]
fn changes_of_state_are_events_in_the_same_envelope() {
    let full = PayloadMode::Full;
    let check = |name, change| check_snapshot(name, full, Change::State(change));
    check("linked", StateChange::Linked);
    check("account_linked", StateChange::AccountLinked);
    let reason = ReauthorisationReason::ConsentRejected;
    check(
        "token_required",
        StateChange::ReauthorisationRequired { reason },
    );
    check("recovered", StateChange::Recovered);
    let expiring = StateChange::ConsentExpiring {
        expires_at: "2023-06-11T00:27:46Z".parse().unwrap(),
        days_before: 7,
    };
    check("consent_expiring", expiring);
    let product = ProductChange {
        product: Product::Balance,
        availability: Availability::Unavailable,
        class: Some(FaultClass::BankUnavailable),
    };
    check("product_state", StateChange::Product(product));
    let history = BackfillComplete {
        oldest_date: jiff::civil::date(2021, 6, 4),
        rows: 231,
        end_reason: BackfillEnd::RequestedLimit,
    };
    check("history_complete", StateChange::BackfillComplete(history));
    let drift = okra_core::sync::drift::Drift {
        amount: Money::new(-2_500, Currency::NGN),
        since: "2023-06-04T00:27:46Z".parse().unwrap(),
        check: okra_core::sync::drift::TieOutCheck::Movement,
        days: 0,
    };
    check("drift", StateChange::Drift { drift: Some(drift) });
    check("drift_over", StateChange::Drift { drift: None });
}

#[test]
fn the_code_follows_from_the_diff() {
    let check = |pull, added: bool, removed: bool, expected: &str| {
        let some = |there: bool| {
            there
                .then(|| sample_row(1, sample_facts(1, "")))
                .into_iter()
                .collect::<Vec<_>>()
        };
        let diff = TransactionsDiff {
            fetch_kind: pull,
            added: some(added),
            modified: vec![],
            removed: some(removed),
            previous_seqs: std::collections::BTreeMap::new(),
        };
        assert_eq!(
            transactions_code(&diff),
            expected,
            "{pull:?} {added} {removed}"
        );
    };
    check(FetchKind::Initial, true, false, "INITIAL_TRANSACTION");
    check(FetchKind::Initial, false, false, "INITIAL_TRANSACTION");
    check(FetchKind::Backfill, true, false, "HISTORICAL_TRANSACTIONS");
    check(FetchKind::Periodic, true, true, "PERIODIC_TRANSACTIONS");
    check(FetchKind::Periodic, false, true, "TRANSACTIONS_DELETED");
}

#[test]
fn every_fact_that_can_change_is_shown_under_its_name() {
    let before = sample_facts(1, "a");
    let after = TransactionFacts {
        bank_id: None,
        status: BookingStatus::Pending,
        direction: Direction::Credit,
        amount: Money::new(2, Currency::NGN),
        booked_at: "2023-06-03T10:00:00Z".parse().unwrap(),
        value_at: None,
        description: "b".to_owned(),
        reference: None,
        code: Some("k".to_owned()),
        balance_after: None,
    };
    let changed = before.changed_fields(&after);
    let shown =
        serde_json::to_value(TransactionFactsBody::from_named_facts(&after, &changed)).unwrap();
    let mut shown: Vec<&str> = shown
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut changed = changed;
    shown.sort_unstable();
    changed.sort_unstable();
    assert_eq!(shown, changed);
}
