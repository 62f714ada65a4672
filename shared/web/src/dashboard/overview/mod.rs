//! The overview: how everything is at a glance.
//!
//! [`activity`] draws what was counted in the last hours; the figures above it come from the app's records, their
//! freshness and its endpoints.

mod activity;

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use okra_core::model::interval::Interval;
use okra_store::{RecordHead, RecordStatus};

use self::activity::{CHART_MINUTES, STALLED_MINUTES, detect_stall, epoch_minute, render_activity};
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
    let (store, app) = (&web.api.store, session.app.id);
    let now = epoch_minute(web.now());
    let (heads, endpoints, counts) = futures::future::try_join3(
        load_records(&web, &session),
        async { Ok(store.list_endpoints(app).await?) },
        async {
            Ok(store
                .list_counts(app, now - (CHART_MINUTES - 1), now)
                .await?)
        },
    )
    .await?;
    let ids: Vec<_> = endpoints.iter().map(|it| it.id).collect();
    let healths = store.load_endpoint_healths(&ids).await?;
    let parked = healths
        .values()
        .map(|it| &it.health)
        .filter(|it| it.disabled.is_some() || it.next_probe_at().is_some())
        .count();
    let share =
        FreshnessSummary::from_records(&load_freshness(&web, &heads.items, web.now()).await?);
    let of = |status| {
        let of = heads.items.iter().filter(|head| head.status == status);
        heads.qualify_figure(format_count(of.count()))
    };
    let all = heads.qualify_figure(format_count(heads.items.len()));
    let per_minute: f64 = heads
        .items
        .iter()
        .filter(|head| head.status == RecordStatus::Active)
        .flat_map(RecordHead::due_keys)
        .map(|key| 1.0 / f64::from(key.interval.minutes()))
        // Not `sum`: that of nothing is -0.0.
        .fold(0.0, |all, one| all + one);
    let body = html! {
        div.head { h1 { "Overview" } }
        @if heads.items.is_empty() { (render_first_steps(&session, endpoints.is_empty())) }
        @if let Some(due) = detect_stall(now, per_minute, &counts) {
            p.next role="status" { "No refresh was counted in the last " (STALLED_MINUTES) " minutes, though about " (due)
                " were due. Look at the rules of EventBridge and the fetch function's logs." }
        }
        div.figures {
            (render_figure("Records", &all, "", "/dashboard/records"))
            (render_figure("Active", &of(RecordStatus::Active), "", "/dashboard/records?status=active"))
            (render_figure("Need the user", &of(RecordStatus::ReauthorisationRequired), "", "/dashboard/records?status=token_required"))
            (render_figure("Unlinked", &of(RecordStatus::Invalid), "", "/dashboard/records?status=invalid"))
            @let percent = share.format_percent().unwrap_or_else(|| "none".to_owned());
            (render_figure("Fresh", &percent, &heads.qualify_note("refreshed within their interval"), "/dashboard/records?fresh=no"))
            @match share.oldest_fresh {
                Some((record, at)) => (render_figure("Oldest", &heads.qualify_figure(format_duration(web.now().duration_since(at))), "ago, of those fresh", &format!("/dashboard/records/{record}"))),
                None => (render_figure("Oldest", "none", "", "/dashboard/records")),
            }
            (render_figure("Refreshes a minute", &heads.qualify_figure(format!("{per_minute:.1}")), "as scheduled", "#schedule"))
            @let noun = if endpoints.len() == 1 { "endpoint" } else { "endpoints" };
            @let note = if parked == 0 { noun.to_owned() } else { format!("{noun}, {parked} parked") };
            (render_figure("Webhooks", &format_count(endpoints.len()), &note, "/dashboard/webhooks"))
        }
        (render_activity(now, &counts))
        @if !heads.items.is_empty() {
            section aria-labelledby="schedule" {
                h2 #schedule { "Schedule" }
                (render_schedule(&heads))
            }
        }
    };
    let page = DashboardPage {
        session: &session,
        section: Section::Overview,
        title: "Overview",
        live_url: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}

/// What to do first, for an app without records.
fn render_first_steps(session: &AppSession, has_no_webhook: bool) -> Markup {
    render_empty_state(
        "Nothing is synced yet",
        &html! {
            ol.steps {
                li { a href="/dashboard/webhooks" { "Add a webhook" } @if has_no_webhook { ": the URL that is told of each change." } @else { ": done." } }
                li { a href="/dashboard/keys" { "Make a public key" } @if session.app.public_key.is_none() { " for the widget." } @else { ": done." } }
                li { a href="/dashboard/records" { "Link a customer" } " with the widget, or make one at the sandbox bank." }
            }
        },
    )
}

fn render_schedule(records: &LoadedRecords) -> Markup {
    let on = |interval: Interval| {
        let on = |head: &&RecordHead| head.schedule.iter().any(|(_, it)| *it == interval);
        records.items.iter().filter(on).count()
    };
    render_table(
        "Records by interval",
        &html! {
            th { "Interval" } th.number { "Records" }
        },
        &html! {
            @for interval in Interval::ALL {
                @let count = on(interval);
                @if count > 0 {
                    tr {
                        td { (describe_interval(interval)) }
                        td.number { a href={ "/dashboard/records?interval=" (interval) } { (records.qualify_figure(format_count(count))) } }
                    }
                }
            }
        },
    )
}
