//! The page of the banks: how each is, what it allows, and the records that the app has there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    model::{
        bank::BankConfig,
        ids::{BankId, RecordId},
        interval::Interval,
        snapshot::Product,
    },
    resilience::bank_breaker::{BankBreaker, BankStatus},
};
use okra_store::{RecordHead, RecordStatus};

use super::{
    page::{DashboardPage, Section},
    records::loaded::load_records,
    session::AppSession,
};
use crate::{
    components::{
        badges::render_badge,
        format::{format_count, render_relative_time},
        labels::describe_interval,
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// What of a bank the app's records use.
#[derive(Default)]
struct BankUsage {
    record_count: u64,
    user_needed_count: u64,
    /// Scheduled refreshes a minute.
    refreshes_per_minute: f64,
    /// The shortest interval that a record is on.
    shortest_interval: Option<Interval>,
}

fn count_bank_usage(heads: &[RecordHead]) -> HashMap<BankId, BankUsage> {
    let mut uses: HashMap<BankId, BankUsage> = HashMap::new();
    for head in heads {
        let it = uses.entry(head.bank).or_default();
        it.record_count += 1;
        it.user_needed_count += u64::from(head.status == RecordStatus::ReauthorisationRequired);
        if head.status == RecordStatus::Active {
            for key in head.due_keys() {
                it.refreshes_per_minute += 1.0 / f64::from(key.interval.minutes());
                let known = it.shortest_interval.unwrap_or(key.interval);
                it.shortest_interval = Some(known.min(key.interval));
            }
        }
    }
    uses
}

/// How a bank does, since when, and when it is asked whether it is back.
fn render_breaker_status(breaker: &BankBreaker, now: Timestamp) -> Markup {
    html! {
        @match breaker.bank_status() {
            BankStatus::Healthy => (render_badge("good", "Healthy")),
            BankStatus::Degraded => (render_badge("warn", "Degraded")),
            BankStatus::Down => (render_badge("bad", "Down")),
        }
        @if breaker.bank_status() != BankStatus::Healthy {
            @if let Some(at) = breaker.failing_since() { span.note { "since " (render_relative_time(now, at)) } }
            @if let Some(at) = breaker.next_probe_at() { span.note { "asked again " (render_relative_time(now, at)) } }
        }
    }
}

/// Records whose refreshes on demand are counted at most: two are read for half a unit each.
const MAX_RECORDS_COUNTED: usize = 500;

/// Refreshes on demand of the last 24 hours that count against a bank's daily quota.
#[derive(Default)]
struct OnDemandUsage {
    /// Of all records.
    total_count: usize,
    /// Of one product of one record: what the quota is for.
    busiest_record: Option<(usize, RecordId)>,
    /// Records that were left out.
    uncounted_records: usize,
}

/// What was asked for in person at the banks that have a daily quota.
async fn load_on_demand_usage(
    web: &WebState,
    banks: &[BankConfig],
    heads: &[RecordHead],
) -> Result<HashMap<BankId, OnDemandUsage>, PageError> {
    let limited: HashSet<BankId> = banks
        .iter()
        .filter(|bank| bank.limits.unattended_per_day.is_some())
        .map(|bank| bank.id)
        .collect();
    let mut asked: HashMap<BankId, OnDemandUsage> = HashMap::new();
    let (mut places, mut bank_of) = (Vec::new(), HashMap::new());
    for head in heads.iter().filter(|head| limited.contains(&head.bank)) {
        if bank_of.len() == MAX_RECORDS_COUNTED {
            asked.entry(head.bank).or_default().uncounted_records += 1;
            continue;
        }
        bank_of.insert(head.record, head.bank);
        places.extend(Product::ALL.map(|product| (head.record, product)));
    }
    let jobs = web.api.store.load_jobs(&places).await?;
    // In the order of the records, so that the page reads alike each time.
    for (record, product) in places {
        let (Some(job), Some(bank)) = (jobs.get(&(record, product)), bank_of.get(&record)) else {
            continue;
        };
        let count = job.unattended_requests.count_recent(web.now());
        let of = asked.entry(*bank).or_default();
        of.total_count += count;
        if count > of.busiest_record.map_or(0, |(most, _)| most) {
            of.busiest_record = Some((count, record));
        }
    }
    Ok(asked)
}

/// What of the refreshes that a bank allows a day, for each product of a record, is used: the turns of the
/// schedule, and what was asked for.
fn render_daily_quota(
    bank: &BankConfig,
    usage: &BankUsage,
    on_demand: Option<&OnDemandUsage>,
) -> Markup {
    let Some(allowed) = bank.limits.unattended_per_day else {
        return html! { "no daily limit" };
    };
    let scheduled = usage.shortest_interval.map_or(0, |it| 1440 / it.minutes());
    html! {
        (scheduled) " of " (allowed) " a day by the schedule"
        span.note {
            @match on_demand {
                Some(OnDemandUsage { total_count, busiest_record: Some((most, record)), .. }) => {
                    (format_count(*total_count)) " asked for in 24 hours, "
                    a href={ "/dashboard/records/" (record) } { (format_count(*most)) }
                    " of one record and product at most"
                },
                _ => "none asked for in 24 hours",
            }
            @if let Some(left_out) = on_demand.map(|it| it.uncounted_records).filter(|it| *it > 0) { "; " (format_count(left_out)) " records not counted" }
        }
        span.note { (bank.limits.user_reserve) " kept for users who ask" }
    }
}

pub(crate) async fn render_banks_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let store = &web.api.store;
    let (banks, breakers) = {
        let banks = store.list_banks_for_app(session.app.id);
        futures::future::try_join(banks, store.list_bank_breakers()).await?
    };
    let now = web.now();
    let heads = load_records(&web, &session).await?;
    let uses = count_bank_usage(&heads.items);
    let asked = load_on_demand_usage(&web, &banks, &heads.items).await?;
    let body = html! {
        div.head { h1 { "Banks" } p.sub { (heads.qualify_note("How each bank is, what it allows, and the records this app has there")) "." } }
        @if banks.is_empty() {
            (render_empty_state("No banks yet", &html! {
                p { "Banks are configuration: a TOML file for " code { "--banks" } ", or " code { "POST /v2/banks/add" } "." }
            }))
        } @else {
            (render_table("Banks", &html! {
                th { "Bank" } th { "State" } th.number { "Records" } th.wide.number { "Need the user" } th.wide { "Shortest interval" }
                th.wide { "Daily quota" } th.wide.number { "Refreshes a minute" } th.wide { "Standard" }
            }, &html! {
                @for bank in &banks {
                    @let none = BankUsage::default();
                    @let of = uses.get(&bank.id).unwrap_or(&none);
                    tr {
                        td {
                            span.strong { (bank.name) } span.note.wide { (bank.base_url) }
                            // What has no column on a narrow screen.
                            span.note.narrow { (bank.limits.shortest_interval().map_or("with the user only", describe_interval)) " at most" }
                            span.note.narrow { (render_daily_quota(bank, of, asked.get(&bank.id))) }
                        }
                        td { (render_breaker_status(&breakers.get(&bank.id).copied().unwrap_or_default(), now)) }
                        td.number { a href={ "/dashboard/records?bank=" (bank.id) } { (heads.qualify_figure(format_count(of.record_count))) } }
                        td.wide.number { a href={ "/dashboard/records?status=token_required&bank=" (bank.id) } { (heads.qualify_figure(format_count(of.user_needed_count))) } }
                        td.wide {
                            (bank.limits.shortest_interval().map_or("with the user only", describe_interval))
                            @if let Some(shortest) = of.shortest_interval { span.note { "in use: " (describe_interval(shortest)) } }
                        }
                        td.wide { (render_daily_quota(bank, of, asked.get(&bank.id))) }
                        td.wide.number { (heads.qualify_figure(format!("{:.1}", of.refreshes_per_minute))) span.note { "of " (format_count(bank.limits.records_per_second.saturating_mul(60))) } }
                        td.wide { (okra_connectors::display_name(bank.standard)) }
                    }
                }
            }))
        }
    };
    let page = DashboardPage {
        session: &session,
        section: Section::Banks,
        title: "Banks",
        live_url: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}
