//! Apps, keys, banks, customers, subscriptions, endpoints, deliveries, retries and states.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    bank::{BankConfig, BankLimits, Standard},
    feed::{BodyVersion, PayloadMode},
    health::Notice,
    ids::{AppId, BankId, CustomerId, EndpointId, Seq, SubscriptionId},
    model::{Environment, Product},
    schedule::Interval,
};
use okra_store::{
    App, AttemptResult, Customer, Delivery, DeliveryKey, DeliveryState, Direction, Endpoint,
    Happened, KeyHash, Line, LinkSession, NewAppEntry, OwnedBank, Place, Retry, StoredHealth,
    Subscription,
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
async fn a_public_key_leads_to_its_app_until_it_is_replaced() {
    let store = store("public-keys").await;
    let (old, new) = (KeyHash::of("pk-1"), KeyHash::of("pk-2"));
    store.put_public_key(old, app()).await.unwrap();
    assert_eq!(store.app_of_public_key(old).await.unwrap(), Some(app()));
    assert_eq!(store.app_of_public_key(new).await.unwrap(), None);
    // A public key is no secret key.
    let as_secret = store.app_of_key(old, at(0)).await.unwrap();
    assert_eq!(as_secret, None);
    store.put_public_key(new, app()).await.unwrap();
    store.delete_public_key(old).await.unwrap();
    assert_eq!(store.app_of_public_key(old).await.unwrap(), None);
    assert_eq!(store.app_of_public_key(new).await.unwrap(), Some(app()));
}

#[tokio::test]
async fn of_two_steps_of_one_link_session_one_is_kept() {
    let store = store("link-sessions").await;
    let hash = KeyHash::of("token");
    assert!(store.link_session(hash).await.unwrap().is_none());
    let session = |version, sealed: u8| LinkSession {
        version,
        sealed: vec![sealed; 40],
    };
    let put = async |version, sealed| {
        let session = session(version, sealed);
        store.put_link_session(hash, &session, at(0)).await.unwrap()
    };
    assert!(put(1, 1).await);
    assert!(put(2, 2).await);
    // Another call read version 1 too, and comes second.
    assert!(!put(2, 3).await);
    assert!(!put(1, 3).await);
    let kept = store.link_session(hash).await.unwrap();
    assert!(kept == Some(session(2, 2)));
    let other = store.link_session(KeyHash::of("other")).await.unwrap();
    assert!(other.is_none());
}

#[tokio::test]
async fn counts_add_up_by_the_minute_and_are_of_one_app() {
    let store = store("counts").await;
    let other = AppId::derive(&[b"another app"]);
    // Around a full hour: the minutes lie in two partitions.
    let minute = |after: i64| 1000 * 60 - 1 + after;
    let time = |after: i64| jiff::Timestamp::from_second(minute(after) * 60 + 7).unwrap();
    let count = async |of, after, numbers: &[(&str, u64)]| {
        store.count(of, time(after), numbers).await.unwrap();
    };
    count(app(), 0, &[("changed", 2), ("failed", 0)]).await;
    count(app(), 0, &[("changed", 3)]).await;
    count(app(), 1, &[("unchanged", 9)]).await;
    count(app(), 5, &[("unchanged", 1)]).await;
    count(other, 1, &[("unchanged", 100)]).await;

    let number = |after| u64::try_from(minute(after)).unwrap();
    let read = async |of, from, to| {
        let counts = store.counts(of, number(from), number(to)).await.unwrap();
        let flat = |it: okra_store::Counts| -> Vec<(u64, String, u64)> {
            let of = |(name, count)| (it.minute - number(0), name, count);
            it.by_name.into_iter().map(of).collect()
        };
        counts.into_iter().flat_map(flat).collect::<Vec<_>>()
    };
    let row = |minute, name: &str, count| (minute, name.to_owned(), count);
    assert_eq!(
        read(app(), 0, 4).await,
        [row(0, "changed", 5), row(1, "unchanged", 9)]
    );
    assert_eq!(read(app(), 1, 1).await, [row(1, "unchanged", 9)]);
    assert_eq!(read(other, 0, 5).await, [row(1, "unchanged", 100)]);
    assert_eq!(read(AppId::derive(&[b"nobody"]), 0, 5).await, []);
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
    let all = |banks: Vec<OwnedBank>| banks.into_iter().map(|it| it.config).collect::<Vec<_>>();
    assert_eq!(
        all(store.banks().await.unwrap()),
        [bank(1), bank(2), bank(3)]
    );
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
        previous_until: (n == 2).then(|| at(5)),
        products: vec![Product::Transactions],
        events: vec!["balance.*".to_owned()],
        rate: Some(5),
        payload: PayloadMode::Reference,
        version: BodyVersion::LATEST,
        ordered_since: (n == 1).then(|| at(3)),
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

fn delivery(endpoint: u8, seq: u64, version: u32, state: DeliveryState) -> Delivery {
    Delivery {
        key: DeliveryKey {
            endpoint: EndpointId::from_bytes([endpoint; 12]),
            at: at(i64::try_from(seq).unwrap()),
            source: record(1).into(),
            seq: Seq(seq),
        },
        event: "balance.success".to_owned(),
        state,
        attempts: version,
        log: vec![AttemptResult {
            status: Some(503),
            class: "throttled".to_owned(),
            at: at(0),
            latency_ms: 120,
        }],
        excerpt: Some("busy".to_owned()),
        next_at: Some(at(60)),
        replayed: seq.is_multiple_of(2),
        line: if seq == 3 { Line::Past } else { Line::None },
        version,
    }
}

#[tokio::test]
async fn a_delivery_is_what_was_stored_last() {
    let store = store("deliveries").await;
    // Version, whether the store takes it.
    let steps = [
        (1, DeliveryState::Retry, true),
        (1, DeliveryState::Delivered, false),
        (2, DeliveryState::Delivered, true),
        (1, DeliveryState::Retry, false),
    ];
    for (version, state, taken) in steps {
        let delivery = delivery(1, 5, version, state);
        let got = store.put_delivery(&delivery, at(0)).await.unwrap();
        assert_eq!(got, taken, "{version} {state:?}");
    }
    let last = delivery(1, 5, 2, DeliveryState::Delivered);
    let other = delivery(2, 5, 1, DeliveryState::Exhausted);
    store.put_delivery(&other, at(0)).await.unwrap();
    let found = store.delivery(&last.key).await.unwrap();
    assert_eq!(found, Some(last.clone()));
    let absent = delivery(1, 55, 1, DeliveryState::Retry);
    let keys = [last.key, absent.key, other.key];
    let mut found = store.deliveries(&keys).await.unwrap();
    found.sort_by_key(|delivery| delivery.key.endpoint);
    assert_eq!(found, [last, other]);
}

#[tokio::test]
async fn the_log_of_an_endpoint_is_read_either_way() {
    let store = store("delivery_log").await;
    for seq in 1..=5 {
        let one = delivery(1, seq, 1, DeliveryState::Delivered);
        store.put_delivery(&one, at(0)).await.unwrap();
        let park = delivery(2, seq, 1, DeliveryState::Parked);
        store.park(&park.key, at(0)).await.unwrap();
    }
    let endpoint = EndpointId::from_bytes([1; 12]);
    let read = async |after: Option<u64>, direction, limit| {
        let after = after.map(|seq| delivery(1, seq, 1, DeliveryState::Retry).key);
        let range = (at(2), at(4));
        let rows = store.deliveries_of(endpoint, range, after.as_ref(), direction, limit);
        let rows = rows.await.unwrap();
        rows.iter().map(|row| row.key.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(read(None, Direction::Forward, 10).await, [2, 3, 4]);
    assert_eq!(read(None, Direction::Backward, 2).await, [4, 3]);
    assert_eq!(read(Some(3), Direction::Backward, 10).await, [2]);
    assert_eq!(read(Some(3), Direction::Forward, 10).await, [4]);

    let parked = EndpointId::from_bytes([2; 12]);
    let oldest = store.parked(parked, 2).await.unwrap();
    assert_eq!([oldest[0].seq, oldest[1].seq], [Seq(1), Seq(2)]);
    store.unpark(&oldest[0]).await.unwrap();
    assert_eq!(store.parked(parked, 9).await.unwrap().len(), 4);
}

#[tokio::test]
async fn health_and_what_tells_of_it_are_one_transaction() {
    let store = store("healths").await;
    let endpoint = EndpointId::from_bytes([1; 12]);
    let mut stored = store.health(endpoint).await.unwrap();
    assert_eq!(stored, StoredHealth::default());
    stored.health.disable(at(1));
    let entry = NewAppEntry {
        endpoint,
        url: "https://app.example/".to_owned(),
        happened: Happened::Health(Notice::Parked { since: at(0) }),
    };
    let put = async |stored: &StoredHealth, entries: &[NewAppEntry]| {
        let put = store.put_health(app(), endpoint, stored, entries, at(2));
        put.await.unwrap()
    };
    let two = [entry.clone(), entry.clone()];
    assert_eq!(put(&stored, &two).await, Some(vec![Seq(1), Seq(2)]));
    // Whoever read it before is too late, and tells nothing.
    assert_eq!(put(&stored, &two).await, None);
    store.count_parked(endpoint, 16).await.unwrap();
    let read = store.health(endpoint).await.unwrap();
    assert_eq!((read.parked, read.version), (16, 1));
    assert_eq!(read.health, stored.health);
    assert_eq!(put(&read, &[]).await, Some(vec![]));
    let both = [endpoint, EndpointId::from_bytes([2; 12])];
    assert_eq!(store.healths(&both).await.unwrap().len(), 1);

    let delivery = delivery(1, 5, 1, DeliveryState::Exhausted);
    let telling = || store.put_delivery_telling(app(), &delivery, &entry, at(3));
    assert_eq!(telling().await.unwrap(), Some(vec![Seq(3)]));
    assert_eq!(telling().await.unwrap(), None);
    assert_eq!(store.app_feed_head(app()).await.unwrap(), (Seq(3), Seq(0)));
    store.app_feed_told(app(), Seq(2)).await.unwrap();
    store.app_feed_told(app(), Seq(1)).await.unwrap();
    assert_eq!(store.app_feed_head(app()).await.unwrap(), (Seq(3), Seq(2)));
    let feed = store.app_feed(app(), Seq(1), 10).await.unwrap();
    assert_eq!(
        feed.iter().map(|it| it.seq).collect::<Vec<_>>(),
        [Seq(2), Seq(3)]
    );
    assert_eq!((feed[0].at, &feed[0].url), (at(2), &entry.url));
}

#[tokio::test]
async fn retries_are_found_in_their_minute() {
    let store = store("retries").await;
    let minute = Retry::minute_of(at(0));
    let retry = |n: u32, minute| Retry {
        source: record(n).into(),
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

/// Many who ask a bank at once each find the place that is there for them, and no more than there are.
#[tokio::test]
async fn places_of_a_bank_are_taken_by_many_at_once() {
    let store = store("places").await;
    let (bank, now) = (
        BankId::from_bytes([7; 12]),
        Timestamp::from_second(1_800_000_000).unwrap(),
    );
    let take = || store.take_unplanned(bank, 4, now, SignedDuration::from_secs(6));
    let places = futures::future::try_join_all((0..32).map(|_| take()));
    let mut waits: Vec<i64> = Vec::new();
    for place in places.await.unwrap() {
        match place {
            Place::At(at) => waits.push(at.duration_since(now).as_secs()),
            Place::Full(at) => assert_eq!(at.duration_since(now).as_secs(), 9),
        }
    }
    waits.sort_unstable();
    // Twenty at once, and one each three seconds.
    assert_eq!(waits, [vec![0; 20], vec![3, 6]].concat());
    let later = now + SignedDuration::from_secs(30);
    let left = store.take_places(bank, 4, later, 100).await.unwrap();
    assert_eq!(left, 8, "as many as thirty seconds gave back");
}
