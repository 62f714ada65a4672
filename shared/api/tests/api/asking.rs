//! When a refresh may be asked for: a bank that is down, a day's quota, a bank's rate, and what is
//! answered meanwhile.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{
        bank::BankLimits,
        snapshot::{BookingStatus, Direction},
    },
    resilience::bank_breaker::{BankBreaker, CallOutcomes, OPEN_AFTER_FAILURES},
};
use okra_sandbox::{
    AccountAddress, ConsentState, FaultTarget, Faults, NewTransaction, RateLimitFault,
    SandboxResource,
};
use serde_json::{Value, json};

use crate::world::{ApiWorld, BANK, LinkedCustomer};

async fn world_with_limits(change: impl FnOnce(&mut BankLimits)) -> (ApiWorld, LinkedCustomer) {
    let world = ApiWorld::new().await;
    let linked = world.create_refreshed().await;
    let store = &world.environment.store;
    let mut bank = store.find_bank(BANK).await.unwrap().unwrap();
    change(&mut bank.limits);
    store.put_bank(&bank).await.unwrap();
    (world, linked)
}

/// The answer to who waits for a refresh, which is made as soon as it is enqueued.
async fn refresh_and_wait(world: &ApiWorld, linked: &LinkedCustomer, path: &str) -> Value {
    let body = json!({ "record_id": linked.record_id(), "wait": true });
    let done = async {
        let mut chunks = Vec::new();
        while chunks.is_empty() {
            chunks = world.take_chunks().await;
            tokio::task::yield_now().await;
        }
        let refresher = world.environment.build_refresher();
        refresher
            .refresh_chunk(chunks.remove(0), false)
            .await
            .unwrap();
    };
    tokio::join!(world.post_json(path, body), done)
        .0
        .success_data()
}

fn advance_clock(world: &ApiWorld, seconds: i64) {
    let clock = &world.environment.clock;
    clock.set_time(clock.now() + SignedDuration::from_secs(seconds));
}

fn parse_next_refresh_at(answer: &Value) -> Timestamp {
    let text = answer["next_refresh_available_at"].as_str();
    text.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_bank_that_is_down_is_said_to_who_asks_with_the_time_of_its_probe() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let now = world.environment.clock.now();
    let heard = CallOutcomes {
        failures: OPEN_AFTER_FAILURES,
        ..CallOutcomes::default()
    };
    let down = BankBreaker::default().after_calls(heard, now, 1 << 31);
    let store = &world.environment.store;
    assert!(store.put_bank_breaker(BANK, None, &down).await.unwrap());
    let body = json!({ "record_id": linked.record_id() });
    for path in ["balance/refresh", "transactions/refresh", "customers/retry"] {
        let answer = world.post_json(path, body.clone()).await;
        let (kind, _) = answer.expect_error(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "BANK_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "30");
        assert_eq!(
            parse_next_refresh_at(&answer.parse_json()["data"]),
            down.next_probe_at().unwrap()
        );
    }
    assert!(world.take_chunks().await.is_empty());
    let banks = world
        .post_json("banks/list", json!({}))
        .await
        .success_data();
    let shown = &banks["banks"][0];
    assert_eq!(shown["operational_status"], "DOWN");
    assert_eq!(shown["next_probe_at"], "2026-03-15T12:01:00.000Z");
    let record = world
        .post_json("products/records/get", body.clone())
        .await
        .success_data();
    let state = &record["state"];
    assert_eq!(state["bank_status"], "DOWN", "{record}");
    let balance = &state["accounts"][0]["balance"];
    assert_eq!(balance["data_status"], "UNAVAILABLE");
    assert_eq!(balance["reason"], "bank_unavailable");

    // Its probe is due: who asks makes it, and closes the circuit.
    advance_clock(&world, 30);
    world
        .post_json("balance/refresh", body.clone())
        .await
        .success_data();
    world.process_chunks().await;
    let banks = world
        .post_json("banks/list", json!({}))
        .await
        .success_data();
    assert_eq!(banks["banks"][0]["operational_status"], "HEALTHY");
    world
        .post_json("transactions/refresh", body)
        .await
        .success_data();
}

#[tokio::test]
async fn a_days_quota_is_kept_and_its_end_is_said() {
    let (world, linked) = world_with_limits(|it| it.unattended_per_day = Some(4)).await;
    let body = json!({ "record_id": linked.record_id() });
    let start = world.environment.clock.now();
    // One a day is the schedule's, one the history's: two are left.
    let first = world
        .post_json("balance/refresh", body.clone())
        .await
        .success_data();
    assert_eq!(parse_next_refresh_at(&first), start);
    world.process_chunks().await;
    advance_clock(&world, 100);
    let second = world
        .post_json("balance/refresh", body.clone())
        .await
        .success_data();
    let again = start + SignedDuration::from_secs(24 * 3600 + 1);
    assert_eq!(parse_next_refresh_at(&second), again, "it spent the last");
    world.process_chunks().await;
    advance_clock(&world, 100);
    let third = world.post_json("balance/refresh", body.clone()).await;
    let (kind, _) = third.expect_error(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(kind, "QUOTA_SPENT");
    assert_eq!(parse_next_refresh_at(&third.parse_json()["data"]), again);
    assert_eq!(third.headers["retry-after"], "86201");
    let record = world
        .post_json("products/records/get", body.clone())
        .await
        .success_data();
    let shown = &record["state"]["next_refresh_available_at"];
    let balance: Timestamp = shown["balance"].as_str().unwrap().parse().unwrap();
    assert_eq!(balance, again, "{record}");
    // Another product has its own, and the user who is there is not counted.
    world
        .post_json("transactions/refresh", body.clone())
        .await
        .success_data();
    let there = json!({ "record_id": linked.record_id(), "customer_ip": "203.0.113.7" });
    world
        .post_json("balance/refresh", there)
        .await
        .success_data();
    world.process_chunks().await;
    advance_clock(&world, 24 * 3600 - 199);
    world
        .post_json("balance/refresh", body)
        .await
        .success_data();
}

#[tokio::test]
async fn a_bank_is_asked_no_more_often_than_it_allows() {
    let (world, linked) = world_with_limits(|it| it.records_per_second = 1).await;
    let body = json!({ "record_id": linked.record_id() });
    // What its link took is long given back.
    advance_clock(&world, 60);
    let mut delays = Vec::new();
    // Five at once, and one each 12 seconds: the sixth is put off, the seventh refused.
    for path in ["balance/refresh", "transactions/refresh"] {
        for _ in 0..3 {
            let now = world.environment.clock.now();
            let answer = world.post_json(path, body.clone()).await.success_data();
            delays.push(parse_next_refresh_at(&answer).duration_since(now).as_secs());
            world.process_chunks().await;
        }
    }
    assert_eq!(delays, [0, 0, 0, 0, 0, 12]);
    let answer = world.post_json("balance/check", body.clone()).await;
    let (kind, message) = answer.expect_error(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(kind, "RATE_LIMIT");
    assert!(message.starts_with("The bank"), "{message}");
    assert_eq!(answer.headers["retry-after"], "24");
    advance_clock(&world, 24);
    world.post_json("balance/check", body).await.success_data();
}

#[tokio::test]
async fn a_retry_joins_what_runs_and_what_runs_joins_it() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let body = json!({ "record_id": linked.record_id() });
    let all = world
        .post_json("customers/retry", body.clone())
        .await
        .success_data();
    let again = world
        .post_json("customers/retry", body.clone())
        .await
        .success_data();
    let one = world
        .post_json("balance/refresh", body.clone())
        .await
        .success_data();
    assert!(all["job"].is_string(), "{all}");
    assert_eq!((&all["job"], &all["job"]), (&again["job"], &one["job"]));
    assert_eq!(world.take_chunks().await.len(), 1);
}

/// Who waits is told what was found, and the balances as they are now.
#[tokio::test]
async fn who_waits_is_told_what_was_found() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let login = world.bank.list_logins().remove(0);
    let place = AccountAddress {
        login: login.id,
        account_id: login.accounts[0].account_id.clone(),
    };
    let row = NewTransaction {
        amount: "7.00".into(),
        direction: Direction::Debit,
        text: "KIOSK".into(),
        status: BookingStatus::Booked,
        booking_time: None,
        id: None,
    };
    world.bank.add_row(place, row).unwrap();
    let answer = refresh_and_wait(&world, &linked, "customers/retry").await;
    assert_eq!(answer["outcome"], "changed", "{answer}");
    assert_eq!(answer["changes"]["added"], 1);
    assert_eq!(answer["changes"]["balances"], 1);
    let balances = answer["balances"].as_array().unwrap();
    assert!(balances[0]["available_balance"].is_number(), "{answer}");
    assert!(answer["callback_url"].is_string());
}

/// Callback data says of a refresh what `jobs/get` says: that it runs, and what came of it.
#[tokio::test]
async fn a_refresh_is_followed_to_its_end() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let record = json!({ "record_id": linked.record_id() });
    let callback = async |method: &str| {
        let body = json!({ "record": linked.record_id(), "method": method });
        world.post_json("callback", body).await.success_data()["status"].clone()
    };
    let job = async |job: &Value| {
        world
            .post_json("jobs/get", json!({ "job": job }))
            .await
            .success_data()
    };
    let process =
        |running: bool, completed: bool| json!({ "running": running, "completed": completed });
    let linked_at = world.environment.clock.now().to_string();
    let before = callback("BALANCE").await;
    assert_eq!(before["process"], process(false, true), "{before}");
    assert_eq!(before.get("job"), None);

    advance_clock(&world, 60);
    let began = world.environment.clock.now();
    let first = world
        .post_json("balance/refresh", record.clone())
        .await
        .success_data();
    for method in ["BALANCE", "CHECK_BALANCE"] {
        let running = callback(method).await;
        assert_eq!(running["process"], process(true, false), "{running}");
        assert_eq!(running["job"], first["job"]);
        assert_eq!(running.get("outcome"), None);
    }
    // It says nothing of what it does not ask for.
    for method in ["TRANSACTIONS", "AUTH", "ACCOUNTS"] {
        let other = callback(method).await;
        assert_eq!(other["process"], process(false, true), "{other}");
    }
    let shown = job(&first["job"]).await;
    assert_eq!(shown["state"], "running", "{shown}");
    assert_eq!(shown["products"], json!(["balance"]));
    assert_eq!(
        (&shown["outcome"], &shown["ended_at"]),
        (&Value::Null, &Value::Null)
    );

    advance_clock(&world, 5);
    world.process_chunks().await;
    let text = |at: Timestamp| json!(okra_wire::scalar::IsoInstant(at));
    let ended = world.environment.clock.now();
    let done = callback("BALANCE").await;
    assert_eq!(done["process"], process(false, true), "{done}");
    assert_eq!(
        (&done["job"], &done["outcome"]),
        (&first["job"], &json!("unchanged"))
    );
    assert_eq!(done["transactions"]["last_success_at"], text(ended));
    assert_eq!(done["transactions"]["last_fail_at"], Value::Null);
    assert!(done["transactions"]["last_success_at"].as_str() > Some(linked_at.as_str()));
    let shown = job(&first["job"]).await;
    assert_eq!(
        (&shown["state"], &shown["outcome"]),
        (&json!("done"), &json!("unchanged"))
    );
    assert_eq!(shown["started_at"], text(began), "{shown}");
    assert_eq!(shown["ended_at"], text(ended));

    // One that fails says why, and when it was last had.
    let login = world.last_login();
    world
        .bank
        .set_consent(login, ConsentState::Revoked)
        .unwrap();
    advance_clock(&world, 60);
    let second = world
        .post_json("customers/retry", record.clone())
        .await
        .success_data();
    assert_eq!(callback("AUTH").await["process"], process(true, false));
    world.process_chunks().await;
    let failed = callback("AUTH").await;
    assert_eq!(
        (&failed["job"], &failed["outcome"]),
        (&second["job"], &json!("failed"))
    );
    for method in ["BALANCE", "TRANSACTIONS"] {
        let failed = callback(method).await;
        assert_eq!(failed["process"], process(false, true), "{failed}");
        assert_eq!(failed["reason"]["class"], "consent_refused", "{failed}");
        let last_fail = &failed["transactions"]["last_fail_at"];
        assert_eq!(*last_fail, text(world.environment.clock.now()), "{method}");
    }
    let balance = callback("BALANCE").await;
    assert_eq!(balance["transactions"]["last_success_at"], text(ended));
    let shown = job(&second["job"]).await;
    let reason = &shown["reason"];
    assert_eq!(
        (&reason["class"], &reason["needs_user"]),
        (&json!("consent_refused"), &json!(true))
    );
    assert!(
        reason["message"].as_str().unwrap().contains("re-authorise"),
        "{reason}"
    );
    // The first one's place was taken.
    let gone = world
        .post_json("jobs/get", json!({ "job": first["job"] }))
        .await;
    gone.expect_error(StatusCode::NOT_FOUND);
    for strange in [
        "on-demand-",
        "on-demand-zz",
        "é",
        &format!("on-demand-{}-x", linked.record_id()),
    ] {
        let answer = world.post_json("jobs/get", json!({ "job": strange })).await;
        answer.expect_error(StatusCode::NOT_FOUND);
    }
}

/// A worker that crashed is not waited for for ever.
#[tokio::test]
async fn a_refresh_that_nobody_hears_of_again_is_lost() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let record = json!({ "record_id": linked.record_id() });
    let asked = world
        .post_json("balance/refresh", record)
        .await
        .success_data();
    world.take_chunks().await;
    advance_clock(&world, 121);
    let shown = world
        .post_json("jobs/get", json!({ "job": asked["job"] }))
        .await
        .success_data();
    assert_eq!(
        (&shown["state"], &shown["outcome"]),
        (&json!("lost"), &Value::Null)
    );
    let body = json!({ "record": linked.record_id(), "method": "BALANCE" });
    let status = world.post_json("callback", body).await.success_data()["status"].clone();
    assert_eq!(
        status["process"],
        json!({ "running": false, "completed": true })
    );
}

/// Who waits for a refresh that fails is told why, and when to ask again.
#[tokio::test]
async fn who_waits_is_told_why_it_failed() {
    let (world, linked) = world_with_limits(|_| {}).await;
    let login = world.bank.list_logins().remove(0).id;
    // One product alone: what was had of the other is told.
    let faults = Faults {
        rate_limit: Some(RateLimitFault {
            calls: 9,
            retry_after_s: Some(90),
        }),
        resource: Some(SandboxResource::Transactions),
        ..Faults::default()
    };
    world
        .bank
        .set_faults(FaultTarget::Login(login), faults)
        .unwrap();
    let answer = refresh_and_wait(&world, &linked, "customers/retry").await;
    assert_eq!(answer["outcome"], "failed", "{answer}");
    assert_eq!(answer["reason"]["class"], "rate_limited");
    assert_eq!(answer["reason"]["needs_user"], false);
    let again = world.environment.clock.now() + SignedDuration::from_secs(90);
    assert_eq!(parse_next_refresh_at(&answer), again);
    assert_eq!(answer["balances"].as_array().unwrap().len(), 1, "{answer}");
    let answer = refresh_and_wait(&world, &linked, "balance/refresh").await;
    assert_eq!(
        (&answer["outcome"], answer.get("reason")),
        (&json!("unchanged"), None)
    );

    world
        .bank
        .set_faults(FaultTarget::Login(login), Faults::default())
        .unwrap();
    world
        .bank
        .set_consent(login, ConsentState::Revoked)
        .unwrap();
    let answer = refresh_and_wait(&world, &linked, "balance/refresh").await;
    assert_eq!(answer["outcome"], "failed", "{answer}");
    assert_eq!(answer["reason"]["class"], "consent_refused");
    assert_eq!(answer["reason"]["needs_user"], true);
    assert_eq!(answer.get("balances"), None);
}
