//! The deliver function: dispatches and retries from its queue, and the sweep of each minute.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use jiff::Timestamp;
use okra_queue::DeliverMessage;
use okra_webhooks::{DeliverError, Deliverer, SweepReport};
use serde::{Deserialize, Serialize};

use crate::{MessageError, each_message, parse};

/// What wakes the deliver function.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum DeliverEvent {
    /// The minute's call: retries that are due.
    Sweep {
        /// When the rule was due to fire.
        sweep: Timestamp,
    },
    /// Messages of the queue.
    Messages(SqsEvent),
}

/// What the deliver function answers.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum DeliverResponse {
    /// What came of a sweep.
    Sweep(SweepReport),
    /// Which messages have to come again.
    Messages(SqsBatchResponse),
}

#[derive(Debug, thiserror::Error)]
enum EventError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("an event could not be delivered for a fault of our own")]
    Deliver(#[from] DeliverError),
}

/// Handles an event of the deliver function.
pub async fn deliver(
    deliverer: &Deliverer,
    event: DeliverEvent,
) -> Result<DeliverResponse, DeliverError> {
    match event {
        DeliverEvent::Sweep { sweep } => {
            let report = deliverer.sweep(sweep).await?;
            tracing::info!(
                minutes = report.minutes,
                woken = report.woken,
                behind = report.behind,
                "sweep"
            );
            Ok(DeliverResponse::Sweep(report))
        }
        DeliverEvent::Messages(event) => {
            let response = each_message(&event, |message| one(deliverer, message)).await;
            Ok(DeliverResponse::Messages(response))
        }
    }
}

async fn one(deliverer: &Deliverer, message: &SqsMessage) -> Result<(), EventError> {
    match parse(message)? {
        DeliverMessage::DispatchV1(dispatch) => {
            deliverer.dispatch(dispatch).await?;
        }
        DeliverMessage::RetryV1(retry) => {
            deliverer.retry(retry).await?;
        }
        DeliverMessage::TendV1(tend) => {
            deliverer.tend(tend).await?;
        }
        DeliverMessage::AppFeedV1(feed) => {
            deliverer.app_feed(feed).await?;
        }
        DeliverMessage::ResendV1(resend) => {
            deliverer.resend(resend).await?;
        }
        DeliverMessage::PingV1(of) => {
            deliverer.ping(of).await?;
        }
        DeliverMessage::ReplayV1(step) => {
            deliverer.replay(step).await?;
        }
    }
    Ok(())
}
