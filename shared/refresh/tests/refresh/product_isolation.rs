//! A product that fails is suspended by itself, and a drift of balance and transactions is reported.

use okra_core::{
    model::{
        money::Money,
        snapshot::{BookingStatus, Product, utc_date},
    },
    sync::{
        drift::{TieOut, TieOutCheck},
        state::{Availability, StateChange},
    },
};
use okra_refresh::{DispatchedChanges, RefreshOutcome};
use okra_sandbox::{Faults, MalformedFault, SandboxResource, Volume};
use okra_store::{AccountChecks, Consistency};

use crate::{
    check_laws, new_debit, state_changes,
    world::{LinkedRecord, RefreshWorld},
};

/// Half an hour in which the good half of a record has something new each minute, and is refreshed: how often the
/// bad half was fetched, which takes as many `calls` as the good one.
async fn count_faulty_half_requests(
    world: &RefreshWorld,
    linked: &LinkedRecord,
    good_account: &str,
    calls_per_half: u64,
    count_new: impl Fn(&DispatchedChanges) -> usize,
) -> u32 {
    let mut failing_fetches = 0;
    for minute in 0..32 {
        let row = new_debit("1.00", &format!("ROW {minute}"), BookingStatus::Booked);
        world
            .bank
            .add_row(linked.sandbox_account(good_account), row)
            .unwrap();
        let before = world.bank.call_count();
        let RefreshOutcome::Changed(changes) = world.refresh_record(linked).await else {
            panic!("minute {minute}: the good half waits")
        };
        assert_eq!(count_new(&changes), 1, "minute {minute}");
        let made = world.bank.call_count() - before;
        assert!(
            made == calls_per_half || made == 2 * calls_per_half,
            "{made}"
        );
        failing_fetches += u32::from(made == 2 * calls_per_half);
        world.advance_clock(59);
    }
    failing_fetches
}

/// Law 7: an account whose answer is malformed is suspended for a while, and the record's other account is
/// refreshed at each turn all the same.
#[tokio::test]
async fn a_malformed_account_delays_no_other() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(2, Volume::Low).await;
    world.refresh_record(&linked).await;
    let [(bad, at_bank), (_, good)] = <[_; 2]>::try_from(linked.account_ids()).unwrap();
    let faults = Faults {
        malformed: Some(MalformedFault::Truncated),
        account: Some(at_bank),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    // Two calls for the good account, and two more where the other's time has come.
    let failing_fetches =
        count_faulty_half_requests(&world, &linked, &good, 2, |changes| changes.added).await;
    assert_eq!(failing_fetches, 5, "after 1, 2, 4, 8 and 16 minutes");
    let stored = world.store.find_account(bad).await.unwrap().unwrap();
    for product in Product::ALL {
        let state = stored.product_states.get(product).unwrap();
        assert_eq!(state.availability, Availability::Failed);
    }
    let reported = state_changes(&world.load_feed(&linked).await);
    assert_eq!(
        reported.len(),
        2,
        "each product of one account, once: {reported:?}"
    );

    world.set_login_faults(&linked, Faults::default());
    world.advance_clock(3600);
    world.refresh_record(&linked).await;
    let stored = world.store.find_account(bad).await.unwrap().unwrap();
    assert!(
        stored
            .product_states
            .iter()
            .all(|(_, state)| state.is_available())
    );
    check_laws(&world, &linked).await;
}

/// The other product of the same account neither waits nor ends the wait.
#[tokio::test]
async fn a_malformed_product_is_suspended_while_the_other_is_refreshed() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (account, at_bank) = linked.account_ids().remove(0);
    let faults = Faults {
        malformed: Some(MalformedFault::Truncated),
        resource: Some(SandboxResource::Transactions),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    let failing_fetches =
        count_faulty_half_requests(&world, &linked, &at_bank, 1, |changes| changes.balances).await;
    assert_eq!(failing_fetches, 5, "after 1, 2, 4, 8 and 16 minutes");
    let stored = world.store.find_account(account).await.unwrap().unwrap();
    let of = |product| {
        stored
            .product_states
            .get(product)
            .is_none_or(okra_core::sync::state::ProductState::is_available)
    };
    assert!(of(Product::Balance) && !of(Product::Transactions));
}

/// A drift is reported when it appears and when it ends, each once, whatever crashes between.
#[tokio::test]
async fn a_drift_is_reported_when_it_appears_and_when_it_ends() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (account, at_bank) = linked.account_ids().remove(0);
    let reported = async || {
        let feed = world.load_feed(&linked).await;
        let drifts = state_changes(&feed)
            .into_iter()
            .filter_map(|(_, change)| match change {
                StateChange::Drift { drift } => Some(drift),
                _ => None,
            });
        drifts.collect::<Vec<_>>()
    };
    let row = |text: &str| {
        let row = new_debit("2.00", text, BookingStatus::Booked);
        world
            .bank
            .add_row(linked.sandbox_account(&at_bank), row)
            .unwrap();
    };
    row("FIRST");
    world.refresh_record(&linked).await;
    assert_eq!(reported().await, []);

    // What was on the account before its window is said to have been 5.00 less: no row explains them.
    let shift = async |minor: i64| {
        let stored = world.store.find_account(account).await.unwrap().unwrap();
        let (from, opening) = stored.checks.tie_out.unwrap().opening.unwrap();
        assert!(from <= utc_date(world.clock.now()));
        let opening = Money::new(opening.minor + minor, opening.currency);
        let checks = AccountChecks {
            tie_out: Some(TieOut {
                opening: Some((from, opening)),
                ..stored.checks.tie_out.unwrap()
            }),
            ..stored.checks
        };
        world
            .store
            .set_account_checks(account, &checks)
            .await
            .unwrap();
    };
    shift(-500).await;
    row("SECOND");
    // The crash is after the checks are stored and the change is committed, and before it is dispatched.
    world.break_effect("dispatch");
    assert!(world.try_refresh(&linked).await.is_err());
    world.restore_effects();
    row("THIRD");
    world.redeliver_record(&linked).await;
    row("FOURTH");
    world.refresh_record(&linked).await;
    let drifts = reported().await;
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    let drift = drifts[0].unwrap();
    assert_eq!(
        (drift.amount.minor, drift.check),
        (500, TieOutCheck::Movement)
    );
    assert!(
        world
            .store
            .find_account(account)
            .await
            .unwrap()
            .unwrap()
            .is_drift_reported
    );

    // Where balances are on another interval than transactions, they tie out all the same.
    shift(500).await;
    row("FIFTH");
    world.refresh_transactions(&linked).await;
    row("SIXTH");
    world.refresh_transactions(&linked).await;
    let drifts = reported().await;
    assert_eq!((drifts.len(), drifts[1]), (2, None));
    assert!(
        !world
            .store
            .find_account(account)
            .await
            .unwrap()
            .unwrap()
            .is_drift_reported
    );
    let entry = world
        .store
        .find_due_entry(linked.key, Consistency::Strong)
        .await;
    assert_eq!(
        entry.unwrap().unwrap().watermarks,
        world.load_head(&linked).await.watermarks
    );
    check_laws(&world, &linked).await;
}
