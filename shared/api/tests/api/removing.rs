//! Records that are unlinked and customers that are removed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::http::StatusCode;
use jiff::SignedDuration;
use okra_core::{
    feed::{Change, FeedEntry},
    ids::{BankId, Seq},
    state::StateChange,
};
use okra_emulator::Fate;
use okra_queue::{DeliverMessage, FetchMessage, Queue, RemovalOf};
use okra_refresh::removal::Removing;
use okra_sandbox::{LoginId, NewLogin, TokenTerms};
use okra_store::{Consistency, RecordStatus};
use serde_json::{Value, json};

use crate::{
    linking::with_oauth,
    world::{Linked, World},
};

impl World {
    fn later(&self, seconds: i64) {
        let clock = &self.environment.clock;
        clock.set(clock.now() + SignedDuration::from_secs(seconds));
    }

    /// A record of a login at a bank, by a consent whose id is known.
    async fn link_by_consent(&self, bank: BankId, login: LoginId) -> Value {
        let terms = TokenTerms {
            life_s: 300,
            rotate: true,
        };
        let (consent, tokens) = self.bank.authorised_by_user(login, terms).unwrap();
        let body = json!({
            "name": "Bola", "bank": bank, "refresh_token": tokens.refresh_token.as_str(),
            "consent_id": consent,
        });
        self.post("records/link", body).await.data()
    }

    /// The removals that ask to be gone on with, once their messages' delays are over.
    async fn take_removals(&self) -> Vec<RemovalOf> {
        let queues = &self.environment.queues;
        let mut removals = Vec::new();
        loop {
            let received = queues.receive(Queue::Priority, 10, 0).await.unwrap();
            if received.is_empty() {
                return removals;
            }
            let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
            queues.delete(Queue::Priority, &receipts).await.unwrap();
            for message in received {
                if let Ok(FetchMessage::RemovalV1(of)) = serde_json::from_str(&message.body) {
                    removals.push(of);
                }
            }
        }
    }

    /// Lets time pass and has removals go on until none asks to.
    async fn settle(&self) -> Vec<Removing> {
        const MAX_ROUNDS: usize = 8;
        let refresher = self.environment.refresher();
        let mut came = Vec::new();
        for _ in 0..MAX_ROUNDS {
            self.later(901);
            let removals = self.take_removals().await;
            if removals.is_empty() {
                break;
            }
            for of in removals {
                came.push(refresher.go_on_removing(of).await.unwrap());
            }
        }
        came
    }

    /// What is left of a record and its account.
    async fn left(&self, linked: &Linked) -> Vec<&'static str> {
        let (store, strong) = (&self.environment.store, Consistency::Strong);
        let account = linked.account().parse().unwrap();
        let record = linked.record();
        let mut left = Vec::new();
        if store.head(record, strong).await.unwrap().is_some() {
            left.push("head");
        }
        if store.consent(record, strong).await.unwrap().is_some() {
            left.push("consent");
        }
        if store.account(account).await.unwrap().is_some() {
            left.push("account");
        }
        let ever = jiff::civil::date(1970, 1, 1);
        let rows = store.transactions(account, ever, None, strong).await;
        if !rows.unwrap().is_empty() {
            left.push("transactions");
        }
        let feed = store.feed(record, Seq::ZERO, 100, strong).await;
        if !feed.unwrap().is_empty() {
            left.push("feed");
        }
        left
    }

    async fn feed_of(&self, linked: &Linked) -> Vec<FeedEntry> {
        let store = &self.environment.store;
        let feed = store.feed(linked.record(), Seq::ZERO, 100, Consistency::Strong);
        feed.await.unwrap()
    }
}

/// Whichever write or message is the first to fail, with all after it (of the many deletions every fifth): the removal was not
/// begun, or goes on by itself until nothing is left.
#[tokio::test]
async fn a_removal_that_is_cut_at_any_step_goes_on_by_itself() {
    const MAX_STEPS: u64 = 300;
    let world = World::new().await;
    let (mut whole, mut begun) = (false, 0);
    for cut in (0..12).chain((12..MAX_STEPS).step_by(5)) {
        let linked = world.refreshed().await;
        let calls = Arc::new(AtomicU64::new(0));
        world.emulator.inject(move |_, operation| {
            let reads = ["GetItem", "BatchGetItem", "Query"].contains(&operation);
            match reads || calls.fetch_add(1, Ordering::Relaxed) < cut {
                true => Fate::Pass,
                false => Fate::Fail,
            }
        });
        let customer = json!({ "customer": linked.customer() });
        let answer = world.post("customers/remove", customer).await;
        world.emulator.inject(|_, _| Fate::Pass);
        whole = answer.status == StatusCode::OK;
        let came = world.settle().await;
        let left = world.left(&linked).await;
        if came.is_empty() {
            assert!(!whole, "no message at cut {cut}");
            let head = world
                .environment
                .store
                .head(linked.record(), Consistency::Strong);
            assert_eq!(head.await.unwrap().unwrap().status, RecordStatus::Active);
        } else {
            begun += 1;
            assert_eq!(came.last(), Some(&Removing::Ended), "cut {cut}: {came:?}");
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
    let world = World::new().await;
    let linked = world.refreshed().await;
    let before = world.feed_of(&linked).await;
    let record = json!({ "record_id": linked.record() });
    let receipt = world.post("records/unlink", record).await.data();
    assert_eq!(receipt["completed"], true);
    assert_eq!(world.left(&linked).await, [""; 0]);
    // A refresh had committed before, and projects after.
    world.environment.store.project(&before).await.unwrap();
    assert_eq!(world.left(&linked).await, ["transactions"]);
    let came = world.settle().await;
    assert_eq!(came.last(), Some(&Removing::Ended));
    assert_eq!(world.left(&linked).await, [""; 0]);
    let receipt = json!({ "receipt": receipt["receipt"] });
    let receipt = world.post("receipts/get", receipt).await.data();
    assert!(receipt["ended_at"].is_string(), "{receipt}");
    let listed = world.post("receipts/list", json!({})).await.data();
    assert_eq!(listed["receipts"], json!([receipt]));
}

/// Endpoints are told, and what they are told of stays until they were.
#[tokio::test]
async fn an_unlinking_is_told_before_the_record_is_gone() {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let hook = json!({ "url": "https://ours.example/hook" });
    world.post("webhooks/set", hook).await.data();
    let record = json!({ "record_id": linked.record() });
    let receipt = world.post("records/unlink", record.clone()).await.data();
    assert_eq!(receipt["completed"], true, "{receipt}");
    assert_eq!(world.left(&linked).await, ["head", "feed"]);
    let feed = world.feed_of(&linked).await;
    let told: Vec<&Change> = feed.iter().map(|entry| &entry.change).collect();
    assert_eq!(told, [&Change::State(StateChange::Unlinked)]);
    // It is not listed any more, and refuses to be refreshed.
    let listed = world.post("products/records", json!({})).await.data();
    assert_eq!(listed["records"], json!([]));
    let refused = world.post("customers/retry", record).await;
    assert!(refused.status.is_client_error(), "{}", refused.text);
    // It is dispatched, and the message finds it there.
    let queues = &world.environment.queues;
    let mut dispatched = false;
    while let [message, ..] = &queues.receive(Queue::Deliver, 1, 0).await.unwrap()[..] {
        if let Ok(DeliverMessage::DispatchV1(of)) = serde_json::from_str(&message.body) {
            dispatched |= of.record == linked.record() && of.to == feed[0].seq;
        }
        let receipts = [message.receipt.clone()];
        queues.delete(Queue::Deliver, &receipts).await.unwrap();
    }
    assert!(dispatched);
    world.later(61);
    let refresher = world.environment.refresher();
    for of in world.take_removals().await {
        let removing = refresher.go_on_removing(of).await.unwrap();
        assert_eq!(removing, Removing::Completed);
    }
    assert_eq!(world.left(&linked).await, ["head", "feed"]);
    // Nothing is known of the delivery after a while: nobody wanted it.
    let came = world.settle().await;
    assert_eq!(came.last(), Some(&Removing::Ended), "{came:?}");
    assert_eq!(world.left(&linked).await, [""; 0]);
}

#[tokio::test]
async fn a_consent_is_taken_back_where_the_bank_can() {
    let world = World::new().await;
    let bank = with_oauth(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let linked = world.link_by_consent(bank, login).await;
    let unlink = async |linked: &Value| {
        let record = json!({ "record_id": linked["record_id"] });
        let receipt = world.post("records/unlink", record).await.data();
        receipt["records"][0]["consent"].clone()
    };
    assert_eq!(unlink(&linked).await, "revoked");
    // Of another link, no id of the consent is known.
    let linked = world.refreshed().await;
    assert_eq!(unlink(&linked.0).await, "not_possible");
    // And a bank that is not there does not hold the removal up.
    let linked = world.link_by_consent(bank, login).await;
    let mut config = world.environment.store.bank(bank).await.unwrap().unwrap();
    config.base_url = "http://127.0.0.1:9/open-banking/v3.1/aisp".to_owned();
    world.environment.store.put_bank(&config).await.unwrap();
    assert_eq!(unlink(&linked).await, "failed");
}

/// A bank that is asked as often as it allows is asked to take a consent back when it has a place.
#[tokio::test]
async fn a_removal_waits_for_its_bank() {
    let world = World::new().await;
    let bank = with_oauth(&world).await;
    let login = world.bank.create_login(NewLogin::default()).unwrap().id;
    let linked = world.link_by_consent(bank, login).await;
    let (store, now) = (&world.environment.store, world.environment.clock.now());
    let config = store.bank(bank).await.unwrap().unwrap();
    let rate = config.limits.records_per_second;
    let all = store.take_places(bank, rate, now, usize::MAX).await;
    assert!(all.unwrap() > 0);
    let record = json!({ "record_id": linked["record_id"] });
    let receipt = world.post("records/unlink", record).await.data();
    assert_eq!(receipt["completed"], false, "{receipt}");
    assert_eq!(receipt["records"][0]["consent"], "pending", "{receipt}");
    let came = world.settle().await;
    assert_eq!(came.last(), Some(&Removing::Ended), "{came:?}");
    let receipt = json!({ "receipt": receipt["receipt"] });
    let receipt = world.post("receipts/get", receipt).await.data();
    assert_eq!(receipt["completed"], true, "{receipt}");
    assert_eq!(receipt["records"][0]["consent"], "revoked", "{receipt}");
}
