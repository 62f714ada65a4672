//! What could not be fetched at its turn is fetched before the next one, within the bank's rate.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{BankId, RecordId},
        interval::{Interval, Tick},
    },
    schedule::plan::{Chunk, MAX_REQUEUES, RefreshTrigger},
};
use okra_queue::{FetchMessage, Queue};
use okra_refresh::{ChunkReport, RefreshOutcome};
use okra_sandbox::{FaultTarget, Faults, Outage, Volume};
use okra_store::Consistency;

use crate::{
    check_laws, state_changes,
    world::{LinkedRecord, RefreshWorld, TEST_BANK},
};

/// A chunk of a tick so many seconds ago, as the fetch queue carries it.
async fn build_tick_chunk(
    world: &RefreshWorld,
    linked_records: &[LinkedRecord],
    seconds_ago: i64,
) -> Chunk {
    let mut records = Vec::new();
    for linked in linked_records {
        let entry = world
            .store
            .find_due_entry(linked.key, Consistency::Strong)
            .await;
        records.push(entry.unwrap().unwrap());
    }
    let tick = Tick {
        interval: records[0].key.interval,
        at: world.clock.now() - jiff::SignedDuration::from_secs(seconds_ago),
    };
    Chunk {
        id: "test".into(),
        bank: TEST_BANK,
        trigger: RefreshTrigger::Scheduled { tick },
        not_after: tick.not_after(),
        delay_s: 0,
        requeue_count: 0,
        records,
    }
}

async fn link_records(world: &RefreshWorld, count: usize, interval: Interval) -> Vec<LinkedRecord> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(world.link_on_interval(interval, 1, Volume::Low).await);
        world.refresh_record(&all[all.len() - 1]).await;
    }
    all
}

/// Works off what was put off until nothing is or the time is over: when, and what came of it.
async fn run_requeued_chunks(
    world: &RefreshWorld,
    until: Timestamp,
) -> Vec<(Timestamp, ChunkReport)> {
    let mut all = Vec::new();
    while world.clock.now() < until {
        world.advance_clock(10);
        for message in world
            .queues
            .receive_messages(Queue::Fetch, 10, 0)
            .await
            .unwrap()
        {
            // Steps of histories are not of interest here.
            if let FetchMessage::ChunkV1(chunk) = serde_json::from_str(&message.body).unwrap() {
                let report = world.refresher.refresh_chunk(chunk, false).await.unwrap();
                all.push((world.clock.now(), report));
            }
            let receipts = [message.receipt];
            world
                .queues
                .delete_messages(Queue::Fetch, &receipts)
                .await
                .unwrap();
        }
    }
    all
}

fn minutes_from_now(world: &RefreshWorld, minutes: i64) -> Timestamp {
    world.clock.now() + jiff::SignedDuration::from_mins(minutes)
}

fn set_bank_outage(world: &RefreshWorld, outage: Option<Outage>) {
    let faults = Faults {
        outage,
        ..Faults::default()
    };
    world.bank.set_faults(FaultTarget::Bank, faults).unwrap();
}

/// A daily record whose turn falls into an outage is not a day older than others: it is told at its
/// second turn, minutes later, and refreshed when the bank is back.
#[tokio::test]
async fn daily_records_are_refreshed_as_soon_as_their_bank_is_back() {
    const RECORDS: usize = 20;
    let world = RefreshWorld::new().await;
    let all = link_records(&world, RECORDS, Interval::Daily).await;
    set_bank_outage(&world, Some(Outage::Unavailable));
    let turn = build_tick_chunk(&world, &all, 0).await;
    let report = world.refresher.refresh_chunk(turn, false).await.unwrap();
    assert_eq!((report.failed, report.requeued), (RECORDS, RECORDS));

    let calls = world.bank.call_count();
    let down = run_requeued_chunks(&world, minutes_from_now(&world, 180)).await;
    // Told by two refreshes; then a chunk reads the breaker and no record.
    let read = down.iter().filter(|(_, report)| report.failed > 0).count();
    assert!(read <= 20, "{read}");
    let probes = (world.bank.call_count() - calls) / 2;
    assert!((8..=40).contains(&probes), "{probes}");
    for linked in &all {
        assert_eq!(
            state_changes(&world.load_feed(linked).await).len(),
            2,
            "told once"
        );
    }

    // Its tick plans them all the same.
    let report = world.refresher.run_tick(Tick {
        interval: Interval::Daily,
        at: all[0].key.next_due_at(world.clock.now()),
    });
    assert_eq!(report.await.unwrap().down, 0);

    set_bank_outage(&world, None);
    let back = run_requeued_chunks(&world, minutes_from_now(&world, 16)).await;
    let refreshed: usize = back.iter().map(|(_, it)| it.unchanged + it.changed).sum();
    assert!(refreshed >= RECORDS, "{back:?}");
    for linked in &all {
        assert_eq!(
            state_changes(&world.load_feed(linked).await).len(),
            4,
            "and taken back"
        );
        assert_eq!(
            world.refresh_record(linked).await,
            RefreshOutcome::Unchanged
        );
        check_laws(&world, linked).await;
    }
    assert_eq!(
        run_requeued_chunks(&world, minutes_from_now(&world, 60)).await,
        [],
        "and that is that"
    );
}

/// Law 9: a backlog is worked off at the pace that the bank allows beside its ticks.
#[tokio::test]
async fn late_chunks_stay_within_the_rate_of_the_bank() {
    const RECORDS: usize = 40;
    let world = RefreshWorld::new().await;
    let all = link_records(&world, RECORDS, Interval::OneHour).await;
    world
        .change_bank_limits(|limits| limits.records_per_second = 1)
        .await;
    for late_s in [0, 600] {
        let begun = world.clock.now();
        let turn = build_tick_chunk(&world, &all, late_s).await;
        let first = world.refresher.refresh_chunk(turn, false).await.unwrap();
        if late_s == 0 {
            assert_eq!(first.unchanged, RECORDS, "{first:?}");
            continue;
        }
        let mut runs = vec![(begun, first)];
        runs.extend(run_requeued_chunks(&world, minutes_from_now(&world, 20)).await);
        let refreshed = |runs: &[(Timestamp, ChunkReport)]| -> usize {
            runs.iter().map(|(_, it)| it.unchanged + it.changed).sum()
        };
        assert_eq!(refreshed(&runs), RECORDS, "{runs:?}");
        for (at, _) in &runs {
            let minute = *at..*at + jiff::SignedDuration::from_secs(60);
            let within: Vec<_> = runs
                .iter()
                .filter(|(at, _)| minute.contains(at))
                .cloned()
                .collect();
            assert!(refreshed(&within) <= 10, "{within:?}");
        }
    }
}

/// A record that alone is not answered is asked a few times more, where a day's quota is not spent on it.
/// Of records that are gone with their bank, nothing is asked: there is no pace to keep.
#[tokio::test]
async fn a_late_chunk_of_a_bank_that_is_gone_does_nothing() {
    let world = RefreshWorld::new().await;
    let all = link_records(&world, 1, Interval::OneHour).await;
    let mut turn = build_tick_chunk(&world, &all, 600).await;
    turn.bank = BankId::from_bytes([9; 12]);
    turn.records[0].key.record = RecordId::from_bytes([9; 12]);
    let report = world.refresher.refresh_chunk(turn, false).await.unwrap();
    assert_eq!(report.gone, 1, "{report:?}");
}

#[tokio::test]
async fn a_record_that_fails_alone_is_fetched_again_a_few_times() {
    for quota in [None, Some(4)] {
        let world = RefreshWorld::new().await;
        let all = link_records(&world, 1, Interval::SixHours).await;
        world
            .change_bank_limits(|limits| limits.unattended_per_day = quota)
            .await;
        let faults = Faults {
            outage: Some(Outage::Unavailable),
            ..Faults::default()
        };
        let target = FaultTarget::Login(all[0].login);
        world.bank.set_faults(target, faults).unwrap();
        let turn = build_tick_chunk(&world, &all, 0).await;
        let report = world.refresher.refresh_chunk(turn, false).await.unwrap();
        assert_eq!(report.failed, 1);
        let again = run_requeued_chunks(&world, minutes_from_now(&world, 300)).await;
        let expected = match quota {
            None => usize::from(MAX_REQUEUES),
            Some(_) => 0,
        };
        assert_eq!(again.len(), expected, "{again:?}");
        // At the next turn its app knows.
        let turn = build_tick_chunk(&world, &all, 0).await;
        let report = world.refresher.refresh_chunk(turn, false).await.unwrap();
        assert_eq!((report.failed, report.requeued), (1, 0));
    }
}
