//! What reads cost: units that the table counted, against the bytes that were answered.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use jiff::SignedDuration;
use okra_api::{Access, ROUTES};
use okra_core::{
    model::{
        ids::{AccountId, EpochDay, TransactionId},
        money::{Currency, Money},
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::{Change, FeedEntry, FetchKind, TransactionsDiff},
};
use okra_store::{Consistency, RecordCommit};
use serde_json::{Value, json};

use crate::{
    recipes::Fixture,
    world::{APP_KEY, ApiWorld, LinkedCustomer},
};

/// Bytes that one read unit pays for: 8 KB, read eventually.
const BYTES_PER_UNIT: f64 = 8192.0;

/// Accounts of the world's customer.
const ACCOUNTS: u32 = 5;

/// Units that a route may cost beyond what it answers, and why.
fn extra_units(path: &str) -> f64 {
    // The rows of an account are a partition, and each that is looked through costs half a unit at least.
    let rows = 0.5 * f64::from(ACCOUNTS);
    // A list over the app looks at links and heads, half a unit at least for each.
    let list = 1.0;
    let (family, call) = path.rsplit_once('/').unwrap_or(("", path));
    match (family, call) {
        ("transactions" | "transaction", "byOptions") => rows + list,
        ("transactions" | "transaction" | "records/transactions", _)
        | ("products", "transactions" | "total-debits-credits")
        | ("products/all" | "products/transactions" | "products/record", _)
        | ("products/records/credit-debit" | "products/spending-patterns", _) => rows,
        ("auth", "getByBank" | "getByDate" | "byOptions" | "getByOptions")
        | ("balance", "byOptions")
        | ("products", "auths" | "records")
        | ("products/auth", "get")
        | ("webhooks", "list") => list,
        // Head, history, due entries and consent.
        ("products/records", "get") => 2.5,
        // The heads of their records, which say whether they are connected.
        ("products", "balances") => 0.5,
        // Its accounts.
        ("customers", "get") => 0.5,
        // The last refresh on demand is read strongly: whoever was just told of one finds it.
        ("", "callback") => 1.0,
        ("jobs", "get") => 0.5,
        // Which records there are is read strongly, each has a list of its own, and each URL its health.
        ("data-sync", "list") => 2.0,
        // The row, its account, and the feed.
        ("history", _) => 0.5,
        // The entry, and what is known of each endpoint.
        ("events", "deliveries") => 3.0,
        _ => 0.0,
    }
}

/// A read costs no more than a unit for each 8 KB that it answers, and one at least, once the process
/// knows its caller and the banks.
#[tokio::test]
async fn a_read_costs_what_it_answers() {
    let world = ApiWorld::new().await;
    let there = Fixture::with_login(&world, json!({ "noOfAccount": ACCOUNTS })).await;
    let key = format!("Bearer {APP_KEY}");
    let mut wrong = Vec::new();
    for route in ROUTES {
        if route.access != Access::Key || route.is_change() {
            continue;
        }
        let body = there.recipe_for_path(route.path).unwrap().body.to_string();
        let uri = format!("/v2/{}", route.path);
        let call = async || {
            world
                .call_api(Method::POST, &uri, Some(&key), body.clone())
                .await
        };
        call().await;
        let before = world.environment.store.capacity_used();
        let answer = call().await;
        let cost = world.environment.store.capacity_used() - before;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text);
        assert!(cost.write_units < 0.01, "{uri} writes");
        let bytes = u32::try_from(answer.text.len()).unwrap();
        let most = (f64::from(bytes) / BYTES_PER_UNIT).max(1.0) + extra_units(route.path);
        if cost.read_units > most {
            let units = cost.read_units;
            wrong.push(format!(
                "{uri}: {units} units for {bytes} bytes, {most:.2} allowed"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The call that is made most: half a unit, however many accounts the customer has.
#[tokio::test]
async fn a_customers_balances_cost_half_a_unit() {
    let world = ApiWorld::new().await;
    for accounts in [1, ACCOUNTS] {
        let login = json!({ "noOfAccount": accounts });
        let linked = world.create_refreshed_with(login).await;
        let body = json!({ "customer": linked.customer_id() });
        let by_customer = "balance/getByCustomer";
        world
            .post_json(by_customer, body.clone())
            .await
            .success_data();
        let before = world.environment.store.capacity_used();
        let balances = world.post_json(by_customer, body).await.success_data();
        let cost = world.environment.store.capacity_used() - before;
        let count = balances["balance"].as_array().unwrap().len();
        assert_eq!(u32::try_from(count), Ok(accounts));
        let units = cost.read_units;
        assert!((units - 0.5).abs() < 0.01, "{units} units");
    }
}

/// Commits so many rows to an account, one each two days back from now; some were first seen days before
/// their date, as pending rows are.
async fn commit_many_rows(world: &ApiWorld, linked: &LinkedCustomer, rows: i64) {
    let store = &world.environment.store;
    let account: AccountId = linked.account_id().parse().unwrap();
    let now = world.environment.clock.now();
    let row = |n: i64| {
        let booked_at = now - SignedDuration::from_hours(48 * n);
        let seen = booked_at - SignedDuration::from_hours(24 * (n * 7 % 30));
        let facts = TransactionFacts {
            bank_id: Some(format!("long-{n}")),
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: Money::new(1_250_050, Currency::NGN),
            booked_at,
            value_at: None,
            description: "NIP/UBA/ADAEZE OKONKWO/RENT MARCH PART 2".to_owned(),
            reference: None,
            code: None,
            balance_after: None,
        };
        let day = EpochDay::from_date(okra_core::model::snapshot::utc_date(seen));
        let id = TransactionId::new(account, day, &[&n.to_be_bytes()]);
        Transaction { id, facts }
    };
    let rows: Vec<Transaction> = (0..rows).map(row).collect();
    for added in rows.chunks(100) {
        let head = store
            .find_head(linked.record_id(), Consistency::Strong)
            .await;
        let head = head.unwrap().unwrap();
        let entry = FeedEntry {
            record: head.record,
            seq: head.seq.next(),
            committed_at: now,
            account: Some(account),
            change: Change::Transactions(TransactionsDiff {
                fetch_kind: FetchKind::Periodic,
                added: added.to_vec(),
                modified: vec![],
                removed: vec![],
                previous_seqs: BTreeMap::new(),
            }),
        };
        let commit = RecordCommit {
            head: &head,
            entries: std::slice::from_ref(&entry),
            watermarks: head.watermarks,
            status: None,
            backfill: None,
            now,
        };
        store.commit_record(commit).await.unwrap();
        store.project_entries(&[entry]).await.unwrap();
    }
}

/// The newest rows of a long history cost what they weigh, and every page is the one that a reading of all
/// rows has.
#[tokio::test]
async fn a_page_of_a_long_history_costs_what_it_answers() {
    for accounts in [1, 2] {
        check_pages(accounts).await;
    }
}

async fn check_pages(accounts: u32) {
    let world = ApiWorld::new().await;
    let login = json!({ "noOfAccount": accounts });
    let linked = world.create_refreshed_with(login).await;
    commit_many_rows(&world, &linked, 300).await;
    let (customer, account) = (linked.customer_id(), linked.account_id());
    let ways = [
        (
            "transactions/getByCustomer",
            json!({ "customer": customer }),
        ),
        ("transactions/getByAccount", json!({ "account": account })),
        (
            "transactions/byRecord",
            json!({ "record": linked.record_id() }),
        ),
        (
            "callback",
            json!({ "record": linked.record_id(), "method": "TRANSACTIONS" }),
        ),
    ];
    let with = |body: &Value, more: Value| {
        let mut body = body.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (path, body) in ways {
        let rows = |data: &Value| {
            let rows = data.get("transaction").or_else(|| data.get("transactions"));
            let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
            let rows = rows.unwrap().as_array().unwrap();
            rows.iter().map(id).collect::<Vec<_>>()
        };
        let days = json!({ "from": "2000-01-01", "to": "2030-01-01", "limit": 1000 });
        let all = world
            .post_json(path, with(&body, days))
            .await
            .success_data();
        let total = all["pagination"]["totalDocs"].clone();
        let all = rows(&all);
        assert_eq!(total, json!(all.len()), "{path}");
        assert!(all.len() > 300, "{}", all.len());

        let one = with(&body, json!({ "limit": 1 }));
        world.post_json(path, one.clone()).await.success_data();
        let before = world.environment.store.capacity_used();
        let first = world.post_json(path, one).await.success_data();
        let units = (world.environment.store.capacity_used() - before).read_units;
        // Its accounts, some rows of a month, the count, and for callback data the last refresh.
        // What an account among others has is not counted.
        let counted = accounts == 1 || !path.ends_with("getByAccount");
        let most = 0.5f64.mul_add(accounts.into(), 3.0);
        assert!(units <= most || !counted, "{path}: {units} units");
        assert_eq!(rows(&first), all[..1], "{path}");

        for limit in [40, 150] {
            let mut read = Vec::new();
            for page in 1..=all.len().div_ceil(limit) {
                let body = with(&body, json!({ "limit": limit, "page": page }));
                let data = world.post_json(path, body).await.success_data();
                assert_eq!(data["pagination"]["totalDocs"], total, "{path} {page}");
                read.extend(rows(&data));
            }
            assert_eq!(read, all, "{path} {limit}");
        }
    }
}
