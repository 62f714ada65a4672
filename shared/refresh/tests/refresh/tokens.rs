//! Access tokens that end before their consent does.

use futures::future::join_all;
use okra_refresh::RefreshOutcome;
use okra_sandbox::{
    ConsentState, FaultTarget, Faults, Outage, SandboxResource, TokenTerms, Volume,
};
use okra_store::RecordStatus;

use crate::world::{LinkedRecord, RefreshWorld};

const FIVE_MINUTE_TERMS: TokenTerms = TokenTerms {
    life_s: 300,
    rotate: true,
};

/// A record that was refreshed once, whose tokens end in five minutes.
async fn record_with_expiring_tokens() -> (RefreshWorld, LinkedRecord) {
    let world = RefreshWorld::new().await;
    let linked = world.link_record(1, Volume::Low).await;
    world
        .issue_expiring_tokens(&linked, FIVE_MINUTE_TERMS)
        .await;
    assert!(matches!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Changed(_)
    ));
    (world, linked)
}

#[tokio::test]
async fn an_expired_token_is_renewed_for_as_long_as_the_consent_lasts() {
    let (world, linked) = record_with_expiring_tokens().await;
    for _ in 0..3 {
        let before = world.stored_tokens(&linked).await;
        world.advance_clock(300);
        assert_eq!(
            world.refresh_record(&linked).await,
            RefreshOutcome::Unchanged
        );
        let after = world.stored_tokens(&linked).await;
        assert_ne!(after.access_token, before.access_token);
        assert_ne!(after.refresh_token, before.refresh_token);
        assert!(!after.needs_renewal(world.clock.now()));
    }
}

#[tokio::test]
async fn a_token_that_holds_is_not_renewed_and_nothing_is_written() {
    let (world, linked) = record_with_expiring_tokens().await;
    let before = (
        world.stored_tokens(&linked).await,
        world.store.capacity_used(),
    );
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    let after = (
        world.stored_tokens(&linked).await,
        world.store.capacity_used(),
    );
    assert_eq!(after.0.access_token, before.0.access_token);
    assert!((after.1.write_units - before.1.write_units).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_token_that_is_rejected_early_is_renewed_once() {
    let (world, linked) = record_with_expiring_tokens().await;
    let mut secret = world.stored_tokens(&linked).await;
    "ended early".clone_into(&mut secret.access_token);
    secret.expires_at = None;
    world.replace_tokens(&linked, &secret).await;
    let calls = world.bank.call_count();
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
    let before = world.bank.call_count() - calls;
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    // Balance and transactions were refused, the token was renewed, both were read.
    assert_eq!(before, 5);
}

#[tokio::test]
async fn refreshes_at_once_spend_a_refresh_token_once() {
    let (world, linked) = record_with_expiring_tokens().await;
    for _ in 0..5 {
        world.advance_clock(300);
        // A bank that sees a refresh token twice ends the grant.
        let refreshed = join_all((0..4).map(|_| world.refresh_record(&linked))).await;
        let good =
            |it: &RefreshOutcome| matches!(it, RefreshOutcome::Unchanged | RefreshOutcome::Failed);
        assert!(refreshed.iter().all(good), "{refreshed:?}");
        assert_eq!(
            world.refresh_record(&linked).await,
            RefreshOutcome::Unchanged
        );
        assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    }
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_does_not_require_the_user() {
    let (world, linked) = record_with_expiring_tokens().await;
    let outage = Faults {
        outage: Some(Outage::Unavailable),
        resource: Some(SandboxResource::Token),
        ..Faults::default()
    };
    world.bank.set_faults(FaultTarget::Bank, outage).unwrap();
    world.advance_clock(300);
    assert_eq!(world.refresh_record(&linked).await, RefreshOutcome::Failed);
    // Also where it was the bank that refused the token.
    let mut secret = world.stored_tokens(&linked).await;
    secret.expires_at = None;
    world.replace_tokens(&linked, &secret).await;
    assert_eq!(world.refresh_record(&linked).await, RefreshOutcome::Failed);
    assert_eq!(world.load_head(&linked).await.status, RecordStatus::Active);
    world
        .bank
        .set_faults(FaultTarget::Bank, Faults::default())
        .unwrap();
    world.advance_clock(30);
    // It failed twice, which was told, and so is that it is over; nothing else changed.
    let RefreshOutcome::Changed(changes) = world.refresh_record(&linked).await else {
        panic!("nothing was told")
    };
    assert_eq!(
        (changes.state_changes, changes.balances, changes.added),
        (2, 0, 0)
    );
    assert_eq!(
        world.refresh_record(&linked).await,
        RefreshOutcome::Unchanged
    );
}

#[tokio::test]
async fn a_grant_that_is_over_requires_the_user() {
    let (world, linked) = record_with_expiring_tokens().await;
    world
        .bank
        .set_consent(linked.login, ConsentState::Expired)
        .unwrap();
    world.advance_clock(300);
    assert_eq!(world.refresh_record(&linked).await, RefreshOutcome::Failed);
    let status = world.load_head(&linked).await.status;
    assert_eq!(status, RecordStatus::ReauthorisationRequired);
}
