//! What happens at the sandbox bank, as lines, and the demo's first purchase.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use okra_core::model::snapshot::{BookingStatus, Direction};
use okra_sandbox::{
    AccountAddress, LoginId, LoginView, NewTransaction, RowKey, RowView, SandboxBank,
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::app::{DemoApp, DemoCustomer};
use crate::{
    api_client::ApiClient,
    printer::{LinePrinter, LineSource},
};

/// How often the bank's rows are read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// When the demo app's first customer buys something.
const FIRST_PURCHASE_DELAY: Duration = Duration::from_secs(4);

/// The status of each row that was printed, or that was there before.
type PrintedRows = HashMap<(LoginId, String, RowKey), BookingStatus>;

/// Prints each row of the demo's customers that appears or is booked at the bank.
pub(super) fn print_bank_movements(
    tasks: &mut JoinSet<()>,
    printer: &LinePrinter,
    bank: &SandboxBank,
    demo: &DemoApp,
) {
    let (printer, bank) = (printer.clone(), bank.clone());
    let names: Vec<String> = demo
        .customers
        .iter()
        .map(|customer| customer.name.clone())
        .collect();
    tasks.spawn(async move {
        let mut printed = PrintedRows::new();
        let mut is_first_poll = true;
        loop {
            for login in bank.list_logins() {
                if !names.contains(&login.name) {
                    continue;
                }
                for movement in find_new_movements(&bank, &login, &mut printed) {
                    // The rows that were there at the start are history.
                    if !is_first_poll {
                        printer.print_line(LineSource::Bank, &movement);
                    }
                }
            }
            is_first_poll = false;
            sleep(POLL_INTERVAL).await;
        }
    });
}

/// Describes the login's rows that are new or have another status, and remembers them.
fn find_new_movements(
    bank: &SandboxBank,
    login: &LoginView,
    printed: &mut PrintedRows,
) -> Vec<String> {
    let mut movements = Vec::new();
    for account in &login.accounts {
        let address = AccountAddress {
            login: login.id,
            account_id: account.account_id.clone(),
        };
        for row in bank.list_rows(&address).into_iter().flatten() {
            let key = (login.id, account.account_id.clone(), row.row);
            let previous_status = printed.insert(key, row.status);
            if previous_status != Some(row.status) {
                movements.push(describe_movement(&login.name, &row, previous_status));
            }
        }
    }
    movements
}

fn describe_movement(name: &str, row: &RowView, previous_status: Option<BookingStatus>) -> String {
    let (amount, text) = (&row.amount, &row.text);
    let verb = match row.direction {
        Direction::Credit => "receives",
        Direction::Debit => "pays",
    };
    match (previous_status, row.status) {
        (Some(_), _) => format!("{name}: {text} is booked, {amount}"),
        (None, BookingStatus::Pending) => format!("{name} {verb} {amount}, {text} (pending)"),
        (None, BookingStatus::Booked) => format!("{name} {verb} {amount}, {text}"),
    }
}

/// Schedules a purchase soon after the start, and a refresh by the app right after it, so that a newcomer sees the whole
/// way of a transaction at once and not at the next minute.
pub(super) fn schedule_first_purchase(
    tasks: &mut JoinSet<()>,
    printer: &LinePrinter,
    bank: &SandboxBank,
    demo: &DemoApp,
    port: u16,
) {
    let Some(customer) = demo.customers.first().cloned() else {
        return;
    };
    let (printer, bank, key) = (printer.clone(), bank.clone(), demo.secret_key.clone());
    tasks.spawn(async move {
        sleep(FIRST_PURCHASE_DELAY).await;
        if let Err(error) = make_purchase(&bank, &customer) {
            let text = format!("the first purchase failed: {error:#}");
            printer.print_line(LineSource::Note, &text);
            return;
        }
        // Long enough for its line to be printed before the app's.
        sleep(POLL_INTERVAL * 2).await;
        let text = format!(
            "{} pulls down to refresh: POST /v2/transactions/refresh",
            customer.name
        );
        printer.print_line(LineSource::App, &text);
        if let Err(error) = refresh_transactions(port, &key, &customer).await {
            let text = format!("the refresh failed: {error:#}");
            printer.print_line(LineSource::Note, &text);
        }
    });
}

fn make_purchase(bank: &SandboxBank, customer: &DemoCustomer) -> anyhow::Result<()> {
    let logins = bank.list_logins();
    let login = logins
        .iter()
        .find(|login| login.name == customer.name)
        .context("the customer has no login at the bank")?;
    let account = login.accounts.first().context("the login has no account")?;
    let address = AccountAddress {
        login: login.id,
        account_id: account.account_id.clone(),
    };
    let purchase = NewTransaction {
        direction: Direction::Debit,
        amount: "2450.00".to_owned(),
        text: "POS SHOPRITE IKEJA".to_owned(),
        status: BookingStatus::Booked,
        booking_time: None,
        id: None,
    };
    bank.add_row(address, purchase)?;
    Ok(())
}

async fn refresh_transactions(port: u16, key: &str, customer: &DemoCustomer) -> anyhow::Result<()> {
    let request = json!({ "record_id": customer.record });
    let api = ApiClient::for_local_port(port, key)?;
    api.post_json::<Value>("transactions/refresh", &request)
        .await?;
    Ok(())
}
