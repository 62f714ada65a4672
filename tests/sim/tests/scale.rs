//! The planner at scale, in small: flat load, and no bank over its rate.

use okra_core::schedule::Interval;
use okra_sim::scale::{Fleet, FleetBank, HOURLY, Load, MIXED, Mix, simulate};

fn run(mix: Mix, minutes: u32, rates: [u32; 2]) -> Load {
    let [a, b] = rates;
    let banks = vec![
        FleetBank {
            permille: 700,
            rate: a,
        },
        FleetBank {
            permille: 300,
            rate: b,
        },
    ];
    simulate(&Fleet {
        records: 60_000,
        mix,
        banks,
        minutes,
    })
}

#[test]
fn a_day_of_mixed_records_is_flat_and_keeps_every_banks_rate() {
    let load = run(MIXED, u32::from(Interval::Daily.minutes()), [6, 3]);
    let each_day = |per_day: u64, permille: u64| 60_000 * permille / 1000 * per_day;
    let expected = each_day(24, 100) + each_day(4, 300) + each_day(1, 600);
    // The mix is drawn, so its parts differ from their thousandths by chance.
    let planned = load.planned + load.left_out;
    assert!(
        planned.abs_diff(expected) < expected / 20,
        "{planned} of {expected}"
    );
    assert_eq!(load.left_out, 0);
    assert_eq!(load.stale, 0);
    assert!(load.flatness() < 1.5, "{}", load.flatness());
    assert!(
        load.banks.iter().all(|bank| bank.over == 0),
        "{:?}",
        load.banks
    );
    assert!(load.lag_s.1 < 60);
}

#[test]
fn a_bank_that_allows_too_little_gets_what_it_allows_and_no_more() {
    // Its 18,000 hourly records need 5 a second.
    let load = run(HOURLY, 120, [20, 2]);
    assert!(
        load.banks.iter().all(|bank| bank.over == 0),
        "{:?}",
        load.banks
    );
    assert!(load.left_out > 0);
    let slow = &load.banks[1];
    let allowed = 2 * 50 * 120;
    assert!(
        slow.started <= allowed && slow.started > allowed * 9 / 10,
        "{} of {allowed}",
        slow.started
    );
}
