//! [`Store`]: the table and how it is reached. Each aggregate adds its methods to it in its own module.

use std::sync::Arc;

use aws_sdk_dynamodb::{Client, error::SdkError};

use super::{
    capacity::{CapacityMeter, CapacityUsed},
    error::StoreError,
};

/// How fresh a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// May miss the writes of the last second; half the price.
    Eventual,
    /// Sees every write that was acknowledged before it.
    Strong,
}

impl Consistency {
    pub(super) const fn is_strong(self) -> bool {
        matches!(self, Self::Strong)
    }
}

/// The table. Clones share the client and the count of capacity used.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) client: Client,
    pub(super) table: Arc<str>,
    pub(super) capacity_meter: CapacityMeter,
}

impl Store {
    /// The table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self {
            client,
            table: Arc::from(table.into()),
            capacity_meter: CapacityMeter::default(),
        }
    }

    /// The capacity that the calls of this store and its clones have consumed since [`new`](Self::new). A write
    /// that was rejected by its condition is not counted, although DynamoDB charges it.
    pub fn capacity_used(&self) -> CapacityUsed {
        self.capacity_meter.capacity_used()
    }

    /// The error of a call that DynamoDB did not do.
    pub(super) fn service_error<E>(&self, operation: &'static str, error: SdkError<E>) -> StoreError
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata
            + std::error::Error
            + Send
            + Sync
            + 'static,
    {
        StoreError::from_service(operation, &self.table, error)
    }
}
