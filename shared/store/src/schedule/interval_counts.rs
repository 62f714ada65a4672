//! How many due entries each interval has, so that an interval's rule is switched off while nothing is on it. The counters
//! are split by lane: records are linked concurrently, and transactions that write one item collide.

use okra_core::model::interval::{DueKey, Interval, LANES_PER_SLOT};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::number_value,
        expression::ItemUpdate,
        item::ItemReader,
        key_range::{KeyRange, ReadLimit},
    },
};

const KIND: &str = "interval counter";
/// The attribute of a lane's count.
const COUNT_ATTRIBUTE: &str = "n";

/// Intervals whose rules a change of due entries may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalChanges {
    /// Intervals that may have had no due entry before: enable their rules. None is missing; the rule of one may be
    /// enabled already.
    pub started: Vec<Interval>,
    /// Intervals that had no due entry left: their rules may be disabled. Count again after disabling, because a
    /// record may have been linked meanwhile, and enable the rule again where one was.
    pub emptied: Vec<Interval>,
}

/// The counts before a change of due entries, to be compared with those after it.
pub(crate) struct IntervalCounts {
    joined_before: Vec<(Interval, u64)>,
    left: Vec<Interval>,
}

/// Counts a due entry in or out.
pub(crate) fn count_update(due_key: &DueKey, delta: i8) -> ItemUpdate {
    let key = Key::IntervalCounter {
        interval: due_key.interval,
        lane: due_key.lane(),
    };
    ItemUpdate::new(key).add_to_number(COUNT_ATTRIBUTE, number_value(delta))
}

impl Store {
    /// Due entries on an interval; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_interval_entries(&self, interval: Interval) -> Result<u64, StoreError> {
        let range = KeyRange::with_prefix(key::interval_partition(interval), key::COUNTER_PREFIX);
        let lanes = ReadLimit::First(usize::from(LANES_PER_SLOT));
        let items = self.query_range(range, lanes, Consistency::Strong).await?;
        items.iter().try_fold(0_u64, |sum, item| {
            // A negative count is a fault, and none that may switch a rule off.
            let count: u64 = ItemReader::new(KIND, item).read_number(COUNT_ATTRIBUTE)?;
            Ok(sum + count)
        })
    }

    /// To be called before due entries are written, with the intervals they join and leave.
    pub(crate) async fn count_before_change(
        &self,
        joined: Vec<Interval>,
        left: Vec<Interval>,
    ) -> Result<IntervalCounts, StoreError> {
        let mut before = Vec::with_capacity(joined.len());
        for interval in joined {
            before.push((interval, self.count_interval_entries(interval).await?));
        }
        Ok(IntervalCounts {
            joined_before: before,
            left,
        })
    }

    /// To be called after due entries were written. An interval counts as started where it had none before, or
    /// has one now: then another may have left it after it was counted, and may be switching its rule off.
    pub(crate) async fn compare_interval_counts(
        &self,
        counts_before: IntervalCounts,
    ) -> Result<IntervalChanges, StoreError> {
        let mut changes = IntervalChanges::default();
        for (interval, before) in counts_before.joined_before {
            if before == 0 || self.count_interval_entries(interval).await? <= 1 {
                changes.started.push(interval);
            }
        }
        for interval in counts_before.left {
            if self.count_interval_entries(interval).await? == 0 {
                changes.emptied.push(interval);
            }
        }
        Ok(changes)
    }
}
