//! Data sync and refreshes on demand.

use axum::http::StatusCode;
use okra_core::{
    model::{
        interval::Interval,
        snapshot::{ByProduct, Product},
    },
    schedule::plan::RefreshTrigger,
};
use okra_store::Consistency;
use serde_json::{Value, json};

use crate::world::{ApiWorld, BANK, LinkedCustomer};

async fn read_schedule(world: &ApiWorld, linked: &LinkedCustomer) -> (Interval, Interval) {
    let store = &world.environment.store;
    let head = store
        .find_head(linked.record_id(), Consistency::Strong)
        .await;
    let head = head.unwrap().unwrap();
    // Each product is on exactly one due entry: the one the head names.
    for interval in Interval::ALL {
        let entry = store
            .find_due_entry(head.due_key(interval), Consistency::Strong)
            .await;
        let found = entry
            .unwrap()
            .map(|it| it.watermarks.products())
            .unwrap_or_default();
        let expected: Vec<Product> = head
            .schedule
            .iter()
            .filter(|(_, of)| **of == interval)
            .map(|(product, _)| product)
            .collect();
        assert_eq!(found, expected, "{interval}");
    }
    let ByProduct {
        balance,
        transactions,
    } = head.schedule;
    (balance.unwrap(), transactions.unwrap())
}

#[tokio::test]
async fn each_product_is_on_the_fastest_interval_asked_for() {
    use Interval::{Daily, FiveMinute, OneHour, OneMinute};
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    assert_eq!(read_schedule(&world, &linked).await, (Daily, Daily));
    let ask = async |path: &str, products: Value, interval: &str, url: &str| {
        let body = json!({
            "customer": linked.customer_id(), "products": products, "interval": interval,
            "webhook_url": url,
        });
        world.post_json(path, body).await.success_data()
    };
    let url = "https://app.example/okra/hook";
    let data = ask("auto-refresh", json!(["balance"]), "one_minute", "").await;
    insta::assert_json_snapshot!("subscription", data);
    assert_eq!(read_schedule(&world, &linked).await, (OneMinute, Daily));
    assert!(world.enabled_intervals().await.contains(&OneMinute));
    ask(
        "data-sync",
        json!(["balance", "transactions"]),
        "one_hour",
        url,
    )
    .await;
    assert_eq!(read_schedule(&world, &linked).await, (OneMinute, OneHour));
    // The same URL asks for something slower, and the one without a URL for something slower still.
    ask("data-sync", json!(["transactions"]), "", url).await;
    assert_eq!(read_schedule(&world, &linked).await, (OneMinute, Daily));
    ask("data-sync", json!("balance"), "five_minute", "").await;
    assert_eq!(read_schedule(&world, &linked).await, (FiveMinute, Daily));

    let customer = json!({ "customer": linked.customer_id() });
    let listed = world
        .post_json("data-sync/list", customer)
        .await
        .success_data();
    let listed = listed["subscriptions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 3, "{listed:?}");
    for subscription in listed {
        let body = json!({ "customer": linked.customer_id(), "id": subscription["id"] });
        world
            .post_json("data-sync/cancel", body)
            .await
            .success_data();
    }
    assert_eq!(read_schedule(&world, &linked).await, (Daily, Daily));
}

#[tokio::test]
async fn a_bank_narrows_data_sync_down() {
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    let mut body = json!({
        "customer": linked.customer_id(), "products": ["balance"], "bank": BANK, "interval": "one_hour",
    });
    world
        .post_json("data-sync", body.clone())
        .await
        .success_data();
    assert_eq!(read_schedule(&world, &linked).await.0, Interval::OneHour);
    body["bank"] = json!("0".repeat(24));
    let answer = world.post_json("data-sync", body).await;
    assert_eq!(answer.expect_error(StatusCode::NOT_FOUND).0, "NO_RECORD_ID");
}

#[tokio::test]
async fn what_is_wrong_with_data_sync_is_named() {
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    let good = json!({ "customer": linked.customer_id(), "products": ["balance"] });
    for (field, value) in [
        ("interval", json!("one_hours")),
        ("interval", json!(5)),
        ("products", json!(["income"])),
        ("products", json!([])),
        ("products", Value::Null),
        ("customer", json!("me")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = world.post_json("auto-refresh", body.clone()).await;
        let (kind, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "VALIDATION", "{body}");
        assert!(message.starts_with(field), "{message}");
    }
    for (url, rule) in [
        ("ftp://app.example/", "scheme"),
        ("http://app.example/", "scheme"),
        ("https://localhost/", "internal_name"),
        ("https://10.0.0.1/", "ip_literal"),
        ("https://[::1]/", "ip_literal"),
        ("https://169.254.169.254/", "ip_literal"),
        ("https://me:pw@app.example/", "user_info"),
        ("https://app.example:22/", "port"),
        ("https://sync.example/hook", "own_host"),
        // A bus is an endpoint, and not data sync's.
        ("eventbridge:okra", "scheme"),
    ] {
        let mut body = good.clone();
        body["webhook_url"] = url.into();
        let answer = world.post_json("auto-refresh", body.clone()).await;
        let (kind, message) = answer.expect_error(StatusCode::BAD_REQUEST);
        assert_eq!(kind, "WEBHOOK_URL", "{body}");
        assert!(message.starts_with("webhook_url"), "{message}");
        assert!(message.ends_with(&format!("({rule})")), "{url} {message}");
    }
    let store = &world.environment.store;
    assert!(
        store
            .list_subscriptions(linked.record_id())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_record_has_no_more_subscriptions_than_can_be_read() {
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    let ask = async |n: usize| {
        let body = json!({
            "customer": linked.customer_id(), "products": ["balance"],
            "webhook_url": format!("https://app.example/{n}"),
        });
        world.post_json("data-sync", body).await
    };
    for n in 0..okra_store::MAX_SUBSCRIPTIONS_PER_RECORD {
        ask(n).await.success_data();
    }
    ask(okra_store::MAX_SUBSCRIPTIONS_PER_RECORD)
        .await
        .expect_error(StatusCode::BAD_REQUEST);
    ask(0).await.success_data();
}

/// An interval that a bank's quota cannot give is taken, and what comes of it is said.
#[tokio::test]
async fn an_interval_that_the_quota_cannot_give_says_what_comes_of_it() {
    let world = ApiWorld::new().await;
    let store = &world.environment.store;
    let linked = world.create_customer(json!({})).await;
    let head = store
        .find_head(linked.record_id(), Consistency::Strong)
        .await;
    let bank = head.unwrap().unwrap().bank;
    let mut bank = store.find_bank(bank).await.unwrap().unwrap();
    bank.limits.unattended_per_day = Some(4);
    store.put_bank(&bank).await.unwrap();
    let body = json!({
        "customer": linked.customer_id(), "products": ["balance"], "interval": "one_minute",
    });
    let data = world.post_json("data-sync", body).await.success_data();
    let shown = &data["subscriptions"][0];
    assert_eq!(shown["interval"], "one_minute");
    assert_eq!(shown["effective_interval"]["balance"], "twelve_hours");
    let (balance, transactions) = read_schedule(&world, &linked).await;
    assert_eq!(
        (balance, transactions),
        (Interval::TwelveHours, Interval::Daily)
    );

    bank.limits.user_present_only = true;
    store.put_bank(&bank).await.unwrap();
    let body = json!({ "record_id": linked.record_id() });
    let alone = world.post_json("balance/refresh", body).await;
    let (kind, _) = alone.expect_error(StatusCode::CONFLICT);
    assert_eq!(kind, "USER_NEEDED");
    world.take_chunks().await;
    let body = json!({ "record_id": linked.record_id(), "customer_ip": "203.0.113.7" });
    world
        .post_json("balance/refresh", body)
        .await
        .success_data();
    let chunks = world.take_chunks().await;
    let user = Some("203.0.113.7".parse().unwrap());
    let product = Some(Product::Balance);
    assert_eq!(
        chunks[0].trigger,
        RefreshTrigger::OnDemand {
            product,
            user,
            is_job: true
        }
    );
}

/// A rule is on while a record is on its interval, and no longer than until its next tick after.
#[tokio::test]
async fn a_rule_without_records_is_switched_off_by_its_next_tick() {
    let world = ApiWorld::new().await;
    let linked = world
        .create_customer(json!({ "interval": "one_hour" }))
        .await;
    assert!(world.enabled_intervals().await.contains(&Interval::OneHour));
    let body = json!({
        "customer": linked.customer_id(), "products": ["balance", "transactions"], "interval": "daily",
    });
    world.post_json("data-sync", body).await.success_data();
    assert_eq!(
        read_schedule(&world, &linked).await,
        (Interval::Daily, Interval::Daily)
    );
    assert!(
        world.enabled_intervals().await.contains(&Interval::OneHour),
        "not yet"
    );
    let at = world.environment.clock.now();
    let interval = Interval::OneHour;
    let tick = okra_core::model::interval::Tick { interval, at };
    world
        .environment
        .build_refresher()
        .run_tick(tick)
        .await
        .unwrap();
    assert!(!world.enabled_intervals().await.contains(&Interval::OneHour));
    assert!(world.enabled_intervals().await.contains(&Interval::Daily));
}

#[tokio::test]
async fn a_second_request_joins_the_refresh_that_runs() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let body = json!({ "record_id": linked.record_id() });
    let (one, other) = tokio::join!(
        world.post_json("balance/refresh", body.clone()),
        world.post_json("balance/refresh", body.clone())
    );
    let (one, other) = (one.success_data(), other.success_data());
    assert!(one["job"].is_string(), "{one}");
    assert_eq!(one["job"], other["job"]);
    let rows = world
        .post_json("transactions/refresh", body.clone())
        .await
        .success_data();
    assert_ne!(
        rows["job"], one["job"],
        "another product is another refresh"
    );
    let chunks = world.take_chunks().await;
    assert_eq!(chunks.len(), 2, "one of each product");
    let refresher = world.environment.build_refresher();
    let calls = world.bank.call_count();
    for chunk in chunks {
        refresher.refresh_chunk(chunk, false).await.unwrap();
    }
    assert_eq!(
        world.bank.call_count() - calls,
        2,
        "one fetch of each product"
    );

    // Done: the next request begins another one, and waits for it.
    world
        .environment
        .clock
        .set_time(world.environment.clock.now() + jiff::SignedDuration::from_secs(1));
    let waiting = json!({ "record_id": linked.record_id(), "wait": true });
    let work = async {
        let mut chunks = Vec::new();
        while chunks.is_empty() {
            chunks = world.take_chunks().await;
            tokio::task::yield_now().await;
        }
        refresher
            .refresh_chunk(chunks.remove(0), false)
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(world.post_json("balance/refresh", waiting), work);
    let answer = answer.success_data();
    assert_ne!(answer["job"], one["job"]);
    assert_eq!(answer["outcome"], "unchanged", "{answer}");
}

#[tokio::test]
async fn a_refresh_enqueues_one_record_and_one_product() {
    let world = ApiWorld::new().await;
    let linked = world.create_customer(json!({})).await;
    world.take_chunks().await;
    let (record, account) = (linked.record_id(), linked.account_id());
    let check = async |path: &str, body: Value, product: Option<Product>, method: &str| {
        let data = world.post_json(path, body).await.success_data();
        let url = format!("https://sync.example/v2/callback?record={record}&method={method}");
        let expected = json!({ "record": record, "method": method, "callback_url": url });
        for (field, expected) in expected.as_object().unwrap() {
            assert_eq!(&data[field], expected, "{path}");
        }
        let chunks = world.take_chunks().await;
        assert_eq!(chunks.len(), 1, "{path}");
        let refresher = world.environment.build_refresher();
        refresher
            .refresh_chunk(chunks[0].clone(), false)
            .await
            .unwrap();
        assert_eq!(
            chunks[0].trigger,
            RefreshTrigger::OnDemand {
                product,
                user: None,
                is_job: true
            }
        );
        assert!(chunks[0].not_after > world.environment.clock.now());
        let entry = &chunks[0].records[0];
        assert_eq!((chunks[0].records.len(), entry.key.record), (1, record));
        let products = product.map_or_else(|| Product::ALL.to_vec(), |it| vec![it]);
        assert_eq!(entry.watermarks.products(), products, "{path}");
    };
    let (by_account, by_record) = (
        json!({ "account_id": account }),
        json!({ "record_id": record }),
    );
    let both = json!({ "account_id": account, "record_id": record, "currency": "NGN" });
    let balance = Some(Product::Balance);
    check("balance/refresh", by_account.clone(), balance, "BALANCE").await;
    check("balance/check", both.clone(), balance, "CHECK_BALANCE").await;
    let path = "products/balance/periodic";
    check(path, both.clone(), balance, "PERIODIC_BALANCE").await;
    let rows = Some(Product::Transactions);
    let method = "REFRESH_TRANSACTIONS";
    check("transactions/refresh", by_record.clone(), rows, method).await;
    check("transaction/refresh", by_account, rows, method).await;
    let path = "products/transactions/periodic";
    check(path, both, rows, "PERIODIC_TRANSACTIONS").await;
    check("customers/retry", by_record, None, "AUTH").await;

    let other = world.create_customer(json!({})).await;
    world.take_chunks().await;
    let mismatch = json!({ "account_id": other.account_id(), "record_id": record });
    let answer = world.post_json("balance/refresh", mismatch).await;
    answer.expect_error(StatusCode::BAD_REQUEST);
    let unknown = json!({ "record_id": "0".repeat(24) });
    let answer = world.post_json("balance/refresh", unknown).await;
    let (kind, message) = answer.expect_error(StatusCode::NOT_FOUND);
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("NO_RECORD_ID", "No record matches that id")
    );
    assert_eq!(answer.parse_json()["data"]["method"], "BALANCE");
    let answer = world.post_json("transactions/refresh", json!({})).await;
    answer.expect_error(StatusCode::BAD_REQUEST);
    assert!(world.take_chunks().await.is_empty());
}
