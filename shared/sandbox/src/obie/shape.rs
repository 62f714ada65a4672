//! The responses' JSON in either version of the standard: [`SandboxEnvelope`] around [`AccountList`], [`BalanceList`]
//! or [`TransactionList`].

use jiff::{Timestamp, tz::Offset};
use okra_core::model::{
    bank::BankStandard,
    money::Currency,
    snapshot::{BookingStatus, Direction},
};
use serde::{Serialize, Serializer, ser::Error as _};

use crate::{
    account::{ListedRow, SandboxAccount, SandboxAccountKind},
    rows::movement::{
        AccountBalance, UnixSeconds, direction_from_sign, format_magnitude, to_timestamp,
    },
};

/// Who issued the codes of `ProprietaryBankTransactionCode`.
const ISSUER: &str = "SandboxBank";

/// Chooses between the two versions of the standard.
trait VersionedCode {
    fn code_for_version<T>(self, v3: T, v4: T) -> T;
}

impl VersionedCode for BankStandard {
    fn code_for_version<T>(self, v3: T, v4: T) -> T {
        match self {
            Self::Obie31 => v3,
            Self::Obie40 => v4,
        }
    }
}

/// What every response is wrapped in.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SandboxEnvelope<'a, D> {
    pub(super) data: D,
    pub(super) links: SandboxLinks<'a>,
    pub(super) meta: SandboxMeta,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SandboxLinks<'a> {
    #[serde(rename = "Self")]
    pub(super) self_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<String>,
}

impl<'a> SandboxLinks<'a> {
    /// For a response of one page.
    pub(super) const fn single_page(self_url: &'a str) -> Self {
        Self {
            self_url,
            first: None,
            prev: None,
            next: None,
            last: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SandboxMeta {
    pub(super) total_pages: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_available_date_time: Option<IsoTimestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_available_date_time: Option<IsoTimestamp>,
}

impl SandboxMeta {
    /// For a response of one page.
    pub(super) const ONE_PAGE: Self = Self {
        total_pages: 1,
        first_available_date_time: None,
        last_available_date_time: None,
    };
}

/// An instant with its offset, as the standard demands: `2017-04-05T10:43:07+00:00`. A response has hundreds of these,
/// so they are not formatted by a pattern.
pub(super) struct IsoTimestamp(Timestamp);

impl IsoTimestamp {
    pub(super) fn new(at: UnixSeconds) -> Self {
        Self(to_timestamp(at))
    }
}

impl Serialize for IsoTimestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = Offset::UTC.to_datetime(self.0);
        let mut text = *b"0000-00-00T00:00:00+00:00";
        write_digits(&mut text[..4], at.year());
        for (from, number) in [
            (5, at.month()),
            (8, at.day()),
            (11, at.hour()),
            (14, at.minute()),
            (17, at.second()),
        ] {
            write_digits(&mut text[from..from + 2], number.into());
        }
        serializer.serialize_str(std::str::from_utf8(&text).map_err(S::Error::custom)?)
    }
}

/// Writes the last digits of a number, as many as `digits` has. Parts of a date are never negative: the sandbox has no
/// years before our era.
fn write_digits(digits: &mut [u8], number: i16) {
    debug_assert!(number >= 0, "{number} is negative");
    let mut rest = usize::from(number.unsigned_abs());
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[rest % 10];
        rest /= 10;
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SandboxAmount {
    amount: String,
    currency: Currency,
}

impl SandboxAmount {
    fn from_minor(minor: i64, currency: Currency) -> Self {
        Self {
            amount: format_magnitude(minor, currency),
            currency,
        }
    }
}

const fn credit_debit_indicator(minor: i64) -> &'static str {
    match direction_from_sign(minor) {
        Direction::Credit => "Credit",
        Direction::Debit => "Debit",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccountList<'a> {
    pub(super) account: Vec<AccountShape<'a>>,
}

/// `OBAccount6`. Version 4 renamed the kind and took the ISO codes for it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccountShape<'a> {
    account_id: &'a str,
    status: &'static str,
    status_update_date_time: IsoTimestamp,
    currency: Currency,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_sub_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_category: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_type_code: Option<&'static str>,
    nickname: &'a str,
    account: [SandboxIdentification<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SandboxIdentification<'a> {
    scheme_name: &'static str,
    identification: &'a str,
    name: &'a str,
}

impl<'a> AccountShape<'a> {
    pub(super) fn from_account(account: &'a SandboxAccount, standard: BankStandard) -> Self {
        let profile = &account.profile;
        let kind = match profile.kind {
            SandboxAccountKind::Current => standard.code_for_version("CurrentAccount", "CACC"),
            SandboxAccountKind::Savings => standard.code_for_version("Savings", "SVGS"),
        };
        Self {
            account_id: &profile.id,
            status: "Enabled",
            status_update_date_time: IsoTimestamp::new(account.created_at()),
            currency: profile.currency,
            account_type: standard.code_for_version(Some("Personal"), None),
            account_sub_type: standard.code_for_version(Some(kind), None),
            account_category: standard.code_for_version(None, Some("Personal")),
            account_type_code: standard.code_for_version(None, Some(kind)),
            nickname: &profile.name,
            account: [SandboxIdentification {
                scheme_name: "UK.OBIE.BBAN",
                identification: &profile.number,
                name: &profile.name,
            }],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BalanceList<'a> {
    balance: [BalanceShape<'a>; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BalanceShape<'a> {
    account_id: &'a str,
    credit_debit_indicator: &'static str,
    r#type: &'static str,
    date_time: IsoTimestamp,
    amount: SandboxAmount,
}

const fn booked_type(standard: BankStandard) -> &'static str {
    match standard {
        BankStandard::Obie31 => "InterimBooked",
        BankStandard::Obie40 => "ITBD",
    }
}

impl<'a> BalanceList<'a> {
    /// The available balance counts pending rows, the booked one does not. Their time is that of the last change, so
    /// that an unchanged account has an unchanged response.
    pub(super) fn from_balance(
        account: &'a SandboxAccount,
        totals: &AccountBalance,
        standard: BankStandard,
    ) -> Self {
        let available_type = standard.code_for_version("InterimAvailable", "ITAV");
        let available = totals.booked + totals.pending;
        let changed_at = totals.changed_at;
        Self {
            balance: [
                BalanceShape::new(account, available_type, available, changed_at),
                BalanceShape::new(account, booked_type(standard), totals.booked, changed_at),
            ],
        }
    }
}

impl<'a> BalanceShape<'a> {
    fn new(
        account: &'a SandboxAccount,
        r#type: &'static str,
        minor: i64,
        changed_at: UnixSeconds,
    ) -> Self {
        Self {
            account_id: &account.profile.id,
            credit_debit_indicator: credit_debit_indicator(minor),
            r#type,
            date_time: IsoTimestamp::new(changed_at),
            amount: SandboxAmount::from_minor(minor, account.profile.currency),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransactionList<'a> {
    pub(super) transaction: Vec<TransactionShape<'a>>,
}

/// `OBTransaction6`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransactionShape<'a> {
    account_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
    credit_debit_indicator: &'static str,
    status: &'static str,
    transaction_mutability: &'static str,
    booking_date_time: IsoTimestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_date_time: Option<IsoTimestamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    transaction_information: &'a str,
    amount: SandboxAmount,
    #[serde(skip_serializing_if = "Option::is_none")]
    proprietary_bank_transaction_code: Option<SandboxTransactionCode<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<BalanceAfter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_details: Option<SandboxMerchantDetails>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SandboxTransactionCode<'a> {
    code: &'a str,
    issuer: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BalanceAfter {
    credit_debit_indicator: &'static str,
    r#type: &'static str,
    amount: SandboxAmount,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SandboxMerchantDetails {
    merchant_name: &'static str,
    merchant_category_code: &'static str,
}

impl<'a> TransactionShape<'a> {
    pub(super) fn from_listed_row(
        row: &'a ListedRow,
        account: &'a SandboxAccount,
        standard: BankStandard,
    ) -> Self {
        let profile = &account.profile;
        let (movement, stage) = (&row.movement, &row.stage);
        let is_booked = row.status == BookingStatus::Booked;
        let (status, mutability) = if is_booked {
            (standard.code_for_version("Booked", "BOOK"), "Immutable")
        } else {
            (standard.code_for_version("Pending", "PDNG"), "Mutable")
        };
        Self {
            account_id: &profile.id,
            transaction_id: stage.transaction_id.as_deref(),
            credit_debit_indicator: credit_debit_indicator(stage.amount_minor),
            status,
            transaction_mutability: mutability,
            booking_date_time: IsoTimestamp::new(stage.booking_time),
            value_date_time: is_booked.then(|| IsoTimestamp::new(stage.booking_time)),
            transaction_information: &movement.text,
            amount: SandboxAmount::from_minor(stage.amount_minor, profile.currency),
            proprietary_bank_transaction_code: (!movement.code.is_empty()).then(|| {
                SandboxTransactionCode {
                    code: &movement.code,
                    issuer: ISSUER,
                }
            }),
            balance: movement.balance_after.map(|minor| BalanceAfter {
                credit_debit_indicator: credit_debit_indicator(minor),
                r#type: booked_type(standard),
                amount: SandboxAmount::from_minor(minor, profile.currency),
            }),
            merchant_details: movement.merchant.map(|merchant| SandboxMerchantDetails {
                merchant_name: merchant.name,
                merchant_category_code: merchant.category_code,
            }),
        }
    }
}
