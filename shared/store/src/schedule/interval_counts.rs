//! How many due entries each interval has, and moving products between intervals.
//!
//! The counters exist so that a rule is switched off while nothing is on its interval. They are
//! sharded by lane: records are linked concurrently, and transactions that write one item collide.

use okra_core::{
    model::{
        interval::{DueKey, Interval, LANES_PER_SLOT},
        snapshot::ByProduct,
    },
    schedule::plan::DueEntry,
};

use crate::{
    Consistency, RecordHead, Store, StoreError,
    records::{
        heads::{self, interval_attribute},
        watermarks::{STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute},
    },
    schedule::due_entries,
    table::{
        call::{KeyRange, ReadLimit, TransactWriteOutcome, back_off},
        expression::{Condition, ItemUpdate},
        item::{ItemReader, Key, number_value, string_value},
    },
};

/// Times a move is tried against refreshes that move the same marks.
const MAX_MOVE_ATTEMPTS: u32 = 6;

/// The counter's attribute.
const COUNT_ATTRIBUTE: &str = "n";

/// Intervals whose rules a change of due entries may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalChanges {
    /// May have had no due entry before: enable their rules. Never misses one; may name one whose
    /// rule is on.
    pub started: Vec<Interval>,
    /// Had no due entry left: their rules may be disabled. Count again after disabling, because a
    /// record may have been linked meanwhile, and enable again where there is one.
    pub emptied: Vec<Interval>,
}

/// What is compared before and after a change of due entries.
pub(crate) struct IntervalCounts {
    joined_before: Vec<(Interval, u64)>,
    left: Vec<Interval>,
}

fn counter_partition(interval: Interval) -> String {
    format!("INT#{interval}")
}

/// Counts a due entry in or out.
pub(crate) fn count_update(due_key: &DueKey, delta: i8) -> ItemUpdate {
    let key = Key::new(
        counter_partition(due_key.interval),
        format!("N#{:02}", due_key.lane().0),
    );
    ItemUpdate::new(key).add_to_number(COUNT_ATTRIBUTE, number_value(delta))
}

impl Store {
    /// Due entries on an interval; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn count_interval_entries(&self, interval: Interval) -> Result<u64, StoreError> {
        let range = KeyRange::with_prefix(counter_partition(interval), "N#");
        let lanes = ReadLimit::First(usize::from(LANES_PER_SLOT));
        let items = self.query_range(range, lanes, Consistency::Strong).await?;
        items.iter().try_fold(0_u64, |sum, item| {
            let count: i64 =
                ItemReader::new("interval counter", item).read_number(COUNT_ATTRIBUTE)?;
            Ok(sum.saturating_add(u64::try_from(count).unwrap_or(0)))
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

    /// To be called after due entries were written. An interval started where it had none before, or
    /// has one now: then another left it after it was counted, and may be switching its rule off.
    pub(crate) async fn compare_interval_counts(
        &self,
        counts_before: IntervalCounts,
    ) -> Result<IntervalChanges, StoreError> {
        let mut touched = IntervalChanges::default();
        for (interval, before) in counts_before.joined_before {
            if before == 0 || self.count_interval_entries(interval).await? <= 1 {
                touched.started.push(interval);
            }
        }
        for interval in counts_before.left {
            if self.count_interval_entries(interval).await? == 0 {
                touched.emptied.push(interval);
            }
        }
        Ok(touched)
    }

    /// Puts the products of a record on these intervals; a product without one is refreshed no more.
    /// What was dispatched of a product moves with it. `head` is as read; its other parts may have
    /// changed since.
    ///
    /// # Errors
    ///
    /// [`StoreError::Contended`] where the record was rescheduled since `head` was read, or refreshes
    /// kept moving its marks; [`StoreError`].
    pub async fn reschedule_record(
        &self,
        head: &RecordHead,
        schedule: ByProduct<Interval>,
    ) -> Result<IntervalChanges, StoreError> {
        if schedule == head.schedule {
            return Ok(IntervalChanges::default());
        }
        for attempt in 0..MAX_MOVE_ATTEMPTS {
            let plan = self.plan_due_moves(head, schedule).await?;
            let changed = |keep: fn(&DueEntryMove) -> bool| {
                plan.iter()
                    .filter(|moved| keep(moved))
                    .map(|moved| moved.key.interval)
                    .collect()
            };
            let joined = changed(|moved| moved.before.is_none());
            let left = changed(|moved| moved.after.is_none());
            let watch = self.count_before_change(joined, left).await?;
            let mut actions = vec![self.update_action(schedule_update(head, schedule))];
            for moved in &plan {
                actions.push(self.build_move_action(moved));
                let by = match (moved.before.is_some(), moved.after.is_none()) {
                    (false, false) => 1,
                    (true, true) => -1,
                    _ => continue,
                };
                actions.push(self.update_action(count_update(&moved.key, by)));
            }
            match self.transact_write(actions).await? {
                TransactWriteOutcome::Committed => {
                    return self.compare_interval_counts(watch).await;
                }
                // The head's schedule is not what was read: nothing to wait for.
                TransactWriteOutcome::ConditionFailed(0) => break,
                TransactWriteOutcome::ConditionFailed(_) => back_off(attempt).await,
            }
        }
        Err(StoreError::Contended {
            operation: "reschedule",
        })
    }

    /// The due entries that change, as they are and as they shall be.
    async fn plan_due_moves(
        &self,
        head: &RecordHead,
        schedule: ByProduct<Interval>,
    ) -> Result<Vec<DueEntryMove>, StoreError> {
        let mut intervals: Vec<Interval> = head
            .schedule
            .iter()
            .chain(schedule.iter())
            .map(|(_, interval)| *interval)
            .collect();
        intervals.sort_unstable();
        intervals.dedup();
        let mut entries: Vec<DueEntry> = Vec::new();
        for &interval in &intervals {
            let key = head.due_key(interval);
            entries.extend(self.find_due_entry(key, Consistency::Strong).await?);
        }
        let dispatched = |product| {
            entries
                .iter()
                .find_map(|entry| entry.watermarks.get(product))
        };
        let told = entries.iter().find_map(|entry| entry.state_seq);
        let mut plan = Vec::new();
        for interval in intervals {
            let key = head.due_key(interval);
            let before = entries.iter().find(|entry| entry.key == key).cloned();
            let mut marks = ByProduct::default();
            for (product, _) in schedule.iter().filter(|(_, to)| **to == interval) {
                // A product that was on no interval starts where the head is: what is committed was
                // dispatched then, or belongs to a refresh on demand that still does it.
                let committed = head.watermarks.get(product);
                *marks.get_mut(product) = Some(
                    dispatched(product)
                        .or(committed)
                        .copied()
                        .unwrap_or_default(),
                );
            }
            let carries = heads::state_interval(&schedule) == Some(interval);
            let state = carries.then(|| told.unwrap_or(head.state_seq));
            let after = DueEntry {
                key,
                watermarks: marks,
                state_seq: state,
                // What was wrong may be wrong with a product that moves: the next refresh sees.
                failure_state: entries.iter().find_map(|entry| entry.failure_state.clone()),
            };
            let after = Some(after).filter(|entry| !entry.watermarks.is_empty());
            if before != after {
                plan.push(DueEntryMove { key, before, after });
            }
        }
        Ok(plan)
    }

    fn build_move_action(
        &self,
        moved: &DueEntryMove,
    ) -> aws_sdk_dynamodb::types::TransactWriteItem {
        let unmoved = moved.before.as_ref().map_or_else(
            || vec![Condition::Absent],
            |before| {
                okra_core::model::snapshot::Product::ALL
                    .into_iter()
                    .flat_map(|product| {
                        let mark = before.watermarks.get(product);
                        [
                            Condition::Equals(
                                seq_attribute(product),
                                mark.map(|mark| number_value(mark.seq)),
                            ),
                            Condition::Equals(
                                digest_attribute(product),
                                mark.and_then(digest_value),
                            ),
                        ]
                    })
                    .chain([
                        Condition::Equals(STATE_SEQ_ATTRIBUTE, before.state_seq.map(number_value)),
                        Condition::Exists,
                    ])
                    .collect()
            },
        );
        match &moved.after {
            None => self.delete_action(due_entries::due_entry_key(&moved.key), unmoved),
            Some(after) => self.put_action(due_entries::write_due_entry(after), unmoved),
        }
    }
}

struct DueEntryMove {
    key: DueKey,
    before: Option<DueEntry>,
    after: Option<DueEntry>,
}

/// The head with another schedule, where nobody else changed the schedule.
fn schedule_update(head: &RecordHead, schedule: ByProduct<Interval>) -> ItemUpdate {
    let interval = |of: &ByProduct<Interval>, product| {
        of.get(product)
            .map(|interval| string_value(interval.as_str()))
    };
    okra_core::model::snapshot::Product::ALL.into_iter().fold(
        ItemUpdate::new(heads::head_key(head.record)).with_condition(Condition::Exists),
        |update, product| {
            let name = interval_attribute(product);
            update
                .set_or_remove(name, interval(&schedule, product))
                .with_condition(Condition::Equals(name, interval(&head.schedule, product)))
        },
    )
}
