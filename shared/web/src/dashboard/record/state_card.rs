//! The card of a record's state: why it is in that state, and what happens next.

use maud::{Markup, html};
use okra_core::{
    model::{interval::Interval, snapshot::Product},
    sync::{feed::Change, state::StateChange},
};
use okra_store::{RecordHead, RecordStatus};

use super::load::RecordPage;
use crate::components::{
    format::{render_id, render_relative_time},
    labels::{describe_token_reason, join_product_names},
};

pub(crate) fn render_state(page: &RecordPage) -> Markup {
    let (head, now) = (&page.head, page.now);
    let (reason, next) = describe_state(page);
    html! {
        h2 #state { "State" }
        p { (reason) }
        @if !next.is_empty() { p.next { (next) } }
        // A consent that is refused as a whole is said above.
        @if head.status == RecordStatus::Active { (page.state.render_unavailable(now, |id| page.account_name(id))) }
        dl {
            @if head.status == RecordStatus::Active {
                @for key in head.due_keys() {
                    @let products = products_on_interval(head, key.interval);
                    @if let Some(at) = page.state.next_refresh_at(&products) {
                        dt { "Next refresh" }
                        dd { (render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                    }
                }
                @for (at, products) in page.state.manual_refresh_times(now) {
                    dt { "Refresh now" }
                    dd { "again " (render_relative_time(now, at)) span.note { (join_product_names(&products)) } }
                }
            }
            dt { "Last change" } dd { (render_relative_time(now, head.last_changed_at)) }
            dt { "Linked" } dd { (render_relative_time(now, head.created_at)) }
            @if head.schedule.transactions.is_some() || head.status == RecordStatus::Invalid {
                dt { "History" } dd { (page.state.render_backfill()) }
            } @else {
                dt { "Transactions" } dd { "not read: the customer was asked for balances alone" }
            }
            @if let Some(at) = page.state.consent_expires_at { dt { "Consent ends" } dd { (render_relative_time(now, at)) } }
            dt { "Bank" } dd { (page.bank_name) (page.state.render_bank_status()) }
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

/// Why the record is in its state, and what happens or has to happen next.
fn describe_state(page: &RecordPage) -> (&'static str, &'static str) {
    match page.head.status {
        RecordStatus::Active if page.state.needs_user => (
            "The bank's consent holds, and the bank wants the customer there for each refresh.",
            "Nothing is asked of it on a schedule: refresh with customer_ip when the customer is there.",
        ),
        RecordStatus::Active => (
            "The bank's consent holds, and the record is refreshed at its interval.",
            "",
        ),
        RecordStatus::ReauthorisationRequired => {
            let last = page
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

/// The products that are on an interval.
fn products_on_interval(head: &RecordHead, interval: Interval) -> Vec<Product> {
    let on = head.schedule.iter().filter(|(_, it)| **it == interval);
    on.map(|(product, _)| product).collect()
}
