//! `/accounts/{AccountId}/transactions`: [`parse_transactions`] brings a page of rows into normal form while it reads
//! them, so that the bank's form of one row is gone before the next is read.

use std::fmt;

use okra_core::{
    model::{money::MoneyError, snapshot::TransactionFacts},
    sync::digest::{normalise_optional_text, normalise_text},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    date_time::BankDateTime,
    dialect::{StatusMeaning, status_meaning},
    response::{
        BorrowedText, JsonObject, MalformedResponse, ObieAmount, ObieIndicator, ObiePage,
        optional_str, parse_envelope,
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieTransactionList {
    /// Absent where there are none.
    #[serde(default)]
    transaction: Option<ObieTransactionRows>,
}

/// The included rows in normal form. A row whose values make no sense ends the reading.
struct ObieTransactionRows(Result<Vec<TransactionFacts>, InvalidRow>);

struct InvalidRow {
    row_index: usize,
    kind: InvalidRowKind,
}

/// The field of a well-formed row whose value makes no sense.
enum InvalidRowKind {
    Status,
    Amount(MoneyError),
    Balance(MoneyError),
}

impl From<InvalidRow> for MalformedResponse {
    fn from(row: InvalidRow) -> Self {
        let path = format!("Data.Transaction[{}]", row.row_index);
        match row.kind {
            InvalidRowKind::Status => Self::new(
                format!("{path}.Status"),
                "the standard does not have this status",
            ),
            InvalidRowKind::Amount(error) => {
                Self::from_money_error(&format!("{path}.Amount"), &error)
            }
            InvalidRowKind::Balance(error) => {
                Self::from_money_error(&format!("{path}.Balance.Amount"), &error)
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
                let mut row_index = 0;
                while let Some(JsonObject(row)) =
                    list.next_element::<JsonObject<ObieTransaction<'de>>>()?
                {
                    match row.to_facts() {
                        Ok(facts) => rows.extend(facts),
                        Err(kind) => {
                            while list.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(ObieTransactionRows(Err(InvalidRow { row_index, kind })));
                        }
                    }
                    row_index += 1;
                }
                Ok(ObieTransactionRows(Ok(rows)))
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
    #[serde(default)]
    value_date_time: Option<BankDateTime>,
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
        let balance_after = self
            .balance
            .as_ref()
            .map(|balance| balance.amount.parse_signed(balance.credit_debit_indicator))
            .transpose()
            .map_err(InvalidRowKind::Balance)?;
        Ok(Some(TransactionFacts {
            bank_id: normalise_optional_text(optional_str(&self.transaction_id)),
            status,
            direction: self.credit_debit_indicator.into(),
            amount: self
                .amount
                .parse_unsigned()
                .map_err(InvalidRowKind::Amount)?,
            booked_at: self.booking_date_time.within_day(),
            value_at: self.value_date_time.map(BankDateTime::within_day),
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
/// left out.
///
/// # Errors
///
/// [`MalformedResponse`] with the path of the first fault.
pub fn parse_transactions(body: &[u8]) -> Result<ObiePage<TransactionFacts>, MalformedResponse> {
    let (data, next): (ObieTransactionList, _) = parse_envelope(body)?;
    let items = data.transaction.map_or(Ok(Vec::new()), |rows| rows.0)?;
    Ok(ObiePage { items, next })
}
