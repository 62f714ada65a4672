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
use okra_core::{
    fault::FaultClass,
    ids::{AccountId, BankId, CustomerId, RecordId},
    schedule::Interval,
};
use okra_store::{Consistency, Head, RecordStatus};

use super::{
    customers, failing,
    freshness::{self, Freshness},
};
use crate::{
    Web,
    html::{Page, Section, empty, table},
    session::Signed,
    show,
    trouble::Trouble,
};

/// Records on one page.
const PER_PAGE: usize = 50;

/// Records that one search looks at, at most.
pub(crate) const MAX_LOOKED_AT: usize = 2000;

/// Records and customers read at once.
const BATCH: usize = 100;

/// What is looked for.
struct Search {
    text: String,
    status: Option<RecordStatus>,
    bank: Option<BankId>,
    interval: Option<Interval>,
    customer: Option<CustomerId>,
    /// Those alone that are not as fresh as their interval promises.
    late: bool,
    /// Those alone of which something cannot be had, for a reason of this class.
    failing: Option<FaultClass>,
    after: Option<RecordId>,
}

impl Search {
    fn of(signed: &Signed) -> Self {
        let get = |name| signed.query.get(name);
        Self {
            text: get("q").to_owned(),
            status: [
                RecordStatus::Active,
                RecordStatus::TokenRequired,
                RecordStatus::Invalid,
            ]
            .into_iter()
            .find(|status| status.as_str() == get("status")),
            bank: get("bank").parse().ok(),
            interval: get("interval").parse().ok(),
            customer: get("customer").parse().ok(),
            late: get("fresh") == "no",
            failing: failing::class(get("failing")),
            after: get("after").parse().ok(),
        }
    }

    fn is_filtered(&self) -> bool {
        !self.text.is_empty()
            || self.status.is_some()
            || self.bank.is_some()
            || self.interval.is_some()
            || self.customer.is_some()
            || self.late
            || self.failing.is_some()
    }

    /// The query of the page after a record.
    fn next(&self, after: RecordId) -> String {
        let mut pairs = vec![("after", after.to_string())];
        pairs.extend((!self.text.is_empty()).then(|| ("q", self.text.clone())));
        pairs.extend(self.status.map(|it| ("status", it.as_str().to_owned())));
        pairs.extend(self.bank.map(|it| ("bank", it.to_string())));
        pairs.extend(self.interval.map(|it| ("interval", it.to_string())));
        pairs.extend(self.customer.map(|it| ("customer", it.to_string())));
        pairs.extend(self.late.then(|| ("fresh", "no".to_owned())));
        pairs.extend(self.failing.map(|it| ("failing", it.as_str().to_owned())));
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }

    fn takes(&self, head: &Head, name: &str) -> bool {
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
struct Row {
    head: Head,
    customer: String,
}

/// The rows of a page, and after which record the next page begins.
struct Found {
    rows: Vec<Row>,
    next: Option<RecordId>,
    looked_at: usize,
}

async fn find(web: &Web, signed: &Signed, search: &Search) -> Result<Found, Trouble> {
    let store = &web.api.store;
    let (mut found, mut after) = (
        Found {
            rows: vec![],
            next: None,
            looked_at: 0,
        },
        search.after,
    );
    while found.looked_at < MAX_LOOKED_AT {
        let page = store.records_of_app(signed.app.id, after, BATCH).await?;
        let names = names(web, page.items.iter().map(|head| head.customer)).await?;
        let late = match search.late {
            true => Some(freshness::of(web, &page.items, web.now()).await?),
            false => None,
        };
        let failing = match search.failing {
            Some(class) => Some(failing::with(web, &page.items, class).await?),
            None => None,
        };
        for head in page.items {
            found.looked_at += 1;
            let is_late = |of: &HashMap<_, _>| of.get(&head.record) == Some(&Freshness::Late);
            let fails = |of: &HashSet<_>| of.contains(&head.record);
            if !(late.as_ref().is_none_or(is_late) && failing.as_ref().is_none_or(fails)) {
                after = Some(head.record);
                continue;
            }
            let customer = names.get(&head.customer).cloned().unwrap_or_default();
            after = Some(head.record);
            if search.takes(&head, &customer) {
                found.rows.push(Row { head, customer });
                if found.rows.len() == PER_PAGE {
                    found.next = after;
                    return Ok(found);
                }
            }
        }
        if page.next.is_none() {
            return Ok(found);
        }
    }
    found.next = after;
    Ok(found)
}

/// The customers' names by their ids.
pub(crate) async fn names(
    web: &Web,
    ids: impl Iterator<Item = CustomerId>,
) -> Result<HashMap<CustomerId, String>, Trouble> {
    let mut ids: Vec<CustomerId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let found = customers(web, &ids).await?;
    Ok(found.into_iter().map(|it| (it.id, it.name)).collect())
}

/// The record that a whole id names, by itself or through its account.
async fn named(web: &Web, signed: &Signed, text: &str) -> Result<Option<RecordId>, Trouble> {
    let store = &web.api.store;
    if let Ok(record) = text.parse::<RecordId>()
        && let Some(head) = store.head(record, Consistency::Eventual).await?
        && head.app == signed.app.id
    {
        return Ok(Some(record));
    }
    if let Ok(account) = text.parse::<AccountId>()
        && let Some(account) = store.account(account).await?
        && account.app == signed.app.id
    {
        return Ok(Some(account.record));
    }
    Ok(None)
}

pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let search = Search::of(&signed);
    if let Some(record) = named(&web, &signed, &search.text).await? {
        let to = format!("/dashboard/records/{record}");
        return Ok(axum::response::Redirect::to(&to).into_response());
    }
    let found = find(&web, &signed, &search).await?;
    let banks = web.api.store.banks_for(signed.app.id).await?;
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
            (select("status", "Any state", &[
                ("active", "Active"),
                ("token_required", "Needs the user"),
                ("invalid", "Unlinked"),
            ], search.status.map(RecordStatus::as_str)))
            (select("interval", "Any interval",
                &Interval::ALL.map(|it| (it.as_str(), show::interval(it))),
                search.interval.map(Interval::as_str)))
            @let bank_options: Vec<(String, &str)> =
                banks.iter().map(|bank| (bank.id.to_string(), bank.name.as_str())).collect();
            @let bank_options: Vec<(&str, &str)> =
                bank_options.iter().map(|(id, name)| (id.as_str(), *name)).collect();
            @let chosen = search.bank.map(|it| it.to_string());
            (select("bank", "Any bank", &bank_options, chosen.as_deref()))
            (select("fresh", "Fresh or late", &[("no", "Late")], search.late.then_some("no")))
            (select("failing", "Any failure", &failing::CLASSES.map(|(class, name)| (class.as_str(), name)),
                search.failing.map(FaultClass::as_str)))
            button { "Search" }
        }
        @if found.rows.is_empty() {
            (nothing(&search, found.looked_at))
        } @else {
            (table("Records", &html! {
                th { "Customer" } th { "State" } th { "Interval" } th { "Changed" }
                th.wide { "Bank" } th.wide.number { "Changes" } th.wide { "Record" }
            }, &html! {
                @for row in &found.rows { (line(row, &bank_names, now)) }
            }))
        }
        @if let Some(after) = found.next {
            p.more { a.button href={ "/dashboard/records?" (search.next(after)) } { "More records" } }
        }
    };
    let page = Page {
        signed: &signed,
        section: Section::Records,
        title: "Records",
        live: Some("/dashboard/live".to_owned()),
        body,
    };
    Ok(page.into_response())
}

fn line(row: &Row, banks: &HashMap<BankId, &str>, now: Timestamp) -> Markup {
    let head = &row.head;
    let href = format!("/dashboard/records/{}", head.record);
    html! {
        tr {
            td { a.strong href=(href) { @if row.customer.is_empty() { "No name" } @else { (row.customer) } } }
            td { (show::status(head.status)) }
            td { (intervals(head)) }
            td { (show::when(now, head.last_changed_at)) }
            td.wide { (banks.get(&head.bank).copied().unwrap_or("Unknown bank")) }
            td.wide.number { a href={ (href) "#feed" } { (show::count(head.seq.0)) } }
            td.wide { (show::id(head.record)) }
        }
    }
}

/// `every minute`, or each product's where they differ.
pub(crate) fn intervals(head: &Head) -> Markup {
    let schedule = head.schedule;
    html! {
        @match (schedule.balance, schedule.transactions) {
            (Some(balance), Some(rows)) if balance != rows => {
                (show::interval(balance)) br; span.note { "transactions " (show::interval(rows)) }
            }
            (Some(both), _) => (show::interval(both)),
            (None, Some(rows)) => { "transactions " (show::interval(rows)) },
            (None, None) => "not scheduled",
        }
    }
}

fn nothing(search: &Search, looked_at: usize) -> Markup {
    if search.failing.is_some() {
        return empty(
            "Nothing fails so now",
            &html! {
                p { "Looked through " (show::count(looked_at)) " records. The overview counts every call that failed; a record is \
                     listed here from its second failure in a row until it is answered again. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    if search.is_filtered() {
        return empty(
            "Nothing matches",
            &html! {
                p { "Looked through " (show::count(looked_at)) " records. " a href="/dashboard/records" { "Show all" } "." }
            },
        );
    }
    empty(
        "No records yet",
        &html! {
            p { "A record comes into being when a customer links a bank. Make a sandbox customer:" }
            pre { code { "curl $API/v2/sandbox/customers/create -H \"Authorization: Bearer $KEY\" \\\n     -d '{\"name\":\"Ada Obi\",\"interval\":\"one_minute\"}'" } }
            p { "Or put the widget on a page: " code { "Okra.buildWithOptions({…})" } " from " code { "/v2/bundle.js" } "." }
        },
    )
}

/// A choice among named values, the first of which is none of them.
pub(crate) fn select(
    name: &str,
    none: &str,
    options: &[(&str, &str)],
    chosen: Option<&str>,
) -> Markup {
    html! {
        select name=(name) aria-label=(none) {
            option value="" { (none) }
            @for (value, text) in options {
                option value=(value) selected[chosen == Some(*value)] { (text) }
            }
        }
    }
}
