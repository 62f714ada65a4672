//! What is believed of an answer: pages that move, answers cut short, answers that break the standard.

use jiff::SignedDuration;
use okra_core::{
    bank::Standard,
    feed::{Change, FeedEntry},
    model::BookingStatus,
};
use okra_refresh::Outcome;
use okra_sandbox::{Faults, Malformed, NewTransaction, Options, ShownId, Volume};

use crate::{
    check_laws, spent,
    world::{Linked, World},
};

/// Rows of two pages.
const ROWS: i64 = 130;

async fn with_two_pages(id: Option<ShownId>) -> (World, Linked) {
    let world = World::new().await;
    let linked = world.link(1, Volume::Low).await;
    let (_, account) = linked.accounts().remove(0);
    for n in 0..ROWS {
        let row = NewTransaction {
            dated: Some(world.clock.now() - SignedDuration::from_hours(4 * n + 1)),
            id: id.clone(),
            ..spent("7.00", "COFFEE", BookingStatus::Booked)
        };
        world.bank.add(linked.place(&account), row).unwrap();
    }
    world.refresh(&linked).await;
    (world, linked)
}

/// Time goes on: a record whose bank answered nonsense is left alone for a while.
fn pass(world: &World, hours: i64) {
    let now = world.clock.now();
    world.clock.set(now + SignedDuration::from_hours(hours));
}

fn rows_changed(feed: &[FeedEntry]) -> usize {
    feed.iter()
        .map(|entry| match &entry.change {
            Change::Transactions(diff) => diff.len(),
            Change::Balance { .. } | Change::State(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn pages_that_move_while_they_are_read_change_nothing() {
    for id in [None, Some(ShownId::Missing)] {
        let (world, linked) = with_two_pages(id).await;
        let before = rows_changed(&world.feed(&linked).await);
        for page_shift in [1, -1, 3, -3] {
            let moved = Faults {
                page_shift,
                ..Faults::default()
            };
            world.spoil(&linked, moved);
            world.redeliver(&linked).await;
            let feed = world.feed(&linked).await;
            assert_eq!(rows_changed(&feed), before, "shifted by {page_shift}");
        }
        world.spoil(&linked, Faults::default());
        world.refresh(&linked).await;
        check_laws(&world, &linked).await;
    }
}

#[tokio::test]
async fn an_empty_answer_is_believed_when_it_lasts() {
    let (world, linked) = with_two_pages(None).await;
    let (account, _) = linked.accounts().remove(0);
    let doubt = async || {
        let account = world.store.account(account).await.unwrap();
        account.unwrap().checks.doubt
    };
    let before = rows_changed(&world.feed(&linked).await);
    let empty = Faults {
        empty: true,
        ..Faults::default()
    };
    // A moment of it: nothing is removed, and the doubt ends with the next whole answer.
    world.spoil(&linked, empty.clone());
    for _ in 0..2 {
        world.refresh(&linked).await;
        assert_eq!(rows_changed(&world.feed(&linked).await), before);
        assert!(doubt().await.is_some());
        pass(&world, 2);
    }
    world.spoil(&linked, Faults::default());
    world.refresh(&linked).await;
    assert_eq!(doubt().await, None);
    pass(&world, 21);
    world.spoil(&linked, empty);
    world.refresh(&linked).await;
    assert_eq!(rows_changed(&world.feed(&linked).await), before);
    // It lasts: the account was emptied.
    pass(&world, 21);
    world.refresh(&linked).await;
    assert!(world.stored(account).await.is_empty());
    assert_eq!(doubt().await, None);
}

#[tokio::test]
async fn an_answer_that_breaks_the_standard_keeps_the_last_good_state() {
    for standard in [Standard::Obie31, Standard::Obie40] {
        let world = World::with(Options::default(), standard).await;
        let linked = world.link(2, Volume::Low).await;
        world.refresh(&linked).await;
        let (account, _) = linked.accounts().remove(0);
        let (feed, stored) = (world.feed(&linked).await, world.stored(account).await);
        let products = |feed: &[FeedEntry]| {
            let of_state = |entry: &&FeedEntry| !matches!(entry.change, Change::State(_));
            feed.iter().filter(of_state).count()
        };
        for malformed in [
            Malformed::Truncated,
            Malformed::WrongTypes,
            Malformed::CommaAmount,
            Malformed::Html,
        ] {
            let broken = Faults {
                malformed: Some(malformed),
                ..Faults::default()
            };
            world.spoil(&linked, broken);
            for _ in 0..2 {
                let outcome = world.refresh(&linked).await;
                assert!(
                    !matches!(&outcome, Outcome::Changed(changes)
                        if changes.balances + changes.added + changes.modified + changes.removed > 0),
                    "{malformed:?}: {outcome:?}"
                );
                let now = world.feed(&linked).await;
                assert_eq!(products(&now), products(&feed), "{malformed:?}");
                assert_eq!(world.stored(account).await, stored, "{malformed:?}");
                pass(&world, 7);
            }
            world.spoil(&linked, Faults::default());
            world.refresh(&linked).await;
            let now = world.feed(&linked).await;
            assert_eq!(products(&now), products(&feed), "mended");
        }
        check_laws(&world, &linked).await;
    }
}

/// A bank that counts the calls without its customer is asked nothing beside: what its answer lacks is
/// held until the next. With the customer there it is asked again at once.
#[tokio::test]
async fn a_bank_that_counts_calls_is_asked_no_second_question_but_for_its_customer() {
    for user in [None, Some("192.0.2.7".parse().unwrap())] {
        let (world, linked) = with_two_pages(None).await;
        let (account, at_bank) = linked.accounts().remove(0);
        world
            .limit(|limits| limits.unattended_per_day = Some(4))
            .await;
        let before = world.bank.calls();
        world.refresh_for(&linked, user).await;
        let plain = world.bank.calls() - before;

        let rows = world.bank.rows(&linked.place(&at_bank)).unwrap();
        world
            .bank
            .remove(linked.place(&at_bank), rows[0].row)
            .unwrap();
        let (before, stored) = (world.bank.calls(), world.stored(account).await.len());
        world.refresh_for(&linked, user).await;
        let asked_again = world.bank.calls() > before + plain;
        assert_eq!(asked_again, user.is_some());
        let gone = stored - world.stored(account).await.len();
        assert_eq!(gone, usize::from(user.is_some()));
        pass(&world, 6);
        world.refresh_for(&linked, user).await;
        check_laws(&world, &linked).await;
    }
}
