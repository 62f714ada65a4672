//! `/accounts/{AccountId}/balances`.

use std::cmp::Reverse;

use jiff::Timestamp;
use okra_core::model::{money::Money, snapshot::BalanceFacts};
use serde::Deserialize;

use super::{
    answer::{
        BorrowedText, JsonObject, MalformedResponse, ObieAmount, ObieIndicator, optional_str,
        parse_envelope,
    },
    codes::{AVAILABLE_BALANCE_TYPES, LEDGER_BALANCE_TYPES, is_converted},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieBalanceList<'a> {
    #[serde(borrow)]
    balance: Vec<JsonObject<ObieBalance<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieBalance<'a> {
    #[serde(borrow)]
    amount: ObieAmount<'a>,
    credit_debit_indicator: ObieIndicator,
    #[serde(borrow, rename = "Type")]
    kind: BorrowedText<'a>,
    #[serde(default)]
    date_time: Option<Timestamp>,
    #[serde(default)]
    credit_line: Option<Vec<ObieCreditLine>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieCreditLine {
    /// Absent: not included in the balance.
    #[serde(default)]
    included: Option<bool>,
}

impl ObieBalance<'_> {
    /// How well the row answers a question, the lowest best; `None` where it does not. The type says
    /// most; then own money before borrowed, the account's currency before another, the latest.
    fn rank_for_types(&self, types: &[&[&str]]) -> Option<impl Ord + use<>> {
        let kind = types
            .iter()
            .position(|spellings| spellings.contains(&self.kind.as_str()))?;
        let mut lines = self.credit_line.iter().flatten();
        let borrowed = lines.any(|line| line.included == Some(true));
        let converted = is_converted(optional_str(&self.amount.sub_type));
        Some((kind, borrowed, converted, Reverse(self.date_time)))
    }
}

/// The best balance of some types. Of rows that rank alike the lowest counts: the choice must not
/// depend on their order.
fn select_best_balance(
    rows: &[JsonObject<ObieBalance<'_>>],
    types: &[&[&str]],
) -> Result<Option<Money>, MalformedResponse> {
    let Some(best) = rows
        .iter()
        .filter_map(|JsonObject(row)| row.rank_for_types(types))
        .min()
    else {
        return Ok(None);
    };
    let mut lowest: Option<Money> = None;
    for (n, JsonObject(row)) in rows.iter().enumerate() {
        if row.rank_for_types(types).is_none_or(|rank| rank != best) {
            continue;
        }
        let money = row
            .amount
            .parse_signed(row.credit_debit_indicator)
            .map_err(|error| {
                MalformedResponse::from_money_error(&format!("Data.Balance[{n}].Amount"), &error)
            })?;
        let order = |money: Money| (money.currency, money.minor);
        lowest = lowest
            .filter(|lowest| order(*lowest) <= order(money))
            .or(Some(money));
    }
    Ok(lowest)
}

/// Reads the balances of an account, of either version.
///
/// * `available` is the first stated of interim, closing, forward and opening available;
/// * `ledger` is the first stated of interim, closing, opening and previously closed booked, interim,
///   closing and opening cleared, and expected.
///
/// A credit line is neither added nor subtracted: where a bank states a balance both with and without
/// one, the one without counts; where it states only one that includes it, that is what the bank says.
///
/// # Errors
///
/// [`Nonsense`] with the path of the first fault, or where no balance is of a type listed above.
pub fn parse_balances(body: &[u8]) -> Result<BalanceFacts, MalformedResponse> {
    let (ObieBalanceList { balance: rows }, _) = parse_envelope(body)?;
    let facts = BalanceFacts {
        available: select_best_balance(&rows, AVAILABLE_BALANCE_TYPES)?,
        ledger: select_best_balance(&rows, LEDGER_BALANCE_TYPES)?,
    };
    if facts.available.is_none() && facts.ledger.is_none() {
        let problem = "no balance says what is available or on the books";
        return Err(MalformedResponse::new("Data.Balance", problem));
    }
    Ok(facts)
}
