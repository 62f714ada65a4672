//! Banks: open to read, as Okra's clients read them without a key.
//!
//! The rule: a bank that the operator configured is for all apps; one that an app adds is visible to that app alone.

use std::sync::Arc;

use okra_app::banks::AddBankRequest;
use okra_connectors::{config::check_app_bank, security::requires_secret};
use okra_core::model::bank::BankConfig;
use okra_store::{Consistency, OwnedBank};
use okra_webhooks::check_url;
use okra_wire::bank::{BankListResource, BankResource};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    request::ApiRequest,
};

pub(crate) async fn list_banks(request: &ApiRequest) -> ApiResponse {
    let state = &request.services;
    let (banks, breakers) =
        futures::try_join!(state.load_cached_banks(), state.store.list_bank_breakers())?;
    let shown = |bank: &Arc<OwnedBank>| {
        let breaker = breakers.get(&bank.id).copied().unwrap_or_default();
        BankResource::from(&bank.config).with_breaker_state(&breaker)
    };
    let app = request.find_app().map(|app| app.id);
    let banks = banks.iter().filter(|bank| bank.is_visible_to(app));
    let banks = banks.map(shown).collect();
    let data = BankListResource {
        banks,
        credentials: (),
    };
    success_response("Banks retrieved successfully", data)
}

pub(crate) async fn get_bank_by_id(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_id(&["id", "bank"])?;
    let app = request.find_app().map(|app| app.id);
    let bank = request
        .services
        .load_cached_bank(id)
        .await?
        .filter(|bank| bank.is_visible_to(app));
    let bank = bank.ok_or_else(|| ApiError::not_found("bank"))?;
    let breaker = request
        .services
        .store
        .find_bank_breaker(id, Consistency::Eventual)
        .await?;
    let bank = BankResource::from(&bank.config).with_breaker_state(&breaker.unwrap_or_default());
    success_response("Bank retrieved successfully", bank)
}

/// The body is a bank's configuration, with our client's secret in `oauth.client_secret` where the bank requires one; it is
/// stored encrypted and never returned.
pub(crate) async fn add_bank(request: &ApiRequest) -> ApiResponse {
    let wanted = parse_add_bank_request(request)?;
    let bank = request.scope()?.add_bank(wanted).await?;
    success_response("Bank added", BankResource::from(&bank))
}

pub(crate) async fn remove_bank(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_id(&["id", "bank"])?;
    let bank = request.scope()?.remove_bank(id).await?;
    success_response("Bank removed", BankResource::from(&bank))
}

/// The bank as it was sent, checked, and the secret of our client there.
fn parse_add_bank_request(request: &ApiRequest) -> Result<AddBankRequest, ApiError> {
    let mut fields = request.input.fields().clone();
    let oauth = fields.get_mut("oauth").and_then(Value::as_object_mut);
    let secret = match oauth {
        Some(oauth) if oauth.contains_key("sealed_secret") => {
            let problem = "must not be sent; send client_secret";
            return Err(ApiError::invalid_field("oauth.sealed_secret", problem));
        }
        Some(oauth) => oauth.remove("client_secret"),
        None => None,
    };
    let secret = match secret {
        Some(Value::String(secret)) => Zeroizing::new(secret),
        _ => Zeroizing::default(),
    };
    let bank: BankConfig = serde_json::from_value(Value::Object(fields))
        .map_err(|error| ApiError::invalid_field("bank", format!("cannot be read: {error}")))?;
    check_app_bank(&bank).map_err(|error| ApiError::invalid_field("bank", error))?;
    if secret.is_empty() && bank.oauth.as_ref().is_some_and(requires_secret) {
        let problem = "is required: the client authenticates with a secret";
        return Err(ApiError::invalid_field("oauth.client_secret", problem));
    }
    let token_url = bank.oauth.as_ref().map(|client| &client.token_url);
    let urls = [
        ("base_url", Some(&bank.base_url)),
        ("oauth.token_url", token_url),
    ];
    for (field, url) in urls {
        if url.is_some_and(|url| check_url(url, request.services.address_policy).is_err()) {
            let problem = "must be an https URL of a public host, on port 443 or 8443";
            return Err(ApiError::invalid_field(field, problem));
        }
    }
    Ok(AddBankRequest {
        bank,
        client_secret: secret,
    })
}

routes! {
    Both Either [Okra "banks/list"] => list_banks() -> BankListResource:
        "Lists the banks that can be linked, with how each does at the moment.";
    Both Either [Okra "banks/getById"] => get_bank_by_id(ID) -> BankResource:
        "Returns one bank, with how it does at the moment.";
    Change Key [Ours "banks/add"] => add_bank(BANK_CONFIG) -> BankResource:
        "Adds a bank that only this app sees and uses, or replaces it, and returns it.";
    Change Key [Ours "banks/remove"] => remove_bank(ID) -> BankResource:
        "Removes a bank of this app at which no record is linked, and returns it.";
}
