//! The sweep: turns the retries of the table whose minute has come into messages.
//!
//! The rule: a retry is deleted only after its message was sent, and a sweep begins where the last one ended, so that
//! none is passed over.

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use okra_queue::DeliveryRetry;
use okra_store as store;
use serde_json::json;

use super::{deliverer::Deliverer, error::DeliverError};
use crate::report::SweepReport;

/// Minutes that one sweep looks through at most. After an outage the sweeps catch up.
const MAX_MINUTES_PER_SWEEP: u64 = 240;

/// Rounds of reading, waking and deleting one minute's retries in one sweep at most.
const MAX_ROUNDS_PER_MINUTE: usize = 64;

/// Retries that are deleted at the same time.
const MAX_DELETES_AT_ONCE: usize = 32;

/// The state that says which minute was swept last.
const SWEEP_STATE_KEY: &str = "sweep";

impl Deliverer {
    /// Turns the retries that are due by `at` into messages, and deletes their entries after that.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: the next sweep begins where this one did.
    pub async fn sweep_retries(&self, at: Timestamp) -> Result<SweepReport, DeliverError> {
        let now = store::RetryEntry::minute_from(at);
        let first = match self.store.find_system_state(SWEEP_STATE_KEY).await? {
            // A state without its minute sweeps from 1970 on, slowly but without a gap.
            Some(state) => state["minute"].as_u64().unwrap_or(0) + 1,
            None => {
                // Stored before the first sweep, so that the next one repeats it if it fails.
                let first = now.saturating_sub(MAX_MINUTES_PER_SWEEP - 1);
                self.store_swept_minute(first.saturating_sub(1)).await?;
                first
            }
        };
        let last = now.min(first + MAX_MINUTES_PER_SWEEP - 1);
        let mut report = SweepReport {
            minutes_behind: now.saturating_sub(last),
            ..SweepReport::default()
        };
        for minute in first..=last {
            report.retries_woken += self.sweep_minute(minute).await?;
            report.minutes += 1;
        }
        if report.minutes > 0 {
            self.store_swept_minute(last).await?;
        }
        Ok(report)
    }

    /// Stores the last minute that needs no sweep any more.
    async fn store_swept_minute(&self, minute: u64) -> Result<(), DeliverError> {
        let state = json!({ "minute": minute });
        Ok(self.store.put_system_state(SWEEP_STATE_KEY, &state).await?)
    }

    async fn sweep_minute(&self, minute: u64) -> Result<usize, DeliverError> {
        let mut woken_count = 0;
        for _ in 0..MAX_ROUNDS_PER_MINUTE {
            let due = self.store.list_due_retries(minute).await?;
            let messages: Vec<(DeliveryRetry, u16)> =
                due.iter().map(|due| (retry_message(due), 0)).collect();
            self.queues.send_retries(&messages).await?;
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            let deletes: Vec<_> = due
                .iter()
                .map(|due| self.store.delete_retry(due).boxed())
                .collect();
            let deleted: Vec<_> = stream::iter(deletes)
                .buffer_unordered(MAX_DELETES_AT_ONCE)
                .collect()
                .await;
            deleted.into_iter().collect::<Result<(), _>>()?;
            woken_count += due.len();
            // With fewer than one lane may hold, none was left out.
            if due.len() < store::MAX_RETRIES_PER_LANE {
                return Ok(woken_count);
            }
        }
        Err(DeliverError::SweepIncomplete { minute })
    }
}

const fn retry_message(due: &store::RetryEntry) -> DeliveryRetry {
    DeliveryRetry {
        source: due.source,
        seq: due.seq,
        endpoint: due.endpoint,
        // Attempts are numbered from 1.
        attempts_made: due.attempt.saturating_sub(1),
        has_permit: false,
    }
}
