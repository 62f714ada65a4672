//! Banks as they are configured.

use std::ops::Deref;

use okra_core::model::{
    bank::BankConfig,
    ids::{AppId, BankId},
};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit, TransactWriteOutcome},
        expression::Condition,
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, json_item, json_value,
            string_value,
        },
    },
};

/// Banks at most.
pub const MAX_BANKS: usize = 500;

/// Banks of one app at most: the others' share of [`MAX_BANKS`] is not its to take.
pub const MAX_BANKS_PER_APP: usize = 20;

const KIND: &str = "bank";
/// One partition for all: each process reads them now and then and keeps them.
const BANK_PARTITION: &str = "INS";
const BANK_PREFIX: &str = "INS#";

/// The attribute of the app that a bank is of.
const APP_ATTRIBUTE: &str = "app";

/// A bank, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedBank {
    /// The bank.
    pub config: BankConfig,
    /// The one app that has it; `None`: the operator configured it, for all.
    pub app: Option<AppId>,
}

impl OwnedBank {
    /// True where the app may see and use it; for nobody, where everybody may.
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

fn bank_key(bank: BankId) -> Key {
    Key::new(BANK_PARTITION, format!("{BANK_PREFIX}{bank}"))
}

impl Store {
    /// Stores a bank for all apps, in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank(&self, bank: &BankConfig) -> Result<(), StoreError> {
        self.put_item(json_item(KIND, bank_key(bank.id), bank)?)
            .await
    }

    /// Stores a bank of one app, in place of one of its own with the same id. False where the id is
    /// somebody else's.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank_of_app(&self, app: AppId, bank: &BankConfig) -> Result<bool, StoreError> {
        let item = || -> Result<Attributes, StoreError> {
            let draft = ItemBuilder::new(bank_key(bank.id))
                .with_attribute(JSON_ATTRIBUTE, json_value(KIND, bank)?);
            Ok(draft
                .with_attribute(APP_ATTRIBUTE, string_value(app.to_string()))
                .build())
        };
        let own = Condition::Equals(APP_ATTRIBUTE, Some(string_value(app.to_string())));
        for when in [Condition::Absent, own] {
            let put = self.put_action(item()?, vec![when]);
            if matches!(
                self.transact_write(vec![put]).await?,
                TransactWriteOutcome::Committed
            ) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a bank of one app. False where it has none of that id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_bank_of_app(&self, app: AppId, bank: BankId) -> Result<bool, StoreError> {
        let own = Condition::Equals(APP_ATTRIBUTE, Some(string_value(app.to_string())));
        let delete = self.delete_action(bank_key(bank), vec![own]);
        let deleted = self.transact_write(vec![delete]).await?;
        Ok(matches!(deleted, TransactWriteOutcome::Committed))
    }

    /// A bank, whosever it is: for what works on records that are linked there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_bank(&self, bank: BankId) -> Result<Option<BankConfig>, StoreError> {
        Ok(self.find_owned_bank(bank).await?.map(|it| it.config))
    }

    /// A bank, and whose it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_owned_bank(&self, bank: BankId) -> Result<Option<OwnedBank>, StoreError> {
        let item = self.get_item(bank_key(bank), Consistency::Eventual).await?;
        item.as_ref().map(read_bank).transpose()
    }

    /// All banks, in the order of their ids, and whose they are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn list_banks(&self) -> Result<Vec<OwnedBank>, StoreError> {
        let take = ReadLimit::All {
            bound: MAX_BANKS,
            what: "banks",
        };
        let range = KeyRange::with_prefix(BANK_PARTITION, BANK_PREFIX);
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        items.iter().map(read_bank).collect()
    }

    /// The banks that an app may see and use, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn list_banks_for_app(&self, app: AppId) -> Result<Vec<BankConfig>, StoreError> {
        let mut banks = self.list_banks().await?;
        banks.retain(|bank| bank.is_visible_to(Some(app)));
        Ok(banks.into_iter().map(|bank| bank.config).collect())
    }
}
