//! The page of one endpoint: its health, secret, newest deliveries, replays and settings, and the forms on it.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_app::{
    deliveries::ListDeliveriesRequest,
    endpoint_health::EndpointHealthDetails,
    endpoint_lookup::EndpointSelector,
    endpoints::{EndpointDetails, SecretUpdate, SetEndpointRequest},
};
use okra_core::{
    delivery::endpoint_health::{DisableReason, EndpointHealth, EndpointStatus},
    model::ids::EndpointId,
};
use okra_store::{Delivery, Endpoint, Replay};

use super::{
    super::{
        hrefs::log_href,
        page::render_csrf_field,
        session::{AppSession, SubmittedForm},
    },
    log::{NEWEST_DELIVERIES, render_log_rows},
    replays,
    secrets::render_new_secret,
    settings_form::{read_endpoint_settings, render_endpoint_settings},
    webhooks_page::{live_events_href, respond_webhooks_page},
};
use crate::{
    components::{
        badges::render_health_badge,
        format::{format_count, render_relative_time},
        labels::attempt_outcome_label,
        parts::render_empty_state,
    },
    page_error::PageError,
    web_state::WebState,
};

/// Parked events above which their number is an estimate.
const MAX_PARKED_COUNTED: u64 = 1000;

pub(crate) async fn render_endpoint_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(id): Path<EndpointId>,
) -> Result<Response, PageError> {
    let endpoint = session
        .scope
        .load_own_endpoint(&EndpointSelector::Id(id))
        .await?;
    let page = EndpointPage::load_page(&web, &session, endpoint).await?;
    let url = &page.endpoint.url;
    let body = page.render_body(&session);
    let live_url = live_events_href(url);
    Ok(respond_webhooks_page(&session, url, Some(live_url), body))
}

/// Everything that the page shows.
struct EndpointPage {
    endpoint: Endpoint,
    health: EndpointHealthDetails,
    replays: Vec<Replay>,
    newest_deliveries: Vec<Delivery>,
    now: Timestamp,
}

impl EndpointPage {
    async fn load_page(
        web: &WebState,
        session: &AppSession,
        endpoint: Endpoint,
    ) -> Result<Self, PageError> {
        let scope = &session.scope;
        let newest = ListDeliveriesRequest {
            endpoint: EndpointSelector::Id(endpoint.id),
            since: None,
            until: None,
            state: None,
            after: None,
            limit: NEWEST_DELIVERIES,
        };
        let (replays, newest) =
            futures::future::try_join(scope.list_replays(), scope.list_deliveries(&newest)).await?;
        let EndpointDetails { endpoint, health } = scope.describe_endpoint(endpoint).await?;
        Ok(Self {
            endpoint,
            health,
            replays,
            newest_deliveries: newest.deliveries,
            now: web.now(),
        })
    }

    /// The path of the page, below which its forms are.
    fn page_path(&self) -> String {
        format!("/dashboard/webhooks/{}", self.endpoint.id)
    }

    fn render_body(&self, session: &AppSession) -> Markup {
        let path = self.page_path();
        html! {
            div.head {
                p.crumb { a href="/dashboard/webhooks" { "Webhooks" } }
                div.title { h1.url { (self.endpoint.url) } (render_health_badge(&self.health.health)) }
            }
            div.columns {
                section.card aria-labelledby="health" { (self.render_state(session)) }
                section.card aria-labelledby="secret" { (self.render_secret(session)) }
            }
            section aria-labelledby="log" {
                h2 #log { "Deliveries" span.note { "newest first" } }
                (self.render_deliveries())
            }
            (replays::render_replays(session, self.endpoint.id, &self.replays, self.now))
            section.card aria-labelledby="settings" {
                h2 #settings { "Settings" }
                form.stack method="post" action=(path) {
                    (render_csrf_field(session))
                    (render_endpoint_settings(Some(&self.endpoint)))
                    button.main { "Save" }
                }
            }
            section.card aria-labelledby="remove" {
                h2 #remove { "Remove" }
                p { "Nothing more is sent to it, and events that are not delivered yet are dropped." }
                form.buttons method="post" action={ (path) "/remove" } {
                    (render_csrf_field(session))
                    button.danger { "Remove the endpoint" }
                }
            }
        }
    }

    /// The signing secret, and the form that rotates it.
    fn render_secret(&self, session: &AppSession) -> Markup {
        let previous_until = self.endpoint.previous_secret_until;
        html! {
            h2 #secret { "Signing secret" }
            p { "It signs the webhooks to this endpoint (Standard Webhooks, headers " code { "webhook-id" } ", "
                code { "webhook-timestamp" } ", " code { "webhook-signature" } "). It is stored sealed and cannot be shown again." }
            form.row method="post" action={ (self.page_path()) "/rotate" } {
                (render_csrf_field(session))
                label { span { "The old secret signs for" }
                    select name="overlap_hours" {
                        option value="24" { "24 more hours" }
                        option value="168" { "7 more days" }
                        option value="0" { "no longer" }
                    }
                }
                button { "Rotate the secret" }
            }
            @match previous_until.filter(|until| *until > self.now) {
                Some(until) => p.note { "The previous secret signs as well; it stops " (render_relative_time(self.now, until)) "." },
                None => p.note { "The new secret is shown once." },
            }
        }
    }

    fn render_deliveries(&self) -> Markup {
        html! {
            @if self.newest_deliveries.is_empty() {
                (render_empty_state("Nothing was sent yet", &html! {
                    p { "Send a test ping, or " a href="/dashboard/records" { "refresh a record" } "." }
                }))
            } @else {
                (render_log_rows(&self.endpoint.url, &self.newest_deliveries, self.now))
                p.more { a.button href=(log_href("", &[("url", &self.endpoint.url)])) { "All deliveries" } }
            }
        }
    }

    /// The health of the endpoint, since when, and what happens next.
    fn render_state(&self, session: &AppSession) -> Markup {
        let (path, now) = (self.page_path(), self.now);
        let health = &self.health.health;
        html! {
            h2 #health { "State" }
            p { (health_sentence(health)) }
            dl {
                dt { "Parked events" }
                dd { a href=(self.log_of("parked")) { (self.format_parked_count()) } }
                @if let Some(at) = health.next_probe_at() { dt { "Next probe" } dd { (render_relative_time(now, at)) } }
                @if let Some(at) = health.paused_until.filter(|at| *at > now) {
                    dt { "Paused at its request until" } dd { (render_relative_time(now, at)) }
                }
                @if let Some(at) = health.failing_since() { dt { "Failing since" } dd { (render_relative_time(now, at)) } }
                @if let Some(it) = health.last_outcome.filter(|_| health.failing_since().is_some()) {
                    dt { "Last failure" } dd { (attempt_outcome_label(it.as_str())) }
                }
                @if let Some(gap) = &health.gap {
                    dt { "Not parked" }
                    dd {
                        a href=(self.log_of("exhausted")) { (format_count(gap.events)) " events" }
                        " from " (render_relative_time(now, gap.from)) "; replay them below"
                    }
                }
                dt { "Last ping" }
                dd #ping {
                    @match &self.health.last_ping {
                        Some(ping) => {
                            (attempt_outcome_label(&ping.outcome_class)) @if let Some(status) = ping.status { ", " (status) }
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

    /// The log of the endpoint's deliveries in a state.
    fn log_of(&self, state: &str) -> String {
        log_href("", &[("url", &self.endpoint.url), ("state", state)])
    }

    /// The number of parked events, which is an estimate where they are many.
    fn format_parked_count(&self) -> String {
        let count = format_count(self.health.parked_count);
        match self.health.parked_count < MAX_PARKED_COUNTED {
            true => count,
            false => format!("about {count}"),
        }
    }
}

/// The health of an endpoint in a sentence or two.
fn health_sentence(health: &EndpointHealth) -> &'static str {
    match health.disabled {
        Some(it) => disable_reason_sentence(it.reason),
        None => endpoint_status_sentence(health.status()),
    }
}

fn redirect_to_endpoint(id: EndpointId) -> Response {
    Redirect::to(&format!("/dashboard/webhooks/{id}")).into_response()
}

pub(crate) async fn ping_endpoint(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let (scope, endpoint) = (&posted.session.scope, EndpointSelector::Id(id));
    scope.ping_endpoint(&endpoint, None).await?;
    Ok(redirect_to_endpoint(id))
}

pub(crate) async fn enable_endpoint(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let (scope, endpoint) = (&posted.session.scope, EndpointSelector::Id(id));
    scope.enable_endpoint(&endpoint, None).await?;
    Ok(redirect_to_endpoint(id))
}

pub(crate) async fn disable_endpoint(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let (scope, endpoint) = (&posted.session.scope, EndpointSelector::Id(id));
    scope.disable_endpoint(&endpoint, None).await?;
    Ok(redirect_to_endpoint(id))
}

pub(crate) async fn update_endpoint(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    let endpoint = scope.load_own_endpoint(&EndpointSelector::Id(id)).await?;
    let request = read_endpoint_settings(&posted.fields, &endpoint.url)?;
    scope.set_endpoint(request).await?;
    Ok(redirect_to_endpoint(id))
}

pub(crate) async fn rotate_endpoint_secret(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    let endpoint = scope.load_own_endpoint(&EndpointSelector::Id(id)).await?;
    let request = SetEndpointRequest {
        url: endpoint.url,
        secret: SecretUpdate::Rotate,
        overlap_hours: posted.fields.parse_number("overlap_hours")?,
        ..SetEndpointRequest::default()
    };
    let update = scope.set_endpoint(request).await?;
    Ok(render_new_secret(&posted.session, &update))
}

pub(crate) async fn remove_endpoint(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    scope.remove_endpoint(&EndpointSelector::Id(id)).await?;
    Ok(Redirect::to("/dashboard/webhooks").into_response())
}

const fn disable_reason_sentence(reason: DisableReason) -> &'static str {
    match reason {
        DisableReason::App => "Disabled by the app. Its events are parked until it is enabled.",
        DisableReason::Gone => {
            "Disabled: it responded with 410 (gone). Its events are parked until it is enabled."
        }
        DisableReason::Receiver => {
            "Disabled: its response requested it. Its events are parked until it is enabled."
        }
        DisableReason::Failing => {
            "Disabled: it failed for days. Its events are parked until it is enabled."
        }
    }
}

const fn endpoint_status_sentence(status: EndpointStatus) -> &'static str {
    match status {
        EndpointStatus::Disabled => "Disabled. Its events are parked until it is enabled.",
        EndpointStatus::Parked => {
            "It is down. Its events are parked, and the oldest is sent as a probe at growing intervals."
        }
        EndpointStatus::Failing => "It fails. Each event is retried on its own.",
        EndpointStatus::Healthy => "It accepts the events that it is sent.",
    }
}
