//! Banks.

use okra_core::{
    model::{bank::BankConfig, ids::BankId},
    resilience::bank_breaker::{BankBreaker, BankStatus},
};
use serde::Serialize;

use crate::scalar::IsoInstant;

/// A bank as `banks/list` shows it. Pictures, colours and sort codes were Okra's own; they are empty.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct BankResource {
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
    colors: BankColors,
    products: [&'static str; 4],
    countries: [String; 1],
    corporate: bool,
    individual: bool,
    ussd: bool,
    secret_question_or_otp: bool,
    secret_question_or_otp_mobile: bool,
    secret_question_or_otp_corp: bool,
    payments: BankPayments,
    status: &'static str,
    /// How the bank does, as refreshes find it: `HEALTHY`, `DEGRADED` or `DOWN`. It and what follows are
    /// ours.
    operational_status: &'static str,
    /// Since when it does not do well.
    down_since: Option<IsoInstant>,
    /// When it is asked next whether it is back, where it is down; until then nothing is refreshed.
    next_probe_at: Option<IsoInstant>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
struct BankColors {
    primary: &'static str,
    accent: &'static str,
    bg: &'static str,
    button: &'static str,
    icon: &'static str,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, Serialize)]
struct BankPayments {
    ind: bool,
    corp: bool,
    mobile: bool,
    ussd: bool,
    web: bool,
    secret: bool,
}

impl From<&BankConfig> for BankResource {
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
            colors: BankColors::default(),
            products: ["auth", "accounts", "balance", "transactions"],
            countries: [bank.country.clone()],
            corporate: true,
            individual: true,
            ussd: false,
            // Without the customer there it gives nothing: that is what these flags warned of.
            secret_question_or_otp: bank.limits.user_present_only,
            secret_question_or_otp_mobile: false,
            secret_question_or_otp_corp: false,
            payments: BankPayments::default(),
            status: "active",
            operational_status: BankStatus::Healthy.as_str(),
            down_since: None,
            next_probe_at: None,
        }
    }
}

impl BankResource {
    /// The same bank, and how it does.
    #[must_use]
    pub fn with_breaker_state(self, breaker: &BankBreaker) -> Self {
        Self {
            operational_status: breaker.bank_status().as_str(),
            down_since: breaker.failing_since().map(IsoInstant),
            next_probe_at: breaker.next_probe_at().map(IsoInstant),
            ..self
        }
    }
}

/// What `banks/list` answers. `credentials` is null, as Okra's was without a customer.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct BankListResource {
    /// The banks.
    pub banks: Vec<BankResource>,
    /// Always null.
    pub credentials: (),
}
