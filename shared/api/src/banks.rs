//! Banks: open to read, as Okra's clients do without a key. What the operator configured is for all; what
//! an app adds is for that app, and shown where its key is.

use std::sync::Arc;

use axum::http::StatusCode;
use okra_banks::config::{check_bank, wants_secret};
use okra_core::bank::BankConfig;
use okra_refresh::seal_client_secret;
use okra_store::{Consistency, Head, MAX_BANKS, MAX_BANKS_OF_APP, OwnedBank, RecordStatus};
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
    let shown = |bank: &Arc<OwnedBank>| {
        let breaker = breakers.get(&bank.id).copied().unwrap_or_default();
        Bank::from(&bank.config).doing(&breaker)
    };
    let app = call.app().ok().map(|app| app.id);
    let banks = banks.iter().filter(|bank| bank.is_for(app));
    let banks = banks.map(shown).collect();
    let data = Banks {
        banks,
        credentials: (),
    };
    success("Banks retrieved successfully", data)
}

pub(crate) async fn get_by_id(call: &Call) -> Answer {
    let id = call.input.needed_id(&["id", "bank"])?;
    let app = call.app().ok().map(|app| app.id);
    let bank = call.named_bank(id).await?.filter(|bank| bank.is_for(app));
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    let breaker = call.state.store.breaker(id, Consistency::Eventual).await?;
    let bank = Bank::from(&bank.config).doing(&breaker.unwrap_or_default());
    success("Bank retrieved successfully", bank)
}

/// Adds a bank of the app, or replaces it: an extension. The body is a bank's configuration, with our
/// client's secret in `oauth.client_secret` where the bank wants one; it is sealed, and never shown again.
///
/// It is the app's alone: its customers are sent to the bank's page, and its consents to the bank's
/// address, so whoever could set those for another app would be sent that app's.
pub(crate) async fn add(call: &Call) -> Answer {
    let app = call.app()?.id;
    let store = &call.state.store;
    let (mut bank, secret) = configured(call)?;
    let banks = store.banks().await?;
    let taken = banks.iter().any(|it| {
        let other = it.app != Some(app);
        (it.id == bank.id && other)
            || (it.id != bank.id && it.slug == bank.slug && it.is_for(Some(app)))
    });
    if taken {
        return Err(taken_already());
    }
    if !banks.iter().any(|it| it.id == bank.id) {
        let own = banks.iter().filter(|it| it.app == Some(app)).count();
        for (count, most) in [(banks.len(), MAX_BANKS), (own, MAX_BANKS_OF_APP)] {
            if count >= most {
                let problem = format!("is one too many: {most} can be configured");
                return Err(Refusal::field("bank", problem));
            }
        }
    }
    if let Some(client) = bank.oauth.as_mut().filter(|it| wants_secret(it)) {
        let sealed = seal_client_secret(&call.state.vault, bank.id, &secret)?;
        client.sealed_secret = Some(sealed);
    }
    if !store.put_bank_of(app, &bank).await? {
        return Err(taken_already());
    }
    call.state.kept.forget_banks();
    success("Bank added", Bank::from(&bank))
}

fn taken_already() -> Refusal {
    let message = "There is another bank with that id or slug";
    Refusal::new(StatusCode::CONFLICT, "CONFLICT", message)
}

/// Records of the app that are looked through before a bank of its goes, and read at a time.
const MAX_LOOKED_AT: usize = 20_000;
const BATCH: usize = 100;

/// Removes a bank of the app where none of its records is linked there: an extension.
pub(crate) async fn remove(call: &Call) -> Answer {
    let app = call.app()?.id;
    let id = call.input.needed_id(&["id", "bank"])?;
    let store = &call.state.store;
    let bank = store.owned_bank(id).await?.filter(|it| it.app == Some(app));
    let bank = bank.ok_or_else(|| Refusal::not_found("bank"))?;
    let in_use = |message: &str| Refusal::new(StatusCode::CONFLICT, "CONFLICT", message);
    let mut after = None;
    for _ in 0..MAX_LOOKED_AT / BATCH {
        let page = store.records_of_app(app, after, BATCH).await?;
        let linked = |head: &Head| head.bank == id && head.status != RecordStatus::Invalid;
        if page.items.iter().any(linked) {
            return Err(in_use("Records are linked at that bank: unlink them first"));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if after.is_some() {
        let message = "The app has too many records to see that none is linked at that bank";
        return Err(in_use(message));
    }
    if !store.delete_bank_of(app, id).await? {
        return Err(Refusal::not_found("bank"));
    }
    call.state.kept.forget_banks();
    success("Bank removed", Bank::from(&bank.config))
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

documented! {
    list() -> Banks: "The banks that can be linked.";
    get_by_id(ID) -> Bank: "One bank.";
    add(BANK_CONFIG) -> Bank: "Adds a bank that this app alone sees and uses, or replaces it.";
    remove(ID) -> Bank: "Removes a bank of this app, where none of its records is linked.";
}
