//! Banks: open to read, as Okra's clients do without a key.

use axum::http::StatusCode;
use okra_banks::config::check_bank;
use okra_core::bank::BankConfig;
use okra_store::MAX_BANKS;
use okra_webhooks::check_url;
use okra_wire::bank::{Bank, Banks};
use serde_json::Value;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
};

pub(crate) async fn list(call: &Call) -> Answer {
    let banks = call.state.store.banks().await?;
    let banks = banks.iter().map(Bank::from).collect();
    let data = Banks {
        banks,
        credentials: (),
    };
    success("Banks retrieved successfully", data)
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let id = call.input.needed_id(&["id", "bank"])?;
    let bank = call.state.store.bank(id).await?;
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    success("Bank retrieved successfully", Bank::from(&bank))
}

/// Adds a bank: an extension. The body is a bank's configuration.
///
/// A bank that is there is not changed: other apps' consents are sent to its address, and whoever
/// could move it would be sent them.
pub(crate) async fn add(call: &Call) -> Answer {
    call.app()?;
    let store = &call.state.store;
    let fields = Value::Object(call.input.fields().clone());
    let bank: BankConfig = serde_json::from_value(fields)
        .map_err(|error| Refusal::field("bank", format!("cannot be read: {error}")))?;
    check_bank(&bank).map_err(|error| Refusal::field("bank", error))?;
    check_url(&bank.base_url, call.state.addresses).map_err(|_| {
        let problem = "has to be an https URL of a public host, on port 443 or 8443";
        Refusal::field("base_url", problem)
    })?;
    let banks = store.banks().await?;
    match banks
        .iter()
        .find(|it| it.id == bank.id || it.slug == bank.slug)
    {
        Some(known) if *known == bank => {}
        Some(_) => {
            let message = "There is another bank with that id or slug";
            return Err(Refusal::new(StatusCode::CONFLICT, "CONFLICT", message));
        }
        None if banks.len() >= MAX_BANKS => {
            let problem = format!("is one too many: {MAX_BANKS} can be configured");
            return Err(Refusal::field("bank", problem));
        }
        None => store.put_bank(&bank).await?,
    }
    success("Bank added", Bank::from(&bank))
}

documented! {
    list() -> Banks: "The banks that can be linked.";
    get_by_id(ID) -> Bank: "One bank.";
    add(BANK_CONFIG) -> Bank: "Adds a bank. One that is there is not changed.";
}
