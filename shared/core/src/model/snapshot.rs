//! What a bank says, normalised. The cast: [`AccountFacts`], [`BalanceFacts`] and [`TransactionFacts`], what the bank
//! states; [`Transaction`], facts under an identity of ours; [`Snapshot`], what one refresh fetched of a record.
//!
//! The rules: what differs between two facts is a change, and nothing else is. The one-letter serde names are the stored
//! form and stay stable: a feed entry that fits into one kilobyte costs one write unit less, and most do because of
//! them.

use jiff::{Timestamp, ToSpan, civil::Date};
use serde::{Deserialize, Serialize};

use crate::model::{
    fault::BankFault,
    ids::{AccountId, TransactionId},
    money::{Currency, Money},
};

/// What is refreshed. Okra's other products, auth and accounts, come with the link.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Balances of a record's accounts.
    Balance,
    /// Transactions of a record's accounts.
    Transactions,
}

impl Product {
    /// Both products.
    pub const ALL: [Self; 2] = [Self::Balance, Self::Transactions];

    /// Okra's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Transactions => "transactions",
        }
    }
}

/// One value for each product that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByProduct<T> {
    /// The value of [`Product::Balance`].
    #[serde(
        rename = "b",
        skip_serializing_if = "Option::is_none",
        default = "none"
    )]
    pub balance: Option<T>,
    /// The value of [`Product::Transactions`].
    #[serde(
        rename = "t",
        skip_serializing_if = "Option::is_none",
        default = "none"
    )]
    pub transactions: Option<T>,
}

const fn none<T>() -> Option<T> {
    None
}

impl<T> Default for ByProduct<T> {
    fn default() -> Self {
        Self {
            balance: None,
            transactions: None,
        }
    }
}

impl<T> ByProduct<T> {
    /// The value of a product.
    pub const fn get(&self, product: Product) -> Option<&T> {
        match product {
            Product::Balance => self.balance.as_ref(),
            Product::Transactions => self.transactions.as_ref(),
        }
    }

    /// The value of a product, to be set.
    pub const fn get_mut(&mut self, product: Product) -> &mut Option<T> {
        match product {
            Product::Balance => &mut self.balance,
            Product::Transactions => &mut self.transactions,
        }
    }

    /// The products that have a value, with it.
    pub fn iter(&self) -> impl Iterator<Item = (Product, &T)> {
        Product::ALL
            .into_iter()
            .filter_map(|product| Some((product, self.get(product)?)))
    }

    /// The products that have a value.
    pub fn products(&self) -> Vec<Product> {
        self.iter().map(|(product, _)| product).collect()
    }

    /// True where no product has a value.
    pub const fn is_empty(&self) -> bool {
        self.balance.is_none() && self.transactions.is_none()
    }
}

/// Which way money went, seen from the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Into the account.
    #[serde(rename = "C")]
    Credit,
    /// Out of the account.
    #[serde(rename = "D")]
    Debit,
}

/// Whether the bank has booked a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BookingStatus {
    /// Announced, may still change its id, amount and date, or vanish.
    #[serde(rename = "P")]
    Pending,
    /// On the books.
    #[serde(rename = "B")]
    Booked,
}

/// What a bank says of one transaction, in normal form. Texts are trimmed and have no runs of white space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionFacts {
    /// The bank's own id, where it gives one that is not blank. Banks reuse, re-issue and omit it.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none", default)]
    pub bank_id: Option<String>,
    /// Pending or booked.
    #[serde(rename = "s")]
    pub status: BookingStatus,
    /// Into or out of the account.
    #[serde(rename = "d")]
    pub direction: Direction,
    /// How much; never negative.
    #[serde(rename = "a")]
    pub amount: Money,
    /// When the bank booked it or, while pending, announced it.
    #[serde(rename = "o")]
    pub booked_at: Timestamp,
    /// When it counts for interest.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none", default)]
    pub value_at: Option<Timestamp>,
    /// The bank's text.
    #[serde(rename = "x", skip_serializing_if = "String::is_empty", default)]
    pub description: String,
    /// A reference given by payer or payee.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
    /// The bank's code of the kind of transaction.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// The account's balance after this row, where the bank states it; signed.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    pub balance_after: Option<Money>,
}

impl TransactionFacts {
    /// The UTC date of `booked_at`.
    pub fn booking_date(&self) -> Date {
        utc_date(self.booked_at)
    }

    /// Names of the facts that differ in `after`: Okra's field names where it has one.
    pub fn changed_fields(&self, after: &Self) -> Vec<&'static str> {
        let Self {
            bank_id,
            status,
            direction,
            amount,
            booked_at,
            value_at,
            description,
            reference,
            code,
            balance_after,
        } = self;
        let differs = [
            ("bank_transaction_id", *bank_id != after.bank_id),
            ("pending", *status != after.status),
            ("direction", *direction != after.direction),
            ("amount", *amount != after.amount),
            ("trans_date", *booked_at != after.booked_at),
            ("cleared_date", *value_at != after.value_at),
            ("notes", *description != after.description),
            ("ref", *reference != after.reference),
            ("code", *code != after.code),
            ("balance", *balance_after != after.balance_after),
        ];
        differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }

    /// The amount with the sign it has for the account: debits are negative.
    pub const fn signed_minor(&self) -> i64 {
        match self.direction {
            Direction::Credit => self.amount.minor,
            Direction::Debit => -self.amount.minor,
        }
    }
}

/// The UTC date of an instant.
pub fn utc_date(at: Timestamp) -> Date {
    jiff::tz::Offset::UTC.to_datetime(at).date()
}

/// A transaction with the identity that it keeps from the first time it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Our id; it stays when the bank changes its own.
    #[serde(rename = "_")]
    pub id: TransactionId,
    /// What the bank says of it now.
    #[serde(flatten)]
    pub facts: TransactionFacts,
}

/// What a bank says of an account's balance; signed, negative where money is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceFacts {
    /// What can be spent, where the bank states it.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none", default)]
    pub available: Option<Money>,
    /// What is booked, where the bank states it.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    pub ledger: Option<Money>,
}

/// What a bank says of an account itself, at link time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// The bank's id of the account, used in its URLs.
    pub bank_account_id: String,
    /// The holder's or the account's name.
    pub name: String,
    /// The account number (NUBAN in Nigeria). Personal data: never logged.
    pub number: String,
    /// `SAVINGS`, `CURRENT`, ...: the bank's kind of account, in capitals.
    pub kind: String,
    /// The account's currency.
    pub currency: Currency,
}

/// A row of a response that could not be read. It is set aside, and the others count all the same (law 7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadableRow {
    /// Its booking day, where that can be read.
    pub day: Option<Date>,
    /// The bank's id of it, where that can be read.
    pub bank_id: Option<String>,
    /// Where in the response the fault is and what is wrong, never the value: `Data.Transaction[3].Status: ...`.
    pub fault: String,
}

/// Days between a row that cannot be read and what it was before, at most: while it was pending it may have had a day of
/// some days earlier.
const UNREADABLE_ROW_SLACK_DAYS: i32 = 10;

impl UnreadableRow {
    /// True where the row may be the one that was read before as `facts`: then that one is not missing.
    pub fn may_be(&self, facts: &TransactionFacts) -> bool {
        match (&self.bank_id, &facts.bank_id, self.day) {
            (Some(id), Some(before), _) if id == before => true,
            (_, _, None) => true,
            (_, _, Some(day)) => {
                let before = facts.booking_date();
                before <= day.saturating_add(UNREADABLE_ROW_SLACK_DAYS.days())
                    && day <= before.saturating_add(UNREADABLE_ROW_SLACK_DAYS.days())
            }
        }
    }
}

/// A bank's response for the transactions of one account: every row booked or pending from `from` (inclusive) on. A
/// response that could not be read to its end is a fault, not a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionWindow {
    /// The first date that the bank was asked for.
    pub from: Date,
    /// The rows in the bank's order.
    pub rows: Vec<TransactionFacts>,
    /// The rows that could not be read.
    pub unreadable: Vec<UnreadableRow>,
}

impl TransactionWindow {
    /// A response of which every row could be read.
    pub const fn new(from: Date, rows: Vec<TransactionFacts>) -> Self {
        Self {
            from,
            rows,
            unreadable: Vec::new(),
        }
    }
}

/// A bank's responses for one account. A product that was not fetched is `None`; one that failed has its fault, and the
/// others are not affected.
#[derive(Clone, Debug)]
pub struct AccountSnapshot {
    /// The account.
    pub account: AccountId,
    /// Its balance.
    pub balance: Option<Result<BalanceFacts, BankFault>>,
    /// Its transactions.
    pub transactions: Option<Result<TransactionWindow, BankFault>>,
}

/// What one refresh fetched of a record, normalised.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// One for each account of the record, in the order of the record's accounts.
    pub accounts: Vec<AccountSnapshot>,
}

/// Which of Okra's environments an app's key belongs to.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Environment {
    /// Real banks.
    #[serde(rename = "production")]
    Production,
    /// The sandbox bank.
    #[serde(rename = "production-sandbox")]
    Sandbox,
}

impl Environment {
    /// Okra's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "production-sandbox",
        }
    }
}
