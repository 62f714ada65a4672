//! Circuit breakers of banks. A bank that never failed has no item, and the responses of a healthy bank
//! write none.

use std::collections::HashMap;

use okra_core::{model::ids::BankId, resilience::bank_breaker::BankBreaker};

use crate::{
    Consistency, MAX_BANKS, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{JSON_ATTRIBUTE, json_value},
        expression::Condition,
        item::{ItemReader, json_item, read_json_item},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
    },
};

const KIND: &str = "circuit breaker";

impl Store {
    /// The breaker of a bank; `None` where the bank never failed. It may be changed meanwhile: whoever changes what was
    /// read passes it to [`put_bank_breaker`](Self::put_bank_breaker).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_bank_breaker(
        &self,
        bank: BankId,
        consistency: Consistency,
    ) -> Result<Option<BankBreaker>, StoreError> {
        let item = self.get_item(Key::BankBreaker(bank), consistency).await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }

    /// The breakers of all banks that failed; read eventually. A bank that is not among them may have one all the same,
    /// where there are very many: whoever calls the bank reads its own.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_bank_breakers(&self) -> Result<HashMap<BankId, BankBreaker>, StoreError> {
        let limit = ReadLimit::Capped {
            bound: MAX_BANKS * READ_MARGIN,
            what: "circuit breakers",
        };
        let range = KeyRange::with_prefix(key::BREAKER_PARTITION, key::BREAKER_PREFIX);
        let items = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                let bank = reader.parse_sort_key_after(key::BREAKER_PREFIX)?;
                Ok((bank, reader.read_json(JSON_ATTRIBUTE)?))
            })
            .collect()
    }

    /// Stores the breaker of a bank where it still is `expected`; false, and nothing stored, where it is not.
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
        let expected = expected
            .map(|breaker| json_value(KIND, breaker))
            .transpose()?;
        let item = json_item(KIND, Key::BankBreaker(bank), breaker)?;
        self.put_item_if(item, vec![Condition::Equals(JSON_ATTRIBUTE, expected)])
            .await
    }
}
