//! An endpoint's rate, kept by several processes over one table, on a driven clock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use futures::future::join_all;
use jiff::SignedDuration;
use okra_core::{health::OPEN_AFTER, pace::Rate, share::PLACE_LIFE_US};
use okra_webhooks::{Deliverer, Random};

use crate::support::{Receiver, World, handle_by};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A world of so many processes, all but the first.
async fn together(processes: u32) -> (World, Vec<Deliverer>) {
    let world = World::among(processes).await;
    let others = (1..processes).map(|nth| world.another(Random::seeded(nth.into())));
    let others = others.collect();
    (world, others)
}

/// Handles what is in the queue, each message by the next process, until nothing is due.
async fn settle(world: &World, others: &[Deliverer]) {
    let mut all = std::iter::once(&world.deliverer).chain(others).cycle();
    loop {
        let messages = world.messages().await;
        if messages.is_empty() {
            return;
        }
        let work = messages
            .into_iter()
            .map(|message| handle_by(all.next().unwrap(), message));
        for done in join_all(work).await {
            done.unwrap();
        }
    }
}

/// Nowhere more than R (1.5 W + 2) + B + P + 1 in W seconds, after the first `known` attempts.
fn keep_the_bound(world: &World, known: usize, processes: u32) {
    let rate = Rate::default();
    let attempts = world.attempts_after(known);
    let mut went: Vec<i64> = attempts
        .iter()
        .map(|it| it.answered_at.as_microsecond())
        .collect();
    went.sort_unstable();
    for (from, first) in went.iter().enumerate() {
        for (to, last) in went.iter().enumerate().skip(from) {
            let half_us = (last - first) * 3 + 2 * PLACE_LIFE_US;
            let at_rate = i64::from(rate.per_s) * half_us / 2_000_000;
            let most = at_rate + i64::from(rate.burst + processes + 1);
            let count = i64::try_from(to - from + 1).unwrap();
            assert!(count <= most, "{count} of {most} in {} us", last - first);
        }
    }
}

fn taken(receiver: &Receiver) -> BTreeSet<u64> {
    let sequences = receiver.headers("okra-event-sequence");
    sequences.iter().map(|seq| seq.parse().unwrap()).collect()
}

#[tokio::test]
async fn processes_keep_an_endpoints_rate_together() {
    for processes in [2, 8] {
        let (world, others) = together(processes).await;
        let receiver = Receiver::answering(&[]).await;
        world.endpoint(&receiver, &[], None).await;
        // Far more than may go at once, by all processes at the same moment.
        for _ in 0..12 {
            let dispatch = world.commit_balances(32).await;
            world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        }
        settle(&world, &others).await;
        let mut seconds = 0;
        while receiver.count() < 12 * 32 {
            world.advance(SECOND);
            settle(&world, &others).await;
            seconds += 1;
            // Not slower than its rate either.
            assert!(
                seconds <= (12 * 32 - 50) / 25 + 1,
                "{} came",
                receiver.count()
            );
        }
        assert_eq!(taken(&receiver), (1..=12 * 32).collect());
        assert_eq!(receiver.count(), 12 * 32);
        keep_the_bound(&world, 0, processes);
    }
}

#[tokio::test]
async fn what_was_parked_is_sent_at_the_rate_beside_what_comes_new() {
    let processes = 4;
    let (world, others) = together(processes).await;
    let receiver = Receiver::answering(&[]).await;
    receiver.usually(500);
    world.endpoint(&receiver, &[], None).await;
    for _ in 0..5 {
        let dispatch = world.commit_balances(32).await;
        world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        world.advance(SignedDuration::from_mins(1));
        settle(&world, &others).await;
    }
    assert!(world.attempted() >= OPEN_AFTER as usize);
    let parked = world.parked(&receiver).await.len();
    assert!(parked > 100, "{parked}");
    receiver.usually(200);
    let known = world.attempted();
    let mut seconds = 0;
    while taken(&receiver).len() < 160 + 10 * 10 || !world.parked(&receiver).await.is_empty() {
        if seconds % 10 == 0 && seconds < 100 {
            let dispatch = world.commit_balances(10).await;
            world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        }
        world.advance(SECOND);
        settle(&world, &others).await;
        seconds += 1;
        assert!(seconds < 400, "{:?} wait", world.parked(&receiver).await);
    }
    keep_the_bound(&world, known, processes);
}

/// Write units for each delivery of one of 32 processes: `each` events every so often, `times` times.
async fn units(each: u64, pause: SignedDuration, times: u32) -> f64 {
    let (world, _) = together(32).await;
    let receiver = Receiver::answering(&[]).await;
    world.endpoint(&receiver, &[], None).await;
    let mut units = 0.0;
    for _ in 0..times {
        let dispatch = world.commit_balances(each).await;
        let before = world.store.capacity();
        let report = world.dispatch(&dispatch).await;
        units += (world.store.capacity() - before).write_units;
        assert_eq!(
            u64::try_from(report.delivered).unwrap(),
            each,
            "all go at once"
        );
        world.advance(pause);
    }
    units / f64::from(times * u32::try_from(each).unwrap())
}

#[tokio::test]
async fn a_place_in_the_shared_pace_is_one_write_for_many() {
    let ms = SignedDuration::from_millis;
    let cases = [
        ("now and then", 1, ms(3_000), 20, 1.0),
        ("one each second", 1, ms(1_000), 20, 1.35),
        ("three a second", 1, ms(333), 60, 1.19),
        ("twenty a second", 1, ms(50), 100, 1.08),
        ("bursts of 32", 32, ms(3_000), 10, 1.08),
    ];
    for (what, each, pause, times, most) in cases {
        let units = units(each, pause, times).await;
        assert!(units <= most, "{what}: {units} write units");
    }
}
