//! The list of a record's changes.

use maud::{Markup, html};
use okra_core::{model::ids::EventId, sync::feed::FeedEntry};

use super::{
    change_rows::render_change_rows, change_summary::render_change_summary, load::RecordPage,
};
use crate::components::{
    format::{format_count, render_relative_time},
    parts::render_empty_state,
};

/// Rows of one change that the list shows; of the others it shows the number.
const MAX_ROWS_PER_CHANGE: usize = 8;

/// The changes that the page lists, with links to newer and older ones.
pub(crate) fn render_feed(page: &RecordPage) -> Markup {
    if page.listed_entries.is_empty() {
        return render_empty_state(
            "Nothing has changed",
            &html! {
                p { "Each change that a refresh finds is listed here with the record's next number and the old and new \
                     values. A refresh that finds no change writes nothing." }
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
                            a.note href={ "/dashboard/events/" (EventId::for_record_entry(entry.record, entry.seq)) } aria-label={ "Deliveries of change " (entry.seq.0) } { "deliveries" }
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

/// The first rows of a change, and a link to a page with all of them where there are more.
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
