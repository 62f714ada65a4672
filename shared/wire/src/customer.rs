//! Customers.

use okra_core::{
    ids::{CustomerId, RecordId},
    model::Environment,
};
use serde::Serialize;

use crate::{
    origin::{Named, Times},
    record::Record,
    scalar::{Empty, Instant},
};

/// A customer. `records` is ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Customer {
    _id: CustomerId,
    id: CustomerId,
    name: String,
    email: Vec<String>,
    phone: Empty,
    credentials: Empty,
    record: Vec<RecordId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Record>>,
    blocked: bool,
    unconnected: bool,
    manual: bool,
    env: Environment,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

impl Customer {
    /// A customer without records, as lists show it.
    pub fn new(
        of: Named<CustomerId>,
        email: Option<String>,
        env: Environment,
        times: Times,
    ) -> Self {
        Self {
            _id: of.id,
            id: of.id,
            name: of.name,
            email: email.into_iter().collect(),
            phone: Empty,
            credentials: Empty,
            record: Vec::new(),
            records: None,
            blocked: false,
            unconnected: false,
            manual: false,
            env,
            created_at: Instant(times.created_at),
            last_updated: Instant(times.last_updated),
            __v: 0,
        }
    }

    /// The same customer, flagged or not.
    #[must_use]
    pub const fn with_block(mut self, blocked: bool) -> Self {
        self.blocked = blocked;
        self
    }

    /// The same customer with its records.
    #[must_use]
    pub fn with_records(mut self, records: Vec<(RecordId, Record)>) -> Self {
        self.record = records.iter().map(|(id, _)| *id).collect();
        self.records = Some(records.into_iter().map(|(_, record)| record).collect());
        self
    }
}
