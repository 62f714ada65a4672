//! The page of one record: its state and what happens next, its data sync, accounts, balances over time,
//! transactions and changes.
//!
//! [`load`] reads everything that the page shows ([`load::RecordPage`]), [`transaction_page`] a page of its
//! transactions; each part of the page has a module that renders it, and [`actions`] handles the forms.

mod accounts;
pub(super) mod actions;
pub(super) mod change_page;
mod change_rows;
mod change_summary;
mod changes;
mod load;
mod state_card;
mod subscriptions;
mod transaction_page;
mod transactions;
mod unavailable;

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use okra_core::model::ids::RecordId;
use okra_store::{Consistency, RecordHead, RecordStatus};
use sha2::{Digest, Sha256};

use self::{
    accounts::render_accounts,
    changes::render_feed,
    load::{RecordPage, load_record_page},
    state_card::render_state,
    subscriptions::render_subscriptions,
    transaction_page::TRANSACTION_DAYS,
    transactions::render_transactions,
};
use super::{
    live,
    page::{DashboardPage, Section, render_csrf_field},
    session::AppSession,
};
use crate::{
    components::{
        badges::render_record_status,
        format::{format_count, format_date},
    },
    page_error::PageError,
    web_state::WebState,
};

pub(crate) async fn render_record_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(id): Path<RecordId>,
) -> Result<Response, PageError> {
    let head = session
        .scope
        .load_own_record(id, Consistency::Strong)
        .await?;
    let shown = load_record_page(&web, &session, head).await?;
    let version = record_version(&shown.head);
    let page = DashboardPage {
        session: &session,
        section: Section::Records,
        title: shown.customer_name(),
        live_url: Some(format!("/dashboard/records/{id}/live?seen={version}")),
        body: render_body(&shown, &session),
    };
    Ok(page.into_response())
}

fn render_body(page: &RecordPage, session: &AppSession) -> Markup {
    let head = &page.head;
    html! {
        div.head {
            p.crumb { a href="/dashboard/records" { "Records" } " / " (page.bank_name) }
            div.title {
                h1 { (page.customer_name()) }
                (render_record_status(head.status))
                @let products: Vec<_> = head.schedule.iter().map(|(product, _)| product.as_str()).collect();
                form.act method="post" action={ "/dashboard/records/" (head.record) "/refresh" } data-progress=(products.join(" ")) {
                    (render_csrf_field(session))
                    button.main disabled[head.status == RecordStatus::Invalid] { "Refresh now" }
                }
            }
            div #progress .progress role="status" {}
        }
        div.columns {
            section.card aria-labelledby="state" { (render_state(page)) }
            section.card aria-labelledby="sync" { (render_subscriptions(page, session)) }
        }
        section aria-labelledby="accounts" {
            h2 #accounts { "Accounts" }
            (render_accounts(page))
        }
        section aria-labelledby="feed" {
            h2 #feed { "Changes" span.note { (format_count(head.seq.0)) " in all, newest first" } }
            (render_feed(page))
        }
        section aria-labelledby="transactions" {
            h2 #transactions {
                "Transactions"
                span.note {
                    @match page.transactions.last_day {
                        None => { "last " (TRANSACTION_DAYS) " days" },
                        Some(last) => { (format_date(page.transactions.first_day)) " to " (format_date(last)) },
                    }
                    ", " (format_count(page.transactions.row_count)) " rows"
                }
            }
            (render_transactions(page))
        }
    }
}

/// The version of a record's page: it differs where anything shown of the record has changed.
fn record_version(head: &RecordHead) -> String {
    let state = format!("{:?} {:?}", head.status, head.schedule);
    let digest = Sha256::digest(state.as_bytes());
    format!("{}-{:02x}{:02x}", head.seq.0, digest[0], digest[1])
}

pub(crate) async fn record_events(
    session: AppSession,
    Path(id): Path<RecordId>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let head = session
        .scope
        .load_own_record(id, Consistency::Eventual)
        .await?;
    Ok(live::version_event(&headers, &record_version(&head)))
}
