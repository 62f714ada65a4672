//! Banks as they are configured: by the operator for all apps, or by one app for itself.

use std::ops::Deref;

use okra_core::model::{
    bank::BankConfig,
    ids::{AppId, BankId},
};

use crate::{
    Consistency, MAX_BANKS, Store, StoreError,
    key::{self, Key},
    limits::{
        usage_counters::{BANK_OWNER_ATTRIBUTE, CountedWriteOutcome},
        usage_limits::UsageCounter,
    },
    table::{
        attributes::{Attributes, JSON_ATTRIBUTE, text_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader, json_item},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
        writes::TransactWriteOutcome,
    },
};

const KIND: &str = "bank";

/// The attribute of the one app that has the bank.
const APP_ATTRIBUTE: &str = BANK_OWNER_ATTRIBUTE;

/// A bank, and the app that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedBank {
    /// The bank.
    pub config: BankConfig,
    /// The one app that has it; `None`: the operator configured it, for all.
    pub app: Option<AppId>,
}

impl OwnedBank {
    /// True where the app may see and use it. Without an app: true where every app may.
    pub fn is_visible_to(&self, app: Option<AppId>) -> bool {
        self.app.is_none() || self.app == app
    }
}

impl Deref for OwnedBank {
    type Target = BankConfig;

    fn deref(&self) -> &BankConfig {
        &self.config
    }
}

fn read_bank(item: &Attributes) -> Result<OwnedBank, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(OwnedBank {
        config: reader.read_json(JSON_ATTRIBUTE)?,
        app: reader.read_optional(APP_ATTRIBUTE, ItemReader::read_parsed)?,
    })
}

/// True for a stored bank of this app.
fn is_owned_by(app: AppId) -> Condition {
    Condition::Equals(APP_ATTRIBUTE, Some(text_value(app)))
}

impl Store {
    /// Stores a bank for all apps, in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank(&self, bank: &BankConfig) -> Result<(), StoreError> {
        self.put_item(json_item(KIND, Key::Bank(bank.id), bank)?)
            .await
    }

    /// Stores a bank of one app, in place of one of its own with the same id. False, and nothing
    /// stored, where the id is the operator's or another app's.
    ///
    /// # Errors
    ///
    /// [`StoreError::LimitReached`] for a new one beyond [`MAX_BANKS_PER_APP`](crate::MAX_BANKS_PER_APP) or
    /// [`MAX_BANKS`].
    pub async fn put_bank_of_app(&self, app: AppId, bank: &BankConfig) -> Result<bool, StoreError> {
        let item = ItemBuilder::new(Key::Bank(bank.id))
            .with_json(KIND, bank)?
            .with_attribute(APP_ATTRIBUTE, text_value(app))
            .build();
        if self
            .put_item_if(item.clone(), vec![is_owned_by(app)])
            .await?
        {
            return Ok(true);
        }
        let put = self.put_action(item, vec![Condition::Absent])?;
        let counters = [UsageCounter::BanksOfApp(app), UsageCounter::AppBanks];
        let outcome = self.transact_counted(vec![put], &counters).await?;
        Ok(outcome.require_room()? == CountedWriteOutcome::Committed)
    }

    /// Removes a bank of one app, with its circuit breaker and its ad-hoc budget. False where it has none of that id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_bank_of_app(&self, app: AppId, bank: BankId) -> Result<bool, StoreError> {
        let actions = vec![
            self.delete_action(Key::Bank(bank), vec![is_owned_by(app)])?,
            self.delete_action(Key::BankBreaker(bank), vec![])?,
            self.delete_action(Key::AdHocBudget(bank), vec![])?,
        ];
        let deleted = self.transact_write(actions).await?;
        Ok(matches!(deleted, TransactWriteOutcome::Committed))
    }

    /// A bank, whichever app has it: for what works on records that are linked there; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_bank(&self, bank: BankId) -> Result<Option<BankConfig>, StoreError> {
        Ok(self.find_owned_bank(bank).await?.map(|bank| bank.config))
    }

    /// A bank, and the app that has it; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_owned_bank(&self, bank: BankId) -> Result<Option<OwnedBank>, StoreError> {
        let item = self
            .get_item(Key::Bank(bank), Consistency::Eventual)
            .await?;
        item.as_ref().map(read_bank).transpose()
    }

    /// All banks with the apps that have them, in the order of their ids; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_banks(&self) -> Result<Vec<OwnedBank>, StoreError> {
        let limit = ReadLimit::Capped {
            bound: MAX_BANKS * READ_MARGIN,
            what: "banks",
        };
        let range = KeyRange::with_prefix(key::BANK_PARTITION, key::BANK_PREFIX);
        let items = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        items.iter().map(read_bank).collect()
    }

    /// The banks that an app may see and use, in the order of their ids; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_banks_for_app(&self, app: AppId) -> Result<Vec<BankConfig>, StoreError> {
        let mut banks = self.list_banks().await?;
        banks.retain(|bank| bank.is_visible_to(Some(app)));
        Ok(banks.into_iter().map(|bank| bank.config).collect())
    }
}
