//! The page of one change, with all of its rows, page by page.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use maud::html;
use okra_core::model::ids::{EventId, RecordId, Seq};
use okra_store::Consistency;

use super::{
    super::{
        hrefs::change_href,
        page::{DashboardPage, Section},
        session::AppSession,
    },
    change_rows::render_change_rows,
    change_summary::render_change_summary,
};
use crate::{
    components::{
        format::{format_count, mask_account_number, render_relative_time},
        parts::render_empty_state,
    },
    page_error::PageError,
    web_state::WebState,
};

/// Rows of the change on a page.
const CHANGE_ROWS_PER_PAGE: usize = 200;

pub(crate) async fn render_change_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path((id, seq)): Path<(RecordId, u64)>,
) -> Result<Response, PageError> {
    let head = session
        .scope
        .load_own_record(id, Consistency::Eventual)
        .await?;
    let (seq, now) = (Seq(seq), web.now());
    let store = &web.services.store;
    let entry = store.find_feed_entry(head.record, seq).await?;
    let entry = entry.ok_or(PageError::NotFound("change"))?;
    let number = match entry.account {
        Some(account) => store.find_account(account).await?.map(|it| it.facts.number),
        None => None,
    };
    let rows = render_change_rows(&entry.change);
    let all = rows.len();
    // A query that names no number shows the first page.
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
                a.note href={ "/dashboard/events/" (EventId::for_record_entry(id, seq)) } { "deliveries" }
            }
        }
        @if all == 0 {
            (render_empty_state("No rows", &html! { p { "This change has no transactions." } }))
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
