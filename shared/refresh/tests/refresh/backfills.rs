//! Backfills: fetched backwards in steps, whatever crashes and whatever the bank allows.

use jiff::civil::date;
use okra_core::{
    backfill::progress::BackfillProgress,
    sync::{
        feed::{Change, FeedEntry, FetchKind},
        state::{BackfillComplete, BackfillEnd, StateChange},
    },
};
use okra_refresh::{RefreshOutcome, backfill::BackfillStepOutcome};
use okra_sandbox::{ConsentState, Faults, MalformedFault, Volume};
use okra_store::{Consistency, RecordStatus};

use crate::{
    check_laws_since,
    world::{LinkedRecord, RefreshWorld},
};

/// Before everything that the sandbox bank has.
const BEFORE_ALL_ROWS: jiff::civil::Date = date(2020, 1, 1);

fn completed_backfills(feed: &[FeedEntry]) -> Vec<BackfillComplete> {
    feed.iter()
        .filter_map(|entry| match &entry.change {
            Change::State(StateChange::BackfillComplete(complete)) => Some(complete.clone()),
            _ => None,
        })
        .collect()
}

fn last_completed_progress(outcomes: &[BackfillStepOutcome]) -> BackfillProgress {
    let complete = outcomes.iter().rev().find_map(|outcome| match outcome {
        BackfillStepOutcome::Complete(progress) => Some(*progress),
        _ => None,
    });
    complete.unwrap()
}

async fn check_settled(world: &RefreshWorld, linked: &LinkedRecord) {
    let seq = world.load_head(linked).await.seq;
    while world.refresh_record(linked).await != RefreshOutcome::Unchanged {}
    assert_eq!(world.load_head(linked).await.seq, seq, "nothing is removed");
    let entry = world
        .store
        .find_due_entry(linked.key, Consistency::Strong)
        .await;
    let marks = world.load_head(linked).await.watermarks;
    assert_eq!(
        entry.unwrap().unwrap().watermarks,
        marks,
        "dispatched = committed"
    );
}

/// A hundred days, in every tenth of which the bank books a row.
fn advance_months(world: &RefreshWorld, linked: &LinkedRecord, account: &str) {
    for day in 0..100_i64 {
        world.advance_clock(86_400);
        if day % 10 == 0 {
            let booked = okra_core::model::snapshot::BookingStatus::Booked;
            let row = crate::new_debit("12.00", &format!("DAY {day}"), booked);
            world
                .bank
                .add_row(linked.sandbox_account(account), row)
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_backfill_that_the_first_refresh_covers_completes_without_a_call() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_months(2, 1).await;
    world.refresh_record(&linked).await;
    let calls = world.bank.call_count();
    let progress = last_completed_progress(&world.run_backfills().await);
    assert_eq!(world.bank.call_count(), calls);
    assert_eq!((progress.accounts_done, progress.percent), (2, 100));
    let complete = completed_backfills(&world.load_feed(&linked).await);
    assert_eq!(complete.len(), 2, "each account is reported once");
    assert!(
        complete
            .iter()
            .all(|it| (it.rows, it.end_reason) == (0, BackfillEnd::RequestedLimit))
    );
    check_settled(&world, &linked).await;
}

#[tokio::test]
async fn the_backfill_fetches_everything_after_the_first_refresh() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_year_of_rows(2).await;
    world.refresh_record(&linked).await;
    let outcomes = world.run_backfills().await;
    let progress = last_completed_progress(&outcomes);
    assert_eq!((progress.accounts_done, progress.percent), (2, 100));
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
    let feed = world.load_feed(&linked).await;
    let complete = completed_backfills(&feed);
    assert_eq!(complete.len(), 2, "each account is reported once");
    let mut found = 0;
    for entry in &feed {
        if let Change::Transactions(diff) = &entry.change
            && diff.fetch_kind == FetchKind::Backfill
        {
            assert!(diff.modified.is_empty() && diff.removed.is_empty());
            found += diff.added.len() as u64;
        }
    }
    assert_eq!(complete.iter().map(|it| it.rows).sum::<u64>(), found);
    assert_eq!(progress.rows, found);
    assert!(found > 400, "{found}");
    // The bank says how far back it goes: two years are not requested.
    assert!(
        complete
            .iter()
            .all(|it| it.end_reason == BackfillEnd::BankLimit)
    );
    check_settled(&world, &linked).await;
    assert!(world.run_backfills().await.is_empty(), "it is fetched once");
}

#[tokio::test]
async fn a_backfill_survives_a_crash_at_every_effect() {
    for effect in ["project", "dispatch", "advance"] {
        let world = RefreshWorld::new().await;
        let linked = world.link_with_year_of_rows(1).await;
        world.refresh_record(&linked).await;
        world.break_effect(effect);
        let outcomes = world.run_backfills().await;
        assert_eq!(last_completed_progress(&outcomes).percent, 100, "{effect}");
        check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
        assert_eq!(
            completed_backfills(&world.load_feed(&linked).await).len(),
            1,
            "{effect}"
        );
        check_settled(&world, &linked).await;
    }
}

#[tokio::test]
async fn a_bank_that_rejects_old_dates_ends_the_backfill_and_not_the_consent() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_year_of_rows(1).await;
    let faults = Faults {
        history_days: Some(90),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    world.refresh_record(&linked).await;
    world.run_backfills().await;
    let complete = completed_backfills(&world.load_feed(&linked).await);
    assert_eq!(complete.len(), 1);
    assert_eq!(complete[0].end_reason, BackfillEnd::BankRejected);
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    check_settled(&world, &linked).await;
}

#[tokio::test]
async fn rows_from_while_the_user_was_needed_are_backfilled() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world.run_backfills().await;
    let (_, account) = linked.account_ids().remove(0);
    let expired = ConsentState::Expired;
    world.bank.set_consent(linked.login, expired).unwrap();
    world.refresh_record(&linked).await;
    let waits = RecordStatus::ReauthorisationRequired;
    assert_eq!(world.load_head(&linked).await.status, waits);
    advance_months(&world, &linked, &account);
    let active = ConsentState::Active;
    world.bank.set_consent(linked.login, active).unwrap();
    world.refresh_record(&linked).await;
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    world.run_backfills().await;
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
}

#[tokio::test]
async fn a_backfill_goes_on_after_its_message_was_lost() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_year_of_rows(1).await;
    world.refresh_record(&linked).await;
    assert_eq!(world.drop_backfill_steps().await, 1);
    let (_, account) = linked.account_ids().remove(0);
    let change = |text: &str| {
        let booked = okra_core::model::snapshot::BookingStatus::Booked;
        let row = crate::new_debit("1.00", text, booked);
        world
            .bank
            .add_row(linked.sandbox_account(&account), row)
            .unwrap();
    };
    // It may still be on its way.
    world.advance_clock(900);
    change("ONE");
    world.refresh_record(&linked).await;
    assert_eq!(world.drop_backfill_steps().await, 0);
    world.advance_clock(1_000);
    change("TWO");
    world.refresh_record(&linked).await;
    assert_eq!(
        last_completed_progress(&world.run_backfills().await).percent,
        100
    );
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
    assert_eq!(
        completed_backfills(&world.load_feed(&linked).await).len(),
        1
    );
    check_settled(&world, &linked).await;
}

#[tokio::test]
async fn a_gap_is_filled_in_although_the_recovery_crashed() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world.run_backfills().await;
    let (_, account) = linked.account_ids().remove(0);
    let expired = ConsentState::Expired;
    world.bank.set_consent(linked.login, expired).unwrap();
    world.refresh_record(&linked).await;
    advance_months(&world, &linked, &account);
    let active = ConsentState::Active;
    world.bank.set_consent(linked.login, active).unwrap();
    world.break_effect("dispatch");
    world.try_refresh(&linked).await.unwrap_err();
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    world.restore_effects();
    world.redeliver_record(&linked).await;
    world.advance_clock(3_600);
    let booked = okra_core::model::snapshot::BookingStatus::Booked;
    let row = crate::new_debit("1.00", "AFTER", booked);
    world
        .bank
        .add_row(linked.sandbox_account(&account), row)
        .unwrap();
    world.refresh_record(&linked).await;
    assert_eq!(
        last_completed_progress(&world.run_backfills().await).percent,
        100
    );
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
}

/// Nothing ran for a hundred days: what the bank booked in them is there in the end, and until then it
/// is said that something is lacking.
#[tokio::test]
async fn rows_from_while_nothing_ran_are_backfilled() {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world.refresh_record(&linked).await;
    world.run_backfills().await;
    let (account_id, account) = linked.account_ids().remove(0);
    advance_months(&world, &linked, &account);
    world.refresh_record(&linked).await;
    let backfill = world.load_backfill(&linked).await;
    assert!(!backfill.is_complete());
    let of = backfill
        .accounts
        .iter()
        .find(|it| it.account == account_id)
        .unwrap();
    assert!(of.resume_point.is_some(), "{of:?}");
    let progress = last_completed_progress(&world.run_backfills().await);
    assert_eq!(progress.percent, 100);
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
    check_settled(&world, &linked).await;
    assert!(world.run_backfills().await.is_empty(), "it is filled once");
}

/// A row of five months ago is malformed: that day is left out and reported, and is there once the bank
/// has mended it.
#[tokio::test]
async fn a_malformed_day_is_left_out_and_fetched_again() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_year_of_rows(1).await;
    let (_, account) = linked.account_ids().remove(0);
    let date = okra_core::model::snapshot::utc_date(world.clock.now())
        .saturating_sub(jiff::ToSpan::days(150_i32));
    let dated = format!("{date}T12:00:00Z").parse().unwrap();
    let booked = okra_core::model::snapshot::BookingStatus::Booked;
    let row = okra_sandbox::NewTransaction {
        booking_time: Some(dated),
        ..crate::new_debit("12.50", "OLD", booked)
    };
    world
        .bank
        .add_row(linked.sandbox_account(&account), row)
        .unwrap();
    let faults = Faults {
        malformed: Some(MalformedFault::CommaAmount),
        malformed_date: Some(date),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    world.refresh_record(&linked).await;
    world.run_backfills().await;
    let of = world.load_backfill(&linked).await.accounts.remove(0);
    assert_eq!(of.end, Some(BackfillEnd::BankLimit));
    // The list of a day is requested with a day on either side, whose rows are malformed along with it.
    let days: Vec<_> = of.unreadable_days.iter().map(|day| day.date).collect();
    assert!(days.contains(&date), "{days:?}");
    let (before, after) = (date.yesterday().unwrap(), date.tomorrow().unwrap());
    assert!(
        days.iter().all(|day| (before..=after).contains(day)),
        "{days:?}"
    );
    assert!(
        of.unreadable_days[0].reason.contains("Data.Transaction["),
        "{}",
        of.unreadable_days[0].reason
    );
    assert!(of.rows > 200, "{}", of.rows);

    world.set_login_faults(&linked, Faults::default());
    world.advance_clock(8 * 86_400);
    world
        .bank
        .add_row(
            linked.sandbox_account(&account),
            crate::new_debit("1.00", "NEW", booked),
        )
        .unwrap();
    world.refresh_record(&linked).await;
    assert_eq!(
        last_completed_progress(&world.run_backfills().await).percent,
        100
    );
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
    check_settled(&world, &linked).await;
}

/// An account that fails delays no other's backfill, and gets its own once it responds.
#[tokio::test]
async fn an_account_that_fails_delays_no_other_backfill() {
    let world = RefreshWorld::new().await;
    let linked = world.link_with_year_of_rows(2).await;
    let (_, silent) = linked.account_ids().remove(1);
    let faults = Faults {
        malformed: Some(MalformedFault::WrongTypes),
        account: Some(silent),
        ..Faults::default()
    };
    world.set_login_faults(&linked, faults);
    world.refresh_record(&linked).await;
    let progress = last_completed_progress(&world.run_backfills().await);
    assert_eq!((progress.accounts_done, progress.accounts), (1, 1));
    world.set_login_faults(&linked, Faults::default());
    world.advance_clock(7 * 3_600);
    world.refresh_record(&linked).await;
    let progress = last_completed_progress(&world.run_backfills().await);
    assert_eq!((progress.accounts_done, progress.accounts), (2, 2));
    check_laws_since(&world, &linked, BEFORE_ALL_ROWS).await;
    check_settled(&world, &linked).await;
}
