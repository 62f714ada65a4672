//! The list of the app's records: searched, filtered, page by page.

pub(super) mod loaded;
mod search;

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::model::{
    fault::FaultClass,
    ids::{AccountId, BankId, RecordId},
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
        labels::{FAULT_CLASSES, describe_interval},
        parts::{render_empty_state, render_select, render_table},
    },
    page_error::PageError,
    web_state::WebState,
};

/// The record that a whole id names, by itself or through its account.
async fn find_record_by_id(
    web: &WebState,
    session: &AppSession,
    text: &str,
) -> Result<Option<RecordId>, PageError> {
    let store = &web.api.store;
    if let Ok(record) = text.parse::<RecordId>()
        && let Some(head) = store.find_head(record, Consistency::Eventual).await?
        && head.app == session.app.id
    {
        return Ok(Some(record));
    }
    if let Ok(account) = text.parse::<AccountId>()
        && let Some(account) = store.find_account(account).await?
        && account.app == session.app.id
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
    let banks = web.api.store.list_banks_for_app(session.app.id).await?;
    let bank_names: HashMap<BankId, &str> = banks
        .iter()
        .map(|bank| (bank.id, bank.name.as_str()))
        .collect();
    let now = web.now();
    let body = html! {
        div.head {
            h1 { "Records" }
            p.sub { "One record is one login of a customer at one bank: what is refreshed." }
        }
        form.filters role="search" action="/dashboard/records" {
            input type="search" name="q" value=(search.text) placeholder="Name, option, or id"
                aria-label="Search by name, option, or id of a record, customer or account";
            (render_select("status", "Any state", &[
                ("active", "Active"),
                ("token_required", "Needs the user"),
                ("invalid", "Unlinked"),
            ], search.status.map(RecordStatus::as_str)))
            (render_select("interval", "Any interval",
                &Interval::ALL.map(|it| (it.as_str(), describe_interval(it))),
                search.interval.map(Interval::as_str)))
            @let bank_options: Vec<(String, &str)> =
                banks.iter().map(|bank| (bank.id.to_string(), bank.name.as_str())).collect();
            @let bank_options: Vec<(&str, &str)> =
                bank_options.iter().map(|(id, name)| (id.as_str(), *name)).collect();
            @let chosen = search.bank.map(|it| it.to_string());
            (render_select("bank", "Any bank", &bank_options, chosen.as_deref()))
            (render_select("fresh", "Fresh or late", &[("no", "Late")], search.is_late_only.then_some("no")))
            (render_select("failing", "Any failure", &FAULT_CLASSES.map(|(class, name)| (class.as_str(), name)),
                search.failing_class.map(FaultClass::as_str)))
            button { "Search" }
        }
        @if found.rows.is_empty() {
            (render_no_records(&search, found.scanned_count))
        } @else {
            (render_table("Records", &html! {
                th { "Customer" } th { "State" } th { "Interval" } th { "Changed" }
                th.wide { "Bank" } th.wide.number { "Changes" } th.wide { "Record" }
            }, &html! {
                @for row in &found.rows { (render_record_row(row, &bank_names, now)) }
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

fn render_record_row(row: &RecordRow, banks: &HashMap<BankId, &str>, now: Timestamp) -> Markup {
    let head = &row.head;
    let href = format!("/dashboard/records/{}", head.record);
    html! {
        tr {
            td { a.strong href=(href) { @if row.customer_name.is_empty() { "No name" } @else { (row.customer_name) } } }
            td { (render_record_status(head.status)) }
            td { (render_intervals(head)) }
            td { (render_relative_time(now, head.last_changed_at)) }
            td.wide { (banks.get(&head.bank).copied().unwrap_or("Unknown bank")) }
            td.wide.number { a href={ (href) "#feed" } { (format_count(head.seq.0)) } }
            td.wide { (render_id(head.record)) }
        }
    }
}

/// `every minute`, or each product's where they differ.
pub(crate) fn render_intervals(head: &RecordHead) -> Markup {
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
            "Nothing fails so now",
            &html! {
                p { "Looked through " (format_count(scanned_count)) " records. The overview counts every call that failed; a record is \
                     listed here from its second failure in a row until it is answered again. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    if search.is_filtered() {
        return render_empty_state(
            "Nothing matches",
            &html! {
                p { "Looked through " (format_count(scanned_count)) " records. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    render_empty_state(
        "No records yet",
        &html! {
            p { "A record comes into being when a customer links a bank. Make a sandbox customer:" }
            pre { code { "curl $API/v2/sandbox/customers/create -H \"Authorization: Bearer $KEY\" \\\n     -d '{\"name\":\"Ada Obi\",\"interval\":\"one_minute\"}'" } }
            p { "Or put the widget on a page: " code { "Okra.buildWithOptions({…})" } " from " code { "/v2/bundle.js" } "." }
        },
    )
}
