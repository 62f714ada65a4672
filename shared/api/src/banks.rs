//! Banks: open to read, as Okra's clients do without a key.

use std::sync::Arc;

use axum::http::StatusCode;
use okra_banks::config::{check_bank, wants_secret};
use okra_core::bank::BankConfig;
use okra_refresh::{client_secret, seal_client_secret};
use okra_store::{Consistency, MAX_BANKS};
use okra_vault::same_secret;
use okra_webhooks::check_url;
use okra_wire::bank::{Bank, Banks};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
};

pub(crate) async fn list(call: &Call) -> Answer {
    let state = &call.state;
    let (banks, breakers) = futures::try_join!(
        state.kept.banks(&state.store, call.now()),
        state.store.breakers()
    )?;
    let shown = |bank: &Arc<BankConfig>| {
        let breaker = breakers.get(&bank.id).copied().unwrap_or_default();
        Bank::from(bank.as_ref()).doing(&breaker)
    };
    let banks = banks.iter().map(shown).collect();
    let data = Banks {
        banks,
        credentials: (),
    };
    success("Banks retrieved successfully", data)
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let id = call.input.needed_id(&["id", "bank"])?;
    let bank = call.named_bank(id).await?;
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    let breaker = call.state.store.breaker(id, Consistency::Eventual).await?;
    let bank = Bank::from(bank.as_ref()).doing(&breaker.unwrap_or_default());
    success("Bank retrieved successfully", bank)
}

/// Adds a bank: an extension. The body is a bank's configuration, with our client's secret in
/// `oauth.client_secret` where the bank wants one; it is sealed, and never shown again.
///
/// A bank that is there is not changed: other apps' consents are sent to its address, and whoever
/// could move it would be sent them.
pub(crate) async fn add(call: &Call) -> Answer {
    call.app()?;
    let store = &call.state.store;
    let (mut bank, secret) = configured(call)?;
    let banks = store.banks().await?;
    let known = banks
        .iter()
        .find(|it| it.id == bank.id || it.slug == bank.slug);
    match known {
        Some(known) if is_same(call, known, &bank, &secret) => {}
        Some(_) => {
            let message = "There is another bank with that id or slug";
            return Err(Refusal::new(StatusCode::CONFLICT, "CONFLICT", message));
        }
        None if banks.len() >= MAX_BANKS => {
            let problem = format!("is one too many: {MAX_BANKS} can be configured");
            return Err(Refusal::field("bank", problem));
        }
        None => {
            if let Some(client) = bank.oauth.as_mut().filter(|it| wants_secret(it)) {
                let sealed = seal_client_secret(&call.state.vault, bank.id, &secret)?;
                client.sealed_secret = Some(sealed);
            }
            store.put_bank(&bank).await?;
            call.state.kept.forget_banks();
        }
    }
    success("Bank added", Bank::from(&bank))
}

/// The bank as it was sent, checked, and our client's secret there.
fn configured(call: &Call) -> Result<(BankConfig, Zeroizing<String>), Refusal> {
    let mut fields = call.input.fields().clone();
    let oauth = fields.get_mut("oauth").and_then(Value::as_object_mut);
    let secret = match oauth {
        Some(oauth) if oauth.contains_key("sealed_secret") => {
            let problem = "is not for the API; send client_secret";
            return Err(Refusal::field("oauth.sealed_secret", problem));
        }
        Some(oauth) => oauth.remove("client_secret"),
        None => None,
    };
    let secret = match secret {
        Some(Value::String(secret)) => Zeroizing::new(secret),
        _ => Zeroizing::default(),
    };
    let bank: BankConfig = serde_json::from_value(Value::Object(fields))
        .map_err(|error| Refusal::field("bank", format!("cannot be read: {error}")))?;
    check_bank(&bank).map_err(|error| Refusal::field("bank", error))?;
    if secret.is_empty() && bank.oauth.as_ref().is_some_and(wants_secret) {
        let problem = "is missing: the client proves itself with a secret";
        return Err(Refusal::field("oauth.client_secret", problem));
    }
    let token_url = bank.oauth.as_ref().map(|client| &client.token_url);
    let urls = [
        ("base_url", Some(&bank.base_url)),
        ("oauth.token_url", token_url),
    ];
    for (field, url) in urls {
        if url.is_some_and(|url| check_url(url, call.state.addresses).is_err()) {
            let problem = "has to be an https URL of a public host, on port 443 or 8443";
            return Err(Refusal::field(field, problem));
        }
    }
    Ok((bank, secret))
}

/// True where a bank is configured as it is known, client secret included.
fn is_same(call: &Call, known: &BankConfig, bank: &BankConfig, secret: &str) -> bool {
    let mut bare = known.clone();
    if let Some(client) = &mut bare.oauth {
        client.sealed_secret = None;
    }
    let known_secret = client_secret(&call.state.vault, known);
    bare == *bank && known_secret.is_ok_and(|known| same_secret(&known, secret))
}

documented! {
    list() -> Banks: "The banks that can be linked.";
    get_by_id(ID) -> Bank: "One bank.";
    add(BANK_CONFIG) -> Bank: "Adds a bank. One that is there is not changed.";
}
