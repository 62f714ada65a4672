//! What cannot be had of an account at the moment, beside what was had last: ours.

use jiff::Timestamp;
use okra_core::{
    model::{
        fault::FaultClass,
        snapshot::{ByProduct, Product},
    },
    sync::state::{Availability, ProductState},
};
use serde::Serialize;

use crate::scalar::IsoInstant;

/// Why a product of an account cannot be had, or not whole; what is shown is what was had last.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AvailabilityResource {
    /// `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// The class of the failure, or `rows_missing` where the last answer lacked rows that are not known to
    /// be gone.
    reason: Option<&'static str>,
    /// Since when.
    since: IsoInstant,
}

/// What is lacking of an account's products; absent where nothing is.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AccountAvailabilityResource {
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<AvailabilityResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<AvailabilityResource>,
}

impl AvailabilityResource {
    /// Of what is recorded of a product; none where that is available.
    pub fn from_product_state(state: &ProductState) -> Option<Self> {
        (!state.is_available()).then(|| Self {
            data_status: state.availability.as_str(),
            reason: state.class.map(FaultClass::as_str),
            since: IsoInstant(state.since),
        })
    }

    /// Of a record whose consent the bank takes no more.
    pub const fn for_revoked_consent(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Unavailable.as_str(),
            reason: Some(FaultClass::ConsentRejected.as_str()),
            since: IsoInstant(since),
        }
    }

    /// Of transactions whose last answer lacked rows that are not known to be gone.
    pub const fn for_missing_rows(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Partial.as_str(),
            reason: Some("rows_missing"),
            since: IsoInstant(since),
        }
    }
}

impl AccountAvailabilityResource {
    /// What is lacking; none where nothing is.
    pub fn from_products(products: &ByProduct<AvailabilityResource>) -> Option<Self> {
        let of = |product| products.get(product).copied();
        let (balance, transactions) = (of(Product::Balance), of(Product::Transactions));
        (balance.is_some() || transactions.is_some()).then_some(Self {
            balance,
            transactions,
        })
    }
}
