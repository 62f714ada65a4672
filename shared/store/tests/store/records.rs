//! Linking records and finding them again.

use okra_core::{ids::CustomerId, schedule::Interval};
use okra_store::{Consistency::Strong, IntervalsTouched, RecordStatus, StoreError};

use crate::support::{account, app, bank, customer, linked, new_record, record, store};

#[tokio::test]
async fn a_table_is_made_once() {
    let store = store("table").await;
    store.create_table().await.unwrap();
}

#[tokio::test]
async fn a_linked_record_is_found_from_every_side() {
    let store = store("linked").await;
    let new = new_record(1, Interval::Daily);
    let touched = store.create_record(&new).await.unwrap();
    assert_eq!(touched.started, [Interval::Daily]);
    assert_eq!(
        store.head(record(1), Strong).await.unwrap(),
        Some(new.head.clone())
    );
    assert_eq!(
        store.consents(&[record(1), record(2)]).await.unwrap(),
        std::slice::from_ref(&new.consent)
    );
    assert_eq!(
        store.accounts_of(&new.consent, Strong).await.unwrap(),
        new.accounts
    );
    assert_eq!(
        store.account(account(1)).await.unwrap(),
        new.accounts.first().cloned()
    );
    assert_eq!(
        store.records_of_customer(customer()).await.unwrap(),
        std::slice::from_ref(&new.head)
    );
    let page = store.records_of_app(app(), None, 10).await.unwrap();
    assert_eq!((page.items, page.next), (vec![new.head.clone()], None));
    let key = new.due[0].key;
    assert_eq!(
        store.due_entry(key, Strong).await.unwrap(),
        Some(new.due[0].clone())
    );
}

#[tokio::test]
async fn what_was_never_linked_is_not_found() {
    let store = store("absent").await;
    assert_eq!(store.head(record(1), Strong).await.unwrap(), None);
    assert_eq!(store.consent(record(1), Strong).await.unwrap(), None);
    assert_eq!(store.consents(&[]).await.unwrap(), []);
    assert_eq!(store.account(account(1)).await.unwrap(), None);
    let other = CustomerId::derive(&[b"other"]);
    assert_eq!(store.records_of_customer(other).await.unwrap(), []);
    let status = store.set_status(record(1), RecordStatus::Invalid).await;
    assert!(matches!(status, Err(StoreError::NotFound { .. })));
    assert_eq!(store.head(record(1), Strong).await.unwrap(), None);
}

#[tokio::test]
async fn a_record_is_linked_once_and_as_a_whole() {
    let store = store("once").await;
    linked(&store, 1, Interval::Daily).await;
    // The same account under another record: nothing of the second record may be stored.
    let mut second = new_record(2, Interval::OneHour);
    second.accounts = new_record(1, Interval::Daily).accounts;
    let refused = store.create_record(&second).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })));
    assert_eq!(store.head(record(2), Strong).await.unwrap(), None);
    assert_eq!(store.consents(&[record(2)]).await.unwrap(), []);
    assert_eq!(store.interval_count(Interval::OneHour).await.unwrap(), 0);
    assert_eq!(store.interval_count(Interval::Daily).await.unwrap(), 1);
}

#[tokio::test]
async fn only_the_first_record_of_an_interval_starts_it() {
    let store = store("starts").await;
    linked(&store, 1, Interval::Daily).await;
    let second = store
        .create_record(&new_record(2, Interval::Daily))
        .await
        .unwrap();
    assert_eq!(second, IntervalsTouched::default());
    let other = store
        .create_record(&new_record(3, Interval::OneHour))
        .await
        .unwrap();
    assert_eq!(other.started, [Interval::OneHour]);
}

#[tokio::test]
async fn records_linked_at_once_are_all_counted_and_one_of_them_starts_the_interval() {
    const RECORDS: u32 = 12;
    let store = store("at-once").await;
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
        store.interval_count(Interval::Daily).await.unwrap(),
        u64::from(RECORDS)
    );
}

#[tokio::test]
async fn lists_are_paged_in_the_order_of_ids() {
    const RECORDS: u32 = 7;
    let store = store("pages").await;
    let mut expected: Vec<_> = (0..RECORDS).map(record).collect();
    expected.sort_unstable();
    for n in 0..RECORDS {
        linked(&store, n, Interval::Daily).await;
    }
    for limit in 1..=8 {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.records_of_app(app(), after, limit).await.unwrap();
            assert!(page.items.len() <= limit);
            found.extend(page.items.iter().map(|head| head.record));
            after = page.next;
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
    let store = store("batch").await;
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    for n in 0..RECORDS {
        let new = new_record(n, Interval::Daily);
        store.put_consent(&new.consent).await.unwrap();
    }
    let mut found: Vec<_> = store
        .consents(&records)
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
    let store = store("renewal").await;
    linked(&store, 1, Interval::Daily).await;
    let old = new_record(1, Interval::Daily).consent;
    let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
    assert!(store.claim_renewal(&old, at(0), at(25)).await.unwrap());
    assert!(!store.claim_renewal(&old, at(25), at(50)).await.unwrap());
    // Whoever had it is gone.
    assert!(store.claim_renewal(&old, at(26), at(51)).await.unwrap());

    assert!(store.renew_consent(&old, &[9; 200]).await.unwrap());
    let renewed = okra_store::Consent {
        sealed: vec![9; 200],
        ..old.clone()
    };
    let stored = store.consent(record(1), Strong).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&renewed));
    assert!(!store.renew_consent(&old, &[7; 200]).await.unwrap());
    assert!(!store.claim_renewal(&old, at(100), at(125)).await.unwrap());
    assert!(store.claim_renewal(&renewed, at(27), at(52)).await.unwrap());
    assert_eq!(store.consent(record(1), Strong).await.unwrap(), stored);
}

#[tokio::test]
async fn a_consent_is_replaced_and_a_status_set() {
    let store = store("consent").await;
    let head = linked(&store, 1, Interval::Daily).await;
    let mut consent = new_record(1, Interval::Daily).consent;
    consent.sealed = vec![8; 300];
    store.put_consent(&consent).await.unwrap();
    assert_eq!(
        store.consent(record(1), Strong).await.unwrap(),
        Some(consent)
    );
    store
        .set_status(record(1), RecordStatus::TokenRequired)
        .await
        .unwrap();
    let after = store.head(record(1), Strong).await.unwrap().unwrap();
    assert_eq!(after.status, RecordStatus::TokenRequired);
    assert_eq!(after.marks, head.marks);
}

#[test]
fn debug_texts_tell_no_secrets() {
    let new = new_record(1, Interval::Daily);
    let text = format!("{new:?}");
    for secret in ["0123456789", "Ada Okonkwo", "[7, 7"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains(&bank().to_string()));
}
