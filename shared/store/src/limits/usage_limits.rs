//! How many of something an owner may have, and what counts it ([`UsageCounter`]); `usage_counters.rs` enforces it.

use okra_core::model::ids::{AppId, CustomerId};

/// Banks at most that the operator configures, and that all apps together add.
pub const MAX_BANKS: usize = 500;

/// Banks of one app at most, so that one app cannot use up [`MAX_BANKS`].
pub const MAX_BANKS_PER_APP: usize = 20;

/// Endpoints of one app at most.
pub const MAX_ENDPOINTS_PER_APP: usize = 100;

/// Secret keys of one app at most.
pub const MAX_KEYS_PER_APP: usize = 20;

/// Short links of one app at most.
pub const MAX_SHORT_LINKS_PER_APP: usize = 1000;

/// Records of one customer at most.
pub const MAX_RECORDS_PER_CUSTOMER: usize = 100;

/// What an owner may have only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageCounter {
    /// Banks that apps added, of all apps together.
    AppBanks,
    /// Banks that one app added.
    BanksOfApp(AppId),
    /// Endpoints of an app.
    EndpointsOfApp(AppId),
    /// Secret keys of an app, those that expired too while they are stored.
    KeysOfApp(AppId),
    /// Short links of an app.
    ShortLinksOfApp(AppId),
    /// Records of a customer.
    RecordsOfCustomer(CustomerId),
}

impl UsageCounter {
    /// How many the owner may have.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::AppBanks => MAX_BANKS,
            Self::BanksOfApp(_) => MAX_BANKS_PER_APP,
            Self::EndpointsOfApp(_) => MAX_ENDPOINTS_PER_APP,
            Self::KeysOfApp(_) => MAX_KEYS_PER_APP,
            Self::ShortLinksOfApp(_) => MAX_SHORT_LINKS_PER_APP,
            Self::RecordsOfCustomer(_) => MAX_RECORDS_PER_CUSTOMER,
        }
    }

    /// What is counted, as errors name it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::AppBanks => "banks that apps added",
            Self::BanksOfApp(_) => "banks of an app",
            Self::EndpointsOfApp(_) => "endpoints of an app",
            Self::KeysOfApp(_) => "keys of an app",
            Self::ShortLinksOfApp(_) => "short links of an app",
            Self::RecordsOfCustomer(_) => "records of a customer",
        }
    }

    /// Who has them, as the partition key names it.
    pub(crate) fn owner(self) -> String {
        match self {
            Self::AppBanks => "all".to_owned(),
            Self::BanksOfApp(app)
            | Self::EndpointsOfApp(app)
            | Self::KeysOfApp(app)
            | Self::ShortLinksOfApp(app) => app.to_string(),
            Self::RecordsOfCustomer(customer) => customer.to_string(),
        }
    }

    /// What is counted, as the sort key names it.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::AppBanks | Self::BanksOfApp(_) => "banks",
            Self::EndpointsOfApp(_) => "endpoints",
            Self::KeysOfApp(_) => "keys",
            Self::ShortLinksOfApp(_) => "short_links",
            Self::RecordsOfCustomer(_) => "records",
        }
    }
}
