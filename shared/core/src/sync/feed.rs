//! The feed of a record. The cast: [`FeedEntry`], a committed [`Change`] with its sequence number; [`TransactionsDiff`],
//! what changed among an account's transactions; [`FeedStream`], what is dispatched separately.
//!
//! The rule: the feed is the truth about changes; the stored balances and transactions are a projection of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        ids::{AccountId, EventId, RecordId, Seq, TransactionId},
        snapshot::{BalanceFacts, Product, Transaction, TransactionFacts},
    },
    sync::state::StateChange,
};

/// Transactions in one entry at most. More are split over consecutive entries.
pub const MAX_CHANGES_PER_ENTRY: usize = 100;

/// Entries in one commit at most: a DynamoDB transaction holds 100 actions, one is the head.
pub const MAX_ENTRIES_PER_COMMIT: usize = 90;

/// A committed diff of one account and one product, or a change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// The record whose feed this is.
    pub record: RecordId,
    /// Its number in the feed.
    pub seq: Seq,
    /// When it was committed.
    #[serde(rename = "at")]
    pub committed_at: Timestamp,
    /// The account that changed; `None` where the record as a whole did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<AccountId>,
    /// What changed.
    pub change: Change,
}

impl FeedEntry {
    /// The id of the event of this entry.
    pub fn event_id(&self) -> EventId {
        EventId::for_record_entry(self.record, self.seq)
    }
}

/// Feed entries that are dispatched together. Each stream has a watermark of its own: how far it was dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedStream {
    /// Changes of balances.
    Balance,
    /// Changes of transactions.
    Transactions,
    /// Changes of the record's and its accounts' states.
    State,
}

impl FeedStream {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Transactions => "transactions",
            Self::State => "state",
        }
    }
}

impl From<Product> for FeedStream {
    fn from(product: Product) -> Self {
        match product {
            Product::Balance => Self::Balance,
            Product::Transactions => Self::Transactions,
        }
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The balance.
    #[serde(rename = "b")]
    Balance {
        /// The balance before; `None` the first time.
        #[serde(rename = "o", skip_serializing_if = "Option::is_none", default)]
        before: Option<BalanceFacts>,
        /// The balance after.
        #[serde(rename = "n")]
        after: BalanceFacts,
    },
    /// Transactions.
    #[serde(rename = "t")]
    Transactions(TransactionsDiff),
    /// The state of the record or of one of its accounts.
    #[serde(rename = "s")]
    State(StateChange),
}

impl Change {
    /// The stream that this belongs to.
    pub const fn stream(&self) -> FeedStream {
        match self {
            Self::Balance { .. } => FeedStream::Balance,
            Self::Transactions(_) => FeedStream::Transactions,
            Self::State(_) => FeedStream::State,
        }
    }

    /// True for a change of this product.
    pub const fn concerns_product(&self, product: Product) -> bool {
        matches!(
            (self, product),
            (Self::Balance { .. }, Product::Balance)
                | (Self::Transactions(_), Product::Transactions)
        )
    }
}

/// Which fetch found the rows; Okra distinguishes them in its callback codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchKind {
    /// The first fetch of an account.
    #[serde(rename = "i")]
    Initial,
    /// A backfill.
    #[serde(rename = "f")]
    Backfill,
    /// A regular refresh.
    #[serde(rename = "p")]
    Periodic,
}

/// What changed among an account's transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionsDiff {
    /// Which fetch found it.
    #[serde(rename = "p")]
    pub fetch_kind: FetchKind,
    /// Rows that are new.
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty", default)]
    pub added: Vec<Transaction>,
    /// Rows that changed.
    #[serde(rename = "m", skip_serializing_if = "Vec::is_empty", default)]
    pub modified: Vec<ModifiedRow>,
    /// Rows that were removed, as they last were.
    #[serde(rename = "r", skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<Transaction>,
    /// For each row modified or removed, the entry that wrote it before, so that its versions can be followed back. Not in
    /// entries of earlier releases.
    #[serde(rename = "b", skip_serializing_if = "BTreeMap::is_empty", default)]
    pub previous_seqs: BTreeMap<TransactionId, Seq>,
}

impl TransactionsDiff {
    /// The number of rows.
    pub const fn len(&self) -> usize {
        self.added.len() + self.modified.len() + self.removed.len()
    }

    /// True where nothing changed.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A transaction that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModifiedRow {
    /// Before.
    #[serde(rename = "o")]
    pub before: TransactionFacts,
    /// After, under the identity that it keeps.
    #[serde(rename = "n")]
    pub after: Transaction,
    /// How sure it is that both are one transaction.
    #[serde(rename = "c")]
    pub confidence: MatchConfidence,
}

/// How sure it is that two rows are one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MatchConfidence {
    /// The bank's id says so and the content does not contradict it.
    #[serde(rename = "x")]
    Exact,
    /// The ids differ or there are none; amount, direction and text agree and the dates are near.
    #[serde(rename = "h")]
    High,
    /// The ids differ, and either text or amount is only similar, or the text is blank.
    #[serde(rename = "m")]
    Medium,
    /// The ids and the amounts differ: a round hold was replaced by the true amount.
    #[serde(rename = "l")]
    Low,
}

impl MatchConfidence {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// What an endpoint is sent of a feed entry.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadMode {
    /// The changed resources themselves.
    #[default]
    Full,
    /// Their ids and a `callback_url` to read them from.
    Reference,
}

/// The version of the bodies that an endpoint is sent. An endpoint keeps the one it was registered
/// with; a change that could break a receiver gets a new version.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyVersion {
    /// The first, also of endpoints that were registered before versions were stored.
    #[default]
    #[serde(rename = "2026-03-01")]
    V20260301,
}

impl BodyVersion {
    /// All versions, the oldest first.
    pub const ALL: [Self; 1] = [Self::V20260301];

    /// The version of an endpoint that is registered now without naming one.
    pub const LATEST: Self = Self::V20260301;

    /// As in bodies and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V20260301 => "2026-03-01",
        }
    }

    /// The version of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}
