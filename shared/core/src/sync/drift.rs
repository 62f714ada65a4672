//! Whether an account's balance and its transactions agree. The cast: [`tie_out`], which makes a [`TieOut`] of one
//! refresh; [`Drift`], a disagreement; [`TieOutCheck`], which check found it.
//!
//! The rule: drift is reported on the account with its amount and since when, never hidden and never "fixed". There are
//! three checks; the first that the bank gives enough data for is made:
//!
//! * **Running**: every booked row states the balance after it. The rows of a day tie where some order
//!   of them leads from the balance before the day to the balance after it, each row starting where the one before ended.
//!   Banks list rows of one day, or of one timestamp, in any order, so the order of the response proves nothing.
//! * **Closing**: the running balances tie, and the account's ledger balance is the last of them.
//! * **Movement**: without running balances, the ledger balance less the booked rows of the window is
//!   the balance before the window, and does not change. A balance that moves without a row (a charge not shown, a row left
//!   out) changes it; a row that is listed later changes it back, and the drift ends.
//!
//! Pending rows are not in the ledger and count in no check.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::model::{
    money::Money,
    snapshot::{BookingStatus, TransactionFacts, TransactionWindow},
};

/// Which check found a drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TieOutCheck {
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

impl TieOutCheck {
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
    /// By how much the balance exceeds what the transactions explain; negative where it is less. Zero where the gaps of
    /// several days cancel out.
    #[serde(rename = "a")]
    pub amount: Money,
    /// When it was first seen.
    #[serde(rename = "s")]
    pub since: Timestamp,
    /// Which check found it.
    #[serde(rename = "c")]
    pub check: TieOutCheck,
    /// Days that do not tie; 0 but for [`TieOutCheck::Running`].
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
    /// For [`TieOutCheck::Movement`]: the first day of the window, and the balance before it.
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
    let since = old.map_or(now, |drift| drift.since);
    if let Some(running) = RunningBalances::from_booked(&booked) {
        let found = if running.days > 0 {
            Some(Drift {
                amount: Money::new(running.gap, currency),
                since,
                check: TieOutCheck::Running,
                days: running.days,
            })
        } else {
            ledger
                .and_then(|ledger| running.ledger_gap(ledger.minor))
                .map(|gap| Drift {
                    amount: Money::new(gap, currency),
                    since,
                    check: TieOutCheck::Closing,
                    days: 0,
                })
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
        // The window slid: what slid out is not known, so the earlier drift is carried over.
        Some(_) => (opening.saturating_sub(old_amount), old_amount),
        None => (opening, 0),
    };
    Some(TieOut {
        opening: Some((window.from, Money::new(expected, currency))),
        drift: (amount != 0).then(|| Drift {
            amount: Money::new(amount, currency),
            since,
            check: TieOutCheck::Movement,
            days: 0,
        }),
    })
}

/// Rows with running balances, day by day. Sums saturate: amounts so large are the bank's mistake, and drift anyway.
struct RunningBalances {
    /// Balances that may be the one after the last day: one, or several where the rows lead in a circle and nothing says
    /// where they begin.
    closing_candidates: Vec<i64>,
    /// Days that do not tie.
    days: u32,
    /// By how much the balances moved more than the rows, over those days.
    gap: i64,
}

impl RunningBalances {
    /// `None` where there are no rows, or one does not state its balance.
    fn from_booked(booked: &[&TransactionFacts]) -> Option<Self> {
        let mut days: BTreeMap<Date, Vec<(i64, i64)>> = BTreeMap::new();
        for row in booked {
            let after = row
                .balance_after
                .filter(|after| after.currency == row.amount.currency)?
                .minor;
            let before = after.saturating_sub(row.signed_minor());
            days.entry(row.booking_date())
                .or_default()
                .push((before, after));
        }
        let mut running: Option<Self> = None;
        for rows in days.into_values() {
            let ends = BalancePath::from_rows(&rows);
            running = Some(match running {
                None => Self {
                    closing_candidates: ends.closing_candidates(None),
                    days: u32::from(!ends.ties_out(None)),
                    gap: 0,
                },
                Some(so_far) => so_far.append_day(&ends, &rows),
            });
        }
        running
    }

    fn append_day(self, path: &BalancePath, rows: &[(i64, i64)]) -> Self {
        let tying = self.closing_candidates.iter().copied();
        let tying = tying.filter(|closing| path.ties_out(Some(*closing)));
        let mut closings: Vec<i64> = tying
            .flat_map(|closing| path.closing_candidates(Some(closing)))
            .collect();
        closings.sort_unstable();
        closings.dedup();
        if !closings.is_empty() {
            return Self {
                closing_candidates: closings,
                ..self
            };
        }
        let moved = rows.iter().fold(0_i64, |sum, (before, after)| {
            sum.saturating_add(after.saturating_sub(*before))
        });
        let closings = path.closing_candidates(None);
        let gap = match (closings.first(), self.closing_candidates.first()) {
            (Some(after), Some(before)) => after.saturating_sub(*before).saturating_sub(moved),
            // A day with rows has a closing balance.
            _ => 0,
        };
        Self {
            closing_candidates: closings,
            days: self.days.saturating_add(1),
            gap: self.gap.saturating_add(gap),
        }
    }

    /// By how much the ledger balance exceeds that of the last row, at least; `None` where they agree.
    fn ledger_gap(&self, ledger: i64) -> Option<i64> {
        self.closing_candidates
            .iter()
            .map(|closing| ledger.saturating_sub(*closing))
            .min_by_key(|gap| gap.unsigned_abs())
            .filter(|gap| *gap != 0)
    }
}

/// The rows of a day as steps from one balance to another: they tie where they form one path that takes each step once (an
/// Euler path).
struct BalancePath {
    /// Steps that leave a balance minus those that reach it, where that is not 0.
    excess: BTreeMap<i64, i64>,
    /// All balances in one piece, joined by steps.
    is_connected: bool,
    balances: Vec<i64>,
}

impl BalancePath {
    fn from_rows(rows: &[(i64, i64)]) -> Self {
        let mut excess: BTreeMap<i64, i64> = BTreeMap::new();
        for &(before, after) in rows {
            *excess.entry(before).or_default() += 1;
            *excess.entry(after).or_default() -= 1;
        }
        let balances: Vec<i64> = excess.keys().copied().collect();
        excess.retain(|_, count| *count != 0);
        Self {
            excess,
            is_connected: are_connected(&balances, rows),
            balances,
        }
    }

    /// True where one path takes all steps; from `opening`, where it is known.
    fn ties_out(&self, opening: Option<i64>) -> bool {
        let counts: Vec<i64> = self.excess.values().copied().collect();
        let is_path = self.is_connected
            && (counts.is_empty() || (counts.len() == 2 && counts.iter().all(|n| n.abs() == 1)));
        is_path
            && opening.is_none_or(|opening| match self.start_balance() {
                Some(start) => start == opening,
                None => self.balances.binary_search(&opening).is_ok(),
            })
    }

    /// Where the path starts; `None` where it ends where it starts, which may be anywhere on it.
    fn start_balance(&self) -> Option<i64> {
        self.excess
            .iter()
            .find_map(|(&balance, &count)| (count > 0).then_some(balance))
    }

    /// Where the path may end. Where the rows form no path, the balance that is reached most often more than it is left.
    fn closing_candidates(&self, opening: Option<i64>) -> Vec<i64> {
        let end = self.excess.iter().min_by_key(|(_, count)| **count);
        match end.map(|(&balance, _)| balance).or(opening) {
            Some(end) => vec![end],
            None => self.balances.clone(),
        }
    }
}

/// True where steps join all balances in one piece (union-find).
fn are_connected(balances: &[i64], rows: &[(i64, i64)]) -> bool {
    fn find_root(parents: &mut [usize], mut at: usize) -> usize {
        while parents[at] != at {
            parents[at] = parents[parents[at]];
            at = parents[at];
        }
        at
    }
    let mut parents: Vec<usize> = (0..balances.len()).collect();
    let mut pieces = balances.len();
    for (before, after) in rows {
        let positions = (
            balances.binary_search(before),
            balances.binary_search(after),
        );
        let (Ok(before), Ok(after)) = positions else {
            debug_assert!(false, "a row's balances are among the balances");
            continue;
        };
        let (a, b) = (
            find_root(&mut parents, before),
            find_root(&mut parents, after),
        );
        if a != b {
            parents[a] = b;
            pieces -= 1;
        }
    }
    pieces <= 1
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{money::Currency, snapshot::Direction};

    fn naira(minor: i64) -> Money {
        Money::new(minor, Currency::NGN)
    }

    fn booked_row(day: i64, amount: i64, balance_after: Option<i64>) -> TransactionFacts {
        TransactionFacts {
            bank_id: None,
            status: BookingStatus::Booked,
            direction: if amount < 0 {
                Direction::Debit
            } else {
                Direction::Credit
            },
            amount: naira(amount.abs()),
            booked_at: Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap(),
            value_at: None,
            description: String::new(),
            reference: None,
            code: None,
            balance_after: balance_after.map(naira),
        }
    }

    fn window_with_rows(rows: Vec<TransactionFacts>) -> TransactionWindow {
        TransactionWindow {
            unreadable: vec![],
            from: date(2023, 1, 1),
            rows,
        }
    }

    fn timestamp_at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    fn check_drift(
        before: Option<&TieOut>,
        rows: &[TransactionFacts],
        ledger: i64,
        hour: i64,
    ) -> (Option<TieOut>, Option<(i64, TieOutCheck)>) {
        let tie = tie_out(
            before,
            &window_with_rows(rows.to_vec()),
            Some(naira(ledger)),
            timestamp_at(hour),
        );
        let found = tie.and_then(|tie| tie.drift);
        (tie, found.map(|drift| (drift.amount.minor, drift.check)))
    }

    /// The rows of a balance that moves from `opening`, a row for each amount.
    fn rows_from_amounts(opening: i64, days: &[Vec<i64>]) -> (Vec<TransactionFacts>, i64) {
        let (mut balance, mut rows) = (opening, Vec::new());
        for (day, amounts) in (0..).zip(days) {
            for amount in amounts {
                balance += amount;
                rows.push(booked_row(day, *amount, Some(balance)));
            }
        }
        (rows, balance)
    }

    fn any_daily_amounts() -> impl Strategy<Value = Vec<Vec<i64>>> {
        // Few amounts, so that balances come again.
        let amount = prop::sample::select(vec![-7_i64, -5, -2, 2, 5, 7, 100]);
        prop::collection::vec(prop::collection::vec(amount, 0..6), 1..6)
    }

    proptest! {
        #[test]
        fn rows_of_a_path_tie_in_any_order(
            days in any_daily_amounts(), opening in -20..20_i64, seed in prop::collection::vec(any::<u16>(), 40),
        ) {
            let (rows, ledger) = rows_from_amounts(opening, &days);
            let mut shuffled: Vec<_> = rows.into_iter().zip(seed.iter().cycle()).collect();
            shuffled.sort_by_key(|(_, seed)| **seed);
            let rows: Vec<_> = shuffled.into_iter().map(|(row, _)| row).collect();
            prop_assert_eq!(check_drift(None, &rows, ledger, 0).1, None);
            if !rows.is_empty() {
                // Rows in a circle may end anywhere on it, so how much it is at least is known.
                let (amount, check) = check_drift(None, &rows, ledger + 1_000_000, 0).1.unwrap();
                prop_assert_eq!(check, TieOutCheck::Closing);
                prop_assert!((amount - 1_000_000).abs() < 5_000);
            }
        }

        #[test]
        fn a_row_that_is_not_listed_is_drift(
            days in any_daily_amounts(), opening in -20..20_i64, at: prop::sample::Index,
        ) {
            // One row on the first day, because nothing says where a circle begins.
            let mut days = days;
            days.insert(0, vec![1_000]);
            let (mut rows, ledger) = rows_from_amounts(opening, &days);
            prop_assume!(rows.len() > 1);
            rows.remove(1 + at.index(rows.len() - 1));
            prop_assert!(check_drift(None, &rows, ledger, 0).1.is_some());
        }

        #[test]
        fn a_movement_that_no_row_explains_is_drift_until_one_does(
            known in prop::collection::vec(-50..50_i64, 0..5),
            listed in -50..50_i64, hidden in 1..50_i64, opening in -20..20_i64,
        ) {
            let mut rows: Vec<_> = known.iter().map(|amount| booked_row(0, *amount, None)).collect();
            let ledger = opening + known.iter().sum::<i64>();
            let (first, found) = check_drift(None, &rows, ledger, 0);
            prop_assert_eq!(found, None);
            rows.push(booked_row(1, listed, None));
            let ledger = ledger + listed - hidden;
            let (second, found) = check_drift(first.as_ref(), &rows, ledger, 1);
            prop_assert_eq!(found, Some((-hidden, TieOutCheck::Movement)));
            let (third, found) = check_drift(second.as_ref(), &rows, ledger, 2);
            prop_assert_eq!(found, Some((-hidden, TieOutCheck::Movement)));
            prop_assert_eq!(third, second, "since when it was first seen");
            rows.push(booked_row(1, -hidden, None));
            prop_assert_eq!(check_drift(third.as_ref(), &rows, ledger, 3).1, None);
        }
    }

    #[test]
    fn drift_is_carried_over_when_the_window_slides() {
        let rows = [booked_row(0, -10, None), booked_row(40, -5, None)];
        let (first, _) = check_drift(None, &rows, 100, 0);
        let (second, found) = check_drift(first.as_ref(), &rows, 97, 1);
        assert_eq!(found, Some((-3, TieOutCheck::Movement)));
        let later = TransactionWindow {
            unreadable: vec![],
            from: date(2023, 12, 1),
            rows: rows[1..].to_vec(),
        };
        let slid = tie_out(second.as_ref(), &later, Some(naira(97)), timestamp_at(2));
        let found = slid.unwrap().drift.unwrap();
        assert_eq!((found.amount, found.since), (naira(-3), timestamp_at(1)));
    }

    #[test]
    fn nothing_is_concluded_without_enough_data() {
        assert_eq!(
            tie_out(None, &window_with_rows(vec![]), None, timestamp_at(0)),
            None
        );
        let plain = window_with_rows(vec![booked_row(0, 5, None)]);
        assert_eq!(tie_out(None, &plain, None, timestamp_at(0)), None);
        let dollars = Money::new(5, "USD".parse().unwrap());
        assert_eq!(tie_out(None, &plain, Some(dollars), timestamp_at(0)), None);
    }
}
