//! Consents at the bank (UK Open Banking, `account-access-consents`): made for a user to authorise,
//! read for when they end, and taken back.

use std::fmt;

use jiff::{Timestamp, civil::Date};
use okra_core::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    model::{Product, date_of},
};
use reqwest::{
    RequestBuilder,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::{Connectors, ConsentSecret, transport::Reply};

/// What we read, as the standard names it: who holds the accounts, and each product.
const ACCOUNTS: [&str; 1] = ["ReadAccountsDetail"];
const BALANCES: [&str; 1] = ["ReadBalances"];
const TRANSACTIONS: [&str; 4] = [
    "ReadTransactionsBasic",
    "ReadTransactionsDetail",
    "ReadTransactionsCredits",
    "ReadTransactionsDebits",
];

/// What has to be permitted for these products.
fn permissions(products: &[Product]) -> Vec<&'static str> {
    let of_product = products.iter().flat_map(|product| match product {
        Product::Balance => BALANCES.iter(),
        Product::Transactions => TRANSACTIONS.iter(),
    });
    ACCOUNTS.iter().chain(of_product).copied().collect()
}

/// Characters of a consent's id at most, as in the standard.
const MAX_ID: usize = 128;

/// The bank's id of a consent: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsentId(String);

impl ConsentId {
    /// The id, where a bank could have given it.
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let usable =
            (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
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
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    consent_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Terms {
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
    pub async fn new_consent(
        &self,
        bank: &BankConfig,
        ours: &ConsentSecret,
        products: &[Product],
        now: Timestamp,
    ) -> Result<ConsentId, BankFault> {
        let body = json!({ "Data": { "Permissions": permissions(products) }, "Risk": {} });
        let request = self
            .transport
            .post(resource(bank, None)?)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let made = self.of_consents(bank, ours, request, now).await?;
        parse(&made)
    }

    /// What the bank says of a consent now. `ours` and `now` as for
    /// [`new_consent`](Self::new_consent).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn consent_terms(
        &self,
        bank: &BankConfig,
        ours: &ConsentSecret,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<ConsentTerms, BankFault> {
        let request = self.transport.get(resource(bank, Some(id))?);
        parse_terms(&self.of_consents(bank, ours, request, now).await?)
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
        ours: &ConsentSecret,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<(), BankFault> {
        let request = self.transport.delete(resource(bank, Some(id))?);
        match self.of_consents(bank, ours, request, now).await {
            Err(fault) if !matches!(fault.status, Some(404 | 410)) => Err(fault),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn of_consents(
        &self,
        bank: &BankConfig,
        ours: &ConsentSecret,
        request: RequestBuilder,
        now: Timestamp,
    ) -> Result<Vec<u8>, BankFault> {
        let mut request = request
            .bearer_auth(&ours.access_token)
            .header("accept", "application/json");
        if let Some(id) = &bank.financial_id
            && let Ok(id) = HeaderValue::from_str(id)
        {
            request = request.header("x-fapi-financial-id", id);
        }
        match self.transport.send(request, &bank.limits, now).await? {
            Reply::Body(body) => Ok(body),
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

/// The URL of the consents, or of one of them.
fn resource(bank: &BankConfig, id: Option<&ConsentId>) -> Result<Url, BankFault> {
    let unusable = || BankFault::new(FaultClass::Internal, "the bank's base_url is not usable");
    let mut url = Url::parse(&bank.base_url).map_err(|_| unusable())?;
    url.path_segments_mut()
        .map_err(|()| unusable())?
        .pop_if_empty()
        .push("account-access-consents")
        .extend(id.map(ConsentId::as_str));
    Ok(url)
}

fn nonsense(detail: &str) -> BankFault {
    BankFault::new(FaultClass::Nonsense, detail)
}

fn parse(body: &[u8]) -> Result<ConsentId, BankFault> {
    let made: Answer<Made> =
        serde_json::from_slice(body).map_err(|_| nonsense("the consent cannot be read"))?;
    ConsentId::new(made.data.consent_id).ok_or_else(|| nonsense("the consent's id is not usable"))
}

fn parse_terms(body: &[u8]) -> Result<ConsentTerms, BankFault> {
    let answer: Answer<Terms> =
        serde_json::from_slice(body).map_err(|_| nonsense("the consent cannot be read"))?;
    let time = |text: Option<String>, fault: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| nonsense(fault)),
    };
    let (ends, from) = (
        answer.data.expiration_date_time,
        answer.data.transaction_from_date_time,
    );
    let from = time(from, "Data.TransactionFromDateTime is no date and time")?;
    Ok(ConsentTerms {
        expires_at: time(ends, "Data.ExpirationDateTime is no date and time")?,
        transactions_from: from.map(date_of),
    })
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

    #[test]
    fn terms_are_read_as_banks_write_them() {
        let check = |data: &str, ends: Option<&str>, from: Option<&str>| {
            let body = format!(r#"{{"Data":{{{data}}},"Risk":{{}}}}"#);
            let terms = parse_terms(body.as_bytes()).unwrap();
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
        let fault = parse_terms(body).unwrap_err();
        assert_eq!(fault.class, FaultClass::Nonsense);
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
        let url = resource(&bank, Some(&id)).unwrap();
        assert_eq!(
            url.as_str(),
            "https://bank.example/v3.1/aisp/account-access-consents/..%2Fx%3Fy%23z"
        );
    }
}
