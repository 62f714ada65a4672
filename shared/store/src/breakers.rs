//! Circuit breakers of banks. A bank that never failed has no item, and what a healthy bank answers
//! writes none.

use std::collections::HashMap;

use okra_core::{breaker::Breaker, ids::BankId};

use crate::{
    Consistency, MAX_BANKS, Store, StoreError,
    call::{Range, Take},
    expression::When,
    item::{JSON, Key, Reader, SK, document, json},
};

const KIND: &str = "breaker";
/// One partition for all: a tick reads them with one query.
const PARTITION: &str = "BRK";
const PREFIX: &str = "BRK#";

fn key(bank: BankId) -> Key {
    Key::new(PARTITION, format!("{PREFIX}{bank}"))
}

impl Store {
    /// The breaker of a bank, `None` where it never failed. May be a moment old: whoever goes on from it
    /// says so to [`put_breaker`](Self::put_breaker).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn breaker(
        &self,
        bank: BankId,
        consistency: Consistency,
    ) -> Result<Option<Breaker>, StoreError> {
        let item = self.get(key(bank), consistency).await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }

    /// The breakers of all banks that ever failed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_BANKS`].
    pub async fn breakers(&self) -> Result<HashMap<BankId, Breaker>, StoreError> {
        let take = Take::All {
            bound: MAX_BANKS,
            what: "breakers",
        };
        let range = Range::prefix(PARTITION, PREFIX);
        let items = self.query(range, take, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = Reader::new(KIND, item);
                let bank = reader.after(PREFIX)?.parse();
                let bank = bank.map_err(|_| reader.corrupt(SK))?;
                Ok((bank, reader.json(JSON)?))
            })
            .collect()
    }

    /// Stores the breaker of a bank where it still is `before`; false where it is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_breaker(
        &self,
        bank: BankId,
        before: Option<&Breaker>,
        breaker: &Breaker,
    ) -> Result<bool, StoreError> {
        let unmoved = match before {
            Some(before) => When::Is(JSON, Some(json(KIND, before)?)),
            None => When::Absent,
        };
        let item = document(KIND, key(bank), breaker)?;
        self.put_when(item, vec![unmoved]).await
    }
}
