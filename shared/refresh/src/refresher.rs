//! [`Refresher`]: what a refresh needs, in one place. Its work is in the modules beside this one.

use std::sync::Arc;

use okra_aws::{Clock, tick_rules::TickRules};
use okra_connectors::Connectors;
use okra_queue::Queues;
use okra_store::Store;
use okra_vault::Vault;

use crate::{
    bank_cache::BankCache,
    commit::CommitPipeline,
    report::{RefreshObserver, SilentRefreshObserver},
};

/// Everything a refresh needs. Cheap to clone.
#[derive(Clone)]
pub struct Refresher {
    pub(crate) store: Store,
    pub(crate) queues: Queues,
    pub(crate) connectors: Connectors,
    pub(crate) vault: Arc<Vault>,
    pub(crate) clock: Clock,
    pub(crate) rules: Option<TickRules>,
    pub(crate) observer: Arc<dyn RefreshObserver>,
    pub(crate) banks: Arc<BankCache>,
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

    /// The commit pipeline of this refresher.
    pub(crate) fn pipeline(&self) -> CommitPipeline<'_> {
        CommitPipeline {
            store: &self.store,
            queues: &self.queues,
            observer: &*self.observer,
        }
    }
}
