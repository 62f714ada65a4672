//! What the calls of a process cost: [`CapacityMeter`] sums up the units that DynamoDB says each call consumed.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::types::ConsumedCapacity;

/// Capacity units used so far, as DynamoDB counted them. An engine that does not count them leaves them 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CapacityUsed {
    /// Read units: one is 4 KB read strongly, or 8 KB read eventually.
    pub read_units: f64,
    /// Write units: one is 1 KB written, or 0.5 KB written in a transaction.
    pub write_units: f64,
}

impl std::ops::Sub for CapacityUsed {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            read_units: self.read_units - earlier.read_units,
            write_units: self.write_units - earlier.write_units,
        }
    }
}

/// Sums up what calls consumed. Clones share one sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct CapacityMeter(Arc<Mutex<CapacityUsed>>);

impl CapacityMeter {
    pub(crate) fn capacity_used(&self) -> CapacityUsed {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_read_units<'a>(
        &self,
        consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        let units = sum_units(consumed);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read_units += units;
    }

    pub(crate) fn add_write_units<'a>(
        &self,
        consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        let units = sum_units(consumed);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_units += units;
    }
}

fn sum_units<'a>(consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) -> f64 {
    consumed
        .into_iter()
        .filter_map(ConsumedCapacity::capacity_units)
        .sum()
}
