//! The label of every state and choice that pages show, where the type itself has none.
//!
//! The rule: a page never spells a state itself, so that each reads alike on every page. The labels and sentences of
//! faults, availability and reasons are those of `okra_core`, which the API and webhooks have too.

use okra_core::{
    model::{fault::FaultClass, interval::Interval, snapshot::Product},
    sync::feed::PayloadMode,
};
use okra_store::{DeliveryState, RecordStatus};

/// `every minute`, `daily`.
pub(crate) const fn describe_interval(interval: Interval) -> &'static str {
    match interval {
        Interval::OneMinute => "every minute",
        Interval::FiveMinute => "every 5 minutes",
        Interval::FifteenMinute => "every 15 minutes",
        Interval::ThirtyMinute => "every 30 minutes",
        Interval::OneHour => "every hour",
        Interval::SixHours => "every 6 hours",
        Interval::TwelveHours => "every 12 hours",
        Interval::Daily => "daily",
    }
}

/// The name of a product, as a title.
pub(crate) const fn product_label(product: Product) -> &'static str {
    match product {
        Product::Balance => "Balance",
        Product::Transactions => "Transactions",
    }
}

/// The product of this name.
pub(crate) fn find_product(name: &str) -> Option<Product> {
    Product::ALL
        .into_iter()
        .find(|product| product.as_str() == name)
}

/// `balance and transactions`.
pub(crate) fn join_product_names(products: &[Product]) -> String {
    let names = products.iter().map(|product| product.as_str());
    names.collect::<Vec<_>>().join(" and ")
}

/// A text with its first letter as a capital.
pub(crate) fn capitalise_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// The state of a record.
pub(crate) const fn record_status_label(status: RecordStatus) -> &'static str {
    match status {
        RecordStatus::Active => "Active",
        RecordStatus::ReauthorisationRequired => "Requires the user",
        RecordStatus::Invalid => "Unlinked",
    }
}

/// Every state of a record, in the order of a choice.
pub(crate) const RECORD_STATUSES: [RecordStatus; 3] = [
    RecordStatus::Active,
    RecordStatus::ReauthorisationRequired,
    RecordStatus::Invalid,
];

/// The class of this name.
pub(crate) fn find_fault_class(name: &str) -> Option<FaultClass> {
    FaultClass::ALL
        .into_iter()
        .find(|class| class.as_str() == name)
}

/// The outcome of a refresh on demand; `None` where it was not finished within the wait.
pub(crate) const fn refresh_outcome_label(outcome: Option<&str>) -> &'static str {
    let Some(outcome) = outcome else {
        return "still in progress; the bank responds slowly";
    };
    match outcome.as_bytes() {
        b"unchanged" => "no change",
        b"changed" => "something changed",
        b"failed" => "the refresh failed; it is retried automatically",
        b"contended" => "another refresh of the record finished first",
        b"held" => "deferred; the bank is not called at the moment",
        // A job that a later one replaced has no outcome of its own.
        b"" => "replaced by a later refresh",
        _ => "the record does not exist any more",
    }
}

/// Every state of a delivery, in the order of a choice.
pub(crate) const DELIVERY_STATES: [DeliveryState; 5] = [
    DeliveryState::Delivered,
    DeliveryState::Retry,
    DeliveryState::Parked,
    DeliveryState::Exhausted,
    DeliveryState::Cancelled,
];

/// The state of a delivery.
pub(crate) const fn delivery_state_label(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Delivered => "Delivered",
        DeliveryState::Retry => "Retry scheduled",
        DeliveryState::Parked => "Parked",
        DeliveryState::Exhausted => "Given up",
        DeliveryState::Cancelled => "Cancelled",
    }
}

/// The outcome of an attempt, by its class.
pub(crate) fn attempt_outcome_label(class: &str) -> &str {
    match class {
        "ok" => "accepted",
        "redirect" => "redirect, not followed",
        "gone" => "gone (410), endpoint disabled",
        "throttled" => "throttled by the receiver",
        "rejected" => "rejected",
        "timeout" => "timed out",
        "connect" => "no connection",
        "tls" => "TLS failed",
        "dns" => "unknown host",
        "blocked" => "address not allowed",
        other => other,
    }
}

/// What is sent to an endpoint.
pub(crate) const fn payload_mode_label(mode: PayloadMode) -> &'static str {
    match mode {
        PayloadMode::Full => "Full",
        PayloadMode::Reference => "Reference",
    }
}
