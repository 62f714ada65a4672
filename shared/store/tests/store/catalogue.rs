//! Apps, keys, banks, customers, subscriptions, endpoints, deliveries, retries and states.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    delivery::endpoint_health::HealthNotice,
    model::{
        bank::BankConfig,
        ids::{AppId, BankId, CustomerId, EndpointId, Seq, SubscriptionId},
        interval::Interval,
        snapshot::{Environment, Product},
    },
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_store::{
    AdHocPermit, App, AppNotice, Customer, Delivery, DeliveryKey, DeliveryState, Endpoint,
    FifoPosition, KeyHash, LinkSession, LoggedAttempt, NewAppFeedEntry, OwnedBank, RetryEntry,
    SortOrder, StoredEndpointHealth, Subscription,
};

use crate::support::{app_id, new_store, record_id, sample_bank, timestamp_at};

#[tokio::test]
async fn a_key_leads_to_its_app_until_it_is_revoked() {
    let store = new_store("keys").await;
    let stored = App {
        id: app_id(),
        name: "Lender".to_owned(),
        environment: Environment::Sandbox,
        created_at: timestamp_at(0),
        widget_origins: vec![],
        public_key: None,
        refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
    };
    store.put_app(&stored).await.unwrap();
    assert_eq!(store.find_app(app_id()).await.unwrap(), Some(stored));
    let hash = KeyHash::hash_secret("sk_live_1");
    store.put_bare_api_key(hash, app_id()).await.unwrap();
    assert_eq!(
        store
            .find_app_by_key(hash, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        Some(app_id())
    );
    let other = KeyHash::hash_secret("sk_live_2");
    assert_eq!(
        store
            .find_app_by_key(other, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        None
    );
    store.delete_api_key(app_id(), hash).await.unwrap();
    assert_eq!(
        store
            .find_app_by_key(hash, jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_public_key_leads_to_its_app_until_it_is_replaced() {
    let store = new_store("public-keys").await;
    let (old, new) = (KeyHash::hash_secret("pk-1"), KeyHash::hash_secret("pk-2"));
    store.put_public_key(old, app_id()).await.unwrap();
    assert_eq!(
        store.find_app_by_public_key(old).await.unwrap(),
        Some(app_id())
    );
    assert_eq!(store.find_app_by_public_key(new).await.unwrap(), None);
    // A public key is no secret key.
    let as_secret = store.find_app_by_key(old, timestamp_at(0)).await.unwrap();
    assert_eq!(as_secret, None);
    store.put_public_key(new, app_id()).await.unwrap();
    store.delete_public_key(old).await.unwrap();
    assert_eq!(store.find_app_by_public_key(old).await.unwrap(), None);
    assert_eq!(
        store.find_app_by_public_key(new).await.unwrap(),
        Some(app_id())
    );
}

#[tokio::test]
async fn of_two_steps_of_one_link_session_one_is_kept() {
    let store = new_store("link-sessions").await;
    let hash = KeyHash::hash_secret("token");
    assert!(store.find_link_session(hash).await.unwrap().is_none());
    let session = |version, sealed: u8| LinkSession {
        version,
        sealed_state: vec![sealed; 40],
    };
    let put = async |version, sealed| {
        let session = session(version, sealed);
        store
            .put_link_session(hash, &session, timestamp_at(0))
            .await
            .unwrap()
    };
    assert!(put(1, 1).await);
    assert!(put(2, 2).await);
    // Another call read version 1 too, and comes second.
    assert!(!put(2, 3).await);
    assert!(!put(1, 3).await);
    let kept = store.find_link_session(hash).await.unwrap();
    assert!(kept == Some(session(2, 2)));
    let other = store
        .find_link_session(KeyHash::hash_secret("other"))
        .await
        .unwrap();
    assert!(other.is_none());
}

#[tokio::test]
async fn counts_add_up_by_the_minute_and_are_of_one_app() {
    let store = new_store("counts").await;
    let other = AppId::derive(&[b"another app"]);
    // Around a full hour: the minutes lie in two partitions.
    let minute = |after: i64| 1000 * 60 - 1 + after;
    let time = |after: i64| jiff::Timestamp::from_second(minute(after) * 60 + 7).unwrap();
    let count = async |of, after, numbers: &[(&str, u64)]| {
        store.add_counts(of, time(after), numbers).await.unwrap();
    };
    count(app_id(), 0, &[("changed", 2), ("failed", 0)]).await;
    count(app_id(), 0, &[("changed", 3)]).await;
    count(app_id(), 1, &[("unchanged", 9)]).await;
    count(app_id(), 5, &[("unchanged", 1)]).await;
    count(other, 1, &[("unchanged", 100)]).await;

    let number = |after| u64::try_from(minute(after)).unwrap();
    let read = async |of, from, to| {
        let counts = store
            .list_counts(of, number(from), number(to))
            .await
            .unwrap();
        let flat = |it: okra_store::MinuteCounts| -> Vec<(u64, String, u64)> {
            let of = |(name, count)| (it.minute - number(0), name, count);
            it.by_name.into_iter().map(of).collect()
        };
        counts.into_iter().flat_map(flat).collect::<Vec<_>>()
    };
    let row = |minute, name: &str, count| (minute, name.to_owned(), count);
    assert_eq!(
        read(app_id(), 0, 4).await,
        [row(0, "changed", 5), row(1, "unchanged", 9)]
    );
    assert_eq!(read(app_id(), 1, 1).await, [row(1, "unchanged", 9)]);
    assert_eq!(read(other, 0, 5).await, [row(1, "unchanged", 100)]);
    assert_eq!(read(AppId::derive(&[b"nobody"]), 0, 5).await, []);
}

#[tokio::test]
async fn banks_are_listed_as_configured() {
    let store = new_store("bank-list").await;
    let bank = |n: u8| BankConfig {
        id: BankId::from_bytes([n; 12]),
        ..sample_bank(n.into())
    };
    for n in [3, 1, 2] {
        store.put_bank(&bank(n)).await.unwrap();
    }
    let all = |banks: Vec<OwnedBank>| banks.into_iter().map(|it| it.config).collect::<Vec<_>>();
    assert_eq!(
        all(store.list_banks().await.unwrap()),
        [bank(1), bank(2), bank(3)]
    );
    assert_eq!(store.find_bank(bank(2).id).await.unwrap(), Some(bank(2)));
    assert_eq!(
        store.find_bank(BankId::from_bytes([9; 12])).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn customers_are_listed_by_their_own_app() {
    let store = new_store("customers").await;
    let other = AppId::derive(&[b"other"]);
    let customer = |n: u8, of| Customer {
        id: CustomerId::from_bytes([n; 12]),
        app: of,
        name: format!("Customer {n}"),
        email: (n > 2).then(|| format!("{n}@example.com")),
        is_blocked: false,
        created_at: timestamp_at(i64::from(n)),
    };
    for n in 0..5 {
        store.put_customer(&customer(n, app_id())).await.unwrap();
    }
    store.put_customer(&customer(9, other)).await.unwrap();
    let first = store.list_customers(app_id(), None, 3).await.unwrap();
    assert_eq!(first.items, [0, 1, 2].map(|n| customer(n, app_id())));
    let second = store
        .list_customers(app_id(), first.next_cursor, 3)
        .await
        .unwrap();
    assert_eq!(second.items, [3, 4].map(|n| customer(n, app_id())));
    assert_eq!(second.next_cursor, None);
    let found = store.find_customer(customer(9, other).id).await.unwrap();
    assert_eq!(found, Some(customer(9, other)));
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let store = new_store("subscriptions").await;
    let subscription = |n: u8| Subscription {
        id: SubscriptionId::from_bytes([n; 12]),
        record: record_id(1),
        products: vec![Product::Balance],
        interval: Interval::OneMinute,
        webhook_url: Some("https://app.example/hook".to_owned()),
        created_at: timestamp_at(0),
    };
    for n in [1, 2] {
        store.put_subscription(&subscription(n)).await.unwrap();
    }
    assert_eq!(
        store.list_subscriptions(record_id(1)).await.unwrap(),
        [subscription(1), subscription(2)]
    );
    assert_eq!(store.list_subscriptions(record_id(2)).await.unwrap(), []);
    store
        .delete_subscription(record_id(1), subscription(1).id)
        .await
        .unwrap();
    assert_eq!(
        store.list_subscriptions(record_id(1)).await.unwrap(),
        [subscription(2)]
    );
}

#[tokio::test]
async fn endpoints_come_and_go_and_tell_no_secrets() {
    let store = new_store("endpoints").await;
    let endpoint = |n: u8| Endpoint {
        id: EndpointId::from_bytes([n; 12]),
        app: app_id(),
        url: format!("https://app.example/{n}"),
        sealed_secrets: vec![n; 60],
        sealed_bearer: (n == 1).then(|| vec![77; 40]),
        previous_secret_until: (n == 2).then(|| timestamp_at(5)),
        products: vec![Product::Transactions],
        events: vec!["balance.*".to_owned()],
        events_per_second: Some(5),
        payload_mode: PayloadMode::Reference,
        body_version: BodyVersion::LATEST,
        ordered_since: (n == 1).then(|| timestamp_at(3)),
        created_at: timestamp_at(0),
    };
    for n in [1, 2] {
        store.put_endpoint(&endpoint(n)).await.unwrap();
    }
    assert_eq!(
        store.list_endpoints(app_id()).await.unwrap(),
        [endpoint(1), endpoint(2)]
    );
    store
        .delete_endpoint(app_id(), endpoint(1).id)
        .await
        .unwrap();
    assert_eq!(
        store.find_endpoint(app_id(), endpoint(1).id).await.unwrap(),
        None
    );
    let left = store.find_endpoint(app_id(), endpoint(2).id).await.unwrap();
    assert_eq!(left, Some(endpoint(2)));
    assert!(!format!("{:?}", endpoint(1)).contains("77"));
}

fn sample_delivery(endpoint: u8, seq: u64, version: u32, state: DeliveryState) -> Delivery {
    Delivery {
        key: DeliveryKey {
            endpoint: EndpointId::from_bytes([endpoint; 12]),
            committed_at: timestamp_at(i64::try_from(seq).unwrap()),
            source: record_id(1).into(),
            seq: Seq(seq),
        },
        event_name: "balance.success".to_owned(),
        state,
        attempt_count: version,
        attempt_log: vec![LoggedAttempt {
            status: Some(503),
            outcome_class: "throttled".to_owned(),
            attempted_at: timestamp_at(0),
            latency_ms: 120,
        }],
        response_excerpt: Some("busy".to_owned()),
        next_attempt_at: Some(timestamp_at(60)),
        is_redelivery: seq.is_multiple_of(2),
        fifo_position: if seq == 3 {
            FifoPosition::Released
        } else {
            FifoPosition::Unordered
        },
        version,
    }
}

#[tokio::test]
async fn a_delivery_is_what_was_stored_last() {
    let store = new_store("deliveries").await;
    // Version, whether the store takes it.
    let steps = [
        (1, DeliveryState::Retry, true),
        (1, DeliveryState::Delivered, false),
        (2, DeliveryState::Delivered, true),
        (1, DeliveryState::Retry, false),
    ];
    for (version, state, taken) in steps {
        let delivery = sample_delivery(1, 5, version, state);
        let got = store
            .put_delivery(&delivery, timestamp_at(0))
            .await
            .unwrap();
        assert_eq!(got, taken, "{version} {state:?}");
    }
    let last = sample_delivery(1, 5, 2, DeliveryState::Delivered);
    let other = sample_delivery(2, 5, 1, DeliveryState::Exhausted);
    store.put_delivery(&other, timestamp_at(0)).await.unwrap();
    let found = store.find_delivery(&last.key).await.unwrap();
    assert_eq!(found, Some(last.clone()));
    let absent = sample_delivery(1, 55, 1, DeliveryState::Retry);
    let keys = [last.key, absent.key, other.key];
    let mut found = store.load_deliveries(&keys).await.unwrap();
    found.sort_by_key(|delivery| delivery.key.endpoint);
    assert_eq!(found, [last, other]);
}

#[tokio::test]
async fn the_log_of_an_endpoint_is_read_either_way() {
    let store = new_store("delivery_log").await;
    for seq in 1..=5 {
        let one = sample_delivery(1, seq, 1, DeliveryState::Delivered);
        store.put_delivery(&one, timestamp_at(0)).await.unwrap();
        let park = sample_delivery(2, seq, 1, DeliveryState::Parked);
        store.park_event(&park.key, timestamp_at(0)).await.unwrap();
    }
    let endpoint = EndpointId::from_bytes([1; 12]);
    let read = async |after: Option<u64>, direction, limit| {
        let after = after.map(|seq| sample_delivery(1, seq, 1, DeliveryState::Retry).key);
        let range = timestamp_at(2)..=timestamp_at(4);
        let rows = store.list_deliveries(endpoint, range, after.as_ref(), direction, limit);
        let rows = rows.await.unwrap();
        rows.iter().map(|row| row.key.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(read(None, SortOrder::Ascending, 10).await, [2, 3, 4]);
    assert_eq!(read(None, SortOrder::Descending, 2).await, [4, 3]);
    assert_eq!(read(Some(3), SortOrder::Descending, 10).await, [2]);
    assert_eq!(read(Some(3), SortOrder::Ascending, 10).await, [4]);

    let parked = EndpointId::from_bytes([2; 12]);
    let oldest = store.list_parked_events(parked, 2).await.unwrap();
    assert_eq!([oldest[0].seq, oldest[1].seq], [Seq(1), Seq(2)]);
    store.unpark_event(&oldest[0]).await.unwrap();
    assert_eq!(store.list_parked_events(parked, 9).await.unwrap().len(), 4);
}

#[tokio::test]
async fn health_and_what_tells_of_it_are_one_transaction() {
    let store = new_store("healths").await;
    let endpoint = EndpointId::from_bytes([1; 12]);
    let mut stored = store.load_endpoint_health(endpoint).await.unwrap();
    assert_eq!(stored, StoredEndpointHealth::default());
    stored.health.disable_by_app(timestamp_at(1));
    let entry = NewAppFeedEntry {
        endpoint,
        endpoint_url: "https://app.example/".to_owned(),
        notice: AppNotice::Health(HealthNotice::Parked {
            since: timestamp_at(0),
        }),
    };
    let put = async |stored: &StoredEndpointHealth, entries: &[NewAppFeedEntry]| {
        let put = store.put_endpoint_health(app_id(), endpoint, stored, entries, timestamp_at(2));
        put.await.unwrap()
    };
    let two = [entry.clone(), entry.clone()];
    assert_eq!(put(&stored, &two).await, Some(vec![Seq(1), Seq(2)]));
    // Whoever read it before is too late, and tells nothing.
    assert_eq!(put(&stored, &two).await, None);
    store.add_parked_count(endpoint, 16).await.unwrap();
    let read = store.load_endpoint_health(endpoint).await.unwrap();
    assert_eq!((read.parked_count, read.version), (16, 1));
    assert_eq!(read.health, stored.health);
    assert_eq!(put(&read, &[]).await, Some(vec![]));
    let both = [endpoint, EndpointId::from_bytes([2; 12])];
    assert_eq!(
        store.load_health_of_endpoints(&both).await.unwrap().len(),
        1
    );

    let delivery = sample_delivery(1, 5, 1, DeliveryState::Exhausted);
    let telling = || store.put_delivery_with_notice(app_id(), &delivery, &entry, timestamp_at(3));
    assert_eq!(telling().await.unwrap(), Some(vec![Seq(3)]));
    assert_eq!(telling().await.unwrap(), None);
    assert_eq!(
        store.load_app_feed_head(app_id()).await.unwrap(),
        (Seq(3), Seq(0))
    );
    store.advance_app_feed(app_id(), Seq(2)).await.unwrap();
    store.advance_app_feed(app_id(), Seq(1)).await.unwrap();
    assert_eq!(
        store.load_app_feed_head(app_id()).await.unwrap(),
        (Seq(3), Seq(2))
    );
    let feed = store.read_app_feed(app_id(), Seq(1), 10).await.unwrap();
    assert_eq!(
        feed.iter().map(|it| it.seq).collect::<Vec<_>>(),
        [Seq(2), Seq(3)]
    );
    assert_eq!(
        (feed[0].committed_at, &feed[0].endpoint_url),
        (timestamp_at(2), &entry.endpoint_url)
    );
}

#[tokio::test]
async fn retries_are_found_in_their_minute() {
    let store = new_store("retries").await;
    let minute = RetryEntry::minute_from(timestamp_at(0));
    let retry = |n: u32, minute| RetryEntry {
        source: record_id(n).into(),
        seq: Seq(u64::from(n)),
        endpoint: EndpointId::from_bytes([1; 12]),
        attempt: 2,
        minute,
    };
    for n in 0..20 {
        store.put_retry(&retry(n, minute)).await.unwrap();
    }
    store.put_retry(&retry(99, minute + 1)).await.unwrap();
    let mut due = store.list_due_retries(minute).await.unwrap();
    due.sort_unstable_by_key(|retry| retry.seq);
    assert_eq!(due, (0..20).map(|n| retry(n, minute)).collect::<Vec<_>>());
    for retry in due {
        store.delete_retry(&retry).await.unwrap();
    }
    assert_eq!(store.list_due_retries(minute).await.unwrap(), []);
    assert_eq!(store.list_due_retries(minute + 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_state_is_kept_by_name() {
    let store = new_store("states").await;
    assert_eq!(store.find_system_state("sweep").await.unwrap(), None);
    for minute in [1, 2] {
        let state = serde_json::json!({ "minute": minute });
        store.put_system_state("sweep", &state).await.unwrap();
        assert_eq!(store.find_system_state("sweep").await.unwrap(), Some(state));
    }
    assert_eq!(store.find_system_state("other").await.unwrap(), None);
}

/// Many who ask a bank at once each find the place that is there for them, and no more than there are.
#[tokio::test]
async fn places_of_a_bank_are_taken_by_many_at_once() {
    let store = new_store("places").await;
    let (bank, now) = (
        BankId::from_bytes([7; 12]),
        Timestamp::from_second(1_800_000_000).unwrap(),
    );
    let take = || store.reserve_ad_hoc_permit(bank, 4, now, SignedDuration::from_secs(6));
    let places = futures::future::try_join_all((0..32).map(|_| take()));
    let mut waits: Vec<i64> = Vec::new();
    for place in places.await.unwrap() {
        match place {
            AdHocPermit::GrantedAt(at) => waits.push(at.duration_since(now).as_secs()),
            AdHocPermit::ExhaustedUntil(at) => assert_eq!(at.duration_since(now).as_secs(), 9),
        }
    }
    waits.sort_unstable();
    // Twenty at once, and one each three seconds.
    assert_eq!(waits, [vec![0; 20], vec![3, 6]].concat());
    let later = now + SignedDuration::from_secs(30);
    let left = store
        .take_ad_hoc_permits(bank, 4, later, 100)
        .await
        .unwrap();
    assert_eq!(left, 8, "as many as thirty seconds gave back");
}
