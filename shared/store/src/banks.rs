//! Banks as they are configured.

use std::ops::Deref;

use okra_core::{
    bank::BankConfig,
    ids::{AppId, BankId},
};

use crate::{
    Consistency, Store, StoreError,
    call::{Range, Take, Transacted},
    expression::When,
    item::{Attributes, Draft, JSON, Key, Reader, document, json, s},
};

/// Banks at most.
pub const MAX_BANKS: usize = 500;

/// Banks of one app at most: the others' share of [`MAX_BANKS`] is not its to take.
pub const MAX_BANKS_OF_APP: usize = 20;

const KIND: &str = "bank";
/// One partition for all: each process reads them now and then and keeps them.
const PARTITION: &str = "INS";
const PREFIX: &str = "INS#";

/// The attribute of the app that a bank is of.
const APP: &str = "app";

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
    pub fn is_for(&self, app: Option<AppId>) -> bool {
        self.app.is_none() || self.app == app
    }
}

impl Deref for OwnedBank {
    type Target = BankConfig;

    fn deref(&self) -> &BankConfig {
        &self.config
    }
}

fn read(item: &Attributes) -> Result<OwnedBank, StoreError> {
    let reader = Reader::new(KIND, item);
    Ok(OwnedBank {
        config: reader.json(JSON)?,
        app: reader.optional(APP, Reader::parse)?,
    })
}

fn key(bank: BankId) -> Key {
    Key::new(PARTITION, format!("{PREFIX}{bank}"))
}

impl Store {
    /// Stores a bank for all apps, in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank(&self, bank: &BankConfig) -> Result<(), StoreError> {
        self.put(document(KIND, key(bank.id), bank)?).await
    }

    /// Stores a bank of one app, in place of one of its own with the same id. False where the id is
    /// somebody else's.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank_of(&self, app: AppId, bank: &BankConfig) -> Result<bool, StoreError> {
        let item = || -> Result<Attributes, StoreError> {
            let draft = Draft::new(key(bank.id)).with(JSON, json(KIND, bank)?);
            Ok(draft.with(APP, s(app.to_string())).done())
        };
        let own = When::Is(APP, Some(s(app.to_string())));
        for when in [When::Absent, own] {
            let put = self.put_action(item()?, vec![when]);
            if matches!(self.transact(vec![put]).await?, Transacted::Done) {
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
    pub async fn delete_bank_of(&self, app: AppId, bank: BankId) -> Result<bool, StoreError> {
        let own = When::Is(APP, Some(s(app.to_string())));
        let delete = self.delete_action(key(bank), vec![own]);
        let deleted = self.transact(vec![delete]).await?;
        Ok(matches!(deleted, Transacted::Done))
    }

    /// A bank, whosever it is: for what works on records that are linked there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn bank(&self, bank: BankId) -> Result<Option<BankConfig>, StoreError> {
        Ok(self.owned_bank(bank).await?.map(|it| it.config))
    }

    /// A bank, and whose it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn owned_bank(&self, bank: BankId) -> Result<Option<OwnedBank>, StoreError> {
        let item = self.get(key(bank), Consistency::Eventual).await?;
        item.as_ref().map(read).transpose()
    }

    /// All banks, in the order of their ids, and whose they are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn banks(&self) -> Result<Vec<OwnedBank>, StoreError> {
        let take = Take::All {
            bound: MAX_BANKS,
            what: "banks",
        };
        let range = Range::prefix(PARTITION, PREFIX);
        let items = self.query(range, take, Consistency::Eventual).await?;
        items.iter().map(read).collect()
    }

    /// The banks that an app may see and use, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn banks_for(&self, app: AppId) -> Result<Vec<BankConfig>, StoreError> {
        let mut banks = self.banks().await?;
        banks.retain(|bank| bank.is_for(Some(app)));
        Ok(banks.into_iter().map(|bank| bank.config).collect())
    }
}
