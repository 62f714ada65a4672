//! What the customer agrees to, before the login at the bank: what is read, since when, how often, how long.

use jiff::{ToSpan, civil::Date};
use maud::{Markup, html};
use okra_core::{
    model::{
        bank::BankConfig,
        interval::Interval,
        snapshot::{ByProduct, Product},
    },
    sync::decide::window_start,
};

use super::{
    super::link_session::{BankLinkError, LinkProgress},
    layout::{render_bank_logo, render_step},
};
use crate::components::{format::format_date, labels::describe_interval};

/// The first day whose transactions are read of a record that is linked on `day`: so many months back, and at least the
/// window of each refresh.
pub(crate) fn first_transaction_day(day: Date, months: u8) -> Date {
    let requested = day.saturating_sub(i32::from(months).months());
    requested.min(window_start(day))
}

/// How often each product is read: what the bank allows of what is requested.
pub(crate) fn effective_schedule(link: &LinkProgress, bank: &BankConfig) -> ByProduct<Interval> {
    let mut schedule = match &link.renewed_consent {
        Some(renewed) => renewed.schedule,
        None => link.options.requested_schedule(),
    };
    for product in Product::ALL {
        let slot = schedule.get_mut(product);
        *slot = slot.map(|interval| bank.limits.effective_interval(interval));
    }
    schedule
}

/// `every hour`; or the interval of each product where they differ.
pub(crate) fn describe_schedule(schedule: ByProduct<Interval>) -> String {
    match (schedule.balance, schedule.transactions) {
        (Some(balance), Some(transactions)) if balance != transactions => format!(
            "balances {}, transactions {}",
            describe_interval(balance),
            describe_interval(transactions)
        ),
        (Some(one), _) | (None, Some(one)) => describe_interval(one).to_owned(),
        (None, None) => "never".to_owned(),
    }
}

/// What the customer agrees to, in plain words: what, since when, how often, how long.
pub(crate) fn render_consent(link: &LinkProgress, bank: &BankConfig, today: Date) -> Markup {
    let app = link.options.app_name.as_deref().unwrap_or("This app");
    let schedule = effective_schedule(link, bank);
    let since = match &link.renewed_consent {
        Some(renewed) => renewed.since,
        None => first_transaction_day(today, link.options.backfill_months),
    };
    let is_renewal = link.reauth_record.is_some();
    let title = match is_renewal {
        true => "Renew your consent",
        false => "What you agree to",
    };
    let problem = link.bank_error.map(BankLinkError::customer_message);
    render_step(
        "consent",
        title,
        &html! {
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            p { (app) " asks to read from your bank:" }
            ul.ticks {
                li { "your name and account numbers" }
                @if schedule.balance.is_some() { li { "your balances" } }
                @if schedule.transactions.is_some() { li { "your transactions, past and new" } }
            }
            dl {
                @if schedule.transactions.is_some() { dt { "Since" } dd { (format_date(since)) } }
                dt { "How often" } dd { (describe_schedule(schedule)) "; " (app) " can change how often, and not what" }
                dt { "How long" } dd { "until you or the bank end it; most banks ask again after 90 days" }
                @if let Some(host) = link.options.webhook_host() { dt { "Sent to" } dd { (host) } }
                dt { "Never" } dd { "your password, and moving money" }
            }
            form data-action="go" data-popup {
                div.actions {
                    button.main { "Continue to " (bank.name) }
                    @if !is_renewal { button type="button" data-action="banks" { "Another bank" } }
                }
            }
        },
    )
}
