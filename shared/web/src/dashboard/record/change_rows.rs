//! The rows of a change: transactions that were added, removed, or modified fact by fact.

use maud::{Markup, html};
use okra_core::{
    model::{
        money::Money,
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::{Change, MatchConfidence, ModifiedRow},
};

use crate::components::format::{format_amount, format_day, format_instant};

/// The description of a transaction.
pub(crate) fn description_or_default(facts: &TransactionFacts) -> &str {
    if facts.description.is_empty() {
        "No description"
    } else {
        &facts.description
    }
}

/// The amount of a transaction with its sign: what it adds to the balance.
pub(crate) fn render_signed_amount(facts: &TransactionFacts) -> Markup {
    let amount = Money::new(facts.signed_minor(), facts.amount.currency);
    let tone = direction_label(facts.direction);
    let plus = if amount.minor > 0 { "+" } else { "" };
    html! { span.money data-tone=(tone) { (plus) (format_amount(amount)) } }
}

/// Each row of a change; none for a change that is not about transactions.
pub(crate) fn render_change_rows(change: &Change) -> Vec<Markup> {
    let Change::Transactions(diff) = change else {
        return vec![];
    };
    let modified = diff.modified.iter().map(render_modified_row);
    let removed = diff.removed.iter().map(|it| render_row("−", "removed", it));
    let added = diff.added.iter().map(|it| render_row("+", "added", it));
    modified.chain(removed).chain(added).collect()
}

/// A transaction that was added or removed.
fn render_row(sign: &'static str, tone: &'static str, it: &Transaction) -> Markup {
    html! {
        li data-tone=(tone) {
            span.sign aria-hidden="true" { (sign) }
            span.text { (description_or_default(&it.facts)) }
            (render_signed_amount(&it.facts))
        }
    }
}

/// A transaction that was modified: each fact with its old and its new value.
fn render_modified_row(modification: &ModifiedRow) -> Markup {
    let (old, new) = (&modification.before, &modification.after.facts);
    let confidence = match modification.confidence {
        MatchConfidence::Exact => None,
        MatchConfidence::High => Some("high"),
        MatchConfidence::Medium => Some("medium"),
        MatchConfidence::Low => Some("low"),
    };
    html! {
        li data-tone="changed" {
            span.sign aria-hidden="true" { "~" }
            span.text {
                (description_or_default(new))
                @if let Some(confidence) = confidence {
                    span.note title="The bank changed its id; amount, text and date say that it is the same transaction" {
                        "matched, " (confidence) " confidence"
                    }
                }
                @for field in old.changed_fields(new) {
                    span.fact {
                        (fact_label(field)) " "
                        del { (format_fact(field, old)) } span.arrow { " → " } ins { (format_fact(field, new)) }
                    }
                }
            }
            (render_signed_amount(new))
        }
    }
}

/// A fact of a transaction by the name of its field, which is the one of webhooks.
fn fact_label(field: &str) -> &'static str {
    match field {
        "bank_transaction_id" => "bank's id",
        "pending" => "status",
        "direction" => "direction",
        "amount" => "amount",
        "trans_date" => "date",
        "cleared_date" => "value date",
        "notes" => "text",
        "ref" => "reference",
        "code" => "code",
        _ => "balance after",
    }
}

/// The value of a fact.
fn format_fact(field: &str, facts: &TransactionFacts) -> String {
    let value = match field {
        "bank_transaction_id" => facts.bank_id.clone(),
        "pending" => Some(booking_status_label(facts.status).to_owned()),
        "direction" => Some(direction_label(facts.direction).to_owned()),
        "amount" => Some(format_amount(facts.amount)),
        "trans_date" => Some(format_instant(facts.booked_at)),
        "cleared_date" => facts.value_at.map(format_day),
        "notes" => Some(facts.description.clone()),
        "ref" => facts.reference.clone(),
        "code" => facts.code.clone(),
        _ => facts.balance_after.map(format_amount),
    };
    value.unwrap_or_else(|| "none".to_owned())
}

const fn booking_status_label(status: BookingStatus) -> &'static str {
    match status {
        BookingStatus::Pending => "pending",
        BookingStatus::Booked => "booked",
    }
}

const fn direction_label(direction: Direction) -> &'static str {
    match direction {
        Direction::Credit => "credit",
        Direction::Debit => "debit",
    }
}
