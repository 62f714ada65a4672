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
    records::loaded::{LoadedRecords, load_records},
    session::AppSession,
};
use crate::{
    components::{
        badges::render_bank_status,
        format::{format_count, render_relative_time},
        labels::describe_interval,
        parts::{render_empty_state, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// How the app's records use a bank.
#[derive(Default)]
struct BankUsage {
    record_count: u64,
    /// Records that require the user.
    user_required_count: u64,
    /// Scheduled refreshes a minute.
    refreshes_per_minute: f64,
    /// The shortest interval that a record is on.
    shortest_interval: Option<Interval>,
}

fn count_bank_usage(heads: &[RecordHead]) -> HashMap<BankId, BankUsage> {
    let mut usage_by_bank: HashMap<BankId, BankUsage> = HashMap::new();
    for head in heads {
        let it = usage_by_bank.entry(head.bank).or_default();
        it.record_count += 1;
        it.user_required_count += u64::from(head.status == RecordStatus::ReauthorisationRequired);
        if head.status == RecordStatus::Active {
            for key in head.due_keys() {
                it.refreshes_per_minute += 1.0 / f64::from(key.interval.minutes());
                let known = it.shortest_interval.unwrap_or(key.interval);
                it.shortest_interval = Some(known.min(key.interval));
            }
        }
    }
    usage_by_bank
}

/// The health of a bank, since when, and when it is probed next.
fn render_breaker_status(breaker: &BankBreaker, now: Timestamp) -> Markup {
    html! {
        (render_bank_status(breaker.bank_status()))
        @if breaker.bank_status() != BankStatus::Healthy {
            @if let Some(at) = breaker.failing_since() { span.note { "since " (render_relative_time(now, at)) } }
            @if let Some(at) = breaker.next_probe_at() { span.note { "next probe " (render_relative_time(now, at)) } }
        }
    }
}

/// Records whose refreshes on demand are counted at most: each takes two reads of half a unit.
const MAX_RECORDS_COUNTED: usize = 500;

/// Refreshes on demand of the last 24 hours that count against a bank's daily quota.
#[derive(Default)]
struct OnDemandUsage {
    /// Over all records.
    total_count: usize,
    /// The most of one product of one record, which is what the quota limits.
    busiest_record: Option<(usize, RecordId)>,
    /// Records that were not counted.
    uncounted_records: usize,
}

/// Counts the refreshes on demand at the banks that have a daily quota.
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
    let mut usage_by_bank: HashMap<BankId, OnDemandUsage> = HashMap::new();
    let (mut jobs_to_read, mut bank_of) = (Vec::new(), HashMap::new());
    for head in heads.iter().filter(|head| limited.contains(&head.bank)) {
        if bank_of.len() == MAX_RECORDS_COUNTED {
            usage_by_bank
                .entry(head.bank)
                .or_default()
                .uncounted_records += 1;
            continue;
        }
        bank_of.insert(head.record, head.bank);
        jobs_to_read.extend(Product::ALL.map(|product| (head.record, product)));
    }
    let jobs = web.services.store.load_jobs(&jobs_to_read).await?;
    // In the order of the records, so that the page names the same record each time.
    for (record, product) in jobs_to_read {
        let (Some(job), Some(bank)) = (jobs.get(&(record, product)), bank_of.get(&record)) else {
            continue;
        };
        let count = job.unattended_requests.count_recent(web.now());
        let usage = usage_by_bank.entry(*bank).or_default();
        usage.total_count += count;
        if count > usage.busiest_record.map_or(0, |(most, _)| most) {
            usage.busiest_record = Some((count, record));
        }
    }
    Ok(usage_by_bank)
}

/// How much is used of the refreshes that a bank allows a day for each product of a record: by the schedule, and on
/// demand.
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
        (scheduled) " of " (allowed) " a day scheduled"
        span.note {
            @match on_demand {
                Some(OnDemandUsage { total_count, busiest_record: Some((most, record)), .. }) => {
                    (format_count(*total_count)) " on demand in 24 hours, at most "
                    a href={ "/dashboard/records/" (record) } { (format_count(*most)) }
                    " of one record and product"
                },
                _ => "none on demand in 24 hours",
            }
            @if let Some(left_out) = on_demand.map(|it| it.uncounted_records).filter(|it| *it > 0) { "; " (format_count(left_out)) " records not counted" }
        }
        span.note { (bank.limits.user_reserve) " reserved for refreshes with the user present" }
    }
}

pub(crate) async fn render_banks_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let table = BankTable::load_table(&web, &session).await?;
    let subtitle = "How each bank is, what it allows, and the records this app has there";
    let body = html! {
        div.head { h1 { "Banks" } p.sub { (table.records.qualify_note(subtitle)) "." } }
        @if table.banks.is_empty() {
            (render_empty_state("No banks yet", &html! {
                p { "Banks are configuration: a TOML file for " code { "--banks" } ", or " code { "POST /v2/banks/add" } "." }
            }))
        } @else {
            (render_table("Banks", &html! {
                th { "Bank" } th { "State" } th.number { "Records" } th.wide.number { "Require the user" } th.wide { "Shortest interval" }
                th.wide { "Daily quota" } th.wide.number { "Refreshes a minute" } th.wide { "Standard" }
            }, &html! {
                @for bank in &table.banks { (table.render_row(bank)) }
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

/// What the table of the banks shows.
struct BankTable {
    banks: Vec<BankConfig>,
    breakers: HashMap<BankId, BankBreaker>,
    records: LoadedRecords,
    usage: HashMap<BankId, BankUsage>,
    on_demand: HashMap<BankId, OnDemandUsage>,
    now: Timestamp,
}

impl BankTable {
    async fn load_table(web: &WebState, session: &AppSession) -> Result<Self, PageError> {
        let store = &web.services.store;
        let banks = store.list_banks_for_app(session.app().id);
        let (banks, breakers) =
            futures::future::try_join(banks, store.list_bank_breakers()).await?;
        let records = load_records(web, session).await?;
        Ok(Self {
            usage: count_bank_usage(&records.items),
            on_demand: load_on_demand_usage(web, &banks, &records.items).await?,
            banks,
            breakers,
            records,
            now: web.now(),
        })
    }

    fn render_row(&self, bank: &BankConfig) -> Markup {
        let none = BankUsage::default();
        let usage = self.usage.get(&bank.id).unwrap_or(&none);
        // A bank without a stored breaker has never failed.
        let breaker = self.breakers.get(&bank.id).copied().unwrap_or_default();
        let quota = render_daily_quota(bank, usage, self.on_demand.get(&bank.id));
        let shortest = bank.limits.shortest_interval();
        let shortest = shortest.map_or("with the user only", describe_interval);
        // Saturates at 4 billion a minute.
        let per_minute = bank.limits.records_per_second.saturating_mul(60);
        html! {
            tr {
                td {
                    span.strong { (bank.name) } span.note.wide { (bank.base_url) }
                    // What has no column on a narrow screen.
                    span.note.narrow { (shortest) " at most" }
                    span.note.narrow { (quota) }
                }
                td { (render_breaker_status(&breaker, self.now)) }
                td.number { a href={ "/dashboard/records?bank=" (bank.id) } { (self.records.qualify_figure(format_count(usage.record_count))) } }
                td.wide.number { a href={ "/dashboard/records?status=token_required&bank=" (bank.id) } { (self.records.qualify_figure(format_count(usage.user_required_count))) } }
                td.wide {
                    (shortest)
                    @if let Some(shortest) = usage.shortest_interval { span.note { "in use: " (describe_interval(shortest)) } }
                }
                td.wide { (quota) }
                td.wide.number {
                    (self.records.qualify_figure(format!("{:.1}", usage.refreshes_per_minute)))
                    span.note { "of " (format_count(per_minute)) }
                }
                td.wide { (okra_connectors::display_name(bank.standard)) }
            }
        }
    }
}
