//! Banks are configuration: an operator adds one without code.

use crate::ids::BankId;
use serde::{Deserialize, Serialize};

/// The standard and version a bank speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standard {
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
    /// Records refreshed per second at most, over all our processes; at least 1.
    pub records_per_second: u32,
    /// Calls in flight from one chunk at most; at least 1.
    pub concurrency: u16,
    /// Milliseconds one call may take, body included.
    pub deadline_ms: u32,
    /// Pages of one answer at most.
    pub max_pages: u16,
    /// Bytes of one page at most.
    pub max_body_bytes: u32,
}

impl Default for BankLimits {
    fn default() -> Self {
        Self {
            records_per_second: 50,
            concurrency: 16,
            deadline_ms: 15_000,
            max_pages: 50,
            max_body_bytes: 4 * 1024 * 1024,
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
    pub standard: Standard,
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
