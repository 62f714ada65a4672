//! The begin of a link: who opens the widget is checked, and what the options name is checked against what the app has.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use okra_api::secrets_match;
use okra_core::model::{ids::AppId, snapshot::utc_date};
use okra_store::{App, Consistency, KeyHash, MAX_OPTIONS_BYTES, RecordStatus};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    link_session::{self, LinkProgress, RenewedConsent},
    options,
    origins::{is_same_origin, may_embed},
    steps::{consent::first_transaction_day, render_first_step},
};
use crate::{page_error::PageError, web_state::WebState};

/// Bytes of what a page hands the widget at most.
const MAX_BEGIN_BODY_BYTES: usize = 32 * 1024;

/// What the frame was handed.
#[derive(Deserialize)]
struct BeginRequest {
    /// The origin of the page, as the browser told the frame.
    origin: String,
    #[serde(default)]
    options: Map<String, Value>,
    /// True on the page of a short link, which stands in no other page.
    #[serde(default)]
    #[serde(rename = "alone")]
    is_standalone: bool,
}

/// A refusal as the frame hands it to the page: Okra's error object.
pub(crate) fn error_response(status: StatusCode, message: &str) -> Response {
    let body = json!({
        "type": "error", "error": true, "status": false, "code": 1000,
        "method": "Widget", "message": message,
    });
    (status, axum::Json(body)).into_response()
}

/// The app of the short link that the options name, where they name one: what was set with the link
/// stands below what the page says. What is wrong is a sentence.
async fn resolve_short_link(
    web: &WebState,
    request: &mut BeginRequest,
) -> Result<Result<Option<AppId>, &'static str>, PageError> {
    let name = ["ref", "short_url"]
        .iter()
        .find_map(|name| request.options.get(*name)?.as_str());
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(Ok(None));
    };
    let Some(link) = web.api.store.find_short_link(name).await? else {
        return Ok(Err(
            "There is no short link of that name here. They are made with links/new.",
        ));
    };
    let page = std::mem::replace(&mut request.options, link.options);
    request.options.extend(page);
    Ok(Ok(Some(link.app)))
}

/// The app of the options' public key and client token. What is wrong with them is a sentence.
async fn load_app_by_key(
    web: &WebState,
    options: &Map<String, Value>,
) -> Result<Result<App, &'static str>, PageError> {
    let text = |name: &str| {
        options
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (key, token) = (text("key").trim(), text("token").trim());
    let store = &web.api.store;
    let Some(app) = store
        .find_app_by_public_key(KeyHash::hash_secret(key))
        .await?
    else {
        return Ok(Err(
            "key is not a public key of any app here. It is on the dashboard, under Keys; a secret key never belongs into a page.",
        ));
    };
    let Some(app) = store.find_app(app).await? else {
        return Ok(Err("The app of that key is gone."));
    };
    if !secrets_match(&app.client_token().to_string(), token) {
        return Ok(Err(
            "token is not the client token of that key's app. It is on the dashboard, under Keys.",
        ));
    }
    Ok(Ok(app))
}

/// Begins a session.
pub(crate) async fn begin_session(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    if !is_same_origin(&headers) {
        return Ok(error_response(
            StatusCode::FORBIDDEN,
            "The widget is opened by its frame alone.",
        ));
    }
    let body = to_bytes(body, MAX_BEGIN_BODY_BYTES)
        .await
        .unwrap_or_default();
    let Ok(mut begin) = serde_json::from_slice::<BeginRequest>(&body) else {
        return Ok(error_response(
            StatusCode::BAD_REQUEST,
            "The options cannot be read: they have to be plain data of at most 32 KB.",
        ));
    };
    let by_link = resolve_short_link(&web, &mut begin).await?;
    let app = match by_link {
        Ok(Some(app)) => web.api.store.find_app(app).await?,
        Ok(None) => match load_app_by_key(&web, &begin.options).await? {
            Ok(app) => Some(app),
            Err(problem) => return Ok(error_response(StatusCode::UNAUTHORIZED, problem)),
        },
        Err(problem) => return Ok(error_response(StatusCode::NOT_FOUND, problem)),
    };
    let Some(app) = app else {
        return Ok(error_response(
            StatusCode::UNAUTHORIZED,
            "The app of that key is gone.",
        ));
    };
    let alone = begin.is_standalone && matches!(by_link, Ok(Some(_)));
    if !alone && !may_embed(&app, &begin.origin) {
        let message = format!(
            "Pages of {} may not open the widget of this app. Add that origin on the dashboard, under Keys.",
            if begin.origin.is_empty() {
                "an unknown origin"
            } else {
                &begin.origin
            }
        );
        return Ok(error_response(StatusCode::FORBIDDEN, &message));
    }
    let asked = match options::parse_options(&begin.options) {
        Ok(asked) => asked,
        Err(problem) => return Ok(error_response(StatusCode::BAD_REQUEST, &problem)),
    };
    let warnings = options::collect_warnings(&begin.options, app.environment);
    let mut link = LinkProgress::new(app.id, begin.origin, asked);
    if let Err(problem) = validate_options(&web, &app, &mut link).await? {
        return Ok(error_response(StatusCode::BAD_REQUEST, &problem));
    }
    let first = render_first_step(&web, &link).await?;
    let token = link_session::create_session(&web, &link).await?;
    Ok(axum::Json(json!({
        "session": token,
        "app": link.options.app_name.as_deref().unwrap_or(&app.name),
        "html": first.into_string(),
        "color": options::parse_color(&begin.options),
        "warnings": warnings,
    }))
    .into_response())
}

/// Checks what the options name against what the app has.
pub(crate) async fn validate_options(
    web: &WebState,
    app: &App,
    link: &mut LinkProgress,
) -> Result<Result<(), String>, PageError> {
    let store = &web.api.store;
    let (policy, own) = (web.api.address_policy, &web.api.public_url);
    if let Some(problem) = link.options.check_webhook_url(policy, own) {
        return Ok(Err(problem));
    }
    let echoed = [&link.options.options, &link.options.meta];
    let echoed = echoed.into_iter().filter(|it| !it.is_empty());
    let bytes = echoed.map(|it| serde_json::to_vec(it).map(|it| it.len()));
    if bytes.sum::<Result<usize, _>>()? > MAX_OPTIONS_BYTES {
        return Ok(Err(format!(
            "options and meta have more than {MAX_OPTIONS_BYTES} bytes together."
        )));
    }
    if !link.options.bank_slugs.is_empty() {
        let known = store.list_banks_for_app(app.id).await?;
        let is_known = |slug: &&String| known.iter().any(|bank| bank.slug == **slug);
        if let Some(unknown) = link.options.bank_slugs.iter().find(|it| !is_known(it)) {
            return Ok(Err(format!(
                "filter.banks has {unknown:?}, which is no bank here. Slugs are in banks/list."
            )));
        }
    }
    if let Some(customer) = link.options.customer {
        let known = store.find_customer(customer).await?;
        if known.is_none_or(|known| known.app != app.id) {
            return Ok(Err("customer.id is no customer of this app.".to_owned()));
        }
    }
    if let Some((account, bank)) = link.options.reauth_target {
        let known = store.find_account(account).await?;
        let Some(known) = known.filter(|known| known.app == app.id) else {
            return Ok(Err("reauth_account is no account of this app.".to_owned()));
        };
        if known.bank != bank {
            return Ok(Err(
                "reauth_bank is not the bank of reauth_account.".to_owned()
            ));
        }
        let head = store.find_head(known.record, Consistency::Eventual).await?;
        let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
            return Ok(Err(
                "The record of reauth_account was unlinked: link it as a new one.".to_owned(),
            ));
        };
        link.reauth_record = Some(known.record);
        // What is consented to anew is what the record is, whatever this page says.
        link.renewed_consent = Some(RenewedConsent {
            schedule: head.schedule,
            since: first_transaction_day(utc_date(head.created_at), head.backfill_months),
        });
        link.bank = Some(bank);
    }
    Ok(Ok(()))
}
