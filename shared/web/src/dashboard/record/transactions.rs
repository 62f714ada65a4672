//! The list of a record's transactions.

use maud::{Markup, html};
use okra_core::model::snapshot::BookingStatus;

use super::{
    change_rows::{description_or_default, render_signed_amount},
    load::RecordPage,
};
use crate::components::{
    badges::render_badge,
    format::{format_amount, format_day},
    parts::{render_empty_state, render_table},
};

pub(crate) fn render_transactions(page: &RecordPage) -> Markup {
    html! {
        @if page.transactions.rows.is_empty() {
            (render_empty_state("No transactions", &html! {
                p { "The bank reports none on these days. The first refresh takes a moment after linking." }
            }))
        } @else {
            (render_transaction_rows(page))
        }
        @let record = page.head.record;
        p.more {
            @if page.transactions.last_day.is_some() {
                a.button href={ "/dashboard/records/" (record) "#transactions" } { "Newest transactions" } " "
            }
            @if let Some(next) = &page.transactions.next_cursor {
                a.button href=(next.page_href(record)) { "Older transactions" }
            }
        }
    }
}

fn render_transaction_rows(page: &RecordPage) -> Markup {
    let rows = &page.transactions.rows;
    let several = page.accounts.len() > 1;
    let balances = rows
        .iter()
        .any(|row| row.transaction.facts.balance_after.is_some());
    html! {
        (render_table("Transactions", &html! {
            th { "Date" } th { "Description" } th.number { "Amount" }
            @if balances { th.wide.number { "Balance" } } @if several { th.wide { "Account" } }
        }, &html! {
            @for row in rows {
                @let facts = &row.transaction.facts;
                tr {
                    td.nowrap { (format_day(facts.booked_at)) }
                    td.text {
                        (description_or_default(facts))
                        @if facts.status == BookingStatus::Pending { " " (render_badge("idle", "Pending")) }
                        @if let Some(reference) = &facts.reference { span.note { (reference) } }
                    }
                    td.number { (render_signed_amount(facts)) }
                    @if balances { td.wide.number { @if let Some(after) = facts.balance_after { (format_amount(after)) } } }
                    @if several { td.wide { (page.account_name(row.account)) } }
                }
            }
        }))
    }
}
