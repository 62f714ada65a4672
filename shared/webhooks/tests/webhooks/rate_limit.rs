//! An endpoint's rate limit, kept by several processes over one table, on a driven clock.

use std::collections::BTreeSet;

use futures::future::join_all;
use jiff::SignedDuration;
use okra_core::{
    delivery::{endpoint_health::OPEN_AFTER_FAILURES, permit_pool::PERMIT_LIFE_US},
    resilience::rate_limiter::SendRate,
};
use okra_webhooks::{Deliverer, JitterRandom};

use crate::support::{DeliveryWorld, TestReceiver, handle_message_by};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A world of so many processes, all but the first.
async fn world_with_processes(processes: u32) -> (DeliveryWorld, Vec<Deliverer>) {
    let world = DeliveryWorld::with_processes(processes).await;
    let others =
        (1..processes).map(|nth| world.start_another_process(JitterRandom::from_seed(nth.into())));
    let others = others.collect();
    (world, others)
}

/// Handles what is in the queue, each message by the next process, until nothing is due.
async fn handle_until_idle(world: &DeliveryWorld, others: &[Deliverer]) {
    let mut all = std::iter::once(&world.deliverer).chain(others).cycle();
    loop {
        let messages = world.receive_messages().await;
        if messages.is_empty() {
            return;
        }
        let work = messages
            .into_iter()
            .map(|message| handle_message_by(all.next().unwrap(), message));
        for done in join_all(work).await {
            done.unwrap();
        }
    }
}

/// Nowhere more than R (1.5 W + 2) + B + P + 1 in W seconds, after the first `known` attempts.
fn assert_rate_bound(world: &DeliveryWorld, known: usize, processes: u32) {
    let rate = SendRate::default();
    let attempts = world.attempts_after(known);
    let mut went: Vec<i64> = attempts
        .iter()
        .map(|it| it.answered_at.as_microsecond())
        .collect();
    went.sort_unstable();
    for (from, first) in went.iter().enumerate() {
        for (to, last) in went.iter().enumerate().skip(from) {
            let half_us = (last - first) * 3 + 2 * PERMIT_LIFE_US;
            let at_rate = i64::from(rate.per_s) * half_us / 2_000_000;
            let most = at_rate + i64::from(rate.burst + processes + 1);
            let count = i64::try_from(to - from + 1).unwrap();
            assert!(count <= most, "{count} of {most} in {} us", last - first);
        }
    }
}

fn received_seqs(receiver: &TestReceiver) -> BTreeSet<u64> {
    let sequences = receiver.header_values("okra-event-sequence");
    sequences.iter().map(|seq| seq.parse().unwrap()).collect()
}

#[tokio::test]
async fn processes_keep_an_endpoints_rate_together() {
    for processes in [2, 8] {
        let (world, other_waiters) = world_with_processes(processes).await;
        let receiver = TestReceiver::with_statuses(&[]).await;
        world.add_endpoint(&receiver, &[], None).await;
        // Far more than may go at once, by all processes at the same moment.
        for _ in 0..12 {
            let dispatch = world.commit_balances(32).await;
            world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        }
        handle_until_idle(&world, &other_waiters).await;
        let mut seconds = 0;
        while receiver.request_count() < 12 * 32 {
            world.advance_clock(SECOND);
            handle_until_idle(&world, &other_waiters).await;
            seconds += 1;
            // Not slower than its rate either.
            assert!(
                seconds <= (12 * 32 - 50) / 25 + 1,
                "{} came",
                receiver.request_count()
            );
        }
        assert_eq!(received_seqs(&receiver), (1..=12 * 32).collect());
        assert_eq!(receiver.request_count(), 12 * 32);
        assert_rate_bound(&world, 0, processes);
    }
}

#[tokio::test]
async fn what_was_parked_is_sent_at_the_rate_beside_what_comes_new() {
    let processes = 4;
    let (world, other_waiters) = world_with_processes(processes).await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    receiver.set_default_status(500);
    world.add_endpoint(&receiver, &[], None).await;
    for _ in 0..5 {
        let dispatch = world.commit_balances(32).await;
        world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        world.advance_clock(SignedDuration::from_mins(1));
        handle_until_idle(&world, &other_waiters).await;
    }
    assert!(world.attempt_count() >= OPEN_AFTER_FAILURES as usize);
    let parked = world.parked_seqs(&receiver).await.len();
    assert!(parked > 100, "{parked}");
    receiver.set_default_status(200);
    let known = world.attempt_count();
    let mut seconds = 0;
    while received_seqs(&receiver).len() < 160 + 10 * 10
        || !world.parked_seqs(&receiver).await.is_empty()
    {
        if seconds % 10 == 0 && seconds < 100 {
            let dispatch = world.commit_balances(10).await;
            world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        }
        world.advance_clock(SECOND);
        handle_until_idle(&world, &other_waiters).await;
        seconds += 1;
        assert!(
            seconds < 400,
            "{:?} wait",
            world.parked_seqs(&receiver).await
        );
    }
    assert_rate_bound(&world, known, processes);
}

/// Write units for each delivery of one of 32 processes: `each` events every so often, `times` times.
async fn write_units_per_delivery(each: u64, pause: SignedDuration, times: u32) -> f64 {
    let (world, _) = world_with_processes(32).await;
    let receiver = TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let mut units = 0.0;
    for _ in 0..times {
        let dispatch = world.commit_balances(each).await;
        let before = world.store.capacity_used();
        let report = world.deliver_dispatch(&dispatch).await;
        units += (world.store.capacity_used() - before).write_units;
        assert_eq!(
            u64::try_from(report.delivered).unwrap(),
            each,
            "all go at once"
        );
        world.advance_clock(pause);
    }
    units / f64::from(times * u32::try_from(each).unwrap())
}

#[tokio::test]
async fn a_block_of_shared_permits_is_one_write_for_many_events() {
    let ms = SignedDuration::from_millis;
    let cases = [
        ("now and then", 1, ms(3_000), 20, 1.0),
        ("one each second", 1, ms(1_000), 20, 1.35),
        ("three a second", 1, ms(333), 60, 1.19),
        ("twenty a second", 1, ms(50), 100, 1.08),
        ("bursts of 32", 32, ms(3_000), 10, 1.08),
    ];
    for (what, each, pause, times, most) in cases {
        let units = write_units_per_delivery(each, pause, times).await;
        assert!(units <= most, "{what}: {units} write units");
    }
}
