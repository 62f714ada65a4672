//! A bank that is down: its circuit opens, it is probed by one record at a time, and every record reports it.

use okra_core::{
    model::{fault::FaultClass, interval::Interval, snapshot::Product},
    resilience::bank_breaker::{BankStatus, OPEN_AFTER_FAILURES},
    sync::state::{Availability, ProductChange, StateChange},
};
use okra_refresh::RefreshOutcome;
use okra_sandbox::{FaultTarget, Faults, Outage, Volume};
use okra_store::Consistency;

use crate::{
    check_laws, state_changes,
    world::{LinkedRecord, RefreshWorld, TEST_BANK},
};

/// More records than are fetched at once and open the circuit.
const RECORDS: usize = 60;

async fn world_with_many_records() -> (RefreshWorld, Vec<LinkedRecord>) {
    let world = RefreshWorld::new().await;
    let mut all = Vec::new();
    for _ in 0..RECORDS {
        all.push(
            world
                .link_on_interval(Interval::OneMinute, 1, Volume::Low)
                .await,
        );
    }
    assert_eq!(world.refresh_all_records().await.changed, RECORDS);
    (world, all)
}

fn set_bank_outage(world: &RefreshWorld, outage: Option<Outage>) {
    let faults = Faults {
        outage,
        ..Faults::default()
    };
    world.bank.set_faults(FaultTarget::Bank, faults).unwrap();
}

async fn breaker_status(world: &RefreshWorld) -> BankStatus {
    let breaker = world
        .store
        .find_bank_breaker(TEST_BANK, Consistency::Strong)
        .await;
    breaker.unwrap().unwrap_or_default().bank_status()
}

async fn count_calls(world: &RefreshWorld, work: impl Future<Output = ()>) -> u64 {
    let before = world.bank.call_count();
    work.await;
    world.bank.call_count() - before
}

#[tokio::test]
async fn a_bank_that_is_down_is_probed_once_and_every_record_reports_it() {
    let (world, all) = world_with_many_records().await;
    set_bank_outage(&world, Some(Outage::Unavailable));
    let made = count_calls(&world, async {
        assert_eq!(world.refresh_all_records().await.failed, RECORDS);
    });
    let made = made.await;
    // Those that were under way when it opened are not called back.
    assert!(made < 2 * RECORDS as u64, "{made}");
    assert_eq!(breaker_status(&world).await, BankStatus::Down);

    // The second refresh calls nobody and tells everybody.
    let made = count_calls(&world, async {
        assert_eq!(world.refresh_all_records().await.failed, RECORDS);
    });
    assert_eq!(made.await, 0);
    for linked in &all {
        let reported = state_changes(&world.load_feed(linked).await);
        let reported: Vec<_> = reported.into_iter().map(|(_, change)| change).collect();
        let unavailable = |product| {
            StateChange::Product(ProductChange {
                product,
                availability: Availability::Unavailable,
                class: Some(FaultClass::BankUnavailable),
            })
        };
        assert_eq!(reported, Product::ALL.map(unavailable));
    }

    // A third writes nothing, and a tick leaves them all out.
    let before = world.store.capacity_used().write_units;
    let made = count_calls(&world, async {
        assert_eq!(world.refresh_all_records().await.failed, RECORDS);
    });
    assert_eq!(made.await, 0);
    assert!((world.store.capacity_used().write_units - before).abs() < f64::EPSILON);

    // The probe that is due finds it down: one record's calls, and the next waits longer.
    world.advance_clock(40);
    let made = count_calls(&world, async {
        assert_eq!(world.refresh_all_records().await.failed, RECORDS);
    });
    assert_eq!(made.await, 2, "one record's balance and transactions");
    let breaker = world
        .store
        .find_bank_breaker(TEST_BANK, Consistency::Strong)
        .await;
    let wait = breaker.unwrap().unwrap().next_probe_at().unwrap() - world.clock.now();
    assert!((48..=72).contains(&wait.as_secs()), "{wait}");
    let report = world.run_tick(Interval::OneMinute, 0).await;
    assert_eq!((report.due, report.chunks), (RECORDS, 0));

    // It is back: the probe closes the circuit, and the chunk that made it goes on with the rest.
    set_bank_outage(&world, None);
    world.advance_clock(80);
    assert_eq!(world.refresh_all_records().await.failed, 0);
    assert_eq!(breaker_status(&world).await, BankStatus::Healthy);
    for linked in &all {
        assert_eq!(
            state_changes(&world.load_feed(linked).await).len(),
            4,
            "reported and recovered"
        );
        assert_eq!(
            world.refresh_record(linked).await,
            RefreshOutcome::Unchanged
        );
        check_laws(&world, linked).await;
    }
}

/// Records that come one by one open it too, and one that is answered between begins the count anew.
#[tokio::test]
async fn refreshes_that_fail_one_by_one_open_the_circuit() {
    let (world, all) = world_with_many_records().await;
    let outage = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    let first = FaultTarget::Login(all[0].login);
    world.bank.set_faults(first, outage).unwrap();
    for _ in 1..OPEN_AFTER_FAILURES {
        assert_eq!(world.refresh_record(&all[0]).await, RefreshOutcome::Failed);
        assert_eq!(breaker_status(&world).await, BankStatus::Degraded);
    }
    assert_eq!(
        world.refresh_record(&all[1]).await,
        RefreshOutcome::Unchanged
    );
    assert_eq!(breaker_status(&world).await, BankStatus::Healthy);
    for _ in 0..OPEN_AFTER_FAILURES {
        assert_eq!(world.refresh_record(&all[0]).await, RefreshOutcome::Failed);
    }
    assert_eq!(breaker_status(&world).await, BankStatus::Down);
    // Another record's refresh is the probe; one at a time.
    assert_eq!(
        world.refresh_record(&all[1]).await,
        RefreshOutcome::Failed,
        "not called"
    );
    world.advance_clock(40);
    assert_eq!(
        world.refresh_record(&all[1]).await,
        RefreshOutcome::Unchanged
    );
    assert_eq!(breaker_status(&world).await, BankStatus::Healthy);
}

/// A bank that answers is up: a rejection, a spent quota and a malformed answer of one record open nothing.
#[tokio::test]
async fn faults_that_are_answers_open_nothing() {
    let (world, all) = world_with_many_records().await;
    let faults = Faults {
        rate_limit: Some(okra_sandbox::RateLimitFault {
            calls: 1_000,
            retry_after_s: Some(1),
        }),
        ..Faults::default()
    };
    world.bank.set_faults(FaultTarget::Bank, faults).unwrap();
    let before = world.store.capacity_used().write_units;
    assert_eq!(world.refresh_all_records().await.failed, RECORDS);
    assert!(
        world.store.capacity_used().write_units > before,
        "each is reported"
    );
    assert_eq!(breaker_status(&world).await, BankStatus::Healthy);
    let breaker = world
        .store
        .find_bank_breaker(TEST_BANK, Consistency::Strong)
        .await;
    assert_eq!(
        breaker.unwrap(),
        None,
        "and nothing was written of the bank"
    );
    assert!(!all.is_empty());
}
