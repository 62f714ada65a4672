//! What happens, counted for the dashboard's charts.
//!
//! Counted in memory and written by [`Tally::flush`] in one write: after each event of a Lambda, each
//! few seconds in the local process. What was counted and not flushed is lost with its process; charts can
//! bear that.

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
    numbers: BTreeMap<String, u64>,
    capacity: CapacityUsed,
}

impl Tally {
    fn add(&self, name: &str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.numbers.entry(name.to_owned()).or_default() += 1;
    }

    /// [`flush`](Self::flush), and a line in the logs where it fails: no work is done again for the
    /// sake of a chart.
    pub async fn keep(&self, store: &Store, now: Timestamp) {
        if let Err(error) = self.flush(store, now).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "counts could not be written");
        }
    }

    /// Writes what was counted since the last time, where anything was, with the capacity that the
    /// store used since then.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what could not be written is counted again.
    pub async fn flush(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let numbers = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if counted.numbers.is_empty() {
                return Ok(());
            }
            let used = store.capacity();
            let since = used - counted.capacity;
            counted.capacity = used;
            let mut numbers = std::mem::take(&mut counted.numbers);
            for (name, units) in [
                (names::HALF_READS, since.read_units),
                (names::HALF_WRITES, since.write_units),
            ] {
                *numbers.entry(name.to_owned()).or_default() += halves(units);
            }
            numbers
        };
        let pairs: Vec<(&str, u64)> = numbers
            .iter()
            .map(|(name, number)| (name.as_str(), *number))
            .collect();
        let written = store.count(now, &pairs).await;
        if written.is_err() {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, number) in numbers {
                *counted.numbers.entry(name).or_default() += number;
            }
        }
        written
    }
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
