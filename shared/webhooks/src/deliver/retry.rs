//! Attempts at one delivery that a message names: retries, and what probes, drains and resends ask for.
//!
//! The rule: nothing of the message is believed but which delivery it names. Whether an attempt is due follows from the
//! row, and whether the event is still wanted from the endpoint as it is now.

use okra_core::{
    delivery::{
        fifo::FifoStatus,
        state_machine::{AttemptDue, attempt_due},
    },
    model::ids::{FeedSource, RecordId},
    sync::state::RecordStatus,
};
use okra_queue::DeliveryRetry;
use okra_store::{Consistency, Delivery, FifoPosition};

use super::{
    attempt::AttemptContext,
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryEvent, DeliveryRef},
    fifo::{FifoContext, QueuedEvent},
    subject::EventSubject,
    targets::DeliveryTarget,
};
use crate::report::DeliveryOutcome;

impl Deliverer {
    /// Makes the attempt that a wake-up is for, where it is still due.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn attempt_retry(
        &self,
        retry: DeliveryRetry,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let mode = AttemptMode {
            has_permit: retry.has_permit,
            ..AttemptMode::BY_OWN_MESSAGE
        };
        let delivery = DeliveryRef {
            source: retry.source,
            seq: retry.seq,
            endpoint: retry.endpoint,
            must_be_stored: retry.attempts_made > 0,
        };
        self.attempt_one(delivery, mode).await
    }

    /// Makes an attempt at one delivery, where it is due. At an ordered endpoint those behind it may follow, or one
    /// before it may be attempted instead.
    pub(super) async fn attempt_one(
        &self,
        delivery: DeliveryRef,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let outcomes = Box::pin(self.attempt_with_successors(delivery, mode)).await?;
        Ok(outcomes
            .first()
            .copied()
            .unwrap_or(DeliveryOutcome::Skipped))
    }

    /// The same; what came of each event that was attempted.
    pub(super) async fn attempt_with_successors(
        &self,
        delivery: DeliveryRef,
        mode: AttemptMode,
    ) -> Result<Vec<DeliveryOutcome>, DeliverError> {
        let record = match delivery.source {
            FeedSource::Record(record) => record,
            FeedSource::App(app) => {
                let outcome = self.attempt_app_delivery(app, delivery, mode).await?;
                return Ok(vec![outcome]);
            }
        };
        let Some(entry) = self.store.find_feed_entry(record, delivery.seq).await? else {
            if self.is_record_removed(record).await? {
                return Ok(vec![DeliveryOutcome::Unwanted]);
            }
            return Err(DeliverError::MissingEntries {
                record,
                from: delivery.seq,
                to: delivery.seq,
            });
        };
        let key = DeliveryEvent::from_entry(&entry).delivery_key(delivery.endpoint);
        let row = self.store.find_delivery(&key).await?;

        // Of an event in a FIFO, those behind it may have to go on also where nothing is due for it.
        let is_queued = row
            .as_ref()
            .is_some_and(|row| row.fifo_position != FifoPosition::Unordered);
        if !is_queued
            && let Some(outcome) = self
                .outcome_if_not_due(row.as_ref(), delivery.must_be_stored, mode)
                .await?
        {
            return Ok(vec![outcome]);
        }
        self.attempt_entry_at(delivery, QueuedEvent { entry, row }, mode)
            .await
    }

    /// Attempts an event of a record where its endpoint still wants it.
    async fn attempt_entry_at(
        &self,
        delivery: DeliveryRef,
        queued: QueuedEvent,
        mode: AttemptMode,
    ) -> Result<Vec<DeliveryOutcome>, DeliverError> {
        let event = DeliveryEvent::from_entry(&queued.entry);
        let subject = EventSubject::load_subject(self, queued.entry.record).await?;
        let target = match &subject {
            Some(subject) => {
                self.load_record_target(&subject.head, delivery.endpoint)
                    .await?
            }
            None => None,
        };
        let (Some(subject), Some(target)) = (subject, target) else {
            let outcome = self
                .cancel_delivery(&event, delivery.endpoint, queued.row)
                .await?;
            return Ok(vec![outcome]);
        };
        let is_ordered = target.ordered_since.is_some()
            || queued
                .row
                .as_ref()
                .is_some_and(|row| row.fifo_position != FifoPosition::Unordered);
        let context = FifoContext {
            subject: &subject,
            target: &target,
            mode,
        };
        if !target.wants_entry(&queued.entry) {
            let outcome = self
                .cancel_delivery(&event, delivery.endpoint, queued.row)
                .await?;
            if is_ordered {
                Box::pin(self.continue_behind_removed(context, &queued.entry)).await?;
            }
            return Ok(vec![outcome]);
        }
        if is_ordered {
            return Ok(Box::pin(self.deliver_fifo(context, queued)).await?.outcomes);
        }
        let outcome = self
            .attempt_unordered(&subject, &target, queued, mode)
            .await?;
        Ok(vec![outcome])
    }

    async fn attempt_unordered(
        &self,
        subject: &EventSubject,
        target: &DeliveryTarget,
        queued: QueuedEvent,
        mode: AttemptMode,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let QueuedEvent { entry, row } = queued;
        let event = DeliveryEvent::from_entry(&entry);
        let accounts = self
            .load_entry_accounts(std::slice::from_ref(&entry))
            .await?;
        let account = accounts.account_for_entry(&entry)?;
        let context = AttemptContext {
            event: &event,
            target,
            mode,
            fifo: &FifoStatus::Unordered,
        };
        let attempt = self.attempt_delivery(context, row, || {
            subject.render_body(&self.config.public_url, account, &entry, target)
        });
        Ok(Box::pin(attempt).await?.outcome)
    }

    /// The outcome of a delivery for which no attempt is due; `None` where one is. One that is due later is scheduled.
    pub(super) async fn outcome_if_not_due(
        &self,
        row: Option<&Delivery>,
        must_be_stored: bool,
        mode: AttemptMode,
    ) -> Result<Option<DeliveryOutcome>, DeliverError> {
        let Some(row) = row else {
            return Ok(must_be_stored.then_some(DeliveryOutcome::Skipped));
        };
        match attempt_due(Some(row), mode.kind, self.now()) {
            AttemptDue::Now { .. } => Ok(None),
            AttemptDue::Never => Ok(Some(DeliveryOutcome::Skipped)),
            AttemptDue::At { due_at } => {
                self.schedule_retry(&row.key, row.attempt_count, due_at, false)
                    .await?;
                Ok(Some(DeliveryOutcome::Skipped))
            }
        }
    }

    /// True where a record is removed or being removed: entries that are missing were removed with it.
    pub(super) async fn is_record_removed(&self, record: RecordId) -> Result<bool, DeliverError> {
        let head = self.store.find_head(record, Consistency::Strong).await?;
        Ok(head.is_none_or(|head| head.status == RecordStatus::Invalid))
    }
}
