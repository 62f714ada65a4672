//! When an answer is accepted: pages that move, answers cut short, answers that break the standard.

use jiff::SignedDuration;
use okra_core::{
    model::{bank::BankStandard, snapshot::BookingStatus},
    sync::feed::{Change, FeedEntry},
};
use okra_refresh::RefreshOutcome;
use okra_sandbox::{
    Faults, MalformedFault, NewTransaction, SandboxOptions, ShownTransactionId, Volume,
};

use crate::{
    check_laws, new_debit,
    world::{LinkedRecord, RefreshWorld},
};

/// Rows of two pages.
const TWO_PAGES_OF_ROWS: i64 = 130;

async fn world_with_two_pages(id: Option<ShownTransactionId>) -> (RefreshWorld, LinkedRecord) {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    let (_, account) = linked.account_ids().remove(0);
    for n in 0..TWO_PAGES_OF_ROWS {
        let row = NewTransaction {
            booking_time: Some(world.clock.now() - SignedDuration::from_hours(4 * n + 1)),
            id: id.clone(),
            ..new_debit("7.00", "COFFEE", BookingStatus::Booked)
        };
        world
            .bank
            .add_row(linked.sandbox_account(&account), row)
            .unwrap();
    }
    world.refresh_record(&linked).await;
    (world, linked)
}

/// Time goes on: a record whose bank gave a malformed answer is suspended for a while.
fn advance_hours(world: &RefreshWorld, hours: i64) {
    let now = world.clock.now();
    world
        .clock
        .set_time(now + SignedDuration::from_hours(hours));
}

fn count_changed_rows(feed: &[FeedEntry]) -> usize {
    feed.iter()
        .map(|entry| match &entry.change {
            Change::Transactions(diff) => diff.len(),
            Change::Balance { .. } | Change::State(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn pages_that_move_while_they_are_read_change_nothing() {
    for id in [None, Some(ShownTransactionId::Missing)] {
        let (world, linked) = world_with_two_pages(id).await;
        let before = count_changed_rows(&world.load_feed(&linked).await);
        for page_shift in [1, -1, 3, -3] {
            let moved = Faults {
                page_shift,
                ..Faults::default()
            };
            world.set_login_faults(&linked, moved);
            world.redeliver_record(&linked).await;
            let feed = world.load_feed(&linked).await;
            assert_eq!(count_changed_rows(&feed), before, "shifted by {page_shift}");
        }
        world.set_login_faults(&linked, Faults::default());
        world.refresh_record(&linked).await;
        check_laws(&world, &linked).await;
    }
}

#[tokio::test]
async fn an_empty_answer_is_accepted_once_it_lasts() {
    let (world, linked) = world_with_two_pages(None).await;
    let (account, _) = linked.account_ids().remove(0);
    let doubt = async || {
        let account = world.store.find_account(account).await.unwrap();
        account.unwrap().checks.pending_deletions
    };
    let before = count_changed_rows(&world.load_feed(&linked).await);
    let empty = Faults {
        empty: true,
        ..Faults::default()
    };
    // A moment of it: nothing is removed, and the doubt ends with the next whole answer.
    world.set_login_faults(&linked, empty.clone());
    for _ in 0..2 {
        world.refresh_record(&linked).await;
        assert_eq!(count_changed_rows(&world.load_feed(&linked).await), before);
        assert!(doubt().await.is_some());
        advance_hours(&world, 2);
    }
    world.set_login_faults(&linked, Faults::default());
    world.refresh_record(&linked).await;
    assert_eq!(doubt().await, None);
    advance_hours(&world, 21);
    world.set_login_faults(&linked, empty);
    world.refresh_record(&linked).await;
    assert_eq!(count_changed_rows(&world.load_feed(&linked).await), before);
    // It lasts: the account was emptied.
    advance_hours(&world, 21);
    world.refresh_record(&linked).await;
    assert!(world.load_transactions(account).await.is_empty());
    assert_eq!(doubt().await, None);
}

#[tokio::test]
async fn an_answer_that_breaks_the_standard_keeps_the_last_good_state() {
    for standard in [BankStandard::Obie31, BankStandard::Obie40] {
        let world = RefreshWorld::with_options(SandboxOptions::default(), standard).await;
        let linked = world.link_record(2, Volume::Low).await;
        world.refresh_record(&linked).await;
        let (account, _) = linked.account_ids().remove(0);
        let (feed, stored) = (
            world.load_feed(&linked).await,
            world.load_transactions(account).await,
        );
        let products = |feed: &[FeedEntry]| {
            let of_state = |entry: &&FeedEntry| !matches!(entry.change, Change::State(_));
            feed.iter().filter(of_state).count()
        };
        for malformed in [
            MalformedFault::Truncated,
            MalformedFault::WrongTypes,
            MalformedFault::CommaAmount,
            MalformedFault::Html,
        ] {
            let broken = Faults {
                malformed: Some(malformed),
                ..Faults::default()
            };
            world.set_login_faults(&linked, broken);
            for _ in 0..2 {
                let outcome = world.refresh_record(&linked).await;
                assert!(
                    !matches!(&outcome, RefreshOutcome::Changed(changes)
                        if changes.balances + changes.added + changes.modified + changes.removed > 0),
                    "{malformed:?}: {outcome:?}"
                );
                let now = world.load_feed(&linked).await;
                assert_eq!(products(&now), products(&feed), "{malformed:?}");
                assert_eq!(
                    world.load_transactions(account).await,
                    stored,
                    "{malformed:?}"
                );
                advance_hours(&world, 7);
            }
            world.set_login_faults(&linked, Faults::default());
            world.refresh_record(&linked).await;
            let now = world.load_feed(&linked).await;
            assert_eq!(products(&now), products(&feed), "mended");
        }
        check_laws(&world, &linked).await;
    }
}

/// A bank that counts the calls without its customer gets no second call: deletions stay pending until the next
/// answer. With the customer present it is called again at once.
#[tokio::test]
async fn a_bank_that_counts_calls_gets_a_second_call_only_with_its_customer_present() {
    for user in [None, Some("192.0.2.7".parse().unwrap())] {
        let (world, linked) = world_with_two_pages(None).await;
        let (account, at_bank) = linked.account_ids().remove(0);
        world
            .change_bank_limits(|limits| limits.unattended_per_day = Some(4))
            .await;
        let before = world.bank.call_count();
        world.refresh_with_user(&linked, user).await;
        let plain = world.bank.call_count() - before;

        let rows = world
            .bank
            .list_rows(&linked.sandbox_account(&at_bank))
            .unwrap();
        world
            .bank
            .remove_row(linked.sandbox_account(&at_bank), rows[0].row)
            .unwrap();
        let (before, stored) = (
            world.bank.call_count(),
            world.load_transactions(account).await.len(),
        );
        world.refresh_with_user(&linked, user).await;
        let was_called_again = world.bank.call_count() > before + plain;
        assert_eq!(was_called_again, user.is_some());
        let gone = stored - world.load_transactions(account).await.len();
        assert_eq!(gone, usize::from(user.is_some()));
        advance_hours(&world, 6);
        world.refresh_with_user(&linked, user).await;
        check_laws(&world, &linked).await;
    }
}
