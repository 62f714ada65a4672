//! `/accounts/{AccountId}/transactions`.

use std::{collections::HashMap, fmt};

use jiff::{Timestamp, civil::Date};
use okra_core::{
    model::{money::MoneyError, snapshot::TransactionFacts},
    sync::digest::{normalise_optional_text, normalise_text},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    answer::{
        BorrowedText, JsonObject, MalformedResponse, ObieAmount, ObieIndicator, ObiePage,
        optional_str, parse_envelope,
    },
    codes::{StatusMeaning, status_meaning},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieTransactionList {
    /// Absent where there is none.
    #[serde(default)]
    transaction: Option<ObieTransactionRows>,
}

/// The rows that count, in normal form as they are read: the bank's form of one row is gone before the
/// next is looked at. A row whose values make no sense ends the reading.
struct ObieTransactionRows(Result<Vec<TransactionFacts>, InvalidRow>);

struct InvalidRow {
    row_index: usize,
    kind: InvalidRowKind,
}

/// What a row can be well-formed and still say.
enum InvalidRowKind {
    Status,
    Amount(MoneyError),
    Balance(MoneyError),
}

impl From<InvalidRow> for MalformedResponse {
    fn from(
        InvalidRow {
            row_index: row,
            kind: problem,
        }: InvalidRow,
    ) -> Self {
        let at = |field| format!("Data.Transaction[{row}].{field}");
        match problem {
            InvalidRowKind::Status => {
                Self::new(at("Status"), "a status that the standard does not have")
            }
            InvalidRowKind::Amount(error) => Self::from_money_error(&at("Amount"), &error),
            InvalidRowKind::Balance(error) => Self::from_money_error(&at("Balance.Amount"), &error),
        }
    }
}

/// Rows that place is made for before the first is read.
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
                let mut at = 0;
                while let Some(JsonObject(row)) =
                    list.next_element::<JsonObject<ObieTransaction<'de>>>()?
                {
                    match row.to_facts() {
                        Ok(facts) => rows.extend(facts),
                        Err(problem) => {
                            while list.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(ObieTransactionRows(Err(InvalidRow {
                                row_index: at,
                                kind: problem,
                            })));
                        }
                    }
                    at += 1;
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
    booking_date_time: Timestamp,
    #[serde(default)]
    value_date_time: Option<Timestamp>,
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
    /// The row in normal form; `None` where it does not count, whatever else it says.
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
            booked_at: truncate_to_millisecond(self.booking_date_time),
            value_at: self.value_date_time.map(truncate_to_millisecond),
            description: self.choose_description(),
            reference: normalise_optional_text(optional_str(&self.transaction_reference)),
            code: self.choose_code(),
            balance_after,
        }))
    }

    /// The bank's text; where it gives none, the merchant's name, or else that of the other party.
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

    /// The bank's own code, which says most; else the ISO one as `Code/SubCode`.
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

/// Cuts an instant to milliseconds. Banks that add micro- or nanoseconds to some answers and not to
/// others would make false changes.
fn truncate_to_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Reads a page of transactions, of either version. Rows that were rejected, lie in the future or only
/// inform are left out. Instants are cut to milliseconds.
///
/// # Errors
///
/// [`Nonsense`] with the path of the first fault.
pub fn parse_transactions(body: &[u8]) -> Result<ObiePage<TransactionFacts>, MalformedResponse> {
    let (data, next): (ObieTransactionList, _) = parse_envelope(body)?;
    let items = data.transaction.map_or(Ok(Vec::new()), |rows| rows.0)?;
    Ok(ObiePage { items, next })
}

/// Rows at the edge of a page that are compared with the next page's, at most.
const MAX_OVERLAP_ROWS: usize = 64;

/// Rows by which pages move while others of them change, at most.
const MAX_SHIFTED_ROWS: usize = 8;

/// The dates of rows without ids that stand at the end of a page and at the beginning of the next, and of
/// rows that read otherwise there under the same id: either several purchases, or a page that moved and
/// shows its last rows again, edited perhaps. Nothing in the answer tells which.
pub fn find_ambiguous_dates(pages: &[Vec<TransactionFacts>]) -> Option<(Date, Date)> {
    let seams = pages.windows(2).flat_map(|pair| {
        let (page, next) = (pair[0].as_slice(), pair[1].as_slice());
        let longest = page.len().min(next.len()).min(MAX_OVERLAP_ROWS);
        let overlap = (1..=longest)
            .rev()
            .find(|&rows| page[page.len() - rows..] == next[..rows]);
        let overlap = next[..overlap.unwrap_or(0)].iter();
        let nameless = overlap.filter(|row| row.bank_id.is_none());
        // A row between them may have changed at the same moment, so that the edges are not alike.
        let end = &page[page.len().saturating_sub(MAX_SHIFTED_ROWS)..];
        let moved = next
            .iter()
            .take(MAX_SHIFTED_ROWS)
            .filter(|row| match &row.bank_id {
                None => end.contains(row),
                Some(_) => end.iter().any(|it| it.bank_id == row.bank_id && it != *row),
            });
        nameless.chain(moved)
    });
    let dates: Vec<Date> = seams.map(TransactionFacts::booking_date).collect();
    Some((*dates.iter().min()?, *dates.iter().max()?))
}

/// Rows of one bank id that a row is compared with, at most.
const MAX_COMPARED_ROWS: usize = 64;

/// The pages of one answer as one list. A row that arrives while pages are read moves the others down,
/// and the bank shows the last row of a page again as the first of the next: a row with an id that
/// reads like one of an earlier page is that row. Within a page every row counts.
pub fn join_pages(pages: Vec<Vec<TransactionFacts>>) -> Vec<TransactionFacts> {
    let mut pages = pages.into_iter();
    let mut rows = pages.next().unwrap_or_default();
    let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
    let mut indexed = 0;
    for mut page in pages {
        for (at, row) in rows.iter().enumerate().skip(indexed) {
            if let Some(id) = &row.bank_id {
                by_id.entry(id.clone()).or_default().push(at);
            }
        }
        indexed = rows.len();
        page.retain(|row| {
            let id = row.bank_id.as_ref();
            let namesakes = id.and_then(|id| by_id.get(id)).into_iter().flatten();
            let mut latest = namesakes.rev().take(MAX_COMPARED_ROWS);
            !latest.any(|&at| rows[at] == *row)
        });
        rows.append(&mut page);
    }
    rows
}
