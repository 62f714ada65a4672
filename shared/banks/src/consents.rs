//! Consents that a user is sent to authorise (UK Open Banking, `account-access-consents`).

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::{Connectors, ConsentSecret, transport::Reply};

/// What we read, as the standard names it.
const PERMISSIONS: [&str; 6] = [
    "ReadAccountsDetail",
    "ReadBalances",
    "ReadTransactionsBasic",
    "ReadTransactionsDetail",
    "ReadTransactionsCredits",
    "ReadTransactionsDebits",
];

/// Characters of a consent's id at most, as in the standard.
const MAX_ID: usize = 128;

/// The id of a consent that waits for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentId(String);

impl ConsentId {
    /// The id as the bank gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    consent_id: String,
}

impl Connectors {
    /// Makes a consent to accounts, balances and transactions, for a user to authorise. `ours` is the
    /// token of our own credentials ([`Grant::ClientCredentials`](crate::oauth::Grant)); `now` is what
    /// a date to wait for counts from. The consent has no end of its own: the bank sets one.
    ///
    /// # Errors
    ///
    /// The bank's fault; a refusal of our own token is [`FaultClass::Internal`], no user can mend it.
    pub async fn new_consent(
        &self,
        bank: &BankConfig,
        ours: &ConsentSecret,
        now: Timestamp,
    ) -> Result<ConsentId, BankFault> {
        let internal = |detail: &str| BankFault::new(FaultClass::Internal, detail);
        let url = format!(
            "{}/account-access-consents",
            bank.base_url.trim_end_matches('/')
        );
        let url = Url::parse(&url).map_err(|_| internal("the bank's base_url is not usable"))?;
        let body = json!({ "Data": { "Permissions": PERMISSIONS }, "Risk": {} });
        let mut request = self
            .transport
            .post(url)
            .bearer_auth(&ours.access_token)
            .header(CONTENT_TYPE, "application/json")
            .header("accept", "application/json")
            .body(body.to_string());
        if let Some(id) = &bank.financial_id
            && let Ok(id) = HeaderValue::from_str(id)
        {
            request = request.header("x-fapi-financial-id", id);
        }
        match self.transport.send(request, &bank.limits, now).await? {
            Reply::Body(body) => parse(&body),
            Reply::Refused { mut fault, .. } => {
                if fault.class == FaultClass::ConsentRefused {
                    fault.class = FaultClass::Internal;
                }
                fault.detail = format!("account-access-consents: {}", fault.detail);
                Err(fault)
            }
        }
    }
}

fn parse(body: &[u8]) -> Result<ConsentId, BankFault> {
    let nonsense = |detail: &str| BankFault::new(FaultClass::Nonsense, detail);
    let created: Created =
        serde_json::from_slice(body).map_err(|_| nonsense("the consent cannot be read"))?;
    let id = created.data.consent_id;
    let usable = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    usable
        .then_some(ConsentId(id))
        .ok_or_else(|| nonsense("the consent's id is not usable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_named_by_its_id() {
        let body =
            br#"{"Data":{"ConsentId":"urn:bank:1","Status":"AwaitingAuthorisation"},"Risk":{}}"#;
        assert_eq!(parse(body).unwrap().as_str(), "urn:bank:1");
        for body in [
            &b"{}"[..],
            b"<html>",
            br#"{"Data":{"ConsentId":""}}"#,
            br#"{"Data":{"ConsentId":"a b"}}"#,
        ] {
            assert_eq!(parse(body).unwrap_err().class, FaultClass::Nonsense);
        }
    }
}
