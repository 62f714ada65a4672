//! Counters that enforce how many of something an owner may have: the item that takes room and the counter that grants
//! it are written in one transaction, so that callers at the same time never exceed a limit together.
//!
//! The rule: a counter is never below the truth. It is raised with each new item; a deletion leaves it as it is. Only a
//! counter that is missing or at its limit is counted anew, which is when it matters.

use aws_sdk_dynamodb::types::TransactWriteItem;

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    limits::usage_limits::UsageCounter,
    table::{
        attributes::{Attributes, number_value, text_value},
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
        writes::TransactWriteOutcome,
    },
};

/// Times a write is tried while others change the same counters.
const MAX_COUNT_ATTEMPTS: u32 = 8;

const KIND: &str = "usage counter";
/// The attribute of a bank that names the app that added it.
pub(crate) const BANK_OWNER_ATTRIBUTE: &str = "app";

const COUNT_ATTRIBUTE: &str = "n";
/// Raised with every change: a count that others have overtaken is not stored.
const VERSION_ATTRIBUTE: &str = "v";

/// The list that a counter counts. That of banks has those of other owners too.
fn counted_range(counter: UsageCounter) -> KeyRange {
    match counter {
        UsageCounter::AppBanks | UsageCounter::BanksOfApp(_) => {
            KeyRange::with_prefix(key::BANK_PARTITION, key::BANK_PREFIX)
        }
        UsageCounter::EndpointsOfApp(app) => {
            KeyRange::with_prefix(key::app_partition(app), key::ENDPOINT_PREFIX)
        }
        UsageCounter::KeysOfApp(app) => {
            KeyRange::with_prefix(key::app_partition(app), key::API_KEY_PREFIX)
        }
        UsageCounter::ShortLinksOfApp(app) => {
            KeyRange::with_prefix(key::app_partition(app), key::SHORT_LINK_PREFIX)
        }
        UsageCounter::RecordsOfCustomer(customer) => KeyRange::with_prefix(
            key::customer_partition(customer.tag()),
            &key::record_link_prefix(customer),
        ),
    }
}

/// True where the counter counts this item of its list.
fn is_counted(counter: UsageCounter, item: &Attributes) -> bool {
    let bank_owner = item.get(BANK_OWNER_ATTRIBUTE);
    match counter {
        UsageCounter::AppBanks => bank_owner.is_some(),
        UsageCounter::BanksOfApp(app) => bank_owner == Some(&text_value(app)),
        _ => true,
    }
}

/// The counter one higher, where it is there and below its limit.
fn raise_update(counter: UsageCounter) -> ItemUpdate {
    ItemUpdate::new(Key::UsageCounter(counter))
        .add_to_number(COUNT_ATTRIBUTE, number_value(1))
        .add_to_number(VERSION_ATTRIBUTE, number_value(1))
        .with_condition(Condition::Below(
            COUNT_ATTRIBUTE,
            number_value(counter.limit()),
        ))
}

/// How a write that takes room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountedWriteOutcome {
    Committed,
    /// A condition of this action, counted from 0, did not hold.
    ConditionFailed(usize),
    /// The owner has as many as it may have; nothing was written.
    LimitReached(UsageCounter),
}

impl CountedWriteOutcome {
    /// This outcome, where room was left.
    ///
    /// # Errors
    ///
    /// [`StoreError::LimitReached`] where the owner has as many as it may have.
    pub(crate) fn require_room(self) -> Result<Self, StoreError> {
        match self {
            Self::LimitReached(counter) => Err(StoreError::LimitReached {
                what: counter.label(),
                limit: counter.limit(),
            }),
            Self::Committed | Self::ConditionFailed(_) => Ok(self),
        }
    }
}

impl Store {
    /// Writes all of these actions and raises the counters of what they add, or does neither.
    ///
    /// # Errors
    ///
    /// [`StoreError::Contended`] where others changed the counters all the time.
    pub(crate) async fn transact_counted(
        &self,
        actions: Vec<TransactWriteItem>,
        counters: &[UsageCounter],
    ) -> Result<CountedWriteOutcome, StoreError> {
        for _ in 0..MAX_COUNT_ATTEMPTS {
            let mut counted = actions.clone();
            for counter in counters {
                counted.push(self.update_action(raise_update(*counter))?);
            }
            let failed = match self.transact_write(counted).await? {
                TransactWriteOutcome::Committed => return Ok(CountedWriteOutcome::Committed),
                TransactWriteOutcome::ConditionFailed(action) => action,
            };
            let counter = failed
                .checked_sub(actions.len())
                .and_then(|position| counters.get(position));
            let Some(&counter) = counter else {
                return Ok(CountedWriteOutcome::ConditionFailed(failed));
            };
            if !self.has_room_after_recount(counter).await? {
                return Ok(CountedWriteOutcome::LimitReached(counter));
            }
        }
        Err(StoreError::Contended {
            operation: "TransactWriteItems",
        })
    }

    /// Counts anew what a counter counts. False where the owner has as many as it may have.
    async fn has_room_after_recount(&self, counter: UsageCounter) -> Result<bool, StoreError> {
        // Read the counter before the list: whoever adds to the list meanwhile changes its version.
        let stored = self
            .get_item(Key::UsageCounter(counter), Consistency::Strong)
            .await?;
        let version: Option<u64> = stored
            .as_ref()
            .map(|item| ItemReader::new(KIND, item).read_number(VERSION_ATTRIBUTE))
            .transpose()?;
        let count = self.count_usage(counter).await?;
        if count >= counter.limit() {
            return Ok(false);
        }
        let item = ItemBuilder::new(Key::UsageCounter(counter))
            .with_attribute(COUNT_ATTRIBUTE, number_value(count))
            .with_attribute(VERSION_ATTRIBUTE, number_value(version.unwrap_or(0) + 1))
            .build();
        let unchanged = Condition::Equals(VERSION_ATTRIBUTE, version.map(number_value));
        // Where another was faster, the next attempt sees what it stored.
        self.put_item_if(item, vec![unchanged]).await?;
        Ok(true)
    }

    /// How many the owner has; read strongly.
    async fn count_usage(&self, counter: UsageCounter) -> Result<usize, StoreError> {
        let bound = match counter {
            UsageCounter::BanksOfApp(_) => UsageCounter::AppBanks.limit(),
            _ => counter.limit(),
        };
        let limit = ReadLimit::Capped {
            bound: bound * READ_MARGIN,
            what: counter.label(),
        };
        let items = self
            .query_range(counted_range(counter), limit, Consistency::Strong)
            .await?;
        Ok(items
            .iter()
            .filter(|item| is_counted(counter, item))
            .count())
    }
}
