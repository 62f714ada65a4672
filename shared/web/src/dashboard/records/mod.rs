//! The list of the app's records: searched, filtered, page by page.

pub(super) mod loaded;
mod search;

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::{
    bank::BankConfig,
    fault::FaultClass,
    ids::{AccountId, RecordId},
    interval::Interval,
};
use okra_store::{Consistency, RecordHead, RecordStatus};

use self::search::{RecordRow, RecordSearch, search_records};
use super::{
    page::{DashboardPage, Section},
    session::AppSession,
};
use crate::{
    components::{
        badges::render_record_status,
        format::{format_count, render_id, render_relative_time},
        labels::{RECORD_STATUSES, capitalise_first, describe_interval, record_status_label},
        parts::{render_empty_state, render_select, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// The app's record that a whole id names: its own or that of one of its accounts.
async fn find_record_by_id(
    web: &WebState,
    session: &AppSession,
    text: &str,
) -> Result<Option<RecordId>, PageError> {
    let store = &web.services.store;
    if let Ok(record) = text.parse::<RecordId>()
        && let Some(head) = store.find_head(record, Consistency::Eventual).await?
        && head.app == session.app().id
    {
        return Ok(Some(record));
    }
    if let Ok(account) = text.parse::<AccountId>()
        && let Some(account) = store.find_account(account).await?
        && account.app == session.app().id
    {
        return Ok(Some(account.record));
    }
    Ok(None)
}

pub(crate) async fn render_records_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let search = RecordSearch::from_query(&session);
    if let Some(record) = find_record_by_id(&web, &session, &search.text).await? {
        let to = format!("/dashboard/records/{record}");
        return Ok(Redirect::to(&to).into_response());
    }
    let found = search_records(&web, &session, &search).await?;
    let banks = web
        .services
        .store
        .list_banks_for_app(session.app().id)
        .await?;
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Records" }
            p.sub { "A record is the consent of one customer at one bank." }
        }
        (render_filters(&search, &banks))
        @if found.rows.is_empty() {
            (render_no_records(&search, found.scanned_count))
        } @else {
            (render_table("Records", &html! {
                th { "Customer" } th { "State" } th { "Interval" } th { "Changed" }
                th.wide { "Bank" } th.wide.number { "Changes" } th.wide { "Record" }
            }, &html! {
                @for row in &found.rows { (render_record_row(row, &banks, now)) }
            }))
        }
        @if let Some(after) = found.next_after {
            p.more { a.button href={ "/dashboard/records?" (search.next_page_query(after)) } { "More records" } }
        }
    };
    let page = DashboardPage {
        session: &session,
        section: Section::Records,
        title: "Records",
        live_url: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}

/// The form of the search, as it was filled in.
fn render_filters(search: &RecordSearch, banks: &[BankConfig]) -> Markup {
    let statuses = RECORD_STATUSES.map(|it| (it.as_str(), record_status_label(it)));
    let intervals = Interval::ALL.map(|it| (it.as_str(), describe_interval(it)));
    let classes: Vec<(&str, String)> = FaultClass::ALL
        .map(|class| (class.as_str(), capitalise_first(class.as_label())))
        .into();
    let classes: Vec<(&str, &str)> = classes.iter().map(|(id, it)| (*id, it.as_str())).collect();
    let bank_ids: Vec<String> = banks.iter().map(|bank| bank.id.to_string()).collect();
    let banks: Vec<(&str, &str)> = bank_ids
        .iter()
        .zip(banks)
        .map(|(id, bank)| (id.as_str(), bank.name.as_str()))
        .collect();
    let bank = search.bank.map(|it| it.to_string());
    html! {
        form.filters role="search" action="/dashboard/records" {
            input type="search" name="q" value=(search.text) placeholder="Name, option, or id"
                aria-label="Search by name, option, or id of a record, customer or account";
            (render_select("status", "Any state", &statuses, search.status.map(RecordStatus::as_str)))
            (render_select("interval", "Any interval", &intervals, search.interval.map(Interval::as_str)))
            (render_select("bank", "Any bank", &banks, bank.as_deref()))
            (render_select("fresh", "Fresh or late", &[("no", "Late")], search.is_late_only.then_some("no")))
            (render_select("failing", "Any failure", &classes, search.failing_class.map(FaultClass::as_str)))
            button { "Search" }
        }
    }
}

fn render_record_row(row: &RecordRow, banks: &[BankConfig], now: Timestamp) -> Markup {
    let head = &row.head;
    let bank = banks.iter().find(|bank| bank.id == head.bank);
    let href = format!("/dashboard/records/{}", head.record);
    html! {
        tr {
            td { a.strong href=(href) { @if row.customer_name.is_empty() { "No name" } @else { (row.customer_name) } } }
            td { (render_record_status(head.status)) }
            td { (render_intervals(head)) }
            td { (render_relative_time(now, head.last_changed_at)) }
            td.wide { (bank.map_or("Unknown bank", |bank| bank.name.as_str())) }
            td.wide.number { a href={ (href) "#feed" } { (format_count(head.seq.0)) } }
            td.wide { (render_id(head.record)) }
        }
    }
}

/// `every minute`, or the interval of each product where they differ.
fn render_intervals(head: &RecordHead) -> Markup {
    let schedule = head.schedule;
    html! {
        @match (schedule.balance, schedule.transactions) {
            (Some(balance), Some(rows)) if balance != rows => {
                (describe_interval(balance)) br; span.note { "transactions " (describe_interval(rows)) }
            }
            (Some(both), _) => (describe_interval(both)),
            (None, Some(rows)) => { "transactions " (describe_interval(rows)) },
            (None, None) => "not scheduled",
        }
    }
}

fn render_no_records(search: &RecordSearch, scanned_count: usize) -> Markup {
    if search.failing_class.is_some() {
        return render_empty_state(
            "No record fails this way now",
            &html! {
                p { (format_count(scanned_count)) " records were examined. The overview counts every failed call; a record is \
                     listed here from its second consecutive failure until its next success. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    if search.is_filtered() {
        return render_empty_state(
            "No record matches",
            &html! {
                p { (format_count(scanned_count)) " records were examined. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    render_empty_state(
        "No records yet",
        &html! {
            p { "A record is created when a customer links a bank. Create a sandbox customer:" }
            pre { code { "curl $API/v2/sandbox/customers/create -H \"Authorization: Bearer $KEY\" \\\n     -d '{\"name\":\"Ada Obi\",\"interval\":\"one_minute\"}'" } }
            p { "Or put the widget on a page: " code { "Okra.buildWithOptions({…})" } " from " code { "/v2/bundle.js" } "." }
        },
    )
}
