//! Law 9 over a virtual clock: the records of a bank that are fetched in a minute, by the ticks of all intervals and by
//! what no tick planned, do not exceed its rate.

use std::collections::BTreeMap;

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{BankId, RecordId},
        interval::{DueKey, Interval, TICK_SPREAD_S, Tick},
        snapshot::ByProduct,
    },
    resilience::rate_limiter::{AD_HOC_SECONDS, AdHocBudget, RateLimiter},
    schedule::plan::{BankRate, DueEntry, divide_fairly, plan_tick},
};
use proptest::prelude::*;

const BANK: BankId = BankId::from_bytes([0xba; 12]);

/// A minute: records due on each interval, and the milliseconds of refreshes on demand.
fn any_minute() -> impl Strategy<Value = (Vec<u32>, Vec<i64>)> {
    let due = prop::collection::vec(0..200_u32, Interval::ALL.len());
    (due, prop::collection::vec(0..60_000_i64, 0..80))
}

fn due_entry(interval: Interval, n: u32) -> DueEntry {
    let mut id = [0; 12];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id[4] = u8::try_from(interval.minutes() % 251).unwrap_or(0);
    DueEntry {
        key: DueKey {
            interval,
            bank: BANK,
            record: RecordId::from_bytes(id),
        },
        watermarks: ByProduct::default(),
        state_seq: None,
        failure_state: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_minute_of_a_bank_exceeds_its_rate(
        records_per_second in 1..5_u32,
        max_wait_ms in prop::sample::select(vec![0, 20_000]),
        minutes in prop::collection::vec(any_minute(), 1..6),
    ) {
        let start = 1_700_000_040_i64;
        let whole = BankRate::from_per_second(records_per_second);
        let (mut planned, mut unplanned) = (BTreeMap::new(), BTreeMap::new());
        let (mut limiter, budget) = (RateLimiter::default(), AdHocBudget::from_bank_rate(records_per_second));
        for (at, (due, requested_at_ms)) in (start..).step_by(60).zip(minutes) {
            // Each tick sees what the others need, and comes to the same division.
            let shares = divide_fairly(&due, whole.per_minute);
            for ((interval, count), share) in Interval::ALL.into_iter().zip(&due).zip(shares) {
                let tick = Tick { interval, at: Timestamp::from_second(at).unwrap() };
                let entries = (0..*count).map(|n| due_entry(interval, n)).collect();
                let rate_of_tick = if *count <= whole.guaranteed_per_minute() { whole } else { whole.with_per_minute(share) };
                for chunk in plan_tick(tick, entries, |_| rate_of_tick).chunks {
                    let minute = (at + i64::from(chunk.delay_s)).div_euclid(60);
                    *planned.entry(minute).or_insert(0) += chunk.records.len();
                }
            }
            let mut requested_at_ms = requested_at_ms;
            requested_at_ms.sort_unstable();
            for ms in requested_at_ms {
                let now_us = (at * 1000 + ms) * 1000;
                let reservation = budget.plan_reservation(limiter, now_us, max_wait_ms * 1000, 1);
                if let Some((after, permits)) = reservation.apply_to(limiter, now_us) {
                    limiter = after;
                    let us = budget.first_permit_at_us(after, permits, now_us);
                    *unplanned.entry(us.div_euclid(60_000_000)).or_insert(0) += 1;
                }
            }
        }
        let rate = records_per_second as usize;
        for (minute, count) in &planned {
            prop_assert!(*count <= rate * TICK_SPREAD_S as usize, "{count} planned");
            let all = count + unplanned.get(minute).copied().unwrap_or(0);
            prop_assert!(all <= rate * 60, "{all} in a minute at {rate} a second");
        }
        for count in unplanned.values() {
            prop_assert!(*count <= rate * AD_HOC_SECONDS as usize, "{count} unplanned");
        }
    }
}
