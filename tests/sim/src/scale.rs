//! Ten million records on a virtual clock: what the planner makes of them, minute by minute.
//!
//! The planner is the real one and sees real due entries; banks and functions are counted, not run. A
//! chunk is taken to start when its delay is over, and all of its records with it: the worst a bank can see.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{BankId, ID_BYTES, RecordId},
        interval::{DueKey, Interval, Tick},
        snapshot::ByProduct,
    },
    schedule::plan::{BankRate, DueEntry, MAX_CHUNK_SECONDS, divide_fairly, plan_tick},
};

use crate::random::SimRandom;

/// Records of an interval, in a thousand of all.
pub type IntervalMix = &'static [(Interval, u32)];

/// 10 % hourly, 30 % every six hours, 60 % daily.
pub const MIXED_INTERVALS: IntervalMix = &[
    (Interval::OneHour, 100),
    (Interval::SixHours, 300),
    (Interval::Daily, 600),
];

/// All every hour.
pub const HOURLY_INTERVAL: IntervalMix = &[(Interval::OneHour, 1000)];

/// A bank of the fleet.
#[derive(Clone, Copy, Debug)]
pub struct FleetBank {
    /// Its records, in a thousand of all.
    pub permille: u32,
    /// Records per second it allows.
    pub records_per_second: u32,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Records.
    pub records: u32,
    /// On which intervals they are.
    pub mix: IntervalMix,
    /// At which banks they are.
    pub banks: Vec<FleetBank>,
    /// Minutes that are simulated.
    pub minutes: u32,
}

/// What one bank saw.
#[derive(Clone, Debug)]
pub struct BankLoad {
    /// What it allows, records per second.
    pub records_per_second: u32,
    /// Records started.
    pub started_records: u64,
    /// Records started in the fullest second, 10, 60 and 3,600 seconds.
    pub fullest_windows: [u64; WINDOW_SECONDS.len()],
    /// Records started in the fullest of these windows, beyond what the rate and one chunk for each
    /// interval allow; 0 where the law holds.
    pub excess_records: u64,
}

/// Windows that are looked at, in seconds.
pub const WINDOW_SECONDS: [usize; 4] = [1, 10, 60, 3600];

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct FleetLoad {
    /// Records planned.
    pub planned_records: u64,
    /// Records left to a later turn because their bank allows no more.
    pub unattainable_records: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Records planned in each minute.
    pub records_per_minute: Vec<u32>,
    /// Seconds a record waited in the queue, on average and at most.
    pub lag_s: (f64, u32),
    /// Chunks that were due after they were stale.
    pub stale_chunks: u64,
    /// By bank.
    pub banks: Vec<BankLoad>,
    /// Due entries in the largest slot.
    pub largest_slot: usize,
}

impl FleetLoad {
    /// The fullest minute over the average one.
    pub fn peak_to_average(&self) -> f64 {
        let most = self.records_per_minute.iter().copied().max().unwrap_or(0);
        let sum: u64 = self
            .records_per_minute
            .iter()
            .map(|&it| u64::from(it))
            .sum();
        ratio_or_zero(
            u64::from(most) * u64::try_from(self.records_per_minute.len()).unwrap_or(1),
            sum,
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio to be read")]
pub(crate) fn ratio_or_zero(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn fleet_record_id(n: u32) -> RecordId {
    let mut random = SimRandom::new(u64::from(n) << 8);
    let mut bytes = [0; ID_BYTES];
    bytes[..8].copy_from_slice(&random.next().to_be_bytes());
    let rest = random.next().to_be_bytes();
    bytes[8..].copy_from_slice(&rest[..ID_BYTES - 8]);
    RecordId::from_bytes(bytes)
}

fn fleet_bank_id(n: usize) -> BankId {
    BankId::from_bytes([u8::try_from(n).unwrap_or(u8::MAX); ID_BYTES])
}

/// The records of a slot: of each its number and its bank's.
type FleetSlot = Vec<(u32, u8)>;

/// Records by interval and slot.
struct FleetSlots(Vec<(Interval, Vec<FleetSlot>)>);

impl FleetSlots {
    fn from_fleet(fleet: &Fleet) -> Self {
        let mut slots: Vec<(Interval, Vec<FleetSlot>)> = fleet
            .mix
            .iter()
            .map(|&(interval, _)| (interval, vec![Vec::new(); usize::from(interval.minutes())]))
            .collect();
        let mut random = SimRandom::new(1);
        for n in 0..fleet.records {
            let draw = u32::try_from(random.number_below(1000)).unwrap_or(0);
            let (mut on, mut below) = (0, 0);
            for (at, &(_, permille)) in fleet.mix.iter().enumerate() {
                below += permille;
                if draw < below {
                    on = at;
                    break;
                }
            }
            let draw = u32::try_from(random.number_below(1000)).unwrap_or(0);
            let (mut bank, mut below) = (fleet.banks.len() - 1, 0);
            for (at, it) in fleet.banks.iter().enumerate() {
                below += it.permille;
                if draw < below {
                    bank = at;
                    break;
                }
            }
            let (interval, lists) = &mut slots[on];
            let key = DueKey {
                interval: *interval,
                bank: fleet_bank_id(bank),
                record: fleet_record_id(n),
            };
            lists[usize::from(key.slot().0)].push((n, u8::try_from(bank).unwrap_or(u8::MAX)));
        }
        Self(slots)
    }
}

/// Due entries of a slot.
fn make_due_entries(interval: Interval, records: &[(u32, u8)]) -> Vec<DueEntry> {
    let entry = |&(n, bank): &(u32, u8)| DueEntry {
        key: DueKey {
            interval,
            bank: fleet_bank_id(usize::from(bank)),
            record: fleet_record_id(n),
        },
        watermarks: ByProduct::default(),
        state_seq: None,
        failure_state: None,
    };
    records.iter().map(entry).collect()
}

/// Runs the fleet for its minutes.
///
/// # Panics
///
/// Where the fleet has no banks.
pub fn simulate_fleet(fleet: &Fleet) -> FleetLoad {
    let slots = FleetSlots::from_fleet(fleet);
    let begins = 1_767_225_600_i64 / 86_400 * 86_400;
    // A chunk may be delayed into the minute after the last.
    let seconds = usize::try_from(fleet.minutes).unwrap_or(0) * 60 + 900;
    let mut started = vec![vec![0_u32; seconds]; fleet.banks.len()];
    let mut load = FleetLoad {
        planned_records: 0,
        unattainable_records: 0,
        chunk_count: 0,
        records_per_minute: Vec::new(),
        lag_s: (0.0, 0),
        stale_chunks: 0,
        banks: Vec::new(),
        largest_slot: 0,
    };
    let mut waited = 0_u64;
    for minute in 0..fleet.minutes {
        let at = Timestamp::from_second(begins + i64::from(minute) * 60).unwrap_or_default();
        let due_now: Vec<(Interval, &FleetSlot)> = slots
            .0
            .iter()
            .map(|(interval, lists)| (*interval, &lists[usize::from(interval.slot_at(at).0)]))
            .collect();
        let demands: Vec<Vec<u32>> = (0..fleet.banks.len())
            .map(|bank| {
                let of = |list: &FleetSlot| {
                    list.iter()
                        .filter(|(_, it)| usize::from(*it) == bank)
                        .count()
                };
                due_now
                    .iter()
                    .map(|(_, list)| u32::try_from(of(list)).unwrap_or(u32::MAX))
                    .collect()
            })
            .collect();
        let mut this_minute = 0;
        for (turn, (interval, list)) in due_now.iter().enumerate() {
            let tick = Tick {
                interval: *interval,
                at,
            };
            load.largest_slot = load.largest_slot.max(list.len());
            let plan = plan_tick(tick, make_due_entries(*interval, list), |bank| {
                let bank = usize::from(bank.as_bytes()[0]);
                let whole = BankRate::from_per_second(fleet.banks[bank].records_per_second);
                whole.with_per_minute(divide_fairly(&demands[bank], whole.per_minute)[turn])
            });
            load.unattainable_records += u64::try_from(plan.unreachable_records).unwrap_or(0);
            for chunk in &plan.chunks {
                let count = u32::try_from(chunk.records.len()).unwrap_or(0);
                let second = usize::try_from(minute).unwrap_or(0) * 60 + usize::from(chunk.delay_s);
                started[usize::from(chunk.bank.as_bytes()[0])][second] += count;
                this_minute += count;
                waited += u64::from(count) * u64::from(chunk.delay_s);
                load.lag_s.1 = load.lag_s.1.max(chunk.delay_s.into());
                let starts = tick.at.as_second() + i64::from(chunk.delay_s);
                load.stale_chunks += u64::from(starts > chunk.not_after.as_second());
            }
            load.chunk_count += u64::try_from(plan.chunks.len()).unwrap_or(0);
        }
        load.planned_records += u64::from(this_minute);
        load.records_per_minute.push(this_minute);
    }
    load.lag_s.0 = ratio_or_zero(waited, load.planned_records);
    let intervals = u64::try_from(fleet.mix.len()).unwrap_or(1);
    load.banks = fleet
        .banks
        .iter()
        .zip(&started)
        .map(|(bank, started)| measure_bank_load(bank.records_per_second, intervals, started))
        .collect();
    load
}

fn measure_bank_load(records_per_second: u32, interval_count: u64, started: &[u32]) -> BankLoad {
    let burst = u64::from(records_per_second * MAX_CHUNK_SECONDS).min(100) * interval_count;
    let mut bank = BankLoad {
        records_per_second,
        started_records: started.iter().map(|&it| u64::from(it)).sum(),
        fullest_windows: [0; 4],
        excess_records: 0,
    };
    for (at, &window) in WINDOW_SECONDS.iter().enumerate() {
        let mut sum = 0_u64;
        for (second, &count) in started.iter().enumerate() {
            sum += u64::from(count);
            if second >= window {
                sum -= u64::from(started[second - window]);
            }
            bank.fullest_windows[at] = bank.fullest_windows[at].max(sum);
        }
        let allowed = u64::from(records_per_second) * u64::try_from(window).unwrap_or(0) + burst;
        bank.excess_records = bank
            .excess_records
            .max(bank.fullest_windows[at].saturating_sub(allowed));
    }
    bank
}
