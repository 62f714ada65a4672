//! Removals of records and customers (erasure on request): a [`Removal`] is stored with how far it has come, and is in the
//! end the receipt of it. The deleting itself is in `record_deletion`.

use jiff::Timestamp;
use okra_core::model::ids::{AccountId, AppId, BankId, CustomerId, ReceiptId, RecordId};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        item::{ItemBuilder, read_json_item},
        key_range::{KeyRange, ReadLimit},
    },
};

const KIND: &str = "removal";

/// Seconds that a receipt is stored: 400 days.
const RECEIPT_RETENTION_S: i64 = 400 * 24 * 3600;

/// How many items of a record or a customer were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedCounts {
    /// Records with their consents.
    pub records: usize,
    /// Accounts with their balances.
    pub accounts: usize,
    /// Transactions.
    pub transactions: usize,
    /// Feed entries, subscriptions and whatever else lay with a record.
    pub entries: usize,
    /// Deliveries of events.
    pub deliveries: usize,
}

impl RemovedCounts {
    /// All items.
    pub const fn total_items(&self) -> usize {
        self.records + self.accounts + self.transactions + self.entries + self.deliveries
    }

    /// The sum of both.
    #[must_use]
    pub const fn add_counts(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            accounts: self.accounts + other.accounts,
            transactions: self.transactions + other.transactions,
            entries: self.entries + other.entries,
            deliveries: self.deliveries + other.deliveries,
        }
    }
}

/// A requested removal: how far it has come, and in the end the receipt of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its id, which is the receipt's.
    pub receipt: ReceiptId,
    /// The app.
    pub app: AppId,
    /// The customer.
    pub customer: CustomerId,
    /// Whether the customer is removed too.
    #[serde(rename = "whole")]
    pub removes_customer: bool,
    /// The records that are removed.
    pub records: Vec<RecordRemoval>,
    /// What was deleted so far. A run that was interrupted may have deleted more than it counted.
    #[serde(rename = "removed")]
    pub removed_counts: RemovedCounts,
    /// When it was requested.
    #[serde(rename = "at")]
    pub requested_at: Timestamp,
    /// When everything was deleted but what the webhooks of the removal need.
    pub completed_at: Option<Timestamp>,
    /// When that was deleted as well, and nothing had been added after it.
    pub ended_at: Option<Timestamp>,
}

/// How far a record's removal has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRemoval {
    /// The record.
    pub record: RecordId,
    /// Its bank.
    pub bank: BankId,
    /// Its accounts, which are known before anything is deleted.
    pub accounts: Vec<AccountId>,
    /// What became of its consent at the bank; `None` where the bank was not called yet.
    #[serde(rename = "consent")]
    pub revocation: Option<RevocationOutcome>,
    /// True where it was emptied: what the webhooks of the removal need may be left.
    #[serde(rename = "emptied")]
    pub is_emptied: bool,
}

/// What became of a consent at its bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationOutcome {
    /// The bank revoked it.
    Revoked,
    /// The bank has no way to revoke it, or the id of the consent is not known.
    NotPossible,
    /// The bank was called and did not revoke it.
    Failed,
}

impl RevocationOutcome {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::NotPossible => "not_possible",
            Self::Failed => "failed",
        }
    }
}

impl Store {
    /// Stores a removal in place of what was stored under its receipt.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_removal(&self, removal: &Removal) -> Result<(), StoreError> {
        let key = Key::Removal {
            app: removal.app,
            receipt: removal.receipt,
        };
        let item = ItemBuilder::new(key)
            .with_json(KIND, removal)?
            .with_expiry(removal.requested_at, RECEIPT_RETENTION_S);
        self.put_item(item.build()).await
    }

    /// A removal of an app; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_removal(
        &self,
        app: AppId,
        receipt: ReceiptId,
    ) -> Result<Option<Removal>, StoreError> {
        let item = self
            .get_item(Key::Removal { app, receipt }, Consistency::Strong)
            .await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }

    /// At most `limit` removals of an app with receipts after `after`, in the order of their ids; read
    /// eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_removals(
        &self,
        app: AppId,
        after: Option<ReceiptId>,
        limit: usize,
    ) -> Result<Vec<Removal>, StoreError> {
        let last = after.map(|id| id.to_string());
        let range = KeyRange::with_prefix_after(
            key::app_partition(app),
            key::REMOVAL_PREFIX,
            last.as_deref(),
        );
        let items = self
            .query_range(range, ReadLimit::First(limit), Consistency::Eventual)
            .await?;
        items
            .iter()
            .map(|item| read_json_item(KIND, item))
            .collect()
    }
}
