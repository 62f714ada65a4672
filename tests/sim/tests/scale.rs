//! The planner at scale, in small: flat load, and no bank over its rate.

use okra_core::model::interval::Interval;
use okra_sim::scale::{
    Fleet, FleetBank, FleetLoad, HOURLY_INTERVAL, IntervalMix, MIXED_INTERVALS, simulate_fleet,
};

fn simulate_two_banks(mix: IntervalMix, minutes: u32, rates: [u32; 2]) -> FleetLoad {
    let [a, b] = rates;
    let banks = vec![
        FleetBank {
            permille: 700,
            records_per_second: a,
        },
        FleetBank {
            permille: 300,
            records_per_second: b,
        },
    ];
    simulate_fleet(&Fleet {
        records: 60_000,
        mix,
        banks,
        minutes,
    })
}

#[test]
fn a_day_of_mixed_records_is_flat_and_keeps_every_banks_rate() {
    let load = simulate_two_banks(
        MIXED_INTERVALS,
        u32::from(Interval::Daily.minutes()),
        [6, 3],
    );
    let each_day = |per_day: u64, permille: u64| 60_000 * permille / 1000 * per_day;
    let expected = each_day(24, 100) + each_day(4, 300) + each_day(1, 600);
    // The mix is drawn, so its parts differ from their thousandths by chance.
    let planned = load.planned_records + load.unattainable_records;
    assert!(
        planned.abs_diff(expected) < expected / 20,
        "{planned} of {expected}"
    );
    assert_eq!(load.unattainable_records, 0);
    assert_eq!(load.stale_chunks, 0);
    assert!(load.peak_to_average() < 1.5, "{}", load.peak_to_average());
    assert!(
        load.banks.iter().all(|bank| bank.excess_records == 0),
        "{:?}",
        load.banks
    );
    assert!(load.lag_s.1 < 60);
}

#[test]
fn a_bank_that_allows_too_little_gets_what_it_allows_and_no_more() {
    // Its 18,000 hourly records need 5 a second.
    let load = simulate_two_banks(HOURLY_INTERVAL, 120, [20, 2]);
    assert!(
        load.banks.iter().all(|bank| bank.excess_records == 0),
        "{:?}",
        load.banks
    );
    assert!(load.unattainable_records > 0);
    let slow = &load.banks[1];
    let allowed = 2 * 50 * 120;
    assert!(
        slow.started_records <= allowed && slow.started_records > allowed * 9 / 10,
        "{} of {allowed}",
        slow.started_records
    );
}
