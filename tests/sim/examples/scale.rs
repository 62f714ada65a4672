//! Ten million records on a virtual clock.
//!
//! ```text
//! cargo run --profile sim -p okra-sim --example scale [-- RECORDS]
//! ```
#![expect(clippy::print_stdout, reason = "a report")]

use okra_core::model::interval::Interval;
use okra_sim::scale::{
    Fleet, FleetBank, HOURLY_INTERVAL, IntervalMix, MIXED_INTERVALS, WINDOW_SECONDS, simulate_fleet,
};

/// Ten banks of a market in which three hold most accounts; each allows a quarter more than its hourly
/// records would need, and one, the last, only half of it.
fn market_banks(records: u32, mix: IntervalMix) -> Vec<FleetBank> {
    let sizes = [240, 180, 140, 100, 90, 80, 70, 50, 30, 20];
    let per_hour: f64 = mix
        .iter()
        .map(|&(interval, permille)| {
            f64::from(permille) / 1000.0 * 60.0 / f64::from(interval.minutes())
        })
        .sum();
    let rate = |n: usize, permille: u32| {
        let needed = f64::from(records) * f64::from(permille) / 1000.0 * per_hour / 3600.0;
        let allowed = needed * if n == 9 { 0.5 } else { 1.5 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of a few thousand"
        )]
        let whole = allowed.ceil() as u32;
        whole.max(1)
    };
    sizes
        .into_iter()
        .enumerate()
        .map(|(n, permille)| FleetBank {
            permille,
            records_per_second: rate(n, permille),
        })
        .collect()
}

fn print_load_report(name: &str, records: u32, mix: IntervalMix, minutes: u32) {
    let fleet = Fleet {
        records,
        mix,
        banks: market_banks(records, mix),
        minutes,
    };
    let load = simulate_fleet(&fleet);
    println!("\n{name}: {records} records, {minutes} minutes");
    println!(
        "  planned {}   left to a later turn {}   stale {}",
        load.planned_records, load.unattainable_records, load.stale_chunks
    );
    let least = load.records_per_minute.iter().min().copied().unwrap_or(0);
    let most = load.records_per_minute.iter().max().copied().unwrap_or(0);
    println!(
        "  a minute: {least} to {most} records, fullest over average {:.4}",
        load.peak_to_average()
    );
    println!(
        "  chunks {}   largest slot {}   lag {:.1} s on average, {} s at most",
        load.chunk_count, load.largest_slot, load.lag_s.0, load.lag_s.1
    );
    println!("  bank   allows/s   started   fullest {WINDOW_SECONDS:?} s   over");
    for (n, bank) in load.banks.iter().enumerate() {
        println!(
            "  {n:>4}   {:>8}   {:>9}   {:?}   {}",
            bank.records_per_second,
            bank.started_records,
            bank.fullest_windows,
            bank.excess_records
        );
    }
}

fn main() {
    let records = std::env::args()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .unwrap_or(10_000_000);
    print_load_report(
        "10 % hourly, 30 % every six hours, 60 % daily",
        records,
        MIXED_INTERVALS,
        u32::from(Interval::Daily.minutes()),
    );
    print_load_report(
        "all every hour",
        records,
        HOURLY_INTERVAL,
        2 * u32::from(Interval::OneHour.minutes()),
    );
}
