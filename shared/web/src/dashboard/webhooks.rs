//! The app's webhook endpoints: what they are told, how they are, and what they were sent.

pub(super) mod log;
pub(super) mod replays;

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    delivery::endpoint_health::{DisableReason, EndpointCircuit},
    model::{
        ids::{EndpointId, RecordId},
        snapshot::Product,
    },
    resilience::rate_limiter::{SEND_RATE_RANGE, SendRate},
    sync::feed::PayloadMode,
};
use okra_store::{Endpoint, SortOrder, StoredEndpointHealth};
use okra_webhooks::{endpoint_id, retained_since};
use okra_wire::webhook::EVENT_NAMES;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{call_api, live};
use crate::{
    WebState,
    form::FormFields,
    html::{DashboardPage, Section, render_csrf_field, render_empty_state, render_table},
    session::{AppSession, SubmittedForm},
    show,
    trouble::PageError,
};

/// Parked events that are counted one by one; of more it is said about how many there are.
const MAX_PARKED_COUNTED: usize = 1000;

/// Deliveries that stand on the page of an endpoint.
const NEWEST_DELIVERIES: usize = 8;

fn respond_webhooks_page(
    session: &AppSession,
    title: &str,
    live: Option<String>,
    body: Markup,
) -> Response {
    DashboardPage {
        session,
        section: Section::Webhooks,
        title,
        live_url: live,
        body,
    }
    .into_response()
}

/// Where what is new of the pages of a URL is told from.
fn live_events_href(url: &str) -> String {
    log::log_href("/live", &[("url", url)])
}

/// What is new of a URL: its health, its newest deliveries, the app's replays, and the delivery that a
/// page is about.
pub(super) async fn endpoint_events(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    headers: axum::http::HeaderMap,
) -> Result<Response, PageError> {
    let (store, app) = (&web.api.store, session.app.id);
    let endpoint = endpoint_id(app, session.query.get("url"));
    let times = retained_since(web.now())..=web.now();
    let read = futures::future::try_join3(
        store.load_endpoint_health(endpoint),
        store.list_deliveries(
            endpoint,
            times,
            None,
            SortOrder::Descending,
            NEWEST_DELIVERIES,
        ),
        store.list_replays(app),
    );
    let (health, newest, replays) = Box::pin(read).await?;
    let one = match session.query.get("event") {
        "" => None,
        event => Some(log::load_delivery(&web, &session, endpoint, event).await?.0),
    };
    let state = format!("{health:?} {newest:?} {replays:?} {one:?}");
    let digest = Sha256::digest(state.as_bytes());
    let version = data_encoding::HEXLOWER.encode(&digest[..8]);
    Ok(live::version_event(&headers, &version))
}

/// The URLs that a record's events go to, by the ids of their endpoints.
async fn load_endpoint_urls(
    web: &WebState,
    session: &AppSession,
    record: RecordId,
) -> Result<HashMap<EndpointId, String>, PageError> {
    let (store, app) = (&web.api.store, session.app.id);
    let endpoints = store.list_endpoints(app).await?;
    let mut urls: HashMap<_, _> = endpoints.into_iter().map(|it| (it.id, it.url)).collect();
    let subscriptions = store.list_subscriptions(record).await?;
    let of_sync = subscriptions.into_iter().filter_map(|it| it.webhook_url);
    urls.extend(of_sync.map(|url| (endpoint_id(app, &url), url)));
    Ok(urls)
}

/// Whether events are sent to an endpoint.
fn render_health_badge(health: &StoredEndpointHealth) -> Markup {
    let health = &health.health;
    match (&health.disabled, health.circuit, health.failing_since) {
        (Some(_), ..) => show::render_badge("idle", "Disabled"),
        (None, EndpointCircuit::Open { .. }, _) => show::render_badge("bad", "Parked"),
        (None, EndpointCircuit::Closed, Some(_)) => show::render_badge("warn", "Failing"),
        (None, EndpointCircuit::Closed, None) => show::render_badge("good", "Healthy"),
    }
}

pub(crate) async fn render_webhooks_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let store = &web.api.store;
    let endpoints = store.list_endpoints(session.app.id).await?;
    let healths = endpoints.iter().map(|it| store.load_endpoint_health(it.id));
    let healths = futures::future::try_join_all(healths).await?;
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Webhooks" }
            p.sub { "Every change of every record is told to these endpoints, signed, at least once." }
        }
        @if endpoints.is_empty() {
            (render_empty_state("No endpoints yet", &html! {
                p { "Add the URL of your server that takes webhooks. To try it without a server, " code { "cargo run" }
                    " has a receiver; to see webhooks on your own machine, run one there." }
            }))
        } @else {
            (render_table("Endpoints", &html! {
                th { "URL" } th { "State" } th { "Log" } th.wide { "Told of" } th.wide { "Payload" } th.wide { "Made" }
            }, &html! {
                @for (it, health) in endpoints.iter().zip(&healths) {
                    tr {
                        td.break { a.strong href={ "/dashboard/webhooks/" (it.id) } { (it.url) } }
                        td { (render_health_badge(health)) @if let Some(at) = health.health.next_probe_at() { span.note { "probe " (show::render_relative_time(now, at)) } } }
                        td { a href=(log::log_href("", &[("url", &it.url)])) { "Deliveries" } }
                        td.wide { (describe_event_filter(it)) }
                        td.wide { (payload_mode_label(it.payload_mode)) }
                        td.wide { (show::render_relative_time(now, it.created_at)) }
                    }
                }
            }))
        }
        section.card aria-labelledby="add" {
            h2 #add { "Add an endpoint" }
            form.stack method="post" action="/dashboard/webhooks" {
                (render_csrf_field(&session))
                label { span { "URL" } input type="url" name="url" required placeholder="https://app.example/webhooks/okra"; }
                (render_endpoint_settings(None))
                button.main { "Add endpoint" }
            }
        }
        section.card aria-labelledby="sync-secret" {
            h2 #sync-secret { "Secret of data sync's URLs" }
            p { "A " code { "webhook_url" } " that is given with data sync or in the widget's " code { "refresh" }
                " needs no endpoint here. What is sent there is signed with one secret of the app." }
            form.buttons method="post" action="/dashboard/webhooks/secret" {
                (render_csrf_field(&session))
                button name="rotate" value="false" { "Show the secret" }
                button name="rotate" value="true" { "Rotate it" }
            }
            p.note { "After a rotation the old one signs too for 24 hours." }
        }
    };
    Ok(respond_webhooks_page(
        &session,
        "Webhooks",
        Some("/dashboard/live".to_owned()),
        body,
    ))
}

/// Shows the secret of data sync's URLs, or makes a new one.
pub(crate) async fn show_sync_secret(
    State(web): State<Arc<WebState>>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let rotate = posted.fields.get("rotate") == "true";
    let answer = call_api(
        &web,
        &posted.session,
        "webhooks/secret",
        json!({ "rotate": rotate }),
    )
    .await?;
    let secret = answer["secret"].as_str().unwrap_or_default();
    let body = html! {
        div.head { h1 { "Secret of data sync's URLs" } }
        section.card.notice aria-labelledby="secret" {
            h2 #secret { "Signing secret" }
            p { "Verify webhooks with any Standard Webhooks library." }
            p.secret { code #secret-text { (secret) } button type="button" data-copy="secret-text" { "Copy" } }
        }
        p { a.button href="/dashboard/webhooks" { "To the webhooks" } }
    };
    Ok(respond_webhooks_page(
        &posted.session,
        "Signing secret",
        None,
        body,
    ))
}

fn describe_event_filter(endpoint: &Endpoint) -> &'static str {
    if !endpoint.events.is_empty() {
        return "Some events";
    }
    let has = |product| endpoint.products.is_empty() || endpoint.products.contains(&product);
    match (has(Product::Balance), has(Product::Transactions)) {
        (true, false) => "Balance",
        (false, true) => "Transactions",
        _ => "Everything",
    }
}

const fn payload_mode_label(mode: PayloadMode) -> &'static str {
    match mode {
        PayloadMode::Full => "Full",
        PayloadMode::Reference => "Reference",
    }
}

/// The fields of an endpoint that can be changed.
fn render_endpoint_settings(endpoint: Option<&Endpoint>) -> Markup {
    let told = |product| {
        endpoint.is_none_or(|it| it.products.is_empty() || it.products.contains(&product))
    };
    let payload = endpoint.map(|it| it.payload_mode).unwrap_or_default();
    html! {
        fieldset {
            legend { "Told of" }
            @for (product, name) in [(Product::Balance, "Balances"), (Product::Transactions, "Transactions")] {
                label.check { input type="checkbox" name="products" value=(product.as_str()) checked[told(product)]; (name) }
            }
        }
        fieldset {
            legend { "Payload" }
            label.check { input type="radio" name="payload" value="full" checked[payload == PayloadMode::Full];
                span { "Full" span.note { "the changed balances and transactions themselves" } } }
            label.check { input type="radio" name="payload" value="reference" checked[payload == PayloadMode::Reference];
                span { "Reference" span.note { "ids and a URL to read them from" } } }
        }
        @let only = endpoint.map(|it| it.events.as_slice()).unwrap_or_default();
        details open[!only.is_empty()] {
            summary { "Only some events" span.note { (if only.is_empty() { "now all" } else { "now those chosen" }) } }
            fieldset.events {
                legend { "With none chosen, all are told." }
                @for name in EVENT_NAMES {
                    label.check { input type="checkbox" name="events" value=(name) checked[only.iter().any(|it| okra_wire::webhook::event_matches(it, name))]; (name) }
                }
            }
        }
        label { span { "Events a second" span.note { (SEND_RATE_RANGE.start()) " to " (SEND_RATE_RANGE.end()) } }
            input type="number" name="rate" min=(SEND_RATE_RANGE.start()) max=(SEND_RATE_RANGE.end())
                value=(endpoint.and_then(|it| it.events_per_second).map_or_else(|| SendRate::default().per_s, u32::from)); }
        fieldset {
            legend { "Order" }
            label.check { input type="checkbox" name="ordered" value="true" checked[endpoint.is_some_and(|it| it.ordered_since.is_some())];
                span { "One after another" span.note { "the events of a record in their order; one that fails holds up those behind it, an hour at most" } } }
        }
        label { span { "Bearer token" span.note { "optional, sent along as Okra did" } }
            input type="password" name="token" autocomplete="off" placeholder=[endpoint.and_then(|it| it.sealed_bearer.as_ref()).map(|_| "kept unless you enter another")]; }
    }
}

/// What the form asks of `webhooks/set`.
fn build_endpoint_request(fields: &FormFields, url: &str) -> Result<Value, PageError> {
    let products: Vec<&str> = fields.all_values("products").collect();
    if products.is_empty() {
        return Err(PageError::invalid_form(
            "Choose balances, transactions, or both: an endpoint that is told of nothing is of no use.",
        ));
    }
    let mut body = json!({
        "url": url,
        "products": products,
        "payload": fields.get("payload"),
        "events": fields.all_values("events").collect::<Vec<_>>(),
        "ordered": fields.get("ordered") == "true",
    });
    // What is left empty is kept; the API would clear it.
    for name in ["token", "rate"] {
        if !fields.get(name).is_empty() {
            body[name] = json!(fields.get(name));
        }
    }
    Ok(body)
}

/// Makes an endpoint, and shows its secret this once.
pub(crate) async fn add_endpoint(
    State(web): State<Arc<WebState>>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let SubmittedForm {
        session: signed,
        fields,
    } = posted;
    let set = call_api(
        &web,
        &signed,
        "webhooks/set",
        build_endpoint_request(&fields, fields.get("url"))?,
    )
    .await?;
    Ok(render_new_secret(&signed, &set))
}

/// The page with a new secret. It answers the form itself, and is not kept: nothing leads back to it.
fn render_new_secret(session: &AppSession, endpoint_data: &Value) -> Response {
    let (url, id) = (
        endpoint_data["url"].as_str().unwrap_or_default(),
        endpoint_data["id"].as_str().unwrap_or_default(),
    );
    let body = html! {
        div.head { h1 { "Endpoint set" } p.sub { (url) } }
        @match endpoint_data["secret"].as_str() {
            Some(secret) => {
                section.card.notice aria-labelledby="secret" {
                    h2 #secret { "Signing secret" }
                    p { "Copy it now: it is shown this once. Verify webhooks with any Standard Webhooks library." }
                    p.secret { code #secret-text { (secret) } button type="button" data-copy="secret-text" { "Copy" } }
                }
            }
            None => p { "It was there already. Its secret stays; what you entered was changed." },
        }
        p { a.button href={ "/dashboard/webhooks/" (id) } { "To the endpoint" } }
    };
    respond_webhooks_page(session, "Endpoint set", None, body)
}

async fn load_own_endpoint(
    web: &WebState,
    session: &AppSession,
    id: EndpointId,
) -> Result<Endpoint, PageError> {
    let endpoint = web.api.store.find_endpoint(session.app.id, id).await?;
    endpoint.ok_or(PageError::NotFound("endpoint"))
}

pub(crate) async fn render_endpoint_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(id): Path<EndpointId>,
) -> Result<Response, PageError> {
    let (store, now) = (&web.api.store, web.now());
    let it = load_own_endpoint(&web, &session, id).await?;
    let path = format!("/dashboard/webhooks/{id}");
    let read = futures::future::try_join3(
        store.load_endpoint_health(id),
        store.list_replays(session.app.id),
        store.list_parked_events(id, MAX_PARKED_COUNTED),
    );
    let (health, replays, parked) = Box::pin(read).await?;
    let parked = parked.len();
    let log = log::load_delivery_log(&web, &session, &it.url, ("", ""), NEWEST_DELIVERIES).await?;
    let body = html! {
        div.head {
            p.crumb { a href="/dashboard/webhooks" { "Webhooks" } }
            div.title { h1.url { (it.url) } (render_health_badge(&health)) }
        }
        div.columns {
            section.card aria-labelledby="health" { (render_endpoint_state(&session, &it, &health, parked, now)) }
            section.card aria-labelledby="secret" {
                h2 #secret { "Signing secret" }
                p { "Webhooks are signed with it (Standard Webhooks, headers " code { "webhook-id" } ", "
                    code { "webhook-timestamp" } ", " code { "webhook-signature" } "). It is stored sealed and cannot be shown again." }
                form.row method="post" action={ (path) "/rotate" } {
                    (render_csrf_field(&session))
                    label { span { "The old secret signs for" }
                        select name="overlap_hours" {
                            option value="24" { "24 hours more" }
                            option value="168" { "7 days more" }
                            option value="0" { "no longer" }
                        }
                    }
                    button { "Rotate the secret" }
                }
                @match it.previous_secret_until.filter(|until| *until > now) {
                    Some(until) => p.note { "The secret before signs too; it ceases " (show::render_relative_time(now, until)) "." },
                    None => p.note { "The new secret is shown once." },
                }
            }
        }
        section aria-labelledby="log" {
            h2 #log { "Deliveries" span.note { "newest first" } }
            @if log.deliveries.is_empty() {
                (render_empty_state("Nothing was sent yet", &html! {
                    p { "Send a test ping, or " a href="/dashboard/records" { "refresh a record" } "." }
                }))
            } @else {
                (log::render_log_rows(&it.url, &log, now))
                p.more { a.button href=(log::log_href("", &[("url", &it.url)])) { "All deliveries" } }
            }
        }
        (replays::render_replays(&session, id, &replays, now))
        section.card aria-labelledby="settings" {
            h2 #settings { "Settings" }
            form.stack method="post" action=(path) {
                (render_csrf_field(&session))
                (render_endpoint_settings(Some(&it)))
                button.main { "Save" }
            }
        }
        section.card aria-labelledby="remove" {
            h2 #remove { "Remove" }
            p { "Nothing more is sent there, and what was not delivered yet is dropped." }
            form.buttons method="post" action={ (path) "/remove" } {
                (render_csrf_field(&session))
                button.danger { "Remove the endpoint" }
            }
        }
    };
    Ok(respond_webhooks_page(
        &session,
        &it.url,
        Some(live_events_href(&it.url)),
        body,
    ))
}

/// How an endpoint is, since when, and what happens next.
fn render_endpoint_state(
    session: &AppSession,
    endpoint: &Endpoint,
    stored_health: &StoredEndpointHealth,
    parked_count: usize,
    now: Timestamp,
) -> Markup {
    let path = format!("/dashboard/webhooks/{}", endpoint.id);
    let health = &stored_health.health;
    let sentence = match (&health.disabled, health.circuit, health.failing_since) {
        (Some(it), ..) => match it.reason {
            DisableReason::App => "Disabled here. Events for it are parked until it is enabled.",
            DisableReason::Gone => {
                "Disabled: it answered 410, that it is gone. Events for it are parked."
            }
            DisableReason::Receiver => {
                "Disabled: it asked for it in its answer. Events for it are parked."
            }
            DisableReason::Failing => "Disabled: it failed for days. Events for it are parked.",
        },
        (None, EndpointCircuit::Open { .. }, _) => {
            "It is down. Events for it are parked, and a probe with the oldest asks now and then whether it is back."
        }
        (None, EndpointCircuit::Closed, Some(_)) => {
            "It fails. Each event is tried again on its own."
        }
        (None, EndpointCircuit::Closed, None) => "It takes what it is sent.",
    };
    let log_of = |state| log::log_href("", &[("url", &endpoint.url), ("state", state)]);
    html! {
        h2 #health { "State" }
        p { (sentence) }
        dl {
            dt { "Parked events" }
            dd { a href=(log_of("parked")) { @if parked_count >= MAX_PARKED_COUNTED { "about " (show::format_count(stored_health.parked_count.max(parked_count as u64))) } @else { (show::format_count(parked_count)) } } }
            @if let Some(at) = health.next_probe_at() { dt { "Next probe" } dd { (show::render_relative_time(now, at)) } }
            @if let Some(at) = health.paused_until.filter(|at| *at > now) { dt { "Asked to wait" } dd { (show::render_relative_time(now, at)) } }
            @if let Some(at) = health.failing_since { dt { "Failing since" } dd { (show::render_relative_time(now, at)) } }
            @if let Some(it) = health.last_outcome.filter(|_| health.failing_since.is_some()) { dt { "Last failure" } dd { (log::describe_outcome(it.as_str())) } }
            @if let Some(gap) = &health.gap {
                dt { "Not kept" } dd { a href=(log_of("exhausted")) { (show::format_count(gap.events)) " events" } " from " (show::render_relative_time(now, gap.from)) "; replay them below" }
            }
            dt { "Last ping" }
            dd #ping {
                @match &stored_health.last_ping {
                    Some(ping) => {
                        (log::describe_outcome(&ping.outcome_class)) @if let Some(status) = ping.status { ", " (status) }
                        span.note { (show::format_count(ping.latency_ms)) " ms, " (show::render_relative_time(now, ping.pinged_at)) }
                    },
                    None => "none yet",
                }
            }
        }
        div.buttons {
            form method="post" action={ (path) "/ping" } { (render_csrf_field(session)) button { "Send a test ping" } }
            @if health.disabled.is_some() || matches!(health.circuit, EndpointCircuit::Open { .. }) {
                form method="post" action={ (path) "/enable" } { (render_csrf_field(session)) button.main { "Enable and send what is parked" } }
            }
            @if health.disabled.is_none() {
                form method="post" action={ (path) "/disable" } { (render_csrf_field(session)) button { "Disable" } }
            }
        }
    }
}

/// Pings an endpoint, enables it or disables it.
async fn call_endpoint_route(
    web: &WebState,
    posted: &SubmittedForm,
    id: EndpointId,
    path: &'static str,
) -> Result<Response, PageError> {
    call_api(web, &posted.session, path, json!({ "id": id })).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response())
}

pub(crate) async fn ping_endpoint(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    call_endpoint_route(&web, &posted, id, "webhooks/test").await
}

pub(crate) async fn enable_endpoint(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    call_endpoint_route(&web, &posted, id, "webhooks/enable").await
}

pub(crate) async fn disable_endpoint(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    call_endpoint_route(&web, &posted, id, "webhooks/disable").await
}

pub(crate) async fn update_endpoint(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let it = load_own_endpoint(&web, &posted.session, id).await?;
    call_api(
        &web,
        &posted.session,
        "webhooks/set",
        build_endpoint_request(&posted.fields, &it.url)?,
    )
    .await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response())
}

pub(crate) async fn rotate_endpoint_secret(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let it = load_own_endpoint(&web, &posted.session, id).await?;
    let overlap = posted.fields.get("overlap_hours");
    let body = json!({ "url": it.url, "rotate": true, "overlap_hours": overlap });
    let set = call_api(&web, &posted.session, "webhooks/set", body).await?;
    Ok(render_new_secret(&posted.session, &set))
}

pub(crate) async fn remove_endpoint(
    State(web): State<Arc<WebState>>,
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    call_api(
        &web,
        &posted.session,
        "webhooks/remove",
        json!({ "id": id }),
    )
    .await?;
    Ok(Redirect::to("/dashboard/webhooks").into_response())
}
