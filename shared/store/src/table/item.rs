//! Items and their attributes: writing them, reading them, weighing them.

use std::{collections::HashMap, fmt::Display, str::FromStr};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::StoreError;

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

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Key {
    pub(crate) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }

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

pub(crate) fn number_value(number: impl Display) -> AttributeValue {
    AttributeValue::N(format!("{number}"))
}

pub(crate) fn bytes_value(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Milliseconds since 1970.
pub(crate) fn millis_value(at: Timestamp) -> AttributeValue {
    number_value(at.as_millisecond())
}

pub(crate) fn json_value<T: Serialize>(
    kind: &'static str,
    value: &T,
) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value)
        .map(AttributeValue::S)
        .map_err(|source| StoreError::Unwritable { kind, source })
}

/// Writes an item.
#[derive(Debug)]
pub(crate) struct ItemBuilder(Attributes);

impl ItemBuilder {
    pub(crate) fn new(key: Key) -> Self {
        Self(key.into_attributes())
    }

    pub(crate) fn with_attribute(mut self, name: &str, value: AttributeValue) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn with_optional(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.with_attribute(name, value),
            None => self,
        }
    }

    /// After `at` and `keep_s` seconds DynamoDB may delete the item.
    pub(crate) fn with_expiry(self, at: Timestamp, retention_s: i64) -> Self {
        self.with_attribute(TTL_ATTRIBUTE, expiry_value(at, retention_s))
    }

    pub(crate) fn build(self) -> Attributes {
        self.0
    }
}

/// The [`TTL`] of an item that is kept for `keep_s` seconds after `at`.
pub(crate) fn expiry_value(at: Timestamp, retention_s: i64) -> AttributeValue {
    number_value(at.as_second().saturating_add(retention_s))
}

/// An item that is all JSON.
pub(crate) fn json_item<T: Serialize>(
    kind: &'static str,
    key: Key,
    value: &T,
) -> Result<Attributes, StoreError> {
    Ok(ItemBuilder::new(key)
        .with_attribute(JSON_ATTRIBUTE, json_value(kind, value)?)
        .build())
}

/// Reads an item of a kind; what is missing or unreadable is [`StoreError::Corrupt`].
#[derive(Debug)]
pub(crate) struct ItemReader<'a> {
    kind: &'static str,
    item: &'a Attributes,
}

impl<'a> ItemReader<'a> {
    pub(crate) const fn new(kind: &'static str, item: &'a Attributes) -> Self {
        Self { kind, item }
    }

    pub(crate) const fn corrupt_error(&self, attribute: &'static str) -> StoreError {
        StoreError::Corrupt {
            kind: self.kind,
            attribute,
        }
    }

    pub(crate) fn has_attribute(&self, name: &'static str) -> bool {
        self.item.contains_key(name)
    }

    pub(crate) fn read_text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(self.corrupt_error(name)),
        }
    }

    pub(crate) fn read_parsed<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        self.read_text(name)?
            .parse()
            .map_err(|_| self.corrupt_error(name))
    }

    pub(crate) fn read_number<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::N(number)) => number.parse().map_err(|_| self.corrupt_error(name)),
            _ => Err(self.corrupt_error(name)),
        }
    }

    pub(crate) fn read_bytes(&self, name: &'static str) -> Result<&'a [u8], StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::B(blob)) => Ok(blob.as_ref()),
            _ => Err(self.corrupt_error(name)),
        }
    }

    pub(crate) fn read_flag(&self, name: &'static str) -> Result<bool, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::Bool(flag)) => Ok(*flag),
            None => Ok(false),
            Some(_) => Err(self.corrupt_error(name)),
        }
    }

    pub(crate) fn read_millis(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.read_number(name)?).map_err(|_| self.corrupt_error(name))
    }

    pub(crate) fn read_json<T: DeserializeOwned>(
        &self,
        name: &'static str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(self.read_text(name)?).map_err(|_| self.corrupt_error(name))
    }

    /// What `read` finds, where the attribute is there at all.
    pub(crate) fn read_optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.has_attribute(name)
            .then(|| read(self, name))
            .transpose()
    }

    /// The part of the sort key after `prefix`.
    pub(crate) fn sort_key_after(&self, prefix: &str) -> Result<&'a str, StoreError> {
        self.read_text(SK)?
            .strip_prefix(prefix)
            .ok_or_else(|| self.corrupt_error(SK))
    }
}

/// What DynamoDB counts as the size of an item: names and values in bytes. Nested values, which no
/// item here has, count as nothing.
pub(crate) fn item_size(item: &Attributes) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // Two digits a byte, one byte for sign and exponent; never more than 21.
        AttributeValue::N(number) => (number.len().div_ceil(2) + 1).min(21),
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Bool(_) => 1,
        _ => 0,
    }
}
