//! How many of something an owner may have: enforced by the write, so that callers at the same time do not exceed it
//! together. Lists that are longer all the same are read.

use std::collections::HashMap;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use futures::future::join_all;
use okra_core::{
    model::{
        ids::{AppId, BankId, EndpointId, LinkId},
        interval::Interval,
    },
    resilience::bank_breaker::{BankBreaker, CallOutcomes},
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_store::{
    ApiKey, Consistency, Endpoint, KeyHash, MAX_BANKS_PER_APP, MAX_ENDPOINTS_PER_APP,
    MAX_KEYS_PER_APP, MAX_RECORDS_PER_CUSTOMER, ShortLink, StoreError,
};

use crate::support::{
    app_id, customer_id, isolates_transactions, new_record, new_store, new_table, sample_bank,
    timestamp_at,
};

fn sample_endpoint(n: u32) -> Endpoint {
    Endpoint {
        id: EndpointId::derive(&[&n.to_be_bytes()]),
        app: app_id(),
        url: format!("https://app.example/{n}"),
        sealed_secrets: vec![1; 60],
        sealed_bearer: None,
        previous_secret_until: None,
        products: vec![],
        events: vec![],
        events_per_second: None,
        payload_mode: PayloadMode::Full,
        body_version: BodyVersion::LATEST,
        ordered_since: None,
        created_at: timestamp_at(0),
    }
}

fn sample_key(n: u32) -> ApiKey {
    ApiKey {
        hash: KeyHash::hash_secret(&format!("okra_sk_{n}")),
        last_digits: "abcd".to_owned(),
        created_at: None,
        expires_at: None,
    }
}

/// How many of these writes succeeded. The others were refused because of the limit.
fn count_granted<T>(results: Vec<Result<T, StoreError>>) -> usize {
    let (granted, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for result in refused {
        let error = result.err().unwrap();
        assert!(
            matches!(error, StoreError::LimitReached { .. }),
            "{error:?}"
        );
    }
    granted.len()
}

/// The limit, and callers of one thing more than fit, all at the same time.
const RACING: u32 = 30;

#[tokio::test]
async fn banks_added_at_the_same_time_do_not_exceed_the_limit_of_an_app() {
    if !isolates_transactions() {
        return;
    }
    let store = &new_store("limit-banks").await;
    let added =
        (0..RACING).map(|n| async move { store.put_bank_of_app(app_id(), &sample_bank(n)).await });
    assert_eq!(count_granted(join_all(added).await), MAX_BANKS_PER_APP);
    assert_eq!(store.list_banks().await.unwrap().len(), MAX_BANKS_PER_APP);

    // What is there can be replaced, another app has a limit of its own, and what was removed makes room.
    let first = store.list_banks().await.unwrap().swap_remove(0).config;
    assert!(store.put_bank_of_app(app_id(), &first).await.unwrap());
    let other = AppId::derive(&[b"other"]);
    assert!(
        store
            .put_bank_of_app(other, &sample_bank(99))
            .await
            .unwrap()
    );
    assert!(store.delete_bank_of_app(app_id(), first.id).await.unwrap());
    let again = (RACING..2 * RACING)
        .map(|n| async move { store.put_bank_of_app(app_id(), &sample_bank(n)).await });
    assert_eq!(count_granted(join_all(again).await), 1);
}

#[tokio::test]
async fn endpoints_set_at_the_same_time_do_not_exceed_the_limit_of_an_app() {
    if !isolates_transactions() {
        return;
    }
    let store = &new_store("limit-endpoints").await;
    let racing = u32::try_from(MAX_ENDPOINTS_PER_APP).unwrap() + RACING;
    let set = (0..racing).map(|n| async move { store.put_endpoint(&sample_endpoint(n)).await });
    assert_eq!(count_granted(join_all(set).await), MAX_ENDPOINTS_PER_APP);
    let endpoints = store.list_endpoints(app_id()).await.unwrap();
    assert_eq!(endpoints.len(), MAX_ENDPOINTS_PER_APP);
    store.put_endpoint(&endpoints[0]).await.unwrap();
}

#[tokio::test]
async fn keys_made_at_the_same_time_do_not_exceed_the_limit_of_an_app() {
    if !isolates_transactions() {
        return;
    }
    let store = &new_store("limit-keys").await;
    let made =
        (0..RACING).map(|n| async move { store.create_api_key(app_id(), &sample_key(n)).await });
    assert_eq!(count_granted(join_all(made).await), MAX_KEYS_PER_APP);
}

#[tokio::test]
async fn a_revoked_key_does_not_come_back_when_it_is_changed() {
    let store = new_store("revoked-key").await;
    let key = sample_key(1);
    store.create_api_key(app_id(), &key).await.unwrap();
    store.delete_api_key(app_id(), key.hash).await.unwrap();
    assert!(!store.replace_api_key(app_id(), &key).await.unwrap());
    assert_eq!(store.list_api_keys(app_id()).await.unwrap(), []);
}

#[tokio::test]
async fn records_linked_at_the_same_time_do_not_exceed_the_limit_of_a_customer() {
    if !isolates_transactions() {
        return;
    }
    let store = &new_store("limit-records").await;
    let racing = u32::try_from(MAX_RECORDS_PER_CUSTOMER).unwrap() + RACING;
    let linked = (0..racing)
        .map(|n| async move { store.create_record(&new_record(n, Interval::Daily)).await });
    assert_eq!(
        count_granted(join_all(linked).await),
        MAX_RECORDS_PER_CUSTOMER
    );
    let records = store.list_records_of_customer(customer_id()).await.unwrap();
    assert_eq!(records.len(), MAX_RECORDS_PER_CUSTOMER);
}

#[tokio::test]
async fn a_short_link_does_not_take_the_name_of_another() {
    let store = new_store("short-link-name").await;
    let link = |app, id: &[u8]| ShortLink {
        id: LinkId::derive(&[id]),
        name: "abcdefghij".to_owned(),
        app,
        options: serde_json::Map::new(),
        created_at: timestamp_at(0),
    };
    store
        .create_short_link(&link(app_id(), b"1"))
        .await
        .unwrap();
    let second = link(AppId::derive(&[b"other"]), b"2");
    let refused = store.create_short_link(&second).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })));
}

#[tokio::test]
async fn a_bank_that_is_removed_leaves_no_circuit_breaker() {
    let store = new_store("bank-breaker").await;
    let (bank, now) = (sample_bank(1), timestamp_at(0));
    store.put_bank_of_app(app_id(), &bank).await.unwrap();
    let failed = CallOutcomes {
        failures: 20,
        ..CallOutcomes::default()
    };
    let breaker = BankBreaker::default().after_calls(failed, now, 0);
    store
        .put_bank_breaker(bank.id, None, &breaker)
        .await
        .unwrap();
    store.delete_bank_of_app(app_id(), bank.id).await.unwrap();
    let found = store.find_bank_breaker(bank.id, Consistency::Strong).await;
    assert_eq!(found.unwrap(), None);
    assert_eq!(store.list_bank_breakers().await.unwrap(), HashMap::new());
}

/// Puts copies of the only item of a partition under other sort keys: a list that grew beyond its limit before limits
/// were enforced.
async fn multiply_item(client: &Client, table: &str, pk: &str, sort_keys: Vec<String>) {
    let found = client
        .query()
        .table_name(table)
        .key_condition_expression("pk = :k")
        .expression_attribute_values(":k", AttributeValue::S(pk.to_owned()))
        .send()
        .await
        .unwrap();
    let [item] = found.items() else {
        panic!("one item lies at {pk}")
    };
    for sk in sort_keys {
        let mut copy = item.clone();
        copy.insert("sk".to_owned(), AttributeValue::S(sk));
        let put = client.put_item().table_name(table).set_item(Some(copy));
        put.send().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_that_is_longer_than_its_limit_is_read_all_the_same() {
    let (store, client, table) = new_table("long-list").await;
    store
        .put_bank_breaker(BankId::derive(&[b"first"]), None, &BankBreaker::default())
        .await
        .unwrap();
    let sort_keys = (0..600_u32).map(|n| format!("BRK#{}", BankId::derive(&[&n.to_be_bytes()])));
    multiply_item(&client, &table, "BRK", sort_keys.collect()).await;
    assert_eq!(store.list_bank_breakers().await.unwrap().len(), 601);
}
