//! What the functions do with their events.
//!
//! [`RuntimeContext`] is what they stand on, built once for each process; [`handle_fetch_event`] and
//! [`handle_deliver_event`] handle their events, and [`MetricsCollector`] counts them. The rule: a Lambda binary and the
//! local process differ only in where their events come from.

mod deliver;
mod environment;
mod fetch;
mod logs;
pub mod metrics;

use std::collections::HashMap;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures::{FutureExt, future::join_all};
use okra_core::error_chain::error_chain;
use serde::de::DeserializeOwned;

pub use self::{
    deliver::{DeliverEvent, DeliverEventResponse, handle_deliver_event},
    environment::{RuntimeContext, RuntimeContextError},
    fetch::{FetchEvent, FetchEventResponse, handle_fetch_event},
    logs::init_json_logging,
    metrics::MetricsCollector,
};

/// A message that is not of the form its queue carries: a fault of our own, so it comes again and ends in
/// the dead-letter queue.
#[derive(Debug, thiserror::Error)]
enum MalformedMessageError {
    #[error("the message has no body")]
    MissingBody,
    #[error("the message has an unknown form")]
    UnknownFormat(#[source] serde_json::Error),
}

fn parse_message<T: DeserializeOwned>(message: &SqsMessage) -> Result<T, MalformedMessageError> {
    let body = message
        .body
        .as_deref()
        .ok_or(MalformedMessageError::MissingBody)?;
    serde_json::from_str(body).map_err(MalformedMessageError::UnknownFormat)
}

/// True where the message was received before: whoever received it may have crashed half way.
fn was_redelivered(attributes: &HashMap<String, String>) -> bool {
    attributes
        .get("ApproximateReceiveCount")
        .is_some_and(|count| count != "1")
}

/// Handles the messages of a batch at the same time, so that a slow one does not delay the
/// others; those whose handling failed, and only they, are reported to be redelivered.
async fn handle_batch<'a, F, E>(
    event: &'a SqsEvent,
    handle_message: impl Fn(&'a SqsMessage) -> F,
) -> SqsBatchResponse
where
    F: Future<Output = Result<(), E>> + Send + 'a,
    E: std::error::Error + 'static,
{
    let work = event.records.iter().map(|message| {
        let handled = handle_message(message);
        let work = async move {
            handled.await.map_err(|error| {
                tracing::error!(
                    message.id = message.message_id.as_deref(),
                    error = %error_chain(&error),
                    "The message could not be handled and will be redelivered"
                );
                message.message_id.clone().unwrap_or_default()
            })
        };
        work.boxed()
    });
    // Collected, because a borrowing closure inside the stream would make it not `Send`.
    let outcomes = join_all(work.collect::<Vec<_>>()).await;
    let mut response = SqsBatchResponse::default();
    for failed in outcomes.into_iter().filter_map(Result::err) {
        response.add_failure(failed);
    }
    response
}
