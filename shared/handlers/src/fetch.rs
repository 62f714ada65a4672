//! The fetch function: ticks of the interval rules, and chunks from the fetch and priority queues.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use okra_core::schedule::Tick;
use okra_queue::FetchMessage;
use okra_refresh::{RefreshError, Refresher, TickReport};
use serde::{Deserialize, Serialize};

use crate::{MessageError, each_message, parse, redelivered};

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
pub enum FetchResponse {
    /// What came of a tick.
    Tick(TickReport),
    /// Which messages have to come again.
    Messages(SqsBatchResponse),
}

#[derive(Debug, thiserror::Error)]
enum ChunkError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("a chunk could not be refreshed")]
    Refresh(#[from] RefreshError),
}

/// Handles an event of the fetch function.
pub async fn fetch(
    refresher: &Refresher,
    event: FetchEvent,
) -> Result<FetchResponse, RefreshError> {
    match event {
        FetchEvent::Tick(tick) => {
            let report = refresher.tick(tick).await?;
            tracing::info!(
                tick.interval = %tick.interval,
                due = report.due,
                chunks = report.chunks,
                down = report.down,
                unattainable = report.unattainable,
                "tick"
            );
            Ok(FetchResponse::Tick(report))
        }
        FetchEvent::Messages(event) => {
            let response = each_message(&event, |message| chunk(refresher, message)).await;
            Ok(FetchResponse::Messages(response))
        }
    }
}

async fn chunk(refresher: &Refresher, message: &SqsMessage) -> Result<(), ChunkError> {
    let chunk = match parse(message)? {
        FetchMessage::ChunkV1(chunk) => chunk,
        FetchMessage::HistoryV1(step) => {
            let again = redelivered(&message.attributes);
            let outcome = refresher.history(step, again).await?;
            tracing::info!(record.id = %step.record, step = step.step, ?outcome, "history");
            return Ok(());
        }
        FetchMessage::FollowUpV1(of) => {
            let outcome = refresher.follow_up(of.record).await?;
            tracing::info!(record.id = %of.record, ?outcome, "follow-up");
            return Ok(());
        }
        FetchMessage::RemovalV1(of) => {
            let outcome = refresher.go_on_removing(of).await?;
            tracing::info!(receipt.id = %of.receipt, ?outcome, "removal");
            return Ok(());
        }
    };
    let id = chunk.id.clone();
    let report = refresher
        .chunk(chunk, redelivered(&message.attributes))
        .await?;
    tracing::info!(
        chunk.id = id,
        unchanged = report.unchanged,
        changed = report.changed,
        failed = report.failed,
        contended = report.contended,
        gone = report.gone,
        stale = report.stale,
        held = report.held,
        put_off = report.put_off,
        "chunk"
    );
    Ok(())
}
