//! The change feed's pages, and what was at a time gone by. All of it is ours: Okra had none.

use okra_core::{
    ids::{AccountId, BalanceId, CustomerId, RecordId, TransactionId},
    model::{BalanceFacts, TransactionFacts},
    money::Currency,
    net::{NetBalance, NetRow},
    tieout,
};
use serde::Serialize;

use crate::{
    balance::amounts,
    origin::{Ids, Times},
    scalar::{Instant, Number},
    transaction::Transaction,
    webhook::ChangeBody,
};

/// A page of the change feed: what became of each transaction and balance since the cursor, each once.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct FeedPage<'a> {
    /// Transactions that were not there.
    pub added: Vec<Transaction>,
    /// Transactions that read otherwise now.
    pub modified: Vec<ModifiedTransaction<'a>>,
    /// Transactions that are gone.
    pub removed: Vec<RemovedTransaction>,
    /// Balances that are others now.
    pub balances: Vec<ChangedBalance>,
    /// Send it with the next call; store it only with what it came with.
    pub next_cursor: String,
    /// True where there is more to read at once.
    pub has_more: bool,
}

/// A transaction that reads otherwise now: as it is, what changed, and how sure we are that it is the
/// same one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct ModifiedTransaction<'a> {
    _id: TransactionId,
    id: TransactionId,
    account: AccountId,
    record: RecordId,
    transaction: Transaction,
    #[serde(flatten)]
    change: ChangeBody<'a>,
}

impl<'a> ModifiedTransaction<'a> {
    /// The change of a transaction from `before` to `after`.
    pub fn new(
        ids: Ids,
        id: TransactionId,
        row: &NetRow,
        before: &'a TransactionFacts,
        after: &'a TransactionFacts,
    ) -> Self {
        Self {
            _id: id,
            id,
            account: ids.account,
            record: ids.record,
            transaction: plain(ids, id, after, Times::at(row.at)),
            change: ChangeBody::new(before, after, row.confidence),
        }
    }
}

/// A transaction that is gone, as it last was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct RemovedTransaction {
    _id: TransactionId,
    id: TransactionId,
    account: AccountId,
    record: RecordId,
    removed_at: Instant,
    transaction: Transaction,
}

impl RemovedTransaction {
    /// A transaction that was `before`.
    pub fn new(ids: Ids, id: TransactionId, row: &NetRow, before: &TransactionFacts) -> Self {
        Self {
            _id: id,
            id,
            account: ids.account,
            record: ids.record,
            removed_at: Instant(row.at),
            transaction: plain(ids, id, before, Times::at(row.at)),
        }
    }
}

/// A transaction with plain ids.
pub fn plain(ids: Ids, id: TransactionId, facts: &TransactionFacts, times: Times) -> Transaction {
    let known = okra_core::model::Transaction {
        id,
        facts: facts.clone(),
    };
    Transaction::plain(ids, &known, times)
}

/// A balance that is another now.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct ChangedBalance {
    _id: BalanceId,
    id: BalanceId,
    account: AccountId,
    record: RecordId,
    customer: CustomerId,
    available_balance: Number,
    ledger_balance: Number,
    /// Null where there was none.
    previous_available_balance: Option<Number>,
    /// Null where there was none.
    previous_ledger_balance: Option<Number>,
    currency: Currency,
    last_updated: Instant,
}

impl ChangedBalance {
    /// The change of an account's balance.
    pub fn new(ids: Ids, net: &NetBalance) -> Self {
        let currency = currency_of(&net.after);
        let (available, ledger) = amounts(&net.after, currency);
        let before = net.before.map(|before| amounts(&before, currency));
        Self {
            _id: BalanceId::of(ids.account),
            id: BalanceId::of(ids.account),
            account: ids.account,
            record: ids.record,
            customer: ids.customer,
            available_balance: available,
            ledger_balance: ledger,
            previous_available_balance: before.map(|before| before.0),
            previous_ledger_balance: before.map(|before| before.1),
            currency,
            last_updated: Instant(net.at),
        }
    }
}

/// The currency a balance is stated in; the naira where it states nothing.
fn currency_of(facts: &BalanceFacts) -> Currency {
    let stated = facts.available.or(facts.ledger);
    stated.map_or(Currency::NGN, |money| money.currency)
}

/// A transaction as one entry of the feed left it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct Version {
    /// The number of the entry in the record's feed.
    pub sequence: u64,
    /// When it was committed.
    pub at: Instant,
    /// `added`, `modified` or `removed`.
    pub kind: &'static str,
    /// How sure we are that it is the same transaction as before: `exact`, `high`, `medium`, `low`.
    pub confidence: &'static str,
    /// What reads otherwise than before.
    pub changed: Vec<&'static str>,
    /// As it was from then on; null where it was removed.
    pub transaction: Option<Transaction>,
}

/// The versions of a transaction, newest first.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct Versions {
    /// The transaction.
    pub id: TransactionId,
    /// Its versions, newest first.
    pub versions: Vec<Version>,
    /// False where there are older ones: ask again with `before` set to the last one's `sequence`.
    pub complete: bool,
}

/// A balance as it was.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub struct PastBalance {
    id: BalanceId,
    account: AccountId,
    /// The number of the entry that said it.
    sequence: u64,
    /// When that was committed.
    at: Instant,
    available_balance: Number,
    ledger_balance: Number,
    currency: Currency,
}

impl PastBalance {
    /// What an entry said of an account's balance.
    pub fn new(account: AccountId, sequence: u64, at: Instant, facts: &BalanceFacts) -> Self {
        let currency = currency_of(facts);
        let (available_balance, ledger_balance) = amounts(facts, currency);
        Self {
            id: BalanceId::of(account),
            account,
            sequence,
            at,
            available_balance,
            ledger_balance,
            currency,
        }
    }
}

/// A disagreement between an account's balance and its transactions; see `docs/SYNC.md`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Drift {
    /// What the balance has more than the transactions explain.
    amount: Number,
    currency: Currency,
    /// When it was first seen.
    since: Instant,
    /// `running_balance`, `closing_balance` or `balance_movement`.
    check: &'static str,
    /// Days whose rows do not tie.
    days: u32,
}

impl From<&tieout::Drift> for Drift {
    fn from(drift: &tieout::Drift) -> Self {
        Self {
            amount: Number(drift.amount),
            currency: drift.amount.currency,
            since: Instant(drift.since),
            check: drift.check.as_str(),
            days: drift.days,
        }
    }
}
