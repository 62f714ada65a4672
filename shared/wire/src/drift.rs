//! A disagreement between an account's balance and its transactions, as resources and events show it.

use okra_core::{model::money::Currency, sync::drift};
use serde::Serialize;

use crate::scalar::{IsoInstant, MajorUnits};

/// A disagreement between an account's balance and its transactions; see `docs/SYNC.md`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DriftResource {
    /// What the balance has more than the transactions explain.
    amount: MajorUnits,
    currency: Currency,
    /// When it was first seen.
    since: IsoInstant,
    /// `running_balance`, `closing_balance` or `balance_movement`.
    check: &'static str,
    /// Days whose rows do not tie.
    days: u32,
}

impl From<&drift::Drift> for DriftResource {
    fn from(drift: &drift::Drift) -> Self {
        Self {
            amount: MajorUnits(drift.amount),
            currency: drift.amount.currency,
            since: IsoInstant(drift.since),
            check: drift.check.as_str(),
            days: drift.days,
        }
    }
}
