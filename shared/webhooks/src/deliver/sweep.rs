//! The sweep: wakes the retries whose minute has come.

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use okra_queue::Retry;
use okra_store as store;
use serde_json::json;

use super::{DeliverError, Deliverer};
use crate::report::SweepReport;

/// Minutes that one sweep looks through at most. A sweep begins where the last one ended, so after
/// an outage the sweeps catch up; no retry is passed over.
const MAX_MINUTES: u64 = 240;

/// Rounds of reading, waking and deleting one minute's retries in one sweep at most.
const MAX_ROUNDS: usize = 64;

/// Retries that are deleted at the same time.
const DELETES: usize = 32;

/// The state that says which minute was swept last.
const STATE: &str = "sweep";

impl Deliverer {
    /// Turns the retries that are due by `at` into messages, and deletes their due entries after.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: the next sweep begins where this one did.
    pub async fn sweep(&self, at: Timestamp) -> Result<SweepReport, DeliverError> {
        let now = store::Retry::minute_of(at);
        let first = match self.store.state(STATE).await? {
            Some(state) => state["minute"].as_u64().unwrap_or(0) + 1,
            None => {
                // Said before the first sweep, so that also that one is made up for if it fails.
                let first = now.saturating_sub(MAX_MINUTES - 1);
                self.swept(first.saturating_sub(1)).await?;
                first
            }
        };
        let last = now.min(first + MAX_MINUTES - 1);
        let mut report = SweepReport {
            behind: now.saturating_sub(last),
            ..SweepReport::default()
        };
        for minute in first..=last {
            report.woken += self.sweep_minute(minute).await?;
            report.minutes += 1;
        }
        if report.minutes > 0 {
            self.swept(last).await?;
        }
        Ok(report)
    }

    /// Remembers the last minute that needs no sweep any more.
    async fn swept(&self, minute: u64) -> Result<(), DeliverError> {
        let state = json!({ "minute": minute });
        Ok(self.store.put_state(STATE, &state).await?)
    }

    async fn sweep_minute(&self, minute: u64) -> Result<usize, DeliverError> {
        let mut woken = 0;
        for _ in 0..MAX_ROUNDS {
            let due = self.store.due_retries(minute).await?;
            let messages: Vec<(Retry, u16)> = due.iter().map(|due| (message(due), 0)).collect();
            self.queues.send_retries(&messages).await?;
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            let deletes: Vec<_> = due
                .iter()
                .map(|due| self.store.delete_retry(due).boxed())
                .collect();
            let deleted: Vec<_> = stream::iter(deletes)
                .buffer_unordered(DELETES)
                .collect()
                .await;
            deleted.into_iter().collect::<Result<(), _>>()?;
            woken += due.len();
            // With fewer than one lane may hold, none was cut.
            if due.len() < store::MAX_RETRIES_PER_LANE {
                return Ok(woken);
            }
        }
        Err(DeliverError::Sweep { minute })
    }
}

const fn message(due: &store::Retry) -> Retry {
    Retry {
        source: due.source,
        seq: due.seq,
        endpoint: due.endpoint,
        attempt: due.attempt.saturating_sub(1),
        paced: false,
    }
}
