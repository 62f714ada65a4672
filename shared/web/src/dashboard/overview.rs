//! How everything is, at a glance.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::schedule::Interval;
use okra_handlers::tally::names;
use okra_store::{Counts, Head, RecordStatus};

use super::{
    failing,
    freshness::{self, Share},
    records,
};
use crate::{
    Web,
    chart::Bars,
    html::{Page, Section, empty, figure, table},
    session::Signed,
    show,
    trouble::Trouble,
};

/// The app's records, as many as are looked at.
pub(crate) struct Heads {
    pub(crate) items: Vec<Head>,
    /// There are more.
    pub(crate) more: bool,
}

impl Heads {
    /// A figure that was counted in them: at least so much, where there are more.
    pub(crate) fn figure(&self, text: impl std::fmt::Display) -> String {
        let more = if self.more { "+" } else { "" };
        format!("{text}{more}")
    }

    /// What a share was taken of, where there are more.
    pub(crate) fn of(&self, what: &str) -> String {
        match self.more {
            true => format!("{what}, of the first {}", show::count(self.items.len())),
            false => what.to_owned(),
        }
    }
}

/// The app's records, [`records::MAX_LOOKED_AT`] at most.
pub(crate) async fn heads(web: &Web, signed: &Signed) -> Result<Heads, Trouble> {
    const BATCH: usize = 100;
    let (mut items, mut after) = (Vec::new(), None);
    while items.len() < records::MAX_LOOKED_AT {
        let page = web
            .api
            .store
            .records_of_app(signed.app.id, after, BATCH)
            .await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(Heads {
        items,
        more: after.is_some(),
    })
}

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let (store, app) = (&web.api.store, signed.app.id);
    let now = minute_of(web.now());
    let (heads, endpoints, counts) = futures::future::try_join3(
        heads(&web, &signed),
        async { Ok(store.endpoints(app).await?) },
        async { Ok(store.counts(app, now - (CHART_MINUTES - 1), now).await?) },
    )
    .await?;
    let ids: Vec<_> = endpoints.iter().map(|it| it.id).collect();
    let healths = store.healths(&ids).await?;
    let parked = healths
        .values()
        .map(|it| &it.health)
        .filter(|it| it.disabled.is_some() || it.probe_at().is_some())
        .count();
    let share = Share::of(&freshness::of(&web, &heads.items, web.now()).await?);
    let of = |status| {
        let of = heads.items.iter().filter(|head| head.status == status);
        heads.figure(show::count(of.count()))
    };
    let all = heads.figure(show::count(heads.items.len()));
    let per_minute: f64 = heads
        .items
        .iter()
        .filter(|head| head.status == RecordStatus::Active)
        .flat_map(Head::due_keys)
        .map(|key| 1.0 / f64::from(key.interval.minutes()))
        // Not `sum`: that of nothing is -0.0.
        .fold(0.0, |all, one| all + one);
    let body = html! {
        div.head { h1 { "Overview" } }
        @if heads.items.is_empty() { (first_steps(&signed, endpoints.is_empty())) }
        @if let Some(due) = stalled(now, per_minute, &counts) {
            p.next role="status" { "No refresh was counted in the last " (STALLED_MINUTES) " minutes, though about " (due)
                " were due. Look at the rules of EventBridge and the fetch function's logs." }
        }
        div.figures {
            (figure("Records", &all, "", "/dashboard/records"))
            (figure("Active", &of(RecordStatus::Active), "", "/dashboard/records?status=active"))
            (figure("Need the user", &of(RecordStatus::TokenRequired), "", "/dashboard/records?status=token_required"))
            (figure("Unlinked", &of(RecordStatus::Invalid), "", "/dashboard/records?status=invalid"))
            @let percent = share.percent().unwrap_or_else(|| "none".to_owned());
            (figure("Fresh", &percent, &heads.of("refreshed within their interval"), "/dashboard/records?fresh=no"))
            @match share.oldest {
                Some((record, at)) => (figure("Oldest", &heads.figure(show::length(web.now().duration_since(at))), "ago, of those fresh", &format!("/dashboard/records/{record}"))),
                None => (figure("Oldest", "none", "", "/dashboard/records")),
            }
            (figure("Refreshes a minute", &heads.figure(format!("{per_minute:.1}")), "as scheduled", "#schedule"))
            @let noun = if endpoints.len() == 1 { "endpoint" } else { "endpoints" };
            @let note = if parked == 0 { noun.to_owned() } else { format!("{noun}, {parked} parked") };
            (figure("Webhooks", &show::count(endpoints.len()), &note, "/dashboard/webhooks"))
        }
        (activity(now, &counts))
        @if !heads.items.is_empty() {
            section aria-labelledby="schedule" {
                h2 #schedule { "Schedule" }
                (schedule(&heads))
            }
        }
    };
    let page = Page {
        signed: &signed,
        section: Section::Overview,
        title: "Overview",
        live: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}

/// Minutes that the charts show.
const CHART_MINUTES: u64 = 180;

/// List prices of on-demand capacity in us-east-1, in dollars for a million units.
const READ_PRICE: f64 = 0.125;
const WRITE_PRICE: f64 = 0.625;

fn minute_of(at: Timestamp) -> u64 {
    u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
}

fn at(minute: u64) -> Timestamp {
    let second = i64::try_from(minute * 60).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// What to do first, for an app without records.
fn first_steps(signed: &Signed, no_webhook: bool) -> Markup {
    empty(
        "Nothing is synced yet",
        &html! {
            ol.steps {
                li { a href="/dashboard/webhooks" { "Add a webhook" } @if no_webhook { ": the URL that is told of each change." } @else { ": done." } }
                li { a href="/dashboard/keys" { "Make a public key" } @if signed.app.public_key.is_none() { " for the widget." } @else { ": done." } }
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
fn stalled(now: u64, per_minute: f64, counts: &[Counts]) -> Option<u64> {
    const SOME: f64 = 5.0;
    let due = per_minute * STALLED_MINUTES as f64;
    let lately = counts.iter().filter(|it| it.minute + STALLED_MINUTES > now);
    let refreshed = |it: &Counts| {
        [names::UNCHANGED, names::CHANGED, names::FAILED]
            .iter()
            .any(|name| it.by_name.contains_key(*name))
    };
    let alive = lately.into_iter().any(refreshed);
    (due >= SOME && !alive).then_some(due as u64)
}

/// Minutes that the charts show: of a system that was begun lately only those since.
fn charted(now: u64, counts: &[Counts]) -> u64 {
    const LEAST: u64 = 30;
    let first = counts.first().map_or(now, |it| it.minute);
    let since = now.saturating_sub(first) + 1;
    let whole = since.next_multiple_of(LEAST);
    whole.clamp(LEAST, CHART_MINUTES)
}

/// What was done for the app in the last hours.
fn activity(now: u64, counts: &[Counts]) -> Markup {
    let minutes = charted(now, counts);
    let from = now - (minutes - 1);
    let span = match minutes {
        CHART_MINUTES => format!("last {} hours", CHART_MINUTES / 60),
        _ => format!("last {minutes} minutes"),
    };
    let sum = |name: &str| -> u64 {
        let of = |it: &Counts| it.by_name.get(name).copied().unwrap_or(0);
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
        Bars {
            label,
            parts,
            bars: &bars,
            from: at(from),
            until: at(now + 1),
        }
        .draw()
    };
    let (unchanged, changed, failed) = (
        sum(names::UNCHANGED),
        sum(names::CHANGED),
        sum(names::FAILED),
    );
    let (delivered, refused) = (sum(names::DELIVERED), sum(names::REFUSED));
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
                    &[names::DELIVERED, names::REFUSED],
                ))
            }
        }
        div.columns {
            section.card aria-labelledby="errors" {
                h2 #errors { "Errors of banks by class" span.note { "calls that failed, " (span) } }
                dl {
                    @for (class, meaning) in failing::CLASSES {
                        dt { (meaning) }
                        dd {
                            span.strong { (show::count(sum(&format!("{}{}", names::FAULT, class.as_str())))) }
                            a.note href={ "/dashboard/records?failing=" (class.as_str()) } { "records that fail so now" }
                        }
                    }
                }
            }
            section.card aria-labelledby="cost" {
                @let reads = sum(names::HALF_READS);
                @let writes = sum(names::HALF_WRITES);
                h2 #cost { "Capacity used" span.note { (span) ", this app's share" } }
                dl {
                    dt { "Read units" } dd { (halved(reads)) }
                    dt { "Write units" } dd { (halved(writes)) }
                    dt { "At list price" } dd { (dollars(reads, writes)) }
                    dt { "Refreshes" } dd { (show::count(unchanged + changed + failed)) }
                }
            }
        }
    }
}

fn halved(halves: u64) -> String {
    let half = if halves % 2 == 1 { ".5" } else { "" };
    format!("{}{half}", show::count(halves / 2))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, in dollars")]
fn dollars(half_reads: u64, half_writes: u64) -> String {
    let price = |halves: u64, price: f64| halves as f64 / 2.0 / 1e6 * price;
    format!(
        "${:.6}",
        price(half_reads, READ_PRICE) + price(half_writes, WRITE_PRICE)
    )
}

fn schedule(heads: &Heads) -> Markup {
    let on = |interval: Interval| {
        let on = |head: &&Head| head.schedule.iter().any(|(_, it)| *it == interval);
        heads.items.iter().filter(on).count()
    };
    table(
        "Records by interval",
        &html! {
            th { "Interval" } th.number { "Records" }
        },
        &html! {
            @for interval in Interval::ALL {
                @let count = on(interval);
                @if count > 0 {
                    tr {
                        td { (show::interval(interval)) }
                        td.number { a href={ "/dashboard/records?interval=" (interval) } { (heads.figure(show::count(count))) } }
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
        let heads = |more| Heads {
            items: vec![],
            more,
        };
        assert_eq!(heads(false).figure(show::count(2000)), "2,000");
        assert_eq!(heads(true).figure(show::count(2000)), "2,000+");
        assert_eq!(heads(true).figure(format!("{:.1}", 0.5)), "0.5+");
        assert_eq!(heads(false).of("in time"), "in time");
        assert_eq!(heads(true).of("in time"), "in time, of the first 0");
    }
}
