//! The customer's login at the bank, from the widget's side: the session, the sealed state and the pages. What is
//! sent to the bank is the connector's.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use data_encoding::BASE64URL_NOPAD;
use okra_connectors::{ConsentSecret, LoginCode, LoginRequest, has_login_page};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    snapshot::Product,
};
use okra_refresh::open_client_secret;
use okra_vault::generate_nonce;

use super::{
    browser_proof::{CALLBACK_PATH, is_same_browser},
    link_session::{
        self as session, AuthorizationState as Returned, BankAuthorization, BankLinkError,
        OfferedAccount,
    },
};
use crate::{
    components::document as shell, form::FormFields, page_error::PageError, web_state::WebState,
};

fn redirect_uri(web: &WebState) -> String {
    format!("{}{CALLBACK_PATH}", web.services.public_url)
}

/// What a customer is shown of a bank's fault. The fault itself is logged for the operator.
fn to_link_error(bank: &BankConfig, fault: &BankFault) -> BankLinkError {
    tracing::warn!(
        bank.id = %bank.id,
        fault.class = fault.class.as_str(),
        fault.detail,
        "a bank could not be linked"
    );
    match fault.class {
        FaultClass::BankUnavailable => BankLinkError::BankUnavailable,
        FaultClass::RateLimited | FaultClass::QuotaSpent => BankLinkError::RateLimited,
        FaultClass::ConsentRejected => BankLinkError::AccessDenied,
        FaultClass::AccountGone | FaultClass::MalformedResponse | FaultClass::Internal => {
            BankLinkError::MalformedResponse
        }
    }
}

/// Begins a login: makes a consent to these products at the bank, and the URL to send the customer to.
pub(crate) async fn start_authorization(
    web: &WebState,
    bank: &BankConfig,
    session_token: &str,
    products: &[Product],
) -> Result<Result<BankAuthorization, BankLinkError>, PageError> {
    if !has_login_page(bank) {
        return Ok(Err(BankLinkError::BankUnavailable));
    }
    let secret = open_client_secret(&web.services.vault, bank)?;
    let now = web.now();
    if web
        .services
        .await_bank_permit(bank, now)
        .await?
        .is_exhausted()
    {
        return Ok(Err(BankLinkError::RateLimited));
    }
    let nonce = BASE64URL_NOPAD.encode(&generate_nonce()?);
    let pkce_verifier = BASE64URL_NOPAD.encode(&[generate_nonce()?, generate_nonce()?].concat());
    let state = Returned {
        session_token: session_token.to_owned(),
        nonce: nonce.clone(),
    }
    .seal_state(web)?;
    let request = LoginRequest {
        products,
        redirect_uri: &redirect_uri(web),
        state: &state,
        nonce: &nonce,
        pkce_verifier: &pkce_verifier,
    };
    let login = web
        .services
        .connectors
        .begin_login(bank, &secret, request, now)
        .await;
    Ok(match login {
        Ok(login) => Ok(BankAuthorization {
            nonce,
            pkce_verifier,
            consent_id: login.consent_id,
            authorization_url: login.authorization_url,
            browser_hash: None,
        }),
        Err(fault) => Err(to_link_error(bank, &fault)),
    })
}

/// Revokes a consent at the bank that no record was made of. False where the bank could not be called or did not
/// revoke it: then the consent ends by itself, and its tokens are deleted here.
pub(crate) async fn revoke_unused_consent(
    web: &WebState,
    bank: &BankConfig,
    consent: &ConsentSecret,
) -> Result<bool, PageError> {
    let Some(id) = &consent.consent_id else {
        return Ok(false);
    };
    let secret = open_client_secret(&web.services.vault, bank)?;
    let (connectors, now) = (&web.services.connectors, web.now());
    if web
        .services
        .await_bank_permit(bank, now)
        .await?
        .is_exhausted()
    {
        return Ok(false);
    }
    match connectors.revoke_consent(bank, &secret, id, now).await {
        Ok(()) => Ok(true),
        Err(fault) => {
            tracing::warn!(
                bank.id = %bank.id,
                fault.class = fault.class.as_str(),
                fault.detail,
                "a consent without a record could not be revoked"
            );
            Ok(false)
        }
    }
}

/// The customer comes back: the page of the window that was open at the bank.
pub(crate) async fn handle_callback(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    let returned = complete_authorization(&web, &headers, &query).await?;
    let (status, title, sentence) = match returned {
        CallbackOutcome::Authorised => (
            StatusCode::OK,
            "You are logged in",
            "You can close this window and go on where you came from.",
        ),
        CallbackOutcome::NotAuthorised => (
            StatusCode::OK,
            "Nothing was shared",
            "You can close this window and try again where you came from.",
        ),
        CallbackOutcome::OtherBrowser => (
            StatusCode::BAD_REQUEST,
            "This login began in another browser",
            "Nothing was shared. Somebody may have sent you the bank's address. Link your bank only where you began yourself.",
        ),
        CallbackOutcome::NobodyWaits => (
            StatusCode::BAD_REQUEST,
            "This login is over",
            "It was used before or took too long. Close this window and start again.",
        ),
    };
    let page = super::render_message(title, sentence, true);
    Ok(shell::html_response(status, page))
}

/// How a return from the bank ended.
enum CallbackOutcome {
    /// With a consent.
    Authorised,
    /// Without one.
    NotAuthorised,
    /// The browser is not the one in which the login began; the code was not used.
    OtherBrowser,
    /// No session waits for this return.
    NobodyWaits,
}

async fn complete_authorization(
    web: &WebState,
    headers: &HeaderMap,
    query: &FormFields,
) -> Result<CallbackOutcome, PageError> {
    let Some(state) = Returned::open_sealed(web, query.get("state")) else {
        return Ok(CallbackOutcome::NobodyWaits);
    };
    let Some(mut open) = session::load_session(web, &state.session_token).await? else {
        return Ok(CallbackOutcome::NobodyWaits);
    };
    // A login is used once: it is taken before the code is.
    let login = open.link.authorization.take();
    let Some(login) = login.filter(|login| login.nonce == state.nonce) else {
        return Ok(CallbackOutcome::NobodyWaits);
    };
    if !is_same_browser(&login, headers) {
        tracing::warn!(app.id = %open.link.app, "A login at a bank ended in another browser than it began in");
        return Ok(CallbackOutcome::OtherBrowser);
    }
    open.link.reading_since_s = Some(web.now().as_second());
    if !open.save_session(web).await? {
        return Ok(CallbackOutcome::NobodyWaits);
    }
    let mut open = open.after_save();
    open.link.reading_since_s = None;
    let bank = match open.link.bank {
        Some(bank) => web.services.store.find_bank(bank).await?,
        None => None,
    };
    let Some(bank) = bank else {
        return Ok(CallbackOutcome::NobodyWaits);
    };
    let exchanged = match query.get("code") {
        "" => Err(match query.get("error") {
            "temporarily_unavailable" | "server_error" => BankLinkError::BankUnavailable,
            "access_denied" => BankLinkError::AccessDenied,
            _ => BankLinkError::MalformedResponse,
        }),
        code => exchange_code(web, &bank, code, &login).await?,
    };
    let outcome = match exchanged {
        Ok((consent, offered)) => {
            open.link.consent = Some(consent);
            open.link.offered_accounts = offered;
            CallbackOutcome::Authorised
        }
        Err(problem) => {
            open.link.bank_error = Some(problem);
            CallbackOutcome::NotAuthorised
        }
    };
    open.save_session(web).await?;
    Ok(outcome)
}

/// A consent that its user has authorised, and the accounts that it covers.
type ConsentWithAccounts = (ConsentSecret, Vec<OfferedAccount>);

async fn exchange_code(
    web: &WebState,
    bank: &BankConfig,
    code: &str,
    authorization: &BankAuthorization,
) -> Result<Result<ConsentWithAccounts, BankLinkError>, PageError> {
    let secret = open_client_secret(&web.services.vault, bank)?;
    let login = LoginCode {
        code,
        redirect_uri: &redirect_uri(web),
        pkce_verifier: &authorization.pkce_verifier,
        consent_id: &authorization.consent_id,
    };
    let (connectors, now) = (&web.services.connectors, web.now());
    if web
        .services
        .await_bank_permit(bank, now)
        .await?
        .is_exhausted()
    {
        return Ok(Err(BankLinkError::RateLimited));
    }
    let consent = match connectors.complete_login(bank, &secret, login, now).await {
        Ok(consent) => consent,
        Err(fault) => return Ok(Err(to_link_error(bank, &fault))),
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
        Err(fault) => Ok(Err(to_link_error(bank, &fault))),
    }
}
