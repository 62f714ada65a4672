//! The banks that are configured.

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
    bank::{BankConfig, Standard},
    breaker::{BankStatus, Breaker},
    ids::{BankId, RecordId},
    model::Product,
    schedule::Interval,
};
use okra_store::{Head, RecordStatus};

use super::overview;
use crate::{
    Web,
    html::{Page, Section, empty, table},
    session::Signed,
    show,
    trouble::Trouble,
};

/// What of a bank the app's records use.
#[derive(Default)]
struct Use {
    records: u64,
    waiting: u64,
    /// Scheduled refreshes a minute.
    per_minute: f64,
    /// The shortest interval that a record is on.
    shortest: Option<Interval>,
}

fn use_of(heads: &[Head]) -> HashMap<BankId, Use> {
    let mut uses: HashMap<BankId, Use> = HashMap::new();
    for head in heads {
        let it = uses.entry(head.bank).or_default();
        it.records += 1;
        it.waiting += u64::from(head.status == RecordStatus::TokenRequired);
        if head.status == RecordStatus::Active {
            for key in head.due_keys() {
                it.per_minute += 1.0 / f64::from(key.interval.minutes());
                let known = it.shortest.unwrap_or(key.interval);
                it.shortest = Some(known.min(key.interval));
            }
        }
    }
    uses
}

/// How a bank does, since when, and when it is asked whether it is back.
fn health(breaker: &Breaker, now: Timestamp) -> Markup {
    html! {
        @match breaker.status() {
            BankStatus::Healthy => (show::badge("good", "Healthy")),
            BankStatus::Degraded => (show::badge("warn", "Degraded")),
            BankStatus::Down => (show::badge("bad", "Down")),
        }
        @if breaker.status() != BankStatus::Healthy {
            @if let Some(at) = breaker.since() { span.note { "since " (show::when(now, at)) } }
            @if let Some(at) = breaker.probe_at() { span.note { "asked again " (show::when(now, at)) } }
        }
    }
}

/// Records whose refreshes on demand are counted at most: two are read for half a unit each.
const MAX_COUNTED: usize = 500;

/// Refreshes on demand of the last 24 hours that count against a bank's daily quota.
#[derive(Default)]
struct Asked {
    /// Of all records.
    all: usize,
    /// Of one product of one record: what the quota is for.
    most: Option<(usize, RecordId)>,
    /// Records that were left out.
    left_out: usize,
}

/// What was asked for in person at the banks that have a daily quota.
async fn asked_of(
    web: &Web,
    banks: &[BankConfig],
    heads: &[Head],
) -> Result<HashMap<BankId, Asked>, Trouble> {
    let limited: HashSet<BankId> = banks
        .iter()
        .filter(|bank| bank.limits.unattended_per_day.is_some())
        .map(|bank| bank.id)
        .collect();
    let mut asked: HashMap<BankId, Asked> = HashMap::new();
    let (mut places, mut bank_of) = (Vec::new(), HashMap::new());
    for head in heads.iter().filter(|head| limited.contains(&head.bank)) {
        if bank_of.len() == MAX_COUNTED {
            asked.entry(head.bank).or_default().left_out += 1;
            continue;
        }
        bank_of.insert(head.record, head.bank);
        places.extend(Product::ALL.map(|product| (head.record, product)));
    }
    let jobs = web.api.store.jobs(&places).await?;
    // In the order of the records, so that the page reads alike each time.
    for (record, product) in places {
        let (Some(job), Some(bank)) = (jobs.get(&(record, product)), bank_of.get(&record)) else {
            continue;
        };
        let count = job.asked.count(web.now());
        let of = asked.entry(*bank).or_default();
        of.all += count;
        if count > of.most.map_or(0, |(most, _)| most) {
            of.most = Some((count, record));
        }
    }
    Ok(asked)
}

/// What of the refreshes that a bank allows a day, for each product of a record, is used: the turns of the
/// schedule, and what was asked for.
fn quota(bank: &BankConfig, of: &Use, asked: Option<&Asked>) -> Markup {
    let Some(allowed) = bank.limits.unattended_per_day else {
        return html! { "no daily limit" };
    };
    let scheduled = of.shortest.map_or(0, |it| 1440 / it.minutes());
    html! {
        (scheduled) " of " (allowed) " a day by the schedule"
        span.note {
            @match asked {
                Some(Asked { all, most: Some((most, record)), .. }) => {
                    (show::count(*all)) " asked for in 24 hours, "
                    a href={ "/dashboard/records/" (record) } { (show::count(*most)) }
                    " of one record and product at most"
                },
                _ => "none asked for in 24 hours",
            }
            @if let Some(left_out) = asked.map(|it| it.left_out).filter(|it| *it > 0) { "; " (show::count(left_out)) " records not counted" }
        }
        span.note { (bank.limits.user_reserve) " kept for users who ask" }
    }
}

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let store = &web.api.store;
    let (banks, breakers) = {
        let banks = store.banks_for(signed.app.id);
        futures::future::try_join(banks, store.breakers()).await?
    };
    let now = web.now();
    let heads = overview::heads(&web, &signed).await?;
    let uses = use_of(&heads.items);
    let asked = asked_of(&web, &banks, &heads.items).await?;
    let body = html! {
        div.head { h1 { "Banks" } p.sub { (heads.of("How each bank is, what it allows, and the records this app has there")) "." } }
        @if banks.is_empty() {
            (empty("No banks yet", &html! {
                p { "Banks are configuration: a TOML file for " code { "--banks" } ", or " code { "POST /v2/banks/add" } "." }
            }))
        } @else {
            (table("Banks", &html! {
                th { "Bank" } th { "State" } th.number { "Records" } th.wide.number { "Need the user" } th.wide { "Shortest interval" }
                th.wide { "Daily quota" } th.wide.number { "Refreshes a minute" } th.wide { "Standard" }
            }, &html! {
                @for bank in &banks {
                    @let none = Use::default();
                    @let of = uses.get(&bank.id).unwrap_or(&none);
                    tr {
                        td {
                            span.strong { (bank.name) } span.note.wide { (bank.base_url) }
                            // What has no column on a narrow screen.
                            span.note.narrow { (bank.limits.shortest_interval().map_or("with the user only", show::interval)) " at most" }
                            span.note.narrow { (quota(bank, of, asked.get(&bank.id))) }
                        }
                        td { (health(&breakers.get(&bank.id).copied().unwrap_or_default(), now)) }
                        td.number { a href={ "/dashboard/records?bank=" (bank.id) } { (heads.figure(show::count(of.records))) } }
                        td.wide.number { a href={ "/dashboard/records?status=token_required&bank=" (bank.id) } { (heads.figure(show::count(of.waiting))) } }
                        td.wide {
                            (bank.limits.shortest_interval().map_or("with the user only", show::interval))
                            @if let Some(shortest) = of.shortest { span.note { "in use: " (show::interval(shortest)) } }
                        }
                        td.wide { (quota(bank, of, asked.get(&bank.id))) }
                        td.wide.number { (heads.figure(format!("{:.1}", of.per_minute))) span.note { "of " (show::count(bank.limits.records_per_second.saturating_mul(60))) } }
                        td.wide { (match bank.standard { Standard::Obie31 => "UK Open Banking 3.1", Standard::Obie40 => "UK Open Banking 4.0" }) }
                    }
                }
            }))
        }
    };
    let page = Page {
        signed: &signed,
        section: Section::Banks,
        title: "Banks",
        live: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}
