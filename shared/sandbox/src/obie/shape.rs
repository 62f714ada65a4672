//! The answers' JSON, in the words of either version of the standard.

use jiff::{Timestamp, tz::Offset};
use okra_core::model::{
    bank::BankStandard,
    money::Currency,
    snapshot::{BookingStatus, Direction},
};
use serde::{Serialize, Serializer};

use crate::{
    account::{ListedRow, SandboxAccount, SandboxAccountKind},
    bank::{direction_from_sign, format_magnitude, to_timestamp},
    movement::{AccountBalance, UnixSeconds},
};

/// Who issued the codes of `ProprietaryBankTransactionCode`.
const ISSUER: &str = "SandboxBank";

/// Where a word of the standard differs between its versions.
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

/// What every answer looks like from outside.
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
    /// Of an answer on one page.
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
    /// Of an answer on one page.
    pub(super) const ONE_PAGE: Self = Self {
        total_pages: 1,
        first_available_date_time: None,
        last_available_date_time: None,
    };
}

/// An instant with its offset, as the standard demands: `2017-04-05T10:43:07+00:00`. An answer has
/// hundreds of these, so they are not formatted by a pattern.
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
        let mut put = |from: usize, number: i16| {
            let mut rest = number.unsigned_abs();
            let digits = if from == 0 { 4 } else { 2 };
            for digit in text[from..from + digits].iter_mut().rev() {
                *digit += u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        };
        put(0, at.year());
        for (from, number) in [
            (5, at.month()),
            (8, at.day()),
            (11, at.hour()),
            (14, at.minute()),
            (17, at.second()),
        ] {
            put(from, number.into());
        }
        serializer.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
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
        let facts = &account.profile;
        let kind = match facts.kind {
            SandboxAccountKind::Current => standard.code_for_version("CurrentAccount", "CACC"),
            SandboxAccountKind::Savings => standard.code_for_version("Savings", "SVGS"),
        };
        let only = |version, word| (standard == version).then_some(word);
        Self {
            account_id: &facts.id,
            status: "Enabled",
            status_update_date_time: IsoTimestamp::new(account.created_at()),
            currency: facts.currency,
            account_type: only(BankStandard::Obie31, "Personal"),
            account_sub_type: only(BankStandard::Obie31, kind),
            account_category: only(BankStandard::Obie40, "Personal"),
            account_type_code: only(BankStandard::Obie40, kind),
            nickname: &facts.name,
            account: [SandboxIdentification {
                scheme_name: "UK.OBIE.BBAN",
                identification: &facts.number,
                name: &facts.name,
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
    /// The available balance counts pending rows, the booked one does not. Their time is that of the
    /// last change, so that nothing changes while nothing changes.
    pub(super) fn from_balance(
        account: &'a SandboxAccount,
        totals: &AccountBalance,
        standard: BankStandard,
    ) -> Self {
        let balance = |r#type, minor| BalanceShape {
            account_id: &account.profile.id,
            credit_debit_indicator: credit_debit_indicator(minor),
            r#type,
            date_time: IsoTimestamp::new(totals.changed_at),
            amount: SandboxAmount::from_minor(minor, account.profile.currency),
        };
        Self {
            balance: [
                balance(
                    standard.code_for_version("InterimAvailable", "ITAV"),
                    totals.booked + totals.pending,
                ),
                balance(booked_type(standard), totals.booked),
            ],
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
        let facts = &account.profile;
        let (movement, stage) = (&row.movement, &row.stage);
        let booked = row.status == BookingStatus::Booked;
        let (status, mutability) = if booked {
            (standard.code_for_version("Booked", "BOOK"), "Immutable")
        } else {
            (standard.code_for_version("Pending", "PDNG"), "Mutable")
        };
        Self {
            account_id: &facts.id,
            transaction_id: stage.transaction_id.as_deref(),
            credit_debit_indicator: credit_debit_indicator(stage.amount_minor),
            status,
            transaction_mutability: mutability,
            booking_date_time: IsoTimestamp::new(stage.booking_time),
            value_date_time: booked.then(|| IsoTimestamp::new(stage.booking_time)),
            transaction_information: &movement.text,
            amount: SandboxAmount::from_minor(stage.amount_minor, facts.currency),
            proprietary_bank_transaction_code: (!movement.code.is_empty()).then(|| {
                SandboxTransactionCode {
                    code: &movement.code,
                    issuer: ISSUER,
                }
            }),
            balance: movement.balance_after.map(|minor| BalanceAfter {
                credit_debit_indicator: credit_debit_indicator(minor),
                r#type: booked_type(standard),
                amount: SandboxAmount::from_minor(minor, facts.currency),
            }),
            merchant_details: movement.merchant.map(|merchant| SandboxMerchantDetails {
                merchant_name: merchant.name,
                merchant_category_code: merchant.category_code,
            }),
        }
    }
}
