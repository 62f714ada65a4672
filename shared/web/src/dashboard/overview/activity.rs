//! What was done for the app in the last hours: refreshes, webhooks, faults of banks, and the capacity they used.
//!
//! [`Activity`] is the counts of the minutes that the charts show.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::fault::FaultClass;
use okra_handlers::metrics::names;
use okra_store::MinuteCounts;

use crate::components::{chart::BarChart, format::format_count, labels::capitalise_first};

/// Minutes that the charts show at most.
pub(crate) const CHART_MINUTES: u64 = 180;

/// Minutes without any refresh after which the overview says so.
pub(crate) const STALLED_MINUTES: u64 = 10;

/// List prices of on-demand capacity in us-east-1, in dollars for a million units.
const READ_PRICE: f64 = 0.125;
const WRITE_PRICE: f64 = 0.625;

/// Minutes since 1970; 0 for an instant before.
pub(crate) fn epoch_minute(at: Timestamp) -> u64 {
    u64::try_from(at.as_second().div_euclid(60)).unwrap_or(0)
}

/// The instant at which a minute since 1970 begins. A minute that no calendar has is far in the future.
fn minute_start(minute: u64) -> Timestamp {
    let second = i64::try_from(minute).ok().and_then(|it| it.checked_mul(60));
    second
        .and_then(|it| Timestamp::from_second(it).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Refreshes that were due in the last minutes, where they were several and none was counted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small number of refreshes"
)]
pub(crate) fn detect_stall(now: u64, per_minute: f64, counts: &[MinuteCounts]) -> Option<u64> {
    // Below that a slot without any record is to be expected.
    const MIN_DUE: f64 = 5.0;
    let due = per_minute * STALLED_MINUTES as f64;
    let is_alive = counts
        .iter()
        .filter(|it| it.minute + STALLED_MINUTES > now)
        .any(has_refreshes);
    (due >= MIN_DUE && !is_alive).then_some(due as u64)
}

fn has_refreshes(counts: &MinuteCounts) -> bool {
    [names::UNCHANGED, names::CHANGED, names::FAILED]
        .iter()
        .any(|name| counts.by_name.contains_key(*name))
}

/// Minutes that the charts show: of a system that was started lately only those since.
fn charted_minutes(now: u64, counts: &[MinuteCounts]) -> u64 {
    const MIN_MINUTES: u64 = 30;
    let first = counts.first().map_or(now, |it| it.minute);
    // A count of a later minute comes from a clock that is ahead.
    let since = now.saturating_sub(first) + 1;
    let whole = since.next_multiple_of(MIN_MINUTES);
    whole.clamp(MIN_MINUTES, CHART_MINUTES)
}

/// The counts of the minutes that the charts show.
struct Activity<'a> {
    counts: &'a [MinuteCounts],
    /// The first minute of the charts, since 1970.
    first_minute: u64,
    /// The current minute, which is the last one.
    now: u64,
}

impl Activity<'_> {
    const fn minutes(&self) -> u64 {
        self.now - self.first_minute + 1
    }

    /// `last 3 hours`.
    fn describe_span(&self) -> String {
        match self.minutes() {
            CHART_MINUTES => format!("last {} hours", CHART_MINUTES / 60),
            minutes => format!("last {minutes} minutes"),
        }
    }

    /// What was counted under a name in all minutes.
    fn sum_of(&self, name: &str) -> u64 {
        let counts = self.counts.iter();
        counts.filter_map(|it| it.by_name.get(name)).sum()
    }

    /// One bar for each minute, with the counts under these names.
    fn bars_of(&self, names: &[&str]) -> Vec<Vec<u64>> {
        let minutes = self.first_minute..=self.now;
        let mut bars: Vec<Vec<u64>> = minutes.map(|_| vec![0; names.len()]).collect();
        for it in self.counts {
            let at = it.minute.checked_sub(self.first_minute);
            let bar = at.and_then(|at| bars.get_mut(usize::try_from(at).ok()?));
            for (count, name) in bar.into_iter().flatten().zip(names) {
                *count += it.by_name.get(*name).copied().unwrap_or(0);
            }
        }
        bars
    }

    fn render_chart(
        &self,
        label: String,
        parts: &[(&'static str, &'static str)],
        names: &[&str],
    ) -> Markup {
        let chart = BarChart {
            label,
            parts,
            bars: &self.bars_of(names),
            from: minute_start(self.first_minute),
            until: minute_start(self.now + 1),
        };
        chart.render_svg()
    }
}

/// What was done for the app in the last hours.
pub(crate) fn render_activity(now: u64, counts: &[MinuteCounts]) -> Markup {
    let minutes = charted_minutes(now, counts);
    let activity = Activity {
        counts,
        first_minute: now.saturating_sub(minutes - 1),
        now,
    };
    html! {
        div.columns {
            section.card aria-labelledby="refreshes" { (render_refreshes(&activity)) }
            section.card aria-labelledby="webhooks" { (render_webhooks(&activity)) }
        }
        div.columns {
            section.card aria-labelledby="errors" { (render_faults(&activity)) }
            section.card aria-labelledby="cost" { (render_cost(&activity)) }
        }
    }
}

fn render_refreshes(activity: &Activity<'_>) -> Markup {
    let span = activity.describe_span();
    let label = format!(
        "Refreshes by the minute in the {span}: {} without a change, {} with a change, {} failed",
        activity.sum_of(names::UNCHANGED),
        activity.sum_of(names::CHANGED),
        activity.sum_of(names::FAILED),
    );
    html! {
        h2 #refreshes { a href="/dashboard/records" { "Refreshes a minute" } span.note { (span) } }
        (activity.render_chart(
            label,
            &[("unchanged", "idle"), ("changed", "good"), ("failed", "bad")],
            &[names::UNCHANGED, names::CHANGED, names::FAILED],
        ))
    }
}

fn render_webhooks(activity: &Activity<'_>) -> Markup {
    let span = activity.describe_span();
    let label = format!(
        "Webhooks by the minute in the {span}: {} delivered, {} attempts failed",
        activity.sum_of(names::DELIVERED),
        activity.sum_of(names::FAILED_ATTEMPTS),
    );
    html! {
        h2 #webhooks { a href="/dashboard/webhooks" { "Webhooks a minute" } span.note { (span) } }
        (activity.render_chart(
            label,
            &[("delivered", "good"), ("failed attempts", "bad")],
            &[names::DELIVERED, names::FAILED_ATTEMPTS],
        ))
    }
}

fn render_faults(activity: &Activity<'_>) -> Markup {
    html! {
        h2 #errors { "Bank errors by class" span.note { "failed calls, " (activity.describe_span()) } }
        dl {
            @for class in FaultClass::ALL {
                @let count = activity.sum_of(&format!("{}{}", names::FAULT_PREFIX, class.as_str()));
                dt { (capitalise_first(class.as_label())) }
                dd {
                    span.strong { (format_count(count)) }
                    a.note href={ "/dashboard/records?failing=" (class.as_str()) } { "records that fail this way now" }
                }
            }
        }
    }
}

fn render_cost(activity: &Activity<'_>) -> Markup {
    let (reads, writes) = (
        activity.sum_of(names::HALF_READ_UNITS),
        activity.sum_of(names::HALF_WRITE_UNITS),
    );
    let refreshes = [names::UNCHANGED, names::CHANGED, names::FAILED];
    let refreshes: u64 = refreshes.iter().map(|name| activity.sum_of(name)).sum();
    html! {
        h2 #cost { "Capacity used" span.note { (activity.describe_span()) ", by this app" } }
        dl {
            dt { "Read units" } dd { (format_half_units(reads)) }
            dt { "Write units" } dd { (format_half_units(writes)) }
            dt { "At list price" } dd { (format_cost(reads, writes)) }
            dt { "Refreshes" } dd { (format_count(refreshes)) }
        }
    }
}

/// Capacity units, which are counted in halves.
fn format_half_units(halves: u64) -> String {
    let half = if halves % 2 == 1 { ".5" } else { "" };
    format!("{}{half}", format_count(halves / 2))
}

fn format_cost(half_reads: u64, half_writes: u64) -> String {
    let dollars = price_of(half_reads, READ_PRICE) + price_of(half_writes, WRITE_PRICE);
    format!("${dollars:.6}")
}

#[expect(clippy::cast_precision_loss, reason = "an estimate, in dollars")]
fn price_of(halves: u64, per_million: f64) -> f64 {
    halves as f64 / 2.0 / 1e6 * per_million
}
