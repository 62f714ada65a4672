//! Planning a tick. The cast: [`DueEntry`], a record that is due; [`BankRate`], what a tick may fetch from a bank;
//! [`plan_tick`], which groups the entries of a slot by bank and cuts them into a [`TickPlan`] of [`Chunk`]s.
//!
//! The rules: the same entries in any order give the same plan, no bank is called above its rate, and a record that is
//! left out in one tick comes first in a later one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        ids::{BankId, RecordId, Seq},
        interval::{DueKey, Interval, TICK_SPREAD_S, Tick},
        snapshot::{ByProduct, Product},
    },
    resilience::failure_state::FailureState,
    sync::decide::Watermark,
};

/// A record that is due on an interval, with what was last dispatched of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueEntry {
    /// Where it is stored.
    pub key: DueKey,
    /// For each product on this interval, what was last dispatched.
    #[serde(rename = "marks")]
    pub watermarks: ByProduct<Watermark>,
    /// The last change of state that was dispatched. Only on the entry of the record's shortest interval, as each product
    /// is on one interval only.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    pub state_seq: Option<Seq>,
    /// What failed in its last refresh; `None` where nothing did.
    #[serde(rename = "f", skip_serializing_if = "Option::is_none", default)]
    pub failure_state: Option<FailureState>,
}

/// How a refresh began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum RefreshTrigger {
    /// A tick.
    Scheduled {
        /// The tick.
        tick: Tick,
    },
    /// An app, a user or an operator requested it.
    OnDemand {
        /// The requested product; `None` for all.
        product: Option<Product>,
        /// The address of the user, where the user is present: banks allow more then.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        user: Option<std::net::IpAddr>,
        /// True where the refresh is a job: how it ended is stored for the app that asked for it. Messages of earlier
        /// releases do not say it.
        #[serde(rename = "job", skip_serializing_if = "std::ops::Not::not", default)]
        is_job: bool,
    },
}

/// Records of one bank that are refreshed together; the message of the fetch queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Derived from the tick, so that a tick delivered twice plans the same chunks.
    pub id: String,
    /// The bank of all its records.
    pub bank: BankId,
    /// How the refresh began.
    #[serde(rename = "requested")]
    pub trigger: RefreshTrigger,
    /// Dropped and counted after this instant: the next tick covers its records.
    pub not_after: Timestamp,
    /// Seconds that the message waits in the queue, so that the bank's rate is respected.
    #[serde(skip)]
    pub delay_s: u16,
    /// How often it was requeued.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[serde(rename = "again")]
    pub requeue_count: u8,
    /// The records.
    pub records: Vec<DueEntry>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Seconds after its tick from which on a chunk is late: by then the bank's rate is planned for the chunks of other
/// ticks.
const CHUNK_LATE_AFTER_S: i64 = 120;

/// Seconds after which a requeued chunk comes again, at least.
const MIN_REQUEUE_DELAY_S: u32 = 60;

/// Records of this interval, in minutes, and longer ones are requeued before their next tick where their bank was not
/// called or did not respond.
const MIN_REQUEUE_INTERVAL_MIN: u16 = 60;

/// How often a record whose bank does not respond is requeued before its next tick. Records of a bank whose circuit is
/// open are not fetched, and are requeued as often as it takes.
pub const MAX_REQUEUES: u8 = 4;

/// True where the ticks of an interval are so far apart that one is not skipped because of an outage.
pub const fn is_long_interval(interval: Interval) -> bool {
    interval.minutes() >= MIN_REQUEUE_INTERVAL_MIN
}

impl Chunk {
    /// Its tick; `None` where it was requested on demand.
    pub const fn scheduled_tick(&self) -> Option<Tick> {
        match self.trigger {
            RefreshTrigger::Scheduled { tick } => Some(tick),
            RefreshTrigger::OnDemand { .. } => None,
        }
    }

    /// True where it carries out a job: the app that asked for it is shown how it ended.
    pub const fn is_job(&self) -> bool {
        matches!(self.trigger, RefreshTrigger::OnDemand { is_job: true, .. })
    }

    /// True where it is received so late that the bank's rate is planned for other chunks.
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.scheduled_tick()
            .is_some_and(|tick| now.as_second() - tick.at.as_second() > CHUNK_LATE_AFTER_S)
    }

    /// True where the next tick of its records is so far off that they are requeued before it.
    pub fn is_worth_requeueing(&self) -> bool {
        self.scheduled_tick()
            .is_some_and(|tick| is_long_interval(tick.interval))
    }

    /// A chunk of some of its records that comes again after `wait_s` seconds, or after as many as a message can wait.
    /// `None` where there are no records, their next tick comes before, or the refresh is on demand and its caller is
    /// waiting.
    #[must_use]
    pub fn requeue(&self, records: Vec<DueEntry>, wait_s: u32, now: Timestamp) -> Option<Self> {
        let delay_s = wait_s.clamp(MIN_REQUEUE_DELAY_S, MAX_QUEUE_DELAY_S);
        let at = now.as_second() + i64::from(delay_s);
        let in_time = self.scheduled_tick().is_some() && at < self.not_after.as_second();
        (in_time && !records.is_empty()).then(|| Self {
            id: self.id.clone(),
            bank: self.bank,
            trigger: self.trigger,
            not_after: self.not_after,
            // Clamped to MAX_QUEUE_DELAY_S above.
            delay_s: u16::try_from(delay_s).unwrap_or(u16::MAX),
            // Only whether it is small matters.
            requeue_count: self.requeue_count.saturating_add(1),
            records,
        })
    }
}

/// Records in a chunk at most: one BatchGetItem reads 100 consents.
pub const MAX_RECORDS_PER_CHUNK: usize = 100;

/// Seconds a message can wait in a queue at most (SQS `DelaySeconds`).
pub const MAX_QUEUE_DELAY_S: u32 = 900;

/// Seconds of a bank's rate that one chunk may hold, so that a chunk does not take long. Also the burst above its rate
/// that a bank can see from one interval.
pub const MAX_CHUNK_SECONDS: u32 = 10;

/// A hash of a record and a minute, evenly from all of `u32`: the random number of a record in a tick. It differs from
/// day to day also for records that are due in the same minute of each day.
pub fn random_for_record(record: RecordId, now: Timestamp) -> u32 {
    let [.., a, b, c, d] = *record.as_bytes();
    let minute = now.as_second().div_euclid(60).rem_euclid(1 << 31);
    // A remainder of 2^31 fits.
    let minute = u32::try_from(minute).unwrap_or(0);
    (u32::from_be_bytes([a, b, c, d]) ^ minute).wrapping_mul(0x9E37_79B1)
}

/// Seconds for which a chunk waits that got no permits of its bank: another for each, from a range that doubles each time
/// in a row, so that they do not all come back at once.
pub fn requeue_delay_s(record: RecordId, now: Timestamp, requeue_count: u8) -> u32 {
    let range =
        (MIN_REQUEUE_DELAY_S << requeue_count.min(4)).min(MAX_QUEUE_DELAY_S - MIN_REQUEUE_DELAY_S);
    MIN_REQUEUE_DELAY_S + random_for_record(record, now) % range
}

/// How many records of a bank a tick may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankRate {
    /// Records started within the tick's minute at most; 0 counts as 1.
    pub per_minute: u32,
    /// Records started at once at most; 0 counts as 1.
    pub burst: u32,
}

impl BankRate {
    /// The whole rate of a bank, for a tick that is the only one.
    pub const fn from_per_second(records_per_second: u32) -> Self {
        Self {
            per_minute: records_per_second.saturating_mul(TICK_SPREAD_S),
            burst: records_per_second.saturating_mul(MAX_CHUNK_SECONDS),
        }
    }

    /// The same where this tick may start so many records in a minute.
    #[must_use]
    pub const fn with_per_minute(self, per_minute: u32) -> Self {
        Self { per_minute, ..self }
    }

    /// What each interval may start whatever the others need: a tick with no more records never exceeds the bank's rate.
    pub const fn guaranteed_per_minute(self) -> u32 {
        // Eight intervals; a constant, because a cast is not const.
        self.per_minute / INTERVAL_COUNT
    }
}

const INTERVAL_COUNT: u32 = 8;
const _: () = assert!(Interval::ALL.len() == INTERVAL_COUNT as usize);

/// Divides a budget among demands so that the smallest are met first and the largest get the same (max-min fairness): no
/// demand gets more than it is, nothing is left while a demand is unmet, and the sum never exceeds the budget. The order
/// of the demands decides which gets what cannot be divided.
pub fn divide_fairly(demands: &[u32], budget: u32) -> Vec<u32> {
    let mut shares = vec![0; demands.len()];
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&at| (demands[at], at));
    let mut left = budget;
    for (done, &at) in order.iter().enumerate() {
        // There are as many demands as intervals.
        let waiting = u32::try_from(demands.len() - done).unwrap_or(u32::MAX);
        shares[at] = demands[at].min(left / waiting);
        left -= shares[at];
    }
    for at in order {
        let more = (demands[at] - shares[at]).min(left);
        shares[at] += more;
        left -= more;
    }
    shares
}

/// A planned tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickPlan {
    /// The chunks, by bank, then by delay.
    pub chunks: Vec<Chunk>,
    /// Records left out because the bank's rate does not reach them in this tick. They are counted and reported, never
    /// piled up; each tick leaves out others, so that none is left out for good.
    pub unreachable_records: usize,
}

/// Plans a tick: groups what is due by bank, cuts it into chunks and spreads the chunks evenly over the
/// minute, so that ticks of several intervals at one bank add up to no more than their rates.
/// The same entries in any order give the same plan.
pub fn plan_tick(
    tick: Tick,
    mut due: Vec<DueEntry>,
    bank_rate: impl Fn(BankId) -> BankRate,
) -> TickPlan {
    due.sort_unstable_by_key(|entry| (entry.key.bank, entry.key.record));
    due.dedup_by_key(|entry| entry.key);
    let mut plan = TickPlan::default();
    for entries in due.chunk_by(|a, b| a.key.bank == b.key.bank) {
        let Some(bank) = entries.first().map(|entry| entry.key.bank) else {
            continue;
        };
        let BankRate { per_minute, burst } = bank_rate(bank);
        let room = entries.len().min(per_minute.max(1) as usize);
        plan.unreachable_records += entries.len() - room;
        let size = MAX_RECORDS_PER_CHUNK.min(burst.max(1) as usize);
        let (head, tail) = select_in_rotation(tick, entries, room);
        let records = head.iter().chain(tail);
        let mut records = records.cloned();
        for (n, first) in (0..room).step_by(size).enumerate() {
            let delay_s = first * TICK_SPREAD_S as usize / room;
            plan.chunks.push(Chunk {
                id: format!("{}-{}-{bank}-{n}", tick.interval, tick.at.as_second() / 60),
                bank,
                trigger: RefreshTrigger::Scheduled { tick },
                not_after: tick.not_after(),
                // Below TICK_SPREAD_S.
                delay_s: u16::try_from(delay_s).unwrap_or(u16::MAX),
                requeue_count: 0,
                records: records.by_ref().take(size).collect(),
            });
        }
    }
    plan
}

/// So many entries of a slot, in two parts: all where there is room; else a part that rotates from tick to tick, so that
/// each entry is in as often as any other.
fn select_in_rotation(tick: Tick, entries: &[DueEntry], room: usize) -> (&[DueEntry], &[DueEntry]) {
    if room == entries.len() {
        return (entries, &[]);
    }
    let minute = tick.at.as_second().div_euclid(60);
    let tick_number = minute.div_euclid(i64::from(tick.interval.minutes()));
    // Lengths in memory fit into i64, and a remainder of the count into usize.
    let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    let step = i64::try_from(room).unwrap_or(0);
    let first = (tick_number.rem_euclid(count) * step).rem_euclid(count);
    let first = usize::try_from(first).unwrap_or(0);
    let (before, from) = entries.split_at(first);
    let head = &from[..from.len().min(room)];
    (head, &before[..room - head.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn due_entry(interval: Interval, bank: u8, record: u32) -> DueEntry {
        DueEntry {
            key: DueKey {
                interval,
                bank: BankId::from_bytes([bank; 12]),
                record: RecordId::derive(&[&record.to_be_bytes()]),
            },
            watermarks: ByProduct::default(),
            state_seq: None,
            failure_state: None,
        }
    }

    proptest! {
        #[test]
        fn every_record_is_planned_once_and_no_bank_rate_is_exceeded(
            counts in prop::collection::vec(0..2500_u32, 1..4),
            rate in 1..200_u32,
            interval in prop::sample::select(Interval::ALL.to_vec()),
            reversed: bool,
        ) {
            let mut due: Vec<DueEntry> = (0_u8..)
                .zip(&counts)
                .flat_map(|(bank, &count)| (0..count).map(move |n| due_entry(interval, bank, n)))
                .collect();
            let total = due.len();
            let tick = Tick { interval, at: Timestamp::from_second(1_700_000_040).unwrap() };
            let bank_rate = |_| BankRate::from_per_second(rate);
            let plan = plan_tick(tick, due.clone(), bank_rate);
            if reversed {
                due.reverse();
                due.extend_from_within(..due.len() / 2);
                prop_assert_eq!(&super::plan_tick(tick, due, bank_rate), &plan);
            }

            let mut planned: Vec<_> =
                plan.chunks.iter().flat_map(|chunk| &chunk.records).map(|entry| entry.key).collect();
            prop_assert_eq!(planned.len() + plan.unreachable_records, total);
            planned.sort_unstable_by_key(|key| (key.bank, key.record));
            planned.dedup();
            prop_assert_eq!(planned.len() + plan.unreachable_records, total);

            for chunk in &plan.chunks {
                prop_assert!(chunk.records.len() <= MAX_RECORDS_PER_CHUNK);
                prop_assert!(u32::from(chunk.delay_s) < TICK_SPREAD_S);
                prop_assert!(chunk.records.iter().all(|entry| entry.key.bank == chunk.bank));
            }
            // By the end of second t, no more than (t + 1) x rate records and one chunk started.
            for bank in 0..3 {
                let bank = BankId::from_bytes([bank; 12]);
                let mut started = 0_u64;
                for chunk in plan.chunks.iter().filter(|chunk| chunk.bank == bank) {
                    prop_assert!(chunk.records.len() <= (rate * MAX_CHUNK_SECONDS) as usize);
                    prop_assert!(started <= (u64::from(chunk.delay_s) + 1) * u64::from(rate));
                    started += chunk.records.len() as u64;
                }
            }
        }

        #[test]
        fn no_record_is_left_out_for_good(
            count in 1..300_u32,
            per_minute in 1..100_u32,
            interval in prop::sample::select(Interval::ALL.to_vec()),
        ) {
            let due: Vec<DueEntry> = (0..count).map(|n| due_entry(interval, 0, n)).collect();
            let mut served: BTreeMap<RecordId, u32> = BTreeMap::new();
            // As many turns as it takes to go round `per_minute` times.
            for tick_number in 0..i64::from(count) {
                let at = Timestamp::from_second(1_700_000_040 + tick_number * i64::from(interval.seconds())).unwrap();
                let plan = plan_tick(Tick { interval, at }, due.clone(), |_| BankRate::from_per_second(1).with_per_minute(per_minute));
                for entry in plan.chunks.iter().flat_map(|chunk| &chunk.records) {
                    *served.entry(entry.key.record).or_default() += 1;
                }
            }
            prop_assert_eq!(served.len(), count as usize);
            let (least, most) = (served.values().min().unwrap(), served.values().max().unwrap());
            prop_assert!(most - least <= 1, "{} to {}", least, most);
        }

        #[test]
        fn shares_are_fair(demands in prop::collection::vec(0..1000_u32, 0..9), budget in 0..3000_u32) {
            let shares = divide_fairly(&demands, budget);
            let sum: u32 = shares.iter().sum();
            prop_assert_eq!(sum, budget.min(demands.iter().sum()));
            for (at, (share, demand)) in shares.iter().zip(&demands).enumerate() {
                prop_assert!(share <= demand);
                // A share below its demand is as large as any other, but for what cannot be divided.
                let most = shares.iter().max().unwrap();
                let whole = u32::try_from(demands.len()).unwrap();
                prop_assert!(share == demand || share + whole >= *most, "{} of {:?}", at, shares);
            }
            let guaranteed = BankRate::from_per_second(1).with_per_minute(budget).guaranteed_per_minute();
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(*demand > guaranteed || share == demand);
            }
        }
    }
}
