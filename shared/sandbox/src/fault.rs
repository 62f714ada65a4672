//! What can be made to go wrong.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Milliseconds an answer is held back at most.
pub const MAX_SLOW_MS: u32 = 120_000;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// `/accounts` and `/accounts/{id}`.
    Accounts,
    /// `/accounts/{id}/balances`.
    Balances,
    /// `/accounts/{id}/transactions`.
    Transactions,
    /// The token endpoint. What is set for one login does not concern it.
    Token,
}

/// How an outage looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// 503 from a gateway that knows nothing of the standard.
    Unavailable,
    /// The connection breaks off before the body.
    Drop,
}

/// Calls refused with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many more. Counts down; starts anew from the journal after a restart.
    pub calls: u32,
    /// `Retry-After` in seconds; no such header where absent.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
}

/// How an answer is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// The JSON ends in its middle.
    Truncated,
    /// The list under `Data` is a text.
    WrongTypes,
    /// Amounts have a decimal comma: `12,50`.
    CommaAmount,
    /// A page for people, with status 200.
    Html,
}

/// What goes wrong. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The bank is out of order.
    pub outage: Option<Outage>,
    /// Milliseconds every answer is held back, at most [`MAX_SLOW_MS`].
    pub slow_ms: u32,
    /// The next calls are too many.
    pub rate_limit: Option<RateLimit>,
    /// Answers cannot be read.
    pub malformed: Option<Malformed>,
    /// Only lists of transactions with a row of this date (of UTC) are malformed.
    pub malformed_date: Option<Date>,
    /// Lists of transactions are empty.
    pub empty: bool,
    /// Rows by which pages after the first start too early (positive: rows come twice) or too late
    /// (negative: rows are left out), as when rows appear and vanish between two pages.
    pub page_shift: i32,
    /// Requests for transactions from more than so many days ago are refused with 403, as by banks that
    /// give the whole history only in the first minutes of a consent.
    pub history_days: Option<u16>,
    /// Only requests for this resource are affected; all where absent.
    pub resource: Option<Resource>,
    /// Only requests for this account are affected; all where absent.
    pub account: Option<String>,
}

impl Faults {
    /// True where a request is affected.
    pub(crate) fn concern(&self, resource: Resource, account: Option<&str>) -> bool {
        let this_account = || match &self.account {
            Some(only) => account == Some(only.as_str()),
            None => true,
        };
        self.resource.is_none_or(|only| only == resource) && this_account()
    }

    /// Counts one call against the rate limit, and says how it is refused.
    pub(crate) fn refuse(&mut self) -> Option<RateLimit> {
        let limit = self.rate_limit.as_mut()?;
        let refused = *limit;
        match limit.calls.checked_sub(1) {
            Some(left) => {
                limit.calls = left;
                Some(refused)
            }
            None => {
                self.rate_limit = None;
                None
            }
        }
    }
}

/// Whether access that was once granted still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// It does.
    #[default]
    Active,
    /// Its time is over: 403, the user must authenticate again.
    Expired,
    /// The user took it back: 401, as if the token had never been.
    Revoked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_refuses_exactly_its_calls() {
        let mut faults = Faults {
            rate_limit: Some(RateLimit {
                calls: 2,
                retry_after_s: Some(7),
            }),
            ..Faults::default()
        };
        let refused: Vec<_> = (0..4).map(|_| faults.refuse().is_some()).collect();
        assert_eq!(refused, [true, true, false, false]);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn faults_concern_what_they_name() {
        let faults = Faults {
            resource: Some(Resource::Balances),
            account: Some("a".to_owned()),
            ..Faults::default()
        };
        assert!(faults.concern(Resource::Balances, Some("a")));
        assert!(!faults.concern(Resource::Balances, Some("b")));
        assert!(!faults.concern(Resource::Transactions, Some("a")));
        assert!(!faults.concern(Resource::Accounts, None));
        assert!(Faults::default().concern(Resource::Accounts, None));
    }
}
