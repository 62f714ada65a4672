//! Event source mappings: what AWS does between a queue and a function, as a [`QueueMapping`] states it.
//!
//! Receive a batch, pass it to the function's own handler, delete the messages it did not report as failed. Failed
//! messages become visible after their visibility timeout, are received again, and end in the dead-letter queue.

use std::{collections::HashSet, sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use okra_queue::{IncomingMessage, Queue, Queues};
use tokio::{task::JoinSet, time::sleep};

/// Seconds a receive waits for a message.
const RECEIVE_WAIT_S: u16 = 20;

/// Pause after a failed receive, so that a queue that is down is not flooded with calls.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// How a queue is drained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueMapping {
    /// The queue.
    pub(crate) queue: Queue,
    /// Most messages of a batch, at most 10.
    pub(crate) batch_size: u8,
    /// Batches handled at once.
    pub(crate) concurrency: u8,
}

/// Drains a queue until the process ends. The handler returns `None` where the whole batch failed.
pub(crate) fn start_mapping<F>(
    tasks: &mut JoinSet<()>,
    queues: &Queues,
    mapping: QueueMapping,
    handler: impl Fn(SqsEvent) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Option<SqsBatchResponse>> + Send,
{
    let handler = Arc::new(handler);
    for _ in 0..mapping.concurrency {
        let (queues, handler) = (queues.clone(), Arc::clone(&handler));
        tasks.spawn(async move {
            loop {
                if let Err(error) = handle_one_batch(&queues, mapping, &*handler).await {
                    tracing::error!(
                        queue = ?mapping.queue,
                        error = &error as &dyn std::error::Error,
                        "a queue could not be read"
                    );
                    sleep(ERROR_PAUSE).await;
                }
            }
        });
    }
}

async fn handle_one_batch<F>(
    queues: &Queues,
    mapping: QueueMapping,
    handler: &(impl Fn(SqsEvent) -> F + Sync),
) -> Result<(), okra_queue::ReceiveError>
where
    F: Future<Output = Option<SqsBatchResponse>> + Send,
{
    let received = queues
        .receive_messages(mapping.queue, mapping.batch_size, RECEIVE_WAIT_S)
        .await?;
    if received.is_empty() {
        return Ok(());
    }
    let mut event = SqsEvent::default();
    event.records.extend(received.iter().map(to_sqs_message));
    let Some(response) = handler(event).await else {
        return Ok(());
    };
    let failed: HashSet<&str> = response
        .batch_item_failures
        .iter()
        .map(|failure| failure.item_identifier.as_str())
        .collect();
    let done: Vec<String> = received
        .iter()
        .filter(|message| !failed.contains(message.message_id.as_str()))
        .map(|message| message.receipt.clone())
        .collect();
    queues.delete_messages(mapping.queue, &done).await
}

fn to_sqs_message(received: &IncomingMessage) -> SqsMessage {
    let mut message = SqsMessage::default();
    message.message_id = Some(received.message_id.clone());
    message.receipt_handle = Some(received.receipt.clone());
    message.body = Some(received.body.clone());
    message.attributes = received.attributes.clone();
    message
}
