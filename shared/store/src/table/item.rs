//! Whole items: [`ItemBuilder`] writes one, [`ItemReader`] reads one. What is missing or unreadable in an item is
//! [`StoreError::Corrupt`], which names the attribute and never its content.

use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    attributes::{
        Attributes, JSON_ATTRIBUTE, PK, PrimaryKey, SK, TTL_ATTRIBUTE, expiry_value, json_value,
    },
    error::StoreError,
};
use crate::key::Key;

/// Writes an item.
#[derive(Debug)]
pub(crate) struct ItemBuilder(Attributes);

impl ItemBuilder {
    pub(crate) fn new(key: Key<'_>) -> Self {
        Self(PrimaryKey::from(key).into_attributes())
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

    /// The value as JSON in [`JSON_ATTRIBUTE`].
    pub(crate) fn with_json<T: Serialize>(
        self,
        kind: &'static str,
        value: &T,
    ) -> Result<Self, StoreError> {
        Ok(self.with_attribute(JSON_ATTRIBUTE, json_value(kind, value)?))
    }

    /// After `at` and `retention_s` seconds DynamoDB may delete the item.
    pub(crate) fn with_expiry(self, at: Timestamp, retention_s: i64) -> Self {
        self.with_attribute(TTL_ATTRIBUTE, expiry_value(at, retention_s))
    }

    pub(crate) fn build(self) -> Attributes {
        self.0
    }
}

/// An item that is all JSON.
pub(crate) fn json_item<T: Serialize>(
    kind: &'static str,
    key: Key<'_>,
    value: &T,
) -> Result<Attributes, StoreError> {
    Ok(ItemBuilder::new(key).with_json(kind, value)?.build())
}

/// An item that is its key alone: it links its partition to what the sort key names.
pub(crate) fn link_item(key: Key<'_>) -> Attributes {
    ItemBuilder::new(key).build()
}

/// The value of an item that is all JSON.
pub(crate) fn read_json_item<T: DeserializeOwned>(
    kind: &'static str,
    item: &Attributes,
) -> Result<T, StoreError> {
    ItemReader::new(kind, item).read_json(JSON_ATTRIBUTE)
}

/// Reads an item of a kind.
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

    /// A flag; one that is not there is false.
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

    /// A number; one that is not there is 0.
    pub(crate) fn read_count(&self, name: &'static str) -> Result<u64, StoreError> {
        Ok(self
            .read_optional(name, Self::read_number)?
            .unwrap_or_default())
    }

    /// The item's key as it is stored.
    pub(crate) fn read_primary_key(&self) -> Result<PrimaryKey, StoreError> {
        Ok(PrimaryKey {
            pk: self.read_text(PK)?.to_owned(),
            sk: self.read_text(SK)?.to_owned(),
        })
    }

    /// What `parse` reads from the partition key.
    pub(crate) fn parse_partition<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(self.read_text(PK)?).ok_or_else(|| self.corrupt_error(PK))
    }

    /// What `parse` reads from partition key and sort key.
    pub(crate) fn parse_key<T>(
        &self,
        parse: impl FnOnce(&str, &str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(self.read_text(PK)?, self.read_text(SK)?).ok_or_else(|| self.corrupt_error(SK))
    }

    /// The part of the sort key after `prefix`.
    pub(crate) fn sort_key_after(&self, prefix: &str) -> Result<&'a str, StoreError> {
        self.read_text(SK)?
            .strip_prefix(prefix)
            .ok_or_else(|| self.corrupt_error(SK))
    }

    /// The part of the sort key after `prefix`, parsed.
    pub(crate) fn parse_sort_key_after<T: FromStr>(&self, prefix: &str) -> Result<T, StoreError> {
        self.sort_key_after(prefix)?
            .parse()
            .map_err(|_| self.corrupt_error(SK))
    }
}
