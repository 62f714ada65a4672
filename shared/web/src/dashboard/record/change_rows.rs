//! The rows of a change: transactions that were added, removed, or modified fact by fact.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    model::{
        money::Money,
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::{Change, MatchConfidence, ModifiedRow},
};

use crate::components::format::{format_amount, format_day, format_instant};

pub(crate) fn description_or_default(facts: &TransactionFacts) -> &str {
    if facts.description.is_empty() {
        "No description"
    } else {
        &facts.description
    }
}

pub(crate) fn render_signed_amount(facts: &TransactionFacts) -> Markup {
    let amount = Money::new(facts.signed_minor(), facts.amount.currency);
    let tone = match facts.direction {
        Direction::Credit => "credit",
        Direction::Debit => "debit",
    };
    let plus = if amount.minor > 0 { "+" } else { "" };
    html! { span.money data-tone=(tone) { (plus) (format_amount(amount)) } }
}

/// Each row of a change.
pub(crate) fn render_change_rows(change: &Change) -> Vec<Markup> {
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

/// A row that reads otherwise now: each fact with its old and its new value.
fn render_modified_row(modification: &ModifiedRow) -> Markup {
    let (old, new) = (&modification.before, &modification.after.facts);
    let status = |status| match status {
        BookingStatus::Pending => "pending",
        BookingStatus::Booked => "booked",
    };
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), format_day);
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
            format_amount(old.amount),
            format_amount(new.amount),
        ),
        "trans_date" => (
            "date",
            format_instant(old.booked_at),
            format_instant(new.booked_at),
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
                .map_or_else(|| "none".to_owned(), format_amount),
            new.balance_after
                .map_or_else(|| "none".to_owned(), format_amount),
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
