//! A refresh, from tick to dispatch: the shell that executes what [`okra_core::refresh`] decides.
//!
//! ```text
//! tick -> due entries -> plan -> chunks -> (fetch queue) -> banks -> digests       schedule, chunk, fetch
//!   equal to the due entry's: done, nothing read or written
//!   else: head and state -> decide -> commit -> project -> dispatch -> advance     changes, commit
//! ```
//!
//! The order of the last four is what makes a crash harmless. *Due entry = dispatched, head = committed, feed = truth*:
//! whoever finds a due entry behind its head projects and dispatches what lies between again, and every one of these
//! effects can be repeated.
//!
//! [`Refresher`] is the shell. Beside the refresh itself it makes the steps of a [`backfill`], follows up on links
//! ([`follow_up`]) and removes records ([`removal`]); [`announce`] commits changes of state that no refresh finds.

pub mod announce;
pub mod backfill;
mod bank_config;
mod breaker;
mod changes;
mod chunk;
mod commit;
mod deletion_check;
mod fetch;
pub mod follow_up;
pub mod removal;
mod report;
mod schedule;
mod tokens;

use std::sync::Arc;

use okra_aws::{Clock, rules::TickRules};
use okra_connectors::Connectors;
use okra_queue::Queues;
use okra_store::Store;
use okra_vault::Vault;

pub use okra_core::refresh::outcome::{DispatchedChanges, RefreshOutcome};

pub use self::{
    report::{ChunkReport, RefreshObserver, RefreshReport, SilentRefreshObserver, TickReport},
    tokens::{open_client_secret, seal_client_secret},
};
use crate::commit::CommitPipeline;

/// A fault of our own: of the store, a queue, the vault. The bank's faults are outcomes of a refresh.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] okra_store::StoreError),
    /// Feed entries could not be committed.
    #[error("feed entries could not be committed")]
    Commit(#[source] okra_store::CommitError),
    /// A queue did not accept a message.
    #[error("a message could not be enqueued")]
    Queue(#[from] okra_queue::SendError),
    /// The vault could not open or seal a secret.
    #[error("a secret could not be opened or sealed")]
    Vault(#[from] okra_vault::VaultError),
    /// A secret is not in the form that the connector wrote.
    #[error("a consent's secret is not in the expected form")]
    Consent(#[source] serde_json::Error),
    /// The rule of an interval could not be enabled or disabled.
    #[error("the rule of an interval could not be enabled or disabled")]
    Rules(#[from] okra_aws::rules::TickRulesError),
    /// A record's bank is not configured.
    #[error("the bank {0} is not configured")]
    UnknownBank(okra_core::model::ids::BankId),
    /// More undispatched feed entries than one refresh repairs.
    #[error("the record {0} has more undispatched feed entries than one refresh repairs")]
    TooFarBehind(okra_core::model::ids::RecordId),
}

/// Everything a refresh needs. Cheap to clone.
#[derive(Clone)]
pub struct Refresher {
    store: Store,
    queues: Queues,
    connectors: Connectors,
    vault: Arc<Vault>,
    clock: Clock,
    rules: Option<TickRules>,
    observer: Arc<dyn RefreshObserver>,
    banks: Arc<bank_config::BankCache>,
}

impl Refresher {
    /// A refresher. Without `rules` no rule is ever disabled.
    pub fn new(
        store: Store,
        queues: Queues,
        connectors: Connectors,
        vault: Arc<Vault>,
        clock: Clock,
        rules: Option<TickRules>,
    ) -> Self {
        Self {
            store,
            queues,
            connectors,
            vault,
            clock,
            rules,
            observer: Arc::new(SilentRefreshObserver),
            banks: Arc::default(),
        }
    }

    /// The same refresher, which calls `observer` for each record.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn RefreshObserver>) -> Self {
        self.observer = observer;
        self
    }

    fn pipeline(&self) -> CommitPipeline<'_> {
        CommitPipeline {
            store: &self.store,
            queues: &self.queues,
            observer: &*self.observer,
        }
    }
}
