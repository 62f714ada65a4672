//! What can be made to go wrong.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Milliseconds an answer is held back at most.
pub const MAX_SLOW_MS: u32 = 120_000;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxResource {
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
pub struct RateLimitFault {
    /// How many more. Counts down; starts anew from the journal after a restart.
    pub calls: u32,
    /// `Retry-After` in seconds; no such header where absent.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
}

/// How an answer is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MalformedFault {
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
    pub rate_limit: Option<RateLimitFault>,
    /// Answers cannot be read.
    pub malformed: Option<MalformedFault>,
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
    pub resource: Option<SandboxResource>,
    /// Only requests for this account are affected; all where absent.
    pub account: Option<String>,
}

impl Faults {
    /// True where a request is affected.
    pub(crate) fn affects_request(&self, resource: SandboxResource, account: Option<&str>) -> bool {
        let this_account = || match &self.account {
            Some(only) => account == Some(only.as_str()),
            None => true,
        };
        self.resource.is_none_or(|only| only == resource) && this_account()
    }

    /// Counts one call against the rate limit, and says how it is refused.
    pub(crate) fn consume_rate_limit(&mut self) -> Option<RateLimitFault> {
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
            rate_limit: Some(RateLimitFault {
                calls: 2,
                retry_after_s: Some(7),
            }),
            ..Faults::default()
        };
        let refused: Vec<_> = (0..4)
            .map(|_| faults.consume_rate_limit().is_some())
            .collect();
        assert_eq!(refused, [true, true, false, false]);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn faults_concern_what_they_name() {
        let faults = Faults {
            resource: Some(SandboxResource::Balances),
            account: Some("a".to_owned()),
            ..Faults::default()
        };
        assert!(faults.affects_request(SandboxResource::Balances, Some("a")));
        assert!(!faults.affects_request(SandboxResource::Balances, Some("b")));
        assert!(!faults.affects_request(SandboxResource::Transactions, Some("a")));
        assert!(!faults.affects_request(SandboxResource::Accounts, None));
        assert!(Faults::default().affects_request(SandboxResource::Accounts, None));
    }
}
