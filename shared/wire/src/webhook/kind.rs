//! [`EventKind`]: every event that an endpoint can be sent, with its name, method, code and message, once.
//!
//! A new event is a variant here with its row in [`DESCRIPTIONS`], its payload, and its schema.

use okra_core::{
    model::snapshot::Product,
    sync::{
        feed::{Change, FetchKind, TransactionsDiff},
        state::{ProductChange, StateChange},
    },
};

/// An event that an endpoint can be sent. The first eleven are about records, the rest about an app's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A record was linked.
    RecordLinked,
    /// An account came with a record that was linked.
    AccountLinked,
    /// A balance changed.
    BalanceChanged,
    /// Transactions were added, modified or removed.
    TransactionsChanged,
    /// The backfill of an account is complete.
    BackfillComplete,
    /// The availability of a product changed.
    ProductStateChanged,
    /// The balance and the transactions of an account disagree, or agree again.
    DriftChanged,
    /// The user has to authorise the record again.
    ReauthorisationRequired,
    /// A record is refreshed again.
    RecordRecovered,
    /// A consent is about to end.
    ConsentExpiring,
    /// A record was unlinked.
    RecordUnlinked,
    /// An endpoint has been failing for whole days.
    EndpointFailing,
    /// Events for an endpoint are parked.
    EndpointParked,
    /// An endpoint was disabled.
    EndpointDisabled,
    /// An endpoint accepts events again.
    EndpointRecovered,
    /// An event was given up for an endpoint.
    DeliveryExhausted,
    /// A ping, sent at registration and on request. No filter names it.
    WebhookPing,
}

/// What is fixed about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventDescription {
    /// The name, by which endpoints filter.
    pub name: &'static str,
    /// Okra's method: the product or the thing that the event is about.
    pub method: &'static str,
    /// Okra's code.
    pub code: &'static str,
    /// The sentence of the body.
    pub message: &'static str,
}

impl EventKind {
    /// The events that a filter can name.
    pub const FILTERABLE: [Self; 16] = [
        Self::RecordLinked,
        Self::AccountLinked,
        Self::BalanceChanged,
        Self::TransactionsChanged,
        Self::BackfillComplete,
        Self::ProductStateChanged,
        Self::DriftChanged,
        Self::ReauthorisationRequired,
        Self::RecordRecovered,
        Self::ConsentExpiring,
        Self::RecordUnlinked,
        Self::EndpointFailing,
        Self::EndpointParked,
        Self::EndpointDisabled,
        Self::EndpointRecovered,
        Self::DeliveryExhausted,
    ];

    /// The event of a change.
    pub const fn for_change(change: &Change) -> Self {
        match change {
            Change::Balance { .. } => Self::BalanceChanged,
            Change::Transactions(_) => Self::TransactionsChanged,
            Change::State(state) => match state {
                StateChange::Linked => Self::RecordLinked,
                StateChange::AccountLinked => Self::AccountLinked,
                StateChange::ReauthorisationRequired { .. } => Self::ReauthorisationRequired,
                StateChange::Recovered => Self::RecordRecovered,
                StateChange::ConsentExpiring { .. } => Self::ConsentExpiring,
                StateChange::Product(_) => Self::ProductStateChanged,
                StateChange::BackfillComplete(_) => Self::BackfillComplete,
                StateChange::Drift { .. } => Self::DriftChanged,
                StateChange::Unlinked => Self::RecordUnlinked,
            },
        }
    }

    /// The event of a change with its method and code, where these depend on what changed: a product's method, and
    /// how transactions were found.
    pub(super) fn describe_change(change: &Change) -> EventDescription {
        let fixed = Self::for_change(change).describe();
        match change {
            Change::State(StateChange::Product(ProductChange { product, .. })) => {
                EventDescription {
                    method: product_method(*product),
                    ..fixed
                }
            }
            Change::Transactions(diff) => EventDescription {
                code: transactions_code(diff),
                ..fixed
            },
            Change::State(_) | Change::Balance { .. } => fixed,
        }
    }

    /// The name, by which endpoints filter: Okra's `balance.success` and `transaction.success`, and ours in their manner.
    pub const fn name(self) -> &'static str {
        self.describe().name
    }

    /// Name, method, code and message.
    pub const fn describe(self) -> EventDescription {
        DESCRIPTIONS[self as usize]
    }
}

/// One row for each [`EventKind`], in the order of its variants.
const DESCRIPTIONS: [EventDescription; EventKind::FILTERABLE.len() + 1] = [
    EventDescription {
        name: "auth.success",
        method: "AUTH",
        code: "AUTH_SUCCESS",
        message: "Record callback started!",
    },
    EventDescription {
        name: "accounts.success",
        method: "ACCOUNTS",
        code: "ACCOUNTS_SUCCESS",
        message: "Successfully fetched accounts",
    },
    EventDescription {
        name: "balance.success",
        method: "BALANCE",
        code: "BALANCE_SUCCESS",
        message: "Successfully fetched balance",
    },
    EventDescription {
        name: "transaction.success",
        method: "TRANSACTIONS",
        code: "PERIODIC_TRANSACTIONS",
        message: "Successfully fetched transactions",
    },
    EventDescription {
        name: "transaction.history_complete",
        method: "TRANSACTIONS",
        code: "FULL_TRANSACTIONS",
        message: "Successfully fetched transactions",
    },
    EventDescription {
        name: "product.state",
        method: "BALANCE",
        code: "PRODUCT_STATE",
        message: "The state of a product changed",
    },
    EventDescription {
        name: "account.drift",
        method: "BALANCE",
        code: "DRIFT",
        message: "Balance and transactions of an account disagree, or agree again",
    },
    EventDescription {
        name: "record.token_required",
        method: "AUTH",
        code: "TOKEN_REQUIRED",
        message: "The user has to authorise the record again",
    },
    EventDescription {
        name: "record.recovered",
        method: "AUTH",
        code: "RECOVERED",
        message: "The record is refreshed again",
    },
    EventDescription {
        name: "record.consent_expiring",
        method: "AUTH",
        code: "CONSENT_EXPIRING",
        message: "The consent of the record will end",
    },
    EventDescription {
        name: "record.unlinked",
        method: "AUTH",
        code: "UNLINKED",
        message: "The record was unlinked",
    },
    EventDescription {
        name: "endpoint.failing",
        method: "ENDPOINT",
        code: "ENDPOINT_FAILING",
        message: "An endpoint has been failing for days",
    },
    EventDescription {
        name: "endpoint.parked",
        method: "ENDPOINT",
        code: "ENDPOINT_PARKED",
        message: "An endpoint is down; its events are parked until it is back",
    },
    EventDescription {
        name: "endpoint.disabled",
        method: "ENDPOINT",
        code: "ENDPOINT_DISABLED",
        message: "An endpoint was disabled; its events are parked",
    },
    EventDescription {
        name: "endpoint.recovered",
        method: "ENDPOINT",
        code: "ENDPOINT_RECOVERED",
        message: "An endpoint accepts events again",
    },
    EventDescription {
        name: "delivery.exhausted",
        method: "DELIVERY",
        code: "DELIVERY_EXHAUSTED",
        message: "An event was given up for an endpoint",
    },
    EventDescription {
        name: "webhook.ping",
        method: "PING",
        code: "WEBHOOK_PING",
        message: "A ping, to see whether this endpoint answers",
    },
];

const fn product_method(product: Product) -> &'static str {
    match product {
        Product::Balance => "BALANCE",
        Product::Transactions => "TRANSACTIONS",
    }
}

/// The code of changed transactions: how they were found, or that all of them are gone.
pub(super) fn transactions_code(diff: &TransactionsDiff) -> &'static str {
    if diff.added.is_empty() && diff.modified.is_empty() && !diff.removed.is_empty() {
        return "TRANSACTIONS_DELETED";
    }
    match diff.fetch_kind {
        // Okra's page spelled it with an S; receivers were seen to compare with this.
        FetchKind::Initial => "INITIAL_TRANSACTION",
        // Not Okra's: its `FULL_TRANSACTIONS` says that all of it is there.
        FetchKind::Backfill => "HISTORICAL_TRANSACTIONS",
        FetchKind::Periodic => "PERIODIC_TRANSACTIONS",
    }
}

/// The name of the event of a change.
pub const fn event_name(change: &Change) -> &'static str {
    EventKind::for_change(change).name()
}

/// The names of the events that a filter can name. Those about endpoints are sent only to endpoints that name them.
pub const EVENT_NAMES: [&str; EventKind::FILTERABLE.len()] = {
    let mut names = [""; EventKind::FILTERABLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = EventKind::FILTERABLE[index].name();
        index += 1;
    }
    names
};

/// True where a filter (a name, `family.*` or `*`) matches an event.
pub fn event_matches(filter: &str, name: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(family) => name.starts_with(family),
        None => filter == name,
    }
}

/// True for a filter that matches at least one of [`EVENT_NAMES`].
pub fn is_event_filter(filter: &str) -> bool {
    let is_whole_family = filter == "*" || !filter.ends_with('*') || filter.ends_with(".*");
    is_whole_family && EVENT_NAMES.iter().any(|name| event_matches(filter, name))
}
