//! Apps, keys, banks, customers, subscriptions, endpoints, deliveries, retries and states.

use okra_core::{
    bank::{BankConfig, BankLimits, Standard},
    feed::PayloadMode,
    ids::{AppId, BankId, CustomerId, EndpointId, Seq, SubscriptionId},
    model::{Environment, Product},
    schedule::Interval,
};
use okra_store::{
    App, AttemptResult, Customer, Delivery, DeliveryState, Endpoint, KeyHash, Retry, Subscription,
};

use crate::support::{app, at, record, store};

#[tokio::test]
async fn a_key_leads_to_its_app_until_it_is_revoked() {
    let store = store("keys").await;
    let stored = App {
        id: app(),
        name: "Lender".to_owned(),
        env: Environment::Sandbox,
        created_at: at(0),
        origins: vec![],
        public_key: None,
        rate: okra_store::DEFAULT_RATE,
    };
    store.put_app(&stored).await.unwrap();
    assert_eq!(store.app(app()).await.unwrap(), Some(stored));
    let hash = KeyHash::of("sk_live_1");
    store.put_key(hash, app()).await.unwrap();
    assert_eq!(
        store
            .app_of_key(hash, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        Some(app())
    );
    let other = KeyHash::of("sk_live_2");
    assert_eq!(
        store
            .app_of_key(other, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        None
    );
    store.delete_api_key(app(), hash).await.unwrap();
    assert_eq!(
        store
            .app_of_key(hash, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn banks_are_listed_as_configured() {
    let store = store("bank-list").await;
    let bank = |n: u8| BankConfig {
        id: BankId::from_bytes([n; 12]),
        name: format!("Bank {n}"),
        slug: format!("bank-{n}"),
        standard: Standard::Obie40,
        base_url: "https://bank.example/aisp".to_owned(),
        financial_id: None,
        oauth: None,
        country: "NG".to_owned(),
        limits: BankLimits::default(),
    };
    for n in [3, 1, 2] {
        store.put_bank(&bank(n)).await.unwrap();
    }
    assert_eq!(store.banks().await.unwrap(), [bank(1), bank(2), bank(3)]);
    assert_eq!(store.bank(bank(2).id).await.unwrap(), Some(bank(2)));
    assert_eq!(store.bank(BankId::from_bytes([9; 12])).await.unwrap(), None);
}

#[tokio::test]
async fn customers_are_listed_by_their_own_app() {
    let store = store("customers").await;
    let other = AppId::derive(&[b"other"]);
    let customer = |n: u8, of| Customer {
        id: CustomerId::from_bytes([n; 12]),
        app: of,
        name: format!("Customer {n}"),
        email: (n > 2).then(|| format!("{n}@example.com")),
        blocked: false,
        created_at: at(i64::from(n)),
    };
    for n in 0..5 {
        store.put_customer(&customer(n, app())).await.unwrap();
    }
    store.put_customer(&customer(9, other)).await.unwrap();
    let first = store.customers(app(), None, 3).await.unwrap();
    assert_eq!(first.items, [0, 1, 2].map(|n| customer(n, app())));
    let second = store.customers(app(), first.next, 3).await.unwrap();
    assert_eq!(second.items, [3, 4].map(|n| customer(n, app())));
    assert_eq!(second.next, None);
    let found = store.customer(customer(9, other).id).await.unwrap();
    assert_eq!(found, Some(customer(9, other)));
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let store = store("subscriptions").await;
    let subscription = |n: u8| Subscription {
        id: SubscriptionId::from_bytes([n; 12]),
        record: record(1),
        products: vec![Product::Balance],
        interval: Interval::OneMinute,
        webhook_url: Some("https://app.example/hook".to_owned()),
        created_at: at(0),
    };
    for n in [1, 2] {
        store.put_subscription(&subscription(n)).await.unwrap();
    }
    assert_eq!(
        store.subscriptions(record(1)).await.unwrap(),
        [subscription(1), subscription(2)]
    );
    assert_eq!(store.subscriptions(record(2)).await.unwrap(), []);
    store
        .delete_subscription(record(1), subscription(1).id)
        .await
        .unwrap();
    assert_eq!(
        store.subscriptions(record(1)).await.unwrap(),
        [subscription(2)]
    );
}

#[tokio::test]
async fn endpoints_come_and_go_and_tell_no_secrets() {
    let store = store("endpoints").await;
    let endpoint = |n: u8| Endpoint {
        id: EndpointId::from_bytes([n; 12]),
        app: app(),
        url: format!("https://app.example/{n}"),
        secrets: vec![n; 60],
        bearer: (n == 1).then(|| vec![77; 40]),
        products: vec![Product::Transactions],
        payload: PayloadMode::Reference,
        created_at: at(0),
    };
    for n in [1, 2] {
        store.put_endpoint(&endpoint(n)).await.unwrap();
    }
    assert_eq!(
        store.endpoints(app()).await.unwrap(),
        [endpoint(1), endpoint(2)]
    );
    store.delete_endpoint(app(), endpoint(1).id).await.unwrap();
    assert_eq!(store.endpoint(app(), endpoint(1).id).await.unwrap(), None);
    let left = store.endpoint(app(), endpoint(2).id).await.unwrap();
    assert_eq!(left, Some(endpoint(2)));
    assert!(!format!("{:?}", endpoint(1)).contains("77"));
}

fn delivery(endpoint: u8, attempts: u32, state: DeliveryState) -> Delivery {
    Delivery {
        record: record(1),
        seq: Seq(5),
        endpoint: EndpointId::from_bytes([endpoint; 12]),
        state,
        attempts,
        last: Some(AttemptResult {
            status: Some(503),
            class: "server_error".to_owned(),
            at: at(0),
            latency_ms: 120,
        }),
        next_at: Some(at(60)),
        url: "https://app.example/hook".to_owned(),
    }
}

#[tokio::test]
async fn a_delivery_is_what_its_last_attempt_says() {
    let store = store("deliveries").await;
    // Attempts made, whether the store takes it.
    let steps = [
        (1, DeliveryState::Retry, true),
        (1, DeliveryState::Delivered, false),
        (2, DeliveryState::Delivered, true),
        (1, DeliveryState::Retry, false),
    ];
    for (attempts, state, taken) in steps {
        let delivery = delivery(1, attempts, state);
        let got = store.put_delivery(&delivery, at(0)).await.unwrap();
        assert_eq!(got, taken, "{attempts} {state:?}");
    }
    let last = delivery(1, 2, DeliveryState::Delivered);
    let other = delivery(2, 1, DeliveryState::Exhausted);
    store.put_delivery(&other, at(0)).await.unwrap();
    let found = store.delivery(record(1), Seq(5), last.endpoint).await;
    assert_eq!(found.unwrap(), Some(last.clone()));
    assert_eq!(
        store.deliveries(record(1), Seq(5)).await.unwrap(),
        [last, other]
    );
    // The event 5 is not the beginning of the event 55.
    assert_eq!(store.deliveries(record(1), Seq(55)).await.unwrap(), []);
}

#[tokio::test]
async fn retries_are_found_in_their_minute() {
    let store = store("retries").await;
    let minute = Retry::minute_of(at(0));
    let retry = |n: u32, minute| Retry {
        record: record(n),
        seq: Seq(u64::from(n)),
        endpoint: EndpointId::from_bytes([1; 12]),
        attempt: 2,
        minute,
    };
    for n in 0..20 {
        store.put_retry(&retry(n, minute)).await.unwrap();
    }
    store.put_retry(&retry(99, minute + 1)).await.unwrap();
    let mut due = store.due_retries(minute).await.unwrap();
    due.sort_unstable_by_key(|retry| retry.seq);
    assert_eq!(due, (0..20).map(|n| retry(n, minute)).collect::<Vec<_>>());
    for retry in due {
        store.delete_retry(&retry).await.unwrap();
    }
    assert_eq!(store.due_retries(minute).await.unwrap(), []);
    assert_eq!(store.due_retries(minute + 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_state_is_kept_by_name() {
    let store = store("states").await;
    assert_eq!(store.state("sweep").await.unwrap(), None);
    for minute in [1, 2] {
        let state = serde_json::json!({ "minute": minute });
        store.put_state("sweep", &state).await.unwrap();
        assert_eq!(store.state("sweep").await.unwrap(), Some(state));
    }
    assert_eq!(store.state("other").await.unwrap(), None);
}
