//! The list of a record's changes, and the page of one change with all of its rows.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use okra_core::{
    model::{
        ids::{EventId, RecordId, Seq},
        money::Money,
        snapshot::BalanceFacts,
    },
    sync::{
        feed::{Change, FeedEntry, FetchKind, TransactionsDiff},
        state::{Availability, BackfillEnd, StateChange},
    },
};
use okra_store::Consistency;

use super::{
    super::{
        hrefs::change_href,
        page::{DashboardPage, Section},
        session::AppSession,
    },
    change_rows::render_change_rows,
    load::{RecordPage, load_own_record},
};
use crate::{
    components::{
        badges::render_badge,
        format::{
            format_amount, format_count, format_day, mask_account_number, render_money,
            render_relative_time,
        },
        labels::{availability_label, describe_token_reason, fault_class_label, product_name},
        parts::render_empty_state,
    },
    page_error::PageError,
    web_state::WebState,
};

/// Rows of one change that are shown; the rest is counted.
const MAX_ROWS_PER_CHANGE: usize = 8;

/// Rows of one change on a page of its own.
const CHANGE_ROWS_PER_PAGE: usize = 200;

pub(crate) fn render_feed(page: &RecordPage) -> Markup {
    if page.listed_entries.is_empty() {
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
            @for entry in &page.listed_entries {
                li id={ "seq-" (entry.seq.0) } {
                    div.seq { "#" (entry.seq.0) }
                    div.what {
                        p.line {
                            (render_change_summary(&entry.change))
                            @if let Some(account) = entry.account.filter(|_| page.accounts.len() > 1) { span.note { (page.account_name(account)) } }
                            span.note { (render_relative_time(page.now, entry.committed_at)) }
                            a.note href={ "/dashboard/events/" (EventId::for_record_entry(entry.record, entry.seq)) } aria-label={ "Who was told of change " (entry.seq.0) } { "told" }
                        }
                        (render_change_details(entry))
                    }
                }
            }
        }
        @let record = page.head.record;
        @let newest = page.listed_entries.first().map_or(0, |entry| entry.seq.0);
        @let oldest = page.listed_entries.last().map_or(0, |entry| entry.seq.0);
        p.more {
            @if newest < page.head.seq.0 {
                a.button href={ "/dashboard/records/" (record) "#feed" } { "Newest changes" } " "
            }
            @if oldest > 1 {
                a.button href={ "/dashboard/records/" (record) "?before=" (oldest) "#feed" } { "Older changes" }
            }
        }
    }
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
    let amount = |it: Option<Money>| it.map_or_else(|| "unknown".to_owned(), format_amount);
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
                ins { @match new { Some(new) => (render_money(new)), None => "unknown" } }
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
            StateChange::Linked => { (render_badge("good", "Linked")) " The customer linked the bank" },
            StateChange::AccountLinked => "An account came with it",
            StateChange::ReauthorisationRequired { reason } => { (render_badge("warn", "Needs the user")) " " (describe_token_reason(*reason)) },
            StateChange::Recovered => { (render_badge("good", "Active")) " The bank answers again" },
            StateChange::ConsentExpiring { expires_at, days_before } => {
                (render_badge("warn", "Consent ends")) " in " (days_before) " days, on " (format_day(*expires_at))
            },
            StateChange::Product(it) => {
                @let tone = if it.availability == Availability::Available { "good" } else { "bad" };
                (product_name(it.product)) " " (render_badge(tone, availability_label(it.availability)))
                @if let Some(class) = it.class { " " (fault_class_label(class)) }
            },
            StateChange::BackfillComplete(it) => {
                "History complete: " (format_count(it.rows)) " rows back to " (it.oldest_date) ", "
                (match it.end_reason {
                    BackfillEnd::RequestedLimit => "as far as was asked for",
                    BackfillEnd::BankLimit => "the bank has nothing older",
                    BackfillEnd::BankRejected => "the bank refuses older dates",
                    BackfillEnd::GaveUp => "the bank failed too often",
                })
            },
            StateChange::Drift { drift: Some(it) } => {
                (render_badge("warn", "Drift")) " The balance has " (it.amount.to_string())
                " more than the transactions explain"
            },
            StateChange::Drift { drift: None } => { (render_badge("good", "Ties")) " Balance and transactions agree again" },
            StateChange::Unlinked => { (render_badge("idle", "Unlinked")) " Nothing is asked of the bank any more" },
        }
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
                        "and " (format_count(left)) " more"
                    }
                }
            }
        }
    }
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
                span.note { (render_relative_time(now, entry.committed_at)) }
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
            p.more { a.button href={ "?from=" (next) } { "The next of " (format_count(all)) " rows" } }
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
