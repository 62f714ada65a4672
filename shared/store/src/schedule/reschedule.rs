//! Moving the products of a record between intervals: the due entries that change, the head and the counters of the
//! intervals move in one transaction. What was dispatched of a product moves with it.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use okra_core::{
    model::{
        interval::{DueKey, Interval},
        snapshot::{ByProduct, Product},
    },
    schedule::plan::DueEntry,
};

use crate::{
    Consistency, IntervalChanges, RecordHead, Store, StoreError,
    key::Key,
    records::{
        heads,
        watermarks::{STATE_SEQ_ATTRIBUTE, digest_attribute, digest_value, seq_attribute},
    },
    schedule::{due_entries, interval_counts::count_update},
    table::{
        attributes::{number_value, string_value},
        backoff::back_off,
        expression::{Condition, ItemUpdate},
        writes::TransactWriteOutcome,
    },
};

/// Times a move is tried against refreshes that move the same watermarks.
const MAX_MOVE_ATTEMPTS: u32 = 6;

/// A due entry that changes: as it is, and as it shall be.
struct DueEntryMove {
    key: DueKey,
    before: Option<DueEntry>,
    after: Option<DueEntry>,
}

impl DueEntryMove {
    const fn is_creation(&self) -> bool {
        self.before.is_none() && self.after.is_some()
    }

    const fn is_deletion(&self) -> bool {
        self.before.is_some() && self.after.is_none()
    }
}

impl Store {
    /// Puts the products of a record on these intervals; a product without one is not refreshed any more.
    /// `head` is as read; its other parts may have changed since.
    ///
    /// # Errors
    ///
    /// [`StoreError::Contended`] where the record was rescheduled since `head` was read, or refreshes
    /// kept moving its watermarks; [`StoreError`].
    pub async fn reschedule_record(
        &self,
        head: &RecordHead,
        schedule: ByProduct<Interval>,
    ) -> Result<IntervalChanges, StoreError> {
        if schedule == head.schedule {
            return Ok(IntervalChanges::default());
        }
        for attempt in 0..MAX_MOVE_ATTEMPTS {
            let entries = self.find_due_entries_of(head, &schedule).await?;
            let moves = plan_due_moves(head, schedule, &entries);
            let joined = intervals_of(&moves, DueEntryMove::is_creation);
            let left = intervals_of(&moves, DueEntryMove::is_deletion);
            let counts_before = self.count_before_change(joined, left).await?;
            let actions = self.build_move_actions(head, schedule, &moves)?;
            match self.transact_write(actions).await? {
                TransactWriteOutcome::Committed => {
                    return self.compare_interval_counts(counts_before).await;
                }
                // The schedule of the head is not what was read: another attempt does not help.
                TransactWriteOutcome::ConditionFailed(0) => break,
                TransactWriteOutcome::ConditionFailed(_) => back_off(attempt).await,
            }
        }
        Err(StoreError::Contended {
            operation: "rescheduling of a record",
        })
    }

    /// The due entries of a record on the intervals of its schedule and of another one; read strongly.
    async fn find_due_entries_of(
        &self,
        head: &RecordHead,
        schedule: &ByProduct<Interval>,
    ) -> Result<Vec<DueEntry>, StoreError> {
        let mut entries = Vec::new();
        for interval in intervals_of_both(head, schedule) {
            let due_key = head.due_key(interval);
            entries.extend(self.find_due_entry(due_key, Consistency::Strong).await?);
        }
        Ok(entries)
    }

    /// The actions of a move; that of the head is the first.
    fn build_move_actions(
        &self,
        head: &RecordHead,
        schedule: ByProduct<Interval>,
        moves: &[DueEntryMove],
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let mut actions = vec![self.update_action(schedule_update(head, schedule))?];
        for moved in moves {
            let key = Key::DueEntry(moved.key);
            let conditions = unmoved_conditions(moved.before.as_ref());
            actions.push(match &moved.after {
                None => self.delete_action(key, conditions)?,
                Some(after) => self.put_action(due_entries::write_due_entry(after), conditions)?,
            });
            if moved.is_creation() {
                actions.push(self.update_action(count_update(&moved.key, 1))?);
            } else if moved.is_deletion() {
                actions.push(self.update_action(count_update(&moved.key, -1))?);
            }
        }
        Ok(actions)
    }
}

fn intervals_of(moves: &[DueEntryMove], is_selected: fn(&DueEntryMove) -> bool) -> Vec<Interval> {
    moves
        .iter()
        .filter(|moved| is_selected(moved))
        .map(|moved| moved.key.interval)
        .collect()
}

/// The intervals of the schedule of a head and of another one, each once.
fn intervals_of_both(head: &RecordHead, schedule: &ByProduct<Interval>) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = head
        .schedule
        .iter()
        .chain(schedule.iter())
        .map(|(_, interval)| *interval)
        .collect();
    intervals.sort_unstable();
    intervals.dedup();
    intervals
}

/// The due entries that change with a schedule; `entries` are those of the record.
fn plan_due_moves(
    head: &RecordHead,
    schedule: ByProduct<Interval>,
    entries: &[DueEntry],
) -> Vec<DueEntryMove> {
    let dispatched_state = entries.iter().find_map(|entry| entry.state_seq);
    let mut moves = Vec::new();
    for interval in intervals_of_both(head, &schedule) {
        let key = head.due_key(interval);
        let before = entries.iter().find(|entry| entry.key == key).cloned();
        let mut watermarks = ByProduct::default();
        for (product, _) in schedule.iter().filter(|(_, to)| **to == interval) {
            // A product that was on no interval starts where the head is: what is committed was
            // dispatched then, or belongs to an on-demand refresh that still does it.
            let dispatched = entries
                .iter()
                .find_map(|entry| entry.watermarks.get(product));
            let watermark = dispatched.or_else(|| head.watermarks.get(product));
            *watermarks.get_mut(product) = Some(watermark.copied().unwrap_or_default());
        }
        let holds_state = heads::state_interval(&schedule) == Some(interval);
        let after = DueEntry {
            key,
            watermarks,
            state_seq: holds_state.then(|| dispatched_state.unwrap_or(head.state_seq)),
            // The failure may be that of a product that moves: the next refresh shows it.
            failure_state: entries.iter().find_map(|entry| entry.failure_state.clone()),
        };
        let after = Some(after).filter(|entry| !entry.watermarks.is_empty());
        if before != after {
            moves.push(DueEntryMove { key, before, after });
        }
    }
    moves
}

/// The conditions that a due entry is what was read: its watermarks, or that there is none.
fn unmoved_conditions(before: Option<&DueEntry>) -> Vec<Condition> {
    let Some(before) = before else {
        return vec![Condition::Absent];
    };
    let mut conditions = vec![
        Condition::Exists,
        Condition::Equals(STATE_SEQ_ATTRIBUTE, before.state_seq.map(number_value)),
    ];
    for product in Product::ALL {
        let watermark = before.watermarks.get(product);
        let seq = watermark.map(|watermark| number_value(watermark.seq));
        conditions.push(Condition::Equals(seq_attribute(product), seq));
        let digest = watermark.and_then(digest_value);
        conditions.push(Condition::Equals(digest_attribute(product), digest));
    }
    conditions
}

/// The head with another schedule, where nobody else changed the schedule.
fn schedule_update(head: &RecordHead, schedule: ByProduct<Interval>) -> ItemUpdate {
    Product::ALL.into_iter().fold(
        ItemUpdate::new(Key::RecordHead(head.record)).with_condition(Condition::Exists),
        |update, product| {
            let name = heads::interval_attribute(product);
            let known = interval_value(&head.schedule, product);
            update
                .set_or_remove(name, interval_value(&schedule, product))
                .with_condition(Condition::Equals(name, known))
        },
    )
}

fn interval_value(schedule: &ByProduct<Interval>, product: Product) -> Option<AttributeValue> {
    schedule
        .get(product)
        .map(|interval| string_value(interval.as_str()))
}
