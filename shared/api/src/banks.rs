//! Banks: open to read, as Okra's clients do without a key. What the operator configured is for all; what
//! an app adds is for that app, and shown where its key is.

use std::sync::Arc;

use axum::http::StatusCode;
use okra_connectors::{config::check_bank, security::requires_secret};
use okra_core::model::bank::BankConfig;
use okra_refresh::seal_client_secret;
use okra_store::{Consistency, MAX_BANKS, MAX_BANKS_PER_APP, OwnedBank, RecordHead, RecordStatus};
use okra_webhooks::check_url;
use okra_wire::bank::{BankListResource, BankResource};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
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

/// Adds a bank of the app, or replaces it: an extension. The body is a bank's configuration, with our
/// client's secret in `oauth.client_secret` where the bank wants one; it is sealed, and never shown again.
///
/// It is the app's alone: its customers are sent to the bank's page, and its consents to the bank's
/// address, so whoever could set those for another app would be sent that app's.
pub(crate) async fn add_bank(request: &ApiRequest) -> ApiResponse {
    let app = request.require_app()?.id;
    let store = &request.services.store;
    let (mut bank, secret) = parse_bank_config(request)?;
    let banks = store.list_banks().await?;
    let taken = banks.iter().any(|it| {
        let other = it.app != Some(app);
        (it.id == bank.id && other)
            || (it.id != bank.id && it.slug == bank.slug && it.is_visible_to(Some(app)))
    });
    if taken {
        return Err(bank_taken_error());
    }
    if !banks.iter().any(|it| it.id == bank.id) {
        let own = banks.iter().filter(|it| it.app == Some(app)).count();
        for (count, most) in [(banks.len(), MAX_BANKS), (own, MAX_BANKS_PER_APP)] {
            if count >= most {
                let problem = format!("is one too many: {most} can be configured");
                return Err(ApiError::invalid_field("bank", problem));
            }
        }
    }
    if let Some(client) = bank.oauth.as_mut().filter(|it| requires_secret(it)) {
        let sealed = seal_client_secret(&request.services.vault, bank.id, &secret)?;
        client.sealed_secret = Some(sealed);
    }
    if !store.put_bank_of_app(app, &bank).await? {
        return Err(bank_taken_error());
    }
    request.services.forget_banks();
    success_response("Bank added", BankResource::from(&bank))
}

fn bank_taken_error() -> ApiError {
    let message = "There is another bank with that id or slug";
    ApiError::new(StatusCode::CONFLICT, "CONFLICT", message)
}

/// Records of the app that are looked through before a bank of its goes, and read at a time.
const MAX_RECORDS_CHECKED: usize = 20_000;
const RECORDS_PER_READ: usize = 100;

/// Removes a bank of the app where none of its records is linked there: an extension.
pub(crate) async fn remove_bank(request: &ApiRequest) -> ApiResponse {
    let app = request.require_app()?.id;
    let id = request.input.require_id(&["id", "bank"])?;
    let store = &request.services.store;
    let bank = store
        .find_owned_bank(id)
        .await?
        .filter(|it| it.app == Some(app));
    let bank = bank.ok_or_else(|| ApiError::not_found("bank"))?;
    let in_use = |message: &str| ApiError::new(StatusCode::CONFLICT, "CONFLICT", message);
    let mut after = None;
    for _ in 0..MAX_RECORDS_CHECKED / RECORDS_PER_READ {
        let page = store
            .list_records_of_app(app, after, RECORDS_PER_READ)
            .await?;
        let linked = |head: &RecordHead| head.bank == id && head.status != RecordStatus::Invalid;
        if page.items.iter().any(linked) {
            return Err(in_use("Records are linked at that bank: unlink them first"));
        }
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    if after.is_some() {
        let message = "The app has too many records to see that none is linked at that bank";
        return Err(in_use(message));
    }
    if !store.delete_bank_of_app(app, id).await? {
        return Err(ApiError::not_found("bank"));
    }
    request.services.forget_banks();
    success_response("Bank removed", BankResource::from(&bank.config))
}

/// The bank as it was sent, checked, and our client's secret there.
fn parse_bank_config(request: &ApiRequest) -> Result<(BankConfig, Zeroizing<String>), ApiError> {
    let mut fields = request.input.fields().clone();
    let oauth = fields.get_mut("oauth").and_then(Value::as_object_mut);
    let secret = match oauth {
        Some(oauth) if oauth.contains_key("sealed_secret") => {
            let problem = "is not for the API; send client_secret";
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
    check_bank(&bank).map_err(|error| ApiError::invalid_field("bank", error))?;
    if secret.is_empty() && bank.oauth.as_ref().is_some_and(requires_secret) {
        let problem = "is missing: the client proves itself with a secret";
        return Err(ApiError::invalid_field("oauth.client_secret", problem));
    }
    let token_url = bank.oauth.as_ref().map(|client| &client.token_url);
    let urls = [
        ("base_url", Some(&bank.base_url)),
        ("oauth.token_url", token_url),
    ];
    for (field, url) in urls {
        if url.is_some_and(|url| check_url(url, request.services.address_policy).is_err()) {
            let problem = "has to be an https URL of a public host, on port 443 or 8443";
            return Err(ApiError::invalid_field(field, problem));
        }
    }
    Ok((bank, secret))
}

documented! {
    list_banks() -> BankListResource: "The banks that can be linked.";
    get_bank_by_id(ID) -> BankResource: "One bank.";
    add_bank(BANK_CONFIG) -> BankResource: "Adds a bank that this app alone sees and uses, or replaces it.";
    remove_bank(ID) -> BankResource: "Removes a bank of this app, where none of its records is linked.";
}
