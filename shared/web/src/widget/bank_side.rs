//! The way to the bank and back: a consent made with our own credentials, the customer's login there,
//! and a code exchanged for tokens (UK Open Banking; RFC 6749, 7636).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use data_encoding::BASE64URL_NOPAD;
use okra_api::place_at;
use okra_banks::{ConsentSecret, oauth::Grant};
use okra_core::{
    bank::{BankConfig, OAuthClient},
    fault::{BankFault, FaultClass},
    model::Product,
};
use okra_refresh::client_secret;
use okra_vault::fresh_nonce;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::session::{self, Offered, Problem, State as Returned, Visit};
use crate::{Web, form::Fields, html as shell, trouble::Trouble};

/// What OBIE calls what we read.
const SCOPE: &str = "accounts";

/// True where the bank has a page to which a customer can be sent.
pub(crate) fn has_page(bank: &BankConfig) -> bool {
    bank.oauth
        .as_ref()
        .is_some_and(|client| client.authorization_url.is_some())
}

fn redirect_uri(web: &Web) -> String {
    format!("{}/widget/callback", web.api.public_url)
}

/// What a customer is told of a bank's fault. Our own is in the logs too.
fn problem(fault: &BankFault) -> Problem {
    tracing::warn!(
        fault.class = fault.class.as_str(),
        fault.detail,
        "a bank could not be linked"
    );
    match fault.class {
        FaultClass::BankUnavailable => Problem::Down,
        FaultClass::RateLimited | FaultClass::QuotaSpent => Problem::Busy,
        FaultClass::ConsentRefused => Problem::Denied,
        FaultClass::Nonsense | FaultClass::Internal => Problem::Nonsense,
    }
}

/// Makes a consent to these products at the bank, and the address to send the customer to.
pub(crate) async fn visit(
    web: &Web,
    bank: &BankConfig,
    session: &str,
    products: &[Product],
) -> Result<Result<Visit, Problem>, Trouble> {
    let Some(client) = bank.oauth.as_ref() else {
        return Ok(Err(Problem::Down));
    };
    let Some(authorize) = client.authorization_url.as_deref() else {
        return Ok(Err(Problem::Down));
    };
    let secret = client_secret(&web.api.vault, bank)?;
    let (connectors, now) = (&web.api.connectors, web.now());
    if place_at(&web.api, bank, now).await?.is_err() {
        return Ok(Err(Problem::Busy));
    }
    let grant = Grant::ClientCredentials { scope: SCOPE };
    let ours = match connectors.token(bank, &secret, grant, now).await {
        Ok(ours) => ours,
        Err(fault) => return Ok(Err(problem(&fault))),
    };
    let consent = match connectors.new_consent(bank, &ours, products, now).await {
        Ok(consent) => consent,
        Err(fault) => return Ok(Err(problem(&fault))),
    };
    let nonce = BASE64URL_NOPAD.encode(&fresh_nonce()?);
    let verifier = BASE64URL_NOPAD.encode(&[fresh_nonce()?, fresh_nonce()?].concat());
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    let state = Returned {
        session: session.to_owned(),
        nonce: nonce.clone(),
    }
    .seal(web)?;
    let redirect_uri = redirect_uri(web);
    let request = request_object(client, consent.as_str(), &redirect_uri, &state, &nonce)?;
    let query = serde_urlencoded::to_string([
        ("response_type", "code"),
        ("client_id", &client.client_id),
        ("redirect_uri", &redirect_uri),
        ("scope", "openid accounts"),
        ("state", &state),
        ("nonce", &nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("request", &request),
    ]);
    let query = query.map_err(|error| Trouble::Internal(Box::new(error)))?;
    let sign = if authorize.contains('?') { '&' } else { '?' };
    Ok(Ok(Visit {
        nonce,
        verifier,
        consent,
        url: format!("{authorize}{sign}{query}"),
    }))
}

/// Takes a consent back at the bank that no record was made of. False where the bank could not be asked to,
/// or did not do it: then the consent ends by itself, and its tokens are forgotten here.
pub(crate) async fn take_back(
    web: &Web,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<bool, Trouble> {
    let Some(id) = &consent.consent_id else {
        return Ok(false);
    };
    let secret = client_secret(&web.api.vault, bank)?;
    let (connectors, now) = (&web.api.connectors, web.now());
    if place_at(&web.api, bank, now).await?.is_err() {
        return Ok(false);
    }
    let grant = Grant::ClientCredentials { scope: SCOPE };
    let asked = async {
        let ours = connectors.token(bank, &secret, grant, now).await?;
        connectors.revoke_consent(bank, &ours, id, now).await
    };
    match asked.await {
        Ok(()) => Ok(true),
        Err(fault) => {
            tracing::warn!(bank = %bank.id, fault.detail, "a consent without a record could not be taken back");
            Ok(false)
        }
    }
}

/// The request object that names the consent (OBIE security profile): unsigned, `alg` is `none`. Banks
/// that want it signed want a certificate of the directory too, which there is no place for yet.
fn request_object(
    client: &OAuthClient,
    consent: &str,
    redirect_uri: &str,
    state: &str,
    nonce: &str,
) -> Result<String, Trouble> {
    let intent = json!({ "openbanking_intent_id": { "value": consent, "essential": true } });
    let claims = json!({
        "iss": client.client_id,
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid accounts",
        "state": state,
        "nonce": nonce,
        "claims": { "id_token": intent, "userinfo": intent },
    });
    let head = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let claims = BASE64URL_NOPAD.encode(&serde_json::to_vec(&claims)?);
    Ok(format!("{head}.{claims}."))
}

/// The customer comes back: the page of the window that was open at the bank.
pub(crate) async fn callback(State(web): State<Arc<Web>>, uri: Uri) -> Result<Response, Trouble> {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    let returned = returned(&web, &query).await?;
    let (status, title, sentence) = match returned {
        Some(true) => (
            StatusCode::OK,
            "You are logged in",
            "You can close this window and go on where you came from.",
        ),
        Some(false) => (
            StatusCode::OK,
            "Nothing was shared",
            "You can close this window and try again where you came from.",
        ),
        None => (
            StatusCode::BAD_REQUEST,
            "This login is over",
            "It was used before or took too long. Close this window and start again.",
        ),
    };
    let page = super::said(title, sentence, true);
    Ok(shell::respond(status, page))
}

/// True where the customer came back with a consent, false without one; `None` where nobody waits.
async fn returned(web: &Web, query: &Fields) -> Result<Option<bool>, Trouble> {
    let Some(state) = Returned::open(web, query.get("state")) else {
        return Ok(None);
    };
    let Some(mut open) = session::open(web, &state.session).await? else {
        return Ok(None);
    };
    // A visit is used once: it is taken before the code is.
    let visit = open.link.visit.take();
    let Some(visit) = visit.filter(|visit| visit.nonce == state.nonce) else {
        return Ok(None);
    };
    open.link.reading_s = Some(web.now().as_second());
    if !open.save(web).await? {
        return Ok(None);
    }
    let mut open = open.next();
    open.link.reading_s = None;
    let bank = match open.link.bank {
        Some(bank) => web.api.store.bank(bank).await?,
        None => None,
    };
    let Some(bank) = bank else { return Ok(None) };
    let exchanged = match query.get("code") {
        "" => Err(match query.get("error") {
            "temporarily_unavailable" | "server_error" => Problem::Down,
            "access_denied" => Problem::Denied,
            _ => Problem::Nonsense,
        }),
        code => exchange(web, &bank, code, &visit).await?,
    };
    let good = exchanged.is_ok();
    match exchanged {
        Ok((consent, offered)) => {
            open.link.consent = Some(consent);
            open.link.offered = offered;
        }
        Err(problem) => open.link.problem = Some(problem),
    }
    open.save(web).await?;
    Ok(Some(good))
}

type Exchanged = (okra_banks::ConsentSecret, Vec<Offered>);

async fn exchange(
    web: &Web,
    bank: &BankConfig,
    code: &str,
    visit: &Visit,
) -> Result<Result<Exchanged, Problem>, Trouble> {
    let secret = client_secret(&web.api.vault, bank)?;
    let redirect_uri = redirect_uri(web);
    let grant = Grant::AuthorizationCode {
        code,
        redirect_uri: &redirect_uri,
        verifier: Some(&visit.verifier),
    };
    let (connectors, now) = (&web.api.connectors, web.now());
    if place_at(&web.api, bank, now).await?.is_err() {
        return Ok(Err(Problem::Busy));
    }
    let consent = match connectors.token(bank, &secret, grant, now).await {
        Ok(mut secret) => {
            secret.consent_id = Some(visit.consent.clone());
            secret
        }
        Err(fault) => return Ok(Err(problem(&fault))),
    };
    match connectors.accounts(bank, &consent, now).await {
        Ok(facts) => {
            let offered = facts.into_iter().map(|it| Offered {
                id: it.bank_account_id,
                name: it.name,
                number: it.number,
                kind: it.kind,
            });
            Ok(Ok((consent, offered.collect())))
        }
        Err(fault) => Ok(Err(problem(&fault))),
    }
}
