//! Logins, accounts and rows as callers see them: [`LoginView`], [`SandboxAccountView`], [`RowView`].
//!
//! Rule: an account number never reaches a `Debug` text.

use std::fmt;

use jiff::Timestamp;
use okra_core::model::{
    bank::BankStandard,
    money::{Currency, Money},
    snapshot::{BookingStatus, Direction},
};
use serde::Serialize;

use super::login::BankLogin;
use crate::{
    account::{ListedRow, SandboxAccount},
    command::LoginId,
    fault::{ConsentState, Faults},
    rows::movement::{RowKey, UnixSeconds, direction_from_sign, format_magnitude, to_timestamp},
};

/// A login as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct LoginView {
    /// The login.
    pub id: LoginId,
    /// The holder.
    pub name: String,
    /// The standard that its bank is configured with.
    pub standard: BankStandard,
    /// The state of its last grant.
    pub consent: ConsentState,
    /// The faults set for it.
    pub faults: Faults,
    /// The accounts that exist by now.
    pub accounts: Vec<SandboxAccountView>,
}

impl LoginView {
    pub(super) fn of_login(login: &BankLogin, now: UnixSeconds) -> Self {
        let mut state = login.lock_state();
        Self {
            id: login.id,
            name: login.name.clone(),
            standard: login.standard,
            consent: state.grants.last().copied().unwrap_or_default(),
            faults: state.faults.clone(),
            accounts: state
                .accounts
                .iter_mut()
                .filter(|account| account.is_open(now))
                .map(|account| SandboxAccountView::of_account(account, now))
                .collect(),
        }
    }
}

/// An account as it is now. Its `Debug` leaves out the number.
#[derive(Clone, Serialize)]
pub struct SandboxAccountView {
    /// `AccountId` in the bank's URLs.
    pub account_id: String,
    /// The holder.
    pub name: String,
    /// The account number.
    pub number: String,
    /// `CURRENT` or `SAVINGS`.
    pub kind: &'static str,
    /// Its currency.
    pub currency: Currency,
    /// Booked balance in major units, signed.
    pub ledger: String,
    /// Booked and pending, in major units, signed.
    pub available: String,
}

impl SandboxAccountView {
    fn of_account(account: &mut SandboxAccount, now: UnixSeconds) -> Self {
        let balance = account.balance_at(now);
        let profile = &account.profile;
        Self {
            account_id: profile.id.clone(),
            name: profile.name.clone(),
            number: profile.number.clone(),
            kind: profile.kind.as_str(),
            currency: profile.currency,
            ledger: Money::new(balance.booked, profile.currency).to_decimal(),
            available: Money::new(balance.booked + balance.pending, profile.currency).to_decimal(),
        }
    }
}

impl fmt::Debug for SandboxAccountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxAccountView")
            .field("account_id", &self.account_id)
            .field("kind", &self.kind)
            .field("currency", &self.currency)
            .finish_non_exhaustive()
    }
}

/// A row as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowView {
    /// Its name within the sandbox.
    pub row: RowKey,
    /// `TransactionId`, which may be blank, absent or that of another row.
    pub transaction_id: Option<String>,
    /// Pending or booked.
    #[serde(with = "crate::command::status")]
    pub status: BookingStatus,
    /// Into or out of the account.
    #[serde(with = "crate::command::direction")]
    pub direction: Direction,
    /// In major units, not negative.
    pub amount: String,
    /// `BookingDateTime`.
    #[serde(rename = "dated")]
    pub booking_time: Timestamp,
    /// `TransactionInformation`.
    pub text: String,
}

impl RowView {
    pub(super) fn from_listed_row(row: ListedRow, currency: Currency) -> Self {
        Self {
            row: row.movement.key,
            transaction_id: row.stage.transaction_id.as_deref().map(str::to_owned),
            status: row.status,
            direction: direction_from_sign(row.stage.amount_minor),
            amount: format_magnitude(row.stage.amount_minor, currency),
            booking_time: to_timestamp(row.stage.booking_time),
            text: row.movement.text.into_owned(),
        }
    }
}
