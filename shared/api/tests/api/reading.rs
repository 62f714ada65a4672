//! Reads, and callback data.

use axum::http::{Method, StatusCode};
use okra_core::{
    feed::{Change, FeedEntry, Pull, TransactionsDiff},
    ids::{BalanceId, Day, Seq, TransactionId},
    model::{BalanceFacts, BookingStatus, Direction, Transaction, TransactionFacts},
    money::{Currency, Money},
};
use okra_sandbox::ConsentState;
use serde_json::{Value, json};

use crate::world::{BANK, KEY, Linked, World};

async fn rows(world: &World, path: &str, body: Value) -> Vec<Value> {
    let data = world.post(path, body).await.data();
    data["transaction"].as_array().unwrap().clone()
}

#[tokio::test]
async fn balances_are_read_in_every_way() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let id = BalanceId::of(linked.account().parse().unwrap());
    let by_customer = json!({ "customer": linked.customer() });
    let shown = world
        .post("balance/getByCustomer", by_customer.clone())
        .await;
    insta::assert_json_snapshot!("balance", shown.json());
    for (path, body) in [
        ("balance/getById", json!({ "id": id })),
        (
            "balance/getByAccount",
            json!({ "account": linked.account() }),
        ),
        (
            "balance/getByAccount",
            json!({ "account_id": linked.account() }),
        ),
        ("balance/getByBank", json!({ "bank": BANK })),
        ("balance/byOptions", json!({ "options": { "UserId": 42 } })),
        (
            "balance/getByDate",
            json!({ "from": "2026-3-15", "to": "2026/03/15" }),
        ),
        (
            "balance/getByCustomerDate",
            json!({ "customer": linked.customer() }),
        ),
        (
            "balance/getByCustomer",
            json!({ "customerId": linked.customer(), "page": "", "limit": "7" }),
        ),
    ] {
        let data = world.post(path, body.clone()).await.data();
        assert_eq!(data["balance"], shown.data()["balance"], "{path} {body}");
    }
    for (path, body) in [
        ("balance/getByDate", json!({ "to": "2026-03-14" })),
        ("balance/byOptions", json!({ "options": { "UserId": 43 } })),
        ("balance/getByBank", json!({ "bank": id })),
        (
            "balance/getByCustomer",
            json!({ "customer": linked.customer(), "page": 2 }),
        ),
    ] {
        let data = world.post(path, body.clone()).await.data();
        assert_eq!(data["balance"], json!([]), "{path} {body}");
    }
    let listed = world.post("products/balances", Value::Null).await.data();
    assert_eq!(listed["pagination"], Value::Null);
    assert_eq!(listed["balances"][0]["connected"], true);
}

#[tokio::test]
async fn transactions_are_read_in_every_way() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let account = linked.account();
    let all = rows(
        &world,
        "transactions/getByAccount",
        json!({ "account": account }),
    )
    .await;
    assert!(all.len() > 5, "{}", all.len());
    let dates: Vec<&str> = all
        .iter()
        .map(|row| row["trans_date"].as_str().unwrap())
        .collect();
    assert!(dates.is_sorted_by(|a, b| a >= b), "newest first: {dates:?}");
    for row in &all {
        assert_ne!(row["credit"].is_null(), row["debit"].is_null(), "{row}");
    }
    insta::assert_json_snapshot!("transaction", all[0]);
    for (path, body) in [
        ("transaction/getByAccount", json!({ "account_id": account })),
        (
            "transactions/getByCustomer",
            json!({ "customer": linked.customer() }),
        ),
        (
            "transaction/getByCustomer",
            json!({ "customer": linked.customer(), "pdf": false }),
        ),
        ("transactions/getByBank", json!({ "bank": BANK })),
        (
            "transactions/byOptions",
            json!({ "options": { "UserId": 42 } }),
        ),
        (
            "transactions/byRecord",
            json!({ "record_id": linked.record() }),
        ),
        ("transactions/getByDate", json!({ "from": "2020-01-01" })),
        (
            "transactions/getByCustomerDate",
            json!({ "customer_id": linked.customer(), "from": "2020-4-02", "to": "2030-01-01T00:00:00Z" }),
        ),
    ] {
        assert_eq!(rows(&world, path, body.clone()).await, all, "{path} {body}");
    }

    let one = rows(
        &world,
        "transactions/getById",
        json!({ "id": all[3]["_id"] }),
    )
    .await;
    assert_eq!(one, [all[3].clone()]);
    let second = json!({ "account": account, "limit": "2", "page": "2" });
    let second = world.post("transactions/getByAccount", second).await.data();
    assert_eq!(second["transaction"], json!(all[2..4]));
    assert_eq!(second["pagination"]["totalDocs"], all.len());
    assert_eq!(second["pagination"]["prevPage"], 1);
    let day = &dates[4][..10];
    let of_day = json!({ "customer": linked.customer(), "from": day, "to": day });
    let of_day = rows(&world, "transactions/getByCustomerDate", of_day).await;
    let expected: Vec<&Value> = all
        .iter()
        .filter(|row| row["trans_date"].as_str().unwrap().starts_with(day))
        .collect();
    assert_eq!(of_day.iter().collect::<Vec<_>>(), expected);
    let debits = rows(&world, "transactions/getByType", json!({ "type": "debit" })).await;
    let credits = rows(
        &world,
        "transactions/getByType",
        json!({ "type": "credit" }),
    )
    .await;
    assert_eq!(debits.len() + credits.len(), all.len());
    let amount = json!({ "type": "debit", "value": debits[0]["debit"] });
    let of_amount = rows(&world, "transactions/getByType", amount).await;
    assert!(
        of_amount.contains(&debits[0])
            && of_amount.iter().all(|it| it["debit"] == debits[0]["debit"])
    );

    for (body, field) in [
        (
            json!({ "account": account, "from": "2026-02-02", "to": "2026-02-01" }),
            "to",
        ),
        (json!({ "account": account, "from": "yesterday" }), "from"),
        (json!({ "account": "x" }), "account"),
        (json!({}), "account"),
        (json!({ "account": account, "page": "x" }), "page"),
    ] {
        let answer = world.post("transactions/getByAccount", body).await;
        let (kind, message) = answer.refusal(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.starts_with(field), "{message}");
    }
}

#[tokio::test]
async fn accounts_are_read_in_every_way() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let by_id = json!({ "id": linked.account() });
    let shown = world.post("accounts/getById", by_id.clone()).await.data();
    insta::assert_json_snapshot!("account", shown);
    let by_customer = json!({ "customer": linked.customer() });
    for (path, body) in [
        ("account/getById", by_id),
        ("accounts/getByCustomer", by_customer),
        ("accounts/getByBank", json!({ "bank": BANK })),
    ] {
        let data = world.post(path, body).await.data();
        assert_eq!(data["account"], shown["account"], "{path}");
    }
    let details = json!({ "account": linked.account() });
    let details = world
        .post("accounts/getAccountDetails", details)
        .await
        .data();
    assert_eq!(details, shown["account"][0]);
    let all = world.post("products/accounts", json!({})).await.data();
    assert_eq!(all["accounts"], shown["account"]);
}

#[tokio::test]
async fn authorisations_are_read_in_every_way() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let by_id = json!({ "id": linked.record() });
    let shown = world.post("auth/getById", by_id).await.data();
    insta::assert_json_snapshot!("auth", shown);
    for (path, body) in [
        (
            "auth/getByCustomer",
            json!({ "customer": linked.customer() }),
        ),
        ("auth/getByBank", json!({ "bank": BANK })),
        (
            "auth/getByDate",
            json!({ "from": "2026-03-15", "to": "2026-03-15" }),
        ),
        (
            "auth/getByDateCustomer",
            json!({ "customer": linked.customer() }),
        ),
        ("auth/byOptions", json!({ "options": { "UserId": 42 } })),
    ] {
        assert_eq!(world.post(path, body).await.data(), shown, "{path}");
    }
    let none = world
        .post("auth/getByDate", json!({ "from": "2026-03-16" }))
        .await;
    assert_eq!(none.data()["auths"], json!([]));
    let all = world.post("products/auths", Value::Null).await.data();
    assert_eq!(all["auths"][0]["record"]["_id"], json!(linked.record()));
    let unknown = json!({ "id": "0".repeat(24) });
    let answer = world.post("auth/getById", unknown).await;
    assert_eq!(answer.refusal(StatusCode::NOT_FOUND).0, "NOT_FOUND");
    assert_eq!(answer.json()["data"]["method"], "AUTH");
}

fn callback(linked: &Linked, method: &str) -> String {
    format!("/v2/callback?record={}&method={method}", linked.record())
}

async fn call_back(world: &World, linked: &Linked, method: &str) -> Value {
    let key = format!("Bearer {KEY}");
    let uri = callback(linked, method);
    world.call(Method::GET, &uri, Some(&key), "").await.data()
}

#[tokio::test]
async fn callback_data_is_there_for_every_method() {
    let world = World::new().await;
    let linked = world.create(json!({})).await;
    for method in ["BALANCE", "TRANSACTIONS"] {
        let data = call_back(&world, &linked, method).await;
        assert_eq!(data["status"]["process"]["running"], true, "{method}");
    }
    // A bank that refuses has nothing running, and nothing completed.
    let login = world.login();
    world
        .bank
        .set_consent(login, ConsentState::Expired)
        .unwrap();
    world.work().await;
    let data = call_back(&world, &linked, "BALANCE").await;
    let process = json!({ "running": false, "completed": false });
    assert_eq!(data["status"]["process"], process);
    assert_eq!(data["balance"], json!({}));
    world.bank.set_consent(login, ConsentState::Active).unwrap();
    let record = json!({ "record_id": linked.record() });
    world.post("customers/retry", record).await.data();
    world.work().await;
    for method in [
        "AUTH",
        "ACCOUNTS",
        "BALANCE",
        "CHECK_BALANCE",
        "PERIODIC_BALANCE",
        "TRANSACTIONS",
        "REFRESH_TRANSACTIONS",
        "PERIODIC_TRANSACTIONS",
        "transactions",
    ] {
        let data = call_back(&world, &linked, method).await;
        assert_eq!(data["product"], method.to_uppercase());
        assert_eq!(data["status"]["process"]["completed"], true, "{method}");
        assert_eq!(data["record"], json!(linked.record()));
        let key = match data["product"].as_str().unwrap() {
            "AUTH" => "auth",
            "ACCOUNTS" => "account",
            name if name.contains("BALANCE") => "balance",
            _ => "transactions",
        };
        assert!(
            data[key].is_object() || data[key].is_array(),
            "{method}: {data}"
        );
    }
    let all = rows(
        &world,
        "transactions/byRecord",
        json!({ "record": linked.record() }),
    )
    .await;
    let data = call_back(&world, &linked, "TRANSACTIONS").await;
    assert_eq!(data["transactions"].as_array().unwrap().len(), all.len());
    assert_eq!(data["last_transaction_date"], all[0]["trans_date"]);
    assert_eq!(data["transactions"][0]["account"], json!(linked.account()));

    // One client posts it.
    let body = json!({ "record": linked.record(), "method": "AUTH" });
    let posted = world.post("callback", body).await.data();
    assert_eq!(posted, call_back(&world, &linked, "AUTH").await);
    let key = format!("Bearer {KEY}");
    for method in ["IDENTITY", ""] {
        let uri = callback(&linked, method);
        let answer = world.call(Method::GET, &uri, Some(&key), "").await;
        let (_, message) = answer.refusal(StatusCode::BAD_REQUEST);
        assert!(message.starts_with("method"), "{message}");
    }
    let uri = callback(&linked, "AUTH").replace(&linked.record().to_string(), &"0".repeat(24));
    let answer = world.call(Method::GET, &uri, Some(&key), "").await;
    assert_eq!(answer.refusal(StatusCode::NOT_FOUND).0, "NO_RECORD_ID");
}

/// An amount that no float holds is written as it is, in every form that shows it.
#[tokio::test]
async fn amounts_are_exact_to_the_last_kobo() {
    const AMOUNT: &str = "90071992547409.93";
    let world = World::new().await;
    let linked = world.refreshed().await;
    let (store, account) = (&world.environment.store, linked.account().parse().unwrap());
    let facts = TransactionFacts {
        bank_id: None,
        status: BookingStatus::Booked,
        direction: Direction::Credit,
        amount: Money::parse(AMOUNT, Currency::NGN).unwrap(),
        booked_at: world.environment.clock.now(),
        value_at: None,
        description: "WINDFALL".to_owned(),
        reference: None,
        code: None,
        balance_after: None,
    };
    let windfall = Transaction {
        id: TransactionId::new(account, Day::of(facts.date()), &[b"windfall"]),
        facts,
    };
    let balance = BalanceFacts {
        available: Some(windfall.facts.amount),
        ledger: None,
    };
    let after_all = |n: u64, change| FeedEntry {
        record: linked.record(),
        seq: Seq(1000 + n),
        at: world.environment.clock.now(),
        account: Some(account),
        change,
    };
    let entries = [
        after_all(
            1,
            Change::Balance {
                before: None,
                after: balance,
            },
        ),
        after_all(
            2,
            Change::Transactions(TransactionsDiff {
                pull: Pull::Periodic,
                added: vec![windfall],
                modified: vec![],
                removed: vec![],
                previous: std::collections::BTreeMap::new(),
            }),
        ),
    ];
    store.project(&entries).await.unwrap();

    let key = format!("Bearer {KEY}");
    let record = json!({ "record_id": linked.record() });
    let customer = json!({ "customer": linked.customer() });
    let get = async |method| {
        let uri = callback(&linked, method);
        world.call(Method::GET, &uri, Some(&key), "").await.text
    };
    for (field, text) in [
        (
            "credit",
            world.post("transactions/byRecord", record).await.text,
        ),
        ("credit", get("TRANSACTIONS").await),
        (
            "available_balance",
            world.post("balance/getByCustomer", customer).await.text,
        ),
        (
            "available_balance",
            world.post("products/balances", json!({})).await.text,
        ),
        ("ledger_balance", get("BALANCE").await),
    ] {
        assert!(text.contains(&format!("\"{field}\":{AMOUNT}")), "{text}");
        let fraction = text.contains(".0,") || text.contains(".0}");
        assert!(!fraction, "whole amounts have no fraction: {text}");
    }
}
