//! One row of an account through its life: a [`Movement`] with its pending and its booked [`RowStage`], and the
//! [`AccountBalance`] that rows add up to. Rows are named by a [`RowKey`], whatever id the bank shows.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::Timestamp;
use okra_core::model::{
    money::{Currency, Money},
    snapshot::{BookingStatus, Direction},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::content::SandboxMerchant;

/// Seconds since 1970-01-01T00:00:00Z. The bank is exact to the second.
pub(crate) type UnixSeconds = i64;

/// Seconds in a day.
pub(crate) const SECONDS_PER_DAY: UnixSeconds = 86_400;

/// The instant of a second. Seconds come from the bank's clock and the years around it, so one that no timestamp has is
/// a defect; the last timestamp stands for it.
pub(crate) fn to_timestamp(at: UnixSeconds) -> Timestamp {
    let timestamp = Timestamp::from_second(at);
    debug_assert!(timestamp.is_ok(), "second {at} is out of range");
    timestamp.unwrap_or(Timestamp::MAX)
}

/// The direction of a signed amount; zero is a credit.
pub(crate) const fn direction_from_sign(minor: i64) -> Direction {
    if minor < 0 {
        Direction::Debit
    } else {
        Direction::Credit
    }
}

/// A signed amount in major units, without its sign. Amounts are bounded far below the range of their type.
pub(crate) fn format_magnitude(minor: i64, currency: Currency) -> String {
    Money::new(minor.saturating_abs(), currency).to_decimal()
}

/// The sandbox's own name of a row. Unlike the bank's transaction id it never changes, is never missing, and is unique
/// within an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// Generated before the login was made: `h12`.
    History(u32),
    /// From a file of transactions: `f695247`.
    File(u64),
    /// Generated as time passes: `l3`.
    Live(u32),
    /// Added by a command: `m1`.
    Manual(u32),
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(number) => write!(f, "h{number}"),
            Self::File(number) => write!(f, "f{number}"),
            Self::Live(number) => write!(f, "l{number}"),
            Self::Manual(number) => write!(f, "m{number}"),
        }
    }
}

/// A text that does not name a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row's name must be one of the letters h, l, f and m, followed by a number")]
pub struct ParseRowKeyError;

impl FromStr for RowKey {
    type Err = ParseRowKeyError;

    fn from_str(text: &str) -> Result<Self, ParseRowKeyError> {
        let mut letters = text.chars();
        let kind = letters.next().ok_or(ParseRowKeyError)?;
        let number = letters.as_str();
        let key = match kind {
            'h' => number.parse().map(Self::History),
            'l' => number.parse().map(Self::Live),
            'm' => number.parse().map(Self::Manual),
            'f' => number.parse().map(Self::File),
            _ => return Err(ParseRowKeyError),
        };
        key.map_err(|_| ParseRowKeyError)
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The transaction id that a bank shows. Banks leave it out, leave it blank, and give the same one twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownTransactionId {
    /// No such field.
    Missing,
    /// An empty text.
    Blank,
    /// This text, which may be that of another row.
    #[serde(rename = "is")]
    Text(String),
}

impl ShownTransactionId {
    /// The field's value.
    pub(crate) fn as_deref(&self) -> Option<&str> {
        match self {
            Self::Missing => None,
            Self::Blank => Some(""),
            Self::Text(text) => Some(text),
        }
    }
}

/// How a row looks from a second on.
#[derive(Clone, Debug)]
pub(crate) struct RowStage {
    /// First second of the stage.
    pub(crate) starts_at: UnixSeconds,
    /// `BookingDateTime`, which may be long before `starts_at` (back-dated rows).
    pub(crate) booking_time: UnixSeconds,
    /// Minor units, signed: negative leaves the account.
    pub(crate) amount_minor: i64,
    /// The bank's id.
    pub(crate) transaction_id: ShownTransactionId,
}

impl RowStage {
    const fn has_started(&self, now: UnixSeconds) -> bool {
        self.starts_at <= now
    }
}

/// A row with its past and future.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    pub(crate) key: RowKey,
    /// While it is only announced. At least one of the stages is set.
    pub(crate) pending: Option<RowStage>,
    /// Once it is booked; absent on a row that stays pending until a command books it.
    pub(crate) booked: Option<RowStage>,
    pub(crate) text: Cow<'static, str>,
    pub(crate) code: Cow<'static, str>,
    pub(crate) merchant: Option<&'static SandboxMerchant>,
    /// The ledger balance after this row in minor units, where the bank states it.
    pub(crate) balance_after: Option<i64>,
}

impl Movement {
    /// How the row is listed now; `None` before its first second.
    pub(crate) fn stage_at(&self, now: UnixSeconds) -> Option<(BookingStatus, &RowStage)> {
        if let Some(booked) = self.booked.as_ref().filter(|stage| stage.has_started(now)) {
            return Some((BookingStatus::Booked, booked));
        }
        let pending = self
            .pending
            .as_ref()
            .filter(|stage| stage.has_started(now))?;
        Some((BookingStatus::Pending, pending))
    }

    /// Adds what the row does to its account at `now`, or with `sign` -1 takes it away.
    pub(crate) fn add_to_balance(&self, now: UnixSeconds, sign: i64, balance: &mut AccountBalance) {
        match self.stage_at(now) {
            Some((BookingStatus::Booked, stage)) => balance.booked += sign * stage.amount_minor,
            Some((BookingStatus::Pending, stage)) => balance.pending += sign * stage.amount_minor,
            None => {}
        }
        if sign > 0 {
            for stage in self.all_stages() {
                if stage.has_started(now) {
                    balance.changed_at = balance.changed_at.max(stage.starts_at);
                } else {
                    balance.expect_change(stage.starts_at);
                }
            }
        }
    }

    /// True once nothing about the row will change by itself any more.
    pub(crate) fn is_settled(&self, now: UnixSeconds) -> bool {
        self.all_stages().all(|stage| stage.has_started(now))
    }

    fn all_stages(&self) -> impl Iterator<Item = &RowStage> {
        self.pending.iter().chain(self.booked.iter())
    }
}

/// What an account holds at a second, and between which seconds it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountBalance {
    /// Ledger balance in minor units.
    pub(crate) booked: i64,
    /// Sum of the pending rows in minor units.
    pub(crate) pending: i64,
    /// Second of the last change.
    pub(crate) changed_at: UnixSeconds,
    /// Second of the next change that is known.
    pub(crate) next_change_at: Option<UnixSeconds>,
}

impl AccountBalance {
    /// A booked balance without pending rows or changes to come.
    pub(crate) const fn with_opening_balance(booked: i64, changed_at: UnixSeconds) -> Self {
        Self {
            booked,
            pending: 0,
            changed_at,
            next_change_at: None,
        }
    }

    /// Takes a change to come into account.
    pub(crate) fn expect_change(&mut self, at: UnixSeconds) {
        self.next_change_at = Some(self.next_change_at.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_its_text() {
        for key in [
            RowKey::History(0),
            RowKey::Live(7),
            RowKey::File(u64::MAX),
            RowKey::Manual(u32::MAX),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "h", "x1", "h-1", "é1", "1", "l4294967296"] {
            assert_eq!(text.parse::<RowKey>(), Err(ParseRowKeyError), "{text}");
        }
    }
}
