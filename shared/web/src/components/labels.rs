//! The label or sentence of every state, reason and choice that pages show.
//!
//! A label is said the same on every page because it stands here alone.

use okra_core::{
    model::{fault::FaultClass, interval::Interval, snapshot::Product},
    sync::{
        feed::PayloadMode,
        state::{Availability, ReauthorisationReason},
    },
};

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

pub(crate) const fn product_name(product: Product) -> &'static str {
    match product {
        Product::Balance => "Balance",
        Product::Transactions => "Transactions",
    }
}

/// `balance and transactions`.
pub(crate) fn join_product_names(products: &[Product]) -> String {
    let names = products.iter().map(|product| match product {
        Product::Balance => "balance",
        Product::Transactions => "transactions",
    });
    names.collect::<Vec<_>>().join(" and ")
}

pub(crate) const fn availability_label(availability: Availability) -> &'static str {
    match availability {
        Availability::Available => "available",
        Availability::Partial => "partly available",
        Availability::Unavailable => "not available",
        Availability::Failed => "failed",
    }
}

/// A class of failure as people read it.
pub(crate) const fn fault_class_label(class: FaultClass) -> &'static str {
    match class {
        FaultClass::BankUnavailable => "bank unavailable",
        FaultClass::RateLimited => "rate limit of the bank",
        FaultClass::QuotaSpent => "the bank's quota is spent",
        FaultClass::ConsentRejected => "consent refused",
        FaultClass::MalformedResponse => "the bank's answer cannot be read",
        FaultClass::Internal => "our own fault",
    }
}

/// The classes of a bank's fault, and what they mean.
pub(crate) const FAULT_CLASSES: [(FaultClass, &str); 6] = [
    (FaultClass::BankUnavailable, "Bank unavailable"),
    (FaultClass::RateLimited, "Rate limit"),
    (FaultClass::QuotaSpent, "Quota spent"),
    (FaultClass::ConsentRejected, "Consent refused"),
    (FaultClass::MalformedResponse, "Unreadable answer"),
    (FaultClass::Internal, "Our own fault"),
];

/// The class of this name.
pub(crate) fn find_fault_class(name: &str) -> Option<FaultClass> {
    let known = FAULT_CLASSES.into_iter().map(|(class, _)| class);
    known.into_iter().find(|class| class.as_str() == name)
}

pub(crate) const fn describe_token_reason(reason: ReauthorisationReason) -> &'static str {
    match reason {
        ReauthorisationReason::ConsentExpired => "The consent's time is over.",
        ReauthorisationReason::ConsentRejected => {
            "The bank refuses the consent: it expired, or the customer took it back."
        }
        ReauthorisationReason::UserPresenceRequired => {
            "The bank wants the customer there for each refresh."
        }
    }
}

/// What came of a refresh, in words.
pub(crate) const fn describe_refresh_outcome(outcome: Option<&str>) -> &'static str {
    let Some(outcome) = outcome else {
        return "still under way: the bank answers slowly";
    };
    match outcome.as_bytes() {
        b"unchanged" => "the bank says what is stored",
        b"changed" => "something changed",
        b"failed" => "the bank did not answer as it should; it is tried again by itself",
        b"contended" => "another refresh was faster",
        b"held" => "the bank is not asked at the moment",
        _ => "the record is gone",
    }
}

/// The states of a delivery, and what they mean.
pub(crate) const DELIVERY_STATES: [(&str, &str); 5] = [
    ("delivered", "Delivered"),
    ("retry", "To be retried"),
    ("parked", "Parked"),
    ("exhausted", "Given up"),
    ("cancelled", "Cancelled"),
];

/// What came of an attempt, in words.
pub(crate) fn describe_outcome(class: &str) -> &str {
    match class {
        "ok" => "taken",
        "redirect" => "redirected, which is not followed",
        "gone" => "gone (410): disabled",
        "throttled" => "asked to wait",
        "rejected" => "refused",
        "timeout" => "no answer in time",
        "connect" => "no connection",
        "tls" => "TLS failed",
        "dns" => "host unknown",
        "blocked" => "address not allowed",
        other => other,
    }
}

pub(crate) const fn payload_mode_label(mode: PayloadMode) -> &'static str {
    match mode {
        PayloadMode::Full => "Full",
        PayloadMode::Reference => "Reference",
    }
}
