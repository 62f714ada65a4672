//! Accounts with their balances.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    doubt::Doubt,
    ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq},
    model::{AccountFacts, BalanceFacts, ByProduct, Product},
    state::{ProductChange, ProductState},
    tieout::TieOut,
};

use crate::{
    Consent, Consistency, Store, StoreError, customers,
    expression::{Update, When},
    item::{Attributes, Draft, JSON, Key, Reader, json, millis, n, s},
};

/// Accounts of one record at most.
pub const MAX_ACCOUNTS_PER_RECORD: usize = 25;

const KIND: &str = "account";
const DOUBT: &str = "dt";
const TIE_OUT: &str = "to";
/// There while a drift is told of, and the feed entry that told of it or of its end.
const DRIFT_TOLD: &str = "dr";
const DRIFT_SEQ: &str = "drq";

/// What is known of how far an account's answers can be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// What its last answer lacked.
    pub doubt: Option<Doubt>,
    /// How its balance and its transactions agree.
    pub tie_out: Option<TieOut>,
}

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its record.
    pub record: RecordId,
    /// Its app.
    pub app: AppId,
    /// Its customer.
    pub customer: CustomerId,
    /// Its bank.
    pub bank: BankId,
    /// What the bank said of it at link time.
    pub facts: AccountFacts,
    /// Its balance; `None` before the first one was committed.
    pub balance: Option<BalanceFacts>,
    /// The feed entry that the balance is from.
    pub balance_seq: Seq,
    /// When that was committed.
    pub balance_at: Option<Timestamp>,
    /// How far its answers can be believed.
    pub checks: Checks,
    /// A drift was told, and not its end.
    pub drift_told: bool,
    /// What is recorded of each product; one that has nothing is available.
    pub states: ByProduct<ProductState>,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When it or its balance was last written.
    pub last_updated: Timestamp,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// What the sort keys of accounts begin with.
pub(crate) const PREFIX: &str = "ACC#";

/// The key of an account: beside its customer, under whose tag its id leads there.
pub(crate) fn key(account: AccountId) -> Key {
    Key::new(
        customers::partition(account.customer_tag()),
        format!("{PREFIX}{account}"),
    )
}

const fn state_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "bs",
        Product::Transactions => "ts",
    }
}

/// The attribute of the feed entry that a product's state is from.
const fn state_seq_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "bsq",
        Product::Transactions => "tsq",
    }
}

pub(crate) fn write(account: &Account) -> Result<Attributes, StoreError> {
    let state = |product| {
        let state = account.states.get(product);
        state.map(|state| json(KIND, state)).transpose()
    };
    let balance = account
        .balance
        .map(|balance| json(KIND, &balance))
        .transpose()?;
    let doubt = account.checks.doubt.as_ref();
    let doubt = doubt.map(|doubt| json(KIND, doubt)).transpose()?;
    let tie_out = account.checks.tie_out.as_ref();
    let tie_out = tie_out.map(|tie_out| json(KIND, tie_out)).transpose()?;
    Ok(Draft::new(key(account.id))
        .with("rec", s(account.record.to_string()))
        .with("app", s(account.app.to_string()))
        .with("cus", s(account.customer.to_string()))
        .with("ins", s(account.bank.to_string()))
        .with(JSON, json(KIND, &account.facts)?)
        .maybe("b", balance)
        .with("q", n(account.balance_seq))
        .maybe("ba", account.balance_at.map(millis))
        .maybe(DOUBT, doubt)
        .maybe(TIE_OUT, tie_out)
        .maybe(state_name(Product::Balance), state(Product::Balance)?)
        .maybe(
            state_name(Product::Transactions),
            state(Product::Transactions)?,
        )
        .with("c", millis(account.created_at))
        .with("u", millis(account.last_updated))
        .done())
}

pub(crate) fn read(item: &Attributes) -> Result<Account, StoreError> {
    let reader = Reader::new(KIND, item);
    let id = reader.after(PREFIX)?.parse();
    Ok(Account {
        id: id.map_err(|_| reader.corrupt("sk"))?,
        record: reader.parse("rec")?,
        app: reader.parse("app")?,
        customer: reader.parse("cus")?,
        bank: reader.parse("ins")?,
        facts: reader.json(JSON)?,
        balance: reader.optional("b", Reader::json)?,
        balance_seq: Seq(reader.number("q")?),
        balance_at: reader.optional("ba", Reader::millis)?,
        checks: Checks {
            doubt: reader.optional(DOUBT, Reader::json)?,
            tie_out: reader.optional(TIE_OUT, Reader::json)?,
        },
        drift_told: reader.has(DRIFT_TOLD),
        states: ByProduct {
            balance: reader.optional(state_name(Product::Balance), Reader::json)?,
            transactions: reader.optional(state_name(Product::Transactions), Reader::json)?,
        },
        created_at: reader.millis("c")?,
        last_updated: reader.millis("u")?,
    })
}

/// The balance of a feed entry, taken where the stored one is older. No account is made of it.
pub(crate) fn balance(
    account: AccountId,
    seq: Seq,
    at: Timestamp,
    balance: &BalanceFacts,
) -> Result<Update, StoreError> {
    Ok(Update::new(key(account))
        .set("b", json(KIND, balance)?)
        .set("q", n(seq))
        .set("ba", millis(at))
        .set("u", millis(at))
        .when(When::Exists)
        .when(When::AbsentOrBelow("q", n(seq))))
}

/// The state of a product from a feed entry, taken where the stored one is older.
pub(crate) fn state(
    account: AccountId,
    seq: Seq,
    at: Timestamp,
    change: &ProductChange,
) -> Result<Update, StoreError> {
    let state = ProductState {
        availability: change.availability,
        class: change.class,
        since: at,
    };
    let (name, of) = (state_name(change.product), state_seq_name(change.product));
    Ok(Update::new(key(account))
        .set(name, json(KIND, &state)?)
        .set(of, n(seq))
        .when(When::Exists)
        .when(When::AbsentOrBelow(of, n(seq))))
}

/// Whether a drift is told of, from a feed entry, taken where the stored one is older.
pub(crate) fn drift(account: AccountId, seq: Seq, told: bool) -> Update {
    Update::new(key(account))
        .assign(DRIFT_TOLD, told.then(|| n(1)))
        .set(DRIFT_SEQ, n(seq))
        .when(When::Exists)
        .when(When::AbsentOrBelow(DRIFT_SEQ, n(seq)))
}

impl Store {
    /// Notes how far an account's answers can be believed. One write unit; no account is made of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_checks(&self, account: AccountId, checks: &Checks) -> Result<(), StoreError> {
        let mut update = Update::new(key(account)).when(When::Exists);
        update = match &checks.doubt {
            Some(doubt) => update.set(DOUBT, json(KIND, doubt)?),
            None => update.remove(DOUBT),
        };
        update = match &checks.tie_out {
            Some(tie_out) => update.set(TIE_OUT, json(KIND, tie_out)?),
            None => update.remove(TIE_OUT),
        };
        self.update(update).await.map(drop)
    }

    /// An account.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        let item = self.get(key(account), Consistency::Eventual).await?;
        item.as_ref().map(read).transpose()
    }

    /// The accounts of a consent, in its order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn accounts_of(
        &self,
        consent: &Consent,
        consistency: Consistency,
    ) -> Result<Vec<Account>, StoreError> {
        let ids: Vec<AccountId> = consent.accounts.iter().map(|account| account.id).collect();
        self.accounts(&ids, consistency).await
    }

    /// The accounts of these ids that exist, in the order asked for. No id may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn accounts(
        &self,
        ids: &[AccountId],
        consistency: Consistency,
    ) -> Result<Vec<Account>, StoreError> {
        let keys = ids.iter().copied().map(key).collect();
        let items = self.batch_get(keys, consistency).await?;
        let mut accounts = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        accounts.sort_by_key(|account| ids.iter().position(|id| *id == account.id));
        Ok(accounts)
    }
}
