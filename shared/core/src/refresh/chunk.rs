//! A chunk's admission, and which of its records come again before their next turn.
//!
//! [`admit_chunk`] says what becomes of a chunk that came in time ([`ChunkAdmission`]); [`split_late_chunk`] how much of
//! a late one is refreshed now; [`requeue_delay_after`] when a record comes again whose bank did not answer. The rule: a
//! bank sees no more than its rate (law 9), and an outage does not cost a record a turn that is hours away.

use jiff::Timestamp;

use crate::{
    model::{
        bank::BankLimits,
        fault::{BankFault, FaultClass},
        ids::RecordId,
    },
    refresh::{commit_plan::AccountFault, outcome::RefreshOutcome},
    resilience::failure_state::FailureState,
    schedule::plan::{
        Chunk, DueEntry, MAX_QUEUE_DELAY_S, MAX_REQUEUES, random_for_record, requeue_delay_s,
    },
};

/// One in so many scheduled refreshes takes the strong read although nothing changed: an audit.
pub const AUDIT_ONE_IN: u32 = 128;

/// Requeues after which a chunk of a bank that is down no longer has to report the outage: two refreshes could.
const REPORTED_AFTER_REQUEUES: u8 = 2;

/// What becomes of a chunk that came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkAdmission {
    /// The bank is down and every app knows: all records are requeued.
    Requeue {
        /// Seconds until the bank is probed.
        wait_s: u32,
    },
    /// It came late: its records need permits of the bank's rate, because the rate of this minute is planned for
    /// other chunks.
    NeedsPermits,
    /// Its records are refreshed now.
    Admitted,
}

/// True where a chunk came after its deadline: the next tick covers its records.
pub fn is_stale(chunk: &Chunk, now: Timestamp) -> bool {
    now > chunk.not_after
}

/// What becomes of a chunk that is not [stale](is_stale). `rejection` is the fault that the bank's circuit breaker answers in place of a call.
pub fn admit_chunk(chunk: &Chunk, rejection: Option<&BankFault>, now: Timestamp) -> ChunkAdmission {
    match rejection {
        Some(down) if chunk.is_worth_requeueing() && is_outage_reported(chunk) => {
            ChunkAdmission::Requeue {
                // A breaker that names no time is between two probes.
                wait_s: down.retry_after_s.unwrap_or(MAX_QUEUE_DELAY_S),
            }
        }
        None if chunk.is_late(now) => ChunkAdmission::NeedsPermits,
        Some(_) | None => ChunkAdmission::Admitted,
    }
}

/// True where no app has to hear of an outage any more: all were notified, or two refreshes could notify them.
fn is_outage_reported(chunk: &Chunk) -> bool {
    chunk.requeue_count >= REPORTED_AFTER_REQUEUES || chunk.records.iter().all(is_failure_reported)
}

fn is_failure_reported(entry: &DueEntry) -> bool {
    let state = entry.failure_state.as_ref();
    state.is_some_and(FailureState::is_reported)
}

/// How a late chunk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateSplit {
    /// Records that are refreshed now, from the front.
    pub refreshed: usize,
    /// Seconds after which the others come again.
    pub wait_s: u32,
}

/// Divides a late chunk of which `permits` records may be refreshed now. A probe that was claimed is made in any case.
pub fn split_late_chunk(
    chunk: &Chunk,
    permits: usize,
    is_probing: bool,
    now: Timestamp,
) -> LateSplit {
    let refreshed = permits.max(is_probing.into()).min(chunk.records.len());
    // The range of waits doubles with each requeue that found no permit at all.
    let requeues_in_vain = if permits == 0 { chunk.requeue_count } else { 0 };
    let first_left: Option<RecordId> = chunk.records.get(refreshed).map(|it| it.key.record);
    LateSplit {
        refreshed,
        wait_s: first_left.map_or(0, |record| requeue_delay_s(record, now, requeues_in_vain)),
    }
}

/// True where an unchanged scheduled refresh is audited. Drawn anew for each minute, so that a record whose turn comes in
/// the same minute of each day is audited as often as any other.
pub fn is_audit_due(entry: &DueEntry, now: Timestamp) -> bool {
    random_for_record(entry.key.record, now) < u32::MAX / AUDIT_ONE_IN
}

/// How a record's refresh called its bank.
#[derive(Clone, Copy, Debug)]
pub struct RecordCalls<'a> {
    /// The bank's limits, where the bank was called; `None` where its circuit breaker answered.
    pub called_limits: Option<&'a BankLimits>,
    /// True where the bank's circuit is open after the refresh.
    pub is_circuit_open: bool,
    /// Requeues of the chunk so far.
    pub requeue_count: u8,
}

/// Seconds after which a record comes again before its next turn; `None` where it does not.
///
/// It does where nothing could be read for reasons that pass by themselves. A bank that is not known to be down is
/// called again only for a failure that is new, and only [`MAX_REQUEUES`] times. A bank that counts calls is not called
/// again.
pub fn requeue_delay_after(
    outcome: &RefreshOutcome,
    faults: &[AccountFault],
    entry: &DueEntry,
    calls: RecordCalls<'_>,
) -> Option<u32> {
    let is_new = !is_failure_reported(entry);
    let is_worth = calls.is_circuit_open || (is_new && calls.requeue_count < MAX_REQUEUES);
    let counts_calls = calls
        .called_limits
        .is_some_and(|limits| limits.unattended_per_day.is_some());
    if *outcome != RefreshOutcome::Failed || counts_calls || !is_worth {
        return None;
    }
    let waits = faults.iter().map(|(_, _, fault)| {
        let passes = matches!(
            fault.class,
            FaultClass::BankUnavailable | FaultClass::RateLimited
        );
        // Where the bank names no time, it has as long as a message can wait.
        let wait_s = fault.retry_after_s.unwrap_or(MAX_QUEUE_DELAY_S);
        (passes && wait_s <= MAX_QUEUE_DELAY_S).then_some(wait_s)
    });
    waits.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        model::{
            ids::{AccountId, BankId},
            interval::{DueKey, Interval, Tick},
            snapshot::{ByProduct, Product},
        },
        resilience::{
            bank_breaker::bank_down_fault,
            failure_state::{RefreshFaults, SuspendedProducts},
        },
        schedule::plan::RefreshTrigger,
    };

    fn tick_time() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn due_entry(record: u8, failure_state: Option<FailureState>) -> DueEntry {
        DueEntry {
            key: DueKey {
                interval: Interval::Daily,
                bank: BankId::from_bytes([1; 12]),
                record: RecordId::from_bytes([record; 12]),
            },
            watermarks: ByProduct::default(),
            state_seq: None,
            failure_state,
        }
    }

    fn daily_chunk(records: Vec<DueEntry>) -> Chunk {
        let tick = Tick {
            interval: Interval::Daily,
            at: tick_time(),
        };
        Chunk {
            id: "daily".to_owned(),
            bank: BankId::from_bytes([1; 12]),
            trigger: RefreshTrigger::Scheduled { tick },
            not_after: tick.not_after(),
            delay_s: 0,
            requeue_count: 0,
            records,
        }
    }

    fn outage_faults() -> Vec<AccountFault> {
        let fault = BankFault::new(FaultClass::BankUnavailable, "");
        vec![(AccountId::derive(&[b"a"]), Product::Balance, fault)]
    }

    fn reported_outage() -> Option<FailureState> {
        let faults = RefreshFaults {
            faults: &outage_faults(),
            suspended: &SuspendedProducts::default(),
        };
        let once = FailureState::after_refresh(None, faults, tick_time());
        FailureState::after_refresh(once.as_ref(), faults, tick_time())
    }

    #[test]
    fn an_outage_that_every_app_knows_requeues_the_chunk_and_a_new_one_is_reported_first() {
        let now = tick_time();
        let down = bank_down_fault(now + SignedDuration::from_secs(90), now);
        let new = daily_chunk(vec![due_entry(1, None)]);
        assert_eq!(
            admit_chunk(&new, Some(&down), now),
            ChunkAdmission::Admitted
        );
        let known = daily_chunk(vec![due_entry(1, reported_outage())]);
        let requeued = ChunkAdmission::Requeue {
            wait_s: down.retry_after_s.unwrap(),
        };
        assert_eq!(admit_chunk(&known, Some(&down), now), requeued);
        assert_eq!(admit_chunk(&known, None, now), ChunkAdmission::Admitted);
        let twice = Chunk {
            requeue_count: 2,
            ..new
        };
        assert_eq!(admit_chunk(&twice, Some(&down), now), requeued);
    }

    #[test]
    fn a_late_chunk_needs_permits_and_a_claimed_probe_is_made_without_one() {
        let records = (1..5).map(|n| due_entry(n, None)).collect();
        let chunk = daily_chunk(records);
        let late = tick_time() + SignedDuration::from_secs(121);
        assert_eq!(
            admit_chunk(&chunk, None, late),
            ChunkAdmission::NeedsPermits
        );
        assert_eq!(split_late_chunk(&chunk, 3, false, late).refreshed, 3);
        assert_eq!(split_late_chunk(&chunk, 9, false, late).refreshed, 4);
        assert_eq!(split_late_chunk(&chunk, 0, true, late).refreshed, 1);
        let none = split_late_chunk(&chunk, 0, false, late);
        assert_eq!(none.refreshed, 0);
        assert!((60..=900).contains(&none.wait_s), "{}", none.wait_s);
    }

    #[test]
    fn a_record_that_fails_alone_comes_again_while_that_is_new() {
        let (faults, limits) = (outage_faults(), BankLimits::default());
        let calls = RecordCalls {
            called_limits: Some(&limits),
            is_circuit_open: false,
            requeue_count: 0,
        };
        let failed = RefreshOutcome::Failed;
        let (new, known) = (due_entry(1, None), due_entry(1, reported_outage()));
        let delay = |entry, calls| requeue_delay_after(&failed, &faults, entry, calls);
        assert_eq!(delay(&new, calls), Some(MAX_QUEUE_DELAY_S));
        assert_eq!(delay(&known, calls), None);
        let open = RecordCalls {
            is_circuit_open: true,
            ..calls
        };
        assert_eq!(delay(&known, open), Some(MAX_QUEUE_DELAY_S));
        let often = RecordCalls {
            requeue_count: MAX_REQUEUES,
            ..calls
        };
        assert_eq!(delay(&new, often), None);
        let counting = BankLimits {
            unattended_per_day: Some(4),
            ..limits
        };
        let counted = RecordCalls {
            called_limits: Some(&counting),
            ..calls
        };
        assert_eq!(delay(&new, counted), None);
        let unchanged = RefreshOutcome::Unchanged;
        assert_eq!(requeue_delay_after(&unchanged, &faults, &new, calls), None);
    }
}
