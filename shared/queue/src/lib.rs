//! The queues: versioned messages, enqueue and receive.
//!
//! Messages carry keys, never payloads: the table is the truth, a queue only wakes.

mod message;

use std::collections::HashMap;

use aws_sdk_sqs::{
    Client,
    error::{BoxError, SdkError},
    types::{
        BatchResultErrorEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use okra_core::{backfill::progress::BackfillStep, model::ids::AppId, schedule::plan::Chunk};
use serde::Serialize;

pub use self::message::{
    AppFeedDispatch, DeliverMessage, DeliveryRetry, EndpointMaintenance, EndpointPing,
    FeedDispatch, FetchMessage, LinkFollowUp, Redelivery, RemovalStep, ReplayStep,
};

/// Entries of one batch (SQS).
const MAX_BATCH_ENTRIES: usize = 10;

/// Bytes of one batch, all its messages together (SQS: 1 MiB; some is left for what we do not count).
const MAX_BATCH_BYTES: usize = 1_000_000;

/// Times the entries of a batch that were not taken are sent again.
const MAX_SEND_ATTEMPTS: u32 = 3;

/// Seconds a message can be delayed at most (SQS).
pub const MAX_DELAY_S: u16 = 900;

/// One of the three queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Chunks of scheduled refreshes.
    Fetch,
    /// Chunks that somebody waits for.
    Priority,
    /// Dispatches and retries.
    Deliver,
}

impl Queue {
    /// All queues.
    pub const ALL: [Self; 3] = [Self::Fetch, Self::Priority, Self::Deliver];
}

/// Which queue a chunk goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkQueue {
    /// Planned by a tick.
    Scheduled,
    /// Asked for by a person or an app.
    Priority,
}

/// Where the queues are.
#[derive(Clone, Debug)]
pub struct QueueUrls {
    /// Of [`Queue::Fetch`].
    pub fetch: String,
    /// Of [`Queue::Priority`].
    pub priority: String,
    /// Of [`Queue::Deliver`].
    pub deliver: String,
}

/// Messages could not be enqueued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The service refused or was not reached.
    #[error("the queue could not be reached")]
    Service(#[source] BoxError),
    /// Some entries of a batch were refused, as often as we tried.
    #[error("{rejected} messages were not taken, the first because of {code}")]
    Rejected {
        /// How many.
        rejected: usize,
        /// The code SQS gave for the first.
        code: String,
    },
    /// A message that cannot be written as JSON, or outgrows a batch.
    #[error("a message could not be written")]
    Unwritable,
}

/// Messages could not be received or deleted.
#[derive(Debug, thiserror::Error)]
#[error("the queue could not be read")]
pub struct ReceiveError(#[source] BoxError);

/// A message as it was received.
#[derive(Clone, Debug)]
pub struct IncomingMessage {
    /// Its id.
    pub message_id: String,
    /// What deletes it.
    pub receipt: String,
    /// Its text.
    pub body: String,
    /// The system attributes asked for: receive count, message group, time it was sent.
    pub attributes: HashMap<String, String>,
}

/// The queues. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues {
    client: Client,
    urls: QueueUrls,
}

struct OutgoingMessage {
    body: String,
    message_group: String,
    delay_s: u16,
}

impl OutgoingMessage {
    fn new(message: &impl Serialize, group: String, delay_s: u16) -> Result<Self, SendError> {
        let body = serde_json::to_string(message).map_err(|_| SendError::Unwritable)?;
        if body.len() > MAX_BATCH_BYTES {
            return Err(SendError::Unwritable);
        }
        Ok(Self {
            body,
            message_group: group,
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
            .map_err(|_| SendError::Unwritable)
    }
}

impl Queues {
    /// The queues at these addresses.
    pub const fn new(client: Client, urls: QueueUrls) -> Self {
        Self { client, urls }
    }

    fn queue_url(&self, queue: Queue) -> &str {
        match queue {
            Queue::Fetch => &self.urls.fetch,
            Queue::Priority => &self.urls.priority,
            Queue::Deliver => &self.urls.deliver,
        }
    }

    /// Enqueues chunks, each after its delay, its bank as message group: a slow bank's backlog does
    /// not stand before another bank's chunks (SQS fair queues).
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the chunks may have been taken.
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

    /// Enqueues a step of a record's history, after `delay_s` seconds.
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

    /// Enqueues a removal to be gone on with, after `delay_s` seconds.
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
    /// [`SendError`]; some of the dispatches may have been taken.
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
    /// [`SendError`]; some of the retries may have been taken.
    pub async fn send_retries(&self, retries: &[(DeliveryRetry, u16)]) -> Result<(), SendError> {
        let entries = retries.iter().map(|&(retry, delay_s)| {
            let group = retry.endpoint.to_string();
            OutgoingMessage::new(&DeliverMessage::RetryV1(retry), group, delay_s)
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues that endpoints are to be looked after, each after its own delay in seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the messages may have been taken.
    pub async fn send_maintenances(
        &self,
        maintenances: &[(EndpointMaintenance, u16)],
    ) -> Result<(), SendError> {
        let entries = maintenances.iter().map(|&(tend, delay_s)| {
            let group = tend.endpoint.to_string();
            OutgoingMessage::new(&DeliverMessage::MaintainEndpointV1(tend), group, delay_s)
        });
        self.send_messages(Queue::Deliver, entries.collect::<Result<_, _>>()?)
            .await
    }

    /// Enqueues events that are to be sent again, each after its own delay in seconds.
    ///
    /// # Errors
    ///
    /// [`SendError`]; some of the messages may have been taken.
    pub async fn send_redeliveries(
        &self,
        redeliveries: &[(Redelivery, u16)],
    ) -> Result<(), SendError> {
        let entries = redeliveries.iter().map(|&(resend, delay_s)| {
            let group = resend.endpoint.to_string();
            OutgoingMessage::new(&DeliverMessage::RedeliverV1(resend), group, delay_s)
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

    /// Enqueues, `delay_s` from now, that an app's own feed has something new.
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
        let mut refused = Vec::new();
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |entry: &&OutgoingMessage| {
                bytes += entry.body.len();
                bytes <= MAX_BATCH_BYTES
            };
            // No entry alone is larger than a batch.
            let count = rest.iter().take(MAX_BATCH_ENTRIES).take_while(fits).count();
            let (batch, later) = rest.split_at(count.max(1));
            refused.extend(self.send_batch(self.queue_url(queue), batch).await?);
            rest = later;
        }
        match refused.first() {
            None => Ok(()),
            Some(first) => Err(SendError::Rejected {
                rejected: refused.len(),
                code: first.code.clone(),
            }),
        }
    }

    /// Sends a batch, and again what was not taken of it; returns what never was.
    async fn send_batch(
        &self,
        url: &str,
        batch: &[OutgoingMessage],
    ) -> Result<Vec<BatchResultErrorEntry>, SendError> {
        let mut refused = Vec::new();
        let mut open = batch
            .iter()
            .zip(0_usize..)
            .map(|(entry, id)| entry.to_batch_entry(id))
            .collect::<Result<Vec<_>, _>>()?;
        for attempt in 1..=MAX_SEND_ATTEMPTS {
            let answer = self
                .client
                .send_message_batch()
                .queue_url(url)
                .set_entries(Some(open.clone()))
                .send()
                .await
                .map_err(|error| SendError::Service(into_box_error(error)))?;
            let failed = answer.failed.into_iter();
            // What is our own fault fails again.
            let (hopeless, again): (Vec<_>, Vec<_>) =
                failed.partition(|entry| entry.sender_fault || attempt == MAX_SEND_ATTEMPTS);
            refused.extend(hopeless);
            if again.is_empty() {
                break;
            }
            open.retain(|entry| again.iter().any(|failed| failed.id == entry.id));
        }
        Ok(refused)
    }

    /// Receives up to `max` (at most 10) messages, waiting up to `wait_s` (at most 20) seconds for
    /// the first. The client's own timeouts must be longer than that.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`].
    pub async fn receive_messages(
        &self,
        queue: Queue,
        max_messages: u8,
        wait_s: u16,
    ) -> Result<Vec<IncomingMessage>, ReceiveError> {
        let answer = self
            .client
            .receive_message()
            .queue_url(self.queue_url(queue))
            .max_number_of_messages(i32::from(max_messages))
            .wait_time_seconds(i32::from(wait_s))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| ReceiveError(into_box_error(error)))?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages
            .map(|message| IncomingMessage {
                message_id: message.message_id.unwrap_or_default(),
                receipt: message.receipt_handle.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                attributes: message
                    .attributes
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, value)| (name.as_str().to_owned(), value))
                    .collect(),
            })
            .collect())
    }

    /// Deletes received messages. One that cannot be deleted comes again, which does no harm.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`] where the queue could not be reached.
    pub async fn delete_messages(
        &self,
        queue: Queue,
        receipts: &[String],
    ) -> Result<(), ReceiveError> {
        for batch in receipts.chunks(MAX_BATCH_ENTRIES) {
            let entries = batch.iter().enumerate().map(|(index, receipt)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .build()
                    .map_err(|error| ReceiveError(error.into()))
            });
            self.client
                .delete_message_batch()
                .queue_url(self.queue_url(queue))
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await
                .map_err(|error| ReceiveError(into_box_error(error)))?;
        }
        Ok(())
    }
}

fn into_box_error<E>(error: SdkError<E>) -> BoxError
where
    E: std::error::Error + Send + Sync + 'static,
{
    error
        .into_source()
        .unwrap_or_else(|error| error.to_string().into())
}
