//! Banks.

use okra_core::{
    bank::BankConfig,
    breaker::{BankStatus, Breaker},
    ids::BankId,
};
use serde::Serialize;

use crate::scalar::Instant;

/// A bank as `banks/list` shows it. Pictures, colours and sort codes were Okra's own; they are empty.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Bank {
    /// The id.
    pub id: BankId,
    /// The id again, as documents have it.
    pub _id: BankId,
    /// The name.
    pub name: String,
    /// The slug.
    pub slug: String,
    sortcode: &'static str,
    alt_sortcode: &'static str,
    icon: &'static str,
    logo: &'static str,
    v2_icon: &'static str,
    v2_logo: &'static str,
    colors: Colors,
    products: [&'static str; 4],
    countries: [String; 1],
    corporate: bool,
    individual: bool,
    ussd: bool,
    secret_question_or_otp: bool,
    secret_question_or_otp_mobile: bool,
    secret_question_or_otp_corp: bool,
    payments: Payments,
    status: &'static str,
    /// How the bank does, as refreshes find it: `HEALTHY`, `DEGRADED` or `DOWN`. It and what follows are
    /// ours.
    operational_status: &'static str,
    /// Since when it does not do well.
    down_since: Option<Instant>,
    /// When it is asked next whether it is back, where it is down; until then nothing is refreshed.
    next_probe_at: Option<Instant>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
struct Colors {
    primary: &'static str,
    accent: &'static str,
    bg: &'static str,
    button: &'static str,
    icon: &'static str,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
struct Payments {
    ind: bool,
    corp: bool,
    mobile: bool,
    ussd: bool,
    web: bool,
    secret: bool,
}

impl From<&BankConfig> for Bank {
    fn from(bank: &BankConfig) -> Self {
        Self {
            id: bank.id,
            _id: bank.id,
            name: bank.name.clone(),
            slug: bank.slug.clone(),
            sortcode: "",
            alt_sortcode: "",
            icon: "",
            logo: "",
            v2_icon: "",
            v2_logo: "",
            colors: Colors::default(),
            products: ["auth", "accounts", "balance", "transactions"],
            countries: [bank.country.clone()],
            corporate: true,
            individual: true,
            ussd: false,
            // Without the customer there it gives nothing: that is what these flags warned of.
            secret_question_or_otp: bank.limits.user_present_only,
            secret_question_or_otp_mobile: false,
            secret_question_or_otp_corp: false,
            payments: Payments::default(),
            status: "active",
            operational_status: BankStatus::Healthy.as_str(),
            down_since: None,
            next_probe_at: None,
        }
    }
}

impl Bank {
    /// The same bank, and how it does.
    #[must_use]
    pub fn doing(self, breaker: &Breaker) -> Self {
        Self {
            operational_status: breaker.status().as_str(),
            down_since: breaker.since().map(Instant),
            next_probe_at: breaker.probe_at().map(Instant),
            ..self
        }
    }
}

/// What `banks/list` answers. `credentials` is null, as Okra's was without a customer.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Banks {
    /// The banks.
    pub banks: Vec<Bank>,
    /// Always null.
    pub credentials: (),
}
