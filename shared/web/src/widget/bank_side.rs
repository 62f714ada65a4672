//! The way to the bank and back: a consent made with our own credentials, the customer's login there,
//! and a code exchanged for tokens (UK Open Banking; RFC 6749, 7636).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use data_encoding::BASE64URL_NOPAD;
use okra_api::await_bank_permit;
use okra_connectors::{ConsentSecret, oauth::TokenGrant};
use okra_core::model::{
    bank::{BankConfig, OAuthClient},
    fault::{BankFault, FaultClass},
    snapshot::Product,
};
use okra_refresh::open_client_secret;
use okra_vault::generate_nonce;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::link_session::{
    self as session, AuthorizationState as Returned, BankAuthorization, BankLinkError,
    OfferedAccount,
};
use crate::{
    components::document as shell, form::FormFields, page_error::PageError, web_state::WebState,
};

/// What OBIE calls what we read.
const CONSENT_SCOPE: &str = "accounts";

/// True where the bank has a page to which a customer can be sent.
pub(crate) fn has_login_page(bank: &BankConfig) -> bool {
    bank.oauth
        .as_ref()
        .is_some_and(|client| client.authorization_url.is_some())
}

fn redirect_uri(web: &WebState) -> String {
    format!("{}/widget/callback", web.api.public_url)
}

/// What a customer is told of a bank's fault. Our own is in the logs too.
fn to_link_error(fault: &BankFault) -> BankLinkError {
    tracing::warn!(
        fault.class = fault.class.as_str(),
        fault.detail,
        "a bank could not be linked"
    );
    match fault.class {
        FaultClass::BankUnavailable => BankLinkError::BankUnavailable,
        FaultClass::RateLimited | FaultClass::QuotaSpent => BankLinkError::RateLimited,
        FaultClass::ConsentRejected => BankLinkError::AccessDenied,
        FaultClass::MalformedResponse | FaultClass::Internal => BankLinkError::MalformedResponse,
    }
}

/// Makes a consent to these products at the bank, and the address to send the customer to.
pub(crate) async fn start_authorization(
    web: &WebState,
    bank: &BankConfig,
    session_token: &str,
    products: &[Product],
) -> Result<Result<BankAuthorization, BankLinkError>, PageError> {
    let Some(client) = bank.oauth.as_ref() else {
        return Ok(Err(BankLinkError::BankUnavailable));
    };
    let Some(authorize) = client.authorization_url.as_deref() else {
        return Ok(Err(BankLinkError::BankUnavailable));
    };
    let secret = open_client_secret(&web.api.vault, bank)?;
    let (connectors, now) = (&web.api.connectors, web.now());
    if await_bank_permit(&web.api, bank, now).await?.is_err() {
        return Ok(Err(BankLinkError::RateLimited));
    }
    let grant = TokenGrant::ClientCredentials {
        scope: CONSENT_SCOPE,
    };
    let ours = match connectors.request_token(bank, &secret, grant, now).await {
        Ok(ours) => ours,
        Err(fault) => return Ok(Err(to_link_error(&fault))),
    };
    let consent = match connectors.create_consent(bank, &ours, products, now).await {
        Ok(consent) => consent,
        Err(fault) => return Ok(Err(to_link_error(&fault))),
    };
    let nonce = BASE64URL_NOPAD.encode(&generate_nonce()?);
    let verifier = BASE64URL_NOPAD.encode(&[generate_nonce()?, generate_nonce()?].concat());
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    let state = Returned {
        session_token: session_token.to_owned(),
        nonce: nonce.clone(),
    }
    .seal_state(web)?;
    let redirect_uri = redirect_uri(web);
    let request = build_request_object(client, consent.as_str(), &redirect_uri, &state, &nonce)?;
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
    let query = query.map_err(|error| PageError::Internal(Box::new(error)))?;
    let sign = if authorize.contains('?') { '&' } else { '?' };
    Ok(Ok(BankAuthorization {
        nonce,
        pkce_verifier: verifier,
        consent_id: consent,
        authorization_url: format!("{authorize}{sign}{query}"),
    }))
}

/// Takes a consent back at the bank that no record was made of. False where the bank could not be asked to,
/// or did not do it: then the consent ends by itself, and its tokens are forgotten here.
pub(crate) async fn revoke_unused_consent(
    web: &WebState,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<bool, PageError> {
    let Some(id) = &consent.consent_id else {
        return Ok(false);
    };
    let secret = open_client_secret(&web.api.vault, bank)?;
    let (connectors, now) = (&web.api.connectors, web.now());
    if await_bank_permit(&web.api, bank, now).await?.is_err() {
        return Ok(false);
    }
    let grant = TokenGrant::ClientCredentials {
        scope: CONSENT_SCOPE,
    };
    let asked = async {
        let ours = connectors.request_token(bank, &secret, grant, now).await?;
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
fn build_request_object(
    client: &OAuthClient,
    consent_id: &str,
    redirect_uri: &str,
    state: &str,
    nonce: &str,
) -> Result<String, PageError> {
    let intent = json!({ "openbanking_intent_id": { "value": consent_id, "essential": true } });
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
pub(crate) async fn handle_callback(
    State(web): State<Arc<WebState>>,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    let returned = complete_authorization(&web, &query).await?;
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
    let page = super::render_message(title, sentence, true);
    Ok(shell::html_response(status, page))
}

/// True where the customer came back with a consent, false without one; `None` where nobody waits.
async fn complete_authorization(
    web: &WebState,
    query: &FormFields,
) -> Result<Option<bool>, PageError> {
    let Some(state) = Returned::open_sealed(web, query.get("state")) else {
        return Ok(None);
    };
    let Some(mut open) = session::load_session(web, &state.session_token).await? else {
        return Ok(None);
    };
    // A visit is used once: it is taken before the code is.
    let visit = open.link.authorization.take();
    let Some(visit) = visit.filter(|visit| visit.nonce == state.nonce) else {
        return Ok(None);
    };
    open.link.reading_since_s = Some(web.now().as_second());
    if !open.save_session(web).await? {
        return Ok(None);
    }
    let mut open = open.after_save();
    open.link.reading_since_s = None;
    let bank = match open.link.bank {
        Some(bank) => web.api.store.find_bank(bank).await?,
        None => None,
    };
    let Some(bank) = bank else { return Ok(None) };
    let exchanged = match query.get("code") {
        "" => Err(match query.get("error") {
            "temporarily_unavailable" | "server_error" => BankLinkError::BankUnavailable,
            "access_denied" => BankLinkError::AccessDenied,
            _ => BankLinkError::MalformedResponse,
        }),
        code => exchange_code(web, &bank, code, &visit).await?,
    };
    let good = exchanged.is_ok();
    match exchanged {
        Ok((consent, offered)) => {
            open.link.consent = Some(consent);
            open.link.offered_accounts = offered;
        }
        Err(problem) => open.link.bank_error = Some(problem),
    }
    open.save_session(web).await?;
    Ok(Some(good))
}

type ConsentWithAccounts = (okra_connectors::ConsentSecret, Vec<OfferedAccount>);

async fn exchange_code(
    web: &WebState,
    bank: &BankConfig,
    code: &str,
    authorization: &BankAuthorization,
) -> Result<Result<ConsentWithAccounts, BankLinkError>, PageError> {
    let secret = open_client_secret(&web.api.vault, bank)?;
    let redirect_uri = redirect_uri(web);
    let grant = TokenGrant::AuthorizationCode {
        code,
        redirect_uri: &redirect_uri,
        verifier: Some(&authorization.pkce_verifier),
    };
    let (connectors, now) = (&web.api.connectors, web.now());
    if await_bank_permit(&web.api, bank, now).await?.is_err() {
        return Ok(Err(BankLinkError::RateLimited));
    }
    let consent = match connectors.request_token(bank, &secret, grant, now).await {
        Ok(mut secret) => {
            secret.consent_id = Some(authorization.consent_id.clone());
            secret
        }
        Err(fault) => return Ok(Err(to_link_error(&fault))),
    };
    match connectors.fetch_accounts(bank, &consent, now).await {
        Ok(facts) => {
            let offered = facts.into_iter().map(|it| OfferedAccount {
                id: it.bank_account_id,
                name: it.name,
                number: it.number,
                kind: it.kind,
            });
            Ok(Ok((consent, offered.collect())))
        }
        Err(fault) => Ok(Err(to_link_error(&fault))),
    }
}
