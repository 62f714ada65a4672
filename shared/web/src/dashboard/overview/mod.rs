//! The overview: how everything is at a glance.
//!
//! [`activity`] draws what was counted in the last hours; the figures above it are of the app's records, their
//! freshness, and its endpoints.

mod activity;

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::interval::Interval;
use okra_store::{MinuteCounts, RecordHead, RecordStatus};

pub(super) use self::activity::epoch_minute;
use self::activity::{CHART_MINUTES, STALLED_MINUTES, detect_stall, render_activity};
use super::{
    freshness::{FreshnessSummary, load_freshness},
    page::{DashboardPage, Section},
    records::loaded::{LoadedRecords, load_records},
    session::AppSession,
};
use crate::{
    components::{
        format::{format_count, format_duration},
        labels::describe_interval,
        parts::{render_empty_state, render_figure, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

pub(crate) async fn render_overview_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let overview = Overview::load_overview(&web, &session).await?;
    let page = DashboardPage {
        session: &session,
        section: Section::Overview,
        title: "Overview",
        live_url: Some("/dashboard/live".to_owned()),
        body: overview.render_body(&session),
    };
    Ok(page.into_response())
}

/// Everything that the overview shows.
struct Overview {
    records: LoadedRecords,
    freshness: FreshnessSummary,
    endpoint_count: usize,
    /// Endpoints that are disabled or whose circuit is open.
    parked_endpoint_count: usize,
    /// Counts of the minutes that the charts show.
    counts: Vec<MinuteCounts>,
    now: Timestamp,
}

impl Overview {
    async fn load_overview(web: &WebState, session: &AppSession) -> Result<Self, PageError> {
        let (store, app, now) = (&web.services.store, session.app().id, web.now());
        let minute = epoch_minute(now);
        let (records, endpoints, counts) = futures::future::try_join3(
            load_records(web, session),
            async { Ok(store.list_endpoints(app).await?) },
            async {
                let first_minute = minute.saturating_sub(CHART_MINUTES - 1);
                Ok(store.list_counts(app, first_minute, minute).await?)
            },
        )
        .await?;
        let ids: Vec<_> = endpoints.iter().map(|it| it.id).collect();
        let health = store.load_health_of_endpoints(&ids).await?;
        let parked = health
            .values()
            .filter(|it| it.health.disabled.is_some() || it.health.next_probe_at().is_some());
        let freshness = load_freshness(web, &records.items, now).await?;
        Ok(Self {
            freshness: FreshnessSummary::from_records(&freshness),
            endpoint_count: endpoints.len(),
            parked_endpoint_count: parked.count(),
            records,
            counts,
            now,
        })
    }

    /// Scheduled refreshes a minute.
    fn refreshes_per_minute(&self) -> f64 {
        let active = self.records.items.iter();
        active
            .filter(|head| head.status == RecordStatus::Active)
            .flat_map(RecordHead::due_keys)
            .map(|key| 1.0 / f64::from(key.interval.minutes()))
            // Not `sum`: that of nothing is -0.0.
            .fold(0.0, |all, one| all + one)
    }

    /// Records in a state.
    fn count_records(&self, status: RecordStatus) -> String {
        let records = self.records.items.iter();
        let count = records.filter(|head| head.status == status).count();
        self.records.qualify_figure(format_count(count))
    }

    fn render_body(&self, session: &AppSession) -> Markup {
        let minute = epoch_minute(self.now);
        html! {
            div.head { h1 { "Overview" } }
            @if self.records.items.is_empty() { (render_first_steps(session, self.endpoint_count == 0)) }
            @if let Some(due) = detect_stall(minute, self.refreshes_per_minute(), &self.counts) {
                p.next role="status" {
                    "No refresh was counted in the last " (STALLED_MINUTES) " minutes, although about " (due)
                    " were due. Check the EventBridge rules and the logs of the fetch function."
                }
            }
            (self.render_figures())
            (render_activity(minute, &self.counts))
            @if !self.records.items.is_empty() {
                section aria-labelledby="schedule" {
                    h2 #schedule { "Schedule" }
                    (render_schedule(&self.records))
                }
            }
        }
    }

    fn render_figures(&self) -> Markup {
        let records = &self.records;
        let fresh = self.freshness.format_percent();
        let noun = match self.endpoint_count {
            1 => "endpoint",
            _ => "endpoints",
        };
        let endpoints = match self.parked_endpoint_count {
            0 => noun.to_owned(),
            parked => format!("{noun}, {parked} parked"),
        };
        html! {
            div.figures {
                (render_figure("Records", &records.qualify_figure(format_count(records.items.len())), "", "/dashboard/records"))
                (render_figure("Active", &self.count_records(RecordStatus::Active), "", "/dashboard/records?status=active"))
                (render_figure("Require the user", &self.count_records(RecordStatus::ReauthorisationRequired), "", "/dashboard/records?status=token_required"))
                (render_figure("Unlinked", &self.count_records(RecordStatus::Invalid), "", "/dashboard/records?status=invalid"))
                (render_figure("Fresh", fresh.as_deref().unwrap_or("none"), &records.qualify_note("refreshed within their interval"), "/dashboard/records?fresh=no"))
                @match self.freshness.oldest_fresh {
                    Some((record, at)) => {
                        @let age = format_duration(self.now.duration_since(at));
                        (render_figure("Oldest", &records.qualify_figure(age), "ago, of the fresh ones", &format!("/dashboard/records/{record}")))
                    },
                    None => (render_figure("Oldest", "none", "", "/dashboard/records")),
                }
                (render_figure("Refreshes a minute", &records.qualify_figure(format!("{:.1}", self.refreshes_per_minute())), "as scheduled", "#schedule"))
                (render_figure("Webhooks", &format_count(self.endpoint_count), &endpoints, "/dashboard/webhooks"))
            }
        }
    }
}

/// What to do first, for an app without records.
fn render_first_steps(session: &AppSession, has_no_webhook: bool) -> Markup {
    render_empty_state(
        "Nothing is synced yet",
        &html! {
            ol.steps {
                li { a href="/dashboard/webhooks" { "Add a webhook" } @if has_no_webhook { ": the URL that receives each change." } @else { ": done." } }
                li { a href="/dashboard/keys" { "Create a public key" } @if session.app().public_key.is_none() { " for the widget." } @else { ": done." } }
                li { a href="/dashboard/records" { "Link a customer" } " with the widget, or create one at the sandbox bank." }
            }
        },
    )
}

/// How many records are on each interval.
fn render_schedule(records: &LoadedRecords) -> Markup {
    let counts = Interval::ALL.map(|interval| {
        let items = records.items.iter();
        let on_it = items.filter(|head| head.schedule.iter().any(|(_, it)| *it == interval));
        (interval, on_it.count())
    });
    render_table(
        "Records by interval",
        &html! {
            th { "Interval" } th.number { "Records" }
        },
        &html! {
            @for (interval, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                tr {
                    td { (describe_interval(interval)) }
                    td.number { a href={ "/dashboard/records?interval=" (interval) } { (records.qualify_figure(format_count(count))) } }
                }
            }
        },
    )
}
