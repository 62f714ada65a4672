//! Histories: pulled backwards in steps, whatever crashes and whatever the bank allows.

use jiff::civil::date;
use okra_core::{
    feed::{Change, FeedEntry, Pull},
    history::Progress,
    state::{HistoryComplete, HistoryEnd, StateChange},
};
use okra_refresh::{Outcome, history::HistoryOutcome};
use okra_sandbox::{ConsentState, Faults, Malformed, Volume};
use okra_store::{Consistency, RecordStatus};

use crate::{
    check_laws_since,
    world::{Linked, World},
};

/// Before everything that the sandbox bank has.
const BEGINNING: jiff::civil::Date = date(2020, 1, 1);

fn completed(feed: &[FeedEntry]) -> Vec<HistoryComplete> {
    feed.iter()
        .filter_map(|entry| match &entry.change {
            Change::State(StateChange::HistoryComplete(complete)) => Some(complete.clone()),
            _ => None,
        })
        .collect()
}

fn last(outcomes: &[HistoryOutcome]) -> Progress {
    let complete = outcomes.iter().rev().find_map(|outcome| match outcome {
        HistoryOutcome::Complete(progress) => Some(*progress),
        _ => None,
    });
    complete.unwrap()
}

async fn settled(world: &World, linked: &Linked) {
    let seq = world.head(linked).await.seq;
    while world.refresh(linked).await != Outcome::Unchanged {}
    assert_eq!(world.head(linked).await.seq, seq, "nothing is removed");
    let entry = world.store.due_entry(linked.key, Consistency::Strong).await;
    let marks = world.head(linked).await.marks;
    assert_eq!(
        entry.unwrap().unwrap().marks,
        marks,
        "dispatched = committed"
    );
}

/// A hundred days, in every tenth of which the bank books a row.
fn months_pass(world: &World, linked: &Linked, account: &str) {
    for day in 0..100_i64 {
        world.pass(86_400);
        if day % 10 == 0 {
            let booked = okra_core::model::BookingStatus::Booked;
            let row = crate::spent("12.00", &format!("DAY {day}"), booked);
            world.bank.add(linked.place(account), row).unwrap();
        }
    }
}

#[tokio::test]
async fn a_history_that_the_first_pull_holds_is_told_to_be_complete_without_a_call() {
    let world = World::new().await;
    let linked = world.link_with_months(2, 1).await;
    world.refresh(&linked).await;
    let calls = world.bank.calls();
    let progress = last(&world.pull_histories().await);
    assert_eq!(world.bank.calls(), calls);
    assert_eq!((progress.accounts_done, progress.percent), (2, 100));
    let complete = completed(&world.feed(&linked).await);
    assert_eq!(complete.len(), 2, "each account is told once");
    assert!(
        complete
            .iter()
            .all(|it| (it.rows, it.end) == (0, HistoryEnd::Limit))
    );
    settled(&world, &linked).await;
}

#[tokio::test]
async fn the_history_is_pulled_whole_after_the_first_pull() {
    let world = World::new().await;
    let linked = world.link_with_history(2).await;
    world.refresh(&linked).await;
    let outcomes = world.pull_histories().await;
    let progress = last(&outcomes);
    assert_eq!((progress.accounts_done, progress.percent), (2, 100));
    check_laws_since(&world, &linked, BEGINNING).await;
    let feed = world.feed(&linked).await;
    let complete = completed(&feed);
    assert_eq!(complete.len(), 2, "each account is told once");
    let mut found = 0;
    for entry in &feed {
        if let Change::Transactions(diff) = &entry.change
            && diff.pull == Pull::Full
        {
            assert!(diff.modified.is_empty() && diff.removed.is_empty());
            found += diff.added.len() as u64;
        }
    }
    assert_eq!(complete.iter().map(|it| it.rows).sum::<u64>(), found);
    assert_eq!(progress.rows, found);
    assert!(found > 400, "{found}");
    // The bank says how far back it goes: it is not asked for two years.
    assert!(complete.iter().all(|it| it.end == HistoryEnd::BankLimit));
    settled(&world, &linked).await;
    assert!(world.pull_histories().await.is_empty(), "it is pulled once");
}

#[tokio::test]
async fn a_history_survives_a_crash_at_every_effect() {
    for effect in ["project", "dispatch", "advance"] {
        let world = World::new().await;
        let linked = world.link_with_history(1).await;
        world.refresh(&linked).await;
        world.break_effect(effect);
        let outcomes = world.pull_histories().await;
        assert_eq!(last(&outcomes).percent, 100, "{effect}");
        check_laws_since(&world, &linked, BEGINNING).await;
        assert_eq!(completed(&world.feed(&linked).await).len(), 1, "{effect}");
        settled(&world, &linked).await;
    }
}

#[tokio::test]
async fn a_bank_that_refuses_old_dates_ends_the_history_and_not_the_consent() {
    let world = World::new().await;
    let linked = world.link_with_history(1).await;
    let faults = Faults {
        history_days: Some(90),
        ..Faults::default()
    };
    world.spoil(&linked, faults);
    world.refresh(&linked).await;
    world.pull_histories().await;
    let complete = completed(&world.feed(&linked).await);
    assert_eq!(complete.len(), 1);
    assert_eq!(complete[0].end, HistoryEnd::BankRefused);
    assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    settled(&world, &linked).await;
}

#[tokio::test]
async fn what_happened_while_the_user_was_needed_is_filled_in() {
    let world = World::new().await;
    let linked = world.link(1, Volume::Low).await;
    world.refresh(&linked).await;
    world.pull_histories().await;
    let (_, account) = linked.accounts().remove(0);
    let expired = ConsentState::Expired;
    world.bank.set_consent(linked.login, expired).unwrap();
    world.refresh(&linked).await;
    let waits = RecordStatus::TokenRequired;
    assert_eq!(world.head(&linked).await.status, waits);
    months_pass(&world, &linked, &account);
    let active = ConsentState::Active;
    world.bank.set_consent(linked.login, active).unwrap();
    world.refresh(&linked).await;
    assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    world.pull_histories().await;
    check_laws_since(&world, &linked, BEGINNING).await;
}

#[tokio::test]
async fn a_history_goes_on_after_its_message_was_lost() {
    let world = World::new().await;
    let linked = world.link_with_history(1).await;
    world.refresh(&linked).await;
    assert_eq!(world.lose_histories().await, 1);
    let (_, account) = linked.accounts().remove(0);
    let change = |text: &str| {
        let booked = okra_core::model::BookingStatus::Booked;
        let row = crate::spent("1.00", text, booked);
        world.bank.add(linked.place(&account), row).unwrap();
    };
    // It may still be on its way.
    world.pass(900);
    change("ONE");
    world.refresh(&linked).await;
    assert_eq!(world.lose_histories().await, 0);
    world.pass(1_000);
    change("TWO");
    world.refresh(&linked).await;
    assert_eq!(last(&world.pull_histories().await).percent, 100);
    check_laws_since(&world, &linked, BEGINNING).await;
    assert_eq!(completed(&world.feed(&linked).await).len(), 1);
    settled(&world, &linked).await;
}

#[tokio::test]
async fn a_gap_is_filled_in_although_the_recovery_crashed() {
    let world = World::new().await;
    let linked = world.link(1, Volume::Low).await;
    world.refresh(&linked).await;
    world.pull_histories().await;
    let (_, account) = linked.accounts().remove(0);
    let expired = ConsentState::Expired;
    world.bank.set_consent(linked.login, expired).unwrap();
    world.refresh(&linked).await;
    months_pass(&world, &linked, &account);
    let active = ConsentState::Active;
    world.bank.set_consent(linked.login, active).unwrap();
    world.break_effect("dispatch");
    world.try_refresh(&linked).await.unwrap_err();
    assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    world.mend();
    world.redeliver(&linked).await;
    world.pass(3_600);
    let booked = okra_core::model::BookingStatus::Booked;
    let row = crate::spent("1.00", "AFTER", booked);
    world.bank.add(linked.place(&account), row).unwrap();
    world.refresh(&linked).await;
    assert_eq!(last(&world.pull_histories().await).percent, 100);
    check_laws_since(&world, &linked, BEGINNING).await;
}

/// Nothing ran for a hundred days: what the bank booked in them is there in the end, and until then it
/// is said that something is lacking.
#[tokio::test]
async fn what_happened_while_nothing_ran_is_filled_in() {
    let world = World::new().await;
    let linked = world.link(1, Volume::Low).await;
    world.refresh(&linked).await;
    world.pull_histories().await;
    let (account_id, account) = linked.accounts().remove(0);
    months_pass(&world, &linked, &account);
    world.refresh(&linked).await;
    let history = world.history(&linked).await;
    assert!(!history.is_complete());
    let of = history
        .accounts
        .iter()
        .find(|it| it.account == account_id)
        .unwrap();
    assert!(of.beyond.is_some(), "{of:?}");
    let progress = last(&world.pull_histories().await);
    assert_eq!(progress.percent, 100);
    check_laws_since(&world, &linked, BEGINNING).await;
    settled(&world, &linked).await;
    assert!(world.pull_histories().await.is_empty(), "it is filled once");
}

/// A row of five months ago is nonsense: that day is left out and said to be, and is there once the bank
/// has mended it.
#[tokio::test]
async fn a_day_that_is_nonsense_is_left_out_alone_and_asked_for_again() {
    let world = World::new().await;
    let linked = world.link_with_history(1).await;
    let (_, account) = linked.accounts().remove(0);
    let date =
        okra_core::model::date_of(world.clock.now()).saturating_sub(jiff::ToSpan::days(150_i32));
    let dated = format!("{date}T12:00:00Z").parse().unwrap();
    let booked = okra_core::model::BookingStatus::Booked;
    let row = okra_sandbox::NewTransaction {
        dated: Some(dated),
        ..crate::spent("12.50", "OLD", booked)
    };
    world.bank.add(linked.place(&account), row).unwrap();
    let faults = Faults {
        malformed: Some(Malformed::CommaAmount),
        malformed_date: Some(date),
        ..Faults::default()
    };
    world.spoil(&linked, faults);
    world.refresh(&linked).await;
    world.pull_histories().await;
    let of = world.history(&linked).await.accounts.remove(0);
    assert_eq!(of.end, Some(HistoryEnd::BankLimit));
    assert_eq!(
        of.holes.iter().map(|hole| hole.date).collect::<Vec<_>>(),
        [date]
    );
    assert!(
        of.holes[0].why.contains("Data.Transaction["),
        "{}",
        of.holes[0].why
    );
    assert!(of.rows > 200, "{}", of.rows);

    world.spoil(&linked, Faults::default());
    world.pass(8 * 86_400);
    world
        .bank
        .add(linked.place(&account), crate::spent("1.00", "NEW", booked))
        .unwrap();
    world.refresh(&linked).await;
    assert_eq!(last(&world.pull_histories().await).percent, 100);
    check_laws_since(&world, &linked, BEGINNING).await;
    settled(&world, &linked).await;
}

/// An account that does not answer holds back no other's history, and gets its own once it answers.
#[tokio::test]
async fn an_account_that_does_not_answer_holds_no_others_history_back() {
    let world = World::new().await;
    let linked = world.link_with_history(2).await;
    let (_, silent) = linked.accounts().remove(1);
    let faults = Faults {
        malformed: Some(Malformed::WrongTypes),
        account: Some(silent),
        ..Faults::default()
    };
    world.spoil(&linked, faults);
    world.refresh(&linked).await;
    let progress = last(&world.pull_histories().await);
    assert_eq!((progress.accounts_done, progress.accounts), (1, 1));
    world.spoil(&linked, Faults::default());
    world.pass(7 * 3_600);
    world.refresh(&linked).await;
    let progress = last(&world.pull_histories().await);
    assert_eq!((progress.accounts_done, progress.accounts), (2, 2));
    check_laws_since(&world, &linked, BEGINNING).await;
    settled(&world, &linked).await;
}
