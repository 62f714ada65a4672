//! Refreshes end to end: a sandbox bank over real HTTP, the embedded DynamoDB and SQS, the real code.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod backfills;
mod circuit_breaker;
mod deletions;
mod product_isolation;
mod requeues;
mod tick_isolation;
mod tokens;
mod world;

use okra_core::{
    model::{
        fault::FaultClass,
        ids::Seq,
        interval::Interval,
        snapshot::{BookingStatus, Direction, Product},
    },
    sync::{
        diff::ProjectedAccount,
        feed::{Change, FeedStream, FetchKind, MatchConfidence},
        state::{Availability, ProductChange, ReauthorisationReason, StateChange},
    },
};
use okra_refresh::RefreshOutcome;
use okra_sandbox::{
    BookingDetails, ConsentState, FaultTarget, Faults, NewTransaction, Outage, RowAmendment, Volume,
};
use okra_store::{Consistency, RecordStatus};

use self::world::{LinkedRecord, RefreshWorld, TEST_BANK};

fn new_debit(amount: &str, text: &str, status: BookingStatus) -> NewTransaction {
    NewTransaction {
        direction: Direction::Debit,
        amount: amount.to_owned(),
        text: text.to_owned(),
        status,
        booking_time: None,
        id: None,
    }
}

/// Law 1: replaying the feed from 0 gives what the bank shows, and so does the stored state. Law 2:
/// its numbers are dense.
async fn check_laws(world: &RefreshWorld, linked: &LinkedRecord) {
    let since = okra_core::sync::decide::window_start(okra_core::model::snapshot::utc_date(
        world.clock.now(),
    ));
    check_laws_since(world, linked, since).await;
}

/// [`check_laws`] of all rows from a date on.
async fn check_laws_since(world: &RefreshWorld, linked: &LinkedRecord, since: jiff::civil::Date) {
    let feed = world.load_feed(linked).await;
    let numbers: Vec<u64> = feed.iter().map(|entry| entry.seq.0).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "dense"
    );
    let mut rows = 0;
    for (account, bank_account) in linked.account_ids() {
        let mut view = ProjectedAccount::default();
        for entry in feed.iter().filter(|entry| entry.account == Some(account)) {
            view.apply_change(&entry.change);
        }
        let mut replayed: Vec<_> = view
            .transactions
            .values()
            .map(|row| {
                (
                    row.bank_id.clone(),
                    row.signed_minor(),
                    row.status,
                    row.description.clone(),
                )
            })
            .collect();
        replayed.sort();
        assert_eq!(
            replayed,
            world.bank_rows_since(linked, &bank_account, since),
            "the feed"
        );

        let stored = world.load_transactions(account).await;
        rows += stored.len() as u64;
        let replayed: Vec<_> = view.transactions.into_iter().collect();
        assert_eq!(stored, replayed, "the projection");
        let stored = world.store.find_account(account).await.unwrap().unwrap();
        assert_eq!(stored.balance, view.balance, "the balance");
    }
    let head = world
        .store
        .find_head(linked.key.record, Consistency::Strong)
        .await;
    assert_eq!(
        head.unwrap().unwrap().transaction_count,
        Some(rows),
        "the count"
    );
}

#[tokio::test]
async fn the_first_refresh_fetches_everything_and_the_second_writes_nothing() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(2, Volume::Medium).await;
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing changed")
    };
    assert_eq!(changes.balances, 2);
    assert!(changes.added > 100, "{changes:?}");
    check_laws(&world, &linked).await;
    for entry in world.load_feed(&linked).await {
        if let Change::Transactions(diff) = entry.change {
            assert_eq!(diff.fetch_kind, FetchKind::Initial);
        }
    }

    let before = world.store.capacity_used();
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    // The strong read, which on-demand refreshes take too.
    assert_eq!(
        world.redeliver_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    let after = world.store.capacity_used();
    assert!(
        (after.write_units - before.write_units).abs() < f64::EPSILON,
        "law 4"
    );
    assert!(world.take_dispatches().await.len() <= 2);
}

#[tokio::test]
async fn a_pending_payment_that_is_booked_under_a_new_id_stays_one_transaction() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (account, bank_account) = linked.account_ids().remove(0);
    let row = world
        .bank
        .add_row(
            linked.sandbox_account(&bank_account),
            new_debit("5000.00", "POS SHOPRITE IKEJA", BookingStatus::Pending),
        )
        .unwrap();
    world.refresh_record(&linked).await;
    let pending: Vec<_> = world.load_transactions(account).await;
    let (id, _) = pending
        .iter()
        .find(|(_, facts)| facts.description.contains("SHOPRITE IKEJA"))
        .expect("the pending payment is stored")
        .clone();

    let book = BookingDetails {
        drift: 500,
        booking_time: None,
        id: None,
    };
    world
        .bank
        .book_row(linked.sandbox_account(&bank_account), row.row, book)
        .unwrap();
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing changed")
    };
    assert_eq!(
        (changes.added, changes.modified, changes.removed),
        (0, 1, 0)
    );
    let stored = world
        .store
        .find_transaction(id)
        .await
        .unwrap()
        .expect("the same id");
    assert_eq!(stored.transaction.facts.status, BookingStatus::Booked);
    let last = world.load_feed(&linked).await.pop().unwrap();
    let Change::Transactions(diff) = last.change else {
        panic!("no transactions")
    };
    assert_eq!(diff.modified[0].confidence, MatchConfidence::Medium);
    check_laws(&world, &linked).await;
}

#[tokio::test]
async fn edits_removals_and_back_dated_rows_are_found() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (_, account) = linked.account_ids().remove(0);
    let add = |text: &str| {
        world
            .bank
            .add_row(
                linked.sandbox_account(&account),
                new_debit("10.50", text, BookingStatus::Booked),
            )
            .unwrap()
    };
    let (kept, gone) = (add("KEPT"), add("GONE"));
    world.refresh_record(&linked).await;
    let amend = RowAmendment {
        text: Some("EDITED".into()),
        amount: None,
        id: None,
    };
    world
        .bank
        .amend_row(linked.sandbox_account(&account), kept.row, amend)
        .unwrap();
    world
        .bank
        .remove_row(linked.sandbox_account(&account), gone.row)
        .unwrap();
    let back_dated = NewTransaction {
        booking_time: Some(world.clock.now() - jiff::SignedDuration::from_hours(24 * 9)),
        ..new_debit("7.00", "BACK DATED", BookingStatus::Booked)
    };
    world
        .bank
        .add_row(linked.sandbox_account(&account), back_dated)
        .unwrap();
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing changed")
    };
    assert_eq!(
        (changes.added, changes.modified, changes.removed),
        (1, 1, 1)
    );
    check_laws(&world, &linked).await;
}

#[tokio::test]
async fn a_crash_after_the_commit_is_repaired_by_the_next_refresh() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world.take_dispatches().await;
    let (_, account) = linked.account_ids().remove(0);
    for effect in ["project", "dispatch", "advance"] {
        world
            .bank
            .add_row(
                linked.sandbox_account(&account),
                new_debit("3.00", effect, BookingStatus::Booked),
            )
            .unwrap();
        world.break_effect(effect);
        assert!(world.try_refresh(&linked).await.is_err(), "{effect} fails");
        world.restore_effects();
        let committed = world.load_head(&linked).await.seq;
        let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
            panic!("{effect}: nothing was repaired")
        };
        assert_eq!(
            changes.last_seq, committed,
            "{effect}: nothing is committed twice"
        );
        check_laws(&world, &linked).await;
        let reported = world.take_dispatches().await;
        for product in Product::ALL {
            assert!(
                reported
                    .iter()
                    .any(|dispatch| dispatch.stream == FeedStream::from(product)),
                "{effect}: {reported:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_change_hidden_by_a_crash_and_a_flip_back_is_found_by_a_redelivery() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (_, account) = linked.account_ids().remove(0);
    let row = world
        .bank
        .add_row(
            linked.sandbox_account(&account),
            new_debit("3.00", "B", BookingStatus::Booked),
        )
        .unwrap();
    world.break_effect("project");
    assert!(world.try_refresh(&linked).await.is_err());
    world.restore_effects();
    world
        .bank
        .remove_row(linked.sandbox_account(&account), row.row)
        .unwrap();
    let outcome = world.redeliver_record(&linked).await;
    assert!(matches!(outcome, RefreshOutcome::Changed(_)), "{outcome:?}");
    check_laws(&world, &linked).await;
}

#[tokio::test]
async fn one_product_that_fails_leaves_the_other_fresh() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (_, account) = linked.account_ids().remove(0);
    world
        .bank
        .add_row(
            linked.sandbox_account(&account),
            new_debit("3.00", "LATER", BookingStatus::Booked),
        )
        .unwrap();
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        resource: Some(okra_sandbox::SandboxResource::Balances),
        ..Faults::default()
    };
    world
        .bank
        .set_faults(FaultTarget::Login(linked.login), faults)
        .unwrap();
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing changed")
    };
    assert_eq!((changes.balances, changes.added), (0, 1));
    world
        .bank
        .set_faults(FaultTarget::Login(linked.login), Faults::default())
        .unwrap();
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing changed")
    };
    assert_eq!((changes.balances, changes.added), (1, 0));
    check_laws(&world, &linked).await;
}

#[tokio::test]
async fn a_rejected_consent_requires_the_user_and_an_answer_recovers_the_record() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world
        .bank
        .set_consent(linked.login, ConsentState::Expired)
        .unwrap();
    assert_eq!(world.refresh_record(&linked).await, RefreshOutcome::Failed);
    assert_eq!(
        world.load_head(&linked).await.status,
        RecordStatus::ReauthorisationRequired
    );
    world
        .bank
        .set_consent(linked.login, ConsentState::Active)
        .unwrap();
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Deferred
    );
    world.advance_clock(90);
    world.refresh_record(&linked).await;
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);

    // An outage is nobody's to act on.
    let outage = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    world.bank.set_faults(FaultTarget::Bank, outage).unwrap();
    assert_eq!(world.refresh_record(&linked).await, RefreshOutcome::Failed);
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
}

fn state_changes(feed: &[okra_core::sync::feed::FeedEntry]) -> Vec<(Seq, StateChange)> {
    feed.iter()
        .filter_map(|entry| match &entry.change {
            Change::State(change) => Some((entry.seq, change.clone())),
            Change::Balance { .. } | Change::Transactions(_) => None,
        })
        .collect()
}

/// A change of state is committed, dispatched and repaired like any other, also where the bank reads as
/// before by the time it is repaired.
#[tokio::test]
async fn a_change_of_state_is_dispatched_whatever_crashes() {
    for effect in ["dispatch", "advance"] {
        let world = RefreshWorld::new().await;
        let linked = world.link_record(1, Volume::Low).await;
        world.refresh_record(&linked).await;
        world.take_dispatches().await;
        let expired = ConsentState::Expired;
        world.bank.set_consent(linked.login, expired).unwrap();
        world.break_effect(effect);
        assert!(world.try_refresh(&linked).await.is_err(), "{effect} fails");
        world.restore_effects();
        world
            .bank
            .set_consent(linked.login, ConsentState::Active)
            .unwrap();
        world.refresh_record(&linked).await;
        let head = world.load_head(&linked).await;
        assert_eq!(head.status, RecordStatus::Active, "{effect}");
        let reported = state_changes(&world.load_feed(&linked).await);
        let changes: Vec<_> = reported.iter().map(|(_, change)| change.clone()).collect();
        let required = StateChange::ReauthorisationRequired {
            reason: ReauthorisationReason::ConsentRejected,
        };
        assert_eq!(changes, [required, StateChange::Recovered], "{effect}");
        let (first, last) = (reported[0].0, reported[1].0);
        let dispatched = world.take_dispatches().await;
        let covered = |seq| {
            let mut states = dispatched
                .iter()
                .filter(|it| it.stream == FeedStream::State);
            states.any(|it| it.first_seq <= seq && seq <= it.last_seq)
        };
        assert!(covered(first) && covered(last), "{effect}: {dispatched:?}");
        let entry = world
            .store
            .find_due_entry(linked.key, Consistency::Strong)
            .await;
        assert_eq!(entry.unwrap().unwrap().state_seq, Some(last), "{effect}");
        assert_eq!(
            world.refresh_record(&linked).await,
            RefreshOutcome::Unchanged
        );
        check_laws(&world, &linked).await;
    }
}

/// Law 7 and 8: what fails is recorded for its account and product once it lasts, is not written again
/// while it fails the same, and is taken back by the first good answer.
#[tokio::test]
async fn a_product_that_keeps_failing_is_reported_once_and_recovers() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (account, _) = linked.account_ids().remove(0);
    let reported = async || {
        let feed = world.load_feed(&linked).await;
        state_changes(&feed)
            .into_iter()
            .map(|(_, change)| change)
            .collect::<Vec<_>>()
    };
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        resource: Some(okra_sandbox::SandboxResource::Balances),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    world.refresh_record(&linked).await;
    assert_eq!(reported().await, [], "a single failure is not reported");
    world.refresh_record(&linked).await;
    let unavailable = StateChange::Product(ProductChange {
        product: Product::Balance,
        availability: Availability::Unavailable,
        class: Some(FaultClass::BankUnavailable),
    });
    assert_eq!(reported().await, std::slice::from_ref(&unavailable));
    let stored = world.store.find_account(account).await.unwrap().unwrap();
    let state = stored.product_states.balance.unwrap();
    assert_eq!(state.availability, Availability::Unavailable);
    assert_eq!(stored.product_states.transactions, None);

    let before = world.store.capacity_used().write_units;
    for _ in 0..5 {
        world.refresh_record(&linked).await;
    }
    let written = world.store.capacity_used().write_units - before;
    assert!(
        written.abs() < f64::EPSILON,
        "failing the same writes nothing: {written}"
    );

    world.set_login_faults(&linked, Faults::default());
    world.refresh_record(&linked).await;
    let available = StateChange::Product(ProductChange {
        product: Product::Balance,
        availability: Availability::Available,
        class: None,
    });
    assert_eq!(reported().await, [unavailable, available]);
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    check_laws(&world, &linked).await;
}

/// A bank whose answer is malformed is called again after a backoff that doubles; the last good state is kept,
/// and the first well-formed answer is accepted.
#[tokio::test]
async fn a_malformed_answer_is_retried_with_backoff_and_reported() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (account, _) = linked.account_ids().remove(0);
    let faults = Faults {
        malformed: Some(okra_sandbox::MalformedFault::Truncated),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    let rows = world.load_transactions(account).await;
    let mut fetches = 0;
    for _minute in 0..120 {
        if world.refresh_record(&linked).await != RefreshOutcome::Deferred {
            fetches += 1;
        }
        world.advance_clock(59);
    }
    assert_eq!(fetches, 7, "after 1, 2, 4, 8, 16, 32 and 64 minutes");
    let stored = world.store.find_account(account).await.unwrap().unwrap();
    for product in Product::ALL {
        let state = stored.product_states.get(product).unwrap();
        assert_eq!(state.availability, Availability::Failed);
        assert_eq!(state.class, Some(FaultClass::MalformedResponse));
    }
    assert_eq!(
        world.load_transactions(account).await,
        rows,
        "the last good state is kept"
    );
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);

    world.set_login_faults(&linked, Faults::default());
    world.advance_clock(6 * 3600);
    world.refresh_record(&linked).await;
    let stored = world.store.find_account(account).await.unwrap().unwrap();
    for product in Product::ALL {
        let state = stored.product_states.get(product).unwrap();
        assert_eq!(state.availability, Availability::Available);
    }
    check_laws(&world, &linked).await;
}

/// The consent clock: each notice once, in order, whatever days are missed; at the end the user is
/// needed and the bank is not called, until an answer to a refresh on demand shows otherwise.
#[tokio::test]
async fn the_end_of_a_consent_is_announced_before_it_comes() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world.take_dispatches().await;
    world.set_consent_end(&linked, 30).await;
    let reported = async || {
        let feed = world.load_feed(&linked).await;
        let changes = state_changes(&feed).into_iter();
        let days = changes.filter_map(|(_, change)| match change {
            StateChange::ConsentExpiring { days_before, .. } => Some(days_before),
            _ => None,
        });
        days.collect::<Vec<u8>>()
    };
    // Looked at on these days only: 14 and 7 days before the end are missed, and made up for.
    for (day, expected) in [
        (10, &[][..]),
        (15, &[]),
        (24, &[14, 7]),
        (25, &[14, 7]),
        (29, &[14, 7, 1]),
    ] {
        world.set_clock_to_day(day);
        world.refresh_record(&linked).await;
        world.refresh_record(&linked).await;
        assert_eq!(reported().await, expected, "day {day}");
    }
    let dispatched = world.take_dispatches().await;
    assert!(dispatched.iter().any(|it| it.stream == FeedStream::State));
    world.set_clock_to_day(31);
    let calls = world.bank.call_count();
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Deferred
    );
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Deferred
    );
    assert_eq!(
        world.bank.call_count(),
        calls,
        "an ended consent is not used"
    );
    let required = StateChange::ReauthorisationRequired {
        reason: ReauthorisationReason::ConsentExpired,
    };
    let last = |feed: &[okra_core::sync::feed::FeedEntry]| state_changes(feed).pop().unwrap().1;
    assert_eq!(last(&world.load_feed(&linked).await), required);
    let waits = RecordStatus::ReauthorisationRequired;
    assert_eq!(world.load_head(&linked).await.status, waits);

    world.refresh_on_demand(&linked).await;
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    world.refresh_record(&linked).await;
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    assert_eq!(
        last(&world.load_feed(&linked).await),
        StateChange::Recovered
    );
    // The window has slid since; what it left is kept.
    check_laws_since(&world, &linked, jiff::civil::date(2026, 2, 1)).await;
}

/// The tick of a bank that wants the user there asks it nothing, and still minds the end of a consent.
#[tokio::test]
async fn a_consent_expires_at_a_bank_that_requires_the_user_too() {
    let world = RefreshWorld::new().await;
    let linked = world
        .link_on_interval(Interval::OneMinute, 1, Volume::Low)
        .await;
    world.run_tick(Interval::OneMinute, 0).await;
    world.set_consent_end(&linked, 1).await;
    let mut bank = world.store.find_bank(TEST_BANK).await.unwrap().unwrap();
    bank.limits.user_present_only = true;
    world.store.put_bank(&bank).await.unwrap();
    world.set_clock_to_day(2);
    let calls = world.bank.call_count();
    let report = world.run_tick(Interval::OneMinute, 0).await;
    assert_eq!(report.inline.unwrap().deferred, 1);
    assert_eq!(world.bank.call_count(), calls);
    let status = world.load_head(&linked).await.status;
    assert_eq!(status, RecordStatus::ReauthorisationRequired);
}

#[tokio::test]
async fn two_refreshes_at_once_commit_each_change_once() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    let (_, account) = linked.account_ids().remove(0);
    for n in 0..5 {
        world.advance_one_second();
        let text = format!("PAYMENT {n}");
        world
            .bank
            .add_row(
                linked.sandbox_account(&account),
                new_debit("3.00", &text, BookingStatus::Booked),
            )
            .unwrap();
        let (a, b) = tokio::join!(world.try_refresh(&linked), world.try_refresh(&linked));
        a.unwrap();
        b.unwrap();
        check_laws(&world, &linked).await;
    }
    let added: usize = world
        .load_feed(&linked)
        .await
        .iter()
        .skip_while(|entry| entry.seq <= Seq(2))
        .map(|entry| match &entry.change {
            Change::Transactions(diff) => diff.added.len(),
            Change::Balance { .. } | Change::State(_) => 0,
        })
        .sum();
    assert_eq!(added, 5);
}

#[tokio::test]
async fn a_tick_refreshes_what_is_due_and_drops_what_is_stale() {
    let world = RefreshWorld::new().await;
    let linked = world
        .link_on_interval(Interval::OneMinute, 1, Volume::Low)
        .await;
    let report = world.run_tick(Interval::OneMinute, 0).await;
    assert_eq!(report.due, 1);
    assert_eq!(report.inline.unwrap().changed, 1);
    assert_eq!(world.run_tick(Interval::Daily, 0).await.due, 0);
    assert_eq!(
        world.run_tick(Interval::OneMinute, -120).await.due,
        0,
        "the minute is long past"
    );
    assert!(world.load_head(&linked).await.seq > Seq::ZERO);
    let entry = world
        .store
        .find_due_entry(linked.key, Consistency::Strong)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        entry.watermarks,
        world.load_head(&linked).await.watermarks,
        "dispatched = committed"
    );
}

/// The budget of an unchanged refresh: 0 write units, and at most 0.55 read units a record where none
/// is audited.
#[tokio::test]
async fn unchanged_refreshes_cost_half_a_unit_to_read_and_nothing_to_write() {
    let world = RefreshWorld::new().await;
    for _ in 0..50 {
        world
            .link_on_interval(Interval::OneMinute, 1, Volume::Low)
            .await;
    }
    assert_eq!(world.refresh_all_records().await.changed, 50);
    let before = world.store.capacity_used();
    assert_eq!(world.refresh_all_records().await.unchanged, 50);
    let after = world.store.capacity_used();
    assert!((after.write_units - before.write_units).abs() < f64::EPSILON);
    let read = after.read_units - before.read_units;
    // 16 lanes, at least half a unit each, are a fixed cost of the slot; audits read their record.
    let (audits, units_of_an_audit) = (5.0, 3.0);
    assert!(
        read <= 50.0 * 0.55 + 16.0 + audits * units_of_an_audit,
        "{read}"
    );
}

/// The budget of a changed refresh: three new transactions and the balance, in an account of 100 rows.
#[tokio::test]
async fn three_new_transactions_and_a_balance_cost_nine_units_to_write() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Medium).await;
    world.refresh_record(&linked).await;
    let (_, account) = linked.account_ids().remove(0);
    for n in 1..=3 {
        world.advance_one_second();
        let row = new_debit(
            &format!("{n}.00"),
            "NIP/UBA/ADAEZE OKONKWO/RENT",
            BookingStatus::Booked,
        );
        world
            .bank
            .add_row(linked.sandbox_account(&account), row)
            .unwrap();
    }
    let before = world.store.capacity_used();
    let outcome = world.refresh_record(&linked).await;
    let used = world.store.capacity_used() - before;
    assert!(matches!(outcome, RefreshOutcome::Changed(_)), "{outcome:?}");
    assert!(used.write_units <= 9.0, "{used:?}");
    // Half a unit of it is the consent, which an unchanged refresh reads too.
    assert!(used.read_units <= 10.5, "{used:?}");
}
