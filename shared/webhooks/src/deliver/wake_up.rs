//! Wake-ups: messages, and entries of the retry table, that have something looked at later.
//!
//! The rule: a wake-up is never the truth. It is scheduled before, or again after, what it is for is stored, so that a
//! crash between the two leaves one too many and never one too few.

use jiff::Timestamp;
use okra_core::{model::ids::AppId, schedule::plan::MAX_QUEUE_DELAY_S};
use okra_queue::{DeliveryRetry, EndpointMaintenance, MAX_DELAY_S, Redelivery};
use okra_store::{DeliveryKey, RetryEntry};

use super::{deliverer::Deliverer, error::DeliverError, event::add_seconds};

/// Seconds after which an app's feed is checked in any case: longer than a process that commits an entry to it may
/// live.
const APP_FEED_CHECK_S: u16 = 60;

impl Deliverer {
    /// Has a delivery attempted at `at`: by a message, as long as one can wait in the queue, else by the sweep. A
    /// permit for then is reserved where it `has_permit`.
    pub(super) async fn schedule_retry(
        &self,
        key: &DeliveryKey,
        attempts_made: u32,
        at: Timestamp,
        has_permit: bool,
    ) -> Result<(), DeliverError> {
        let &DeliveryKey {
            endpoint,
            source,
            seq,
            ..
        } = key;
        match u16::try_from(self.seconds_until(at)) {
            Ok(delay_s) if u32::from(delay_s) <= MAX_QUEUE_DELAY_S => {
                let retry = DeliveryRetry {
                    source,
                    seq,
                    endpoint,
                    attempts_made,
                    has_permit,
                };
                self.queues.send_retries(&[(retry, delay_s)]).await?;
            }
            _ => {
                let retry = RetryEntry {
                    source,
                    seq,
                    endpoint,
                    attempt: attempts_made + 1,
                    // The next minute to begin, so that the retry is due when its minute is swept.
                    minute: RetryEntry::minute_from(add_seconds(at, 59)),
                };
                self.store.put_retry(&retry).await?;
            }
        }
        Ok(())
    }

    /// Has a resend attempted at `at`, or as late as a message can wait.
    pub(super) async fn schedule_resend(
        &self,
        key: &DeliveryKey,
        at: Timestamp,
        has_permit: bool,
    ) -> Result<(), DeliverError> {
        let resend = Redelivery {
            source: key.source,
            seq: key.seq,
            endpoint: key.endpoint,
            has_permit,
        };
        let delay_s = self.message_delay_until(at);
        Ok(self.queues.send_redeliveries(&[(resend, delay_s)]).await?)
    }

    /// Has an endpoint maintained at `at`, or as late as a message can wait.
    pub(super) async fn schedule_maintenance(
        &self,
        task: EndpointMaintenance,
        at: Timestamp,
    ) -> Result<(), DeliverError> {
        let delay_s = self.message_delay_until(at);
        Ok(self.queues.send_maintenances(&[(task, delay_s)]).await?)
    }

    /// Has an app's feed checked although this process may have crashed: to be called before an entry is committed,
    /// because after a crash nothing else would know that it has to be delivered.
    pub(super) async fn schedule_app_feed_check(&self, app: AppId) -> Result<(), DeliverError> {
        Ok(self
            .queues
            .send_app_feed_dispatch(app, APP_FEED_CHECK_S)
            .await?)
    }

    /// Seconds until then, as many as a message can wait.
    fn message_delay_until(&self, at: Timestamp) -> u16 {
        u16::try_from(self.seconds_until(at))
            .map_or(MAX_DELAY_S, |delay_s| delay_s.min(MAX_DELAY_S))
    }

    /// Whole seconds until then, 0 where it is past. Rounded up: a wake-up that comes too soon would only be scheduled
    /// again.
    fn seconds_until(&self, at: Timestamp) -> i128 {
        let wait_ms = at.duration_since(self.now()).as_millis().max(0);
        (wait_ms + 999) / 1000
    }
}
