//! Okra's shapes, as snapshots: a client that decodes them once must decode them for ever.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use okra_core::{
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        fault::FaultClass,
        ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq, TransactionId},
        interval::Interval,
        money::{Currency, Money},
        snapshot::{
            AccountFacts, BalanceFacts, BookingStatus, ByProduct, Direction, Environment,
            Transaction as Known, TransactionFacts,
        },
    },
    sync::state::{Availability, ProductState},
};
use okra_wire::{
    account::AccountResource,
    account_context::{AccountContext, NamedReference, ResourceIds, ResourceTimes},
    availability::AvailabilityResource,
    balance::{BalanceResource, CallbackBalanceResource, ListedBalanceResource},
    bank::{BankListResource, BankResource},
    callback::{CallbackData, CallbackFamily, CallbackResource, OrEmptyObject},
    customer::{CustomerResource, LinkedCredential},
    envelope::{Failure, FailureData, Pagination, Success},
    record::{
        AuthResource, ListedAuthResource, PopulatedAuthResource, RecordDetails, RecordResource,
        RefreshAcknowledgement, RefreshStatusResource,
    },
    scalar::IsoInstant,
    transaction::TransactionResource,
};
use serde::Serialize;

const RECORD: RecordId = RecordId::from_bytes([0x64; 12]);

fn ids() -> ResourceIds {
    ResourceIds {
        app: AppId::from_bytes([0xa0; 12]),
        env: Environment::Sandbox,
        record: RECORD,
        customer: CustomerId::from_bytes([0xc0; 12]),
        bank: BankId::from_bytes([0xba; 12]),
        account: AccountId::from_bytes([0xac; 12]),
    }
}

fn facts() -> AccountFacts {
    AccountFacts {
        bank_account_id: "0000000101".to_owned(),
        name: "ADA TEST".to_owned(),
        number: "0001112223".to_owned(),
        kind: "SAVINGS".to_owned(),
        currency: Currency::NGN,
    }
}

fn origin(facts: &AccountFacts) -> AccountContext<'_> {
    AccountContext {
        ids: ids(),
        customer_name: "Ada Test",
        customer_email: Some("ada@app.example"),
        bank_name: "Guaranty Trust Bank",
        bank_slug: "guaranty-trust-bank",
        facts,
        drift: None,
        availability: ByProduct::default(),
        is_connected: true,
        needs_user_present: false,
    }
}

fn times() -> ResourceTimes {
    ResourceTimes {
        created_at: "2023-06-04T00:27:46.459Z".parse().unwrap(),
        last_updated: "2023-06-05T00:27:46.459Z".parse().unwrap(),
    }
}

fn naira(minor: i64) -> Money {
    Money::new(minor, Currency::NGN)
}

fn balance() -> BalanceFacts {
    BalanceFacts {
        available: Some(naira(2_918_000)),
        ledger: Some(naira(2_918_055)),
    }
}

fn transaction(direction: Direction, status: BookingStatus) -> Known {
    Known {
        id: TransactionId::from_bytes([0x10; 12]),
        facts: TransactionFacts {
            bank_id: Some("b-1".to_owned()),
            status,
            direction,
            amount: naira(500_000),
            booked_at: "2023-06-01T00:00:00Z".parse().unwrap(),
            value_at: None,
            description: "POS PURCHASE SHOPRITE".to_owned(),
            reference: Some("000123".to_owned()),
            code: Some("POS".to_owned()),
            balance_after: Some(naira(9_007_199_254_740_993)),
        },
    }
}

fn check(name: &str, shape: &impl Serialize) {
    insta::assert_snapshot!(name, serde_json::to_string_pretty(shape).unwrap());
}

#[test]
fn envelopes() {
    check(
        "success",
        &Success::new("Balance retrieved succesfully", ()),
    );
    let failure = Failure {
        status: "error",
        message: "No record matches that id".to_owned(),
        data: FailureData {
            message: vec!["record_id is unknown".to_owned()],
            method: "BALANCE",
            kind: "NO_RECORD_ID",
            next_refresh_available_at: None,
        },
        request_id: "64a0c0ffee00000000000001".to_owned(),
    };
    check("failure", &failure);
    check("pagination", &Pagination::new(41, 1, 20));
}

#[test]
fn banks() {
    let config = BankConfig {
        id: ids().bank,
        name: "Guaranty Trust Bank".to_owned(),
        slug: "guaranty-trust-bank".to_owned(),
        standard: BankStandard::Obie31,
        base_url: "https://bank.example/open-banking/v3.1/aisp".to_owned(),
        financial_id: None,
        oauth: None,
        country: "NG".to_owned(),
        limits: BankLimits::default(),
    };
    let banks = BankListResource {
        banks: vec![BankResource::from(&config)],
        credentials: (),
    };
    check("banks", &banks);
}

#[test]
fn accounts_and_balances() {
    let facts = facts();
    let of = origin(&facts);
    check("account", &AccountResource::new(&of, times()));
    check("balance", &BalanceResource::new(&of, &balance(), times()));
    let listed = ListedBalanceResource::new(&of, &balance(), times());
    check("balance_listed", &listed);
}

/// What cannot be had is said beside what was had last, and what a bank with its customer there means.
#[test]
fn what_is_lacking_is_said() {
    let facts = facts();
    let mut of = origin(&facts);
    let since = times().last_updated;
    let state = |availability, class| ProductState {
        availability,
        class,
        since,
    };
    let available = state(Availability::Available, None);
    assert!(AvailabilityResource::from_product_state(&available).is_none());
    let down = state(Availability::Unavailable, Some(FaultClass::BankUnavailable));
    of.availability.balance = AvailabilityResource::from_product_state(&down);
    of.availability.transactions = Some(AvailabilityResource::for_missing_rows(since));
    (of.is_connected, of.needs_user_present) = (false, true);
    check("account_lacking", &AccountResource::new(&of, times()));
    let listed = ListedBalanceResource::new(&of, &balance(), times());
    check("balance_listed_lacking", &listed);
}

#[test]
fn transactions() {
    let facts = facts();
    let of = origin(&facts);
    let booked = transaction(Direction::Debit, BookingStatus::Booked);
    check(
        "transaction",
        &TransactionResource::with_names(&of, &booked, times()),
    );
    let pending = transaction(Direction::Credit, BookingStatus::Pending);
    check(
        "transaction_plain",
        &TransactionResource::with_plain_ids(ids(), &pending, times()),
    );
}

fn done() -> RefreshStatusResource {
    RefreshStatusResource::new(true, true)
}

fn view() -> RecordDetails {
    RecordDetails {
        record: RECORD,
        app: ids().app,
        env: Environment::Sandbox,
        customer: NamedReference::new(ids().customer, "Ada Test"),
        bank: NamedReference::new(ids().bank, "Guaranty Trust Bank"),
        connection: "token_required",
        schedule: ByProduct {
            balance: Some(Interval::OneMinute),
            transactions: Some(Interval::Daily),
        },
        sequence: Seq(7),
        is_initially_refreshed: true,
        backfill_months: 24,
        currency: Some(Currency::NGN),
        options: serde_json::json!({ "UserId": 42 }),
        times: times(),
    }
}

#[test]
fn records_and_customers() {
    let view = view();
    check("record", &RecordResource::from(&view));
    check("auth", &PopulatedAuthResource::from(&view));
    check("auth_listed", &ListedAuthResource::from(&view));
    let email = Some("ada@app.example".to_owned());
    let owner = NamedReference::new(view.app, "Ledger");
    let customer = CustomerResource::new(view.customer.clone(), owner, email, view.env, times());
    check("customer", &customer);
    let facts = facts();
    let customer = customer
        .with_credentials(vec![LinkedCredential::new(&origin(&facts))])
        .with_records(vec![(RECORD, RecordResource::from(&view))]);
    check("customer_with_records", &customer);
    let acknowledged = RefreshAcknowledgement::new("https://sync.example", RECORD, "BALANCE");
    check("acknowledged", &acknowledged);
}

#[test]
fn callback_data() {
    let facts = facts();
    let of = origin(&facts);
    let page = Pagination::new(1, 1, 1000);
    let auth = CallbackData::Auth {
        auth: AuthResource::from(&view()),
    };
    check(
        "callback_auth",
        &CallbackResource::new("AUTH", RECORD, done(), None, auth),
    );
    let balances = vec![CallbackBalanceResource::new(&of, &balance(), times())];
    let balances = CallbackData::balances_page(balances, page.clone());
    let callback = CallbackResource::new("BALANCE", RECORD, done(), None, balances);
    check("callback_balance", &callback);
    let accounts =
        CallbackData::accounts_page(vec![AccountResource::new(&of, times())], page.clone());
    let callback = CallbackResource::new("ACCOUNTS", RECORD, done(), None, accounts);
    check("callback_accounts", &callback);
    let booked = transaction(Direction::Debit, BookingStatus::Booked);
    let latest = Some(IsoInstant(booked.facts.booked_at));
    let rows = CallbackData::Transactions {
        transactions: vec![TransactionResource::with_plain_ids(ids(), &booked, times())],
        pagination: page,
    };
    let callback = CallbackResource::new("PERIODIC_TRANSACTIONS", RECORD, done(), latest, rows);
    check("callback_transactions", &callback);
}

#[test]
fn nothing_yet_is_an_empty_object() {
    let none = serde_json::to_string(&OrEmptyObject::<u8>(None)).unwrap();
    assert_eq!(none, "{}");
    let empty = CallbackData::balances_page(vec![], Pagination::new(0, 1, 1000));
    let callback = CallbackResource::new(
        "BALANCE",
        RECORD,
        RefreshStatusResource::new(false, true),
        None,
        empty,
    );
    let json = serde_json::to_string(&callback).unwrap();
    assert!(json.contains(r#""balance":{},"balances":[]"#), "{json}");
    assert!(
        json.contains(r#""running":true,"completed":false"#),
        "{json}"
    );
}

#[test]
fn methods_are_known_in_any_case() {
    let check = |method: &str, expected: Option<(&str, CallbackFamily)>| {
        assert_eq!(CallbackFamily::from_method(method), expected, "{method}");
    };
    check(
        "check_balance",
        Some(("CHECK_BALANCE", CallbackFamily::Balance)),
    );
    check("AUTH", Some(("AUTH", CallbackFamily::Auth)));
    check("IDENTITY", None);
    check("", None);
}
