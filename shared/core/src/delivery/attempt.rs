//! One attempt to deliver an event: why it is made, and how the receiver responded.
//!
//! [`Attempt`] is what we decided to do, [`AttemptResponse`] what came back, [`LoggedAttempt`] what is remembered of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::retry::AttemptOutcome;

/// The class of a failed attempt after which the receiver requested no further ones of the event.
const ABORTED_CLASS: &str = "aborted";

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptKind {
    /// It is due by the retry schedule.
    Scheduled,
    /// It tests whether the endpoint is back. It uses up none of the event's attempts.
    Probe,
    /// The event was parked, and the endpoint is back.
    Drain,
    /// Somebody requested it, whatever the delivery's state.
    Resend,
}

/// An attempt that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Why.
    pub kind: AttemptKind,
    /// Which attempt of the event it is, from 1.
    pub number: u32,
}

/// What a receiver requests by the header `webhook-delivery`, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverControl {
    /// Never send this event again.
    AbortMessage,
    /// Send nothing any more.
    DisableEndpoint,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResponse {
    /// The class.
    pub outcome: AttemptOutcome,
    /// The status, where there was a response.
    pub status: Option<u16>,
    /// Seconds the receiver requested to wait, bounded.
    pub retry_after_s: Option<u32>,
    /// What else it requested.
    pub control: Option<ReceiverControl>,
    /// The host that a redirect leads to, which is not followed: the endpoint's owner has to know it.
    pub location_host: Option<String>,
    /// The beginning of the body of a response that is no success.
    pub excerpt: Option<String>,
    /// Milliseconds from the start of the attempt to the end of what was read.
    pub latency_ms: u32,
}

impl ReceiverControl {
    /// The request of a header's value; `None` where it is none.
    pub fn from_header(value: &str) -> Option<Self> {
        match value.trim() {
            "abort-message" => Some(Self::AbortMessage),
            "disable" => Some(Self::DisableEndpoint),
            _ => None,
        }
    }
}

impl AttemptResponse {
    /// True where the receiver works: it took the event, or it declined just this one.
    pub fn is_from_working_receiver(&self) -> bool {
        self.outcome.is_ok() || self.aborts_message()
    }

    /// True where no further attempt at the event is to be made.
    pub fn aborts_message(&self) -> bool {
        self.control == Some(ReceiverControl::AbortMessage)
    }

    /// True where the endpoint is to be disabled.
    pub fn disables_endpoint(&self) -> bool {
        self.control == Some(ReceiverControl::DisableEndpoint)
    }

    /// The class that is logged; a stable name.
    pub fn outcome_class(&self) -> &'static str {
        if self.aborts_message() && !self.outcome.is_ok() {
            ABORTED_CLASS
        } else {
            self.outcome.as_str()
        }
    }
}

/// An attempt as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedAttempt {
    /// The HTTP status, where there was a response.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The class of the outcome; a stable name.
    #[serde(rename = "c")]
    pub outcome_class: String,
    /// When it ended.
    #[serde(rename = "a")]
    pub attempted_at: Timestamp,
    /// Milliseconds it took.
    #[serde(rename = "l")]
    pub latency_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_two_controls() {
        for (value, expected) in [
            ("disable", Some(ReceiverControl::DisableEndpoint)),
            (" abort-message ", Some(ReceiverControl::AbortMessage)),
            ("Disable", None),
            ("disable, abort-message", None),
            ("", None),
        ] {
            assert_eq!(ReceiverControl::from_header(value), expected, "{value:?}");
        }
    }
}
