//! The accounts of a record, each with its balance now and over time.

use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    model::{money::Money, snapshot::BalanceFacts},
    sync::feed::Change,
};
use okra_store::Account;

use super::load::RecordPage;
use crate::components::{
    chart::StepChart,
    format::{format_amount, mask_account_number, render_id, render_money, render_relative_time},
    parts::render_empty_state,
};

/// Points of a chart at most: more would not be seen, and a page is below 100 KB.
const MAX_CHART_POINTS: usize = 240;

pub(crate) fn render_accounts(page: &RecordPage) -> Markup {
    if page.accounts.is_empty() {
        return render_empty_state(
            "No accounts",
            &html! { p { "The record's consent does not cover any account any more." } },
        );
    }
    html! {
        div.accounts {
            @for account in &page.accounts {
                article.card {
                    div.account {
                        h3 { (account.facts.name) span.note { (account.facts.kind) " " (mask_account_number(&account.facts.number)) } }
                        @match account.balance.and_then(spendable_amount) {
                            Some(amount) => p.big { (render_money(amount)) },
                            None => p.big.none { "No balance yet" },
                        }
                        @if let Some(other) = account.balance.and_then(differing_ledger) {
                            p.note { "Ledger balance " (render_money(other)) }
                        }
                        @if let Some(at) = account.balance_at {
                            p.note { "Changed " (render_relative_time(page.now, at)) }
                        }
                        p.note { (render_id(account.id)) }
                    }
                    (render_balance_chart(page, account))
                }
            }
        }
    }
}

/// The balances of an account over time, as minor units, oldest first.
fn collect_balance_points(page: &RecordPage, account: &Account) -> Vec<(Timestamp, i64)> {
    let entries = page.recent_entries.iter();
    entries
        .filter(|entry| entry.account == Some(account.id))
        .filter_map(|entry| match &entry.change {
            Change::Balance { after, .. } => {
                Some((entry.committed_at, spendable_amount(*after)?.minor))
            }
            Change::Transactions(_) | Change::State(_) => None,
        })
        .collect()
}

fn render_balance_chart(page: &RecordPage, account: &Account) -> Markup {
    let mut points = collect_balance_points(page, account);
    if points.is_empty() {
        return html! { p.note.chart { "The chart begins with the first balance." } };
    }
    let skip = points.len().saturating_sub(MAX_CHART_POINTS);
    points.drain(..skip);
    let currency = account.facts.currency;
    let last = points.last().map_or(0, |point| point.1);
    let label = format!(
        "Balance of {} over time: {} changes, now {} {currency}",
        account.facts.name,
        points.len(),
        format_amount(Money::new(last, currency)),
    );
    StepChart {
        label,
        points: &points,
        until: page.now,
        format_value: &|minor| format_amount(Money::new(minor, currency)),
    }
    .render_svg()
}

/// The available balance; the ledger balance where the bank does not report the available one.
fn spendable_amount(balance: BalanceFacts) -> Option<Money> {
    balance.available.or(balance.ledger)
}

/// The ledger balance, where it differs from the available one.
fn differing_ledger(balance: BalanceFacts) -> Option<Money> {
    balance
        .ledger
        .filter(|ledger| balance.available.is_some_and(|it| it != *ledger))
}
