//! Reads, and callback data.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use okra_core::{
    model::{
        ids::{BalanceId, CustomerId, EpochDay, RecordId, Seq, TransactionId},
        money::{Currency, Money},
        snapshot::{BalanceFacts, BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::{Change, FeedEntry, FetchKind, TransactionsDiff},
};
use okra_sandbox::{ConsentState, FaultTarget, Faults, MalformedFault, SandboxResource};
use okra_store::{Consent, Consistency, Customer, NewRecord, RecordHead};
use serde_json::{Value, json};

use crate::{
    decoders,
    world::{APP_KEY, ApiWorld, BANK, LinkedCustomer},
};

async fn post_for_rows(world: &ApiWorld, path: &str, body: Value) -> Vec<Value> {
    let data = world.post_json(path, body).await.success_data();
    data["transaction"].as_array().unwrap().clone()
}

#[tokio::test]
async fn balances_are_read_in_every_way() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let id = BalanceId::for_account(linked.account_id().parse().unwrap());
    let by_customer = json!({ "customer": linked.customer_id() });
    let shown = world
        .post_json("balance/getByCustomer", by_customer.clone())
        .await;
    insta::assert_json_snapshot!("balance", shown.parse_json());
    for (path, body) in [
        ("balance/getById", json!({ "id": id })),
        (
            "balance/getByAccount",
            json!({ "account": linked.account_id() }),
        ),
        (
            "balance/getByAccount",
            json!({ "account_id": linked.account_id() }),
        ),
        ("balance/getByBank", json!({ "bank": BANK })),
        ("balance/byOptions", json!({ "options": { "UserId": 42 } })),
        (
            "balance/getByDate",
            json!({ "from": "2026-3-15", "to": "2026/03/15" }),
        ),
        (
            "balance/getByCustomerDate",
            json!({ "customer": linked.customer_id() }),
        ),
        (
            "balance/getByCustomer",
            json!({ "customerId": linked.customer_id(), "page": "", "limit": "7" }),
        ),
    ] {
        let data = world.post_json(path, body.clone()).await.success_data();
        assert_eq!(
            data["balance"],
            shown.success_data()["balance"],
            "{path} {body}"
        );
    }
    for (path, body) in [
        ("balance/getByDate", json!({ "to": "2026-03-14" })),
        ("balance/byOptions", json!({ "options": { "UserId": 43 } })),
        ("balance/getByBank", json!({ "bank": id })),
        (
            "balance/getByCustomer",
            json!({ "customer": linked.customer_id(), "page": 2 }),
        ),
    ] {
        let data = world.post_json(path, body.clone()).await.success_data();
        assert_eq!(data["balance"], json!([]), "{path} {body}");
    }
    let listed = world
        .post_json("products/balances", Value::Null)
        .await
        .success_data();
    assert_eq!(listed["pagination"], Value::Null);
    assert_eq!(listed["balances"][0]["connected"], true);
}

#[tokio::test]
async fn transactions_are_read_in_every_way() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let account = linked.account_id();
    let all = post_for_rows(
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
            json!({ "customer": linked.customer_id() }),
        ),
        (
            "transaction/getByCustomer",
            json!({ "customer": linked.customer_id(), "pdf": false }),
        ),
        ("transactions/getByBank", json!({ "bank": BANK })),
        (
            "transactions/byOptions",
            json!({ "options": { "UserId": 42 } }),
        ),
        (
            "transactions/byRecord",
            json!({ "record_id": linked.record_id() }),
        ),
        ("transactions/getByDate", json!({ "from": "2020-01-01" })),
        (
            "transactions/getByCustomerDate",
            json!({ "customer_id": linked.customer_id(), "from": "2020-4-02", "to": "2030-01-01T00:00:00Z" }),
        ),
    ] {
        assert_eq!(
            post_for_rows(&world, path, body.clone()).await,
            all,
            "{path} {body}"
        );
    }

    let one = post_for_rows(
        &world,
        "transactions/getById",
        json!({ "id": all[3]["_id"] }),
    )
    .await;
    assert_eq!(one, [all[3].clone()]);
    let second = json!({ "account": account, "limit": "2", "page": "2" });
    let second = world
        .post_json("transactions/getByAccount", second)
        .await
        .success_data();
    assert_eq!(second["transaction"], json!(all[2..4]));
    assert_eq!(second["pagination"]["totalDocs"], all.len());
    assert_eq!(second["pagination"]["prevPage"], 1);
    let day = &dates[4][..10];
    let of_day = json!({ "customer": linked.customer_id(), "from": day, "to": day });
    let of_day = post_for_rows(&world, "transactions/getByCustomerDate", of_day).await;
    let expected: Vec<&Value> = all
        .iter()
        .filter(|row| row["trans_date"].as_str().unwrap().starts_with(day))
        .collect();
    assert_eq!(of_day.iter().collect::<Vec<_>>(), expected);
    let debits = post_for_rows(&world, "transactions/getByType", json!({ "type": "debit" })).await;
    let credits = post_for_rows(
        &world,
        "transactions/getByType",
        json!({ "type": "credit" }),
    )
    .await;
    assert_eq!(debits.len() + credits.len(), all.len());
    let amount = json!({ "type": "debit", "value": debits[0]["debit"] });
    let of_amount = post_for_rows(&world, "transactions/getByType", amount).await;
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
        let answer = world.post_json("transactions/getByAccount", body).await;
        let (kind, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.starts_with(field), "{message}");
    }
}

#[tokio::test]
async fn accounts_are_read_in_every_way() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let by_id = json!({ "id": linked.account_id() });
    let shown = world
        .post_json("accounts/getById", by_id.clone())
        .await
        .success_data();
    insta::assert_json_snapshot!("account", shown);
    let by_customer = json!({ "customer": linked.customer_id() });
    for (path, body) in [
        ("account/getById", by_id),
        ("accounts/getByCustomer", by_customer),
        ("accounts/getByBank", json!({ "bank": BANK })),
    ] {
        let data = world.post_json(path, body).await.success_data();
        assert_eq!(data["account"], shown["account"], "{path}");
    }
    let details = json!({ "account": linked.account_id() });
    let details = world
        .post_json("accounts/getAccountDetails", details)
        .await
        .success_data();
    assert_eq!(details, shown["account"][0]);
    let all = world
        .post_json("products/accounts", json!({}))
        .await
        .success_data();
    assert_eq!(all["accounts"], shown["account"]);
}

#[tokio::test]
async fn authorisations_are_read_in_every_way() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let by_id = json!({ "id": linked.record_id() });
    let shown = world.post_json("auth/getById", by_id).await.success_data();
    insta::assert_json_snapshot!("auth", shown);
    for (path, body) in [
        (
            "auth/getByCustomer",
            json!({ "customer": linked.customer_id() }),
        ),
        ("auth/getByBank", json!({ "bank": BANK })),
        (
            "auth/getByDate",
            json!({ "from": "2026-03-15", "to": "2026-03-15" }),
        ),
        (
            "auth/getByDateCustomer",
            json!({ "customer": linked.customer_id() }),
        ),
        ("auth/byOptions", json!({ "options": { "UserId": 42 } })),
    ] {
        assert_eq!(
            world.post_json(path, body).await.success_data(),
            shown,
            "{path}"
        );
    }
    let none = world
        .post_json("auth/getByDate", json!({ "from": "2026-03-16" }))
        .await;
    assert_eq!(none.success_data()["auths"], json!([]));
    let all = world
        .post_json("products/auths", Value::Null)
        .await
        .success_data();
    assert_eq!(all["auths"][0]["record"]["_id"], json!(linked.record_id()));
    let unknown = json!({ "id": "0".repeat(24) });
    let answer = world.post_json("auth/getById", unknown).await;
    assert_eq!(answer.expect_error(StatusCode::NOT_FOUND).0, "NOT_FOUND");
    assert_eq!(answer.parse_json()["data"]["method"], "AUTH");
}

fn callback_path(linked: &LinkedCustomer, method: &str) -> String {
    format!("/v2/callback?record={}&method={method}", linked.record_id())
}

async fn get_callback_data(world: &ApiWorld, linked: &LinkedCustomer, method: &str) -> Value {
    let key = format!("Bearer {APP_KEY}");
    let uri = callback_path(linked, method);
    let answer = world.call_api(Method::GET, &uri, Some(&key), "").await;
    decoders::decode_response("callback", &answer.text);
    answer.success_data()
}

/// A balance that cannot be had, and a consent that the bank takes no more, are said where the last
/// balance is read.
#[tokio::test]
async fn what_cannot_be_had_is_said_beside_what_was_had_last() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let (login, customer) = (
        world.last_login(),
        json!({ "customer": linked.customer_id() }),
    );
    let record = json!({ "record_id": linked.record_id() });
    let refresh = async || {
        world
            .post_json("customers/retry", record.clone())
            .await
            .success_data();
        world.process_chunks().await;
    };
    let read = async |path: &str| world.post_json(path, customer.clone()).await.success_data();
    let before = read("balance/getByCustomer").await["balance"][0].clone();
    assert_eq!(before["lacking"], Value::Null);
    let faults = Faults {
        malformed: Some(MalformedFault::Html),
        resource: Some(SandboxResource::Balances),
        ..Faults::default()
    };
    world
        .bank
        .set_faults(FaultTarget::Login(login), faults)
        .unwrap();
    refresh().await;
    let now = read("balance/getByCustomer").await["balance"][0].clone();
    assert_eq!(now["available_balance"], before["available_balance"]);
    assert_eq!(now["lacking"]["data_status"], "FAILED");
    assert_eq!(now["lacking"]["reason"], "nonsense");
    assert!(now["lacking"]["since"].is_string());
    let account = read("accounts/getByCustomer").await["account"][0].clone();
    assert_eq!(account["lacking"]["balance"], now["lacking"]);
    assert_eq!(account["lacking"]["transactions"], Value::Null);
    let listed = async || {
        world
            .post_json("products/balances", json!({}))
            .await
            .success_data()["balances"][0]
            .clone()
    };
    assert_eq!(listed().await["connected"], true);
    world
        .bank
        .set_faults(FaultTarget::Login(login), Faults::default())
        .unwrap();
    refresh().await;
    let now = read("balance/getByCustomer").await["balance"][0].clone();
    assert_eq!(now["lacking"], Value::Null);
    world
        .bank
        .set_consent(login, ConsentState::Revoked)
        .unwrap();
    refresh().await;
    assert_eq!(listed().await["connected"], false);
    assert_eq!(listed().await["lacking"]["reason"], "consent_refused");
    let credentials = &read("customers/get").await["credentials"];
    assert_eq!(credentials[0]["connected"], false);
    assert_eq!(credentials[0]["nuban"], json!(linked.nuban()));
    let data = get_callback_data(&world, &linked, "BALANCE").await;
    assert_eq!(data["balances"][0]["connected"], false);
}

/// A bank that wants its customer there for each refresh, as Okra's flags and errors have it.
#[tokio::test]
async fn a_bank_with_its_customer_there_is_flagged_and_says_what_it_needs() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let store = &world.environment.store;
    let mut bank = store.find_bank(BANK).await.unwrap().unwrap();
    bank.limits.user_present_only = true;
    store.put_bank(&bank).await.unwrap();
    let clock = &world.environment.clock;
    clock.set_time(clock.now() + jiff::SignedDuration::from_secs(60));
    let shown = world
        .post_json("banks/getById", json!({ "id": BANK }))
        .await
        .success_data();
    assert_eq!(shown["secret_question_or_otp"], true);
    let customer = json!({ "customer": linked.customer_id() });
    let account = world
        .post_json("accounts/getByCustomer", customer)
        .await
        .success_data();
    assert_eq!(account["account"][0]["bank"]["isMFA"], true);
    let asked = json!({ "record_id": linked.record_id(), "wait": true });
    let refused = world.post_json("balance/refresh", asked).await;
    let (kind, message) = refused.expect_error(StatusCode::CONFLICT);
    assert_eq!(kind, "USER_NEEDED");
    assert!(message.contains("customer_ip"), "{message}");
    let there = json!({ "record_id": linked.record_id(), "customer_ip": "203.0.113.7" });
    world
        .post_json("balance/refresh", there)
        .await
        .success_data();
    world.process_chunks().await;
}

#[tokio::test]
async fn callback_data_is_there_for_every_method() {
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    for method in ["BALANCE", "TRANSACTIONS"] {
        let data = get_callback_data(&world, &linked, method).await;
        assert_eq!(data["status"]["process"]["running"], true, "{method}");
    }
    // A bank that refuses has nothing running, and nothing completed.
    let login = world.last_login();
    world
        .bank
        .set_consent(login, ConsentState::Expired)
        .unwrap();
    world.process_chunks().await;
    let data = get_callback_data(&world, &linked, "BALANCE").await;
    let process = json!({ "running": false, "completed": false });
    assert_eq!(data["status"]["process"], process);
    assert_eq!(data["balance"], json!({}));
    world.bank.set_consent(login, ConsentState::Active).unwrap();
    let record = json!({ "record_id": linked.record_id() });
    world
        .post_json("customers/retry", record)
        .await
        .success_data();
    world.process_chunks().await;
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
        let data = get_callback_data(&world, &linked, method).await;
        assert_eq!(data["product"], method.to_uppercase());
        assert_eq!(data["status"]["process"]["completed"], true, "{method}");
        assert_eq!(data["record"], json!(linked.record_id()));
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
    let all = post_for_rows(
        &world,
        "transactions/byRecord",
        json!({ "record": linked.record_id() }),
    )
    .await;
    let data = get_callback_data(&world, &linked, "TRANSACTIONS").await;
    assert_eq!(data["transactions"].as_array().unwrap().len(), all.len());
    assert_eq!(data["last_transaction_date"], all[0]["trans_date"]);
    assert_eq!(
        data["transactions"][0]["account"],
        json!(linked.account_id())
    );

    // One client posts it.
    let body = json!({ "record": linked.record_id(), "method": "AUTH" });
    let posted = world.post_json("callback", body).await.success_data();
    assert_eq!(posted, get_callback_data(&world, &linked, "AUTH").await);
    let key = format!("Bearer {APP_KEY}");
    let uri = callback_path(&linked, "IDENTITY");
    let answer = world.call_api(Method::GET, &uri, Some(&key), "").await;
    assert_eq!(
        answer.expect_error(StatusCode::NOT_IMPLEMENTED).0,
        "NOT_IMPLEMENTED"
    );
    for method in ["BALANCES", ""] {
        let uri = callback_path(&linked, method);
        let answer = world.call_api(Method::GET, &uri, Some(&key), "").await;
        let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert!(message.starts_with("method"), "{message}");
    }
    let uri =
        callback_path(&linked, "AUTH").replace(&linked.record_id().to_string(), &"0".repeat(24));
    let answer = world.call_api(Method::GET, &uri, Some(&key), "").await;
    assert_eq!(answer.expect_error(StatusCode::NOT_FOUND).0, "NO_RECORD_ID");
}

/// An amount that no float holds is written as it is, in every form that shows it.
#[tokio::test]
async fn amounts_are_exact_to_the_last_kobo() {
    const AMOUNT: &str = "90071992547409.93";
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let (store, account) = (
        &world.environment.store,
        linked.account_id().parse().unwrap(),
    );
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
        id: TransactionId::new(
            account,
            EpochDay::from_date(facts.booking_date()),
            &[b"windfall"],
        ),
        facts,
    };
    let balance = BalanceFacts {
        available: Some(windfall.facts.amount),
        ledger: None,
    };
    let after_all = |n: u64, change| FeedEntry {
        record: linked.record_id(),
        seq: Seq(1000 + n),
        committed_at: world.environment.clock.now(),
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
                fetch_kind: FetchKind::Periodic,
                added: vec![windfall],
                modified: vec![],
                removed: vec![],
                previous_seqs: std::collections::BTreeMap::new(),
            }),
        ),
    ];
    store.project_entries(&entries).await.unwrap();

    let key = format!("Bearer {APP_KEY}");
    let record = json!({ "record_id": linked.record_id() });
    let customer = json!({ "customer": linked.customer_id() });
    let get = async |method| {
        let uri = callback_path(&linked, method);
        world.call_api(Method::GET, &uri, Some(&key), "").await.text
    };
    for (field, text) in [
        (
            "credit",
            world.post_json("transactions/byRecord", record).await.text,
        ),
        ("credit", get("TRANSACTIONS").await),
        (
            "available_balance",
            world
                .post_json("balance/getByCustomer", customer)
                .await
                .text,
        ),
        (
            "available_balance",
            world.post_json("products/balances", json!({})).await.text,
        ),
        ("ledger_balance", get("BALANCE").await),
    ] {
        assert!(text.contains(&format!("\"{field}\":{AMOUNT}")), "{text}");
        let fraction = text.contains(".0,") || text.contains(".0}");
        assert!(!fraction, "whole amounts have no fraction: {text}");
    }
}

/// What a field is not is said by its name, with what it should be; it never counts as not given.
#[tokio::test]
async fn a_field_of_a_wrong_type_is_named() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let customer = linked.customer_id();
    let list = json!([customer]);
    for (path, body, says) in [
        (
            "transactions/getByCustomer",
            json!({ "customer": customer, "limit": [1] }),
            "limit must be a whole number, not a list",
        ),
        (
            "customers/list",
            json!({ "page": { "a": 1 } }),
            "page must be a whole number, not an object",
        ),
        (
            "transactions/getByCustomer",
            json!({ "customer": list }),
            "customer must be an id, a text of 24 hexadecimal digits, not a list",
        ),
        (
            "balance/getByCustomer",
            json!({ "customer": list }),
            "customer must be an id",
        ),
        (
            "products/total-debits-credits",
            json!({ "customer": list }),
            "customer must be an id",
        ),
        (
            "feed/read",
            json!({ "customer": list }),
            "customer must be an id",
        ),
        (
            "customers/get",
            json!({ "customer": list, "type": "name", "value": "x" }),
            "customer must be an id",
        ),
        (
            "transactions/getByCustomer",
            json!({ "customer": customer, "from": [1] }),
            "from must be a date",
        ),
        (
            "balance/getByType",
            json!({ "type": ["x"] }),
            "type must be a text, not a list",
        ),
        (
            "customers/create",
            json!({ "limit": [3] }),
            "limit must be a number of months",
        ),
        (
            "balance/byOptions",
            json!({ "options": [1] }),
            "options must be a JSON object",
        ),
        (
            "balance/byOptions",
            json!({ "options": "{" }),
            "options must be a JSON object",
        ),
    ] {
        let (kind, message) = world
            .post_json(path, body.clone())
            .await
            .expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION", "{path} {body}");
        assert!(message.starts_with(says), "{path} {body}: {message}");
    }
    // An empty list is how PHP writes that nothing is given.
    let none = json!({ "customer": customer, "limit": [], "bank": [], "from": [] });
    let rows = post_for_rows(&world, "transactions/getByCustomer", none).await;
    assert!(!rows.is_empty());
}

/// Options are found as they were linked or as a form has them: as texts, in fields or as JSON.
#[tokio::test]
async fn options_are_found_in_the_form_they_come_in() {
    let world = ApiWorld::new().await;
    let options = json!({ "options": { "UserId": 7, "vip": true, "ref": "09" } });
    let linked = world.create_customer(options).await;
    world.process_chunks().await;
    let key = format!("Bearer {APP_KEY}");
    for (body, found) in [
        (r#"{"options": {"UserId": 7}}"#, 1),
        (r#"{"options": {"UserId": "7", "vip": true}}"#, 1),
        (r#"{"options": "{\"UserId\": 7}"}"#, 1),
        ("options[UserId]=7", 1),
        ("options[UserId]=7&options[vip]=true&options[ref]=09", 1),
        ("options=%7B%22UserId%22%3A7%7D", 1),
        ("options[UserId]=8", 0),
        ("options[ref]=9", 0),
        (r#"{"options": {"UserId": null}}"#, 0),
    ] {
        for path in ["balance/byOptions", "auth/byOptions"] {
            let uri = format!("/v2/{path}");
            let data = world
                .call_api(Method::POST, &uri, Some(&key), body)
                .await
                .success_data();
            let shown = data.get("balance").or_else(|| data.get("auths"));
            let count = shown.and_then(Value::as_array).map(Vec::len);
            assert_eq!(count, Some(found), "{path} {body}: {data}");
        }
    }
    // So are those of a link.
    let text = json!({ "options": r#"{"UserId": 9}"# });
    world.create_customer(text).await;
    let nine = json!({ "options": { "UserId": 9 } });
    let auths = world.post_json("auth/byOptions", nine).await.success_data()["auths"].clone();
    assert_eq!(auths.as_array().unwrap().len(), 1);
    assert_ne!(auths[0]["record"], json!(linked.record_id()));
}

#[tokio::test]
async fn what_is_not_made_here_is_refused_by_every_read_that_okra_made_it_for() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    for path in [
        "balance/getByCustomer",
        "balance/getByType",
        "balance/process",
        "products/balances",
        "transactions/getByCustomer",
    ] {
        let body = json!({
            "customer": linked.customer_id(), "account": linked.account_id(),
            "type": "ledger_balance", "pdf": "true",
        });
        let answer = world.post_json(path, body).await;
        let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert!(message.starts_with("pdf"), "{path}: {message}");
    }
    let link = json!({ "name": "Loans", "success_url": "ftp://app.example/" });
    let (_, message) = world
        .post_json("links/new", link)
        .await
        .expect_error(StatusCode::BAD_REQUEST);
    assert_eq!(
        message,
        "success_url cannot be used: it must use https (scheme)"
    );
}

/// An app with more than a call looks at is told no wrong total and no false "not found": it is asked for a
/// cursor, or for a customer.
#[tokio::test]
async fn an_app_that_is_larger_than_a_call_looks_at_is_read_on() {
    const CUSTOMERS: u32 = 10_001;
    const RECORDS: u32 = 1_001;
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let store = &world.environment.store;
    let one = store
        .find_customer(linked.customer_id().parse().unwrap())
        .await;
    let one = one.unwrap().unwrap();
    for n in 1..CUSTOMERS {
        let id = CustomerId::derive(&[&n.to_be_bytes()]);
        let name = format!("Customer {n}");
        let customer = Customer {
            id,
            name,
            ..one.clone()
        };
        store.put_customer(&customer).await.unwrap();
    }
    let head = store
        .find_head(linked.record_id(), Consistency::Strong)
        .await;
    let (head, consent) = (
        head.unwrap().unwrap(),
        store
            .find_consent(linked.record_id(), Consistency::Strong)
            .await,
    );
    let consent = consent.unwrap().unwrap();
    for n in 1..RECORDS {
        let record = RecordId::derive(&[&n.to_be_bytes()]);
        let new = NewRecord {
            head: RecordHead {
                record,
                customer: CustomerId::derive(&[&n.to_be_bytes()]),
                options: json!({ "UserId": format!("other-{n}") }),
                ..head.clone()
            },
            consent: Consent {
                record,
                ..consent.clone()
            },
            accounts: vec![],
            due_entries: vec![],
            feed_entries: vec![],
        };
        store.create_record(&new).await.unwrap();
    }

    // By options all records are looked at; what wants accounts of all asks for the customer, and takes it.
    let options = json!({ "options": { "UserId": 42 } });
    assert_eq!(
        post_for_rows(&world, "transactions/byOptions", options)
            .await
            .len(),
        9
    );
    for path in [
        "balance/getByDate",
        "transactions/getByDate",
        "products/accounts",
    ] {
        let mut body =
            json!({ "from": "2020-01-01", "to": "2030-01-01", "limit": 1000, "page": 2 });
        let answer = world.post_json(path, body.clone()).await;
        let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert!(
            message.starts_with("customer is required"),
            "{path}: {message}"
        );
        body["customer"] = json!(linked.customer_id());
        world.post_json(path, body).await.success_data();
    }

    for (path, body) in [
        ("customers/list", json!({})),
        (
            "customers/find-customers-by",
            json!({ "key": "name", "value": "nobody" }),
        ),
    ] {
        let (kind, message) = world
            .post_json(path, body)
            .await
            .expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION");
        assert!(message.starts_with("cursor is required"), "{message}");
    }
    let body = json!({ "type": "name", "value": "nobody" });
    let answer = world.post_json("customers/get", body).await;
    let (_, message) = answer.expect_error(StatusCode::BAD_REQUEST);
    assert!(message.starts_with("customer is required"), "{message}");

    // With a cursor each comes once.
    let mut seen = BTreeSet::new();
    let mut cursor = json!("start");
    while !cursor.is_null() {
        let body = json!({ "cursor": cursor, "limit": 1000 });
        let page = world.post_json("customers/list", body).await.success_data();
        assert_eq!(page["pagination"], Value::Null);
        for customer in page["customers"].as_array().unwrap() {
            assert!(seen.insert(customer["_id"].as_str().unwrap().to_owned()));
        }
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(seen.len(), usize::try_from(CUSTOMERS).unwrap());
    let mut found = Vec::new();
    let mut cursor = json!("start");
    while !cursor.is_null() {
        let body = json!({ "key": "name", "value": "customer 77", "cursor": cursor });
        let page = world
            .post_json("customers/find-customers-by", body)
            .await
            .success_data();
        found.extend(page["customers"].as_array().unwrap().clone());
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(found.len(), 1, "{found:?}");
    for body in [
        json!({ "cursor": "x" }),
        json!({ "cursor": "start", "page": 2 }),
    ] {
        world
            .post_json("customers/list", body)
            .await
            .expect_error(StatusCode::BAD_REQUEST);
    }
}
