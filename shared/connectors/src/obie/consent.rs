//! Consents at the bank (`account-access-consents`): made for a user to authorise, read for when they end, and
//! revoked. All of it is done with a token of our own client.

use okra_core::model::{
    fault::{BankFault, FaultClass},
    snapshot::Product,
};
use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    date_time::BankDateTime,
    errors::into_client_body,
    resource::{resource_url, with_headers},
};
use crate::{
    connector::ClientCall,
    consent::{ConsentId, ConsentTerms},
    security::request_client_token,
    transport::CallContext,
};

/// The path of consents below the bank's base.
const CONSENTS: &str = "account-access-consents";

/// The scope of a token that manages consents.
const CONSENT_SCOPE: &str = "accounts";

/// What every consent permits: reading who holds the accounts.
const ACCOUNT_PERMISSIONS: [&str; 1] = ["ReadAccountsDetail"];
const BALANCE_PERMISSIONS: [&str; 1] = ["ReadBalances"];
const TRANSACTION_PERMISSIONS: [&str; 4] = [
    "ReadTransactionsBasic",
    "ReadTransactionsDetail",
    "ReadTransactionsCredits",
    "ReadTransactionsDebits",
];

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

/// The part of `OBReadConsentResponse1` that is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObieConsentTerms {
    #[serde(default)]
    expiration_date_time: Option<String>,
    #[serde(default)]
    transaction_from_date_time: Option<String>,
}

/// Makes a consent to the accounts and these products. It has no end of its own: the bank sets one.
pub(super) async fn create_consent(
    call: ClientCall<'_>,
    products: &[Product],
) -> Result<ConsentId, BankFault> {
    let body = json!({ "Data": { "Permissions": required_permissions(products) }, "Risk": {} });
    let request = call
        .transport
        .post_request(resource_url(call.bank, &[CONSENTS])?)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string());
    parse_consent_id(&send_consent_request(call, request).await?)
}

/// Reads when a consent ends and what it opens.
pub(super) async fn fetch_consent_terms(
    call: ClientCall<'_>,
    id: &ConsentId,
) -> Result<ConsentTerms, BankFault> {
    let url = resource_url(call.bank, &[CONSENTS, id.as_str()])?;
    let request = call.transport.get_request(url);
    parse_consent_terms(&send_consent_request(call, request).await?)
}

/// Revokes a consent; one that the bank does not know any more counts as revoked.
pub(super) async fn revoke_consent(call: ClientCall<'_>, id: &ConsentId) -> Result<(), BankFault> {
    let url = resource_url(call.bank, &[CONSENTS, id.as_str()])?;
    let request = call.transport.delete_request(url);
    match send_consent_request(call, request).await {
        Err(fault) if !matches!(fault.status, Some(404 | 410)) => Err(fault),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sends a request with a new token of our own client.
async fn send_consent_request(
    call: ClientCall<'_>,
    request: RequestBuilder,
) -> Result<Vec<u8>, BankFault> {
    let client_token = request_client_token(call, CONSENT_SCOPE).await?;
    let request = with_headers(request, call.bank, &client_token.access_token);
    let context = CallContext::for_bank(call.bank, "consent", call.now);
    into_client_body(call.transport.send_request(request, context).await?)
}

fn required_permissions(products: &[Product]) -> Vec<&'static str> {
    let of_products = products.iter().flat_map(|product| match product {
        Product::Balance => BALANCE_PERMISSIONS.iter(),
        Product::Transactions => TRANSACTION_PERMISSIONS.iter(),
    });
    ACCOUNT_PERMISSIONS
        .iter()
        .chain(of_products)
        .copied()
        .collect()
}

fn parse_consent_id(body: &[u8]) -> Result<ConsentId, BankFault> {
    let created: ObieCreatedConsent = parse_consent_data(body)?;
    ConsentId::new(created.consent_id)
        .ok_or_else(|| malformed_fault("Data.ConsentId: not 1 to 128 visible ASCII characters"))
}

fn parse_consent_terms(body: &[u8]) -> Result<ConsentTerms, BankFault> {
    let terms: ObieConsentTerms = parse_consent_data(body)?;
    let from = parse_optional_time(
        terms.transaction_from_date_time.as_deref(),
        "Data.TransactionFromDateTime",
    )?;
    let ends = parse_optional_time(
        terms.expiration_date_time.as_deref(),
        "Data.ExpirationDateTime",
    )?;
    Ok(ConsentTerms {
        expires_at: ends.filter(|at| !at.is_never()).map(|at| at.instant),
        transactions_from: from.map(|at| at.day),
    })
}

fn parse_consent_data<T: DeserializeOwned>(body: &[u8]) -> Result<T, BankFault> {
    let envelope: ObieConsentEnvelope<T> = serde_json::from_slice(body)
        .map_err(|_| malformed_fault("the consent response cannot be read"))?;
    Ok(envelope.data)
}

/// A date and time; banks write one that is not set as null, as an empty string, or not at all.
fn parse_optional_time(text: Option<&str>, path: &str) -> Result<Option<BankDateTime>, BankFault> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => BankDateTime::parse(text)
            .map(Some)
            .ok_or_else(|| malformed_fault(&format!("{path}: must be a date and time"))),
    }
}

fn malformed_fault(detail: &str) -> BankFault {
    BankFault::new(FaultClass::MalformedResponse, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_created_consent_is_checked() {
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
    fn consent_terms_are_read_as_banks_write_them() {
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
            r#""ExpirationDateTime":"2026-06-01T00:00:00+01:00","TransactionFromDateTime":"2025-01-31T00:30:00+01:00""#,
            Some("2026-05-31T23:00:00Z"),
            Some("2025-01-31"),
        );
        check(r#""ExpirationDateTime":"9999-12-31T00:00:00Z""#, None, None);
        let body = br#"{"Data":{"ExpirationDateTime":"soon"}}"#;
        let fault = parse_consent_terms(body).unwrap_err();
        assert_eq!(fault.class, FaultClass::MalformedResponse);
        assert!(fault.detail.contains("ExpirationDateTime"), "{fault}");
    }

    #[test]
    fn a_consent_id_stays_one_segment_of_the_url() {
        let bank = serde_json::from_value(json!({
            "id": "5d6fe57a4099cc4b210bbeb3",
            "name": "Guaranty Trust Bank",
            "slug": "guaranty-trust-bank",
            "standard": "obie-3.1",
            "base_url": "https://bank.example/v3.1/aisp/",
        }))
        .unwrap();
        let id = ConsentId::new("../x?y#z").unwrap();
        let url = resource_url(&bank, &[CONSENTS, id.as_str()]).unwrap();
        assert_eq!(
            url.as_str(),
            "https://bank.example/v3.1/aisp/account-access-consents/..%2Fx%3Fy%23z"
        );
    }
}
