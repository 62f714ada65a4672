//! What cannot be had of an account at the moment, beside what was had last: ours.

use jiff::Timestamp;
use okra_core::{
    fault::FaultClass,
    model::{ByProduct, Product},
    state::{Availability, ProductState},
};
use serde::Serialize;

use crate::scalar::Instant;

/// Why a product of an account cannot be had, or not whole; what is shown is what was had last.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lack {
    /// `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// The class of the failure, or `rows_missing` where the last answer lacked rows that are not known to
    /// be gone.
    reason: Option<&'static str>,
    /// Since when.
    since: Instant,
}

/// What is lacking of an account's products; absent where nothing is.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lacks {
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Lack>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<Lack>,
}

impl Lack {
    /// Of what is recorded of a product; none where that is available.
    pub fn of(state: &ProductState) -> Option<Self> {
        (!state.is_available()).then(|| Self {
            data_status: state.availability.as_str(),
            reason: state.class.map(FaultClass::as_str),
            since: Instant(state.since),
        })
    }

    /// Of a record whose consent the bank takes no more.
    pub const fn of_consent(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Unavailable.as_str(),
            reason: Some(FaultClass::ConsentRefused.as_str()),
            since: Instant(since),
        }
    }

    /// Of transactions whose last answer lacked rows that are not known to be gone.
    pub const fn of_rows(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Partial.as_str(),
            reason: Some("rows_missing"),
            since: Instant(since),
        }
    }
}

impl Lacks {
    /// What is lacking; none where nothing is.
    pub fn of(lacks: &ByProduct<Lack>) -> Option<Self> {
        let of = |product| lacks.get(product).copied();
        let (balance, transactions) = (of(Product::Balance), of(Product::Transactions));
        (balance.is_some() || transactions.is_some()).then_some(Self {
            balance,
            transactions,
        })
    }
}
