//! The URLs of the standard's resources, and the headers that every request carries.

use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
};
use reqwest::{RequestBuilder, header::ACCEPT};
use url::Url;

use super::accounts::is_usable_account_id;
use crate::connector::ConfigProblem;

/// The URL of a resource below the bank's base; its segments are encoded, so none of them leads elsewhere.
pub(super) fn resource_url(bank: &BankConfig, segments: &[&str]) -> Result<Url, BankFault> {
    let mut url = Url::parse(&bank.base_url).map_err(|_| unusable_base_url())?;
    url.path_segments_mut()
        .map_err(|()| unusable_base_url())?
        .pop_if_empty()
        .extend(segments);
    Ok(url)
}

fn unusable_base_url() -> BankFault {
    BankFault::new(
        FaultClass::Internal,
        "the bank's base_url is not a usable URL",
    )
}

/// The URL of a resource of an account.
pub(super) fn account_url(
    bank: &BankConfig,
    bank_account_id: &str,
    resource: &str,
) -> Result<Url, BankFault> {
    if !is_usable_account_id(bank_account_id) {
        let detail = "the account's id at the bank cannot be part of a URL";
        return Err(BankFault::new(FaultClass::Internal, detail));
    }
    resource_url(bank, &["accounts", bank_account_id, resource])
}

/// True for a URL below the bank's base: tokens are sent nowhere else.
pub(super) fn is_bank_url(bank: &BankConfig, url: &Url) -> Result<bool, BankFault> {
    let base = resource_url(bank, &[])?;
    let is_below = url
        .path()
        .strip_prefix(base.path().trim_end_matches('/'))
        .is_some_and(|rest| rest.starts_with('/'));
    let has_no_credentials = url.username().is_empty() && url.password().is_none();
    Ok(url.origin() == base.origin() && is_below && has_no_credentials)
}

/// A request with its token and the headers of the standard.
pub(super) fn with_headers(
    request: RequestBuilder,
    bank: &BankConfig,
    access_token: &str,
) -> RequestBuilder {
    let request = request
        .bearer_auth(access_token)
        .header(ACCEPT, "application/json");
    match &bank.financial_id {
        Some(id) => request.header("x-fapi-financial-id", id),
        None => request,
    }
}

/// Checks that the financial id can be sent in a header.
pub(super) fn check_financial_id(bank: &BankConfig) -> Result<(), ConfigProblem> {
    match &bank.financial_id {
        Some(id) if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(ConfigProblem {
                field: "financial_id",
                problem: "must be visible ASCII characters",
            })
        }
        Some(_) | None => Ok(()),
    }
}
