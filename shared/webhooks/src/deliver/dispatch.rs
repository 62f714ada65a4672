//! Dispatches: new feed entries of a record, to every endpoint that wants them.
//!
//! The rule: a dispatch may be repeated as a whole. What is delivered is not sent again, and what failed has its own
//! wake-up.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, stream};
use okra_core::{delivery::fifo::FifoStatus, model::ids::Seq, sync::feed::FeedEntry};
use okra_queue::FeedDispatch;
use okra_store::{Consistency, Delivery, DeliveryKey};

use super::{
    attempt::AttemptContext,
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryEvent},
    fifo::{FifoContext, FifoProgress, QueuedEvent},
    subject::EventSubject,
    targets::DeliveryTarget,
};
use crate::report::DispatchReport;

/// Events of a dispatch that are delivered at once; the rest becomes another dispatch, so that an endpoint that hangs
/// delays a message by one deadline and not by hundreds.
const MAX_EVENTS_AT_ONCE: u64 = 32;

/// Deliveries of one dispatch that are attempted at once.
const MAX_DELIVERIES_AT_ONCE: usize = 1024;

/// An event of a dispatch and an endpoint that wants it.
#[derive(Clone, Copy)]
struct WantedDelivery<'a> {
    entry: &'a FeedEntry,
    event: &'a DeliveryEvent,
    target: &'a DeliveryTarget,
}

impl WantedDelivery<'_> {
    const fn key(&self) -> DeliveryKey {
        self.event.delivery_key(self.target.endpoint)
    }
}

impl Deliverer {
    /// Delivers feed entries: each that is of the dispatch's stream to each endpoint that wants it. May be repeated:
    /// what is delivered is not sent again.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat the whole dispatch.
    #[tracing::instrument(level = "debug", name = "dispatch", skip_all, fields(record.id = %dispatch.record))]
    pub async fn deliver_dispatch(
        &self,
        dispatch: FeedDispatch,
    ) -> Result<DispatchReport, DeliverError> {
        let (dispatch, rest) = split_dispatch(dispatch);
        if let Some(rest) = rest {
            self.queues.send_dispatches(&[rest], 0).await?;
        }
        let mut report = DispatchReport::default();
        let Some(subject) = EventSubject::load_subject(self, dispatch.record).await? else {
            return Ok(report);
        };
        let (entries, targets) = Box::pin(async {
            futures::try_join!(
                self.load_dispatch_entries(&dispatch),
                self.load_stream_targets(&subject.head, dispatch.stream)
            )
        })
        .await?;
        report.events = entries.len();
        let (ordered, unordered): (Vec<DeliveryTarget>, Vec<DeliveryTarget>) = targets
            .into_iter()
            .partition(|target| target.ordered_since.is_some());
        Box::pin(self.deliver_ordered(&subject, &entries, &ordered, &mut report)).await?;
        if !unordered.is_empty() {
            self.deliver_unordered(&subject, &entries, &unordered, &mut report)
                .await?;
        }
        Ok(report)
    }

    /// Delivers entries to endpoints that get them in any order.
    async fn deliver_unordered(
        &self,
        subject: &EventSubject,
        entries: &[FeedEntry],
        targets: &[DeliveryTarget],
        report: &mut DispatchReport,
    ) -> Result<(), DeliverError> {
        let accounts = self.load_entry_accounts(entries).await?;
        let events: Vec<DeliveryEvent> = entries.iter().map(DeliveryEvent::from_entry).collect();
        let mut wanted = Vec::new();
        for (entry, event) in entries.iter().zip(&events) {
            for target in targets {
                if target.wants_event(event.name) {
                    wanted.push(WantedDelivery {
                        entry,
                        event,
                        target,
                    });
                }
            }
        }
        let mut rows = self.load_wanted_rows(&wanted).await?;
        let public_url = self.config.public_url.as_str();
        let mut attempts = Vec::with_capacity(wanted.len());
        for delivery in wanted {
            let WantedDelivery {
                entry,
                event,
                target,
            } = delivery;
            let row = rows.remove(&delivery.key());
            let account = accounts.account_for_entry(entry)?;
            let context = AttemptContext {
                event,
                target,
                mode: AttemptMode::BY_DISPATCH,
                fifo: &FifoStatus::Unordered,
            };
            // Boxed, because a borrowing closure inside the stream would make it not `Send`.
            attempts.push(
                self.attempt_delivery(context, row, move || {
                    subject.render_body(public_url, account, entry, target)
                })
                .boxed(),
            );
        }
        let outcomes: Vec<_> = stream::iter(attempts)
            .buffer_unordered(MAX_DELIVERIES_AT_ONCE)
            .collect()
            .await;
        for progress in outcomes {
            report.count_outcome(progress?.outcome);
        }
        Ok(())
    }

    /// Delivers entries to endpoints that get them in order: each from the first on that it wants.
    async fn deliver_ordered(
        &self,
        subject: &EventSubject,
        entries: &[FeedEntry],
        targets: &[DeliveryTarget],
        report: &mut DispatchReport,
    ) -> Result<(), DeliverError> {
        let mut deliveries = Vec::with_capacity(targets.len());
        for target in targets {
            if let Some(first) = entries.iter().find(|entry| target.wants_entry(entry)) {
                deliveries.push(self.deliver_from_entry(subject, target, first).boxed());
            }
        }
        for progress in futures::future::join_all(deliveries).await {
            for outcome in progress?.outcomes {
                report.count_outcome(outcome);
            }
        }
        Ok(())
    }

    async fn deliver_from_entry(
        &self,
        subject: &EventSubject,
        target: &DeliveryTarget,
        first: &FeedEntry,
    ) -> Result<FifoProgress, DeliverError> {
        let key = DeliveryEvent::from_entry(first).delivery_key(target.endpoint);
        let row = self.store.find_delivery(&key).await?;
        let context = FifoContext {
            subject,
            target,
            mode: AttemptMode::BY_DISPATCH,
        };
        let entry = first.clone();
        self.deliver_fifo(context, QueuedEvent { entry, row }).await
    }

    /// The stored deliveries among these, by their keys.
    async fn load_wanted_rows(
        &self,
        wanted: &[WantedDelivery<'_>],
    ) -> Result<HashMap<DeliveryKey, Delivery>, DeliverError> {
        let keys: Vec<DeliveryKey> = wanted.iter().map(WantedDelivery::key).collect();
        let rows = self.store.load_deliveries(&keys).await?.into_iter();
        Ok(rows.map(|row| (row.key, row)).collect())
    }

    /// The entries of a dispatch that are of its stream, in order.
    async fn load_dispatch_entries(
        &self,
        dispatch: &FeedDispatch,
    ) -> Result<Vec<FeedEntry>, DeliverError> {
        let &FeedDispatch {
            record,
            first_seq: from,
            last_seq: to,
            stream,
        } = dispatch;
        let Some(before) = from.0.checked_sub(1).map(Seq) else {
            return Err(DeliverError::MissingEntries { record, from, to });
        };
        // At most `MAX_EVENTS_AT_ONCE`; none where the message names its last entry before its first.
        let expected = usize::try_from(to.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
        // The commit may be more recent than what an eventually consistent read sees.
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            let mut entries = self
                .store
                .read_feed(record, before, expected, consistency)
                .await?;
            let is_complete = entries.len() == expected;
            if is_complete
                || (consistency == Consistency::Strong && self.is_record_removed(record).await?)
            {
                entries.retain(|entry| entry.change.stream() == stream);
                return Ok(entries);
            }
        }
        Err(DeliverError::MissingEntries { record, from, to })
    }
}

/// The part of a dispatch that is delivered at once, and the rest.
fn split_dispatch(dispatch: FeedDispatch) -> (FeedDispatch, Option<FeedDispatch>) {
    let last = dispatch.first_seq.plus(MAX_EVENTS_AT_ONCE - 1);
    if dispatch.last_seq <= last {
        return (dispatch, None);
    }
    let rest = FeedDispatch {
        first_seq: last.next(),
        ..dispatch
    };
    (
        FeedDispatch {
            last_seq: last,
            ..dispatch
        },
        Some(rest),
    )
}

#[cfg(test)]
mod tests {
    use okra_core::{model::ids::RecordId, sync::feed::FeedStream};
    use proptest::prelude::*;

    use super::*;

    fn sample_dispatch(from: u64, to: u64) -> FeedDispatch {
        FeedDispatch {
            record: RecordId::from_bytes([1; 12]),
            first_seq: Seq(from),
            last_seq: Seq(to),
            stream: FeedStream::Balance,
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_dispatch_cover_it_once(from in 1..1_000_000_u64, length in 0..2_000_u64) {
            let (mut next, to) = (from, from + length);
            let mut rest = Some(sample_dispatch(from, to));
            while let Some(whole) = rest {
                let (part, later) = split_dispatch(whole);
                prop_assert_eq!(part.first_seq, Seq(next));
                prop_assert!(part.last_seq >= part.first_seq);
                prop_assert!(part.last_seq.0 - part.first_seq.0 < MAX_EVENTS_AT_ONCE);
                next = part.last_seq.0 + 1;
                rest = later;
            }
            prop_assert_eq!(next, to + 1);
        }
    }
}
