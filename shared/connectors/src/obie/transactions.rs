//! `/accounts/{AccountId}/transactions`: [`parse_transactions`] brings a page of rows into normal form while it reads
//! them, so that the bank's form of one row is gone before the next is read.

use std::fmt;

use okra_core::{
    model::{
        money::MoneyError,
        snapshot::{TransactionFacts, UnreadableRow},
    },
    sync::digest::{normalise_optional_text, normalise_text},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{
    date_time::BankDateTime,
    dialect::{StatusMeaning, status_meaning},
    response::{
        BorrowedText, JsonObject, MalformedResponse, ObieAmount, ObieIndicator, ObiePage,
        is_empty_response, optional_str, parse_envelope, parse_object,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieTransactionList {
    /// Absent where there are none.
    #[serde(default)]
    transaction: Option<ObieTransactionRows>,
}

/// The included rows in normal form; `None` where the values of one make no sense, which ends the reading.
struct ObieTransactionRows(Option<Vec<TransactionFacts>>);

/// The field of a well-formed row whose value makes no sense.
enum InvalidRowKind {
    Status,
    Amount(MoneyError),
}

impl InvalidRowKind {
    /// The fault of the row at this path.
    fn into_malformed(self, path: &str) -> MalformedResponse {
        match self {
            Self::Status => MalformedResponse::new(
                format!("{path}.Status"),
                "the standard does not have this status",
            ),
            Self::Amount(error) => {
                MalformedResponse::from_money_error(&format!("{path}.Amount"), &error)
            }
        }
    }
}

/// Rows that memory is reserved for before the first is read.
const EXPECTED_ROWS_PER_PAGE: usize = 128;

impl<'de> Deserialize<'de> for ObieTransactionRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowsVisitor;

        impl<'de> Visitor<'de> for RowsVisitor {
            type Value = ObieTransactionRows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of transactions")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<ObieTransactionRows, A::Error> {
                let mut rows = Vec::with_capacity(EXPECTED_ROWS_PER_PAGE);
                while let Some(JsonObject(row)) =
                    list.next_element::<JsonObject<ObieTransaction<'de>>>()?
                {
                    match row.to_facts() {
                        Ok(facts) => rows.extend(facts),
                        Err(_) => {
                            while list.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(ObieTransactionRows(None));
                        }
                    }
                }
                Ok(ObieTransactionRows(Some(rows)))
            }
        }

        deserializer.deserialize_seq(RowsVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieTransaction<'a> {
    #[serde(borrow, default)]
    transaction_id: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    transaction_reference: Option<BorrowedText<'a>>,
    #[serde(borrow)]
    amount: ObieAmount<'a>,
    credit_debit_indicator: ObieIndicator,
    #[serde(borrow)]
    status: BorrowedText<'a>,
    booking_date_time: BankDateTime,
    #[serde(borrow, default)]
    value_date_time: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    transaction_information: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    bank_transaction_code: Option<ObieBankCode<'a>>,
    #[serde(borrow, default)]
    proprietary_bank_transaction_code: Option<ObieProprietaryCode<'a>>,
    #[serde(borrow, default)]
    balance: Option<ObieRowBalance<'a>>,
    #[serde(borrow, default)]
    merchant_details: Option<ObieMerchant<'a>>,
    #[serde(borrow, default)]
    creditor_account: Option<ObieParty<'a>>,
    #[serde(borrow, default)]
    debtor_account: Option<ObieParty<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieProprietaryCode<'a> {
    #[serde(borrow, default)]
    code: Option<BorrowedText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieBankCode<'a> {
    #[serde(borrow, default)]
    code: Option<BorrowedText<'a>>,
    #[serde(borrow, default)]
    sub_code: Option<BorrowedText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieMerchant<'a> {
    #[serde(borrow, default)]
    merchant_name: Option<BorrowedText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieParty<'a> {
    #[serde(borrow, default)]
    name: Option<BorrowedText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieRowBalance<'a> {
    #[serde(borrow)]
    amount: ObieAmount<'a>,
    credit_debit_indicator: ObieIndicator,
}

impl ObieTransaction<'_> {
    /// The row in normal form; `None` where its status excludes it, whatever else it says.
    fn to_facts(&self) -> Result<Option<TransactionFacts>, InvalidRowKind> {
        let status = match status_meaning(self.status.as_str()).ok_or(InvalidRowKind::Status)? {
            StatusMeaning::Included(status) => status,
            StatusMeaning::Excluded => return Ok(None),
        };
        // Optional facts that cannot be read are left out: the row counts without them.
        let balance_after = self.balance.as_ref().and_then(|balance| {
            let amount = &balance.amount;
            amount.parse_signed(balance.credit_debit_indicator).ok()
        });
        Ok(Some(TransactionFacts {
            bank_id: normalise_optional_text(optional_str(&self.transaction_id)),
            status,
            direction: self.credit_debit_indicator.into(),
            amount: self
                .amount
                .parse_unsigned()
                .map_err(InvalidRowKind::Amount)?,
            booked_at: self.booking_date_time.within_day(),
            value_at: optional_str(&self.value_date_time)
                .and_then(BankDateTime::parse)
                .map(BankDateTime::within_day),
            description: self.choose_description(),
            reference: normalise_optional_text(optional_str(&self.transaction_reference)),
            code: self.choose_code(),
            balance_after,
        }))
    }

    /// The bank's text; without one the merchant's name, or else that of the other party.
    fn choose_description(&self) -> String {
        let merchant = self.merchant_details.as_ref();
        let other = match self.credit_debit_indicator {
            ObieIndicator::Credit => &self.debtor_account,
            ObieIndicator::Debit => &self.creditor_account,
        };
        normalise_optional_text(optional_str(&self.transaction_information))
            .or_else(|| {
                normalise_optional_text(merchant.and_then(|it| optional_str(&it.merchant_name)))
            })
            .or_else(|| {
                normalise_optional_text(other.as_ref().and_then(|it| optional_str(&it.name)))
            })
            .unwrap_or_default()
    }

    /// The bank's own code, which is the most specific; else the ISO code as `Code/SubCode`.
    fn choose_code(&self) -> Option<String> {
        let own = self.proprietary_bank_transaction_code.as_ref();
        normalise_optional_text(own.and_then(|it| optional_str(&it.code))).or_else(|| {
            let iso = self.bank_transaction_code.as_ref()?;
            let mut code = normalise_optional_text(optional_str(&iso.code))?;
            if let Some(sub_code) = optional_str(&iso.sub_code)
                .map(normalise_text)
                .filter(|it| !it.is_empty())
            {
                code.push('/');
                code.push_str(&sub_code);
            }
            Some(code)
        })
    }
}

/// Reads a page of transactions, of either version. Rows that were rejected, lie in the future or only inform are
/// left out. A row that cannot be read is set aside.
///
/// # Errors
///
/// [`MalformedResponse`] with the path of the first fault, where the envelope cannot be read.
pub fn parse_transactions(body: &[u8]) -> Result<ObiePage<TransactionFacts>, MalformedResponse> {
    if is_empty_response(body) {
        return Ok(ObiePage::from_items(Vec::new(), None));
    }
    let parsed = parse_envelope::<ObieTransactionList>(body);
    match parsed {
        Ok((ObieTransactionList { transaction: None }, next)) => {
            Ok(ObiePage::from_items(Vec::new(), next))
        }
        Ok((
            ObieTransactionList {
                transaction: Some(ObieTransactionRows(Some(rows))),
            },
            next,
        )) => Ok(ObiePage::from_items(rows, next)),
        // Read again, slower, row by row.
        Ok(_) => parse_rows_one_by_one(body),
        Err(malformed) => parse_rows_one_by_one(body).map_err(|_| malformed),
    }
}

/// The rows as they stand in the response, each to be read by itself.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieRawTransactionList<'a> {
    #[serde(borrow, default)]
    transaction: Option<Vec<&'a RawValue>>,
}

/// What identifies a row that cannot be read, as far as that can.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieRowIdentity {
    #[serde(default)]
    transaction_id: Option<Value>,
    #[serde(default)]
    booking_date_time: Option<Value>,
}

fn parse_rows_one_by_one(body: &[u8]) -> Result<ObiePage<TransactionFacts>, MalformedResponse> {
    let (data, next) = parse_envelope::<ObieRawTransactionList<'_>>(body)?;
    let (mut items, mut unreadable) = (Vec::new(), Vec::new());
    for (row_index, raw) in data.transaction.unwrap_or_default().iter().enumerate() {
        match parse_row(raw, &format!("Data.Transaction[{row_index}]")) {
            Ok(facts) => items.extend(facts),
            Err(malformed) => unreadable.push(describe_unreadable_row(raw, &malformed)),
        }
    }
    Ok(ObiePage {
        items,
        unreadable,
        next,
    })
}

/// Reads one row. Where only optional fields are of a wrong type, the row counts without all of them.
fn parse_row(raw: &RawValue, path: &str) -> Result<Option<TransactionFacts>, MalformedResponse> {
    let malformed = match parse_object::<ObieTransaction<'_>>(raw.get(), path) {
        Ok(row) => return row.to_facts().map_err(|kind| kind.into_malformed(path)),
        Err(malformed) => malformed,
    };
    let Ok(Value::Object(mut fields)) = serde_json::from_str(raw.get()) else {
        return Err(malformed);
    };
    fields.retain(|name, value| {
        REQUIRED_FIELDS.contains(&name.as_str())
            || (OPTIONAL_TEXTS.contains(&name.as_str()) && value.is_string())
    });
    let required = Value::Object(fields).to_string();
    match parse_object::<ObieTransaction<'_>>(&required, path) {
        Ok(row) => row.to_facts().map_err(|kind| kind.into_malformed(path)),
        Err(_) => Err(malformed),
    }
}

/// The fields without which a row says nothing.
const REQUIRED_FIELDS: [&str; 4] = [
    "Amount",
    "CreditDebitIndicator",
    "Status",
    "BookingDateTime",
];

/// The optional fields that are texts.
const OPTIONAL_TEXTS: [&str; 4] = [
    "TransactionId",
    "TransactionReference",
    "TransactionInformation",
    "ValueDateTime",
];

fn describe_unreadable_row(raw: &RawValue, malformed: &MalformedResponse) -> UnreadableRow {
    let identity: Option<ObieRowIdentity> = serde_json::from_str(raw.get()).ok();
    let (id, booked) = identity.map_or((None, None), |row| {
        (row.transaction_id, row.booking_date_time)
    });
    UnreadableRow {
        day: booked
            .as_ref()
            .and_then(Value::as_str)
            .and_then(BankDateTime::parse)
            .map(|at| at.day),
        bank_id: normalise_optional_text(id.as_ref().and_then(Value::as_str)),
        fault: malformed.to_string(),
    }
}
