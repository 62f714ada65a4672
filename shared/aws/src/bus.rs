//! An EventBridge bus that events are put on, for consumers inside AWS: [`EventBus`] puts [`BusEvent`]s, and says of
//! each why it is not on the bus ([`EventBusError`]).

use aws_sdk_eventbridge::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::DateTime,
    types::PutEventsRequestEntry,
};
use jiff::Timestamp;

/// Entries of one `PutEvents` at most.
pub const MAX_PUT_ENTRIES: usize = 10;

/// Bytes of one entry, and of all entries of one `PutEvents` together, at most.
pub const MAX_ENTRY_BYTES: usize = 256 * 1024;

/// Bytes that EventBridge counts for the time of an entry.
const ENTRY_TIME_BYTES: usize = 14;

/// The source of all events, which rules match.
pub const EVENT_SOURCE: &str = "okra-sync";

/// An event.
#[derive(Clone, Debug)]
pub struct BusEvent {
    /// Its name: `balance.success`.
    pub detail_type: String,
    /// JSON.
    pub detail: String,
    /// When it happened.
    pub occurred_at: Timestamp,
}

impl BusEvent {
    /// Bytes as EventBridge counts them.
    pub const fn size_bytes(&self) -> usize {
        ENTRY_TIME_BYTES + EVENT_SOURCE.len() + self.detail_type.len() + self.detail.len()
    }
}

/// Why an event is not on the bus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventBusError {
    /// EventBridge throttled the call or failed by itself; it can be called again.
    #[error("EventBridge could not take the event for now: {0}")]
    Overloaded(String),
    /// EventBridge did not respond in time or could not be reached; it can be called again.
    #[error("EventBridge did not respond")]
    Unreachable,
    /// EventBridge rejected the event: there is no such bus, or the function may not put events on it.
    #[error("EventBridge rejected the event: {0}")]
    Rejected(String),
}

impl EventBusError {
    fn from_code(code: Option<&str>, message: Option<&str>) -> Self {
        let code = code.unwrap_or("unknown");
        let text = match message {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        };
        match code {
            "ThrottlingException"
            | "InternalFailure"
            | "InternalException"
            | "InternalError"
            | "ServiceUnavailable" => Self::Overloaded(text),
            _ => Self::Rejected(text),
        }
    }
}

/// The bus that a deployment puts events on.
#[derive(Clone, Debug)]
pub struct EventBus {
    client: Client,
    arn: String,
}

impl EventBus {
    /// A bus by its ARN or, in the account and region of the client, its name.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self {
            client,
            arn: arn.into(),
        }
    }

    /// True where `text` is the ARN or the name of this bus.
    pub fn is_named(&self, text: &str) -> bool {
        let name = self.arn.rsplit_once("event-bus/").map(|(_, name)| name);
        !text.is_empty() && (text == self.arn || Some(text) == name)
    }

    /// Puts at most [`MAX_PUT_ENTRIES`] events of together at most [`MAX_ENTRY_BYTES`], and returns the result of each,
    /// in their order.
    pub async fn put_events(&self, events: &[BusEvent]) -> Vec<Result<(), EventBusError>> {
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            let entry = PutEventsRequestEntry::builder()
                .event_bus_name(&self.arn)
                .source(EVENT_SOURCE)
                .detail_type(&event.detail_type)
                .detail(&event.detail)
                .time(DateTime::from_millis(event.occurred_at.as_millisecond()));
            entries.push(entry.build());
        }
        let put = self.client.put_events().set_entries(Some(entries));
        let results = match put.send().await {
            Ok(response) => response.entries.unwrap_or_default(),
            Err(error) => {
                let fault = match &error {
                    SdkError::ServiceError(_) => {
                        EventBusError::from_code(error.code(), error.message())
                    }
                    _ => EventBusError::Unreachable,
                };
                return vec![Err(fault); events.len()];
            }
        };
        let mut results = results.into_iter();
        events
            .iter()
            .map(|_| match results.next() {
                Some(entry) if entry.error_code.is_none() => Ok(()),
                Some(entry) => Err(EventBusError::from_code(
                    entry.error_code(),
                    entry.error_message(),
                )),
                // Without a result for it, the entry may not be on the bus.
                None => Err(EventBusError::Unreachable),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_throttling_and_own_failures_count_as_overload() {
        for (code, overloaded) in [
            (Some("ThrottlingException"), true),
            (Some("InternalFailure"), true),
            (Some("ResourceNotFoundException"), false),
            (Some("AccessDeniedException"), false),
            (Some("MalformedDetail"), false),
            (None, false),
        ] {
            let fault = EventBusError::from_code(code, Some("why"));
            assert_eq!(
                matches!(fault, EventBusError::Overloaded(_)),
                overloaded,
                "{code:?}"
            );
            assert!(fault.to_string().ends_with(": why"), "{fault}");
        }
    }
}
