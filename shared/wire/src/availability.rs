//! Which products of an account are not available, or only partly, beside their last good state. An extension of Okra's
//! resources.

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

/// Why a product of an account is not available, or only partly; its resource shows the last good state.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AvailabilityResource {
    /// `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// The class of the failure, or `rows_missing` where rows are pending deletion.
    reason: Option<&'static str>,
    /// Since when.
    since: IsoInstant,
}

/// The products of an account that are not available; a product that is available is absent.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AccountAvailabilityResource {
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<AvailabilityResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<AvailabilityResource>,
}

impl AvailabilityResource {
    /// `None` where the product is available.
    pub fn from_product_state(state: &ProductState) -> Option<Self> {
        (!state.is_available()).then(|| Self {
            data_status: state.availability.as_str(),
            reason: state.class.map(FaultClass::as_str),
            since: IsoInstant(state.since),
        })
    }

    /// For a record whose consent the bank rejects.
    pub const fn for_revoked_consent(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Unavailable.as_str(),
            reason: Some(FaultClass::ConsentRejected.as_str()),
            since: IsoInstant(since),
        }
    }

    /// For transactions of which some are pending deletion.
    pub const fn for_missing_rows(since: Timestamp) -> Self {
        Self {
            data_status: Availability::Partial.as_str(),
            reason: Some("rows_missing"),
            since: IsoInstant(since),
        }
    }
}

impl AccountAvailabilityResource {
    /// `None` where every product is available.
    pub fn from_products(products: &ByProduct<AvailabilityResource>) -> Option<Self> {
        let balance = products.get(Product::Balance).copied();
        let transactions = products.get(Product::Transactions).copied();
        (balance.is_some() || transactions.is_some()).then_some(Self {
            balance,
            transactions,
        })
    }
}
