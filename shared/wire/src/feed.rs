//! The change feed's pages, and what was at a time gone by. All of it is ours: Okra had none.

use okra_core::{
    model::{
        ids::{AccountId, BalanceId, CustomerId, RecordId, TransactionId},
        money::Currency,
        snapshot::{BalanceFacts, TransactionFacts},
    },
    sync::net_changes::{NetBalance, NetTransaction},
};
use serde::Serialize;

use crate::{
    account_context::{ResourceIds, ResourceTimes},
    balance::balance_amounts,
    scalar::{IsoInstant, MajorUnits},
    transaction::TransactionResource,
    webhook::TransactionChangeBody,
};

/// A page of the change feed: what became of each transaction and balance since the cursor, each once.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct FeedPageResource<'a> {
    /// Transactions that were not there.
    pub added: Vec<TransactionResource>,
    /// Transactions that read otherwise now.
    pub modified: Vec<ModifiedTransactionResource<'a>>,
    /// Transactions that are gone.
    pub removed: Vec<RemovedTransactionResource>,
    /// Balances that are others now.
    pub balances: Vec<ChangedBalanceResource>,
    /// Send it with the next call; store it only with what it came with.
    pub next_cursor: String,
    /// True where there is more to read at once.
    pub has_more: bool,
}

/// A transaction that reads otherwise now: as it is, what changed, and how sure we are that it is the
/// same one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct ModifiedTransactionResource<'a> {
    _id: TransactionId,
    id: TransactionId,
    account: AccountId,
    record: RecordId,
    transaction: TransactionResource,
    #[serde(flatten)]
    change: TransactionChangeBody<'a>,
}

impl<'a> ModifiedTransactionResource<'a> {
    /// The change of a transaction from `before` to `after`.
    pub fn new(
        ids: ResourceIds,
        id: TransactionId,
        row: &NetTransaction,
        before: &'a TransactionFacts,
        after: &'a TransactionFacts,
    ) -> Self {
        Self {
            _id: id,
            id,
            account: ids.account,
            record: ids.record,
            transaction: plain_transaction(
                ids,
                id,
                after,
                ResourceTimes::at_instant(row.committed_at),
            ),
            change: TransactionChangeBody::new(before, after, row.confidence),
        }
    }
}

/// A transaction that is gone, as it last was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct RemovedTransactionResource {
    _id: TransactionId,
    id: TransactionId,
    account: AccountId,
    record: RecordId,
    removed_at: IsoInstant,
    transaction: TransactionResource,
}

impl RemovedTransactionResource {
    /// A transaction that was `before`.
    pub fn new(
        ids: ResourceIds,
        id: TransactionId,
        row: &NetTransaction,
        before: &TransactionFacts,
    ) -> Self {
        Self {
            _id: id,
            id,
            account: ids.account,
            record: ids.record,
            removed_at: IsoInstant(row.committed_at),
            transaction: plain_transaction(
                ids,
                id,
                before,
                ResourceTimes::at_instant(row.committed_at),
            ),
        }
    }
}

/// A transaction with plain ids.
pub fn plain_transaction(
    ids: ResourceIds,
    id: TransactionId,
    facts: &TransactionFacts,
    times: ResourceTimes,
) -> TransactionResource {
    let known = okra_core::model::snapshot::Transaction {
        id,
        facts: facts.clone(),
    };
    TransactionResource::with_plain_ids(ids, &known, times)
}

/// A balance that is another now.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct ChangedBalanceResource {
    _id: BalanceId,
    id: BalanceId,
    account: AccountId,
    record: RecordId,
    customer: CustomerId,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    /// Null where there was none.
    previous_available_balance: Option<MajorUnits>,
    /// Null where there was none.
    previous_ledger_balance: Option<MajorUnits>,
    currency: Currency,
    last_updated: IsoInstant,
}

impl ChangedBalanceResource {
    /// The change of an account's balance.
    pub fn new(ids: ResourceIds, net: &NetBalance) -> Self {
        let currency = stated_currency(&net.after);
        let (available, ledger) = balance_amounts(&net.after, currency);
        let before = net.before.map(|before| balance_amounts(&before, currency));
        Self {
            _id: BalanceId::for_account(ids.account),
            id: BalanceId::for_account(ids.account),
            account: ids.account,
            record: ids.record,
            customer: ids.customer,
            available_balance: available,
            ledger_balance: ledger,
            previous_available_balance: before.map(|before| before.0),
            previous_ledger_balance: before.map(|before| before.1),
            currency,
            last_updated: IsoInstant(net.committed_at),
        }
    }
}

/// The currency a balance is stated in; the naira where it states nothing.
fn stated_currency(facts: &BalanceFacts) -> Currency {
    let stated = facts.available.or(facts.ledger);
    stated.map_or(Currency::NGN, |money| money.currency)
}

/// A transaction as one entry of the feed left it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct TransactionVersionResource {
    /// The number of the entry in the record's feed.
    pub sequence: u64,
    /// When it was committed.
    pub at: IsoInstant,
    /// `added`, `modified` or `removed`.
    pub kind: &'static str,
    /// How sure we are that it is the same transaction as before: `exact`, `high`, `medium`, `low`.
    pub confidence: &'static str,
    /// What reads otherwise than before.
    pub changed: Vec<&'static str>,
    /// As it was from then on; null where it was removed.
    pub transaction: Option<TransactionResource>,
}

/// The versions of a transaction, newest first.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct TransactionVersionsResource {
    /// The transaction.
    pub id: TransactionId,
    /// Its versions, newest first.
    pub versions: Vec<TransactionVersionResource>,
    /// False where there are older ones: ask again with `before` set to the last one's `sequence`.
    pub complete: bool,
}

/// A balance as it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct BalanceVersionResource {
    id: BalanceId,
    account: AccountId,
    /// The number of the entry that said it.
    sequence: u64,
    /// When that was committed.
    at: IsoInstant,
    available_balance: MajorUnits,
    ledger_balance: MajorUnits,
    currency: Currency,
}

impl BalanceVersionResource {
    /// What an entry said of an account's balance.
    pub fn new(account: AccountId, sequence: u64, at: IsoInstant, facts: &BalanceFacts) -> Self {
        let currency = stated_currency(facts);
        let (available_balance, ledger_balance) = balance_amounts(facts, currency);
        Self {
            id: BalanceId::for_account(account),
            account,
            sequence,
            at,
            available_balance,
            ledger_balance,
            currency,
        }
    }
}
