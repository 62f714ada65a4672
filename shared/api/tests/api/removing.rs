//! Records that are unlinked and customers that are removed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::http::StatusCode;
use jiff::SignedDuration;
use okra_core::{
    model::ids::{BankId, Seq},
    sync::{
        feed::{Change, FeedEntry},
        state::StateChange,
    },
};
use okra_emulator::CallFate;
use okra_queue::{DeliverMessage, FetchMessage, Queue, RemovalStep};
use okra_refresh::removal::RemovalProgress;
use okra_sandbox::{LoginId, NewLogin, TokenTerms};
use okra_store::{Consistency, RecordStatus};
use serde_json::{Value, json};

use crate::{
    linking::put_oauth_bank,
    world::{ApiWorld, LinkedCustomer},
};

impl ApiWorld {
    fn advance_clock(&self, seconds: i64) {
        let clock = &self.environment.clock;
        clock.set_time(clock.now() + SignedDuration::from_secs(seconds));
    }

    /// A record of a login at a bank, by a consent whose id is known.
    async fn link_by_consent(&self, bank: BankId, login: LoginId) -> Value {
        let terms = TokenTerms {
            life_s: 300,
            rotate: true,
        };
        let (consent, tokens) = self.bank.authorise_as_user(login, terms).unwrap();
        let body = json!({
            "name": "Bola", "bank": bank, "refresh_token": tokens.refresh_token.as_str(),
            "consent_id": consent,
        });
        self.post_json("records/link", body).await.success_data()
    }

    /// The removals that ask to be gone on with, once their messages' delays are over.
    async fn take_removals(&self) -> Vec<RemovalStep> {
        let queues = &self.environment.queues;
        let mut removals = Vec::new();
        loop {
            let received = queues
                .receive_messages(Queue::Priority, 10, 0)
                .await
                .unwrap();
            if received.is_empty() {
                return removals;
            }
            let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
            queues
                .delete_messages(Queue::Priority, &receipts)
                .await
                .unwrap();
            for message in received {
                if let Ok(FetchMessage::RemovalStepV1(of)) = serde_json::from_str(&message.body) {
                    removals.push(of);
                }
            }
        }
    }

    /// Lets time pass and has removals go on until none asks to.
    async fn finish_removals(&self) -> Vec<RemovalProgress> {
        const MAX_ROUNDS: usize = 8;
        let refresher = self.environment.build_refresher();
        let mut came = Vec::new();
        for _ in 0..MAX_ROUNDS {
            self.advance_clock(901);
            let removals = self.take_removals().await;
            if removals.is_empty() {
                break;
            }
            for of in removals {
                came.push(refresher.continue_removal(of).await.unwrap());
            }
        }
        came
    }

    /// What is left of a record and its account.
    async fn find_leftovers(&self, linked: &LinkedCustomer) -> Vec<&'static str> {
        let (store, strong) = (&self.environment.store, Consistency::Strong);
        let account = linked.account_id().parse().unwrap();
        let record = linked.record_id();
        let mut left = Vec::new();
        if store.find_head(record, strong).await.unwrap().is_some() {
            left.push("head");
        }
        if store.find_consent(record, strong).await.unwrap().is_some() {
            left.push("consent");
        }
        if store.find_account(account).await.unwrap().is_some() {
            left.push("account");
        }
        let ever = jiff::civil::date(1970, 1, 1);
        let rows = store.list_transactions(account, ever, None, strong).await;
        if !rows.unwrap().is_empty() {
            left.push("transactions");
        }
        let feed = store.read_feed(record, Seq::ZERO, 100, strong).await;
        if !feed.unwrap().is_empty() {
            left.push("feed");
        }
        left
    }

    async fn read_record_feed(&self, linked: &LinkedCustomer) -> Vec<FeedEntry> {
        let store = &self.environment.store;
        let feed = store.read_feed(linked.record_id(), Seq::ZERO, 100, Consistency::Strong);
        feed.await.unwrap()
    }
}

/// Whichever write or message is the first to fail, with all after it (of the many deletions every fifth): the removal was not
/// begun, or goes on by itself until nothing is left.
#[tokio::test]
async fn a_removal_that_is_cut_at_any_step_goes_on_by_itself() {
    const MAX_STEPS: u64 = 300;
    let world = ApiWorld::new().await;
    let (mut whole, mut begun) = (false, 0);
    for cut in (0..12).chain((12..MAX_STEPS).step_by(5)) {
        let linked = world.create_refreshed().await;
        let calls = Arc::new(AtomicU64::new(0));
        world.emulator.inject_fates(move |_, operation| {
            let reads = ["GetItem", "BatchGetItem", "Query"].contains(&operation);
            match reads || calls.fetch_add(1, Ordering::Relaxed) < cut {
                true => CallFate::Serve,
                false => CallFate::Fail,
            }
        });
        let customer = json!({ "customer": linked.customer_id() });
        let answer = world.post_json("customers/remove", customer).await;
        world.emulator.inject_fates(|_, _| CallFate::Serve);
        whole = answer.status == StatusCode::OK;
        let came = world.finish_removals().await;
        let left = world.find_leftovers(&linked).await;
        if came.is_empty() {
            assert!(!whole, "no message at cut {cut}");
            let head = world
                .environment
                .store
                .find_head(linked.record_id(), Consistency::Strong);
            assert_eq!(head.await.unwrap().unwrap().status, RecordStatus::Active);
        } else {
            begun += 1;
            assert_eq!(
                came.last(),
                Some(&RemovalProgress::Finished),
                "cut {cut}: {came:?}"
            );
            assert_eq!(left, [""; 0], "cut {cut}");
        }
        if whole {
            break;
        }
    }
    assert!(whole && begun > 10, "{begun}");
}

#[tokio::test]
async fn what_a_refresh_writes_after_a_removal_is_deleted_as_well() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let before = world.read_record_feed(&linked).await;
    let record = json!({ "record_id": linked.record_id() });
    let receipt = world
        .post_json("records/unlink", record)
        .await
        .success_data();
    assert_eq!(receipt["completed"], true);
    assert_eq!(world.find_leftovers(&linked).await, [""; 0]);
    // A refresh had committed before, and projects after.
    world
        .environment
        .store
        .project_entries(&before)
        .await
        .unwrap();
    assert_eq!(world.find_leftovers(&linked).await, ["transactions"]);
    let came = world.finish_removals().await;
    assert_eq!(came.last(), Some(&RemovalProgress::Finished));
    assert_eq!(world.find_leftovers(&linked).await, [""; 0]);
    let receipt = json!({ "receipt": receipt["receipt"] });
    let receipt = world
        .post_json("receipts/get", receipt)
        .await
        .success_data();
    assert!(receipt["ended_at"].is_string(), "{receipt}");
    let listed = world
        .post_json("receipts/list", json!({}))
        .await
        .success_data();
    assert_eq!(listed["receipts"], json!([receipt]));
}

/// Endpoints are told, and what they are told of stays until they were.
#[tokio::test]
async fn an_unlinking_is_told_before_the_record_is_gone() {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let hook = json!({ "url": "https://ours.example/hook" });
    world.post_json("webhooks/set", hook).await.success_data();
    let record = json!({ "record_id": linked.record_id() });
    let receipt = world
        .post_json("records/unlink", record.clone())
        .await
        .success_data();
    assert_eq!(receipt["completed"], true, "{receipt}");
    assert_eq!(world.find_leftovers(&linked).await, ["head", "feed"]);
    let feed = world.read_record_feed(&linked).await;
    let told: Vec<&Change> = feed.iter().map(|entry| &entry.change).collect();
    assert_eq!(told, [&Change::State(StateChange::Unlinked)]);
    // It is not listed any more, and refuses to be refreshed.
    let listed = world
        .post_json("products/records", json!({}))
        .await
        .success_data();
    assert_eq!(listed["records"], json!([]));
    let refused = world.post_json("customers/retry", record).await;
    assert!(refused.status.is_client_error(), "{}", refused.text);
    // It is dispatched, and the message finds it there.
    let queues = &world.environment.queues;
    let mut dispatched = false;
    while let [message, ..] = &queues.receive_messages(Queue::Deliver, 1, 0).await.unwrap()[..] {
        if let Ok(DeliverMessage::DispatchV1(of)) = serde_json::from_str(&message.body) {
            dispatched |= of.record == linked.record_id() && of.last_seq == feed[0].seq;
        }
        let receipts = [message.receipt.clone()];
        queues
            .delete_messages(Queue::Deliver, &receipts)
            .await
            .unwrap();
    }
    assert!(dispatched);
    world.advance_clock(61);
    let refresher = world.environment.build_refresher();
    for of in world.take_removals().await {
        let removing = refresher.continue_removal(of).await.unwrap();
        assert_eq!(removing, RemovalProgress::Completed);
    }
    assert_eq!(world.find_leftovers(&linked).await, ["head", "feed"]);
    // Nothing is known of the delivery after a while: nobody wanted it.
    let came = world.finish_removals().await;
    assert_eq!(came.last(), Some(&RemovalProgress::Finished), "{came:?}");
    assert_eq!(world.find_leftovers(&linked).await, [""; 0]);
}

#[tokio::test]
async fn a_consent_is_taken_back_where_the_bank_can() {
    let world = ApiWorld::new().await;
    let bank = put_oauth_bank(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let linked = world.link_by_consent(bank, login).await;
    let unlink = async |linked: &Value| {
        let record = json!({ "record_id": linked["record_id"] });
        let receipt = world
            .post_json("records/unlink", record)
            .await
            .success_data();
        receipt["records"][0]["consent"].clone()
    };
    assert_eq!(unlink(&linked).await, "revoked");
    // Of another link, no id of the consent is known.
    let linked = world.create_refreshed().await;
    assert_eq!(unlink(&linked.0).await, "not_possible");
    // And a bank that is not there does not hold the removal up.
    let linked = world.link_by_consent(bank, login).await;
    let mut config = world
        .environment
        .store
        .find_bank(bank)
        .await
        .unwrap()
        .unwrap();
    config.base_url = "http://127.0.0.1:9/open-banking/v3.1/aisp".to_owned();
    world.environment.store.put_bank(&config).await.unwrap();
    assert_eq!(unlink(&linked).await, "failed");
}

/// A bank that is asked as often as it allows is asked to take a consent back when it has a place.
#[tokio::test]
async fn a_removal_waits_for_its_bank() {
    let world = ApiWorld::new().await;
    let bank = put_oauth_bank(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let linked = world.link_by_consent(bank, login).await;
    let (store, now) = (&world.environment.store, world.environment.clock.now());
    let config = store.find_bank(bank).await.unwrap().unwrap();
    let rate = config.limits.records_per_second;
    let all = store.take_ad_hoc_permits(bank, rate, now, usize::MAX).await;
    assert!(all.unwrap() > 0);
    let record = json!({ "record_id": linked["record_id"] });
    let receipt = world
        .post_json("records/unlink", record)
        .await
        .success_data();
    assert_eq!(receipt["completed"], false, "{receipt}");
    assert_eq!(receipt["records"][0]["consent"], "pending", "{receipt}");
    let came = world.finish_removals().await;
    assert_eq!(came.last(), Some(&RemovalProgress::Finished), "{came:?}");
    let receipt = json!({ "receipt": receipt["receipt"] });
    let receipt = world
        .post_json("receipts/get", receipt)
        .await
        .success_data();
    assert_eq!(receipt["completed"], true, "{receipt}");
    assert_eq!(receipt["records"][0]["consent"], "revoked", "{receipt}");
}
