//! Accounts with their balances, the states of their products, and what is known of how consistent their responses are
//! ([`AccountChecks`]). Balance and states are a projection of the feed: each holds the seq that wrote it.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq},
        snapshot::{AccountFacts, BalanceFacts, ByProduct, Product, UnreadableRow},
    },
    sync::{
        drift::TieOut,
        pending_deletions::PendingDeletions,
        state::{ProductChange, ProductState},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Consent, Consistency, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{
            Attributes, JSON_ATTRIBUTE, json_value, millis_value, number_value, text_value,
        },
        expression::{Condition, ItemUpdate},
        item::{ItemBuilder, ItemReader},
    },
};

/// Accounts of one record at most.
pub const MAX_ACCOUNTS_PER_RECORD: usize = 25;

const KIND: &str = "account";
const RECORD_ATTRIBUTE: &str = "rec";
const APP_ATTRIBUTE: &str = "app";
const CUSTOMER_ATTRIBUTE: &str = "cus";
const BANK_ATTRIBUTE: &str = "ins";
const BALANCE_ATTRIBUTE: &str = "b";
const BALANCE_SEQ_ATTRIBUTE: &str = "q";
const BALANCE_AT_ATTRIBUTE: &str = "ba";
const CREATED_ATTRIBUTE: &str = "c";
const UPDATED_ATTRIBUTE: &str = "u";
const PENDING_DELETIONS_ATTRIBUTE: &str = "dt";
const TIE_OUT_ATTRIBUTE: &str = "to";
const UNREADABLE_ROWS_ATTRIBUTE: &str = "ur";
/// There while a drift is reported and its end is not.
const DRIFT_REPORTED_ATTRIBUTE: &str = "dr";
/// The feed entry that last reported a drift or its end.
const DRIFT_SEQ_ATTRIBUTE: &str = "drq";

/// What is known of how consistent an account's responses are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChecks {
    /// The rows that its last response lacked.
    pub pending_deletions: Option<PendingDeletions>,
    /// How its balance and its transactions agree.
    pub tie_out: Option<TieOut>,
    /// The rows of its last response that could not be read.
    pub unreadable_rows: Option<UnreadableRows>,
}

/// Characters of the first fault of rows that cannot be read, at most.
const MAX_FAULT_CHARS: usize = 160;

/// Rows of a response that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRows {
    /// How many.
    #[serde(rename = "n")]
    pub count: usize,
    /// The first of their faults: the path in the bank's response and what is wrong there.
    #[serde(rename = "f")]
    pub first_fault: String,
}

impl UnreadableRows {
    /// What is stored of these rows; `None` where there are none.
    pub fn summarise(rows: &[UnreadableRow]) -> Option<Self> {
        let first = rows.iter().min()?;
        Some(Self {
            count: rows.len(),
            first_fault: first.fault.chars().take(MAX_FAULT_CHARS).collect(),
        })
    }
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
    /// The facts that the bank stated at link time.
    pub facts: AccountFacts,
    /// Its balance; `None` before the first one was committed.
    pub balance: Option<BalanceFacts>,
    /// The feed entry that the balance is from.
    pub balance_seq: Seq,
    /// When that was committed.
    pub balance_at: Option<Timestamp>,
    /// How consistent its responses are.
    pub checks: AccountChecks,
    /// A drift was reported, and its end was not.
    pub is_drift_reported: bool,
    /// The state of each product; a product without one is available.
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

fn optional_json<T: Serialize>(value: Option<&T>) -> Result<Option<AttributeValue>, StoreError> {
    value.map(|value| json_value(KIND, value)).transpose()
}

pub(crate) fn write_account(account: &Account) -> Result<Attributes, StoreError> {
    let checks = &account.checks;
    let mut builder = ItemBuilder::new(Key::Account(account.id))
        .with_attribute(RECORD_ATTRIBUTE, text_value(account.record))
        .with_attribute(APP_ATTRIBUTE, text_value(account.app))
        .with_attribute(CUSTOMER_ATTRIBUTE, text_value(account.customer))
        .with_attribute(BANK_ATTRIBUTE, text_value(account.bank))
        .with_json(KIND, &account.facts)?
        .with_optional(BALANCE_ATTRIBUTE, optional_json(account.balance.as_ref())?)
        .with_attribute(BALANCE_SEQ_ATTRIBUTE, number_value(account.balance_seq))
        .with_optional(BALANCE_AT_ATTRIBUTE, account.balance_at.map(millis_value))
        .with_optional(
            PENDING_DELETIONS_ATTRIBUTE,
            optional_json(checks.pending_deletions.as_ref())?,
        )
        .with_optional(TIE_OUT_ATTRIBUTE, optional_json(checks.tie_out.as_ref())?)
        .with_optional(
            UNREADABLE_ROWS_ATTRIBUTE,
            optional_json(checks.unreadable_rows.as_ref())?,
        );
    for product in Product::ALL {
        let state = optional_json(account.product_states.get(product))?;
        builder = builder.with_optional(state_attribute(product), state);
    }
    Ok(builder
        .with_attribute(CREATED_ATTRIBUTE, millis_value(account.created_at))
        .with_attribute(UPDATED_ATTRIBUTE, millis_value(account.last_updated))
        .build())
}

pub(crate) fn read_account(item: &Attributes) -> Result<Account, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(Account {
        id: reader.parse_sort_key_after(key::ACCOUNT_PREFIX)?,
        record: reader.read_parsed(RECORD_ATTRIBUTE)?,
        app: reader.read_parsed(APP_ATTRIBUTE)?,
        customer: reader.read_parsed(CUSTOMER_ATTRIBUTE)?,
        bank: reader.read_parsed(BANK_ATTRIBUTE)?,
        facts: reader.read_json(JSON_ATTRIBUTE)?,
        balance: reader.read_optional(BALANCE_ATTRIBUTE, ItemReader::read_json)?,
        balance_seq: Seq(reader.read_number(BALANCE_SEQ_ATTRIBUTE)?),
        balance_at: reader.read_optional(BALANCE_AT_ATTRIBUTE, ItemReader::read_millis)?,
        checks: AccountChecks {
            pending_deletions: reader
                .read_optional(PENDING_DELETIONS_ATTRIBUTE, ItemReader::read_json)?,
            tie_out: reader.read_optional(TIE_OUT_ATTRIBUTE, ItemReader::read_json)?,
            unreadable_rows: reader
                .read_optional(UNREADABLE_ROWS_ATTRIBUTE, ItemReader::read_json)?,
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
        created_at: reader.read_millis(CREATED_ATTRIBUTE)?,
        last_updated: reader.read_millis(UPDATED_ATTRIBUTE)?,
    })
}

/// The balance of a feed entry, written where the stored one is older. It creates no account.
pub(crate) fn balance_update(
    account: AccountId,
    seq: Seq,
    at: Timestamp,
    balance: &BalanceFacts,
) -> Result<ItemUpdate, StoreError> {
    Ok(ItemUpdate::new(Key::Account(account))
        .set_attribute(BALANCE_ATTRIBUTE, json_value(KIND, balance)?)
        .set_attribute(BALANCE_SEQ_ATTRIBUTE, number_value(seq))
        .set_attribute(BALANCE_AT_ATTRIBUTE, millis_value(at))
        .set_attribute(UPDATED_ATTRIBUTE, millis_value(at))
        .with_condition(Condition::Exists)
        .with_condition(Condition::AbsentOrBelow(
            BALANCE_SEQ_ATTRIBUTE,
            number_value(seq),
        )))
}

/// The state of a product from a feed entry, written where the stored one is older.
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
    let seq_attribute = state_seq_attribute(change.product);
    Ok(ItemUpdate::new(Key::Account(account))
        .set_attribute(state_attribute(change.product), json_value(KIND, &state)?)
        .set_attribute(seq_attribute, number_value(seq))
        .with_condition(Condition::Exists)
        .with_condition(Condition::AbsentOrBelow(seq_attribute, number_value(seq))))
}

/// Whether a drift is reported, from a feed entry, written where the stored state is older.
pub(crate) fn drift_update(account: AccountId, seq: Seq, is_reported: bool) -> ItemUpdate {
    ItemUpdate::new(Key::Account(account))
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
    /// Stores how consistent an account's responses are. One write unit; it creates no account.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_account_checks(
        &self,
        account: AccountId,
        checks: &AccountChecks,
    ) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::Account(account))
            .set_or_remove(
                PENDING_DELETIONS_ATTRIBUTE,
                optional_json(checks.pending_deletions.as_ref())?,
            )
            .set_or_remove(TIE_OUT_ATTRIBUTE, optional_json(checks.tie_out.as_ref())?)
            .set_or_remove(
                UNREADABLE_ROWS_ATTRIBUTE,
                optional_json(checks.unreadable_rows.as_ref())?,
            )
            .with_condition(Condition::Exists);
        self.update_item(update).await.map(drop)
    }

    /// An account; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        let item = self
            .get_item(Key::Account(account), Consistency::Eventual)
            .await?;
        item.as_ref().map(read_account).transpose()
    }

    /// The accounts that a consent opens and that exist, in its order.
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

    /// The accounts of these ids that exist, in the order of the ids. No id may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_accounts(
        &self,
        ids: &[AccountId],
        consistency: Consistency,
    ) -> Result<Vec<Account>, StoreError> {
        let keys = ids.iter().copied().map(Key::Account);
        let items = self.batch_get_items(keys, consistency).await?;
        let mut accounts = items
            .iter()
            .map(read_account)
            .collect::<Result<Vec<_>, _>>()?;
        accounts.sort_by_key(|account| ids.iter().position(|id| *id == account.id));
        Ok(accounts)
    }
}
