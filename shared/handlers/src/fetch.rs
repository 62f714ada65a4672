//! The fetch function: ticks of the interval rules, and chunks from the fetch and priority queues.

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
    /// What came of a tick.
    Tick(TickReport),
    /// Which messages have to come again.
    Messages(SqsBatchResponse),
}

#[derive(Debug, thiserror::Error)]
enum FetchMessageError {
    #[error(transparent)]
    Message(#[from] MalformedMessageError),
    #[error("a chunk could not be refreshed")]
    Refresh(#[from] RefreshError),
}

/// Handles an event of the fetch function.
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
                "tick"
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
            let again = was_redelivered(&message.attributes);
            let outcome = refresher.run_backfill_step(step, again).await?;
            tracing::info!(record.id = %step.record, step = step.step, ?outcome, "history");
            return Ok(());
        }
        FetchMessage::FollowUpV1(of) => {
            let outcome = refresher.run_follow_up(of.record).await?;
            tracing::info!(record.id = %of.record, ?outcome, "follow-up");
            return Ok(());
        }
        FetchMessage::RemovalStepV1(of) => {
            let outcome = refresher.continue_removal(of).await?;
            tracing::info!(receipt.id = %of.receipt, ?outcome, "removal");
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
        held = report.deferred,
        put_off = report.requeued,
        "chunk"
    );
    Ok(())
}
