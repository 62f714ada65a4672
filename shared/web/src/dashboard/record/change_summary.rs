//! A change in one line: what happened to a balance, how many transactions changed, or what became of the record.

use maud::{Markup, html};
use okra_core::{
    model::{money::Money, snapshot::BalanceFacts},
    sync::{
        feed::{Change, FetchKind, TransactionsDiff},
        state::{Availability, StateChange},
    },
};

use crate::components::{
    badges::render_badge,
    format::{format_amount, format_count, format_day, render_money},
    labels::product_label,
};

/// A change in one line.
pub(crate) fn render_change_summary(change: &Change) -> Markup {
    html! {
        @match change {
            Change::Balance { before, after } => (render_balance_change(*before, *after)),
            Change::Transactions(diff) => {
                (describe_row_counts(diff))
                @match diff.fetch_kind {
                    FetchKind::Initial => span.note { "first refresh" },
                    FetchKind::Backfill => span.note { "backfill" },
                    FetchKind::Periodic => "",
                }
            }
            Change::State(change) => (render_state_change(change)),
        }
    }
}

/// Each part of a balance that changed: the available and the ledger balance. A part that the bank does not report is
/// unknown.
fn render_balance_change(before: Option<BalanceFacts>, after: BalanceFacts) -> Markup {
    html! {
        (render_balance_part("Available", before.map(|it| it.available), after.available))
        (render_balance_part("Ledger", before.map(|it| it.ledger), after.ledger))
    }
}

/// One part of a balance with its old and its new value, where they differ; `before` is `None` for the first balance.
fn render_balance_part(name: &str, before: Option<Option<Money>>, after: Option<Money>) -> Markup {
    let has_changed = before.map_or_else(|| after.is_some(), |before| before != after);
    if !has_changed {
        return html! {};
    }
    html! {
        span.part {
            (name) " "
            @if let Some(before) = before {
                del { @match before { Some(before) => (format_amount(before)), None => "unknown" } }
                span.arrow { " → " }
            }
            ins { @match after { Some(after) => (render_money(after)), None => "unknown" } }
            " "
        }
    }
}

/// A change of the state of a record or one of its accounts.
fn render_state_change(change: &StateChange) -> Markup {
    html! {
        @match change {
            StateChange::Linked => { (render_badge("good", "Linked")) " The customer linked the bank" },
            StateChange::AccountLinked => "An account was linked with it",
            StateChange::ReauthorisationRequired { reason } => {
                (render_badge("warn", "Requires the user")) " " (reason.to_sentence())
            },
            StateChange::Recovered => { (render_badge("good", "Active")) " The bank accepts the consent again" },
            StateChange::ConsentExpiring { expires_at, days_before } => {
                (render_badge("warn", "Consent ends")) " in " (days_before) " days, on " (format_day(*expires_at))
            },
            StateChange::Product(it) => {
                @let tone = if it.availability == Availability::Available { "good" } else { "bad" };
                (product_label(it.product)) " " (render_badge(tone, it.availability.as_label()))
                @if let Some(class) = it.class { " " (class.as_label()) }
            },
            StateChange::BackfillComplete(it) => {
                "Backfill complete: " (format_count(it.rows)) " transactions back to " (it.oldest_date) ". "
                (it.end_reason.to_sentence())
            },
            StateChange::Drift { drift: Some(it) } => {
                (render_badge("warn", "Drift")) " The balance is " (it.amount.to_string())
                " higher than the transactions explain"
            },
            StateChange::Drift { drift: None } => {
                (render_badge("good", "Consistent")) " Balance and transactions agree again"
            },
            StateChange::Unlinked => { (render_badge("idle", "Unlinked")) " The bank is not called any more" },
        }
    }
}

/// `3 new, 1 changed transactions`.
fn describe_row_counts(diff: &TransactionsDiff) -> String {
    let counts = [
        (diff.added.len(), "new"),
        (diff.modified.len(), "changed"),
        (diff.removed.len(), "removed"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let noun = match diff.len() {
        1 => "transaction",
        _ => "transactions",
    };
    format!("{} {noun}", parts.join(", "))
}
