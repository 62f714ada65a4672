//! A refresh, from tick to dispatch: the shell around [`okra_core`]'s decisions.
//!
//! ```text
//! tick -> due entries -> plan -> chunks -> (fetch queue) -> banks -> digests
//!   equal to the due entry's: done, nothing read or written
//!   else: head and state -> decide -> commit -> project -> dispatch -> advance the due entry
//! ```
//!
//! The order of the last four is what makes a crash harmless. *Due entry = dispatched, head =
//! committed, feed = truth*: whoever finds a due entry behind its head projects and dispatches what
//! lies between again, and every one of these effects can be repeated.

pub mod announce;
mod banks;
mod chunk;
mod confirm;
pub mod follow_up;
pub mod history;
mod reconcile;
pub mod removal;
mod report;
mod tick;
mod tokens;
mod watch;

use std::sync::Arc;

use okra_aws::{Clock, rules::TickRules};
use okra_connectors::Connectors;
use okra_queue::Queues;
use okra_store::Store;
use okra_vault::Vault;

pub use self::{
    report::{
        ChunkReport, DispatchedChanges, RefreshObserver, RefreshOutcome, RefreshReport,
        SilentRefreshObserver, TickReport,
    },
    tokens::{open_client_secret, seal_client_secret},
};

/// Our own fault: the store, a queue, the vault. Never a bank's; those are outcomes.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The table.
    #[error("the store failed")]
    Store(#[from] okra_store::StoreError),
    /// The head could not be moved.
    #[error("a commit failed")]
    Commit(#[source] okra_store::CommitError),
    /// A queue.
    #[error("a queue did not take a message")]
    Queue(#[from] okra_queue::SendError),
    /// A consent that the vault cannot open.
    #[error("a consent could not be decrypted")]
    Vault(#[from] okra_vault::VaultError),
    /// A consent that is not what the connector wrote.
    #[error("a decrypted consent could not be read")]
    Consent(#[source] serde_json::Error),
    /// A rule.
    #[error("a rule could not be switched")]
    Rules(#[from] okra_aws::rules::TickRulesError),
    /// A record's bank is not configured.
    #[error("bank {0} is not configured")]
    UnknownBank(okra_core::model::ids::BankId),
    /// More feed entries than one refresh may heal.
    #[error("record {0} has more undispatched feed entries than one refresh heals")]
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
    banks: Arc<banks::BankCache>,
}

impl Refresher {
    /// A refresher. Without `rules` no rule is ever switched off.
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

    /// The same refresher, telling `observer` of each record refreshed.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn RefreshObserver>) -> Self {
        self.observer = observer;
        self
    }
}
