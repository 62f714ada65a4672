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
    feed::PayloadMode,
    health::{Circuit, DisabledBy},
    ids::{EndpointId, RecordId},
    model::Product,
    pace::{RATE_RANGE, Rate},
};
use okra_store::{Direction, Endpoint, StoredHealth};
use okra_webhooks::{endpoint_id, retained_since};
use okra_wire::webhook::EVENT_NAMES;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{call, live};
use crate::{
    Web,
    form::Fields,
    html::{Page, Section, csrf, empty, table},
    session::{Posted, Signed},
    show,
    trouble::Trouble,
};

/// Parked events that are counted one by one; of more it is said about how many there are.
const MAX_COUNTED: usize = 1000;

/// Deliveries that stand on the page of an endpoint.
const NEWEST: usize = 8;

fn shell(signed: &Signed, title: &str, live: Option<String>, body: Markup) -> Response {
    Page {
        signed,
        section: Section::Webhooks,
        title,
        live,
        body,
    }
    .into_response()
}

/// Where what is new of the pages of a URL is told from.
fn live_href(url: &str) -> String {
    log::href("/live", &[("url", url)])
}

/// What is new of a URL: its health, its newest deliveries, the app's replays, and the delivery that a
/// page is about.
pub(super) async fn is_new(
    State(web): State<Arc<Web>>,
    signed: Signed,
    headers: axum::http::HeaderMap,
) -> Result<Response, Trouble> {
    let (store, app) = (&web.api.store, signed.app.id);
    let endpoint = endpoint_id(app, signed.query.get("url"));
    let times = (retained_since(web.now()), web.now());
    let read = futures::future::try_join3(
        store.health(endpoint),
        store.deliveries_of(endpoint, times, None, Direction::Backward, NEWEST),
        store.replays(app),
    );
    let (health, newest, replays) = Box::pin(read).await?;
    let one = match signed.query.get("event") {
        "" => None,
        event => Some(log::row(&web, &signed, endpoint, event).await?.0),
    };
    let state = format!("{health:?} {newest:?} {replays:?} {one:?}");
    let digest = Sha256::digest(state.as_bytes());
    let version = data_encoding::HEXLOWER.encode(&digest[..8]);
    Ok(live::answer(&headers, &version))
}

/// The URLs that a record's events go to, by the ids of their endpoints.
async fn urls(
    web: &Web,
    signed: &Signed,
    record: RecordId,
) -> Result<HashMap<EndpointId, String>, Trouble> {
    let (store, app) = (&web.api.store, signed.app.id);
    let endpoints = store.endpoints(app).await?;
    let mut urls: HashMap<_, _> = endpoints.into_iter().map(|it| (it.id, it.url)).collect();
    let subscriptions = store.subscriptions(record).await?;
    let of_sync = subscriptions.into_iter().filter_map(|it| it.webhook_url);
    urls.extend(of_sync.map(|url| (endpoint_id(app, &url), url)));
    Ok(urls)
}

/// Whether events are sent to an endpoint.
fn badge(health: &StoredHealth) -> Markup {
    let health = &health.health;
    match (&health.disabled, health.circuit, health.failing_since) {
        (Some(_), ..) => show::badge("idle", "Disabled"),
        (None, Circuit::Open { .. }, _) => show::badge("bad", "Parked"),
        (None, Circuit::Closed, Some(_)) => show::badge("warn", "Failing"),
        (None, Circuit::Closed, None) => show::badge("good", "Healthy"),
    }
}

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let store = &web.api.store;
    let endpoints = store.endpoints(signed.app.id).await?;
    let healths = endpoints.iter().map(|it| store.health(it.id));
    let healths = futures::future::try_join_all(healths).await?;
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Webhooks" }
            p.sub { "Every change of every record is told to these endpoints, signed, at least once." }
        }
        @if endpoints.is_empty() {
            (empty("No endpoints yet", &html! {
                p { "Add the URL of your server that takes webhooks. To try it without a server, " code { "cargo run" }
                    " has a receiver; to see webhooks on your own machine, run one there." }
            }))
        } @else {
            (table("Endpoints", &html! {
                th { "URL" } th { "State" } th { "Log" } th.wide { "Told of" } th.wide { "Payload" } th.wide { "Made" }
            }, &html! {
                @for (it, health) in endpoints.iter().zip(&healths) {
                    tr {
                        td.break { a.strong href={ "/dashboard/webhooks/" (it.id) } { (it.url) } }
                        td { (badge(health)) @if let Some(at) = health.health.probe_at() { span.note { "probe " (show::when(now, at)) } } }
                        td { a href=(log::href("", &[("url", &it.url)])) { "Deliveries" } }
                        td.wide { (filter(it)) }
                        td.wide { (mode(it.payload)) }
                        td.wide { (show::when(now, it.created_at)) }
                    }
                }
            }))
        }
        section.card aria-labelledby="add" {
            h2 #add { "Add an endpoint" }
            form.stack method="post" action="/dashboard/webhooks" {
                (csrf(&signed))
                label { span { "URL" } input type="url" name="url" required placeholder="https://app.example/webhooks/okra"; }
                (settings(None))
                button.main { "Add endpoint" }
            }
        }
        section.card aria-labelledby="sync-secret" {
            h2 #sync-secret { "Secret of data sync's URLs" }
            p { "A " code { "webhook_url" } " that is given with data sync or in the widget's " code { "refresh" }
                " needs no endpoint here. What is sent there is signed with one secret of the app." }
            form.buttons method="post" action="/dashboard/webhooks/secret" {
                (csrf(&signed))
                button name="rotate" value="false" { "Show the secret" }
                button name="rotate" value="true" { "Rotate it" }
            }
            p.note { "After a rotation the old one signs too for 24 hours." }
        }
    };
    Ok(shell(
        &signed,
        "Webhooks",
        Some("/dashboard/live".to_owned()),
        body,
    ))
}

/// Shows the secret of data sync's URLs, or makes a new one.
pub(crate) async fn secret(
    State(web): State<Arc<Web>>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let rotate = posted.fields.get("rotate") == "true";
    let answer = call(
        &web,
        &posted.signed,
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
    Ok(shell(&posted.signed, "Signing secret", None, body))
}

fn filter(endpoint: &Endpoint) -> &'static str {
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

const fn mode(mode: PayloadMode) -> &'static str {
    match mode {
        PayloadMode::Full => "Full",
        PayloadMode::Reference => "Reference",
    }
}

/// The fields of an endpoint that can be changed.
fn settings(endpoint: Option<&Endpoint>) -> Markup {
    let told = |product| {
        endpoint.is_none_or(|it| it.products.is_empty() || it.products.contains(&product))
    };
    let payload = endpoint.map(|it| it.payload).unwrap_or_default();
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
        label { span { "Events a second" span.note { (RATE_RANGE.start()) " to " (RATE_RANGE.end()) } }
            input type="number" name="rate" min=(RATE_RANGE.start()) max=(RATE_RANGE.end())
                value=(endpoint.and_then(|it| it.rate).map_or_else(|| Rate::default().per_s, u32::from)); }
        fieldset {
            legend { "Order" }
            label.check { input type="checkbox" name="ordered" value="true" checked[endpoint.is_some_and(|it| it.ordered_since.is_some())];
                span { "One after another" span.note { "the events of a record in their order; one that fails holds up those behind it, an hour at most" } } }
        }
        label { span { "Bearer token" span.note { "optional, sent along as Okra did" } }
            input type="password" name="token" autocomplete="off" placeholder=[endpoint.and_then(|it| it.bearer.as_ref()).map(|_| "kept unless you enter another")]; }
    }
}

/// What the form asks of `webhooks/set`.
fn asked(fields: &Fields, url: &str) -> Result<Value, Trouble> {
    let products: Vec<&str> = fields.all("products").collect();
    if products.is_empty() {
        return Err(Trouble::refused(
            "Choose balances, transactions, or both: an endpoint that is told of nothing is of no use.",
        ));
    }
    let mut body = json!({
        "url": url,
        "products": products,
        "payload": fields.get("payload"),
        "events": fields.all("events").collect::<Vec<_>>(),
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
pub(crate) async fn set(State(web): State<Arc<Web>>, posted: Posted) -> Result<Response, Trouble> {
    let Posted { signed, fields } = posted;
    let set = call(
        &web,
        &signed,
        "webhooks/set",
        asked(&fields, fields.get("url"))?,
    )
    .await?;
    Ok(once(&signed, &set))
}

/// The page with a new secret. It answers the form itself, and is not kept: nothing leads back to it.
fn once(signed: &Signed, set: &Value) -> Response {
    let (url, id) = (
        set["url"].as_str().unwrap_or_default(),
        set["id"].as_str().unwrap_or_default(),
    );
    let body = html! {
        div.head { h1 { "Endpoint set" } p.sub { (url) } }
        @match set["secret"].as_str() {
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
    shell(signed, "Endpoint set", None, body)
}

async fn own(web: &Web, signed: &Signed, id: EndpointId) -> Result<Endpoint, Trouble> {
    let endpoint = web.api.store.endpoint(signed.app.id, id).await?;
    endpoint.ok_or(Trouble::NotFound("endpoint"))
}

pub(crate) async fn endpoint(
    State(web): State<Arc<Web>>,
    signed: Signed,
    Path(id): Path<EndpointId>,
) -> Result<Response, Trouble> {
    let (store, now) = (&web.api.store, web.now());
    let it = own(&web, &signed, id).await?;
    let path = format!("/dashboard/webhooks/{id}");
    let read = futures::future::try_join3(
        store.health(id),
        store.replays(signed.app.id),
        store.parked(id, MAX_COUNTED),
    );
    let (health, replays, parked) = Box::pin(read).await?;
    let parked = parked.len();
    let log = log::read(&web, &signed, &it.url, ("", ""), NEWEST).await?;
    let body = html! {
        div.head {
            p.crumb { a href="/dashboard/webhooks" { "Webhooks" } }
            div.title { h1.url { (it.url) } (badge(&health)) }
        }
        div.columns {
            section.card aria-labelledby="health" { (state(&signed, &it, &health, parked, now)) }
            section.card aria-labelledby="secret" {
                h2 #secret { "Signing secret" }
                p { "Webhooks are signed with it (Standard Webhooks, headers " code { "webhook-id" } ", "
                    code { "webhook-timestamp" } ", " code { "webhook-signature" } "). It is stored sealed and cannot be shown again." }
                form.row method="post" action={ (path) "/rotate" } {
                    (csrf(&signed))
                    label { span { "The old secret signs for" }
                        select name="overlap_hours" {
                            option value="24" { "24 hours more" }
                            option value="168" { "7 days more" }
                            option value="0" { "no longer" }
                        }
                    }
                    button { "Rotate the secret" }
                }
                @match it.previous_until.filter(|until| *until > now) {
                    Some(until) => p.note { "The secret before signs too; it ceases " (show::when(now, until)) "." },
                    None => p.note { "The new secret is shown once." },
                }
            }
        }
        section aria-labelledby="log" {
            h2 #log { "Deliveries" span.note { "newest first" } }
            @if log.deliveries.is_empty() {
                (empty("Nothing was sent yet", &html! {
                    p { "Send a test ping, or " a href="/dashboard/records" { "refresh a record" } "." }
                }))
            } @else {
                (log::rows(&it.url, &log, now))
                p.more { a.button href=(log::href("", &[("url", &it.url)])) { "All deliveries" } }
            }
        }
        (replays::section(&signed, id, &replays, now))
        section.card aria-labelledby="settings" {
            h2 #settings { "Settings" }
            form.stack method="post" action=(path) {
                (csrf(&signed))
                (settings(Some(&it)))
                button.main { "Save" }
            }
        }
        section.card aria-labelledby="remove" {
            h2 #remove { "Remove" }
            p { "Nothing more is sent there, and what was not delivered yet is dropped." }
            form.buttons method="post" action={ (path) "/remove" } {
                (csrf(&signed))
                button.danger { "Remove the endpoint" }
            }
        }
    };
    Ok(shell(&signed, &it.url, Some(live_href(&it.url)), body))
}

/// How an endpoint is, since when, and what happens next.
fn state(
    signed: &Signed,
    endpoint: &Endpoint,
    stored: &StoredHealth,
    parked: usize,
    now: Timestamp,
) -> Markup {
    let path = format!("/dashboard/webhooks/{}", endpoint.id);
    let health = &stored.health;
    let sentence = match (&health.disabled, health.circuit, health.failing_since) {
        (Some(it), ..) => match it.by {
            DisabledBy::App => "Disabled here. Events for it are parked until it is enabled.",
            DisabledBy::Gone => {
                "Disabled: it answered 410, that it is gone. Events for it are parked."
            }
            DisabledBy::Receiver => {
                "Disabled: it asked for it in its answer. Events for it are parked."
            }
            DisabledBy::Failing => "Disabled: it failed for days. Events for it are parked.",
        },
        (None, Circuit::Open { .. }, _) => {
            "It is down. Events for it are parked, and a probe with the oldest asks now and then whether it is back."
        }
        (None, Circuit::Closed, Some(_)) => "It fails. Each event is tried again on its own.",
        (None, Circuit::Closed, None) => "It takes what it is sent.",
    };
    let log_of = |state| log::href("", &[("url", &endpoint.url), ("state", state)]);
    html! {
        h2 #health { "State" }
        p { (sentence) }
        dl {
            dt { "Parked events" }
            dd { a href=(log_of("parked")) { @if parked >= MAX_COUNTED { "about " (show::count(stored.parked.max(parked as u64))) } @else { (show::count(parked)) } } }
            @if let Some(at) = health.probe_at() { dt { "Next probe" } dd { (show::when(now, at)) } }
            @if let Some(at) = health.paused_until.filter(|at| *at > now) { dt { "Asked to wait" } dd { (show::when(now, at)) } }
            @if let Some(at) = health.failing_since { dt { "Failing since" } dd { (show::when(now, at)) } }
            @if let Some(it) = health.last_outcome.filter(|_| health.failing_since.is_some()) { dt { "Last failure" } dd { (log::outcome(it.as_str())) } }
            @if let Some(gap) = &health.gap {
                dt { "Not kept" } dd { a href=(log_of("exhausted")) { (show::count(gap.events)) " events" } " from " (show::when(now, gap.from)) "; replay them below" }
            }
            dt { "Last ping" }
            dd #ping {
                @match &stored.ping {
                    Some(ping) => {
                        (log::outcome(&ping.class)) @if let Some(status) = ping.status { ", " (status) }
                        span.note { (show::count(ping.latency_ms)) " ms, " (show::when(now, ping.at)) }
                    },
                    None => "none yet",
                }
            }
        }
        div.buttons {
            form method="post" action={ (path) "/ping" } { (csrf(signed)) button { "Send a test ping" } }
            @if health.disabled.is_some() || matches!(health.circuit, Circuit::Open { .. }) {
                form method="post" action={ (path) "/enable" } { (csrf(signed)) button.main { "Enable and send what is parked" } }
            }
            @if health.disabled.is_none() {
                form method="post" action={ (path) "/disable" } { (csrf(signed)) button { "Disable" } }
            }
        }
    }
}

/// Pings an endpoint, enables it or disables it.
async fn tend(
    web: &Web,
    posted: &Posted,
    id: EndpointId,
    path: &'static str,
) -> Result<Response, Trouble> {
    call(web, &posted.signed, path, json!({ "id": id })).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response())
}

pub(crate) async fn ping(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    tend(&web, &posted, id, "webhooks/test").await
}

pub(crate) async fn enable(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    tend(&web, &posted, id, "webhooks/enable").await
}

pub(crate) async fn disable(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    tend(&web, &posted, id, "webhooks/disable").await
}

pub(crate) async fn change(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let it = own(&web, &posted.signed, id).await?;
    call(
        &web,
        &posted.signed,
        "webhooks/set",
        asked(&posted.fields, &it.url)?,
    )
    .await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response())
}

pub(crate) async fn rotate(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let it = own(&web, &posted.signed, id).await?;
    let overlap = posted.fields.get("overlap_hours");
    let body = json!({ "url": it.url, "rotate": true, "overlap_hours": overlap });
    let set = call(&web, &posted.signed, "webhooks/set", body).await?;
    Ok(once(&posted.signed, &set))
}

pub(crate) async fn remove(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    call(&web, &posted.signed, "webhooks/remove", json!({ "id": id })).await?;
    Ok(Redirect::to("/dashboard/webhooks").into_response())
}
