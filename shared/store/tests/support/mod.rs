//! What the tests of the store share: a store over an engine, and records to put into it.

use std::{
    env,
    sync::atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use okra_aws::{AwsConfig, Clock};
use okra_core::{
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        ids::{AccountId, AppId, BankId, CustomerId, EpochDay, RecordId, Seq, TransactionId},
        interval::{DueKey, Interval},
        money::{Currency, Money},
        snapshot::{
            AccountFacts, BalanceFacts, BookingStatus, ByProduct, Direction, Transaction,
            TransactionFacts,
        },
    },
    schedule::plan::DueEntry,
    sync::{
        decide::Watermark,
        digest::Digest,
        feed::{Change, FeedEntry, FetchKind, TransactionsDiff},
    },
};
use okra_store::{
    Account, CommitError, Consent, ConsentAccount, NewRecord, RecordCommit, RecordHead,
    RecordStatus, Store,
};

/// Where an independent server listens, instead of the embedded engine.
const ENDPOINT_VAR: &str = "OKRA_TEST_DYNAMODB_ENDPOINT";

/// True where the engine counts capacity as DynamoDB does; servers of others do not.
pub(crate) fn counts_capacity() -> bool {
    let meters = env::var(ENDPOINT_VAR).is_err();
    if !meters {
        eprintln!("skipped: budgets, because the server does not count capacity units");
    }
    meters
}

/// True where the engine isolates transactions of callers at the same time, as DynamoDB does. moto 5 checks the conditions
/// of a transaction and then writes, with others' writes in between.
pub(crate) fn isolates_transactions() -> bool {
    let isolates = env::var(ENDPOINT_VAR).is_err();
    if !isolates {
        eprintln!("skipped: races, because the server may not isolate transactions");
    }
    isolates
}

/// A store on a new table of its own.
pub(crate) async fn new_store(test: &str) -> Store {
    new_table(test).await.0
}

/// A store on a new table of its own; with it a client and the table's name, to look behind it.
pub(crate) async fn new_table(test: &str) -> (Store, Client, String) {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    let config = match env::var(ENDPOINT_VAR) {
        Ok(url) => AwsConfig::from_vars(|name| match name {
            "AWS_ENDPOINT_URL" => Some(url.clone()),
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
            _ => None,
        })
        .unwrap(),
        Err(_) => {
            let emulator = okra_emulator::Emulator::in_memory(Clock::system()).unwrap();
            AwsConfig::with_http_client(emulator.http_client())
        }
    };
    let n = TABLES.fetch_add(1, Ordering::Relaxed);
    let name = format!("okra-{test}-{}-{n}", std::process::id());
    let client = config.dynamodb_client();
    let store = Store::new(client.clone(), &name);
    store.create_table().await.unwrap();
    (store, client, name)
}

pub(crate) fn timestamp_at(second: i64) -> Timestamp {
    Timestamp::from_second(1_774_828_800 + second).unwrap()
}

pub(crate) fn naira_amount(minor: i64) -> Money {
    Money::new(minor, Currency::NGN)
}

pub(crate) fn watermark(digest: u8, seq: u64) -> Watermark {
    Watermark {
        digest: Some(Digest([digest; 16])),
        seq: Seq(seq),
    }
}

pub(crate) fn both_products<T: Copy>(value: T) -> ByProduct<T> {
    ByProduct {
        balance: Some(value),
        transactions: Some(value),
    }
}

pub(crate) fn record_id(n: u32) -> RecordId {
    RecordId::derive(&[&n.to_be_bytes()])
}

pub(crate) fn account_id(n: u32) -> AccountId {
    AccountId::derive(&[&n.to_be_bytes()])
}

pub(crate) fn app_id() -> AppId {
    AppId::derive(&[b"app"])
}

pub(crate) fn customer_id() -> CustomerId {
    CustomerId::derive(&[b"customer"])
}

pub(crate) fn bank_id() -> BankId {
    BankId::derive(&[b"bank"])
}

/// A bank of a name and id of its own.
pub(crate) fn sample_bank(n: u32) -> BankConfig {
    BankConfig {
        id: BankId::derive(&[&n.to_be_bytes()]),
        name: format!("Bank {n}"),
        slug: format!("bank-{n}"),
        standard: BankStandard::Obie40,
        base_url: "https://bank.example/aisp".to_owned(),
        financial_id: None,
        oauth: None,
        country: "NG".to_owned(),
        limits: BankLimits::default(),
    }
}

/// A record with one account of the same number, both products on one interval, nothing pulled yet.
pub(crate) fn new_record(n: u32, interval: Interval) -> NewRecord {
    let (record, account) = (record_id(n), account_id(n));
    let head = RecordHead {
        record,
        app: app_id(),
        customer: customer_id(),
        bank: bank_id(),
        seq: Seq::ZERO,
        watermarks: both_products(Watermark::default()),
        state_seq: Seq::ZERO,
        schedule: both_products(interval),
        status: RecordStatus::Active,
        first_fetch_done: false,
        transaction_count: Some(0),
        options: serde_json::json!({ "first_name": "Ada" }),
        meta: serde_json::Map::new(),
        backfill_months: okra_core::backfill::progress::MAX_BACKFILL_MONTHS,
        created_at: timestamp_at(0),
        last_changed_at: timestamp_at(0),
    };
    NewRecord {
        consent: Consent {
            consent_clock: None,
            record,
            app: Some(app_id()),
            bank: bank_id(),
            sealed_secret: vec![7; 400],
            accounts: vec![ConsentAccount {
                account_id: account,
                bank_account_id: "acc-1".to_owned(),
            }],
        },
        accounts: vec![Account {
            id: account,
            record,
            app: app_id(),
            customer: customer_id(),
            bank: bank_id(),
            facts: AccountFacts {
                bank_account_id: "acc-1".to_owned(),
                name: "Ada Okonkwo".to_owned(),
                number: "0123456789".to_owned(),
                kind: "SAVINGS".to_owned(),
                currency: Currency::NGN,
            },
            balance: None,
            balance_seq: Seq::ZERO,
            balance_at: None,
            checks: okra_store::AccountChecks::default(),
            is_drift_reported: false,
            product_states: ByProduct::default(),
            created_at: timestamp_at(0),
            last_updated: timestamp_at(0),
        }],
        due_entries: vec![DueEntry {
            key: DueKey {
                interval,
                bank: bank_id(),
                record,
            },
            watermarks: both_products(Watermark::default()),
            state_seq: Some(Seq::ZERO),
            failure_state: None,
        }],
        feed_entries: vec![],
        head,
    }
}

pub(crate) async fn link_record(store: &Store, n: u32, interval: Interval) -> RecordHead {
    let new = new_record(n, interval);
    store.create_record(&new).await.unwrap();
    new.head
}

pub(crate) fn balance_facts(minor: i64) -> BalanceFacts {
    BalanceFacts {
        available: Some(naira_amount(minor)),
        ledger: Some(naira_amount(minor)),
    }
}

pub(crate) fn sample_transaction(account: AccountId, second: i64, name: &str) -> Transaction {
    let booked_at = timestamp_at(second);
    let day = EpochDay::from_date(okra_core::model::snapshot::utc_date(booked_at));
    Transaction {
        id: TransactionId::new(account, day, &[name.as_bytes()]),
        facts: TransactionFacts {
            bank_id: Some(name.to_owned()),
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: naira_amount(1_250_050),
            booked_at,
            value_at: None,
            description: format!("NIP/UBA/{name}"),
            reference: None,
            code: None,
            balance_after: None,
        },
    }
}

pub(crate) fn feed_entry(
    record: RecordId,
    seq: u64,
    account: AccountId,
    change: Change,
) -> FeedEntry {
    FeedEntry {
        record,
        seq: Seq(seq),
        committed_at: timestamp_at(i64::try_from(seq).unwrap()),
        account: Some(account),
        change,
    }
}

pub(crate) fn balance_change(minor: i64) -> Change {
    Change::Balance {
        before: None,
        after: balance_facts(minor),
    }
}

pub(crate) fn transactions_change(added: Vec<Transaction>, removed: Vec<Transaction>) -> Change {
    Change::Transactions(TransactionsDiff {
        fetch_kind: FetchKind::Periodic,
        added,
        modified: vec![],
        removed,
        previous_seqs: std::collections::BTreeMap::new(),
    })
}

pub(crate) async fn commit_entries(
    store: &Store,
    head: &RecordHead,
    entries: &[FeedEntry],
    watermarks: ByProduct<Watermark>,
) -> Result<RecordHead, CommitError> {
    let commit = RecordCommit {
        head,
        entries,
        watermarks,
        status: None,
        backfill: None,
        now: timestamp_at(1000),
    };
    store.commit_record(commit).await
}
