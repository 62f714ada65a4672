//! Banks as an operator configures them. The cast: [`BankConfig`], with its [`BankLimits`] and its [`OAuthClient`].
//!
//! The rule: a bank is configuration; an operator adds one without code.

use crate::model::{ids::BankId, interval::Interval};
use serde::{Deserialize, Serialize};

/// The standard and version a bank speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BankStandard {
    /// UK Open Banking Account and Transaction API v3.1.
    #[serde(rename = "obie-3.1")]
    Obie31,
    /// UK Open Banking Account and Transaction API v4.0.
    #[serde(rename = "obie-4.0")]
    Obie40,
}

/// What a bank allows and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BankLimits {
    /// Records fetched per second at most, over all our processes; at least 1. One record counts once, with all calls
    /// that are made for it then: its token, its accounts' products, their pages. A step of its linking, a step of its
    /// backfill and its removal count as one record each.
    pub records_per_second: u32,
    /// Calls in flight from one chunk at most; at least 1.
    pub concurrency: u16,
    /// Milliseconds one call may take, body included.
    pub deadline_ms: u32,
    /// Pages of one response at most.
    pub max_pages: u16,
    /// Bytes of one page at most.
    pub max_body_bytes: u32,
    /// Refreshes without the user that the bank allows in 24 hours, of each account and endpoint of a
    /// consent (4 where PSD2 rules); `None`: as many as its rate allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattended_per_day: Option<u16>,
    /// How many of them are reserved for refreshes on demand.
    pub user_reserve: u16,
    /// The bank requires the user to be present for every refresh.
    pub user_present_only: bool,
}

impl BankLimits {
    /// The shortest interval on which a record can be refreshed unattended; `None` where on none. The slots of an
    /// interval are evenly spaced, so no 24 hours have more refreshes than the quota allows.
    pub fn shortest_interval(&self) -> Option<Interval> {
        if self.user_present_only {
            return None;
        }
        let Some(allowed) = self.unattended_per_day else {
            return Some(Interval::OneMinute);
        };
        // A reserve as large as the quota still leaves one scheduled refresh.
        let scheduled = allowed.saturating_sub(self.user_reserve).max(1);
        Interval::ALL
            .into_iter()
            .find(|interval| 1440 / interval.minutes() <= scheduled)
    }

    /// Unattended refreshes on demand in 24 hours of a product that is refreshed on `interval`: what the schedule and one
    /// step of the backfill leave, and the reserve at least; `None` where only the rate limits them.
    pub fn on_demand_per_day(&self, interval: Interval) -> Option<u16> {
        let allowed = self.unattended_per_day?;
        let scheduled = 1440 / interval.minutes();
        // An interval that was set before the quota shrank may leave nothing.
        let left = allowed.saturating_sub(scheduled);
        Some(left.saturating_sub(1).max(self.user_reserve).min(left))
    }

    /// Steps of a backfill in 24 hours beside the schedule and refreshes on demand; `None` where only the rate limits
    /// them.
    pub fn backfill_steps_per_day(&self, interval: Interval) -> Option<u16> {
        let allowed = self.unattended_per_day?;
        let scheduled = 1440 / interval.minutes();
        let on_demand = self.on_demand_per_day(interval)?;
        Some(allowed.saturating_sub(scheduled + on_demand).max(1))
    }

    /// The interval that a record gets where one is requested: the shortest that the bank allows, or a longer one.
    pub fn effective_interval(&self, requested: Interval) -> Interval {
        requested.max(self.shortest_interval().unwrap_or_default())
    }
}

impl Default for BankLimits {
    fn default() -> Self {
        Self {
            records_per_second: 50,
            concurrency: 32,
            deadline_ms: 15_000,
            max_pages: 50,
            max_body_bytes: 4 * 1024 * 1024,
            unattended_per_day: None,
            user_reserve: 1,
            user_present_only: false,
        }
    }
}

/// A bank as an operator configures it. It holds no secret in the clear: the vault seals the client secret, and the
/// tokens of a consent are sealed with the consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankConfig {
    /// Okra's id of the bank where it had one.
    pub id: BankId,
    /// `Guaranty Trust Bank`.
    pub name: String,
    /// `guaranty-trust-bank`.
    pub slug: String,
    /// The standard that it speaks.
    pub standard: BankStandard,
    /// Root of the API, e.g. `https://bank.example/open-banking/v3.1/aisp`, without a trailing slash.
    pub base_url: String,
    /// Value of `x-fapi-financial-id`, where the bank wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub financial_id: Option<String>,
    /// Two letters, ISO 3166.
    #[serde(default = "default_country")]
    pub country: String,
    /// Our client at the bank's authorisation server, where access tokens are renewed with the refresh token of a
    /// consent; absent where a consent's access token is valid for as long as the consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthClient>,
    /// What it allows, and how it is called.
    #[serde(default)]
    pub limits: BankLimits,
}

/// Our client at a bank's authorisation server (RFC 6749).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthClient {
    /// The token endpoint: `https://auth.bank.example/token`.
    pub token_url: String,
    /// Where a user is sent to authorise a consent; absent where consents are created elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    /// The client's id at the bank.
    pub client_id: String,
    /// How the client authenticates at `token_url`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The client's secret as the vault sealed it, in base64; absent for a client without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_secret: Option<String>,
}

/// How a client authenticates at the token endpoint, named as in RFC 8414 (`token_endpoint_auth_methods_supported`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Id and secret as HTTP Basic.
    #[default]
    ClientSecretBasic,
    /// Id and secret in the form.
    ClientSecretPost,
    /// The id alone: a public client, or one that its address or TLS certificate authenticates.
    None,
}

fn default_country() -> String {
    "NG".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Schedule, backfill and refreshes on demand together never exceed the quota, and refreshes on demand have the
        /// reserve, wherever the schedule leaves it.
        #[test]
        fn a_days_quota_is_divided(allowed in 1..200_u16, user_reserve in 0..10_u16, requested in 0..8_usize) {
            let limits = BankLimits {
                unattended_per_day: Some(allowed),
                user_reserve,
                ..BankLimits::default()
            };
            let interval = limits.effective_interval(Interval::ALL[requested]);
            let scheduled = 1440 / interval.minutes();
            let on_demand = limits.on_demand_per_day(interval).unwrap();
            let backfill = limits.backfill_steps_per_day(interval).unwrap();
            prop_assert!(scheduled + on_demand <= allowed.max(1));
            prop_assert!(on_demand >= user_reserve.min(allowed - scheduled));
            // A backfill makes one step a day where there is no room for any.
            prop_assert!(scheduled + on_demand + backfill <= allowed || backfill == 1);
        }
    }

    #[test]
    fn an_interval_beyond_the_quota_becomes_the_shortest_within_it() {
        let check = |unattended_per_day, user_reserve, requested, expected| {
            let limits = BankLimits {
                unattended_per_day,
                user_reserve,
                ..BankLimits::default()
            };
            assert_eq!(limits.effective_interval(requested), expected);
        };
        check(None, 1, Interval::OneMinute, Interval::OneMinute);
        check(Some(4), 0, Interval::OneMinute, Interval::SixHours);
        check(Some(4), 1, Interval::OneMinute, Interval::TwelveHours);
        check(Some(4), 1, Interval::Daily, Interval::Daily);
        check(Some(4), 9, Interval::OneHour, Interval::Daily);
        check(Some(24), 0, Interval::FiveMinute, Interval::OneHour);
    }
}
