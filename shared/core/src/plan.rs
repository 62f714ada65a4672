//! Planning: the records of a slot, grouped by bank, cut into chunks and paced.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    decide::Mark,
    ids::{BankId, Seq},
    model::{ByProduct, Product},
    schedule::{DueKey, Tick},
    trouble::Trouble,
};

/// A record that is due, with what was last dispatched of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueEntry {
    /// Where it lives.
    pub key: DueKey,
    /// For each product on this interval, what the app was last told.
    pub marks: ByProduct<Mark>,
    /// The last change of state that the app was told. On the entry of the record's shortest interval
    /// and on no other, as a product is on one only.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    pub state: Option<Seq>,
    /// What was wrong with its last refresh; `None`: nothing.
    #[serde(rename = "f", skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<Trouble>,
}

/// Who asked for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Requested {
    /// A tick.
    Scheduled {
        /// The tick.
        tick: Tick,
    },
    /// A person or an app.
    OnDemand {
        /// The product asked for; `None` for all.
        product: Option<Product>,
        /// The address of the user, where he is there: banks allow more then.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        user: Option<std::net::IpAddr>,
    },
}

/// Records of one bank that are refreshed together; the message of the fetch queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Derived from the tick, so that a tick delivered twice plans the same chunks.
    pub id: String,
    /// The bank of all its records.
    pub bank: BankId,
    /// Who asked.
    pub requested: Requested,
    /// Dropped and counted after this instant: the next tick covers its records.
    pub not_after: Timestamp,
    /// Seconds the message waits in the queue, so that the bank is paced.
    #[serde(skip)]
    pub delay_s: u16,
    /// The records.
    pub records: Vec<DueEntry>,
}

/// Records in a chunk at most: one BatchGetItem reads 100 consents.
pub const MAX_RECORDS_PER_CHUNK: usize = 100;

/// Seconds a message can wait in a queue at most (SQS `DelaySeconds`).
pub const MAX_DELAY_S: u32 = 900;

/// Seconds of a bank's allowance that one chunk may hold, so that a chunk is worked off soon.
const CHUNK_SECONDS: u32 = 10;

/// A bank's pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Records per second at most; 0 counts as 1.
    pub records_per_second: u32,
}

/// A planned tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The chunks, by bank, then by delay.
    pub chunks: Vec<Chunk>,
    /// Records left out because their bank's pace cannot reach them before they are due again, or
    /// within [`MAX_DELAY_S`]. Counted and said, never piled up.
    pub unattainable: usize,
}

/// Plans a tick: groups what is due by bank, cuts it into chunks and spreads the chunks over time so
/// that no bank gets more than its pace. The same entries in any order give the same plan.
pub fn plan(tick: Tick, mut due: Vec<DueEntry>, pace: impl Fn(BankId) -> Pace) -> Plan {
    due.sort_unstable_by_key(|entry| (entry.key.bank, entry.key.record));
    due.dedup_by_key(|entry| entry.key);
    let horizon_s = MAX_DELAY_S.min(tick.interval.seconds());
    let mut plan = Plan::default();
    for entries in due.chunk_by(|a, b| a.key.bank == b.key.bank) {
        let Some(bank) = entries.first().map(|entry| entry.key.bank) else {
            continue;
        };
        let rate = pace(bank).records_per_second.max(1);
        let size = MAX_RECORDS_PER_CHUNK.min((rate * CHUNK_SECONDS) as usize);
        let room = rate as usize * horizon_s as usize;
        let (now, later) = entries.split_at(entries.len().min(room));
        plan.unattainable += later.len();
        for (n, records) in now.chunks(size).enumerate() {
            let delay_s = u64::try_from(n * size).unwrap_or(u64::MAX) / u64::from(rate);
            plan.chunks.push(Chunk {
                id: format!("{}-{}-{bank}-{n}", tick.interval, tick.at.as_second() / 60),
                bank,
                requested: Requested::Scheduled { tick },
                not_after: tick.not_after(),
                delay_s: u16::try_from(delay_s).unwrap_or(u16::MAX),
                records: records.to_vec(),
            });
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ids::RecordId, schedule::Interval};

    fn entry(interval: Interval, bank: u8, record: u32) -> DueEntry {
        DueEntry {
            key: DueKey {
                interval,
                bank: BankId::from_bytes([bank; 12]),
                record: RecordId::derive(&[&record.to_be_bytes()]),
            },
            marks: ByProduct::default(),
            state: None,
            trouble: None,
        }
    }

    proptest! {
        #[test]
        fn every_record_is_planned_once_and_no_bank_is_hurried(
            counts in prop::collection::vec(0..2500_u32, 1..4),
            rate in 1..200_u32,
            interval in prop::sample::select(Interval::ALL.to_vec()),
            reversed: bool,
        ) {
            let mut due: Vec<DueEntry> = (0_u8..)
                .zip(&counts)
                .flat_map(|(bank, &count)| (0..count).map(move |n| entry(interval, bank, n)))
                .collect();
            let total = due.len();
            let tick = Tick { interval, at: Timestamp::from_second(1_700_000_040).unwrap() };
            let pace = |_| Pace { records_per_second: rate };
            let plan = plan(tick, due.clone(), pace);
            if reversed {
                due.reverse();
                due.extend_from_within(..due.len() / 2);
                prop_assert_eq!(&super::plan(tick, due, pace), &plan);
            }

            let mut planned: Vec<_> =
                plan.chunks.iter().flat_map(|chunk| &chunk.records).map(|entry| entry.key).collect();
            prop_assert_eq!(planned.len() + plan.unattainable, total);
            planned.sort_unstable_by_key(|key| (key.bank, key.record));
            planned.dedup();
            prop_assert_eq!(planned.len() + plan.unattainable, total);

            for chunk in &plan.chunks {
                prop_assert!(chunk.records.len() <= MAX_RECORDS_PER_CHUNK);
                prop_assert!(u32::from(chunk.delay_s) < MAX_DELAY_S.min(interval.seconds()));
                prop_assert!(chunk.records.iter().all(|entry| entry.key.bank == chunk.bank));
            }
            // By the end of second t, no more than (t + one chunk's seconds) x rate records started.
            for bank in 0..3 {
                let bank = BankId::from_bytes([bank; 12]);
                let mut started = 0_u64;
                for chunk in plan.chunks.iter().filter(|chunk| chunk.bank == bank) {
                    prop_assert!(started <= (u64::from(chunk.delay_s) + 1) * u64::from(rate));
                    started += chunk.records.len() as u64;
                }
            }
        }
    }
}
