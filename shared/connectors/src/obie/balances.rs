//! `/accounts/{AccountId}/balances`: [`parse_balances`] chooses, of all balances that a bank states, the one that can
//! be spent and the one that is booked.

use std::cmp::Reverse;

use okra_core::model::{money::Money, snapshot::BalanceFacts};
use serde::Deserialize;

use super::{
    date_time::BankDateTime,
    dialect::{AVAILABLE_BALANCE_TYPES, LEDGER_BALANCE_TYPES, is_converted},
    response::{
        BorrowedText, JsonObject, MalformedResponse, ObieAmount, ObieIndicator, optional_str,
        parse_envelope,
    },
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
    date_time: Option<BankDateTime>,
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
    /// The rank of the row among these types, the lowest best; `None` where it is of none of them. The type decides
    /// first; then own money before borrowed, the account's currency before another, the latest before earlier.
    fn rank_for_types(&self, types: &[&[&str]]) -> Option<impl Ord + use<>> {
        let kind = types
            .iter()
            .position(|spellings| spellings.contains(&self.kind.as_str()))?;
        let mut lines = self.credit_line.iter().flatten();
        let includes_credit = lines.any(|line| line.included == Some(true));
        let converted = is_converted(optional_str(&self.amount.sub_type));
        Some((
            kind,
            includes_credit,
            converted,
            Reverse(self.date_time.map(|at| at.instant)),
        ))
    }
}

/// The best balance of these types. Of rows that rank alike the lowest counts: the choice must not depend on their
/// order.
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
        lowest = match lowest {
            Some(lowest) if is_lower(lowest, money) => Some(lowest),
            Some(_) | None => Some(money),
        };
    }
    Ok(lowest)
}

/// An order over all amounts; of those of one currency the smaller is lower.
fn is_lower(one: Money, other: Money) -> bool {
    (one.currency, one.minor) <= (other.currency, other.minor)
}

/// Reads the balances of an account, of either version.
///
/// * `available` is the first stated of interim, closing, forward and opening available;
/// * `ledger` is the first stated of interim, closing, opening and previously closed booked, interim,
///   closing and opening cleared, and expected.
///
/// A credit line is neither added nor subtracted: where a bank states a balance both with and without one, the one
/// without counts; where it states only one that includes it, that one counts.
///
/// # Errors
///
/// [`MalformedResponse`] with the path of the first fault, or where no balance is of a type listed above.
pub fn parse_balances(body: &[u8]) -> Result<BalanceFacts, MalformedResponse> {
    let (ObieBalanceList { balance: rows }, _) = parse_envelope(body)?;
    let facts = BalanceFacts {
        available: select_best_balance(&rows, AVAILABLE_BALANCE_TYPES)?,
        ledger: select_best_balance(&rows, LEDGER_BALANCE_TYPES)?,
    };
    if facts.available.is_none() && facts.ledger.is_none() {
        let problem = "no balance of an available or booked type";
        return Err(MalformedResponse::new("Data.Balance", problem));
    }
    Ok(facts)
}
