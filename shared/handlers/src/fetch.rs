//! The fetch function: ticks of the interval rules, and messages of the fetch and priority queues.
//!
//! [`FetchEvent`] is what wakes it, [`FetchEventResponse`] what it answers.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use okra_core::model::interval::Tick;
use okra_queue::FetchMessage;
use okra_refresh::{RefreshError, Refresher, TickReport};
use serde::{Deserialize, Serialize};

use crate::{MalformedMessageError, handle_batch, parse_message, was_redelivered};

/// What wakes the fetch function.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum FetchEvent {
    /// A rule's call, as its input transformer forms it.
    Tick(Tick),
    /// Messages of a queue.
    Messages(SqsEvent),
}

/// What the fetch function answers.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum FetchEventResponse {
    /// How a tick ended.
    Tick(TickReport),
    /// Which messages have to be redelivered.
    Messages(SqsBatchResponse),
}

#[derive(Debug, thiserror::Error)]
enum FetchMessageError {
    #[error(transparent)]
    Message(#[from] MalformedMessageError),
    #[error("the message's work failed")]
    Refresh(#[from] RefreshError),
}

/// Handles an event of the fetch function.
///
/// # Errors
///
/// [`RefreshError`] where a tick failed: EventBridge calls again. A message that failed is in the response.
pub async fn handle_fetch_event(
    refresher: &Refresher,
    event: FetchEvent,
) -> Result<FetchEventResponse, RefreshError> {
    match event {
        FetchEvent::Tick(tick) => {
            let report = refresher.run_tick(tick).await?;
            tracing::info!(
                tick.interval = %tick.interval,
                due = report.due,
                chunks = report.chunks,
                down = report.down,
                unattainable = report.unattainable,
                "Tick planned"
            );
            Ok(FetchEventResponse::Tick(report))
        }
        FetchEvent::Messages(event) => {
            let response =
                handle_batch(&event, |message| handle_fetch_message(refresher, message)).await;
            Ok(FetchEventResponse::Messages(response))
        }
    }
}

async fn handle_fetch_message(
    refresher: &Refresher,
    message: &SqsMessage,
) -> Result<(), FetchMessageError> {
    let chunk = match parse_message(message)? {
        FetchMessage::ChunkV1(chunk) => chunk,
        FetchMessage::BackfillV1(step) => {
            let is_redelivered = was_redelivered(&message.attributes);
            let outcome = refresher.run_backfill_step(step, is_redelivered).await?;
            tracing::info!(record.id = %step.record, step = step.step, ?outcome, "Backfill step ended");
            return Ok(());
        }
        FetchMessage::FollowUpV1(link) => {
            let outcome = refresher.run_follow_up(link.record).await?;
            tracing::info!(record.id = %link.record, ?outcome, "Link followed up");
            return Ok(());
        }
        FetchMessage::RemovalStepV1(step) => {
            let progress = refresher.continue_removal(step).await?;
            tracing::info!(receipt.id = %step.receipt, ?progress, "Removal continued");
            return Ok(());
        }
    };
    let id = chunk.id.clone();
    let report = refresher
        .refresh_chunk(chunk, was_redelivered(&message.attributes))
        .await?;
    tracing::info!(
        chunk.id = id,
        unchanged = report.unchanged,
        changed = report.changed,
        failed = report.failed,
        contended = report.contended,
        gone = report.gone,
        stale = report.stale,
        deferred = report.deferred,
        requeued = report.requeued,
        "Chunk refreshed"
    );
    Ok(())
}
