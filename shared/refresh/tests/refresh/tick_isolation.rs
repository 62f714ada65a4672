//! A tick serves many apps and banks: what is wrong with one record or bank does not concern the others of the tick.

use std::sync::{Arc, Mutex};

use okra_core::model::{
    bank::{BankConfig, BankLimits},
    ids::{BankId, RecordId, Seq},
    interval::Interval,
};
use okra_refresh::{RefreshObserver, RefreshReport};
use tokio::net::TcpListener;

use crate::world::RefreshWorld;

/// Comes before the world's own bank in every order by id, as an app can choose for its own.
const FIRST_BANK: BankId = BankId::from_bytes([0x01; 12]);
const LAST_BANK: BankId = BankId::from_bytes([0xfe; 12]);

/// Milliseconds that the bank that never responds is waited for.
const SHORT_DEADLINE_MS: u32 = 1_000;

/// Keeps the order in which records ended.
#[derive(Default)]
struct RefreshOrder(Mutex<Vec<RecordId>>);

impl RefreshObserver for RefreshOrder {
    fn on_record_refreshed(&self, refreshed: &RefreshReport) {
        self.0.lock().unwrap().push(refreshed.record);
    }
}

/// Replaces the bank by one that accepts connections and never responds.
async fn silence_bank(world: &RefreshWorld, bank: BankId, deadline_ms: u32) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = world.store.find_bank(bank).await.unwrap().unwrap();
    let silent = BankConfig {
        base_url: format!("http://{}", listener.local_addr().unwrap()),
        limits: BankLimits {
            deadline_ms,
            ..config.limits
        },
        ..config
    };
    world.store.put_bank(&silent).await.unwrap();
    listener
}

#[tokio::test]
async fn a_bank_that_responds_late_does_not_delay_other_banks_of_the_tick() {
    let world = RefreshWorld::new().await;
    let late = world.link_at_new_bank(FIRST_BANK).await;
    let other = world.link_at_new_bank(LAST_BANK).await;
    let _silent = silence_bank(&world, FIRST_BANK, SHORT_DEADLINE_MS).await;

    let order = Arc::new(RefreshOrder::default());
    let refresher = world.refresher.clone().with_observer(order.clone());
    let tick = world.tick_now(Interval::OneMinute);
    let report = refresher.run_tick(tick).await.unwrap();

    assert_eq!(report.inline.unwrap().changed, 1);
    let order = order.0.lock().unwrap().clone();
    assert_eq!(order, [other.key.record, late.key.record]);
}

#[tokio::test]
async fn a_bank_that_may_respond_very_late_is_refreshed_through_the_queue() {
    let world = RefreshWorld::new().await;
    world.link_at_new_bank(FIRST_BANK).await;
    let other = world.link_at_new_bank(LAST_BANK).await;
    let _silent = silence_bank(&world, FIRST_BANK, 60_000).await;

    let report = world.run_tick(Interval::OneMinute, 0).await;

    assert_eq!(report.chunks, 1);
    assert_eq!(report.inline.unwrap().changed, 1);
    assert!(world.load_head(&other).await.seq > Seq::ZERO);
}

#[tokio::test]
async fn a_chunk_that_fails_for_a_fault_of_our_own_does_not_stop_those_after_it() {
    let world = RefreshWorld::new().await;
    let broken = world.link_at_new_bank(FIRST_BANK).await;
    let other = world.link_at_new_bank(LAST_BANK).await;
    world.delete_bank_config(FIRST_BANK).await;

    let report = world.run_tick(Interval::OneMinute, 0).await;

    let inline = report.inline.unwrap();
    assert_eq!((inline.changed, inline.failed), (1, 1));
    assert_eq!(world.load_head(&broken).await.seq, Seq::ZERO);
    assert!(world.load_head(&other).await.seq > Seq::ZERO);
}
