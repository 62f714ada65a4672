//! The page of one endpoint: its health, secret, newest deliveries, replays and settings, and the forms on it.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    delivery::endpoint_health::{DisableReason, EndpointStatus},
    model::ids::EndpointId,
};
use okra_store::{Endpoint, StoredEndpointHealth};
use serde_json::json;

use super::{
    super::{
        api_call::call_api,
        hrefs::log_href,
        page::render_csrf_field,
        session::{AppSession, SubmittedForm},
    },
    log::{NEWEST_DELIVERIES, load_delivery_log, render_log_rows},
    replays,
    secrets::render_new_secret,
    settings_form::{build_endpoint_request, render_endpoint_settings},
    webhooks_page::{live_events_href, respond_webhooks_page},
};
use crate::{
    components::{
        badges::render_health_badge,
        format::{format_count, render_relative_time},
        labels::describe_outcome,
        parts::render_empty_state,
    },
    page_error::PageError,
    web_state::WebState,
};

/// Parked events that are counted one by one; of more it is said about how many there are.
const MAX_PARKED_COUNTED: usize = 1000;

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
    let log = load_delivery_log(&web, &session, &it.url, ("", ""), NEWEST_DELIVERIES).await?;
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
                    Some(until) => p.note { "The secret before signs too; it ceases " (render_relative_time(now, until)) "." },
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
                (render_log_rows(&it.url, &log, now))
                p.more { a.button href=(log_href("", &[("url", &it.url)])) { "All deliveries" } }
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
    let sentence = match health.disabled {
        Some(it) => describe_disable_reason(it.reason),
        None => describe_endpoint_status(health.status()),
    };
    let log_of = |state| log_href("", &[("url", &endpoint.url), ("state", state)]);
    html! {
        h2 #health { "State" }
        p { (sentence) }
        dl {
            dt { "Parked events" }
            dd { a href=(log_of("parked")) { @if parked_count >= MAX_PARKED_COUNTED { "about " (format_count(stored_health.parked_count.max(parked_count as u64))) } @else { (format_count(parked_count)) } } }
            @if let Some(at) = health.next_probe_at() { dt { "Next probe" } dd { (render_relative_time(now, at)) } }
            @if let Some(at) = health.paused_until.filter(|at| *at > now) { dt { "Asked to wait" } dd { (render_relative_time(now, at)) } }
            @if let Some(at) = health.failing_since() { dt { "Failing since" } dd { (render_relative_time(now, at)) } }
            @if let Some(it) = health.last_outcome.filter(|_| health.failing_since().is_some()) { dt { "Last failure" } dd { (describe_outcome(it.as_str())) } }
            @if let Some(gap) = &health.gap {
                dt { "Not kept" } dd { a href=(log_of("exhausted")) { (format_count(gap.events)) " events" } " from " (render_relative_time(now, gap.from)) "; replay them below" }
            }
            dt { "Last ping" }
            dd #ping {
                @match &stored_health.last_ping {
                    Some(ping) => {
                        (describe_outcome(&ping.outcome_class)) @if let Some(status) = ping.status { ", " (status) }
                        span.note { (format_count(ping.latency_ms)) " ms, " (render_relative_time(now, ping.pinged_at)) }
                    },
                    None => "none yet",
                }
            }
        }
        div.buttons {
            form method="post" action={ (path) "/ping" } { (render_csrf_field(session)) button { "Send a test ping" } }
            @if health.disabled.is_some() || health.breaker().is_open() {
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

const fn describe_disable_reason(reason: DisableReason) -> &'static str {
    match reason {
        DisableReason::App => "Disabled here. Events for it are parked until it is enabled.",
        DisableReason::Gone => {
            "Disabled: it answered 410, that it is gone. Events for it are parked."
        }
        DisableReason::Receiver => {
            "Disabled: it asked for it in its answer. Events for it are parked."
        }
        DisableReason::Failing => "Disabled: it failed for days. Events for it are parked.",
    }
}

const fn describe_endpoint_status(status: EndpointStatus) -> &'static str {
    match status {
        EndpointStatus::Disabled => "Disabled. Events for it are parked until it is enabled.",
        EndpointStatus::Parked => {
            "It is down. Events for it are parked, and a probe with the oldest event is sent now and then."
        }
        EndpointStatus::Failing => "It fails. Each event is retried on its own.",
        EndpointStatus::Healthy => "It accepts what it is sent.",
    }
}
