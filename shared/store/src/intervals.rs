//! How many due entries each interval has, and moving products between intervals.
//!
//! The counters exist so that a rule is switched off while nothing is on its interval. They are
//! sharded by lane: records are linked concurrently, and transactions that write one item collide.

use okra_core::{
    model::ByProduct,
    plan::DueEntry,
    schedule::{DueKey, Interval, LANES},
};

use crate::{
    Consistency, Head, Store, StoreError,
    call::{Range, Take, Transacted, pause},
    due,
    expression::{Update, When},
    item::{Key, Reader, n, s},
    marks::{STATE_SEQ, digest_name, digest_value, seq_name},
    records::{self, interval_name},
};

/// Times a move is tried against refreshes that move the same marks.
const MAX_MOVE_ATTEMPTS: u32 = 6;

/// The counter's attribute.
const COUNT: &str = "n";

/// Intervals whose rules a change of due entries may concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalsTouched {
    /// May have had no due entry before: enable their rules. Never misses one; may name one whose
    /// rule is on.
    pub started: Vec<Interval>,
    /// Had no due entry left: their rules may be disabled. Count again after disabling, because a
    /// record may have been linked meanwhile, and enable again where there is one.
    pub emptied: Vec<Interval>,
}

/// What is compared before and after a change of due entries.
pub(crate) struct Watch {
    joined: Vec<(Interval, u64)>,
    left: Vec<Interval>,
}

fn partition(interval: Interval) -> String {
    format!("INT#{interval}")
}

/// Counts a due entry in or out.
pub(crate) fn count(of: &DueKey, by: i8) -> Update {
    let key = Key::new(partition(of.interval), format!("N#{:02}", of.lane().0));
    Update::new(key).add(COUNT, n(by))
}

impl Store {
    /// Due entries on an interval; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn interval_count(&self, interval: Interval) -> Result<u64, StoreError> {
        let range = Range::prefix(partition(interval), "N#");
        let lanes = Take::First(usize::from(LANES));
        let items = self.query(range, lanes, Consistency::Strong).await?;
        items.iter().try_fold(0_u64, |sum, item| {
            let count: i64 = Reader::new("interval counter", item).number(COUNT)?;
            Ok(sum.saturating_add(u64::try_from(count).unwrap_or(0)))
        })
    }

    /// To be called before due entries are written, with the intervals they join and leave.
    pub(crate) async fn watch(
        &self,
        joined: Vec<Interval>,
        left: Vec<Interval>,
    ) -> Result<Watch, StoreError> {
        let mut before = Vec::with_capacity(joined.len());
        for interval in joined {
            before.push((interval, self.interval_count(interval).await?));
        }
        Ok(Watch {
            joined: before,
            left,
        })
    }

    /// To be called after due entries were written. An interval started where it had none before, or
    /// has one now: then another left it after it was counted, and may be switching its rule off.
    pub(crate) async fn touched(&self, watch: Watch) -> Result<IntervalsTouched, StoreError> {
        let mut touched = IntervalsTouched::default();
        for (interval, before) in watch.joined {
            if before == 0 || self.interval_count(interval).await? <= 1 {
                touched.started.push(interval);
            }
        }
        for interval in watch.left {
            if self.interval_count(interval).await? == 0 {
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
    pub async fn reschedule(
        &self,
        head: &Head,
        schedule: ByProduct<Interval>,
    ) -> Result<IntervalsTouched, StoreError> {
        if schedule == head.schedule {
            return Ok(IntervalsTouched::default());
        }
        for attempt in 0..MAX_MOVE_ATTEMPTS {
            let plan = self.plan_move(head, schedule).await?;
            let changed = |keep: fn(&Moved) -> bool| {
                plan.iter()
                    .filter(|moved| keep(moved))
                    .map(|moved| moved.key.interval)
                    .collect()
            };
            let joined = changed(|moved| moved.before.is_none());
            let left = changed(|moved| moved.after.is_none());
            let watch = self.watch(joined, left).await?;
            let mut actions = vec![self.update_action(scheduled(head, schedule))];
            for moved in &plan {
                actions.push(self.move_action(moved));
                let by = match (moved.before.is_some(), moved.after.is_none()) {
                    (false, false) => 1,
                    (true, true) => -1,
                    _ => continue,
                };
                actions.push(self.update_action(count(&moved.key, by)));
            }
            match self.transact(actions).await? {
                Transacted::Done => return self.touched(watch).await,
                // The head's schedule is not what was read: nothing to wait for.
                Transacted::Refused(0) => break,
                Transacted::Refused(_) => pause(attempt).await,
            }
        }
        Err(StoreError::Contended {
            operation: "reschedule",
        })
    }

    /// The due entries that change, as they are and as they shall be.
    async fn plan_move(
        &self,
        head: &Head,
        schedule: ByProduct<Interval>,
    ) -> Result<Vec<Moved>, StoreError> {
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
            entries.extend(self.due_entry(key, Consistency::Strong).await?);
        }
        let dispatched = |product| entries.iter().find_map(|entry| entry.marks.get(product));
        let told = entries.iter().find_map(|entry| entry.state);
        let mut plan = Vec::new();
        for interval in intervals {
            let key = head.due_key(interval);
            let before = entries.iter().find(|entry| entry.key == key).cloned();
            let mut marks = ByProduct::default();
            for (product, _) in schedule.iter().filter(|(_, to)| **to == interval) {
                // A product that was on no interval starts where the head is: what is committed was
                // dispatched then, or belongs to a refresh on demand that still does it.
                let committed = head.marks.get(product);
                *marks.slot(product) = Some(
                    dispatched(product)
                        .or(committed)
                        .copied()
                        .unwrap_or_default(),
                );
            }
            let carries = records::carrier(&schedule) == Some(interval);
            let state = carries.then(|| told.unwrap_or(head.state));
            let after = DueEntry {
                key,
                marks,
                state,
                // What was wrong may be wrong with a product that moves: the next refresh sees.
                trouble: entries.iter().find_map(|entry| entry.trouble),
            };
            let after = Some(after).filter(|entry| !entry.marks.is_empty());
            if before != after {
                plan.push(Moved { key, before, after });
            }
        }
        Ok(plan)
    }

    fn move_action(&self, moved: &Moved) -> aws_sdk_dynamodb::types::TransactWriteItem {
        let unmoved = moved.before.as_ref().map_or_else(
            || vec![When::Absent],
            |before| {
                okra_core::model::Product::ALL
                    .into_iter()
                    .flat_map(|product| {
                        let mark = before.marks.get(product);
                        [
                            When::Is(seq_name(product), mark.map(|mark| n(mark.seq))),
                            When::Is(digest_name(product), mark.and_then(digest_value)),
                        ]
                    })
                    .chain([When::Is(STATE_SEQ, before.state.map(n)), When::Exists])
                    .collect()
            },
        );
        match &moved.after {
            None => self.delete_action(due::key(&moved.key), unmoved),
            Some(after) => self.put_action(due::write(after), unmoved),
        }
    }
}

struct Moved {
    key: DueKey,
    before: Option<DueEntry>,
    after: Option<DueEntry>,
}

/// The head with another schedule, where nobody else changed the schedule.
fn scheduled(head: &Head, schedule: ByProduct<Interval>) -> Update {
    let interval =
        |of: &ByProduct<Interval>, product| of.get(product).map(|interval| s(interval.as_str()));
    okra_core::model::Product::ALL.into_iter().fold(
        Update::new(records::key(head.record)).when(When::Exists),
        |update, product| {
            let name = interval_name(product);
            update
                .assign(name, interval(&schedule, product))
                .when(When::Is(name, interval(&head.schedule, product)))
        },
    )
}
