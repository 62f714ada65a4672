//! What was done for the app in the last hours: refreshes, webhooks, faults of banks, and the capacity they used.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_handlers::tally::names;
use okra_store::MinuteCounts;

use crate::components::{chart::BarChart, format::format_count, labels::FAULT_CLASSES};

/// Minutes that the charts show.
pub(crate) const CHART_MINUTES: u64 = 180;

/// List prices of on-demand capacity in us-east-1, in dollars for a million units.
const READ_PRICE: f64 = 0.125;

const WRITE_PRICE: f64 = 0.625;

pub(crate) fn epoch_minute(at: Timestamp) -> u64 {
    u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
}

fn minute_start(minute: u64) -> Timestamp {
    let second = i64::try_from(minute * 60).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// Minutes without any refresh after which that is said.
pub(crate) const STALLED_MINUTES: u64 = 10;

/// Refreshes that were due in the last minutes, where they were some and none was counted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small number of refreshes"
)]
pub(crate) fn detect_stall(now: u64, per_minute: f64, counts: &[MinuteCounts]) -> Option<u64> {
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
pub(crate) fn render_activity(now: u64, counts: &[MinuteCounts]) -> Markup {
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
                    @for (class, meaning) in FAULT_CLASSES {
                        dt { (meaning) }
                        dd {
                            span.strong { (format_count(sum(&format!("{}{}", names::FAULT_PREFIX, class.as_str())))) }
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
                    dt { "Refreshes" } dd { (format_count(unchanged + changed + failed)) }
                }
            }
        }
    }
}

fn format_half_units(halves: u64) -> String {
    let half = if halves % 2 == 1 { ".5" } else { "" };
    format!("{}{half}", format_count(halves / 2))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, in dollars")]
fn format_cost(half_reads: u64, half_writes: u64) -> String {
    let price = |halves: u64, price: f64| halves as f64 / 2.0 / 1e6 * price;
    format!(
        "${:.6}",
        price(half_reads, READ_PRICE) + price(half_writes, WRITE_PRICE)
    )
}
