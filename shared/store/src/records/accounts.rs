//! Accounts with their balances.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq},
        snapshot::{AccountFacts, BalanceFacts, ByProduct, Product},
    },
    sync::{
        drift::TieOut,
        pending_deletions::PendingDeletions,
        state::{ProductChange, ProductState},
    },
};

use crate::{
    Consent, Consistency, Store, StoreError,
    records::customers,
    table::{
        expression::{Condition, ItemUpdate},
        item::{
            Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, json_value, millis_value,
            number_value, string_value,
        },
    },
};

/// Accounts of one record at most.
pub const MAX_ACCOUNTS_PER_RECORD: usize = 25;

const KIND: &str = "account";
const PENDING_DELETIONS_ATTRIBUTE: &str = "dt";
const TIE_OUT_ATTRIBUTE: &str = "to";
/// There while a drift is told of, and the feed entry that told of it or of its end.
const DRIFT_REPORTED_ATTRIBUTE: &str = "dr";
const DRIFT_SEQ_ATTRIBUTE: &str = "drq";

/// What is known of how far an account's answers can be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChecks {
    /// What its last answer lacked.
    pub pending_deletions: Option<PendingDeletions>,
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
    pub checks: AccountChecks,
    /// A drift was told, and not its end.
    pub is_drift_reported: bool,
    /// What is recorded of each product; one that has nothing is available.
    pub product_states: ByProduct<ProductState>,
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
pub(crate) const ACCOUNT_PREFIX: &str = "ACC#";

/// The key of an account: beside its customer, under whose tag its id leads there.
pub(crate) fn account_key(account: AccountId) -> Key {
    Key::new(
        customers::customer_partition(account.customer_tag()),
        format!("{ACCOUNT_PREFIX}{account}"),
    )
}

const fn state_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bs",
        Product::Transactions => "ts",
    }
}

/// The attribute of the feed entry that a product's state is from.
const fn state_seq_attribute(product: Product) -> &'static str {
    match product {
        Product::Balance => "bsq",
        Product::Transactions => "tsq",
    }
}

pub(crate) fn write_account(account: &Account) -> Result<Attributes, StoreError> {
    let state = |product| {
        let state = account.product_states.get(product);
        state.map(|state| json_value(KIND, state)).transpose()
    };
    let balance = account
        .balance
        .map(|balance| json_value(KIND, &balance))
        .transpose()?;
    let doubt = account.checks.pending_deletions.as_ref();
    let doubt = doubt.map(|doubt| json_value(KIND, doubt)).transpose()?;
    let tie_out = account.checks.tie_out.as_ref();
    let tie_out = tie_out
        .map(|tie_out| json_value(KIND, tie_out))
        .transpose()?;
    Ok(ItemBuilder::new(account_key(account.id))
        .with_attribute("rec", string_value(account.record.to_string()))
        .with_attribute("app", string_value(account.app.to_string()))
        .with_attribute("cus", string_value(account.customer.to_string()))
        .with_attribute("ins", string_value(account.bank.to_string()))
        .with_attribute(JSON_ATTRIBUTE, json_value(KIND, &account.facts)?)
        .with_optional("b", balance)
        .with_attribute("q", number_value(account.balance_seq))
        .with_optional("ba", account.balance_at.map(millis_value))
        .with_optional(PENDING_DELETIONS_ATTRIBUTE, doubt)
        .with_optional(TIE_OUT_ATTRIBUTE, tie_out)
        .with_optional(state_attribute(Product::Balance), state(Product::Balance)?)
        .with_optional(
            state_attribute(Product::Transactions),
            state(Product::Transactions)?,
        )
        .with_attribute("c", millis_value(account.created_at))
        .with_attribute("u", millis_value(account.last_updated))
        .build())
}

pub(crate) fn read_account(item: &Attributes) -> Result<Account, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let id = reader.sort_key_after(ACCOUNT_PREFIX)?.parse();
    Ok(Account {
        id: id.map_err(|_| reader.corrupt_error("sk"))?,
        record: reader.read_parsed("rec")?,
        app: reader.read_parsed("app")?,
        customer: reader.read_parsed("cus")?,
        bank: reader.read_parsed("ins")?,
        facts: reader.read_json(JSON_ATTRIBUTE)?,
        balance: reader.read_optional("b", ItemReader::read_json)?,
        balance_seq: Seq(reader.read_number("q")?),
        balance_at: reader.read_optional("ba", ItemReader::read_millis)?,
        checks: AccountChecks {
            pending_deletions: reader
                .read_optional(PENDING_DELETIONS_ATTRIBUTE, ItemReader::read_json)?,
            tie_out: reader.read_optional(TIE_OUT_ATTRIBUTE, ItemReader::read_json)?,
        },
        is_drift_reported: reader.has_attribute(DRIFT_REPORTED_ATTRIBUTE),
        product_states: ByProduct {
            balance: reader
                .read_optional(state_attribute(Product::Balance), ItemReader::read_json)?,
            transactions: reader.read_optional(
                state_attribute(Product::Transactions),
                ItemReader::read_json,
            )?,
        },
        created_at: reader.read_millis("c")?,
        last_updated: reader.read_millis("u")?,
    })
}

/// The balance of a feed entry, taken where the stored one is older. No account is made of it.
pub(crate) fn balance_update(
    account: AccountId,
    seq: Seq,
    at: Timestamp,
    balance: &BalanceFacts,
) -> Result<ItemUpdate, StoreError> {
    Ok(ItemUpdate::new(account_key(account))
        .set_attribute("b", json_value(KIND, balance)?)
        .set_attribute("q", number_value(seq))
        .set_attribute("ba", millis_value(at))
        .set_attribute("u", millis_value(at))
        .with_condition(Condition::Exists)
        .with_condition(Condition::AbsentOrBelow("q", number_value(seq))))
}

/// The state of a product from a feed entry, taken where the stored one is older.
pub(crate) fn product_state_update(
    account: AccountId,
    seq: Seq,
    at: Timestamp,
    change: &ProductChange,
) -> Result<ItemUpdate, StoreError> {
    let state = ProductState {
        availability: change.availability,
        class: change.class,
        since: at,
    };
    let (name, of) = (
        state_attribute(change.product),
        state_seq_attribute(change.product),
    );
    Ok(ItemUpdate::new(account_key(account))
        .set_attribute(name, json_value(KIND, &state)?)
        .set_attribute(of, number_value(seq))
        .with_condition(Condition::Exists)
        .with_condition(Condition::AbsentOrBelow(of, number_value(seq))))
}

/// Whether a drift is told of, from a feed entry, taken where the stored one is older.
pub(crate) fn drift_update(account: AccountId, seq: Seq, is_reported: bool) -> ItemUpdate {
    ItemUpdate::new(account_key(account))
        .set_or_remove(
            DRIFT_REPORTED_ATTRIBUTE,
            is_reported.then(|| number_value(1)),
        )
        .set_attribute(DRIFT_SEQ_ATTRIBUTE, number_value(seq))
        .with_condition(Condition::Exists)
        .with_condition(Condition::AbsentOrBelow(
            DRIFT_SEQ_ATTRIBUTE,
            number_value(seq),
        ))
}

impl Store {
    /// Notes how far an account's answers can be believed. One write unit; no account is made of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_account_checks(
        &self,
        account: AccountId,
        checks: &AccountChecks,
    ) -> Result<(), StoreError> {
        let mut update = ItemUpdate::new(account_key(account)).with_condition(Condition::Exists);
        update = match &checks.pending_deletions {
            Some(doubt) => {
                update.set_attribute(PENDING_DELETIONS_ATTRIBUTE, json_value(KIND, doubt)?)
            }
            None => update.remove_attribute(PENDING_DELETIONS_ATTRIBUTE),
        };
        update = match &checks.tie_out {
            Some(tie_out) => update.set_attribute(TIE_OUT_ATTRIBUTE, json_value(KIND, tie_out)?),
            None => update.remove_attribute(TIE_OUT_ATTRIBUTE),
        };
        self.update_item(update).await.map(drop)
    }

    /// An account.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        let item = self
            .get_item(account_key(account), Consistency::Eventual)
            .await?;
        item.as_ref().map(read_account).transpose()
    }

    /// The accounts of a consent, in its order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_accounts_of_consent(
        &self,
        consent: &Consent,
        consistency: Consistency,
    ) -> Result<Vec<Account>, StoreError> {
        let ids: Vec<AccountId> = consent
            .accounts
            .iter()
            .map(|account| account.account_id)
            .collect();
        self.load_accounts(&ids, consistency).await
    }

    /// The accounts of these ids that exist, in the order asked for. No id may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_accounts(
        &self,
        ids: &[AccountId],
        consistency: Consistency,
    ) -> Result<Vec<Account>, StoreError> {
        let keys = ids.iter().copied().map(account_key).collect();
        let items = self.batch_get_items(keys, consistency).await?;
        let mut accounts = items
            .iter()
            .map(read_account)
            .collect::<Result<Vec<_>, _>>()?;
        accounts.sort_by_key(|account| ids.iter().position(|id| *id == account.id));
        Ok(accounts)
    }
}
