//! Counts of refreshes and delivery attempts, for the dashboard's charts: [`MetricsCollector`].
//!
//! The rule: counts are collected in memory and cost one write for each app,
//! [`MetricsCollector::flush_previous_minutes`] once a minute in a Lambda, however many refreshes that minute had, and
//! [`MetricsCollector::flush_counts`] each few seconds in the local process. Counts that are not written are lost with
//! their process, which charts can bear.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use okra_core::{error_chain::error_chain, model::ids::AppId};
use okra_refresh::RefreshOutcome;
use okra_store::{CapacityUsed, Store, StoreError};

/// Names of counts, as they are stored.
pub mod names {
    /// Refreshes that found nothing new.
    pub const UNCHANGED: &str = "unchanged";
    /// Refreshes that found something new.
    pub const CHANGED: &str = "changed";
    /// Refreshes in which no account could be read.
    pub const FAILED: &str = "failed";
    /// Webhooks that were delivered.
    pub const DELIVERED: &str = "delivered";
    /// Delivery attempts that failed.
    pub const FAILED_ATTEMPTS: &str = "refused";
    /// Half read units.
    pub const HALF_READ_UNITS: &str = "ru2";
    /// Half write units.
    pub const HALF_WRITE_UNITS: &str = "wu2";
    /// What precedes the class of a bank's fault.
    pub const FAULT_PREFIX: &str = "fault_";
}

/// Collects counts until they are flushed. Clones count together.
#[derive(Clone, Default)]
pub struct MetricsCollector(Arc<Mutex<PendingCounts>>);

/// Numbers by their names.
type CountsByName = BTreeMap<String, u64>;

/// Numbers of each app.
type CountsByApp = BTreeMap<AppId, CountsByName>;

/// Apps that one process counts for between two writes at most; what others do is not counted.
const MAX_COUNTED_APPS: usize = 1000;

#[derive(Default)]
struct PendingCounts {
    /// The minute of the last flush, since 1970: the counts are of it.
    current_minute: Option<i64>,
    counts: CountsByApp,
    reported_capacity: CapacityUsed,
}

impl MetricsCollector {
    fn increment_count(&self, app: AppId, name: &str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.counts.len() < MAX_COUNTED_APPS || counted.counts.contains_key(&app) {
            let numbers = counted.counts.entry(app).or_default();
            *numbers.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// To be called as an event arrives: writes what earlier minutes counted, and nothing where an event
    /// of this minute arrived before. So a minute costs a function's process one write, and an unchanged
    /// refresh none. A write that fails is logged: no work is repeated for the sake of a chart.
    pub async fn flush_previous_minutes(&self, store: &Store, now: Timestamp) {
        let minute = now.as_second().div_euclid(60);
        let (numbers, minute) = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match counted.current_minute.replace(minute) {
                Some(before) if before == minute => return,
                before => (counted.take_counts(store), before.unwrap_or(minute)),
            }
        };
        let at = Timestamp::from_second(minute * 60).unwrap_or(now);
        if let Err(error) = self.write_counts(store, at, numbers).await {
            log_write_failure(&error);
        }
    }

    /// Writes what was counted since the last time, where anything was, with the capacity that the
    /// store used since then. What could not be written stays counted, and the failure is logged.
    pub async fn flush_counts(&self, store: &Store, now: Timestamp) {
        let numbers = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counted.take_counts(store)
        };
        if let Err(error) = self.write_counts(store, now, numbers).await {
            log_write_failure(&error);
        }
    }

    /// One write for each app. What could not be written stays counted.
    async fn write_counts(
        &self,
        store: &Store,
        at: Timestamp,
        counts: CountsByApp,
    ) -> Result<(), StoreError> {
        let mut written = Ok(());
        for (app, numbers) in counts {
            let pairs: Vec<(&str, u64)> = numbers
                .iter()
                .map(|(name, number)| (name.as_str(), *number))
                .collect();
            if let Err(error) = store.add_counts(app, at, &pairs).await {
                written = Err(error);
                let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let uncounted = counted.counts.entry(app).or_default();
                for (name, number) in numbers {
                    *uncounted.entry(name).or_default() += number;
                }
            }
        }
        written
    }
}

impl PendingCounts {
    /// The counts, with the capacity used since they were last taken, which is split between the apps by their
    /// operations; nothing where nothing was counted.
    fn take_counts(&mut self, store: &Store) -> CountsByApp {
        if self.counts.is_empty() {
            return CountsByApp::new();
        }
        let used = store.capacity_used();
        let since = used - self.reported_capacity;
        self.reported_capacity = used;
        let mut numbers = std::mem::take(&mut self.counts);
        let work: Vec<u64> = numbers.values().map(count_operations).collect();
        for (name, units) in [
            (names::HALF_READ_UNITS, since.read_units),
            (names::HALF_WRITE_UNITS, since.write_units),
        ] {
            let shares = split_by_weight(to_half_units(units), &work);
            for (numbers, share) in numbers.values_mut().zip(shares) {
                *numbers.entry(name.to_owned()).or_default() += share;
            }
        }
        numbers
    }
}

/// Refreshes and delivery attempts.
fn count_operations(counts: &CountsByName) -> u64 {
    const DONE: [&str; 5] = [
        names::UNCHANGED,
        names::CHANGED,
        names::FAILED,
        names::DELIVERED,
        names::FAILED_ATTEMPTS,
    ];
    DONE.iter().filter_map(|name| counts.get(*name)).sum()
}

/// Splits a whole number into shares by weight; their sum is the whole, where there is any weight.
fn split_by_weight(total: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().map(|it| u128::from(*it)).sum();
    let (mut before, mut given) = (0_u128, 0_u64);
    weights
        .iter()
        .map(|weight| {
            before += u128::from(*weight);
            let until = u128::from(total)
                .saturating_mul(before)
                .checked_div(all)
                .unwrap_or(0);
            let until = u64::try_from(until).unwrap_or(total);
            let share = until - given;
            given = until;
            share
        })
        .collect()
}

fn log_write_failure(error: &StoreError) {
    tracing::warn!(error = %error_chain(error), "The counts for the dashboard could not be written");
}

/// Units come in halves.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded below, and far from 2^64"
)]
fn to_half_units(units: f64) -> u64 {
    (units * 2.0).round().max(0.0) as u64
}

impl okra_refresh::RefreshObserver for MetricsCollector {
    fn on_record_refreshed(&self, refreshed: &okra_refresh::RefreshReport) {
        let Some(app) = refreshed.app else {
            return;
        };
        match &refreshed.outcome {
            RefreshOutcome::Unchanged => self.increment_count(app, names::UNCHANGED),
            RefreshOutcome::Changed(_) => self.increment_count(app, names::CHANGED),
            RefreshOutcome::Failed => self.increment_count(app, names::FAILED),
            RefreshOutcome::Contended | RefreshOutcome::Gone | RefreshOutcome::Deferred => {}
        }
        for (_, _, fault) in &refreshed.faults {
            self.increment_count(
                app,
                &format!("{}{}", names::FAULT_PREFIX, fault.class.as_str()),
            );
        }
    }
}

impl okra_webhooks::DeliveryObserver for MetricsCollector {
    fn on_attempt(&self, attempted: &okra_webhooks::AttemptReport) {
        let is_delivered = attempted.outcome == okra_core::delivery::retry::AttemptOutcome::Ok;
        let name = if is_delivered {
            names::DELIVERED
        } else {
            names::FAILED_ATTEMPTS
        };
        self.increment_count(attempted.app, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_is_shared_out_and_nothing_of_it_is_lost() {
        let check = |whole, weights: &[u64], expected: &[u64]| {
            assert_eq!(
                split_by_weight(whole, weights),
                expected,
                "{whole} {weights:?}"
            );
        };
        check(10, &[1, 1], &[5, 5]);
        check(10, &[1, 1, 1], &[3, 3, 4]);
        check(1, &[5, 0, 5], &[0, 0, 1]);
        check(7, &[0, 3], &[0, 7]);
        check(7, &[0], &[0]);
        check(
            u64::MAX,
            &[u32::MAX.into(), u32::MAX.into()],
            &[u64::MAX / 2, u64::MAX / 2 + 1],
        );
        check(3, &[], &[]);
    }
}
