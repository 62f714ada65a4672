//! Consents at the bank (UK Open Banking, `account-access-consents`): made for a user to authorise,
//! read for when they end, and taken back.

use std::fmt;

use jiff::{Timestamp, civil::Date};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    snapshot::{Product, utc_date},
};
use reqwest::{
    RequestBuilder,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::{Connectors, ConsentSecret, transport::BankResponse};

/// What we read, as the standard names it: who holds the accounts, and each product.
const ACCOUNT_PERMISSIONS: [&str; 1] = ["ReadAccountsDetail"];
const BALANCE_PERMISSIONS: [&str; 1] = ["ReadBalances"];
const TRANSACTION_PERMISSIONS: [&str; 4] = [
    "ReadTransactionsBasic",
    "ReadTransactionsDetail",
    "ReadTransactionsCredits",
    "ReadTransactionsDebits",
];

/// What has to be permitted for these products.
fn required_permissions(products: &[Product]) -> Vec<&'static str> {
    let of_product = products.iter().flat_map(|product| match product {
        Product::Balance => BALANCE_PERMISSIONS.iter(),
        Product::Transactions => TRANSACTION_PERMISSIONS.iter(),
    });
    ACCOUNT_PERMISSIONS
        .iter()
        .chain(of_product)
        .copied()
        .collect()
}

/// Characters of a consent's id at most, as in the standard.
const MAX_CONSENT_ID_CHARS: usize = 128;

/// The bank's id of a consent: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsentId(String);

impl ConsentId {
    /// The id, where a bank could have given it.
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let usable = (1..=MAX_CONSENT_ID_CHARS).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then_some(Self(id))
    }

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

/// What a bank says of a consent (`OBReadConsentResponse1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentTerms {
    /// When it ends; `None`: it has no end.
    pub expires_at: Option<Timestamp>,
    /// The first day whose transactions it opens; `None`: as far as the bank has them.
    pub transactions_from: Option<Date>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieConsentEnvelope<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieCreatedConsent {
    consent_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieConsentTerms {
    #[serde(default)]
    expiration_date_time: Option<String>,
    #[serde(default)]
    transaction_from_date_time: Option<String>,
}

impl Connectors {
    /// Makes a consent to accounts and these products, for a user to authorise. `ours` is the
    /// token of our own credentials ([`Grant::ClientCredentials`](crate::oauth::Grant)); `now` is what
    /// a date to wait for counts from. The consent has no end of its own: the bank sets one.
    ///
    /// # Errors
    ///
    /// The bank's fault; a refusal of our own token is [`FaultClass::Internal`], no user can mend it.
    pub async fn create_consent(
        &self,
        bank: &BankConfig,
        client_token: &ConsentSecret,
        products: &[Product],
        now: Timestamp,
    ) -> Result<ConsentId, BankFault> {
        let body = json!({ "Data": { "Permissions": required_permissions(products) }, "Risk": {} });
        let request = self
            .transport
            .post_request(consents_url(bank, None)?)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let made = self
            .send_consent_request(bank, client_token, request, now)
            .await?;
        parse_consent_id(&made)
    }

    /// What the bank says of a consent now. `ours` and `now` as for
    /// [`new_consent`](Self::new_consent).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn fetch_consent_terms(
        &self,
        bank: &BankConfig,
        client_token: &ConsentSecret,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<ConsentTerms, BankFault> {
        let request = self.transport.get_request(consents_url(bank, Some(id))?);
        parse_consent_terms(
            &self
                .send_consent_request(bank, client_token, request, now)
                .await?,
        )
    }

    /// Takes a consent back, at the bank: its tokens open nothing any more. A consent that the bank does
    /// not know (any more) was taken back. `ours` and `now` as for [`new_consent`](Self::new_consent).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn revoke_consent(
        &self,
        bank: &BankConfig,
        client_token: &ConsentSecret,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<(), BankFault> {
        let request = self.transport.delete_request(consents_url(bank, Some(id))?);
        match self
            .send_consent_request(bank, client_token, request, now)
            .await
        {
            Err(fault) if !matches!(fault.status, Some(404 | 410)) => Err(fault),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn send_consent_request(
        &self,
        bank: &BankConfig,
        client_token: &ConsentSecret,
        request: RequestBuilder,
        now: Timestamp,
    ) -> Result<Vec<u8>, BankFault> {
        let mut request = request
            .bearer_auth(&client_token.access_token)
            .header("accept", "application/json");
        if let Some(id) = &bank.financial_id
            && let Ok(id) = HeaderValue::from_str(id)
        {
            request = request.header("x-fapi-financial-id", id);
        }
        match self
            .transport
            .send_request(request, &bank.limits, now)
            .await?
        {
            BankResponse::Success(body) => Ok(body),
            BankResponse::Rejected { mut fault, .. } => {
                if fault.class == FaultClass::ConsentRejected {
                    fault.class = FaultClass::Internal;
                }
                fault.detail = format!("account-access-consents: {}", fault.detail);
                Err(fault)
            }
        }
    }
}

/// The URL of the consents, or of one of them.
fn consents_url(bank: &BankConfig, id: Option<&ConsentId>) -> Result<Url, BankFault> {
    let unusable = || BankFault::new(FaultClass::Internal, "the bank's base_url is not usable");
    let mut url = Url::parse(&bank.base_url).map_err(|_| unusable())?;
    url.path_segments_mut()
        .map_err(|()| unusable())?
        .pop_if_empty()
        .push("account-access-consents")
        .extend(id.map(ConsentId::as_str));
    Ok(url)
}

fn malformed_response(detail: &str) -> BankFault {
    BankFault::new(FaultClass::MalformedResponse, detail)
}

fn parse_consent_id(body: &[u8]) -> Result<ConsentId, BankFault> {
    let made: ObieConsentEnvelope<ObieCreatedConsent> = serde_json::from_slice(body)
        .map_err(|_| malformed_response("the consent cannot be read"))?;
    ConsentId::new(made.data.consent_id)
        .ok_or_else(|| malformed_response("the consent's id is not usable"))
}

fn parse_consent_terms(body: &[u8]) -> Result<ConsentTerms, BankFault> {
    let answer: ObieConsentEnvelope<ObieConsentTerms> = serde_json::from_slice(body)
        .map_err(|_| malformed_response("the consent cannot be read"))?;
    let time = |text: Option<String>, fault: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| malformed_response(fault)),
    };
    let (ends, from) = (
        answer.data.expiration_date_time,
        answer.data.transaction_from_date_time,
    );
    let from = time(from, "Data.TransactionFromDateTime is no date and time")?;
    Ok(ConsentTerms {
        expires_at: time(ends, "Data.ExpirationDateTime is no date and time")?,
        transactions_from: from.map(utc_date),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_named_by_its_id() {
        let body =
            br#"{"Data":{"ConsentId":"urn:bank:1","Status":"AwaitingAuthorisation"},"Risk":{}}"#;
        assert_eq!(parse_consent_id(body).unwrap().as_str(), "urn:bank:1");
        for body in [
            &b"{}"[..],
            b"<html>",
            br#"{"Data":{"ConsentId":""}}"#,
            br#"{"Data":{"ConsentId":"a b"}}"#,
        ] {
            assert_eq!(
                parse_consent_id(body).unwrap_err().class,
                FaultClass::MalformedResponse
            );
        }
    }

    #[test]
    fn terms_are_read_as_banks_write_them() {
        let check = |data: &str, ends: Option<&str>, from: Option<&str>| {
            let body = format!(r#"{{"Data":{{{data}}},"Risk":{{}}}}"#);
            let terms = parse_consent_terms(body.as_bytes()).unwrap();
            assert_eq!(
                terms.expires_at,
                ends.map(|it| it.parse().unwrap()),
                "{data}"
            );
            let from = from.map(|it| it.parse().unwrap());
            assert_eq!(terms.transactions_from, from, "{data}");
        };
        check(r#""ConsentId":"1""#, None, None);
        check(r#""ExpirationDateTime":null"#, None, None);
        check(r#""ExpirationDateTime":"""#, None, None);
        check(
            r#""ExpirationDateTime":"2026-06-01T00:00:00+01:00","TransactionFromDateTime":"2025-01-31T23:00:00Z""#,
            Some("2026-05-31T23:00:00Z"),
            Some("2025-01-31"),
        );
        let body = br#"{"Data":{"ExpirationDateTime":"soon"}}"#;
        let fault = parse_consent_terms(body).unwrap_err();
        assert_eq!(fault.class, FaultClass::MalformedResponse);
        assert!(fault.detail.contains("ExpirationDateTime"), "{fault}");
    }

    #[test]
    fn an_id_stays_within_its_place_in_the_url() {
        let toml = r#"
            [[bank]]
            id = "5d6fe57a4099cc4b210bbeb3"
            name = "Guaranty Trust Bank"
            slug = "guaranty-trust-bank"
            standard = "obie-3.1"
            base_url = "https://bank.example/v3.1/aisp/"
        "#;
        let bank = crate::config::parse_banks(toml).unwrap().remove(0);
        let id = ConsentId::new("../x?y#z").unwrap();
        let url = consents_url(&bank, Some(&id)).unwrap();
        assert_eq!(
            url.as_str(),
            "https://bank.example/v3.1/aisp/account-access-consents/..%2Fx%3Fy%23z"
        );
    }
}
