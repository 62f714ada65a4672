//! Access tokens that end before their consent does.

use futures::future::join_all;
use okra_refresh::Outcome;
use okra_sandbox::{ConsentState, Faults, Outage, Resource, Target, TokenTerms, Volume};
use okra_store::RecordStatus;

use crate::world::{Linked, World};

const FIVE_MINUTES: TokenTerms = TokenTerms {
    life_s: 300,
    rotate: true,
};

/// A record that was refreshed once, whose tokens end in five minutes.
async fn ending() -> (World, Linked) {
    let world = World::new().await;
    let linked = world.link(1, Volume::Low).await;
    world.give_ending(&linked, FIVE_MINUTES).await;
    assert!(matches!(world.refresh(&linked).await, Outcome::Changed(_)));
    (world, linked)
}

#[tokio::test]
async fn a_spent_token_is_renewed_for_as_long_as_the_consent_lasts() {
    let (world, linked) = ending().await;
    for _ in 0..3 {
        let before = world.kept(&linked).await;
        world.pass(300);
        assert_eq!(world.refresh(&linked).await, Outcome::Unchanged);
        let after = world.kept(&linked).await;
        assert_ne!(after.access_token, before.access_token);
        assert_ne!(after.refresh_token, before.refresh_token);
        assert!(!after.is_spent(world.clock.now()));
    }
}

#[tokio::test]
async fn a_token_that_holds_is_not_renewed_and_nothing_is_written() {
    let (world, linked) = ending().await;
    let before = (world.kept(&linked).await, world.store.capacity());
    assert_eq!(world.refresh(&linked).await, Outcome::Unchanged);
    let after = (world.kept(&linked).await, world.store.capacity());
    assert_eq!(after.0.access_token, before.0.access_token);
    assert!((after.1.write_units - before.1.write_units).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_token_that_is_refused_early_is_renewed_once() {
    let (world, linked) = ending().await;
    let mut secret = world.kept(&linked).await;
    "ended early".clone_into(&mut secret.access_token);
    secret.expires_at = None;
    world.give(&linked, &secret).await;
    let calls = world.bank.calls();
    assert_eq!(world.refresh(&linked).await, Outcome::Unchanged);
    let before = world.bank.calls() - calls;
    assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    // Balance and transactions were refused, the token was renewed, both were read.
    assert_eq!(before, 5);
}

#[tokio::test]
async fn refreshes_at_once_spend_a_refresh_token_once() {
    let (world, linked) = ending().await;
    for _ in 0..5 {
        world.pass(300);
        // A bank that sees a refresh token twice ends the grant.
        let refreshed = join_all((0..4).map(|_| world.refresh(&linked))).await;
        let good = |it: &Outcome| matches!(it, Outcome::Unchanged | Outcome::Failed);
        assert!(refreshed.iter().all(good), "{refreshed:?}");
        assert_eq!(world.refresh(&linked).await, Outcome::Unchanged);
        assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    }
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_is_nobodys_to_act_on() {
    let (world, linked) = ending().await;
    let outage = Faults {
        outage: Some(Outage::Unavailable),
        resource: Some(Resource::Token),
        ..Faults::default()
    };
    world.bank.set_faults(Target::Bank, outage).unwrap();
    world.pass(300);
    assert_eq!(world.refresh(&linked).await, Outcome::Failed);
    // Also where it was the bank that refused the token.
    let mut secret = world.kept(&linked).await;
    secret.expires_at = None;
    world.give(&linked, &secret).await;
    assert_eq!(world.refresh(&linked).await, Outcome::Failed);
    assert_eq!(world.head(&linked).await.status, RecordStatus::Active);
    world
        .bank
        .set_faults(Target::Bank, Faults::default())
        .unwrap();
    world.pass(30);
    // It failed twice, which was told, and so is that it is over; nothing else changed.
    let Outcome::Changed(changes) = world.refresh(&linked).await else {
        panic!("nothing was told")
    };
    assert_eq!((changes.states, changes.balances, changes.added), (2, 0, 0));
    assert_eq!(world.refresh(&linked).await, Outcome::Unchanged);
}

#[tokio::test]
async fn a_grant_that_is_over_is_for_the_user() {
    let (world, linked) = ending().await;
    world
        .bank
        .set_consent(linked.login, ConsentState::Expired)
        .unwrap();
    world.pass(300);
    assert_eq!(world.refresh(&linked).await, Outcome::Failed);
    let status = world.head(&linked).await.status;
    assert_eq!(status, RecordStatus::TokenRequired);
}
