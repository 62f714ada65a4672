//! Banks as they are configured.

use okra_core::{bank::BankConfig, ids::BankId};

use crate::{
    Consistency, Store, StoreError,
    call::{Range, Take},
    item::{JSON, Key, Reader, document},
};

/// Banks at most.
pub const MAX_BANKS: usize = 500;

const KIND: &str = "bank";
/// One partition for all: each process reads them now and then and keeps them.
const PARTITION: &str = "INS";
const PREFIX: &str = "INS#";

fn key(bank: BankId) -> Key {
    Key::new(PARTITION, format!("{PREFIX}{bank}"))
}

impl Store {
    /// Stores a bank in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank(&self, bank: &BankConfig) -> Result<(), StoreError> {
        self.put(document(KIND, key(bank.id), bank)?).await
    }

    /// A bank.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn bank(&self, bank: BankId) -> Result<Option<BankConfig>, StoreError> {
        let item = self.get(key(bank), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }

    /// All banks, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn banks(&self) -> Result<Vec<BankConfig>, StoreError> {
        let take = Take::All {
            bound: MAX_BANKS,
            what: "banks",
        };
        let range = Range::prefix(PARTITION, PREFIX);
        let items = self.query(range, take, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .collect()
    }
}
