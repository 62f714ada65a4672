//! Linking records and finding them again.

use okra_core::model::{ids::CustomerId, interval::Interval};
use okra_store::{Consistency::Strong, IntervalChanges, RecordStatus, StoreError};

use crate::support::{
    account_id, app_id, bank_id, customer_id, isolates_transactions, link_record, new_record,
    new_store, record_id,
};

#[tokio::test]
async fn a_table_is_made_once() {
    let store = new_store("table").await;
    store.create_table().await.unwrap();
}

#[tokio::test]
async fn a_linked_record_is_found_from_every_side() {
    let store = new_store("linked").await;
    let new = new_record(1, Interval::Daily);
    let touched = store.create_record(&new).await.unwrap();
    assert_eq!(touched.started, [Interval::Daily]);
    assert_eq!(
        store.find_head(record_id(1), Strong).await.unwrap(),
        Some(new.head.clone())
    );
    assert_eq!(
        store
            .load_consents(&[record_id(1), record_id(2)])
            .await
            .unwrap(),
        std::slice::from_ref(&new.consent)
    );
    assert_eq!(
        store
            .load_accounts_of_consent(&new.consent, Strong)
            .await
            .unwrap(),
        new.accounts
    );
    assert_eq!(
        store.find_account(account_id(1)).await.unwrap(),
        new.accounts.first().cloned()
    );
    assert_eq!(
        store.list_records_of_customer(customer_id()).await.unwrap(),
        std::slice::from_ref(&new.head)
    );
    let page = store.list_records_of_app(app_id(), None, 10).await.unwrap();
    assert_eq!(
        (page.items, page.next_cursor),
        (vec![new.head.clone()], None)
    );
    let key = new.due_entries[0].key;
    assert_eq!(
        store.find_due_entry(key, Strong).await.unwrap(),
        Some(new.due_entries[0].clone())
    );
}

#[tokio::test]
async fn what_was_never_linked_is_not_found() {
    let store = new_store("absent").await;
    assert_eq!(store.find_head(record_id(1), Strong).await.unwrap(), None);
    assert_eq!(
        store.find_consent(record_id(1), Strong).await.unwrap(),
        None
    );
    assert_eq!(store.load_consents(&[]).await.unwrap(), []);
    assert_eq!(store.find_account(account_id(1)).await.unwrap(), None);
    let other = CustomerId::derive(&[b"other"]);
    assert_eq!(store.list_records_of_customer(other).await.unwrap(), []);
    let status = store
        .set_record_status(record_id(1), RecordStatus::Invalid)
        .await;
    assert!(matches!(status, Err(StoreError::NotFound { .. })));
    assert_eq!(store.find_head(record_id(1), Strong).await.unwrap(), None);
}

#[tokio::test]
async fn a_record_is_linked_once_and_as_a_whole() {
    let store = new_store("once").await;
    link_record(&store, 1, Interval::Daily).await;
    // The same account under another record: nothing of the second record may be stored.
    let mut second = new_record(2, Interval::OneHour);
    second.accounts = new_record(1, Interval::Daily).accounts;
    let refused = store.create_record(&second).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })));
    assert_eq!(store.find_head(record_id(2), Strong).await.unwrap(), None);
    assert_eq!(store.load_consents(&[record_id(2)]).await.unwrap(), []);
    assert_eq!(
        store
            .count_interval_entries(Interval::OneHour)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store.count_interval_entries(Interval::Daily).await.unwrap(),
        1
    );
}

#[tokio::test]
async fn only_the_first_record_of_an_interval_starts_it() {
    let store = new_store("starts").await;
    link_record(&store, 1, Interval::Daily).await;
    let second = store
        .create_record(&new_record(2, Interval::Daily))
        .await
        .unwrap();
    assert_eq!(second, IntervalChanges::default());
    let other = store
        .create_record(&new_record(3, Interval::OneHour))
        .await
        .unwrap();
    assert_eq!(other.started, [Interval::OneHour]);
}

#[tokio::test]
async fn records_linked_at_once_are_all_counted_and_one_of_them_starts_the_interval() {
    const RECORDS: u32 = 12;
    if !isolates_transactions() {
        return;
    }
    let store = new_store("at-once").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..RECORDS {
        let store = store.clone();
        tasks.spawn(async move { store.create_record(&new_record(n, Interval::Daily)).await });
    }
    let touched = tasks.join_all().await;
    assert!(
        touched
            .iter()
            .any(|touched| !touched.as_ref().unwrap().started.is_empty())
    );
    assert_eq!(
        store.count_interval_entries(Interval::Daily).await.unwrap(),
        u64::from(RECORDS)
    );
}

#[tokio::test]
async fn lists_are_paged_in_the_order_of_ids() {
    const RECORDS: u32 = 7;
    let store = new_store("pages").await;
    let mut expected: Vec<_> = (0..RECORDS).map(record_id).collect();
    expected.sort_unstable();
    for n in 0..RECORDS {
        link_record(&store, n, Interval::Daily).await;
    }
    for limit in 1..=8 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list_records_of_app(app_id(), after, limit)
                .await
                .unwrap();
            assert!(page.items.len() <= limit);
            found.extend(page.items.iter().map(|head| head.record));
            after = page.next_cursor;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn a_batch_of_consents_may_be_larger_than_a_call() {
    const RECORDS: u32 = 130;
    let store = new_store("batch").await;
    let records: Vec<_> = (0..RECORDS).map(record_id).collect();
    for n in 0..RECORDS {
        let new = new_record(n, Interval::Daily);
        store.put_consent(&new.consent).await.unwrap();
    }
    let mut found: Vec<_> = store
        .load_consents(&records)
        .await
        .unwrap()
        .into_iter()
        .map(|consent| consent.record)
        .collect();
    found.sort_unstable();
    let mut expected = records;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn tokens_are_renewed_by_one_claim_at_a_time() {
    let store = new_store("renewal").await;
    link_record(&store, 1, Interval::Daily).await;
    let old = new_record(1, Interval::Daily).consent;
    let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
    assert!(
        store
            .claim_token_renewal(&old, at(0), at(25))
            .await
            .unwrap()
    );
    assert!(
        !store
            .claim_token_renewal(&old, at(25), at(50))
            .await
            .unwrap()
    );
    // Whoever had it is gone.
    assert!(
        store
            .claim_token_renewal(&old, at(26), at(51))
            .await
            .unwrap()
    );

    assert!(store.store_renewed_tokens(&old, &[9; 200]).await.unwrap());
    let renewed = okra_store::Consent {
        sealed_secret: vec![9; 200],
        ..old.clone()
    };
    let stored = store.find_consent(record_id(1), Strong).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&renewed));
    assert!(!store.store_renewed_tokens(&old, &[7; 200]).await.unwrap());
    assert!(
        !store
            .claim_token_renewal(&old, at(100), at(125))
            .await
            .unwrap()
    );
    assert!(
        store
            .claim_token_renewal(&renewed, at(27), at(52))
            .await
            .unwrap()
    );
    assert_eq!(
        store.find_consent(record_id(1), Strong).await.unwrap(),
        stored
    );
}

#[tokio::test]
async fn a_consent_is_replaced_and_a_status_set() {
    let store = new_store("consent").await;
    let head = link_record(&store, 1, Interval::Daily).await;
    let mut consent = new_record(1, Interval::Daily).consent;
    consent.sealed_secret = vec![8; 300];
    store.put_consent(&consent).await.unwrap();
    assert_eq!(
        store.find_consent(record_id(1), Strong).await.unwrap(),
        Some(consent)
    );
    store
        .set_record_status(record_id(1), RecordStatus::ReauthorisationRequired)
        .await
        .unwrap();
    let after = store
        .find_head(record_id(1), Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(after.status, RecordStatus::ReauthorisationRequired);
    assert_eq!(after.watermarks, head.watermarks);
}

#[test]
fn debug_texts_tell_no_secrets() {
    let new = new_record(1, Interval::Daily);
    let text = format!("{new:?}");
    for secret in ["0123456789", "Ada Okonkwo", "[7, 7"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains(&bank_id().to_string()));
}
