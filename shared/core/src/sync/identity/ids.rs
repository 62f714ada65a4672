//! Ids of new transactions. The cast: [`TransactionIdMinter`].
//!
//! The rule: the same row of the same account always gets the same id, and rows that are equal, or that share a reused
//! bank id, get ids of their own.

use std::collections::{HashMap, HashSet};

use crate::model::{
    ids::{AccountId, EpochDay, TransactionId},
    snapshot::{Transaction, TransactionFacts},
};

/// Mints ids for the new rows of one account.
pub struct TransactionIdMinter {
    account: AccountId,
    taken: HashSet<TransactionId>,
    /// The next ordinal of rows that have the same first id.
    ordinals: HashMap<TransactionId, u32>,
}

impl TransactionIdMinter {
    /// Rows of one account that may share everything that an id is derived from, at most.
    pub const MAX_IDENTICAL_ROWS: u32 = 100_000;

    /// A minter that never gives the id of a stored transaction again.
    pub fn new(account: AccountId, stored: &[Transaction]) -> Self {
        let taken = stored.iter().map(|transaction| transaction.id).collect();
        Self {
            account,
            taken,
            ordinals: HashMap::new(),
        }
    }

    /// The id of a new row.
    pub fn mint_id(&mut self, facts: &TransactionFacts) -> TransactionId {
        let first = self.derive_id(facts, 0);
        let start = self.ordinals.get(&first).copied().unwrap_or(0);
        for ordinal in start..Self::MAX_IDENTICAL_ROWS {
            let id = self.derive_id(facts, ordinal);
            if self.taken.insert(id) {
                self.ordinals.insert(first, ordinal + 1);
                return id;
            }
        }
        // No response has so many rows: its pages and their bytes are bounded.
        debug_assert!(
            false,
            "more than {} identical rows",
            Self::MAX_IDENTICAL_ROWS
        );
        first
    }

    /// The id of the row where `ordinal` others have the same bank id, or content where it has none.
    fn derive_id(&self, facts: &TransactionFacts, ordinal: u32) -> TransactionId {
        let day = EpochDay::from_date(facts.booking_date());
        let ordinal = ordinal.to_be_bytes();
        match &facts.bank_id {
            Some(bank_id) => {
                TransactionId::new(self.account, day, &[b"id", bank_id.as_bytes(), &ordinal])
            }
            None => TransactionId::new(
                self.account,
                day,
                &[
                    b"content",
                    &facts.signed_minor().to_be_bytes(),
                    facts.description.as_bytes(),
                    &ordinal,
                ],
            ),
        }
    }
}
