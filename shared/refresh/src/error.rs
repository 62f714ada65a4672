//! [`RefreshError`]: what can go wrong in a refresh and is a fault of our own.

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
    Rules(#[from] okra_aws::tick_rules::TickRulesError),
    /// A record's bank is not configured.
    #[error("the bank {0} is not configured")]
    UnknownBank(okra_core::model::ids::BankId),
    /// More undispatched feed entries than one refresh repairs.
    #[error("the record {0} has more undispatched feed entries than one refresh repairs")]
    TooFarBehind(okra_core::model::ids::RecordId),
}
