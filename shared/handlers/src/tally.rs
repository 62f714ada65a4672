//! What happens, counted for the dashboard's charts.
//!
//! Counted in memory, and written in one write: [`Tally::turn`] once a minute in a Lambda, however many
//! refreshes that minute had, [`Tally::flush`] each few seconds in the local process. What was counted
//! and not written is lost with its process; charts can bear that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use okra_refresh::Outcome;
use okra_store::{CapacityUsed, Store, StoreError};

/// Names of counts, as [`okra_store::Counts`] has them.
pub mod names {
    /// Refreshes that found nothing new.
    pub const UNCHANGED: &str = "unchanged";
    /// Refreshes that found something new.
    pub const CHANGED: &str = "changed";
    /// Refreshes in which no account answered.
    pub const FAILED: &str = "failed";
    /// Webhooks that were taken.
    pub const DELIVERED: &str = "delivered";
    /// Attempts at a webhook that failed.
    pub const REFUSED: &str = "refused";
    /// Half read units.
    pub const HALF_READS: &str = "ru2";
    /// Half write units.
    pub const HALF_WRITES: &str = "wu2";
    /// Before the class of a bank's fault.
    pub const FAULT: &str = "fault_";
}

/// Counts until it is flushed. Clones count together.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    /// The minute of the last turn, since 1970: the numbers are counted as its.
    turned: Option<i64>,
    numbers: BTreeMap<String, u64>,
    capacity: CapacityUsed,
}

impl Tally {
    fn add(&self, name: &str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.numbers.entry(name.to_owned()).or_default() += 1;
    }

    /// To be called as an event arrives: writes what earlier minutes counted, and nothing where an event
    /// of this minute was here before. So a minute costs a function's process one write, and an unchanged
    /// refresh none. A write that fails is a line in the logs: no work is done again for the sake of a
    /// chart.
    pub async fn turn(&self, store: &Store, now: Timestamp) {
        let minute = now.as_second().div_euclid(60);
        let (numbers, minute) = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match counted.turned.replace(minute) {
                Some(before) if before == minute => return,
                before => (counted.take(store), before.unwrap_or(minute)),
            }
        };
        let at = Timestamp::from_second(minute * 60).unwrap_or(now);
        if let Err(error) = self.write(store, at, numbers).await {
            logged(&error);
        }
    }

    /// Writes what was counted since the last time, where anything was, with the capacity that the
    /// store used since then. What could not be written is counted again, and said in the logs.
    pub async fn flush(&self, store: &Store, now: Timestamp) {
        let numbers = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counted.take(store)
        };
        if let Err(error) = self.write(store, now, numbers).await {
            logged(&error);
        }
    }

    async fn write(
        &self,
        store: &Store,
        at: Timestamp,
        numbers: BTreeMap<String, u64>,
    ) -> Result<(), StoreError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let pairs: Vec<(&str, u64)> = numbers
            .iter()
            .map(|(name, number)| (name.as_str(), *number))
            .collect();
        let written = store.count(at, &pairs).await;
        if written.is_err() {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, number) in numbers {
                *counted.numbers.entry(name).or_default() += number;
            }
        }
        written
    }
}

impl Counted {
    /// The numbers, with the capacity used since they were last taken; nothing where nothing was
    /// counted.
    fn take(&mut self, store: &Store) -> BTreeMap<String, u64> {
        if self.numbers.is_empty() {
            return BTreeMap::new();
        }
        let used = store.capacity();
        let since = used - self.capacity;
        self.capacity = used;
        let mut numbers = std::mem::take(&mut self.numbers);
        for (name, units) in [
            (names::HALF_READS, since.read_units),
            (names::HALF_WRITES, since.write_units),
        ] {
            *numbers.entry(name.to_owned()).or_default() += halves(units);
        }
        numbers
    }
}

fn logged(error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "counts could not be written");
}

/// Units come in halves.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded below, and far from 2^64"
)]
fn halves(units: f64) -> u64 {
    (units * 2.0).round().max(0.0) as u64
}

impl okra_refresh::Observer for Tally {
    fn refreshed(&self, refreshed: &okra_refresh::Refreshed) {
        match &refreshed.outcome {
            Outcome::Unchanged => self.add(names::UNCHANGED),
            Outcome::Changed(_) => self.add(names::CHANGED),
            Outcome::Failed => self.add(names::FAILED),
            Outcome::Contended | Outcome::Gone | Outcome::Held => {}
        }
        for (_, _, fault) in &refreshed.faults {
            self.add(&format!("{}{}", names::FAULT, fault.class.as_str()));
        }
    }
}

impl okra_webhooks::Observer for Tally {
    fn attempted(&self, attempted: &okra_webhooks::Attempted) {
        let taken = attempted.outcome == okra_core::retry::Outcome::Ok;
        self.add(if taken {
            names::DELIVERED
        } else {
            names::REFUSED
        });
    }
}
