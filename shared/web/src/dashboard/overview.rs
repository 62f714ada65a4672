//! How everything is, at a glance.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::interval::Interval;
use okra_handlers::tally::names;
use okra_store::{MinuteCounts, RecordHead, RecordStatus};

use super::{
    failing,
    freshness::{self, FreshnessSummary},
    records,
};
use crate::{
    WebState,
    chart::BarChart,
    html::{DashboardPage, Section, render_empty_state, render_figure, render_table},
    session::AppSession,
    show,
    trouble::PageError,
};

/// The app's records, as many as are looked at.
pub(crate) struct LoadedRecords {
    pub(crate) items: Vec<RecordHead>,
    /// There are more.
    pub(crate) has_more: bool,
}

impl LoadedRecords {
    /// A figure that was counted in them: at least so much, where there are more.
    pub(crate) fn qualify_figure(&self, text: impl std::fmt::Display) -> String {
        let more = if self.has_more { "+" } else { "" };
        format!("{text}{more}")
    }

    /// What a share was taken of, where there are more.
    pub(crate) fn qualify_note(&self, what: &str) -> String {
        match self.has_more {
            true => format!(
                "{what}, of the first {}",
                show::format_count(self.items.len())
            ),
            false => what.to_owned(),
        }
    }
}

/// The app's records, [`records::MAX_LOOKED_AT`] at most.
pub(crate) async fn load_records(
    web: &WebState,
    session: &AppSession,
) -> Result<LoadedRecords, PageError> {
    const BATCH: usize = 100;
    let (mut items, mut after) = (Vec::new(), None);
    while items.len() < records::MAX_RECORDS_SCANNED {
        let page = web
            .api
            .store
            .list_records_of_app(session.app.id, after, BATCH)
            .await?;
        items.extend(page.items);
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(LoadedRecords {
        items,
        has_more: after.is_some(),
    })
}

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
    let healths = store.load_health_of_endpoints(&ids).await?;
    let parked = healths
        .values()
        .map(|it| &it.health)
        .filter(|it| it.disabled.is_some() || it.next_probe_at().is_some())
        .count();
    let share = FreshnessSummary::from_records(
        &freshness::load_freshness(&web, &heads.items, web.now()).await?,
    );
    let of = |status| {
        let of = heads.items.iter().filter(|head| head.status == status);
        heads.qualify_figure(show::format_count(of.count()))
    };
    let all = heads.qualify_figure(show::format_count(heads.items.len()));
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
                Some((record, at)) => (render_figure("Oldest", &heads.qualify_figure(show::format_duration(web.now().duration_since(at))), "ago, of those fresh", &format!("/dashboard/records/{record}"))),
                None => (render_figure("Oldest", "none", "", "/dashboard/records")),
            }
            (render_figure("Refreshes a minute", &heads.qualify_figure(format!("{per_minute:.1}")), "as scheduled", "#schedule"))
            @let noun = if endpoints.len() == 1 { "endpoint" } else { "endpoints" };
            @let note = if parked == 0 { noun.to_owned() } else { format!("{noun}, {parked} parked") };
            (render_figure("Webhooks", &show::format_count(endpoints.len()), &note, "/dashboard/webhooks"))
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

/// Minutes that the charts show.
const CHART_MINUTES: u64 = 180;

/// List prices of on-demand capacity in us-east-1, in dollars for a million units.
const READ_PRICE: f64 = 0.125;
const WRITE_PRICE: f64 = 0.625;

fn epoch_minute(at: Timestamp) -> u64 {
    u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
}

fn minute_start(minute: u64) -> Timestamp {
    let second = i64::try_from(minute * 60).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
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

/// Minutes without any refresh after which that is said.
const STALLED_MINUTES: u64 = 10;

/// Refreshes that were due in the last minutes, where they were some and none was counted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small number of refreshes"
)]
fn detect_stall(now: u64, per_minute: f64, counts: &[MinuteCounts]) -> Option<u64> {
    const SOME: f64 = 5.0;
    let due = per_minute * STALLED_MINUTES as f64;
    let lately = counts.iter().filter(|it| it.minute + STALLED_MINUTES > now);
    let refreshed = |it: &MinuteCounts| {
        [names::UNCHANGED, names::CHANGED, names::FAILED]
            .iter()
            .any(|name| it.by_name.contains_key(*name))
    };
    let alive = lately.into_iter().any(refreshed);
    (due >= SOME && !alive).then_some(due as u64)
}

/// Minutes that the charts show: of a system that was begun lately only those since.
fn charted_minutes(now: u64, counts: &[MinuteCounts]) -> u64 {
    const LEAST: u64 = 30;
    let first = counts.first().map_or(now, |it| it.minute);
    let since = now.saturating_sub(first) + 1;
    let whole = since.next_multiple_of(LEAST);
    whole.clamp(LEAST, CHART_MINUTES)
}

/// What was done for the app in the last hours.
fn render_activity(now: u64, counts: &[MinuteCounts]) -> Markup {
    let minutes = charted_minutes(now, counts);
    let from = now - (minutes - 1);
    let span = match minutes {
        CHART_MINUTES => format!("last {} hours", CHART_MINUTES / 60),
        _ => format!("last {minutes} minutes"),
    };
    let sum = |name: &str| -> u64 {
        let of = |it: &MinuteCounts| it.by_name.get(name).copied().unwrap_or(0);
        counts.iter().map(of).sum()
    };
    let bars = |names: &[&str]| -> Vec<Vec<u64>> {
        let mut bars = vec![vec![0; names.len()]; usize::try_from(minutes).unwrap_or(0)];
        for it in counts {
            let place = usize::try_from(it.minute.saturating_sub(from)).unwrap_or(usize::MAX);
            if let Some(bar) = bars.get_mut(place) {
                for (bar, name) in bar.iter_mut().zip(names) {
                    *bar += it.by_name.get(*name).copied().unwrap_or(0);
                }
            }
        }
        bars
    };
    let chart = |label: String, parts: &[(&'static str, &'static str)], names: &[&str]| {
        let bars = bars(names);
        BarChart {
            label,
            parts,
            bars: &bars,
            from: minute_start(from),
            until: minute_start(now + 1),
        }
        .render_svg()
    };
    let (unchanged, changed, failed) = (
        sum(names::UNCHANGED),
        sum(names::CHANGED),
        sum(names::FAILED),
    );
    let (delivered, refused) = (sum(names::DELIVERED), sum(names::FAILED_ATTEMPTS));
    html! {
        div.columns {
            section.card aria-labelledby="refreshes" {
                h2 #refreshes { a href="/dashboard/records" { "Refreshes a minute" } span.note { (span) } }
                (chart(
                    format!("Refreshes by the minute in the {span}: {unchanged} found nothing new, {changed} a change, {failed} failed"),
                    &[("nothing new", "idle"), ("changed", "good"), ("failed", "bad")],
                    &[names::UNCHANGED, names::CHANGED, names::FAILED],
                ))
            }
            section.card aria-labelledby="webhooks" {
                h2 #webhooks { a href="/dashboard/webhooks" { "Webhooks a minute" } span.note { (span) } }
                (chart(
                    format!("Webhooks by the minute in the {span}: {delivered} delivered, {refused} attempts failed"),
                    &[("delivered", "good"), ("failed attempts", "bad")],
                    &[names::DELIVERED, names::FAILED_ATTEMPTS],
                ))
            }
        }
        div.columns {
            section.card aria-labelledby="errors" {
                h2 #errors { "Errors of banks by class" span.note { "calls that failed, " (span) } }
                dl {
                    @for (class, meaning) in failing::FAULT_CLASSES {
                        dt { (meaning) }
                        dd {
                            span.strong { (show::format_count(sum(&format!("{}{}", names::FAULT_PREFIX, class.as_str())))) }
                            a.note href={ "/dashboard/records?failing=" (class.as_str()) } { "records that fail so now" }
                        }
                    }
                }
            }
            section.card aria-labelledby="cost" {
                @let reads = sum(names::HALF_READ_UNITS);
                @let writes = sum(names::HALF_WRITE_UNITS);
                h2 #cost { "Capacity used" span.note { (span) ", this app's share" } }
                dl {
                    dt { "Read units" } dd { (format_half_units(reads)) }
                    dt { "Write units" } dd { (format_half_units(writes)) }
                    dt { "At list price" } dd { (format_cost(reads, writes)) }
                    dt { "Refreshes" } dd { (show::format_count(unchanged + changed + failed)) }
                }
            }
        }
    }
}

fn format_half_units(halves: u64) -> String {
    let half = if halves % 2 == 1 { ".5" } else { "" };
    format!("{}{half}", show::format_count(halves / 2))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, in dollars")]
fn format_cost(half_reads: u64, half_writes: u64) -> String {
    let price = |halves: u64, price: f64| halves as f64 / 2.0 / 1e6 * price;
    format!(
        "${:.6}",
        price(half_reads, READ_PRICE) + price(half_writes, WRITE_PRICE)
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
                        td { (show::describe_interval(interval)) }
                        td.number { a href={ "/dashboard/records?interval=" (interval) } { (records.qualify_figure(show::format_count(count))) } }
                    }
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_to_the_end_says_so() {
        let heads = |more| LoadedRecords {
            items: vec![],
            has_more: more,
        };
        assert_eq!(
            heads(false).qualify_figure(show::format_count(2000)),
            "2,000"
        );
        assert_eq!(
            heads(true).qualify_figure(show::format_count(2000)),
            "2,000+"
        );
        assert_eq!(heads(true).qualify_figure(format!("{:.1}", 0.5)), "0.5+");
        assert_eq!(heads(false).qualify_note("in time"), "in time");
        assert_eq!(
            heads(true).qualify_note("in time"),
            "in time, of the first 0"
        );
    }
}
