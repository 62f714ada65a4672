//! The deliver function: messages of its queue, and the sweep of each minute.
//!
//! [`DeliverEvent`] is what wakes it, [`DeliverEventResponse`] what it answers.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use jiff::Timestamp;
use okra_queue::DeliverMessage;
use okra_webhooks::{DeliverError, Deliverer, SweepReport};
use serde::{Deserialize, Serialize};

use crate::{MalformedMessageError, handle_batch, parse_message};

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
pub enum DeliverEventResponse {
    /// How a sweep ended.
    Sweep(SweepReport),
    /// Which messages have to be redelivered.
    Messages(SqsBatchResponse),
}

#[derive(Debug, thiserror::Error)]
enum DeliverMessageError {
    #[error(transparent)]
    Message(#[from] MalformedMessageError),
    #[error("the delivery failed for a fault of our own")]
    Deliver(#[from] DeliverError),
}

/// Handles an event of the deliver function.
///
/// # Errors
///
/// [`DeliverError`] where a sweep failed: EventBridge calls again. A message that failed is in the response.
pub async fn handle_deliver_event(
    deliverer: &Deliverer,
    event: DeliverEvent,
) -> Result<DeliverEventResponse, DeliverError> {
    match event {
        DeliverEvent::Sweep { sweep } => {
            let report = deliverer.sweep_retries(sweep).await?;
            tracing::info!(
                minutes = report.minutes,
                woken = report.retries_woken,
                behind = report.minutes_behind,
                "Due retries enqueued"
            );
            Ok(DeliverEventResponse::Sweep(report))
        }
        DeliverEvent::Messages(event) => {
            let response =
                handle_batch(&event, |message| handle_deliver_message(deliverer, message)).await;
            Ok(DeliverEventResponse::Messages(response))
        }
    }
}

async fn handle_deliver_message(
    deliverer: &Deliverer,
    message: &SqsMessage,
) -> Result<(), DeliverMessageError> {
    match parse_message(message)? {
        DeliverMessage::DispatchV1(dispatch) => {
            deliverer.deliver_dispatch(dispatch).await?;
        }
        DeliverMessage::RetryV1(retry) => {
            deliverer.attempt_retry(retry).await?;
        }
        DeliverMessage::MaintainEndpointV1(endpoint) => {
            deliverer.maintain_endpoint(endpoint).await?;
        }
        DeliverMessage::AppFeedV1(feed) => {
            deliverer.deliver_app_feed(feed).await?;
        }
        DeliverMessage::RedeliverV1(redelivery) => {
            deliverer.attempt_resend(redelivery).await?;
        }
        DeliverMessage::PingV1(ping) => {
            deliverer.send_ping(ping).await?;
        }
        DeliverMessage::ReplayV1(step) => {
            deliverer.advance_replay(step).await?;
        }
    }
    Ok(())
}
