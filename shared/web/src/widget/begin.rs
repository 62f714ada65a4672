//! The beginning of a link: the page that opens the widget is checked, and what its options name is checked against what
//! the app has.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use okra_core::model::{
    ids::{AccountId, AppId, BankId},
    snapshot::utc_date,
};
use okra_store::{App, CallLimit, Consistency, KeyHash, MAX_OPTIONS_BYTES, MINUTE_S, RecordStatus};
use okra_vault::secrets_match;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    link_session::{self, LinkProgress, RenewedConsent},
    options,
    origins::{is_same_origin, may_embed},
    steps::{consent::first_transaction_day, render_first_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// Bytes of the options that a page passes to the widget at most.
const MAX_BEGIN_BODY_BYTES: usize = 32 * 1024;

/// Sessions that the public key of an app begins at most: whoever reads the key on a page can.
const SESSION_LIMIT: CallLimit = CallLimit {
    max_calls: 300,
    window_s: MINUTE_S,
};

/// What the frame was passed.
#[derive(Deserialize)]
struct BeginRequest {
    /// The origin of the page, as the browser reported it to the frame.
    origin: String,
    #[serde(default)]
    options: Map<String, Value>,
    /// True on the page of a short link, which is not embedded in another page.
    #[serde(default)]
    #[serde(rename = "alone")]
    is_standalone: bool,
}

/// Why a session cannot begin.
enum BeginError {
    /// The page or its options are wrong, for the reason in the sentence, which is for the developer of the page.
    Rejected {
        status: StatusCode,
        message: String,
    },
    Page(PageError),
}

impl BeginError {
    fn rejected(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Rejected {
            status,
            message: message.into(),
        }
    }

    /// An option is wrong.
    fn invalid_option(message: impl Into<String>) -> Self {
        Self::rejected(StatusCode::BAD_REQUEST, message)
    }

    fn unknown_app(message: &str) -> Self {
        Self::rejected(StatusCode::UNAUTHORIZED, message)
    }
}

impl<E: Into<PageError>> From<E> for BeginError {
    fn from(error: E) -> Self {
        Self::Page(error.into())
    }
}

/// Begins a session: the token of the session, the first step, and warnings about the options.
pub(crate) async fn begin_session(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    match try_begin_session(&web, &headers, body).await {
        Ok(response) => Ok(response),
        Err(BeginError::Rejected { status, message }) => Ok(error_response(status, &message)),
        Err(BeginError::Page(error)) => Err(error),
    }
}

/// An error as the frame passes it to the page: Okra's error object.
fn error_response(status: StatusCode, message: &str) -> Response {
    let body = json!({
        "type": "error", "error": true, "status": false, "code": 1000,
        "method": "Widget", "message": message,
    });
    (status, axum::Json(body)).into_response()
}

async fn try_begin_session(
    web: &WebState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, BeginError> {
    // Who calls: our own frame, on a page of an origin that the app allows.
    if !is_same_origin(headers) {
        let message = "The widget is opened by its frame only.";
        return Err(BeginError::rejected(StatusCode::FORBIDDEN, message));
    }
    let mut begin = read_request(body).await?;
    let is_webhook_of_page = names_webhook(&begin.options);
    let short_link_app = resolve_short_link(web, &mut begin).await?;
    let app = match short_link_app {
        Some(app) => web.services.store.find_app(app).await?,
        None => Some(load_app_by_key(web, &begin.options).await?),
    };
    let app =
        app.ok_or_else(|| BeginError::unknown_app("The app of that key does not exist any more."))?;
    let is_standalone = begin.is_standalone && short_link_app.is_some();
    if !is_standalone && !may_embed(&app, &begin.origin) {
        let origin = match begin.origin.as_str() {
            "" => "an unknown origin",
            origin => origin,
        };
        let message = format!(
            "Pages of {origin} may not open the widget of this app. Add that origin on the dashboard, under Keys."
        );
        return Err(BeginError::rejected(StatusCode::FORBIDDEN, message));
    }
    let now = web.now();
    if !web
        .services
        .store
        .count_call(app.id, "widget", SESSION_LIMIT, now)
        .await?
    {
        let message = "The widget of this app is opened too often. Try again in a minute.";
        return Err(BeginError::rejected(StatusCode::TOO_MANY_REQUESTS, message));
    }
    // What the page requests.
    let link_options =
        options::parse_options(&begin.options).map_err(BeginError::invalid_option)?;
    let warnings = options::collect_warnings(&begin.options, app.environment);
    let mut link = LinkProgress::new(app.id, begin.origin, link_options);
    validate_options(web, &app, &mut link).await?;
    if is_webhook_of_page {
        check_webhook_host(web, &app, &link).await?;
    }
    // The session and its first step.
    let first_step = render_first_step(web, &link).await?;
    let token = link_session::create_session(web, &link).await?;
    let response = json!({
        "session": token,
        "app": link.options.app_name.as_deref().unwrap_or(&app.name),
        "html": first_step.into_string(),
        "color": options::parse_color(&begin.options),
        "warnings": warnings,
    });
    Ok(axum::Json(response).into_response())
}

async fn read_request(body: Body) -> Result<BeginRequest, BeginError> {
    let message = "The options cannot be read: they must be plain data of at most 32 KB.";
    let body = to_bytes(body, MAX_BEGIN_BODY_BYTES).await;
    let body = body.map_err(|_| BeginError::invalid_option(message))?;
    serde_json::from_slice(&body).map_err(|_| BeginError::invalid_option(message))
}

/// The app of the short link that the options name, where they name one. The options that were set with the link are
/// added below those of the page.
async fn resolve_short_link(
    web: &WebState,
    request: &mut BeginRequest,
) -> Result<Option<AppId>, BeginError> {
    let name = ["ref", "short_url"]
        .iter()
        .find_map(|name| request.options.get(*name)?.as_str());
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let Some(link) = web.services.store.find_short_link(name).await? else {
        let message =
            "There is no short link of that name here. Short links are created with links/new.";
        return Err(BeginError::rejected(StatusCode::NOT_FOUND, message));
    };
    let page_options = std::mem::replace(&mut request.options, link.options);
    request.options.extend(page_options);
    Ok(Some(link.app))
}

/// The app of the options' public key and client token.
async fn load_app_by_key(web: &WebState, options: &Map<String, Value>) -> Result<App, BeginError> {
    let (key, token) = (text_option(options, "key"), text_option(options, "token"));
    let store = &web.services.store;
    let app = store
        .find_app_by_public_key(KeyHash::hash_secret(key))
        .await?;
    let Some(app) = app else {
        return Err(BeginError::unknown_app(
            "key is not a public key of any app here. It is on the dashboard, under Keys; a secret key must never be on a page.",
        ));
    };
    let Some(app) = store.find_app(app).await? else {
        return Err(BeginError::unknown_app(
            "The app of that key does not exist any more.",
        ));
    };
    if !secrets_match(&app.client_token().to_string(), token) {
        return Err(BeginError::unknown_app(
            "token is not the client token of that key's app. It is on the dashboard, under Keys.",
        ));
    }
    Ok(app)
}

/// A text among the options, trimmed; empty where there is none.
fn text_option<'a>(options: &'a Map<String, Value>, name: &str) -> &'a str {
    let text = options.get(name).and_then(Value::as_str);
    text.unwrap_or_default().trim()
}

/// Checks what the options name against what the app has. Where they name an account whose consent is renewed, the link
/// takes over its record.
async fn validate_options(
    web: &WebState,
    app: &App,
    link: &mut LinkProgress,
) -> Result<(), BeginError> {
    let (policy, public_url) = (web.services.address_policy, &web.services.public_url);
    if let Some(problem) = link.options.check_webhook_url(policy, public_url) {
        return Err(BeginError::invalid_option(problem));
    }
    check_echoed_options(link)?;
    check_bank_filter(web, app, link).await?;
    if let Some(customer) = link.options.customer {
        let known = web.services.store.find_customer(customer).await?;
        if known.is_none_or(|known| known.app != app.id) {
            let message = "customer.id is not a customer of this app.";
            return Err(BeginError::invalid_option(message));
        }
    }
    match link.options.reauth_target {
        Some((account, bank)) => resolve_reauthorisation(web, app, link, account, bank).await,
        None => Ok(()),
    }
}

/// True where the options of a page name a webhook URL.
fn names_webhook(options: &Map<String, Value>) -> bool {
    let refresh = options.get("refresh").and_then(Value::as_object);
    options.contains_key("callback_url")
        || refresh.is_some_and(|refresh| refresh.contains_key("webhook_url"))
}

/// Checks that a webhook URL that a page names is on a host that the app registered with its secret key: of an endpoint,
/// or of a page that may open the widget. Whoever reads the public key on a page could have the data sent to himself.
async fn check_webhook_host(
    web: &WebState,
    app: &App,
    link: &LinkProgress,
) -> Result<(), BeginError> {
    let Some(host) = link.options.webhook_host() else {
        return Ok(());
    };
    let endpoints = web.services.store.list_endpoints(app.id).await?;
    let urls = endpoints.iter().map(|endpoint| endpoint.url.as_str());
    let mut registered = urls.chain(app.widget_origins.iter().map(String::as_str));
    if registered.any(|url| url_host(url).as_deref() == Some(&host))
        || may_embed(app, &format!("https://{host}"))
    {
        return Ok(());
    }
    Err(BeginError::invalid_option(format!(
        "The webhook URL is on {host}, which the app did not register. Set an endpoint there with webhooks/set, or add \
         its origin on the dashboard, under Keys."
    )))
}

/// The host of a URL; `None` where it has none.
fn url_host(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// Checks that what webhooks echo is not too long.
fn check_echoed_options(link: &LinkProgress) -> Result<(), BeginError> {
    let mut bytes = 0;
    for echoed in [&link.options.options, &link.options.meta] {
        if !echoed.is_empty() {
            bytes += serde_json::to_vec(echoed)?.len();
        }
    }
    if bytes <= MAX_OPTIONS_BYTES {
        return Ok(());
    }
    Err(BeginError::invalid_option(format!(
        "options and meta have more than {MAX_OPTIONS_BYTES} bytes together."
    )))
}

/// Checks that each bank to choose from exists.
async fn check_bank_filter(
    web: &WebState,
    app: &App,
    link: &LinkProgress,
) -> Result<(), BeginError> {
    if link.options.bank_slugs.is_empty() {
        return Ok(());
    }
    let banks = web.services.store.list_banks_for_app(app.id).await?;
    let mut slugs = link.options.bank_slugs.iter();
    match slugs.find(|slug| !banks.iter().any(|bank| bank.slug == **slug)) {
        Some(unknown) => Err(BeginError::invalid_option(format!(
            "filter.banks has {unknown:?}, which is not a bank here. Slugs are in banks/list."
        ))),
        None => Ok(()),
    }
}

/// Takes over the record of an account whose consent is renewed.
async fn resolve_reauthorisation(
    web: &WebState,
    app: &App,
    link: &mut LinkProgress,
    account: AccountId,
    bank: BankId,
) -> Result<(), BeginError> {
    let store = &web.services.store;
    let account = store.find_account(account).await?;
    let Some(account) = account.filter(|account| account.app == app.id) else {
        let message = "reauth_account is not an account of this app.";
        return Err(BeginError::invalid_option(message));
    };
    if account.bank != bank {
        let message = "reauth_bank is not the bank of reauth_account.";
        return Err(BeginError::invalid_option(message));
    }
    let head = store
        .find_head(account.record, Consistency::Eventual)
        .await?;
    let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
        let message = "The record of reauth_account was unlinked: link it as a new one.";
        return Err(BeginError::invalid_option(message));
    };
    link.reauth_record = Some(account.record);
    // The renewed consent is for what the record reads, whatever this page requests.
    link.renewed_consent = Some(RenewedConsent {
        schedule: head.schedule,
        since: first_transaction_day(utc_date(head.created_at), head.backfill_months),
    });
    link.bank = Some(bank);
    Ok(())
}
