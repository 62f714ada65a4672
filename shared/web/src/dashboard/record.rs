//! One record: its state and what happens next, its accounts, balances over time, transactions, and
//! what changed.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::{Timestamp, ToSpan, civil::Date};
use maud::{Markup, html};
use okra_core::{
    model::{
        bank::BankLimits,
        fault::FaultClass,
        ids::{AccountId, EventId, RecordId, Seq, TransactionId},
        interval::{DueKey, Interval},
        money::Money,
        snapshot::{
            BalanceFacts, BookingStatus, ByProduct, Direction, Product, Transaction,
            TransactionFacts, utc_date,
        },
    },
    sync::{
        feed::{Change, FeedEntry, FetchKind, MatchConfidence, ModifiedRow, TransactionsDiff},
        state::{Availability, BackfillEnd, ReauthorisationReason, StateChange},
    },
};
use okra_store::{
    Account, Consistency, Customer, RecordHead, RecordStatus, StoredTransaction, Subscription,
};
use serde_json::json;

use super::{
    call_api, live,
    state::{RecordStateView, join_product_names},
    webhooks::log,
};
use crate::{
    WebState,
    chart::StepChart,
    html::{DashboardPage, Section, render_csrf_field, render_empty_state, render_table},
    session::{AppSession, SubmittedForm},
    show,
    trouble::PageError,
};

/// Feed entries that are read for the list of changes and the charts.
const MAX_FEED_ENTRIES: u64 = 300;

/// Changes on a page.
const MAX_CHANGES_SHOWN: usize = 40;

/// Rows of one change that are shown; the rest is counted.
const MAX_ROWS_PER_CHANGE: usize = 8;

/// Rows of one change on a page of its own.
const CHANGE_ROWS_PER_PAGE: usize = 200;

/// Days of transactions that are read, and rows that are shown.
const TRANSACTION_DAYS: i32 = 90;
const TRANSACTIONS_PER_PAGE: usize = 100;

/// Points of a chart at most: more would not be seen, and a page is below 100 KB.
const MAX_CHART_POINTS: usize = 240;

/// The record of an id, where it is the app's own.
pub(crate) async fn load_own_record(
    web: &WebState,
    session: &AppSession,
    id: RecordId,
    consistency: Consistency,
) -> Result<RecordHead, PageError> {
    let head = web.api.store.find_head(id, consistency).await?;
    head.filter(|head| head.app == session.app.id)
        .ok_or(PageError::NotFound("record"))
}

/// All that the page shows.
struct RecordPage {
    head: RecordHead,
    customer: Option<Customer>,
    bank_name: String,
    limits: BankLimits,
    /// Refreshes of each product that were asked for in the last day, where the bank counts them.
    on_demand_counts: ByProduct<usize>,
    state: RecordStateView,
    accounts: Vec<Account>,
    subscriptions: Vec<Subscription>,
    transactions: TransactionPage,
    /// In order, the last [`MAX_ENTRIES`].
    recent_entries: Vec<FeedEntry>,
    /// Those that are listed, newest first.
    listed_entries: Vec<FeedEntry>,
    now: Timestamp,
}

/// Where a page of transactions begins: below a day, and in it below a row.
#[derive(Clone)]
struct TransactionCursor {
    before_day: Date,
    before_row: Option<TransactionId>,
}

impl TransactionCursor {
    fn parse(text: &str) -> Option<Self> {
        let (day, row) = match text.split_once('_') {
            Some((day, row)) => (day, Some(row.parse().ok()?)),
            None => (text, None),
        };
        let day = day.parse().ok()?;
        Some(Self {
            before_day: day,
            before_row: row,
        })
    }

    fn from_row(row: &StoredTransaction) -> Self {
        Self {
            before_day: row.transaction.facts.booking_date(),
            before_row: Some(row.transaction.id),
        }
    }

    fn page_href(&self, record: RecordId) -> String {
        let row = self
            .before_row
            .map_or_else(String::new, |row| format!("_{row}"));
        let day = self.before_day;
        format!("/dashboard/records/{record}?below={day}{row}#transactions")
    }
}

/// A page of transactions.
struct TransactionPage {
    /// Newest first.
    rows: Vec<StoredTransaction>,
    /// The days that were read; `None`: to the newest.
    date_range: (Date, Option<Date>),
    /// Rows in these days.
    row_count: usize,
    /// Where the next page begins.
    next_cursor: Option<TransactionCursor>,
}

/// The transactions of accounts below a place, or the newest; a page at most.
async fn load_transactions(
    web: &WebState,
    head: &RecordHead,
    accounts: &[Account],
    cursor: Option<TransactionCursor>,
) -> Result<TransactionPage, PageError> {
    let last = cursor.as_ref().map(|below| below.before_day);
    let first = last
        .unwrap_or_else(|| utc_date(web.now()))
        .saturating_sub(TRANSACTION_DAYS.days());
    let store = &web.api.store;
    let of_accounts = accounts
        .iter()
        .map(|it| store.list_transactions(it.id, first, last, Consistency::Eventual));
    let of_accounts = futures::future::try_join_all(of_accounts).await?;
    let mut rows: Vec<StoredTransaction> = of_accounts.into_iter().flatten().collect();
    rows.sort_by_key(|row| {
        let it = &row.transaction;
        std::cmp::Reverse((it.facts.booked_at, it.id))
    });
    let count = rows.len();
    // A row that is gone since: its day is shown anew.
    let row = cursor.and_then(|below| below.before_row);
    let at = row.and_then(|id| rows.iter().position(|it| it.transaction.id == id));
    let mut shown = rows.split_off(at.map_or(0, |at| at + 1));
    let more = shown.len() > TRANSACTIONS_PER_PAGE;
    shown.truncate(TRANSACTIONS_PER_PAGE);
    // Nothing is older than the history that was asked for, or than the window of the first pull.
    let months = i32::from(head.backfill_months.max(2));
    let oldest = utc_date(head.created_at).saturating_sub(months.months());
    let next = match more {
        true => shown.last().map(TransactionCursor::from_row),
        false if first > oldest => Some(TransactionCursor {
            before_day: first.saturating_sub(1.day()),
            before_row: None,
        }),
        false => None,
    };
    Ok(TransactionPage {
        rows: shown,
        date_range: (first, last),
        row_count: count,
        next_cursor: next,
    })
}

/// Which part of a record's lists a page shows.
struct PageSelection {
    /// Changes below this number; the newest where there is none.
    before_seq: Option<Seq>,
    transaction_cursor: Option<TransactionCursor>,
}

impl PageSelection {
    fn from_query(session: &AppSession) -> Self {
        Self {
            before_seq: session.query.get("before").parse().ok().map(Seq),
            transaction_cursor: TransactionCursor::parse(session.query.get("below")),
        }
    }
}

/// Where a change is listed.
pub(crate) fn change_href(record: RecordId, seq: Seq) -> String {
    let before = seq.0.saturating_add(1);
    format!("/dashboard/records/{record}?before={before}#seq-{seq}")
}

async fn load_record_page(
    web: &WebState,
    session: &AppSession,
    head: RecordHead,
) -> Result<RecordPage, PageError> {
    let part = PageSelection::from_query(session);
    let (store, now) = (&web.api.store, web.now());
    let state = RecordStateView::load_state(web, session, head.record).await?;
    let after = Seq(head.seq.0.saturating_sub(MAX_FEED_ENTRIES));
    let limit = usize::try_from(MAX_FEED_ENTRIES).unwrap_or(usize::MAX);
    let read = futures::future::try_join5(
        store.find_customer(head.customer),
        store.find_bank(head.bank),
        store.find_consent(head.record, Consistency::Eventual),
        store.list_subscriptions(head.record),
        store.read_feed(head.record, after, limit, Consistency::Eventual),
    );
    let (customer, bank, consent, subscriptions, entries) = Box::pin(read).await?;
    let accounts = match &consent {
        Some(consent) => {
            store
                .load_accounts_of_consent(consent, Consistency::Eventual)
                .await?
        }
        None => vec![],
    };
    let rows = load_transactions(web, &head, &accounts, part.transaction_cursor).await?;
    let mut listed = match part.before_seq {
        Some(before) => {
            let after = Seq(before.0.saturating_sub(MAX_CHANGES_SHOWN as u64 + 1));
            let part =
                store.read_feed(head.record, after, MAX_CHANGES_SHOWN, Consistency::Eventual);
            let mut part = part.await?;
            part.retain(|entry| entry.seq < before);
            part
        }
        None => entries[entries.len().saturating_sub(MAX_CHANGES_SHOWN)..].to_vec(),
    };
    listed.reverse();
    let limits = bank.as_ref().map(|bank| bank.limits).unwrap_or_default();
    let mut asked = ByProduct::default();
    if limits.unattended_per_day.is_some() {
        let places = Product::ALL.map(|product| (head.record, product));
        for ((_, product), job) in store.load_jobs(&places).await? {
            *asked.get_mut(product) = Some(job.unattended_requests.count_recent(now));
        }
    }
    Ok(RecordPage {
        bank_name: bank.map_or_else(|| "Unknown bank".to_owned(), |bank| bank.name),
        limits,
        on_demand_counts: asked,
        state,
        head,
        customer,
        accounts,
        subscriptions,
        transactions: rows,
        recent_entries: entries,
        listed_entries: listed,
        now,
    })
}

pub(crate) async fn render_record_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(id): Path<RecordId>,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &session, id, Consistency::Strong).await?;
    let shown = load_record_page(&web, &session, head).await?;
    let name = shown.customer_name();
    let live = format!(
        "/dashboard/records/{id}/live?seen={}",
        live::record_version(&shown.head)
    );
    let page = DashboardPage {
        session: &session,
        section: Section::Records,
        title: name,
        live_url: Some(live),
        body: shown.render_body(&session),
    };
    Ok(page.into_response())
}

/// When a record's due entry is worked off next.
pub(crate) fn next_due_at(key: DueKey, now: Timestamp) -> Timestamp {
    let (length, slot) = (i64::from(key.interval.minutes()), i64::from(key.slot().0));
    let minute = now.as_second().div_euclid(60) + 1;
    let wait = (slot - minute).rem_euclid(length);
    Timestamp::from_second((minute + wait) * 60).unwrap_or(now)
}

impl RecordPage {
    fn customer_name(&self) -> &str {
        self.customer
            .as_ref()
            .map_or("No name", |it| it.name.as_str())
    }

    fn render_body(&self, session: &AppSession) -> Markup {
        let head = &self.head;
        html! {
            div.head {
                p.crumb { a href="/dashboard/records" { "Records" } " / " (self.bank_name) }
                div.title {
                    h1 { (self.customer_name()) }
                    (show::render_record_status(head.status))
                    @let on: Vec<_> = head.schedule.iter().map(|(product, _)| product.as_str()).collect();
                    form.act method="post" action={ "/dashboard/records/" (head.record) "/refresh" } data-progress=(on.join(" ")) {
                        (render_csrf_field(session))
                        @let gone = head.status == RecordStatus::Invalid;
                        button.main disabled[gone] { "Refresh now" }
                    }
                }
                div #progress .progress role="status" {}
            }
            div.columns {
                section.card aria-labelledby="state" { (self.render_state()) }
                section.card aria-labelledby="sync" { (self.render_subscriptions(session)) }
            }
            section aria-labelledby="accounts" {
                h2 #accounts { "Accounts" }
                (self.render_accounts())
            }
            section aria-labelledby="feed" {
                h2 #feed { "Changes" span.note { (show::format_count(head.seq.0)) " in all, newest first" } }
                (self.render_feed())
            }
            section aria-labelledby="transactions" {
                h2 #transactions {
                    "Transactions"
                    span.note {
                        @match self.transactions.date_range {
                            (_, None) => { "last " (TRANSACTION_DAYS) " days" },
                            (first, Some(last)) => { (show::format_date(first)) " to " (show::format_date(last)) },
                        }
                        ", " (show::format_count(self.transactions.row_count)) " rows"
                    }
                }
                (self.render_transactions())
            }
        }
    }

    fn render_state(&self) -> Markup {
        let (head, now) = (&self.head, self.now);
        let (reason, next) = self.describe_state();
        html! {
            h2 #state { "State" }
            p { (reason) }
            @if !next.is_empty() { p.next { (next) } }
            // A consent that is refused as a whole is said above.
            @if head.status == RecordStatus::Active { (self.state.render_unavailable(now, |id| self.account_name(id))) }
            dl {
                @if head.status == RecordStatus::Active {
                    @for key in head.due_keys() {
                        @let products = products_on_interval(head, key.interval);
                        @if let Some(at) = self.state.next_refresh_at(&products) {
                            dt { "Next refresh" }
                            dd { (show::render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                        }
                    }
                    @for (at, products) in self.state.manual_refresh_times(now) {
                        dt { "Refresh now" }
                        dd { "again " (show::render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                    }
                }
                dt { "Last change" } dd { (show::render_relative_time(now, head.last_changed_at)) }
                dt { "Linked" } dd { (show::render_relative_time(now, head.created_at)) }
                @if head.schedule.transactions.is_some() || head.status == RecordStatus::Invalid {
                    dt { "History" } dd { (self.state.render_backfill()) }
                } @else {
                    dt { "Transactions" } dd { "not read: the customer was asked for balances alone" }
                }
                @if let Some(at) = self.state.consent_expires_at { dt { "Consent ends" } dd { (show::render_relative_time(now, at)) } }
                dt { "Bank" } dd { (self.bank_name) (self.state.render_bank_status()) }
                dt { "Record" } dd { (show::render_id(head.record)) }
                dt { "Customer" } dd {
                    a href={ "/dashboard/records?customer=" (head.customer) } { (show::render_id(head.customer)) }
                }
                @if head.options.as_object().is_some_and(|options| !options.is_empty()) {
                    dt { "Options" } dd { code { (head.options) } }
                }
            }
        }
    }

    /// Why the record is in its state, and what happens or has to happen next.
    fn describe_state(&self) -> (&'static str, &'static str) {
        match self.head.status {
            RecordStatus::Active if self.state.needs_user => (
                "The bank's consent holds, and the bank wants the customer there for each refresh.",
                "Nothing is asked of it on a schedule: refresh with customer_ip when the customer is there.",
            ),
            RecordStatus::Active => (
                "The bank's consent holds, and the record is refreshed at its interval.",
                "",
            ),
            RecordStatus::ReauthorisationRequired => {
                let last = self
                    .recent_entries
                    .iter()
                    .rev()
                    .find_map(|entry| match &entry.change {
                        Change::State(StateChange::ReauthorisationRequired { reason }) => {
                            Some(describe_token_reason(*reason))
                        }
                        _ => None,
                    });
                (
                    last.unwrap_or(
                        "The bank refuses the consent: it expired, or the customer took it back.",
                    ),
                    "Open the widget for the customer with reauth_account and reauth_bank. Until then nothing is \
                     asked of the bank; what was stored stays.",
                )
            }
            RecordStatus::Invalid => (
                "The record was unlinked. Nothing is asked of the bank any more.",
                "To sync the customer again, link the bank as a new record.",
            ),
        }
    }

    fn render_subscriptions(&self, session: &AppSession) -> Markup {
        let head = &self.head;
        html! {
            h2 #sync { "Data sync" }
            dl {
                @for (product, interval) in head.schedule.iter() {
                    dt { (product_name(product)) }
                    dd {
                        (show::describe_interval(*interval))
                        @let asked = self.subscriptions.iter().filter(|it| it.products.contains(&product)).map(|it| it.interval).min();
                        @if asked.is_some_and(|asked| asked < *interval) { span.note { "the bank allows no more" } }
                        @for (url, own) in self.find_faster_webhooks(product, *interval) {
                            span.line.note {
                                "still " (show::describe_interval(*interval)) " because of " (url)
                                ", though " (show::describe_interval(own)) " is enough for the app's webhooks; end that data sync below"
                            }
                        }
                        (self.render_product_quota(product, *interval))
                    }
                }
            }
            @if self.subscriptions.is_empty() {
                p.note { "No subscription: the record is refreshed daily. Choose an interval to make one." }
            } @else {
                ul.plain {
                    @for it in &self.subscriptions {
                        li {
                            (it.products.iter().map(|it| product_name(*it)).collect::<Vec<_>>().join(" and "))
                            " " (show::describe_interval(it.interval))
                            span.note {
                                @match &it.webhook_url {
                                    Some(url) => { "to " a href=(log::log_href("", &[("url", url)])) { (url) } },
                                    None => "to the app's webhooks",
                                }
                            }
                            @if head.status != RecordStatus::Invalid {
                                form.end method="post" action={ "/dashboard/records/" (head.record) "/sync/end" } {
                                    (render_csrf_field(session))
                                    input type="hidden" name="id" value=(it.id);
                                    @let whose = it.webhook_url.as_deref().unwrap_or("the app's webhooks");
                                    button aria-label={ "End the data sync to " (whose) } { "End" }
                                }
                            }
                        }
                    }
                }
            }
            @if head.status != RecordStatus::Invalid {
                form.row method="post" action={ "/dashboard/records/" (head.record) "/interval" } {
                    (render_csrf_field(session))
                    @let current = head.schedule.balance.or(head.schedule.transactions);
                    label { span { "Interval" }
                        select name="interval" {
                            @for it in Interval::ALL {
                                option value=(it.as_str()) selected[current == Some(it)] { (show::describe_interval(it)) }
                            }
                        }
                    }
                    label { span { "Products" }
                        select name="products" {
                            @if head.schedule.products().len() > 1 {
                                option value="balance,transactions" { "Balance and transactions" }
                            }
                            @for product in head.schedule.products() {
                                option value=(product.as_str()) { (product_name(product)) }
                            }
                        }
                    }
                    button { "Change" }
                }
            }
        }
    }

    /// The URLs that keep a product on its interval, where the app's own data sync asks for a longer one:
    /// changing that changes nothing then. With the interval that the app asks for.
    fn find_faster_webhooks(&self, product: Product, interval: Interval) -> Vec<(&str, Interval)> {
        let of = || {
            let all = self.subscriptions.iter();
            all.filter(move |it| it.products.contains(&product))
        };
        let own = of().find(|it| it.webhook_url.is_none());
        let Some(own) = own.map(|it| it.interval).filter(|own| *own > interval) else {
            return vec![];
        };
        let faster = of().filter(|it| it.interval < own);
        let urls = faster.filter_map(|it| it.webhook_url.as_deref());
        urls.map(|url| (url, own)).collect()
    }

    /// What of the bank's daily quota a product uses, where there is one.
    fn render_product_quota(&self, product: Product, interval: Interval) -> Markup {
        let allowed = self.limits.unattended_per_day;
        let Some((allowed, on_demand)) = allowed.zip(self.limits.on_demand_per_day(interval))
        else {
            return html! {};
        };
        let asked = self.on_demand_counts.get(product).copied().unwrap_or(0);
        html! {
            span.line.note {
                "of the bank's " (allowed) " a day " (1440 / interval.minutes()) " are the schedule's; asked for in 24 hours: "
                (asked) " of " (on_demand)
            }
        }
    }

    fn render_accounts(&self) -> Markup {
        if self.accounts.is_empty() {
            return render_empty_state(
                "No accounts",
                &html! { p { "The record's consent covers none any more." } },
            );
        }
        html! {
            div.accounts {
                @for account in &self.accounts {
                    article.card {
                        div.account {
                            h3 { (account.facts.name) span.note { (account.facts.kind) " " (mask_account_number(&account.facts.number)) } }
                            @match account.balance.and_then(spendable_amount) {
                                Some(amount) => p.big { (show::render_money(amount)) },
                                None => p.big.none { "No balance yet" },
                            }
                            @if let Some(other) = account.balance.and_then(differing_ledger) {
                                p.note { "On the books " (show::render_money(other)) }
                            }
                            @if let Some(at) = account.balance_at {
                                p.note { "Changed " (show::render_relative_time(self.now, at)) }
                            }
                            p.note { (show::render_id(account.id)) }
                        }
                        (self.render_balance_chart(account))
                    }
                }
            }
        }
    }

    fn render_balance_chart(&self, account: &Account) -> Markup {
        let mut points: Vec<(Timestamp, i64)> = self
            .recent_entries
            .iter()
            .filter(|entry| entry.account == Some(account.id))
            .filter_map(|entry| match &entry.change {
                Change::Balance { after, .. } => {
                    Some((entry.committed_at, spendable_amount(*after)?.minor))
                }
                Change::Transactions(_) | Change::State(_) => None,
            })
            .collect();
        if points.is_empty() {
            return html! { p.note.chart { "The chart begins with the first balance." } };
        }
        let skip = points.len().saturating_sub(MAX_CHART_POINTS);
        points.drain(..skip);
        let currency = account.facts.currency;
        let text = |minor: i64| show::format_amount(Money::new(minor, currency));
        let last = points.last().map_or(0, |point| point.1);
        let label = format!(
            "Balance of {} over time: {} changes, now {} {currency}",
            account.facts.name,
            points.len(),
            show::format_amount(Money::new(last, currency)),
        );
        StepChart {
            label,
            points: &points,
            until: self.now,
            format_value: &text,
        }
        .render_svg()
    }

    fn render_transactions(&self) -> Markup {
        html! {
            @if self.transactions.rows.is_empty() {
                (render_empty_state("No transactions", &html! {
                    p { "The bank has shown none in these days. The first pull takes a moment after linking." }
                }))
            } @else {
                (self.render_transaction_rows())
            }
            @let record = self.head.record;
            p.more {
                @if self.transactions.date_range.1.is_some() {
                    a.button href={ "/dashboard/records/" (record) "#transactions" } { "Newest transactions" } " "
                }
                @if let Some(next) = &self.transactions.next_cursor {
                    a.button href=(next.page_href(record)) { "Older transactions" }
                }
            }
        }
    }

    fn render_transaction_rows(&self) -> Markup {
        let rows = &self.transactions.rows;
        let several = self.accounts.len() > 1;
        let stated = |row: &StoredTransaction| row.transaction.facts.balance_after.is_some();
        let balances = rows.iter().any(stated);
        html! {
            (render_table("Transactions", &html! {
                th { "Date" } th { "Description" } th.number { "Amount" }
                @if balances { th.wide.number { "Balance" } } @if several { th.wide { "Account" } }
            }, &html! {
                @for row in rows {
                    @let facts = &row.transaction.facts;
                    tr {
                        td.nowrap { (show::format_day(facts.booked_at)) }
                        td.text {
                            (description_or_default(facts))
                            @if facts.status == BookingStatus::Pending { " " (show::render_badge("idle", "Pending")) }
                            @if let Some(reference) = &facts.reference { span.note { (reference) } }
                        }
                        td.number { (render_signed_amount(facts)) }
                        @if balances { td.wide.number { @if let Some(after) = facts.balance_after { (show::format_amount(after)) } } }
                        @if several { td.wide { (self.account_name(row.account)) } }
                    }
                }
            }))
        }
    }

    fn account_name(&self, id: AccountId) -> String {
        let account = self.accounts.iter().find(|it| it.id == id);
        account.map_or_else(String::new, |it| mask_account_number(&it.facts.number))
    }

    fn render_feed(&self) -> Markup {
        if self.listed_entries.is_empty() {
            return render_empty_state(
                "Nothing has changed",
                &html! {
                    p { "Each change that a refresh finds is kept here with the record's next number, old and new values. \
                         A refresh that finds nothing new writes nothing." }
                },
            );
        }
        html! {
            ol.feed {
                @for entry in &self.listed_entries {
                    li id={ "seq-" (entry.seq.0) } {
                        div.seq { "#" (entry.seq.0) }
                        div.what {
                            p.line {
                                (render_change_summary(&entry.change))
                                @if let Some(account) = entry.account.filter(|_| self.accounts.len() > 1) { span.note { (self.account_name(account)) } }
                                span.note { (show::render_relative_time(self.now, entry.committed_at)) }
                                a.note href={ "/dashboard/events/" (EventId::for_record_entry(entry.record, entry.seq)) } aria-label={ "Who was told of change " (entry.seq.0) } { "told" }
                            }
                            (render_change_details(entry))
                        }
                    }
                }
            }
            @let record = self.head.record;
            @let newest = self.listed_entries.first().map_or(0, |entry| entry.seq.0);
            @let oldest = self.listed_entries.last().map_or(0, |entry| entry.seq.0);
            p.more {
                @if newest < self.head.seq.0 {
                    a.button href={ "/dashboard/records/" (record) "#feed" } { "Newest changes" } " "
                }
                @if oldest > 1 {
                    a.button href={ "/dashboard/records/" (record) "?before=" (oldest) "#feed" } { "Older changes" }
                }
            }
        }
    }
}

const fn product_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "Balance",
        Product::Transactions => "Transactions",
    }
}

/// The products that are on an interval.
fn products_on_interval(head: &RecordHead, interval: Interval) -> Vec<Product> {
    let on = head.schedule.iter().filter(|(_, it)| **it == interval);
    on.map(|(product, _)| product).collect()
}

/// The last four digits of an account number: enough to tell accounts apart.
fn mask_account_number(number: &str) -> String {
    let skip = number.chars().count().saturating_sub(4);
    let tail: String = number.chars().skip(skip).collect();
    format!("•• {tail}")
}

/// What can be spent; what is on the books where the bank does not say.
fn spendable_amount(balance: BalanceFacts) -> Option<Money> {
    balance.available.or(balance.ledger)
}

fn differing_ledger(balance: BalanceFacts) -> Option<Money> {
    balance
        .ledger
        .filter(|ledger| balance.available.is_some_and(|it| it != *ledger))
}

fn description_or_default(facts: &TransactionFacts) -> &str {
    if facts.description.is_empty() {
        "No description"
    } else {
        &facts.description
    }
}

fn render_signed_amount(facts: &TransactionFacts) -> Markup {
    let amount = Money::new(facts.signed_minor(), facts.amount.currency);
    let tone = match facts.direction {
        Direction::Credit => "credit",
        Direction::Debit => "debit",
    };
    let plus = if amount.minor > 0 { "+" } else { "" };
    html! { span.money data-tone=(tone) { (plus) (show::format_amount(amount)) } }
}

fn render_change_summary(change: &Change) -> Markup {
    html! {
        @match change {
            Change::Balance { before, after } => {
                @for part in render_balance_parts(*before, *after) { (part) }
            }
            Change::Transactions(diff) => {
                (describe_row_counts(diff))
                @match diff.fetch_kind {
                    FetchKind::Initial => span.note { "first pull" },
                    FetchKind::Backfill => span.note { "history" },
                    FetchKind::Periodic => "",
                }
            }
            Change::State(change) => (render_state_change(change)),
        }
    }
}

/// Each part of a balance that changed, by its name: what can be spent, and what is on the books. A part
/// that the bank did not say is unknown.
fn render_balance_parts(before: Option<BalanceFacts>, after: BalanceFacts) -> Vec<Markup> {
    let amount = |it: Option<Money>| it.map_or_else(|| "unknown".to_owned(), show::format_amount);
    let of = |facts: fn(BalanceFacts) -> Option<Money>| (before.map(facts), facts(after));
    let parts = [
        ("Available", of(|it| it.available)),
        ("On the books", of(|it| it.ledger)),
    ];
    let said = |old: Option<Option<Money>>, new: Option<Money>| match old {
        None => new.is_some(),
        Some(old) => old != new,
    };
    let changed = parts.into_iter().filter(|(_, (old, new))| said(*old, *new));
    let part = |(name, (old, new)): (&str, (Option<Option<Money>>, Option<Money>))| {
        html! {
            span.part {
                (name) " "
                @if let Some(old) = old { del { (amount(old)) } span.arrow { " → " } }
                ins { @match new { Some(new) => (show::render_money(new)), None => "unknown" } }
                " "
            }
        }
    };
    changed.map(part).collect()
}

/// What a change of state says.
fn render_state_change(change: &StateChange) -> Markup {
    html! {
        @match change {
            StateChange::Linked => { (show::render_badge("good", "Linked")) " The customer linked the bank" },
            StateChange::AccountLinked => "An account came with it",
            StateChange::ReauthorisationRequired { reason } => { (show::render_badge("warn", "Needs the user")) " " (describe_token_reason(*reason)) },
            StateChange::Recovered => { (show::render_badge("good", "Active")) " The bank answers again" },
            StateChange::ConsentExpiring { expires_at, days_before } => {
                (show::render_badge("warn", "Consent ends")) " in " (days_before) " days, on " (show::format_day(*expires_at))
            },
            StateChange::Product(it) => {
                @let tone = if it.availability == Availability::Available { "good" } else { "bad" };
                (product_name(it.product)) " " (show::render_badge(tone, availability_label(it.availability)))
                @if let Some(class) = it.class { " " (fault_class_label(class)) }
            },
            StateChange::BackfillComplete(it) => {
                "History complete: " (show::format_count(it.rows)) " rows back to " (it.oldest_date) ", "
                (match it.end_reason {
                    BackfillEnd::RequestedLimit => "as far as was asked for",
                    BackfillEnd::BankLimit => "the bank has nothing older",
                    BackfillEnd::BankRejected => "the bank refuses older dates",
                    BackfillEnd::GaveUp => "the bank failed too often",
                })
            },
            StateChange::Drift { drift: Some(it) } => {
                (show::render_badge("warn", "Drift")) " The balance has " (it.amount.to_string())
                " more than the transactions explain"
            },
            StateChange::Drift { drift: None } => { (show::render_badge("good", "Ties")) " Balance and transactions agree again" },
            StateChange::Unlinked => { (show::render_badge("idle", "Unlinked")) " Nothing is asked of the bank any more" },
        }
    }
}

const fn describe_token_reason(reason: ReauthorisationReason) -> &'static str {
    match reason {
        ReauthorisationReason::ConsentExpired => "The consent's time is over.",
        ReauthorisationReason::ConsentRejected => {
            "The bank refuses the consent: it expired, or the customer took it back."
        }
        ReauthorisationReason::UserPresenceRequired => {
            "The bank wants the customer there for each refresh."
        }
    }
}

const fn availability_label(availability: Availability) -> &'static str {
    match availability {
        Availability::Available => "available",
        Availability::Partial => "partly available",
        Availability::Unavailable => "not available",
        Availability::Failed => "failed",
    }
}

/// A class of failure as people read it.
pub(crate) const fn fault_class_label(class: FaultClass) -> &'static str {
    match class {
        FaultClass::BankUnavailable => "bank unavailable",
        FaultClass::RateLimited => "rate limit of the bank",
        FaultClass::QuotaSpent => "the bank's quota is spent",
        FaultClass::ConsentRejected => "consent refused",
        FaultClass::MalformedResponse => "the bank's answer cannot be read",
        FaultClass::Internal => "our own fault",
    }
}

fn describe_row_counts(diff: &TransactionsDiff) -> String {
    let parts = [
        (diff.added.len(), "new"),
        (diff.modified.len(), "changed"),
        (diff.removed.len(), "removed"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let noun = if diff.len() == 1 {
        "transaction"
    } else {
        "transactions"
    };
    format!("{} {noun}", parts.join(", "))
}

/// The rows of a change: the first of them, and a page with all where there are more.
fn render_change_details(entry: &FeedEntry) -> Markup {
    let rows = render_change_rows(&entry.change);
    if rows.is_empty() {
        return html! {};
    }
    let left = rows.len().saturating_sub(MAX_ROWS_PER_CHANGE);
    html! {
        ul.rows {
            @for row in rows.into_iter().take(MAX_ROWS_PER_CHANGE) { (row) }
            @if left > 0 {
                li.note {
                    a href={ "/dashboard/records/" (entry.record) "/changes/" (entry.seq.0) } {
                        "and " (show::format_count(left)) " more"
                    }
                }
            }
        }
    }
}

/// Each row of a change.
fn render_change_rows(change: &Change) -> Vec<Markup> {
    let Change::Transactions(diff) = change else {
        return vec![];
    };
    let row = |sign: &'static str, tone: &'static str, it: &Transaction| {
        html! {
            li data-tone=(tone) { span.sign aria-hidden="true" { (sign) } span.text { (description_or_default(&it.facts)) } (render_signed_amount(&it.facts)) }
        }
    };
    let mut rows: Vec<Markup> = diff.modified.iter().map(render_modified_row).collect();
    rows.extend(diff.removed.iter().map(|it| row("−", "removed", it)));
    rows.extend(diff.added.iter().map(|it| row("+", "added", it)));
    rows
}

/// One change with all of its rows, page by page.
pub(crate) async fn render_change_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path((id, seq)): Path<(RecordId, u64)>,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &session, id, Consistency::Eventual).await?;
    let (seq, now) = (Seq(seq), web.now());
    let store = &web.api.store;
    let entry = store.find_feed_entry(head.record, seq).await?;
    let entry = entry.ok_or(PageError::NotFound("change"))?;
    let number = match entry.account {
        Some(account) => store.find_account(account).await?.map(|it| it.facts.number),
        None => None,
    };
    let rows = render_change_rows(&entry.change);
    let all = rows.len();
    let first: usize = session.query.get("from").parse().unwrap_or(0);
    let next = first.saturating_add(CHANGE_ROWS_PER_PAGE);
    let body = html! {
        div.head {
            p.crumb { a href=(change_href(id, seq)) { "Record" } " / #" (seq.0) }
            h1 { "Change #" (seq.0) }
            p.sub {
                (render_change_summary(&entry.change))
                @if let Some(number) = &number { span.note { (mask_account_number(number)) } }
                span.note { (show::render_relative_time(now, entry.committed_at)) }
                a.note href={ "/dashboard/events/" (EventId::for_record_entry(id, seq)) } { "told" }
            }
        }
        @if all == 0 {
            (render_empty_state("No rows", &html! { p { "This change is about no transactions." } }))
        } @else {
            ol.feed { li { div.seq {} div.what {
                ul.rows { @for row in rows.into_iter().skip(first).take(CHANGE_ROWS_PER_PAGE) { (row) } }
            } } }
        }
        @if next < all {
            p.more { a.button href={ "?from=" (next) } { "The next of " (show::format_count(all)) " rows" } }
        }
    };
    let page = DashboardPage {
        session: &session,
        section: Section::Records,
        title: "Change",
        live_url: None,
        body,
    };
    Ok(page.into_response())
}

/// A row that reads otherwise now: each fact with its old and its new value.
fn render_modified_row(modification: &ModifiedRow) -> Markup {
    let (old, new) = (&modification.before, &modification.after.facts);
    let status = |status| match status {
        BookingStatus::Pending => "pending",
        BookingStatus::Booked => "booked",
    };
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), show::format_day);
    let value = |name: &str| match name {
        "bank_transaction_id" => ("bank's id", optional(&old.bank_id), optional(&new.bank_id)),
        "pending" => (
            "status",
            status(old.status).to_owned(),
            status(new.status).to_owned(),
        ),
        "direction" => (
            "direction",
            format!("{:?}", old.direction),
            format!("{:?}", new.direction),
        ),
        "amount" => (
            "amount",
            show::format_amount(old.amount),
            show::format_amount(new.amount),
        ),
        "trans_date" => (
            "date",
            show::format_instant(old.booked_at),
            show::format_instant(new.booked_at),
        ),
        "cleared_date" => ("value date", moment(old.value_at), moment(new.value_at)),
        "notes" => ("text", old.description.clone(), new.description.clone()),
        "ref" => (
            "reference",
            optional(&old.reference),
            optional(&new.reference),
        ),
        "code" => ("code", optional(&old.code), optional(&new.code)),
        _ => (
            "balance after",
            old.balance_after
                .map_or_else(|| "none".to_owned(), show::format_amount),
            new.balance_after
                .map_or_else(|| "none".to_owned(), show::format_amount),
        ),
    };
    html! {
        li data-tone="changed" {
            span.sign aria-hidden="true" { "~" }
            span.text {
                (description_or_default(new))
                @if modification.confidence != MatchConfidence::Exact {
                    span.note title="The bank changed its id; amount, text and date say that it is the same transaction" {
                        "matched, " (if modification.confidence == MatchConfidence::High { "high" } else { "medium" }) " confidence"
                    }
                }
                @for name in old.changed_fields(new) {
                    @let (name, before, after) = value(name);
                    span.fact { (name) " " del { (before) } span.arrow { " → " } ins { (after) } }
                }
            }
            (render_signed_amount(new))
        }
    }
}

/// Refreshes one product and waits for what comes of it, which is the answer, as a sentence: the page's
/// script asks so. Without a product, enqueues a refresh of everything.
pub(crate) async fn refresh_record(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let path = match posted.fields.get("product") {
        "balance" => Some("balance/refresh"),
        "transactions" => Some("transactions/refresh"),
        _ => None,
    };
    if let Some(path) = path {
        let asked = json!({ "record_id": id, "wait": true });
        let answer = call_api(&web, &posted.session, path, asked).await?;
        return Ok(describe_refresh_outcome(answer["outcome"].as_str()).into_response());
    }
    call_api(
        &web,
        &posted.session,
        "customers/retry",
        json!({ "record_id": id }),
    )
    .await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}")).into_response())
}

/// What came of a refresh, in words.
const fn describe_refresh_outcome(outcome: Option<&str>) -> &'static str {
    let Some(outcome) = outcome else {
        return "still under way: the bank answers slowly";
    };
    match outcome.as_bytes() {
        b"unchanged" => "the bank says what is stored",
        b"changed" => "something changed",
        b"failed" => "the bank did not answer as it should; it is tried again by itself",
        b"contended" => "another refresh was faster",
        b"held" => "the bank is not asked at the moment",
        _ => "the record is gone",
    }
}

/// Ends one data sync of the record.
pub(crate) async fn end_subscription(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &posted.session, id, Consistency::Eventual).await?;
    let body = json!({
        "customer": head.customer,
        "record_id": id,
        "id": posted.fields.get("id"),
    });
    call_api(&web, &posted.session, "data-sync/cancel", body).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}

/// Puts products of the record on another interval.
pub(crate) async fn change_interval(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &posted.session, id, Consistency::Eventual).await?;
    let fields = &posted.fields;
    let body = json!({
        "customer": head.customer,
        "record_id": id,
        "bank": head.bank,
        "interval": fields.get("interval"),
        "products": fields.get("products"),
    });
    call_api(&web, &posted.session, "data-sync", body).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}

#[cfg(test)]
mod tests {
    use okra_core::model::ids::BankId;

    use super::*;

    /// The next due minute is the first after now whose slot is the record's.
    #[test]
    fn the_next_refresh_is_the_next_minute_of_its_slot() {
        for byte in 0..50 {
            let record = RecordId::from_bytes([byte; 12]);
            for interval in Interval::ALL {
                let key = DueKey {
                    interval,
                    bank: BankId::from_bytes([1; 12]),
                    record,
                };
                let now = Timestamp::from_second(1_700_000_123).unwrap();
                let at = next_due_at(key, now);
                assert_eq!(interval.slot_at(at), key.slot());
                let wait = at.duration_since(now).as_secs();
                assert!(wait > 0 && wait <= i64::from(interval.seconds()), "{wait}");
            }
        }
    }

    #[test]
    fn a_number_is_masked() {
        assert_eq!(mask_account_number("0123456789"), "•• 6789");
        assert_eq!(mask_account_number(""), "•• ");
    }
}
