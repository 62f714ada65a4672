//! Attributes of items as the SDK has them: the key, values of each type, and what an item weighs.

use std::{collections::HashMap, fmt::Display};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use jiff::Timestamp;
use serde::Serialize;

use super::error::StoreError;

/// An item as the SDK has it.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

pub(crate) const PK: &str = "pk";
pub(crate) const SK: &str = "sk";
/// Ends a range of sort keys that begin alike: above every character used in them.
pub(crate) const HIGHEST_SORT_CHAR: char = '~';
/// Seconds since 1970 after which DynamoDB may delete the item.
pub(crate) const TTL_ATTRIBUTE: &str = "ttl";
/// The attribute that holds an item's JSON text.
pub(crate) const JSON_ATTRIBUTE: &str = "j";

/// The primary key of an item, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PrimaryKey {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl PrimaryKey {
    pub(crate) fn into_attributes(self) -> Attributes {
        HashMap::from([
            (PK.to_owned(), string_value(self.pk)),
            (SK.to_owned(), string_value(self.sk)),
        ])
    }
}

pub(crate) fn string_value(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// The text of an id or a name.
pub(crate) fn text_value(value: impl Display) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

pub(crate) fn number_value(number: impl Display) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn bytes_value(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Milliseconds since 1970.
pub(crate) fn millis_value(at: Timestamp) -> AttributeValue {
    number_value(at.as_millisecond())
}

/// The [`TTL_ATTRIBUTE`] of an item that is kept for `retention_s` seconds after `at`.
pub(crate) fn expiry_value(at: Timestamp, retention_s: i64) -> AttributeValue {
    // The latest timestamp is far below the largest number: with any named retention the sum is as well.
    number_value(at.as_second().saturating_add(retention_s))
}

pub(crate) fn json_value<T: Serialize>(
    kind: &'static str,
    value: &T,
) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value)
        .map(AttributeValue::S)
        .map_err(|source| StoreError::Unwritable { kind, source })
}

/// What DynamoDB counts as the size of an item: names and values in bytes. Nested values, which no
/// item here has, count as nothing.
pub(crate) fn item_size(item: &Attributes) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

/// The size of a value in bytes.
pub(crate) fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // Two digits a byte, one byte for sign and exponent; never more than 21.
        AttributeValue::N(number) => (number.len().div_ceil(2) + 1).min(21),
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Bool(_) => 1,
        _ => 0,
    }
}
