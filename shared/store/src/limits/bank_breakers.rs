//! Circuit breakers of banks. A bank that never failed has no item, and what a healthy bank answers
//! writes none.

use std::collections::HashMap;

use okra_core::{model::ids::BankId, resilience::bank_breaker::BankBreaker};

use crate::{
    Consistency, MAX_BANKS, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        expression::Condition,
        item::{ItemReader, JSON_ATTRIBUTE, Key, SK, json_item, json_value},
    },
};

const KIND: &str = "breaker";
/// One partition for all: a tick reads them with one query.
const BREAKER_PARTITION: &str = "BRK";
const BREAKER_PREFIX: &str = "BRK#";

fn breaker_key(bank: BankId) -> Key {
    Key::new(BREAKER_PARTITION, format!("{BREAKER_PREFIX}{bank}"))
}

impl Store {
    /// The breaker of a bank, `None` where it never failed. May be a moment old: whoever goes on from it
    /// says so to [`put_breaker`](Self::put_breaker).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_bank_breaker(
        &self,
        bank: BankId,
        consistency: Consistency,
    ) -> Result<Option<BankBreaker>, StoreError> {
        let item = self.get_item(breaker_key(bank), consistency).await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }

    /// The breakers of all banks that ever failed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn list_bank_breakers(&self) -> Result<HashMap<BankId, BankBreaker>, StoreError> {
        let take = ReadLimit::All {
            bound: MAX_BANKS,
            what: "breakers",
        };
        let range = KeyRange::with_prefix(BREAKER_PARTITION, BREAKER_PREFIX);
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                let bank = reader.sort_key_after(BREAKER_PREFIX)?.parse();
                let bank = bank.map_err(|_| reader.corrupt_error(SK))?;
                Ok((bank, reader.read_json(JSON_ATTRIBUTE)?))
            })
            .collect()
    }

    /// Stores the breaker of a bank where it still is `before`; false where it is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bank_breaker(
        &self,
        bank: BankId,
        expected: Option<&BankBreaker>,
        breaker: &BankBreaker,
    ) -> Result<bool, StoreError> {
        let unmoved = match expected {
            Some(before) => Condition::Equals(JSON_ATTRIBUTE, Some(json_value(KIND, before)?)),
            None => Condition::Absent,
        };
        let item = json_item(KIND, breaker_key(bank), breaker)?;
        self.put_item_if(item, vec![unmoved]).await
    }
}
