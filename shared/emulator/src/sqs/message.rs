//! Messages as they are sent and received: what is valid, and their ids, receipt handles and attributes.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use super::{
    error::SqsError,
    limits::{DELAY_RANGE_S, MAX_BYTES},
    spec::{check_range, invalid_parameter, queue_arn},
    table::{MessageToStore, ReceiptHandle, StoredQueue, TakenMessage},
    wire::{ReceivedMessage, SendMessageEntry},
};

/// Most characters of a message group (SQS).
const MAX_GROUP_CHARS: usize = 128;

/// A message as it will be stored, where SQS would accept it.
pub(super) fn validate_message(
    message: SendMessageEntry,
    queue: &StoredQueue,
) -> Result<MessageToStore, SqsError> {
    if message.message_attributes.is_some() || message.message_system_attributes.is_some() {
        return Err(SqsError::Unsupported("a message attribute"));
    }
    if let Some(id) = message.message_deduplication_id {
        let reason = "The request includes a parameter that is not valid for this queue type";
        return Err(invalid_parameter("MessageDeduplicationId", &id, reason));
    }
    let body = message.message_body;
    if body.is_empty() {
        return Err(SqsError::MissingParameter("MessageBody"));
    }
    if body.len() > MAX_BYTES {
        let reason = format!("Message must be shorter than {MAX_BYTES} bytes");
        return Err(invalid_parameter("MessageBody", "(too long)", &reason));
    }
    if !body.chars().all(is_xml_char) {
        return Err(SqsError::InvalidContents);
    }
    let group = message.message_group_id;
    if let Some(group) = &group
        && (group.is_empty()
            || group.len() > MAX_GROUP_CHARS
            || !group.chars().all(|c| c.is_ascii_graphic()))
    {
        let reason = "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length";
        return Err(invalid_parameter("MessageGroupId", group, reason));
    }
    let delay_s = match message.delay_seconds {
        Some(seconds) => check_range("DelaySeconds", seconds, DELAY_RANGE_S)?,
        None => queue.spec.delay_s,
    };
    Ok(MessageToStore {
        body,
        group: group.unwrap_or_default(),
        delay_ms: i64::from(delay_s) * 1000,
    })
}

/// True for characters that XML 1.0 allows.
const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// A message as its receiver sees it.
pub(super) fn to_received_message(
    message: TakenMessage,
    attribute_names: &[String],
) -> ReceivedMessage {
    let mut attributes = BTreeMap::from([
        ("SenderId", "embedded".to_owned()),
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", message.receive_count.to_string()),
        (
            "ApproximateFirstReceiveTimestamp",
            message.first_received_ms.to_string(),
        ),
    ]);
    if !message.group.is_empty() {
        attributes.insert("MessageGroupId", message.group);
    }
    if let Some(queue) = message.redriven_from {
        attributes.insert("DeadLetterQueueSourceArn", queue_arn(&queue));
    }
    retain_attributes(&mut attributes, attribute_names);
    ReceivedMessage {
        message_id: derive_message_id(message.id),
        receipt_handle: format_receipt(message.id, message.receive_count),
        md5: md5_hex(message.body.as_bytes()),
        body: message.body,
        attributes,
    }
}

pub(super) fn retain_attributes(
    attributes: &mut BTreeMap<&'static str, String>,
    attribute_names: &[String],
) {
    if !attribute_names.iter().any(|name| name == "All") {
        attributes.retain(|name, _| attribute_names.iter().any(|wanted| wanted == name));
    }
}

/// A receipt handle: the message's number and the number of the receive.
fn format_receipt(id: i64, received: i64) -> String {
    format!("{id:x}-{received:x}")
}

pub(super) fn parse_receipt(handle: &str) -> Result<ReceiptHandle, SqsError> {
    let (id, received) = handle.split_once('-').ok_or(SqsError::InvalidReceipt)?;
    Ok(ReceiptHandle {
        message_id: parse_hexadecimal(id)?,
        receive_count: parse_hexadecimal(received)?,
    })
}

fn parse_hexadecimal(text: &str) -> Result<i64, SqsError> {
    i64::from_str_radix(text, 16).map_err(|_| SqsError::InvalidReceipt)
}

/// A UUID that follows from the message's number: the same run gives the same ids.
pub(super) fn derive_message_id(id: i64) -> String {
    let hex = md5_hex(&id.to_be_bytes());
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Md5::digest(bytes))
}
