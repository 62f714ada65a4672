//! What a million refreshes cost, from counted units, stated assumptions and [`prices`](crate::prices).

use std::fmt::Write as _;

use crate::prices;

/// Units of one refresh or one change. Those of the table are counted by the commands in
/// `docs/COSTS.md`; bytes of messages, calls, webhooks and logs are estimated from one of each.
#[derive(Clone, Copy, Debug)]
pub struct CostUnits {
    /// Read units of an unchanged refresh: its share of the slot's query, its consent, its share of audits.
    pub unchanged_reads: f64,
    /// Read units that a changed refresh adds: due entry, head, window, accounts.
    pub changed_reads: f64,
    /// Write units of a changed refresh: three new transactions, without and with a new balance.
    pub changed_writes: [f64; 2],
    /// Read units of telling one endpoint of one event.
    pub delivery_reads: f64,
    /// Write units of the same.
    pub delivery_writes: f64,
    /// Feed entries of a change, without and with a new balance.
    pub events_per_change: [f64; 2],
    /// Bytes of a chunk's message for each of its records.
    pub chunk_bytes: f64,
    /// Bytes sent to a bank for each of a refresh's calls. A request is about 280; its TLS record and its
    /// packet add 80, and every second packet of the answer is acknowledged with 52: 10 for 28 KB of
    /// transactions, 1 for a balance.
    pub call_bytes: f64,
    /// Bytes of a webhook sent, with its headers.
    pub webhook_bytes: f64,
    /// Bytes of log lines of a chunk, and of a webhook.
    pub log_bytes: (f64, f64),
}

/// The units of the product as it is.
pub const MEASURED_UNITS: CostUnits = CostUnits {
    unchanged_reads: 0.536,
    changed_reads: 10.0,
    changed_writes: [8.0, 9.0],
    delivery_reads: 6.0,
    delivery_writes: 1.0,
    events_per_change: [1.0, 2.0],
    chunk_bytes: 210.0,
    call_bytes: 650.0,
    webhook_bytes: 2_400.0,
    log_bytes: (420.0, 330.0),
};

/// Gigabytes at which Lambda gives a function a whole core; less memory, less of it.
const GB_PER_CORE: f64 = 1.769;

/// What the world around is taken to be.
#[derive(Clone, Copy, Debug)]
pub struct CostAssumptions {
    /// Records of a chunk.
    pub records_per_chunk: f64,
    /// Calls of a refresh: one account, balance and transactions.
    pub calls_per_refresh: f64,
    /// Seconds a bank takes for a call.
    pub bank_s: f64,
    /// Records in flight in one invocation.
    pub in_flight: f64,
    /// Gigabytes of the fetch and deliver functions.
    pub memory_gb: f64,
    /// Seconds of a whole core for a refresh, and for a delivery.
    pub cpu_s: (f64, f64),
    /// Seconds a receiver takes, and deliveries in flight in one invocation.
    pub receiver_s_and_in_flight: (f64, f64),
    /// Share of refreshes that find a change.
    pub changed_fraction: f64,
    /// Whether a change moves the balance as well.
    pub changes_move_balance: bool,
    /// Messages that are sent, received or deleted by one request.
    pub messages_per_request: f64,
}

/// The usual ones; `changed` is none.
pub const USUAL_ASSUMPTIONS: CostAssumptions = CostAssumptions {
    records_per_chunk: 100.0,
    calls_per_refresh: 2.0,
    bank_s: 0.4,
    in_flight: 32.0,
    memory_gb: 0.125,
    cpu_s: (0.000_5, 0.001),
    receiver_s_and_in_flight: (0.3, 10.0),
    changed_fraction: 0.0,
    changes_move_balance: false,
    messages_per_request: 10.0,
};

/// Dollars of a million refreshes, by what they are paid for.
#[derive(Clone, Debug)]
pub struct CostBreakdown(pub Vec<(&'static str, f64)>);

impl CostBreakdown {
    /// All of it.
    pub fn total_dollars(&self) -> f64 {
        self.0.iter().map(|(_, dollars)| dollars).sum()
    }
}

/// The costs of a million refreshes.
pub fn estimate_costs(units: CostUnits, assumptions: CostAssumptions) -> CostBreakdown {
    const M: f64 = 1e6;
    const GB: f64 = 1e9;
    let refreshes = M;
    let chunks = refreshes / assumptions.records_per_chunk;
    let changes = refreshes * assumptions.changed_fraction;
    let with_balance = usize::from(assumptions.changes_move_balance);
    let per_change = units.events_per_change[with_balance];
    let events = changes * per_change;
    // Chunks are sent in batches, and each is received and deleted alone. A change's dispatches are one
    // batch, and are received and deleted in batches with those of others.
    let chunk =
        (assumptions.records_per_chunk * units.chunk_bytes / prices::SQS_REQUEST_BYTES).ceil();
    let chunk_requests = chunk * (1.0 / assumptions.messages_per_request + 2.0);
    let dispatch_requests = 1.0 + per_change * 2.0 / assumptions.messages_per_request;
    // The function waits in waves and computes besides; taken one after the other, which is the most.
    let share = (assumptions.memory_gb / GB_PER_CORE).min(1.0);
    let waves = (assumptions.records_per_chunk / assumptions.in_flight).ceil();
    let seconds = chunks * waves * assumptions.calls_per_refresh * assumptions.bank_s
        + refreshes * assumptions.cpu_s.0 / share;
    let telling = events
        * (assumptions.receiver_s_and_in_flight.0 / assumptions.receiver_s_and_in_flight.1
            + assumptions.cpu_s.1 / share);
    let tellings = changes / assumptions.receiver_s_and_in_flight.1;
    CostBreakdown(vec![
        (
            "reads of due entries and consents",
            refreshes / M * units.unchanged_reads * prices::PER_MILLION_READ_UNITS,
        ),
        (
            "chunk messages",
            chunks / M * chunk_requests * prices::PER_MILLION_SQS_REQUESTS,
        ),
        (
            "fetch function",
            chunks / M * prices::PER_MILLION_LAMBDA_REQUESTS
                + seconds * assumptions.memory_gb * prices::PER_LAMBDA_GB_SECOND,
        ),
        (
            "requests to banks",
            refreshes * assumptions.calls_per_refresh * units.call_bytes / GB
                * prices::PER_EGRESS_GB,
        ),
        (
            "logs of chunks",
            chunks * units.log_bytes.0 / GB * prices::PER_LOGS_GB,
        ),
        (
            "reads of changes",
            changes / M * units.changed_reads * prices::PER_MILLION_READ_UNITS,
        ),
        (
            "writes of changes",
            changes / M * units.changed_writes[with_balance] * prices::PER_MILLION_WRITE_UNITS,
        ),
        (
            "dispatch messages",
            changes / M * dispatch_requests * prices::PER_MILLION_SQS_REQUESTS,
        ),
        (
            "deliveries' table units",
            events / M
                * (units.delivery_reads * prices::PER_MILLION_READ_UNITS
                    + units.delivery_writes * prices::PER_MILLION_WRITE_UNITS),
        ),
        (
            "deliver function",
            tellings / M * prices::PER_MILLION_LAMBDA_REQUESTS
                + telling * assumptions.memory_gb * prices::PER_LAMBDA_GB_SECOND,
        ),
        (
            "webhooks sent",
            events * units.webhook_bytes / GB * prices::PER_EGRESS_GB,
        ),
        (
            "logs of webhooks",
            events * units.log_bytes.1 / GB * prices::PER_LOGS_GB,
        ),
    ])
}

/// The columns: nothing changes; 5 % find three new transactions; 5 % find these and a new balance.
fn estimate_columns(assumptions: CostAssumptions) -> [CostBreakdown; 3] {
    [(0.0, false), (0.05, false), (0.05, true)].map(|(changed, balance)| {
        estimate_costs(
            MEASURED_UNITS,
            CostAssumptions {
                changed_fraction: changed,
                changes_move_balance: balance,
                ..assumptions
            },
        )
    })
}

/// The table of `docs/COSTS.md`.
pub fn render_cost_table() -> String {
    let all = estimate_columns(USUAL_ASSUMPTIONS);
    let mut text = format!(
        "| dollars for a million refreshes, prices of {} | unchanged | 5 % find 3 new transactions | 5 % find these and a new balance |\n|---|---|---|---|\n",
        prices::PRICES_AS_OF
    );
    for (at, (what, unchanged)) in all[0].0.iter().enumerate() {
        let [_, one, two] = [0, 1, 2].map(|column: usize| all[column].0[at].1);
        let _ = writeln!(text, "| {what} | {unchanged:.4} | {one:.4} | {two:.4} |");
    }
    let [unchanged, one, two] = all.map(|costs| costs.total_dollars());
    let _ = writeln!(
        text,
        "| **all** | **{unchanged:.2}** | **{one:.2}** | **{two:.2}** |"
    );
    text.push_str("\n| a bank takes, for a call | in flight | unchanged | 5 %, transactions | 5 %, and balance |\n|---|---|---|---|---|\n");
    for (bank_s, in_flight) in [
        (0.2, 32.0),
        (0.4, 16.0),
        (0.4, 32.0),
        (0.8, 32.0),
        (0.8, 50.0),
        (2.0, 50.0),
    ] {
        let [unchanged, one, two] = estimate_columns(CostAssumptions {
            bank_s,
            in_flight,
            ..USUAL_ASSUMPTIONS
        })
        .map(|costs| costs.total_dollars());
        let _ = writeln!(
            text,
            "| {bank_s} s | {in_flight} | {unchanged:.2} | {one:.2} | {two:.2} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_refreshes_are_within_budget() {
        let [unchanged, rows, all] =
            estimate_columns(USUAL_ASSUMPTIONS).map(|costs| costs.total_dollars());
        assert!(unchanged <= 0.35, "{unchanged}");
        assert!(rows <= 0.80, "{rows}");
        // Beyond the budget's own case, and close to it: a balance changes with every transaction.
        assert!(all <= 0.85, "{all}");
    }

    #[test]
    fn the_document_has_this_table() {
        let document = include_str!("../../../docs/COSTS.md");
        assert!(
            document.contains(&render_cost_table()),
            "docs/COSTS.md should have:\n{}",
            render_cost_table()
        );
    }
}
