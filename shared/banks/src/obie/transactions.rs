//! `/accounts/{AccountId}/transactions`.

use std::{collections::HashMap, fmt};

use jiff::{Timestamp, civil::Date};
use okra_core::{
    model::TransactionFacts,
    money::MoneyError,
    normal::{optional_text, text},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    answer::{Amount, Indicator, Nonsense, Object, Page, Text, parse, text_of},
    codes::{Standing, standing},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    /// Absent where there is none.
    #[serde(default)]
    transaction: Option<Rows>,
}

/// The rows that count, in normal form as they are read: the bank's form of one row is gone before the
/// next is looked at. A row whose values make no sense ends the reading.
struct Rows(Result<Vec<TransactionFacts>, Fault>);

struct Fault {
    row: usize,
    problem: Problem,
}

/// What a row can be well-formed and still say.
enum Problem {
    Status,
    Amount(MoneyError),
    Balance(MoneyError),
}

impl From<Fault> for Nonsense {
    fn from(Fault { row, problem }: Fault) -> Self {
        let at = |field| format!("Data.Transaction[{row}].{field}");
        match problem {
            Problem::Status => Self::new(at("Status"), "a status that the standard does not have"),
            Problem::Amount(error) => Self::of_money(&at("Amount"), &error),
            Problem::Balance(error) => Self::of_money(&at("Balance.Amount"), &error),
        }
    }
}

/// Rows that place is made for before the first is read.
const EXPECTED_ROWS: usize = 128;

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of transactions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows, A::Error> {
                let mut rows = Vec::with_capacity(EXPECTED_ROWS);
                let mut at = 0;
                while let Some(Object(row)) = list.next_element::<Object<Row<'de>>>()? {
                    match row.facts() {
                        Ok(facts) => rows.extend(facts),
                        Err(problem) => {
                            while list.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(Rows(Err(Fault { row: at, problem })));
                        }
                    }
                    at += 1;
                }
                Ok(Rows(Ok(rows)))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(borrow, default)]
    transaction_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    transaction_reference: Option<Text<'a>>,
    #[serde(borrow)]
    amount: Amount<'a>,
    credit_debit_indicator: Indicator,
    #[serde(borrow)]
    status: Text<'a>,
    booking_date_time: Timestamp,
    #[serde(default)]
    value_date_time: Option<Timestamp>,
    #[serde(borrow, default)]
    transaction_information: Option<Text<'a>>,
    #[serde(borrow, default)]
    bank_transaction_code: Option<BankCode<'a>>,
    #[serde(borrow, default)]
    proprietary_bank_transaction_code: Option<ProprietaryCode<'a>>,
    #[serde(borrow, default)]
    balance: Option<RowBalance<'a>>,
    #[serde(borrow, default)]
    merchant_details: Option<Merchant<'a>>,
    #[serde(borrow, default)]
    creditor_account: Option<Party<'a>>,
    #[serde(borrow, default)]
    debtor_account: Option<Party<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProprietaryCode<'a> {
    #[serde(borrow, default)]
    code: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BankCode<'a> {
    #[serde(borrow, default)]
    code: Option<Text<'a>>,
    #[serde(borrow, default)]
    sub_code: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Merchant<'a> {
    #[serde(borrow, default)]
    merchant_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Party<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RowBalance<'a> {
    #[serde(borrow)]
    amount: Amount<'a>,
    credit_debit_indicator: Indicator,
}

impl Row<'_> {
    /// The row in normal form; `None` where it does not count, whatever else it says.
    fn facts(&self) -> Result<Option<TransactionFacts>, Problem> {
        let status = match standing(self.status.as_str()).ok_or(Problem::Status)? {
            Standing::Counts(status) => status,
            Standing::LeftOut => return Ok(None),
        };
        let balance_after = self
            .balance
            .as_ref()
            .map(|balance| balance.amount.signed(balance.credit_debit_indicator))
            .transpose()
            .map_err(Problem::Balance)?;
        Ok(Some(TransactionFacts {
            bank_id: optional_text(text_of(&self.transaction_id)),
            status,
            direction: self.credit_debit_indicator.into(),
            amount: self.amount.unsigned().map_err(Problem::Amount)?,
            booked_at: to_the_millisecond(self.booking_date_time),
            value_at: self.value_date_time.map(to_the_millisecond),
            description: self.description(),
            reference: optional_text(text_of(&self.transaction_reference)),
            code: self.code(),
            balance_after,
        }))
    }

    /// The bank's text; where it gives none, the merchant's name, or else that of the other party.
    fn description(&self) -> String {
        let merchant = self.merchant_details.as_ref();
        let other = match self.credit_debit_indicator {
            Indicator::Credit => &self.debtor_account,
            Indicator::Debit => &self.creditor_account,
        };
        optional_text(text_of(&self.transaction_information))
            .or_else(|| optional_text(merchant.and_then(|it| text_of(&it.merchant_name))))
            .or_else(|| optional_text(other.as_ref().and_then(|it| text_of(&it.name))))
            .unwrap_or_default()
    }

    /// The bank's own code, which says most; else the ISO one as `Code/SubCode`.
    fn code(&self) -> Option<String> {
        let own = self.proprietary_bank_transaction_code.as_ref();
        optional_text(own.and_then(|it| text_of(&it.code))).or_else(|| {
            let iso = self.bank_transaction_code.as_ref()?;
            let mut code = optional_text(text_of(&iso.code))?;
            if let Some(sub_code) = text_of(&iso.sub_code).map(text).filter(|it| !it.is_empty()) {
                code.push('/');
                code.push_str(&sub_code);
            }
            Some(code)
        })
    }
}

/// Cuts an instant to milliseconds. Banks that add micro- or nanoseconds to some answers and not to
/// others would make false changes.
fn to_the_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Reads a page of transactions, of either version. Rows that were rejected, lie in the future or only
/// inform are left out. Instants are cut to milliseconds.
///
/// # Errors
///
/// [`Nonsense`] with the path of the first fault.
pub fn parse_transactions(body: &[u8]) -> Result<Page<TransactionFacts>, Nonsense> {
    let (data, next): (Data, _) = parse(body)?;
    let items = data.transaction.map_or(Ok(Vec::new()), |rows| rows.0)?;
    Ok(Page { items, next })
}

/// Rows at the edge of a page that are compared with the next page's, at most.
const MAX_OVERLAP: usize = 64;

/// Rows by which pages move while others of them change, at most.
const MAX_MOVED: usize = 8;

/// The dates of rows without ids that stand at the end of a page and at the beginning of the next, and of
/// rows that read otherwise there under the same id: either several purchases, or a page that moved and
/// shows its last rows again, edited perhaps. Nothing in the answer tells which.
pub fn doubtful_dates(pages: &[Vec<TransactionFacts>]) -> Option<(Date, Date)> {
    let seams = pages.windows(2).flat_map(|pair| {
        let (page, next) = (pair[0].as_slice(), pair[1].as_slice());
        let longest = page.len().min(next.len()).min(MAX_OVERLAP);
        let overlap = (1..=longest)
            .rev()
            .find(|&rows| page[page.len() - rows..] == next[..rows]);
        let overlap = next[..overlap.unwrap_or(0)].iter();
        let nameless = overlap.filter(|row| row.bank_id.is_none());
        // A row between them may have changed at the same moment, so that the edges are not alike.
        let end = &page[page.len().saturating_sub(MAX_MOVED)..];
        let moved = next
            .iter()
            .take(MAX_MOVED)
            .filter(|row| match &row.bank_id {
                None => end.contains(row),
                Some(_) => end.iter().any(|it| it.bank_id == row.bank_id && it != *row),
            });
        nameless.chain(moved)
    });
    let dates: Vec<Date> = seams.map(TransactionFacts::date).collect();
    Some((*dates.iter().min()?, *dates.iter().max()?))
}

/// Rows of one bank id that a row is compared with, at most.
const MAX_COMPARED: usize = 64;

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
            let mut latest = namesakes.rev().take(MAX_COMPARED);
            !latest.any(|&at| rows[at] == *row)
        });
        rows.append(&mut page);
    }
    rows
}
