//! Banks are configuration: an operator adds one without code.

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
    /// Records asked for per second at most, over all our processes; at least 1. A record's turn is all that is asked for
    /// it then: its token, its accounts' products, their pages. A step of its linking, one of its history and
    /// its end are turns too.
    pub records_per_second: u32,
    /// Calls in flight from one chunk at most; at least 1.
    pub concurrency: u16,
    /// Milliseconds one call may take, body included.
    pub deadline_ms: u32,
    /// Pages of one answer at most.
    pub max_pages: u16,
    /// Bytes of one page at most.
    pub max_body_bytes: u32,
    /// Refreshes without the user that the bank allows in 24 hours, of each account and endpoint of a
    /// consent (4 where PSD2 rules); `None`: as many as its rate allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattended_per_day: Option<u16>,
    /// So many of them are kept for who asks in person.
    pub user_reserve: u16,
    /// The bank wants the user there for every refresh.
    pub user_present_only: bool,
}

impl BankLimits {
    /// The shortest interval on which a record can be refreshed without its user; `None`: on none. The
    /// slots of an interval are evenly spaced, so no 24 hours have more refreshes than this says.
    pub fn shortest_interval(&self) -> Option<Interval> {
        if self.user_present_only {
            return None;
        }
        let Some(allowed) = self.unattended_per_day else {
            return Some(Interval::OneMinute);
        };
        let scheduled = allowed.saturating_sub(self.user_reserve).max(1);
        Interval::ALL
            .into_iter()
            .find(|interval| 1440 / interval.minutes() <= scheduled)
    }

    /// Refreshes without the user that may be asked for in 24 hours of a product that is refreshed on
    /// `interval`: what the schedule and a step of the history leave, and the reserve at least; `None`:
    /// as many as the rate allows.
    pub fn on_demand_per_day(&self, interval: Interval) -> Option<u16> {
        let allowed = self.unattended_per_day?;
        let scheduled = 1440 / interval.minutes();
        let left = allowed.saturating_sub(scheduled);
        Some(left.saturating_sub(1).max(self.user_reserve).min(left))
    }

    /// Steps of a history that 24 hours have room for beside the schedule and who asks in person; `None`:
    /// as many as the rate allows.
    pub fn backfill_steps_per_day(&self, interval: Interval) -> Option<u16> {
        let allowed = self.unattended_per_day?;
        let scheduled = 1440 / interval.minutes();
        let asked = self.on_demand_per_day(interval).unwrap_or(0);
        Some(allowed.saturating_sub(scheduled + asked).max(1))
    }

    /// The interval that comes of one asked for.
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

/// A bank as an operator configures it. Holds no secret in the open: a client secret is sealed by the
/// vault, and consent tokens are in their records, sealed too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankConfig {
    /// Okra's id of the bank where it had one.
    pub id: BankId,
    /// `Guaranty Trust Bank`.
    pub name: String,
    /// `guaranty-trust-bank`.
    pub slug: String,
    /// What it speaks.
    pub standard: BankStandard,
    /// Root of the API, e.g. `https://bank.example/open-banking/v3.1/aisp`, without a trailing slash.
    pub base_url: String,
    /// Value of `x-fapi-financial-id`, where the bank wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub financial_id: Option<String>,
    /// Two letters, ISO 3166.
    #[serde(default = "nigeria")]
    pub country: String,
    /// Our client at the bank's authorisation server, where access tokens are renewed with the refresh
    /// token of a consent; absent where a consent's token is good for as long as the consent is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthClient>,
    /// What it allows.
    #[serde(default)]
    pub limits: BankLimits,
}

/// Our client at a bank's authorisation server (RFC 6749).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthClient {
    /// Where tokens are asked for: `https://auth.bank.example/token`.
    pub token_url: String,
    /// Where a user is sent to authorise a consent; absent where consents are made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    /// The client's id at the bank.
    pub client_id: String,
    /// How the client proves itself at `token_url`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The client's secret as the vault sealed it, in base64; absent for a client without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_secret: Option<String>,
}

/// How a client proves itself at the token endpoint, named as in RFC 8414
/// (`token_endpoint_auth_methods_supported`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Id and secret as HTTP Basic.
    #[default]
    ClientSecretBasic,
    /// Id and secret in the form.
    ClientSecretPost,
    /// The id alone: a public client, or one that its address or TLS certificate proves.
    None,
}

fn nigeria() -> String {
    "NG".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Schedule, history and who asks in person have no more of a day than the bank allows, and who
        /// asks has the reserve, wherever the schedule leaves it.
        #[test]
        fn a_days_quota_is_divided(allowed in 1..200_u16, user_reserve in 0..10_u16, asked in 0..8_usize) {
            let limits = BankLimits {
                unattended_per_day: Some(allowed),
                user_reserve,
                ..BankLimits::default()
            };
            let interval = limits.effective_interval(Interval::ALL[asked]);
            let scheduled = 1440 / interval.minutes();
            let on_demand = limits.on_demand_per_day(interval).unwrap();
            let history = limits.backfill_steps_per_day(interval).unwrap();
            prop_assert!(scheduled + on_demand <= allowed.max(1));
            prop_assert!(on_demand >= user_reserve.min(allowed - scheduled));
            // A history takes one step a day where there is no room for any.
            prop_assert!(scheduled + on_demand + history <= allowed || history == 1);
        }
    }

    #[test]
    fn an_interval_that_a_quota_cannot_give_becomes_one_that_it_can() {
        let check = |unattended_per_day, user_reserve, asked, expected| {
            let limits = BankLimits {
                unattended_per_day,
                user_reserve,
                ..BankLimits::default()
            };
            assert_eq!(limits.effective_interval(asked), expected);
        };
        check(None, 1, Interval::OneMinute, Interval::OneMinute);
        check(Some(4), 0, Interval::OneMinute, Interval::SixHours);
        check(Some(4), 1, Interval::OneMinute, Interval::TwelveHours);
        check(Some(4), 1, Interval::Daily, Interval::Daily);
        check(Some(4), 9, Interval::OneHour, Interval::Daily);
        check(Some(24), 0, Interval::FiveMinute, Interval::OneHour);
    }
}
