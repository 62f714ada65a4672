//! Tie-out: whether an account's balance and its transactions tell the same story.
//!
//! Where they do not, the disagreement is *drift*: it is reported on the account with its amount and
//! since when, never hidden and never "fixed". Three checks, the first that the bank gives enough for:
//!
//! * **Running**: every booked row states the balance after it. The rows of a day tie where some order
//!   of them leads from the balance before the day to the balance after it, each row starting where
//!   the one before ended; banks give rows of one day, or of one stamp, in any order, so the order
//!   they come in proves nothing.
//! * **Closing**: the running balances tie, and the account's ledger balance is the last of them.
//! * **Movement**: without running balances, the ledger balance less the booked rows of the window is
//!   what was there before the window, and stays what it was. A balance that moves by what no row
//!   lists (a charge not shown, a row left out) changes it; a row that is listed later changes it
//!   back, and the drift ends.
//!
//! Pending rows are on no ledger and count in no check.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    model::{BookingStatus, TransactionFacts, TransactionWindow},
    money::Money,
};

/// Which check found a drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// Rows' own balances do not lead from one to the next.
    #[serde(rename = "r")]
    Running,
    /// The ledger balance is not the last row's.
    #[serde(rename = "c")]
    Closing,
    /// The ledger balance moved by another amount than the booked rows.
    #[serde(rename = "m")]
    Movement,
}

impl Check {
    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running_balance",
            Self::Closing => "closing_balance",
            Self::Movement => "balance_movement",
        }
    }
}

/// A disagreement between balance and transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// What the balance has more than the transactions explain; negative where it has less. Zero where
    /// the gaps of several days make up for each other.
    #[serde(rename = "a")]
    pub amount: Money,
    /// When it was first seen.
    #[serde(rename = "s")]
    pub since: Timestamp,
    /// Which check found it.
    #[serde(rename = "c")]
    pub check: Check,
    /// Days that do not tie; 0 but for [`Check::Running`].
    #[serde(rename = "d", skip_serializing_if = "is_zero", default)]
    pub days: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(days: &u32) -> bool {
    *days == 0
}

/// How an account ties out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TieOut {
    /// For [`Check::Movement`]: the first day of the window, and what was on the account before it.
    #[serde(rename = "o", skip_serializing_if = "Option::is_none", default)]
    pub opening: Option<(Date, Money)>,
    /// The disagreement; `None` where there is none.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
    pub drift: Option<Drift>,
}

/// Checks an account's ledger balance and transactions, as one refresh read both. `None` where the
/// bank does not give enough to check: no booked rows with balances, and no ledger balance in the
/// rows' currency.
pub fn tie_out(
    before: Option<&TieOut>,
    window: &TransactionWindow,
    ledger: Option<Money>,
    now: Timestamp,
) -> Option<TieOut> {
    let booked: Vec<&TransactionFacts> = window
        .rows
        .iter()
        .filter(|row| row.status == BookingStatus::Booked)
        .collect();
    let currency = ledger
        .or_else(|| booked.first().map(|row| row.amount))?
        .currency;
    if booked.iter().any(|row| row.amount.currency != currency) {
        return None;
    }
    let old = before.and_then(|tie| tie.drift);
    let drift = |amount: i64, check, days| Drift {
        amount: Money::new(amount, currency),
        since: old.map_or(now, |drift| drift.since),
        check,
        days,
    };
    if let Some(running) = Running::of(&booked) {
        let found = if running.days > 0 {
            Some(drift(running.gap, Check::Running, running.days))
        } else {
            ledger
                .map(|ledger| ledger.minor.saturating_sub(running.closing))
                .filter(|gap| *gap != 0)
                .map(|gap| drift(gap, Check::Closing, 0))
        };
        return Some(TieOut {
            opening: None,
            drift: found,
        });
    }
    let ledger = ledger?;
    let sum = booked
        .iter()
        .fold(0_i64, |sum, row| sum.saturating_add(row.signed_minor()));
    let opening = ledger.minor.saturating_sub(sum);
    let known = before.and_then(|tie| tie.opening);
    let old_amount = old.map_or(0, |drift| drift.amount.minor);
    let (expected, amount) = match known {
        Some((from, expected)) if from == window.from && expected.currency == currency => {
            (expected.minor, opening.saturating_sub(expected.minor))
        }
        // The window slid: what slid out is not known, so the drift there was is carried over.
        Some(_) => (opening.saturating_sub(old_amount), old_amount),
        None => (opening, 0),
    };
    Some(TieOut {
        opening: Some((window.from, Money::new(expected, currency))),
        drift: (amount != 0).then(|| drift(amount, Check::Movement, 0)),
    })
}

/// What rows with running balances say.
struct Running {
    /// The balance after the last day.
    closing: i64,
    /// Days that do not tie.
    days: u32,
    /// What the balances moved by more than the rows, over those days.
    gap: i64,
}

impl Running {
    /// `None` where there are no rows, or one does not state its balance.
    fn of(booked: &[&TransactionFacts]) -> Option<Self> {
        let mut days: BTreeMap<Date, Vec<(i64, i64)>> = BTreeMap::new();
        for row in booked {
            let after = row
                .balance_after
                .filter(|after| after.currency == row.amount.currency)?
                .minor;
            let before = after.saturating_sub(row.signed_minor());
            days.entry(row.date()).or_default().push((before, after));
        }
        let mut running: Option<Self> = None;
        for rows in days.into_values() {
            let ends = Ends::of(&rows);
            running = Some(match running {
                None => Self {
                    closing: ends.closing(None),
                    days: u32::from(!ends.tie(None)),
                    gap: 0,
                },
                Some(so_far) if ends.tie(Some(so_far.closing)) => Self {
                    closing: ends.closing(Some(so_far.closing)),
                    ..so_far
                },
                Some(so_far) => {
                    let moved: i64 = rows.iter().map(|(before, after)| after - before).sum();
                    let closing = ends.closing(None);
                    Self {
                        closing,
                        days: so_far.days.saturating_add(1),
                        gap: so_far.gap + (closing - so_far.closing - moved),
                    }
                }
            });
        }
        running
    }
}

/// The rows of a day as steps from one balance to another: they tie where they are one walk that
/// takes each step once.
struct Ends {
    /// Steps that leave a balance less those that reach it, where that is not 0.
    excess: BTreeMap<i64, i64>,
    /// All balances in one piece, joined by steps.
    joined: bool,
    balances: Vec<i64>,
    last: i64,
}

impl Ends {
    fn of(rows: &[(i64, i64)]) -> Self {
        let mut excess: BTreeMap<i64, i64> = BTreeMap::new();
        for &(before, after) in rows {
            *excess.entry(before).or_default() += 1;
            *excess.entry(after).or_default() -= 1;
        }
        let balances: Vec<i64> = excess.keys().copied().collect();
        excess.retain(|_, count| *count != 0);
        Self {
            excess,
            joined: joined(&balances, rows),
            balances,
            last: rows.last().map_or(0, |row| row.1),
        }
    }

    /// True where one walk takes all steps; from `opening`, where it is known.
    fn tie(&self, opening: Option<i64>) -> bool {
        let counts: Vec<i64> = self.excess.values().copied().collect();
        let walk = self.joined
            && (counts.is_empty() || (counts.len() == 2 && counts.iter().all(|n| n.abs() == 1)));
        walk && opening.is_none_or(|opening| match self.start() {
            Some(start) => start == opening,
            None => self.balances.binary_search(&opening).is_ok(),
        })
    }

    /// Where the walk starts; `None` where it ends where it starts, which may be anywhere on it.
    fn start(&self) -> Option<i64> {
        self.excess
            .iter()
            .find_map(|(&balance, &count)| (count > 0).then_some(balance))
    }

    /// Where the walk ends. Of rows that are no walk, the balance that is left least often, or else
    /// that of the last row as the bank listed them.
    fn closing(&self, opening: Option<i64>) -> i64 {
        let end = self.excess.iter().min_by_key(|(_, count)| **count);
        end.map(|(&balance, _)| balance)
            .or(opening)
            .unwrap_or(self.last)
    }
}

/// True where steps join all balances in one piece (union-find).
fn joined(balances: &[i64], rows: &[(i64, i64)]) -> bool {
    fn root(parents: &mut [usize], mut at: usize) -> usize {
        while parents[at] != at {
            parents[at] = parents[parents[at]];
            at = parents[at];
        }
        at
    }
    let mut parents: Vec<usize> = (0..balances.len()).collect();
    let mut pieces = balances.len();
    for (before, after) in rows {
        let place = |balance| balances.binary_search(balance).unwrap_or(0);
        let (a, b) = (
            root(&mut parents, place(before)),
            root(&mut parents, place(after)),
        );
        if a != b {
            parents[a] = b;
            pieces -= 1;
        }
    }
    pieces <= 1
}
