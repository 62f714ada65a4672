//! The app's records: searched, filtered, page by page.

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
use okra_core::model::{
    fault::FaultClass,
    ids::{AccountId, BankId, CustomerId, RecordId},
    interval::Interval,
};
use okra_store::{Consistency, RecordHead, RecordStatus};

use super::{
    failing,
    freshness::{self, Freshness},
    load_customers,
};
use crate::{
    WebState,
    html::{DashboardPage, Section, render_empty_state, render_table},
    session::AppSession,
    show,
    trouble::PageError,
};

/// Records on one page.
const RECORDS_PER_PAGE: usize = 50;

/// Records that one search looks at, at most.
pub(crate) const MAX_RECORDS_SCANNED: usize = 2000;

/// Records and customers read at once.
const SCAN_BATCH: usize = 100;

/// What is looked for.
struct RecordSearch {
    text: String,
    status: Option<RecordStatus>,
    bank: Option<BankId>,
    interval: Option<Interval>,
    customer: Option<CustomerId>,
    /// Those alone that are not as fresh as their interval promises.
    is_late_only: bool,
    /// Those alone of which something cannot be had, for a reason of this class.
    failing_class: Option<FaultClass>,
    after: Option<RecordId>,
}

impl RecordSearch {
    fn from_query(session: &AppSession) -> Self {
        let get = |name| session.query.get(name);
        Self {
            text: get("q").to_owned(),
            status: [
                RecordStatus::Active,
                RecordStatus::ReauthorisationRequired,
                RecordStatus::Invalid,
            ]
            .into_iter()
            .find(|status| status.as_str() == get("status")),
            bank: get("bank").parse().ok(),
            interval: get("interval").parse().ok(),
            customer: get("customer").parse().ok(),
            is_late_only: get("fresh") == "no",
            failing_class: failing::find_fault_class(get("failing")),
            after: get("after").parse().ok(),
        }
    }

    fn is_filtered(&self) -> bool {
        !self.text.is_empty()
            || self.status.is_some()
            || self.bank.is_some()
            || self.interval.is_some()
            || self.customer.is_some()
            || self.is_late_only
            || self.failing_class.is_some()
    }

    /// The query of the page after a record.
    fn next_page_query(&self, after: RecordId) -> String {
        let mut pairs = vec![("after", after.to_string())];
        pairs.extend((!self.text.is_empty()).then(|| ("q", self.text.clone())));
        pairs.extend(self.status.map(|it| ("status", it.as_str().to_owned())));
        pairs.extend(self.bank.map(|it| ("bank", it.to_string())));
        pairs.extend(self.interval.map(|it| ("interval", it.to_string())));
        pairs.extend(self.customer.map(|it| ("customer", it.to_string())));
        pairs.extend(self.is_late_only.then(|| ("fresh", "no".to_owned())));
        pairs.extend(
            self.failing_class
                .map(|it| ("failing", it.as_str().to_owned())),
        );
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }

    fn matches_record(&self, head: &RecordHead, name: &str) -> bool {
        let text = self.text.to_lowercase();
        let found = text.is_empty()
            || name.to_lowercase().contains(&text)
            || head.record.to_string().starts_with(&text)
            || head.customer.to_string().starts_with(&text)
            || head.options.to_string().to_lowercase().contains(&text);
        let on = |interval| head.schedule.iter().any(|(_, it)| *it == interval);
        found
            && self.status.is_none_or(|status| status == head.status)
            && self.bank.is_none_or(|bank| bank == head.bank)
            && self.interval.is_none_or(on)
            && self
                .customer
                .is_none_or(|customer| customer == head.customer)
    }
}

/// A record, and whose it is.
struct RecordRow {
    head: RecordHead,
    customer_name: String,
}

/// The rows of a page, and after which record the next page begins.
struct RecordSearchResult {
    rows: Vec<RecordRow>,
    next_after: Option<RecordId>,
    scanned_count: usize,
}

async fn search_records(
    web: &WebState,
    session: &AppSession,
    search: &RecordSearch,
) -> Result<RecordSearchResult, PageError> {
    let store = &web.api.store;
    let (mut found, mut after) = (
        RecordSearchResult {
            rows: vec![],
            next_after: None,
            scanned_count: 0,
        },
        search.after,
    );
    while found.scanned_count < MAX_RECORDS_SCANNED {
        let page = store
            .list_records_of_app(session.app.id, after, SCAN_BATCH)
            .await?;
        let names = load_customer_names(web, page.items.iter().map(|head| head.customer)).await?;
        let late = match search.is_late_only {
            true => Some(freshness::load_freshness(web, &page.items, web.now()).await?),
            false => None,
        };
        let failing = match search.failing_class {
            Some(class) => Some(failing::find_failing_records(web, &page.items, class).await?),
            None => None,
        };
        for head in page.items {
            found.scanned_count += 1;
            let is_late = |of: &HashMap<_, _>| of.get(&head.record) == Some(&Freshness::Late);
            let fails = |of: &HashSet<_>| of.contains(&head.record);
            if !(late.as_ref().is_none_or(is_late) && failing.as_ref().is_none_or(fails)) {
                after = Some(head.record);
                continue;
            }
            let customer = names.get(&head.customer).cloned().unwrap_or_default();
            after = Some(head.record);
            if search.matches_record(&head, &customer) {
                found.rows.push(RecordRow {
                    head,
                    customer_name: customer,
                });
                if found.rows.len() == RECORDS_PER_PAGE {
                    found.next_after = after;
                    return Ok(found);
                }
            }
        }
        if page.next_cursor.is_none() {
            return Ok(found);
        }
    }
    found.next_after = after;
    Ok(found)
}

/// The customers' names by their ids.
pub(crate) async fn load_customer_names(
    web: &WebState,
    ids: impl Iterator<Item = CustomerId>,
) -> Result<HashMap<CustomerId, String>, PageError> {
    let mut ids: Vec<CustomerId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let found = load_customers(web, &ids).await?;
    Ok(found.into_iter().map(|it| (it.id, it.name)).collect())
}

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
        return Ok(axum::response::Redirect::to(&to).into_response());
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
                &Interval::ALL.map(|it| (it.as_str(), show::describe_interval(it))),
                search.interval.map(Interval::as_str)))
            @let bank_options: Vec<(String, &str)> =
                banks.iter().map(|bank| (bank.id.to_string(), bank.name.as_str())).collect();
            @let bank_options: Vec<(&str, &str)> =
                bank_options.iter().map(|(id, name)| (id.as_str(), *name)).collect();
            @let chosen = search.bank.map(|it| it.to_string());
            (render_select("bank", "Any bank", &bank_options, chosen.as_deref()))
            (render_select("fresh", "Fresh or late", &[("no", "Late")], search.is_late_only.then_some("no")))
            (render_select("failing", "Any failure", &failing::FAULT_CLASSES.map(|(class, name)| (class.as_str(), name)),
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
            td { (show::render_record_status(head.status)) }
            td { (render_intervals(head)) }
            td { (show::render_relative_time(now, head.last_changed_at)) }
            td.wide { (banks.get(&head.bank).copied().unwrap_or("Unknown bank")) }
            td.wide.number { a href={ (href) "#feed" } { (show::format_count(head.seq.0)) } }
            td.wide { (show::render_id(head.record)) }
        }
    }
}

/// `every minute`, or each product's where they differ.
pub(crate) fn render_intervals(head: &RecordHead) -> Markup {
    let schedule = head.schedule;
    html! {
        @match (schedule.balance, schedule.transactions) {
            (Some(balance), Some(rows)) if balance != rows => {
                (show::describe_interval(balance)) br; span.note { "transactions " (show::describe_interval(rows)) }
            }
            (Some(both), _) => (show::describe_interval(both)),
            (None, Some(rows)) => { "transactions " (show::describe_interval(rows)) },
            (None, None) => "not scheduled",
        }
    }
}

fn render_no_records(search: &RecordSearch, scanned_count: usize) -> Markup {
    if search.failing_class.is_some() {
        return render_empty_state(
            "Nothing fails so now",
            &html! {
                p { "Looked through " (show::format_count(scanned_count)) " records. The overview counts every call that failed; a record is \
                     listed here from its second failure in a row until it is answered again. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    if search.is_filtered() {
        return render_empty_state(
            "Nothing matches",
            &html! {
                p { "Looked through " (show::format_count(scanned_count)) " records. " a href="/dashboard/records" { "Show all" } "." }
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

/// A choice among named values, the first of which is none of them.
pub(crate) fn render_select(
    name: &str,
    placeholder: &str,
    options: &[(&str, &str)],
    selected_value: Option<&str>,
) -> Markup {
    html! {
        select name=(name) aria-label=(placeholder) {
            option value="" { (placeholder) }
            @for (value, text) in options {
                option value=(value) selected[selected_value == Some(*value)] { (text) }
            }
        }
    }
}
