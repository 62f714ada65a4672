//! The answers' JSON, in the words of either version of the standard.

use jiff::{Timestamp, tz::Offset};
use okra_core::{
    bank::Standard,
    model::{BookingStatus, Direction},
    money::Currency,
};
use serde::{Serialize, Serializer};

use crate::{
    account::{Account, Kind, Listed},
    bank::{direction, magnitude, timestamp},
    movement::{Second, Standing},
};

/// Who issued the codes of `ProprietaryBankTransactionCode`.
const ISSUER: &str = "SandboxBank";

/// Where a word of the standard differs between its versions.
trait Words {
    fn pick<T>(self, v3: T, v4: T) -> T;
}

impl Words for Standard {
    fn pick<T>(self, v3: T, v4: T) -> T {
        match self {
            Self::Obie31 => v3,
            Self::Obie40 => v4,
        }
    }
}

/// What every answer looks like from outside.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer<'a, D> {
    pub(super) data: D,
    pub(super) links: Links<'a>,
    pub(super) meta: Meta,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Links<'a> {
    #[serde(rename = "Self")]
    pub(super) this: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<String>,
}

impl<'a> Links<'a> {
    /// Of an answer on one page.
    pub(super) const fn only(this: &'a str) -> Self {
        Self {
            this,
            first: None,
            prev: None,
            next: None,
            last: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Meta {
    pub(super) total_pages: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_available_date_time: Option<Iso>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_available_date_time: Option<Iso>,
}

impl Meta {
    /// Of an answer on one page.
    pub(super) const ONE_PAGE: Self = Self {
        total_pages: 1,
        first_available_date_time: None,
        last_available_date_time: None,
    };
}

/// An instant with its offset, as the standard demands: `2017-04-05T10:43:07+00:00`. An answer has
/// hundreds of these, so they are not formatted by a pattern.
pub(super) struct Iso(Timestamp);

impl Iso {
    pub(super) fn new(at: Second) -> Self {
        Self(timestamp(at))
    }
}

impl Serialize for Iso {
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
struct Amount {
    amount: String,
    currency: Currency,
}

impl Amount {
    fn of(minor: i64, currency: Currency) -> Self {
        Self {
            amount: magnitude(minor, currency),
            currency,
        }
    }
}

const fn indicator(minor: i64) -> &'static str {
    match direction(minor) {
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
    status_update_date_time: Iso,
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
    account: [Identification<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Identification<'a> {
    scheme_name: &'static str,
    identification: &'a str,
    name: &'a str,
}

impl<'a> AccountShape<'a> {
    pub(super) fn of(account: &'a Account, standard: Standard) -> Self {
        let facts = &account.facts;
        let kind = match facts.kind {
            Kind::Current => standard.pick("CurrentAccount", "CACC"),
            Kind::Savings => standard.pick("Savings", "SVGS"),
        };
        let only = |version, word| (standard == version).then_some(word);
        Self {
            account_id: &facts.id,
            status: "Enabled",
            status_update_date_time: Iso::new(account.created()),
            currency: facts.currency,
            account_type: only(Standard::Obie31, "Personal"),
            account_sub_type: only(Standard::Obie31, kind),
            account_category: only(Standard::Obie40, "Personal"),
            account_type_code: only(Standard::Obie40, kind),
            nickname: &facts.name,
            account: [Identification {
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
    date_time: Iso,
    amount: Amount,
}

const fn booked_type(standard: Standard) -> &'static str {
    match standard {
        Standard::Obie31 => "InterimBooked",
        Standard::Obie40 => "ITBD",
    }
}

impl<'a> BalanceList<'a> {
    /// The available balance counts pending rows, the booked one does not. Their time is that of the
    /// last change, so that nothing changes while nothing changes.
    pub(super) fn of(account: &'a Account, standing: &Standing, standard: Standard) -> Self {
        let balance = |r#type, minor| BalanceShape {
            account_id: &account.facts.id,
            credit_debit_indicator: indicator(minor),
            r#type,
            date_time: Iso::new(standing.changed),
            amount: Amount::of(minor, account.facts.currency),
        };
        Self {
            balance: [
                balance(
                    standard.pick("InterimAvailable", "ITAV"),
                    standing.booked + standing.pending,
                ),
                balance(booked_type(standard), standing.booked),
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
    booking_date_time: Iso,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_date_time: Option<Iso>,
    #[serde(skip_serializing_if = "str::is_empty")]
    transaction_information: &'a str,
    amount: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    proprietary_bank_transaction_code: Option<Code<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<BalanceAfter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_details: Option<MerchantDetails>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Code<'a> {
    code: &'a str,
    issuer: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BalanceAfter {
    credit_debit_indicator: &'static str,
    r#type: &'static str,
    amount: Amount,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MerchantDetails {
    merchant_name: &'static str,
    merchant_category_code: &'static str,
}

impl<'a> TransactionShape<'a> {
    pub(super) fn of(row: &'a Listed, account: &'a Account, standard: Standard) -> Self {
        let facts = &account.facts;
        let (movement, stage) = (&row.movement, &row.stage);
        let booked = row.status == BookingStatus::Booked;
        let (status, mutability) = if booked {
            (standard.pick("Booked", "BOOK"), "Immutable")
        } else {
            (standard.pick("Pending", "PDNG"), "Mutable")
        };
        Self {
            account_id: &facts.id,
            transaction_id: stage.id.as_deref(),
            credit_debit_indicator: indicator(stage.minor),
            status,
            transaction_mutability: mutability,
            booking_date_time: Iso::new(stage.dated),
            value_date_time: booked.then(|| Iso::new(stage.dated)),
            transaction_information: &movement.text,
            amount: Amount::of(stage.minor, facts.currency),
            proprietary_bank_transaction_code: (!movement.code.is_empty()).then(|| Code {
                code: &movement.code,
                issuer: ISSUER,
            }),
            balance: movement.balance_after.map(|minor| BalanceAfter {
                credit_debit_indicator: indicator(minor),
                r#type: booked_type(standard),
                amount: Amount::of(minor, facts.currency),
            }),
            merchant_details: movement.merchant.map(|merchant| MerchantDetails {
                merchant_name: merchant.name,
                merchant_category_code: merchant.category,
            }),
        }
    }
}
