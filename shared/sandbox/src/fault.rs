//! What can be made to go wrong: [`Faults`], set for the whole bank or for one login, and [`ConsentState`].

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Most milliseconds that a response is delayed.
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
    /// The token endpoint. Faults set for one login do not affect it.
    Token,
}

/// How an outage looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// 503 from a gateway that knows nothing of the standard.
    Unavailable,
    /// The connection breaks before the body.
    Drop,
}

/// Calls rejected with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitFault {
    /// How many more. Counts down; after a restart it starts again from the journal's number.
    pub calls: u32,
    /// `Retry-After` in seconds; no such header where absent.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
}

/// How a response is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MalformedFault {
    /// The JSON ends in its middle.
    Truncated,
    /// The list under `Data` is a string.
    WrongTypes,
    /// Amounts have a decimal comma: `12,50`.
    CommaAmount,
    /// An HTML page, with status 200.
    Html,
}

/// What goes wrong. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The bank is out of order.
    pub outage: Option<Outage>,
    /// Milliseconds that every response is delayed, at most [`MAX_SLOW_MS`].
    pub slow_ms: u32,
    /// The next calls are rejected as too many.
    pub rate_limit: Option<RateLimitFault>,
    /// Responses cannot be read.
    pub malformed: Option<MalformedFault>,
    /// Only lists of transactions with a row of this date (in UTC) are malformed.
    pub malformed_date: Option<Date>,
    /// Lists of transactions are empty.
    pub empty: bool,
    /// Rows by which pages after the first start too early (positive: rows come twice) or too late
    /// (negative: rows are left out), as when rows appear and vanish between two pages.
    pub page_shift: i32,
    /// Requests for transactions from more than so many days ago are rejected with 403, as by banks that
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
        let affects_resource = self.resource.is_none_or(|only| only == resource);
        let affects_account = match &self.account {
            Some(only) => account == Some(only.as_str()),
            None => true,
        };
        affects_resource && affects_account
    }

    /// Counts one call against the rate limit, and returns how it is rejected, if it is.
    pub(crate) fn consume_rate_limit(&mut self) -> Option<RateLimitFault> {
        let limit = self.rate_limit.as_mut()?;
        let rejection = *limit;
        match limit.calls.checked_sub(1) {
            Some(left) => {
                limit.calls = left;
                Some(rejection)
            }
            None => {
                self.rate_limit = None;
                None
            }
        }
    }
}

/// The state of a grant of access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// It opens the login.
    #[default]
    Active,
    /// It has expired: 403, the user must authenticate again.
    Expired,
    /// The user revoked it: 401, as for a token that never existed.
    Revoked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_rejects_exactly_its_calls() {
        let mut faults = Faults {
            rate_limit: Some(RateLimitFault {
                calls: 2,
                retry_after_s: Some(7),
            }),
            ..Faults::default()
        };
        let rejected: Vec<_> = (0..4)
            .map(|_| faults.consume_rate_limit().is_some())
            .collect();
        assert_eq!(rejected, [true, true, false, false]);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn faults_affect_what_they_name() {
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
