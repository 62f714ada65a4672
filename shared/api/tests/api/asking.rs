//! When a refresh may be asked for: a bank that is down, a day's quota, a bank's rate, and what is
//! answered meanwhile.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    bank::BankLimits,
    breaker::{Breaker, Heard, OPEN_AFTER},
    model::{BookingStatus, Direction},
};
use okra_sandbox::{NewTransaction, Place};
use serde_json::{Value, json};

use crate::world::{BANK, Linked, World};

async fn limited(change: impl FnOnce(&mut BankLimits)) -> (World, Linked) {
    let world = World::new().await;
    let linked = world.refreshed().await;
    let store = &world.environment.store;
    let mut bank = store.bank(BANK).await.unwrap().unwrap();
    change(&mut bank.limits);
    store.put_bank(&bank).await.unwrap();
    (world, linked)
}

fn pass(world: &World, seconds: i64) {
    let clock = &world.environment.clock;
    clock.set(clock.now() + SignedDuration::from_secs(seconds));
}

fn next_at(answer: &Value) -> Timestamp {
    let text = answer["next_refresh_available_at"].as_str();
    text.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_bank_that_is_down_is_said_to_who_asks_with_the_time_of_its_probe() {
    let (world, linked) = limited(|_| {}).await;
    let now = world.environment.clock.now();
    let heard = Heard {
        down: OPEN_AFTER,
        ..Heard::default()
    };
    let down = Breaker::default().after(heard, now, 1 << 31);
    let store = &world.environment.store;
    assert!(store.put_breaker(BANK, None, &down).await.unwrap());
    let body = json!({ "record_id": linked.record() });
    for path in ["balance/refresh", "transactions/refresh", "customers/retry"] {
        let answer = world.post(path, body.clone()).await;
        let (kind, _) = answer.refusal(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "BANK_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "30");
        assert_eq!(next_at(&answer.json()["data"]), down.probe_at().unwrap());
    }
    assert!(world.take_chunks().await.is_empty());
    let banks = world.post("banks/list", json!({})).await.data();
    let shown = &banks["banks"][0];
    assert_eq!(shown["operational_status"], "DOWN");
    assert_eq!(shown["next_probe_at"], "2026-03-15T12:01:00.000Z");
    let record = world
        .post("products/records/get", body.clone())
        .await
        .data();
    let state = &record["state"];
    assert_eq!(state["bank_status"], "DOWN", "{record}");
    let balance = &state["accounts"][0]["balance"];
    assert_eq!(balance["data_status"], "UNAVAILABLE");
    assert_eq!(balance["reason"], "bank_unavailable");

    // Its probe is due: who asks makes it, and closes the circuit.
    pass(&world, 30);
    world.post("balance/refresh", body.clone()).await.data();
    world.work().await;
    let banks = world.post("banks/list", json!({})).await.data();
    assert_eq!(banks["banks"][0]["operational_status"], "HEALTHY");
    world.post("transactions/refresh", body).await.data();
}

#[tokio::test]
async fn a_days_quota_is_kept_and_its_end_is_said() {
    let (world, linked) = limited(|it| it.unattended_per_day = Some(4)).await;
    let body = json!({ "record_id": linked.record() });
    let start = world.environment.clock.now();
    // One a day is the schedule's, one the history's: two are left.
    let first = world.post("balance/refresh", body.clone()).await.data();
    assert_eq!(next_at(&first), start);
    world.work().await;
    pass(&world, 100);
    let second = world.post("balance/refresh", body.clone()).await.data();
    let again = start + SignedDuration::from_secs(24 * 3600 + 1);
    assert_eq!(next_at(&second), again, "it spent the last");
    world.work().await;
    pass(&world, 100);
    let third = world.post("balance/refresh", body.clone()).await;
    let (kind, _) = third.refusal(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(kind, "QUOTA_SPENT");
    assert_eq!(next_at(&third.json()["data"]), again);
    assert_eq!(third.headers["retry-after"], "86201");
    let record = world
        .post("products/records/get", body.clone())
        .await
        .data();
    let shown = &record["state"]["next_refresh_available_at"];
    let balance: Timestamp = shown["balance"].as_str().unwrap().parse().unwrap();
    assert_eq!(balance, again, "{record}");
    // Another product has its own, and the user who is there is not counted.
    world
        .post("transactions/refresh", body.clone())
        .await
        .data();
    let there = json!({ "record_id": linked.record(), "customer_ip": "203.0.113.7" });
    world.post("balance/refresh", there).await.data();
    world.work().await;
    pass(&world, 24 * 3600 - 199);
    world.post("balance/refresh", body).await.data();
}

#[tokio::test]
async fn a_bank_is_asked_no_more_often_than_it_allows() {
    let (world, linked) = limited(|it| it.records_per_second = 1).await;
    let body = json!({ "record_id": linked.record() });
    // What its link took is long given back.
    pass(&world, 60);
    let mut delays = Vec::new();
    // Five at once, and one each 12 seconds: the sixth is put off, the seventh refused.
    for path in ["balance/refresh", "transactions/refresh"] {
        for _ in 0..3 {
            let now = world.environment.clock.now();
            let answer = world.post(path, body.clone()).await.data();
            delays.push(next_at(&answer).duration_since(now).as_secs());
            world.work().await;
        }
    }
    assert_eq!(delays, [0, 0, 0, 0, 0, 12]);
    let answer = world.post("balance/check", body.clone()).await;
    let (kind, message) = answer.refusal(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(kind, "RATE_LIMIT");
    assert!(message.starts_with("The bank"), "{message}");
    assert_eq!(answer.headers["retry-after"], "24");
    pass(&world, 24);
    world.post("balance/check", body).await.data();
}

#[tokio::test]
async fn a_retry_joins_what_runs_and_what_runs_joins_it() {
    let (world, linked) = limited(|_| {}).await;
    let body = json!({ "record_id": linked.record() });
    let all = world.post("customers/retry", body.clone()).await.data();
    let again = world.post("customers/retry", body.clone()).await.data();
    let one = world.post("balance/refresh", body.clone()).await.data();
    assert!(all["job"].is_string(), "{all}");
    assert_eq!((&all["job"], &all["job"]), (&again["job"], &one["job"]));
    assert_eq!(world.take_chunks().await.len(), 1);
}

/// Who waits is told what was found, and the balances as they are now.
#[tokio::test]
async fn who_waits_is_told_what_was_found() {
    let (world, linked) = limited(|_| {}).await;
    let login = world.bank.logins().remove(0);
    let place = Place {
        login: login.id,
        account: login.accounts[0].account_id.clone(),
    };
    let row = NewTransaction {
        amount: "7.00".into(),
        direction: Direction::Debit,
        text: "KIOSK".into(),
        status: BookingStatus::Booked,
        dated: None,
        id: None,
    };
    world.bank.add(place, row).unwrap();
    let body = json!({ "record_id": linked.record(), "wait": true });
    let done = async {
        let mut chunks = Vec::new();
        while chunks.is_empty() {
            chunks = world.take_chunks().await;
            tokio::task::yield_now().await;
        }
        let refresher = world.environment.refresher();
        refresher.chunk(chunks.remove(0), false).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.post("customers/retry", body), done);
    let answer = answer.data();
    assert_eq!(answer["outcome"], "changed", "{answer}");
    assert_eq!(answer["changes"]["added"], 1);
    assert_eq!(answer["changes"]["balances"], 1);
    let balances = answer["balances"].as_array().unwrap();
    assert!(balances[0]["available_balance"].is_number(), "{answer}");
    assert!(answer["callback_url"].is_string());
}
