//! The webhooks that the demo app receives, as lines.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    printer::{LinePrinter, LineSource},
    receiver::{EventArrival, ReceivedCallback, ReceivedEvent},
};

/// New and changed transactions up to which the latest is described.
const MAX_DESCRIBED_CHANGES: u64 = 2;

/// Prints each event that the receiver accepts.
pub(super) fn print_received_events(printer: &LinePrinter) -> ReceivedCallback {
    let printer = printer.clone();
    Arc::new(
        move |received: &ReceivedEvent, event: &Value, arrival| match arrival {
            EventArrival::Duplicate => printer.print_line(
                LineSource::App,
                &format!("{} was received again and recognised", received.id),
            ),
            EventArrival::First => {
                let name = event["event"].as_str().unwrap_or("an event");
                let text = describe_event(event);
                printer.print_line(
                    LineSource::App,
                    &format!("{name} #{}: {text}", received.seq),
                );
            }
        },
    )
}

fn describe_event(event: &Value) -> String {
    let who = event["options"]["UserId"].as_str().unwrap_or("a customer");
    match event.get("balance").filter(|balance| balance.is_object()) {
        Some(balance) => format!(
            "{who} now has {} {}",
            balance["currency"].as_str().unwrap_or("in cash"),
            balance["available_balance"]
        ),
        None => describe_transactions(who, event),
    }
}

/// Counts an event's transactions, and describes the latest where there are few. Members that are absent count as none.
fn describe_transactions(who: &str, event: &Value) -> String {
    let new = event["new_transactions"].as_u64().unwrap_or(0);
    let modified = count_entries(&event["modified_transactions"]);
    let removed = count_entries(&event["removed_transactions"]);
    let latest = event["transactions"]
        .as_array()
        .and_then(|rows| rows.last())
        .filter(|_| new + modified <= MAX_DESCRIBED_CHANGES)
        .map(describe_latest);
    format!(
        "{who} has {new} new, {modified} changed, {removed} removed transactions{}",
        latest.unwrap_or_default()
    )
}

fn count_entries(list: &Value) -> u64 {
    list.as_array().map_or(0, |entries| entries.len() as u64)
}

fn describe_latest(row: &Value) -> String {
    let (sign, amount) = if row["credit"].is_null() {
        ("-", &row["debit"])
    } else {
        ("+", &row["credit"])
    };
    let pending = if row["pending"] == true {
        ", pending"
    } else {
        ""
    };
    let description = row["notes"]["desc"].as_str().unwrap_or("");
    format!(": {sign}{amount} {description}{pending}")
}
