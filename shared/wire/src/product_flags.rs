//! The products that Okra had, as callback data and records list them.

use serde::Serialize;

/// What Okra could do for a record, and what of it is done here.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ProductFlags {
    periodic_transactions: CountedProduct,
    guarantors: CountedProduct,
    directors: CountedProduct,
    auth: bool,
    balance: bool,
    accounts: bool,
    transactions: bool,
    income: bool,
    identity: bool,
    complete_view: bool,
    insurance_claims: bool,
    abuse_recognition: bool,
    liabilities: bool,
    spending_pattern: bool,
    investments: bool,
    revenue: bool,
    payment: bool,
    refund: bool,
    direct_debit: bool,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct CountedProduct {
    status: bool,
    number: u8,
}

impl Default for ProductFlags {
    fn default() -> Self {
        Self {
            periodic_transactions: CountedProduct::default(),
            guarantors: CountedProduct::default(),
            directors: CountedProduct::default(),
            auth: true,
            balance: true,
            accounts: true,
            transactions: true,
            income: false,
            identity: false,
            complete_view: false,
            insurance_claims: false,
            abuse_recognition: false,
            liabilities: false,
            spending_pattern: false,
            investments: false,
            revenue: false,
            payment: false,
            refund: false,
            direct_debit: false,
        }
    }
}
