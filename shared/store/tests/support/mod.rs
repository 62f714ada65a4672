//! What the tests of the store share: a store over an engine, and records to put into it.

use std::{
    env,
    sync::atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use okra_aws::{AwsConfig, Clock};
use okra_core::{
    decide::Mark,
    feed::{Change, FeedEntry, Pull, TransactionsDiff},
    ids::{AccountId, AppId, BankId, CustomerId, Day, RecordId, Seq, TransactionId},
    model::{
        AccountFacts, BalanceFacts, BookingStatus, ByProduct, Direction, Transaction,
        TransactionFacts,
    },
    money::{Currency, Money},
    normal::Digest,
    plan::DueEntry,
    schedule::{DueKey, Interval},
};
use okra_store::{
    Account, Commit, CommitError, Consent, ConsentAccount, Head, NewRecord, RecordStatus, Store,
};

/// Where an independent server listens, instead of the embedded engine.
const ENDPOINT: &str = "OKRA_TEST_DYNAMODB_ENDPOINT";

/// True where the engine counts capacity as DynamoDB does; servers of others do not.
pub(crate) fn meters() -> bool {
    let meters = env::var(ENDPOINT).is_err();
    if !meters {
        eprintln!("skipped: budgets, because the server does not count capacity units");
    }
    meters
}

/// A store on a new table of its own.
pub(crate) async fn store(test: &str) -> Store {
    table(test).await.0
}

/// A store on a new table of its own; with it a client and the table's name, to look behind it.
pub(crate) async fn table(test: &str) -> (Store, Client, String) {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    let config = match env::var(ENDPOINT) {
        Ok(url) => AwsConfig::from_vars(|name| match name {
            "AWS_ENDPOINT_URL" => Some(url.clone()),
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
            _ => None,
        })
        .unwrap(),
        Err(_) => {
            let emulator = okra_emulator::Emulator::memory(Clock::system()).unwrap();
            AwsConfig::with_http_client(emulator.http_client())
        }
    };
    let n = TABLES.fetch_add(1, Ordering::Relaxed);
    let name = format!("okra-{test}-{}-{n}", std::process::id());
    let client = config.dynamodb();
    let store = Store::new(client.clone(), &name);
    store.create_table().await.unwrap();
    (store, client, name)
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_774_828_800 + second).unwrap()
}

pub(crate) fn naira(minor: i64) -> Money {
    Money::new(minor, Currency::NGN)
}

pub(crate) fn mark(digest: u8, seq: u64) -> Mark {
    Mark {
        digest: Some(Digest([digest; 16])),
        seq: Seq(seq),
    }
}

pub(crate) fn both<T: Copy>(value: T) -> ByProduct<T> {
    ByProduct {
        balance: Some(value),
        transactions: Some(value),
    }
}

pub(crate) fn record(n: u32) -> RecordId {
    RecordId::derive(&[&n.to_be_bytes()])
}

pub(crate) fn account(n: u32) -> AccountId {
    AccountId::derive(&[&n.to_be_bytes()])
}

pub(crate) fn app() -> AppId {
    AppId::derive(&[b"app"])
}

pub(crate) fn customer() -> CustomerId {
    CustomerId::derive(&[b"customer"])
}

pub(crate) fn bank() -> BankId {
    BankId::derive(&[b"bank"])
}

/// A record with one account of the same number, both products on one interval, nothing pulled yet.
pub(crate) fn new_record(n: u32, interval: Interval) -> NewRecord {
    let (record, account) = (record(n), account(n));
    let head = Head {
        record,
        app: app(),
        customer: customer(),
        bank: bank(),
        seq: Seq::ZERO,
        marks: both(Mark::default()),
        state: Seq::ZERO,
        schedule: both(interval),
        status: RecordStatus::Active,
        first_pull_done: false,
        rows: Some(0),
        options: serde_json::json!({ "first_name": "Ada" }),
        meta: serde_json::Map::new(),
        months: okra_core::history::MAX_MONTHS,
        created_at: at(0),
        last_changed_at: at(0),
    };
    NewRecord {
        consent: Consent {
            clock: None,
            record,
            app: Some(app()),
            bank: bank(),
            sealed: vec![7; 400],
            accounts: vec![ConsentAccount {
                id: account,
                bank_account_id: "acc-1".to_owned(),
            }],
        },
        accounts: vec![Account {
            id: account,
            record,
            app: app(),
            customer: customer(),
            bank: bank(),
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
            checks: okra_store::Checks::default(),
            drift_told: false,
            states: ByProduct::default(),
            created_at: at(0),
            last_updated: at(0),
        }],
        due: vec![DueEntry {
            key: DueKey {
                interval,
                bank: bank(),
                record,
            },
            marks: both(Mark::default()),
            state: Some(Seq::ZERO),
            trouble: None,
        }],
        entries: vec![],
        head,
    }
}

pub(crate) async fn linked(store: &Store, n: u32, interval: Interval) -> Head {
    let new = new_record(n, interval);
    store.create_record(&new).await.unwrap();
    new.head
}

pub(crate) fn balance(minor: i64) -> BalanceFacts {
    BalanceFacts {
        available: Some(naira(minor)),
        ledger: Some(naira(minor)),
    }
}

pub(crate) fn row(account: AccountId, second: i64, name: &str) -> Transaction {
    let booked_at = at(second);
    let day = Day::of(okra_core::model::date_of(booked_at));
    Transaction {
        id: TransactionId::new(account, day, &[name.as_bytes()]),
        facts: TransactionFacts {
            bank_id: Some(name.to_owned()),
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: naira(1_250_050),
            booked_at,
            value_at: None,
            description: format!("NIP/UBA/{name}"),
            reference: None,
            code: None,
            balance_after: None,
        },
    }
}

pub(crate) fn entry(of: RecordId, seq: u64, account: AccountId, change: Change) -> FeedEntry {
    FeedEntry {
        record: of,
        seq: Seq(seq),
        at: at(i64::try_from(seq).unwrap()),
        account: Some(account),
        change,
    }
}

pub(crate) fn balance_change(minor: i64) -> Change {
    Change::Balance {
        before: None,
        after: balance(minor),
    }
}

pub(crate) fn rows_change(added: Vec<Transaction>, removed: Vec<Transaction>) -> Change {
    Change::Transactions(TransactionsDiff {
        pull: Pull::Periodic,
        added,
        modified: vec![],
        removed,
        previous: std::collections::BTreeMap::new(),
    })
}

pub(crate) async fn commit(
    store: &Store,
    head: &Head,
    entries: &[FeedEntry],
    marks: ByProduct<Mark>,
) -> Result<Head, CommitError> {
    let commit = Commit {
        head,
        entries,
        marks,
        status: None,
        history: None,
        now: at(1000),
    };
    store.commit(commit).await
}
