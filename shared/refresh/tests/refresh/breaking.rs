//! A bank that is down: its circuit opens, one probe at a time asks whether it is back, and every record
//! is told.

use okra_core::{
    breaker::{BankStatus, OPEN_AFTER},
    fault::FaultClass,
    model::Product,
    schedule::Interval,
    state::{Availability, ProductChange, StateChange},
};
use okra_refresh::Outcome;
use okra_sandbox::{Faults, Outage, Target, Volume};
use okra_store::Consistency;

use crate::{
    check_laws, states,
    world::{BANK, Linked, World},
};

/// More records than are asked for at once and open the circuit.
const RECORDS: usize = 60;

async fn world_of_many() -> (World, Vec<Linked>) {
    let world = World::new().await;
    let mut all = Vec::new();
    for _ in 0..RECORDS {
        all.push(world.link_on(Interval::OneMinute, 1, Volume::Low).await);
    }
    assert_eq!(world.refresh_all().await.changed, RECORDS);
    (world, all)
}

fn break_bank(world: &World, outage: Option<Outage>) {
    let faults = Faults {
        outage,
        ..Faults::default()
    };
    world.bank.set_faults(Target::Bank, faults).unwrap();
}

async fn status(world: &World) -> BankStatus {
    let breaker = world.store.breaker(BANK, Consistency::Strong).await;
    breaker.unwrap().unwrap_or_default().status()
}

async fn calls(world: &World, work: impl Future<Output = ()>) -> u64 {
    let before = world.bank.calls();
    work.await;
    world.bank.calls() - before
}

#[tokio::test]
async fn a_bank_that_is_down_is_asked_by_one_probe_and_every_record_is_told() {
    let (world, all) = world_of_many().await;
    break_bank(&world, Some(Outage::Unavailable));
    let made = calls(&world, async {
        assert_eq!(world.refresh_all().await.failed, RECORDS);
    });
    let made = made.await;
    // Those that were under way when it opened are not called back.
    assert!(made < 2 * RECORDS as u64, "{made}");
    assert_eq!(status(&world).await, BankStatus::Down);

    // The second refresh calls nobody and tells everybody.
    let made = calls(&world, async {
        assert_eq!(world.refresh_all().await.failed, RECORDS);
    });
    assert_eq!(made.await, 0);
    for linked in &all {
        let told = states(&world.feed(linked).await);
        let told: Vec<_> = told.into_iter().map(|(_, change)| change).collect();
        let unavailable = |product| {
            StateChange::Product(ProductChange {
                product,
                availability: Availability::Unavailable,
                class: Some(FaultClass::BankUnavailable),
            })
        };
        assert_eq!(told, Product::ALL.map(unavailable));
    }

    // A third writes nothing, and a tick leaves them all out.
    let before = world.store.capacity().write_units;
    let made = calls(&world, async {
        assert_eq!(world.refresh_all().await.failed, RECORDS);
    });
    assert_eq!(made.await, 0);
    assert!((world.store.capacity().write_units - before).abs() < f64::EPSILON);

    // The probe that is due finds it down: one record's calls, and the next waits longer.
    world.pass(40);
    let made = calls(&world, async {
        assert_eq!(world.refresh_all().await.failed, RECORDS);
    });
    assert_eq!(made.await, 2, "one record's balance and transactions");
    let breaker = world.store.breaker(BANK, Consistency::Strong).await;
    let wait = breaker.unwrap().unwrap().probe_at().unwrap() - world.clock.now();
    assert!((48..=72).contains(&wait.as_secs()), "{wait}");
    let report = world.tick(Interval::OneMinute, 0).await;
    assert_eq!((report.due, report.chunks), (RECORDS, 0));

    // It is back: the probe closes the circuit, and the chunk that made it goes on with the rest.
    break_bank(&world, None);
    world.pass(80);
    assert_eq!(world.refresh_all().await.failed, 0);
    assert_eq!(status(&world).await, BankStatus::Healthy);
    for linked in &all {
        assert_eq!(
            states(&world.feed(linked).await).len(),
            4,
            "told and taken back"
        );
        assert_eq!(world.refresh(linked).await, Outcome::Unchanged);
        check_laws(&world, linked).await;
    }
}

/// Records that come one by one open it too, and one that is answered between begins the count anew.
#[tokio::test]
async fn refreshes_that_fail_one_by_one_open_the_circuit() {
    let (world, all) = world_of_many().await;
    let outage = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    let first = Target::Login(all[0].login);
    world.bank.set_faults(first, outage).unwrap();
    for _ in 1..OPEN_AFTER {
        assert_eq!(world.refresh(&all[0]).await, Outcome::Failed);
        assert_eq!(status(&world).await, BankStatus::Degraded);
    }
    assert_eq!(world.refresh(&all[1]).await, Outcome::Unchanged);
    assert_eq!(status(&world).await, BankStatus::Healthy);
    for _ in 0..OPEN_AFTER {
        assert_eq!(world.refresh(&all[0]).await, Outcome::Failed);
    }
    assert_eq!(status(&world).await, BankStatus::Down);
    // Another record's refresh is the probe; one at a time.
    assert_eq!(world.refresh(&all[1]).await, Outcome::Failed, "not asked");
    world.pass(40);
    assert_eq!(world.refresh(&all[1]).await, Outcome::Unchanged);
    assert_eq!(status(&world).await, BankStatus::Healthy);
}

/// What the bank answers, it answers: a refusal, a spent quota and nonsense of one record open nothing.
#[tokio::test]
async fn faults_that_are_answers_open_nothing() {
    let (world, all) = world_of_many().await;
    let faults = Faults {
        rate_limit: Some(okra_sandbox::RateLimit {
            calls: 1_000,
            retry_after_s: Some(1),
        }),
        ..Faults::default()
    };
    world.bank.set_faults(Target::Bank, faults).unwrap();
    let before = world.store.capacity().write_units;
    assert_eq!(world.refresh_all().await.failed, RECORDS);
    assert!(world.store.capacity().write_units > before, "each is told");
    assert_eq!(status(&world).await, BankStatus::Healthy);
    let breaker = world.store.breaker(BANK, Consistency::Strong).await;
    assert_eq!(
        breaker.unwrap(),
        None,
        "and nothing was written of the bank"
    );
    assert!(!all.is_empty());
}
