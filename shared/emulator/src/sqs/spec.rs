//! How a queue behaves: [`QueueSpec`] and its [`Redrive`], as values and as attributes of SQS.

use std::{collections::HashMap, ops::RangeInclusive};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::SqsError,
    limits::{
        DELAY_RANGE_S, RECEIVE_COUNT_RANGE, RETENTION_RANGE_S, VISIBILITY_RANGE_S, WAIT_RANGE_S,
    },
};

/// Most characters of a queue's name.
const MAX_NAME_CHARS: usize = 80;

/// Attributes of a queue that change nothing here.
const IGNORED_ATTRIBUTES: [&str; 7] = [
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "MaximumMessageSize",
    "Policy",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
    "FifoQueue",
];

/// A standard queue. [`QueueSpec::new`] has the defaults of SQS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name: up to 80 letters, digits, `-` and `_`.
    pub name: String,
    /// Seconds a message is invisible after it was received, unless the receiver states another number; up to 43,200.
    pub visibility_s: u32,
    /// Seconds a message is delayed, unless the sender states another number; up to 900.
    pub delay_s: u32,
    /// Seconds a message is kept, from 60 to 1,209,600.
    pub retention_s: u32,
    /// Seconds a receive waits, unless the receiver states another number; up to 20.
    pub wait_s: u32,
    /// What happens to messages that are received too often.
    pub redrive: Option<Redrive>,
}

/// Where messages go that are received too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// The name of the dead-letter queue.
    pub dead_letter: String,
    /// Receives after which a message that becomes visible again goes there; 1 to 1000.
    pub max_receive_count: u32,
}

/// Why a queue cannot be created as specified.
#[derive(Debug, thiserror::Error)]
#[error("queue {name} cannot be created: {reason}")]
pub struct CreateQueuesError {
    pub(super) name: String,
    pub(super) reason: String,
}

/// The attribute `RedrivePolicy`, a JSON text of its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicy {
    dead_letter_target_arn: String,
    /// Clients write it as a number and as a text.
    max_receive_count: Value,
}

impl QueueSpec {
    /// A queue as SQS creates it by default: visibility 30 s, no delay, 4 days of retention, no long
    /// polls, no dead-letter queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            visibility_s: 30,
            delay_s: 0,
            retention_s: 345_600,
            wait_s: 0,
            redrive: None,
        }
    }

    /// The same queue with these attributes.
    pub(super) fn with_attributes(
        mut self,
        attributes: &HashMap<String, String>,
    ) -> Result<Self, SqsError> {
        for (name, value) in attributes {
            match name.as_str() {
                "VisibilityTimeout" => {
                    self.visibility_s =
                        parse_number("VisibilityTimeout", value, VISIBILITY_RANGE_S)?;
                }
                "DelaySeconds" => {
                    self.delay_s = parse_number("DelaySeconds", value, DELAY_RANGE_S)?;
                }
                "MessageRetentionPeriod" => {
                    self.retention_s =
                        parse_number("MessageRetentionPeriod", value, RETENTION_RANGE_S)?;
                }
                "ReceiveMessageWaitTimeSeconds" => {
                    self.wait_s =
                        parse_number("ReceiveMessageWaitTimeSeconds", value, WAIT_RANGE_S)?;
                }
                "RedrivePolicy" => self.redrive = Redrive::parse_policy(value)?,
                "FifoQueue" if value == "true" => {
                    return Err(SqsError::Unsupported("a FIFO queue"));
                }
                ignored if IGNORED_ATTRIBUTES.contains(&ignored) => {}
                _ => return Err(SqsError::UnknownAttribute(name.clone())),
            }
        }
        Ok(self)
    }

    /// The queue's attributes.
    pub(super) fn to_attributes(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let redrive = self.redrive.as_ref().map(Redrive::to_policy);
        [
            ("QueueArn", queue_arn(&self.name)),
            ("VisibilityTimeout", self.visibility_s.to_string()),
            ("DelaySeconds", self.delay_s.to_string()),
            ("MessageRetentionPeriod", self.retention_s.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.wait_s.to_string()),
        ]
        .into_iter()
        .chain(redrive.map(|policy| ("RedrivePolicy", policy)))
    }

    /// Rejects what SQS would reject.
    pub(super) fn validate_spec(&self) -> Result<(), SqsError> {
        if !is_queue_name(&self.name) {
            let reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
            return Err(invalid_parameter("QueueName", &self.name, reason));
        }
        check_range("VisibilityTimeout", self.visibility_s, VISIBILITY_RANGE_S)?;
        check_range("DelaySeconds", self.delay_s, DELAY_RANGE_S)?;
        check_range(
            "MessageRetentionPeriod",
            self.retention_s,
            RETENTION_RANGE_S,
        )?;
        check_range("ReceiveMessageWaitTimeSeconds", self.wait_s, WAIT_RANGE_S)?;
        if let Some(redrive) = &self.redrive {
            check_range(
                "maxReceiveCount",
                redrive.max_receive_count,
                RECEIVE_COUNT_RANGE,
            )?;
        }
        Ok(())
    }
}

impl Redrive {
    /// Reads a policy; an empty text removes it.
    fn parse_policy(policy: &str) -> Result<Option<Self>, SqsError> {
        if policy.is_empty() {
            return Ok(None);
        }
        let redrive = serde_json::from_str(policy)
            .ok()
            .and_then(|parsed: RedrivePolicy| Self::from_policy(&parsed));
        redrive.map(Some).ok_or_else(|| {
            invalid_parameter("RedrivePolicy", policy, "Redrive policy is not valid")
        })
    }

    fn from_policy(policy: &RedrivePolicy) -> Option<Self> {
        let (_, name) = policy.dead_letter_target_arn.rsplit_once(':')?;
        let max_receive_count = match &policy.max_receive_count {
            Value::String(text) => text.parse().ok()?,
            other => u32::try_from(other.as_u64()?).ok()?,
        };
        Some(Self {
            dead_letter: name.to_owned(),
            max_receive_count,
        })
    }

    fn to_policy(&self) -> String {
        json!({
            "deadLetterTargetArn": queue_arn(&self.dead_letter),
            "maxReceiveCount": self.max_receive_count,
        })
        .to_string()
    }
}

/// The ARN of a queue.
pub(super) fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:local:000000000000:{name}")
}

fn is_queue_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

pub(super) fn invalid_parameter(name: &'static str, value: &str, reason: &str) -> SqsError {
    SqsError::Parameter {
        name,
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

fn parse_number(
    name: &'static str,
    text: &str,
    range: RangeInclusive<u32>,
) -> Result<u32, SqsError> {
    let number = text
        .parse::<u32>()
        .map_err(|_| invalid_parameter(name, text, "It must be an integer"))?;
    check_range(name, number, range)
}

/// Rejects a number outside its range.
pub(super) fn check_range<N>(
    name: &'static str,
    number: N,
    range: RangeInclusive<u32>,
) -> Result<u32, SqsError>
where
    N: Copy + std::fmt::Display + TryInto<u32>,
{
    let inside = number.try_into().ok().filter(|n| range.contains(n));
    inside.ok_or_else(|| {
        let reason = format!("{name} must be >= {} and <= {}", range.start(), range.end());
        invalid_parameter(name, &number.to_string(), &reason)
    })
}
