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
pub(crate) const AFTER_ALL: char = '~';
/// Seconds since 1970 after which DynamoDB may delete the item.
pub(crate) const TTL: &str = "ttl";
/// The attribute that holds an item's JSON text.
pub(crate) const JSON: &str = "j";

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

    pub(crate) fn attributes(self) -> Attributes {
        HashMap::from([(PK.to_owned(), s(self.pk)), (SK.to_owned(), s(self.sk))])
    }
}

pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn n(number: impl Display) -> AttributeValue {
    AttributeValue::N(format!("{number}"))
}

pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: Timestamp) -> AttributeValue {
    n(at.as_millisecond())
}

pub(crate) fn json<T: Serialize>(
    kind: &'static str,
    value: &T,
) -> Result<AttributeValue, StoreError> {
    serde_json::to_string(value)
        .map(AttributeValue::S)
        .map_err(|source| StoreError::Unwritable { kind, source })
}

/// Writes an item.
#[derive(Debug)]
pub(crate) struct Draft(Attributes);

impl Draft {
    pub(crate) fn new(key: Key) -> Self {
        Self(key.attributes())
    }

    pub(crate) fn with(mut self, name: &str, value: AttributeValue) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn maybe(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// After `at` and `keep_s` seconds DynamoDB may delete the item.
    pub(crate) fn expiring(self, at: Timestamp, keep_s: i64) -> Self {
        self.with(TTL, ttl(at, keep_s))
    }

    pub(crate) fn done(self) -> Attributes {
        self.0
    }
}

/// The [`TTL`] of an item that is kept for `keep_s` seconds after `at`.
pub(crate) fn ttl(at: Timestamp, keep_s: i64) -> AttributeValue {
    n(at.as_second().saturating_add(keep_s))
}

/// An item that is all JSON.
pub(crate) fn document<T: Serialize>(
    kind: &'static str,
    key: Key,
    value: &T,
) -> Result<Attributes, StoreError> {
    Ok(Draft::new(key).with(JSON, json(kind, value)?).done())
}

/// Reads an item of a kind; what is missing or unreadable is [`StoreError::Corrupt`].
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    kind: &'static str,
    item: &'a Attributes,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(kind: &'static str, item: &'a Attributes) -> Self {
        Self { kind, item }
    }

    pub(crate) const fn corrupt(&self, attribute: &'static str) -> StoreError {
        StoreError::Corrupt {
            kind: self.kind,
            attribute,
        }
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.item.contains_key(name)
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(self.corrupt(name)),
        }
    }

    pub(crate) fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| self.corrupt(name))
    }

    pub(crate) fn number<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::N(number)) => number.parse().map_err(|_| self.corrupt(name)),
            _ => Err(self.corrupt(name)),
        }
    }

    pub(crate) fn bytes(&self, name: &'static str) -> Result<&'a [u8], StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::B(blob)) => Ok(blob.as_ref()),
            _ => Err(self.corrupt(name)),
        }
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, StoreError> {
        match self.item.get(name) {
            Some(AttributeValue::Bool(flag)) => Ok(*flag),
            None => Ok(false),
            Some(_) => Err(self.corrupt(name)),
        }
    }

    pub(crate) fn millis(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.number(name)?).map_err(|_| self.corrupt(name))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(name)?).map_err(|_| self.corrupt(name))
    }

    /// What `read` finds, where the attribute is there at all.
    pub(crate) fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.has(name).then(|| read(self, name)).transpose()
    }

    /// The part of the sort key after `prefix`.
    pub(crate) fn after(&self, prefix: &str) -> Result<&'a str, StoreError> {
        self.text(SK)?
            .strip_prefix(prefix)
            .ok_or_else(|| self.corrupt(SK))
    }
}

/// What DynamoDB counts as the size of an item: names and values in bytes. Nested values, which no
/// item here has, count as nothing.
pub(crate) fn size(item: &Attributes) -> usize {
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
