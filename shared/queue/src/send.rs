//! Sending: each kind of message has a method that knows its queue and its message group. Messages go in batches, and
//! entries that SQS rejects for a moment are sent again.

use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchRequestEntry};
use okra_core::{backfill::progress::BackfillStep, model::ids::AppId, schedule::plan::Chunk};
use serde::Serialize;

use crate::{
    error::{SendError, unwrap_sdk_error},
    message::{
        AppFeedDispatch, DeliverMessage, DeliveryRetry, EndpointMaintenance, EndpointPing,
        FeedDispatch, FetchMessage, LinkFollowUp, Redelivery, RemovalStep, ReplayStep,
    },
    queues::{ChunkQueue, MAX_BATCH_ENTRIES, Queue, Queues},
};

/// The name of the call in errors.
const SEND: &str = "SendMessageBatch";

/// Bytes of one batch, all its messages together (SQS: 1 MiB; the rest is for what is not counted here).
const MAX_BATCH_BYTES: usize = 1_000_000;

/// Times the entries of a batch that SQS rejected are sent.
const MAX_SEND_ATTEMPTS: u32 = 3;

/// Seconds a message can be delayed at most (SQS).
pub const MAX_DELAY_S: u16 = 900;

/// A message that is to be sent.
struct OutgoingMessage {
    body: String,
    message_group: String,
    delay_s: u16,
}

impl OutgoingMessage {
    fn new(message: &impl Serialize, group: String, delay_s: u16) -> Result<Self, SendError> {
        let body = serde_json::to_string(message)?;
        if body.len() > MAX_BATCH_BYTES {
            return Err(SendError::TooLarge { bytes: body.len() });
        }
        Ok(Self {
            body,
            message_group: group,
            // A message that is due later is received early; its receiver sees that and enqueues it again.
            delay_s: delay_s.min(MAX_DELAY_S),
        })
    }

    fn to_batch_entry(&self, id: usize) -> Result<SendMessageBatchRequestEntry, SendError> {
        SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body(&self.body)
            .message_group_id(&self.message_group)
            .set_delay_seconds((self.delay_s > 0).then_some(self.delay_s.into()))
            .build()
            .map_err(|error| SendError::from_service(SEND, error))
    }
}

/// How many of these messages one batch takes; at least one, because no message is larger than a batch.
fn count_batch_entries(messages: &[OutgoingMessage]) -> usize {
    let mut bytes = 0;
    for (count, message) in messages.iter().take(MAX_BATCH_ENTRIES).enumerate() {
        bytes += message.body.len();
        if bytes > MAX_BATCH_BYTES {
            return count.max(1);
        }
    }
    messages.len().min(MAX_BATCH_ENTRIES)
}

impl Queues {
    /// Enqueues chunks, each after its delay. The bank is the message group: the backlog of a slow bank does
    /// not delay another bank's chunks (SQS fair queues).
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the chunks may have been enqueued.
    pub async fn send_chunks(
        &self,
        chunk_queue: ChunkQueue,
        chunks: &[Chunk],
    ) -> Result<(), SendError> {
        let queue = match chunk_queue {
            ChunkQueue::Scheduled => Queue::Fetch,
            ChunkQueue::Priority => Queue::Priority,
        };
        let entries = chunks.iter().map(|chunk| {
            let message = FetchMessage::ChunkV1(chunk.clone());
            OutgoingMessage::new(&message, chunk.bank.to_string(), chunk.delay_s)
        });
        self.send_messages(queue, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues a step of a record's backfill, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_backfill_step(
        &self,
        step: BackfillStep,
        delay_s: u16,
    ) -> Result<(), SendError> {
        let message = FetchMessage::BackfillV1(step);
        let entry = OutgoingMessage::new(&message, step.bank.to_string(), delay_s)?;
        self.send_messages(Queue::Fetch, vec![entry]).await
    }

    /// Enqueues the follow-up of a record's link, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_follow_up(
        &self,
        follow_up: LinkFollowUp,
        delay_s: u16,
    ) -> Result<(), SendError> {
        let message = FetchMessage::FollowUpV1(follow_up);
        let entry = OutgoingMessage::new(&message, follow_up.bank.to_string(), delay_s)?;
        self.send_messages(Queue::Priority, vec![entry]).await
    }

    /// Enqueues the next step of a removal, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_removal_step(
        &self,
        removal: RemovalStep,
        delay_s: u16,
    ) -> Result<(), SendError> {
        let message = FetchMessage::RemovalStepV1(removal);
        let entry = OutgoingMessage::new(&message, removal.app.to_string(), delay_s)?;
        self.send_messages(Queue::Priority, vec![entry]).await
    }

    /// Enqueues dispatches, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the dispatches may have been enqueued.
    pub async fn send_dispatches(
        &self,
        dispatches: &[FeedDispatch],
        delay_s: u16,
    ) -> Result<(), SendError> {
        let entries = dispatches.iter().map(|&dispatch| {
            let group = dispatch.record.to_string();
            OutgoingMessage::new(&DeliverMessage::DispatchV1(dispatch), group, delay_s)
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues retries, each after its own delay in seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the retries may have been enqueued.
    pub async fn send_retries(&self, retries: &[(DeliveryRetry, u16)]) -> Result<(), SendError> {
        let entries = retries.iter().map(|&(retry, delay_s)| {
            let group = retry.endpoint.to_string();
            OutgoingMessage::new(&DeliverMessage::RetryV1(retry), group, delay_s)
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues maintenance of endpoints, each after its own delay in seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the messages may have been enqueued.
    pub async fn send_maintenances(
        &self,
        maintenances: &[(EndpointMaintenance, u16)],
    ) -> Result<(), SendError> {
        let entries = maintenances.iter().map(|&(maintenance, delay_s)| {
            let group = maintenance.endpoint.to_string();
            OutgoingMessage::new(
                &DeliverMessage::MaintainEndpointV1(maintenance),
                group,
                delay_s,
            )
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues redeliveries, each after its own delay in seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the messages may have been enqueued.
    pub async fn send_redeliveries(
        &self,
        redeliveries: &[(Redelivery, u16)],
    ) -> Result<(), SendError> {
        let entries = redeliveries.iter().map(|&(redelivery, delay_s)| {
            let group = redelivery.endpoint.to_string();
            OutgoingMessage::new(&DeliverMessage::RedeliverV1(redelivery), group, delay_s)
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues a ping.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_ping(&self, ping: EndpointPing) -> Result<(), SendError> {
        let group = ping.endpoint.to_string();
        let entry = OutgoingMessage::new(&DeliverMessage::PingV1(ping), group, 0)?;
        self.send_messages(Queue::Deliver, vec![entry]).await
    }

    /// Enqueues a step of a replay, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_replay_step(&self, step: ReplayStep, delay_s: u16) -> Result<(), SendError> {
        let message = DeliverMessage::ReplayV1(step);
        let entry = OutgoingMessage::new(&message, step.replay.to_string(), delay_s)?;
        self.send_messages(Queue::Deliver, vec![entry]).await
    }

    /// Enqueues a dispatch of an app's own feed, after `delay_s` seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send_app_feed_dispatch(&self, app: AppId, delay_s: u16) -> Result<(), SendError> {
        let message = DeliverMessage::AppFeedV1(AppFeedDispatch { app });
        let entry = OutgoingMessage::new(&message, app.to_string(), delay_s)?;
        self.send_messages(Queue::Deliver, vec![entry]).await
    }

    async fn send_messages(
        &self,
        queue: Queue,
        entries: Vec<OutgoingMessage>,
    ) -> Result<(), SendError> {
        let mut rejected = Vec::new();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(count_batch_entries(rest));
            rejected.extend(self.send_batch(self.queue_url(queue), batch).await?);
            rest = later;
        }
        match rejected.first() {
            None => Ok(()),
            Some(first) => Err(SendError::Rejected {
                rejected: rejected.len(),
                code: first.code.clone(),
            }),
        }
    }

    /// Sends a batch, and sends again what SQS rejected of it; returns what it rejected to the end.
    async fn send_batch(
        &self,
        url: &str,
        batch: &[OutgoingMessage],
    ) -> Result<Vec<BatchResultErrorEntry>, SendError> {
        let mut rejected = Vec::new();
        let mut pending = batch
            .iter()
            .zip(0_usize..)
            .map(|(entry, id)| entry.to_batch_entry(id))
            .collect::<Result<Vec<_>, _>>()?;
        for attempt in 1..=MAX_SEND_ATTEMPTS {
            let response = self
                .client
                .send_message_batch()
                .queue_url(url)
                .set_entries(Some(pending.clone()))
                .send()
                .await
                .map_err(|error| SendError::from_service(SEND, unwrap_sdk_error(error)))?;
            // A fault of the sender would be rejected again.
            let (lost, transient): (Vec<_>, Vec<_>) = response
                .failed
                .into_iter()
                .partition(|entry| entry.sender_fault || attempt == MAX_SEND_ATTEMPTS);
            rejected.extend(lost);
            if transient.is_empty() {
                break;
            }
            pending.retain(|entry| transient.iter().any(|failed| failed.id == entry.id));
        }
        Ok(rejected)
    }
}
