//! The card of a record's state: why it is in that state, and what happens next.

use maud::{Markup, html};
use okra_core::{
    model::{interval::Interval, snapshot::Product},
    resilience::bank_breaker::BankStatus,
    sync::{
        feed::Change,
        state::{ReauthorisationReason, StateChange},
    },
};
use okra_store::{RecordHead, RecordStatus};

use super::{
    load::RecordPage,
    unavailable::{manual_refresh_times, next_refresh_at, render_backfill, render_unavailable},
};
use crate::components::{
    badges::render_bank_status,
    format::{render_id, render_relative_time},
    labels::join_product_names,
};

/// The card.
pub(crate) fn render_state(page: &RecordPage) -> Markup {
    let (head, now) = (&page.head, page.now);
    let (reason, next) = describe_state(page);
    html! {
        h2 #state { "State" }
        p { (reason) "." }
        @if !next.is_empty() { p.next { (next) } }
        // That the whole consent is not accepted stands above.
        @if head.status == RecordStatus::Active { (render_unavailable(page)) }
        dl {
            @if head.status == RecordStatus::Active {
                @for key in head.due_keys() {
                    @let products = products_on_interval(head, key.interval);
                    @if let Some(at) = next_refresh_at(&page.state, &products) {
                        dt { "Next refresh" }
                        dd { (render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                    }
                }
                @for (at, products) in manual_refresh_times(&page.state, now) {
                    dt { "Refresh now" }
                    dd { "available " (render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                }
            }
            dt { "Last change" } dd { (render_relative_time(now, head.last_changed_at)) }
            dt { "Linked" } dd { (render_relative_time(now, head.created_at)) }
            @if head.schedule.transactions.is_some() || head.status == RecordStatus::Invalid {
                dt { "Backfill" } dd { (render_backfill(page.state.backfill.as_ref())) }
            } @else {
                dt { "Transactions" } dd { "not read; the customer was asked to share balances only" }
            }
            @if let Some(at) = page.state.consent_expires_at { dt { "Consent ends" } dd { (render_relative_time(now, at)) } }
            dt { "Bank" } dd { (page.bank_name) @if page.state.bank_status != BankStatus::Healthy { " " (render_bank_status(page.state.bank_status)) } }
            dt { "Record" } dd { (render_id(head.record)) }
            dt { "Customer" } dd {
                a href={ "/dashboard/records?customer=" (head.customer) } { (render_id(head.customer)) }
            }
            @if head.options.as_object().is_some_and(|options| !options.is_empty()) {
                dt { "Options" } dd { code { (head.options) } }
            }
        }
    }
}

/// Why the record is in its state, without a full stop, and what happens or must happen next.
fn describe_state(page: &RecordPage) -> (&'static str, &'static str) {
    match page.head.status {
        RecordStatus::Active if page.state.requires_user_present => (
            "The consent is valid. The bank requires the user to be present for every refresh",
            "The record is not refreshed on a schedule. Refresh it with customer_ip while the user is present.",
        ),
        RecordStatus::Active => (
            "The consent is valid, and the record is refreshed at its interval",
            "",
        ),
        RecordStatus::ReauthorisationRequired => {
            let changes = page.recent_entries.iter().rev();
            let reason = changes
                .filter_map(|entry| match &entry.change {
                    Change::State(StateChange::ReauthorisationRequired { reason }) => Some(*reason),
                    _ => None,
                })
                .next();
            (
                // The change may be older than those that are read.
                reason
                    .unwrap_or(ReauthorisationReason::ConsentRejected)
                    .to_sentence(),
                "Open the widget for the customer with reauth_account and reauth_bank. Until then the bank is not \
                 called; the stored data stays.",
            )
        }
        RecordStatus::Invalid => (
            "The record was unlinked. The bank is not called any more",
            "To sync the customer again, link the bank as a new record.",
        ),
    }
}

/// The products that are on an interval.
fn products_on_interval(head: &RecordHead, interval: Interval) -> Vec<Product> {
    let on = head.schedule.iter().filter(|(_, it)| **it == interval);
    on.map(|(product, _)| product).collect()
}
